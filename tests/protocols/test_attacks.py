"""Every attack is stopped, and succeeds against the same protocol with the step taken out that stops it."""

from __future__ import annotations

from typing import Any

import attacking as without
import pytest
from attacking import (
    ADDITIVE,
    CURIOUS,
    DEPLOYED,
    DIRECT,
    MASKING,
    NAMED_REFUSALS,
    NO_LINKS,
    NO_MEMORY,
    OPEN_RING,
    RING,
    SHARING,
    TakeOut,
    verdict,
)
from tacit.protocols import attacks_on_aggregators as aggregators
from tacit.protocols import attacks_on_masking as masking
from tacit.protocols import attacks_on_ring as ring
from tacit.protocols import attacks_on_sessions as sessions
from tacit.protocols import attacks_on_sharing as sharing
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.adversary import Adversary
from tacit.protocols.attacks import adversaries, attempt_all, refusal, simulated
from tacit.protocols.blind_roles import unchecked
from tacit.protocols.cohort import Cohort, Surroundings
from tacit.protocols.errors import MisuseError
from tacit.protocols.meeting import Meeting
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.protocol import Protocol
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.protocols.session import Failed
from tacit.serialization.codec import Frame, decode
from tacit.serialization.link_messages import Sealed

Case = tuple[Adversary, Protocol[Any], Surroundings, tuple[TakeOut, ...]]


def case_id(case: Case) -> str:
    attack, protocol, _, steps = case
    mode = getattr(protocol, "mode", "")
    return f"{protocol.title} {mode} | {attack.attack} | " + ", ".join(step.__name__ for step in steps)


# With these steps taken out, an attack succeeds.

ON_SESSIONS: list[Case] = [
    *(
        case
        for protocol in (RING, MASKING, DIRECT, SHARING, ADDITIVE)
        for case in (
            (
                sessions.special_question,
                protocol,
                DEPLOYED,
                (without.signatures_over_invitations, without.binding),
            ),
            (
                sessions.substituted_keys,
                protocol,
                DEPLOYED,
                (without.signatures, without.pinned_keys_in_agreements),
            ),
            (sessions.sybil, protocol, DEPLOYED, (without.pinned_roster,)),
            (sessions.small_cohort, protocol, DEPLOYED, (without.minimum,)),
            (sessions.same_question, protocol, NO_MEMORY, ()),
            (sessions.overflow, protocol, DEPLOYED, (without.noise_out_of_range,)),
        )
    ),
    # It takes many sessions, and refusals are the same for all protocols.
    *((sessions.overflow, protocol, NAMED_REFUSALS, ()) for protocol in (DIRECT, ADDITIVE)),
]
ON_RING: list[Case] = [
    (sessions.same_question, RING, DEPLOYED, (without.signed_words,)),
    (sessions.same_question, RING, DEPLOYED, (without.liars_among_those_who_sign,)),
    (ring.captured_frame, OPEN_RING, NO_LINKS, ()),
    (ring.neighbours, OPEN_RING, DEPLOYED, ()),
    (ring.replay, RING, DEPLOYED, (without.fresh_randomness,)),
    (ring.weak_key, OPEN_RING, DEPLOYED, (without.key_validation,)),
    (ring.doubled, OPEN_RING, DEPLOYED, (without.tags_of_holders,)),
    (
        ring.stale_frame,
        OPEN_RING,
        NO_LINKS,
        (without.headers_of_partial_sums, without.tags_of_holders, without.fresh_first_partial_sum),
    ),
]
ON_MASKING: list[Case] = [
    (masking.both_secrets, MASKING, DEPLOYED, (without.rounds_used_once, without.one_share_of_two)),
    (masking.split_survivors, CURIOUS, DEPLOYED, ()),
    (masking.split_dealers, CURIOUS, DEPLOYED, ()),
    (masking.few_dealers, MASKING, DEPLOYED, (without.minimum_of_dealers,)),
    (masking.few_survivors, unchecked(PairwiseMasking(threshold=2)), DEPLOYED, ()),
    (masking.late_input, MASKING, DEPLOYED, (without.self_masks,)),
    (masking.recovery, MASKING, DEPLOYED, (without.a_key_a_round,)),
    (masking.called_lost, MASKING, NO_MEMORY, ()),
    (masking.two_time_pad, MASKING, DEPLOYED, (without.rounds_used_once, without.binding_of_masks)),
    (masking.guessed_seeds, MASKING, DEPLOYED, (without.long_seeds,)),
    (masking.replay, MASKING, DEPLOYED, (without.fresh_randomness,)),
    (masking.replay, DIRECT, DEPLOYED, (without.fresh_randomness,)),
]
ON_SHARING: list[Case] = [
    (sharing.shares_in_clear, SHARING, DEPLOYED, (without.seals_of_shares,)),
    (sharing.split_sets, unchecked(SecretSharing(threshold=3)), DEPLOYED, ()),
    (sharing.small_set, SHARING, DEPLOYED, (without.minimum_of_included,)),
    (sharing.called_missing, SHARING, NO_MEMORY, ()),
    (sharing.wrong_sum, SecretSharing(robust=False), DEPLOYED, ()),
    (sharing.replay, SHARING, DEPLOYED, (without.fresh_randomness,)),
]
ON_AGGREGATORS: list[Case] = [
    (aggregators.pooling, ADDITIVE, DEPLOYED, (without.shares_of_the_last,)),
    (aggregators.share_on_its_way, ADDITIVE, NO_LINKS, ()),
    (aggregators.held_back, ADDITIVE, DEPLOYED, (without.minimum_of_aggregators,)),
    (aggregators.asked_again, ADDITIVE, NO_MEMORY, ()),
    (aggregators.replay, ADDITIVE, DEPLOYED, (without.fresh_randomness,)),
]
OPEN: list[Case] = [*ON_SESSIONS, *ON_RING, *ON_MASKING, *ON_SHARING, *ON_AGGREGATORS]


