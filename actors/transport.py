"""Frames between processes: by remote calls of Ray, there as arguments, back as answers.

A call that brings frames waits there, so that what its receiver has to say in return is its answer: between two
processes that take turns, one call carries both ways. Frames for a process none of whose calls waits go in a call
of their own.

Frames with large arrays go in pieces, always in calls of their own, which do not wait; each leaves once the last one
has arrived, with pieces of as many frames as it may carry. Parties of one process that are sent the same arrays get
them once. What lies sealed at its sender is what a call carries, however long the frames and however many receive them.
Arguments of a call below 100 KiB travel in it; Ray puts longer ones into memory that processes share, and that stays
mapped.

Where many parties share a process they get their frames together, and are soon done one after the other: what the first
has to say waits, but not long, for the others, and one call brings it all. A call costs as much as a party's share in a
round.

Ray keeps no order between calls, and a call whose answer is lost may or may not have run; the slots of a
session make both harmless, so a frame is simply sent again, with identical bytes: the caller's with its next
attempt, and those of the answer until a later call confirms that they have arrived. Parties of one process
hand each other the very same sealed frames, without Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import ActorUnavailableError, RayError

from ..protocols.party import PartyId
from ..serialization.codec import Frame
from .long_frames import Arriving, Content, LongFrame

RETRIES = 5
FIRST_PAUSE = 0.05  # seconds; doubled at each retry
WAITING_SECONDS = 10.0  # that a call waits for frames to take back
SLICES = 16  # of long frames, that travel in a call: 1 MiB, three times which Ray takes at each end
GATHERING_SECONDS = 0.05  # that a frame waits for those of other parties of its process

Posted: TypeAlias = tuple[PartyId, bytes]  # a frame without buffers
Answer: TypeAlias = tuple[int, list[tuple[str, bytes]]]  # its number, and such frames
# Of the content of long frames: its number, at which byte the piece begins, how many slices it has; bytes of each of
# the sealed arrays; with the last piece, the recipients and headers of the frames.
Piece: TypeAlias = tuple[int, int, int, tuple[int, ...], list[Posted]]


class Underway:
    """What is under way in a process and may give frames: a block of ``with`` each.

    Parameters
    ----------
    shared : bool
        Whether several parties live there: a party's frames never wait for its own work.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._n = 0
        self._over = asyncio.Event()

    def __enter__(self) -> None:
        self._n += 1
        self._over.clear()

    def __exit__(self, *_: object) -> None:
        self._n -= 1
        if not self._n:
            self._over.set()

    async def over(self) -> None:
        """Wait until nothing is under way, but not long."""
        if self._shared and self._n:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHERING_SECONDS):
                    await self._over.wait()


