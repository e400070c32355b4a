"""Additive sharing reads as the protocol, adds exactly, and no aggregator but the last one learns anything."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import COORDINATOR, Contribution, Network, floats, integers, messages
from tacit.protocols.additive_sharing import AdditiveSharing, share_seconds, statement_seconds, sum_seconds
from tacit.protocols.additive_steps import add_sums, deal, is_genuine, receivers, senders_to, sum_shares
from tacit.protocols.channel import Channel, Role
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    RefusedError,
    SetupError,
    VoidedError,
)
from tacit.protocols.invitation import (
    ALREADY_RELEASED,
    NOT_ALLOWED,
    Declined,
    Opened,
    encodings_for,
    prepare,
    signed,
    specify,
)
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.limbs import add_limbs
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import aggregator_role, coordinator_role
from tacit.protocols.registry import protocol_from
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.running_sum import total_of
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import Run, Sent
from tacit.records.release_memory import ReleaseMemory
from tacit.serialization.additive_sharing_messages import (
    AdditiveSharingOptions,
    AggregationParameters,
    FullShare,
    MissingShares,
    ShareSum,
    TooFewShares,
)
from tacit.serialization.codec import encode, unsigned_digest, with_signature
from tacit.serialization.encoding_parameters import FixedPoint
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Begin, Invitation, Query, Refusal

TWO, THREE = AdditiveSharing(), AdditiveSharing(aggregators=3)
ONE, OTHER, THIRD = (PartyId(f"aggregator-{i}") for i in (1, 2, 3))
ROWS: dict[str, Contribution] = {
    "a": integers(1, -2),
    "b": integers(3, 5),
    "c": integers(-10, 7),
    "d": integers(100, 200),
}
TOTAL = [94, 210]
IN_ORDER = {"delays": (0.001, 0.001)}  # so that messages arrive as they were sent


def network(
    contributions: Mapping[str, Contribution] = ROWS, protocol: AdditiveSharing = TWO, **options: Any
) -> Network:
    return Network(protocol, contributions, **options)


def failure(run: Run, party: str) -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


# The transcript


def three() -> Run:
    return network({name: ROWS[name] for name in "abc"}, faults=IN_ORDER).run()


def test_transcript() -> None:
    assert three().transcript == [
        "k -> a: Invitation",
        "k -> b: Invitation",
        "k -> c: Invitation",
        "k -> aggregator-1: Invitation",
        "k -> aggregator-2: Invitation",
        "a -> k: Ready",
        "b -> k: Ready",
        "c -> k: Ready",
        "aggregator-1 -> k: Ready",
        "aggregator-2 -> k: Ready",
        "k -> a: Begin",
        "k -> b: Begin",
        "k -> c: Begin",
        "k -> aggregator-1: Begin",
        "k -> aggregator-2: Begin",
        "a -> aggregator-1: FullShare",
        "b -> aggregator-2: FullShare",
        "c -> aggregator-1: FullShare",
        "aggregator-2 -> aggregator-1: MissingShares",
        "aggregator-1 -> aggregator-2: MissingShares",
        "aggregator-1 -> k: ShareSum",
        "aggregator-2 -> k: ShareSum",
        "k -> a: Finished",
        "k -> b: Finished",
        "k -> c: Finished",
        "k -> aggregator-1: Finished",
        "k -> aggregator-2: Finished",
    ]


def test_the_page_of_the_protocol_shows_this_transcript() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "additive-sharing.md").read_text(encoding="utf-8")
    shown, _ = page.split("\n## Hiding", 1)  # which has a transcript of its own
    assert re.findall(r"^([\w-]+ -> [\w-]+: \w+)", shown, re.MULTILINE) == three().transcript


@pytest.mark.parametrize("protocol", [TWO, THREE, AdditiveSharing(5)])
def test_aggregators_receive_full_shares_in_turn(protocol: AdditiveSharing) -> None:
    run = network({f"h{i}": integers(i) for i in range(7)}, protocol).run()
    received = Counter(sent.recipient for sent in run.sent if isinstance(sent.message, FullShare))
    assert sum(received.values()) == 7
    assert max(received.values()) - min(received.values()) <= 1
    assert len(received) == protocol.aggregators


# Sums


def mixed(generator: np.random.Generator, scale: float) -> Contribution:
    """Several arrays of several shapes and dtypes: words of 32 and 64 bits, and rows of limbs."""
    return {
        "scalar": np.array(generator.normal()),
        "matrix": generator.normal(size=(2, 3)) * scale,
        "empty": np.zeros((0, 4)),
        "narrow": generator.normal(size=2).astype(np.float32),
        "counts": generator.integers(-5, 5, size=(1, 2, 2)),
        "bytes": generator.integers(0, 50, size=3, dtype=np.uint8),
        "flags": generator.normal(size=2) > 0,
    }


@pytest.mark.parametrize(
    ("encoding", "scale"),
    [(None, 1e200), (FixedPoint(2.0**20, 30), 1e5)],
    ids=["exact floats", "fixed point"],
)
@pytest.mark.parametrize("protocol", [TWO, THREE])
def test_the_bits_are_those_of_the_ring(
    protocol: AdditiveSharing, encoding: Message | None, scale: float
) -> None:
    rows = {name: mixed(np.random.default_rng(seed), scale) for seed, name in enumerate("abcd")}
    ours = network(rows, protocol, encoding=encoding).aggregate().arrays
    theirs = Network(RingPaillier.insecure_for_tests(), rows, encoding=encoding).aggregate().arrays
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
        assert array.tobytes() == theirs[name].tobytes()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=2, max_size=2),
        min_size=3,
        max_size=6,
    ),
    st.integers(2, 4),
)
def test_floats_sum_exactly_rounded_once(rows: list[list[float]], aggregators: int) -> None:
    sums = [sum(map(Fraction, column), Fraction()) for column in zip(*rows, strict=True)]
    if any(abs(total) >= Fraction(2**1023) for total in sums):
        return
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    total = network(holders, AdditiveSharing(aggregators)).aggregate().arrays["x"]
    assert total.tolist() == [float(value) for value in sums]


WORDS = {
    32: (np.array([0, -1, 17], dtype=np.int8), None),
    64: (np.array([-1e3, 0.5, 1e3]), FixedPoint(1e3, 40)),
    320: (np.array([1e-45, -1e38, 1.0], dtype=np.float32), None),
    2176: (np.array([5e-324, -8e307, 0.1]), None),
}


@pytest.mark.parametrize("protocol", [TWO, THREE, AdditiveSharing(4)])
@pytest.mark.parametrize("n_holders", [3, 4, 7])
@pytest.mark.parametrize("bits", WORDS)
def test_words_of_every_width(bits: int, n_holders: int, protocol: AdditiveSharing) -> None:
    array, encoding = WORDS[bits]
    rows = {f"h{i}": {"x": array * sign} for i, sign in enumerate((1, -1, 1, 1, -1, 1, -1)[:n_holders])}
    (planned,) = encodings_for(encoding, specify(rows["h0"]), n_holders)
    assert planned.word_bits == bits
    total = network(rows, protocol, encoding=encoding).aggregate().arrays["x"]
    columns = zip(*(row["x"].tolist() for row in rows.values()), strict=True)
    assert total.tolist() == [sum(map(Fraction, column)) for column in columns]


@pytest.mark.parametrize("contribution", [{}, {"x": np.zeros((0, 3))}], ids=["no array", "an empty one"])
def test_nothing_sums_to_nothing(contribution: Contribution) -> None:
    totals = network(dict.fromkeys("abc", contribution)).aggregate().arrays
    assert {name: total.shape for name, total in totals.items()} == {
        name: array.shape for name, array in contribution.items()
    }


def test_more_aggregators_than_holders() -> None:
    assert network(protocol=AdditiveSharing(6)).aggregate().arrays["x"].tolist() == TOTAL


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("holder", ["a", "b", "c"])
def test_a_value_that_cannot_be_carried_voids_the_session_and_names_nobody(bad: float, holder: str) -> None:
    rows = {"a": floats(1.0), "b": floats(3.0), "c": floats(5.0)} | {holder: floats(bad)}
    run = network(rows, voids=True).run()
    found = failure(run, "k")
    assert isinstance(found, VoidedError)
    assert not any(f" {name} " in f" {found} " for name in ("b", "c"))


def test_a_session_that_is_void_looks_like_any_other_on_the_way() -> None:
    rows = {"a": floats(1.0), "b": floats(2.0), "c": floats(3.0)}
    sound = network(rows, voids=True).run()
    void = network(rows | {"b": floats(float("nan"))}, voids=True).run()

    def seen(run: Run) -> list[tuple[str, str, str, int]]:
        kept = (s for s in run.sent if type(s.message).__name__ not in {"Finished", "Abort", "Closed"})
        return sorted((s.sender, s.recipient, type(s.message).__name__, encode(s.message).size) for s in kept)

    assert seen(sound) == seen(void)


# What the parties see


def begun(
    rows: Mapping[str, Contribution] = ROWS, protocol: AdditiveSharing = TWO, **options: Any
) -> tuple[Opened, dict[PartyId, SessionKeys]]:
    """What all hold once a session has begun, with keys of which none has been used."""
    opened = network(rows, protocol, **options).opened(network(rows, protocol, **options).run())
    keys = network(rows, protocol, **options).keys
    for own in keys.values():
        for ready in opened.begin.ready:
            if ready.holder != own.me:
                own.learn(PartyId(ready.holder), ready.ephemeral)
    return opened, {PartyId(name): own for name, own in keys.items()}


def dealt(opened: Opened, keys: Mapping[PartyId, SessionKeys], holder: str, row: Contribution) -> FullShare:
    words = prepare(row, opened.invitation.encoding, len(opened.roster.holders), void=False).words
    return deal(opened, keys[PartyId(holder)], words, random_bytes=bytes)


def summed(
    opened: Opened,
    keys: Mapping[PartyId, SessionKeys],
    aggregator: PartyId,
    shares: Mapping[PartyId, FullShare],
    included: Collection[PartyId] = (),
) -> ShareSum:
    over = tuple(holder for holder in opened.present if holder in (included or opened.present))
    own = {holder: shares[holder] for holder in over if holder in senders_to(opened, aggregator)}
    derived = [holder for holder in over if holder not in own]
    return sum_shares(opened, keys[aggregator], total_of(opened.encodings, own.values()), derived, ())


EXTREMES: dict[int, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Message | None]] = {
    32: (np.zeros(6000, np.uint8), np.full(6000, 255, np.uint8), None),
    64: (np.zeros(4000), np.full(4000, -1e3), FixedPoint(1e3, 40)),
    2176: (np.zeros(120), np.full(120, -np.finfo(np.float64).max / 8), None),
}


def chi_square_of_bits(words: np.ndarray[Any, Any]) -> float:
    """Chi-square, one degree a bit of the word, of how often each bit is set; as a standard normal."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    ones = np.unpackbits(octets, axis=1).sum(axis=0).astype(np.float64)
    statistic = (((ones - len(words) / 2) ** 2) / (len(words) / 4)).sum()
    return float((statistic - len(ones)) / np.sqrt(2 * len(ones)))


