"""The plain round: bare Ray actors return their arrays, another one adds them. No secrets, no checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray


class PlainHolder:
    """Has rows; answers with them."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows

    async def contribute(self) -> NDArray[Any]:
        """Return the rows; Ray brings large arrays through shared memory."""
        return self._rows

    async def answer(self) -> None:
        """Answer at once."""


class PlainCoordinator:
    """Adds what the holders return."""

    def __init__(self, *holders: Any) -> None:
        self._holders = holders

    async def sum(self) -> tuple[float, NDArray[Any]]:
        """Return the seconds from the first call to the total, and the total."""
        start = time.perf_counter()
        arrays = await asyncio.gather(*(holder.contribute.remote() for holder in self._holders))
        total = arrays[0].copy()
        for array in arrays[1:]:
            np.add(total, array, out=total)
        return time.perf_counter() - start, total

    async def call(self, rounds: int) -> float:
        """Return the seconds of so many rounds of empty calls, each holder answering before the next round."""
        start = time.perf_counter()
        for _ in range(rounds):
            await asyncio.gather(*(holder.answer.remote() for holder in self._holders))
        return time.perf_counter() - start


class PlainRound:
    """A coordinator and holders, an actor each; end it with `close`."""

    def __init__(self, rows: Sequence[NDArray[Any]]) -> None:
        holder: Any = ray.remote(num_cpus=0)(PlainHolder)
        coordinator: Any = ray.remote(num_cpus=0)(PlainCoordinator)
        self._holders = [holder.remote(own) for own in rows]
        self._coordinator = coordinator.remote(*self._holders)

    def sum(self) -> tuple[float, NDArray[Any]]:
        """Return the seconds of one round, as the coordinator sees it, and the total."""
        seconds, total = ray.get(self._coordinator.sum.remote())
        return seconds, total

    def call(self, rounds: int) -> float:
        """Return the seconds of so many rounds of empty calls, as the coordinator sees them."""
        seconds: float = ray.get(self._coordinator.call.remote(rounds))
        return seconds

    def close(self) -> None:
        """End the actors."""
        for actor in [*self._holders, self._coordinator]:
            ray.kill(actor)
