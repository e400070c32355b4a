"""What every party is: an identity made in its own process, a driver of sessions, and a pinned roster.

A plain asyncio class; `cluster` makes a Ray actor of it. Protocol state lives in the actor's main loop
alone. The control group has a loop of its own, so that a party that computes still answers `ping`.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import ray
from numpy.typing import NDArray

from ..protocols.key_agreement import Identity
from ..protocols.party import PartyId, Roster
from ..serialization.codec import Frame, decode, encode
from ..serialization.link_messages import Sealed
from ..serialization.session_messages import Party as PartyMessage
from .driver import Driver, Transport
from .errors import ActorError
from .transport import RayTransport


class Party:
    """One party.

    Parameters
    ----------
    name : str
        Its name in the roster.
    """

    kind: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = PartyId(name)
        self.identity = Identity(name, self.kind, os.urandom)
        self._roster: Roster | None = None
        self._driver: Driver | None = None

    @property
    def roster(self) -> Roster:
        """The pinned identities of all parties."""
        if self._roster is None:
            raise ActorError(f"{self.name} is not connected to the others yet")
        return self._roster

    @property
    def driver(self) -> Driver:
        """Runs this party's sessions."""
        if self._driver is None:
            raise ActorError(f"{self.name} is not connected to the others yet")
        return self._driver

    async def introduce(self) -> bytes:
        """Return the public identity, as a frame."""
        return encode(self.identity.public).header

    async def connect(self, parties: list[bytes], handles: Mapping[str, Any]) -> None:
        """Pin the identities of all parties and learn in which actors they run. **Call once**."""
        pinned = [decode(Frame(header, ())) for header in parties]
        roster = Roster(tuple(party for party in pinned if isinstance(party, PartyMessage)))
        others = {PartyId(name): handle for name, handle in handles.items() if name != self.name}
        self.pin(roster, RayTransport(others, self._peer_lost))
        gc.collect()
        gc.freeze()  # what is imported by now stays: a collection in the middle of a pass looks at the rest only

    def pin(self, roster: Roster, transport: Transport) -> None:
        """Pin the identities of all parties, and how frames reach them. **Call once**.

        Raises
        ------
        ActorError
            On a second call, or if the roster has another identity under this party's name.
        """
        if self._roster is not None:
            raise ActorError(f"{self.name} is connected already: a roster is pinned once")
        if self.identity.public not in roster.parties:
            raise ActorError(f"the roster does not have {self.name} with its own keys")
        self._roster = roster
        self._driver = Driver(self.name, transport, invited=self._invited)

    async def deliver(self, header: bytes, *buffers: NDArray[np.uint8]) -> None:
        """Take in one frame."""
        self.driver.deliver(Frame(header, buffers))

    @ray.method(concurrency_group="control")
    async def ping(self) -> int:
        """Answer at once: the number of this process."""
        return os.getpid()

    @ray.method(concurrency_group="control")
    async def watch(self) -> None:
        """Never answer: the pending call fails at once when this process dies."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """End every session, telling the others."""
        if self._driver is not None:
            self._driver.close()
            await self._driver.flush()

    def _peer_lost(self, party: PartyId) -> None:
        self.driver.peer_lost(party)

    def _invited(self, sealed: Sealed) -> bool:
        """Take the first frame of a session that somebody opens with this party: refused by default."""
        return False