@pytest.mark.parametrize("bits", EXTREMES)
@pytest.mark.parametrize("last", [ONE, OTHER, THIRD])
def test_all_aggregators_but_one_pool_and_see_noise(last: PartyId, bits: int) -> None:
    """What their shares of one contribution add to is uniform, of zeros as of extreme values."""
    zeros, extremes, encoding = EXTREMES[bits]
    for array in (zeros, extremes):
        rows: dict[str, Contribution] = {name: {"x": array} for name in "abc"}
        opened, keys = begun(rows, THREE, encoding=encoding)
        shares = {holder: dealt(opened, keys, holder, rows[holder]) for holder in opened.present}
        target = next(holder for holder in opened.present if receivers(opened)[holder] != last)
        one, other = (
            summed(opened, keys, aggregator, shares, [target]).vectors[0]
            for aggregator in opened.roster.aggregators
            if aggregator != last
        )
        pooled = add_limbs(one, other) if one.ndim == 2 else one + other
        assert abs(chi_square_of_bits(pooled)) < 5


def test_what_a_derived_share_is_does_not_depend_on_the_contribution() -> None:
    """The aggregators that receive no full share of a holder have shares that its input is no part of."""
    sums = []
    for rows in (ROWS, dict.fromkeys("abcd", integers(0, 0))):
        opened, keys = begun(rows)
        (aggregator,) = {ONE, OTHER} - {receivers(opened)[PartyId("a")]}
        sums.append(summed(opened, keys, aggregator, {}, [PartyId("a")]))
    assert sums[0] == sums[1]


