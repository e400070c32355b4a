"""An aggregator: a party without data that adds shares of which it cannot read anything.

It answers a question over one set of holders only, whatever the coordinator says of losses: it is the honest
aggregator that keeps two sums from differing by one holder.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..protocols.channel import Role
from ..protocols.invitation import ALREADY_RELEASED, Declined
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId, Roster
from ..protocols.protocol import Protocol, accepted_by_aggregator, aggregator_role
from ..protocols.session import Accepted
from ..serialization.session_messages import Invitation
from .participant import Participant


class Aggregator(Participant):
    """One aggregator.

    Parameters
    ----------
    name : str
        Its name in the roster.
    ledger, limits
        As of `Participant`.
    """

    kind = "aggregator"

    def _role(self, protocol: Protocol[Any], keys: SessionKeys, memory: Any) -> Role[bool]:
        return aggregator_role(protocol, keys, self._accounting(self._examine), memory, self._release)

    def _note_release(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        super()._note_release(invitation, holders)
        # The aggregators have agreed on these before they open the sum.
        self._accounts[invitation.session].learn(agreed=list(holders))

    def _accepts(self, protocol: Protocol[Any], roster: Roster) -> Accepted:
        return accepted_by_aggregator(protocol, roster, self.name)

    def _tells(self, roster: Roster) -> tuple[PartyId, ...]:
        return (roster.coordinator,)

    def _examine(self, invitation: Invitation) -> None:
        """Decline a question that was answered over other holders; no word of theirs excuses it."""
        if not self.release_memory.allows(invitation, dispensable=len(invitation.roster)):
            raise Declined(ALREADY_RELEASED)
