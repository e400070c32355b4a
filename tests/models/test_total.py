"""The sum that a model awaits: exact, and honest about who could not evaluate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.models.errors import DataError, EvaluationError, ModelError
from tacit.models.total import Arrays, contribute, could_not_evaluate, pooled
from tacit.serialization.session_messages import Query

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=64)


class Returning:
    """A model whose contribution is a function of the data."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def contribution(self, data: Any, query: Query) -> Arrays:
        return {"x": self._function(data)}


def total_of(function: Callable[[Any], Any], datasets: list[Any], *, may_fail: bool = False) -> NDArray[Any]:
    total = pooled(Returning(function), datasets)
    return asyncio.run(_awaited(total(Query("sum", may_fail=may_fail))))["x"]


async def _awaited(arrays: Any) -> Arrays:
    result: Arrays = await arrays
    return result


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.lists(FLOATS, min_size=2, max_size=2), min_size=1, max_size=6))
def test_floats_are_summed_exactly_and_rounded_once(datasets: list[list[float]]) -> None:
    exact = [sum(map(Fraction, column)) for column in zip(*datasets, strict=True)]
    try:
        expected = [float(value) for value in exact]
    except OverflowError:
        with pytest.raises(DataError, match="beyond the range"):
            total_of(np.array, datasets)
    else:
        np.testing.assert_array_equal(total_of(np.array, datasets), expected)


def test_a_zero_sum_is_positive_zero() -> None:
    assert math.copysign(1, float(total_of(np.array, [-0.0, -0.0]))) == 1


def test_an_overflow_on_the_way_is_none_at_the_end() -> None:
    assert total_of(np.array, [1.7e308, 1.7e308, -1.7e308]) == 1.7e308


def test_integers_and_truth_values_stay_integers() -> None:
    assert total_of(np.array, [2**62, 3]).dtype == np.int64
    assert total_of(np.array, [2**62, 3]) == 2**62 + 3
    assert total_of(np.array, [[True, False], [True, True]]).tolist() == [2, 1]


def test_single_precision_stays_single_precision() -> None:
    assert total_of(np.float32, [0.5, 0.25]).dtype == np.float32


def test_an_integer_total_out_of_range_is_an_error() -> None:
    with pytest.raises(DataError, match="beyond the range"):
        total_of(np.array, [2**62, 2**62])


def test_shapes_are_kept() -> None:
    assert total_of(np.array, [np.ones((2, 0, 3)), np.ones((2, 0, 3))]).shape == (2, 0, 3)
    assert total_of(np.array, [1.0, 2.0]).shape == ()


def test_different_shapes_or_kinds_are_an_error() -> None:
    with pytest.raises(DataError, match="data set 1"):
        total_of(np.array, [[1.0], [1.0, 2.0]])
    with pytest.raises(DataError, match="data set 1"):
        total_of(np.array, [1.0, 2])


def test_a_query_that_may_not_fail_names_the_data_set_that_is_not_finite() -> None:
    with pytest.raises(DataError, match="data set 1 is not finite"):
        total_of(np.array, [1.0, float("nan")])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_query_that_may_fail_names_nobody(value: float) -> None:
    with pytest.raises(EvaluationError, match="unnamed"):
        total_of(np.array, [1.0, value], may_fail=True)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_not_finite_stays_in_its_place(value: float) -> None:
    arrays = contribute(Returning(lambda _: np.array([1.0, value])), 0, Query("trial", may_fail=True))
    assert next(iter(arrays.values())).tolist() == pytest.approx([1.0, value], nan_ok=True)


@pytest.mark.parametrize("function", [lambda _: int("x"), lambda data: data["x"], lambda data: data + "x"])
def test_a_mistake_is_shown_even_if_the_query_may_fail(function: Callable[[Any], Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        contribute(Returning(function), 0, Query("trial", may_fail=True))


def test_failing_arithmetic_is_shown_if_the_query_may_not_fail() -> None:
    with pytest.raises(ZeroDivisionError):
        contribute(Returning(lambda _: 1 / 0), 0, Query("sum"))


def test_warnings_of_numpy_are_silent_at_a_trial_point() -> None:
    arrays = contribute(Returning(lambda _: np.log(np.zeros(1))), 0, Query("trial", may_fail=True))
    assert np.isneginf(next(iter(arrays.values())))


def test_what_is_no_array_of_numbers_is_refused_by_its_kind() -> None:
    with pytest.raises(ModelError, match="'x' holds <U3"):
        contribute(Returning(lambda _: "row"), 0, Query("sum"))
    with pytest.raises(ModelError, match="'x' holds uint64"):
        contribute(Returning(lambda _: np.uint64(1)), 0, Query("sum"))


def test_a_contribution_is_a_mapping() -> None:
    class Bare:
        def contribution(self, data: Any, query: Query) -> Any:
            return np.ones(2)

    with pytest.raises(ModelError, match="mapping of names to arrays, not ndarray"):
        contribute(Bare(), 0, Query("sum"))


def test_an_error_of_the_domain_is_told_from_others() -> None:
    assert could_not_evaluate(ValueError("math domain error"))
    assert could_not_evaluate(ValueError("expected a positive input"))  # Python 3.14
    assert not could_not_evaluate(ValueError("invalid literal"))
    assert not could_not_evaluate(UnicodeDecodeError("utf-8", b"", 0, 1, "expected a start"))


def test_no_data_sets_have_no_sum() -> None:
    with pytest.raises(DataError, match="no data set"):
        total_of(np.array, [])
