"""The coordinator's side of a training under privacy: noised sums of clipped changes, and nothing else; no torch.

A round's sum is divided by the number of units that are expected in it, and the server's optimizer moves the network by
the mean. How many records or persons there are is a secret: a first release of the same kind counts them, in which each
unit puts the whole clip on the first number. That takes the share 1/(rounds + 1) of the budget. A further number in
every round would cost as much for the same precision, and have it at the end only. An error of the count makes all
steps longer or shorter by the same factor, as does a holder that is lost later on.

The number of holders is public, as the guarantee for holders puts zeros in a holder's place.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..privacy.noised_sum import NoisedSum
from ..serialization.session_messages import Query
from .errors import ModelError
from .total import Arrays
from .training import RoundRecord, Score, TrainingState, Vector
from .training_rounds import ROUND, START, Rounds, Trained, query_of

LEAST_COUNT = 3  # standard deviations of its noise that a count must reach


def one_unit(noised: NoisedSum) -> NDArray[np.float64]:
    """Return what one record or person puts into the sum that counts them, shape (p,)."""
    row = np.zeros((1, noised.dimension))
    row[0, 0] = noised.privacy.clip
    return noised.clipped_sum(row)


@dataclass(frozen=True)
class PrivateRounds(Rounds):
    """Moves a vector of parameters by noised sums.

    Attributes
    ----------
    noised : NoisedSum
        The form of the sums.
    """

    noised: NoisedSum

    async def begin(self, vector: Vector) -> TrainingState:
        """Count the records or persons, with noise, and return the state before the first round.

        Raises
        ------
        ModelError
            If the count is not clearly above its noise.
        """
        state = replace(self.first_state(vector, 0), n_passes=0)
        if self._by_holder:
            return state
        sums = await self.total(Query(START))
        unit = one_unit(self.noised)[0] * self.noised.privacy.sampling
        count = float(sums["noised"][0]) / unit
        spread = math.sqrt(float(sums.get("variance", 0.0))) / unit
        if count < max(1.0, LEAST_COUNT * spread):
            raise ModelError(
                f"the holders have {count:.0f} {self.noised.privacy.unit}s together, by a count with a standard "
                f"deviation of {spread:.0f}: too few for this guarantee"
            )
        return replace(state, n_passes=1, records=(RoundRecord(0, rows=round(count), clipped=math.nan),))

    async def run(self, state: TrainingState) -> AsyncIterator[TrainingState | Trained]:
        """Yield a state after each round and, last, the end, of which no loss is known.

        Raises
        ------
        ModelError
            If the network diverges, or the state to continue from is of a training without privacy.
        """
        while state.iteration < self.recipe.rounds:
            state = self._moved(state, await self.total(query_of(ROUND, state)))
            yield state
        counted = state.records[-1 if self._by_holder else 0].rows
        yield Trained(state, state, Score(rows=counted), Score())

    def _moved(self, state: TrainingState, sums: Arrays) -> TrainingState:
        """Take a step: the noised mean through the server's optimizer."""
        number, units = state.iteration + 1, self._units(state, sums)
        rate = -self.recipe.learning_rate if self.recipe.aggregation == "fedsgd" else 1.0
        mean = (sums["noised"] * (rate / units)).astype(state.parameters.dtype)
        step, memory = self.optimizer.step(mean, state.memory)
        parameters = state.parameters + step
        if not np.isfinite(parameters).all():
            raise ModelError(f"in round {number} the network diverged: lower the learning rate")
        record = RoundRecord(number, rows=round(units), clipped=math.nan)
        return replace(
            state,
            iteration=number,
            parameters=parameters,
            n_passes=state.n_passes + 1,
            memory=memory,
            records=(*state.records, record),
        )

    @property
    def _by_holder(self) -> bool:
        return self.noised.privacy.unit == "holder"

    def _units(self, state: TrainingState, sums: Arrays) -> float:
        """Return how many units are expected in a round's sum."""
        if self._by_holder:
            return float(sums["holders"])
        if state.records[0].rows < 1:
            raise ModelError("the state to continue from is none of this network's training under privacy")
        return state.records[0].rows * self.noised.privacy.sampling
