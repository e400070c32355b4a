"""Linear least squares over several holders, to the last digits.

No bare normal equations. Columns are centred and scaled by secure means and deviations before their products are
summed; then the solution is refined: each holder computes its residuals and their projections on the columns in
twice the precision of doubles, and the correction is solved for with the same products. What is lost in forming
the products is so restored (Björck, Numerical Methods for Least Squares Problems, 1996, section 2.9).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..privacy.guarantee import Privacy
from ..serialization.session_messages import ArraySpecification, Query
from .definition import State
from .design import Design
from .errors import ModelError
from .exact_arithmetic import projections, residuals, sum_of_products, two_sum, weighted
from .families import family_of
from .identification import whitening
from .parameters import Vector
from .regression_fit import OLSFit
from .regression_model import Passes, RegressionModel, standardisation_of
from .regression_sums import N_MOMENTS, Rows, unpacked, weighted_products
from .total import Arrays, Total

if TYPE_CHECKING:
    from .private_least_squares import PrivateOLS

_MOST_REFINEMENTS = 10
_FINE = 1e-10  # a correction after which the next one is beyond the last digits


class OLS(RegressionModel):
    """A linear model, fitted by least squares.

    Parameters
    ----------
    formula : str
        As R, statsmodels and formulaic have it: ``"mpg ~ wt + hp"``.
    weights : str, optional
        A column, or an expression: weights of the squared residuals. Rows of weight 0 do not count as observations.
    levels : mapping of str to sequence, optional
        The levels of factors in order, the reference first.
    missing : {"drop", "raise"}
        Whether rows with a missing value are left out and counted, or are an error.
    max_levels : int
        How many undeclared levels may be found in all factors together.

    Raises
    ------
    ModelError
        If the formula or one of the others cannot be used.

    Examples
    --------
    >>> fit = federation.fit(OLS("mpg ~ wt + hp"), cov_type="HC3")                      # doctest: +SKIP
    """

    kind: ClassVar[str] = "OLS"
    _iteration_passes: ClassVar[int] = 2

    def __init__(
        self,
        formula: str,
        weights: str | None = None,
        *,
        levels: Mapping[str, Sequence[Any]] | None = None,
        missing: Literal["drop", "raise"] = "drop",
        max_levels: int = 128,
    ) -> None:
        super().__init__(
            formula,
            family_of("gaussian"),
            offset=None,
            weights=weights,
            levels=levels,
            missing=missing,
            max_levels=max_levels,
        )

    def with_privacy(self, privacy: Privacy) -> PrivateOLS:
        """Return the model under differential privacy: one noised sum of products, standard errors that include it.

        Nothing is found out from the rows beforehand: levels, and the constants of transforms, are declared in the
        formula. Rows that lack a value are left out, and their number is not released.

        Parameters
        ----------
        privacy : Privacy
            For the unit "record" or "person", without sampling. ``clip`` is what w |z|² is clipped to, the weight
            times the squared length of (1, columns, response) of a row; of a person, of all its rows together. Centre
            and scale by constants, ``"I((mpg - 20) / 6) ~ I(wt - 3)"``, so that each is around 1, and take a clip
            that few rows exceed, about 3 times the number of columns with the response: clipped rows count less, and
            bias the estimates.

        Raises
        ------
        PrivacyError
            If the guarantee cannot be given for this model.
        ModelError
            If splines leave their knots to the data.
        """
        from .private_least_squares import PrivateOLS  # noqa: PLC0415 - which is made of this one

        return PrivateOLS(self, privacy)

    def _own_specifications(self, n_columns: int) -> tuple[ArraySpecification, ...]:
        triangle = n_columns * (n_columns + 1) // 2
        shapes = {"products": (triangle,), "projection": (n_columns,), "weights": (), "y": ()}
        sums = [ArraySpecification(name=name, dtype="float64", shape=shape) for name, shape in shapes.items()]
        counts = [ArraySpecification(name=name, dtype="int64", shape=()) for name in ("nobs", "n_missing")]
        return (*sums, *counts)

    # At a holder.

    def _sums(self, rows: Rows, query: Query) -> Arrays:
        if query.step == "products":
            response = rows.y - rows.offset
            return {
                "products": weighted_products(rows.z, rows.weights),
                "projection": rows.z.T @ (rows.weights * response),
                "weights": rows.weights.sum(),
                "y": rows.weights @ response,
                "nobs": np.int64(len(rows.y)),
                "n_missing": np.int64(rows.n_missing),
            }
        if query.step == "refinement":
            mean = query.arrays.get("null_mean")
            return _refinement(rows, self._vector(query, "theta", rows), 0.0 if mean is None else float(mean))
        raise self._foreign(query)

    # At the coordinator.

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | OLSFit]:
        """Fit the model, awaiting nothing but sums.

        Parameters
        ----------
        total : Total
            Sums contributions over the holders.
        start : State, optional
            Of a run that goes on; least squares begins anew, with the design that was agreed.

        Yields
        ------
        State or OLSFit
            A state for each solution, its value being the weighted sum of squared residuals; last, the fit.

        Raises
        ------
        ModelError
            If columns are linearly dependent.
        """
        passes = Passes(total)
        passes.n_passes = 0 if start is None else start.n_passes
        design = await self._agreed_design(passes, start)
        system = await _System.of(passes, design, None if start is None else start.parameters)
        states: list[State] = []
        for iteration in range(_MOST_REFINEMENTS):
            correction = await system.refine(passes)
            states.append(State(iteration, system.theta, system.ssr, correction, 0, passes.n_passes))
            yield states[-1]
            if correction <= _FINE:
                break
        yield await self._fit(passes, system, states)

    async def _fit(self, passes: Passes, system: _System, states: list[State]) -> OLSFit:
        design, nobs = system.design, system.nobs
        df_resid = nobs - len(design.names)
        scale = system.ssr / df_resid if df_resid else np.nan
        covariance = scale * system.bread
        if self.cov_type != "nonrobust":
            covariance = await self._robust(
                passes, {"design": design.to_array(), "theta": system.theta}, system.bread, nobs
            )
        matrix = system.to_coefficients
        correction = states[-1].gradient_norm
        fine = correction <= _FINE
        return OLSFit(
            definition=self.definition,
            names=design.names,
            estimates=system.theta,
            covariance=matrix @ covariance @ matrix.T,
            llf=self.family.loglik(system.likelihood, system.ssr, system.total_weight, nobs),
            nobs=nobs,
            iterations=states[-1].iteration,
            n_passes=passes.n_passes,
            converged=fine,
            states=tuple(states),
            warnings=()
            if fine
            else (f"the columns are so nearly dependent that {correction:.1g} is uncertain",),
            df_t=float(df_resid) if self.cov_type == "nonrobust" else None,
            design=design,
            family=self.family.name,
            link=self.family.link,
            deviance=system.ssr,
            null_deviance=system.null_deviance,
            pearson_chi2=system.ssr,
            scale=float(scale),
            cov_type=self.cov_type,
            residual_sums=system.residual_sums,
            n_further=self.family.n_further,
            n_missing=system.n_missing,
        )


def _refinement(rows: Rows, theta: Vector, null_mean: float) -> dict[str, NDArray[Any]]:
    """Return what the residuals at θ say, in twice the precision of doubles.

    Returns
    -------
    dict
        ``score`` and ``score_tail`` (p,): centred columns times weighted residuals, and what rounding took;
        ``ssr`` and ``null_deviance`` (): weighted sums of squares about the model and about the mean;
        ``likelihood`` (1,) and ``residuals`` (4,) as in `regression_sums.trial_sums`.
    """
    response = rows.y - rows.offset
    error = residuals(response, rows.x, theta)
    weighted_error = weighted(rows.weights, error)
    score = projections(two_sum(rows.x, -rows.standardisation.centre), weighted_error)
    scaled = np.sqrt(rows.weights) * error.value
    return {
        "score": score.value,
        "score_tail": score.tail,
        "ssr": np.asarray(sum_of_products(error, weighted_error)),
        "null_deviance": rows.weights @ (response - null_mean) ** 2,
        "likelihood": np.array([np.log(rows.weights).sum()]),
        "residuals": np.array([np.sum(scaled**power) for power in range(1, N_MOMENTS + 1)]),
    }


class _System:
    """The least squares problem at the coordinator: products of columns, and the solution so far.

    Attributes
    ----------
    theta : ndarray, shape (p,)
        The solution.
    bread : ndarray, shape (p, p)
        The inverse products of the standardised columns.
    ssr : float
        The weighted sum of squared residuals at `theta`.
    """

    def __init__(self, design: Design, sums: Arrays) -> None:
        self.design = design
        self.nobs, self.n_missing = int(sums["nobs"]), int(sums["n_missing"])
        if self.nobs < len(design.names):
            raise ModelError(f"{self.nobs} rows do not determine {len(design.names)} coefficients")
        self.total_weight = float(sums["weights"])
        self.query: dict[str, NDArray[Any]] = {"design": design.to_array()}
        if design.has_intercept:
            self.query["null_mean"] = np.array(float(sums["y"]) / self.total_weight)
        self._whitening = whitening(unpacked(sums["products"]), design.names)
        self._standardisation = standardisation_of(design)
        self.to_coefficients = self._standardisation.to_coefficients
        self.bread = self._whitening @ self._whitening.T
        self._solution: Vector = self.bread @ sums["projection"]
        self.theta: Vector = self.to_coefficients @ self._solution

    @classmethod
    async def of(cls, passes: Passes, design: Design, theta: Vector | None) -> _System:
        """Return the problem by one pass; `theta` sets apart the question of a run that goes on."""
        query: dict[str, NDArray[Any]] = {"design": design.to_array()}
        if theta is not None:
            query["theta"] = theta
        return cls(design, await passes(Query("products", query)))

    async def refine(self, passes: Passes) -> float:
        """Correct the solution by one pass; return the size of the correction, relative, of standardised columns."""
        sums = await passes(Query("refinement", {**self.query, "theta": self.theta}))
        score = (sums["score"] + sums["score_tail"]) / self._standardisation.scale
        step = self.bread @ score
        self.theta = self.theta + self.to_coefficients @ step
        self.ssr = max(float(sums["ssr"] - score @ step), 0.0)
        self.null_deviance = float(sums["null_deviance"])
        self.likelihood, self.residual_sums = sums["likelihood"], np.asarray(sums["residuals"])
        size = float(np.linalg.norm(self._solution))
        return float(np.linalg.norm(step)) / size if size > 0 else 0.0
