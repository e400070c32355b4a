"""Parties in one event loop whose coordinator does not know the holders: the code of the actors, without Ray."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from in_process import COORDINATOR, Network, Posted, Repository, Wire, definition_of
from tacit.actors.aggregator import Aggregator
from tacit.actors.computation import Terms
from tacit.actors.convener import Convener
from tacit.actors.coordinator import Coordinator
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Event, Failure, Result
from tacit.actors.party import Party
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.party import AGGREGATOR, ASKER, PartyId, Roster
from tacit.serialization.schema import Message

CONVENER, OTHER = PartyId("aggregator-1"), PartyId("aggregator-2")


@dataclass
class HiddenHolders:
    """Parties by name, connected with each other but for the coordinator; make it within a running loop."""

    data: Mapping[str, Any]
    protocol: AdditiveSharing = field(default_factory=lambda: AdditiveSharing(at_most=9))
    posted: list[Posted] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    dead: set[PartyId] = field(default_factory=set)
    on_frame: Callable[[Posted], bool] = lambda _: True

    def __post_init__(self) -> None:
        self.repository = Repository()
        self.coordinator = Coordinator(COORDINATOR, self.repository)
        self.convener = Convener(CONVENER)
        self.holders = {PartyId(n): DataHolder(n, rows, simulation=True) for n, rows in self.data.items()}
        self.adders: dict[PartyId, Aggregator] = {CONVENER: self.convener, OTHER: Aggregator(OTHER)}
        self.parties: dict[PartyId, Party] = {COORDINATOR: self.coordinator, **self.adders, **self.holders}
        known = [self.parties[name].identity.public for name in (COORDINATOR, *self.adders)]
        its = [known[0], *(dataclasses.replace(party, kind=AGGREGATOR) for party in known[1:])]
        asker = dataclasses.replace(known[0], kind=ASKER)
        holders = [holder.identity.public for holder in self.holders.values()]
        self.roster = Roster((asker, *known[1:], *holders))
        for name, party in self.parties.items():
            roster = Roster(tuple(its)) if name == COORDINATOR else self.roster
            party.pin(roster, Wire(cast("Network", self), name))
        self.coordinator.commitment = self.convener.commitment

    async def __aenter__(self) -> HiddenHolders:
        return self

    async def __aexit__(self, *_: object) -> None:
        for party in self.parties.values():
            await party.leave()

    def kill(self, name: str) -> None:
        """Let a holder vanish; the aggregators notice a moment later, and nobody else."""
        self.dead.add(PartyId(name))
        for aggregator in self.adders.values():
            asyncio.get_running_loop().call_soon(aggregator.lose, PartyId(name))

    async def run(
        self,
        model: Any,
        *,
        on_dropout: Literal["fail", "continue"] = "fail",
        encoding: Message | None = None,
        protocol: Any = None,
        name: str = "computation",
    ) -> Result:
        """Run a model to its end; raises what the coordinator tells of its failure."""
        definition = definition_of(model)
        for holder in self.holders.values():
            holder._models[definition] = model
        terms = Terms(protocol or self.protocol, encoding, on_dropout)
        async for event in self.coordinator.compute(name, model, definition, terms):
            self.events.append(event)
            if isinstance(event, Failure):
                raise event.error
            if isinstance(event, Result):
                return event
        raise AssertionError("the events end without a result")

    async def settle(self) -> None:
        """Wait until no session is under way: every party has learned the end."""
        while any(p.driver._running for n, p in self.parties.items() if n not in self.dead):  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def of_coordinator(self) -> list[tuple[str, str, int]]:
        """Return the frames that its network can count."""
        return [
            (posted.sender, posted.to, posted.frame.size)
            for posted in self.posted
            if COORDINATOR in {posted.sender, posted.to}
        ]
