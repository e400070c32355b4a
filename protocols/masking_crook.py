"""A coordinator of pairwise masking that lies, and what it can compute from all that it has seen.

It routes and collects as the protocol has it, but tells each holder what it likes, names rounds as it likes, and waits
for nobody in vain. The holders that pool with it play by the rules and show it what they hold. Whatever self seeds and
pairwise seeds follow from shares, from accomplices and from opened boxes, it knows; an input of which it knows all
masks lies open. Names follow `masking_steps`: b is a self seed, s a pairwise seed, K an opening key, U2 and U3 those
who have dealt and those who survive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..serialization.pairwise_masking_messages import (
    ForwardedCodes,
    MaskedInput,
    MaskingParameters,
    ReceivedShares,
    SurvivorCodes,
    Survivors,
    UnmaskingShares,
)
from ..serialization.schema import Message
from ..serialization.session_messages import Finished
from . import masking_steps as steps
from . import shamir_bytes
from .adversary import Values
from .channel import Channel, Role
from .cohort import Cohort
from .errors import ProtocolError
from .invitation import Opened, Opening, open_session
from .key_agreement import KEY_BYTES
from .limbs import Words
from .masking_epoch import NONCE, Dealings, Epoch, cut, forward_shares
from .masking_set_up import ANSWER_SECONDS, gather_dealings
from .meeting import Meeting
from .pairwise_masking import MaskingMemory, PairwiseMasking
from .party import PartyId
from .running_sum import total_of
from .shamir_bytes import Octets
from .simulation import Run, Sent

M = TypeVar("M", bound=Message)

Names = tuple[PartyId, ...]
Story = Callable[[PartyId, Names, Dealings], Names]  # what a holder is told of those who have delivered


def the_truth(holder: PartyId, survivors: Names, dealings: Dealings) -> Names:
    """Tell everybody who has delivered."""
    return survivors


class HoardingMemory(MaskingMemory):
    """The memory of a holder that pools with the coordinator: nothing is taken out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.hoarded: dict[bytes, Epoch] = {}
        self.shares: dict[bytes, dict[PartyId, dict[int, Octets]]] = {}
        self.pair_seeds: dict[bytes, dict[PartyId, dict[int, bytes]]] = {}

    def keep(self, epoch: Epoch) -> None:
        """Note a new epoch, and copy all its secrets."""
        super().keep(epoch)
        self.hoarded[epoch.identifier] = epoch
        self.shares[epoch.identifier] = {dealer: dict(rows) for dealer, rows in epoch._shares.items()}
        self.pair_seeds[epoch.identifier] = {peer: dict(seeds) for peer, seeds in epoch._pair_seeds.items()}


@dataclass
class CrookedSum:
    """One sum as the lying coordinator has it.

    Attributes
    ----------
    meeting : Meeting
    told_dealers : dict of PartyId to tuple of PartyId
        U2, for those to whom it has lied about it.
    inputs : dict of PartyId to MaskedInput
    told : dict of PartyId to tuple of PartyId
        U3, as each holder was told.
    answers : dict of PartyId to ndarray of uint8
        Shares.
    """

    meeting: Meeting
    told_dealers: Mapping[PartyId, Names]
    inputs: dict[PartyId, MaskedInput] = field(default_factory=dict)
    told: dict[PartyId, Names] = field(default_factory=dict)
    answers: dict[PartyId, Octets] = field(default_factory=dict)
    run: Run = field(init=False)
    opened: Opened = field(init=False)
    dealings: Dealings = field(init=False)

    @property
    def parameters(self) -> MaskingParameters:
        """Which round of which epoch this is."""
        return cast(MaskingParameters, self.opened.parameters)


