"""How a session starts: invitation, readiness, beginning, or a refusal.

1. The coordinator sends every holder, and every aggregator of a protocol that has some, the same signed
   `Invitation`: protocol, encoding, roster, query, its fresh key.
2. Each holder checks it, computes its contribution *and keeps it*, and answers `Ready` with shapes and dtypes
   and its own fresh key, signed; or `Refusal` with a reason from a fixed list. An aggregator's `Ready` has no
   arrays.
3. The coordinator checks that all contributions have the same shapes, fixes the protocol's parameters, and
   sends `Begin` with everybody's `Ready`. Each party checks every signature. Of the holders as many as needed
   must be ready, of the aggregators all.

From here on all parties hold the same *binding*: a hash over query, model, encoding, roster, session and the
fresh keys of all parties, which goes into every mask and travels with every share.

Who learns what: the coordinator learns the names, shapes and dtypes of the arrays, and who refused. Nothing
of a contribution has left its holder when this is over. Against an active coordinator: one that shows
different invitations to different holders is found out by their signatures in `Begin`; one that replays an
old `Begin` meets fresh keys.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..serialization.codec import digest, unsigned_digest, with_signature
from ..serialization.encoding_parameters import EncodingParameters
from ..serialization.schema import Message
from ..serialization.session_messages import (
    Abort,
    ArraySpecification,
    Begin,
    Closed,
    Invitation,
    Query,
    Ready,
    Refusal,
)
from .channel import Channel
from .encoding import ArrayEncoding, ValueRangeError
from .encoding_plan import plan
from .errors import DropoutError, InvalidMessageError, RefusedError, SetupError
from .key_agreement import Identity, SessionKeys, verify
from .limbs import Limbs
from .party import PartyId, Roster
from .secret import RandomBytes, Secret

S = TypeVar("S", Invitation, Ready, Begin, Closed)

CONTRIBUTION_SECONDS = 3_600.0

# The fixed list of reasons that cross from a holder.
NOT_IN_RANGE = "a value is not finite or out of the declared range"
CONTRIBUTION_FAILED = "its contribution could not be computed"
NOT_ALLOWED = "its policy does not allow this session"
ALREADY_RELEASED = "it has released this question over another set of holders"
TOO_LATE = "the session began without it"
UNSUITABLE = "its arrays do not suit the encoding"

# Of these, the rules of a holder's policy.
MODEL_NOT_ALLOWED = "its policy does not allow this model"
PROTOCOL_NOT_ALLOWED = "its policy does not allow this protocol"
TOO_FEW_HOLDERS = "its policy asks for sums over more holders"
TOO_FEW_ROWS = "it has fewer rows than its policy asks for"
TOO_MANY_NUMBERS = "its policy asks for more rows for so many numbers"
COLUMN_NOT_ALLOWED = "its policy does not allow a column that the model reads"
WAITS_FOR_APPROVAL = "waits for approval"
PRIVACY_REQUIRED = "its policy asks for differential privacy"
BUDGET_SPENT = "its budget of privacy has too little left"
BUDGET_OF_OTHERS = "its budget of privacy is kept for another unit or adjacency"
BUDGET_OUT_OF_ORDER = "its budget of privacy cannot be read or charged"
QUERIES_SPENT = "it has released as many sums as its policy allows"
RECORDS_OUT_OF_ORDER = "its records cannot be read or written"

REFUSALS = (
    NOT_IN_RANGE,
    CONTRIBUTION_FAILED,
    NOT_ALLOWED,
    ALREADY_RELEASED,
    UNSUITABLE,
    MODEL_NOT_ALLOWED,
    PROTOCOL_NOT_ALLOWED,
    TOO_FEW_HOLDERS,
    TOO_FEW_ROWS,
    TOO_MANY_NUMBERS,
    COLUMN_NOT_ALLOWED,
    WAITS_FOR_APPROVAL,
    PRIVACY_REQUIRED,
    BUDGET_SPENT,
    BUDGET_OF_OTHERS,
    BUDGET_OUT_OF_ORDER,
    QUERIES_SPENT,
    RECORDS_OUT_OF_ORDER,
)

NOT_THE_ANSWERS = "a Begin that leaves out a party or alters an answer"

NO_SIGNATURE = bytes(64)


class Declined(Exception):  # noqa: N818 - not a fault: a holder's answer
    """A holder's decision not to take part, with a reason of the fixed list.

    `details` is for a simulation, whose user owns all rows; a deployment sends none.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        self.reason = reason
        self.details = details
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Opening:
    """What the coordinator knows when it fixes a protocol's parameters: who is ready, with what.

    Attributes
    ----------
    session : bytes
    roster : Roster
    present : tuple of PartyId
        The holders that are ready, in roster order.
    encodings : tuple of ArrayEncoding
    needed : int
        How many contributions the coordinator wants in the sum.
    """

    session: bytes
    roster: Roster
    present: tuple[PartyId, ...]
    encodings: tuple[ArrayEncoding, ...]
    needed: int


