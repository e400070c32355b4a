"""Auto-range: the lowest power of two that no value of any holder exceeds, or None among zeros."""

from __future__ import annotations

import math
import random
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.auto_range import N_BUCKETS, bucket_words, n_filled_buckets, range_from_total
from tacit.protocols.errors import RangeError, SetupError

few = settings(deadline=None, derandomize=True, max_examples=80)
values = st.floats(-(2.0**64), 2.0**64) | st.sampled_from([0.0, -0.0, 5e-324, 2.0**-64, -1.0, 2.0**64])


def bound_of(*holders: list[float], seed: int = 1) -> float | None:
    source = random.Random(seed).randbytes
    contributions = [bucket_words(n_filled_buckets(np.array(holder)), source) for holder in holders]
    return range_from_total(reduce(np.add, contributions))


@few
@given(st.lists(st.lists(values, max_size=4), min_size=1, max_size=4))
def test_bound_is_the_lowest_power_of_two_that_holds_for_all(holders: list[list[float]]) -> None:
    peak = max((abs(value) for holder in holders for value in holder), default=0.0)
    bound = bound_of(*holders)
    if peak == 0:
        assert bound is None
        return
    assert bound is not None
    assert peak <= bound
    assert bound == 2.0**-64 or bound / 2 < peak
    assert math.frexp(bound)[0] == 0.5


@pytest.mark.parametrize("exponent", [-64, -63, -1, 0, 1, 63, 64])
def test_powers_of_two_are_their_own_bound_and_the_next_number_is_not(exponent: int) -> None:
    power = 2.0**exponent
    assert bound_of([-power]) == power
    if exponent < 64:
        assert bound_of([math.nextafter(power, math.inf)]) == 2 * power


def test_the_buckets_reach_from_the_lowest_to_the_highest_bound() -> None:
    assert n_filled_buckets(np.zeros(3)) == n_filled_buckets(np.zeros((0, 2))) == 0
    assert n_filled_buckets(np.array([5e-324])) == 1
    assert n_filled_buckets(np.array(-(2.0**64))) == N_BUCKETS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.01 * 2.0**64])
def test_values_beyond_all_buckets_are_refused_without_being_told(dtype: Any, value: float) -> None:
    with pytest.raises(RangeError, match=r"not finite or beyond 2\^64") as caught:
        n_filled_buckets(np.array([1.0, value, 2.0], dtype=dtype))
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize("n_holders", [1, 2, 10])
def test_a_filled_bucket_is_uniform_however_many_fill_it(n_holders: int) -> None:
    source = random.Random(7).randbytes
    totals = [reduce(np.add, [bucket_words(N_BUCKETS, source) for _ in range(n_holders)]) for _ in range(200)]
    bits = np.unpackbits(np.array(totals).view(np.uint8), axis=None).reshape(-1, 64)
    # 25,800 fair coins a bit: beyond five standard deviations one run in 10^6, and the seed is fixed.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / math.sqrt(len(bits))


def test_buckets_above_are_zero_and_draw_nothing() -> None:
    drawn: list[int] = []

    def source(n: int) -> bytes:
        drawn.append(n)
        return b"\xff" * n

    words = bucket_words(3, source)
    assert words.dtype == np.uint64
    assert words.tolist() == [2**64 - 1] * 3 + [0] * (N_BUCKETS - 3)
    assert drawn == [24]


def test_words_that_sum_to_zero_give_too_low_a_bound_never_too_high() -> None:
    one, lower = bucket_words(70, lambda n: b"\x01" * n), bucket_words(69, lambda n: b"\x01" * n)
    other = one.copy()
    other[69:] = -other[69:]
    assert range_from_total(one + other) == range_from_total(lower)


def test_a_total_of_another_shape_is_refused() -> None:
    with pytest.raises(SetupError, match="expected"):
        range_from_total(np.zeros(N_BUCKETS + 1, dtype=np.uint64))
