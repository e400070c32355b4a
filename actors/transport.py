"""Frames between processes: by remote calls of Ray, small ones in bundles, large buffers through shared memory.

Ray keeps no order between calls, and a call whose answer is lost may or may not have run; the slots of a
session make both harmless, so a frame is simply sent again, with identical bytes. Parties of one process
hand each other the very same sealed frames, without Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from ray.exceptions import ActorUnavailableError, RayActorError

from ..protocols.party import PartyId
from ..serialization.codec import Frame

RETRIES = 5
FIRST_PAUSE = 0.05  # seconds; doubled at each retry


class Peer:
    """Another process, and who lives there.

    Parameters
    ----------
    handle : actor handle
        Of its `Host`.
    parties : sequence of PartyId
        The parties that it hosts.
    """

    def __init__(self, handle: Any, parties: Sequence[PartyId]) -> None:
        self.handle = handle
        self.parties = tuple(parties)
        self._bundle: tuple[list[tuple[PartyId, bytes]], asyncio.Task[bool]] | None = None

    async def send(self, to: PartyId, frame: Frame) -> bool:
        """Bring a frame to a party, again if it is unclear whether it arrived; False if the process is gone.

        All frames without buffers that are sent in one turn of the loop go in one call: a broadcast to 500
        parties of one process is one call, not 500. Buffers are arguments of their own, as Ray wants them.
        """
        if frame.buffers:
            return await self._deliver([(to, frame.header)], *frame.buffers)
        if self._bundle is None:
            collected: list[tuple[PartyId, bytes]] = []
            task = asyncio.get_running_loop().create_task(self._send_bundle(collected))  # begins next turn
            self._bundle = collected, task
        frames, sent = self._bundle
        frames.append((to, frame.header))
        return await asyncio.shield(sent)

    async def _send_bundle(self, frames: list[tuple[PartyId, bytes]]) -> bool:
        self._bundle = None
        return await self._deliver(frames)

    async def _deliver(self, frames: list[tuple[PartyId, bytes]], *buffers: NDArray[Any]) -> bool:
        for retry in range(RETRIES):
            try:
                await self.handle.deliver.remote(frames, *buffers)
            except ActorUnavailableError:
                await asyncio.sleep(FIRST_PAUSE * 2**retry)
            except RayActorError:
                break
            else:
                return True
        return False


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

    async def post(self, to: PartyId, frame: Frame) -> None:
        """Bring a frame to a party."""
        if to in self._here:
            self._here[to](frame)
        elif not await self._peers[to].send(to, frame):
            self._lost(to)
