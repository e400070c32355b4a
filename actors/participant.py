"""A party that the coordinator invites to sessions: what data holders and aggregators have in common.

The first frame of a session is an invitation under the pinned coordinator's keys, or nothing happens. Whoever takes
no part says so, with a reason of a fixed list, so that the coordinator does not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from ..protocols.channel import Channel, Role
from ..protocols.errors import AbortedError, RemoteError, SetupError
from ..protocols.invitation import NOT_ALLOWED, RECORDS_OUT_OF_ORDER, Declined, roster_of
from ..protocols.key_agreement import Identity, SessionKeys
from ..protocols.party import PartyId, Roster
from ..protocols.protocol import Protocol
from ..protocols.registry import protocol_from
from ..protocols.session import Accepted, Session, abort_reason
from ..records.account import Account
from ..records.errors import PolicyError, RecordError
from ..records.ledger import Ledger, Outcome
from ..records.release_memory import NO_LIMITS, Limits, ReleaseMemory
from ..serialization.codec import digest
from ..serialization.errors import DecodeError, TacitError
from ..serialization.link_messages import Sealed
from ..serialization.schema import Message
from ..serialization.session_messages import Invitation, Refusal
from .links import Links
from .party import Party

SESSION_SECONDS = 3 * 3_600.0  # longer than all the coordinator's deadlines together

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Participant(Party):
    """One party that takes part in sessions which the coordinator opens.

    Parameters
    ----------
    name, identity
        As of `Party`.
    ledger : Ledger, optional
        Where it notes every session; by default nowhere.
    limits : Limits
        What it allows of releases, and where it remembers them.
    """

    def __init__(
        self,
        name: str,
        identity: Identity | None = None,
        *,
        ledger: Ledger | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        super().__init__(name, identity)
        self.agreed: Message | None = None  # options of the one protocol that it takes part in; None for any
        self._limits = limits
        self._ledger = ledger
        self._accounts: dict[bytes, Account] = {}  # of the sessions under way
        self._memories: dict[bytes, Any] = {}
        self._releases: ReleaseMemory | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    @abstractmethod
    def _role(self, protocol: Protocol[Any], keys: SessionKeys, memory: Any) -> Role[bool]:
        """Return this party's role in one session."""

    @abstractmethod
    def _accepts(self, protocol: Protocol[Any], roster: Roster) -> Accepted:
        """Return the kinds of message that its session takes from each other party."""

    @abstractmethod
    def _tells(self, roster: Roster) -> tuple[PartyId, ...]:
        """Return who learns at once when this party fails."""

    @property
    def opener(self) -> PartyId:
        """Who invites this party to sessions."""
        return self.roster.coordinator

    @property
    def release_memory(self) -> ReleaseMemory:
        """What it has released."""
        if self._releases is None:
            self._releases = ReleaseMemory(self.name, self.roster, self._limits, self._columns_of)
        return self._releases

    def _columns_of(self, invitation: Invitation) -> frozenset[str] | None:
        """Return the columns that a question reads; None if that may be any, or is not known here."""
        return None

    def _memory_of(self, protocol: Protocol[Any]) -> Any:
        """Return what is kept between sums under a protocol with these options."""
        return self._memories.setdefault(digest(protocol.options), protocol.memory())

    # A session, from its first frame

    def _invited(self, sealed: Sealed) -> bool:
        """Start a session if the pinned coordinator really invites to it; otherwise nothing happens."""
        try:
            invitation = self._peek(sealed)
        except (RemoteError, DecodeError) as error:
            logger.warning("refused an invitation: %s", type(error).__name__)
            return False
        if invitation.session in self._accounts:  # it has just been opened
            return False
        self._accounts[invitation.session] = Account(self._ledger, invitation)
        task = asyncio.get_running_loop().create_task(self._take_part(invitation))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        return True

    def _peek(self, sealed: Sealed) -> Invitation:
        """Read the invitation with keys that are thrown away: it names the roster that the session's are for."""
        keys = SessionKeys(self.identity, self.roster, sealed.session, os.urandom)
        message = Links(keys).open(sealed)
        by_opener = sealed.sender == self.opener
        if by_opener and isinstance(message, Invitation) and message.session == sealed.session:
            return message
        raise RemoteError("a first frame that is no invitation", suspects=[sealed.sender])

    def _accepted_roster(self, invitation: Invitation) -> Roster:
        """Return the invitation's roster: pinned parties only, with this one and the coordinator among them."""
        roster = roster_of(invitation)
        if not roster.identities <= self.roster.identities:
            raise SetupError("the invitation names a party that is not pinned here")
        if self.name not in roster.invited:
            raise SetupError("the invitation is for others")
        if roster.asker != self.roster.asker:
            raise SetupError("the invitation leaves out who asks")
        return roster

    async def _take_part(self, invitation: Invitation) -> None:
        """Run this party's role in one session; its end is the coordinator's to tell."""
        try:
            session, keys = self._session(invitation)
        except SetupError as error:
            logger.warning("refused an invitation: %s", error)
            session, keys = self._refusing_session(invitation)
        account = self._accounts[invitation.session]
        outcome: tuple[Outcome, str] = "ended", "cancelled"
        try:
            took_part = await self.driver.run(
                session, keys, first=(self.opener, invitation), count=account.count
            )
            outcome = ("released", "") if took_part else ("refused", NOT_ALLOWED)
        except TacitError as error:
            outcome = "ended", abort_reason(error)
            logger.info("a session ended early: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the coordinator has been told; a text may hold values
            outcome = "ended", abort_reason(error)
            logger.error("a session failed: %s", type(error).__name__)
        finally:
            del self._accounts[invitation.session]
            account.end(*outcome)

    def _accounting(self, examine: Callable[[Invitation], T]) -> Callable[[Invitation], T]:
        """Return `examine`, with the refusal in the session's account; without a ledger in order all is refused."""

        def accounted(invitation: Invitation) -> T:
            account = self._accounts[invitation.session]
            account.read(invitation)
            try:
                with records_in_order():
                    account.check()
                    return examine(invitation)
            except Declined as declined:
                account.refusal = declined.reason
                raise

        return accounted

    def _release(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        """Note a release before anything leaves.

        Raises
        ------
        AbortedError
            If it cannot be noted, or may not be made any more: nothing leaves.
        """
        try:
            self._note_release(invitation, holders)
        except PolicyError as error:
            raise AbortedError(party=self.name, reason=error.reason) from None
        except RecordError as error:
            logger.error("a release cannot be noted: %s", error)
            raise AbortedError(party=self.name, reason=RECORDS_OUT_OF_ORDER) from None

    def _note_release(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        self.release_memory.record(invitation, holders)
        self._accounts[invitation.session].intend(holders)

    def _session(self, invitation: Invitation) -> tuple[Session[bool], SessionKeys]:
        """Make a session with this party's role.

        Raises
        ------
        SetupError
            If the roster or the protocol is none that this party takes part in.
        """
        roster, protocol = self._accepted_roster(invitation), self._protocol(invitation)
        keys = SessionKeys(self.identity, roster, invitation.session, os.urandom)
        role = self._role(protocol, keys, self._memory_of(protocol))
        return self._running(invitation, role, self._accepts(protocol, roster), self._tells(roster)), keys

    def _refusing_session(self, invitation: Invitation) -> tuple[Session[bool], SessionKeys]:
        """Make a session that does nothing but refuse, so that the coordinator does not wait."""
        opener = self.opener
        accepts: Mapping[PartyId, frozenset[Any]] = {opener: frozenset({Invitation})}
        keys = SessionKeys(self.identity, self.roster, invitation.session, os.urandom)
        return self._running(invitation, refusing_role(opener), accepts, ()), keys

    def _running(
        self, invitation: Invitation, role: Role[bool], accepts: Accepted, tells: tuple[PartyId, ...]
    ) -> Session[bool]:
        return Session(
            invitation.session,
            self.name,
            role,
            accepts=accepts,
            tell=tells,
            random_bytes=os.urandom,
            lasts=SESSION_SECONDS,
        )

    def _protocol(self, invitation: Invitation) -> Protocol[Any]:
        if self.agreed is not None and invitation.protocol != self.agreed:
            raise SetupError(
                "the invitation is to another protocol, or other options of it, than the study's"
            )
        return protocol_from(invitation.protocol)


@contextlib.contextmanager
def records_in_order() -> Iterator[None]:
    """Decline what this party could not keep a record of."""
    try:
        yield
    except RecordError as error:
        logger.error("the records are not in order: %s", error)
        raise Declined(RECORDS_OUT_OF_ORDER) from None


def refusing_role(coordinator: PartyId) -> Role[bool]:
    """Return the role of a party that refuses whatever the coordinator invites to."""

    async def role(channel: Channel) -> bool:
        invitation = await channel.receive(Invitation, sender=coordinator)
        channel.send(coordinator, Refusal(session=invitation.session, reason=NOT_ALLOWED, details=""))
        return False

    return role
