"""Pairwise masking: every holder adds masks that cancel in the sum, and shares what opens them should it be lost.

Holders u in U, ring Z_{2^b}, keystreams by AES-256-CTR under one-time keys. All messages pass the coordinator.

0. *AdvertiseKeys* is the session's start: every ``Ready`` carries a fresh, signed key, ``Begin`` shows all to all.
1. *ShareKeys*, once an epoch of R sums: each holder u draws, for every round r of the epoch, a self seed b_u^r and an
   opening key K_u^r, and deals Shamir shares of both to its neighbours, sealed from the coordinator. It locks its
   pairwise seeds s_uv^r under K_u^r and commits to all seeds. U2: those who have dealt. From 65 holders on they first
   draw a seed together, which places them in a graph of fewer neighbours.
2. *MaskedInput*: y_u = x_u + PRG(b_u) + Σ ± PRG(s_uv), where u < v adds and v subtracts. The coordinator adds each
   as it comes, wholly or not at all, and keeps none; long ones come in parts (`masking_parts`). U3: those who have
   delivered, be they lost since.
3. *ConsistencyCheck*, against an active coordinator: holders authenticate U3 to each other, pairwise; each goes on only
   if as many as the threshold were told the same.
4. *Unmasking*: for each dealer one share: of b if it is in U3, else of K. The coordinator reconstructs, checks,
   corrects wrong shares, opens the lost holders' pairwise seeds, and takes out what does not cancel.

Masks are derived from the seeds *and* the session's binding, so a question other than the others' yields noise. Each
round is used once; its secrets are taken out of memory as they are used, and whatever is left of them when the sum is
over (best effort in Python).

**Who learns what.** The coordinator learns the sum over U3 and nothing else; holders learn nothing but U3. Resists
`colluding` holders that pool with a curious coordinator and, if `active`, with one that lies: that shows different
survivors to different holders, replays, or drops whom it likes. Holders may be lost at any step as long as as many as
the threshold are left, but while they draw the graph's seed: then the sum starts again, and nothing has been sent. Any
holder can shift the sum by what it puts in, and end it by dealing wrongly.

``mode="direct"`` has one trip and no recovery: pairwise masks alone, and any loss ends the session.

The steps are in `masking_epoch` (what is dealt once an epoch), `masking_set_up` (the roles that do so) and
`masking_steps` (a sum).

Sources: Bonawitz et al., CCS 2017, figure 4 (rounds and thresholds); Bell et al., CCS 2020 (the graph of neighbours).
The seeds of many rounds from one set-up are tacit's own composition, in the spirit of Ma et al., S&P 2023 (Flamingo),
**without a written proof**; so are the pairwise codes in the place of signatures in round 3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, Literal, cast

import numpy as np

from ..serialization.codec import encode
from ..serialization.pairwise_masking_messages import (
    DealtShares,
    ForwardedCodes,
    GraphCommitment,
    GraphCommitments,
    GraphSeed,
    GraphSeeds,
    MaskedInput,
    MaskedPart,
    MaskingParameters,
    PairwiseMaskingOptions,
    PartWanted,
    ReceivedShares,
    SurvivorCodes,
    Survivors,
    UnmaskingShares,
)
from ..serialization.schema import Message
from ..serialization.session_messages import Finished
from . import graph as graphs
from .channel import Channel
from .encoding import ArrayEncoding
from .errors import InvalidMessageError, SetupError
from .invitation import Opened, Opening
from .key_agreement import KEY_BYTES, SessionKeys
from .limbs import Limbs, Words
from .masking_epoch import Dealings, Epoch, check_session, terms
from .masking_parts import add_parts, cut, empty_parts, n_requests, send_parts
from .masking_set_up import ANSWER_SECONDS, gather_dealings, gathered, join_epoch, received
from .masking_steps import (
    agreeing,
    check_input,
    check_survivors,
    code_rows,
    mask_input,
    masks_left,
    masks_of,
    share_rows,
    sign_of,
    survivor_codes,
    unmask,
)
from .party import PartyId
from .protocol import Attack, Cost, Protocol, Release, Summed, Trust
from .running_sum import add, zeros
from .secret import Secret
from .shamir_bytes import LARGEST_POINT

DEFAULT_EPOCH = 16
MAXIMUM_EPOCH = 255
EPOCHS_KEPT = 4  # sums that run side by side may each have opened one
SECONDS_PER_MEGABYTE = 1.0


# What outlives a session


class MaskingMemory(Secret):
    """What a party keeps between sums: *never sent*.

    Attributes
    ----------
    epochs : dict of bytes to Epoch
        A holder's secrets of the last epochs, by the session that set each up.
    dealings : Dealings or None
        What the coordinator keeps of the present one.
    """

    def __init__(self) -> None:
        self.epochs: dict[bytes, Epoch] = {}
        self.dealings: Dealings | None = None

    def keep(self, epoch: Epoch) -> None:
        """Note a new epoch and forget the oldest."""
        self.epochs[epoch.identifier] = epoch
        if len(self.epochs) > EPOCHS_KEPT:
            del self.epochs[next(iter(self.epochs))]


# The protocol and its roles


@dataclass(frozen=True)
class PairwiseMasking(Protocol[MaskingMemory]):
    """Masks that cancel in the sum, with recovery from losses.

    Parameters
    ----------
    threshold : int, optional
        Shares that reconstruct, and holders that must be left; by default ⌊2n/3⌋ + 1 of n holders against an
        active coordinator, ⌊n/2⌋ + 1 against a curious one.
    neighbours : int, optional
        With how many others each holder masks, an even number or all; by default with all, and from 65 holders on
        with as many as the tails of the hypergeometric distribution demand.
    epoch : int
        Sums for which one set-up is good, at most 255.
    active : bool
        Whether a coordinator that lies about who survives is found out, for one more trip a sum.
    mode : {"resilient", "direct"}
        "direct" sends one message a holder and gives up at any loss.
    colluding : int
        Holders that may pool with the coordinator: n_C.

    Raises
    ------
    SetupError
        If an option is out of its range.
    """

    threshold: int | None = None
    neighbours: int | None = None
    epoch: int = DEFAULT_EPOCH
    active: bool = True
    mode: Literal["resilient", "direct"] = "resilient"
    colluding: int = 1

    title: ClassVar[str] = "pairwise masking"
    modular: ClassVar[bool] = True
    accepts: ClassVar[
        tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]
    ] = (
        (GraphCommitment, GraphSeed, DealtShares, MaskedInput, MaskedPart, SurvivorCodes, UnmaskingShares),
        (GraphCommitments, GraphSeeds, ReceivedShares, PartWanted, Survivors, ForwardedCodes),
        (),
    )

    def __post_init__(self) -> None:
        if self.mode not in ("resilient", "direct"):
            raise SetupError("mode is 'resilient' or 'direct'")
        if type(self.epoch) is not int or not 1 <= self.epoch <= MAXIMUM_EPOCH:
            raise SetupError(f"epoch is a whole number of sums, 1 to {MAXIMUM_EPOCH}")
        if type(self.colluding) is not int or self.colluding < 1:
            raise SetupError("colluding is at least 1: one holder may always pool with the coordinator")
        for name, value in (("threshold", self.threshold), ("neighbours", self.neighbours)):
            if value is not None and (type(value) is not int or value < 2):
                raise SetupError(f"{name} is a whole number of holders, at least 2, or None")
            if value is not None and self.mode == "direct":
                raise SetupError(
                    f"{name} has no meaning in direct mode, where all mask with all: leave it out"
                )

    @classmethod
    def from_options(cls, options: PairwiseMaskingOptions) -> PairwiseMasking:
        """Return the protocol that an invitation asks for."""
        return cls(
            options.threshold,
            options.neighbours,
            options.epoch,
            options.active,
            cast(Literal["resilient", "direct"], options.mode),
            options.colluding,
        )

    @property
    def options(self) -> PairwiseMaskingOptions:
        """The options as a message."""
        return PairwiseMaskingOptions(
            threshold=self.threshold,
            neighbours=self.neighbours,
            epoch=self.epoch,
            active=self.active,
            mode=self.mode,
            colluding=self.colluding,
        )

    @property
    def minimum_holders(self) -> int:
        """At least two honest inputs beside those that may collude, and never fewer than three."""
        return max(self.colluding + 2, 3)

    def needed(self, n_holders: int) -> int:
        """Return the threshold for so many holders; all of them in direct mode."""
        if self.mode == "direct":
            return n_holders
        default = max(graphs.default_threshold(n_holders, active=self.active), self.minimum_holders)
        return self.threshold or default

    def degree(self, n_holders: int) -> int:
        """Return with how many others each of so many holders masks: all, or of many holders a few, like log n.

        Raises
        ------
        SetupError
            If no graph of so many suits the threshold.
        """
        return n_holders - 1 if self.mode == "direct" else _neighbourhood(self, n_holders).degree

    def dispensable(self, n_holders: int) -> int:
        """Return without how many answers a sum may be unmasked, counting those who lie."""
        return n_holders - self.needed(n_holders) + self.colluding

    def check_number(self, n_holders: int) -> None:
        """Refuse too few holders, or a threshold that does not suit so many."""
        super().check_number(n_holders)
        if self.mode == "resilient":
            graphs.check_threshold(
                self.needed(n_holders), n_holders, colluding=self.colluding, active=self.active
            )
            _neighbourhood(self, n_holders)

    @property
    def trust(self) -> Trust:
        """Who learns what."""
        adversary = (
            "a coordinator that lies" if self.active and self.mode == "resilient" else "a curious coordinator"
        )
        return Trust(
            "the sum over the survivors" if self.mode == "resilient" else "the sum",
            f"{adversary}, and curious holders",
            (
                "more than one holder pools with the coordinator"
                if self.colluding == 1
                else f"more than {self.colluding} holders pool with the coordinator"
            )
            if self.mode == "resilient"
            else "the coordinator and all holders but one pool",
        )

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The known attacks and the step that stops each."""
        always = (
            Attack(
                "the router puts in keys of its own", "signatures over every fresh key, shown to all in Begin"
            ),
            Attack("too small a cohort", "the minimum that every holder checks"),
            Attack(
                "one holder gets a special model",
                "signatures over the invitation; the binding in every mask's derivation",
            ),
            Attack("the same question over one holder fewer", "the holders' memory of what they released"),
            Attack("an overflow, then the question again", "uniform noise and a flag that names nobody"),
            Attack("a session is replayed after a restart", "fresh keys of all parties in every binding"),
        )
        if self.mode == "direct":
            return always
        return (
            Attack(
                "both secrets of a holder are asked for", "of each dealer one share; the other is deleted"
            ),
            Attack(
                "different dealers or survivors are told to different holders",
                "pairwise codes over dealers and survivors" if self.active else "nothing: active is off",
            ),
            Attack("an input arrives after its holder was declared lost", "its self seed is never opened"),
            Attack(
                "a round's keys are used for a second sum", "rounds are taken out of memory as they are used"
            ),
            Attack(
                "a recovery uncovers other sums", "keys that open one round each; none that lasts is shared"
            ),
            *always,
        )

    def cost(self, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Cost:
        """Count messages one after the other and bytes of a sum; once an epoch the set-up comes on top."""
        session, flag = bytes(32), np.zeros(1, dtype=np.uint64)
        vectors = tuple(np.zeros(encoding.word_shape, encoding.word_dtype) for encoding in encodings)
        frames: list[Message] = [MaskedInput(session=session, binding=session, flag=flag, vectors=vectors)]
        parts = empty_parts(session, encodings)
        if self.mode == "resilient":
            degree = self.degree(n_holders)
            n_kept = degree if degree < n_holders - 1 else n_holders
            shares = np.zeros((n_kept, KEY_BYTES), dtype=np.uint8)
            frames.append(UnmaskingShares(session=session, binding=session, shares=shares))
        if self.mode == "resilient" and self.active:
            codes = np.zeros((n_holders, KEY_BYTES), dtype=np.uint8)
            frames.append(SurvivorCodes(session=session, codes=codes))
        n_messages = {1: 4, 2: 6, 3: 8}[len(frames)] + 2 * n_requests(len(parts))
        if len(parts) > 1:
            frames[:1] = parts
        return Cost(n_messages, sum(encode(frame).size for frame in frames))

    def memory(self) -> MaskingMemory:
        """No epoch yet."""
        return MaskingMemory()

    def forget(self, memory: MaskingMemory, party: PartyId) -> None:
        """Go on with the present epoch without a holder that has lost its secrets."""
        dealings = memory.dealings
        if dealings is not None:
            dealings.members = tuple(holder for holder in dealings.members if holder != party)

    async def fix_parameters(
        self, channel: Channel, opening: Opening, memory: MaskingMemory
    ) -> MaskingParameters:
        """Go on with the present epoch if all who are ready belong to it, else open a new one."""
        dealings = memory.dealings
        if (
            dealings is not None
            and dealings.terms == terms(opening.roster, self.options)
            and set(opening.present) <= set(dealings.members)
            and dealings.next_index < self.epoch
        ):
            dealings.next_index += 1
            return MaskingParameters(epoch=dealings.identifier, index=dealings.next_index - 1)
        memory.dealings = None
        return MaskingParameters(epoch=opening.session, index=0)

    # The coordinator

    async def coordinator(
        self, channel: Channel, opened: Opened, keys: SessionKeys, memory: MaskingMemory
    ) -> Summed:
        """Run the coordinator's role."""
        if self.mode == "direct":
            survivors, totals = await self._add_inputs(channel, opened, opened.present)
            return Summed(await channel.compute(unmask, totals, []), survivors, is_spent=True)
        # Round 1, once an epoch
        if _parameters(opened).epoch == opened.session:
            memory.dealings = await gather_dealings(channel, opened, self._neighbourhood(opened), self.epoch)
        dealings = memory.dealings
        if dealings is None or dealings.identifier != _parameters(opened).epoch:
            raise SetupError("a round of an epoch that is over: ask again")
        members: Collection[PartyId] = ()
        try:
            summed, members = await self._sum(channel, opened, dealings)
        finally:
            # Who has not come as far as this may have left the epoch, and nobody says how a failed sum ended.
            dealings.members = tuple(holder for holder in dealings.members if holder in members)
        return summed

    async def _sum(
        self, channel: Channel, opened: Opened, dealings: Dealings
    ) -> tuple[Summed, Collection[PartyId]]:
        """Sum in a round of an epoch; returns also who was there to the end."""
        # Round 2
        dealers = [holder for holder in opened.present if holder in dealings.dealt]
        survivors, totals = await self._add_inputs(channel, opened, dealers)
        channel.broadcast(survivors, Survivors(session=opened.session, survivors=survivors))
        # Round 3
        if self.active:
            await self._forward_codes(channel, opened, survivors)
        # Round 4
        answers = await gathered(channel, opened, UnmaskingShares, survivors, at_least=opened.needed)
        shares = {holder: share_rows(opened, holder, answer) for holder, answer in answers.items()}
        index = _parameters(opened).index
        left, wrong = await channel.compute(masks_left, opened, dealings, index, survivors, shares)
        words = await channel.compute(unmask, totals, left)
        return Summed(words, survivors, suspects=wrong, is_spent=True), tuple(answers)

    async def _add_inputs(
        self, channel: Channel, opened: Opened, senders: Sequence[PartyId]
    ) -> tuple[tuple[PartyId, ...], list[Words]]:
        """Add the masked inputs as they come, each wholly or not at all; return whose are in the sum, and the sum."""
        totals, parts = zeros(opened.encodings), cut(opened.encodings)

        def take(holder: PartyId, masked: MaskedInput) -> None:
            check_session(opened, holder, masked.session)
            check_input(opened, holder, masked)
            add(totals, masked)

        within = ANSWER_SECONDS + SECONDS_PER_MEGABYTE * sum(total.nbytes for total in totals) / 1e6
        if len(parts) > 1:
            return await add_parts(channel, opened, totals, parts, senders=senders, within=within), totals
        survivors = await channel.fold(
            MaskedInput, take, senders=senders, at_least=opened.needed, within=within
        )
        return survivors, totals

    async def _forward_codes(self, channel: Channel, opened: Opened, survivors: tuple[PartyId, ...]) -> None:
        answers = await gathered(channel, opened, SurvivorCodes, survivors, at_least=opened.needed)
        codes = np.zeros((len(survivors), len(survivors), KEY_BYTES), dtype=np.uint8)  # sender, recipient
        for place, holder in enumerate(survivors):
            if holder in answers:
                codes[place] = code_rows(holder, answers[holder], len(survivors))
        for place, holder in enumerate(survivors):
            channel.send(holder, ForwardedCodes(session=opened.session, codes=codes[:, place]))

    # A holder

    async def holder(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        memory: MaskingMemory,
        *,
        words: tuple[Limbs, ...] | None,
        release: Release,
    ) -> None:
        """Run a holder's role."""
        if self.mode == "direct":
            await self._direct(channel, opened, keys, words, release)
            return
        # Round 1, once an epoch
        parameters = _parameters(opened)
        if parameters.epoch == opened.session:
            near = self._neighbourhood(opened)
            memory.keep(await join_epoch(channel, opened, keys, near, self.epoch, codes=self.active))
        epoch = memory.epochs.get(parameters.epoch)
        if epoch is None or epoch.terms != terms(opened.roster, self.options):
            raise SetupError("a round of an epoch in which this holder has no part")
        own, pairs = epoch.take_seeds(parameters.index)
        try:
            # Round 2
            masks = masks_of(opened, channel.me, own, pairs)
            masked = await channel.compute(
                mask_input, opened, words, masks, random_bytes=channel.random_bytes
            )
            release(opened.present, opens=False)  # others can open a sum with it, once it has left
            answer = await send_parts(channel, opened, masked, cut(opened.encodings))
            del masked
            await self._help_unmask(channel, opened, epoch, release, answer)
        finally:
            epoch.forget(parameters.index)

    async def _help_unmask(
        self,
        channel: Channel,
        opened: Opened,
        epoch: Epoch,
        release: Release,
        answer: Survivors | Finished,
    ) -> None:
        """Look who survives, make sure that others were told the same, and give one share of each dealer."""
        session, coordinator = opened.session, opened.roster.coordinator
        if isinstance(answer, Finished):
            return  # too late: the sum was over the others
        check_session(opened, coordinator, answer.session)
        survivors = check_survivors(opened, channel.me, epoch, answer.survivors)
        release(survivors)
        # Round 3
        if self.active:
            codes = survivor_codes(opened, channel.me, epoch, survivors)
            channel.send(coordinator, SurvivorCodes(session=session, codes=codes))
            forwarded = await received(channel, opened, ForwardedCodes)
            if agreeing(opened, channel.me, epoch, survivors, forwarded.codes) < opened.needed:
                raise InvalidMessageError(
                    "too few holders were told the same survivors", suspects=[coordinator]
                )
        # Round 4
        shares = epoch.take_shares(_parameters(opened).index, survivors)
        channel.send(coordinator, UnmaskingShares(session=session, binding=opened.binding, shares=shares))

    async def _direct(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        words: tuple[Limbs, ...] | None,
        release: Release,
    ) -> None:
        """Mask with keys of this session alone, and send."""
        peers = [peer for peer in opened.present if peer != channel.me]
        masks = [
            (keys.take_pair_key(peer, "direct mask", opened.binding), sign_of(channel.me, peer))
            for peer in peers
        ]
        masked = await channel.compute(mask_input, opened, words, masks, random_bytes=channel.random_bytes)
        release(opened.present)
        await send_parts(channel, opened, masked, cut(opened.encodings))

    def _neighbourhood(self, opened: Opened) -> graphs.Neighbourhood:
        """Return with how many of those present each masks; in the complete graph, the threshold is the sum's."""
        found = _neighbourhood(self, len(opened.present))
        if found.degree < len(opened.present) - 1:
            return found
        return graphs.Neighbourhood(found.degree, self.needed(len(opened.roster.holders)))


@lru_cache(maxsize=256)
def _neighbourhood(protocol: PairwiseMasking, n_holders: int) -> graphs.Neighbourhood:
    """Return with how many each of so many holders masks, and how many shares reconstruct."""
    needed, wished = protocol.needed(n_holders), protocol.neighbours
    if (n_holders <= graphs.COMPLETE_UP_TO) if wished is None else (wished >= n_holders - 1):
        found = graphs.Neighbourhood(n_holders - 1, needed)
    else:
        found = graphs.degree_and_threshold(
            n_holders,
            corrupt_fraction=Fraction(protocol.colluding, n_holders),
            dropout_fraction=Fraction(n_holders - needed, n_holders),
            active=protocol.active,
            degree=wished,
        )
    if found.degree >= LARGEST_POINT:
        raise SetupError(
            f"{found.degree} neighbours each are more than {LARGEST_POINT - 1}, as it takes to lose "
            f"{n_holders - needed} of {n_holders} holders: raise the threshold, and so expect fewer losses"
        )
    return found


def _parameters(opened: Opened) -> MaskingParameters:
    if not isinstance(opened.parameters, MaskingParameters):
        raise InvalidMessageError("a Begin without an epoch", culprits=[opened.roster.coordinator])
    return opened.parameters
