"""Pairwise masking under every fault on demand: the sum over exactly the announced holders, or a typed error.

Each party dying after each count of messages, several at once, and each message altered, swallowed, doubled, late or
said twice and differently: never a wrong sum, never a hang. A failing run prints its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from networks import COORDINATOR, Contribution, Network, floats, integers
from tacit.protocols.channel import Channel
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    ProtocolError,
    RemoteError,
    SetupError,
)
from tacit.protocols.invitation import is_signed
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.protocol import Aggregate, holder_role
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import SESSION_SECONDS, Run, Sent
from tacit.serialization.codec import Frame
from tacit.serialization.errors import TacitError
from tacit.serialization.pairwise_masking_messages import (
    DealtShares,
    MaskedInput,
    SurvivorCodes,
    UnmaskingShares,
)
from tacit.serialization.schema import Message
from tampering import altering, flipped, mutations

ACTIVE = PairwiseMasking(epoch=2)
CURIOUS = PairwiseMasking(epoch=2, active=False)
DIRECT = PairwiseMasking(mode="direct")
SPARSE = PairwiseMasking(epoch=2, threshold=7, neighbours=4)  # of eight holders
PROTOCOLS = {"active": ACTIVE, "curious": CURIOUS, "direct": DIRECT, "sparse": SPARSE}
CONTRIBUTIONS: dict[str, Contribution] = {name: integers(10**i, -(7**i)) for i, name in enumerate("abcdefgh")}
LAST = {"active": 5, "curious": 4, "direct": 2}  # messages that a holder sends in the first sum of an epoch


def first(n_holders: int) -> dict[str, Contribution]:
    return {name: CONTRIBUTIONS[name] for name in "abcdefgh"[:n_holders]}


def check(network: Network, run: Run) -> None:
    """What must hold of every run whatsoever."""
    assert run.seconds <= 2 * SESSION_SECONDS
    for party, outcome in run.outcomes.items():
        if outcome is None:
            assert party in {*network.dies_after, *network.dies_before}
        elif isinstance(outcome, Failed):
            check_error(network, party, outcome)
        elif party == COORDINATOR:
            check_sum(network, outcome.result)


def check_sum(network: Network, found: Any) -> None:
    """Exactly the sum over exactly those who are named, and as many as needed."""
    assert isinstance(found, Aggregate)
    assert len(found.holders) >= network.protocol.needed(len(network.contributions))
    own = [network.contributions[holder]["x"] for holder in found.holders]
    assert np.array_equal(found.arrays["x"], np.sum(own, axis=0)), "a wrong sum"


def check_error(network: Network, party: PartyId, outcome: Failed) -> None:
    """Every end has a class of tacit's own, and names whom it can."""
    error = outcome.error
    assert isinstance(error, ProtocolError), (party, repr(error))
    match error:
        case RemoteError():
            assert error.culprits or error.suspects
            assert {*error.culprits, *error.suspects} <= set(network.roster)
        case DropoutError():
            assert error.missing
            for word in error.closed:
                assert is_signed(word, network.roster, PartyId(word.holder))
                assert word.forwarded == (word.holder in network.released), "an untrue word"
        case AbortedError():
            assert error.party in set(network.roster)


def check_losses(network: Network, run: Run) -> None:
    """Where parties die and nothing else happens: no sum exactly when fewer than the threshold answer.

    Whether the last word of one who dies counts depends on what is noticed first.
    """
    check(network, run)
    answered = {sent.sender for sent in run.sent if isinstance(sent.message, closing_kind(network))}
    alive = {holder for holder in answered if run.outcomes[holder] is not None}
    needed = network.protocol.needed(len(network.contributions))
    if isinstance(run.outcomes[COORDINATOR], Done):
        assert len(answered) >= needed
    else:
        assert len(alive) < needed
        assert isinstance(error_of(run), DropoutError | AbortedError)


def closing_kind(network: Network) -> type[Message]:
    """What a holder sends last."""
    return MaskedInput if network.protocol == DIRECT else UnmaskingShares


def error_of(run: Run, party: str = COORDINATOR) -> TacitError:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, TacitError)
    return outcome.error


