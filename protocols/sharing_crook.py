"""A coordinator of secret sharing that lies, and what it can compute from all that it has seen.

It routes shares and collects sums as the protocol has it, but names to each share holder whom it likes. What it has are
sums of shares over the sets that it has named, of its accomplices over any part of these, and what the accomplices can
open.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ..serialization.secret_sharing_messages import SharedInput, SummedShares
from ..serialization.session_messages import Finished
from . import sharing_steps as steps
from .adversary import Values
from .attacks_on_sessions import alike
from .blind_roles import open_blindly, unchecked
from .channel import Channel
from .cohort import Cohort
from .errors import ProtocolError
from .meeting import Meeting
from .party import PartyId
from .prime_field import Elements, moduli_column
from .secret_sharing import ANSWER_SECONDS, SecretSharing
from .sharing_steps import SharingSetup
from .simulation import Run

Names = tuple[PartyId, ...]
Share = list[Elements]  # for each group of arrays: one dealer's share of one share holder, or a sum of such


@dataclass
class CrookedSum:
    """One sum as the lying coordinator has it.

    Attributes
    ----------
    meeting : Meeting
    shared : dict of PartyId to SharedInput
    told : dict of PartyId to tuple of PartyId
        The included set, as each share holder was told.
    answers : dict of PartyId to SummedShares
    """

    meeting: Meeting
    shared: dict[PartyId, SharedInput] = field(default_factory=dict)
    told: dict[PartyId, Names] = field(default_factory=dict)
    answers: dict[PartyId, SummedShares] = field(default_factory=dict)
    run: Run = field(init=False)
    setup: SharingSetup = field(init=False)

    def total(self, included: Names) -> Values | None:
        """Return the sum over a set, if enough share holders, accomplices among them, have answered for it."""
        sums: dict[PartyId, Share] = {}
        for holder, answer in self.answers.items():
            told = self.told[holder]
            if told == included or (holder in self.meeting.corrupt and set(included) <= set(told)):
                sums[holder] = list(answer.totals)
                for dealer in set(told) - set(included):
                    share = opened_share(self.setup, self.meeting, self.shared[dealer], dealer, holder)
                    sums[holder] = subtract(self.setup, sums[holder], share)
        return reconstructed(self.setup, sums)


def crooked_sum(cohort: Cohort, story: Callable[[PartyId, Names], Names]) -> CrookedSum:
    """Run a sum in which every share holder is told an included set of its own.

    Parameters
    ----------
    cohort : Cohort
    story : callable
        ``story(holder, dealers)`` returns whom a share holder is told to be included.
    """
    meeting = Meeting(cohort)
    crooked = CrookedSum(meeting)
    protocol = cast(SecretSharing, unchecked(meeting.protocol))

    async def role(channel: Channel) -> None:
        opened = await open_blindly(channel, meeting, protocol, alike(meeting))
        crooked.setup = setup = protocol.setup(opened)
        shared = await channel.gather(SharedInput, senders=opened.present, at_least=0, within=ANSWER_SECONDS)
        crooked.shared = shared
        for holder in setup.present:
            crooked.told[holder] = included = story(holder, tuple(shared))
            bundles = steps.forward_shares(setup, {dealer: shared[dealer] for dealer in included})
            channel.send(holder, bundles[holder])
        crooked.answers = await channel.gather(
            SummedShares, senders=setup.present, at_least=0, within=ANSWER_SECONDS
        )
        channel.broadcast(opened.present, Finished(session=opened.session, released=True))

    crooked.run = meeting.run({cohort.coordinator: role})
    return crooked


# Shares


def opened_share(
    setup: SharingSetup, meeting: Meeting, shared: SharedInput, dealer: PartyId, holder: PartyId
) -> Share:
    """Open what a dealer has sealed for an accomplice."""
    keys = meeting.keys_of(holder)
    keys._taken.clear()  # its own keys: nobody keeps it from using one twice
    return steps._open(setup, keys, dealer, sealed_for(setup, shared, dealer)[holder])


def sealed_for(setup: SharingSetup, shared: SharedInput, dealer: PartyId) -> Mapping[PartyId, steps.Octets]:
    """Return what a dealer has sealed, by share holder."""
    return dict(zip(setup.recipients(dealer), shared.sealed, strict=True))


def subtract(setup: SharingSetup, minuend: Share, subtrahend: Share) -> Share:
    """Subtract shares, element by element."""
    columns = (moduli_column(group.sharing.moduli) for group in setup.groups)
    return [(a + (p - b)) % p for a, b, p in zip(minuend, subtrahend, columns, strict=True)]


def reconstructed(setup: SharingSetup, shares: Mapping[PartyId, Sequence[Elements]]) -> Values | None:
    """Return what shares stand for; None if they are too few, or stand for noise."""
    if len(shares) < setup.threshold:
        return None
    answers = {
        holder: SummedShares(session=setup.opened.session, binding=setup.opened.binding, totals=tuple(share))
        for holder, share in shares.items()
    }
    try:
        words, _ = steps.open_total(setup, answers, correct=None, random_bytes=random.randbytes)
        return np.asarray(setup.opened.encodings[0].decode(words[0]), dtype=np.int64)
    except ProtocolError:
        return None
