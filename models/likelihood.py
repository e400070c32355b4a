"""Maximum likelihood for any negative log-likelihood that is a sum over holders.

Each holder returns, for a trial theta, its own negative log-likelihood with score and information: 1 + p +
p(p + 1)/2 numbers, and once the number of its rows. The coordinator sees only their sums and takes one
Newton step a pass.

Who learns what: the coordinator every trial theta with the summed value, score and information there; the
holders every trial theta, which are functions of those sums.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from ..serialization.session_messages import ArraySpecification, Query
from .definition import Definition, State, fingerprint
from .differentiation import Derivatives, differentiate
from .errors import EvaluationError, ModelError
from .fit import Fit
from .information import estimated_covariance
from .parameters import Bound, Vector, declared_bounds, parameter_names, start_values
from .safeguarded_newton import Point, Progress, held, minimise
from .total import Arrays, Total, could_not_evaluate

Likelihood: TypeAlias = Callable[[Vector, Any], float]

_MAX_ITERATIONS = 100
_EXPECTED_PASSES = 8  # of Newton's method from a start of the right size, with a shortened step or two
_PRECISE = 1e-6  # standard errors; what the rounding of the sums may leave without a remark


class MaximumLikelihood:
    """A model given by its negative log-likelihood.

    Parameters
    ----------
    nll : callable
        ``nll(theta, data) -> float`` for an array of shape (p,) and one holder's rows; additive over
        holders, 0 for no rows, smooth. It may return NaN or infinity, overflow, or leave the domain of
        `math` where theta makes no sense: the step is then shortened. Warnings of numpy are silenced while
        it runs.
    start : mapping of str to float
        The parameters' names, in the order of theta, and where to begin; strictly inside the bounds.
    bounds : mapping of str to (low, high), optional
        Closed bounds; None for none. Neither trial points nor numerical derivatives ever leave them.
    nobs : callable, optional
        ``nobs(data) -> int``, the number of observations of one holder.
    gradient, hessian : callable, optional
        Exact derivatives of `nll`, of shapes (p,) and (p, p); what is left out is computed numerically.

    Raises
    ------
    ModelError
        If start or bounds cannot be used.

    Examples
    --------
    >>> model = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
    >>> fit = federation.fit(model)                                                     # doctest: +SKIP
    """

    def __init__(
        self,
        nll: Likelihood,
        start: Mapping[str, float],
        bounds: Mapping[str, Bound] | None = None,
        nobs: Callable[[Any], int] = len,
        *,
        gradient: Callable[[Vector, Any], Any] | None = None,
        hessian: Callable[[Vector, Any], Any] | None = None,
    ) -> None:
        self.names = parameter_names(start)
        self.start = start_values(start)
        self.bounds = declared_bounds(self.names, self.start, bounds or {})
        self._nll, self._nobs, self._gradient, self._hessian = nll, nobs, gradient, hessian
        for name, function in (("nll", nll), ("nobs", nobs), ("gradient", gradient), ("hessian", hessian)):
            if function is not None and not callable(function):
                raise ModelError(f"{name} is {type(function).__name__}: give a function of (theta, data)")

    def with_cov_type(self, cov_type: str) -> MaximumLikelihood:
        """Return this model: its standard errors are those of the likelihood.

        Raises
        ------
        ModelError
            If they should be others than "nonrobust".
        """
        if cov_type != "nonrobust":
            raise ModelError(
                f"a likelihood alone knows no scores of rows for cov_type={cov_type!r}: fit a GLM or OLS"
            )
        return self

    def with_privacy(self, privacy: Privacy) -> NoReturn:
        """Refuse: a likelihood of all rows at once has no part of a single one that could be clipped.

        Raises
        ------
        PrivacyError
            Always.
        """
        raise PrivacyError(
            "a likelihood of all rows at once has no contribution of a record that could be clipped: fit a GLM or OLS"
        )

    @property
    def definition(self) -> Definition:
        """The names, start and bounds, and a fingerprint of each function."""
        functions = {
            "nll": self._nll,
            "nobs": self._nobs,
            "gradient": self._gradient,
            "hessian": self._hessian,
        }
        given = {name: fingerprint(function) for name, function in functions.items() if function is not None}
        return Definition(
            "MaximumLikelihood",
            {
                "parameters": list(self.names),
                "start": self.start.tolist(),
                "bounds": self.bounds.to_pairs(),
                "functions": given,
            },
        )

    # Before anything runs.

    @property
    def expected_passes(self) -> int:
        """About how many sums a fit takes."""
        return _EXPECTED_PASSES

    def specifications(self) -> tuple[ArraySpecification, ...]:
        """Return the arrays of the first sum; all later ones lack ``nobs``."""
        n_parameters = len(self.names)
        return (
            ArraySpecification(name="nll", dtype="float64", shape=()),
            ArraySpecification(name="score", dtype="float64", shape=(n_parameters,)),
            ArraySpecification(
                name="information", dtype="float64", shape=(n_parameters * (n_parameters + 1) // 2,)
            ),
            ArraySpecification(name="nobs", dtype="int64", shape=()),
        )

    # At a holder.

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return this holder's negative log-likelihood, score and information at the query's theta.

        Parameters
        ----------
        data : Any
            This holder's rows.
        query : Query
            Step "start" or "trial" with the array ``theta``, shape (p,).

        Returns
        -------
        dict
            ``nll`` (), ``score`` (p,), ``information`` (p(p + 1)/2,): the upper triangle, row by row; all
            of them NaN where they cannot be evaluated. In the step "start" also ``nobs`` (), int64.

        Raises
        ------
        ModelError
            If the query is none of this model's, or a function returns something of the wrong shape.
        """
        theta = self._theta_of(query)
        found = self._derivatives(theta, data)
        upper_triangle = found.hessian[np.triu_indices(len(theta))]
        arrays: dict[str, NDArray[Any]] = {
            "nll": np.asarray(found.value, dtype=np.float64),
            "score": found.gradient,
            "information": upper_triangle,
        }
        if query.step == "start":
            arrays["nobs"] = np.asarray(self._number_of_observations(data), dtype=np.int64)
        return arrays

    def _theta_of(self, query: Query) -> Vector:
        theta = query.arrays.get("theta") if query.step in {"start", "trial"} else None
        if theta is None or theta.shape != self.start.shape or not np.isfinite(theta).all():
            raise ModelError(
                f"the query {query.step!r} is none of a MaximumLikelihood with {len(self.names)} parameters"
            )
        theta = theta.astype(np.float64)
        if (theta < self.bounds.lower).any() or (theta > self.bounds.upper).any():
            raise ModelError("the query asks for a theta outside the declared bounds")
        return theta

    def _derivatives(self, theta: Vector, data: Any) -> Derivatives:
        n_parameters = len(theta)
        gradient = hessian = None
        if self._gradient is not None:
            gradient = partial(_array, "gradient", self._gradient, data, (n_parameters,))
        if self._hessian is not None:
            hessian = partial(_array, "hessian", self._hessian, data, (n_parameters, n_parameters))
        return differentiate(
            lambda point: float(_array("nll", self._nll, data, (), point)),
            theta,
            *self.bounds,
            gradient=gradient,
            hessian=hessian,
        )

    def _number_of_observations(self, data: Any) -> int:
        count = self._nobs(data)
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise ModelError(f"nobs must return the number of observations, not {type(count).__name__}")
        return int(count)

    # At the coordinator.

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | Fit]:
        """Maximise the likelihood, awaiting nothing but sums; one pass a trial point.

        Parameters
        ----------
        total : Total
            Sums contributions over the holders.
        start : State, optional
            Continue from here instead of the model's start.

        Yields
        ------
        State or Fit
            A state for each accepted point, the start first; last, the fit.

        Raises
        ------
        ModelError
            If some holder cannot evaluate the start.
        """
        first = self._first_state(start)
        point, nobs = await self._begin(total, first)

        async def evaluate(theta: Vector) -> Point | None:
            try:
                return self._point(theta, await total(Query("trial", {"theta": theta}, may_fail=True)))
            except EvaluationError:
                return None

        states: list[State] = []
        suspicious = False
        search = minimise(
            evaluate,
            point,
            self.bounds,
            iteration=first.iteration,
            n_passes=first.n_passes + 1,
            max_iterations=first.iteration + _MAX_ITERATIONS,
        )
        async for progress in search:
            suspicious = suspicious or progress.suspicious
            if not states or progress.iteration > states[-1].iteration:
                states.append(_state(progress))
                yield states[-1]
            if progress.end is not None:
                yield self._fit(progress, nobs, states, suspicious)

    def _first_state(self, start: State | None) -> State:
        if start is None:
            return State(0, self.start, np.nan)
        if start.parameters.shape != self.start.shape:
            raise ModelError(f"the state has {start.parameters.size} parameters, the model {len(self.names)}")
        return start

    async def _begin(self, total: Total, first: State) -> tuple[Point, int]:
        theta = self.bounds.clipped(first.parameters)
        try:
            arrays = await total(Query("start", {"theta": theta}, may_fail=True))
        except EvaluationError:
            values = ", ".join(
                f"{name!r}: {value:.6g}" for name, value in zip(self.names, theta, strict=True)
            )
            raise ModelError(
                f"some holder has no finite likelihood, score and information at start={{{values}}}: "
                "choose another start, or bounds that keep nll within its domain"
            ) from None
        return self._point(theta, arrays), int(arrays["nobs"])

    def _point(self, theta: Vector, arrays: Arrays) -> Point:
        n_parameters = len(theta)
        information = np.empty((n_parameters, n_parameters))
        rows, columns = np.triu_indices(n_parameters)
        information[rows, columns] = information[columns, rows] = arrays["information"]
        return Point(theta, float(arrays["nll"]), arrays["score"].astype(np.float64), information)

    def _fit(self, last: Progress, nobs: int, states: list[State], suspicious: bool) -> Fit:
        point = last.point
        at_bound = held(point, self.bounds) | self.bounds.touched(point.parameters)
        covariance, remarks, definite = estimated_covariance(point.hessian, self.names, ~at_bound)
        warnings = [*_remarks_on_the_end(last), *self._remarks_on_bounds(point, at_bound), *remarks]
        if suspicious:
            warnings.append(
                "score and information contradict the values of the likelihood between passes: "
                "check gradient= and hessian=, and that nll is smooth"
            )
        return Fit(
            definition=self.definition,
            names=self.names,
            estimates=point.parameters,
            covariance=covariance,
            llf=-point.value,
            nobs=nobs,
            iterations=last.iteration,
            n_passes=last.n_passes,
            converged=last.end in {"stationary", "rounding"} and definite,
            states=tuple(states),
            warnings=tuple(warnings),
            on_bound=tuple(name for name, held in zip(self.names, at_bound, strict=True) if held),
        )

    def _remarks_on_bounds(self, point: Point, at_bound: NDArray[np.bool_]) -> list[str]:
        remarks = []
        for index in np.flatnonzero(at_bound):
            low, high = self.bounds.lower[index], self.bounds.upper[index]
            value = point.parameters[index]
            bound = low if value - low <= high - value else high
            fixed = ", and those of the others hold for it fixed there" if len(self.names) > 1 else ""
            remarks.append(f"{self.names[index]} is on its bound {bound:g}: it has no standard error{fixed}")
        return remarks