# Losses


@pytest.mark.parametrize("n_sent", range(6))
@pytest.mark.parametrize("party", "b")
@pytest.mark.parametrize("n_holders", [3, 4, 5])
@pytest.mark.parametrize("name", ["active", "curious", "direct"])
def test_a_holder_dies_after_any_number_of_messages(
    name: str, n_holders: int, party: str, n_sent: int
) -> None:
    network = Network(PROTOCOLS[name], first(n_holders), seed=n_sent, dies_after={party: n_sent})
    run = network.run()
    spare = n_holders - PROTOCOLS[name].needed(n_holders)
    check_losses(network, run)
    if spare or n_sent > LAST[name]:
        assert isinstance(run.outcomes[COORDINATOR], Done)
    elif n_sent < LAST[name]:
        found = error_of(run)
        assert isinstance(found, DropoutError)
        assert found.missing == (party,)


@pytest.mark.parametrize("n_sent", range(22))
@pytest.mark.parametrize("name", ["active", "curious", "direct"])
def test_the_coordinator_dies_after_any_number_of_messages(name: str, n_sent: int) -> None:
    network = Network(PROTOCOLS[name], first(4), seed=n_sent, dies_after={"k": n_sent})
    run = network.run()
    check(network, run)
    for holder in "abcd":
        outcome = run.outcomes[PartyId(holder)]
        assert isinstance(outcome, Done) or isinstance(error_of(run, holder), DropoutError)


