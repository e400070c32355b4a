"""The same training with plain sums: bare Ray actors train and return their arrays, another one adds them.

A holder computes what it contributes to a secure sum, by the same code; nothing is checked, encoded, sealed or masked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from tacit.models.total import Arrays, contribute
from tacit.models.training_rounds import ROUND
from tacit.serialization.session_messages import Query


class PlainHolders:
    """Has the rows of the holders that share a process; answers with what each of them contributes."""

    def __init__(self, model: Any, *rows: Any) -> None:
        self._model = model
        self._rows = rows

    async def contribute(self, query: Query) -> list[Arrays]:
        """Return each holder's arrays."""
        return [contribute(self._model, own, query) for own in self._rows]


class PlainCoordinator:
    """Trains, and adds what the holders return."""

    def __init__(self, *processes: Any) -> None:
        self._processes = processes

    async def train(self, model: Any) -> tuple[list[float], Any]:
        """Return the seconds of each round, from the first call to the totals, and the fit."""
        seconds: list[float] = []

        async def total(query: Query) -> Arrays:
            start = time.perf_counter()
            sums = await self._sum(query)
            if query.step == ROUND:
                seconds.append(time.perf_counter() - start)
            return sums

        async for reached in model.iterate(total):
            fit = reached
        return seconds, fit

    async def _sum(self, query: Query) -> Arrays:
        answers = await asyncio.gather(*(process.contribute.remote(query) for process in self._processes))
        first, *others = (arrays for answer in answers for arrays in answer)
        totals: dict[str, NDArray[Any]] = {name: array.copy() for name, array in first.items()}
        for arrays in others:
            for name, array in arrays.items():
                np.add(totals[name], array, out=totals[name])
        return totals


class PlainTraining:
    """A coordinator's process and the holders'; end them with `close`.

    Parameters
    ----------
    model : Model
        What the holders contribute to.
    rows : sequence
        Of each holder.
    holders_per_actor : int
        How many share a process.
    """

    def __init__(self, model: Any, rows: Sequence[Any], holders_per_actor: int) -> None:
        holders: Any = ray.remote(num_cpus=0)(PlainHolders)
        coordinator: Any = ray.remote(num_cpus=0)(PlainCoordinator)
        shared = ray.put(model)
        self._processes = [
            holders.remote(shared, *rows[first : first + holders_per_actor])
            for first in range(0, len(rows), holders_per_actor)
        ]
        self._coordinator = coordinator.remote(*self._processes)

    def train(self, model: Any) -> tuple[list[float], Any]:
        """Return the seconds of each round, as the coordinator sees them, and the fit."""
        seconds, fit = ray.get(self._coordinator.train.remote(model))
        return seconds, fit

    def close(self) -> None:
        """End the actors."""
        for actor in [*self._processes, self._coordinator]:
            ray.kill(actor)
