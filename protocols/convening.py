"""Additive sharing for a coordinator that is kept from knowing who the holders are, and how many.

The coordinator is only the *asker* here. The first aggregator, the *convener*, opens the holders' session in its place:
that is a session as any other, in which the convener stands as the coordinator, and adds shares besides.

1. ``asker -> convener: Invitation``: signed; question, encoding, the commitment to the pinned roster.
2. The convener invites the holders and the other aggregators, and shows everybody that invitation and the salt of the
   commitment. Each checks both (`convening_steps.check_commissioned`): a convener cannot ask anything of its own.
3. ``convener -> asker: Convened`` when the holders' session has begun: shapes, and its binding.
4. Shares and statements as without an asker; then ``j -> asker: ConvenedSum`` of each aggregator. The asker adds.

The encoding is proven from the public bound `at_most`, never from the number of holders.

**Who learns what.** The asker: the sum; that the minimum of holders or more are in it; whether they are the same as in
an earlier sum, and whether they are all (salted hashes, equal or not). Frames to and from it are the same in number
and size for any number of holders; it sees when they come, and that takes longer with more holders. It learns that a
session failed, and why, of a fixed list, not by whom. Aggregators and holders learn what they learn without an asker.
What resists whom is as without an asker, the convener being an aggregator like the others; that the number stays
hidden takes more: no holder and no aggregator may tell it. Tacit's own composition, **without a written proof**.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from ..serialization.additive_sharing_messages import FullShare, MissingShares
from ..serialization.convening_messages import Commissioned, Convened, ConvenedSum
from ..serialization.schema import Message
from ..serialization.session_messages import Abort, Closed, Finished, Invitation, Ready, Refusal
from .additive_sharing import ANSWER_SECONDS, AdditiveSharing, sum_seconds
from .additive_steps import add_sums
from .channel import Channel, Role
from .convening_steps import agreed_included, commission_in, convened
from .errors import BRING_BACK, AbortedError, DropoutError, InvalidMessageError, RefusedError, SetupError
from .invitation import (
    CONTRIBUTION_SECONDS,
    NOT_ALLOWED,
    REFUSALS,
    Declined,
    encodings_for,
    invite,
    open_session,
)
from .key_agreement import SessionKeys
from .party import PartyId, Roster
from .protocol import Aggregate, check_options, decoded, expect_frames
from .session import Accepted, abort_reason

# The fixed list of reasons that cross to the asker, besides those of a refusal.
HOLDERS_MISSING = "too few holders"
ARRAYS_DIFFER = "the holders' arrays differ, or do not suit the encoding"
BROKEN_OFF = "the session broke off at an aggregator"

UNNAMED = "a holder or an aggregator, not named,"


@dataclass(frozen=True, slots=True)
class ConvenedAggregate(Aggregate):
    """The result of a sum over holders who are not named; `holders` is empty.

    Attributes
    ----------
    included : bytes
        A salted hash of who is in it: equal for equal sets, and for all holders the pinned commitment.
    at_least : int
        So many are, or more.
    """

    included: bytes
    at_least: int


# The asker


def accepted_by_asker(roster: Roster) -> Accepted:
    """Return the kinds of message that the asker's session takes from each aggregator: none is a holder's."""
    convener, *others = roster.aggregators
    accepts = dict.fromkeys(others, frozenset({ConvenedSum}))
    return accepts | {convener: frozenset[type[Message]]({Convened, ConvenedSum})}


def asker_role(
    protocol: AdditiveSharing, keys: SessionKeys, invitation: Invitation
) -> Role[ConvenedAggregate]:
    """Run the coordinator's role in a sum over holders that it does not know.

    Parameters
    ----------
    protocol : AdditiveSharing
        With a bound.
    keys : SessionKeys
        Among the coordinator and the aggregators.
    invitation : Invitation
        To a `Commission`.
    """

    async def role(channel: Channel) -> ConvenedAggregate:
        try:
            return await _ask(channel, protocol, keys, invitation)
        except AbortedError as end:
            raise _as_told(end, protocol.minimum_holders) from None

    return role


async def _ask(
    channel: Channel, protocol: AdditiveSharing, keys: SessionKeys, invitation: Invitation
) -> ConvenedAggregate:
    """Have the convener open the session, and add the aggregators' sums."""
    aggregators, commission = keys.roster.aggregators, commission_in(invitation)
    convener, minimum = aggregators[0], protocol.minimum_holders
    if protocol.at_most is None or len(aggregators) != protocol.aggregators:
        raise SetupError(f"a commission takes a bound and {protocol.aggregators} aggregators")
    # Step 1
    channel.send(convener, invitation)
    # Step 3
    begun = await channel.receive(
        Convened,
        sender=convener,
        within=CONTRIBUTION_SECONDS + ANSWER_SECONDS,
        relying_on=aggregators,
    )
    encodings = encodings_for(invitation.encoding, begun.arrays, protocol.at_most)
    frame_bytes = protocol.cost(protocol.at_most, encodings).bytes_sent_by_holder
    keys.frame_bytes = max(keys.frame_bytes, 2 * frame_bytes)
    # Step 4
    within = sum_seconds(encodings, protocol.at_most)
    answers = await channel.gather(ConvenedSum, senders=aggregators, within=within, relying_on=aggregators)
    included = agreed_included(begun, encodings, minimum, answers)
    if commission.everybody and included != commission.commitment:
        raise InvalidMessageError("a sum over fewer holders than all", suspects=aggregators)
    words = await channel.compute(add_sums, encodings, tuple(answers.values()))
    arrays, clipped = decoded(encodings, words)
    channel.send(convener, Finished(session=begun.session, released=True))
    return ConvenedAggregate(arrays, (), begun.session, begun.binding, clipped, (), included, minimum)