@dataclass(frozen=True)
class Opened:
    """What all parties hold in common once a session has begun.

    Attributes
    ----------
    invitation : Invitation
    begin : Begin
    roster : Roster
    encodings : tuple of ArrayEncoding
        How each array becomes integers, the same for all.
    needed : int
        How many contributions a sum needs: as many as the protocol demands, more if the coordinator does.
    """

    invitation: Invitation
    begin: Begin
    roster: Roster
    encodings: tuple[ArrayEncoding, ...]
    needed: int

    @cached_property
    def present(self) -> tuple[PartyId, ...]:
        """The holders that were ready, in roster order."""
        return tuple(PartyId(ready.holder) for ready in holders_ready(self.roster, self.begin))

    @cached_property
    def ephemerals(self) -> dict[PartyId, bytes]:
        """The fresh keys of all who were ready."""
        return {PartyId(ready.holder): ready.ephemeral for ready in self.begin.ready}

    @property
    def session(self) -> bytes:
        """The session's identifier: 32 bytes."""
        return self.invitation.session

    @property
    def parameters(self) -> Message:
        """What the coordinator has fixed for the protocol."""
        return self.begin.parameters

    @cached_property
    def binding(self) -> bytes:
        """H(query ‖ model ‖ encoding ‖ roster ‖ session ‖ fresh keys of all parties): 32 bytes."""
        joined = b"tacit binding" + digest(self.invitation) + digest(self.begin)
        return hashlib.sha256(joined).digest()


@dataclass(frozen=True, slots=True, repr=False)
class Prepared(Secret):
    """A holder's contribution, ready to be masked: *never sent*.

    Attributes
    ----------
    specifications : tuple of ArraySpecification
        Names, dtypes and shapes: all that the coordinator is told.
    words : tuple of Limbs, or None
        The integers of each array; None if this holder cannot contribute and voids the session in secret.
    needed : int
        How many contributions this holder wants in the sum, if more than the protocol demands.
    """

    specifications: tuple[ArraySpecification, ...]
    words: tuple[Limbs, ...] | None
    needed: int = 0


# Steps


def signed(message: S, identity: Identity) -> S:
    """Return the message with this party's signature over all of its other fields."""
    return with_signature(message, identity.sign(unsigned_digest(message)))


def is_signed(message: Invitation | Ready | Begin | Closed, roster: Roster, signer: PartyId) -> bool:
    """Whether the message bears the signature of a party of the roster."""
    return verify(roster[signer], unsigned_digest(message), message.signature)


def invite(
    keys: SessionKeys,
    *,
    protocol: Message,
    encoding: Message | None,
    definition: bytes,
    query: Query,
    previous: Sequence[Closed] = (),
) -> Invitation:
    """Return the coordinator's signed invitation to one session.

    Parameters
    ----------
    keys : SessionKeys
        The coordinator's keys of this session.
    protocol : Message
        The protocol's options.
    encoding : Message or None
        Parameters of the encoding; None is the default one.
    definition : bytes
        Content hash of the model.
    query : Query
        What each holder is to evaluate.
    previous : sequence of Closed, optional
        The signed word of the holders of a broken session on the same question.
    """
    invitation = Invitation(
        session=keys.session,
        protocol=protocol,
        encoding=encoding,
        roster=keys.roster.parties,
        definition=definition,
        query=query,
        ephemeral=keys.ephemeral,
        previous=tuple(previous),
        signature=NO_SIGNATURE,
    )
    return signed(invitation, keys.identity)


