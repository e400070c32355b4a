"""What a holder remembers of the questions it has released, lest two sums differ by one holder.

The same question over the holders U, and then over U without v, gives v's own value by subtraction. So a
holder that has released a question over one set answers it over another set only if the first sum cannot
exist: more than `dispensable` holders of that session must have signed that they had released nothing when it
was broken off (in a ring, where every release is needed, one of them is honest then and without it there is no total).
Where aggregators add, a holder leaves the watch over the sets to them, as long as they are the same ones.

Under differential privacy a holder clips, charges and noises every session anew, with noise enough for whoever is
invited to it. Two sums then differ by one holder *and* by the noise of both, and tell what two releases may: over
which sets they are is nothing to refuse. Within a session each holder's noise is one and the same; so a noised
question is kept under its session, in which the set may still but shrink.

Adversary: a coordinator that claims a loss which did not happen, or opens two sessions at once, together
with colluding holders. The memory lasts as long as the process: a holder that starts anew joins with
a new identity.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..protocols.errors import AbortedError, EquivocationError, MisuseError
from ..protocols.invitation import ALREADY_RELEASED, is_signed, roster_of
from ..protocols.party import PartyId, Roster
from ..serialization.codec import digest
from ..serialization.encoding_parameters import AutoRange
from ..serialization.session_messages import Closed, Invitation, Query

EXAMINED_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Release:
    """One session in which this holder released a question."""

    session: bytes
    holders: frozenset[PartyId]
    dispensable: int  # holders without whose release that session's total may exist
    aggregators: frozenset[PartyId]  # who alone know which of the holders are in the sum


@dataclass(frozen=True, slots=True)
class Examined:
    """A session that was allowed, and in which nothing is released yet."""

    question: bytes
    dispensable: int


class ReleaseMemory:
    """The releases of one holder.

    Parameters
    ----------
    me : PartyId
        The holder.
    roster : Roster
        The pinned identities, with which signatures are checked.
    """

    def __init__(self, me: PartyId, roster: Roster) -> None:
        self._me = me
        self._roster = roster
        self._releases: dict[bytes, list[Release]] = {}
        self._examined: dict[bytes, Examined] = {}
        self._lock = threading.Lock()

    def allows(self, invitation: Invitation, *, dispensable: int, noised: bool = False) -> bool:
        """Whether answering cannot, with what was released before, isolate a holder.

        Parameters
        ----------
        invitation : Invitation
            What is asked, over which holders, with what signed words about sessions that broke.
        dispensable : int
            Holders without whose release a total may exist, those who lie included.
        noised : bool
            Whether this holder adds noise drawn for this session, enough whoever else is in other sums.
        """
        with self._lock:
            invited = frozenset(roster_of(invitation).holders)
            examined = Examined(question(invitation, noised=noised), dispensable)
            allowed = self._allows(examined, invitation, invited, shrinks=True)
            if allowed:
                self._examined[invitation.session] = examined
            if len(self._examined) > EXAMINED_KEPT:  # of sessions that broke off before a release
                del self._examined[next(iter(self._examined))]
            return allowed

    def record(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        """Remember a release; **call before anything leaves**, after `allows`.

        Where shares are dealt before it is known who is in the sum, the release is over all who are there; called
        again in the session, over whoever is in the sum, it takes the place of the first.

        Parameters
        ----------
        invitation : Invitation
            What is answered.
        holders : collection of PartyId
            Over whom: those invited, or those of them that are left.

        Raises
        ------
        MisuseError
            If `allows` was not asked about this session, or its release was over fewer holders.
        AbortedError
            If the question was released over more holders than are left now; or over others, where a convener
            invites all every time and cannot know who will be there.
        EquivocationError
            If, since then, the question was released over another set: the coordinator has opened two
            sessions at once.
        """
        with self._lock:
            examined = self._examined.pop(invitation.session, None) or self._released(invitation)
            releases = [] if examined is None else self._releases.get(examined.question, [])
            earlier = next((release for release in releases if release.session == invitation.session), None)
            if examined is None or not (earlier is None or set(holders) <= earlier.holders):
                raise MisuseError("a release is examined before it is recorded, and never grows")
            if not self._allows(examined, invitation, frozenset(holders), besides=earlier):
                roster = roster_of(invitation)
                if set(holders) < set(roster.holders) or roster.asker is not None:
                    raise AbortedError(party=self._me, reason=ALREADY_RELEASED)
                raise EquivocationError(
                    "two sessions at once on one question, over different holders",
                    culprits=[roster.coordinator],
                )
            aggregators = frozenset(roster_of(invitation).aggregators)
            release = Release(invitation.session, frozenset(holders), examined.dispensable, aggregators)
            others = [other for other in releases if other is not earlier]
            self._releases[examined.question] = [*others, release]

    def _released(self, invitation: Invitation) -> Examined | None:
        """Return how a session was examined in which there was a release."""
        for name in (question(invitation, noised=True), question(invitation)):
            for release in self._releases.get(name, ()):
                if release.session == invitation.session:
                    return Examined(name, release.dispensable)
        return None

    def _allows(
        self,
        examined: Examined,
        invitation: Invitation,
        holders: frozenset[PartyId],
        besides: Release | None = None,
        shrinks: bool = False,
    ) -> bool:
        roster = roster_of(invitation)
        aggregators, adds = frozenset(roster.aggregators), self._me in roster.adders

        def harmless(release: Release) -> bool:
            if release is besides:
                return True
            if not adds and (release.aggregators or aggregators):
                # Over whom the sum was, or will be, the aggregators agree; each answers over one set only.
                return release.aggregators == aggregators
            # A convener invites the lost as well: whether the set is the same shows when it is released.
            fits = release.holders <= holders if shrinks and roster.asker else release.holders == holders
            same = fits and release.aggregators == aggregators
            least = max(examined.dispensable, release.dispensable)
            return same or cannot_exist(release, invitation.previous, self._roster, dispensable=least)

        return all(map(harmless, self._releases.get(examined.question, ())))


def question(invitation: Invitation, *, noised: bool = False) -> bytes:
    """Join what makes two questions the same: model and arrays, not the step's name; with noise, the session too.

    How large the values are is another question than what they sum to.
    """
    if noised:
        return b"noised" + invitation.session
    arrays = digest(Query(step="", arrays=invitation.query.arrays, may_fail=False))
    return invitation.definition + arrays + (b"range" if isinstance(invitation.encoding, AutoRange) else b"")


def cannot_exist(release: Release, closed: Sequence[Closed], roster: Roster, *, dispensable: int) -> bool:
    """Whether enough holders of a broken session have signed that they had released nothing."""
    unreleased = {
        word.holder
        for word in closed
        if word.session == release.session
        and not word.forwarded
        and word.holder in release.holders & set(roster)
        and is_signed(word, roster, PartyId(word.holder))
    }
    return len(unreleased) > dispensable
