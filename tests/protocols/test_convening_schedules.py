"""Sums over hidden holders under every fault on demand: exact over whom the aggregators remember, or a typed error.

Each party dying after each count of messages, and each message altered, swallowed, doubled or late. The coordinator is
told no name of a holder in any of them. A failing run prints its seed.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from convened import CONVENER, OTHER, ConvenedNetwork
from networks import COORDINATOR, Contribution, integers
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.convening import ConvenedAggregate
from tacit.protocols.errors import DropoutError, ProtocolError, RemoteError
from tacit.protocols.party import PartyId
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import SESSION_SECONDS, Run, Sent
from tacit.serialization.additive_sharing_messages import FullShare
from tacit.serialization.codec import Frame, encode
from tacit.serialization.convening_messages import ConvenedSum
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Abort
from tampering import altering, flipped, mutations

TWO, THREE = AdditiveSharing(at_most=9), AdditiveSharing(aggregators=3, at_most=9)
ROWS: dict[str, Contribution] = {
    "site-a": integers(1, -2),
    "site-b": integers(3, 5),
    "site-c": integers(-10, 7),
    "site-d": integers(100, 200),
}


def network(
    contributions: Mapping[str, Contribution] = ROWS, protocol: AdditiveSharing = TWO, **options: Any
) -> ConvenedNetwork:
    return ConvenedNetwork(contributions, protocol, **options)


def check(sharing: ConvenedNetwork, run: Run) -> None:
    """What must hold of every run whatsoever."""
    assert run.seconds <= 2 * SESSION_SECONDS
    for party, outcome in run.outcomes.items():
        if outcome is None:
            assert party in {*sharing.dies_after, *sharing.dies_before}
        elif isinstance(outcome, Failed):
            check_error(sharing, party, outcome)
        elif party == COORDINATOR:
            check_sum(sharing, outcome.result)
    for sent in run.sent:
        if sent.recipient == COORDINATOR:
            assert sent.sender in sharing.roster.adders, "a holder has a word with the coordinator"
            assert b"site-" not in encode(sent.message).header
    assert "site-" not in str(run.outcomes[COORDINATOR])


def check_sum(sharing: ConvenedNetwork, aggregate: ConvenedAggregate) -> None:
    """The sum is exact over the holders that all aggregators remember."""
    (included,) = {sharing.released_over[aggregator] for aggregator in sharing.roster.adders}
    assert len(included) >= sharing.protocol.minimum_holders
    total = sum(sharing.contributions[holder]["x"] for holder in included)
    assert np.array_equal(aggregate.arrays["x"], total), "a wrong sum"
    assert set(included) <= set(sharing.released_over)


def check_error(sharing: ConvenedNetwork, party: PartyId, outcome: Failed) -> None:
    """Every end has a class of tacit's own; at the coordinator it names nobody but aggregators."""
    error = outcome.error
    assert isinstance(error, ProtocolError), (party, repr(error))
    known = set(sharing.asked if party == COORDINATOR else sharing.roster)
    if isinstance(error, RemoteError):
        assert error.culprits or error.suspects
        assert {*error.culprits, *error.suspects} <= known
    if isinstance(error, DropoutError):
        assert {*error.missing, *error.present} <= known


UNDISTURBED = network(faults={"delays": (0.001, 0.001)}).run().sent
LAST = next(sent.index for sent in UNDISTURBED if type(sent.message).__name__ == "Finished")

DEATHS = [
    *((COORDINATOR, n) for n in range(2)),
    *((holder, n) for holder in ROWS for n in range(3)),
    *((CONVENER, n) for n in range(14)),
    *((OTHER, n) for n in range(4)),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("party", "n_sent"), DEATHS)
def test_a_party_dies_after_any_number_of_messages(party: str, n_sent: int, seed: int) -> None:
    sharing = network(seed=seed, dies_after={party: n_sent})
    run = sharing.run()
    check(sharing, run)
    outcome = run.outcomes[COORDINATOR]
    if party in ROWS:
        assert isinstance(outcome, Done)
    elif party != COORDINATOR and isinstance(outcome, Failed):
        assert isinstance(outcome.error, DropoutError)
        assert outcome.error.missing == (party,)


@pytest.mark.parametrize("seed", range(24))
def test_several_parties_die(seed: int) -> None:
    chosen = random.Random(seed)
    six = {**ROWS, "site-e": integers(1, 1), "site-f": integers(2, 2)}
    among = chosen.choice([[*six], [*six, COORDINATOR, CONVENER, OTHER]])
    dying = {party: chosen.randrange(4) for party in chosen.sample(among, chosen.randrange(2, 5))}
    everybody = seed % 4 == 0
    protocol = chosen.choice([TWO, THREE])
    sharing = network(six, protocol, seed=seed, dies_after=dying, everybody=everybody)
    run = sharing.run()
    check(sharing, run)
    if set(dying) <= set(six) and not everybody:
        enough = len(six) - len(dying) >= 3
        assert isinstance(run.outcomes[COORDINATOR], Done) or not enough


