"""Rows at hand: how they become the table that a formula is about, and how a model is fitted over them.

No protocol runs here. All rows lie in this process, so there is nobody from whom a sum could hide anything; the
sums are those of `models.total.pooled`, which have the bits that every protocol gives over the same holders with
`ExactFloat`, the encoding of regressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..models.least_squares import OLS
from ..models.regression import GLM
from ..models.regression_fit import GLMFit
from ..models.total import pooled

NO_PROTOCOL = "none: all rows lie in one process"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with their response and weights, and what these are called in it.

    Attributes
    ----------
    frame : DataFrame
    response : str
    weights : str or None
    """

    frame: pd.DataFrame
    response: str
    weights: str | None

    @classmethod
    def of(
        cls, rows: pd.DataFrame, response: NDArray[np.float64], weights: NDArray[np.float64] | None
    ) -> Table:
        """Return the rows with a column or two more, under names that no other has."""
        names = _free_name("y", rows), _free_name("weight", rows)
        frame = rows.assign(**{names[0]: response})
        if weights is None:
            return cls(frame, names[0], None)
        return cls(frame.assign(**{names[1]: weights}), *names)

    def by_group(self, groups: ArrayLike | None) -> Mapping[str, pd.DataFrame]:
        """Return the rows of each holder; of one, if no groups are given.

        Raises
        ------
        ValueError
            If there is not one group a row.
        """
        if groups is None:
            return {"all rows": self.frame}
        labels = np.asarray(groups).astype(str)
        if labels.shape != (len(self.frame),):
            raise ValueError(f"groups has the shape {labels.shape}, the rows are {len(self.frame)}")
        return {str(label): self.frame[labels == label] for label in np.unique(labels)}


def _free_name(wanted: str, rows: pd.DataFrame) -> str:
    while wanted in rows.columns:
        wanted += "_"
    return wanted


def formula_of(response: str, terms: Sequence[str], *, intercept: bool) -> str:
    """Return the formula of a response and terms."""
    return f"{response} ~ {' + '.join(terms) or '1'}{'' if intercept else ' - 1'}"


def fitted(model: GLM | OLS, holders: Mapping[str, pd.DataFrame]) -> GLMFit:
    """Fit a model over rows at hand: exact sums over the holders, no protocol.

    Parameters
    ----------
    model : GLM or OLS
    holders : mapping of str to DataFrame

    Raises
    ------
    ModelError, DataError
        As the model.
    """

    async def last() -> Any:
        return [state async for state in model.iterate(pooled(model, list(holders.values())))][-1]

    names = tuple(holders)
    fit: GLMFit = _at_once(last())
    return fit.with_provenance(protocol=NO_PROTOCOL, holders=names, survivors=names)


def _at_once(coroutine: Any) -> Any:
    """Return what a coroutine returns that waits for nothing: a notebook's event loop may run meanwhile."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("sums within one process wait for nothing")
