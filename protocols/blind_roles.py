"""Roles as corrupt parties play them: a coordinator that opens sessions, and holders who join them, without any check.

What they send has the form it should have, so that nothing but the honest parties' own checks can stop them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ..serialization.codec import digest
from ..serialization.session_messages import Begin, Finished, Invitation, Ready, Refusal
from .adversary import Values
from .channel import Channel, Role
from .errors import RefusedError
from .invitation import NO_SIGNATURE, Opened, Opening, encodings_for, signed
from .meeting import Meeting
from .party import PartyId
from .protocol import Protocol

P = TypeVar("P", bound=Protocol[Any])


def unchecked(protocol: P) -> P:
    """Return the protocol as it would be if it took any roster."""
    permissive = type(
        protocol.__class__.__name__, (type(protocol),), {"check_number": lambda self, n_holders: None}
    )
    copy: P = object.__new__(permissive)
    copy.__dict__.update(protocol.__dict__)
    return copy


def blind_coordinator(meeting: Meeting, invitations: Mapping[PartyId, Invitation]) -> Role[Values]:
    """Return the role of a coordinator that checks nothing; its result is the total.

    Parameters
    ----------
    meeting : Meeting
    invitations : mapping of PartyId to Invitation
        What each holder, and each aggregator, is sent; the coordinator itself goes by the last one's.
    """
    me, protocol = meeting.cohort.coordinator, unchecked(meeting.protocol)
    keys, memory = meeting.keys_of(me), meeting.cohort.memories[me]

    async def role(channel: Channel) -> Values:
        opened = await open_blindly(channel, meeting, protocol, invitations)
        summed = await protocol.coordinator(channel, opened, keys, memory)
        channel.broadcast(invitations, Finished(session=meeting.session, released=True))
        return opened.encodings[0].decode(summed.words[0])

    return role


async def open_blindly(
    channel: Channel, meeting: Meeting, protocol: Protocol[Any], invitations: Mapping[PartyId, Invitation]
) -> Opened:
    """Open a session, whatever the others answer.

    Raises
    ------
    RefusedError
        If somebody refuses to take part.
    """
    me, roster = meeting.cohort.coordinator, meeting.roster
    keys = meeting.keys_of(me)
    for party, shown in invitations.items():
        channel.send(party, shown)
    answers = await channel.gather((Ready, Refusal), senders=tuple(invitations))
    refusals = {p: (answer.reason, "") for p, answer in answers.items() if isinstance(answer, Refusal)}
    if refusals:
        raise RefusedError({str(party): said for party, said in refusals.items()})
    ready = {party: answer for party, answer in answers.items() if isinstance(answer, Ready)}
    for party, answer in ready.items():
        keys.learn(party, answer.ephemeral)
    present = tuple(holder for holder in roster.holders if holder in ready)
    encodings = encodings_for(meeting.encoding, ready[present[0]].arrays, len(roster.holders))
    needed = min(protocol.needed(len(roster.holders)), len(present))
    opening = Opening(meeting.session, roster, present, encodings, needed)
    begin = Begin(
        session=meeting.session,
        ready=tuple(ready.values()),
        parameters=await protocol.fix_parameters(channel, opening, meeting.cohort.memories[me]),
        signature=NO_SIGNATURE,
    )
    begin = signed(begin, keys.identity)
    channel.broadcast(ready, begin)
    *_, last = invitations.values()
    return Opened(last, begin, roster, encodings, needed)


def blind_holder(meeting: Meeting, name: PartyId) -> Role[None]:
    """Return the role of a holder that takes part without checking anything."""
    protocol, keys = unchecked(meeting.protocol), meeting.keys_of(name)
    memory = meeting.cohort.memories.setdefault(name, protocol.memory())

    async def role(channel: Channel) -> None:
        coordinator = meeting.cohort.coordinator
        shown = await channel.receive(Invitation, sender=coordinator)
        keys.learn(coordinator, shown.ephemeral)
        prepared = meeting.prepared(name, shown)
        ready = Ready(
            session=meeting.session,
            holder=name,
            invitation=digest(shown),
            arrays=prepared.specifications,
            ephemeral=keys.ephemeral,
            signature=NO_SIGNATURE,
        )
        channel.send(coordinator, signed(ready, keys.identity))
        begin = await channel.receive(Begin, sender=coordinator)
        for other in begin.ready:
            if other.holder != name:
                keys.learn(PartyId(other.holder), other.ephemeral)
        n_holders = len(meeting.roster.holders)
        encodings = encodings_for(shown.encoding, begin.ready[0].arrays, n_holders)
        opened = Opened(shown, begin, meeting.roster, encodings, protocol.needed(n_holders))
        await protocol.holder(
            channel, opened, keys, memory, words=prepared.words, release=lambda *_, **_unused: None
        )
        await channel.receive(Finished, sender=coordinator)

    return role
