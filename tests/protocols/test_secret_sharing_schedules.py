"""Secret sharing under every fault on demand: the exact sum over whom it names or a typed error, never a hang.

Parties die after each count of messages; messages are altered, swallowed, doubled, late, or of another session. A
failing run prints its seed.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from networks import COORDINATOR, Contribution, Network, floats, integers
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    InvalidMessageError,
    ProtocolError,
    RemoteError,
)
from tacit.protocols.invitation import is_signed
from tacit.protocols.party import PartyId
from tacit.protocols.protocol import Aggregate
from tacit.protocols.secret_sharing import SecretSharing
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import SESSION_SECONDS, Run, Sent
from tacit.serialization.codec import Frame, encode
from tacit.serialization.errors import TacitError
from tacit.serialization.schema import Message
from tacit.serialization.secret_sharing_messages import SummedShares

NAMES = "abcdefg"
ROWS: dict[str, Contribution] = {
    name: integers((-3) ** k, (-1) ** k * (2**60 - k), -k) for k, name in enumerate(NAMES, start=1)
}
FLOATS: dict[str, Contribution] = {
    name: floats(0.1 * k, 1e300 * (-1) ** k, 2.0 ** -(70 * k)) for k, name in enumerate(NAMES, start=1)
}
IN_ORDER = {"delays": (0.001, 0.001)}
SIZES = (3, 4, 5, 7)

Change = Callable[[Sent], Message | Frame | None]


def network(
    n: int, protocol: SecretSharing | None = None, rows: Mapping[str, Contribution] = ROWS, **options: Any
) -> Network:
    return Network(protocol or SecretSharing(), {name: rows[name] for name in NAMES[:n]}, **options)


def exact(sharing: Network, holders: tuple[PartyId, ...]) -> list[int] | list[float]:
    """The sum of integers or, correctly rounded, of fractions."""
    rows = [sharing.contributions[holder]["x"].tolist() for holder in holders]
    if isinstance(rows[0][0], int):
        return [sum(column) for column in zip(*rows, strict=True)]
    return [float(sum(map(Fraction, column))) for column in zip(*rows, strict=True)]


def check(sharing: Network, run: Run) -> None:
    """What must hold of every run whatsoever."""
    assert run.seconds <= 2 * SESSION_SECONDS
    for party, outcome in run.outcomes.items():
        if outcome is None:
            assert party in {*sharing.dies_after, *sharing.dies_before}
        elif isinstance(outcome, Failed):
            check_error(sharing, party, outcome.error)
        elif party == COORDINATOR:
            aggregate = outcome.result
            assert isinstance(aggregate, Aggregate)
            assert len(aggregate.holders) >= sharing.protocol.needed(len(sharing.contributions))
            assert aggregate.arrays["x"].tolist() == exact(sharing, aggregate.holders), "a wrong sum"


def check_error(sharing: Network, party: PartyId, error: Exception) -> None:
    """Every end has a class of tacit's own, and names whom it can."""
    assert isinstance(error, ProtocolError), (party, repr(error))
    match error:
        case RemoteError():
            assert error.culprits or error.suspects
            assert {*error.culprits, *error.suspects} <= set(sharing.roster)
        case DropoutError():
            assert error.missing
            for word in error.closed:
                assert is_signed(word, sharing.roster, PartyId(word.holder))
                assert word.forwarded == (word.holder in sharing.released), "an untrue word"
        case AbortedError():
            assert error.party in set(sharing.roster)


def error_of(run: Run, party: str = COORDINATOR) -> TacitError:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, TacitError)
    return outcome.error


# Deaths


@pytest.mark.parametrize("party", "kabcd")
@pytest.mark.parametrize("n_sent", range(14))
def test_a_party_dies_after_any_number_of_messages(party: str, n_sent: int) -> None:
    if party != COORDINATOR and n_sent > 3:
        return
    sharing = network(4, seed=n_sent, dies_after={party: n_sent})
    run = sharing.run()
    check(sharing, run)
    if party != COORDINATOR:
        assert isinstance(run.outcomes[COORDINATOR], Done), "three of four are enough"


