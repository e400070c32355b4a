"""A data holder: rows that stay here, and the decision whether to take part.

The order of things: policy, contribution, encoding, and only then a word to the coordinator. In a simulation
all rows are the user's own, so a refusal carries the traceback of his function; in a deployment nothing but a
reason of a fixed list leaves, and the details stay in this party's log.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from ..models.total import contribute
from ..protocols.channel import Role
from ..protocols.errors import ProtocolError
from ..protocols.invitation import (
    ALREADY_RELEASED,
    CONTRIBUTION_FAILED,
    NOT_ALLOWED,
    Declined,
    Prepared,
    prepare,
    roster_of,
)
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId, Roster
from ..protocols.protocol import Protocol, accepted_by_holder, holder_role
from ..protocols.session import Accepted
from ..serialization.session_messages import Invitation
from .participant import Participant

DETAILS_AT_MOST = 20_000
MODELS_KEPT = 1_000  # the latest; each holds what its functions refer to

logger = logging.getLogger(__name__)

PACKAGE = __name__.partition(".")[0] + "."


class DataHolder(Participant):
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

    # The role

    def _role(self, protocol: Protocol[Any], keys: SessionKeys, memory: Any) -> Role[bool]:
        def examine(shown: Invitation) -> Prepared:
            return self._examine(shown, protocol)

        return holder_role(protocol, keys, examine, memory, self.release_memory.record)

    def _accepts(self, protocol: Protocol[Any], roster: Roster) -> Accepted:
        return accepted_by_holder(protocol, roster, self.name)

    def _tells(self, roster: Roster) -> tuple[PartyId, ...]:
        return (roster.coordinator, *roster.aggregators)

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
        n_holders = len(roster_of(invitation).holders)
        if not self.release_memory.allows(invitation, dispensable=protocol.dispensable(n_holders)):
            raise Declined(ALREADY_RELEASED)
        try:
            arrays = contribute(model, self._data, invitation.query)
        except BaseException as error:  # noqa: BLE001 - a SystemExit in a model must not end this process
            raise self._failure(error) from None
        void = invitation.query.may_fail or not self._simulation
        return prepare(arrays, invitation.encoding, protocol.contributions(n_holders), void=void)

    def _failure(self, error: BaseException) -> Declined:
        """Return what crosses of an exception in the contribution: in a deployment, that there was one."""
        if not self._simulation:
            logger.error("the contribution failed at this holder", exc_info=error)
            return Declined(CONTRIBUTION_FAILED)
        return Declined(CONTRIBUTION_FAILED, own_traceback(error))


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
