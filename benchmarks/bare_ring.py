"""Ray's own floor: the messages of a pass between bare asynchronous actors, with nothing in them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray

NOTHING = b""


class BareMember:
    """An actor that passes on what it gets; the coordinator's place in the ring is that of any other."""

    def __init__(self) -> None:
        self._next: Any = None
        self._back = asyncio.Event()

    async def point_to(self, following: Any) -> None:
        """Learn who comes next in the ring."""
        self._next = following

    async def echo(self, content: bytes) -> bytes:
        """Answer."""
        return content

    async def hop(self, content: bytes) -> None:
        """Pass on."""
        await self._next.hop.remote(content)


class BareCoordinator(BareMember):
    """Where rounds start and end."""

    async def hop(self, content: bytes) -> None:
        """Take the frame that comes back."""
        self._back.set()

    async def ring(self) -> float:
        """Once round the ring, coordinator → h1 → … → hm → coordinator; returns the seconds it took."""
        start = time.perf_counter()
        self._back.clear()
        started = asyncio.ensure_future(self._next.hop.remote(NOTHING))
        await self._back.wait()
        started.add_done_callback(lambda _: None)
        return time.perf_counter() - start

    async def session(self, holders: list[Any]) -> float:
        """All rounds of a session: everybody is asked and answers, is told to begin, then the ring turns."""
        start = time.perf_counter()
        await asyncio.gather(*(holder.echo.remote(NOTHING) for holder in holders))
        beginning = asyncio.gather(*(holder.echo.remote(NOTHING) for holder in holders))
        await self.ring()
        seconds = time.perf_counter() - start
        await beginning
        return seconds


class BareRing:
    """A coordinator and holders, an actor each; end it with `close`."""

    def __init__(self, n_holders: int) -> None:
        member: Any = ray.remote(num_cpus=0)(BareMember)
        coordinator: Any = ray.remote(num_cpus=0)(BareCoordinator)
        self._holders = [member.remote() for _ in range(n_holders)]
        self._coordinator = coordinator.remote()
        following = [*self._holders[1:], self._coordinator]
        pointing = [holder.point_to.remote(to) for holder, to in zip(self._holders, following, strict=True)]
        ray.get([*pointing, self._coordinator.point_to.remote(self._holders[0])])

    def turn(self) -> float:
        """Once round the ring: the seconds from the first frame to the last, at the coordinator."""
        seconds: float = ray.get(self._coordinator.ring.remote())
        return seconds

    def session(self) -> float:
        """All rounds of a session: the seconds from the first frame to the last, at the coordinator."""
        seconds: float = ray.get(self._coordinator.session.remote(self._holders))
        return seconds

    def close(self) -> None:
        """End the actors."""
        for actor in [*self._holders, self._coordinator]:
            ray.kill(actor)
