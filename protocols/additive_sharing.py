"""Additive sharing: every holder splits its contribution among aggregators, who add what they have.

Coordinator k, holders u, aggregators j (two or more, whom nobody must trust all together), ring Z_{2^b}, keystreams
by AES-256-CTR under one-time keys.

1. ``u -> r: FullShare``: x_u − Σ_{j≠r} PRG(s_uj). The other aggregators' shares PRG(s_uj) need not be sent: u and j
   derive the seed s_uj from their keys of this session and its binding. The aggregators take turns as r, so that all
   receive and expand equally much. So a contribution leaves in one message: it has come, or it has not.
2. ``j -> j': MissingShares``: when all shares are there, their holders lost, or time runs out, each aggregator signs
   which of the full shares that it awaits are missing. The *included set* I is everybody whom nobody misses.
3. ``j -> k: ShareSum``: the sum of j's shares over I, given once a session, with the statements that it rests on; or
   ``TooFewShares``. The coordinator checks that all have gone by the same statements, and adds the sums.

**Who learns what.** The coordinator learns the sum over I, and I. Aggregators learn who takes part, the shapes, and I;
holders learn who takes part. Resists a coordinator, holders and all aggregators but one who deviate as they please and
pool what they see, as long as no more than `colluding` of them are holders: the one honest aggregator has a uniform
share of every contribution, gives away one sum of them, over the minimum of holders or more, and remembers for every
question over whom (`release`). Aggregators that go by different sets answer with noise. Broken when all aggregators
pool. Any holder can shift the sum by what it puts in, **and so can any aggregator**, unnoticed; a share left out or
added twice by mistake sets the flag.

**The flag** is a word that is zero of everybody. A holder that cannot contribute puts uniform elements in the place of
its words and of the flag; the coordinator sees by the total that somebody could not, not who.

**Losses.** A holder that is lost before its share is in is left out; the loss of an aggregator ends the session.

With `at_most`, a public bound, the coordinator learns neither who the holders are nor how many (`convening`).

Source: additive secret sharing among non-colluding servers, as in Corrigan-Gibbs and Boneh, NSDI 2017 (Prio), §3,
without its proofs of validity; the ancestor, homomorpheR 0.3, has two non-cooperating parties. Seeds that both ends
derive, the agreement on I and the flag are tacit's own composition, **without a written proof**.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..serialization.additive_sharing_messages import (
    AdditiveSharingOptions,
    AggregationParameters,
    FullShare,
    MissingShares,
    ShareSum,
    TooFewShares,
)
from ..serialization.codec import encode
from ..serialization.convening_messages import Commissioned
from ..serialization.schema import Message
from ..serialization.session_messages import Invitation
from .additive_steps import (
    add_sums,
    agreed_set,
    check_share,
    check_statement,
    deal,
    included_by,
    receivers,
    senders_to,
    sign_missing,
    sum_shares,
)
from .channel import Channel
from .convening_steps import check_commissioned, commission_in, without_names
from .encoding import ArrayEncoding
from .errors import DropoutError, InvalidMessageError, SetupError
from .invitation import Opened, Opening
from .key_agreement import SessionKeys
from .limbs import Limbs
from .party import PartyId, Roster
from .protocol import Attack, Cost, Protocol, Release, Summed, Trust
from .running_sum import add, zeros

MAXIMUM_AGGREGATORS = 100
ANSWER_SECONDS = 60.0  # for a message of a few kilobytes
SECONDS_PER_MEGABYTE = 1.0  # of a share on its way
SUMMING_SECONDS_PER_MEGABYTE = 0.01  # of the shares of all holders, many times over

HIDING = (
    Attack(
        "a convener asks what the coordinator has not asked",
        "the coordinator's signature over the question, shown to everybody",
    ),
    Attack(
        "a convener asks over other holders",
        "the salted commitment that the coordinator signs: it opens to one roster",
    ),
    Attack(
        "the coordinator counts frames or bytes",
        "it exchanges none with holders, and as many as ever with aggregators",
    ),
    Attack(
        "a holder or an aggregator tells the coordinator the number",
        "nothing: all of them are trusted to hide it",
    ),
)


@dataclass(frozen=True)
class AdditiveSharing(Protocol[None]):
    """Shares of every contribution for two or more aggregators, of whom one at least is honest.

    Parameters
    ----------
    aggregators : int
        How many, 2 to 100; an input is uncovered only if all of them pool.
    colluding : int
        Holders that may pool with the coordinator, and with all aggregators but one: n_C.
    at_most : int, optional
        A public bound on the number of holders: the coordinator is kept from knowing that number, and results say
        "at least" the minimum. None: it knows them all.

    Raises
    ------
    SetupError
        If an option is out of its range.
    """

    aggregators: int = 2
    colluding: int = 1
    at_most: int | None = None

    title: ClassVar[str] = "additive sharing"
    modular: ClassVar[bool] = True
    accepts: ClassVar[
        tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]
    ] = ((), (), ())
    accepts_with_aggregators: ClassVar[
        tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]
    ] = ((FullShare,), (MissingShares,), (ShareSum, TooFewShares))

    def __post_init__(self) -> None:
        if not isinstance(self.aggregators, int) or not 2 <= self.aggregators <= MAXIMUM_AGGREGATORS:
            raise SetupError(
                f"aggregators is a whole number from 2 to {MAXIMUM_AGGREGATORS}: one alone would see every input"
            )
        if not isinstance(self.colluding, int) or self.colluding < 1:
            raise SetupError("colluding is at least 1: one holder may always pool with the coordinator")
        if self.at_most is not None and not (
            isinstance(self.at_most, int) and self.minimum_holders <= self.at_most < 2**32
        ):
            raise SetupError(
                f"at_most is a whole number from {self.minimum_holders}, the fewest holders, or None"
            )

    @classmethod
    def from_options(cls, options: AdditiveSharingOptions) -> AdditiveSharing:
        """Return the protocol that an invitation asks for."""
        return cls(options.aggregators, options.colluding, options.at_most)

    @property
    def options(self) -> AdditiveSharingOptions:
        """The options as a message."""
        return AdditiveSharingOptions(
            aggregators=self.aggregators, colluding=self.colluding, at_most=self.at_most
        )

    @property
    def minimum_holders(self) -> int:
        """At least two honest inputs beside those that may collude, and never fewer than three."""
        return max(self.colluding + 2, 3)

    def check_number(self, n_holders: int) -> None:
        """Refuse too few holders, or more than the bound on them.

        Raises
        ------
        SetupError
            Saying what to change.
        """
        super().check_number(n_holders)
        if self.at_most is not None and n_holders > self.at_most:
            raise SetupError(
                f"{n_holders} holders are more than at_most={self.at_most}: choose a higher bound"
            )

    def check_asked(self, invitation: Invitation, roster: Roster) -> None:
        """Refuse an invitation to other options, and one by a convener that the asker has not commissioned.

        Raises
        ------
        Declined
            If it asks for other options.
        InvalidMessageError
            If it is not what the asker has signed, or not for the roster that it is committed to.
        """
        if self.at_most is None:
            super().check_asked(invitation, roster)
        else:
            check_commissioned(invitation, roster, self.options)

    def needed(self, n_holders: int) -> int:
        """Return the minimum: whoever is lost before its share is in is left out."""
        return self.minimum_holders

    def dispensable(self, n_holders: int) -> int:
        """Return without how many shares a sum may exist, counting those who lie."""
        return n_holders - self.needed(n_holders) + self.colluding

    @property
    def trust(self) -> Trust:
        """Who learns what."""
        return Trust(
            "the sum over the holders whose shares have come, and who they are"
            if self.at_most is None
            else f"the sum over the holders whose shares have come, who are at least {self.minimum_holders}",
            "a coordinator, holders and all aggregators but one who lie",
            f"all {self.aggregators} aggregators pool, or more than {self.colluding} holders with the coordinator",
        )

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The known attacks and the step that stops each."""
        return (*self._attacks_on_sums, *(() if self.at_most is None else HIDING))

    @property
    def _attacks_on_sums(self) -> tuple[Attack, ...]:
        return (
            Attack("all aggregators but one pool", "the uniform share of the last one"),
            Attack(
                "the sum over U and over U without v is asked for",
                "an aggregator answers once a session, and remembers its set for every question",
            ),
            Attack(
                "an aggregator tells the others different sets",
                "signed statements that travel with every sum; sums over different sets are noise",
            ),
            Attack("too small a cohort", "the minimum that every aggregator checks"),
            Attack(
                "the coordinator reads a share on its way", "frames to aggregators are sealed by the links"
            ),
            Attack(
                "the router puts in keys of its own", "signatures over every fresh key, shown to all in Begin"
            ),
            Attack(
                "a holder or an aggregator gets a special model or roster",
                "the binding in every share's derivation, with every full share and under every statement",
            ),
            Attack("a share arrives late, after its holder was declared missing", "it is never looked at"),
            Attack("an aggregator gives a wrong sum", "nothing: it is trusted to add"),
        )

    def cost(self, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Cost:
        """Count messages one after the other, and the bytes of the full share."""
        vectors = tuple(np.zeros(encoding.word_shape, encoding.word_dtype) for encoding in encodings)
        flag = np.zeros(1, dtype=np.uint64)
        frame = encode(FullShare(session=bytes(32), binding=bytes(32), flag=flag, vectors=vectors))
        return Cost(6 if self.at_most is None else 7, frame.size)

    def memory(self) -> None:
        """Nothing outlives a session."""

    async def fix_parameters(self, channel: Channel, opening: Opening, memory: None) -> AggregationParameters:
        """Tell the aggregators over how many holders the coordinator wants its sum."""
        return AggregationParameters(needed=opening.needed)

    # A holder

    async def holder(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        memory: None,
        *,
        words: tuple[Limbs, ...] | None,
        release: Release,
    ) -> None:
        """Run a holder's role."""
        if opened.needed > _wanted(opened):
            problem = (
                f"a Begin that takes fewer than the {opened.needed} holders that this one wants in the sum"
            )
            raise InvalidMessageError(problem, suspects=[opened.roster.coordinator])
        share = await channel.compute(deal, opened, keys, words, random_bytes=channel.random_bytes)
        release(opened.present)  # over whom exactly, the aggregators decide, and remember
        channel.send(receivers(opened)[channel.me], share)

    # An aggregator

    async def aggregator(
        self, channel: Channel, opened: Opened, keys: SessionKeys, memory: None, *, release: Release
    ) -> None:
        """Run an aggregator's role."""
        others, relying_on = _others(opened, channel.me), _relied_on(opened, channel.me)
        # Step 1
        totals = zeros(opened.encodings)

        def take(holder: PartyId, share: FullShare) -> None:
            check_share(opened, holder, share)
            add(totals, share)

        came = await channel.fold(
            FullShare,
            take,
            senders=senders_to(opened, channel.me),
            at_least=0,
            within=share_seconds(opened.encodings),
            relying_on=relying_on,
        )
        # Step 2
        own = sign_missing(opened, keys, came)
        channel.broadcast(others, own)
        told = await channel.gather(
            MissingShares,
            senders=others,
            within=statement_seconds(opened.encodings),
            relying_on=relying_on,
        )
        for other, statement in told.items():
            check_statement(opened, other, statement)
        told[channel.me] = own
        statements = tuple(told[aggregator] for aggregator in opened.roster.adders)
        # Step 3
        included, needed = included_by(opened, statements), _needed(opened)
        if len(included) < needed and self.at_most is None:
            too_few = TooFewShares(session=opened.session, statements=statements)
            channel.send(opened.roster.coordinator, too_few)
            return
        if len(included) < needed:  # which the convener tells the asker, and nobody names
            missing = [holder for holder in opened.roster.holders if holder not in included]
            raise DropoutError(needed=needed, present=included, missing=missing)
        derived = [holder for holder in included if holder not in came]
        summed = await channel.compute(sum_shares, opened, keys, totals, derived, statements)
        release(included)
        asker, commissioned = opened.roster.asker, opened.invitation.protocol
        if asker is None or not isinstance(commissioned, Commissioned):
            channel.send(opened.roster.coordinator, summed)
        else:
            keys.learn(asker, commissioned.invitation.ephemeral)
            minimum = self.minimum_holders
            channel.send(asker, without_names(opened, commissioned.salt, included, summed, minimum))

    # The coordinator

    async def coordinator(self, channel: Channel, opened: Opened, keys: SessionKeys, memory: None) -> Summed:
        """Run the coordinator's role."""
        aggregators, needed = opened.roster.aggregators, _needed(opened)
        # Step 3
        answers: Mapping[PartyId, ShareSum | TooFewShares] = await channel.gather(
            (ShareSum, TooFewShares),
            senders=aggregators,
            within=sum_seconds(opened.encodings, len(opened.present)),
            relying_on=aggregators,  # the others may need what a lost one has not told them
        )
        included = agreed_set(opened, needed, answers)
        if len(included) < needed:
            missing = [holder for holder in opened.roster.holders if holder not in included]
            raise DropoutError(needed=needed, present=included, missing=missing)
        sums = [answer for answer in answers.values() if isinstance(answer, ShareSum)]
        return Summed(await channel.compute(add_sums, opened.encodings, sums), included)


# Deadlines: a holder's session lasts longest, and the coordinator waits longer than any aggregator


def share_seconds(encodings: Sequence[ArrayEncoding]) -> float:
    """Return how long an aggregator waits for full shares."""
    return ANSWER_SECONDS + SECONDS_PER_MEGABYTE * _megabytes(encodings)


def statement_seconds(encodings: Sequence[ArrayEncoding]) -> float:
    """Return how long it then waits for the other aggregators, who may wait for shares still."""
    return share_seconds(encodings) + ANSWER_SECONDS


def sum_seconds(encodings: Sequence[ArrayEncoding], n_holders: int) -> float:
    """Return how long the coordinator waits for sums: until all of that is over, and they are added and sent."""
    adding = SUMMING_SECONDS_PER_MEGABYTE * n_holders * _megabytes(encodings)
    return share_seconds(encodings) + statement_seconds(encodings) + adding + share_seconds(encodings)


def _megabytes(encodings: Sequence[ArrayEncoding]) -> float:
    """Return the size of a share."""
    return sum(encoding.size * encoding.word_bits / 8e6 for encoding in encodings)


def _others(opened: Opened, me: PartyId) -> tuple[PartyId, ...]:
    return tuple(aggregator for aggregator in opened.roster.adders if aggregator != me)


def _relied_on(opened: Opened, me: PartyId) -> tuple[PartyId, ...]:
    """Return whose loss an aggregator notices at once: the coordinator's; the others' too if that one is an asker."""
    asker = opened.roster.asker
    return (opened.roster.coordinator,) if asker is None else (asker, *_others(opened, me))


def _needed(opened: Opened) -> int:
    """Return how many holders must be in the sum: the minimum, or as many as the coordinator, or the asker, wants."""
    commissioned = opened.invitation.protocol
    if isinstance(commissioned, Commissioned) and commission_in(commissioned.invitation).everybody:
        return len(opened.roster.holders)
    return max(opened.needed, _wanted(opened))


def _wanted(opened: Opened) -> int:
    """Return how many holders the coordinator wants in the sum."""
    if not isinstance(opened.parameters, AggregationParameters):
        raise InvalidMessageError("a Begin without a number of holders", culprits=[opened.roster.coordinator])
    return opened.parameters.needed