PROTOCOLS = (
    SecretSharing(),
    SecretSharing(threshold=7, colluding=2),
    SecretSharing(packing=2),
    SecretSharing(share_holders=("g", "b", "e", "c", "a"), robust=False),
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(16))
def test_a_dropout_error_exactly_when_too_few_are_left(seed: int, protocol: SecretSharing) -> None:
    """Messages arrive as they are sent, so what is left follows from who died when."""
    chosen = random.Random(f"{seed} {protocol}")
    dying = {name: chosen.randrange(4) for name in chosen.sample(NAMES, chosen.randrange(1, 5))}
    sharing = network(7, protocol, seed=seed, dies_after=dying, faults=IN_ORDER)
    run = sharing.run()
    check(sharing, run)
    sent = {name: dying.get(name, 99) for name in NAMES}
    dealers = tuple(name for name in NAMES if sent[name] >= 2)
    share_holders = [name for name in protocol.share_holders or NAMES if sent[name] >= 3]
    if len(dealers) >= protocol.needed(7) and len(share_holders) >= protocol.shares_needed(7):
        assert run.result(COORDINATOR).holders == dealers
        return
    found = error_of(run)
    assert isinstance(found, DropoutError)
    assert set(found.missing) <= set(dying)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed", range(12))
def test_several_parties_die_amid_delays_and_duplicates(seed: int, n: int) -> None:
    chosen = random.Random(f"{seed} {n}")
    dying = {party: chosen.randrange(5) for party in chosen.sample(NAMES[:n], chosen.randrange(1, 3))}
    faults = {"duplicates": 0.3, "delays": (0.0, 5.0)}
    sharing = network(n, seed=seed, dies_after=dying, faults=faults)
    run = sharing.run()
    check(sharing, run)
    if isinstance(run.outcomes[COORDINATOR], Failed):
        assert isinstance(error_of(run), DropoutError)
        assert set(error_of(run).missing) <= set(dying)  # type: ignore[attr-defined]


# Messages altered, one at a time


def altering(index: int, change: Change) -> dict[str, Any]:
    return {"tamper": lambda sent: change(sent) if sent.index == index else sent.message}


def flipped(sent: Sent, place: random.Random) -> Frame:
    """The message's frame with one bit of it changed."""
    frame = encode(sent.message)
    octets = bytearray(frame.header)
    bit = place.randrange(8 * len(octets))
    octets[bit // 8] ^= 1 << bit % 8
    return Frame(bytes(octets), frame.buffers)


def n_messages(n: int) -> int:
    return 7 * n


@pytest.mark.parametrize(("n", "index"), [(n, index) for n in (3, 5) for index in range(n_messages(n))])
@pytest.mark.parametrize("seed", range(2))
def test_one_bit_of_one_frame_is_flipped(n: int, index: int, seed: int) -> None:
    place = random.Random(f"{seed} {index}")
    sharing = network(n, seed=seed, faults=altering(index, lambda sent: flipped(sent, place)))
    check(sharing, sharing.run())


def mutations(value: Any) -> Iterator[Any]:
    """Values a little different from one of a message's fields."""
    match value:
        case Message():
            for entry in value.message_fields:
                for changed in mutations(getattr(value, entry.name)):
                    try:
                        yield dataclasses.replace(value, **{entry.name: changed})  # type: ignore[type-var]
                    except TacitError:
                        continue  # the declaration does not allow it: it could not arrive
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1)
        case bytes():
            yield bytes([*value[:-1], value[-1] ^ 1]) if value else b"\0"
        case str():
            yield from (value + "x", "")
        case np.ndarray() if value.size and value.dtype in (np.uint8, np.uint64):
            changed = value.copy()
            changed.flat[-1] ^= 1
            yield from (changed, value[..., :0], np.concatenate([value, value]), value[None])
        case tuple() if value:
            yield from (value[:-1], (*value, value[0]), *([value[::-1]] if len(value) > 1 else []))
            yield from ((changed, *value[1:]) for changed in mutations(value[0]))
        case None:
            yield 7


UNDISTURBED = network(5, seed=1).run().sent
KINDS = ("Invitation", "Ready", "Begin", "SharedInput", "IncludedShares", "SummedShares", "Finished")
ONE_OF_EACH = {type(sent.message).__name__: sent for sent in UNDISTURBED}