class Crook:
    """A coordinator that lies, with as many holders as may pool with it.

    Parameters
    ----------
    cohort : Cohort
        Of pairwise masking, in resilient mode.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.protocol = cast(PairwiseMasking, cohort.protocol)
        self.memory = MaskingMemory()
        self.hoards = {name: HoardingMemory() for name in cohort.accomplices}
        cohort.memories |= self.hoards | {cohort.coordinator: self.memory}
        self.self_seeds: dict[tuple[bytes, int, PartyId], bytes] = {}  # by epoch, round, holder
        self.pair_seeds: dict[tuple[bytes, int, PartyId, PartyId], bytes] = {}  # both ways round

    # A sum

    def sum(
        self,
        *,
        factor: int = 1,
        story: Story = the_truth,
        told_dealers: Mapping[PartyId, Names] | None = None,
        same_round: bool = False,
    ) -> CrookedSum:
        """Run a sum, and learn from it.

        Parameters
        ----------
        factor : int
            The question.
        story : callable
            ``story(holder, survivors, dealings)`` returns whom a holder is told to have delivered; a holder that is
            not among them is told nothing.
        told_dealers : mapping of PartyId to tuple of PartyId, optional
            Whom some holders are told to have dealt.
        same_round : bool
            Whether to name the last sum's round again.
        """
        meeting = Meeting(self.cohort, factor=factor)
        crooked = CrookedSum(meeting, told_dealers or {})
        meeting.bends = lambda sent: self._lie_about_dealers(crooked, sent)
        crooked.run = meeting.run({self.cohort.coordinator: self._role(crooked, story, same_round)})
        if crooked.told:
            self._learn(crooked)
        return crooked

    def _lie_about_dealers(self, crooked: CrookedSum, sent: Sent) -> Message:
        if not isinstance(sent.message, ReceivedShares) or sent.recipient not in crooked.told_dealers:
            return sent.message
        told = crooked.told_dealers[sent.recipient]
        dealt = {dealer: dealing for dealer, dealing in crooked.dealings.dealt.items() if dealer in told}
        return forward_shares(
            crooked.opened, dataclasses.replace(crooked.dealings, dealt=dealt), sent.recipient
        )

    def _role(self, crooked: CrookedSum, story: Story, same_round: bool) -> Role[None]:
        protocol, memory, meeting = self.protocol, self.memory, crooked.meeting
        keys, needed = meeting.keys_of(self.cohort.coordinator), protocol.needed(len(meeting.roster.holders))

        async def role(channel: Channel) -> None:
            async def fix_parameters(opening: Opening) -> MaskingParameters:
                last = memory.dealings
                if same_round and last is not None:
                    return MaskingParameters(epoch=last.identifier, index=last.next_index - 1)
                return await protocol.fix_parameters(channel, opening, memory)

            invitation = meeting.invitation()
            opened = await open_session(channel, keys, invitation, fix_parameters, needed=needed)
            crooked.opened = opened
            if crooked.parameters.epoch == opened.session:
                near = protocol._neighbourhood(opened)
                memory.dealings = await gather_dealings(channel, opened, near, protocol.epoch)
            crooked.dealings = cast(Dealings, memory.dealings)
            dealers = crooked.dealings.dealers
            crooked.inputs = await self._gather(channel, MaskedInput, dealers)
            survivors = tuple(crooked.inputs)
            stories = {holder: story(holder, survivors, crooked.dealings) for holder in survivors}
            crooked.told = {holder: told for holder, told in stories.items() if holder in told}
            for holder, told in crooked.told.items():
                channel.send(holder, Survivors(session=opened.session, survivors=told))
            if protocol.active:
                await self._forward_codes(channel, crooked)
            answers = await self._gather(channel, UnmaskingShares, tuple(crooked.told))
            crooked.answers = {holder: answer.shares for holder, answer in answers.items()}
            channel.broadcast(opened.present, Finished(session=opened.session, released=True))

        return role

    async def _gather(self, channel: Channel, kind: type[M], senders: Names) -> dict[PartyId, M]:
        """Take what comes."""
        return await channel.gather(kind, senders=senders, at_least=0, within=ANSWER_SECONDS)

    async def _forward_codes(self, channel: Channel, crooked: CrookedSum) -> None:
        """Pass on the codes of those who were told as their recipient was, forged ones of accomplices."""
        answers = await self._gather(channel, SurvivorCodes, tuple(crooked.told))
        for holder, told in crooked.told.items():
            codes = np.zeros((len(told), KEY_BYTES), dtype=np.uint8)
            for place, peer in enumerate(told):
                if peer in self.hoards and peer != holder:
                    epoch = self.hoards[peer].hoarded[crooked.dealings.identifier]
                    forged = epoch.code(peer, holder, epoch.told(crooked.opened, told))
                    codes[place] = np.frombuffer(forged, dtype=np.uint8)
                elif peer in answers and holder in crooked.told[peer]:
                    codes[place] = answers[peer].codes[crooked.told[peer].index(holder)]
            channel.send(holder, ForwardedCodes(session=crooked.opened.session, codes=codes))

    # What follows from it

    def _learn(self, crooked: CrookedSum) -> None:
        """Reconstruct what can be, open all boxes that can be, and look at what accomplices have."""
        epoch, index = crooked.parameters.epoch, crooked.parameters.index
        for dealer, dealt in crooked.dealings.dealt.items():
            own, key = (self._secret(crooked, dealer, alive) for alive in (True, False))
            if own is not None:
                self.self_seeds[epoch, index, dealer] = own
            for r, box in enumerate(dealt.locked_seeds if key is not None else ()):
                for peer, seed in zip(
                    crooked.dealings.graph.neighbours[dealer], _opened(key, box), strict=False
                ):
                    self.know(epoch, r, dealer, peer, seed)
        for name, hoard in self.hoards.items():
            for peer, seeds in hoard.pair_seeds[epoch].items():
                self.know(epoch, index, name, peer, seeds[index])

    def know(self, epoch: bytes, index: int, holder: PartyId, peer: PartyId, seed: bytes) -> None:
        """Note a pairwise seed."""
        self.pair_seeds[epoch, index, holder, peer] = seed
        self.pair_seeds[epoch, index, peer, holder] = seed

    def _secret(self, crooked: CrookedSum, dealer: PartyId, alive: bool) -> bytes | None:
        """Return b of a dealer that was told to be alive, or K of one told to be lost, if the shares suffice."""
        graph, pieces = crooked.dealings.graph, {}
        for point, keeper in enumerate(graph.keepers[dealer], start=1):
            known = crooked.told_dealers.get(keeper, crooked.dealings.dealers)
            if keeper in self.hoards:
                row = self.hoards[keeper].shares[crooked.parameters.epoch][dealer][crooked.parameters.index]
                pieces[point] = row[:KEY_BYTES] if alive else row[KEY_BYTES:]
            elif dealer in known and keeper in crooked.answers and (dealer in crooked.told[keeper]) == alive:
                kept = [other for other in graph.keepers[keeper] if other in known]
                pieces[point] = crooked.answers[keeper][kept.index(dealer)]
        if len(pieces) < graph.threshold:
            return None
        points = sorted(pieces)[: graph.threshold]
        return bytes(shamir_bytes.interpolate(points, np.stack([pieces[point] for point in points])))

    # What it is after

    def open_input(self, crooked: CrookedSum, holder: PartyId, *, self_mask: bool = True) -> Values | None:
        """Take all masks off an input, if they are known; None if one is missing or the rest is noise.

        With ``self_mask=False`` it is tried whether there is none.
        """
        if holder not in crooked.inputs:
            return None
        round_ = (crooked.parameters.epoch, crooked.parameters.index)
        dealers = crooked.told_dealers.get(holder, crooked.dealings.dealers)
        near = [peer for peer in crooked.dealings.graph.neighbours[holder] if peer in dealers]
        seeds = [
            (self.pair_seeds.get((*round_, holder, peer)), -steps.sign_of(holder, peer)) for peer in near
        ]
        seeds += [(self.self_seeds.get((*round_, holder)), -1)] if self_mask else []
        known = [(steps.mask_key(seed, crooked.opened), sign) for seed, sign in seeds if seed is not None]
        if len(known) < len(seeds):
            return None
        masked = crooked.inputs[holder]
        return unmasked(crooked.opened, [masked.flag, *masked.vectors], known)

    def total(self, crooked: CrookedSum, survivors: Names) -> Values | None:
        """Return the sum over those who were told to survive, if enough have answered."""
        index = crooked.parameters.index
        try:
            left, _ = steps.masks_left(crooked.opened, crooked.dealings, index, survivors, crooked.answers)
        except ProtocolError:
            return None
        inputs = [crooked.inputs[holder] for holder in survivors]
        return unmasked(crooked.opened, total_of(crooked.opened.encodings, inputs), left)


def unmasked(opened: Opened, words: Sequence[Words], masks: Sequence[tuple[bytes, int]]) -> Values | None:
    """Add masks to flag and vectors, and decode what is left; None if that is noise."""
    try:
        totals = steps.unmask([vector.copy() for vector in words], masks)
        return np.asarray(opened.encodings[0].decode(totals[0]), dtype=np.int64)
    except ProtocolError:
        return None


def _opened(key: bytes | None, box: bytes) -> list[bytes]:
    """Return the pairwise seeds that a key opens, none if it does not fit."""
    try:
        return cut(AESGCM(key or b"").decrypt(NONCE, box, None))
    except InvalidTag:
        return []
