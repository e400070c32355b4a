"""Frames over Ray: one remote call a frame, large buffers through shared memory.

Ray keeps no order between calls, and a call whose answer is lost may or may not have run; the slots of a
session make both harmless, so a frame is simply sent again, with identical bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ray.exceptions import ActorUnavailableError, RayActorError

from ..protocols.party import PartyId
from ..serialization.codec import Frame

RETRIES = 5
FIRST_PAUSE = 0.05  # seconds; doubled at each retry


class RayTransport:
    """Posts frames to the other parties' actors.

    Parameters
    ----------
    handles : mapping of PartyId to actor handle
        Where each party runs.
    lost : callable
        ``lost(party)`` is called when a party's process is gone.
    """

    def __init__(self, handles: Mapping[PartyId, Any], lost: Callable[[PartyId], None]) -> None:
        self._handles = handles
        self._lost = lost

    async def post(self, to: PartyId, frame: Frame) -> None:
        """Bring a frame to a party, again if it is unclear whether it arrived."""
        for retry in range(RETRIES):
            try:
                await self._handles[to].deliver.remote(frame.header, *frame.buffers)
            except ActorUnavailableError:
                await asyncio.sleep(FIRST_PAUSE * 2**retry)
            except RayActorError:
                break
            else:
                return
        self._lost(to)
