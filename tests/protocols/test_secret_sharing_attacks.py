"""The attacks that secret sharing stops, and that each succeeds when the step that stops it is taken out."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import pytest
from networks import COORDINATOR, Contribution, Network, floats, messages
from tacit.protocols import sharing_steps
from tacit.protocols.channel import Channel, Role
from tacit.protocols.errors import (
    AbortedError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    RefusedError,
)
from tacit.protocols.field_matrix import lagrange
from tacit.protocols.invitation import ALREADY_RELEASED, Declined, Prepared, prepare
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.prime_field import PRIMES, Elements
from tacit.protocols.protocol import closed_by, coordinator_role, holder_role
from tacit.protocols.secret_sharing import SecretSharing
from tacit.protocols.session import Failed
from tacit.protocols.shamir import Sharing, expand, reconstruct, split
from tacit.protocols.sharing_steps import (
    SharingSetup,
    check_included,
    forward_shares,
    open_total,
    share_input,
    sum_shares,
)
from tacit.protocols.simulation import Run, Sent
from tacit.records.release_memory import ReleaseMemory
from tacit.serialization.schema import Message
from tacit.serialization.secret_sharing_messages import IncludedShares, SharedInput, SummedShares
from tacit.serialization.session_messages import Invitation, Query

ROWS: dict[str, Contribution] = {
    name: {"x": np.array([7 * k, -(k**3)], np.int32)} for k, name in enumerate("abcdefgh", start=1)
}
VICTIM = PartyId("b")
VICTIMS_ROW = ROWS[VICTIM]["x"].tolist()
IN_ORDER = {"delays": (0.001, 0.001)}


def network(names: str, protocol: SecretSharing | None = None, **options: Any) -> Network:
    return Network(protocol or SecretSharing(), {name: ROWS[name] for name in names}, **options)


def failure(run: Run, party: str) -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def setup_of(sharing: Network, run: Run) -> SharingSetup:
    assert isinstance(sharing.protocol, SecretSharing)
    return sharing.protocol.setup(sharing.opened(run))


def decoded(setup: SharingSetup, answers: Mapping[PartyId, SummedShares]) -> list[int]:
    """What anybody makes of as many sums as the threshold."""
    words, _ = open_total(setup, answers, correct=None, random_bytes=bytes)
    numbers: list[int] = setup.opened.encodings[0].decode(words[0]).tolist()
    return numbers


def answers_in(run: Run, holders: Collection[str]) -> dict[PartyId, SummedShares]:
    sums = {s.sender: s.message for s in run.sent if isinstance(s.message, SummedShares)}
    return {holder: answer for holder, answer in sums.items() if holder in holders}


def without(victim: str, told: IncludedShares, recipient: str) -> IncludedShares:
    """The same bundle, as if the victim's shares had not come."""
    dealers = [name for name in told.included if name != recipient]
    sealed = tuple(part for name, part in zip(dealers, told.sealed, strict=True) if name != victim)
    return dataclasses.replace(told, included=tuple(n for n in told.included if n != victim), sealed=sealed)


def lying(honest: Role[Any], change: Callable[[PartyId, Message], list[Message]]) -> Role[Any]:
    """Run an honest role, but with other messages than it means to send."""

    async def role(channel: Channel) -> Any:
        send = channel.send

        def send_instead(to: PartyId, message: Message) -> None:
            for instead in change(to, message):
                send(to, instead)

        channel.send = send_instead  # type: ignore[method-assign]
        return await honest(channel)

    return role


def coordinator_of(sharing: Network) -> Role[Any]:
    return coordinator_role(sharing.protocol, sharing.keys[COORDINATOR], sharing.invitation(), None)


# Two sets: half of the share holders answer for U, half for U∖{v}


def halved(names: str, victim: str = VICTIM) -> tuple[Network, Run]:
    """A coordinator that tells the second half of the share holders that the victim's shares have not come."""
    second = names[len(names) // 2 :]

    def tamper(sent: Sent) -> Message:
        if isinstance(sent.message, IncludedShares) and sent.recipient in second:
            return without(victim, sent.message, sent.recipient)
        return sent.message

    sharing = network(names, faults={"tamper": tamper, **IN_ORDER})
    return sharing, sharing.run()


@pytest.mark.parametrize("names", ["abcd", "abcde", "abcdef", "abcdefgh"])
def test_neither_half_is_enough_for_a_total(names: str) -> None:
    sharing, run = halved(names)
    setup = setup_of(sharing, run)
    assert isinstance(failure(run, "k"), InvalidMessageError)
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):
        answers = answers_in(run, half)
        assert len(answers) == len(half)
        with pytest.raises(MisuseError):
            decoded(setup, answers)


