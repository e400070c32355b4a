"""Names, start and bounds of a model's parameters, checked when they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError

Vector: TypeAlias = NDArray[np.float64]
Bound: TypeAlias = tuple[float | None, float | None]


class Bounds(NamedTuple):
    """Closed lower and upper bounds, infinite where there are none."""

    lower: Vector
    upper: Vector

    def clipped(self, parameters: Vector) -> Vector:
        """Return the parameters within the bounds, exactly on one where only rounding keeps them off it."""
        result = np.clip(parameters, self.lower, self.upper)
        for bound in self:
            result = np.where(np.isclose(result, bound, rtol=1e-15, atol=0), bound, result)
        return result

    def touched(self, parameters: Vector) -> NDArray[np.bool_]:
        """Return which parameters lie exactly on a bound."""
        return np.asarray((parameters == self.lower) | (parameters == self.upper), dtype=np.bool_)

    def to_pairs(self) -> list[list[float | None]]:
        """Return [low, high] for each parameter, None for no bound, as a definition holds it."""
        return [
            [float(bound) if np.isfinite(bound) else None for bound in pair]
            for pair in zip(*self, strict=True)
        ]


def parameter_names(start: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names of the parameters, in the order of `start`."""
    if not isinstance(start, Mapping) or not start or not all(isinstance(name, str) for name in start):
        raise ModelError('start names the parameters and where to begin, for instance {"lambda": 5.0}')
    return tuple(start)


def start_values(start: Mapping[str, float]) -> Vector:
    """Return the start as an array, shape (p,)."""
    for name, value in start.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not np.isfinite(value)
        ):
            raise ModelError(f"the start of {name!r} is no finite number: choose one inside its bounds")
    return np.array([float(value) for value in start.values()])


def declared_bounds(names: tuple[str, ...], start: Vector, bounds: Mapping[str, Bound]) -> Bounds:
    """Return the bounds as arrays, the start being strictly inside."""
    unknown = sorted(set(bounds) - set(names))
    if unknown:
        raise ModelError(
            f"bounds for {', '.join(unknown)}, but the parameters are {', '.join(names)}: rename them"
        )
    pairs = [_bound_pair(name, bounds.get(name, (None, None))) for name in names]
    lower, upper = (np.array(side) for side in zip(*pairs, strict=True))
    for name, value, low, high in zip(names, start, lower, upper, strict=True):
        if not low < value < high:
            raise ModelError(
                f"the start {value:g} of {name!r} is not strictly inside its bounds ({low:g}, {high:g})"
            )
    return Bounds(lower, upper)


def _bound_pair(name: str, pair: Bound) -> tuple[float, float]:
    try:
        low, high = pair
        low, high = -np.inf if low is None else float(low), np.inf if high is None else float(high)
    except (TypeError, ValueError):
        raise ModelError(f"the bounds of {name!r} are a pair (low, high), None for no bound") from None
    if not low < high:
        raise ModelError(f"the bounds of {name!r} are empty: give (low, high) with low < high")
    return low, high
