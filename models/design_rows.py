"""What a regression reads of a holder's rows: columns, response, weights, offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import Numbers
from .errors import DataError


@dataclass(frozen=True, eq=False)
class DesignRows:
    """A holder's rows as a regression reads them.

    Attributes
    ----------
    x : ndarray, shape (n, p)
        The columns of the design, C-contiguous.
    y : ndarray, shape (n,)
        The response; of counts the proportion of successes, 0 where there was no trial.
    n_trials : ndarray, shape (n,), or None
        Successes and failures together, where the response is counts of them.
    weights, offset : ndarray, shape (n,)
        As given; 1 and 0 where none are.
    n_missing : int
        How many rows were left out for a missing value; they are in none of the arrays.
    """

    x: Numbers
    y: Numbers
    n_trials: Numbers | None
    weights: Numbers
    offset: Numbers
    n_missing: int

    def without_missing(self) -> DesignRows:
        """Leave out the rows with a value that is missing once computed: a logarithm of a negative number."""
        lacking = np.asarray(np.isnan(self.x).any(axis=1))
        for values in (self.y, self.weights, self.offset):
            lacking |= np.isnan(values)
        return self if not lacking.any() else self._where(np.logical_not(lacking))

    def _where(self, kept: NDArray[np.bool_]) -> DesignRows:
        return DesignRows(
            x=np.ascontiguousarray(self.x[kept]),
            y=self.y[kept],
            n_trials=None if self.n_trials is None else self.n_trials[kept],
            weights=self.weights[kept],
            offset=self.offset[kept],
            n_missing=self.n_missing + int((~kept).sum()),
        )

    def check(self, names: Sequence[str]) -> None:
        """Check that no value is infinite and no weight negative; `names` are those of the columns.

        Raises
        ------
        DataError
            If one is; the error names the column.
        """
        infinite = [name for name, values in zip(names, self.x.T, strict=True) if np.isinf(values).any()]
        besides = {"the response": self.y, "the weights": self.weights, "the offset": self.offset}
        infinite += [name for name, values in besides.items() if np.isinf(values).any()]
        if infinite:
            raise DataError(
                f"infinite values in {', '.join(infinite)}: a logarithm of 0, or a division by 0?"
            )
        if (self.weights < 0).any():
            raise DataError("some weights are negative")


def response_of(values: Sequence[Numbers]) -> tuple[Numbers, Numbers | None]:
    """Return the response and, if it is counts of successes and failures, the numbers of trials.

    Raises
    ------
    DataError
        If a count is negative.
    """
    if len(values) == 1:
        return values[0], None
    successes, failures = values
    if (successes < 0).any() or (failures < 0).any():
        raise DataError("the response counts successes and failures, and some are negative")
    n_trials = successes + failures
    return np.divide(successes, n_trials, out=np.zeros_like(n_trials), where=n_trials > 0), n_trials
