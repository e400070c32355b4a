"""One pass of the ring in a single process, without Ray: what its computing alone costs.

All parties of a session run in `tacit.Simulation`, one after the other: signatures, key agreement, sealed links,
masks, encryption, decryption, and the packing and framing around them. Noise is drawn between passes, as holders
do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import tacit
from numpy.typing import NDArray
from tacit.actors.links import Links
from tacit.protocols.invitation import Prepared, invite, prepare
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.paillier_noise import NoisePool
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import (
    accepted_by_coordinator,
    accepted_by_holder,
    coordinator_role,
    holder_role,
)
from tacit.protocols.simulation import Sent
from tacit.serialization.codec import decode
from tacit.serialization.link_messages import Sealed
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Invitation, Query

COORDINATOR = "coordinator"


class InProcess:
    """A coordinator and holders that keep keys and noise from pass to pass.

    Parameters
    ----------
    protocol : RingPaillier
        How to sum.
    contribution : ndarray
        What every holder contributes.
    n_holders : int
        How many there are.
    """

    def __init__(self, protocol: tacit.RingPaillier, contribution: NDArray[Any], n_holders: int) -> None:
        self._protocol = protocol
        self._contribution = contribution
        names = [COORDINATOR, *(f"site-{i + 1}" for i in range(n_holders))]
        kinds = [COORDINATOR] + ["holder"] * n_holders
        self._identities = {
            name: Identity(name, kind, os.urandom) for name, kind in zip(names, kinds, strict=True)
        }
        self._memories = {name: protocol.memory() for name in names}
        self._roster = Roster(tuple(identity.public for identity in self._identities.values()))

    def one_pass(self) -> None:
        """Run a session from invitation to total; raises if the total is not the sum."""
        session = os.urandom(32)
        keys = {
            name: SessionKeys(identity, self._roster, session, os.urandom)
            for name, identity in self._identities.items()
        }
        links = {PartyId(name): Links(own) for name, own in keys.items()}
        simulation = tacit.Simulation(tamper=lambda sent: _through_links(links, sent))
        self._seat_coordinator(simulation, keys[COORDINATOR])
        for name in self._roster.holders:
            self._seat_holder(simulation, name, keys[name])
        with mock.patch.object(NoisePool, "fill", return_value=None):
            aggregate = simulation.run().result(COORDINATOR)
        if not np.allclose(aggregate.arrays["sum"], len(self._roster.holders) * self._contribution):
            raise SystemExit("the benchmark's pass gave a wrong sum")

    def fill(self) -> None:
        """Draw noise for the next pass."""
        for name in self._roster.holders:
            for _, pool in self._memories[name].pools.values():
                pool.fill(self._contribution.size + 1)  # at most a plaintext each

    def _seat_coordinator(self, simulation: tacit.Simulation, keys: SessionKeys) -> None:
        invitation = invite(
            keys,
            protocol=self._protocol.options,
            encoding=None,
            definition=bytes(32),
            query=Query(step="sum"),
        )
        role = coordinator_role(self._protocol, keys, invitation, self._memories[COORDINATOR])
        simulation.add(COORDINATOR, role, accepts=accepted_by_coordinator(self._protocol, self._roster))

    def _seat_holder(self, simulation: tacit.Simulation, name: PartyId, keys: SessionKeys) -> None:
        role = holder_role(self._protocol, keys, self._examine(), self._memories[name])
        accepts = accepted_by_holder(self._protocol, self._roster, name)
        simulation.add(name, role, accepts=accepts, tell=(self._roster.coordinator,))

    def _examine(self) -> Callable[[Invitation], Prepared]:
        def examine(invitation: Invitation) -> Prepared:
            arrays = {"sum": self._contribution}
            return prepare(arrays, invitation.encoding, len(self._roster.holders), void=False)

        return examine


def _through_links(links: dict[PartyId, Links], sent: Sent) -> Message:
    """Seal a message as its sender does and open it as its recipient does, over the frame between them."""
    frame = links[sent.sender].seal(sent.recipient, sent.message)
    sealed = decode(frame)
    if not isinstance(sealed, Sealed):
        raise SystemExit("the benchmark's link gave another message")
    return links[sent.recipient].open(sealed)
