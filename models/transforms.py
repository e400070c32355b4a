"""Transforms whose parameters depend on all rows: centring, scaling, orthogonal polynomials, splines.

Their parameters are agreed on by secure sums, stage by stage: `wanted` tells how many sums a transform
needs next, `sums` computes them at a holder, `advanced` takes their totals at the coordinator. A state is JSON.

Knots at quantiles and at the smallest and largest value would disclose single rows, so splines take theirs
from the formula.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .columns import Numbers
from .errors import DataError, ModelError

State: TypeAlias = Mapping[str, Any]

_HIGHEST = 30  # degree; beyond it no column is anything but rounding


class Transform(ABC):
    """A transform and its parameters as the formula gives them."""

    several_columns = False  # does it make more than one?

    @property
    @abstractmethod
    def n_passes(self) -> int:
        """How many passes its state takes."""

    @abstractmethod
    def initial(self) -> State:
        """Return what the formula alone determines."""

    @abstractmethod
    def wanted(self, state: State) -> int:
        """Return how many sums are needed next; 0 if the state is complete."""

    @abstractmethod
    def sums(self, x: Numbers, state: State) -> Numbers:
        """Return a holder's share in the sums wanted, over the values of its argument, none missing."""

    @abstractmethod
    def advanced(self, state: State, sums: Numbers) -> State:
        """Return the state after the sums that were wanted; ModelError if they determine none."""

    @abstractmethod
    def apply(self, x: Numbers, state: State) -> Any:
        """Return the transformed values: (n,) numbers, or formulaic's several columns."""


@dataclass(frozen=True)
class Scale(Transform):
    """``center(x)``, ``scale(x)`` and ``standardize(x)``: (x - mean) / sqrt(sum (x - mean)^2 / (n - ddof)).

    The mean is that of all values of x, also in rows where other columns lack theirs: so is R's.
    """

    center: bool | float = True
    scale: bool | float = True
    ddof: float = 1

    @property
    def n_passes(self) -> int:
        """One for the mean, one for the deviations from it."""
        return (self.center is True) + (self.scale is True)

    def initial(self) -> State:
        """Return the centre and the scale that are given as numbers or left out."""
        if not all(isinstance(value, bool | int | float) for value in (self.center, self.scale, self.ddof)):
            raise ModelError("scale() and standardize() take numbers, True or False")
        given = {"center": self.center, "scale": self.scale}
        return {name: None if value is False else value for name, value in given.items() if value is not True}

    def wanted(self, state: State) -> int:
        """Return 2, the number of values and a sum of them, until centre and scale are known."""
        return 0 if {"center", "scale"} <= set(state) else 2

    def sums(self, x: Numbers, state: State) -> Numbers:
        """Return n and sum x; once the centre is known, n and sum (x - centre)^2."""
        if "center" not in state:
            return np.array([len(x), x.sum()])
        return np.array([len(x), np.square(self._centred(x, state)).sum()])

    def advanced(self, state: State, sums: Numbers) -> State:
        """Return the state with one more parameter."""
        number, total = sums.tolist()
        if "center" not in state:
            if number == 0:
                raise ModelError("a column to be centred has no value at any holder")
            return {**state, "center": total / number}
        if number <= self.ddof or total == 0:
            raise ModelError("a column to be scaled is constant over all holders: leave it out")
        return {**state, "scale": math.sqrt(total / (number - self.ddof))}

    def apply(self, x: Numbers, state: State) -> Numbers:
        """Return the centred and scaled values."""
        centred = self._centred(x, state)
        return centred if state["scale"] is None else centred / state["scale"]

    def _centred(self, x: Numbers, state: State) -> Numbers:
        return x if state["center"] is None else x - state["center"]


@dataclass(frozen=True)
class Polynomials(Transform):
    """``poly(x, degree)``: polynomials orthonormal over all rows, by their three-term recurrence.

    Stage k sums x P_k^2 and P_k^2 of the monic P_k, which give the coefficients of P_(k+1).
    """

    degree: int = 1
    raw: bool = False
    several_columns = True

    @property
    def n_passes(self) -> int:
        """One a degree, and one for the last norm."""
        return 0 if self.raw else self.degree + 1

    def initial(self) -> State:
        """Return no coefficients."""
        if (
            isinstance(self.degree, bool)
            or not isinstance(self.degree, int)
            or not 1 <= self.degree <= _HIGHEST
        ):
            raise ModelError(f"poly() takes a degree from 1 to {_HIGHEST}")
        return {"alpha": [], "norms2": []}

    def wanted(self, state: State) -> int:
        """Return 2 until there is a norm for each degree."""
        return 0 if self.raw or len(state["norms2"]) > self.degree else 2

    def sums(self, x: Numbers, state: State) -> Numbers:
        """Return sum x P_k^2 and sum P_k^2."""
        before, current = np.zeros(len(x)), np.ones(len(x))
        norms2 = [*state["norms2"]]
        for k, alpha in enumerate(state["alpha"]):
            beta = norms2[k] / norms2[k - 1] if k else 0.0
            before, current = current, (x - alpha) * current - beta * before
        square = np.square(current)
        return np.array([(x * square).sum(), square.sum()])

    def advanced(self, state: State, sums: Numbers) -> State:
        """Return the state with one more coefficient and norm."""
        first, norm2 = sums.tolist()
        if norm2 <= self._rounding(state):
            raise ModelError(
                "poly() has a degree that the number of different values over all holders forbids"
            )
        return {"alpha": [*state["alpha"], first / norm2], "norms2": [*state["norms2"], norm2]}

    def _rounding(self, state: State) -> float:
        """Return what may be left of a sum of P_k^2 that is 0, were it not for rounding."""
        alpha, norms2 = state["alpha"], state["norms2"]
        if not norms2:
            return 0.0
        size2 = norms2[1] / norms2[0] if len(norms2) > 1 else alpha[0] ** 2
        return float(1e-24 * norms2[-1] * size2)

    def apply(self, x: Numbers, state: State) -> Any:
        """Return the orthonormal polynomials of degree 1 and more; with ``raw`` the powers."""
        from formulaic.transforms import poly  # noqa: PLC0415

        coefficients = {name: dict(enumerate(values)) for name, values in state.items()}
        return poly(x, self.degree, raw=self.raw, _state=coefficients)


