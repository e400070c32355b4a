"""The simplest model: the sum of a function of each holder's data, in one pass.

Who learns what: the coordinator the sum of the function over all holders; every holder the function and `at`.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..privacy.clipping import rows_by_unit
from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from ..privacy.noised_sum import NoisedSum
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
        self.noised: NoisedSum | None = None

    @property
    def at(self) -> NDArray[Any] | None:
        """Where the function is evaluated; None where it takes the data alone."""
        return self._at

    def evaluated_at(self, at: Any) -> Sum:
        """Return the sum of the same function at another public value: one definition may be asked at any.

        Raises
        ------
        ModelError
            If `at` is no array of numbers.
        """
        elsewhere = copy.copy(self)
        elsewhere._at = _public_value(at)
        return elsewhere

    def with_privacy(self, privacy: Privacy) -> Sum:
        """Return the sum over units, clipped and with noise: under privacy the function returns one entry a record.

        What it returns has the shape (n, *like.shape), for the unit "holder" `like.shape` alone. A person's entries are
        added before they are clipped; the rows are then a data frame with the person's column. An entry that is not
        finite or names no person counts as absent, for a refusal would tell of it. **That an entry is of one record is
        the function's word**, and so is that it raises nothing that depends on rows: nobody checks it.

        Raises
        ------
        PrivacyError
            If the guarantee is none for one sum.
        """
        if privacy.sampling < 1:
            raise PrivacyError("a sum over some of the records is no sum: leave out sampling")
        private = copy.copy(self)
        private.noised = NoisedSum(privacy=privacy, dimension=self._like.size, rounds=1)
        return private

    @property
    def definition(self) -> Definition:
        """The function's fingerprint, and the privacy; `at` belongs to the query."""
        parameters: dict[str, Any] = {"function": fingerprint(self._function)}
        if self.noised is not None:
            parameters |= {"privacy": self.noised.to_dict(), "shape": list(self._like.shape)}
        return Definition("Sum", parameters)

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
        if self.noised is not None:
            return {"noised": self.noised.clipped_sum(self._units(value, data, self.noised.privacy))}
        return {"sum": _numbers(value)}

    def _units(self, value: Any, data: Any, privacy: Privacy) -> NDArray[np.float64]:
        """Return what each unit puts in, one row each."""
        entries = _numbers(value).astype(np.float64)
        if privacy.unit == "holder":
            entries = entries[None]
        if entries.ndim == 0 or entries.shape[1:] != self._like.shape:
            raise DataError(
                f"under privacy the function returns one entry of shape {self._like.shape} a record, and it "
                f"returned shape {entries.shape}: return the records' own values and not their sum, or give shape="
            )
        rows = entries.reshape(len(entries), self._like.size)
        return rows_by_unit(rows, None if privacy.person is None else persons_of(data, privacy.person))

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | NDArray[Any]]:
        """Yield the sum, an ndarray of the shape that the function returns."""
        arrays: Mapping[str, NDArray[Any]] = {} if self._at is None else {"at": self._at}
        sums = await total(Query("sum", arrays))
        yield sums["sum"] if self.noised is None else sums["noised"].reshape(self._like.shape)


def persons_of(data: Any, column: str) -> NDArray[Any]:
    """Return whose rows these are: the column of a data frame that says so, as objects.

    Raises
    ------
    DataError
        If there is none.
    """
    if column not in getattr(data, "columns", ()):
        raise DataError(
            f"the rows have no column {column!r} that says whose they are: give a data frame with it"
        )
    return np.asarray(data[column], dtype=np.object_)


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
