"""No unit moves the sum further than its sensitivity says, whatever its row holds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tacit.privacy.clipping import Adjacency, clip_rows, rows_by_unit, sensitivity, sum_of_rows
from tacit.privacy.errors import PrivacyError

ROWS = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.floats(allow_nan=False, allow_infinity=False),
)
CLIPS = st.floats(1e-3, 1e3)


def squared_length(row: object) -> Fraction:
    return sum((Fraction(value) ** 2 for value in np.asarray(row).tolist()), Fraction(0))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rows=ROWS, clip=CLIPS)
def test_no_clipped_row_is_longer_than_the_clip_not_by_a_last_place(
    rows: np.ndarray[tuple[int, int], np.dtype[np.float64]], clip: float
) -> None:
    assert all(squared_length(row) <= Fraction(clip) ** 2 for row in clip_rows(rows, clip))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=ROWS, clip=CLIPS, fraction_bits=st.integers(10, 40))
def test_no_row_moves_the_sum_by_more_than_its_sensitivity(
    rows: np.ndarray[tuple[int, int], np.dtype[np.float64]], clip: float, fraction_bits: int
) -> None:
    with_row = sum_of_rows(rows, clip, fraction_bits)
    without = sum_of_rows(rows[1:], clip, fraction_bits)
    assert squared_length(with_row - without) <= sensitivity(clip, rows.shape[1], fraction_bits) ** 2


@settings(max_examples=50, deadline=None, derandomize=True)
@given(first=ROWS, clip=CLIPS)
def test_a_replaced_row_moves_it_by_no_more_than_twice_that(
    first: np.ndarray[tuple[int, int], np.dtype[np.float64]], clip: float
) -> None:
    moved = sum_of_rows(first, clip, 20) - sum_of_rows(np.vstack([-first[:1], first[1:]]), clip, 20)
    assert squared_length(moved) <= sensitivity(clip, first.shape[1], 20, "replace-one") ** 2


def test_rows_within_the_clip_stay_as_they_are() -> None:
    rows = np.array([[0.3, -0.4], [0.0, 0.0], [1e-300, -1e-308]])
    assert np.array_equal(clip_rows(rows, 1.0), rows)


@pytest.mark.parametrize("size", [1e-160, 2.0, 1e200, 1.7e308])
def test_long_rows_keep_their_direction_and_have_the_length_of_the_clip(size: float) -> None:
    row = np.array([[0.6 * size, -0.8 * size]])
    assert clip_rows(row, 1e-170) == pytest.approx(np.array([[0.6e-170, -0.8e-170]]), rel=1e-12, abs=0)


def test_the_rows_given_are_not_changed() -> None:
    rows = np.array([[30.0, 40.0]])
    sum_of_rows(rows, 1.0, 10)
    assert rows.tolist() == [[30.0, 40.0]]


def test_a_sum_is_of_rows_rounded_one_by_one() -> None:
    rows = np.array([[0.3, 1.0]] * 3)
    assert sum_of_rows(rows, 10.0, 0).tolist() == [0, 3]
    assert sum_of_rows(rows, 10.0, 2).tolist() == [3, 12]


def test_no_rows_sum_to_zeros() -> None:
    assert sum_of_rows(np.empty((0, 3)), 1.0, 10).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("adjacency", "factor"), [("add-or-remove", 1), ("replace-one", 2)])
@pytest.mark.parametrize("dimension", [1, 2, 9, 10**6])
def test_sensitivity_is_the_clip_and_half_the_root_of_the_dimension(
    adjacency: Adjacency, factor: int, dimension: int
) -> None:
    found = sensitivity(1.5, dimension, 16, adjacency)
    rest = 2 * (found / factor - Fraction(3, 2) * 2**16)  # the root of d, rounded up
    assert dimension < rest**2
    assert (rest - Fraction(1, 2**40)) ** 2 <= dimension


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_its_row(value: float) -> None:
    with pytest.raises(PrivacyError, match="row 1 is not finite"):
        clip_rows(np.array([[1.0, 2.0], [1.0, value]]), 1.0)


@pytest.mark.parametrize(
    ("clip", "fraction_bits", "remedy"),
    [
        (1.0, 53, "fewer"),
        (2.0**-20, 10, "more"),
        (0.0, 10, "clip 0.0"),
        (float("nan"), 10, "clip nan"),
        (1.0, -1, "bits"),
    ],
)
def test_a_grid_that_cannot_hold_the_clip_is_refused(clip: float, fraction_bits: int, remedy: str) -> None:
    for act in (
        lambda: sensitivity(clip, 3, fraction_bits),
        lambda: sum_of_rows(np.ones((1, 3)), clip, fraction_bits),
    ):
        with pytest.raises(PrivacyError, match=remedy):
            act()


def test_a_sum_that_might_overflow_is_refused() -> None:
    with pytest.raises(PrivacyError, match="fewer fraction bits"):
        sum_of_rows(np.zeros((2**11, 1)), 1.0, 52)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)])
def test_rows_are_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(PrivacyError, match="one row a unit"):
        clip_rows(np.zeros(shape), 1.0)


def test_a_row_has_numbers() -> None:
    with pytest.raises(PrivacyError, match="at least one"):
        sensitivity(1.0, 0, 10)


# Units


@pytest.mark.parametrize(
    "persons",
    [
        np.array([7, 3, 7]),
        np.array(["b", "a", "b"]),
        np.array(["b", "a", "b"], object),
        np.array([1, "1", 1.0], object),
    ],
)
def test_the_rows_of_a_person_are_added_up(persons: np.ndarray[tuple[int], np.dtype[np.object_]]) -> None:
    rows = np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    assert rows_by_unit(rows, persons).tolist() == [[101.0, 202.0], [10.0, 20.0]]


def test_a_person_of_many_rows_moves_the_sum_no_further_than_one_of_one() -> None:
    rows = rows_by_unit(np.ones((100, 4)), np.zeros(100, dtype=int))
    assert squared_length(sum_of_rows(rows, 1.0, 20)) <= sensitivity(1.0, 4, 20) ** 2


@pytest.mark.parametrize("persons", [None, np.empty(0, dtype=int)])
def test_no_rows_are_no_units(persons: np.ndarray[tuple[int], np.dtype[np.int64]] | None) -> None:
    assert rows_by_unit(np.empty((0, 2)), persons).shape == (0, 2)


@pytest.mark.parametrize(
    "persons",
    [
        np.array(["a", None], object),
        np.array(["a", pd.NA], object),
        np.array(["a", pd.NaT], object),
        np.array(["a", ["a"]], object),
        np.array([1.0, np.nan]),
        np.array(["a", ""]),
    ],
)
def test_a_row_of_nobody_counts_as_absent(persons: np.ndarray[tuple[int], np.dtype[np.object_]]) -> None:
    assert rows_by_unit(np.array([[1.0], [2.0]]), persons).tolist() == [[1.0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_count_as_absent(value: float) -> None:
    rows = np.array([[1.0, 2.0], [3.0, value], [5.0, 6.0]])
    assert rows_by_unit(rows).tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert rows_by_unit(rows, np.array(["p", "p", "q"])).tolist() == [[1.0, 2.0], [5.0, 6.0]]


def test_a_person_whose_sum_is_not_finite_counts_as_absent() -> None:
    rows = np.array([[1e308], [1e308], [1.0]])
    assert rows_by_unit(rows, np.array(["p", "p", "q"])).tolist() == [[1.0]]


def test_every_row_has_a_person() -> None:
    with pytest.raises(PrivacyError, match="1 persons for 2 rows"):
        rows_by_unit(np.ones((2, 1)), np.array(["a"]))
