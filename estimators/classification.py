"""Two classes, told apart by a logistic regression over several holders."""

# ruff: noqa: N803 - X is scikit-learn's name for rows

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ..models.regression_fit import GLMFit
from .estimator import RegressionEstimator, Vector


class LogisticRegression(ClassifierMixin, RegressionEstimator):  # type: ignore[misc]
    """Logistic regression by maximum likelihood over the rows of several holders.

    **There is no penalty**, unlike in scikit-learn's, whose default is ``C=1.0``: coefficients are those of R and
    statsmodels, with standard errors in ``fit_.summary()``, and of classes that some columns separate there are none
    (a `ConvergenceWarning` says so). Two classes only.

    Parameters
    ----------
    features : sequence of str, optional
        Terms as formulas have them: a column, ``"C(race)"``, ``"np.log(dose)"``, ``"age:sex"``. They are needed where
        the rows lie at holders. By default every column of X, as a number.
    fit_intercept : bool
        Whether the model has an intercept.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels in order; 0 and 1 where the rows lie at holders.
    coef_ : ndarray of shape (1, k)
        Coefficients of the second class, in the order of ``fit_.names`` without the intercept.
    intercept_ : ndarray of shape (1,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        The features, or the columns of X if they have names.
    fit_ : GLMFit
        What tacit knows of it: standard errors, tests, `summary`, the protocol.

    Examples
    --------
    >>> model = LogisticRegression(features=["age", "lwt", "C(race)"])
    >>> model.fit(federation, "low")                                                    # doctest: +SKIP
    >>> model.predict_proba(new_rows)                                                   # doctest: +SKIP
    """

    _family: ClassVar[str] = "binomial"
    _link: ClassVar[str] = "logit"

    def decision_function(self, X: Any) -> Vector:
        """Return the logarithm of the odds of the second class, shape (n,)."""
        return self._linear_predictor(X)

    def predict_proba(self, X: Any) -> Vector:
        """Return the probabilities of both classes, shape (n, 2)."""
        second = self._mean(self._linear_predictor(X))
        return np.column_stack([1 - second, second])

    def predict_log_proba(self, X: Any) -> Vector:
        """Return the logarithms of `predict_proba`, shape (n, 2)."""
        eta = self._linear_predictor(X)
        return -np.column_stack([np.logaddexp(0, eta), np.logaddexp(0, -eta)])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class of each row, shape (n,)."""
        second = (self.decision_function(X) > 0).astype(np.intp)
        return np.asarray(self.classes_[second])

    def _take_up(self, fit: GLMFit) -> None:
        super()._take_up(fit)
        self.coef_, self.intercept_ = self.coef_[np.newaxis], np.array([self.intercept_])

    def _take_classes_at_holders(self) -> None:
        self.classes_ = np.array([0, 1])

    def _numbers(self, response: NDArray[Any], weights: Vector | None) -> Vector:
        check_classification_targets(response)
        kind = type_of_target(response, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, second = np.unique(response, return_inverse=True)
        present = np.unique(second if weights is None else second[weights > 0])
        if len(present) < 2:
            raise ValueError(
                "This solver needs samples of 2 classes in the data, "
                f"but the data contains only one class: {self.classes_[present[0]]!r}"
            )
        return second.astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
