"""The steps of additive sharing: pure functions between its messages; `additive_sharing` tells the protocol.

Randomness and keys are arguments; whatever arrives is checked before anything is computed with it. Letters: u is a
holder, j and r are aggregators, r the one that receives u's full share; x_u is a contribution, s_uj the share of it
that j has, I the included set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..serialization.additive_sharing_messages import FullShare, MissingShares, ShareSum, TooFewShares
from ..serialization.codec import unsigned_digest, with_signature
from ..serialization.convening_messages import ConvenedSum
from .encoding import ArrayEncoding
from .errors import EquivocationError, InvalidMessageError, VoidedError
from .invitation import NO_SIGNATURE, Opened
from .key_agreement import SessionKeys, verify
from .limbs import Limbs, Words
from .masking_steps import add_all, mask_input
from .party import PartyId
from .running_sum import total_of
from .secret import RandomBytes

SHARE = "additive share"  # purpose of the key from which a holder and an aggregator derive its share


def receivers(opened: Opened) -> dict[PartyId, PartyId]:
    """Return which aggregator receives each holder's full share: they take turns, so all have equal work."""
    aggregators = opened.roster.adders
    return {holder: aggregators[place % len(aggregators)] for place, holder in enumerate(opened.present)}


def senders_to(opened: Opened, aggregator: PartyId) -> tuple[PartyId, ...]:
    """Return the holders that send their full shares to an aggregator, in roster order."""
    return tuple(holder for holder, receiver in receivers(opened).items() if receiver == aggregator)


# A holder


def deal(
    opened: Opened, keys: SessionKeys, words: tuple[Limbs, ...] | None, *, random_bytes: RandomBytes
) -> FullShare:
    """Split a contribution: s_uj = PRG(key of u and j) for j ≠ r, and s_ur = x_u − Σ s_uj, which is returned.

    **Call once a session**: the shares follow from its keys. A holder without words voids the session, unnamed.
    """
    receiver = receivers(opened)[keys.me]
    derived = [aggregator for aggregator in opened.roster.adders if aggregator != receiver]
    masks = [(keys.take_pair_key(aggregator, SHARE, opened.binding), -1) for aggregator in derived]
    masked = mask_input(opened, words, masks, random_bytes=random_bytes)
    return FullShare(session=opened.session, binding=opened.binding, flag=masked.flag, vectors=masked.vectors)


# An aggregator


def check_share(opened: Opened, holder: PartyId, share: FullShare) -> None:
    """Refuse a full share of another session or question, or of other words than agreed.

    Raises
    ------
    InvalidMessageError
        Naming the holder; for another question the coordinator too, who may have asked it.
    """
    if share.session != opened.session or share.binding != opened.binding:
        suspects = [holder, opened.roster.coordinator]
        raise InvalidMessageError("a share of another session or question", suspects=suspects)
    if not is_as_agreed(opened.encodings, share):
        raise InvalidMessageError("a share of another length", culprits=[holder])


def sign_missing(opened: Opened, keys: SessionKeys, came: Collection[PartyId]) -> MissingShares:
    """Return an aggregator's signed word whose full shares have not come to it."""
    statement = MissingShares(
        session=opened.session,
        binding=opened.binding,
        aggregator=keys.me,
        missing=tuple(holder for holder in senders_to(opened, keys.me) if holder not in came),
        signature=NO_SIGNATURE,
    )
    return with_signature(statement, keys.identity.sign(unsigned_digest(statement)))


def is_genuine(opened: Opened, aggregator: PartyId, statement: MissingShares) -> bool:
    """Whether an aggregator has signed this, in this session, about holders that send to it."""
    ordered = tuple(holder for holder in senders_to(opened, aggregator) if holder in statement.missing)
    return (
        statement.session == opened.session
        and statement.binding == opened.binding
        and statement.aggregator == aggregator
        and statement.missing == ordered
        and verify(opened.roster[aggregator], unsigned_digest(statement), statement.signature)
    )


def check_statement(opened: Opened, aggregator: PartyId, statement: MissingShares) -> None:
    """Refuse what another aggregator has not signed.

    Raises
    ------
    InvalidMessageError
        With two suspects: the coordinator may have told the two of different questions.
    """
    if not is_genuine(opened, aggregator, statement):
        suspects = [aggregator, opened.roster.coordinator]
        raise InvalidMessageError("a statement that does not belong to this session", suspects=suspects)


def included_by(opened: Opened, statements: Sequence[MissingShares]) -> tuple[PartyId, ...]:
    """Return I: the holders that were ready and that no aggregator misses, in roster order."""
    missing = {name for statement in statements for name in statement.missing}
    return tuple(holder for holder in opened.present if holder not in missing)


def sum_shares(
    opened: Opened,
    keys: SessionKeys,
    totals: Sequence[NDArray[Any]],
    derived: Collection[PartyId],
    statements: tuple[MissingShares, ...],
) -> ShareSum:
    """Add an aggregator's shares over I: to `totals`, of those that came in full, those of `derived`.

    **Call once a session**: sums over two sets would uncover the shares by which they differ.
    """
    add_all([(keys.take_pair_key(holder, SHARE, opened.binding), 1) for holder in derived], totals)
    flag, *vectors = totals
    return ShareSum(session=opened.session, statements=statements, flag=flag, vectors=tuple(vectors))


# The coordinator


def agreed_set(
    opened: Opened, needed: int, answers: Mapping[PartyId, ShareSum | TooFewShares]
) -> tuple[PartyId, ...]:
    """Return I, by which all aggregators have gone; fewer holders than needed if all have said that.

    Raises
    ------
    EquivocationError
        If an aggregator has signed two statements; it is proven.
    InvalidMessageError
        If an answer does not follow from signed statements of all.
    """
    known: dict[PartyId, MissingShares] = {}
    for aggregator, answer in answers.items():
        if not _is_founded(opened, needed, answer):
            raise InvalidMessageError("an answer that does not follow from statements", culprits=[aggregator])
        for signer, statement in zip(opened.roster.aggregators, answer.statements, strict=True):
            if known.setdefault(signer, statement) != statement:
                raise EquivocationError("two different statements of one aggregator", culprits=[signer])
    return included_by(opened, tuple(known.values()))


def _is_founded(opened: Opened, needed: int, answer: ShareSum | TooFewShares) -> bool:
    """Whether an answer has genuine statements of all aggregators, and is what they lead to."""
    signers = opened.roster.aggregators
    if answer.session != opened.session or len(answer.statements) != len(signers):
        return False
    if not all(is_genuine(opened, *said) for said in zip(signers, answer.statements, strict=True)):
        return False
    enough = len(included_by(opened, answer.statements)) >= needed
    return is_as_agreed(opened.encodings, answer) and enough if isinstance(answer, ShareSum) else not enough


def add_sums(encodings: Sequence[ArrayEncoding], sums: Sequence[ShareSum | ConvenedSum]) -> tuple[Words, ...]:
    """Add the sums of all aggregators: the shares of each contribution meet, and x_u is left of them.

    Raises
    ------
    VoidedError
        If some holder could not contribute.
    """
    flag, *vectors = total_of(encodings, sums)
    if flag.any():
        raise VoidedError
    return tuple(vectors)


# Vectors


def is_as_agreed(encodings: Sequence[ArrayEncoding], share: FullShare | ShareSum | ConvenedSum) -> bool:
    """Whether a message has one flag, and the vectors that the encodings make."""
    expected = [(encoding.word_dtype, encoding.word_shape) for encoding in encodings]
    return share.flag.shape == (1,) and [(v.dtype, v.shape) for v in share.vectors] == expected