def test_every_session_has_other_shares() -> None:
    rows = dict.fromkeys("abc", integers(7))
    seen = [share.vectors[0].tobytes() for seed in range(6) for share in full_shares(rows, seed)]
    assert len(set(seen)) == len(seen)


def full_shares(rows: Mapping[str, Contribution], seed: int) -> list[FullShare]:
    return messages(network(rows, seed=seed).run(), FullShare)


def test_a_share_is_derived_once() -> None:
    opened, keys = begun()
    shares = {holder: dealt(opened, keys, holder, ROWS[holder]) for holder in opened.present}
    with pytest.raises(MisuseError):
        dealt(opened, keys, "a", ROWS["a"])
    summed(opened, keys, ONE, shares)
    with pytest.raises(MisuseError):
        summed(opened, keys, ONE, shares)


# Losses


@pytest.mark.parametrize("holder", "abcd")
def test_a_holder_lost_before_its_share_is_left_out(holder: str) -> None:
    sharing = network(dies_before={holder: FullShare})
    aggregate = sharing.aggregate()
    assert aggregate.holders == tuple(name for name in "abcd" if name != holder)
    assert aggregate.arrays["x"].tolist() == (np.array(TOTAL) - ROWS[holder]["x"]).tolist()
    assert sharing.released_over[ONE] == sharing.released_over[OTHER] == aggregate.holders


