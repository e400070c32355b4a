"""What a holder remembers of the questions it has released, so that no difference of two sums isolates a holder.

The same question over the holders U, and then over U without v, gives v's own value by subtraction. So a holder that has
released a question over one set answers it over another set only if the first sum cannot exist: more than `colluding`
holders of that session must have signed that they had released nothing when it was broken off (one of them is honest
then, and without it there is no total). Its own memory is as good as a signature.

Adversary: a coordinator that claims a loss which did not happen, together with up to `colluding` holders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..protocols.invitation import is_signed
from ..protocols.party import PartyId, Roster
from ..serialization.codec import digest
from ..serialization.session_messages import Closed, Invitation, Query


@dataclass(frozen=True, slots=True)
class Release:
    """One session in which this holder released a question."""

    session: bytes
    holders: frozenset[PartyId]


class ReleaseMemory:
    """The releases of one holder.

    Parameters
    ----------
    roster : Roster
        The pinned identities, with which signatures are checked.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._releases: dict[bytes, list[Release]] = {}

    def allows(self, invitation: Invitation, *, colluding: int) -> bool:
        """Whether answering cannot, with what was released before, isolate a holder."""
        holders = _holders(invitation)
        return all(
            release.holders == holders
            or cannot_exist(release, invitation.previous, self._roster, colluding=colluding)
            for release in self._releases.get(question(invitation), ())
        )

    def record(self, invitation: Invitation) -> None:
        """Remember a release. **Call before anything leaves.**"""
        release = Release(invitation.session, _holders(invitation))
        self._releases.setdefault(question(invitation), []).append(release)


def question(invitation: Invitation) -> bytes:
    """What makes two questions the same: the model and the arrays it is asked at; not the step's name."""
    arrays = digest(Query(step="", arrays=invitation.query.arrays, may_fail=False))
    return invitation.definition + arrays


def cannot_exist(release: Release, closed: Sequence[Closed], roster: Roster, *, colluding: int) -> bool:
    """Whether enough holders of a broken session have signed that they had released nothing."""
    unreleased = {
        word.holder
        for word in closed
        if word.session == release.session
        and not word.forwarded
        and word.holder in release.holders
        and is_signed(word, roster, PartyId(word.holder))
    }
    return len(unreleased) > colluding


def _holders(invitation: Invitation) -> frozenset[PartyId]:
    return frozenset(Roster(invitation.roster).holders)
