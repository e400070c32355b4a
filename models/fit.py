"""The result of a fit: estimates as statsmodels' users expect them, and under which protocol they came about.

Every number comes from released sums; a Fit holds no row of any holder. It is public data: `to_dict` gives
JSON that `from_dict` restores bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .definition import Definition, State
from .errors import ModelError
from .plotting import plot_of_fit
from .stepwise import Stepwise
from .summary import Entry, Summary, summary_of

if TYPE_CHECKING:  # importing pandas takes 0.3 s, and a holder needs none of it
    import pandas as pd

    from .plotting import Figure

# Fits that know more than this one, by the model's kind: the module and the class.
_HOMES: Mapping[str, tuple[str, str]] = {
    "GLM": ("regression_fit", "GLMFit"),
    "OLS": ("regression_fit", "OLSFit"),
}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Fit(Stepwise):
    """A fitted model.

    Attributes
    ----------
    definition : Definition
        What was fitted.
    names : tuple of str
        The parameters, in the order of `estimates`.
    estimates : ndarray, shape (p,)
        Where the iteration ended.
    covariance : ndarray, shape (p, p)
        Of the estimates; NaN for parameters on a bound or not identified.
    llf : float
        Log-likelihood at the estimates.
    nobs : int
        Observations of all holders together.
    iterations : int
        Accepted steps.
    n_passes : int
        Secure sums.
    converged : bool
        Whether the estimates are a maximum that can be told apart from its neighbours.
    states : tuple of State
        Every accepted point; `history` shows them as a table.
    on_bound : tuple of str
        Parameters on a bound.
    statistics : mapping of str to float
        Further figures of the model (deviance, dispersion), shown in the head of the summary.
    df_t : float or None
        Degrees of freedom of Student's t for tests and intervals; None for the normal distribution.
    holders_by_step, warnings, protocol, holders, survivors, digits, privacy, trust
        As of `Stepwise`.
    """

    definition: Definition
    names: tuple[str, ...]
    estimates: NDArray[np.float64]
    covariance: NDArray[np.float64]
    llf: float
    nobs: int
    iterations: int
    n_passes: int
    converged: bool
    states: tuple[State, ...] = ()
    on_bound: tuple[str, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    df_t: float | None = None

    _restore: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}  # of a child's own fields

    # Estimates and tests.

    @property
    def params(self) -> pd.Series[float]:
        """The estimates by name."""
        return self._series(self.estimates, "coef")

    @property
    def bse(self) -> pd.Series[float]:
        """Standard errors by name."""
        return self._series(self.standard_errors, "std err")

    @property
    def tvalues(self) -> pd.Series[float]:
        """Estimates over standard errors."""
        return self._series(self.ratios, "t" if self.df_t is not None else "z")

    @property
    def pvalues(self) -> pd.Series[float]:
        """Two-sided p-values of the estimates being 0."""
        return self._series(self.two_sided, "P>|t|" if self.df_t is not None else "P>|z|")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return Wald intervals at level 1 - alpha, columns 0 (lower) and 1 (upper)."""
        import pandas as pd  # noqa: PLC0415

        return pd.DataFrame(self.intervals(alpha), index=list(self.names))

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance matrix of the estimates, by name."""
        import pandas as pd  # noqa: PLC0415

        return pd.DataFrame(self.covariance.copy(), index=list(self.names), columns=list(self.names))

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 p."""
        return -2 * self.llf + 2 * len(self.names)

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + p log(nobs)."""
        return -2 * self.llf + len(self.names) * math.log(self.nobs) if self.nobs else math.nan

    @property
    def df_resid(self) -> int:
        """Observations less parameters."""
        return self.nobs - len(self.names)

    @property
    def history(self) -> pd.DataFrame:
        """One row for each accepted point: where it is, the objective, and what it took to get there.

        The column ``holders`` tells how many are in the sum there, if that is known.
        """
        import pandas as pd  # noqa: PLC0415

        rows = [
            {
                "iteration": state.iteration,
                "pass": state.n_passes,
                **dict(zip(self.state_names, state.parameters.tolist(), strict=True)),
                "value": state.value,
                "gradient_norm": state.gradient_norm,
                "step_halvings": state.step_halvings,
            }
            for state in self.states
        ]
        return self._with_holders(pd.DataFrame(rows), [state.iteration for state in self.states])

    def plot(self, names: Sequence[str] | None = None, alpha: float = 0.05) -> Figure:
        """Draw the estimates with their intervals, and the objective by iteration.

        Parameters
        ----------
        names : sequence of str, optional
            Which parameters, in this order, for instance all but an intercept far away; by default all.
        alpha : float
            Wald intervals are at level 1 - alpha.

        Returns
        -------
        matplotlib.figure.Figure
            To be saved with its `savefig`, or shown with ``matplotlib.pyplot.show()``; nothing is shown here.

        Raises
        ------
        ModelError
            If a parameter is not one of the fit's.
        ModuleNotFoundError
            If matplotlib, the extra ``tacit[plot]``, is not installed.
        """
        return plot_of_fit(self, names, alpha)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the parameters of a state."""
        return self.names

    def predict(self, rows: Any) -> pd.Series[float]:
        """Refuse: a negative log-likelihood alone says nothing about single rows. Regressions override it.

        Raises
        ------
        ModelError
            Always.
        """
        raise ModelError(
            f"a {self.definition.kind} predicts no rows: use fit.params in your own formula, or a GLM"
        )

    @property
    def standard_errors(self) -> NDArray[np.float64]:
        """Square roots of the variances, shape (p,); NaN where there is none."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diag(self.covariance))

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Estimates over standard errors, shape (p,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.estimates / self.standard_errors

    @property
    def two_sided(self) -> NDArray[np.float64]:
        """Two-sided p-values, shape (p,)."""
        from scipy import special  # noqa: PLC0415

        beyond = -np.abs(self.ratios)
        tail = special.ndtr(beyond) if self.df_t is None else special.stdtr(self.df_t, beyond)
        return np.asarray(2 * tail, dtype=np.float64)

    def intervals(self, alpha: float) -> NDArray[np.float64]:
        """Return Wald intervals, shape (p, 2)."""
        from scipy import special  # noqa: PLC0415

        level = 1 - alpha / 2
        quantile = special.ndtri(level) if self.df_t is None else special.stdtrit(self.df_t, level)
        margin = quantile * self.standard_errors
        return np.column_stack([self.estimates - margin, self.estimates + margin])

    def _series(self, values: NDArray[np.float64], name: str) -> pd.Series[float]:
        import pandas as pd  # noqa: PLC0415

        return pd.Series(values.copy(), index=list(self.names), name=name)

    # Storage.

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON-able data (NaN as None); `from_dict` restores the same bits."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        content["definition"] = {"kind": self.definition.kind, "parameters": self.definition.parameters}
        content["states"] = [state.to_dict() for state in self.states]
        return {name: _jsonable(value) for name, value in content.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Fit:
        """Restore a fit from `to_dict`, of the class that belongs to its model.

        Raises
        ------
        ModelError
            If fields are missing or unknown.
        """
        try:
            module, name = _HOMES.get(content["definition"]["kind"], ("fit", "Fit"))
            home: type[Fit] = getattr(import_module(f".{module}", __package__), name)
            restore = {**_RESTORE, **home._restore}
            return home(**{name: restore.get(name, _as_is)(value) for name, value in content.items()})
        except (TypeError, KeyError, ValueError) as error:
            raise ModelError(f"this is no saved fit of this version: {error}") from None

    def __repr__(self) -> str:
        estimates = ", ".join(f"{n}={v:.6g}" for n, v in zip(self.names, self.estimates, strict=True))
        llf = "" if math.isnan(self.llf) else f"llf={self.llf:.8g}, "  # not released under privacy
        return f"<Fit {self.definition.kind}: {estimates}; {llf}converged={self.converged}>"

    def summary(self, alpha: float = 0.05) -> Summary:
        """Return a table as statsmodels prints it, then provenance and warnings."""
        return summary_of(self, alpha)

    @property
    def title(self) -> str:
        """What stands over the summary."""
        return f"{self.definition.kind} Results"

    @property
    def heading(self) -> tuple[list[Entry], list[Entry]]:
        """Names and values at the head of the summary, left and right."""
        left = [
            ("Model:", self.definition.kind),
            ("Method:", "Newton, one pass a step"),
            ("No. Observations:", f"{self.nobs}"),
            ("Df Residuals:", f"{self.df_resid}"),
            ("Converged:", "yes" if self.converged else "NO"),
        ]
        right = [
            ("Log-Likelihood:", f"{self.llf:.8g}"),
            ("AIC:", f"{self.aic:.8g}"),
            ("BIC:", f"{self.bic:.8g}"),
            ("Iterations:", f"{self.iterations}"),
            ("Passes:", f"{self.n_passes}"),
        ]
        return left, right


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    return value


def restored_number(value: Any) -> Any:
    """Undo `_jsonable`: None was NaN, a text an infinity."""
    return float("nan" if value is None else value) if value is None or isinstance(value, str) else value


def _numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: restored_number(value) for name, value in content.items()}


def restored_array(value: Any) -> NDArray[np.float64]:
    """Restore an array from `Fit.to_dict`."""
    return np.array(value, dtype=np.float64)  # None becomes NaN, the text "inf" an infinity


def _as_is(value: Any) -> Any:
    return value


_RESTORE: Mapping[str, Callable[[Any], Any]] = {
    "definition": lambda value: Definition(value["kind"], value["parameters"]),
    "states": lambda value: tuple(State.from_dict(_numbers(state)) for state in value),
    "estimates": restored_array,
    "covariance": restored_array,
    "statistics": _numbers,
    "llf": restored_number,
    **dict.fromkeys(("names", "warnings", "on_bound", "holders", "survivors", "holders_by_step"), tuple),
}
