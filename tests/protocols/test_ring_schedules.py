"""Ring-Paillier under every fault on demand: the right sum or a typed error, never a wrong sum, never a hang.

Each party dying after each count of messages, and each message altered, swallowed, doubled or late. The keys
are short and shared between runs, so a run takes a few milliseconds. A failing run prints its seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
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
    VoidedError,
)
from tacit.protocols.invitation import is_signed
from tacit.protocols.party import PartyId
from tacit.protocols.protocol import Aggregate
from tacit.protocols.ring_paillier import RingMemory, RingPaillier
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import SESSION_SECONDS, Run, Sent
from tacit.serialization.codec import Frame
from tacit.serialization.errors import TacitError
from tacit.serialization.ring_paillier_messages import PartialSum
from tacit.serialization.schema import Message
from tampering import altering, flipped, mutations

RING = RingPaillier.insecure_for_tests()
OPEN_RING = RingPaillier.insecure_for_tests(masks=False)
MEMORIES: dict[str, RingMemory] = {}
N_MESSAGES = 16  # of an undisturbed run over three holders
THREE: dict[str, Contribution] = {"a": integers(1, -2), "b": integers(3, 5), "c": integers(-10, 7)}
TOTAL = np.array([-6, 10])


def network(contributions: Mapping[str, Contribution] = THREE, **options: Any) -> Network:
    shared = {name: MEMORIES.setdefault(name, RingMemory()) for name in ["k", *contributions]}
    options.setdefault("protocol", RING)
    return Network(contributions=contributions, memories=shared, **options)


def check(ring: Network, run: Run, total: Any = TOTAL) -> None:
    """What must hold of every run whatsoever."""
    assert run.seconds <= 2 * SESSION_SECONDS
    for party, outcome in run.outcomes.items():
        if outcome is None:
            assert party in {*ring.dies_after, *ring.dies_before}
        elif isinstance(outcome, Done):
            if party == COORDINATOR:
                assert isinstance(outcome.result, Aggregate)
                assert np.array_equal(outcome.result.arrays["x"], total), "a wrong sum"
                assert outcome.result.holders == ring.roster.holders
        else:
            check_error(ring, party, outcome)


def check_error(ring: Network, party: PartyId, outcome: Failed) -> None:
    """Every end has a class of tacit's own, and names whom it can."""
    error = outcome.error
    assert isinstance(error, ProtocolError), (party, repr(error))
    match error:
        case RemoteError():
            assert error.culprits or error.suspects
            assert {*error.culprits, *error.suspects} <= set(ring.roster)
        case DropoutError():
            assert error.missing
            for word in error.closed:
                assert is_signed(word, ring.roster, PartyId(word.holder))
                assert word.forwarded == (word.holder in ring.released), "an untrue word"
        case AbortedError():
            assert error.party in set(ring.roster)


def error_of(run: Run, party: str = COORDINATOR) -> TacitError:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, TacitError)
    return outcome.error


# Deaths

DEATHS = [("k", n) for n in range(11)] + [(holder, n) for holder in "abc" for n in range(3)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("party", "n_sent"), DEATHS)
def test_a_party_dies_after_any_number_of_messages(party: str, n_sent: int, seed: int) -> None:
    ring = network(seed=seed, dies_after={party: n_sent})
    run = ring.run()
    check(ring, run)
    if party == COORDINATOR:
        return
    outcome = run.outcomes[COORDINATOR]
    if isinstance(outcome, Done):
        assert n_sent == 2, "its contribution was under way"
        return
    found = error_of(run)
    assert isinstance(found, DropoutError)
    assert found.missing == (party,)
    survivors = {holder for holder in ring.roster.holders if holder != party}
    if any(isinstance(sent.message, PartialSum) for sent in run.sent):
        assert {word.holder for word in found.closed} == survivors, "every survivor gives its word"
    for holder in survivors:
        assert isinstance(error_of(run, holder), AbortedError | DropoutError)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("party", "abc")
def test_a_holder_dies_at_its_place_in_the_ring(party: str, seed: int) -> None:
    ring = network(seed=seed, dies_before={party: PartialSum})
    run = ring.run()
    check(ring, run)
    found = error_of(run)
    assert isinstance(found, DropoutError)
    assert found.missing == (party,)
    assert {word.holder for word in found.closed} == set("abc") - {party}
    forwarded = {sent.sender for sent in run.sent if isinstance(sent.message, PartialSum)} - {"k"}
    assert {word.holder for word in found.closed if word.forwarded} == forwarded


@pytest.mark.parametrize("seed", range(20))
def test_several_parties_die(seed: int) -> None:
    chosen = random.Random(seed)
    five = THREE | {"d": integers(1, 1), "e": integers(2, 2)}
    dying = {party: chosen.randrange(4) for party in chosen.sample("kabcde", 2)}
    ring = network(five, seed=seed, dies_after=dying)
    check(ring, ring.run(), TOTAL + 3)


# Messages altered, one at a time


@pytest.mark.parametrize("index", range(N_MESSAGES))
@pytest.mark.parametrize("seed", range(14))
def test_one_bit_of_one_frame_is_flipped(index: int, seed: int) -> None:
    place = random.Random(f"{seed} {index}")
    ring = network(seed=seed % 4, faults=altering(index, lambda sent: flipped(sent, place)))
    run = ring.run()
    check(ring, run)
    sent = run.sent[index]
    if isinstance(run.outcomes[COORDINATOR], Failed) and isinstance(error_of(run), RemoteError):
        found = error_of(run)
        assert isinstance(found, RemoteError)
        assert sent.recipient == COORDINATOR or isinstance(sent.message, PartialSum)
        assert sent.sender in {*found.culprits, *found.suspects} or isinstance(sent.message, PartialSum)


