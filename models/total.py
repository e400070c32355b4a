"""What a model awaits, and what it asks of each holder.

A model's iteration awaits a `Total`: given a query it returns the sum of all contributions, array by array; the
arrays are the model's own, to be overwritten. A query's are not any more: they may be on their way still. It cannot
tell whether the sum came from a protocol over a network or from `pooled`, which adds over a plain list with no protocol
at all: the tool of unit tests, and the reference for every protocol. `contribute` is the rule by which a holder, in a
protocol or in `pooled`, runs its contribution.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import Query
from .errors import DataError, EvaluationError, ModelError

__all__ = ["Arrays", "Contributor", "EvaluationError", "Total", "contribute", "could_not_evaluate", "pooled"]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Total: TypeAlias = Callable[[Query], Awaitable[Arrays]]

# What `math` says outside a function's domain: before Python 3.14, and since.
_DOMAIN_MESSAGES = ("math domain error", "expected a ")


class Contributor(Protocol):
    """The half of a model that runs at a holder."""

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return this holder's arrays for the query."""
        ...


def could_not_evaluate(error: BaseException) -> bool:
    """Tell whether an exception means "no finite value here" rather than a mistake in the function.

    True for `ArithmeticError` (overflow, division by zero, floating point), for `numpy`'s `LinAlgError`
    (a matrix that is not positive definite at this point) and for the `ValueError` that `math` raises outside
    a function's domain. Everything else is the user's own error and must be shown to him.
    """
    if isinstance(error, ArithmeticError | np.linalg.LinAlgError):
        return True
    return type(error) is ValueError and str(error).startswith(_DOMAIN_MESSAGES)


def contribute(model: Contributor, data: Any, query: Query) -> Arrays:
    """Run a model's contribution at a holder and bring it into the form that protocols sum.

    Parameters
    ----------
    model : Contributor
        The model; only its `contribution` is used.
    data : Any
        This holder's rows, as the model expects them.
    query : Query
        What the coordinator asks. One that `may_fail` runs without numpy's warnings.

    Returns
    -------
    mapping of str to ndarray
        Booleans and integers as int64 (they stay integers under every protocol), floats in their own precision, shapes
        kept. What is not finite stays in its place: a holder that voids a session in secret must announce the same
        shapes as the others, so a model answers a query that may fail with NaN, never with an exception.

    Raises
    ------
    ModelError
        If the contribution is not a mapping of names to arrays of numbers.
    Exception
        Whatever the contribution raises: it is the user's own.
    """
    with np.errstate(all="ignore" if query.may_fail else "warn"):
        return _checked(model.contribution(data, query))


def _checked(arrays: Arrays) -> dict[str, NDArray[Any]]:
    if not isinstance(arrays, Mapping):
        raise ModelError(f"a contribution is a mapping of names to arrays, not {type(arrays).__name__}")
    return {name: _summable(name, array) for name, array in arrays.items()}


def _summable(name: str, array: Any) -> NDArray[Any]:
    result = np.asarray(array)
    if result.dtype.kind in "bi" or (result.dtype.kind == "u" and result.dtype.itemsize < 8):
        return result.astype(np.int64)
    if result.dtype.kind == "f" and result.dtype.itemsize <= 8:
        return result
    raise ModelError(f"the array {name!r} holds {result.dtype}: return float64 or int64, which can be summed")


def pooled(model: Contributor, datasets: Sequence[Any]) -> Total:
    """Return the `Total` over a plain list of data sets, with no protocol at all.

    Sums of floats are exact and rounded once, sums of integers exact, so the result equals, bit for bit, what
    a protocol with the `ExactFloat` encoding gives.

    Parameters
    ----------
    model : Contributor
        The model whose contributions are summed.
    datasets : sequence
        One data set a holder.

    Returns
    -------
    Total
        Raises `EvaluationError` if any holder could not evaluate a query that may fail, `DataError` if a
        value of another query is not finite, a total is out of range, or the contributions differ in names,
        shapes or dtypes.
    """

    async def total(query: Query) -> Arrays:
        contributions = []
        for data in datasets:
            arrays = contribute(model, data, query)
            if query.may_fail and not all(np.isfinite(array).all() for array in arrays.values()):
                raise EvaluationError
            contributions.append(arrays)
        return _sum(contributions)

    return total


def _sum(contributions: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    if not contributions:
        raise DataError("there is no data set to sum over")
    forms = [{name: (a.shape, a.dtype.str) for name, a in arrays.items()} for arrays in contributions]
    for index, form in enumerate(forms):
        if form != forms[0]:
            raise DataError(
                f"data set {index} contributes {form}, data set 0 {forms[0]}: return the same arrays"
            )
    return {name: _sum_arrays(name, [c[name] for c in contributions]) for name in contributions[0]}


def _sum_arrays(name: str, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    for index, array in enumerate(arrays):
        if not np.isfinite(array).all():
            raise DataError(f"the array {name!r} of data set {index} is not finite")
    dtype = arrays[0].dtype
    add = _exact_integer_sum if dtype.kind == "i" else _exact_float_sum
    columns = zip(*(array.ravel().tolist() for array in arrays), strict=True)
    try:
        with np.errstate(over="raise"):
            return np.array([add(column) for column in columns], dtype=dtype).reshape(arrays[0].shape)
    except (OverflowError, FloatingPointError):
        raise DataError(f"the sum of the arrays {name!r} is beyond the range of {dtype}") from None


def _exact_integer_sum(values: Sequence[int]) -> int:
    return sum(values)


def _exact_float_sum(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) + 0.0  # a zero sum is +0.0
    except OverflowError:  # fsum may overflow on the way to a total that does not
        return float(sum(map(Fraction, values)))
