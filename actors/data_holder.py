"""A data holder: rows that stay here, and the decision whether to take part.

The order of things: policy, contribution, encoding, and only then a word to the coordinator. In a simulation
all rows are the user's own, so a refusal carries the traceback of his function; in a deployment nothing but a
reason of a fixed list leaves, and the details stay in this party's log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from typing import Any

from ..models.total import contribute
from ..protocols.channel import Channel, Role
from ..protocols.errors import ProtocolError, RemoteError, SetupError
from ..protocols.invitation import (
    ALREADY_RELEASED,
    CONTRIBUTION_FAILED,
    NOT_ALLOWED,
    Declined,
    Prepared,
    prepare,
)
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId, Roster
from ..protocols.protocol import Protocol, accepted_by_holder, holder_role
from ..protocols.registry import protocol_from
from ..protocols.session import Session
from ..records.release_memory import ReleaseMemory
from ..serialization.errors import DecodeError, TacitError
from ..serialization.link_messages import Sealed
from ..serialization.session_messages import Invitation, Refusal
from .links import Links
from .party import Party

SESSION_SECONDS = 3 * 3_600.0  # longer than all the coordinator's deadlines together
DETAILS_AT_MOST = 20_000
MODELS_KEPT = 1_000  # the latest; each holds what its functions refer to

logger = logging.getLogger(__name__)

PACKAGE = __name__.partition(".")[0] + "."


class DataHolder(Party):
    """One holder of rows.

    Parameters
    ----------
    name : str
        Its name in the roster.
    data : Any
        Its rows, as the models expect them; they never leave.
    simulation : bool
        Whether the rows are the user's own: then errors are shown to him, and he may install models.
    """

    kind = "holder"

    def __init__(self, name: str, data: Any, *, simulation: bool) -> None:
        super().__init__(name)
        self._data = data
        self._simulation = simulation
        self._models: dict[bytes, Any] = {}
        self._memories: dict[str, Any] = {}
        self._releases: ReleaseMemory | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def install(self, definition: bytes, model: Any) -> None:
        """Hold a model ready under its content hash; in a simulation only.

        Raises
        ------
        ProtocolError
            In a deployment, where models come from this side.
        """
        if not self._simulation:
            raise ProtocolError("a holder in a deployment takes no model from outside: install it there")
        self._models.pop(definition, None)
        self._models[definition] = model
        while len(self._models) > MODELS_KEPT:
            del self._models[next(iter(self._models))]

    # A session, from its first frame

    def _invited(self, sealed: Sealed) -> bool:
        """Start a session if the pinned coordinator really invites to it; otherwise nothing happens."""
        try:
            invitation = self._peek(sealed)
        except (RemoteError, DecodeError) as error:
            logger.warning("refused an invitation: %s", type(error).__name__)
            return False
        task = asyncio.get_running_loop().create_task(self._take_part(invitation))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        return True

    def _peek(self, sealed: Sealed) -> Invitation:
        """Read the invitation with keys that are thrown away: it names the roster that the session's are for."""
        keys = SessionKeys(self.identity, self.roster, sealed.session, os.urandom)
        message = Links(keys).open(sealed)
        by_coordinator = sealed.sender == self.roster.coordinator
        if by_coordinator and isinstance(message, Invitation) and message.session == sealed.session:
            return message
        raise RemoteError("a first frame that is no invitation", suspects=[sealed.sender])

    def _accepted_roster(self, invitation: Invitation) -> Roster:
        """Return the invitation's roster: pinned parties only, with this one and the coordinator among them."""
        pinned = {party.name: party for party in self.roster.parties}
        if any(pinned.get(party.name) != party for party in invitation.roster):
            raise SetupError("the invitation names a party that is not pinned here")
        roster = Roster(invitation.roster)
        if self.name not in roster.holders:
            raise SetupError("the invitation is for other holders")
        return roster

    async def _take_part(self, invitation: Invitation) -> None:
        """Run this holder's role in one session; its end is the coordinator's to tell."""
        try:
            session, keys = self._session(invitation)
        except SetupError as error:
            logger.warning("refused an invitation: %s", error)
            session, keys = self._refusing_session(invitation)
        try:
            await self.driver.run(session, keys, first=(self.roster.coordinator, invitation))
        except TacitError as error:
            logger.info("a session ended early: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the coordinator has been told; a text may hold values
            logger.error("a session failed: %s", type(error).__name__)

    def _session(self, invitation: Invitation) -> tuple[Session[bool], SessionKeys]:
        """Make a session with this holder's role.

        Raises
        ------
        SetupError
            If the roster or the protocol is none that this holder takes part in.
        """
        roster, protocol = self._accepted_roster(invitation), self._protocol(invitation)
        keys = SessionKeys(self.identity, roster, invitation.session, os.urandom)
        role = holder_role(
            protocol,
            keys,
            lambda shown: self._examine(shown, protocol),
            self._memories.setdefault(protocol.title, protocol.memory()),
            self._release_memory().record,
        )
        session = Session(
            invitation.session,
            self.name,
            role,
            accepts=accepted_by_holder(protocol, roster, self.name),
            tell=(roster.coordinator,),
            random_bytes=os.urandom,
            lasts=SESSION_SECONDS,
        )
        return session, keys

    def _refusing_session(self, invitation: Invitation) -> tuple[Session[bool], SessionKeys]:
        """Make a session that does nothing but refuse, so that the coordinator does not wait."""
        coordinator = self.roster.coordinator
        session = Session(
            invitation.session,
            self.name,
            refusing_role(coordinator),
            accepts={coordinator: frozenset({Invitation})},
            random_bytes=os.urandom,
            lasts=SESSION_SECONDS,
        )
        return session, SessionKeys(self.identity, self.roster, invitation.session, os.urandom)

    def _protocol(self, invitation: Invitation) -> Protocol[Any]:
        return protocol_from(invitation.protocol)

    def _release_memory(self) -> ReleaseMemory:
        if self._releases is None:
            self._releases = ReleaseMemory(self.name, self.roster)
        return self._releases

    # The decision and the contribution, off the loop

    def _examine(self, invitation: Invitation, protocol: Protocol[Any]) -> Prepared:
        """Check what is asked, compute the contribution, and encode it.

        Raises
        ------
        Declined
            If this holder does not take part; in a deployment without any details.
        """
        try:
            return self._prepared(invitation, protocol)
        except Declined as declined:
            if self._simulation:
                raise
            logger.warning("declined: %s", declined.reason)
            raise Declined(declined.reason) from None

    def _prepared(self, invitation: Invitation, protocol: Protocol[Any]) -> Prepared:
        model = self._models.get(invitation.definition)
        if model is None:
            raise Declined(NOT_ALLOWED, "the model is not installed here")
        n_holders = len(Roster(invitation.roster).holders)
        if not self._release_memory().allows(invitation, dispensable=protocol.dispensable(n_holders)):
            raise Declined(ALREADY_RELEASED)
        try:
            arrays = contribute(model, self._data, invitation.query)
        except BaseException as error:  # noqa: BLE001 - a SystemExit in a model must not end this process
            raise self._failure(error) from None
        void = invitation.query.may_fail or not self._simulation
        return prepare(arrays, invitation.encoding, n_holders, void=void)

    def _failure(self, error: BaseException) -> Declined:
        """Return what crosses of an exception in the contribution: in a deployment, that there was one."""
        if not self._simulation:
            logger.error("the contribution failed at this holder", exc_info=error)
            return Declined(CONTRIBUTION_FAILED)
        return Declined(CONTRIBUTION_FAILED, own_traceback(error))


def refusing_role(coordinator: PartyId) -> Role[bool]:
    """Return the role of a holder that refuses whatever the coordinator invites to."""

    async def role(channel: Channel) -> bool:
        invitation = await channel.receive(Invitation, sender=coordinator)
        channel.send(coordinator, Refusal(session=invitation.session, reason=NOT_ALLOWED, details=""))
        return False

    return role


def own_traceback(error: BaseException) -> str:
    """Return the traceback of the user's own code: frames of this package are left out."""
    walked = zip(
        traceback.walk_tb(error.__traceback__), traceback.extract_tb(error.__traceback__), strict=True
    )
    frames = [
        summary
        for (frame, _), summary in walked
        if not str(frame.f_globals.get("__name__", "")).startswith(PACKAGE)
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    text = "".join([*lines, *traceback.format_exception_only(error)])[-DETAILS_AT_MOST:].rstrip()
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate cannot be sent
