"""The union of keys by a sum of tables, and what a sum does not tell."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.models.level_table import LONGEST_KEY, Key, key_length, table_of, table_shape, union_of

PRIME = 2**32 + 15
LEVELS = st.one_of(
    st.text(max_size=12), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = st.sets(st.tuples(st.integers(0, 9), st.integers(-2, 9), LEVELS), max_size=12)


def summed(holders: list[list[Key]], max_levels: int, seed: int) -> NDArray[np.int64]:
    sources = [random.Random(f"{seed} {index}").randbytes for index in range(len(holders))]
    tables = [table_of(keys, max_levels, seed, source) for keys, source in zip(holders, sources, strict=True)]
    total: NDArray[np.int64] = np.stack(tables).sum(axis=0)
    return total


def keys_numbered(numbers: range) -> list[Key]:
    return [(0, -1, f"level {number}") for number in numbers]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(KEYS, min_size=1, max_size=4))
def test_sum_of_tables_tells_the_union(holders: list[set[Key]]) -> None:
    union = set().union(*holders)
    found = [union_of(summed([list(keys) for keys in holders], 48, seed), seed) for seed in range(3)]
    assert union in found
    assert all(keys in (union, None) for keys in found)


def test_no_key_anywhere_is_an_empty_union() -> None:
    assert union_of(summed([[], []], 8, 0), 0) == set()


def test_a_full_table_is_read_by_some_seed() -> None:
    keys = keys_numbered(range(128))
    assert any(union_of(summed([keys], 128, seed), seed) == set(keys) for seed in range(4))


@pytest.mark.parametrize("count", [250, 400, 1000])
def test_too_many_keys_are_seen(count: int) -> None:
    half = count // 2
    holders = [keys_numbered(range(half)), keys_numbered(range(half, count))]
    assert union_of(summed(holders, 128, 0), 0) is None


def test_kinds_of_levels_are_kept_apart() -> None:
    keys: list[Key] = [(0, -1, "1"), (1, -1, 1), (2, -1, 1.5), (3, -1, "é\n\"'"), (4, 0, "")]
    found = union_of(summed([keys], 16, 1), 1)
    assert found is not None
    assert {(key, type(key[2])) for key in found} == {(key, type(key[2])) for key in keys}


def test_a_key_longer_than_the_table_is_refused() -> None:
    longest: Key = (0, -1, "x" * (LONGEST_KEY - key_length((0, -1, ""))))
    assert union_of(summed([[longest]], 4, 0), 0) == {longest}
    with pytest.raises(ValueError, match="65 bytes"):
        table_of([(0, -1, f"{longest[2]}x")], 4, 0, random.Random(0).randbytes)


def test_numbers_of_two_thousand_holders_stay_within_int64() -> None:
    largest = table_of(keys_numbered(range(4)), 4, 0, lambda count: b"\xff" * count).max()
    assert 0 < int(largest) * 2047 < 2**63


def test_table_has_the_announced_shape_and_type() -> None:
    table = table_of(keys_numbered(range(3)), 10, 0, random.Random(0).randbytes)
    assert table.shape == table_shape(10)
    assert table.dtype == np.int64


@pytest.mark.parametrize("n_holders", [1, 2, 7])
def test_multiplicity_does_not_show_modulo_the_prime(n_holders: int) -> None:
    # The count of a key's cell is a sum of random elements: uniform, whether one holder has the key or seven.
    counts = Counter[int]()
    for run in range(600):
        source = random.Random(f"{n_holders} {run}").randbytes
        total = sum(table_of([(0, -1, "a")], 1, 0, source) for _ in range(n_holders)) % PRIME
        (element,) = {int(count) for count in np.asarray(total)[:, 0] if count}
        counts[element * 8 // PRIME] += 1
    chi_square = sum((counts[octant] - 75) ** 2 / 75 for octant in range(8))
    assert chi_square < 24.3  # the 0.999 quantile for 7 degrees of freedom


def test_blur_hides_the_carry_of_a_sum() -> None:
    # The multiples of the prime in a cell are uniform over 2^20 for one holder: no carry of one or two shows.
    table = table_of([(0, -1, "a")], 64, 0, random.Random(3).randbytes)
    multiples = table // PRIME
    assert multiples.min() >= 0
    assert multiples.max() < 2**20
    assert abs(multiples.mean() / 2**20 - 0.5) < 0.02
