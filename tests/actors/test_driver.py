"""The driver of sessions: which frames reach a role, what the others learn of its end, and where work runs."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from tacit.actors import driver as driver_module
from tacit.actors import links as links_module
from tacit.actors.driver import EARLY_FRAMES, Driver
from tacit.actors.links import Links
from tacit.actors.long_frames import LongFrame
from tacit.protocols.channel import Channel, Role
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    UnexpectedMessageError,
)
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.session import Session
from tacit.serialization.codec import Frame, decode, encode
from tacit.serialization.link_messages import Sealed
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Closed, Finished, Refusal

SESSION = bytes(range(32))
K, A, B = PartyId("k"), PartyId("a"), PartyId("b")
KINDS = {K: "coordinator", A: "holder", B: "holder"}
IDENTITIES = {name: Identity(name, kind, random.Random(name).randbytes) for name, kind in KINDS.items()}
ROSTER = Roster(tuple(identity.public for identity in IDENTITIES.values()))
FINISHED = Finished(session=SESSION, released=True)


class Wires:
    """Drivers by name; frames go from one to the other at the loop's next turn."""

    def __init__(self) -> None:
        self.posted: list[tuple[PartyId, Frame]] = []
        self.drivers: dict[PartyId, Driver] = {}
        self.asked: list[Sealed] = []
        for name in KINDS:
            self.drivers[name] = Driver(name, self, invited=self._invited)

    def _invited(self, sealed: Sealed) -> bool:
        self.asked.append(sealed)
        return True

    async def post(self, to: PartyId, sent: Frame | LongFrame) -> None:
        frame = sent.whole() if isinstance(sent, LongFrame) else sent
        self.posted.append((to, frame))
        await asyncio.sleep(0)
        self.drivers[to].deliver(frame)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def wires(loop: asyncio.Runner) -> Iterator[Wires]:
    wires = Wires()
    yield wires

    async def close() -> None:
        for driver in wires.drivers.values():
            driver.close()

    loop.run(close())


def keys_of(name: PartyId, roster: Roster = ROSTER) -> SessionKeys:
    return SessionKeys(IDENTITIES[name], roster, SESSION, os.urandom)


KEYS_OF_A = keys_of(A)


def session_of(name: PartyId, role: Role[Any], *, lasts: float | None = None) -> Session[Any]:
    """A session that takes `Finished` and `Closed` from the two others, and tells them its failure."""
    others = [peer for peer in KINDS if peer != name]
    return Session(
        SESSION,
        name,
        role,
        accepts={peer: frozenset({Finished, Closed}) for peer in others},
        tell=others,
        random_bytes=os.urandom,
        lasts=lasts,
    )


async def receiving(channel: Channel) -> Finished:
    return await channel.receive(Finished, sender=K)


def sending(message: Message, to: PartyId = A) -> Role[str]:
    async def role(channel: Channel) -> str:
        channel.send(to, message)
        return "sent"

    return role


def first_frame(message: Message = FINISHED, keys: SessionKeys | None = None, to: PartyId = A) -> Frame:
    return Links(keys or keys_of(K)).seal(to, message)


