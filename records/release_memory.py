"""What a holder remembers of the questions it has released, lest two sums differ by one holder.

The same question over the holders U, and then over U without v, gives v's own value by subtraction. So a
holder that has released a question over one set answers it over another set only if the first sum cannot
exist: more than `dispensable` holders of that session must have signed that they had released nothing when it
was broken off (in a ring, where every release is needed, one of them is honest then and without it there is no total).

Adversary: a coordinator that claims a loss which did not happen, or opens two sessions at once, together
with colluding holders. The memory lasts as long as the process: a holder that starts anew joins with
a new identity.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..protocols.errors import AbortedError, EquivocationError, MisuseError
from ..protocols.invitation import ALREADY_RELEASED, is_signed
from ..protocols.party import PartyId, Roster
from ..serialization.codec import digest
from ..serialization.session_messages import Closed, Invitation, Query

EXAMINED_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Release:
    """One session in which this holder released a question."""

    session: bytes
    holders: frozenset[PartyId]
    dispensable: int  # holders without whose release that session's total may exist


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
        self._examined: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def allows(self, invitation: Invitation, *, dispensable: int) -> bool:
        """Whether answering cannot, with what was released before, isolate a holder.

        Parameters
        ----------
        invitation : Invitation
            What is asked, over which holders, with what signed words about sessions that broke.
        dispensable : int
            Holders without whose release a total may exist, those who lie included.
        """
        with self._lock:
            allowed = self._allows(invitation, frozenset(Roster(invitation.roster).holders), dispensable)
            if allowed:
                self._examined[invitation.session] = dispensable
            if len(self._examined) > EXAMINED_KEPT:  # of sessions that broke off before a release
                del self._examined[next(iter(self._examined))]
            return allowed

    def record(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        """Remember a release; **call before anything leaves**, after `allows`.

        Parameters
        ----------
        invitation : Invitation
            What is answered.
        holders : collection of PartyId
            Over whom: those invited, or those of them that are left.

        Raises
        ------
        MisuseError
            If `allows` was not asked about this session.
        AbortedError
            If the question was released over more holders than are left now.
        EquivocationError
            If, since then, the question was released over another set: the coordinator has opened two
            sessions at once.
        """
        with self._lock:
            dispensable = self._examined.pop(invitation.session, None)
            if dispensable is None:
                raise MisuseError("a release is recorded once, and examined before")
            if not self._allows(invitation, frozenset(holders), dispensable):
                roster = Roster(invitation.roster)
                if set(holders) < set(roster.holders):
                    raise AbortedError(party=self._me, reason=ALREADY_RELEASED)
                raise EquivocationError(
                    "two sessions at once on one question, over different holders",
                    culprits=[roster.coordinator],
                )
            release = Release(invitation.session, frozenset(holders), dispensable)
            self._releases.setdefault(question(invitation), []).append(release)

    def _allows(self, invitation: Invitation, holders: frozenset[PartyId], dispensable: int) -> bool:
        return all(
            release.holders == holders
            or cannot_exist(
                release, invitation.previous, self._roster, dispensable=max(dispensable, release.dispensable)
            )
            for release in self._releases.get(question(invitation), ())
        )


def question(invitation: Invitation) -> bytes:
    """Join what makes two questions the same: model and arrays, not the step's name."""
    arrays = digest(Query(step="", arrays=invitation.query.arrays, may_fail=False))
    return invitation.definition + arrays


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