def test_with_a_lower_threshold_the_two_halves_uncover_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecretSharing, "_shares_that_tell_nothing", lambda self, n_holders: 2)
    monkeypatch.setattr(SecretSharing, "numbers_packed", lambda self, n_holders: 1)
    sharing, run = halved("abcdef")
    setup = setup_of(sharing, run)
    with_victim, without_victim = (decoded(setup, answers_in(run, half)) for half in ("abc", "def"))
    assert [x - y for x, y in zip(with_victim, without_victim, strict=True)] == VICTIMS_ROW


def told_something(threshold: int) -> tuple[int, int] | None:
    """Of packed secrets: what five answers for U and three for U∖{v} tell of v, and what it truly is.

    Five answers give the whole polynomial of the sum over U if the threshold is five; three shares of v's are then
    one more than are independent of its secrets.
    """
    second, p = "fgh", PRIMES[0]

    def tamper(sent: Sent) -> Message:
        if isinstance(sent.message, IncludedShares) and sent.recipient in second:
            return without(VICTIM, sent.message, sent.recipient)
        return sent.message

    sharing = network("abcdefgh", SecretSharing(packing=3), faults={"tamper": tamper})
    run = sharing.run()
    setup = setup_of(sharing, run)
    assert setup.threshold == threshold
    column = {holder: int(answer.totals[0][0, 0]) for holder, answer in answers_in(run, "abcdefgh").items()}
    points = dict(zip(setup.share_holders, setup.groups[0].sharing.share_points, strict=True))
    if threshold > 5:
        return None
    first = [holder for holder in setup.share_holders if holder not in second]
    matrix = lagrange([points[h] for h in first], [points[PartyId(h)] for h in second], p)
    over_all = [sum(m * column[h] for m, h in zip(row, first, strict=True)) % p for row in matrix]
    shares = [s - column[PartyId(h)] for s, h in zip(over_all, second, strict=True)]
    # Six values of a polynomial of degree four depend on each other: three shares, and the secrets at 0, −1, −2.
    places = [*(points[PartyId(h)] for h in second), 0, -1, -2]
    weights = [pow(prod(x - other for other in places if other != x), -1, p) for x in places]
    told = sum(w * s for w, s in zip(weights[:3], shares, strict=True)) % p
    truth = -sum(w * x for w, x in zip(weights[3:], [*VICTIMS_ROW, 0], strict=True)) % p
    return told, truth


