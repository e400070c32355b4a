"""Networks of parties in the simulator, for the tests of every protocol."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tacit.protocols.channel import Role
from tacit.protocols.invitation import Opened, Prepared, encodings_for, invite, prepare
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import (
    Aggregate,
    Protocol,
    accepted_by_aggregator,
    accepted_by_coordinator,
    accepted_by_holder,
    aggregator_role,
    coordinator_role,
    holder_role,
)
from tacit.protocols.simulation import Run, Simulation
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Begin, Closed, Invitation, Query

Contribution = Mapping[str, NDArray[Any]]

COORDINATOR = PartyId("k")

M = TypeVar("M", bound=Message)


@cache
def identity(name: str, kind: str) -> Identity:
    """The identity of a party in all runs: it does not follow the seed."""
    return Identity(name, kind, random.Random(f"identity {name}").randbytes)


@dataclass
class Network:
    """A coordinator `k`, some holders with contributions, and `aggregator-1`, … if the protocol has some.

    They are ready for one session in the simulator.
    """

    protocol: Protocol[Any]
    contributions: Mapping[str, Contribution]
    seed: int = 0
    encoding: Message | None = None
    query: Query = field(default_factory=lambda: Query(step="sum"))
    voids: bool = False
    previous: tuple[Closed, ...] = ()
    dies_after: Mapping[str, int] = field(default_factory=dict)
    dies_before: Mapping[str, type[Message]] = field(default_factory=dict)
    memories: dict[str, Any] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    released_over: dict[str, tuple[PartyId, ...]] = field(default_factory=dict)
    roles: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    around: Mapping[str, Callable[[Role[Any]], Role[Any]]] = field(default_factory=dict)
    faults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {COORDINATOR: "coordinator", **dict.fromkeys(self.contributions, "holder")}
        kinds |= {f"aggregator-{i + 1}": "aggregator" for i in range(self.protocol.aggregators)}
        for name, kind in kinds.items():
            self.identities.setdefault(name, identity(name, kind))
            self.memories.setdefault(name, self.protocol.memory())
        self.roster = Roster(tuple(self.identities[name].public for name in kinds))
        self.simulation = Simulation(self.seed, **self.faults)
        self.session = self.simulation.random_bytes(32)
        self.keys: dict[str, SessionKeys] = {
            name: SessionKeys(self.identities[name], self.roster, self.session, self.simulation.random_bytes)
            for name in self.roster
        }

    def invitation(self) -> Invitation:
        return invite(
            self.keys[COORDINATOR],
            protocol=self.protocol.options,
            encoding=self.encoding,
            definition=bytes(32),
            query=self.query,
            previous=self.previous,
        )

    def examine(self, name: str) -> Callable[[Invitation], Prepared]:
        def examine(invitation: Invitation) -> Prepared:
            holders = len(Roster(invitation.roster).holders)
            return prepare(
                self.contributions[name],
                invitation.encoding,
                holders,
                void=self.voids,
                random_bytes=self.simulation.random_bytes,
            )

        return examine

    def run(self) -> Run:
        honest_coordinator = coordinator_role(
            self.protocol, self.keys[COORDINATOR], self.invitation(), self.memories[COORDINATOR]
        )
        self.simulation.add(
            COORDINATOR,
            self._role(COORDINATOR, honest_coordinator),
            accepts=accepted_by_coordinator(self.protocol, self.roster),
            dies_after=self.dies_after.get(COORDINATOR),
        )
        for name in self.contributions:
            honest = holder_role(
                self.protocol,
                self.keys[name],
                self.examine(name),
                self.memories[name],
                partial(self._release, name),
            )
            self.simulation.add(
                name,
                self._role(name, honest),
                accepts=accepted_by_holder(self.protocol, self.roster, PartyId(name)),
                tell=(COORDINATOR, *self.roster.aggregators),
                dies_after=self.dies_after.get(name),
                dies_before=self.dies_before.get(name),
            )
        for name in self.roster.aggregators:
            self._add_aggregator(name)
        return self.simulation.run()

    def _add_aggregator(self, name: PartyId) -> None:
        honest = aggregator_role(
            self.protocol,
            self.keys[name],
            lambda _: None,
            self.memories[name],
            partial(self._release, name),
        )
        self.simulation.add(
            name,
            self._role(name, honest),
            accepts=accepted_by_aggregator(self.protocol, self.roster, name),
            tell=(COORDINATOR,),
            dies_after=self.dies_after.get(name),
            dies_before=self.dies_before.get(name),
        )

    def _role(self, name: str, honest: Role[Any]) -> Role[Any]:
        role = self.roles.get(name, honest)
        return self.around[name](role) if name in self.around else role

    def _release(self, name: str, invitation: Invitation, holders: Collection[PartyId]) -> None:
        self.released.append(name)
        self.released_over[name] = tuple(holders)

    def opened(self, run: Run) -> Opened:
        """What all parties held in common in a run that got as far as Begin."""
        invitation = next(sent.message for sent in run.sent if isinstance(sent.message, Invitation))
        begin = next(sent.message for sent in run.sent if isinstance(sent.message, Begin))
        encodings = encodings_for(invitation.encoding, begin.ready[0].arrays, len(self.roster.holders))
        needed = self.protocol.needed(len(self.roster.holders))
        return Opened(invitation, begin, self.roster, encodings, needed)

    def aggregate(self) -> Aggregate:
        result = self.run().result(COORDINATOR)
        assert isinstance(result, Aggregate)
        return result


def messages(run: Run, kind: type[M]) -> list[M]:
    """All messages of a kind, in the order of sending."""
    return [sent.message for sent in run.sent if isinstance(sent.message, kind)]


def floats(*values: float) -> Contribution:
    """One array named x."""
    return {"x": np.array(values, dtype=np.float64)}


def integers(*values: int) -> Contribution:
    """One array named x."""
    return {"x": np.array(values, dtype=np.int64)}
