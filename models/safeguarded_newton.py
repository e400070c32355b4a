"""Newton's method for a sum that costs one pass a point, within bounds and with nothing taken on trust.

Every pass returns value, gradient and Hessian at one point, so the unit of cost is the trial point, never the
function value, and the last accepted point brings the information for its standard errors along.

- *Direction*: Newton on the parameters that are not held at a bound. Negative curvature is turned round,
  vanishing curvature replaced by a small one, in units in which the Hessian has a unit diagonal. What would
  leave the bounds is put on them, and the rest solved again (an active set).
- *Step*: the full step first. It must lower the value by Armijo's rule; otherwise it is shortened to the
  minimum of the cubic through both values and slopes, at least to a half. A point that some holder cannot
  evaluate halves it; where a bound itself cannot be evaluated, 0.995 of the way is gone instead.
- *End*: when no combination of parameters would move by more than 1e-9 of its own standard error (the Newton
  decrement), or when the predicted decrease drowns in the rounding of the value.

Nocedal and Wright, Numerical Optimization (2006), sections 3.4, 3.5 and 16.7; the fraction to the boundary
is section 19.2's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .information import SINGULAR, scaled_spectrum
from .parameters import Bounds, Vector

Mask: TypeAlias = NDArray[np.bool_]

DECREMENT = 1e-9  # standard errors
_SUFFICIENT_DECREASE = 1e-4
_ROUNDING = 1e-11  # of the value: what summing over many rows may lose
_LEAST_EIGENVALUE = 1e-9
_MOST_HALVINGS = 30
_FRACTION_TO_BOUNDARY = 0.995
_LONGEST_STEP = 1e3  # in units of max(1, |parameter|)


class Point(NamedTuple):
    """One trial point and what its pass returned."""

    parameters: Vector
    value: float
    gradient: Vector
    hessian: Vector


Evaluate: TypeAlias = Callable[[Vector], Awaitable[Point | None]]  # None: some holder could not


def held(point: Point, bounds: Bounds) -> Mask:
    """Return which parameters are at a bound that the gradient pushes them against.

    At a bound is: on it; or, where it cannot be evaluated, so near that going on could lower the value by
    1e-10 at most, and nearer than a thousandth of a standard error.
    """
    below, above = point.parameters - bounds.lower, bounds.upper - point.parameters
    distance = np.where(point.gradient > 0, below, above)  # ahead, downhill
    reachable = np.where(np.isfinite(distance), distance, 1.0)
    gain = np.abs(point.gradient) * reachable
    width = reachable * np.sqrt(np.maximum(np.diag(point.hessian), 0))
    near = np.isfinite(distance) & (gain <= 1e-10) & (width <= 1e-3)
    return np.asarray(near & (point.gradient != 0), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Direction:
    """Where to go from a point.

    Attributes
    ----------
    step : ndarray, shape (p,)
        To the minimum of the local parabola, or along negative curvature, within bounds.
    decrement : float
        The length of Newton's step in standard errors: the distance to a stationary point.
    convex : bool
        Whether the Hessian of the parameters that are not held has no negative eigenvalue.
    """

    step: Vector
    decrement: float
    convex: bool


@dataclass(frozen=True, eq=False)
class Progress:
    """An accepted point: how it was reached, and where it leads.

    Attributes
    ----------
    end : str or None
        None while the search goes on, else why it ended: "stationary", "rounding" (the value cannot show any
        further decrease), "stuck" (no step lowers the value), "runaway" (no minimum in sight) or "exhausted".
    suspicious : bool
        Whether the derivatives of two neighbouring points contradict the values there.
    """

    point: Point
    direction: Direction
    iteration: int
    halvings: int
    n_passes: int
    end: str | None = None
    suspicious: bool = False


def direction(point: Point, bounds: Bounds, reach: float = 1.0) -> Direction:
    """Return the safeguarded Newton direction at a point.

    Parameters
    ----------
    point : Point
        Value, gradient and Hessian.
    bounds : Bounds
        What the step must stay within.
    reach : float
        How much of the way to a bound may be gone: 1 onto it.
    """
    free = ~held(point, bounds)
    step = np.zeros(len(free))
    if not free.any():
        return Direction(step, 0.0, True)
    newton, convex = _newton(point.gradient[free], point.hessian[np.ix_(free, free)])
    decrement = float(np.sqrt(max(0.0, -float(newton @ point.gradient[free]))))
    if not convex and decrement <= DECREMENT:  # a saddle or a maximum: leave it along negative curvature
        newton = _escape(point.gradient[free], point.hessian[np.ix_(free, free)])
    step[free] = _limited(newton, point.parameters[free])
    return Direction(_within(step, point, bounds, reach), decrement, convex)


def _newton(gradient: Vector, hessian: Vector) -> tuple[Vector, bool]:
    """Return -H⁻¹g with every eigenvalue made positive, and whether they all were."""
    scale, eigenvalues, vectors = scaled_spectrum(hessian)
    least = _LEAST_EIGENVALUE * max(1.0, float(np.abs(eigenvalues).max()))
    positive = np.maximum(np.abs(eigenvalues), least)
    step = -(vectors @ ((vectors.T @ (gradient / scale)) / positive)) / scale
    return step, bool(eigenvalues[0] >= -SINGULAR)


def _escape(gradient: Vector, hessian: Vector) -> Vector:
    """Return one standard error along the direction of most negative curvature, downhill if it slopes."""
    scale, eigenvalues, vectors = scaled_spectrum(hessian)
    away: Vector = vectors[:, 0] / scale / np.sqrt(-eigenvalues[0])
    return -away if gradient @ away > 0 else away


def _limited(step: Vector, parameters: Vector) -> Vector:
    longest = float((np.abs(step) / np.maximum(1.0, np.abs(parameters))).max())
    return step * min(1.0, _LONGEST_STEP / longest) if longest > 0 else step


def _within(step: Vector, point: Point, bounds: Bounds, reach: float) -> Vector:
    """Put what would leave the bounds onto them and solve for the rest, until nothing leaves."""
    moving = step != 0
    result = step.copy()
    while True:
        low = bounds.lower - point.parameters
        high = bounds.upper - point.parameters
        leaving = moving & ((result < low) | (result > high))
        if not leaving.any():
            break
        result[leaving] = reach * np.where(result[leaving] < low[leaving], low[leaving], high[leaving])
        moving = moving & ~leaving
        if moving.any():
            fixed = ~moving
            slope = point.gradient[moving] + point.hessian[np.ix_(moving, fixed)] @ result[fixed]
            result[moving] = _limited(
                _newton(slope, point.hessian[np.ix_(moving, moving)])[0], point.parameters[moving]
            )
    if result @ point.gradient < 0 or not (step @ point.gradient < 0):
        return result
    # The active set lost the descent: go along the unbounded step as far as the first bound.
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step < 0, low / step, np.where(step > 0, high / step, np.inf))
    return step * min(1.0, reach * float(np.nanmin(room)))


async def minimise(
    evaluate: Evaluate,
    start: Point,
    bounds: Bounds,
    *,
    iteration: int = 0,
    n_passes: int = 1,
    max_iterations: int = 100,
) -> AsyncIterator[Progress]:
    """Minimise a function known by one pass a point; yield every accepted point, the start first.

    Parameters
    ----------
    evaluate : callable
        Awaitable; one pass for value, gradient and Hessian at a point within bounds. None if it has none
        there.
    start : Point
        An evaluated point within the bounds.
    bounds : Bounds
        Bounds of the parameters.
    iteration, n_passes : int
        What has been spent before, for a run that is taken up again.
    max_iterations : int
        The iteration at which to give up.

    Yields
    ------
    Progress
        The last one says in `end` why it is the last; if no step was found it repeats the last accepted
        point.
    """
    search = _Search(evaluate, bounds)
    now = Progress(start, direction(start, bounds), iteration, 0, n_passes)
    previous = now
    while True:
        end = _end(now, previous, max_iterations)
        if end is None:
            yield now
            search.n_passes = now.n_passes
            accepted = await search.step(now)
            if accepted is not None:
                previous, now = now, accepted
                continue
            end = "rounding" if _drowns(now.point, now.direction.step) else "stuck"
            now = replace(now, n_passes=search.n_passes)
        if end in {"stationary", "rounding"} and _runs_away(now, previous, start.parameters):
            end = "runaway"
        yield replace(now, end=end)
        return


def _end(now: Progress, previous: Progress, max_iterations: int) -> str | None:
    if now.direction.decrement <= DECREMENT and (now.direction.convex or not now.direction.step.any()):
        return "stationary"
    if _steady(now, previous) and _drowns(now.point, now.direction.step):
        return "rounding"
    return "exhausted" if now.iteration >= max_iterations else None


def _runs_away(now: Progress, previous: Progress, start: Vector) -> bool:
    """Tell whether Newton's steps go on at their old length, far beyond where they have been."""
    travelled = np.maximum(np.abs(now.point.parameters), np.abs(now.point.parameters - start))
    return _steady(now, previous) and bool((np.abs(now.direction.step) > 1e-3 * travelled).any())


