"""Simulated networks: repeatable, with losses, delays, deaths and cheats on demand."""

from __future__ import annotations

import numpy as np
import pytest
from tacit.protocols.channel import Channel
from tacit.protocols.errors import (
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    UnexpectedMessageError,
)
from tacit.protocols.party import PartyId
from tacit.protocols.session import Failed
from tacit.protocols.simulation import Sent, Simulation
from tacit.serialization.codec import Frame, encode
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Query, Refusal

A, B, C = PartyId("a"), PartyId("b"), PartyId("c")


def word(text: str) -> Refusal:
    return Refusal(session=bytes(32), reason=text, details="")


async def speaker(channel: Channel) -> str:
    """Says a word to both others, and hears theirs."""
    others = [name for name in (A, B, C) if name != channel.me]
    channel.broadcast(others, word(channel.me + channel.random_bytes(4).hex()))
    heard = await channel.gather(Refusal, senders=others, within=100.0)
    return " ".join(message.reason for message in heard.values())


def network(seed: int = 0, **faults: object) -> Simulation:
    simulation = Simulation(seed, **faults)  # type: ignore[arg-type]
    for name in (A, B, C):
        simulation.add(name, speaker)
    return simulation


def test_a_run_follows_from_its_seed() -> None:
    first, again, other = network(7).run(), network(7).run(), network(8).run()
    assert first.transcript == again.transcript
    assert first.outcomes == again.outcomes
    assert first.seconds == again.seconds
    assert first.result("a") != other.result("a")


def test_the_order_of_arrival_follows_from_the_seed() -> None:
    async def echo(channel: Channel) -> None:
        await channel.gather(Refusal, senders=(A, B), at_least=2)

    async def ask(channel: Channel) -> None:
        channel.send(C, word("x"))

    def transcript(seed: int) -> float:
        simulation = Simulation(seed)
        simulation.add("a", ask)
        simulation.add("b", ask)
        simulation.add("c", echo)
        return simulation.run().seconds

    assert len({transcript(seed) for seed in range(5)}) == 5


def test_parties_draw_different_randomness() -> None:
    run = network().run()
    assert len({str(sent.message) for sent in run.sent}) == 1, "what is shown holds no content"
    reasons = {sent.message.reason for sent in run.sent if isinstance(sent.message, Refusal)}
    assert len(reasons) == 3


def test_bytes_are_those_of_the_frames() -> None:
    run = network().run()
    for sent in run.sent:
        assert run.bytes_per_link[sent.sender, sent.recipient] == encode(sent.message).size


def test_everything_lost_ends_at_the_deadline() -> None:
    run = network(loss=1.0).run()
    for name in (A, B, C):
        outcome = run.outcomes[name]
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, DropoutError)
    assert 100.0 <= run.seconds < 200.0


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_change_nothing(seed: int) -> None:
    assert network(seed, duplicates=1.0).run().outcomes.keys() == {A, B, C}
    for name in (A, B, C):
        assert network(seed, duplicates=1.0).run().result(name)


def test_a_party_dies_after_so_many_messages_and_the_others_notice() -> None:
    simulation = Simulation(1, delays=(0.001, 0.001))
    simulation.add("a", speaker, dies_after=1)
    simulation.add("b", speaker)
    simulation.add("c", speaker)
    run = simulation.run()
    assert run.transcript.count("a -> b: Refusal") == 1
    assert run.transcript.count("a -> c: Refusal") == 0
    assert run.result("b")
    with pytest.raises(DropoutError) as caught:
        run.result("c")
    assert caught.value.missing == ("a",)
    with pytest.raises(MisuseError, match="died"):
        run.result("a")


def test_a_party_that_dies_before_the_start_sends_nothing() -> None:
    simulation = Simulation(1)
    simulation.add("a", speaker, dies_after=0)
    simulation.add("b", speaker)
    simulation.add("c", speaker)
    run = simulation.run()
    assert not [line for line in run.transcript if line.startswith("a ")]
    assert run.outcomes[A] is None


def test_a_tampered_message_arrives_as_altered_and_is_recorded_as_sent() -> None:
    def tamper(sent: Sent) -> Message:
        return word("forged") if sent.sender == A else sent.message

    run = network(tamper=tamper).run()
    assert run.result("b").split()[0] == "forged"
    assert all(sent.message != word("forged") for sent in run.sent)


def test_a_tampered_frame_that_is_no_message_ends_the_recipients_session() -> None:
    def tamper(sent: Sent) -> Message | Frame:
        return Frame(b"\xff", ()) if (sent.sender, sent.recipient) == (A, B) else sent.message

    run = network(tamper=tamper).run()
    with pytest.raises(InvalidMessageError) as caught:
        run.result("b")
    assert caught.value.suspects == ("a",)


def test_a_message_that_tampering_swallows_is_missed() -> None:
    run = network(tamper=lambda sent: None if sent.index == 0 else sent.message).run()
    assert sum(isinstance(outcome, Failed) for outcome in run.outcomes.values()) >= 1


def test_a_message_to_a_party_that_does_not_take_its_kind_is_refused() -> None:
    async def ask(channel: Channel) -> None:
        channel.send(B, Query(step="sum", arrays={"x": np.zeros(2)}))

    async def hear(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A)

    simulation = Simulation(1)
    simulation.add("a", ask)
    simulation.add("b", hear, accepts={A: {Refusal}})
    with pytest.raises(UnexpectedMessageError) as caught:
        simulation.run().result("b")
    assert caught.value.culprits == ("a",)


def test_a_message_from_outside_a_partys_session_is_counted_and_harms_nothing() -> None:
    async def ask(channel: Channel) -> None:
        channel.send(B, word(channel.me))

    async def hear(channel: Channel) -> str:
        return (await channel.receive(Refusal, sender=C)).reason

    simulation = Simulation(1)
    simulation.add("a", ask)
    simulation.add("b", hear, accepts={C: {Refusal}}, tell=(C,))
    simulation.add("c", ask)
    run = simulation.run()
    assert run.result("b") == "c"
    assert run.refused <= 1


def test_equivocation_is_found() -> None:
    async def two_faced(channel: Channel) -> None:
        channel.send(B, word("one"))
        channel.send(B, word("two"))

    async def hear(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A)
        await channel.receive(Query, sender=A, within=10.0)

    simulation = Simulation(1)
    simulation.add("a", two_faced)
    simulation.add("b", hear)
    with pytest.raises(EquivocationError) as caught:
        simulation.run().result("b")
    assert caught.value.culprits == ("a",)


def test_work_runs_inline_and_its_exception_is_the_roles() -> None:
    async def role(channel: Channel) -> int:
        try:
            await channel.compute(int, "no number")
        except ValueError:
            return await channel.compute(int, "7")
        return 0

    simulation = Simulation()
    simulation.add("a", role)
    assert simulation.run().result("a") == 7


def test_a_simulation_runs_once() -> None:
    async def silent(channel: Channel) -> None:
        return None

    simulation = Simulation()
    simulation.add("a", silent)
    simulation.run()
    with pytest.raises(MisuseError, match="once"):
        simulation.run()


def test_a_party_has_one_seat() -> None:
    simulation = network()
    with pytest.raises(MisuseError, match="already"):
        simulation.add("a", speaker)


def test_virtual_time_does_not_pass_by_itself() -> None:
    async def patient(channel: Channel) -> None:
        await channel.gather(Refusal, senders=(B,), at_least=0, within=1e6)

    simulation = Simulation()
    simulation.add("a", patient, lasts=1e7)
    simulation.add("b", patient, lasts=1e7)
    run = simulation.run()
    assert run.seconds == 1e6
