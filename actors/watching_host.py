"""The process of parties who must know when another is gone: the coordinator, the aggregators.

A process that dies shows at once, since a call is pending there; one that hangs, when it leaves a ping
without an answer. Either way all of its parties are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayError

from .host import Host
from .party import Party
from .transport import Peer

PING_SECONDS = 0.5
SILENCE_SECONDS = 5.0  # longer than a library call that holds the interpreter's lock


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

    async def connect(self, introduced: Sequence[Sequence[bytes]], handles: Sequence[Any]) -> None:
        """Pin the identities, and watch over the others' processes from now on."""
        await super().connect(introduced, handles)
        loop = asyncio.get_running_loop()
        self.watching = {peer: loop.create_task(self._watch(peer)) for peer in self._peers.values()}

    async def leave(self) -> None:
        """End every session of every party, telling the others, and watch no longer."""
        for task in self.watching.values():
            task.cancel()
        await super().leave()

    async def _watch(self, peer: Peer) -> None:
        """Notice a process that dies (at once) or falls silent."""
        gone = asyncio.ensure_future(_ended(peer.handle))
        try:
            while not gone.done():
                answer = asyncio.ensure_future(_answers(peer.handle))
                await asyncio.wait(
                    {gone, answer}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not answer.done() or not answer.result():
                    answer.cancel()
                    break
                await asyncio.wait({gone}, timeout=PING_SECONDS)
        finally:
            gone.cancel()
        for party in peer.parties:
            for here in self._parties.values():
                here.lose(party)


async def _ended(handle: Any) -> None:
    """Return when an actor's process is gone."""
    with contextlib.suppress(RayActorError):
        await handle.watch.remote()


async def _answers(handle: Any) -> bool:
    """Whether an actor answers a ping."""
    try:
        await handle.ping.remote()
    except RayError:
        return False
    return True