def field_changes() -> list[tuple[str, int]]:
    """Every way to change a field of a message: its kind, number of the change."""
    return [(kind, n) for kind in KINDS for n, _ in enumerate(mutations(ONE_OF_EACH[kind].message))]


@pytest.mark.parametrize(("kind", "number"), field_changes())
def test_one_field_of_one_message_is_altered(kind: str, number: int) -> None:
    original = ONE_OF_EACH[kind]

    def change(sent: Sent) -> Message:
        altered = list(mutations(sent.message))[number]
        assert isinstance(altered, Message)
        return altered

    sharing = network(5, seed=1, faults=altering(original.index, change))
    run = sharing.run()
    check(sharing, run)
    outcome = run.outcomes[COORDINATOR]
    if original.sender == COORDINATOR:
        # Four of five share holders have got the true one; their answers are enough, if the fifth's is none.
        answered = any(
            isinstance(s.message, SummedShares) and s.sender == original.recipient for s in run.sent
        )
        assert isinstance(outcome, Done) or (kind == "IncludedShares" and answered)
        return
    if kind == "SharedInput" and isinstance(outcome, Done):
        # What was changed is the share of one share holder, which cannot open it.
        failed = [
            error_of(run, name) for name in NAMES[:5] if isinstance(run.outcomes[PartyId(name)], Failed)
        ]
        assert len(failed) == 1
        assert isinstance(failed[0], InvalidMessageError)
        assert set(failed[0].suspects) == {original.sender, COORDINATOR}
        return
    found = error_of(run)
    assert isinstance(found, InvalidMessageError)
    assert original.sender in {*found.culprits, *found.suspects}


@pytest.mark.parametrize("index", range(n_messages(4)))
@pytest.mark.parametrize("other", ["SharedInput", "IncludedShares", "SummedShares"])
def test_a_message_of_another_session_arrives_instead(index: int, other: str) -> None:
    recorded = ONE_OF_EACH[other].message
    sharing = network(4, seed=2, faults=altering(index, lambda sent: recorded))
    check(sharing, sharing.run())


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("place", range(28))
def test_a_message_is_swallowed(n: int, place: int) -> None:
    sharing = network(n, seed=place, faults=altering(place * n // 4, lambda sent: None))
    run = sharing.run()
    check(sharing, run)
    assert isinstance(run.outcomes[COORDINATOR], Done), "one of four or five may be missing anywhere"
    assert run.seconds < 2 * SESSION_SECONDS


# Messages doubled and late


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_doubled_and_late_messages_change_nothing(seed: int, n: int) -> None:
    sharing = network(n, seed=seed, faults={"duplicates": 0.5, "delays": (0.0, 30.0)})
    run = sharing.run()
    check(sharing, run)
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())
    assert run.result(COORDINATOR).holders == tuple(NAMES[:n])


@pytest.mark.parametrize("seed", range(24))
def test_messages_so_late_that_deadlines_pass(seed: int) -> None:
    sharing = network(SIZES[seed % 4], seed=seed, faults={"delays": (0.0, 200.0)})
    check(sharing, sharing.run())


@pytest.mark.parametrize("seed", range(36))
def test_messages_are_lost_and_doubled_at_random(seed: int) -> None:
    rate = (0.02, 0.1, 0.3)[seed % 3]
    faults = {"loss": rate, "duplicates": rate, "delays": (0.0, 5.0)}
    sharing = network(SIZES[seed % 4], seed=seed, faults=faults)
    check(sharing, sharing.run())


@pytest.mark.parametrize("seed", range(60))
def test_everything_goes_wrong_at_once(seed: int) -> None:
    chosen = random.Random(seed)

    def tamper(sent: Sent) -> Message | Frame | None:
        return flipped(sent, chosen) if chosen.random() < 0.03 else sent.message

    n = chosen.choice(SIZES)
    dying = {chosen.choice("k" + NAMES[:n]): chosen.randrange(6)} if chosen.random() < 0.4 else {}
    faults = {"loss": 0.02, "duplicates": 0.2, "delays": (0.0, 20.0), "tamper": tamper}
    rows = chosen.choice([ROWS, FLOATS])
    packing = 2 if n > 4 and chosen.random() < 0.5 else 1
    sharing = network(n, SecretSharing(packing=packing), rows, seed=seed, dies_after=dying, faults=faults)
    check(sharing, sharing.run())
