"""Networks in the simulator whose coordinator `k` does not know the holders, for the tests of `convening`."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from networks import COORDINATOR, Contribution
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.channel import Role
from tacit.protocols.convening import (
    ConvenedAggregate,
    accepted_by_asker,
    accepted_by_convener,
    asker_role,
    convener_role,
)
from tacit.protocols.convening_steps import commitment_to
from tacit.protocols.invitation import Prepared, invite, prepare
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import (
    accepted_by_aggregator,
    accepted_by_holder,
    aggregator_role,
    holder_role,
)
from tacit.protocols.session import Accepted
from tacit.protocols.simulation import Run, Simulation
from tacit.serialization.convening_messages import Commission
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Invitation, Query

CONVENER, OTHER = PartyId("aggregator-1"), PartyId("aggregator-2")
SALT = bytes(range(32))
KINDS = {COORDINATOR: "asker", CONVENER: "coordinator"}  # as all but the coordinator itself see them


@cache
def identity(name: str) -> Identity:
    """The identity of a party in all runs: it does not follow the seed."""
    kind = "coordinator" if name == COORDINATOR else "aggregator" if "aggregator" in name else "holder"
    return Identity(name, KINDS.get(PartyId(name), kind), random.Random(f"convened {name}").randbytes)


def consents(invitation: Invitation) -> None:
    """A party's policy that allows everything."""


def forgets(invitation: Invitation, holders: Collection[PartyId]) -> None:
    """A party's memory that keeps nothing."""


def as_it_is(role: Role[Any]) -> Role[Any]:
    """A party that plays its role."""
    return role


@dataclass
class ConvenedNetwork:
    """A coordinator `k`, its aggregators, and holders whom it does not know, ready for one session."""

    contributions: Mapping[str, Contribution]
    protocol: AdditiveSharing = field(default_factory=lambda: AdditiveSharing(at_most=20))
    seed: int = 0
    encoding: Message | None = None
    query: Query = field(default_factory=lambda: Query(step="sum"))
    voids: bool = False
    everybody: bool = False
    salt: bytes = SALT  # the convener's; the coordinator's commitment is to SALT
    dies_after: Mapping[str, int] = field(default_factory=dict)
    dies_before: Mapping[str, type[Message]] = field(default_factory=dict)
    around: Mapping[str, Callable[[Role[Any]], Role[Any]]] = field(default_factory=dict)
    examining: Mapping[str, Callable[[Invitation], None]] = field(default_factory=dict)
    releasing: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    released_over: dict[str, tuple[PartyId, ...]] = field(default_factory=dict)
    faults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        aggregators = [f"aggregator-{i + 1}" for i in range(self.protocol.aggregators)]
        names = [COORDINATOR, *aggregators, *self.contributions]
        publics = [identity(name).public for name in names]
        self.roster = Roster(
            tuple(dataclasses.replace(p, kind=KINDS.get(PartyId(p.name), p.kind)) for p in publics)
        )
        as_seen = [dataclasses.replace(p, kind="aggregator") for p in publics[1 : len(aggregators) + 1]]
        self.asked = Roster((dataclasses.replace(publics[0], kind="coordinator"), *as_seen))
        self.simulation = Simulation(self.seed, **self.faults)
        self.session = self.simulation.random_bytes(32)
        self.keys = {
            name: SessionKeys(
                identity(name),
                self.asked if name == COORDINATOR else self.roster,
                self.session,
                self.simulation.random_bytes,
            )
            for name in self.roster
        }

    def commission(self) -> Commission:
        return Commission(
            options=self.protocol.options,
            commitment=commitment_to(self.roster, SALT),
            everybody=self.everybody,
        )

    def invitation(self) -> Invitation:
        return invite(
            self.keys[COORDINATOR],
            protocol=self.commission(),
            encoding=self.encoding,
            definition=bytes(32),
            query=self.query,
        )

    def examine(self, name: str, invitation: Invitation) -> Prepared:
        self.examining.get(name, consents)(invitation)
        n = self.protocol.contributions(len(self.contributions))
        random_bytes = self.simulation.random_bytes
        return prepare(
            self.contributions[name], invitation.encoding, n, void=self.voids, random_bytes=random_bytes
        )

    def run(self) -> Run:
        self._add(
            COORDINATOR,
            asker_role(self.protocol, self.keys[COORDINATOR], self.invitation()),
            accepted_by_asker(self.asked),
            self.asked.aggregators,
        )
        for name in self.roster.holders:
            role = holder_role(
                self.protocol,
                self.keys[name],
                partial(self.examine, name),
                None,
                partial(self._release, name),
            )
            accepts = accepted_by_holder(self.protocol, self.roster, name)
            self._add(name, role, accepts, self.roster.adders)
        for name in self.roster.adders:
            examine, release = self.examining.get(name, consents), partial(self._release, name)
            if name == CONVENER:
                role = convener_role(self.protocol, self.keys[name], self.salt, examine, release)
                self._add(name, role, accepted_by_convener(self.roster), self.roster.invited)
            else:
                role = aggregator_role(self.protocol, self.keys[name], examine, None, release)
                self._add(name, role, accepted_by_aggregator(self.protocol, self.roster, name), (CONVENER,))
        return self.simulation.run()

    def _add(self, name: PartyId, role: Role[Any], accepts: Accepted, tell: Collection[PartyId]) -> None:
        self.simulation.add(
            name,
            self.around.get(name, as_it_is)(role),
            accepts=accepts,
            tell=tell,
            dies_after=self.dies_after.get(name),
            dies_before=self.dies_before.get(name),
        )

    def _release(self, name: str, invitation: Invitation, holders: Collection[PartyId]) -> None:
        self.releasing.get(name, forgets)(invitation, holders)
        self.released_over[name] = tuple(holders)

    def aggregate(self) -> ConvenedAggregate:
        result = self.run().result(COORDINATOR)
        assert isinstance(result, ConvenedAggregate)
        return result
