"""Attacks on how a session starts, ends, and is asked again: the same against every protocol.

Each is played by the coordinator, some with as many holders as may pool with it. The honest holders are to stop it, or
what they send is to be worth nothing.
"""

from __future__ import annotations

import numpy as np

from ..serialization.encoding_parameters import FixedPoint
from ..serialization.session_messages import Closed, Invitation
from .adversary import Adversary, Loot, Values, adversary
from .blind_roles import blind_coordinator, blind_holder, open_blindly, unchecked
from .channel import Channel, Role
from .cohort import LARGEST_INPUT, Cohort
from .errors import DropoutError, RefusedError
from .meeting import Meeting
from .party import PartyId, Roster
from .protocol import close_session, closed_by
from .session import Done, Failed
from .simulation import Run

NOISE = "the masks or shares, which do not fit together: the total is noise"


def alike(meeting: Meeting, factor: int | None = None) -> dict[PartyId, Invitation]:
    """Return the same invitation for everybody who is invited."""
    return dict.fromkeys(meeting.roster.invited, meeting.invitation(factor))


def total_of(run: Run, coordinator: PartyId) -> Values | None:
    """Return the total that a corrupt coordinator's role has returned, if it came so far."""
    outcome = run.outcomes[coordinator]
    return np.asarray(outcome.result, dtype=np.int64) if isinstance(outcome, Done) else None


def accepted_total(run: Run, coordinator: PartyId) -> Values | None:
    """Return the total that a coordinator has accepted who plays by the rules, if it has."""
    outcome = run.outcomes[coordinator]
    return np.asarray(outcome.result.arrays["x"], dtype=np.int64) if isinstance(outcome, Done) else None


def difference(total: Values | None, other: Values | None) -> Values | None:
    """Return the difference of two totals, if both are there."""
    return None if total is None or other is None else total - other


@adversary("one holder gets a special model", "the coordinator")
def special_question(cohort: Cohort) -> Loot:
    """Ask all for zero times their input, and one for its input itself."""
    meeting = Meeting(cohort, factor=0)
    invitations = alike(meeting) | {cohort.victim: meeting.invitation(factor=1)}
    run = meeting.run({cohort.coordinator: blind_coordinator(meeting, invitations)})
    return Loot(total_of(run, cohort.coordinator), (run,), cohort.victim, hidden_by=NOISE)


@adversary("the router puts in keys of its own", "the coordinator")
def substituted_keys(cohort: Cohort) -> Loot:
    """Answer one holder in all others' names, with keys made up for them."""
    others = [holder for holder in cohort.roster.holders if holder != cohort.victim]
    meeting = Meeting(cohort, puppets={name: cohort.new_identity(name) for name in others})
    return _among_puppets(cohort, meeting)


@adversary("all other holders are the coordinator's own (Sybil)", "the coordinator")
def sybil(cohort: Cohort) -> Loot:
    """Invite one holder together with as many that nobody knows."""
    names = [PartyId(f"stranger-{i}") for i in range(1, len(cohort.roster.holders))]
    puppets = {name: cohort.new_identity(name) for name in names}
    others = set(cohort.roster.holders) - {cohort.victim}
    coordinator, victim, *rest = cohort.roster.without(sorted(others)).parties
    strangers = [identity.public for identity in puppets.values()]
    meeting = Meeting(cohort, roster=Roster((coordinator, victim, *strangers, *rest)), puppets=puppets)
    return _among_puppets(cohort, meeting)


def _among_puppets(cohort: Cohort, meeting: Meeting) -> Loot:
    """Sum over the victim and puppets, who put zeros in."""
    roles = {name: blind_holder(meeting, name) for name in meeting.puppets}
    run = meeting.run({cohort.coordinator: blind_coordinator(meeting, alike(meeting)), **roles})
    return Loot(total_of(run, cohort.coordinator), (run,), cohort.victim, hidden_by=NOISE)


@adversary("too small a cohort", "the coordinator and its holders")
def small_cohort(cohort: Cohort) -> Loot:
    """Invite one holder together with those who pool with the coordinator."""
    kept = {cohort.victim, *cohort.accomplices}
    meeting = Meeting(
        cohort, roster=cohort.roster.without([h for h in cohort.roster.holders if h not in kept])
    )
    roles = {name: blind_holder(meeting, name) for name in cohort.accomplices}
    run = meeting.run({cohort.coordinator: blind_coordinator(meeting, alike(meeting)), **roles})
    total = total_of(run, cohort.coordinator)
    value = difference(total, cohort.sum_of(cohort.accomplices))
    return Loot(value, (run,), cohort.victim, hidden_by=NOISE)