@dataclass(frozen=True)
class Spline(Transform):
    """``bs(x, ...)``, ``cr(x, ...)`` and ``cc(x, ...)`` with declared knots."""

    name: str
    parameters: Mapping[str, Any]
    several_columns = True

    @property
    def n_passes(self) -> int:
        """One if the columns shall have mean zero."""
        return int(self._is_centred())

    def initial(self) -> State:
        """Return the knots, padded as formulaic keeps them; the means of the columns are still unknown."""
        if not {"lower_bound", "upper_bound"} <= set(self.parameters) or self._knots_are_open():
            raise ModelError(
                f"{self.name}() has knots that depend on single rows, which holders do not tell: "
                "declare knots=[...], lower_bound= and upper_bound="
            )
        if self.parameters.get("degree", 0) > _HIGHEST:
            raise ModelError(f"{self.name}() takes a degree up to {_HIGHEST}")
        if self.parameters.get("extrapolation") == "na":
            raise ModelError(
                f"{self.name}() with extrapolation='na' would drop rows: take 'clip' or 'extend'"
            )
        bounds = np.array([self.parameters["lower_bound"], self.parameters["upper_bound"]], dtype=np.float64)
        if bounds.shape != (2,) or not np.isfinite(bounds).all():
            raise ModelError(f"{self.name}() has bounds that are no finite numbers")
        state: dict[str, Any] = {}
        try:
            self._evaluate(bounds, state, self._unconstrained())
        except (TypeError, ValueError) as error:
            raise ModelError(f"{self.name}() cannot be used as it is written: {error}") from None
        return {
            name: float(value) if name.endswith("bound") else np.asarray(value).tolist()
            for name, value in state.items()
        }

    def wanted(self, state: State) -> int:
        """Return 1 + q once, if the q columns shall have mean zero."""
        if not self._is_centred() or state["constraints"] is not None:
            return 0
        return 1 + len(state["knots"]) - (self.name == "cc")

    def sums(self, x: Numbers, state: State) -> Numbers:
        """Return n and the sums of the columns."""
        columns = self._evaluate(x, dict(state), self._unconstrained())
        return np.array([len(x), *(values.sum() for values in columns.values())])

    def advanced(self, state: State, sums: Numbers) -> State:
        """Return the state with the means of the columns, which are the constraint."""
        if sums[0] == 0:
            raise ModelError(f"{self.name}() has no value at any holder")
        return {**state, "constraints": [(sums[1:] / sums[0]).tolist()]}

    def apply(self, x: Numbers, state: State) -> Any:
        """Return the columns of the basis."""
        constraints = state.get("constraints")
        full = {**state, "constraints": None if constraints is None else np.array(constraints)}
        return self._evaluate(x, full, self.parameters)

    def _evaluate(self, x: Numbers, state: dict[str, Any], parameters: Mapping[str, Any]) -> Any:
        from formulaic.transforms import TRANSFORMS  # noqa: PLC0415

        try:
            return TRANSFORMS[self.name](x, **parameters, _state=state)
        except ValueError as error:
            if "extrapolation" not in str(error) and "beyond" not in str(error):
                raise
            raise DataError(
                f"{self.name}() has values beyond its bounds: widen them, or give extrapolation='extend'"
            ) from None

    def _knots_are_open(self) -> bool:
        if self.parameters.get("knots") is not None:
            return False
        degree = self.parameters.get("degree", 3) + bool(self.parameters.get("include_intercept"))
        return self.name != "bs" or self.parameters.get("df") not in {None, degree}

    def _is_centred(self) -> bool:
        return isinstance(self.parameters.get("constraints"), str)

    def _unconstrained(self) -> Mapping[str, Any]:
        return {**self.parameters, "constraints": None} if self._is_centred() else self.parameters


def _spline(name: str) -> Callable[..., Transform]:
    order = ["df", "knots", "degree", "include_intercept", "lower_bound", "upper_bound", "extrapolation"]
    if name != "bs":
        order = ["df", "knots", "lower_bound", "upper_bound", "constraints", "extrapolation"]

    def make(*values: Any, **named: Any) -> Transform:
        given = dict(zip(order, values, strict=False))
        if len(values) > len(order) or set(named) - set(order) or set(named) & set(given):
            raise TypeError(f"its parameters are {', '.join(order)}")
        return Spline(name, {**given, **named})

    return make


def _standardize(center: bool = True, rescale: bool = True, ddof: float = 0) -> Transform:
    return Scale(center, rescale, ddof)


def _center() -> Transform:
    return Scale(scale=False)


TRANSFORMS: Mapping[str, Callable[..., Transform]] = {
    "center": _center,
    "scale": Scale,
    "standardize": _standardize,
    "poly": Polynomials,
    "bs": _spline("bs"),
    "cr": _spline("cr"),
    "cs": _spline("cr"),
    "cc": _spline("cc"),
}
