"""One run of a model over sums of holders whom the coordinator does not know: a convener invites them.

The coordinator goes by salted hashes: it sees whether a sum is over the same holders as the one before, no more.
"""

from __future__ import annotations

import os
from typing import Any

from ..protocols.additive_sharing import AdditiveSharing
from ..protocols.convening import ConvenedAggregate, accepted_by_asker, asker_role
from ..protocols.errors import BRING_BACK, DropoutError, SetupError
from ..protocols.invitation import invite
from ..protocols.key_agreement import SessionKeys
from ..protocols.protocol import Aggregate
from ..protocols.session import Session
from ..serialization.convening_messages import Commission
from ..serialization.schema import Message
from ..serialization.session_messages import Invitation, Query
from .computation import SESSION_SECONDS, Computation
from .events import Result

NOT_NAMED = ("one or more who are not named",)


class ConvenedComputation(Computation):
    """One run of a model over secure sums of unknown holders.

    Parameters
    ----------
    coordinator, definition, terms, events
        As of `Computation`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if not isinstance(self.protocol, AdditiveSharing):
            raise SetupError(f"{self.protocol.title} has no form without the holders' names")
        self._sharing = self.protocol
        if self.coordinator.commitment is None:
            raise SetupError("this coordinator has pinned nothing that stands for the holders")
        self._commitment = self._included = self.coordinator.commitment  # to all, until a sum is over others
        self._has_lost = self._may_isolate = False

    def _result(self, value: Any) -> Result:
        lost = NOT_NAMED if self._has_lost else ()
        may_isolate = NOT_NAMED if self._may_isolate else ()
        at_least = self.protocol.minimum_holders
        return Result(value, (), lost, self.n_passes, may_isolate, tuple(self.remarks), at_least)

    def _invitation(self, keys: SessionKeys, query: Query, encoding: Message | None) -> Invitation:
        """Return what opens a session with the convener."""
        commission = Commission(
            options=self._sharing.options,
            commitment=self._commitment,
            everybody=self.on_dropout == "fail",
        )
        return invite(keys, protocol=commission, encoding=encoding, definition=self.definition, query=query)

    def _new_session(self, keys: SessionKeys, invitation: Invitation) -> Session[Aggregate]:
        """Make a session with the asker's role."""
        return Session(
            keys.session,
            self.coordinator.name,
            asker_role(self._sharing, keys, invitation),
            accepts=accepted_by_asker(self.roster),
            tell=self.roster.aggregators,
            random_bytes=os.urandom,
            lasts=SESSION_SECONDS,
        )

    def _go_on_over(self, aggregate: Aggregate) -> tuple[str, ...]:
        """Note over whom a sum is, by a hash; whether it is over others than the last one is all that shows."""
        if not isinstance(aggregate, ConvenedAggregate):
            raise SetupError("a convened sum tells over whom it is by a hash")
        earlier = self.coordinator.summed_sets
        changed, self._included = aggregate.included != self._included, aggregate.included
        self._has_lost |= changed
        self._may_isolate |= changed and not earlier <= {aggregate.included}
        earlier.add(aggregate.included)
        return NOT_NAMED if changed else ()

    def _go_on_without(self, loss: DropoutError) -> tuple[str, ...]:
        """Give up: whoever could be done without has been, within the session."""
        if not loss.missing and self.on_dropout == "fail":
            loss.reason = f'{BRING_BACK}, or allow losses with on_dropout="continue"'
        raise loss

    def _dropout(self, lost: list[Any], *, reason: str = "") -> DropoutError:
        """Return the loss of holders who are not named."""
        return DropoutError(
            needed=self.protocol.minimum_holders,
            present=(),
            missing=(),
            reason=reason or BRING_BACK,
        )

    def _recorded_holders(self) -> str:
        """Return what the ledger has in place of names."""
        return f"at least {self.protocol.minimum_holders}"
