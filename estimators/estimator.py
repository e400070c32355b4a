"""What the estimators have in common: rows at the holders or at hand, a model, scikit-learn's attributes.

Who learns what: with a federation, what `Federation.fit` of the same model tells. With rows at hand everything
happens in this process, and no protocol runs.
"""

# ruff: noqa: N803, N806 - X is scikit-learn's name for rows

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from ..models.families import family_of
from ..models.least_squares import OLS
from ..models.regression import GLM
from ..models.regression_fit import GLMFit
from .rows import Table, fitted, formula_of

Vector = NDArray[np.float64]


class RegressionEstimator(BaseEstimator):  # type: ignore[misc]
    """A regression of tacit as scikit-learn's users expect one; its children name the family.

    Parameters
    ----------
    features : sequence of str, optional
        Terms as formulas have them: a column, ``"C(race)"``, ``"np.log(dose)"``, ``"age:sex"``. They are needed where
        the rows lie at holders. By default every column of X, as a number.
    fit_intercept : bool
        Whether the model has an intercept.
    """

    _family: ClassVar[str]
    _link: ClassVar[str]

    def __init__(self, features: Sequence[str] | None = None, *, fit_intercept: bool = True) -> None:
        self.features = features
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Fit the model over the rows of a federation's holders, or over rows at hand.

        Parameters
        ----------
        X : Federation, array_like of shape (n, p), or DataFrame
            A federation, as `tacit.simulate` makes it: every number that leaves a holder goes out under its protocol.
            Or rows at hand, to try things out: the same computation with exact sums in this process, **without a
            protocol**, for here is nobody to hide them from. Rows that lack a named feature are left out and counted.
        y : str, or array_like of shape (n,)
            A column at the holders, or an expression, ``"I(status == 'dead')"``; the values of rows at hand.
        sample_weight : str, or array_like of shape (n,), optional
            A column at the holders, or values: prior weights as in R, of which no standard error takes 2 for two rows.
        groups : array_like of shape (n,), optional
            At which holder each row at hand would lie: the estimates have the bits of a federation of these. By
            default one holder has all rows.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y, or one of the others cannot be used.
        ModelError, DataError
            If columns are collinear, or a response is none of the family's.
        TacitError
            As `Federation.fit`.

        Warns
        -----
        ConvergenceWarning
            If the fit has not converged: often columns separate the responses, and no maximum exists.
        """
        at_holders = hasattr(type(X), "fit")  # no table can fit a model
        fit = self._fit_at_holders if at_holders else self._fit_at_hand
        self._take_up(fit(X, y, sample_weight, groups))
        if not self.fit_.converged:
            warnings.warn("; ".join(self.fit_.warnings), ConvergenceWarning, stacklevel=2)
        return self

    def _fit_at_holders(self, federation: Any, y: Any, sample_weight: Any, groups: Any) -> GLMFit:
        if self.features is None:
            raise ValueError(
                "the rows lie at the holders, so the terms must be named: "
                f"{type(self).__name__}(features=['age', 'C(race)'])"
            )
        if not isinstance(y, str) or not isinstance(sample_weight, str | None) or groups is not None:
            raise ValueError(
                "the rows lie at the holders: y and sample_weight are names of columns there, groups the holders"
            )
        self._take_features()
        self._take_classes_at_holders()
        fit: GLMFit = federation.fit(self._model(y, self.features, sample_weight))
        return fit

    def _fit_at_hand(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> GLMFit:
        rows, response = self._validated(X, y)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, response, dtype=np.float64, ensure_non_negative=True
            )
        table = Table.of(rows, self._numbers(response, weights), weights)
        terms = [f"`{name}`" for name in rows] if self.features is None else self.features
        return fitted(self._model(table.response, terms, table.weights), table.by_group(groups))

    def _model(self, response: str, terms: Sequence[str], weights: str | None) -> GLM | OLS:
        formula = formula_of(response, terms, intercept=self.fit_intercept)
        return GLM(formula, self._family, self._link, weights=weights)

    def _take_up(self, fit: GLMFit) -> None:
        """Set scikit-learn's attributes."""
        coefficients = dict(zip(fit.names, fit.estimates.tolist(), strict=True))
        self.fit_ = fit
        self.intercept_ = coefficients.pop("Intercept", 0.0)
        self.coef_ = np.array(list(coefficients.values()))

    # What is given.

    def _validated(self, X: Any, y: Any) -> tuple[pd.DataFrame, NDArray[Any]]:
        """Return the rows as a table, and the response, in scikit-learn's words if they cannot be used."""
        if self.features is None:
            X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
            names = getattr(self, "feature_names_in_", [f"x{index}" for index in range(X.shape[1])])
            return pd.DataFrame(X, columns=list(names)), y
        rows, y = _table(X), column_or_1d(y, warn=True)
        check_consistent_length(rows, y)
        self._take_features()
        return rows, y

    def _take_features(self) -> None:
        if isinstance(self.features, str):
            raise ValueError(f"features is a list of terms, not a text: [{self.features!r}]")
        self.feature_names_in_ = np.array(self.features, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)

    def _take_classes_at_holders(self) -> None:
        """Note the classes, of a classifier."""

    def _numbers(self, response: NDArray[Any], weights: Vector | None) -> Vector:
        """Return a response as the model has it."""
        return np.asarray(response, dtype=np.float64)

    # Predictions.

    def _linear_predictor(self, X: Any) -> Vector:
        """Return the linear predictor of each row, shape (n,)."""
        check_is_fitted(self)
        if self.features is None:
            X = validate_data(self, X, reset=False, dtype=np.float64)
            return np.asarray(X @ np.ravel(self.coef_) + self.intercept_)
        eta = self.fit_.predict(_table(X), linear=True).to_numpy(dtype=np.float64)
        if not np.isfinite(eta).all():
            raise ValueError("Input X contains NaN, or values that the terms take to infinity")
        return np.asarray(eta)

    def _mean(self, eta: Vector) -> Vector:
        with np.errstate(all="ignore"):
            return family_of(self._family, self._link).mean(eta)


def _table(X: Any) -> pd.DataFrame:
    if not isinstance(X, pd.DataFrame):
        raise ValueError(f"the features are names of columns: X is a DataFrame, not {type(X).__name__}")
    return X
