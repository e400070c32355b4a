"""What every party is: an identity made in its own process, a driver of sessions, and a pinned roster.

A party knows nothing of Ray: a `Host` runs it, alone in a process or beside others. Protocol state lives in
the host's main loop alone.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import ClassVar

from ..protocols.key_agreement import Identity
from ..protocols.party import PartyId, Roster
from ..serialization.link_messages import Sealed
from .driver import Driver, Transport
from .errors import ActorError


class Party:
    """One party.

    Parameters
    ----------
    name : str
        Its name in the roster.
    identity : Identity, optional
        Its keys; by default fresh ones, which end with it.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, identity: Identity | None = None) -> None:
        self.name = PartyId(name)
        self.identity = identity or Identity(name, self.kind, os.urandom)
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

    def pin(
        self,
        roster: Roster,
        transport: Transport,
        threads: ThreadPoolExecutor | None = None,
        underway: AbstractContextManager[None] | None = None,
    ) -> None:
        """Pin the identities of all parties, and how frames reach them. **Call once**.

        Parameters
        ----------
        roster : Roster
            The identities.
        transport : Transport
            Where frames leave.
        threads, underway : optional
            As of `Driver`.

        Raises
        ------
        ActorError
            On a second call, or if the roster has another identity under this party's name.
        """
        if self._roster is not None:
            raise ActorError(f"{self.name} is connected already: a roster is pinned once")
        if self.name not in roster or roster[self.name] != self.identity.public:
            raise ActorError(f"the roster does not have {self.name} with its own keys")
        self._roster = roster
        self._driver = Driver(self.name, transport, invited=self._invited, threads=threads, underway=underway)

    def lose(self, party: PartyId) -> None:
        """Tell every session that another party is gone."""
        self.driver.peer_lost(party)

    def regain(self, party: PartyId) -> None:
        """Take note that another party is there again: for sessions that are to come."""

    async def leave(self) -> None:
        """End every session, telling the others."""
        if self._driver is not None:
            self._driver.close()
            await self._driver.flush()

    def _invited(self, sealed: Sealed) -> bool:
        """Take the first frame of a session that somebody opens with this party: refused by default."""
        return False