def _remarks_on_the_end(last: Progress) -> list[str]:
    decrement = last.direction.decrement
    if last.end == "exhausted":
        return [f"not converged after {last.iteration} iterations: {decrement:.2g} standard errors to go"]
    if last.end == "stuck":
        return ["not converged: no step lowers nll further; check gradient=, and that nll is smooth"]
    if last.end == "runaway":
        return ["not converged: a parameter runs away, the likelihood has no finite maximum"]
    if decrement > _PRECISE:
        return [f"the rounding of the sums leaves the estimates uncertain by {decrement:.2g} standard errors"]
    return []


def _state(progress: Progress) -> State:
    return State(
        iteration=progress.iteration,
        parameters=progress.point.parameters,
        value=progress.point.value,
        gradient_norm=progress.direction.decrement,
        step_halvings=progress.halvings,
        n_passes=progress.n_passes,
    )


def _array(
    name: str, function: Callable[..., Any], data: Any, shape: tuple[int, ...], theta: Vector
) -> Vector:
    """Call a user's function; NaN where it says that theta makes no sense."""
    try:
        result = np.asarray(function(theta, data), dtype=np.float64)
    except (ArithmeticError, ValueError) as error:  # LinAlgError is a ValueError
        if could_not_evaluate(error):
            return np.full(shape, np.nan)
        raise
    if result.size != np.prod(shape):
        wanted = "one number: sum over the rows" if not shape else f"an array of shape {shape}"
        raise ModelError(f"{name} returned an array of shape {result.shape}; it must return {wanted}")
    return result.reshape(shape)
