"""Fitted regressions: what statsmodels' users expect of one, from sums alone.

R's numbers where R and statsmodels differ: AIC and BIC count an estimated dispersion, tests use Student's t where
the dispersion is estimated, and Σ over rows of positive weight. Robust standard errors go with the normal
distribution, as in statsmodels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ModelError
from .families import Family, family_of
from .fit import Fit, restored_array, restored_number
from .linear_constraints import linear_constraints
from .summary import Entry

if TYPE_CHECKING:
    import pandas as pd

    from .design import Design

_RESPONSE_WIDTH = 22  # characters of the head of a summary


@dataclass(frozen=True)
class WaldTest:
    """A test of linear hypotheses.

    Attributes
    ----------
    statistic : float
        F where `df_denom` is given, else χ².
    pvalue : float
    df_num : int
        How many hypotheses.
    df_denom : float or None
        Degrees of freedom of the variance.
    """

    statistic: float
    pvalue: float
    df_num: int
    df_denom: float | None = None

    def __str__(self) -> str:
        if self.df_denom is None:
            return f"chi2({self.df_num}) = {self.statistic:.6g}, p = {self.pvalue:.4g}"
        return f"F({self.df_num}, {self.df_denom:g}) = {self.statistic:.6g}, p = {self.pvalue:.4g}"


def _design_from_dict(content: Mapping[str, Any]) -> Design:
    from .design import Design  # noqa: PLC0415 - who only reads fits needs no formulaic

    return Design.from_dict(content)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GLMFit(Fit):
    """A fitted generalised linear model.

    Attributes
    ----------
    design : Design
        How columns are made from rows, as all holders agreed.
    family, link : str
        Their names.
    deviance, null_deviance : float
        Of the model, and of one that has but an intercept (and the offset).
    pearson_chi2 : float
        The weighted sum of squared residuals over the variance function.
    scale : float
        The dispersion: 1 where the family knows it, else Pearson's χ² over `df_resid`.
    cov_type : str
        What the standard errors are.
    residual_sums : ndarray, shape (4,)
        Sums over all rows of the powers 1 to 4 of the deviance residuals.
    n_further : int
        Parameters that AIC and BIC count beside the coefficients.
    n_missing : int or None
        Rows left out for missing values; None where privacy does not release how many, and `nobs` is a noised sum.
    method : str
        How it was computed.
    """

    design: Design
    family: str
    link: str
    deviance: float
    null_deviance: float
    pearson_chi2: float
    scale: float
    cov_type: str
    residual_sums: NDArray[np.float64]
    n_further: int = 0
    n_missing: int | None = 0
    method: str = "Newton, one pass a step"

    _restore: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "design": _design_from_dict,
        "residual_sums": restored_array,
        **dict.fromkeys(("deviance", "null_deviance", "pearson_chi2", "scale"), restored_number),
    }

    # Sizes and criteria.

    @property
    def df_model(self) -> int:
        """Columns beside the intercept."""
        return len(self.names) - self.design.has_intercept

    @property
    def df_null(self) -> int:
        """Observations less the intercept."""
        return self.nobs - self.design.has_intercept

    @property
    def aic(self) -> float:
        """Akaike's criterion as R has it: an estimated dispersion counts as a parameter."""
        return -2 * self.llf + 2 * (len(self.names) + self.n_further)

    @property
    def bic(self) -> float:
        """Schwarz's criterion as R has it: an estimated dispersion counts as a parameter."""
        return -2 * self.llf + (len(self.names) + self.n_further) * math.log(self.nobs)

    @property
    def residual_moments(self) -> pd.Series[float]:
        """Mean, standard deviation, skewness and kurtosis (3 for a normal distribution) of deviance residuals.

        They come from four sums over all rows of all holders and tell of no single one.
        """
        import pandas as pd  # noqa: PLC0415

        first, second, third, fourth = self.residual_sums / self.nobs
        variance = second - first**2
        with np.errstate(all="ignore"):
            skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5
            kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2
        moments = {
            "mean": first,
            "std": math.sqrt(max(variance, 0.0)),
            "skewness": skewness,
            "kurtosis": kurtosis,
        }
        return pd.Series(moments, name="deviance residuals")

    @property
    def state_names(self) -> tuple[str, ...]:
        """The coefficients, and log θ of a negative binomial that estimates it."""
        return (*self.names, "log(theta)") if "theta" in self.statistics else self.names

    # Predictions and tests.

    def predict(self, rows: Any, offset: ArrayLike | None = None, linear: bool = False) -> pd.Series[float]:
        """Return the means of new rows.

        Parameters
        ----------
        rows : DataFrame
            With the columns of the formula's right-hand side.
        offset : array_like, shape (n,), optional
            Instead of the model's own offset, which is computed from the rows.
        linear : bool
            Return the linear predictor instead.

        Returns
        -------
        Series
            By the rows' index; NaN where something is missing.
        """
        import pandas as pd  # noqa: PLC0415

        own = self.design.offsets(rows) if offset is None else np.asarray(offset, dtype=np.float64)
        if own.shape not in {(), (len(rows),)}:
            raise ModelError(f"offset= has the shape {own.shape}, the rows are {len(rows)}")
        eta = self.design.columns(rows) @ self.estimates + own
        with np.errstate(all="ignore"):
            values = eta if linear else self._family.mean(eta)
        return pd.Series(values, index=rows.index, name="linear" if linear else "mean")

    @property
    def _family(self) -> Family:
        return family_of(self.family, self.link)

    def wald_test(
        self, hypotheses: str | ArrayLike, values: ArrayLike | None = None, *, use_f: bool | None = None
    ) -> WaldTest:
        """Test linear hypotheses together.

        Parameters
        ----------
        hypotheses : str or array_like, shape (q, p) or (p,)
            For instance ``"wt = hp = 0"``, ``"wt = 2 * hp, qsec = 1"``, or a matrix R.
        values : array_like, shape (q,), optional
            What Rθ is with a matrix; the default is 0.
        use_f : bool, optional
            Whether to refer to F rather than χ²; the default is whether tests of single coefficients use t.

        Returns
        -------
        WaldTest

        Raises
        ------
        ModelError
            If the hypotheses cannot be read, depend on each other, or are about a coefficient without a variance.
        """
        from scipy import special  # noqa: PLC0415

        matrix, wanted = linear_constraints(hypotheses, values, self.names)
        used = (matrix != 0).any(axis=0)
        covariance = matrix[:, used] @ self.covariance[np.ix_(used, used)] @ matrix[:, used].T
        difference = matrix @ self.estimates - wanted
        n_hypotheses = len(matrix)
        if not np.isfinite(covariance).all() or np.linalg.matrix_rank(covariance) < n_hypotheses:
            raise ModelError(
                "the hypotheses depend on each other, or a coefficient has no variance: leave one out"
            )
        statistic = float(difference @ np.linalg.solve(covariance, difference))
        df = self.df_t if self.df_t is not None else float(self.df_resid)
        if use_f if use_f is not None else self.df_t is not None:
            ratio = statistic / n_hypotheses
            return WaldTest(ratio, float(special.fdtrc(n_hypotheses, df, ratio)), n_hypotheses, df)
        return WaldTest(statistic, float(special.chdtrc(n_hypotheses, statistic)), n_hypotheses)

    # Storage and print.

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON-able data (NaN as None); `from_dict` restores the same bits."""
        return {**super().to_dict(), "design": self.design.to_dict()}

    @property
    def title(self) -> str:
        """What stands over the summary."""
        return "Generalized Linear Model Regression Results"

    @property
    def heading(self) -> tuple[list[Entry], list[Entry]]:
        """Names and values at the head of the summary, left and right."""
        left = [
            *self._what(),
            ("Model Family:", self._family.title),
            ("Link Function:", self.link),
            ("Method:", self.method),
            ("Covariance Type:", self.cov_type),
            ("No. Iterations:", f"{self.iterations}"),
            *self._how(),
        ]
        right = [
            *self._sizes(),
            ("Scale:", f"{self.scale:.6g}"),
            ("Log-Likelihood:", self._told(self.llf)),
            ("Deviance:", self._told(self.deviance)),
            ("Null Deviance:", self._told(self.null_deviance)),
            ("Pearson chi2:", self._told(self.pearson_chi2)),
            ("AIC:", self._told(self.aic)),
            ("BIC:", self._told(self.bic)),
        ]
        return left, right

    def _what(self) -> list[Entry]:
        response = str(self.definition.parameters["formula"]).split("~", maxsplit=1)[0].strip()
        shown = response if len(response) <= _RESPONSE_WIDTH else response[: _RESPONSE_WIDTH - 1] + "…"
        return [("Dep. Variable:", shown), ("Model:", self.definition.kind)]

    def _how(self) -> list[Entry]:
        entries = [
            ("Passes:", f"{self.n_passes}"),
            ("Converged:", "yes" if self.converged else "NO"),
        ]
        if self.n_missing == 0:
            return entries
        return [
            *entries,
            ("Left out, missing:", "not released" if self.n_missing is None else f"{self.n_missing}"),
        ]

    def _told(self, value: float) -> str:
        """Return a sum over rows, or what follows from it, as the summary shows it: under privacy there may be none."""
        return "not released" if self.n_missing is None and math.isnan(value) else f"{value:.6g}"

    def _sizes(self) -> list[Entry]:
        noised = " (noised)" if self.n_missing is None else ""
        return [
            ("No. Observations:", f"{self.nobs}{noised}"),
            ("Df Residuals:", f"{self.df_resid}"),
            ("Df Model:", f"{self.df_model}"),
        ]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OLSFit(GLMFit):
    """A fitted linear model: least squares, weighted if the model has weights."""

    method: str = "Least Squares, refined"

    @property
    def ssr(self) -> float:
        """The weighted sum of squared residuals."""
        return self.deviance

    @property
    def rsquared(self) -> float:
        """The share of the sum of squares that the columns explain; about 0 where there is no intercept."""
        return 1 - self.deviance / self.null_deviance if self.null_deviance > 0 else math.nan

    @property
    def rsquared_adj(self) -> float:
        """R² with sums of squares divided by their degrees of freedom."""
        return 1 - (1 - self.rsquared) * self.df_null / self.df_resid if self.df_resid else math.nan

    @property
    def f_test(self) -> WaldTest:
        """The test that all coefficients but the intercept's are 0, with the fit's own covariance."""
        if not self.df_model or not self.df_resid:
            return WaldTest(math.nan, math.nan, self.df_model, float(self.df_resid))
        if self.cov_type == "nonrobust":
            from scipy import special  # noqa: PLC0415

            ratio = (self.null_deviance - self.deviance) / self.df_model / self.scale
            pvalue = float(special.fdtrc(self.df_model, self.df_resid, ratio))
            return WaldTest(ratio, pvalue, self.df_model, float(self.df_resid))
        columns = np.eye(len(self.names))
        tested: Sequence[int] = [i for i, name in enumerate(self.names) if name != "Intercept"]
        return self.wald_test(columns[tested], use_f=True)

    @property
    def fvalue(self) -> float:
        """The statistic of `f_test`."""
        return self.f_test.statistic

    @property
    def f_pvalue(self) -> float:
        """The p-value of `f_test`."""
        return self.f_test.pvalue

    @property
    def title(self) -> str:
        """What stands over the summary."""
        return "OLS Regression Results"

    @property
    def heading(self) -> tuple[list[Entry], list[Entry]]:
        """Names and values at the head of the summary, left and right."""
        left = [
            *self._what(),
            ("Method:", self.method),
            ("Covariance Type:", self.cov_type),
            *self._how(),
            ("Scale:", f"{self.scale:.6g}"),
        ]
        right = [
            *self._sizes(),
            ("R-squared:", f"{self.rsquared:.4f}"),
            ("Adj. R-squared:", f"{self.rsquared_adj:.4f}"),
            ("F-statistic:", f"{self.fvalue:.4g}"),
            ("Prob (F-statistic):", f"{self.f_pvalue:.3g}"),
            ("Log-Likelihood:", self._told(self.llf)),
            ("AIC:", self._told(self.aic)),
            ("BIC:", self._told(self.bic)),
        ]
        return left, right