def test_packed_secrets_take_a_threshold_beyond_that_of_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight share holders any five are more than half, and yet two sets would tell something."""
    assert told_something(7) is None
    monkeypatch.setattr(SecretSharing, "_shares_that_tell_nothing", lambda self, n_holders: 2)
    found = told_something(5)
    assert found is not None
    told, truth = found
    assert told == truth


# A second set for the same share holder


@pytest.mark.parametrize("seed", range(6))
def test_a_share_holder_that_is_told_two_sets_answers_for_one_at_most(seed: int) -> None:
    sharing = network("abcde", seed=seed)

    def change(to: PartyId, message: Message) -> list[Message]:
        if isinstance(message, IncludedShares) and to == "d":
            return [message, without(VICTIM, message, to)]
        return [message]

    sharing.roles = {COORDINATOR: lying(coordinator_of(sharing), change)}
    run = sharing.run()
    found = failure(run, "d")
    assert isinstance(found, EquivocationError)
    assert found.culprits == ("k",)
    assert sum(isinstance(s.message, SummedShares) and s.sender == "d" for s in run.sent) <= 1


def dealt(
    sharing: Network, change: Callable[[SharingSetup, str], SharingSetup] = lambda setup, _: setup
) -> tuple[SharingSetup, dict[PartyId, SharedInput], dict[PartyId, list[Elements]], dict[str, SessionKeys]]:
    """A session begun, and all dealt by hand; `change` is what a dealer believes to have agreed on."""

    def again() -> Network:
        return network("".join(sharing.contributions), seed=sharing.seed)

    setup, keys = setup_of(again(), again().run()), again().keys
    for own in keys.values():
        for ready in setup.opened.begin.ready:
            if ready.holder != own.me:
                own.learn(PartyId(ready.holder), ready.ephemeral)
    shared, kept = {}, {}
    for name in setup.opened.present:
        words = prepare(sharing.contributions[name], None, len(setup.opened.present), void=False).words
        shared[name], kept[name] = share_input(
            change(setup, name), keys[name], words, sharing.simulation.random_bytes
        )
    return setup, shared, kept, keys


def test_two_answers_of_everybody_would_uncover_the_victim() -> None:
    """Without the rule of one answer: keys that open a second time, as if nobody had counted."""
    setup, shared, kept, keys = dealt(network("abcde"))
    totals = []
    for left_out in ("", VICTIM):
        answers = {}
        for holder, told in forward_shares(setup, shared).items():
            bundle = without(left_out, told, holder)
            included = check_included(setup, bundle, holder)
            answers[holder] = sum_shares(setup, keys[holder], kept[holder], included, bundle.sealed)
            keys[holder]._taken.clear()
        totals.append(decoded(setup, answers))
    assert [x - y for x, y in zip(*totals, strict=True)] == VICTIMS_ROW


def test_a_key_opens_a_share_once() -> None:
    setup, shared, kept, keys = dealt(network("abcde"))
    told = forward_shares(setup, shared)[VICTIM]
    sum_shares(setup, keys[VICTIM], kept[VICTIM], setup.opened.present, told.sealed)
    smaller = without("a", told, VICTIM)
    included = check_included(setup, smaller, VICTIM)
    with pytest.raises(MisuseError):
        sum_shares(setup, keys[VICTIM], kept[VICTIM], included, smaller.sealed)


@pytest.mark.parametrize("kind", [SharedInput, SummedShares])
@pytest.mark.parametrize("seed", range(3))
def test_a_holder_that_says_two_things_is_found_out_and_proven(kind: type[Message], seed: int) -> None:
    sharing = network("abcde", seed=seed)

    def change(to: PartyId, message: Message) -> list[Message]:
        if not isinstance(message, SharedInput | SummedShares) or not isinstance(message, kind):
            return [message]
        return [message, dataclasses.replace(message, binding=bytes(32))]

    examine = sharing.examine("b")
    honest = holder_role(sharing.protocol, sharing.keys[VICTIM], examine, None)
    sharing.roles = {"b": lying(honest, change)}
    found = failure(sharing.run(), "k")
    assert isinstance(found, EquivocationError | InvalidMessageError)
    assert found.culprits == ("b",)


# Too small a set


def only(victim: str) -> Callable[[Sent], Message]:
    """A coordinator that includes nobody but one dealer."""

    def tamper(sent: Sent) -> Message:
        told = sent.message
        if not isinstance(told, IncludedShares):
            return told
        dealers = [name for name in told.included if name != sent.recipient]
        sealed = tuple(part for name, part in zip(dealers, told.sealed, strict=True) if name == victim)
        return dataclasses.replace(told, included=(victim,), sealed=sealed)

    return tamper


def test_too_small_a_set_gets_no_answers() -> None:
    run = network("abcde", faults={"tamper": only(VICTIM)}).run()
    assert not messages(run, SummedShares)
    for holder in "abcde":
        found = failure(run, holder)
        assert isinstance(found, InvalidMessageError)
        assert found.culprits == ("k",)


def test_without_the_minimum_a_sum_of_one_is_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecretSharing, "needed", lambda self, n_holders: 1)
    sharing = network("abcde", faults={"tamper": only(VICTIM)})
    run = sharing.run()
    assert decoded(setup_of(sharing, run), answers_in(run, "abcde")) == VICTIMS_ROW


# A special model for one holder


def deceived(setup: SharingSetup, name: str) -> SharingSetup:
    """What the victim believes to have agreed on: another question."""
    if name != VICTIM:
        return setup
    invitation = dataclasses.replace(setup.opened.invitation, query=Query(step="special"))
    return dataclasses.replace(setup, opened=dataclasses.replace(setup.opened, invitation=invitation))


def sum_with_special_model() -> list[int]:
    """The coordinator passes the victim's answer to its special question off as one to the common one."""
    setup, shared, kept, keys = dealt(network("abcde"), deceived)
    assert shared[VICTIM].binding != setup.opened.binding
    shared[VICTIM] = dataclasses.replace(shared[VICTIM], binding=setup.opened.binding)
    answers = {
        holder: sum_shares(
            setup, keys[holder], kept[holder], check_included(setup, told, holder), told.sealed
        )
        for holder, told in forward_shares(setup, shared).items()
        if holder != VICTIM
    }
    return decoded(setup, answers)


