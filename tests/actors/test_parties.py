"""Coordinator and holders as they run in actors, in one loop and without Ray: asking, refusing, breaking off."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from in_process import COORDINATOR, SMALL, FirstSums, Network, Posted, Repository
from ray.exceptions import ActorDiedError
from tacit.actors.computation import Terms
from tacit.actors.data_holder import DataHolder
from tacit.actors.errors import ActorError, PeerUnreachableError
from tacit.actors.events import Failure, Pass
from tacit.actors.links import Links
from tacit.models.definition import Definition
from tacit.models.sum import Sum
from tacit.models.total import EvaluationError, Total
from tacit.protocols.errors import (
    AbortedError,
    ProtocolError,
    RefusedError,
    SetupError,
    VoidedError,
)
from tacit.protocols.invitation import (
    ALREADY_RELEASED,
    CONTRIBUTION_FAILED,
    NOT_ALLOWED,
    NOT_IN_RANGE,
    UNSUITABLE,
    invite,
)
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.session import Session
from tacit.serialization.codec import Frame, encode
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Invitation, Query, Refusal

A, B, C = map(PartyId, "abc")
ROWS = {"a": np.array([1.5, 2.5]), "b": np.array([3.5]), "c": np.array([4.5, 5.5, 6.5])}
CANARY = 20_260_917.4321
SECRET = "private row 17"
VOID = "void: some holder could not contribute"
BOTH = pytest.mark.parametrize("simulation", [True, False], ids=["simulation", "deployment"])


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Every message that any party takes in, as it is after its link has opened it."""
    messages: list[Message] = []
    receive = Session.receive

    def noting(self: Session[Any], sender: PartyId, message: Message, now: float) -> Any:
        messages.append(message)
        return receive(self, sender, message, now)

    monkeypatch.setattr(Session, "receive", noting)
    return messages


def contents(messages: list[Message]) -> bytes:
    frames = [encode(message) for message in messages]
    return b"".join(frame.header + b"".join(map(bytes, frame.buffers)) for frame in frames)


def mean(rows: np.ndarray[Any, Any]) -> float:
    return float(rows.mean())


def fails_at_b(rows: np.ndarray[Any, Any]) -> float:
    if len(rows) == 1:
        raise ValueError(SECRET)
    return mean(rows)


def nan_at_b(rows: np.ndarray[Any, Any]) -> float:
    return math.nan if len(rows) == 1 else mean(rows)


# A sum, and what it leaves behind


@BOTH
def test_sum_is_right_and_on_record(loop: asyncio.Runner, simulation: bool) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation) as network:
            assert await network.sum(mean) == 2.0 + 3.5 + 5.5
            [record] = network.repository.records
            assert record["released"] == {"sum": 11.0}
            assert record["holders"] == ["a", "b", "c"]
            assert record["released_to"] == COORDINATOR
            assert record["protocol"] == "ring-Paillier"

    loop.run(scene())


