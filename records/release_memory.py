"""What a holder remembers of the questions it has released, lest two sums differ by one holder.

The same question over the holders U, and then over U without v, gives v's own value by subtraction. So a
holder that has released a question over one set answers it over another set only if the first sum cannot
exist: more than `dispensable` holders of that session must have signed that they had released nothing when it
was broken off (in a ring, where every release is needed, one of them is honest then and without it there is no total).
Where aggregators add, a holder leaves the watch over the sets to them, as long as they are the same ones.

What the same question is. By default, what has the same definition and the same values in its query: another start
value, seed or name makes another question, and two that hardly differ isolate v nearly as well. With
`Limits.set_changes` questions are the same **if they read a column in common**, whatever else their definitions and
queries say; one that a function of the user's answers may read any. The sets of holders over which such questions were
released are counted: so many changes are allowed, and **each may isolate the holder that is lost**.

Under differential privacy a holder clips, charges and noises every session anew, with noise enough for whoever is
invited to it. Two sums then differ by one holder *and* by the noise of both, and tell what two releases may: over which
sets they are is nothing to refuse. Within a session each holder's noise is one and the same; there the set may but
shrink.

Adversary: a coordinator that claims a loss which did not happen, opens two sessions at once, asks in other words, or
waits for a restart, together with colluding holders. Without a file the memory lasts as long as the process: a holder
that starts anew joins with a new identity. With a file (`chained_file`) it outlives both.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..protocols.errors import AbortedError, EquivocationError, MisuseError
from ..protocols.invitation import ALREADY_RELEASED, QUERIES_SPENT, is_signed, roster_of
from ..protocols.party import PartyId, Roster
from ..serialization.codec import digest
from ..serialization.encoding_parameters import AutoRange
from ..serialization.session_messages import Closed, Invitation, Query
from .chained_file import START, ChainedFile
from .errors import RecordError

EXAMINED_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a party allows of releases, and where it remembers them.

    Attributes
    ----------
    path : path, optional
        The file, in a folder that exists; by default they are remembered as long as the process lives.
    set_changes : int, optional
        How often the set of holders may change under questions that read a column in common; by default any number
        of times, but never under one and the same question.
    maximum_queries : int, optional
        How many sessions may be released in all.
    """

    path: str | os.PathLike[str] | None = None
    set_changes: int | None = None
    maximum_queries: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Release:
    """One session in which this holder released a question."""

    session: bytes
    question: bytes
    columns: frozenset[str] | None  # that it reads of the rows; None for any
    holders: frozenset[PartyId]
    aggregators: frozenset[PartyId]  # who alone know which of the holders are in the sum
    dispensable: int  # holders without whose release that session's total may exist
    noised: bool = False  # by noise that this holder drew for this session

    def touches(self, columns: frozenset[str] | None) -> bool:
        """Whether it reads one of these columns."""
        return columns is None or self.columns is None or not self.columns.isdisjoint(columns)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "session": self.session.hex(),
            "question": self.question.hex(),
            "columns": None if self.columns is None else sorted(self.columns),
            "holders": sorted(self.holders),
            "aggregators": sorted(self.aggregators),
            "dispensable": self.dispensable,
            "noised": self.noised,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Release:
        """Restore it from `to_dict`.

        Raises
        ------
        RecordError
            If it is none.
        """
        try:
            columns = content["columns"]
            return cls(
                bytes.fromhex(content["session"]),
                bytes.fromhex(content["question"]),
                None if columns is None else frozenset(columns),
                frozenset(map(PartyId, content["holders"])),
                frozenset(map(PartyId, content["aggregators"])),
                int(content["dispensable"]),
                bool(content["noised"]),
            )
        except (KeyError, TypeError, ValueError):
            raise RecordError("a line is no release: it was written by another version of tacit") from None


