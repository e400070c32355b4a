"""A coordinator and holders in one event loop: the code of the actors, without Ray.

Frames go from object to object through `Wire`, which keeps a copy of each, and on which a test can let parties die,
hold frames back, or look at them on their way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tacit.actors.computation import Kept, Terms
from tacit.actors.coordinator import Coordinator
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Event, Failure, Result
from tacit.actors.long_frames import LongFrame
from tacit.actors.party import Party
from tacit.models.sum import Sum
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import Protocol
from tacit.protocols.ring_paillier import RingPaillier
from tacit.records.policy import Policy
from tacit.serialization.codec import Frame, decode
from tacit.serialization.link_messages import Sealed
from tacit.serialization.ring_paillier_messages import RingPaillierOptions
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Invitation

COORDINATOR = PartyId("coordinator")
SMALL = RingPaillier.insecure_for_tests(256)


@dataclass(frozen=True, slots=True)
class Posted:
    """A frame on its way."""

    sender: PartyId
    to: PartyId
    frame: Frame

    @property
    def sealed(self) -> Sealed:
        message = decode(self.frame)
        assert isinstance(message, Sealed)
        return message

    @property
    def between_holders(self) -> bool:
        return COORDINATOR not in (self.sender, self.to)

    @property
    def content(self) -> bytes:
        return self.frame.header + b"".join(buffer.tobytes() for buffer in self.frame.buffers)


class Repository:
    """Takes records as the repository's actor does."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.append_aggregate = self
        self.write_run = Runs()

    async def remote(self, record: dict[str, Any]) -> int:
        self.records.append(record)
        return len(self.records)


class Runs:
    """Takes the logs of runs as the repository's actor does."""

    def __init__(self) -> None:
        self.written: dict[str, list[dict[str, Any]]] = {}

    async def remote(self, run: str, lines: list[dict[str, Any]]) -> None:
        self.written[run] = lines


class ShortKeys(DataHolder):
    """A holder that takes part with keys short enough for tests."""

    def _protocol(self, invitation: Invitation) -> Protocol[Any]:
        options = invitation.protocol
        assert isinstance(options, RingPaillierOptions)
        return RingPaillier.insecure_for_tests(
            options.key_bits,
            masks=options.masks,
            fresh_keys=options.fresh_keys,
            colluding=options.colluding,
        )


class Wire:
    """One party's transport."""

    def __init__(self, network: Network, sender: PartyId) -> None:
        self._network = network
        self._sender = sender

    async def post(self, to: PartyId, sent: Frame | LongFrame) -> None:
        frame = sent.whole() if isinstance(sent, LongFrame) else sent
        network, posted = self._network, Posted(self._sender, to, frame)
        if self._sender in network.dead:
            return
        network.posted.append(posted)
        await asyncio.sleep(0)
        if network.on_frame(posted) and to not in network.dead:
            network.parties[to].driver.deliver(frame)


@dataclass
class Network:
    """Parties by name, connected with each other; make it within a running loop.

    `on_frame` is shown every frame, and decides whether it is delivered.
    """

    data: Mapping[str, Any]
    simulation: bool = True
    protocol: Protocol[Any] = SMALL
    holder: type[DataHolder] = ShortKeys
    policies: Mapping[str, Policy] = field(default_factory=dict)
    posted: list[Posted] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    dead: set[PartyId] = field(default_factory=set)
    on_frame: Callable[[Posted], bool] = lambda _: True

    def __post_init__(self) -> None:
        self.repository = Repository()
        self.coordinator = Coordinator(COORDINATOR, self.repository)
        self.holders = {
            PartyId(name): self.holder(name, rows, simulation=self.simulation, policy=self.policies.get(name))
            for name, rows in self.data.items()
        }
        self.parties: dict[PartyId, Party] = {COORDINATOR: self.coordinator, **self.holders}
        self.roster = Roster(tuple(party.identity.public for party in self.parties.values()))
        for name, party in self.parties.items():
            party.pin(self.roster, Wire(self, name))

    async def __aenter__(self) -> Network:
        return self

    async def __aexit__(self, *_: object) -> None:
        for party in self.parties.values():
            await party.leave()

    def kill(self, name: str) -> None:
        """Let a party vanish; the coordinator notices a moment later, as it does with Ray."""
        self.dead.add(PartyId(name))
        asyncio.get_running_loop().call_soon(self.coordinator.lose, PartyId(name))

    def install(self, model: Any) -> bytes:
        """Put a model into every holder, from its own side; returns the definition."""
        definition = definition_of(model)
        for holder in self.holders.values():
            holder._models[definition] = model
        return definition

    async def run(
        self,
        model: Any,
        *,
        on_dropout: Literal["fail", "continue"] = "fail",
        encoding: Message | None = None,
        kept: Kept | None = None,
        needed: int = 0,
        name: str = "computation",
    ) -> Result:
        """Run a model to its end; raises what the coordinator tells of its failure."""
        definition = self.install(model)
        async for event in self.coordinator.compute(
            name, model, definition, Terms(self.protocol, encoding, on_dropout, kept, needed)
        ):
            self.events.append(event)
            if isinstance(event, Failure):
                raise event.error
            if isinstance(event, Result):
                return event
        raise AssertionError("the events end without a result")

    async def sum(self, function: Callable[..., Any], at: Any = None, **options: Any) -> NDArray[Any]:
        """Sum a function over the holders."""
        return np.asarray((await self.run(Sum(function, at), **options)).value)

    @property
    def n_running(self) -> int:
        """Sessions under way at all parties that live."""
        living = [party for name, party in self.parties.items() if name not in self.dead]
        return sum(len(party.driver._running) for party in living)

    async def settle(self) -> None:
        """Wait until no session is under way: every party has learned the end."""
        while self.n_running:  # noqa: ASYNC110 - many parties, and nothing to be added to them for tests
            await asyncio.sleep(0.001)


class FirstSums:
    """Sees the frame with which the coordinator starts each ring: the first after everybody's `Begin`.

    Put it into `Network.on_frame`.

    Parameters
    ----------
    network : Network
    hold : int
        So many of them are held back, until the test delivers them.
    then : callable, optional
        Called with each that is not held back, before it is delivered.
    """

    def __init__(
        self, network: Network, *, hold: int = 0, then: Callable[[Posted], None] = lambda _: None
    ) -> None:
        self._network = network
        self._hold = hold
        self._then = then
        self._begun: Counter[bytes] = Counter()
        self.held: list[Posted] = []

    def __call__(self, posted: Posted) -> bool:
        sealed = posted.sealed
        if posted.sender != COORDINATOR or sealed.handshake:
            return True
        self._begun[sealed.session] += 1
        n_holders = sum(
            first.sealed.session == sealed.session and first.sealed.handshake
            for first in self._network.posted
        )
        if self._begun[sealed.session] != n_holders + 1:
            return True
        if len(self.held) < self._hold:
            self.held.append(posted)
            return False
        self._then(posted)
        return True

    async def held_up(self, n: int) -> None:
        """Wait until so many are held back."""
        while len(self.held) < n:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)


def definition_of(model: Any) -> bytes:
    """Return a content hash of a model that is good enough for tests."""
    return hashlib.sha256(model.definition.digest + repr(id(model)).encode()).digest()