def specify(arrays: Mapping[str, NDArray[Any]]) -> tuple[ArraySpecification, ...]:
    """Names, dtypes and shapes of a contribution."""
    return tuple(
        ArraySpecification(name=name, dtype=np.dtype(array.dtype).name, shape=tuple(array.shape))
        for name, array in arrays.items()
    )


def encodings_for(
    encoding: Message | None, specifications: Sequence[ArraySpecification], n_contributions: int
) -> tuple[ArrayEncoding, ...]:
    """Return the encoding of every array, proven from the roster; `SetupError` if it cannot carry the sum."""
    if not isinstance(encoding, EncodingParameters | None):
        raise SetupError("the invitation's encoding is none that is known here")
    return plan(encoding, [(s.name, s.dtype, s.shape) for s in specifications], n_contributions)


def prepare(
    arrays: Mapping[str, NDArray[Any]],
    encoding: Message | None,
    n_contributions: int,
    *,
    void: bool,
    needed: int = 0,
    random_bytes: RandomBytes = os.urandom,
) -> Prepared:
    """Encode a holder's arrays.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The contribution.
    encoding : Message or None
        The invitation's encoding parameters.
    n_contributions : int
        Holders of the roster.
    void : bool
        Whether a value out of range voids the session in secret, instead of being refused in the open.
    needed : int
        How many contributions this holder wants in the sum, if more than the protocol demands.
    random_bytes : callable
        With which `Quantized` rounds without bias; the operating system's by default.

    Raises
    ------
    Declined
        If a value is out of range and `void` is False, or the arrays do not suit the encoding.
    """
    specifications = specify(arrays)
    try:
        encodings = encodings_for(encoding, specifications, n_contributions)
        words = tuple(
            array_encoding.encode(arrays[array_encoding.name], random_bytes) for array_encoding in encodings
        )
    except ValueRangeError as error:
        if void:
            return Prepared(specifications, None, needed)
        raise Declined(NOT_IN_RANGE, str(error)) from None
    except SetupError as error:
        raise Declined(UNSUITABLE, str(error)) from None
    return Prepared(specifications, words, needed)


def check_invitation(invitation: Invitation, keys: SessionKeys) -> None:
    """Refuse an invitation that is not the coordinator's, to this session, among the pinned parties.

    A holder keeps account of what it has released by the invitation's session, and signs whether it has
    by its keys' session: were they two, a coordinator could have one word signed for another session.
    """
    coordinator = keys.roster.coordinator
    belongs = invitation.session == keys.session and invitation.roster == keys.roster.parties
    if not belongs or not is_signed(invitation, keys.roster, coordinator):
        raise InvalidMessageError("an invitation that the coordinator has not signed", suspects=[coordinator])


def check_ready(invited: bytes, roster: Roster, holder: PartyId, ready: Ready) -> None:
    """Refuse a `Ready` that is not this holder's signed answer to the invitation with this digest."""
    belongs = ready.holder == holder and ready.invitation == invited
    if not belongs or not is_signed(ready, roster, holder):
        raise InvalidMessageError("a Ready that does not answer this invitation", suspects=[holder])


def holders_ready(roster: Roster, begin: Begin) -> tuple[Ready, ...]:
    """Return the answers of the holders, without the aggregators'."""
    aggregators = set(roster.aggregators)
    return tuple(ready for ready in begin.ready if ready.holder not in aggregators)


def agreed_specifications(ready: Sequence[Ready]) -> tuple[ArraySpecification, ...]:
    """Return the arrays that all holders announce; `SetupError` naming who differs otherwise."""
    first = ready[0]
    for other in ready[1:]:
        if other.arrays != first.arrays:
            ours, theirs = _described(first), _described(other)
            raise SetupError(
                f"holders contribute different arrays: {first.holder} has {ours}, {other.holder} has {theirs}"
            )
    return first.arrays