@pytest.mark.parametrize("holder", "abcd")
def test_a_holder_lost_after_its_share_is_in_the_sum(holder: str) -> None:
    assert network(dies_after={holder: 2}, faults=IN_ORDER).aggregate().arrays["x"].tolist() == TOTAL


def swallowing(kind: type[Message], sender: str, recipient: str) -> Callable[[Sent], Message | None]:
    def tamper(sent: Sent) -> Message | None:
        taken = isinstance(sent.message, kind) and (sent.sender, sent.recipient) == (sender, recipient)
        return None if taken else sent.message

    return tamper


def test_nobody_waits_for_ever_for_a_share() -> None:
    sharing = network(faults={"tamper": swallowing(FullShare, "b", OTHER)})
    run = sharing.run()
    assert run.result("k").holders == ("a", "c", "d")
    assert run.seconds < 100
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())


def test_the_coordinator_waits_longer_than_any_aggregator() -> None:
    for length in (1, 10**6):
        encodings = encodings_for(FixedPoint(1.0), specify(floats(*np.zeros(length))), 4)
        assert share_seconds(encodings) + statement_seconds(encodings) < sum_seconds(encodings, 4)


def test_too_few_shares_end_the_session_with_no_sum() -> None:
    run = network(dies_before={"a": FullShare, "c": FullShare}).run()
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert (found.needed, found.present, found.missing) == (3, ("b", "d"), ("a", "c"))
    assert {word.holder: word.forwarded for word in found.closed} == {"b": True, "d": True}
    assert not messages(run, ShareSum)
    assert len(messages(run, TooFewShares)) == 2
    for aggregator in (ONE, OTHER):
        assert isinstance(failure(run, aggregator), AbortedError)


def test_a_coordinator_that_wants_all_gets_no_sum_over_fewer() -> None:
    sharing = network(dies_before={"d": FullShare})
    keys, invitation = sharing.keys[COORDINATOR], sharing.invitation()
    sharing.roles = {COORDINATOR: coordinator_role(TWO, keys, invitation, None, needed=4)}
    run = sharing.run()
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert (found.needed, found.missing) == (4, ("d",))
    assert not messages(run, ShareSum)
    assert not {ONE, OTHER} & set(sharing.released)


@pytest.mark.parametrize("n_sent", range(3))
@pytest.mark.parametrize("aggregator", [ONE, OTHER])
def test_an_aggregator_lost_ends_the_session_and_is_named(aggregator: PartyId, n_sent: int) -> None:
    run = network(dies_after={aggregator: n_sent}).run()
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert found.missing == (aggregator,)
    for party in {*"abcd", ONE, OTHER} - {aggregator}:
        assert isinstance(failure(run, party), AbortedError)


def test_an_aggregator_that_does_not_answer_the_invitation_is_named() -> None:
    tamper = swallowing(Invitation, "k", OTHER)
    run = network(faults={"tamper": tamper}).run()
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert found.missing == (OTHER,)
    assert not messages(run, Begin)


# Adversaries


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


def honest_aggregator(sharing: Network, name: PartyId) -> Role[bool]:
    return aggregator_role(sharing.protocol, sharing.keys[name], lambda _: None, None)


