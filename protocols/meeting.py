"""One session of a cohort in the simulator, with an adversary's eyes and hands on the wires.

Honest parties play their roles as a deployment's do: pinned parties only, a memory of what was released, every frame
sealed. The adversary has the *corrupt* parties: it may give them roles of its own, bend what they send, and read what
they send and get. The network is the adversary's too, but what it sees there is sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..serialization.codec import Frame, decode, encode
from ..serialization.errors import SerializationError
from ..serialization.link_messages import Sealed
from ..serialization.schema import Message
from ..serialization.session_messages import Begin, Closed, Invitation, Query
from .channel import Role
from .cohort import Cohort
from .errors import MisuseError, ProtocolError
from .invitation import ALREADY_RELEASED, Declined, Opened, Prepared, encodings_for, invite, prepare
from .key_agreement import Identity, SessionKeys
from .party import PartyId, Roster
from .protocol import (
    accepted_by_aggregator,
    accepted_by_coordinator,
    accepted_by_holder,
    aggregator_role,
    coordinator_role,
    holder_role,
)
from .simulation import Run, Sent, Simulation

M = TypeVar("M", bound=Message)

DEFINITION = bytes(32)  # of the one model that all have
SESSION_SECONDS = 3_600.0  # virtual ones: until an honest party that was left alone gives up


def _delivered(sender: PartyId, recipient: PartyId, frame: Frame) -> Frame:
    """Deliver a frame as it is."""
    return frame


class Meeting:
    """One session of a cohort.

    Parameters
    ----------
    cohort : Cohort
    corrupt : collection of PartyId, optional
        Whom the adversary has; the coordinator and the accomplices by default.
    roster : Roster, optional
        Who is invited; by default all.
    puppets : mapping of PartyId to Identity, optional
        Parties of the adversary's own making, who go by these names.
    factor : int
        The question: each input times this.
    encoding : Message, optional
    previous : sequence of Closed
        Signed words about sessions that broke.
    session : bytes, optional
        An identifier that the coordinator chooses; by default a fresh one.
    sealed : bool
        Whether links seal frames, if there are links. What puppets and other corrupt parties tell each other is never
        sealed.

    Attributes
    ----------
    bends : callable
        ``bends(sent)`` returns what a party sends instead, or None for nothing; an attack bends what its own parties
        send.
    intercepts : callable
        ``intercepts(sender, recipient, frame)`` returns what the network delivers instead, or None for nothing.
    refused : list of str
        What links have refused, and why.
    """

    def __init__(
        self,
        cohort: Cohort,
        *,
        corrupt: Collection[PartyId] | None = None,
        roster: Roster | None = None,
        puppets: Mapping[PartyId, Identity] | None = None,
        factor: int = 1,
        encoding: Message | None = None,
        previous: Sequence[Closed] = (),
        session: bytes | None = None,
        sealed: bool = True,
    ) -> None:
        self.cohort = cohort
        self.protocol = cohort.protocol
        self.roster = roster or cohort.roster
        self.puppets = dict(puppets or {})
        self.corrupt = set((cohort.coordinator, *cohort.accomplices) if corrupt is None else corrupt)
        self.corrupt |= set(self.puppets)
        self.factor, self.encoding, self.previous = factor, encoding, tuple(previous)
        self.bends: Callable[[Sent], Message | None] = lambda sent: sent.message
        self.intercepts: Callable[[PartyId, PartyId, Frame], Frame | None] = _delivered
        self.refused: list[str] = []
        self._sent: list[Sent] = []
        self._simulation = Simulation(cohort.new_seed(), tamper=self._travel)
        self.random_bytes = self._simulation.random_bytes
        fresh = self.random_bytes(32)
        self.session = session or fresh
        self._keys = {name: self._new_keys(name) for name in self.roster}
        links = cohort.surroundings.links if sealed else None
        self._links = {name: links(keys) for name, keys in self._keys.items()} if links else {}

    def _new_keys(self, name: PartyId) -> SessionKeys:
        identity, roster = self.puppets.get(name) or self.cohort.identities[name], self.roster
        if name in self.puppets:
            made_up = {puppet: own.public for puppet, own in self.puppets.items()}
            roster = Roster(tuple(made_up.get(PartyId(party.name), party) for party in roster.parties))
        elif name not in self.corrupt:
            roster = self.cohort.accepted(roster)
        return SessionKeys(identity, roster, self.session, self.random_bytes)

    # What the adversary has

    def keys_of(self, party: PartyId) -> SessionKeys:
        """Return the keys of a corrupt party.

        Raises
        ------
        MisuseError
            If the adversary does not have that party.
        """
        if party not in self.corrupt:
            raise MisuseError(f"an adversary has no keys of {party}, which is honest")
        return self._keys[party]

    def invitation(self, factor: int | None = None) -> Invitation:
        """Return the coordinator's signed invitation, to another question if one is given."""
        asked = self.factor if factor is None else factor
        return invite(
            self._keys[self.cohort.coordinator],
            protocol=self.protocol.options,
            encoding=self.encoding,
            definition=DEFINITION,
            query=Query(step="sum", arrays={"factor": np.array(asked)}),
            previous=self.previous,
        )

    def told(self, recipient: PartyId) -> list[Message]:
        """Return what the coordinator has sent to one party, in order."""
        ends = (self.cohort.coordinator, recipient)
        return [sent.message for sent in self._sent if (sent.sender, sent.recipient) == ends]

    def seen(self, kind: type[M]) -> Iterator[tuple[PartyId, PartyId, M]]:
        """Iterate over the messages of a kind that corrupt parties have sent or got: sender, recipient, message."""
        for sent in self._sent:
            if isinstance(sent.message, kind) and self.corrupt & {sent.sender, sent.recipient}:
                yield sent.sender, sent.recipient, sent.message

    def opened(self) -> Opened:
        """Return what all parties hold in common: it was sent to all."""
        *_, invitation = (s.message for s in self._sent if isinstance(s.message, Invitation))
        *_, begin = (s.message for s in self._sent if isinstance(s.message, Begin))
        n_holders = len(self.roster.holders)
        encodings = encodings_for(invitation.encoding, begin.ready[0].arrays, n_holders)
        return Opened(invitation, begin, self.roster, encodings, self.protocol.needed(n_holders))

    # The run

    def run(self, roles: Mapping[PartyId, Role[Any]] | None = None) -> Run:
        """Run the session; who has no role of the adversary's plays its own."""
        for name, keys in self._keys.items():
            role, accepts = self._role(name)
            self._simulation.add(
                name,
                (roles or {}).get(name, role),
                accepts=accepts(self.protocol, keys.roster, name),
                tell=keys.roster.invited if name == self.cohort.coordinator else (self.cohort.coordinator,),
                lasts=SESSION_SECONDS,
            )
        return self._simulation.run()

    def _role(self, name: PartyId) -> tuple[Role[Any], Callable[..., Any]]:
        keys = self._keys[name]
        memory = self.cohort.memories.setdefault(name, self.protocol.memory())
        if name == self.cohort.coordinator:
            role = coordinator_role(self.protocol, keys, self.invitation(), memory)
            return role, lambda protocol, roster, _: accepted_by_coordinator(protocol, roster)
        releases = None if name in self.corrupt else self.cohort.releases(name)
        record = releases.record if releases else lambda invitation, holders: None
        if name in self.roster.aggregators:
            check = partial(self._check, name)
            return aggregator_role(self.protocol, keys, check, memory, record), accepted_by_aggregator
        examine = partial(self.prepared, name)
        return holder_role(self.protocol, keys, examine, memory, record), accepted_by_holder

    def prepared(self, name: PartyId, invitation: Invitation) -> Prepared:
        """Decide and contribute at a holder, as actors' data holder does; a puppet puts zeros in."""
        self._check(name, invitation)
        like = self.cohort.victim if name in self.puppets else name
        arrays = self.cohort.contribution(like, invitation.query, invitation.encoding)
        if name in self.puppets:
            arrays = {array: np.zeros_like(values) for array, values in arrays.items()}
        voids = self.cohort.surroundings.voids
        n_holders = len(Roster(invitation.roster).holders)
        return prepare(arrays, invitation.encoding, n_holders, void=voids, random_bytes=self.random_bytes)

    def _check(self, name: PartyId, invitation: Invitation) -> None:
        """Decline what an honest party remembers to have released over others."""
        releases = None if name in self.corrupt else self.cohort.releases(name)
        dispensable = self.protocol.dispensable(len(Roster(invitation.roster).holders))
        if releases and not releases.allows(invitation, dispensable=dispensable):
            raise Declined(ALREADY_RELEASED)

    # The wires

    def _travel(self, sent: Sent) -> Message | None:
        """Let the adversary bend a message, seal it, show it to the network, and open what arrives."""
        message = self.bends(sent)
        if message is None:
            return None
        self._sent.append(Sent(sent.index, sent.sender, sent.recipient, message))
        ends = {sent.sender, sent.recipient}
        if ends <= self.corrupt and ends & set(self.puppets):
            return message
        links = self._links
        frame = links[sent.sender].seal(sent.recipient, message) if links else encode(message)
        arrived = self.intercepts(sent.sender, sent.recipient, frame)
        if arrived is None:
            return None
        try:
            read = decode(arrived)
            if not links:
                return read
            return links[sent.recipient].open(read) if isinstance(read, Sealed) else None
        except (ProtocolError, SerializationError) as error:
            self.refused.append(f"{type(error).__name__} at the links of {sent.recipient}: {error}")
            return None  # nothing else changes