@adversary("the same question over one holder fewer", "the coordinator and its holders")
def same_question(cohort: Cohort) -> Loot:
    """Sum over all, feign that one was lost and the sum with it, and ask the others again.

    Those who pool sign that they had released nothing.
    """
    first = Meeting(cohort)
    words: list[Closed] = []
    run = first.run({cohort.coordinator: _feigning_coordinator(first, words)})
    lies = [closed_by(first.keys_of(name), forwarded=False) for name in cohort.accomplices]
    honest = [word for word in words if word.holder not in cohort.accomplices]
    again = Meeting(cohort, roster=cohort.roster.without([cohort.victim]), previous=[*honest, *lies])
    second = again.run({cohort.coordinator: blind_coordinator(again, alike(again))})
    totals = [total_of(each, cohort.coordinator) for each in (run, second)]
    return Loot(difference(*totals), (run, second), cohort.victim, sees="the sum over all")


def _feigning_coordinator(meeting: Meeting, words: list[Closed]) -> Role[Values]:
    """Return the role of a coordinator that has the total, and says that the victim was lost on the way to it."""
    cohort, protocol = meeting.cohort, unchecked(meeting.protocol)
    me, victim = cohort.coordinator, cohort.victim

    async def role(channel: Channel) -> Values:
        opened = await open_blindly(channel, meeting, protocol, alike(meeting))
        summed = await protocol.coordinator(channel, opened, meeting.keys_of(me), cohort.memories[me])
        words.extend(
            await close_session(channel, opened, DropoutError(needed=1, present=(), missing=[victim]))
        )
        return opened.encodings[0].decode(summed.words[0])

    return role


@adversary("an overflow, then the question again", "the coordinator")
def overflow(cohort: Cohort) -> Loot:
    """Ask with a bound that only the largest input exceeds, then with a wide one.

    If the input counts as zero the first time, the difference of the totals is that input; if its holder is named, it
    is asked with ever other bounds until its input is known.
    """
    bound = float(LARGEST_INPUT)
    run, tight = _bounded_sum(cohort, bound)
    failed = run.outcomes[cohort.coordinator]
    if isinstance(failed, Failed) and isinstance(failed.error, RefusedError):
        (named,) = map(PartyId, failed.error.refusals)
        return Loot(_bisected(cohort, named), (run,), named)
    if tight is None:
        return Loot(None, (run,), cohort.victim, sees="that somebody is out of range, not who")
    again, wide = _bounded_sum(cohort, 4 * bound)
    return Loot(difference(wide, tight), (run, again), cohort.victim, hidden_by=NOISE)


def _bisected(cohort: Cohort, named: PartyId) -> Values:
    """Find the smallest bound with which a holder does not refuse."""
    low, high = LARGEST_INPUT, 4 * LARGEST_INPUT
    while high - low > 1:
        middle = (low + high) // 2
        run, _ = _bounded_sum(cohort, float(middle))
        refused = isinstance(run.outcomes[cohort.coordinator], Failed)
        low, high = (middle, high) if refused else (low, middle)
    return np.array([high])


def _bounded_sum(cohort: Cohort, bound: float) -> tuple[Run, Values | None]:
    meeting = Meeting(cohort, encoding=FixedPoint(bound, fraction_bits=0))
    run = meeting.run({cohort.coordinator: blind_coordinator(meeting, alike(meeting))})
    return run, total_of(run, cohort.coordinator)


def replay_to(cohort: Cohort, victim: PartyId, first: Meeting) -> tuple[Meeting, Run]:
    """Replay the coordinator's part of a session to a holder that has been started anew, with a changed input.

    The links would refuse old frames as well; so this is tried without them.
    """
    cohort.restart(victim)
    again = Meeting(cohort, session=first.session, sealed=False)

    async def replaying(channel: Channel) -> None:
        for message in first.told(victim):
            channel.send(victim, message)

    async def silent(channel: Channel) -> None:
        """Say nothing."""

    others = dict.fromkeys(set(cohort.roster) - {victim}, silent)
    return again, again.run(others | {cohort.coordinator: replaying})


ATTACKS: tuple[Adversary, ...] = (
    special_question,
    substituted_keys,
    sybil,
    small_cohort,
    same_question,
    overflow,
)