def resigned(statement: MissingShares, sharing: Network, missing: tuple[str, ...]) -> MissingShares:
    """What an aggregator signs that says something else about who is missing."""
    other = dataclasses.replace(statement, missing=missing)
    identity = sharing.identities[statement.aggregator]
    return with_signature(other, identity.sign(unsigned_digest(other)))


@pytest.mark.parametrize("deceived", [OTHER, THIRD])
def test_an_aggregator_that_tells_two_sets_is_found_out_and_proven(deceived: PartyId) -> None:
    rows = {**ROWS, "e": integers(0, 0)}
    sharing = network(rows, THREE)

    def change(to: PartyId, message: Message) -> list[Message]:
        told = isinstance(message, MissingShares) and to == deceived
        return [resigned(message, sharing, ("a",)) if told else message]  # type: ignore[arg-type]

    sharing.roles = {ONE: lying(honest_aggregator(sharing, ONE), change)}
    run = sharing.run()
    found = failure(run, "k")
    assert isinstance(found, EquivocationError)
    assert found.culprits == (ONE,)


def test_an_aggregator_that_answers_for_two_sets_is_found_out() -> None:
    sharing = network()

    def change(to: PartyId, message: Message) -> list[Message]:
        if not isinstance(message, ShareSum):
            return [message]
        return [message, dataclasses.replace(message, vectors=tuple(v + 1 for v in message.vectors))]

    sharing.roles = {OTHER: lying(honest_aggregator(sharing, OTHER), change)}
    found = failure(sharing.run(), "k")
    assert isinstance(found, EquivocationError)
    assert found.culprits == (OTHER,)


@pytest.mark.parametrize("seed", range(5))
def test_sums_over_two_sets_add_to_noise(seed: int) -> None:
    """So an honest aggregator that was deceived gives nothing away, before anybody has noticed."""
    opened, keys = begun(seed=seed)
    shares = {holder: dealt(opened, keys, holder, ROWS[holder]) for holder in opened.present}
    fewer = [holder for holder in opened.present if holder != "b"]
    sums = [summed(opened, keys, ONE, shares), summed(opened, keys, OTHER, shares, fewer)]
    with pytest.raises(VoidedError):
        add_sums(opened.encodings, sums)


@pytest.mark.parametrize(
    "change",
    [
        {"session": bytes(32)},
        {"binding": bytes(32)},
        {"aggregator": OTHER},
        {"missing": ("b",)},  # which sends to the other one
        {"missing": ("c", "a")},
        {"missing": ("a", "a")},
        {"missing": ("x",)},
    ],
    ids=str,
)
def test_a_statement_is_of_its_signer_in_this_session_about_its_own_holders(change: dict[str, Any]) -> None:
    sharing = network()
    run = sharing.run()
    opened = sharing.opened(run)
    statement = messages(run, ShareSum)[0].statements[0]
    assert is_genuine(opened, ONE, statement)
    assert is_genuine(opened, ONE, resigned(statement, sharing, ("a",)))
    altered = dataclasses.replace(statement, **change)
    assert not is_genuine(opened, ONE, altered)
    signature = sharing.identities[ONE].sign(unsigned_digest(altered))
    assert not is_genuine(opened, ONE, with_signature(altered, signature))


def test_an_aggregator_goes_by_no_forged_statement() -> None:
    def tamper(sent: Sent) -> Message:
        forged = isinstance(sent.message, MissingShares) and sent.sender == ONE
        return dataclasses.replace(sent.message, missing=("a",)) if forged else sent.message  # type: ignore[type-var]

    run = network(faults={"tamper": tamper}).run()
    found = failure(run, OTHER)
    assert isinstance(found, InvalidMessageError)
    assert found.suspects == (ONE, "k")
    assert OTHER not in {sent.sender for sent in run.sent if isinstance(sent.message, ShareSum)}


def test_an_answer_on_a_forged_statement_is_its_bearers() -> None:
    sharing = network()

    def change(to: PartyId, message: Message) -> list[Message]:
        if not isinstance(message, ShareSum):
            return [message]
        forged = dataclasses.replace(message.statements[0], missing=("a",))
        return [dataclasses.replace(message, statements=(forged, message.statements[1]))]

    sharing.roles = {OTHER: lying(honest_aggregator(sharing, OTHER), change)}
    found = failure(sharing.run(), "k")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (OTHER,)