@pytest.mark.parametrize("case", OPEN, ids=case_id)
def test_an_attack_succeeds_with_the_step_taken_out(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    attack, protocol, surroundings, steps = case
    for take_out in steps:
        take_out(monkeypatch)
    found = verdict(attack, protocol, surroundings=surroundings)
    assert found.succeeded, found
    assert not found.stopped_by


def test_codes_over_the_dealers_are_needed_even_at_a_threshold_of_the_paper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 2t = n + n_C + 1: no two sets of survivors both get enough shares, and yet a view of few dealers is enough.
    protocol = PairwiseMasking(threshold=4)
    assert not refusal(protocol, 6)
    assert "told the same" in verdict(masking.split_dealers, protocol, n_holders=6).stopped_by
    without.codes(monkeypatch)
    assert verdict(masking.split_dealers, protocol, n_holders=6).succeeded
    assert "threshold" in verdict(masking.split_survivors, protocol, n_holders=6).stopped_by


# One step of several is not enough: what stops an attack then.

STILL_STOPPED: list[tuple[Case, str]] = [
    *(
        ((sessions.special_question, protocol, DEPLOYED, (without.signatures_over_invitations,)), "")
        for protocol in (RING, MASKING, DIRECT, SHARING, ADDITIVE)
    ),
    *(
        ((sessions.substituted_keys, protocol, DEPLOYED, (without.signatures,)), "")
        for protocol in (RING, MASKING, DIRECT, SHARING, ADDITIVE)
    ),
    ((ring.captured_frame, RING, NO_LINKS, ()), "masks in the ring"),
    ((ring.weak_key, RING, DEPLOYED, (without.key_validation,)), "masks in the ring"),
    ((ring.stale_frame, RING, NO_LINKS, ()), "another session, hop or question"),
    ((ring.stale_frame, OPEN_RING, NO_LINKS, (without.headers_of_partial_sums,)), ""),
    ((masking.both_secrets, MASKING, DEPLOYED, (without.rounds_used_once,)), "unmasked once"),
    ((masking.two_time_pad, MASKING, DEPLOYED, (without.rounds_used_once,)), ""),
    ((masking.split_survivors, MASKING, DEPLOYED, (without.codes,)), "threshold"),
    ((masking.split_survivors, PairwiseMasking(threshold=4, active=False), DEPLOYED, ()), "threshold"),
]


@pytest.mark.parametrize(
    ("case", "by"), STILL_STOPPED, ids=lambda x: case_id(x) if isinstance(x, tuple) else x
)
def test_another_step_stops_an_attack_when_the_first_is_taken_out(
    case: Case, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, protocol, surroundings, steps = case
    for take_out in steps:
        take_out(monkeypatch)
    found = verdict(attack, protocol, surroundings=surroundings)
    assert not found.succeeded, found
    assert by in found.stopped_by


# The configurations as they are


# With the defaults and five holders they are attacked by the command (cli/test_attack).
SOUND: list[tuple[Protocol[Any], int]] = [
    (RingPaillier(), 3),
    (RingPaillier(fresh_keys=True), 4),
    (PairwiseMasking(), 3),
    (PairwiseMasking(epoch=1), 4),
    (PairwiseMasking(colluding=2), 7),
    (PairwiseMasking(mode="direct"), 4),
    (SecretSharing(packing=2, colluding=2), 7),
    (AdditiveSharing(), 4),
    (AdditiveSharing(aggregators=3), 5),
]


@pytest.mark.parametrize(("protocol", "n_holders"), SOUND, ids=str)
def test_every_attack_is_stopped_and_by_what_is_said(protocol: Protocol[Any], n_holders: int) -> None:
    for found in attempt_all(protocol, n_holders, seed=0, surroundings=DEPLOYED):
        assert not found.succeeded, found
        assert found.stopped_by, found
        assert found.played_by


def test_paillier_keys_are_short_in_the_simulation_and_nothing_else_changes() -> None:
    ring = RingPaillier(masks=False, fresh_keys=True, colluding=2)
    attacked = simulated(ring, 5)
    assert isinstance(attacked, RingPaillier)
    assert attacked.key_bits < 2048
    assert (attacked.masks, attacked.fresh_keys, attacked.colluding) == (False, True, 2)
    assert simulated(PairwiseMasking(), 5) == PairwiseMasking()


def test_what_is_refused_is_attacked_all_the_same() -> None:
    low = PairwiseMasking(threshold=2)
    assert "threshold" in refusal(low, 5)
    assert any(found.succeeded for found in attempt_all(low, 5, seed=0, surroundings=DEPLOYED))
    assert low.options == simulated(low, 5).options


@pytest.mark.parametrize(("protocol", "n_holders"), SOUND, ids=str)
def test_attacks_have_names_of_their_own(protocol: Protocol[Any], n_holders: int) -> None:
    names = [attack.attack for attack in adversaries(protocol)]
    assert len(set(names)) == len(names) >= 7


# The stage


def test_an_adversary_has_no_keys_of_honest_parties() -> None:
    cohort = Cohort(MASKING, 5, 1, DEPLOYED)
    meeting = Meeting(cohort)
    assert meeting.keys_of(cohort.accomplices[0]).me == cohort.accomplices[0]
    with pytest.raises(MisuseError, match="honest"):
        meeting.keys_of(cohort.victim)


def test_the_network_sees_sealed_frames_and_changes_nothing_by_altering_them() -> None:
    cohort = Cohort(MASKING, 3, 1, DEPLOYED)
    meeting = Meeting(cohort, corrupt=[])
    frames: list[Frame] = []

    def flip(sender: PartyId, recipient: PartyId, frame: Frame) -> Frame:
        frames.append(frame)
        if len(frames) > 1:
            return frame
        return Frame(frame.header[:-1] + bytes([frame.header[-1] ^ 1]), frame.buffers)

    meeting.intercepts = flip
    run = meeting.run()
    assert all(isinstance(decode(frame), Sealed) for frame in frames)
    assert len(meeting.refused) == 1
    assert isinstance(run.outcomes[cohort.coordinator], Failed), "the first invitation never came"


def test_the_honest_sum_is_right_on_this_stage() -> None:
    for protocol in (RING, MASKING, DIRECT, SHARING, ADDITIVE):
        cohort = Cohort(protocol, 4, 1, DEPLOYED)
        total = sessions.accepted_total(Meeting(cohort).run(), cohort.coordinator)
        assert total is not None
        assert total.tolist() == cohort.sum_of(cohort.roster.holders).tolist()
