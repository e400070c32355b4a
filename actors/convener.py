"""The convener: the aggregator that opens the holders' sessions for a coordinator that is not to know them.

It does so for nobody but the pinned coordinator, which in its roster is the asker, and shows everybody whom it
invites that coordinator's own signed word.
"""

from __future__ import annotations

import asyncio
import os

from ..protocols.additive_sharing import AdditiveSharing
from ..protocols.convening import accepted_by_convener, convener_role
from ..protocols.convening_steps import SALT_BYTES, commitment_to
from ..protocols.errors import SetupError
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import COORDINATOR, PartyId
from ..protocols.session import Session
from ..records.ledger import Ledger
from ..records.release_memory import NO_LIMITS, Limits
from ..serialization.session_messages import Invitation
from .aggregator import Aggregator


class Convener(Aggregator):
    """One aggregator that has the coordinator's place among the holders.

    Parameters
    ----------
    name : str
        Its name in the roster.
    ledger, limits
        As of `Participant`.
    """

    kind = COORDINATOR

    def __init__(self, name: str, *, ledger: Ledger | None = None, limits: Limits = NO_LIMITS) -> None:
        super().__init__(name, ledger=ledger, limits=limits)
        self._salt = os.urandom(SALT_BYTES)
        self._lost: set[PartyId] = set()

    @property
    def opener(self) -> PartyId:
        """Who invites this party to sessions: the one who asks."""
        if self.roster.asker is None:
            raise SetupError("a convener's roster has somebody who asks")
        return self.roster.asker

    @property
    def commitment(self) -> bytes:
        """What the asker pins in place of the holders."""
        return commitment_to(self.roster, self._salt)

    def lose(self, party: PartyId) -> None:
        """Tell every session that another party is gone, and those to come."""
        self._lost.add(party)
        super().lose(party)

    async def _take_part(self, invitation: Invitation) -> None:
        """Convene one session, over whoever is still there."""
        for party in self._lost:  # nobody would tell this session
            asyncio.get_running_loop().call_soon(self.driver.peer_lost, party)
        await super()._take_part(invitation)

    def _session(self, invitation: Invitation) -> tuple[Session[bool], SessionKeys]:
        """Make a session with the convener's role.

        Raises
        ------
        SetupError
            If it is asked for something that takes no convener.
        """
        protocol = self._protocol(invitation)
        if not isinstance(protocol, AdditiveSharing):
            raise SetupError("the invitation asks for something that takes no convener")
        keys = SessionKeys(self.identity, self.roster, invitation.session, os.urandom)
        role = convener_role(protocol, keys, self._salt, self._accounting(self._examine), self._release)
        accepts, told = accepted_by_convener(self.roster), self.roster.invited
        return self._running(invitation, role, accepts, told), keys