def test_a_share_that_answers_another_question_does_not_open() -> None:
    with pytest.raises(InvalidMessageError) as caught:
        sum_with_special_model()
    assert caught.value.suspects == (VICTIM, "k")


def test_without_the_binding_a_special_answer_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    def unbound(setup: SharingSetup, keys: SessionKeys, dealer: PartyId, peer: PartyId) -> Any:
        return sharing_steps.AESGCM(keys.take_pair_key(peer, f"share of {dealer}", bytes(32)))  # type: ignore[attr-defined]

    monkeypatch.setattr(sharing_steps, "_cipher", unbound)
    assert sum_with_special_model() == np.sum([ROWS[name]["x"] for name in "abcde"], axis=0).tolist()


def test_a_share_of_another_session_does_not_open() -> None:
    setup, shared, kept, keys = dealt(network("abcde", seed=1))
    _, stale, _, _ = dealt(network("abcde", seed=2))
    shared[VICTIM] = dataclasses.replace(shared[VICTIM], sealed=stale[VICTIM].sealed)
    told = forward_shares(setup, shared)[PartyId("a")]
    with pytest.raises(InvalidMessageError, match="cannot be opened"):
        sum_shares(setup, keys["a"], kept[PartyId("a")], setup.opened.present, told.sealed)


# The router opens a share, or alters one


class NoCipher:
    """What seals nothing."""

    def encrypt(self, nonce: bytes, content: bytes, _: None) -> bytes:
        return content + bytes(sharing_steps.TAG_BYTES)

    def decrypt(self, nonce: bytes, sealed: Any, _: None) -> bytes:
        return bytes(sealed)[: -sharing_steps.TAG_BYTES]


