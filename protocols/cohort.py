"""The parties that adversaries attack: a coordinator and holders with random inputs, who sum many times.

What they keep between sums outlives each *meeting* (`meeting`). Around the protocol stands what a deployment puts
there, handed in from the layers above: links that seal every frame, and the holders' memory of what they have released.
**Everything here is drawn from a seed**: for attacks in the simulator only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np

from ..serialization.codec import Frame
from ..serialization.link_messages import Sealed
from ..serialization.schema import Message
from ..serialization.session_messages import Invitation, Query
from .adversary import Loot, Values
from .key_agreement import Identity, SessionKeys
from .party import AGGREGATOR, COORDINATOR, HOLDER, PartyId, Roster
from .protocol import Protocol

LARGEST_INPUT = 2**20  # of all but the victim, whose input stands out
COORDINATOR_NAME = PartyId("coordinator")


class Seals(Interface):
    """A party's sealed links."""

    def seal(self, to: PartyId, message: Message) -> Frame:
        """Encrypt for one party."""

    def open(self, sealed: Sealed) -> Message:
        """Decrypt, and refuse what was not sealed for this party."""


class Releases(Interface):
    """A holder's memory of what it has released."""

    def allows(self, invitation: Invitation, *, dispensable: int) -> bool:
        """Whether answering cannot isolate a holder."""

    def record(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        """Remember a release."""


@dataclass(frozen=True)
class Surroundings:
    """What a deployment puts around a protocol.

    Attributes
    ----------
    links : callable, optional
        Makes a party's links from its keys of a session; without them frames travel in the clear.
    releases : callable, optional
        Makes a holder's memory from its name and the roster; without it nothing is remembered.
    voids : bool
        Whether a value out of range voids the session in secret, as in a deployment, or is refused by name.
    """

    links: Callable[[SessionKeys], Seals] | None = None
    releases: Callable[[PartyId, Roster], Releases] | None = None
    voids: bool = True


class Cohort:
    """Parties who sum many times; the first holder is the one that attacks are after.

    Parameters
    ----------
    protocol : Protocol
    n_holders : int
    seed : int
        All randomness follows from it.
    surroundings : Surroundings

    Attributes
    ----------
    coordinator, victim : PartyId
    accomplices : tuple of PartyId
        The last holders, as many as may pool with the coordinator.
    identities : dict of PartyId to Identity
    roster : Roster
        The pinned identities.
    memories : dict of PartyId to Any
        What each party keeps between sums.
    random_bytes : callable
        Source of what is random in the cohort itself.
    """

    def __init__(
        self, protocol: Protocol[Any], n_holders: int, seed: int, surroundings: Surroundings
    ) -> None:
        self.protocol = protocol
        self.surroundings = surroundings
        self._random = random.Random(seed)  # noqa: S311 - a simulation is repeatable on purpose
        self.random_bytes = self._random.randbytes
        holders = [PartyId(f"holder-{i + 1}") for i in range(n_holders)]
        aggregators = [PartyId(f"aggregator-{i + 1}") for i in range(protocol.aggregators)]
        self.coordinator, self.victim = COORDINATOR_NAME, holders[0]
        self.accomplices = tuple(holders[max(1, n_holders - protocol.colluding) :])
        kinds = {COORDINATOR_NAME: COORDINATOR} | dict.fromkeys(holders, HOLDER)
        kinds |= dict.fromkeys(aggregators, AGGREGATOR)
        self.identities = {name: self.new_identity(name, kind) for name, kind in kinds.items()}
        self.roster = Roster(tuple(identity.public for identity in self.identities.values()))
        self.memories: dict[PartyId, Any] = {name: protocol.memory() for name in self.roster}
        self._releases = {name: self._new_releases(name) for name in self.roster}
        self._inputs = {name: self._new_values() for name in holders}
        self._inputs[self.victim] += LARGEST_INPUT
        self._changes: dict[PartyId, Values] = {}

    def new_identity(self, name: str, kind: str = HOLDER) -> Identity:
        """Return an identity of that name, pinned only if it was made at the start."""
        return Identity(name, kind, self.random_bytes)

    def new_seed(self) -> int:
        """Return the seed of the next meeting: parties draw anew in each."""
        return self._random.getrandbits(64)

    def restart(self, holder: PartyId) -> None:
        """Start a holder anew: it has lost what it kept, and its data has changed meanwhile."""
        self.memories[holder] = self.protocol.memory()
        self._releases[holder] = self._new_releases(holder)
        self._changes[holder] = self._new_values()
        self._inputs[holder] = self._inputs[holder] + self._changes[holder]

    def accepted(self, roster: Roster) -> Roster:
        """Return with whom an honest holder takes part: those invited if all are pinned, else all who are pinned."""
        return roster if all(party in self.roster.parties for party in roster.parties) else self.roster

    def releases(self, party: PartyId) -> Releases | None:
        """Return a party's memory of what it has released, if it has one."""
        return self._releases.get(party)

    def contribution(self, holder: PartyId, query: Query, encoding: Message | None) -> dict[str, Values]:
        """Evaluate the one model that all have at a holder: its input times a public number."""
        values = self._inputs[holder] * int(query.arrays["factor"])
        return {"x": values.astype(np.int32 if encoding is None else np.float64)}

    def sum_of(self, holders: Collection[PartyId]) -> Values:
        """Return the sum of some inputs, for parties who know them."""
        return sum((self._inputs[holder] for holder in holders), np.zeros(1, dtype=np.int64))

    def is_won(self, loot: Loot) -> bool:
        """Compare what an adversary came away with with the truth, which it does not know."""
        if loot.value is None:
            return False
        if loot.prize == "total" or loot.victim is None:
            return not np.array_equal(loot.value, self.sum_of(self._inputs))
        known = self._inputs if loot.prize == "input" else self._changes
        return np.array_equal(loot.value, known[loot.victim])

    def _new_values(self) -> Values:
        return np.array([self._random.randint(1, LARGEST_INPUT)], dtype=np.int64)

    def _new_releases(self, party: PartyId) -> Releases | None:
        make = self.surroundings.releases
        return None if make is None else make(party, self.roster)
