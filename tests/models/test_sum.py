"""The sum of a function over holders, in one pass."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tacit.models.definition import State
from tacit.models.errors import DataError, ModelError
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.sum import Sum
from tacit.models.total import Arrays, pooled
from tacit.serialization.session_messages import Query

DATA = [[1, 2, 3], [4], [5, 6]]


def summed(model: Sum, datasets: list[Any]) -> NDArray[Any]:
    async def collect() -> list[State | NDArray[Any]]:
        return [item async for item in model.iterate(pooled(model, datasets))]

    (result,) = asyncio.run(collect())
    assert isinstance(result, np.ndarray)
    return result


def test_counts_stay_integers() -> None:
    result = summed(Sum(len), DATA)
    assert result == 6
    assert result.dtype == np.int64
    assert result.shape == ()


def test_truth_values_are_counted() -> None:
    assert summed(Sum(lambda data: sum(data) > 5), DATA) == 2
    assert summed(Sum(lambda data: sum(data) > 5), DATA).dtype == np.int64


@pytest.mark.parametrize(
    "function",
    [
        lambda data: [float(sum(data)), float(len(data))],
        lambda data: np.array([sum(data), len(data)], dtype=np.float32),
        lambda data: pd.Series({"sum": float(sum(data)), "n": float(len(data))}),
        lambda data: (np.float64(sum(data)), np.float64(len(data))),
    ],
)
def test_lists_arrays_and_series_are_float64(function: Any) -> None:
    result = summed(Sum(function), DATA)
    assert result.tolist() == [21.0, 6.0]
    assert result.dtype == np.float64


def test_a_data_frame_keeps_its_shape() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    result = summed(Sum(lambda data: frame * len(data)), DATA)
    assert result.tolist() == [[6, 18], [12, 24]]
    assert result.dtype == np.int64


def test_the_likelihood_of_three_sites_at_a_point(poisson_reference: dict[str, Any]) -> None:
    table = poisson_reference["nll_table"]
    sites = list(poisson_sites().values())
    for theta, expected in zip(table["lambda"], table["overall"], strict=True):
        value = summed(Sum(lambda data, at: poisson_nll(at, data), at=[theta]), sites)
        assert float(value) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("at", [2.5, 2, True, [1.0, 2.0], np.ones((2, 2))])
def test_the_point_arrives_as_it_was_given(at: Any) -> None:
    seen: list[Any] = []

    def function(data: list[int], point: Any) -> float:
        seen.append(point)
        return 0.0

    summed(Sum(function, at), DATA)
    np.testing.assert_array_equal(seen[0], at)
    assert type(seen[0]) is (np.ndarray if np.ndim(at) else type(at))


def test_one_query_that_may_not_fail() -> None:
    queries: list[Query] = []

    async def total(query: Query) -> Arrays:
        queries.append(query)
        return {"sum": np.zeros(())}

    async def collect() -> list[Any]:
        return [item async for item in Sum(len).iterate(total)]

    asyncio.run(collect())
    assert [(query.step, query.may_fail, dict(query.arrays)) for query in queries] == [("sum", False, {})]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("text", "str"), (None, "NoneType"), ({"a": 1}, "dict"), ([[1.0], [1.0, 2.0]], "list"), (1j, "complex")],
)
def test_what_cannot_be_summed_is_named_by_its_type(value: Any, kind: str) -> None:
    with pytest.raises(DataError, match=f"the function returned {kind}"):
        Sum(lambda data: value).contribution([], Query("sum"))


def test_a_number_too_large_for_int64_is_refused() -> None:
    with pytest.raises(DataError, match="int"):
        Sum(lambda data: 2**70).contribution([], Query("sum"))


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="data set 2 is not finite"):
        summed(Sum(lambda data: np.inf if len(data) == 2 else 1.0), DATA)


def test_an_error_of_the_function_is_shown() -> None:
    with pytest.raises(ZeroDivisionError):
        summed(Sum(lambda data: 1 / 0), DATA)


def test_what_is_no_function_or_no_point_is_refused() -> None:
    with pytest.raises(ModelError, match="int is no function"):
        Sum(3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="at is str"):
        Sum(len, at="here")


def test_a_foreign_query_is_refused() -> None:
    with pytest.raises(ModelError, match="none of a Sum"):
        Sum(len).contribution([], Query("trial"))


def test_the_definition_is_the_functions() -> None:
    assert Sum(len).definition == Sum(len, at=1.0).definition
    assert Sum(len).definition != Sum(sum).definition


# Before anything runs.


@pytest.mark.parametrize("like", [0.0, 3, True, [1.0, 2.0], np.zeros((2, 3), dtype=np.float32)])
def test_a_plan_takes_the_shape_and_kind_of_what_it_is_given(like: Any) -> None:
    model = Sum(lambda data: like, like=like)
    (specification,) = model.specifications()
    found = model.contribution(None, Query("sum"))[specification.name]
    assert (specification.dtype, specification.shape) == (found.dtype.name, found.shape)
    assert model.expected_passes == 1


def test_what_a_plan_assumes_is_no_part_of_the_definition() -> None:
    assert Sum(len, like=0).definition == Sum(len).definition


def test_a_plan_of_what_cannot_be_summed_is_refused() -> None:
    with pytest.raises(DataError, match="like is str"):
        Sum(len, like="a text")
