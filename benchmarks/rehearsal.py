"""Sums in a single process, without Ray, whose messages can be looked at, and whose steps can be run again, timed.

All parties of a session run in `tacit.Simulation`, one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tacit
from numpy.typing import NDArray
from tacit.protocols.invitation import Opened, Prepared, encodings_for, invite, prepare
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import (
    Protocol,
    accepted_by_aggregator,
    accepted_by_coordinator,
    accepted_by_holder,
    aggregator_role,
    coordinator_role,
    holder_role,
)
from tacit.protocols.simulation import Run
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Begin, Invitation, Query

COORDINATOR = PartyId("coordinator")

M = TypeVar("M", bound=Message)


class Rehearsal:
    """One sum, from invitation to total.

    Parameters
    ----------
    protocol : Protocol
        How to sum.
    vectors : mapping of str to ndarray
        What each holder contributes.
    encoding : Message, optional
        By default `ExactFloat`.
    lost : mapping of str to message class, optional
        Holders that are gone before they send such a message.

    Attributes
    ----------
    keys : dict of PartyId to SessionKeys
    memories : dict of PartyId to any
        What each party keeps for later sums.
    run : Run
    """

    def __init__(
        self,
        protocol: Protocol[Any],
        vectors: Mapping[str, NDArray[Any]],
        encoding: Message | None = None,
        lost: Mapping[str, type[Message]] | None = None,
    ) -> None:
        kinds = {COORDINATOR: "coordinator", **dict.fromkeys(vectors, "holder")}
        kinds |= {f"aggregator-{i + 1}": "aggregator" for i in range(protocol.aggregators)}
        identities = [Identity(name, kind, os.urandom) for name, kind in kinds.items()]
        roster = Roster(tuple(identity.public for identity in identities))
        session = os.urandom(32)
        self._protocol, self._vectors, self._encoding, self._roster = protocol, vectors, encoding, roster
        self.keys = {
            PartyId(identity.public.name): SessionKeys(identity, roster, session, os.urandom)
            for identity in identities
        }
        self.memories = {party: protocol.memory() for party in roster}
        self.run = self._run(lost or {})

    @property
    def opened(self) -> Opened:
        """What all parties hold in common."""
        (invitation, *_), (begin, *_) = self.sent(Invitation), self.sent(Begin)
        n_holders = len(self._roster.holders)
        specifications = next(ready.arrays for ready in begin.ready if ready.arrays)
        encodings = encodings_for(invitation.encoding, specifications, n_holders)
        return Opened(invitation, begin, self._roster, encodings, self._protocol.needed(n_holders))

    @property
    def total(self) -> NDArray[Any]:
        """The sum."""
        total: NDArray[Any] = self.run.result(COORDINATOR).arrays["sum"]
        return total

    def sent(self, kind: type[M]) -> list[M]:
        """All messages of a kind, in the order of sending."""
        return [sent.message for sent in self.run.sent if isinstance(sent.message, kind)]

    def sent_by(self, kind: type[M]) -> dict[PartyId, M]:
        """The message of a kind that each party has sent, in roster order."""
        by_sender = {sent.sender: sent.message for sent in self.run.sent if isinstance(sent.message, kind)}
        return {party: by_sender[party] for party in self._roster if party in by_sender}

    def _run(self, lost: Mapping[str, type[Message]]) -> Run:
        protocol, roster, simulation = self._protocol, self._roster, tacit.Simulation()
        keys = self.keys[COORDINATOR]
        options, query = protocol.options, Query(step="sum")
        asked = invite(keys, protocol=options, encoding=self._encoding, definition=bytes(32), query=query)
        role = coordinator_role(protocol, keys, asked, self.memories[COORDINATOR])
        simulation.add(COORDINATOR, role, accepts=accepted_by_coordinator(protocol, roster))
        for name in roster.holders:
            simulation.add(
                name,
                holder_role(protocol, self.keys[name], self._examine(name), self.memories[name]),
                accepts=accepted_by_holder(protocol, roster, name),
                tell=(COORDINATOR, *roster.aggregators),
                dies_before=lost.get(name),
            )
        for name in roster.aggregators:
            simulation.add(
                name,
                aggregator_role(protocol, self.keys[name], lambda _: None, self.memories[name]),
                accepts=accepted_by_aggregator(protocol, roster, name),
                tell=(COORDINATOR,),
            )
        return simulation.run()

    def _examine(self, name: PartyId) -> Callable[[Invitation], Prepared]:
        def examine(invitation: Invitation) -> Prepared:
            arrays = {"sum": self._vectors[name]}
            return prepare(arrays, invitation.encoding, len(self._roster.holders), void=False)

        return examine
