"""Runs a party's sessions: opens and seals frames, lets time pass, keeps heavy work off the loop.

The driver knows the world only through a `Transport`. It belongs to one event loop; only work runs in
threads. Frames of sessions that this party does not know yet wait in a bounded buffer; those of ended
sessions are dropped, and an ended session's identifier is never taken again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from ..protocols.channel import Work
from ..protocols.errors import AbortedError, MisuseError, RemoteError
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId
from ..protocols.session import Done, Failed, Session, Step
from ..serialization.codec import Frame, decode
from ..serialization.errors import DecodeError, EncodeError
from ..serialization.link_messages import Sealed
from ..serialization.schema import Message
from ..serialization.session_messages import Abort
from .links import Links
from .long_frames import LongFrame

R = TypeVar("R")

EARLY_FRAMES = 256
FLUSH_SECONDS = 1.0
ABSENT_SECONDS = 5.0  # that a session waits for who was absent when it began, and may be met any moment
THREADS = max(2, os.cpu_count() or 2)

CLOSED = "closed"
UNSENDABLE = "a message that cannot be sent"

logger = logging.getLogger(__name__)


class Transport(Protocol):
    """All that the driver knows of the world."""

    async def post(self, to: PartyId, frame: Frame | LongFrame) -> None:
        """Bring a frame to a party, a long one in pieces; a loss is told through `Driver.peer_lost`, not raised."""


class _Running:
    """A session under way, with its links and its end."""

    def __init__(
        self,
        session: Session[Any],
        links: Links,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[int], None],
    ) -> None:
        self.session = session
        self.links = links
        self.count = count
        self.ended: asyncio.Future[None] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.patience: asyncio.TimerHandle | None = None  # with who was absent before


class Driver:
    """Runs the sessions of one party.

    Parameters
    ----------
    me : PartyId
        The party.
    transport : Transport
        Where frames leave.
    invited : callable, optional
        ``invited(sealed)`` is called with the first frame of a session that somebody opens with this party;
        it returns whether this party will `run` that session, with this frame's content.
    threads : ThreadPoolExecutor, optional
        Where heavy work runs, if other parties share it; by default the driver's own, which end with it.
    underway : context manager, optional
        Entered, side by side with itself, while work runs and until its step's frames are posted.
    """

    def __init__(
        self,
        me: PartyId,
        transport: Transport,
        *,
        invited: Callable[[Sealed], bool] = lambda _: False,
        threads: ThreadPoolExecutor | None = None,
        underway: AbstractContextManager[None] | None = None,
    ) -> None:
        self.me = me
        self._transport = transport
        self._invited = invited
        self._running: dict[bytes, _Running] = {}
        self._ended: set[bytes] = set()  # never forgotten: a used identifier would be a second chance
        self._early: deque[Sealed] = deque(maxlen=EARLY_FRAMES)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._posts: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.absent: set[PartyId] = set()  # kept by whoever learns that they are there again
        self._underway = underway or nullcontext()
        self._shares_threads = threads is not None
        self._threads = threads or ThreadPoolExecutor(THREADS, thread_name_prefix=f"tacit-{me}")
        self.refused_frames = 0

    def has_seen(self, session: bytes) -> bool:
        """Whether a session with this identifier runs or has run here."""
        return session in self._running or session in self._ended

    async def run(
        self,
        session: Session[R],
        keys: SessionKeys,
        *,
        first: tuple[PartyId, Message] | None = None,
        count: Callable[[int], None] = lambda _: None,
    ) -> R:
        """Run a session to its end and return what its role returned.

        Parameters
        ----------
        session : Session
            Not started yet.
        keys : SessionKeys
            Of this party and session.
        first : (PartyId, Message), optional
            The sender and content of the frame by which the session was opened with this party.
        count : callable
            ``count(octets)`` is called with the size of every frame that is sent.

        Raises
        ------
        MisuseError
            If the session's identifier was used before.
        AbortedError
            If the driver is closed.
        Exception
            Whatever ended the role.
        """
        if self.has_seen(session.identifier):
            raise MisuseError("a session's identifier is used once")
        if self._closed:
            raise AbortedError(party=self.me, reason=CLOSED)
        loop = asyncio.get_running_loop()
        running = _Running(session, Links(keys), loop, count)
        self._running[session.identifier] = running
        try:
            self._carry_out(running, session.start(loop.time()))
            if first is not None:
                self._carry_out(running, session.receive(*first, loop.time()))
            self._take_early_frames(running)
            opener = None if first is None else first[0]  # who is there, as its frame is
            if absent := self.absent - {opener}:
                running.patience = loop.call_later(ABSENT_SECONDS, self._tell_of_absent, running, absent)
            await running.ended
        except asyncio.CancelledError:
            self._carry_out(running, session.cancel())
            raise
        finally:
            self._forget(session.identifier)
        if isinstance(session.outcome, Failed):
            raise session.outcome.error
        if not isinstance(session.outcome, Done):
            raise MisuseError("a session ended without an outcome")
        return session.outcome.result

    def deliver(self, frame: Frame) -> None:
        """Take in a frame from the transport; one that is not genuine is refused and changes nothing."""
        if self._closed:
            return
        try:
            sealed = decode(frame)
        except DecodeError:
            self._refuse("bytes that are no frame")
            return
        if not isinstance(sealed, Sealed) or sealed.recipient != self.me:
            self._refuse("a frame that is not sealed for this party")
        elif sealed.session in self._running:
            self._open(self._running[sealed.session], sealed)
        elif sealed.session in self._ended:
            logger.debug("a late frame of an ended session")
        elif not sealed.handshake:
            self._early.append(sealed)
        elif not self._invited(sealed):
            self._refuse("a first frame that opens no session here")

    def peer_lost(self, party: PartyId) -> None:
        """Tell every running session that a party is gone."""
        for running in list(self._running.values()):
            self._carry_out(running, running.session.peer_lost(party, self._now()))

    async def in_thread(self, function: Callable[..., R], *arguments: Any) -> R:
        """Call a function off the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def close(self) -> None:
        """End every session, telling the others, start no other, and release threads of its own."""
        self._closed = True
        for running in list(self._running.values()):
            self._carry_out(running, running.session.cancel(CLOSED))
        if not self._shares_threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def flush(self) -> None:
        """Wait, but not long, until the frames on their way have arrived."""
        if self._posts:
            await asyncio.wait(self._posts, timeout=FLUSH_SECONDS)

    # Inside

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _refuse(self, problem: str) -> None:
        self.refused_frames += 1
        logger.warning("refused %s", problem)

    def _open(self, running: _Running, sealed: Sealed) -> None:
        sender = PartyId(sealed.sender)
        try:
            message = running.links.open(sealed)
        except RemoteError as error:
            self._refuse(error.problem)
            return
        except DecodeError:
            step = running.session.refuse(sender, "sealed bytes that are no message")
        else:
            step = running.session.receive(sender, message, self._now())
        self._carry_out(running, step)

    def _take_early_frames(self, running: _Running) -> None:
        """Open what came before its session started."""
        waiting = [sealed for sealed in self._early if sealed.session == running.session.identifier]
        for sealed in waiting:
            self._early.remove(sealed)
            self._open(running, sealed)

    def _carry_out(self, running: _Running, step: Step) -> None:
        """Seal and post a step's messages, start its work, and look at the clock again."""
        if running.session.outcome is not None and not running.ended.done():
            running.ended.set_result(None)  # first: whoever waits for the result waits for no farewell
        unsendable = False
        for to, message in step.messages:
            try:
                self._post(running, to, message)
            except EncodeError:
                # Whoever waits for this message must not wait for ever.
                logger.error("a %s cannot be sent", type(message).__name__)
                self._post(running, to, Abort(session=running.session.identifier, reason=UNSENDABLE, lost=()))
                unsendable = True
        if step.work is not None:
            self._spawn(self._work(running, step.work))
        self._set_timer(running)
        if unsendable:
            self._carry_out(running, running.session.cancel(UNSENDABLE))

    def _post(self, running: _Running, to: PartyId, message: Message) -> None:
        frame = running.links.seal_to_send(to, message)
        running.count(frame.size)
        post = self._spawn(self._transport.post(to, frame))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    async def _work(self, running: _Running, work: Work) -> None:
        with self._underway:
            try:
                result = await self.in_thread(work.run)
            except Exception as error:  # noqa: BLE001 - the role decides what its work's failure means
                step = running.session.computed(None, self._now(), error=error)
            else:
                step = running.session.computed(result, self._now())
            self._carry_out(running, step)

    def _tell_of_absent(self, running: _Running, absent: set[PartyId]) -> None:
        """Tell a session of those who were absent when it began, and still are."""
        for party in sorted(absent & self.absent):
            self._carry_out(running, running.session.peer_lost(party, self._now()))

    def _set_timer(self, running: _Running) -> None:
        if running.timer is not None:
            running.timer.cancel()
        deadline = running.session.deadline
        running.timer = None if deadline is None else self._loop_at(deadline, running)

    def _loop_at(self, deadline: float, running: _Running) -> asyncio.TimerHandle:
        def tick() -> None:
            self._carry_out(running, running.session.tick(self._now()))

        return asyncio.get_running_loop().call_at(deadline, tick)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task and hold on to it until it is done."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of %s failed: %s", self.me, type(task.exception()).__name__)

    def _forget(self, identifier: bytes) -> None:
        running = self._running.pop(identifier)
        for timer in (running.timer, running.patience):
            if timer is not None:
                timer.cancel()
        self._ended.add(identifier)