MALFORMED: dict[str, dict[str, Any]] = {
    "no flag": {"flag": np.zeros(0, np.uint64)},
    "two flags": {"flag": np.zeros(2, np.uint64)},
    "no vector": {"vectors": ()},
    "another vector": {"vectors": (np.zeros((2, 2), np.uint64), np.zeros(1, np.uint64))},
    "shorter": {"vectors": (np.zeros((1, 2), np.uint64),)},
    "narrower": {"vectors": (np.zeros((2, 2), np.uint32),)},
    "fewer limbs": {"vectors": (np.zeros(2, np.uint64),)},
    "another session": {"session": bytes(32)},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_share_is_its_holders(change: dict[str, Any]) -> None:
    def tamper(sent: Sent) -> Message:
        altered = isinstance(sent.message, FullShare) and sent.sender == "b"
        return dataclasses.replace(sent.message, **change) if altered else sent.message  # type: ignore[type-var]

    run = network(faults={"tamper": tamper}).run()
    found = failure(run, OTHER)
    assert isinstance(found, InvalidMessageError)
    assert "b" in {*found.culprits, *found.suspects}
    assert isinstance(failure(run, "k"), AbortedError)


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_sum_is_its_aggregators(change: dict[str, Any]) -> None:
    def tamper(sent: Sent) -> Message:
        altered = isinstance(sent.message, ShareSum) and sent.sender == OTHER
        return dataclasses.replace(sent.message, **change) if altered else sent.message  # type: ignore[type-var]

    found = failure(network(faults={"tamper": tamper}).run(), "k")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (OTHER,)


def test_an_answer_that_its_statements_do_not_lead_to_is_refused() -> None:
    sharing = network()

    def change(to: PartyId, message: Message) -> list[Message]:
        if not isinstance(message, ShareSum):
            return [message]
        return [TooFewShares(session=message.session, statements=message.statements)]

    sharing.roles = {OTHER: lying(honest_aggregator(sharing, OTHER), change)}
    found = failure(sharing.run(), "k")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (OTHER,)


def with_other_begin(sharing: Network, victim: PartyId, parameters: Message) -> dict[str, Any]:
    """A coordinator that begins with other parameters at one party, signed as they must be."""

    def tamper(sent: Sent) -> Message:
        if isinstance(sent.message, Begin) and sent.recipient == victim:
            return signed(
                dataclasses.replace(sent.message, parameters=parameters), sharing.identities[COORDINATOR]
            )
        return sent.message

    return {"tamper": tamper}


@pytest.mark.parametrize("victim", [ONE, OTHER, "a", "b"])
def test_a_coordinator_that_begins_differently_at_one_party_gets_no_sum(victim: str) -> None:
    faults = with_other_begin(network(), PartyId(victim), AggregationParameters(needed=3))
    sharing = network(faults=faults)
    sharing.roles = {
        COORDINATOR: coordinator_role(TWO, sharing.keys[COORDINATOR], sharing.invitation(), None, needed=4)
    }
    run = sharing.run()
    found = [failure(run, party) for party in (ONE, OTHER)]
    assert not messages(run, ShareSum)
    named = [error.suspects for error in found if isinstance(error, InvalidMessageError)]
    assert named
    assert all("k" in suspects for suspects in named)


def test_a_coordinator_that_is_content_with_too_few_is_not_heeded() -> None:
    needed = AggregationParameters(needed=1)

    class Greedy(AdditiveSharing):
        async def fix_parameters(self, *_: Any) -> AggregationParameters:
            return needed

    sharing = network(dies_before={"a": FullShare, "b": FullShare})
    greedy = Greedy()
    sharing.roles = {
        COORDINATOR: coordinator_role(greedy, sharing.keys[COORDINATOR], sharing.invitation(), None)
    }
    run = sharing.run()
    assert all(begin.parameters == needed for begin in messages(run, Begin))
    assert not messages(run, ShareSum)
    assert isinstance(failure(run, "k"), DropoutError)


def test_a_begin_without_a_number_of_holders_is_refused() -> None:
    sharing = network(faults=with_other_begin(network(), ONE, Query(step="no parameters")))
    found = failure(sharing.run(), ONE)
    assert isinstance(found, InvalidMessageError)
    assert "k" in {*found.culprits, *found.suspects}


@pytest.mark.parametrize("missing", [ONE, OTHER, "b"])
def test_a_begin_that_leaves_out_an_aggregator_is_refused(missing: str) -> None:
    """Or a holder, if there are not enough others."""

    def tamper(sent: Sent) -> Message:
        if not isinstance(sent.message, Begin):
            return sent.message
        ready = tuple(answer for answer in sent.message.ready if answer.holder != missing)
        return signed(dataclasses.replace(sent.message, ready=ready), network().identities[COORDINATOR])

    run = network({name: ROWS[name] for name in "abc"}, faults={"tamper": tamper}).run()
    for holder in ("a", "c"):
        found = failure(run, holder)
        assert isinstance(found, InvalidMessageError)
        assert found.culprits == ("k",)
    assert not messages(run, FullShare)


# The same question over one holder fewer


def remembering(sharing: Network, memories: Mapping[PartyId, ReleaseMemory]) -> Network:
    """Give the aggregators a memory of what they have released, as their actors do."""

    def role(name: PartyId) -> Role[bool]:
        def examine(invitation: Invitation) -> None:
            # No word of others excuses: all the other aggregators may lie.
            if not memories[name].allows(invitation, dispensable=len(Roster(invitation.roster).parties)):
                raise Declined(ALREADY_RELEASED)

        return aggregator_role(TWO, sharing.keys[name], examine, None, memories[name].record)

    sharing.roles = {name: role(name) for name in sharing.roster.aggregators}
    return sharing


def memories() -> dict[PartyId, ReleaseMemory]:
    return {name: ReleaseMemory(name, network().roster) for name in (ONE, OTHER)}


def test_without_memory_two_sums_uncover_the_holder_by_which_they_differ() -> None:
    fewer = {name: row for name, row in ROWS.items() if name != "d"}
    larger, smaller = network(seed=1).aggregate(), network(fewer, seed=2).aggregate()
    assert (larger.arrays["x"] - smaller.arrays["x"]).tolist() == ROWS["d"]["x"].tolist()


def test_the_same_question_over_one_holder_fewer_is_refused() -> None:
    kept = memories()
    remembering(network(seed=1), kept).aggregate()
    fewer = {name: row for name, row in ROWS.items() if name != "d"}
    run = remembering(network(fewer, seed=2), kept).run()
    found = failure(run, "k")
    assert isinstance(found, RefusedError)
    assert found.refusals == {ONE: (ALREADY_RELEASED, ""), OTHER: (ALREADY_RELEASED, "")}
    assert not messages(run, FullShare)


@pytest.mark.parametrize("honest", [ONE, OTHER])
def test_one_aggregator_that_remembers_is_enough(honest: PartyId) -> None:
    """A share is held back on its way, so that the first sum is over fewer; the second is to be over all."""
    kept = memories()
    first = network(seed=1, faults={"tamper": swallowing(FullShare, "d", OTHER)})
    assert remembering(first, kept).aggregate().holders == ("a", "b", "c")
    (liar,) = {ONE, OTHER} - {honest}
    run = remembering(network(seed=2), kept | {liar: memories()[liar]}).run()
    found = failure(run, "k")
    assert isinstance(found, RefusedError)
    assert list(found.refusals) == [honest]


def test_the_same_question_while_a_loss_makes_the_set_smaller_is_not_answered() -> None:
    kept = memories()
    remembering(network(seed=1), kept).aggregate()
    run = remembering(network(seed=2, dies_before={"d": FullShare}), kept).run()
    assert not messages(run, ShareSum)
    assert isinstance(failure(run, "k"), AbortedError)


def test_the_same_question_over_the_same_holders_is_answered_again() -> None:
    kept = memories()
    for seed in (1, 2):
        assert remembering(network(seed=seed), kept).aggregate().arrays["x"].tolist() == TOTAL


def test_a_question_that_ended_without_a_sum_is_answered_over_fewer() -> None:
    five = {**ROWS, "e": integers(0, 0)}
    kept = {name: ReleaseMemory(name, network(five).roster) for name in (ONE, OTHER)}
    lost = dict.fromkeys("abc", FullShare)
    assert isinstance(
        failure(remembering(network(five, seed=1, dies_before=lost), kept).run(), "k"), DropoutError
    )
    assert remembering(network(seed=2), kept).aggregate().arrays["x"].tolist() == TOTAL


# The session's start, with aggregators


def test_an_aggregator_may_refuse() -> None:
    sharing = network()

    def examine(invitation: Invitation) -> None:
        raise Declined(NOT_ALLOWED, "not here")

    sharing.roles = {OTHER: aggregator_role(TWO, sharing.keys[OTHER], examine, None)}
    run = sharing.run()
    found = failure(run, "k")
    assert isinstance(found, RefusedError)
    assert found.refusals == {OTHER: (NOT_ALLOWED, "not here")}
    assert run.result(OTHER) is False


def test_an_aggregator_declines_other_options_than_its_own() -> None:
    sharing = network()
    other = AdditiveSharing(colluding=2)
    sharing.roles = {OTHER: aggregator_role(other, sharing.keys[OTHER], lambda _: None, None)}
    run = sharing.run()
    assert [refusal.reason for refusal in messages(run, Refusal)] == [NOT_ALLOWED]


def test_an_aggregator_is_ready_with_no_arrays() -> None:
    sharing = network()
    opened = sharing.opened(sharing.run())
    assert [ready.holder for ready in opened.begin.ready] == [*"abcd", ONE, OTHER]
    assert [len(ready.arrays) for ready in opened.begin.ready] == [1, 1, 1, 1, 0, 0]
    assert opened.present == tuple("abcd")


@pytest.mark.parametrize("n_aggregators", [0, 1, 3])
def test_a_roster_with_another_number_of_aggregators_is_refused(n_aggregators: int) -> None:
    roster = network(protocol=AdditiveSharing(4)).roster
    roster = roster.without(roster.aggregators[n_aggregators:])
    with pytest.raises(SetupError, match="takes 2 aggregators"):
        TWO.check_roster(roster)


def test_a_protocol_without_aggregators_takes_no_roster_that_has_some() -> None:
    with pytest.raises(SetupError, match="takes 0 aggregators"):
        RingPaillier.insecure_for_tests().check_roster(network().roster)


def test_a_protocol_without_aggregators_has_no_role_for_one() -> None:
    ring = RingPaillier.insecure_for_tests()
    opened, keys = begun()
    role = ring.aggregator(
        Channel(ONE, bytes), opened, keys[ONE], ring.memory(), release=lambda holders, **_: None
    )
    with pytest.raises(MisuseError):
        role.send(None)


# Options, costs, trust


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"aggregators": 1}, "2 to 100"),
        ({"aggregators": 0}, "2 to 100"),
        ({"aggregators": 101}, "2 to 100"),
        ({"aggregators": 2.0}, "2 to 100"),
        ({"aggregators": "2"}, "2 to 100"),
        ({"aggregators": True}, "2 to 100"),
        ({"colluding": 0}, "at least 1"),
        ({"colluding": -1}, "at least 1"),
        ({"colluding": 1.5}, "at least 1"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_with_the_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(SetupError, match=remedy):
        AdditiveSharing(**options)


@pytest.mark.parametrize(("colluding", "minimum"), [(1, 3), (2, 4), (7, 9)])
def test_two_inputs_are_honest_beside_those_that_collude(colluding: int, minimum: int) -> None:
    protocol = AdditiveSharing(colluding=colluding)
    assert protocol.needed(1000) == protocol.minimum_holders == minimum
    protocol.check_number(minimum)
    with pytest.raises(SetupError, match=f"at least {minimum} holders"):
        protocol.check_number(minimum - 1)


def test_options_travel() -> None:
    for protocol in (TWO, THREE, AdditiveSharing(5, colluding=3)):
        assert isinstance(protocol.options, AdditiveSharingOptions)
        assert protocol_from(protocol.options) == protocol


@pytest.mark.parametrize(
    ("contribution", "encoding"),
    [
        (floats(1.0, 2.0), None),
        (floats(*range(40)), FixedPoint(1000.0)),
        (integers(*range(99)), None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("protocol", [TWO, THREE])
def test_the_cost_foretold_is_the_cost_measured(
    contribution: Contribution, encoding: Any, protocol: AdditiveSharing
) -> None:
    run = network(dict.fromkeys("abc", contribution), protocol, encoding=encoding).run()
    cost = protocol.cost(3, encodings_for(encoding, specify(contribution), 3))
    assert {encode(share).size for share in messages(run, FullShare)} == {cost.bytes_sent_by_holder}
    assert cost.rounds == len({type(sent.message).__name__ for sent in run.sent} - {"Finished"})


def test_what_is_trusted_is_said() -> None:
    assert "all 3 aggregators pool" in str(THREE.trust)
    assert len(TWO.attacks) >= 8
    assert all(attack.stopped_by for attack in TWO.attacks)