class ReleaseMemory:
    """The releases of one holder.

    Parameters
    ----------
    me : PartyId
        The holder.
    roster : Roster
        The pinned identities, with which signatures are checked.
    limits : Limits
    columns_of : callable, optional
        Which columns an invitation's question reads, None for any; an aggregator does not know.

    Raises
    ------
    RecordError
        If the folder of its file is not there.
    """

    def __init__(
        self,
        me: PartyId,
        roster: Roster,
        limits: Limits = NO_LIMITS,
        columns_of: Callable[[Invitation], frozenset[str] | None] = lambda _: None,
    ) -> None:
        self._me = me
        self._roster = roster
        self._limits = limits
        self._columns_of = columns_of
        self._file = None if limits.path is None else ChainedFile(limits.path, "the memory of releases")
        self._place = START
        self._releases: dict[bytes, Release] = {}  # by session
        self._by_question: dict[bytes, list[bytes]] = {}  # the sessions
        self._sets: dict[frozenset[PartyId], frozenset[PartyId]] = {}  # each once, not for every release
        self._examined: dict[bytes, Release] = {}  # allowed, and not released yet
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether as many sessions were released as may be.

        Raises
        ------
        RecordError
            If the file is damaged.
        """
        with self._lock:
            self._refresh()
            return self._is_full()

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

        Raises
        ------
        RecordError
            If the file is damaged: nothing may be answered.
        """
        with self._lock:
            self._refresh()
            if invitation.session in self._releases:  # before a restart: sessions are used once
                return False
            asked = self._asked(invitation, dispensable, noised)
            allowed = self._allows(invitation, asked, shrinks=True)
            if allowed:
                self._examined[invitation.session] = asked
            if len(self._examined) > EXAMINED_KEPT:  # of sessions that broke off before a release
                del self._examined[next(iter(self._examined))]
            return allowed

    def record(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        """Remember a release; **call before anything leaves**, after `allows`.

        Where a summand leaves before it is known who is in the sum, the release is over all who are there; called
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
            invites all every time and cannot know who will be there; or if as many sessions as may be have been
            released since then.
        EquivocationError
            If, since then, the question was released over another set: the coordinator has opened two
            sessions at once.
        RecordError
            If it cannot be written: **nothing may leave**.
        """
        with self._lock, self._writing():
            earlier = self._releases.get(invitation.session)
            known = earlier or self._examined.pop(invitation.session, None)
            if known is None or not (earlier is None or set(holders) <= earlier.holders):
                raise MisuseError("a release is examined before it is recorded, and never grows")
            release = replace(known, holders=frozenset(holders))
            if not self._allows(invitation, release):
                roster = roster_of(invitation)
                if set(holders) < set(roster.holders) or roster.asker is not None:
                    raise AbortedError(party=self._me, reason=ALREADY_RELEASED)
                raise EquivocationError(
                    "two sessions at once on one question, over different holders",
                    culprits=[roster.coordinator],
                )
            if earlier is not None and earlier.holders == release.holders:
                return
            if earlier is None and self._is_full():
                raise AbortedError(party=self._me, reason=QUERIES_SPENT)
            if self._file is not None:
                self._place = self._file.append(self._place, release.to_dict())
            self._take(release)

    # Which sets of holders go together

    def _asked(self, invitation: Invitation, dispensable: int, noised: bool) -> Release:
        roster = roster_of(invitation)
        return Release(
            invitation.session,
            question(invitation),
            self._columns_of(invitation),
            frozenset(roster.holders),
            frozenset(roster.aggregators),
            dispensable,
            noised,
        )

    def _allows(self, invitation: Invitation, asked: Release, *, shrinks: bool = False) -> bool:
        roster = roster_of(invitation)
        adds = self._me in roster.adders

        def other(release: Release) -> frozenset[PartyId] | None:
            """Return over whom a release was, if that is another set and its sum may exist."""
            if release.session == asked.session:
                return None
            if not adds and (release.aggregators or asked.aggregators):
                # Over whom the sum was, or will be, the aggregators agree; each answers over one set only.
                return None if release.aggregators == asked.aggregators else release.aggregators
            # A convener invites the lost as well: whether the set is the same shows when it is released.
            contained = release.holders <= asked.holders if shrinks and roster.asker else False
            fits = contained or release.holders == asked.holders
            least = max(asked.dispensable, release.dispensable)
            if fits and release.aggregators == asked.aggregators:
                return None
            if cannot_exist(release, invitation.previous, self._roster, dispensable=least):
                return None
            return release.holders | release.aggregators

        others = set(map(other, self._same_question(asked))) - {None}
        return len(others) <= (self._limits.set_changes or 0)

    def _same_question(self, asked: Release) -> Iterable[Release]:
        if asked.noised:
            return ()
        if self._limits.set_changes is None:
            alike = (self._releases[session] for session in self._by_question.get(asked.question, ()))
        else:
            alike = (release for release in self._releases.values() if release.touches(asked.columns))
        return (release for release in alike if not release.noised)

    def _is_full(self) -> bool:
        most = self._limits.maximum_queries
        return most is not None and len(self._releases) >= most

    # What is kept

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self._file is None:
            yield
            return
        with self._file.locked():
            self._refresh()
            yield

    def _refresh(self) -> None:
        """Take in what has come to the file; another process may have written it."""
        if self._file is not None:
            lines, place = self._file.read(self._place)
            for release in [Release.from_dict(line) for line in lines]:
                self._take(release)
            self._place = place

    def _take(self, release: Release) -> None:
        holders, aggregators = (
            self._sets.setdefault(parties, parties) for parties in (release.holders, release.aggregators)
        )
        if release.session not in self._releases:
            self._by_question.setdefault(release.question, []).append(release.session)
        self._releases[release.session] = replace(release, holders=holders, aggregators=aggregators)


def question(invitation: Invitation) -> bytes:
    """Join what makes two questions the same: the model, and what it is asked."""
    return invitation.definition + query_of(invitation)


def query_of(invitation: Invitation) -> bytes:
    """Join what makes two questions to one model the same: arrays, not the step's name.

    How large the values are is another question than what they sum to.
    """
    arrays = digest(Query(step="", arrays=invitation.query.arrays, may_fail=False))
    return arrays + (b"range" if isinstance(invitation.encoding, AutoRange) else b"")


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