def _as_told(end: AbortedError, minimum: int) -> Exception:
    """Return the error that an aggregator's reason stands for, without a name or a number."""
    if end.reason == HOLDERS_MISSING:
        return DropoutError(needed=minimum, present=(), missing=(), reason=BRING_BACK)
    if end.reason in REFUSALS:
        return RefusedError({UNNAMED: (end.reason, "")})
    return SetupError(end.reason) if end.reason == ARRAYS_DIFFER else end


# The convener


def accepted_by_convener(roster: Roster) -> Accepted:
    """Return the kinds of message that the convener's session takes from each other party."""
    from_holder: frozenset[type[Message]] = frozenset({Ready, Refusal, Closed, FullShare})
    from_aggregator: frozenset[type[Message]] = frozenset({Ready, Refusal, MissingShares})
    accepts = dict.fromkeys(roster.holders, from_holder) | dict.fromkeys(roster.aggregators, from_aggregator)
    return accepts | ({} if roster.asker is None else {roster.asker: frozenset({Invitation, Finished})})


def convener_role(
    protocol: AdditiveSharing,
    keys: SessionKeys,
    salt: bytes,
    examine: Callable[[Invitation], None],
    release: Callable[[Invitation, Collection[PartyId]], None] = lambda *_: None,
) -> Role[bool]:
    """Run the convener's role: open the holders' session for the asker, add shares, and tell the end.

    Parameters
    ----------
    protocol : AdditiveSharing
        With a bound.
    keys : SessionKeys
        Among all parties; the convener has the coordinator's place.
    salt : bytes
        That opens the commitment to the roster.
    examine : callable
        Checks policy; raises `Declined` to refuse.
    release : callable
        As of `aggregator_role`.
    """

    async def role(channel: Channel) -> bool:
        asker = keys.roster.asker
        if asker is None:
            raise SetupError("nobody asks for whom this could be convened")
        try:
            part = _convene(channel, asker, protocol, keys, salt=salt, examine=examine, release=release)
            return await _until_the_end(channel, asker, keys.roster, part)
        except BaseException as error:
            # Also when the session is closed from outside: what it tells the others names holders.
            channel.send(asker, Abort(session=keys.session, reason=_reason(error), lost=()))
            raise

    return role


async def _convene(
    channel: Channel,
    asker: PartyId,
    protocol: AdditiveSharing,
    keys: SessionKeys,
    *,
    salt: bytes,
    examine: Callable[[Invitation], None],
    release: Callable[[Invitation, Collection[PartyId]], None],
) -> bool:
    """Go through the steps."""
    roster = keys.roster
    protocol.check_roster(roster)
    # Step 1
    asked = await channel.receive(Invitation, sender=asker)
    keys.learn(asker, asked.ephemeral)
    # Step 2
    invitation = invite(
        keys,
        protocol=Commissioned(invitation=asked, salt=salt),
        encoding=asked.encoding,
        definition=asked.definition,
        query=asked.query,
    )
    try:
        check_options(protocol, invitation, roster)
        examine(invitation)
    except Declined as declined:
        raise RefusedError({channel.me: (declined.reason, declined.details)}) from None
    except InvalidMessageError as error:
        raise InvalidMessageError(error.problem, culprits=[asker]) from None
    n_holders = len(roster.holders)
    opened = await open_session(
        channel,
        keys,
        invitation,
        lambda opening: protocol.fix_parameters(channel, opening, None),
        needed=n_holders if commission_in(asked).everybody else protocol.needed(n_holders),
        at_most=protocol.at_most,
    )
    # Step 3
    expect_frames(protocol, opened, keys)
    channel.send(asker, convened(opened))
    # Step 4
    await protocol.aggregator(
        channel, opened, keys, None, release=lambda holders, **_: release(opened.invitation, holders)
    )
    end = await channel.receive(Finished, sender=asker, relying_on=roster.aggregators)
    channel.broadcast([*opened.present, *roster.aggregators], end)
    return True


async def _until_the_end(channel: Channel, asker: PartyId, roster: Roster, part: Awaitable[bool]) -> bool:
    """Take part; when an aggregator is lost, the asker notices too, breaks off, and says so."""
    try:
        return await part
    except DropoutError as loss:
        if asker not in loss.missing and set(roster.aggregators).intersection(loss.missing):
            await channel.receive(Finished, sender=asker)
        raise


def _reason(error: BaseException) -> str:
    """Return what the asker is told of an error: never a name, and no number of holders."""
    if isinstance(error, DropoutError):
        return HOLDERS_MISSING
    if isinstance(error, RefusedError):
        return min(reason if reason in REFUSALS else NOT_ALLOWED for reason, _ in error.refusals.values())
    if isinstance(error, SetupError):
        return ARRAYS_DIFFER
    if isinstance(error, AbortedError) or not isinstance(error, Exception):
        reason = getattr(error, "reason", BROKEN_OFF)
        return reason if reason in REFUSALS else BROKEN_OFF
    return abort_reason(error)