def _steady(now: Progress, previous: Progress) -> bool:
    """Tell whether the distance to go no longer shrinks as it does near a minimum, quadratically."""
    return now.iteration > previous.iteration and now.direction.decrement > 0.1 * previous.direction.decrement


def _drowns(point: Point, step: Vector) -> bool:
    """Tell whether the decrease that a step promises is below the rounding of the value."""
    promised = max(abs(float(step @ point.gradient)), abs(float(step @ point.hessian @ step)))
    return promised <= _ROUNDING * (1 + abs(point.value))


class _Search:
    """The choice of a step's length; it remembers passes, and whether bounds can be evaluated."""

    def __init__(self, evaluate: Evaluate, bounds: Bounds) -> None:
        self._evaluate, self._bounds = evaluate, bounds
        self._reach = 1.0
        self.n_passes = 0

    async def step(self, now: Progress) -> Progress | None:
        """Return the next accepted point, or None if no step along the direction lowers the value."""
        point, step = now.point, now.direction.step
        fraction = 1.0
        for halvings in range(_MOST_HALVINGS):
            parameters = self._bounds.clipped(point.parameters + fraction * step)
            if np.array_equal(parameters, point.parameters):
                return None
            trial = await self._evaluate(parameters)
            self.n_passes += 1
            if trial is None:
                fraction *= self._after_failure(point, parameters)
                continue
            ahead = direction(trial, self._bounds, self._reach)
            if self._accepts(now, trial, ahead, fraction):
                suspicious = _contradicts(point, trial)
                return Progress(trial, ahead, now.iteration + 1, halvings, self.n_passes, None, suspicious)
            if _drowns(point, step):
                return None
            fraction *= _shortening(point, trial, fraction * step)
        return None

    def _after_failure(self, point: Point, parameters: Vector) -> float:
        onto = self._bounds.touched(parameters) & ~self._bounds.touched(point.parameters)
        if onto.any() and self._reach == 1.0:
            self._reach = _FRACTION_TO_BOUNDARY
            return _FRACTION_TO_BOUNDARY
        return 0.5

    def _accepts(self, now: Progress, trial: Point, ahead: Direction, fraction: float) -> bool:
        slope = float(fraction * now.direction.step @ now.point.gradient)
        if trial.value <= now.point.value + _SUFFICIENT_DECREASE * slope and trial.value < now.point.value:
            return True
        noise = _ROUNDING * (1 + abs(now.point.value))
        nearer = ahead.decrement < 0.5 * now.direction.decrement
        return nearer and abs(slope) <= noise and trial.value <= now.point.value + noise