UNDISTURBED = Network(RING, THREE, seed=1).run().sent


def field_changes() -> list[tuple[int, int]]:
    """Every way to change a field of a message: index of the message, number of the change."""
    kinds: dict[str, int] = {}
    for sent in UNDISTURBED:
        kinds[type(sent.message).__name__] = sent.index  # one message of each kind, the last
    kinds["PartialSum"] -= 1  # and of partial sums one between two holders
    return [(i, n) for i in kinds.values() for n, _ in enumerate(mutations(UNDISTURBED[i].message))]


@pytest.mark.parametrize(("index", "number"), field_changes())
def test_one_field_of_one_message_is_altered(index: int, number: int) -> None:
    def change(sent: Sent) -> Message:
        altered = list(mutations(sent.message))[number]
        assert isinstance(altered, Message)
        return altered

    ring = Network(RING, THREE, seed=1, faults=altering(index, change))
    run = ring.run()
    check(ring, run)
    sent = UNDISTURBED[index]
    kind = type(sent.message).__name__
    if kind == "Finished":
        assert isinstance(run.outcomes[COORDINATOR], Done), "the total is there already"
        return
    assert isinstance(run.outcomes[COORDINATOR], Failed), "nothing that was signed or bound may change"
    found = error_of(run, sent.recipient)
    if kind == "PartialSum":
        # A changed ciphertext is a ciphertext: only the coordinator can see that the total is no total.
        assert isinstance(found, InvalidMessageError | AbortedError)
        assert isinstance(error_of(run), RemoteError | VoidedError | AbortedError)
    else:
        assert isinstance(found, InvalidMessageError)
        assert sent.sender in {*found.culprits, *found.suspects}


@pytest.mark.parametrize("index", range(N_MESSAGES))
@pytest.mark.parametrize("other", [3, 6, 9, 11, 12, 15])
def test_a_message_of_another_session_arrives_instead(index: int, other: int) -> None:
    recorded = UNDISTURBED[other].message
    ring = network(seed=2, faults=altering(index, lambda sent: recorded))
    run = ring.run()
    check(ring, run)
    kinds = {type(recorded).__name__, type(run.sent[index].message).__name__}
    if kinds != {"Finished"}:
        assert not isinstance(run.outcomes[COORDINATOR], Done) or index >= 13


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("index", range(N_MESSAGES))
def test_a_message_is_swallowed(index: int, seed: int) -> None:
    ring = network(seed=seed, faults=altering(index, lambda sent: None))
    run = ring.run()
    check(ring, run)
    if index < 13:
        assert isinstance(error_of(run), DropoutError)
    else:
        assert isinstance(error_of(run, run.sent[index].recipient), DropoutError)


# Messages doubled and late


@pytest.mark.parametrize("seed", range(40))
def test_doubled_and_late_messages_change_nothing(seed: int) -> None:
    ring = network(seed=seed, faults={"duplicates": 0.5, "delays": (0.0, 30.0)})
    run = ring.run()
    check(ring, run)
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())


@pytest.mark.parametrize("seed", range(30))
def test_messages_so_late_that_deadlines_pass(seed: int) -> None:
    ring = network(seed=seed, faults={"delays": (0.0, 200.0)})
    check(ring, ring.run())


@pytest.mark.parametrize("seed", range(60))
def test_messages_are_lost_and_doubled_at_random(seed: int) -> None:
    rate = (0.02, 0.1, 0.4)[seed % 3]
    ring = network(seed=seed, faults={"loss": rate, "duplicates": rate, "delays": (0.0, 5.0)})
    check(ring, ring.run())


@pytest.mark.parametrize("seed", range(60))
def test_everything_goes_wrong_at_once(seed: int) -> None:
    chosen = random.Random(seed)

    def tamper(sent: Sent) -> Message | Frame | None:
        return flipped(sent, chosen) if chosen.random() < 0.03 else sent.message

    dying = {chosen.choice("abck"): chosen.randrange(6)} if chosen.random() < 0.3 else {}
    faults = {"loss": 0.02, "duplicates": 0.2, "delays": (0.0, 20.0), "tamper": tamper}
    ring = network(seed=seed, dies_after=dying, faults=faults, protocol=chosen.choice([RING, OPEN_RING]))
    check(ring, ring.run())


# The same under exact floats, which go as residues under several keys

FLOATS: dict[str, Contribution] = {
    "a": floats(0.1, 1e300),
    "b": floats(0.2, 1e-300),
    "c": floats(0.3, -1e300),
}
EXACT = np.array([0.6, 1e-300])


@pytest.mark.parametrize("seed", range(24))
def test_exact_floats_under_faults(seed: int) -> None:
    chosen = random.Random(seed)
    index = chosen.randrange(N_MESSAGES)

    def tamper(sent: Sent) -> Message | Frame | None:
        return flipped(sent, chosen) if sent.index == index and seed % 2 else sent.message

    dying = {} if seed % 2 else {chosen.choice("abc"): chosen.randrange(3)}
    ring = network(FLOATS, seed=seed, dies_after=dying, faults={"tamper": tamper, "duplicates": 0.2})
    check(ring, ring.run(), EXACT)


def test_exact_floats_without_faults() -> None:
    ring = network(FLOATS, seed=1)
    check(ring, ring.run(), EXACT)
    assert ring.released
