"""From the values of factors to columns, by formulaic's rules for ranks, interactions and names.

formulaic evaluates nothing here: it is handed values and decides, from the kinds of the factors alone,
which levels a term leaves out. So the columns are the same at every holder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import FormulaicError
from formulaic.materializers import PandasMaterializer
from formulaic.materializers.types import EvaluatedFactor, FactorValues
from numpy.typing import NDArray

from .errors import ModelError
from .level_table import Level


def numerical(values: Any) -> Any:
    """Return the values of a numerical factor: one column, or formulaic's several."""
    return FactorValues(values, kind="numerical")


def categorical(codes: NDArray[np.intp], levels: Sequence[Level], contrasts: Any) -> Any:
    """Return the values of a categorical factor.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Index of each row's level.
    levels : sequence of Level
        All levels, also those that no row has.
    contrasts : Any
        Those of formulaic.
    """

    def encode(values: Any, reduced_rank: bool, drop_rows: Any, encoder_state: Any, model_spec: Any) -> Any:
        dummies = pd.DataFrame(
            np.equal.outer(codes, np.arange(len(levels))).astype(np.float64),
            columns=pd.Index(list(levels), dtype=object),  # whatever texts they are
        )
        return contrasts.apply(dummies, levels=list(levels), reduced_rank=reduced_rank, output="numpy")

    return FactorValues(codes, kind="categorical", spans_intercept=True, encoder=encode)


def design_matrix(
    terms: Any, values: Mapping[str, Any], n_rows: int
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the names of the columns and the columns, shape (n_rows, p), C-contiguous.

    Parameters
    ----------
    terms : formulaic.SimpleFormula
        The right-hand side.
    values : mapping of str to FactorValues
        Each factor's values by its text, none missing.
    n_rows : int
        The number of rows.

    Raises
    ------
    ModelError
        If the factors cannot be encoded, for instance because a reference is none of the levels.
    """
    materializer = PandasMaterializer(pd.DataFrame(index=range(n_rows)))
    for factor in {factor for term in terms for factor in term.factors if factor.expr in values}:
        materializer.factor_cache[factor.expr] = EvaluatedFactor(factor, values[factor.expr])
    spec = ModelSpec(formula=terms, na_action="ignore", output="numpy")
    try:
        found = materializer.get_model_matrix(spec)
    except (FormulaicError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"the design cannot be computed: {error}") from None
    matrix = np.ascontiguousarray(found, dtype=np.float64)
    return tuple(map(str, found.model_spec.column_names)), matrix