def is_uniform(sent: Sent) -> bool:
    """Whether a message has vectors, which no check but the flag can tell from others."""
    return isinstance(sent.message, FullShare | ConvenedSum)


@pytest.mark.parametrize("index", range(len(UNDISTURBED)))
@pytest.mark.parametrize("seed", range(2))
def test_one_bit_of_one_frame_is_flipped(index: int, seed: int) -> None:
    """The links refuse an altered frame; without them, only what is uniform may be altered unnoticed."""
    place = random.Random(f"{seed} {index}")
    sharing = network(seed=seed, faults=altering(index, lambda sent: flipped(sent, place)))
    run = sharing.run()
    if is_uniform(run.sent[index]) and isinstance(run.outcomes[COORDINATOR], Done):
        return
    check(sharing, run)


def field_changes() -> list[tuple[int, int]]:
    """Every way to change a field of a message: index of the message, number of the change."""
    kinds = {
        (
            type(sent.message).__name__,
            sent.sender in ROWS,
            sent.recipient in ROWS,
            sent.recipient == COORDINATOR,
        ): sent.index
        for sent in UNDISTURBED
    }
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
    if index >= LAST:
        assert isinstance(run.outcomes[COORDINATOR], Done), "the total is there already"
    elif UNDISTURBED[index].recipient in ROWS and isinstance(run.outcomes[COORDINATOR], Done):
        noticed = UNDISTURBED[index].recipient
        assert isinstance(run.outcomes[noticed], Failed)
        assert noticed not in sharing.released_over[CONVENER], "a holder that has noticed is left out"
    else:
        assert isinstance(run.outcomes[COORDINATOR], Failed), "nothing that was signed or bound may change"


@pytest.mark.parametrize("index", range(len(UNDISTURBED)))
def test_a_message_is_swallowed(index: int) -> None:
    sharing = network(seed=1, faults=altering(index, lambda sent: None))
    check(sharing, sharing.run())


@pytest.mark.parametrize("index", range(LAST))
@pytest.mark.parametrize("kind", ["Invitation", "Convened", "ConvenedSum"])
def test_a_message_of_another_session_arrives_instead(index: int, kind: str) -> None:
    recorded = next(sent.message for sent in UNDISTURBED if type(sent.message).__name__ == kind)
    sharing = network(seed=2, faults=altering(index, lambda sent: recorded))
    check(sharing, sharing.run())


@pytest.mark.parametrize("seed", range(30))
def test_doubled_and_late_messages_change_nothing(seed: int) -> None:
    protocol = (TWO, THREE)[seed % 2]
    sharing = network(protocol=protocol, seed=seed, faults={"duplicates": 0.5, "delays": (0.0, 25.0)})
    run = sharing.run()
    check(sharing, run)
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())
    assert sharing.released_over[CONVENER] == sharing.roster.holders


@pytest.mark.parametrize("seed", range(36))
def test_everything_goes_wrong_at_once(seed: int) -> None:
    chosen = random.Random(seed)

    def tamper(sent: Sent) -> Message | Frame | None:
        alters = chosen.random() < 0.03 and not is_uniform(sent)
        return flipped(sent, chosen) if alters else sent.message

    dies = chosen.random() < 0.4
    dying = {chosen.choice([*ROWS, COORDINATOR, CONVENER, OTHER]): chosen.randrange(6)} if dies else {}
    rate = (0.0, 0.02, 0.2)[seed % 3]
    faults = {"loss": rate, "duplicates": 0.2, "delays": (0.0, 20.0), "tamper": tamper}
    sharing = network(
        protocol=chosen.choice([TWO, THREE]),
        seed=seed,
        dies_after=dying,
        faults=faults,
        everybody=chosen.random() < 0.3,
    )
    check(sharing, sharing.run())


@pytest.mark.parametrize("seed", range(10))
def test_words_of_an_aborting_convener_have_one_size_for_3_and_9_holders(seed: int) -> None:
    def sizes(n: int) -> set[int]:
        rows = {f"site-{i}": integers(i) for i in range(n)}
        lost = dict.fromkeys([*rows][: n - 2], FullShare)
        run = network(rows, seed=seed, dies_before=lost).run()
        return {
            encode(s.message).size
            for s in run.sent
            if s.recipient == COORDINATOR and isinstance(s.message, Abort)
        }

    assert sizes(3) == sizes(9)
    assert len(sizes(3)) == 1


def test_the_network_is_as_it_is_said_to_be() -> None:
    sharing = network()
    assert sharing.roster.coordinator == CONVENER
    assert sharing.roster.asker == COORDINATOR
    assert sharing.roster.adders == (CONVENER, OTHER)
    assert not sharing.asked.holders
    assert dataclasses.replace(TWO, at_most=None) == AdditiveSharing()