def seen_by_the_router(sharing: Network, run: Run) -> list[int]:
    """What the coordinator makes of a dealer's sealed shares, taken for shares as they are."""
    setup = setup_of(sharing, run)
    shared = next(s.message for s in run.sent if isinstance(s.message, SharedInput) and s.sender == VICTIM)
    (group,) = setup.groups
    shares: dict[int, Elements] = {}
    for holder, sealed in zip(setup.recipients(VICTIM), shared.sealed, strict=True):
        number, content = setup.share_holders.index(holder), sealed.tobytes()[: -sharing_steps.TAG_BYTES]
        vector = np.frombuffer(content, dtype="<u8").reshape(1, -1) % np.uint64(PRIMES[0])
        shares[number] = (
            expand(group.sharing, content, group.count) if number < group.sharing.n_seeds else vector
        )
    secrets = reconstruct(group.sharing, shares, group.count)[0, :2].tolist()
    return [secret - PRIMES[0] if secret > PRIMES[0] // 2 else secret for secret in secrets]


def test_the_coordinator_cannot_open_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = network("abcde")
    assert seen_by_the_router(sharing, sharing.run()) != VICTIMS_ROW
    monkeypatch.setattr(sharing_steps, "_cipher", lambda *_: NoCipher())
    sharing = network("abcde")
    assert seen_by_the_router(sharing, sharing.run()) == VICTIMS_ROW


def altering(kind: type[Message], sender: str, recipient: str, place: int) -> dict[str, Any]:
    """The lowest bit of the first byte of a sealed share flips on its way."""

    def tamper(sent: Sent) -> Message:
        told = sent.message
        if not isinstance(told, kind) or (sent.sender, sent.recipient) != (sender, recipient):
            return told
        assert isinstance(told, SharedInput | IncludedShares)
        altered = told.sealed[place].copy()
        altered[0] ^= 1
        return dataclasses.replace(told, sealed=(*told.sealed[:place], altered, *told.sealed[place + 1 :]))

    return {"tamper": tamper}


@pytest.mark.parametrize(
    "faults",
    [altering(SharedInput, "b", "k", 5), altering(IncludedShares, "k", "g", 1)],
    ids=["on the way to the coordinator", "by the coordinator"],
)
def test_an_altered_share_does_not_open_and_is_not_added(
    faults: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    total = np.sum([ROWS[name]["x"] for name in "abcdefg"], axis=0).tolist()
    run = network("abcdefg", faults=faults).run()
    found = failure(run, "g")
    assert isinstance(found, InvalidMessageError)
    assert set(found.suspects) == {"b", "k"}
    assert run.result("k").arrays["x"].tolist() == total
    assert run.result("k").suspects == ()
    monkeypatch.setattr(sharing_steps, "_cipher", lambda *_: NoCipher())
    framed = network("abcdefg", faults=faults).aggregate()
    assert framed.suspects == ("g",), "what would be added makes an honest share holder a suspect"


# The same question over U and over U∖{v}, in two sessions


class Study:
    """Holders with their memories, over as many sessions as it takes."""

    def __init__(self, names: str, *, narrows: bool = True, dispensable: int | None = None) -> None:
        self.roster = network(names).roster
        self.memories = {PartyId(name): ReleaseMemory(PartyId(name), self.roster) for name in names}
        self.narrows = narrows
        self.dispensable = dispensable

    def session(self, names: str, **options: Any) -> Run:
        sharing = network(names, **options)
        sharing.roles = {name: self.role(sharing, PartyId(name)) for name in names}
        return sharing.run()

    def role(self, sharing: Network, name: PartyId) -> Role[bool]:
        memory, seen, protocol = self.memories[name], set[bytes](), sharing.protocol

        def examine(invitation: Invitation) -> Prepared:
            n_holders = len(Roster(invitation.roster).holders)
            dispensable = protocol.dispensable(n_holders) if self.dispensable is None else self.dispensable
            if not memory.allows(invitation, dispensable=dispensable):
                raise Declined(ALREADY_RELEASED)
            return prepare(sharing.contributions[name], None, n_holders, void=False)

        def release(invitation: Invitation, holders: Collection[PartyId]) -> None:
            if self.narrows or invitation.session not in seen:
                memory.record(invitation, holders)
            seen.add(invitation.session)

        return holder_role(protocol, sharing.keys[name], examine, None, release)


def leaving_out(victim: str) -> dict[str, Any]:
    """A coordinator that claims towards everybody that the victim's shares have not come."""
    return {
        "tamper": lambda sent: (
            without(victim, sent.message, sent.recipient)
            if isinstance(sent.message, IncludedShares)
            else sent.message
        )
    }


def totals_of(study: Study, first: dict[str, Any], second: dict[str, Any]) -> Iterator[Any]:
    """What the coordinator has after two sessions: totals, or None."""
    names = "abcde"
    for seed, faults in enumerate((first, second)):
        run = study.session(names, seed=seed, faults=faults)
        answers = answers_in(run, names)
        yield decoded(setup_of(network(names, seed=seed), run), answers) if len(answers) >= 4 else None


@pytest.mark.parametrize("later", [True, False], ids=["the smaller set later", "the smaller set first"])
def test_the_same_question_over_two_sets_is_answered_over_one(later: bool) -> None:
    faults: list[dict[str, Any]] = [{}, leaving_out(VICTIM)]
    first, second = faults if later else faults[::-1]
    found, other = totals_of(Study("abcde"), first, second)
    assert found is not None
    assert other is None


def test_if_only_the_dealing_is_remembered_two_sets_uncover_the_victim() -> None:
    study = Study("abcde", narrows=False)
    over_all, over_fewer = totals_of(study, {}, leaving_out(VICTIM))
    assert [x - y for x, y in zip(over_all, over_fewer, strict=True)] == VICTIMS_ROW


def test_the_same_question_over_the_same_set_is_answered_again() -> None:
    first, second = totals_of(Study("abcde"), {}, {})
    assert first == second is not None


def test_a_smaller_roster_is_refused_after_all_were_summed() -> None:
    study = Study("abcde")
    assert study.session("abcde", seed=1).result("k").holders == tuple("abcde")
    run = study.session("acde", seed=2)
    found = failure(run, "k")
    assert isinstance(found, RefusedError)
    assert {reason for reason, _ in found.refusals.values()} == {ALREADY_RELEASED}
    assert not messages(run, SharedInput)


def test_after_a_loss_the_same_question_is_answered_over_those_who_were_summed() -> None:
    study = Study("abcdefg")
    first = study.session("abcdefg", seed=1, dies_before={"b": SharedInput})
    assert first.result("k").holders == tuple("acdefg")
    second = study.session("acdefg", seed=2)
    assert second.result("k").arrays["x"].tolist() == first.result("k").arrays["x"].tolist()


def test_other_share_holders_remember_over_whom_they_dealt() -> None:
    """Named share holders answered for all; others are named next, to answer without the victim."""
    study = Study("abcdefg")
    first = study.session("abcdefg", seed=1, protocol=SecretSharing(share_holders=("a", "b", "c")))
    assert first.result("k").holders == tuple("abcdefg")
    others = SecretSharing(share_holders=("d", "e", "f"))
    run = study.session("abcdefg", seed=2, protocol=others, faults=leaving_out(VICTIM))
    assert not messages(run, SummedShares)
    for holder in "def":
        found = failure(run, holder)
        assert isinstance(found, AbortedError)
        assert found.reason == ALREADY_RELEASED


@pytest.mark.parametrize(("dispensable", "allowed"), [(None, False), (1, True)])
def test_the_word_of_a_few_that_had_dealt_nothing_does_not_undo_a_total(
    dispensable: int | None, allowed: bool
) -> None:
    """Five of seven are summed: g was lost before it dealt, and f, who colludes, denies that it has dealt.

    If the word of more than those who collude were enough, a holder that dealt, and was told nothing more, would go
    on without b, whom the total has.
    """
    study = Study("abcdefg", dispensable=dispensable)

    def tamper(sent: Sent) -> Message | None:
        untold = isinstance(sent.message, IncludedShares) and sent.recipient == "a"
        late = isinstance(sent.message, SharedInput) and sent.sender == "f"
        return None if untold or late else sent.message

    first = study.session("abcdefg", seed=1, dies_before={"g": SharedInput}, faults={"tamper": tamper})
    assert first.result("k").holders == tuple("abcde")
    sharing = network("abcdefg", seed=1)
    words = tuple(closed_by(sharing.keys[PartyId(name)], forwarded=False) for name in "fg")
    asked = network("acdefg", seed=2, previous=words).invitation()
    needed = SecretSharing().dispensable(6) if dispensable is None else dispensable
    assert study.memories[PartyId("a")].allows(asked, dispensable=needed) == allowed


# What a coalition of share holders sees


EXTREMES: dict[str, tuple[Any, Any]] = {
    "one number": (np.zeros((1, 6000)), np.full((1, 6000), 2**61 - 2)),
    "small and large": (np.ones((1, 6000)), np.full((1, 6000), 2**60)),
}


def chi_square_of_bits(elements: Elements) -> float:
    """Chi-square, one degree a bit, of how often each of the 61 bits is set; as a standard normal."""
    bits = np.unpackbits(elements.reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")[:, :61]
    count, ones = len(bits), bits.sum(axis=0).astype(np.float64)
    statistic = (((ones - count / 2) ** 2) / (count / 4)).sum()
    return float((statistic - 61) / np.sqrt(2 * 61))


def everybody(sharing: Sharing, secrets: Elements, seed: int) -> list[Elements]:
    """The shares of all, the seeds expanded."""
    first, others = split(sharing, secrets, random.Random(seed).randbytes)
    return [*(expand(sharing, own, secrets.shape[1]) for own in first), *others]


@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize(("n", "packing"), [(5, 1), (7, 3), (10, 1), (10, 2)])
def test_a_coalition_of_threshold_less_packing_sees_noise(n: int, packing: int, values: str) -> None:
    """Each of its shares is uniform, and so is what it would reconstruct, of zeros as of extreme values."""
    threshold = SecretSharing(packing=packing).shares_needed(n)
    sharing = Sharing(n_share_holders=n, threshold=threshold, packing=packing)
    for number, array in enumerate(EXTREMES[values]):
        secrets = array.astype(np.uint64)
        shares = everybody(sharing, secrets, number)
        coalition = range(n - sharing.n_seeds, n)  # of those who get vectors, as far as there are some
        assert all(abs(chi_square_of_bits(shares[holder])) < 5 for holder in coalition)
        guessed = {holder: shares[holder] for holder in coalition}
        for outsider in range(packing):
            guessed[outsider] = np.zeros_like(shares[outsider])
        assert abs(chi_square_of_bits(np.ascontiguousarray(reconstruct(sharing, guessed, 6000)))) < 5
        enough = {holder: shares[holder] for holder in range(n - threshold, n)}
        assert (reconstruct(sharing, enough, 6000) == secrets).all()


def test_sealed_shares_look_alike_whatever_is_shared() -> None:
    sizes = []
    for row in (floats(0.0, 0.0), floats(1e300, -5e-324)):
        run = Network(SecretSharing(), dict.fromkeys("abcd", row)).run()
        sizes.append([[len(part) for part in shared.sealed] for shared in messages(run, SharedInput)])
    assert sizes[0] == sizes[1]
