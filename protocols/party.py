"""Who takes part: the parties, their pinned public identities, and the roster that orders them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NewType

from ..serialization.codec import digest
from ..serialization.session_messages import Party
from .errors import SetupError

PartyId = NewType("PartyId", str)

COORDINATOR = "coordinator"
HOLDER = "holder"
AGGREGATOR = "aggregator"
ASKER = "asker"


@dataclass(frozen=True)
class Roster:
    """The parties of a session in their agreed order, each with its pinned public keys.

    Parameters
    ----------
    parties : tuple of Party
        One coordinator, the holders, and the aggregators of a protocol that has some; names and keys are all
        different. Where the one who asks is kept from knowing the holders (`convening`), that one is the
        *asker*, and the first aggregator, who convenes them, has the coordinator's place.

    Raises
    ------
    SetupError
        If names or keys repeat, or there is not exactly one coordinator.
    """

    parties: tuple[Party, ...]
    _by_name: dict[str, Party] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {party.name: party for party in self.parties})
        names = [party.name for party in self.parties]
        keys = [key for party in self.parties for key in (party.verify_key, party.agreement_key)]
        if len(set(names)) != len(names) or "" in names:
            raise SetupError("the roster names a party twice, or has a party without a name")
        if len(set(keys)) != len(keys):
            raise SetupError("two parties of the roster share a key: each must make its own identity")
        if sum(party.kind == COORDINATOR for party in self.parties) != 1:
            raise SetupError("a roster has exactly one coordinator")

    def __iter__(self) -> Iterator[PartyId]:
        return (PartyId(party.name) for party in self.parties)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: PartyId) -> Party:
        if name not in self._by_name:
            raise SetupError(f"{name!r} is not in the roster")
        return self._by_name[name]

    @property
    def coordinator(self) -> PartyId:
        """The one coordinator."""
        return next(PartyId(party.name) for party in self.parties if party.kind == COORDINATOR)

    @cached_property
    def holders(self) -> tuple[PartyId, ...]:
        """The data holders, in roster order."""
        return tuple(PartyId(party.name) for party in self.parties if party.kind == HOLDER)

    @cached_property
    def aggregators(self) -> tuple[PartyId, ...]:
        """The aggregators, in roster order; most protocols have none."""
        return tuple(PartyId(party.name) for party in self.parties if party.kind == AGGREGATOR)

    @cached_property
    def asker(self) -> PartyId | None:
        """Who asks, if it is not the coordinator of this roster: no holder is invited, or seen, by it."""
        return next((PartyId(party.name) for party in self.parties if party.kind == ASKER), None)

    @cached_property
    def adders(self) -> tuple[PartyId, ...]:
        """Who adds shares: the aggregators; before them the coordinator, if it is one that convenes for an asker."""
        return self.aggregators if self.asker is None else (self.coordinator, *self.aggregators)

    @cached_property
    def invited(self) -> tuple[PartyId, ...]:
        """Everybody whom the coordinator invites: the holders, then the aggregators."""
        return self.holders + self.aggregators

    @cached_property
    def identities(self) -> frozenset[bytes]:
        """The hash of each party's name, kind and keys."""
        return frozenset(map(digest, self.parties))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all identities, in order: 32 bytes."""
        return hashlib.sha256(b"tacit roster" + b"".join(map(digest, self.parties))).digest()

    def without(self, lost: Sequence[str]) -> Roster:
        """Return the roster of those who are left."""
        return Roster(tuple(party for party in self.parties if party.name not in lost))
