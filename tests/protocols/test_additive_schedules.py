"""Additive sharing under every fault on demand: the sum over whom it names, or a typed error, never a hang.

Each party dying after each count of messages, and each message altered, swallowed, doubled or late. A failing run
prints its seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from networks import COORDINATOR, Contribution, Network, floats, integers
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.errors import AbortedError, DropoutError, ProtocolError, RemoteError, VoidedError
from tacit.protocols.invitation import is_signed
from tacit.protocols.party import PartyId
from tacit.protocols.protocol import Aggregate
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import SESSION_SECONDS, Run, Sent
from tacit.serialization.additive_sharing_messages import FullShare, MissingShares, ShareSum
from tacit.serialization.codec import Frame
from tacit.serialization.errors import TacitError
from tacit.serialization.schema import Message
from tampering import altering, flipped, mutations

TWO, THREE = AdditiveSharing(), AdditiveSharing(aggregators=3)
ROWS: dict[str, Contribution] = {
    "a": integers(1, -2),
    "b": integers(3, 5),
    "c": integers(-10, 7),
    "d": integers(100, 200),
}
AGGREGATORS = ("aggregator-1", "aggregator-2")


def network(
    contributions: Mapping[str, Contribution] = ROWS, protocol: AdditiveSharing = TWO, **options: Any
) -> Network:
    return Network(protocol, contributions, **options)


def check(sharing: Network, run: Run) -> None:
    """What must hold of every run whatsoever."""
    assert run.seconds <= 2 * SESSION_SECONDS
    for party, outcome in run.outcomes.items():
        if outcome is None:
            assert party in {*sharing.dies_after, *sharing.dies_before}
        elif isinstance(outcome, Failed):
            check_error(sharing, party, outcome)
        elif party == COORDINATOR:
            check_sum(sharing, outcome.result)


def check_sum(sharing: Network, aggregate: Aggregate) -> None:
    """The sum is exact over the holders that it names, and all aggregators remember those."""
    included = aggregate.holders
    assert len(included) >= sharing.protocol.minimum_holders
    assert included == tuple(holder for holder in sharing.roster.holders if holder in included)
    total = sum(sharing.contributions[holder]["x"] for holder in included)
    assert np.array_equal(aggregate.arrays["x"], total), "a wrong sum"
    for aggregator in sharing.roster.aggregators:
        assert sharing.released_over[aggregator] == included
    assert set(included) <= set(sharing.released)


def check_error(sharing: Network, party: PartyId, outcome: Failed) -> None:
    """Every end has a class of tacit's own, and names whom it can."""
    error = outcome.error
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


UNDISTURBED = network(faults={"delays": (0.001, 0.001)}).run().sent
LAST = next(sent.index for sent in UNDISTURBED if type(sent.message).__name__ == "Finished")


# Deaths

DEATHS = [
    *(("k", n) for n in range(0, 18, 2)),
    *((holder, n) for holder in "abcd" for n in range(3)),
    *((aggregator, n) for aggregator in AGGREGATORS for n in range(4)),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("party", "n_sent"), DEATHS)
def test_a_party_dies_after_any_number_of_messages(party: str, n_sent: int, seed: int) -> None:
    sharing = network(seed=seed, dies_after={party: n_sent})
    run = sharing.run()
    check(sharing, run)
    if party in ROWS:
        holders = run.result("k").holders
        assert {*holders} | {party} == {*ROWS}, "whoever is alive is in the sum"
    elif party != COORDINATOR and isinstance(run.outcomes[COORDINATOR], Failed):
        found = error_of(run)
        assert isinstance(found, DropoutError)
        assert found.missing == (party,)


@pytest.mark.parametrize("seed", range(40))
def test_several_parties_die(seed: int) -> None:
    chosen = random.Random(seed)
    six = {**ROWS, "e": integers(1, 1), "f": integers(2, 2)}
    among = chosen.choice(["abcdef", [*"abcdefk", *AGGREGATORS]])
    dying = {party: chosen.randrange(4) for party in chosen.sample(among, chosen.randrange(2, 5))}
    sharing = network(six, chosen.choice([TWO, THREE]), seed=seed, dies_after=dying)
    run = sharing.run()
    check(sharing, run)
    if set(dying) <= set(six):
        enough = len(six) - len(dying) >= 3
        assert isinstance(run.outcomes[COORDINATOR], Done) or not enough


# Messages altered, one at a time


def is_uniform(sent: Sent) -> bool:
    """Whether a message has vectors, which no check but the flag can tell from others."""
    return isinstance(sent.message, FullShare | ShareSum)


@pytest.mark.parametrize("index", range(len(UNDISTURBED)))
@pytest.mark.parametrize("seed", range(3))
def test_one_bit_of_one_frame_is_flipped(index: int, seed: int) -> None:
    """The links refuse an altered frame; without them, only what is uniform may be altered unnoticed."""
    place = random.Random(f"{seed} {index}")
    sharing = network(seed=seed % 3, faults=altering(index, lambda sent: flipped(sent, place)))
    run = sharing.run()
    if is_uniform(run.sent[index]) and isinstance(run.outcomes[COORDINATOR], Done):
        return
    check(sharing, run)


def field_changes() -> list[tuple[int, int]]:
    """Every way to change a field of a message: index of the message, number of the change."""
    kinds = {(type(sent.message).__name__, "aggregator" in sent.sender): sent.index for sent in UNDISTURBED}
    return [(i, n) for i in kinds.values() for n, _ in enumerate(mutations(UNDISTURBED[i].message))]


