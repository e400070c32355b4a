"""The coordinator's side of a training: a pass at the start, a pass a round, one at the end; no torch.

A round sums over the holders each one's change of the parameters times its rows, and its rows. The coordinator
divides one by the other and hands the average to the server's optimizer, which moves the common point.

A round evaluates the network it starts from on the rows held out. So what is known of a round's network comes with the
next pass, and early stopping wastes the pass after which it stops, but no pass is spent on evaluating alone.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import Query
from .errors import EvaluationError, ModelError
from .neural_network_rows import check_forms
from .total import Arrays, Total
from .training import Recipe, RoundRecord, Score, TrainingState, mean_loss, unit_exponent
from .training_optimizers import ServerOptimizer

START, ROUND, EVALUATE = "start", "round", "evaluate"
HELD_OUT = "validation_"  # prefix of the arrays that tell of the rows held out
MOST_WEIGHT = 1.9  # of all holders together: so far a total beyond the bound is refused, and never wraps


@dataclass(frozen=True)
class Trained:
    """The end of a training.

    Attributes
    ----------
    last : TrainingState
        After the last round, or the one after which it stopped.
    chosen : TrainingState
        The network to return: the last, or the best on the rows held out.
    score, held_out : Score
        Of the chosen network.
    """

    last: TrainingState
    chosen: TrainingState
    score: Score
    held_out: Score


@dataclass(frozen=True)
class Rounds:
    """Moves a vector of parameters and buffers by the sums of holders' changes.

    Attributes
    ----------
    recipe : Recipe
    optimizer : ServerOptimizer
    n_parameters : int
        The first so many numbers of the vector are moved by the optimizer; the others, buffers, are averaged.
    total : Total
        Sums contributions over the holders.
    """

    recipe: Recipe
    optimizer: ServerOptimizer
    n_parameters: int
    total: Total

    def first_state(self, vector: NDArray[Any], exponent: int) -> TrainingState:
        """Return the state before the first round, after the pass at the start."""
        memory = self.optimizer.start(vector[: self.n_parameters])
        return TrainingState(
            0, vector, math.nan, n_passes=1, memory=memory, records=(RoundRecord(0),), exponent=exponent
        )

    async def begin(self, vector: NDArray[Any]) -> TrainingState:
        """Count the rows, compare their form, and return the state before the first round.

        Raises
        ------
        ModelError
            If the holders' rows differ in form, or there are none.
        """
        sums = await self.total(Query(START))
        n_rows = int(sums["rows"])
        if n_rows == 0:
            raise ModelError("the holders have no rows together: there is nothing to train on")
        check_forms(sums["form"], n_rows)
        return self.first_state(vector, unit_exponent(n_rows))

    async def run(self, state: TrainingState) -> AsyncIterator[TrainingState | Trained]:
        """Yield a state after each pass that is not to be asked again and, last, the end.

        A holder that has answered a question refuses it over fewer holders: the difference would be the lost one's.

        Raises
        ------
        ModelError
            If the network diverges at some holder.
        """
        while state.iteration < self.recipe.rounds and not self._is_stale(state):
            state = self._told(state, await self._round(state))
            yield state
        if not _is_second(state):
            state, sums = await self._evaluated(state)
            if not _is_second(state):
                yield _trained(state, state, sums)
                return
            yield state
        counted, sums = await self._evaluated(_best(state))
        yield _trained(replace(state, n_passes=counted.n_passes), _best(state), sums)

    def _told(self, state: TrainingState, sums: Arrays) -> TrainingState:
        """Return the state after a round's sums."""
        state = self._judged(state, sums)
        return state if self._is_stale(state) else self._moved(state, sums)

    async def _round(self, state: TrainingState) -> Arrays:
        number = state.iteration + 1
        try:
            return await self.total(query_of(ROUND, state, may_fail=True))
        except EvaluationError:
            raise ModelError(
                f"in round {number} the network diverged at some holder (unnamed): lower the learning rate, or "
                "scale the inputs"
            ) from None

    def _moved(self, state: TrainingState, sums: Arrays) -> TrainingState:
        """Take a step: the averaged change through the server's optimizer, and the averaged buffers."""
        rows, number = int(sums["rows"]), state.iteration + 1
        if rows > MOST_WEIGHT * 2**state.exponent:
            raise ModelError(
                f"in round {number} the holders had {rows:,} rows, many more than when the training began: begin it "
                "anew, with all holders there (resume=False)"
            )
        scale = math.ldexp(1.0, state.exponent) / rows if rows else 0.0
        rate = -self.recipe.learning_rate if self.recipe.aggregation == "fedsgd" else 1.0
        change = sums["update"]
        change *= rate * scale  # in place, as all that follows: a network may be large
        step, memory = self.optimizer.step(change, state.memory)
        parameters: NDArray[Any] = np.add(state.parameters[: self.n_parameters], step, out=step)
        if "buffers" in sums:
            buffers = state.parameters[self.n_parameters :] + sums["buffers"] * scale
            parameters = np.concatenate([parameters, buffers])
        loss = mean_loss(int(sums["loss"]), rows, state.exponent)
        record = RoundRecord(number, loss, rows=rows, clipped=int(sums["clipped"]))
        return replace(
            state,
            iteration=number,
            parameters=parameters,
            value=loss,
            memory=memory,
            records=(*state.records, record),
            exponent=max(state.exponent, unit_exponent(rows)),
        )

    def _judged(self, state: TrainingState, sums: Arrays) -> TrainingState:
        """Note what a pass tells of a state's network on the rows held out, and whether it is the best so far."""
        score = Score.of(HELD_OUT, sums, state.exponent)
        state = replace(state, n_passes=state.n_passes + 1)
        if not score.rows:
            return state
        record = replace(state.records[-1], validation_loss=score.loss, validation_accuracy=score.accuracy)
        records = (*state.records[:-1], record)
        least = math.inf if state.best is None else records[state.best_round].validation_loss
        if self.recipe.early_stop is None or not score.loss < least:
            return replace(state, records=records)
        return replace(state, records=records, best=state.parameters, best_round=state.iteration)

    def _is_stale(self, state: TrainingState) -> bool:
        patience = self.recipe.early_stop
        return (
            patience is not None and state.best is not None and state.iteration - state.best_round >= patience
        )

    async def _evaluated(self, state: TrainingState) -> tuple[TrainingState, Arrays]:
        sums = await self.total(query_of(EVALUATE, state))
        return self._judged(state, sums), sums


def _is_second(state: TrainingState) -> bool:
    """Whether a state's network is known to be worse than the best."""
    return state.best is not None and state.best_round != state.iteration and state.records[-1].is_validated


def _best(state: TrainingState) -> TrainingState:
    best = state.parameters if state.best is None else state.best
    return replace(state, iteration=state.best_round, parameters=best)


def _trained(last: TrainingState, chosen: TrainingState, sums: Arrays) -> Trained:
    score, held_out = (Score.of(prefix, sums, last.exponent) for prefix in ("", HELD_OUT))
    return Trained(last, chosen, score, held_out)


def query_of(step: str, state: TrainingState, *, may_fail: bool = False) -> Query:
    """Return what holders are asked about a state's network: a round counts as the one after it."""
    arrays = {
        "weights": state.parameters,
        "round": np.asarray(state.iteration + (step == ROUND)),
        "exponent": np.asarray(state.exponent),
    }
    return Query(step, arrays, may_fail=may_fail)