@pytest.mark.parametrize("seed", range(70))
def test_several_holders_die_at_any_step(seed: int) -> None:
    chosen = random.Random(seed)
    n_holders = chosen.choice([3, 4, 5, 8])
    name = chosen.choice(["active", "curious"])
    dying = {
        party: chosen.randrange(LAST[name] + 1)
        for party in chosen.sample("abcdefgh"[:n_holders], chosen.randint(1, (n_holders + 1) // 2))
    }
    network = Network(PROTOCOLS[name], first(n_holders), seed=seed, dies_after=dying)
    check_losses(network, network.run())


@pytest.mark.parametrize("seed", range(16))
def test_holders_die_over_the_sums_of_epochs(seed: int) -> None:
    chosen = random.Random(seed)
    memories: dict[str, Any] = {}
    contributions = first(5)
    protocol = chosen.choice([ACTIVE, CURIOUS])
    for number in range(4):
        dying = {chosen.choice("abcde"): chosen.randrange(4) for _ in range(chosen.randint(0, 1))}
        network = Network(
            protocol, contributions, seed=100 * seed + number, memories=memories, dies_after=dying
        )
        run = network.run()
        check_losses(network, run)
        assert isinstance(run.outcomes[COORDINATOR], Done), (
            "one of five may be lost, and the next sum goes on"
        )


@pytest.mark.parametrize("seed", range(24))
def test_holders_die_in_a_sparse_graph(seed: int) -> None:
    chosen = random.Random(seed)
    kinds = [DealtShares, MaskedInput, SurvivorCodes, UnmaskingShares]
    dying = dict.fromkeys(chosen.sample("abcdefgh", 1 + seed // 16), kinds[seed % 4])
    network = Network(SPARSE, first(8), seed=seed, dies_before=dying)
    run = network.run()
    check_losses(network, run)
    assert isinstance(run.outcomes[COORDINATOR], Done) == (len(dying) == 1)


# Messages altered, one at a time


def undisturbed(name: str) -> tuple[Sent, ...]:
    n_holders = 8 if name == "sparse" else 4
    return Network(PROTOCOLS[name], first(n_holders), seed=1).run().sent


UNDISTURBED = {name: undisturbed(name) for name in PROTOCOLS}


def one_of_each_kind(name: str) -> dict[str, int]:
    """Index of the last message of each kind; which may end the session, but shifts no sum."""
    return {type(sent.message).__name__: sent.index for sent in UNDISTURBED[name]}


def field_changes(name: str) -> list[tuple[str, int, int]]:
    """Every way to change a field of a message: index of the message, number of the change."""
    sent = UNDISTURBED[name]
    return [
        (name, index, number)
        for kind, index in one_of_each_kind(name).items()
        if name == "active" or kind.startswith("Graph") or (kind == "MaskedInput" and name == "direct")
        for number, _ in enumerate(mutations(sent[index].message))
    ]


@pytest.mark.parametrize(
    ("name", "index", "number"),
    [change for name in ("active", "direct", "sparse") for change in field_changes(name)],
)
def test_one_field_of_one_message_is_altered(name: str, index: int, number: int) -> None:
    def change(sent: Sent) -> Message:
        altered = list(mutations(sent.message))[number]
        assert isinstance(altered, Message)
        return altered

    n_holders = 8 if name == "sparse" else 4
    network = Network(PROTOCOLS[name], first(n_holders), seed=1, faults=altering(index, change))
    run = network.run()
    check(network, run)
    sent = UNDISTURBED[name][index]
    found = run.outcomes[sent.recipient]
    if isinstance(found, Failed):
        assert isinstance(found.error, InvalidMessageError | AbortedError | SetupError), (
            "found where it arrived"
        )
    else:
        # Not needed, or for another party to find.
        kinds = {"DealtShares", "SurvivorCodes", "ForwardedCodes", "UnmaskingShares", "Finished"}
        assert type(sent.message).__name__ in kinds


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [kind for kind in one_of_each_kind("active") if kind != "MaskedInput"])
def test_one_bit_of_one_frame_is_flipped(kind: str, seed: int) -> None:
    chosen = random.Random(f"{seed} {kind}")
    index = chosen.choice([s.index for s in UNDISTURBED["active"] if type(s.message).__name__ == kind])
    faults = altering(index, lambda sent: flipped(sent, chosen))
    network = Network(ACTIVE, first(4), seed=1, faults=faults)
    check(network, network.run())


@pytest.mark.parametrize("kind", one_of_each_kind("active"))
@pytest.mark.parametrize("sender", "kb")
def test_a_message_of_another_session_arrives_instead(kind: str, sender: str) -> None:
    other = {(sent.sender, type(sent.message).__name__): sent.message for sent in UNDISTURBED["active"]}

    def replay(sent: Sent) -> Message:
        name = type(sent.message).__name__
        return other[sent.sender, name] if name == kind and sent.sender == sender else sent.message

    network = Network(ACTIVE, first(4), seed=2, faults={"tamper": replay})
    run = network.run()
    check(network, run)
    replayed = any(sent.sender == sender and type(sent.message).__name__ == kind for sent in run.sent)
    if replayed and kind != "Finished":
        assert any(isinstance(outcome, Failed) for outcome in run.outcomes.values()), "nobody noticed"


@pytest.mark.parametrize("kind", one_of_each_kind("active"))
@pytest.mark.parametrize("n_holders", [3, 5])
def test_a_message_is_swallowed(kind: str, n_holders: int) -> None:
    def swallow(sent: Sent) -> Message | None:
        gone = type(sent.message).__name__ == kind and "b" in (sent.sender, sent.recipient)
        return None if gone else sent.message

    network = Network(ACTIVE, first(n_holders), faults={"tamper": swallow})
    run = network.run()
    check(network, run)
    if n_holders == 5 or kind == "Finished":
        assert isinstance(run.outcomes[COORDINATOR], Done), "four of five are enough"
    else:
        assert isinstance(error_of(run), DropoutError)


# Messages doubled, late, or said twice and differently


@pytest.mark.parametrize("seed", range(20))
def test_doubled_and_late_messages_change_nothing(seed: int) -> None:
    name = ["active", "curious", "direct"][seed % 3]
    faults = {"duplicates": 0.5, "delays": (0.0, 30.0)}
    network = Network(PROTOCOLS[name], first(4), seed=seed, faults=faults)
    run = network.run()
    check(network, run)
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())


@pytest.mark.parametrize("seed", range(25))
def test_messages_so_late_that_deadlines_pass(seed: int) -> None:
    network = Network(ACTIVE, first(5), seed=seed, faults={"delays": (0.0, 90.0)})
    check(network, network.run())


@pytest.mark.parametrize("seed", range(45))
def test_messages_are_lost_and_doubled_at_random(seed: int) -> None:
    rate = (0.01, 0.05, 0.2)[seed % 3]
    faults = {"loss": rate, "duplicates": rate, "delays": (0.0, 5.0)}
    network = Network([ACTIVE, CURIOUS][seed % 2], first(5), seed=seed, faults=faults)
    check(network, network.run())


@pytest.mark.parametrize("seed", range(45))
def test_everything_goes_wrong_at_once(seed: int) -> None:
    chosen = random.Random(seed)

    def tamper(sent: Sent) -> Message | Frame | None:
        harmless = isinstance(sent.message, MaskedInput) or chosen.random() > 0.02
        return sent.message if harmless else flipped(sent, chosen)

    dying = {chosen.choice("abck"): chosen.randrange(6)} if chosen.random() < 0.3 else {}
    faults = {"loss": 0.01, "duplicates": 0.2, "delays": (0.0, 20.0), "tamper": tamper}
    protocol = chosen.choice([ACTIVE, CURIOUS, DIRECT])
    network = Network(protocol, first(5), seed=seed, dies_after=dying, faults=faults)
    check(network, network.run())


def saying_twice(role: Callable[[Channel], Any], kind: type[Message]) -> Callable[[Channel], Any]:
    """A role that follows each message of a kind by another one of it."""

    async def twice(channel: Channel) -> Any:
        send = channel.send

        def send_both(to: PartyId, message: Message) -> None:
            send(to, message)
            if isinstance(message, kind):
                other = next(changed for changed in mutations(message) if changed != message)
                send(to, other)

        channel.send = send_both  # type: ignore[method-assign]
        return await role(channel)

    return twice


@pytest.mark.parametrize("kind", [DealtShares, MaskedInput, SurvivorCodes, UnmaskingShares])
@pytest.mark.parametrize("seed", range(4))
def test_a_holder_that_says_two_things_in_one_slot_is_found_out(kind: type[Message], seed: int) -> None:
    network = Network(ACTIVE, first(4), seed=seed)
    honest = holder_role(network.protocol, network.keys["b"], network.examine("b"), network.memories["b"])
    network.roles = {"b": saying_twice(honest, kind)}
    run = network.run()
    check(network, run)
    outcome = run.outcomes[COORDINATOR]
    if isinstance(outcome, Failed) and isinstance(outcome.error, RemoteError):
        assert {*outcome.error.culprits, *outcome.error.suspects} & {"b"}
    if isinstance(outcome, Failed) and isinstance(outcome.error, EquivocationError):
        assert outcome.error.culprits == ("b",)


# The same under exact floats, words of 32 bits, and an encoding that clips


@pytest.mark.parametrize("seed", range(20))
def test_exact_floats_under_faults(seed: int) -> None:
    chosen = random.Random(seed)
    rows: Mapping[str, Contribution] = {
        "a": floats(0.5, 1e300),
        "b": floats(0.25, 1e-300),
        "c": floats(4.0, -1e300),
        "d": floats(1.0, 0.0),
        "e": floats(-2.0, 2e-300),
    }
    kinds = [DealtShares, MaskedInput, SurvivorCodes, UnmaskingShares]
    lost = chosen.choice("abcde")
    network = Network(
        ACTIVE, rows, seed=seed, dies_before={lost: chosen.choice(kinds)}, faults={"duplicates": 0.2}
    )
    run = network.run()
    outcome = run.outcomes[COORDINATOR]
    assert isinstance(outcome, Done)
    chosen_rows = [rows[holder]["x"] for holder in outcome.result.holders]
    wanted = [sum(row[0] for row in chosen_rows), exact_second(outcome.result.holders)]
    assert outcome.result.arrays["x"].tolist() == wanted


def exact_second(holders: tuple[PartyId, ...]) -> float:
    """The sum of the second column above, whose large values may cancel."""
    large = ("a" in holders) - ("c" in holders)
    small = (1e-300 if "b" in holders else 0.0) + (2e-300 if "e" in holders else 0.0)
    return large * 1e300 if large else small
