"""The process of one or more parties: all that the others, and whoever starts it, call from outside.

A plain asyncio class; `cluster` makes a Ray actor of it. Every party of a deployment, and of a small
simulation, has a host of its own. In a larger simulation the holders share hosts: same roles, same sealed
frames, but one process to start, and one that is lost with all of its parties. The control group has a loop
of its own, so that a host whose parties compute still answers `ping`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from ..protocols.errors import SetupError
from ..protocols.party import PartyId, Roster
from ..serialization.codec import Frame, decode, encode
from ..serialization.session_messages import Party as PartyMessage
from .driver import THREADS
from .party import Party
from .transport import Answer, Peer, Piece, RayTransport, Underway

WATCH_SECONDS = 30.0  # that a call is pending; then the next one is made

logger = logging.getLogger(__name__)


class Host:
    """Runs parties in one process and one loop.

    Parameters
    ----------
    parties : iterable of Party
        Who lives here; their names differ.
    threads : int, optional
        In which they compute. More than there are cores get into each other's way, as most of what is computed here
        holds the interpreter's lock half of the time.
    """

    def __init__(self, parties: Iterable[Party], threads: int = THREADS) -> None:
        self._parties = {party.name: party for party in parties}
        self._peers: dict[int, Peer] = {}  # by their places among all processes
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tacit")
        self._underway = Underway(shared=len(self._parties) > 1)

    async def introduce(self) -> list[bytes]:
        """Return the public identity of every party, as frames."""
        return [encode(party.identity.public).header for party in self._parties.values()]

    async def connect(self, introduced: Sequence[Sequence[bytes]], handles: Sequence[Any]) -> None:
        """Have every party pin the identities of all, and know in which process each lives. **Call once**.

        Parameters
        ----------
        introduced : sequence of sequences of bytes
            What every host, this one included, answers to `introduce`, the coordinator's first.
        handles : sequence of actor handles
            Those hosts, in the same order.
        """
        identities = [[_identity(header) for header in headers] for headers in introduced]
        self.pin(identities, handles)

    def pin(self, identities: Sequence[Sequence[PartyMessage]], handles: Sequence[Any]) -> None:
        """Pin the identities of all parties, by process, and the hosts of those that are there. **Call once**.

        Parameters
        ----------
        identities : sequence of sequences of Party
            Of the parties of every process, this one included.
        handles : sequence of actor handles
            Their hosts, in the same order; None where it is not met yet.
        """
        roster = Roster(tuple(party for hosted in identities for party in hosted))
        hosted = [[PartyId(party.name) for party in parties] for parties in identities]
        (place,) = (place for place, names in enumerate(hosted) if not self._parties.keys().isdisjoint(names))
        peers = {
            other: Peer(handle, names, place, self._take, self._underway)
            for other, (names, handle) in enumerate(zip(hosted, handles, strict=True))
            if other != place
        }
        here = {name: partial(self._take, name) for name in self._parties}
        there = {name: peer for peer in peers.values() for name in peer.parties}
        for party in self._parties.values():
            party.pin(
                roster,
                RayTransport(here, there, partial(self._unreached, party)),
                self._threads,
                self._underway,
            )
        self._peers = peers
        gc.collect()
        gc.freeze()  # what is imported by now stays: a collection in the middle of a pass looks at the rest only

    async def deliver(
        self,
        about: tuple[int, list[int], bool, bool],
        frames: list[tuple[str, bytes]],
    ) -> Answer | None:
        """Take in frames for parties of this process, and return those that go back, as soon as there are some.

        Parameters
        ----------
        about : (int, list of int, bool, bool)
            The caller's place among all processes, and the arguments of `Peer.answer`.
        frames : list of (str, bytes)
            The recipient and the header of each; they have no buffers.
        """
        caller, confirmed, again, patient = about
        with self._underway:
            for to, header in frames:
                self._take(PartyId(to), Frame(header))
                await asyncio.sleep(0)  # the loop turns between two: what the first has set off need not wait
        return await self._peers[caller].answer(confirmed, again, patient)

    async def deliver_pieces(self, caller: int, pieces: list[Piece], *slices: NDArray[np.uint8]) -> None:
        """Take in pieces of long frames for parties of this process.

        Parameters
        ----------
        caller : int
            The caller's place among all processes.
        pieces : list of Piece
            In the order in which the caller sends them.
        *slices : uint8 arrays
            Consecutive bytes of the buffers, piece after piece.
        """
        with self._underway:
            for to, frame in self._peers[caller].take_pieces(pieces, slices):
                self._take(to, frame)
                await asyncio.sleep(0)  # as between short frames

    @ray.method(concurrency_group="control")
    async def ping(self) -> int:
        """Answer at once: the number of this process."""
        return os.getpid()

    async def watch(self) -> None:
        """Answer after a while: a call that is pending fails at once when this process dies.

        Who has given this process up, be it for a cut cable, cannot take its call back. So it ends for itself, and
        is not in the control group: there such calls would pile up until no ping was answered any more.
        """
        await asyncio.sleep(WATCH_SECONDS)

    async def leave(self) -> None:
        """End every session of every party, telling the others."""
        hurried = asyncio.gather(*(peer.hurry() for peer in self._peers.values()))
        await asyncio.gather(*(party.leave() for party in self._parties.values()))
        hurried.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _unreached(self, here: Party, there: PartyId) -> None:
        """Note that a frame of a party could not be brought to another."""
        here.lose(there)

    def _take(self, to: PartyId, frame: Frame) -> None:
        """Give a party a frame; whatever comes of it, the frames of the others go on."""
        try:
            self._parties[to].driver.deliver(frame)
        except Exception as error:  # noqa: BLE001 - a text may hold values
            logger.error("a frame could not be taken in: %s", type(error).__name__)


def _identity(header: bytes) -> PartyMessage:
    """Read a public identity."""
    identity = decode(Frame(header, ()))
    if not isinstance(identity, PartyMessage):
        raise SetupError("a host introduces a party with something that is no identity")
    return identity
