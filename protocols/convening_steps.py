"""The steps of sums whose coordinator does not know the holders: pure functions; `convening` tells who runs them.

The roster of holders is fixed for the coordinator by a commitment: SHA-256 over a salt of 32 bytes that it does not
know and over the roster. The commitment binds as SHA-256 resists collisions, so the salt may come from the convener,
whom nobody trusts; it hides the roster, which could be guessed, as long as no holder or aggregator gives the salt away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from ..serialization.additive_sharing_messages import AdditiveSharingOptions, ShareSum
from ..serialization.codec import digest
from ..serialization.convening_messages import Commission, Commissioned, Convened, ConvenedSum
from ..serialization.schema import Message
from ..serialization.session_messages import Invitation
from .additive_steps import is_as_agreed
from .encoding import ArrayEncoding
from .errors import InvalidMessageError, SetupError
from .invitation import NOT_ALLOWED, Declined, Opened, agreed_specifications, holders_ready, is_signed
from .party import PartyId, Roster

SALT_BYTES = 32


def commitment_to(roster: Roster, salt: bytes) -> bytes:
    """Commit to a roster: 32 bytes that tell nothing of it without the salt."""
    return hashlib.sha256(b"tacit roster commitment" + salt + roster.digest).digest()


def options_of(asked: Commission | Commissioned) -> AdditiveSharingOptions:
    """Return the options within what an invitation asks for.

    Raises
    ------
    SetupError
        If a convener's invitation has no commission in it.
    """
    return asked.options if isinstance(asked, Commission) else commission_in(asked.invitation).options


def commission_in(invitation: Invitation) -> Commission:
    """Return what an asker's invitation asks for.

    Raises
    ------
    SetupError
        If it is no commission.
    """
    if not isinstance(invitation.protocol, Commission):
        raise SetupError("the invitation asks for something else than a commission")
    return invitation.protocol


# The convener, and all whom it invites


def check_commissioned(invitation: Invitation, roster: Roster, options: Message) -> None:
    """Refuse a convener's invitation unless the asker wants this very sum, over these holders by these aggregators.

    Raises
    ------
    Declined
        If it asks for other options.
    InvalidMessageError
        If the asker has not signed it, or has signed another question, roster, session, or other aggregators. The
        convener is the culprit, who should have seen it first.
    """
    commissioned = invitation.protocol
    if not isinstance(commissioned, Commissioned) or roster.asker is None:
        raise Declined(NOT_ALLOWED, "the convener shows no commission")
    asked, commission = commissioned.invitation, commission_in(commissioned.invitation)
    if commission.options != options:
        raise Declined(NOT_ALLOWED, "the invitation asks for other options than this role's")
    if not is_signed(asked, roster, roster.asker):
        raise InvalidMessageError("a commission that the asker has not signed", culprits=[roster.coordinator])
    if _question(asked) != _question(invitation) or not _names(asked, (roster.asker, *roster.adders), roster):
        raise InvalidMessageError("a commission of something else", culprits=[roster.coordinator])
    if commitment_to(roster, commissioned.salt) != commission.commitment:
        raise InvalidMessageError("a commission for other holders", culprits=[roster.coordinator])


def _question(invitation: Invitation) -> tuple[object, ...]:
    """Return what both invitations have in common; no word about earlier sessions goes with either."""
    asked = invitation.session, invitation.encoding, invitation.definition, invitation.query
    return (*asked, invitation.previous == ())


def _names(asked: Invitation, parties: Sequence[PartyId], roster: Roster) -> bool:
    """Whether the asker's roster has these parties with the keys that they have in this one; kinds differ."""
    theirs = [(party.name, party.verify_key, party.agreement_key) for party in asked.roster]
    ours = [roster[name] for name in parties]
    return theirs == [(party.name, party.verify_key, party.agreement_key) for party in ours]


# An aggregator's words to the asker


def convened(opened: Opened) -> Convened:
    """Return what the asker is told of a session that has begun."""
    arrays = agreed_specifications(holders_ready(opened.roster, opened.begin))
    return Convened(session=opened.session, binding=opened.binding, arrays=arrays)


def without_names(
    opened: Opened, salt: bytes, included: Collection[PartyId], summed: ShareSum, minimum: int
) -> ConvenedSum:
    """Return an aggregator's sum as the asker gets it: that enough are in it, and a salted hash of who."""
    left_out = [holder for holder in opened.roster.holders if holder not in included]
    return ConvenedSum(
        session=opened.session,
        convened=digest(convened(opened)),
        included=commitment_to(opened.roster.without(left_out), salt),
        at_least=minimum,
        flag=summed.flag,
        vectors=summed.vectors,
    )


# The asker


def agreed_included(
    begun: Convened,
    encodings: Sequence[ArrayEncoding],
    minimum: int,
    answers: Mapping[PartyId, ConvenedSum],
) -> bytes:
    """Return the salted hash of those in the sum, which all aggregators tell alike.

    Raises
    ------
    InvalidMessageError
        If a sum is of another form or session than the convener has told, or over fewer holders; or if two are over
        different ones: sums that would add to noise.
    """
    expected = digest(begun)
    for aggregator, answer in answers.items():
        belongs = answer.session == begun.session and answer.at_least == minimum
        if not belongs or not is_as_agreed(encodings, answer):
            raise InvalidMessageError("a sum of another form, or over fewer holders", culprits=[aggregator])
        if answer.convened != expected:
            suspects = dict.fromkeys((next(iter(answers)), aggregator))
            raise InvalidMessageError("a sum of another session than was convened", suspects=suspects)
    included = {answer.included for answer in answers.values()}
    if len(included) > 1:
        raise InvalidMessageError("sums over different holders", suspects=answers)
    return included.pop()