def start(wires: Wires, name: PartyId, role: Role[Any], **options: Any) -> asyncio.Task[Any]:
    run = wires.drivers[name].run(session_of(name, role, **options), keys_of(name))
    return asyncio.get_running_loop().create_task(run)


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def test_message_reaches_the_role(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        assert await start(wires, K, sending(FINISHED)) == "sent"
        assert await receiver == FINISHED

    loop.run(scene())


def later_frame(keys: SessionKeys, message: Message = FINISHED) -> Frame:
    """A frame of a session that its sender believes both to be in."""
    keys.learn(A, KEYS_OF_A.ephemeral)
    return first_frame(message, keys)


def test_first_frame_is_handed_to_whoever_starts_the_session(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        await start(wires, K, sending(FINISHED))
        await turns()
        assert [sealed.session for sealed in wires.asked] == [SESSION]
        run = wires.drivers[A].run(session_of(A, receiving), keys_of(A), first=(K, FINISHED))
        assert await run == FINISHED

    loop.run(scene())


def test_frame_waits_for_a_session_that_starts_later(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        wires.drivers[A].deliver(later_frame(keys_of(K)))
        assert wires.asked == []
        assert await wires.drivers[A].run(session_of(A, receiving), KEYS_OF_A) == FINISHED

    loop.run(scene())


def test_frames_that_wait_are_bounded(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        early = wires.drivers[A]
        for _ in range(EARLY_FRAMES + 1):
            other = SessionKeys(IDENTITIES[K], ROSTER, os.urandom(32), os.urandom)
            early.deliver(later_frame(other))
        assert len(early._early) == EARLY_FRAMES

    loop.run(scene())


def unsealed(_: Callable[[], Frame]) -> Frame:
    return encode(FINISHED)


def no_frame(_: Callable[[], Frame]) -> Frame:
    return Frame(b"no frame at all", ())


def for_somebody_else(_: Callable[[], Frame]) -> Frame:
    return first_frame(to=B)


def by_a_stranger(_: Callable[[], Frame]) -> Frame:
    stranger = Identity(K, "coordinator", os.urandom)
    others = tuple(party for party in ROSTER.parties if party.name != K)
    return first_frame(keys=SessionKeys(stranger, Roster((stranger.public, *others)), SESSION, os.urandom))


def from_outside_the_roster(_: Callable[[], Frame]) -> Frame:
    stranger = Identity("m", "holder", os.urandom)
    roster = Roster((*ROSTER.parties, stranger.public))
    return first_frame(keys=SessionKeys(stranger, roster, SESSION, os.urandom))


def altered(genuine: Callable[[], Frame]) -> Frame:
    sealed = _sealed(genuine())
    return encode(dataclasses.replace(sealed, body=bytes([sealed.body[0] ^ 1]) + sealed.body[1:]))


def readdressed(_: Callable[[], Frame]) -> Frame:
    return encode(dataclasses.replace(_sealed(first_frame(to=B)), recipient=A))


def under_another_name(_: Callable[[], Frame]) -> Frame:
    return encode(dataclasses.replace(_sealed(first_frame(keys=keys_of(B))), sender=K))


def _sealed(frame: Frame) -> Sealed:
    message = decode(frame)
    assert isinstance(message, Sealed)
    return message


@pytest.mark.parametrize(
    "forged",
    [
        unsealed,
        no_frame,
        for_somebody_else,
        by_a_stranger,
        from_outside_the_roster,
        altered,
        readdressed,
        under_another_name,
    ],
)
def test_frame_that_is_not_genuine_changes_nothing(
    loop: asyncio.Runner, wires: Wires, forged: Callable[[Callable[[], Frame]], Frame]
) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await turns()
        wires.drivers[A].deliver(forged(first_frame))
        assert wires.drivers[A].refused_frames == 1
        await start(wires, K, sending(FINISHED))
        assert await receiver == FINISHED

    loop.run(scene())


def test_repeated_frame_is_ignored(loop: asyncio.Runner, wires: Wires) -> None:
    async def two(channel: Channel) -> tuple[Finished, Closed]:
        first = await channel.receive(Finished, sender=K)
        return first, await channel.receive(Closed, sender=B)

    async def scene() -> None:
        receiver = start(wires, A, two)
        await turns()
        frame = first_frame()
        for _ in range(3):
            wires.drivers[A].deliver(frame)
        word = Closed(session=SESSION, holder=B, forwarded=False, signature=bytes(64))
        await start(wires, B, sending(word))
        assert await receiver == (FINISHED, word)
        assert wires.drivers[A].refused_frames == 0

    loop.run(scene())


def test_second_version_of_a_message_ends_the_session(loop: asyncio.Runner, wires: Wires) -> None:
    async def never(channel: Channel) -> Closed:
        return await channel.receive(Closed, sender=B)

    async def scene() -> None:
        receiver = start(wires, A, never)
        await turns()
        links = Links(keys_of(K))
        for released in (True, False):
            wires.drivers[A].deliver(links.seal(A, Finished(session=SESSION, released=released)))
        with pytest.raises(EquivocationError) as caught:
            await receiver
        assert caught.value.culprits == (K,)

    loop.run(scene())


def test_kind_of_message_that_its_sender_has_no_part_in_ends_the_session(
    loop: asyncio.Runner, wires: Wires
) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await turns()
        wires.drivers[A].deliver(first_frame(Refusal(session=SESSION, reason="no", details="")))
        with pytest.raises(UnexpectedMessageError):
            await receiver

    loop.run(scene())


def test_sealed_bytes_that_are_no_message_end_the_session(
    loop: asyncio.Runner, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_badly(message: Message) -> Frame:
        return encode(message) if isinstance(message, Sealed) else Frame(b"nonsense", ())

    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await turns()
        with monkeypatch.context() as patch:
            patch.setattr(links_module, "encode", encode_badly)
            frame = first_frame()
        wires.drivers[A].deliver(frame)
        with pytest.raises(InvalidMessageError) as caught:
            await receiver
        assert caught.value.suspects == (K,)

    loop.run(scene())


def test_frame_that_opens_no_session_is_not_kept(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        driver = Driver(A, Wires(), invited=lambda _: False)
        driver.deliver(first_frame())
        assert (driver.refused_frames, len(driver._early)) == (1, 0)
        driver.close()

    loop.run(scene())


def test_early_frame_for_somebody_else_is_not_kept(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        wires.drivers[A].deliver(first_frame(to=B))
        assert (wires.asked, wires.drivers[A].refused_frames, len(wires.drivers[A]._early)) == ([], 1, 0)

    loop.run(scene())


def test_identifier_of_a_session_is_used_once(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await turns()
        with pytest.raises(MisuseError):  # while it runs
            await start(wires, A, receiving)
        await start(wires, K, sending(FINISHED))
        await receiver
        with pytest.raises(MisuseError):  # and for ever after
            await start(wires, A, receiving)
        assert wires.drivers[A].has_seen(SESSION)

    loop.run(scene())


def test_late_frame_opens_nothing(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await start(wires, K, sending(FINISHED))
        await receiver
        wires.asked.clear()
        wires.drivers[A].deliver(first_frame())
        assert wires.asked == []
        assert wires.drivers[A].refused_frames == len(wires.drivers[A]._early) == 0

    loop.run(scene())


def test_cancelling_tells_the_others(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        broken = start(wires, K, lambda channel: channel.receive(Finished, sender=A))
        other = start(wires, A, receiving)
        await turns()
        broken.cancel()
        with pytest.raises(asyncio.CancelledError):
            await broken
        with pytest.raises(AbortedError) as caught:
            await other
        assert (caught.value.party, caught.value.reason) == (K, "cancelled")
        assert wires.drivers[K].has_seen(SESSION)

    loop.run(scene())


def test_closing_ends_sessions_and_tells_the_others(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        tasks = [start(wires, A, receiving), start(wires, B, receiving)]
        await turns()
        wires.drivers[A].close()
        await wires.drivers[A].flush()
        with pytest.raises(AbortedError) as caught:
            await tasks[0]
        assert caught.value.party == A
        assert {to for to, _ in wires.posted} == {K, B}
        tasks[1].cancel()

    loop.run(scene())


def test_closed_driver_starts_nothing(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        wires.drivers[A].close()
        wires.drivers[A].close()
        with pytest.raises(AbortedError):
            await start(wires, A, receiving)
        wires.drivers[A].deliver(first_frame())
        assert wires.asked == []

    loop.run(scene())


def test_lost_peer_ends_the_wait(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await turns()
        wires.drivers[A].peer_lost(K)
        with pytest.raises(DropoutError) as caught:
            await receiver
        assert caught.value.missing == (K,)

    loop.run(scene())


def test_deadline_ends_the_session(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        with pytest.raises(DropoutError, match="time is over"):
            await start(wires, A, receiving, lasts=0.01)

    loop.run(scene())


def test_wait_of_a_role_ends_in_time(loop: asyncio.Runner, wires: Wires) -> None:
    async def impatient(channel: Channel) -> Finished:
        return await channel.receive(Finished, sender=K, within=0.01)

    async def scene() -> None:
        with pytest.raises(DropoutError, match="no answer in time"):
            await start(wires, A, impatient)

    loop.run(scene())


def test_work_runs_off_the_loop(loop: asyncio.Runner, wires: Wires) -> None:
    async def working(channel: Channel) -> str:
        return await channel.compute(lambda: threading.current_thread().name)

    async def scene() -> None:
        assert (await start(wires, A, working)).startswith("tacit-a")

    loop.run(scene())


def test_exception_of_the_work_reaches_the_role(loop: asyncio.Runner, wires: Wires) -> None:
    async def working(channel: Channel) -> str:
        try:
            return str(await channel.compute(lambda: 1 // 0))
        except ZeroDivisionError:
            return "caught"

    async def scene() -> None:
        assert await start(wires, A, working) == "caught"

    loop.run(scene())


def test_failure_of_a_role_is_told_without_its_text(loop: asyncio.Runner, wires: Wires) -> None:
    async def failing(channel: Channel) -> None:
        await channel.compute(lambda: None)
        raise ValueError("private row 17")

    async def scene() -> None:
        others = [start(wires, A, receiving), start(wires, B, receiving)]
        with pytest.raises(ValueError, match="17"):
            await start(wires, K, failing)
        for other in others:
            with pytest.raises(AbortedError) as caught:
                await other
            assert caught.value.reason == "an error at this party"

    loop.run(scene())


class Undeclared(Message):
    """A message that the codec does not know."""


def test_message_that_cannot_be_sent_ends_the_session(loop: asyncio.Runner, wires: Wires) -> None:
    async def careless(channel: Channel) -> Closed:
        channel.send(A, Undeclared())
        return await channel.receive(Closed, sender=B)

    async def scene() -> None:
        receiver = start(wires, A, receiving)
        for waiting in (start(wires, K, careless), receiver):
            with pytest.raises(AbortedError, match="cannot be sent"):
                await waiting

    loop.run(scene())


def test_last_message_that_cannot_be_sent_leaves_nobody_waiting(loop: asyncio.Runner, wires: Wires) -> None:
    async def scene() -> None:
        receiver = start(wires, A, receiving)
        await start(wires, K, sending(Undeclared()))
        with pytest.raises(AbortedError, match="cannot be sent"):
            await receiver

    loop.run(scene())


def test_log_names_problems_without_what_came(
    loop: asyncio.Runner, wires: Wires, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def failing_post(to: PartyId, sent: Any) -> None:
        raise OSError("private row 17")

    async def scene() -> None:
        wires.drivers[A].deliver(Frame(b"private row 17", ()))
        wires.drivers[A].deliver(encode(Refusal(session=SESSION, reason="private row 17", details="")))
        wires.post = failing_post  # type: ignore[method-assign]
        await start(wires, K, sending(Refusal(session=SESSION, reason="private row 17", details="")))
        await turns()

    loop.run(scene())
    assert "OSError" in caplog.text
    assert "row 17" not in caplog.text


def test_roles_of_a_party_run_side_by_side(loop: asyncio.Runner, wires: Wires) -> None:
    sessions = [random.Random(seed).randbytes(32) for seed in range(5)]

    def pair(session: bytes) -> tuple[Coroutine[Any, Any, Any], Coroutine[Any, Any, Any]]:
        message = Finished(session=session, released=True)
        runs = []
        for name, role in ((K, sending(message)), (A, receiving)):
            accepts = {peer: frozenset({Finished}) for peer in KINDS if peer != name}
            made: Session[Any] = Session(session, name, role, accepts=accepts, random_bytes=os.urandom)
            runs.append(
                wires.drivers[name].run(made, SessionKeys(IDENTITIES[name], ROSTER, session, os.urandom))
            )
        return runs[0], runs[1]

    async def scene() -> None:
        pairs = [pair(session) for session in sessions]
        senders, receivers = zip(*pairs, strict=True)
        received = await asyncio.gather(*reversed(receivers), *senders)
        assert [message.session for message in received[: len(sessions)]] == sessions[::-1]

    loop.run(scene())


def test_session_is_told_of_who_was_absent_when_it_began(
    loop: asyncio.Runner, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "ABSENT_SECONDS", 0.02)

    async def ended_in_time(channel: Channel) -> Finished:
        return await channel.receive(Finished, sender=K, within=0.1)

    async def scene() -> None:
        wires.drivers[A].absent.add(K)
        with pytest.raises(DropoutError) as caught:
            await start(wires, A, ended_in_time)
        assert (caught.value.missing, caught.value.reason) == ((K,), "")

    loop.run(scene())


def test_session_is_not_told_of_who_is_met_again_in_time(
    loop: asyncio.Runner, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "ABSENT_SECONDS", 0.02)

    async def scene() -> None:
        wires.drivers[A].absent.add(K)
        receiver = start(wires, A, receiving)
        await turns()
        wires.drivers[A].absent.discard(K)
        await asyncio.sleep(0.05)
        await start(wires, K, sending(FINISHED))
        assert await receiver == FINISHED

    loop.run(scene())


def test_session_is_never_told_that_who_opened_it_is_absent(
    loop: asyncio.Runner, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end in silence, and whoever opened it would wait."""
    monkeypatch.setattr(driver_module, "ABSENT_SECONDS", 0.0)

    async def later(channel: Channel) -> Closed:
        return await channel.receive(Closed, sender=K, within=0.1)

    async def scene() -> None:
        wires.drivers[A].absent.add(K)
        with pytest.raises(DropoutError, match="no answer in time"):
            await wires.drivers[A].run(session_of(A, later), keys_of(A), first=(K, FINISHED))

    loop.run(scene())