def _described(ready: Ready) -> str:
    return ", ".join(f"{array.name!r} {array.dtype}{list(array.shape)}" for array in ready.arrays) or "none"


def check_begin(invitation: Invitation, roster: Roster, own: Ready, begin: Begin) -> None:
    """Refuse a `Begin` that is not the coordinator's, to this session, with a party's own answer in it."""
    coordinator = roster.coordinator
    if begin.session != invitation.session or not is_signed(begin, roster, coordinator):
        raise InvalidMessageError("a Begin that does not belong to this invitation", suspects=[coordinator])
    if next((ready for ready in begin.ready if ready.holder == own.holder), None) != own:
        raise InvalidMessageError(NOT_THE_ANSWERS, culprits=[coordinator])


def check_answers(invitation: Invitation, roster: Roster, begin: Begin, needed: int) -> None:
    """Refuse a `Begin` unless as many holders as needed, and all aggregators, answered this very invitation.

    This is where a coordinator that shows one holder another query, or another roster, is found out.
    """
    coordinator = roster.coordinator
    present = [ready.holder for ready in begin.ready]
    answered = set(present)
    ordered = [party for party in roster.invited if party in answered]
    enough = len(holders_ready(roster, begin)) >= needed and answered.issuperset(roster.aggregators)
    if present != ordered or not enough:
        raise InvalidMessageError(NOT_THE_ANSWERS, culprits=[coordinator])
    invited = digest(invitation)
    for ready in begin.ready:
        try:
            check_ready(invited, roster, PartyId(ready.holder), ready)
        except InvalidMessageError as error:
            # One of the two is lying: the coordinator may have shown that holder another invitation.
            raise InvalidMessageError(error.problem, suspects=[coordinator, ready.holder]) from None
    fresh = [invitation.ephemeral, *(ready.ephemeral for ready in begin.ready)]
    if len(set(fresh)) < len(fresh):
        raise InvalidMessageError(
            "a Begin in which two parties have one fresh key", suspects=[coordinator, *present]
        )


# What all are shown is looked at once a process: n holders are shown n answers each. Where many share a process, as
# in a large simulation, they have one `Roster` and one `Opened` in common, for as long as any of them needs it.

_rosters: WeakValueDictionary[bytes, Roster] = WeakValueDictionary()
_opened: WeakValueDictionary[tuple[bytes, bytes, int, int], Opened] = WeakValueDictionary()


def roster_of(invitation: Invitation) -> Roster:
    """Return the parties of an invitation.

    Raises
    ------
    SetupError
        If they are no roster.
    """
    shown = digest(invitation)
    roster = _rosters.get(shown)
    if roster is None:
        roster = _rosters[shown] = Roster(invitation.roster)
    return roster


def open_begun(
    invitation: Invitation, roster: Roster, begin: Begin, needed: int, n_contributions: int
) -> Opened:
    """Return what all parties hold in common, if the answers in a `Begin` are what they must be.

    Parameters
    ----------
    invitation : Invitation
        It has been checked.
    roster : Roster
        The invitation's.
    begin : Begin
        Its signature has been checked.
    needed : int
        How many holders have to be ready.
    n_contributions : int
        From how many encodings are proven.

    Raises
    ------
    InvalidMessageError
        If an answer is missing, or is no signed answer to this very invitation.
    SetupError
        If the holders' arrays differ, or cannot be carried.
    """
    shown = digest(invitation), digest(begin), needed, n_contributions
    opened = _opened.get(shown)
    if opened is None:
        check_answers(invitation, roster, begin, needed)
        specifications = agreed_specifications(holders_ready(roster, begin))
        encodings = encodings_for(invitation.encoding, specifications, n_contributions)
        opened = _opened[shown] = Opened(invitation, begin, roster, encodings, needed)
    return opened


# Roles


