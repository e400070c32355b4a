"""The way of a generalised linear model to the maximum of its likelihood, one pass a trial point.

The first pass linearises at means near the responses, as R's `glm.fit` does. Its information makes the coordinates in
which Newton's method then walks: there columns are orthogonal and as long as their standard errors.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import Query
from .definition import State
from .errors import EvaluationError, ModelError
from .families import Family
from .identification import running_away, separation, whitening
from .information import scaled_spectrum
from .parameters import Bounds, Vector
from .regression_model import Passes
from .regression_sums import Matrix, Standardisation, unpacked
from .safeguarded_newton import Point, Progress, minimise
from .total import Arrays

_MAX_ITERATIONS = 100
_PRECISE = 1e-6  # standard errors; what the rounding of the sums may leave without a remark
_LARGEST_THETA = 1e6  # there a negative binomial is a Poisson distribution to all digits that matter
_LARGE_THETA = 1e4
_MOST_INVALID = 25  # trial points; after them the maximum is taken to lie where means cease to be valid
_STARTS = 12  # from the first linearisation back to where every mean is valid, halving the distance
_NO_START = (
    "no valid means are found to start from: give start= with coefficients at which every mean is one of "
    "the family's, or take another link"
)


class Search:
    """The way to the maximum, in coordinates in which the first information is the unit matrix.

    Parameters
    ----------
    family : Family
    names : sequence of str
        The columns.
    standardisation : Standardisation
        Of the columns in the holders' sums.
    passes : Passes
    query : mapping
        What every query holds.
    prefix : str
        Of the names of the steps: "null_" for the null model.
    """

    def __init__(
        self,
        family: Family,
        names: Sequence[str],
        standardisation: Standardisation,
        passes: Passes,
        query: Mapping[str, NDArray[Any]],
        *,
        prefix: str = "",
    ) -> None:
        self.family, self.names, self.standardisation = family, names, standardisation
        self.passes, self.query, self.prefix = passes, query, prefix
        self.last: Arrays = {}  # the sums at the accepted point
        self.theta = math.nan  # of a negative binomial, there
        self.null_mean = math.nan  # of a model with nothing but an intercept or, without one, nothing at all
        self.has_null_mean = True
        self._trials: dict[bytes, Arrays] = {}
        self._objective_scale = math.nan
        self._n_invalid = 0  # points at which some mean was none of the family's

    # The start.

    async def first(self, begin: Vector | None) -> Point:
        """Return the first point.

        Parameters
        ----------
        begin : ndarray, shape (p,) or (p + 1,), or None
            Linearise there rather than near the responses; with log θ where a run goes on that estimates it.

        Returns
        -------
        Point
            The solution of the linearised model; if some mean is not valid there, on the way from it to `begin`, or
            to the null model.

        Raises
        ------
        ModelError
            If columns are linearly dependent, or no valid means are found.
        """
        query = self.query if begin is None else {**self.query, "theta": begin}
        try:
            sums = await self.passes(Query(f"{self.prefix}start", query, may_fail=True))
        except EvaluationError:
            raise ModelError(_NO_START) from None
        self._take_up(sums)
        n_columns = len(self.names)
        solution = self._whitening.T @ sums["projection"]
        if begin is None:
            valid = self._null(unpacked(sums["information"]))
        else:
            valid = np.asarray(np.linalg.solve(self._basis, begin[:n_columns]), dtype=np.float64)
        further = np.empty(0) if begin is None else begin[n_columns:]
        if self.family.estimates_theta and not len(further):
            further = self._log_theta(sums)
        for halvings in range(_STARTS):
            fraction = 2.0**-halvings if halvings < _STARTS - 1 else 0.0
            point = await self.evaluate(np.append(valid + fraction * (solution - valid), further))
            if point is not None:
                return point
        raise ModelError(_NO_START)

    def _take_up(self, sums: Arrays) -> None:
        """Keep the sizes, and choose the coordinates and the mean of the null model."""
        self.nobs, self.n_missing = int(sums["nobs"]), int(sums["n_missing"])
        self.total_weight = float(sums["weights"])
        if self.nobs < len(self.names):
            raise ModelError(
                f"{self.nobs} rows of positive weight do not determine {len(self.names)} coefficients"
            )
        self._whitening = whitening(unpacked(sums["information"]), self.names)
        self._basis = self.standardisation.to_coefficients @ self._whitening
        self.null_mean = float(sums["y"]) / self.total_weight
        if self.standardisation.intercept is None:
            with np.errstate(all="ignore"):
                of_nothing = float(self.family.mean(np.zeros(1))[0])
            self.has_null_mean = math.isfinite(of_nothing)
            self.null_mean = of_nothing if self.has_null_mean else self.null_mean

    def _null(self, information: Matrix) -> Vector:
        """Return the point of the null model: all coefficients 0 but the intercept."""
        coefficients = np.zeros(len(information))
        if self.standardisation.intercept is not None:
            with np.errstate(all="ignore"):
                level = self.family.predictor(np.array([self.null_mean]))[0]
            coefficients[self.standardisation.intercept] = level if np.isfinite(level) else 0.0
        return self._whitening.T @ information @ coefficients

    def _log_theta(self, sums: Arrays) -> Vector:
        """Return where log θ begins: by the moments of all responses, as if they had one mean."""
        mean = float(sums["y"]) / self.total_weight
        excess = float(sums["y_squared"]) / self.total_weight - mean**2 - mean
        theta = mean**2 / excess if excess > 0 else 10.0
        return np.array([math.log(min(max(theta, 0.05), 100.0))])

    # The way.

    def parameters(self, point: Vector) -> Vector:
        """Return the coefficients, and log θ if it is estimated, of a point."""
        n_columns = len(self.names)
        return np.append(self._basis @ point[:n_columns], point[n_columns:])

    async def evaluate(self, point: Vector) -> Point | None:
        """Return the objective at a point by one pass; None if some mean is not valid there."""
        if self._n_invalid >= _MOST_INVALID:
            return None
        try:
            sums = await self._trial(self.parameters(point))
        except EvaluationError:
            self._n_invalid += 1
            return None
        if math.isnan(self._objective_scale):
            self._objective_scale = self._scale_of_objective(sums)
        self._trials[point.tobytes()] = sums
        matrix = np.eye(len(point))
        matrix[: len(self.names), : len(self.names)] = self._whitening
        hessian = matrix.T @ unpacked(sums.get("hessian", sums["information"])) @ matrix
        value = -sums["likelihood"][0] if self.family.estimates_theta else sums["deviance"] / 2
        scale = self._objective_scale
        return Point(point, float(value) / scale, -(matrix.T @ sums["score"]) / scale, hessian / scale)

    async def _trial(self, parameters: Vector) -> Arrays:
        # Not "theta" for the null model: a run that goes on after a loss begins at the "theta" that was lost.
        name = "null" if self.prefix else "theta"
        query = {**self.query, name: parameters, "null_mean": np.array([self.null_mean])}
        return await self.passes(Query(f"{self.prefix}trial", query, may_fail=True))

    async def deviance_of_offset(self, null_mean: float) -> float:
        """Return the deviance of a model without any column; NaN if some offset alone makes no valid mean."""
        self.null_mean = null_mean
        try:
            return float((await self._trial(np.zeros(1)))["deviance"])
        except EvaluationError:
            return math.nan

    def _scale_of_objective(self, sums: Arrays) -> float:
        """Return the dispersion, so that distances are in standard errors; of a perfect fit more than its rounding."""
        if self.family.has_known_dispersion:
            return 1.0
        pearson, null = float(sums["pearson"]), float(sums["null_deviance"])
        scale = max(pearson, 1e-20 * null) / max(self.nobs - len(self.names), 1)
        return scale if scale > 0 else 1.0

    async def progress(self, first: Point, iteration: int) -> AsyncIterator[Progress]:
        """Yield every accepted point."""
        size = len(first.parameters)
        upper = np.full(size, np.inf)
        if self.family.estimates_theta:
            upper[-1] = math.log(_LARGEST_THETA)
        search = minimise(
            self.evaluate,
            first,
            Bounds(np.full(size, -np.inf), upper),
            iteration=iteration,
            max_iterations=iteration + _MAX_ITERATIONS,
        )
        async for progress in search:
            self.last = self._trials[progress.point.parameters.tobytes()]
            self._trials = {progress.point.parameters.tobytes(): self.last}
            self.theta = self._theta_at(progress)
            yield progress

    def _theta_at(self, progress: Progress) -> float:
        if self.family.estimates_theta:
            return math.exp(progress.point.parameters[-1])
        return math.nan if self.family.theta is None else self.family.theta

    def estimates(self, last: Progress) -> Vector:
        """Return the coefficients, and log θ, at the end; the step that no pass was worth is taken too."""
        step = last.direction.step if last.end == "stationary" else 0.0
        return self.parameters(last.point.parameters + step)

    def state(self, progress: Progress, n_passes: int) -> State:
        """Return an accepted point in the coefficients' own units."""
        sums = self.last
        value = -2 * sums["likelihood"][0] if self.family.estimates_theta else sums["deviance"]
        return State(
            iteration=progress.iteration,
            parameters=self.parameters(progress.point.parameters),
            value=float(value),
            gradient_norm=progress.direction.decrement,
            step_halvings=progress.halvings,
            n_passes=n_passes,
        )

    # The end.

    @property
    def bread(self) -> Matrix:
        """The inverse expected information of the standardised columns, for dispersion 1."""
        whitened = self._whitening.T @ unpacked(self.last["information"]) @ self._whitening
        scale, eigenvalues, vectors = scaled_spectrum(whitened)
        half = self._whitening @ (vectors / scale[:, None])
        return (half / np.maximum(eigenvalues, np.finfo(np.float64).tiny)) @ half.T

    def is_poisson(self, last: Progress) -> bool:
        """Whether θ has reached its limit, or would if the rounding of the sums let it."""
        if not self.family.estimates_theta:
            return False
        lost = last.end not in {"stationary", "rounding"} and self.theta > _LARGE_THETA
        return lost or self.theta > 0.99 * _LARGEST_THETA

    def away(self, last: Progress) -> NDArray[np.bool_]:
        """Return which coefficients grow without end."""
        n_columns = len(self.names)
        if last.end != "runaway":
            return np.zeros(n_columns, dtype=np.bool_)
        step = self._basis @ last.direction.step[:n_columns]
        return running_away(step, self.standardisation.scale)

    def remarks(self, last: Progress) -> list[str]:
        """Say how the search ended, if not well."""
        failure, decrement = self._failure(last), last.direction.decrement
        if failure:
            return [f"not converged: {failure}"]
        if decrement > _PRECISE:
            return [
                f"the rounding of the sums leaves the estimates uncertain by {decrement:.2g} standard errors"
            ]
        return []

    def _failure(self, last: Progress) -> str:
        """Say why the search did not converge; nothing if it did."""
        failure = ""
        if self.is_poisson(last):
            failure = "theta grows without bound, the counts vary no more than Poisson's: fit that"
        elif last.end == "runaway":
            failure = separation([name for name, out in zip(self.names, self.away(last), strict=True) if out])
        elif last.end == "exhausted":
            failure = (
                f"{last.direction.decrement:.2g} standard errors to go after {last.iteration} iterations"
            )
        elif last.end == "stuck" and self._n_invalid >= _MOST_INVALID:
            failure = (
                f"the best means lie where the link {self.family.link} gives some row none of the family's; "
                "take another link"
            )
        elif last.end == "stuck":
            failure = "no step lowers the deviance further; give start=, or take another link"
        return failure

    def theta_statistics(self, last: Progress) -> dict[str, float]:
        """Return θ and its standard error, as MASS has it: for the coefficients as they are."""
        if not self.family.estimates_theta:
            return {}
        curvature = float(last.point.hessian[-1, -1])
        error = self.theta / math.sqrt(curvature) if curvature > 0 else math.nan
        return {"theta": self.theta, "theta std err": error}
