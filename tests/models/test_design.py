"""Designs that holders agree on: the columns are those of the pooled rows, whoever has which."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import formulaic
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.models.definition import Definition
from tacit.models.design import Design, DesignRows
from tacit.models.design_agreement import DesignAgreement
from tacit.models.errors import DataError, ModelError
from tacit.models.formula import Formula
from tacit.models.total import Arrays, contribute, pooled
from tacit.serialization.session_messages import Query

RANDOM = np.random.default_rng(20)
N = 60
ROWS = pd.DataFrame(
    {
        "y": RANDOM.normal(size=N),
        "x": RANDOM.gamma(4.0, size=N),
        "z": RANDOM.normal(1950.0, 5.0, size=N),
        "k": RANDOM.choice(["a", "b", "c"], size=N),
        "j": RANDOM.integers(1, 4, size=N),
        "flag": RANDOM.random(N) < 0.5,
        "n": RANDOM.integers(1, 9, size=N),
    }
).sort_values("k")  # so that the parts below lack levels
PARTS = [ROWS.iloc[:25], ROWS.iloc[25:27], ROWS.iloc[27:], ROWS.iloc[:0]]


def agreed(formula: str, parts: Sequence[Any] = PARTS, **options: Any) -> Design:
    agreement = DesignAgreement(Formula(formula), **options)
    return asyncio.run(agreement.agree(pooled(agreement, parts)))


def stacked(design: Design, parts: Sequence[Any] = PARTS) -> np.ndarray[Any, Any]:
    return np.vstack([design.rows(part).x for part in parts])


@pytest.mark.parametrize(
    "terms",
    [
        "1",
        "x + z",
        "k * x",
        "0 + k + x",
        "k:x",
        "k * C(j) - k",
        "(k + x + flag)**2",
        "C(j, Treatment(2)) + C(k, contr.sum):np.log(x)",
        "C(k, levels=['c', 'a', 'b']) + C(j, Helmert) + C(j > 1)",
        "C(k, Poly) + C(j, Diff) + C(j, [[1], [0], [-1]])",
        "center(z) + scale(x) + standardize(z) + scale(x, 2.5, False)",
        "scale(center(z) ** 2) + center(np.log(x)) + center(z)",
        "poly(x, 3) + poly(z, 2, raw=True)",
        "bs(x, knots=[3, 5], lower_bound=0, upper_bound=20)",
        "bs(z, degree=2, lower_bound=1900, upper_bound=2000, include_intercept=True) + k",
        "cr(x, knots=[3, 5], lower_bound=0.5, upper_bound=15) - 1",
        "cc(x, knots=[3, 5], lower_bound=0, upper_bound=20, constraints='center')",
        "cr(scale(x), knots=[0.5], lower_bound=-3, upper_bound=6, constraints='center')",
        "I(k == 'a') + 2:x + x:z",
    ],
)
def test_columns_are_those_of_the_pooled_rows(terms: str) -> None:
    design = agreed(f"y ~ {terms}")
    whole = formulaic.model_matrix(terms, ROWS)
    expected = np.asarray(whole, dtype=np.float64)
    assert design.names == tuple(whole.columns)
    np.testing.assert_allclose(stacked(design), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("terms", ["k * C(j) + scale(x)", "poly(x, 3)", "center(z)"])
def test_every_row_is_the_same_to_the_bit_wherever_it_is_held(terms: str) -> None:
    design = agreed(f"y ~ {terms}")
    np.testing.assert_array_equal(stacked(design), design.rows(ROWS).x)


def test_a_level_absent_at_a_holder_is_a_column_of_zeros() -> None:
    design = agreed("y ~ k")
    assert design.names == ("Intercept", "k[T.b]", "k[T.c]")
    assert (design.rows(PARTS[0]).x[:, 2] == 0).all()
    assert design.rows(PARTS[3]).x.shape == (0, 3)


def test_moments_are_those_of_the_pooled_columns() -> None:
    design = agreed("y ~ k + z + scale(x)")
    columns = stacked(design)
    np.testing.assert_allclose(design.column_means[1:], columns[:, 1:].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(design.column_scales[1:], columns[:, 1:].std(axis=0), rtol=1e-9)
    assert (design.column_means[0], design.column_scales[0]) == (0.0, 1.0)
    assert design.has_intercept
    assert design.nobs == N


def test_a_constant_column_keeps_its_scale() -> None:
    design = agreed("y ~ 0 + I(0.1) + x")
    assert not design.has_intercept
    assert design.column_means[0] == pytest.approx(0.1)
    assert design.column_scales[0] == 1.0


# Levels and their order.


def test_declared_levels_come_in_their_order_and_cost_no_pass() -> None:
    agreement = DesignAgreement(Formula("y ~ k + C(j)"), levels={"k": ["c", "a", "b"], "j": [3, 2, 1]})
    design = asyncio.run(agreement.agree(pooled(agreement, PARTS)))
    assert design.names == ("Intercept", "k[T.a]", "k[T.b]", "C(j)[T.2]", "C(j)[T.1]")
    assert agreement.n_passes == agreement.expected_passes == 1


def categories(values: list[Any], order: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"y": 1.0, "k": pd.Categorical(values, order)})


@pytest.mark.parametrize(
    ("parts", "levels"),
    [
        ([(["mid"], ["lo", "mid", "hi"]), (["hi", "lo"], ["lo", "mid", "hi"])], ["lo", "mid", "hi"]),
        ([(["hi"], ["lo", "mid", "hi"]), (["lo"], ["lo", "mid", "hi"])], ["lo", "hi"]),
        ([(["lo"], ["lo", "hi"]), (["hi"], ["hi", "lo"])], ["hi", "lo"]),
        ([(["lo", "hi"], ["lo", "hi"]), (["hi", "lo"], ["hi", "lo"])], ["hi", "lo"]),
        ([([3, 1], [3, 2, 1]), ([2], [3, 2, 1])], [3, 2, 1]),
    ],
    ids=["equal", "only those that occur", "contradicting places", "contradicting orders", "numbers"],
)
def test_order_of_categories(parts: list[tuple[list[Any], list[Any]]], levels: list[Any]) -> None:
    design = agreed("y ~ 0 + k", [categories(*part) for part in parts])
    assert design.names == tuple(f"k[{level}]" for level in levels)


def test_levels_of_text_and_categories_together_are_those_of_the_categories() -> None:
    parts = [categories(["lo", "hi"], ["lo", "hi"]), pd.DataFrame({"y": [1.0], "k": ["hi"]})]
    assert agreed("y ~ k", parts).names == ("Intercept", "k[T.hi]")
    parts.append(pd.DataFrame({"y": [1.0], "k": ["even higher"]}))
    assert agreed("y ~ k", parts).names == ("Intercept", "k[T.hi]", "k[T.lo]")


def test_a_level_of_incomplete_rows_only_is_none() -> None:
    part = pd.DataFrame({"y": [1.0, 2.0, 3.0], "x": [1.0, np.nan, 2.0], "k": ["a", "b", "c"]})
    assert agreed("y ~ x + k", [part]).names == ("Intercept", "x", "k[T.c]")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pd.array([1, None, 3], dtype="Int64"), [2.0, np.nan, 1.0]),
        (pd.array([True, None, False], dtype="boolean"), [True, False, True]),
        (np.array([1, None, 2], dtype=object), [1, 2, 3]),
        (pd.array(["b", None, "a"], dtype="string"), ["a", "b", None]),
        (pd.Categorical(["b", None, "a"]), ["a", "b", None]),
        ([None, None, None], ["a", "b", "c"]),
        ([np.nan, np.nan, np.nan], ["a", "b", "c"]),
        ([None, None, None], [1.0, 2.0, 3.0]),
    ],
)
def test_how_a_table_was_read_makes_no_difference(first: Any, second: Any) -> None:
    parts = [pd.DataFrame({"y": 1.0, "k": first}), pd.DataFrame({"y": 1.0, "k": second})]
    design = agreed("y ~ k", parts)
    present = pd.concat([pd.Series(part["k"].astype(object)).dropna() for part in parts])
    one = pd.DataFrame({"k": present.tolist()})
    assert design.names == tuple(formulaic.model_matrix("k", one).columns)
    np.testing.assert_array_equal(stacked(design, parts), np.asarray(formulaic.model_matrix("k", one), float))


def test_whole_floats_and_integers_are_one_level() -> None:
    parts = [pd.DataFrame({"y": 1.0, "j": [1, 2]}), pd.DataFrame({"y": 1.0, "j": [2.0, np.nan, 3.5]})]
    assert agreed("y ~ C(j)", parts).names == ("Intercept", "C(j)[T.2]", "C(j)[T.3.5]")


@pytest.mark.parametrize("formula", ["y ~ k", "y ~ C(k)"])
def test_text_here_and_numbers_there_is_told_by_the_factor(formula: str) -> None:
    parts = [pd.DataFrame({"y": [1.0], "k": ["1"]}), pd.DataFrame({"y": [1.0], "k": [1]})]
    with pytest.raises(ModelError, match=r"k\)?' is text at some holders and numbers at others"):
        agreed(formula, parts)


@pytest.mark.parametrize(
    ("values", "words"),
    [([None, None], "no holder has a row with a value of 'k'"), (["a", "a"], "the same level everywhere")],
)
def test_a_factor_that_tells_nothing_is_refused(values: list[Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        agreed("y ~ k", [pd.DataFrame({"y": [1.0, 2.0], "k": values})])


def many_levels(count: int) -> list[pd.DataFrame]:
    rows = pd.DataFrame({"y": 1.0, "k": [f"level {index:03}" for index in range(count)]})
    return [rows.iloc[: count // 2 + 1], rows.iloc[count // 2 - 1 :]]


@pytest.mark.parametrize("count", [2, 31, 33, 64])
def test_up_to_max_levels_are_found(count: int) -> None:
    design = agreed("y ~ 0 + k", many_levels(count), max_levels=64)
    assert design.names == tuple(f"k[level {index:03}]" for index in range(count))


@pytest.mark.parametrize("count", [66, 400])
def test_more_than_max_levels_are_refused_with_the_remedy(count: int) -> None:
    with pytest.raises(ModelError, match=r"more than max_levels=64 .* raise it, or declare"):
        agreed("y ~ k", many_levels(count), max_levels=64)


def test_a_level_too_long_for_the_table_can_be_declared() -> None:
    parts = [pd.DataFrame({"y": [1.0, 2.0], "k": ["x" * 70, "z"]})]
    with pytest.raises(DataError, match="'k' has a level that is too long"):
        agreed("y ~ k", parts)
    assert agreed("y ~ k", parts, levels={"k": ["z", "x" * 70]}).nobs == 2


def test_a_level_that_was_not_declared_is_an_error_that_does_not_name_it() -> None:
    with pytest.raises(DataError, match="'k' has a level") as caught:
        agreed("y ~ k", [pd.DataFrame({"y": [1.0], "k": ["secret"]})], levels={"k": ["a", "b"]})
    assert "secret" not in str(caught.value)


def test_levels_of_what_is_no_factor_are_refused() -> None:
    with pytest.raises(ModelError, match="'q', which is no factor"):
        DesignAgreement(Formula("y ~ k"), levels={"q": ["a", "b"]})


# Rows.


def rows_of(formula: str, part: pd.DataFrame, **options: Any) -> DesignRows:
    return agreed(formula, [part], **options).rows(part)


def test_rows_that_lack_a_value_are_left_out_and_counted() -> None:
    part = pd.DataFrame(
        {
            "y": [1.0, np.nan, 3.0, 4.0, 5.0, 6.0, 7.0],
            "x": [1.0, 2.0, None, 4.0, 5.0, -6.0, 7.0],
            "k": ["a", "b", "a", None, "b", "a", "b"],
            "w": [1.0, 1.0, 1.0, 1.0, 2.0, 1.0, np.nan],
        }
    )
    design = agreed("y ~ np.log(x) + k", [part, part], weights="w")
    rows = design.rows(part)
    assert (design.nobs, design.n_missing, rows.n_missing) == (4, 10, 5)
    np.testing.assert_array_equal(rows.y, [1.0, 5.0])
    np.testing.assert_array_equal(rows.weights, [1.0, 2.0])
    with pytest.raises(DataError, match="lack a value"):
        agreed("y ~ np.log(x) + k", [part], weights="w", missing="raise")


def test_transforms_count_every_value_of_their_argument() -> None:
    part = pd.DataFrame(
        {"y": [1.0, 2.0, 3.0, 4.0], "x": [1.0, 2.0, 6.0, np.nan], "w": [1.0, 1.0, np.nan, 1.0]}
    )
    rows = rows_of("y ~ center(x) + w", part)
    np.testing.assert_array_equal(rows.x[:, 1], [-2.0, -1.0])


@pytest.mark.parametrize("formula", ["cbind(a, n - a) ~ x", "a + I(n - a) ~ x"])
def test_counts_become_proportions_and_trials(formula: str) -> None:
    rows = rows_of(formula, pd.DataFrame({"a": [1, 0, 3], "n": [4, 0, 3], "x": [1.0, 2.0, 4.0]}))
    np.testing.assert_array_equal(rows.y, [0.25, 0.0, 1.0])
    assert rows.n_trials is not None
    np.testing.assert_array_equal(rows.n_trials, [4.0, 0.0, 3.0])


def test_offsets_of_the_formula_and_besides_it_are_added() -> None:
    part = pd.DataFrame({"y": [1.0, 2.0], "x": [1.0, 3.0], "n": [1.0, 4.0]})
    rows = rows_of("y ~ x + offset(log(n))", part, offset="2 * x")
    np.testing.assert_array_equal(rows.offset, np.log(part["n"]) + 2 * part["x"])
    assert rows.x.shape == (2, 2)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.data())
def test_missing_values_anywhere_leave_the_design_of_the_complete_rows(data: st.DataObject) -> None:
    holes = data.draw(st.sets(st.tuples(st.integers(0, 11), st.sampled_from("ykxw")), max_size=8))
    rows = pd.DataFrame({"y": range(12), "k": list("abcabcabcabc"), "x": range(1, 13), "w": [1, 2] * 6})
    rows = rows.astype({"y": float, "x": float, "w": float})
    for row, name in holes:
        rows.loc[row, name] = None
    complete = rows.dropna()
    parts = [rows.iloc[:4], rows.iloc[4:9], rows.iloc[9:]]
    design = agreed("y ~ C(k, levels=['a', 'b', 'c']) * log(x)", parts, weights="w")
    whole = formulaic.model_matrix("C(k, levels=['a', 'b', 'c']) * log(x)", complete)
    assert (design.nobs, design.n_missing) == (len(complete), 12 - len(complete))
    np.testing.assert_allclose(stacked(design, parts), np.asarray(whole, float), rtol=1e-15)


def test_columns_are_contiguous_float64() -> None:
    rows = rows_of("flag ~ j + k", ROWS)
    assert rows.x.dtype == rows.y.dtype == np.float64
    assert rows.x.flags.c_contiguous
    np.testing.assert_array_equal(rows.weights, np.ones(N))
    np.testing.assert_array_equal(rows.offset, np.zeros(N))


@pytest.mark.parametrize(
    ("formula", "part", "words"),
    [
        ("y ~ x", {"y": [1.0], "x": [np.inf]}, "'x' holds infinite"),
        ("y ~ np.log(x)", {"y": [1.0, 2.0], "x": [0.0, 1.0]}, r"infinite values in np.log\(x\)"),
        ("log(y) ~ x", {"y": [0.0], "x": [1.0]}, "infinite values in the response"),
        ("y ~ x", {"y": ["no"], "x": [1.0]}, "'y' needs numbers"),
        ("y ~ x", {"y": [1.0]}, "no column 'x'"),
        ("y ~ x", {"y": [1.0], "x": [1j]}, "holds complex128"),
        ("y ~ x", {"y": [1.0], "x": [pd.Timestamp("2020-01-01")]}, "holds datetime64"),
        ("y ~ x", {"y": [1.0, 2.0], "x": ["a", 1]}, "neither numbers only nor text only"),
        ("y ~ x", {"y": [1.0], "x": [2**53 + 1]}, "beyond 2"),
        ("y ~ C(x)", {"y": [1.0], "x": [(1, 2)]}, "holds tuple"),
        ("cbind(y, x) ~ 1", {"y": [1], "x": [-1]}, "some are negative"),
        ("y ~ bs(x, lower_bound=0, upper_bound=1)", {"y": [1.0], "x": [2.0]}, "beyond its bounds"),
    ],
)
def test_rows_that_cannot_be_used_are_told(formula: str, part: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        agreed(formula, [pd.DataFrame(part)])


def test_negative_weights_are_refused() -> None:
    with pytest.raises(DataError, match="weights are negative"):
        agreed("y ~ x", PARTS, weights="-x")


def test_data_must_be_a_frame() -> None:
    with pytest.raises(DataError, match="needs a DataFrame, not dict"):
        agreed("y ~ x", [{"y": [1.0], "x": [1.0]}])


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ 0", "has no column"),
        ("y ~ scale(0 * x)", "constant over all holders"),
        ("y ~ poly(flag, 2)", "number of different values"),
        ("log(x - 1000) ~ log(x)", "no holder has a row without missing values"),
        ("y ~ C(j, Treatment(7))", "not among the provided levels"),
        ("log(x - 1000) ~ x", "no holder has a row with a value of 'x'"),
    ],
)
def test_designs_that_cannot_be_are_told(formula: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        agreed(formula)


def test_prediction_keeps_every_row() -> None:
    design = agreed("y ~ k + poly(x, 2) + offset(log(n))")
    new = pd.DataFrame({"k": ["c", None, "a"], "x": [1.0, 2.0, np.nan], "n": [1.0, 2.0, np.nan]})
    columns = design.columns(new)
    assert np.isnan(columns).tolist() == [[False] * 5, [True] * 5, [True] * 5]
    np.testing.assert_array_equal(columns[0, :3], [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(design.offsets(new), np.log(new["n"]))


# As data.


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ k * scale(x) + poly(z, 2)",
        "y ~ C(j) + cr(x, knots=[5], lower_bound=0, upper_bound=9, constraints='center')",
    ],
)
def test_a_design_travels_to_the_bit(formula: str) -> None:
    design = agreed(formula)
    for copy in (
        Design.from_array(design.to_array()),
        Design.from_dict(json.loads(json.dumps(design.to_dict()))),
        pickle.loads(pickle.dumps(design)),
    ):
        assert copy.to_dict() == design.to_dict()
        np.testing.assert_array_equal(copy.rows(ROWS).x, design.rows(ROWS).x)


def test_parameters_make_the_agreement_again() -> None:
    options: dict[str, Any] = {
        "offset": "log(n)",
        "weights": "x",
        "levels": {"k": ["c", "a", "b"]},
        "max_levels": 50,
    }
    agreement = DesignAgreement(Formula("y ~ k + C(j, levels=[1, 2, 3])"), **options)
    parameters = dict(Definition("test", agreement.parameters).parameters)
    again = DesignAgreement(Formula(parameters.pop("formula")), **parameters)
    assert again.parameters == agreement.parameters
    assert pickle.loads(pickle.dumps(agreement)).parameters == agreement.parameters


@pytest.mark.parametrize("array", [np.array([1, 2, 3]), np.zeros(0), np.frombuffer(b"[1]", np.uint8)])
def test_what_is_no_design_is_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ModelError, match="holds no design"):
        Design.from_array(array)


def test_a_schema_without_its_states_is_refused() -> None:
    content = agreed("y ~ center(x)").to_dict()
    content["schema"]["states"] = {}
    with pytest.raises(ModelError, match="states"):
        Design.from_dict(content)


# Passes.


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ np.log(x)",
        "y ~ x",
        "y ~ k + center(x)",
        "y ~ scale(center(x) * 2)",
        "y ~ poly(x, 3) + scale(z)",
    ],
)
def test_passes_are_as_many_as_expected_and_no_longer_than_specified(formula: str) -> None:
    agreement = DesignAgreement(Formula(formula))
    total = pooled(agreement, PARTS)
    sizes = []

    async def watched(query: Query) -> Arrays:
        arrays = await total(query)
        sizes.append(sum(array.size for array in arrays.values()))
        return arrays

    asyncio.run(agreement.agree(watched))
    assert agreement.n_passes == agreement.expected_passes == len(sizes)
    if formula == "y ~ x":
        assert max(sizes) <= sum(int(np.prod(array.shape)) for array in agreement.specifications())


def asked(query: Query, formula: str = "y ~ x + k") -> Arrays:
    return contribute(DesignAgreement(Formula(formula)), ROWS, query)


def test_a_holder_answers_only_for_its_own_formula() -> None:
    design = agreed("y ~ z + k")
    query = Query("design_columns", {"schema": Design.from_array(design.to_array()).to_array()})
    for wrong in (
        query,
        Query("design_columns", {}),
        Query("design_levels", {"attempt": np.array(99)}),
        Query("design_levels", {}),
        Query("start", {"theta": np.zeros(2)}),
        Query("design_columns", {"schema": np.frombuffer(b'{"formula": "y ~ z"}', np.uint8)}),
    ):
        with pytest.raises(ModelError, match=r"none of|holds no design"):
            asked(wrong)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.lists(st.integers(0, N), min_size=0, max_size=4))
def test_any_partition_of_the_rows_gives_the_design_of_the_whole(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), N]
    parts = [ROWS.iloc[low:high] for low, high in pairwise(edges)]
    design, whole = agreed("y ~ k * scale(x)", parts), agreed("y ~ k * scale(x)", [ROWS])
    assert design.names == whole.names
    assert design.schema.levels == whole.schema.levels
    np.testing.assert_allclose(stacked(design, parts), stacked(whole, [ROWS]), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(design.column_means, whole.column_means, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("formula", "options", "words"),
    [
        ("y ~ poly(x, 20):poly(z, 20):poly(n, 20)", {}, "makes .* columns"),
        ("y ~ C(k) * C(j)", {"levels": {"k": [*"abc", *range(2)]}}, "mix"),
        ("y ~ C(j)", {"levels": {"j": list(range(5000))}}, "makes 5001 columns"),
        ("y ~ k", {"max_levels": 10**9}, "max_levels"),
        ("y ~ scale(x, 1e999)", {}, "no finite number"),
        ("y ~ C(k, [])", {}, "cannot be"),
    ],
)
def test_designs_that_no_holder_has_room_for_are_refused(
    formula: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        agreed(formula, [ROWS.assign(n=RANDOM.normal(size=N))], **options)


def test_a_spline_takes_constraints_as_a_matrix() -> None:
    design = agreed("y ~ cr(x, knots=[4.0], lower_bound=0, upper_bound=40, constraints=[[1, 1, 1]])")
    assert len(design.names) == 3


def test_whole_numbers_beyond_doubles_are_refused_however_they_are_kept() -> None:
    rows = ROWS.assign(x=np.array([2**60 + i for i in range(N)], dtype=object))
    with pytest.raises(DataError, match="2\\^53"):
        agreed("y ~ x", [rows])
    rows = ROWS.assign(x=np.array([10**400, *range(N - 1)], dtype=object))
    with pytest.raises(DataError, match="2\\^53"):
        agreed("y ~ x", [rows])


def test_a_level_that_is_no_utf8_is_a_level() -> None:
    levels = ["\ud800" if level == "b" else level for level in ROWS["k"]]
    assert agreed("y ~ k", [ROWS.assign(k=pd.Series(levels, dtype=object))]).names[-1] == "k[T.\ud800]"


def test_texts_compare_with_texts() -> None:
    assert agreed("y ~ 0 + I('a' == 'a')").column_means.tolist() == [1.0]