async def open_session(
    channel: Channel,
    keys: SessionKeys,
    invitation: Invitation,
    fix_parameters: Callable[[Opening], Awaitable[Message]],
    *,
    needed: int,
    at_most: int | None = None,
) -> Opened:
    """Run the coordinator's side of a session's start, with all aggregators and as many holders as needed or more.

    Encodings are proven from the number of holders, or from `at_most` where that is public instead.

    Raises
    ------
    RefusedError
        If a holder or an aggregator refuses.
    SetupError
        If the holders' arrays differ, or cannot be carried.
    DropoutError
        If an aggregator or too many holders are lost before they are ready.
    """
    roster = keys.roster
    # Invitation
    channel.broadcast(roster.invited, invitation)
    ready = await _gather_ready(channel, roster, needed)
    # Readiness
    invited = digest(invitation)
    for party, answer in ready.items():
        check_ready(invited, roster, party, answer)
        keys.learn(party, answer.ephemeral)
    present = tuple(holder for holder in roster.holders if holder in ready)
    specifications = agreed_specifications([ready[holder] for holder in present])
    encodings = encodings_for(invitation.encoding, specifications, at_most or len(roster.holders))
    # Beginning
    opening = Opening(invitation.session, roster, present, encodings, needed)
    begin = Begin(
        session=invitation.session,
        ready=tuple(ready.values()),
        parameters=await fix_parameters(opening),
        signature=NO_SIGNATURE,
    )
    begin = signed(begin, keys.identity)
    channel.broadcast(ready, begin)
    late = [holder for holder in roster.holders if holder not in ready]
    channel.broadcast(late, Abort(session=invitation.session, reason=TOO_LATE, lost=()))
    return Opened(invitation, begin, roster, encodings, needed)


async def _gather_ready(channel: Channel, roster: Roster, needed: int) -> dict[PartyId, Ready]:
    """Wait for the answers to an invitation; those who are ready, in roster order."""
    aggregators = roster.aggregators
    answers: dict[PartyId, Ready | Refusal] = await channel.gather(
        (Ready, Refusal),
        senders=roster.invited,
        at_least=needed + len(aggregators),
        within=CONTRIBUTION_SECONDS,
        relying_on=aggregators if roster.asker is None else (*aggregators, roster.asker),
    )
    refusals = {party: answer for party, answer in answers.items() if isinstance(answer, Refusal)}
    if refusals:
        raise RefusedError({party: (refusal.reason, refusal.details) for party, refusal in refusals.items()})
    if silent := [aggregator for aggregator in aggregators if aggregator not in answers]:
        present = [aggregator for aggregator in aggregators if aggregator in answers]
        reason = "an aggregator has not answered the invitation in time"
        raise DropoutError(needed=len(aggregators), present=present, missing=silent, reason=reason)
    return {party: answer for party, answer in answers.items() if isinstance(answer, Ready)}


async def join_session(
    channel: Channel,
    keys: SessionKeys,
    examine: Callable[[Invitation], Prepared],
    *,
    needed: int,
    at_most: int | None = None,
) -> tuple[Opened, Prepared] | None:
    """Run a holder's or an aggregator's side of a session's start; None if it declined.

    `examine` checks policy and computes the contribution, which an aggregator has none of; it raises
    `Declined` to refuse. `at_most` is as of `open_session`.

    Raises
    ------
    InvalidMessageError
        If the coordinator's invitation or beginning is not what it must be.
    """
    roster = keys.roster
    coordinator = roster.coordinator
    # Invitation
    invitation = await channel.receive(Invitation, sender=coordinator)
    check_invitation(invitation, keys)
    keys.learn(coordinator, invitation.ephemeral)
    # Readiness
    try:
        prepared = await channel.compute(examine, invitation)
    except Declined as declined:
        channel.send(
            coordinator,
            Refusal(session=invitation.session, reason=declined.reason, details=declined.details),
        )
        return None
    ready = Ready(
        session=invitation.session,
        holder=channel.me,
        invitation=digest(invitation),
        arrays=prepared.specifications,
        ephemeral=keys.ephemeral,
        signature=NO_SIGNATURE,
    )
    ready = signed(ready, keys.identity)
    channel.send(coordinator, ready)
    # Beginning
    begin = await channel.receive(Begin, sender=coordinator)
    check_begin(invitation, roster, ready, begin)
    needed = max(needed, prepared.needed)
    opened = open_begun(invitation, roster, begin, needed, at_most or len(roster.holders))
    keys.learn_all(opened.ephemerals)
    return opened, prepared
