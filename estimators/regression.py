"""Means from regressions over several holders: linear ones, of counts, of positive amounts."""

# ruff: noqa: N803 - X and y are scikit-learn's names

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sklearn.base import RegressorMixin
from sklearn.metrics import d2_tweedie_score

from ..models.least_squares import OLS
from ..models.regression import GLM
from .estimator import RegressionEstimator, Vector
from .rows import formula_of


class _Regressor(RegressorMixin, RegressionEstimator):  # type: ignore[misc]
    """Predicts means."""

    def predict(self, X: Any) -> Vector:
        """Return the mean of each row, shape (n,)."""
        return self._mean(self._linear_predictor(X))


class LinearRegression(_Regressor):
    """Least squares over the rows of several holders, to the last digits.

    Collinear columns are refused with their names; scikit-learn's takes the shortest of many solutions.

    Parameters
    ----------
    features : sequence of str, optional
        Terms as formulas have them: a column, ``"C(race)"``, ``"np.log(dose)"``, ``"age:sex"``. They are needed where
        the rows lie at holders. By default every column of X, as a number.
    fit_intercept : bool
        Whether the model has an intercept.

    Attributes
    ----------
    coef_ : ndarray of shape (k,)
        In the order of ``fit_.names`` without the intercept.
    intercept_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        The features, or the columns of X if they have names.
    fit_ : OLSFit
        What tacit knows of it: standard errors, tests, `summary`, the protocol.

    Examples
    --------
    >>> model = LinearRegression(features=["wt", "hp"]).fit(federation, "mpg")          # doctest: +SKIP
    >>> model.fit_.bse                                                                  # doctest: +SKIP
    """

    _family: ClassVar[str] = "gaussian"
    _link: ClassVar[str] = "identity"

    def _model(self, response: str, terms: Sequence[str], weights: str | None) -> GLM | OLS:
        return OLS(formula_of(response, terms, intercept=self.fit_intercept), weights)


class _PositiveRegressor(_Regressor):
    """Predicts means that are positive, on the logarithmic scale."""

    _link: ClassVar[str] = "log"
    _power: ClassVar[int]  # of the mean, to which the variance is proportional

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return D², the share of the null deviance that the model explains, as scikit-learn's does."""
        return float(d2_tweedie_score(y, self.predict(X), sample_weight=sample_weight, power=self._power))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags


class PoissonRegressor(_PositiveRegressor):
    """A regression of counts with a logarithmic link over the rows of several holders.

    **There is no penalty**, unlike in scikit-learn's, whose default is ``alpha=1``.

    Parameters
    ----------
    features : sequence of str, optional
        Terms as formulas have them: a column, ``"C(race)"``, ``"np.log(dose)"``, ``"age:sex"``. They are needed where
        the rows lie at holders. By default every column of X, as a number.
    fit_intercept : bool
        Whether the model has an intercept.

    Attributes
    ----------
    coef_ : ndarray of shape (k,)
        In the order of ``fit_.names`` without the intercept.
    intercept_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        The features, or the columns of X if they have names.
    fit_ : GLMFit
        What tacit knows of it: standard errors, tests, `summary`, the protocol.
    """

    _family: ClassVar[str] = "poisson"
    _power: ClassVar[int] = 1


class GammaRegressor(_PositiveRegressor):
    """A regression of positive amounts, of constant relative error, with a logarithmic link over several holders.

    **There is no penalty**, unlike in scikit-learn's, whose default is ``alpha=1``.

    Parameters
    ----------
    features : sequence of str, optional
        Terms as formulas have them: a column, ``"C(race)"``, ``"np.log(dose)"``, ``"age:sex"``. They are needed where
        the rows lie at holders. By default every column of X, as a number.
    fit_intercept : bool
        Whether the model has an intercept.

    Attributes
    ----------
    coef_ : ndarray of shape (k,)
        In the order of ``fit_.names`` without the intercept.
    intercept_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        The features, or the columns of X if they have names.
    fit_ : GLMFit
        What tacit knows of it: standard errors, tests, `summary`, the protocol.
    """

    _family: ClassVar[str] = "gamma"
    _power: ClassVar[int] = 2