def test_transcript_of_a_sum(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            await network.sum(mean)
            await network.settle()
            links = [(posted.sender, posted.to) for posted in network.posted]
            to_coordinator = [sender for sender, to in links if to == COORDINATOR]
            between = [link for link in links if COORDINATOR not in link]
            # Invitation, Begin, Finished to each and the first partial sum; Ready of each and the last one.
            assert (len(links), len(to_coordinator), len(between)) == (3 * 3 + 1 + 4 + 2, 4, 2)

    loop.run(scene())


@BOTH
def test_nothing_of_the_rows_is_in_any_frame(
    loop: asyncio.Runner, received: list[Message], simulation: bool
) -> None:
    async def scene() -> bytes:
        data = {name: np.array([CANARY + place]) for place, name in enumerate("abc")}
        async with Network(data, simulation) as network:
            await network.sum(mean)
            await network.settle()
            return b"".join(posted.content for posted in network.posted)

    frames = loop.run(scene())
    for place in range(3):
        value = CANARY + place
        for form in (struct.pack("<d", value), struct.pack(">d", value), str(value).encode()):
            assert form not in frames
            assert form not in contents(received)


def test_sums_run_side_by_side(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            sums = [network.sum(lambda rows, at: float(rows.sum()) + at, at, name=str(at)) for at in range(5)]
            assert await asyncio.gather(*sums) == [24.0 + 3 * at for at in range(5)]

    loop.run(scene())


def test_records_keep_the_order_of_the_sums(loop: asyncio.Runner) -> None:
    class Hesitant(Repository):
        async def remote(self, record: dict[str, Any]) -> int:
            await asyncio.sleep(0.01 * (2 - record["number"]))  # the first takes longest
            return await super().remote(record)

    async def scene() -> None:
        async with Network(ROWS) as network:
            network.coordinator.repository = repository = Hesitant()
            for number in range(3):
                network.coordinator.record({"number": number})
            await network.coordinator.leave()
            assert [record["number"] for record in repository.records] == [0, 1, 2]

    loop.run(scene())


def test_death_of_the_repository_is_told(loop: asyncio.Runner) -> None:
    class Dead(Repository):
        async def remote(self, record: dict[str, Any]) -> int:
            raise ActorDiedError

    async def scene() -> None:
        async with Network(ROWS) as network:
            network.coordinator.repository = Dead()
            with pytest.raises(PeerUnreachableError, match="the repository"):
                await network.sum(mean)

    loop.run(scene())


# What a holder does not do


def test_exception_of_the_user_is_shown_in_a_simulation(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            with pytest.raises(RefusedError) as caught:
                await network.sum(fails_at_b)
            [(holder, (reason, details))] = caught.value.refusals.items()
            assert (holder, reason) == ("b", CONTRIBUTION_FAILED)
            assert details.startswith("Traceback")
            assert "in fails_at_b" in details
            assert details.endswith(f"ValueError: {SECRET}")
            assert "total.py" not in details  # the package's own frames help nobody

    loop.run(scene())


def test_exception_does_not_cross_in_a_deployment(
    loop: asyncio.Runner, received: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation=False) as network:
            with pytest.raises(RefusedError) as caught:
                await network.sum(fails_at_b)
            assert caught.value.refusals == {"b": (CONTRIBUTION_FAILED, "")}
            await network.settle()
            told = b"".join(posted.content for posted in network.posted) + contents(received)
            assert SECRET.encode() not in told
            assert b"ValueError" not in told

    loop.run(scene())
    assert SECRET in caplog.text  # the holder keeps the details


def exit_at_b(rows: np.ndarray[Any, Any]) -> float:
    if len(rows) == 1:
        raise SystemExit(SECRET)
    return mean(rows)


@BOTH
def test_model_that_exits_does_not_end_the_holder(loop: asyncio.Runner, simulation: bool) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation) as network:
            with pytest.raises(RefusedError) as caught:
                await network.sum(exit_at_b)
            assert caught.value.refusals["b"][0] == CONTRIBUTION_FAILED
            assert (SECRET in str(caught.value)) is simulation
            assert await network.sum(mean) == 11.0

    loop.run(scene())


def test_text_that_cannot_be_sent_is_sent_escaped(loop: asyncio.Runner) -> None:
    def fails(rows: np.ndarray[Any, Any]) -> float:
        raise ValueError("a lone surrogate \udcff")

    async def scene() -> None:
        async with Network(ROWS) as network:
            with pytest.raises(RefusedError, match=r"a lone surrogate \\udcff"):
                await network.sum(fails)

    loop.run(scene())


def test_nan_is_told_with_holder_and_index_in_a_simulation(loop: asyncio.Runner) -> None:
    def spoilt(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([CANARY, math.inf if len(rows) == 1 else CANARY])

    async def scene() -> None:
        async with Network(ROWS) as network:
            with pytest.raises(RefusedError) as caught:
                await network.sum(spoilt)
            [(holder, (reason, details))] = caught.value.refusals.items()
            assert (holder, reason) == ("b", NOT_IN_RANGE)
            assert "index (1,)" in details
            assert "inf" not in details.replace("infin", "")
            assert str(CANARY) not in details

    loop.run(scene())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_voids_a_deployment_and_names_nobody(
    loop: asyncio.Runner, received: list[Message], value: float
) -> None:
    def spoilt(rows: np.ndarray[Any, Any]) -> float:
        return value if len(rows) == 1 else mean(rows)

    async def scene() -> None:
        async with Network(ROWS, simulation=False) as network:
            with pytest.raises(VoidedError) as caught:
                await network.sum(spoilt)
            assert str(caught.value) == str(VoidedError())  # nothing that depends on who it was
            await network.settle()
            assert not [message for message in received if isinstance(message, Refusal)]
            [record] = network.repository.records
            assert (record["released"], record["remark"]) == ({}, VOID)

    loop.run(scene())


def test_voided_session_looks_like_any_other(loop: asyncio.Runner) -> None:
    async def sizes(function: Callable[..., Any]) -> list[tuple[str, str, int]]:
        async with Network(ROWS, simulation=False) as network:
            try:
                await network.sum(function)
            except VoidedError:
                pass
            else:
                await network.settle()
            asked = [index for index, posted in enumerate(network.posted) if posted.sender == COORDINATOR]
            until_told = network.posted[: asked[-len(ROWS)]]  # by the coordinator, how it ended, to all alike
            return sorted(
                (str(posted.sender == COORDINATOR), str(posted.to == COORDINATOR), len(posted.content) // 256)
                for posted in until_told
            )

    assert loop.run(sizes(nan_at_b)) == loop.run(sizes(mean))


class Trial:
    """Asks once whether everybody can evaluate."""

    definition = Definition("Trial", {})

    def contribution(self, data: Any, query: Query, /) -> dict[str, np.ndarray[Any, Any]]:
        return {"value": np.asarray(nan_at_b(data))}

    async def iterate(self, total: Total, start: Any = None) -> AsyncIterator[str]:
        try:
            await total(Query("trial", may_fail=True))
        except EvaluationError as error:
            yield str(error)


@BOTH
def test_trial_that_somebody_cannot_evaluate_is_told_to_the_model(
    loop: asyncio.Runner, received: list[Message], simulation: bool
) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation) as network:
            result = await network.run(Trial())
            assert "unnamed" in result.value
            assert result.n_passes == 1
            [told] = [event for event in network.events if isinstance(event, Pass)]
            assert told.released == ()
            [record] = network.repository.records
            assert (record["released"], record["remark"]) == ({}, VOID)
            assert not [message for message in received if isinstance(message, Refusal)]

    loop.run(scene())


@pytest.mark.parametrize(("simulation", "shown"), [(True, True), (False, False)])
def test_details_of_an_unsuitable_array_stay_in_a_deployment(
    loop: asyncio.Runner, simulation: bool, shown: bool
) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation) as network:
            with pytest.raises(RefusedError) as caught:
                await network.sum(lambda _: np.zeros(5000))
            for reason, details in caught.value.refusals.values():
                assert reason == UNSUITABLE
                assert ("5,000" in details) is shown

    loop.run(scene())


def test_arrays_that_differ_are_told_without_values(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            with pytest.raises(SetupError, match=r"a has 'sum' float64\[2\], b has 'sum' float64\[1\]"):
                await network.sum(lambda rows: rows)

    loop.run(scene())


def test_model_from_outside_is_refused_in_a_deployment(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation=False) as network:
            with pytest.raises(ProtocolError, match="takes no model from outside"):
                await network.holders[A].install(bytes(32), Sum(len))

    loop.run(scene())


@BOTH
def test_model_that_is_not_installed_is_refused(
    loop: asyncio.Runner, simulation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation) as network:
            monkeypatch.setattr(network, "install", lambda _: bytes(32))
            with pytest.raises(RefusedError) as caught:
                await network.sum(mean)
            details = "the model is not installed here" if simulation else ""
            assert caught.value.refusals == dict.fromkeys("abc", (NOT_ALLOWED, details))

    loop.run(scene())


@BOTH
def test_protocol_that_is_not_taken_part_in_is_refused(loop: asyncio.Runner, simulation: bool) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation, holder=DataHolder) as network:  # SMALL has keys of 256 bits
            with pytest.raises(RefusedError) as caught:
                await network.sum(mean)
            assert caught.value.refusals == dict.fromkeys("abc", (NOT_ALLOWED, ""))

    loop.run(scene())


def test_roster_with_a_party_that_is_not_pinned_is_refused(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation=False) as network:
            stranger = Identity("m", "holder", os.urandom)
            network.coordinator._roster = Roster((*network.roster.parties, stranger.public))
            network.dead.add(PartyId("m"))
            network.coordinator.lost.clear()
            asyncio.get_running_loop().call_later(0.1, network.coordinator.lose, PartyId("m"))
            with pytest.raises(ProtocolError):
                await network.sum(mean)
            await network.settle()
            for holder in network.holders.values():
                assert holder.release_memory._releases == {}

    loop.run(scene())


# First frames


def invitation_by(
    identity: Identity, roster: Roster, *, session: bytes | None = None, within: Roster | None = None
) -> tuple[SessionKeys, Invitation]:
    keys = SessionKeys(identity, roster, session or os.urandom(32), os.urandom)
    shown = keys if within is None else SessionKeys(identity, within, keys.session, os.urandom)
    query = Query("sum")
    return keys, invite(shown, protocol=SMALL.options, encoding=None, definition=bytes(32), query=query)


def first_frame(keys: SessionKeys, message: Message, to: PartyId = A) -> Frame:
    return Links(keys).seal(to, message)


async def answers(network: Network, frame: Frame) -> list[Posted]:
    """What a holder posts when it gets this frame."""
    before = len(network.posted)
    network.holders[A].driver.deliver(frame)
    for _ in range(50):
        await asyncio.sleep(0.001)
    return network.posted[before:]


def test_refusal_answers_an_invitation_with_a_stranger_in_its_roster(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS, simulation=False) as network:
            stranger = Identity("m", "holder", os.urandom)
            roster = Roster((*network.roster.parties, stranger.public))
            keys, invitation = invitation_by(network.coordinator.identity, roster)
            links = Links(keys)
            [answer] = await answers(network, links.seal(A, invitation))
            refusal = links.open(answer.sealed)
            assert isinstance(refusal, Refusal)
            assert (refusal.reason, refusal.details) == (NOT_ALLOWED, "")

    loop.run(scene())


def test_another_holder_cannot_invite(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            keys, invitation = invitation_by(network.holders[B].identity, network.roster)
            assert await answers(network, first_frame(keys, invitation)) == []
            assert network.holders[A].driver.refused_frames == 1

    loop.run(scene())


def test_coordinator_with_other_keys_cannot_invite(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            impostor = Identity(COORDINATOR, "coordinator", os.urandom)
            others = network.roster.parties[1:]
            keys, invitation = invitation_by(impostor, Roster((impostor.public, *others)))
            assert await answers(network, first_frame(keys, invitation)) == []
            assert network.holders[A].driver.refused_frames == 1

    loop.run(scene())


def test_invitation_to_another_session_than_its_frame_s_is_refused(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            keys, _ = invitation_by(network.coordinator.identity, network.roster)
            _, other = invitation_by(network.coordinator.identity, network.roster)
            assert await answers(network, first_frame(keys, other)) == []
            assert network.holders[A].driver.refused_frames == 1

    loop.run(scene())


def test_session_does_not_begin_with_anything_but_an_invitation(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            keys, _ = invitation_by(network.coordinator.identity, network.roster)
            refusal = Refusal(session=keys.session, reason="", details="")
            assert await answers(network, first_frame(keys, refusal)) == []
            assert network.holders[A].driver.refused_frames == 1

    loop.run(scene())


def test_nobody_opens_a_session_with_the_coordinator(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            keys, invitation = invitation_by(network.holders[B].identity, network.roster)
            frame = first_frame(keys, invitation, to=COORDINATOR)
            network.coordinator.driver.deliver(frame)
            assert network.coordinator.driver.refused_frames == 1

    loop.run(scene())


def test_replayed_invitation_opens_no_second_session(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            await network.sum(mean)
            await network.settle()
            first = next(posted for posted in network.posted if posted.to == A)
            assert first.sealed.handshake
            assert await answers(network, first.frame) == []

    loop.run(scene())


def test_identifier_of_an_ended_session_opens_no_other(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            await network.sum(mean)
            await network.settle()
            used = network.posted[0].sealed.session
            keys, invitation = invitation_by(network.coordinator.identity, network.roster, session=used)
            assert await answers(network, first_frame(keys, invitation)) == []

    loop.run(scene())


def test_frames_that_arrive_twice_and_in_any_order_change_nothing(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            again: list[asyncio.TimerHandle] = []

            def twice(posted: Posted) -> bool:
                party = network.parties[posted.to].driver
                clock = asyncio.get_running_loop()
                again.append(clock.call_later(0.002 * (len(again) % 3), party.deliver, posted.frame))
                return len(again) % 2 == 0

            network.on_frame = twice
            for _ in range(3):
                assert await network.sum(mean) == 11.0
            await asyncio.sleep(0.01)

    loop.run(scene())


# One question, two sets of holders


@BOTH
def test_question_released_over_one_set_is_not_released_over_another(
    loop: asyncio.Runner, simulation: bool
) -> None:
    async def scene() -> None:
        async with Network({**ROWS, "d": np.array([7.5])}, simulation) as network:
            model = Sum(mean)
            await network.run(model)
            network.coordinator.lost.add(PartyId("d"))
            with pytest.raises(RefusedError) as caught:
                await network.run(model, on_dropout="continue")
            reasons = {reason for reason, _ in caught.value.refusals.values()}
            assert reasons == {ALREADY_RELEASED}
            assert (await network.run(Sum(mean, at=None), on_dropout="continue")).survivors == ("a", "b", "c")

    loop.run(scene())


def test_two_sessions_side_by_side_release_a_question_over_one_set_only(loop: asyncio.Runner) -> None:
    # Both were allowed when they were examined: nothing had been released then.
    async def scene() -> None:
        async with Network({**ROWS, "d": np.array([7.5])}, simulation=False) as network:
            first_sums = FirstSums(network, hold=2)
            network.on_frame = first_sums
            model = Sum(mean)
            whole = asyncio.ensure_future(network.run(model, name="whole"))
            await first_sums.held_up(1)
            network.coordinator.lost.add(PartyId("d"))  # or so it says
            part = asyncio.ensure_future(network.run(model, name="part", on_dropout="continue"))
            await first_sums.held_up(2)
            for posted in first_sums.held:
                network.parties[posted.to].driver.deliver(posted.frame)
            outcomes = await asyncio.gather(whole, part, return_exceptions=True)
            assert any(isinstance(outcome, AbortedError) for outcome in outcomes)
            assert len(network.repository.records) <= 1

    loop.run(scene())


# Breaking off


class Gate:
    """A function that computes until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, rows: np.ndarray[Any, Any]) -> float:
        self.entered.release()
        self.open.wait(20)
        return mean(rows)

    async def all_inside(self, n: int) -> None:
        for _ in range(n):
            await asyncio.get_running_loop().run_in_executor(None, self.entered.acquire)


def test_cancelling_ends_the_sessions_of_all(loop: asyncio.Runner) -> None:
    gate = Gate()

    async def scene() -> None:
        async with Network(ROWS) as network:
            computation = asyncio.ensure_future(network.sum(gate, name="long"))
            await gate.all_inside(3)
            await network.coordinator.cancel("long")
            with pytest.raises(AbortedError, match="cancelled"):
                await computation
            assert network.coordinator.driver._running == {}
            gate.open.set()
            await network.settle()
            assert isinstance(network.events[-1], Failure)
            assert await network.sum(mean) == 11.0

    loop.run(scene())


def test_cancelling_what_is_over_is_harmless(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            await network.sum(mean, name="short")
            await network.coordinator.cancel("short")
            await network.coordinator.cancel("never heard of")
            assert await network.sum(mean) == 11.0

    loop.run(scene())


def test_follower_that_goes_away_ends_the_computation(loop: asyncio.Runner) -> None:
    gate = Gate()

    async def scene() -> None:
        async with Network(ROWS) as network:
            model = Sum(gate)
            events = network.coordinator.compute("x", model, network.install(model), Terms(network.protocol))
            first = asyncio.ensure_future(anext(events))
            await gate.all_inside(3)
            first.cancel()
            await asyncio.wait({first})
            await events.aclose()
            gate.open.set()
            await network.settle()

    loop.run(scene())


@pytest.mark.parametrize("leaving", [COORDINATOR, "b"])
def test_party_that_leaves_ends_its_sessions_everywhere(loop: asyncio.Runner, leaving: str) -> None:
    gate = Gate()

    async def scene() -> None:
        async with Network(ROWS) as network:
            computation = asyncio.ensure_future(network.sum(gate))
            await gate.all_inside(3)
            await network.parties[PartyId(leaving)].leave()
            with pytest.raises(AbortedError) as caught:
                await computation
            assert caught.value.party == leaving
            gate.open.set()
            await network.settle()

    loop.run(scene())


def test_roster_is_pinned_once(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            with pytest.raises(ActorError, match="pinned once"):
                network.holders[A].pin(network.roster, None)  # type: ignore[arg-type]

    loop.run(scene())


def test_roster_with_other_keys_under_the_own_name_is_refused() -> None:
    holder = DataHolder("a", ROWS["a"], simulation=False)
    parties = [Identity(name, "holder", os.urandom).public for name in "abc"]
    coordinator = Identity(COORDINATOR, "coordinator", os.urandom).public
    with pytest.raises(ActorError, match="its own keys"):
        holder.pin(Roster((coordinator, *parties)), None)  # type: ignore[arg-type]


def test_party_that_is_not_connected_says_so() -> None:
    holder = DataHolder("a", ROWS["a"], simulation=False)
    with pytest.raises(ActorError, match="not connected"):
        holder.driver.deliver(Frame(b""))
    asyncio.run(holder.leave())


def test_log_of_a_simulation_holds_no_values(loop: asyncio.Runner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene() -> None:
        async with Network(ROWS) as network:
            for function in (
                fails_at_b,
                nan_at_b,
                exit_at_b,
                mean,
                lambda _: CANARY,
                lambda _: np.zeros(5000),
            ):
                try:
                    await network.sum(function)
                except RefusedError:
                    await network.settle()

    loop.run(scene())
    assert SECRET not in caplog.text
    assert str(CANARY) not in caplog.text
