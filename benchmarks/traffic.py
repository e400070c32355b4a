"""Bytes of all frames that leave the coordinator's process or arrive there, as they are: sealed.

Under pairwise masking every frame does: holders send to the coordinator alone.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any
from unittest import mock

import ray
import tacit
from tacit.actors.computation import Computation
from tacit.actors.driver import Driver
from tacit.actors.transport import RayTransport
from tacit.protocols.party import COORDINATOR, PartyId
from tacit.serialization.codec import Frame
from tacit.serialization.session_messages import Query


class Traffic:
    """Counts from now on.

    Parameters
    ----------
    federation : Federation
    """

    def __init__(self, federation: tacit.Federation) -> None:
        self._coordinator = federation._parties[COORDINATOR]
        ray.get(self._coordinator.__ray_call__.remote(_count))

    def mean(self, step: str) -> float:
        """Return the bytes of a pass in which the model asked this, the mean over those so far."""
        sizes: list[int] = ray.get(self._coordinator.__ray_call__.remote(_sizes, step))
        return statistics.mean(sizes)


def _count(host: Any) -> None:
    """Have this process count: `host` holds the bytes of every pass by what was asked."""
    host.traffic = defaultdict(list)
    post, deliver, tell = RayTransport.post, Driver.deliver, Computation._tell
    since = [0]

    async def counted_post(transport: RayTransport, to: PartyId, frame: Frame) -> None:
        since[0] += frame.size
        await post(transport, to, frame)

    def counted_deliver(driver: Driver, frame: Frame) -> None:
        since[0] += frame.size
        deliver(driver, frame)

    async def told(computation: Computation, query: Query, *rest: Any) -> None:
        host.traffic[query.step].append(since[0])
        since[0] = 0
        await tell(computation, query, *rest)

    mock.patch.object(RayTransport, "post", counted_post).start()
    mock.patch.object(Driver, "deliver", counted_deliver).start()
    mock.patch.object(Computation, "_tell", told).start()


def _sizes(host: Any, step: str) -> list[int]:
    return list(host.traffic[step])