class _Leaving:
    """A content on its way: its frames, how much of it has left, and what whoever sends them waits for."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.frames: list[Posted] = []
        self.arrived: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.has_left = False
        self._slices = content.slices()
        self._start = 0

    def cut(self, number: int, n_slices: int) -> tuple[Piece, list[NDArray[np.uint8]]]:
        """Seal the next slices, at most so many, of the content, which is the one with this number."""
        start, slices = self._start, list(islice(self._slices, n_slices))
        self._start += sum(map(len, slices))
        self.has_left = self._start == sum(self.content.sizes)
        ends = self.frames if self.has_left else []
        return (number, start, len(slices), self.content.sizes, ends), slices

    def tell(self, has_arrived: bool) -> None:
        """Tell whoever waits."""
        if not self.arrived.done():
            self.arrived.set_result(has_arrived)


class Peer:
    """Another process, who lives there, and what is on its way to it.

    Parameters
    ----------
    handle : actor handle or None
        Of its `Host`; None until it is met.
    parties : sequence of PartyId
        The parties that it hosts.
    here : int
        By which number that host knows this process.
    take : callable
        ``take(to, frame)`` takes in a frame that comes back for a party of this process.
    underway : Underway
        What frames to that process wait for.
    """

    def __init__(
        self,
        handle: Any,
        parties: Sequence[PartyId],
        here: int,
        take: Callable[[PartyId, Frame], None],
        underway: Underway,
    ) -> None:
        self.parties = tuple(parties)
        self._here = here
        self._take = take
        self._underway = underway
        self._patient = True
        self._waiting: asyncio.Future[Answer | None] | None = None  # its call that waits here
        self._waiting_long: deque[_Leaving] = deque()
        self._sending_long: asyncio.Task[None] | None = None
        self.meet(handle)

    def meet(self, handle: Any) -> None:
        """Send to another process from now on, that of the same parties: nothing of the last one is on its way."""
        self._release([])
        self.handle = handle
        self._turn: tuple[list[tuple[PartyId, Frame]], asyncio.Task[bool]] | None = None
        self._unconfirmed: dict[int, list[Posted]] = {}  # answers by their numbers
        self._n_answers = 0
        self._arrived: list[int] = []  # answers of that process, to be confirmed
        self._arriving: Arriving | None = None  # of its long frames, the content that is under way
        self._n_begun = self._n_long = 0  # long frames from it, and to it
        self._has_called = False
        self._missed = False  # whether one of its answers may be lost, and it does not know

    # Frames to it

    async def send(self, to: PartyId, frame: Frame) -> bool:
        """Bring a frame to a party, again if it is unclear whether it arrived; False if the process is gone.

        All frames that are sent in one turn of the loop go together, and with what follows while something is under
        way here: a broadcast to 500 parties of one process is one call, not 500, and so are their answers.
        """
        if self._turn is None:
            collected: list[tuple[PartyId, Frame]] = []
            task = asyncio.get_running_loop().create_task(self._send_turn(collected))  # begins next turn
            self._turn = collected, task
        frames, sent = self._turn
        frames.append((to, frame))
        return await asyncio.shield(sent)

    async def send_long(self, to: PartyId, frame: LongFrame) -> bool:
        """Bring a long frame to a party as `send` does, in pieces; what waits meanwhile shares their calls.

        Of frames with the same content that wait, the content goes once.
        """
        waiting = (leaving for leaving in self._waiting_long if leaving.content is frame.content)
        leaving = next(waiting, None)
        if leaving is None:
            leaving = _Leaving(frame.content)
            self._waiting_long.append(leaving)
        leaving.frames.append((to, frame.header))
        if self._sending_long is None or self._sending_long.done():
            self._sending_long = asyncio.get_running_loop().create_task(self._send_waiting())
        sending = self._sending_long
        await asyncio.wait((leaving.arrived, sending), return_when=asyncio.FIRST_COMPLETED)
        if not leaving.arrived.done():
            sending.result()  # what has ended it, raised here: nobody waits for ever
        return leaving.arrived.result()

    async def _send_waiting(self) -> None:
        """Send what waits of long frames, in its order, a call after the other."""
        leaving: _Leaving | None = None  # whose rest is to follow
        while leaving or self._waiting_long:
            handle, self._has_called = self.handle, True
            pieces: list[Piece] = []
            slices: list[NDArray[np.uint8]] = []
            ended: list[_Leaving] = []
            while len(slices) < SLICES and (leaving or self._waiting_long):
                if leaving is None:
                    self._n_long += 1
                    leaving = self._waiting_long.popleft()
                piece, cut = leaving.cut(self._n_long, SLICES - len(slices))
                pieces.append(piece)
                slices += cut
                if leaving.has_left:
                    ended.append(leaving)
                    leaving = None
            has_arrived = await self._try(handle, self._here, pieces, *slices)
            is_there = self.handle is handle
            if leaving and not (has_arrived and is_there):
                ended.append(leaving)
                leaving = None
            for content in ended:  # that the last process is lost was told when the next one was met
                content.tell(has_arrived or not is_there)

    async def _try(self, handle: Any, *arguments: Any) -> bool:
        """Bring pieces to a process, again if it is unclear whether they arrived; False if it is gone."""
        for retry in range(RETRIES):
            if handle is None or self.handle is not handle:
                break
            try:
                await handle.deliver_pieces.remote(*arguments)
            except ActorUnavailableError:
                await asyncio.sleep(FIRST_PAUSE * 2**retry)
            except RayError:
                break
            else:
                return True
        return False

    def take_pieces(
        self, pieces: Sequence[Piece], slices: Iterable[NDArray[np.uint8]]
    ) -> list[tuple[PartyId, Frame]]:
        """Take in pieces of its long frames; return the frames that are complete by them, and for whom they are.

        What is left of an earlier content is dropped, and a piece of one that is complete is ignored.

        Parameters
        ----------
        pieces, slices
            As of `Host.deliver_pieces`.
        """
        complete: list[tuple[PartyId, Frame]] = []
        its_slices = iter(slices)
        for number, start, n_slices, sizes, ends in pieces:
            octets = list(islice(its_slices, n_slices))
            if number > self._n_begun:
                self._n_begun, self._arriving = number, Arriving(sizes)
            if self._arriving is None or number < self._n_begun:
                continue
            self._arriving.take(start, octets)
            if ends:
                complete += [(PartyId(to), self._arriving.frame(header)) for to, header in ends]
                self._arriving = None
        return complete

    async def hurry(self) -> None:
        """Let no call to that process wait any longer; one that was never called learns nothing, not even now."""
        self._patient = False
        if self._has_called:
            await self._call([])

    async def _send_turn(self, frames: list[tuple[PartyId, Frame]]) -> bool:
        """Send frames as the answer that a call waits for, or else with a call."""
        await self._underway.over()
        self._turn = None
        short = [(to, frame.header) for to, frame in frames]
        return self._release(short) or await self._call(short)

    async def _call(self, frames: list[Posted]) -> bool:
        handle = self.handle
        if handle is None:
            return False
        self._has_called = True
        for retry in range(RETRIES):
            confirmed, self._arrived = self._arrived, []
            again, self._missed = retry > 0 or self._missed, False
            about = (self._here, confirmed, again, self._patient)
            try:
                answer: Answer | None = await handle.deliver.remote(about, frames)
            except ActorUnavailableError:
                if self.handle is handle:
                    self._arrived += confirmed
                    self._missed = True  # for the next call to say, should this be the last attempt
                    await asyncio.sleep(FIRST_PAUSE * 2**retry)
            except RayError:
                break
            else:
                if self.handle is handle:
                    await self._take_back(answer)
                return True
            if self.handle is not handle:
                break
        return self.handle is not handle  # that the last process is lost was told when the next one was met

    async def _take_back(self, answer: Answer | None) -> None:
        if answer is None:
            return
        number, frames = answer
        self._arrived.append(number)
        with self._underway:
            for to, header in frames:
                self._take(PartyId(to), Frame(header))
                await asyncio.sleep(0)  # the loop turns between two: what the first has set off need not wait

    # Its calls

    async def answer(self, confirmed: Sequence[int], again: bool, patient: bool) -> Answer | None:
        """Wait until there are frames for that process, and return them; None if there are none in time.

        Parameters
        ----------
        confirmed : sequence of int
            Numbers of answers that have arrived there.
        again : bool
            Whether an earlier answer may have been lost: what is not confirmed goes out again.
        patient : bool
            Whether to wait at all.
        """
        for number in confirmed:
            self._unconfirmed.pop(number, None)
        self._release([])  # one call waits at a time
        if again and self._unconfirmed:
            frames = [posted for lost in self._unconfirmed.values() for posted in lost]
            self._unconfirmed.clear()
            return self._numbered(frames)
        return await self._wait() if patient else None

    def _release(self, frames: list[Posted]) -> bool:
        """Answer the call that waits, with frames or without; False if none does.

        From here on the frames are unconfirmed, whatever becomes of that call before its turn has come.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.done():  # done: it was cancelled
            return False
        waiting.set_result(self._numbered(frames) if frames else None)
        return True

    def _numbered(self, frames: list[Posted]) -> Answer:
        self._n_answers += 1
        self._unconfirmed[self._n_answers] = frames
        return self._n_answers, [*frames]

    async def _wait(self) -> Answer | None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Answer | None] = loop.create_future()
        self._waiting = waiting

        def give_up() -> None:
            if self._waiting is waiting:
                self._release([])

        timer = loop.call_later(WAITING_SECONDS, give_up)
        try:
            return await waiting
        finally:
            timer.cancel()


class RayTransport:
    """Posts the frames of one party.

    Parameters
    ----------
    here : mapping of PartyId to callable
        Takes in a frame for a party of this process.
    peers : mapping of PartyId to Peer
        Where every other party lives.
    lost : callable
        ``lost(party)`` is called when the process of a party is gone.
    """

    def __init__(
        self,
        here: Mapping[PartyId, Callable[[Frame], None]],
        peers: Mapping[PartyId, Peer],
        lost: Callable[[PartyId], None],
    ) -> None:
        self._here = here
        self._peers = peers
        self._lost = lost

    async def post(self, to: PartyId, frame: Frame | LongFrame) -> None:
        """Bring a frame to a party."""
        if to in self._here:
            self._here[to](frame.whole() if isinstance(frame, LongFrame) else frame)
            return
        peer = self._peers[to]
        sending = peer.send_long(to, frame) if isinstance(frame, LongFrame) else peer.send(to, frame)
        if not await sending:
            self._lost(to)
