"""Attacks on additive sharing: by aggregators that pool with the coordinator, and by whoever holds messages back."""

from __future__ import annotations

from collections.abc import Collection

from ..serialization.additive_sharing_messages import FullShare
from ..serialization.codec import Frame, decode
from .additive_steps import SHARE, receivers
from .adversary import Adversary, Loot, Values, adversary
from .attacks_on_sessions import accepted_total, difference, replay_to
from .cohort import Cohort
from .masking_crook import unmasked
from .meeting import Meeting
from .party import PartyId


def joined(meeting: Meeting, share: FullShare, holder: PartyId) -> Values | None:
    """Add to a holder's full share those that corrupt aggregators derive; None if the rest is noise."""
    opened = meeting.opened()
    pooling = meeting.corrupt & (set(meeting.roster.aggregators) - {receivers(opened)[holder]})
    for aggregator in pooling:
        meeting.keys_of(aggregator)._taken.clear()  # its own keys: nobody keeps it from using one twice
    keys = [
        meeting.keys_of(aggregator).take_pair_key(holder, SHARE, opened.binding) for aggregator in pooling
    ]
    return unmasked(opened, [share.flag, *share.vectors], [(key, 1) for key in keys])


@adversary("all aggregators but one pool", "the coordinator, its holders and all aggregators but one")
def pooling(cohort: Cohort) -> Loot:
    """Put together what all aggregators but the last have of an input."""
    corrupt = [cohort.coordinator, *cohort.accomplices, *cohort.roster.aggregators[:-1]]
    meeting = Meeting(cohort, corrupt=corrupt)
    run = meeting.run()
    (share,) = (share for holder, _, share in meeting.seen(FullShare) if holder == cohort.victim)
    hidden_by = "the uniform share of the last aggregator"
    return Loot(joined(meeting, share, cohort.victim), (run,), cohort.victim, hidden_by=hidden_by)


@adversary(
    "the coordinator reads a share on its way", "the coordinator, the network and all aggregators but one"
)
def share_on_its_way(cohort: Cohort) -> Loot:
    """Capture what a holder sends to the one honest aggregator."""
    meeting = Meeting(cohort, corrupt=[cohort.coordinator, *cohort.roster.aggregators[1:]])
    captured: list[Frame] = []

    def intercept(sender: PartyId, recipient: PartyId, frame: Frame) -> Frame:
        captured.extend(
            [frame] if (sender, recipient) == (cohort.victim, cohort.roster.aggregators[0]) else []
        )
        return frame

    meeting.intercepts = intercept
    run = meeting.run()
    read = [message for message in map(decode, captured) if isinstance(message, FullShare)]
    value = joined(meeting, read[0], cohort.victim) if read else None
    hidden_by = "links: what a holder sends to an aggregator is sealed from all others"
    return Loot(value, (run,), cohort.victim, hidden_by=hidden_by, sees="ciphertext of the links")


def without_shares_of(meeting: Meeting, holders: Collection[PartyId]) -> None:
    """Hold back what some holders send to aggregators."""
    aggregators = set(meeting.roster.aggregators)
    meeting.intercepts = lambda sender, recipient, frame: (
        None if sender in holders and recipient in aggregators else frame
    )


@adversary("all shares but one holder's are held back", "the coordinator, its holders and the network")
def held_back(cohort: Cohort) -> Loot:
    """Let nothing through to the aggregators but the shares of one holder and of accomplices."""
    kept = {cohort.victim, *cohort.accomplices}
    meeting = Meeting(cohort)
    without_shares_of(meeting, set(cohort.roster.holders) - kept)
    run = meeting.run()
    total = accepted_total(run, cohort.coordinator)
    value = difference(total, cohort.sum_of(cohort.accomplices))
    return Loot(value, (run,), cohort.victim, hidden_by="the minimum that every aggregator checks")


@adversary("the same question with one holder's share held back", "the coordinator and the network")
def asked_again(cohort: Cohort) -> Loot:
    """Sum over all, then ask the same again and hold one holder's share back."""
    first, again = Meeting(cohort), Meeting(cohort)
    without_shares_of(again, [cohort.victim])
    runs = (first.run(), again.run())
    totals = [accepted_total(run, cohort.coordinator) for run in runs]
    return Loot(difference(*totals), runs, cohort.victim, sees="the sum over all")


@adversary("a session is replayed after a restart", "the coordinator and an aggregator")
def replay(cohort: Cohort) -> Loot:
    """Have a holder share a second time in one session, when its input has changed, and subtract its full shares."""
    first = Meeting(cohort, sealed=False)
    first.run()
    again, run = replay_to(cohort, cohort.victim, first)
    shares = []
    for meeting in (first, again):
        meeting.corrupt |= {cohort.roster.aggregators[0]}
        shares += [share for holder, _, share in meeting.seen(FullShare) if holder == cohort.victim]
    if len(shares) < 2:
        return Loot(None, (run,), cohort.victim, prize="change")
    changes = [b - a for a, b in zip(*((share.flag, *share.vectors) for share in shares), strict=True)]
    return Loot(unmasked(first.opened(), changes, []), (run,), cohort.victim, prize="change")


ATTACKS: tuple[Adversary, ...] = (pooling, share_on_its_way, held_back, asked_again, replay)
