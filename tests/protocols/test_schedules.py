"""Every protocol under every fault on demand: the exact sum over whom it names or a typed error, never a hang.

Parties die after each count of messages; messages are altered, swallowed, doubled, late, of another session, or said
twice and differently. A failing run prints its seed.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from networks import COORDINATOR
from schedules import (
    FLOATS,
    IN_ORDER,
    INTEGERS,
    NAMES,
    RING,
    SUBJECTS,
    Subject,
    check,
    error_of,
    is_done,
    kind_of,
)
from tacit.protocols.channel import Channel, Role
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    RemoteError,
)
from tacit.protocols.party import PartyId
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import Sent
from tacit.serialization.codec import Frame
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Finished
from tampering import altering, flipped, mutations

pytestmark = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
MOST = 44  # messages of a run over four holders


def test_every_message_is_altered_and_swallowed_once(subject: Subject) -> None:
    assert len(subject.undisturbed) <= MOST


# Losses


def check_losses(subject: Subject, seed: int, n_holders: int, variant: int, dying: dict[str, int]) -> None:
    """Messages arrive as they are sent, so who is left follows from who died when."""
    protocol = subject.variants[variant % len(subject.variants)]
    rows = FLOATS if seed % 4 == 3 else INTEGERS
    network = subject.network(n_holders, protocol, rows, seed=seed, dies_after=dying, faults=IN_ORDER)
    run = network.run()
    check(network, run)
    expected = subject.survivors(protocol, {name: dying.get(name, 99) for name in NAMES[:n_holders]})
    if is_done(run):
        assert run.result(COORDINATOR).holders == expected
    else:
        # A ring breaks off at any loss, though the total may be under way.
        assert expected is None or subject is RING
        found = error_of(run)
        assert isinstance(found, DropoutError)
        assert set(found.missing) <= set(dying)


@pytest.mark.parametrize("n_sent", range(6))
@pytest.mark.parametrize(("n_holders", "party"), [(3, "c"), (4, "b")])
def test_a_holder_dies_after_any_number_of_messages(
    subject: Subject, n_holders: int, party: str, n_sent: int
) -> None:
    check_losses(subject, n_sent, n_holders, 0, {party: n_sent})


@pytest.mark.parametrize("seed", range(24))
def test_no_sum_exactly_when_too_few_are_left(subject: Subject, seed: int) -> None:
    chosen = random.Random(seed)
    dying = {name: chosen.randrange(6) for name in chosen.sample(NAMES[:5], chosen.randrange(1, 4))}
    check_losses(subject, seed, 5, seed, dying)


@pytest.mark.parametrize("seed", range(18))
def test_several_parties_die_amid_delays_and_duplicates(subject: Subject, seed: int) -> None:
    chosen = random.Random(seed)
    n_holders = 3 + seed % 3
    dying = {name: chosen.randrange(6) for name in chosen.sample(NAMES[:n_holders], 1 + seed % 2)}
    faults = {"duplicates": 0.3, "delays": (0.0, 5.0)}
    network = subject.network(n_holders, seed=seed, dies_after=dying, faults=faults)
    run = network.run()
    check(network, run)
    if not is_done(run):
        found = error_of(run)
        assert isinstance(found, DropoutError)
        assert set(found.missing) <= set(dying)


@pytest.mark.parametrize("n_sent", range(0, 26, 2))
def test_the_coordinator_dies_after_any_number_of_messages(subject: Subject, n_sent: int) -> None:
    protocol = subject.variants[n_sent // 2 % len(subject.variants)]
    network = subject.network(5, protocol, seed=n_sent, dies_after={COORDINATOR: n_sent})
    run = network.run()
    check(network, run)
    for holder in network.contributions:
        outcome = run.outcomes[PartyId(holder)]
        assert isinstance(outcome, Done) or isinstance(error_of(run, holder), DropoutError)


# Messages altered, one at a time


@pytest.mark.parametrize("seed", range(MOST))
def test_one_bit_of_one_frame_is_flipped(subject: Subject, seed: int) -> None:
    place = random.Random(seed)
    index = seed % len(subject.undisturbed)
    network = subject.network(seed=1, faults=IN_ORDER | altering(index, lambda sent: flipped(sent, place)))
    run = network.run()
    sent = run.sent[index]
    if not (is_done(run) and isinstance(sent.message, subject.unchecked)):
        check(network, run)
    outcome = run.outcomes[sent.recipient]
    if isinstance(outcome, Failed) and isinstance(outcome.error, InvalidMessageError):
        assert sent.sender in {*outcome.error.culprits, *outcome.error.suspects}


@pytest.mark.parametrize("number", range(48))
def test_a_message_of_another_session_arrives_instead(subject: Subject, number: int) -> None:
    kinds = {kind_of(sent): sent.message for sent in subject.undisturbed}
    index = number % len(subject.undisturbed)
    recorded = list(kinds.values())[(number // len(subject.undisturbed) + number) % len(kinds)]
    network = subject.network(seed=2, faults=IN_ORDER | altering(index, lambda _: recorded))
    run = network.run()
    check(network, run)
    sent = run.sent[index]
    if index < subject.first_finished and is_done(run) and not isinstance(recorded, Finished):
        ignored = run.refused or sent.sender not in {COORDINATOR, *run.result(COORDINATOR).holders}
        assert ignored or isinstance(run.outcomes[sent.recipient], Failed), "it was taken"


@pytest.mark.parametrize("seed", range(MOST))
def test_a_message_is_swallowed(subject: Subject, seed: int) -> None:
    index = seed % len(subject.undisturbed)
    network = subject.network(seed=seed, faults=altering(index, lambda _: None))
    run = network.run()
    check(network, run)
    if kind_of(run.sent[index]) == "Finished":
        assert isinstance(error_of(run, run.sent[index].recipient), DropoutError)
    elif not is_done(run):
        assert isinstance(error_of(run), DropoutError)
        among_others = {run.sent[index].sender, run.sent[index].recipient}.isdisjoint(network.contributions)
        assert among_others or network.protocol.needed(4) == 4, "one of four may be missing anywhere"


# Messages doubled, late, lost, or said twice and differently


@pytest.mark.parametrize("seed", range(12))
def test_doubled_and_late_messages_change_nothing(subject: Subject, seed: int) -> None:
    protocol = subject.variants[seed % len(subject.variants)]
    faults = {"duplicates": 0.5, "delays": (0.0, 25.0)}
    network = subject.network(5, protocol, seed=seed, faults=faults)
    run = network.run()
    check(network, run)
    assert all(isinstance(outcome, Done) for outcome in run.outcomes.values())
    assert run.result(COORDINATOR).holders == network.roster.holders


@pytest.mark.parametrize("seed", range(16))
def test_messages_so_late_that_deadlines_pass(subject: Subject, seed: int) -> None:
    network = subject.network(3 + seed % 2, seed=seed, faults={"delays": (0.0, 60.0 + 6 * seed)})
    check(network, network.run())


@pytest.mark.parametrize("seed", range(21))
def test_messages_are_lost_and_doubled_at_random(subject: Subject, seed: int) -> None:
    rate = (0.02, 0.1, 0.3)[seed % 3]
    faults = {"loss": rate, "duplicates": rate, "delays": (0.0, 5.0)}
    network = subject.network(3 + seed % 2, seed=seed, faults=faults)
    check(network, network.run())


@pytest.mark.parametrize("seed", range(32))
def test_everything_goes_wrong_at_once(subject: Subject, seed: int) -> None:
    chosen = random.Random(seed)

    def tamper(sent: Sent) -> Message | Frame | None:
        alters = chosen.random() < 0.03 and not isinstance(sent.message, subject.unchecked)
        return flipped(sent, chosen) if alters else sent.message

    n_holders = chosen.choice([3, 4, 5])
    protocol = subject.variants[seed % len(subject.variants) if n_holders == 5 else 0]
    aggregators = [f"aggregator-{number}" for number in range(1, protocol.aggregators + 1)]
    dying = {chosen.choice([*"abck", *aggregators]): chosen.randrange(6)} if chosen.random() < 0.4 else {}
    faults = {"loss": 0.02, "duplicates": 0.2, "delays": (0.0, 20.0), "tamper": tamper}
    rows = FLOATS if seed % 4 == 3 else INTEGERS
    network = subject.network(n_holders, protocol, rows, seed=seed, dies_after=dying, faults=faults)
    check(network, network.run())


def saying_twice(role: Role[Any], kind: type[Message]) -> Role[Any]:
    """A role that follows each message of a kind by another one of it."""

    async def twice(channel: Channel) -> Any:
        send = channel.send

        def send_both(to: PartyId, message: Message) -> None:
            send(to, message)
            if isinstance(message, kind):
                send(to, next(changed for changed in mutations(message) if changed != message))

        channel.send = send_both  # type: ignore[method-assign]
        return await role(channel)

    return twice


@pytest.mark.parametrize("seed", range(12))
def test_a_party_that_says_two_things_in_one_slot_is_found_out(subject: Subject, seed: int) -> None:
    network = subject.network(seed=seed)
    own = {kind_of(sent): sent for sent in subject.undisturbed if sent.sender in ("b", "aggregator-2")}
    sent = list(own.values())[seed % len(own)]
    network.around = {sent.sender: partial(saying_twice, kind=type(sent.message))}
    run = network.run()
    check(network, run)
    outcome = run.outcomes[COORDINATOR]
    if isinstance(outcome, Failed) and isinstance(outcome.error, EquivocationError):
        assert outcome.error.culprits == (sent.sender,)
    elif isinstance(outcome, Failed) and isinstance(outcome.error, RemoteError):
        assert sent.sender in {*outcome.error.culprits, *outcome.error.suspects}
    assert isinstance(outcome, Done) or isinstance(error_of(run), RemoteError | AbortedError | DropoutError)