def _shortening(point: Point, trial: Point, step: Vector) -> float:
    """Return the factor to the minimum of the cubic through both values and slopes, within [0.1, 0.5].

    Nocedal and Wright, equation 3.59, for the interval [0, 1]. The slope at the trial point came with its
    pass; without it, the parabola is misled by likelihoods that rise to infinity at a bound.
    """
    here, there = float(step @ point.gradient), float(step @ trial.gradient)
    first = here + there - 3 * (trial.value - point.value)
    discriminant = first**2 - here * there
    if discriminant < 0:
        return 0.5
    root = discriminant**0.5
    denominator = there - here + 2 * root
    return min(0.5, max(0.1, 1 - (there + root - first) / denominator)) if denominator > 0 else 0.5


def _contradicts(before: Point, after: Point) -> bool:
    """Tell whether derivatives contradict the values between two points half a standard error apart or less.

    Over so short a step the mean slope must explain the change of the value, and the mean curvature the
    change of the slope; a tenth is far more than a smooth function leaves unexplained. Steps too short to
    show it pass.
    """
    step = after.parameters - before.parameters
    curvature = (before.hessian + after.hessian) / 2
    squared_length = float(step @ curvature @ step)
    rounding = _ROUNDING * (1 + abs(after.value))
    change_of_curvature = abs(float(step @ (after.hessian - before.hessian) @ step))
    if not 1e3 * rounding < squared_length < 0.25 or change_of_curvature > 0.3 * squared_length:
        return False
    mean_slope = float((before.gradient + after.gradient) @ step) / 2
    change_of_slope = float((after.gradient - before.gradient) @ step)
    decrease_unexplained = abs(after.value - before.value - mean_slope)
    return bool(
        decrease_unexplained > 0.1 * squared_length
        or abs(change_of_slope - squared_length) > 0.1 * squared_length
    )
