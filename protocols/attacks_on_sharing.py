"""Attacks on secret sharing: by a coordinator that lies, with as many share holders as may pool with it, and by faults.

What it does with what it collects is told in `sharing_crook`.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np

from ..serialization.schema import Message
from ..serialization.secret_sharing_messages import SharedInput, SummedShares
from .adversary import Adversary, Loot, adversary
from .attacks_on_sessions import accepted_total, difference, replay_to
from .cohort import Cohort
from .meeting import Meeting
from .party import PartyId
from .prime_field import PRIMES
from .secret_sharing import SecretSharing
from .shamir import expand, reconstruct
from .sharing_crook import (
    Names,
    Share,
    crooked_sum,
    opened_share,
    reconstructed,
    sealed_for,
    subtract,
)
from .sharing_steps import TAG_BYTES, Octets, SharingSetup
from .simulation import Sent

LIAR = "a coordinator that lies, and its share holders"
TOO_FEW = "the threshold: too few share holders answer for the second set"


def without(dealers: Names, victim: PartyId) -> Names:
    """Return those who are left."""
    return tuple(dealer for dealer in dealers if dealer != victim)


@adversary("the coordinator opens a share", "the coordinator and its share holders")
def shares_in_clear(cohort: Cohort) -> Loot:
    """Read the shares that the coordinator relays, with those that its accomplices may open."""
    crooked = crooked_sum(cohort, lambda holder, dealers: dealers)
    setup, victim = crooked.setup, cohort.victim
    shares = {
        holder: opened_share(setup, crooked.meeting, crooked.shared[victim], victim, holder)
        if holder in crooked.meeting.corrupt
        else _read(setup, holder, sealed)
        for holder, sealed in sealed_for(setup, crooked.shared[victim], victim).items()
    }
    hidden_by = "the seals of shares: the coordinator relays what it cannot open"
    return Loot(reconstructed(setup, shares), (crooked.run,), victim, hidden_by=hidden_by)


def _read(setup: SharingSetup, holder: PartyId, sealed: Octets) -> Share:
    """Take for a share what may be one in the clear."""
    number, content, share = setup.share_holders.index(holder), sealed[:-TAG_BYTES], []
    for group in setup.groups:
        part, content = np.split(content, [group.share_bytes(number)])
        seeded = number < group.sharing.n_seeds
        elements = None if seeded else part.copy().view("<u8").astype(np.uint64).reshape(group.shape)
        share.append(expand(group.sharing, part.tobytes(), group.count) if elements is None else elements)
    return share


@adversary("half of the share holders answer for all, half for all but one", LIAR)
def split_sets(cohort: Cohort) -> Loot:
    """Name all to as many as it takes, and all but one to the others."""
    victim, n_holders = cohort.victim, len(cohort.roster.holders)
    threshold = cast(SecretSharing, cohort.protocol).shares_needed(n_holders)

    def story(holder: PartyId, dealers: Names) -> Names:
        honest = [name for name in cohort.roster.holders if name not in cohort.accomplices]
        second_half = honest[max(1, threshold - len(cohort.accomplices)) :]
        return without(dealers, victim) if holder in second_half else dealers

    crooked = crooked_sum(cohort, story)
    everybody = tuple(crooked.shared)
    totals = [crooked.total(included) for included in (everybody, without(everybody, victim))]
    return Loot(difference(*totals), (crooked.run,), victim, hidden_by=TOO_FEW)


@adversary("too small an included set", LIAR)
def small_set(cohort: Cohort) -> Loot:
    """Name one holder and accomplices."""
    few = (cohort.victim, *cohort.accomplices)
    crooked = crooked_sum(cohort, lambda holder, dealers: few)
    value = difference(crooked.total(few), cohort.sum_of(cohort.accomplices))
    return Loot(value, (crooked.run,), cohort.victim, hidden_by=TOO_FEW)


@adversary("the same question without a holder whose shares are called missing", LIAR)
def called_missing(cohort: Cohort) -> Loot:
    """Sum over all, then ask the same again and leave one holder out."""
    victim = cohort.victim
    first = crooked_sum(cohort, lambda holder, dealers: dealers)
    again = crooked_sum(cohort, lambda holder, dealers: without(dealers, victim))
    left = without(tuple(again.shared), victim)
    value = difference(first.total(tuple(first.shared)), again.total(left))
    return Loot(value, (first.run, again.run), victim, hidden_by=TOO_FEW, sees="the sum over all")


@adversary("a share holder sends a wrong sum", "one share holder")
def wrong_sum(cohort: Cohort) -> Loot:
    """Add to the sum of shares what adds one to the total."""
    liar = cohort.roster.holders[0]
    meeting = Meeting(cohort, corrupt=[liar])

    def shift(sent: Sent) -> Message:
        if not isinstance(sent.message, SummedShares) or sent.sender != liar:
            return sent.message
        setup = cast(SecretSharing, cohort.protocol).setup(meeting.opened())
        first, *rest = sent.message.totals
        shifted = first.copy()
        shifted[0, 0] = (int(first[0, 0]) + _weight_of_one(setup, liar)) % PRIMES[0]
        return dataclasses.replace(sent.message, totals=(shifted, *rest))

    meeting.bends = shift
    run = meeting.run()
    total = accepted_total(run, cohort.coordinator)
    return Loot(total, (run,), prize="total", hidden_by="robust decoding: the wrong sum is corrected")


def _weight_of_one(setup: SharingSetup, holder: PartyId) -> int:
    """Return what the first share holders' total grows by one for, if it is added to this one's share."""
    sharing = setup.groups[0].sharing
    units = {
        number: np.array([[int(other == holder)]], dtype=np.uint64)
        for number, other in enumerate(setup.share_holders[: setup.threshold])
    }
    return pow(int(reconstruct(sharing, units, 1)[0, 0]), -1, PRIMES[0])


@adversary("a session is replayed after a restart", "the coordinator and a share holder")
def replay(cohort: Cohort) -> Loot:
    """Have a holder deal a second time in one session, when its input has changed, and subtract the shares."""
    first = Meeting(cohort, sealed=False)
    first.run()
    again, run = replay_to(cohort, cohort.victim, first)
    setup, accomplice = cast(SecretSharing, cohort.protocol).setup(first.opened()), cohort.accomplices[-1]
    dealt = [
        s
        for meeting in (first, again)
        for dealer, _, s in meeting.seen(SharedInput)
        if dealer == cohort.victim
    ]
    if len(dealt) < 2:
        return Loot(None, (run,), cohort.victim, prize="change")
    before, after = (opened_share(setup, first, shared, cohort.victim, accomplice) for shared in dealt)
    # Of equal seeds the first shares are equal: their change is zero, and one other share determines all.
    changes = {holder: subtract(setup, after, after) for holder in setup.share_holders[: setup.threshold - 1]}
    changes[accomplice] = subtract(setup, after, before)
    return Loot(reconstructed(setup, changes), (run,), cohort.victim, prize="change")


ATTACKS: tuple[Adversary, ...] = (shares_in_clear, split_sets, small_set, called_missing, wrong_sum, replay)
