"""The simplest model: the sum of a function of each holder's data, in one pass.

Who learns what: the coordinator the sum of the function over all holders; every holder the function and `at`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import ArraySpecification, Query
from .definition import Definition, State, fingerprint
from .errors import DataError, ModelError
from .total import Arrays, Total


class Sum:
    """The sum over holders of ``function(data)``, or of ``function(data, at)``.

    Parameters
    ----------
    function : callable
        Returns a number, a truth value, an array of them, a (nested) list, or a pandas Series or DataFrame,
        of the same shape and kind at every holder. Integers and truth values are summed as int64, exactly;
        floats as float64.
    at : array_like, optional
        A public value at which the function is evaluated, the same for all; the function receives a float,
        int or ndarray.
    like : array_like, optional
        Anything of the shape and kind that the function returns: for a plan, which runs nothing. By default a
        float.

    Raises
    ------
    ModelError
        If `function` cannot be called, or `at` is no array of numbers.
    DataError
        If `like` is nothing that can be summed.
    """

    def __init__(self, function: Callable[..., Any], at: Any = None, like: Any = 0.0) -> None:
        if not callable(function):
            raise ModelError(
                f"there is nothing to sum: {type(function).__name__} is no function of (data) or (data, at)"
            )
        self._function = function
        self._at = None if at is None else _public_value(at)
        self._like = _numbers(like, "like is")

    @property
    def definition(self) -> Definition:
        """The function's fingerprint; `at` belongs to the query."""
        return Definition("Sum", {"function": fingerprint(self._function)})

    @property
    def expected_passes(self) -> int:
        """One."""
        return 1

    def specifications(self) -> tuple[ArraySpecification, ...]:
        """Return the one array, of the shape and kind of `like`."""
        return (ArraySpecification(name="sum", dtype=self._like.dtype.name, shape=self._like.shape),)

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return ``{"sum": function(data)}``, as int64 or float64.

        Raises
        ------
        DataError
            If the function returns something that cannot be summed; its type is named, never its value.
        """
        if query.step != "sum":
            raise ModelError(f"the query {query.step!r} is none of a Sum")
        at = query.arrays.get("at")
        value = (
            self._function(data) if at is None else self._function(data, at.copy() if at.ndim else at.item())
        )
        return {"sum": _numbers(value)}

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | NDArray[Any]]:
        """Yield the sum, an ndarray of the shape that the function returns."""
        arrays: Mapping[str, NDArray[Any]] = {} if self._at is None else {"at": self._at}
        yield (await total(Query("sum", arrays)))["sum"]


def _public_value(at: Any) -> NDArray[Any]:
    value = np.array(at)
    if value.dtype.kind not in "biuf":
        raise ModelError(f"at is {type(at).__name__}: give a number or an array of numbers")
    return value


def _numbers(value: Any, source: str = "the function returned") -> NDArray[Any]:
    try:
        result = np.asarray(value)
    except ValueError:  # a ragged list
        result = np.empty(0, dtype=object)
    if result.dtype.kind in "bi" or (result.dtype.kind == "u" and result.dtype.itemsize < 8):
        return result.astype(np.int64)
    if result.dtype.kind == "f":
        return result.astype(np.float64)
    found = f"{type(value).__name__} ({_contents(result)})"
    raise DataError(f"{source} {found}: numbers or an array of them can be summed")


def _contents(result: NDArray[Any]) -> str:
    return "of unequal lengths or no numbers" if result.dtype.kind == "O" else f"of {result.dtype}"
