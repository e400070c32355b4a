"""The process of parties who must know when another is gone: the coordinator, the aggregators.

A process that dies shows at once, since a call is pending there; one that hangs, when it leaves a ping
without an answer. Either way all of its parties are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ray.exceptions import RayActorError

from .heartbeat import answers
from .host import Host
from .party import Party
from .transport import Peer

PING_SECONDS = 0.5
SILENCE_SECONDS = 5.0  # longer than a library call that holds the interpreter's lock
LOADING_SECONDS = 15.0  # while a model is handed out: the libraries it imports hold the lock for long


class WatchingHost(Host):
    """Runs parties, and watches over the others' processes.

    Parameters
    ----------
    parties : iterable of Party
        Who lives here.

    Attributes
    ----------
    watching : dict of Peer to Task
        Each ends when its process is gone.
    """

    def __init__(self, parties: Iterable[Party]) -> None:
        super().__init__(parties)
        self.watching: dict[Peer, asyncio.Task[None]] = {}
        self._n_loading = 0  # models being handed out

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Bear a longer silence of the other processes: they load a model."""
        self._n_loading += 1
        try:
            yield
        finally:
            self._n_loading -= 1

    async def connect(self, introduced: Sequence[Sequence[bytes]], handles: Sequence[Any]) -> None:
        """Pin the identities, and watch over the others' processes from now on."""
        await super().connect(introduced, handles)
        for peer in self._peers.values():
            self.watch_over(peer)

    def watch_over(self, peer: Peer) -> None:
        """Watch over a process from now on."""
        before = self.watching.get(peer)
        if before is not None:
            before.cancel()
        self.watching[peer] = asyncio.get_running_loop().create_task(self._watch(peer))

    async def leave(self) -> None:
        """End every session of every party, telling the others, and watch no longer."""
        for task in self.watching.values():
            task.cancel()
        await super().leave()

    async def _watch(self, peer: Peer) -> None:
        """Notice a process that dies (at once) or falls silent."""
        gone = asyncio.ensure_future(_ended(peer.handle))
        try:
            while not gone.done() and await self._is_heard(peer.handle, gone):
                await asyncio.wait({gone}, timeout=PING_SECONDS)
        finally:
            gone.cancel()
        self._lose(peer)

    def _lose(self, peer: Peer) -> None:
        """Tell every party here that those of a process are gone."""
        for party in peer.parties:
            for here in self._parties.values():
                here.lose(party)

    async def _is_heard(self, handle: Any, gone: asyncio.Future[None]) -> bool:
        """Whether a process answers a ping before it ends, and before its silence is borne no longer.

        That is counted in short waits and not by the clock: where the machine is too busy for those, it is for answers
        too.
        """
        answer = asyncio.ensure_future(answers(handle))
        awaited: set[asyncio.Future[Any]] = {gone, answer}
        n_waits = 0
        try:
            while n_waits * PING_SECONDS < (LOADING_SECONDS if self._n_loading else SILENCE_SECONDS):
                done, _ = await asyncio.wait(
                    awaited, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    break
                n_waits += 1
            return answer.done() and answer.result()
        finally:
            answer.cancel()


async def _ended(handle: Any) -> None:
    """Return when an actor's process is gone."""
    with contextlib.suppress(RayActorError):
        while True:
            await handle.watch.remote()