@pytest.mark.parametrize(("index", "number"), field_changes())
def test_one_field_of_one_message_is_altered(index: int, number: int) -> None:
    def change(sent: Sent) -> Message:
        altered = list(mutations(sent.message))[number]
        assert isinstance(altered, Message)
        return altered

    sharing = network(faults={"delays": (0.001, 0.001), **altering(index, change)})
    run = sharing.run()
    check(sharing, run)
    sent = UNDISTURBED[index]
    if index >= LAST:
        assert isinstance(run.outcomes[COORDINATOR], Done), "the total is there already"
        return
    assert isinstance(run.outcomes[COORDINATOR], Failed), "nothing that was signed or bound may change"
    found = error_of(run, sent.recipient)
    assert isinstance(found, RemoteError)
    assert sent.sender in {*found.culprits, *found.suspects}


@pytest.mark.parametrize("index", range(LAST))
@pytest.mark.parametrize("kind", ["Ready", "FullShare", "MissingShares", "ShareSum"])
def test_a_message_of_another_session_arrives_instead(index: int, kind: str) -> None:
    recorded = next(sent.message for sent in UNDISTURBED if type(sent.message).__name__ == kind)
    sharing = network(seed=2, faults=altering(index, lambda sent: recorded))
    run = sharing.run()
    check(sharing, run)
    if isinstance(run.outcomes[COORDINATOR], Done):
        assert run.sent[index].recipient not in run.result("k").holders, (
            "a holder that has noticed is left out"
        )
        assert run.sent[index].recipient in ROWS


@pytest.mark.parametrize("index", range(len(UNDISTURBED)))
def test_a_message_is_swallowed(index: int) -> None:
    sharing = network(seed=1, faults=altering(index, lambda sent: None))
    run = sharing.run()
    check(sharing, run)
    swallowed = run.sent[index]
    answers_coordinator = swallowed.sender in AGGREGATORS and swallowed.recipient == COORDINATOR
    if answers_coordinator or isinstance(swallowed.message, MissingShares):
        assert isinstance(error_of(run), DropoutError)
    elif swallowed.recipient in ROWS or swallowed.sender in ROWS:
        assert len(run.result("k").holders) >= 3, "at most one holder is left out"


# Messages doubled and late


@pytest.mark.parametrize("seed", range(30))
def test_doubled_and_late_messages_change_nothing(seed: int) -> None:
    protocol = (TWO, THREE)[seed % 2]
    sharing = network(protocol=protocol, seed=seed, faults={"duplicates": 0.5, "delays": (0.0, 25.0)})
    run = sharing.run()
    check(sharing, run)
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())
    assert run.result("k").holders == sharing.roster.holders


@pytest.mark.parametrize("seed", range(30))
def test_messages_so_late_that_deadlines_pass(seed: int) -> None:
    sharing = network(seed=seed, faults={"delays": (0.0, 100.0)})
    check(sharing, sharing.run())


@pytest.mark.parametrize("seed", range(60))
def test_messages_are_lost_and_doubled_at_random(seed: int) -> None:
    rate = (0.02, 0.1, 0.4)[seed % 3]
    sharing = network(seed=seed, faults={"loss": rate, "duplicates": rate, "delays": (0.0, 5.0)})
    check(sharing, sharing.run())


@pytest.mark.parametrize("seed", range(60))
def test_everything_goes_wrong_at_once(seed: int) -> None:
    chosen = random.Random(seed)

    def tamper(sent: Sent) -> Message | Frame | None:
        alters = chosen.random() < 0.03 and not is_uniform(sent)
        return flipped(sent, chosen) if alters else sent.message

    dying = {chosen.choice([*"abcdk", *AGGREGATORS]): chosen.randrange(4)} if chosen.random() < 0.4 else {}
    faults = {"loss": 0.02, "duplicates": 0.2, "delays": (0.0, 20.0), "tamper": tamper}
    sharing = network(protocol=chosen.choice([TWO, THREE]), seed=seed, dies_after=dying, faults=faults)
    check(sharing, sharing.run())


# Exact floats: wide integers with carries

FLOATS: dict[str, Contribution] = {
    "a": floats(0.5, 2.0**900),
    "b": floats(0.25, -(2.0**880)),
    "c": floats(-0.125, 2.0**-900),
    "d": floats(2.0**-30, -(2.0**900)),
}


@pytest.mark.parametrize("seed", range(24))
def test_exact_floats_under_losses(seed: int) -> None:
    chosen = random.Random(seed)
    sharing = network(FLOATS, seed=seed, dies_after={chosen.choice("abcd"): chosen.randrange(3)})
    run = sharing.run()
    aggregate = run.result("k")
    rows = [[float(value) for value in FLOATS[holder]["x"]] for holder in aggregate.holders]
    assert len(rows) >= 3
    assert aggregate.arrays["x"].tolist() == [exactly(column) for column in zip(*rows, strict=True)]


def exactly(values: tuple[float, ...]) -> float:
    return float(sum(map(Fraction, values)))


@pytest.mark.parametrize("seed", range(20))
def test_a_holder_that_cannot_contribute_voids_whatever_happens(seed: int) -> None:
    rows = FLOATS | {"b": floats(float("nan"), 1.0)}
    chosen = random.Random(seed)
    dying = {chosen.choice("acd"): chosen.randrange(3)}
    sharing = network(rows, seed=seed, voids=True, dies_after=dying)
    assert isinstance(error_of(sharing.run()), VoidedError)
