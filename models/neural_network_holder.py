"""A holder's answer to each query of a training, given its rows and a copy of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import Query
from .errors import DataError, ModelError
from .neural_network_local import Loss, evaluate, gradient, train
from .neural_network_module import Layout
from .neural_network_rows import Rows, form_sums
from .total import Arrays
from .training import BUFFER_BOUND, Recipe, bounded, loss_units
from .training_rounds import EVALUATE, HELD_OUT, ROUND, START

if TYPE_CHECKING:
    import torch

MAX_EXPONENT = 32  # of the unit of weights: for more rows, `form_sums` would not fit an int64


@dataclass(frozen=True)
class Task:
    """A query of a training, checked: the coordinator may send anything.

    Attributes
    ----------
    step : str
    number : int
        Of the round; 0 at the start.
    exponent : int
        The unit of weights is 2^exponent rows.
    weights : ndarray or None
        Parameters and buffers, shape (p + b,); None at the start.
    """

    step: str
    number: int = 0
    exponent: int = 0
    weights: NDArray[Any] | None = None

    @classmethod
    def of(cls, query: Query, layout: Layout, recipe: Recipe) -> Task:
        """Return what a query asks.

        Raises
        ------
        ModelError
            If it is none of this training.
        """
        if query.step == START:
            return cls(START)
        weights, number, exponent = (query.arrays.get(name) for name in ("weights", "round", "exponent"))
        if query.step not in (ROUND, EVALUATE) or weights is None or number is None or exponent is None:
            raise ModelError(f"the query {query.step!r} is none of a NeuralNetwork")
        if any(value.dtype != np.int64 or value.shape != () for value in (number, exponent)):
            raise ModelError("the query's round and unit are not whole numbers")
        if not (0 <= number <= recipe.rounds and 0 <= exponent <= MAX_EXPONENT):
            raise ModelError(
                "the query asks for a round, or a unit of weights, that is none of this training"
            )
        if weights.shape != (layout.size,) or weights.dtype != layout.dtype:
            raise ModelError(f"the query's parameters are not {layout.size:,} numbers of {layout.dtype}")
        if not np.isfinite(weights).all():
            raise ModelError("the query has parameters that are not finite")
        return cls(query.step, int(number), int(exponent), weights)


@dataclass(frozen=True)
class Holder:
    """One holder at work on one task; the network is its own copy, and carries the task's weights.

    Attributes
    ----------
    network : torch.nn.Module
    layout : Layout
    loss : Loss
    recipe : Recipe
    kept, held_out : Rows
        The rows to train on, and those to evaluate every round's network on.
    task : Task
    """

    network: torch.nn.Module
    layout: Layout
    loss: Loss
    recipe: Recipe
    kept: Rows
    held_out: Rows
    task: Task

    def answer(self) -> Arrays:
        """Return the arrays that `NeuralNetwork.contribution` documents."""
        if self.task.step == START:
            return self._begun()
        if len(self.kept) > 2**self.task.exponent:
            raise ModelError("the query's unit of weights is smaller than the rows of this holder")
        measured = self._scores(HELD_OUT, self.held_out) if self.recipe.validation is not None else {}
        if self.task.step == EVALUATE:
            return {**self._scores("", self.kept), **measured}
        return {**self._trained(), **measured}

    def _begun(self) -> Arrays:
        few = self.kept.take(np.arange(min(len(self.kept), 2)))
        evaluate(self.network, few, self.loss)  # so that a misfit of outputs and targets shows here
        n_rows = len(self.kept) + len(self.held_out)
        if n_rows > 2**MAX_EXPONENT:
            raise DataError(f"more than 2^{MAX_EXPONENT} rows at one holder")
        return {"rows": np.asarray(n_rows), "form": form_sums(self.kept) + form_sums(self.held_out)}

    def _trained(self) -> Arrays:
        """Train, and return the change, clipped, times the rows over the unit, with what else a round sums."""
        change, loss = self.change()
        if not np.isfinite(change).all():
            change[:] = math.nan  # voids the sum, and names nobody
        update, buffers = change[: self.layout.n_parameters], change[self.layout.n_parameters :]
        clipped = bounded(update, self.recipe.bound) + bounded(buffers, BUFFER_BOUND)
        n_rows = len(self.kept)
        change *= math.ldexp(n_rows, -self.task.exponent)
        counts = {"rows": n_rows, "loss": loss_units(loss, n_rows, self.task.exponent), "clipped": clipped}
        return {
            "update": update,
            **({"buffers": buffers} if len(buffers) else {}),
            **{name: np.asarray(value) for name, value in counts.items()},
        }

    def change(self) -> tuple[NDArray[Any], float]:
        """Return the change of parameters, or their gradient, and of buffers, with the mean loss on the way."""
        before = self.layout.vector(self.network)
        if self.recipe.aggregation == "fedsgd":
            found, loss = gradient(self.network, self.kept, self.loss, self.recipe, self.task.number)
        else:
            loss = train(self.network, self.kept, self.loss, self.recipe, self.task.number)
        change = np.subtract(self.layout.vector(self.network), before, out=before)
        if self.recipe.aggregation == "fedsgd":
            change[: self.layout.n_parameters] = found
        return change, loss

    def _scores(self, prefix: str, rows: Rows) -> Arrays:
        score = evaluate(self.network, rows, self.loss)
        return score.to_arrays(prefix, self.task.exponent, hits=self.loss.counts_hits)
