"""Quantized: the expectation of a rounded value is the value, what is clipped is counted, and sums fit."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols import grid_encodings
from tacit.protocols.encoding import MAX_CONTRIBUTIONS, ValueRangeError
from tacit.protocols.encoding_plan import plan
from tacit.protocols.errors import MisuseError, RangeError, SetupError
from tacit.protocols.grid_encodings import QuantizedArray
from tacit.protocols.limbs import Limbs, add_limbs, integers_to_limbs, limbs_to_integers
from tacit.serialization.encoding_parameters import Quantized

few = settings(deadline=None, derandomize=True, max_examples=60)
every_bits = st.integers(2, 31)
clips = st.floats(1e-6, 1e6) | st.sampled_from([1.0, 0.1, 1 / 3, 5.0, 2.0**-900, 2.0**900])
fractions_of_clip = st.floats(-1, 1) | st.sampled_from([0.0, 1.0, -1.0, math.nextafter(1.0, 0.0), 0.5])


def planned(bits: int, clip: float, values: NDArray[Any], n: int = 1) -> QuantizedArray:
    (array,) = plan(Quantized(bits, clip), [("x", values.dtype, values.shape)], n)
    assert isinstance(array, QuantizedArray)
    return array


def source(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def levels_of(limbs: Limbs) -> NDArray[np.int64]:
    """The levels without the count."""
    return limbs[:-1, 0].view(np.int64)


@few
@given(every_bits, clips, st.lists(fractions_of_clip, max_size=20), st.integers(0, 2**32))
def test_a_value_goes_to_one_of_the_two_levels_beside_it(
    bits: int, clip: float, fractions: list[float], seed: int
) -> None:
    values = np.array(fractions) * clip
    array = planned(bits, clip, values)
    limbs = array.encode(values, source(seed))
    exact = values * array.scale
    assert limbs.shape == (len(values) + 1, 1)
    assert (np.abs(levels_of(limbs) - exact) <= 1).all()
    assert (np.abs(levels_of(limbs)) <= 2 ** (bits - 1) - 1).all()
    assert array.clipped(limbs) == 0
    assert (np.abs(array.decode(limbs) - values) <= 1.0001 / array.scale).all()


@few
@given(every_bits, clips)
def test_the_grid_is_symmetric_holds_zero_and_ends_at_the_clip(bits: int, clip: float) -> None:
    levels = 2 ** (bits - 1) - 1
    values = np.array([clip, -clip, 0.0, -0.0])
    array = planned(bits, clip, values)
    assert array.levels == levels
    for seed in range(3):
        ends = levels_of(array.encode(values, source(seed)))
        # The clip is a level but for the rounding of the scale: 2^-52 of itself.
        assert (np.abs(ends - np.array([levels, -levels, 0, 0])) <= [1, 1, 0, 0]).all()
    exact_ends = array.decode(integers_to_limbs([levels, -levels, 0, 0, 0], 1))
    np.testing.assert_allclose(exact_ends, values, rtol=2.0**-51, atol=0)
    assert not np.signbit(exact_ends[2:]).any()


def test_no_dither_takes_the_clip_beyond_the_last_level(monkeypatch: pytest.MonkeyPatch) -> None:
    levels, rng = 2**30 - 1, random.Random(2)
    clip = next(clip for clip in iter(rng.random, None) if clip * (levels / clip) > levels)
    values = np.array([clip, -clip])
    for dither in (0, 2**32 - 1):
        monkeypatch.setattr(grid_encodings, "_dither", lambda *_, u=dither: np.full(2, u, np.uint32))
        assert (np.abs(levels_of(planned(31, clip, values).encode(values, bytes))) <= levels).all()


@few
@given(every_bits, st.floats(-1, 1, width=32), st.sampled_from([1.0, 0.25, 100.0, 1 / 3]))
def test_rounding_is_unbiased_over_all_dithers(bits: int, fraction: float, clip: float) -> None:
    values = np.array([fraction * clip])
    array = planned(bits, clip, values)

    def level(dither: int) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grid_encodings, "_dither", lambda *_: np.array([dither], np.uint32))
            return int(levels_of(array.encode(values, bytes))[0])

    # The level is a step function of the dither: the expectation is the lower level plus the part above the step.
    lowest, highest = level(0), level(2**32 - 1)
    assert lowest <= highest <= lowest + 1
    last, first = -1, 2**32  # the last dither known to round down, the first known to round up
    while first - last > 1:
        middle = (first + last) // 2
        last, first = (last, middle) if level(middle) > lowest else (middle, first)
    expectation = lowest + (2**32 - first) / 2**32
    exact = values[0] * array.scale
    assert abs(expectation - exact) <= 2.0**-33 + 2.0**-52 * abs(exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_over_many_draws_is_the_value(dtype: Any) -> None:
    n_draws, fractions = 40_000, np.array([0.0, 0.1, -0.1, 0.5, 0.77, -0.999], dtype)
    values = np.repeat(fractions, n_draws)
    array = planned(3, 1.0, values)  # seven levels, 1/3 apart
    rounded = array.decode(array.encode(values, source(3))).astype(float).reshape(len(fractions), -1)
    deviations = np.abs(rounded.mean(axis=1) - fractions) * math.sqrt(n_draws)
    assert (deviations <= 5 * (1 / 3) / 2).all()  # five standard errors of the widest two-point distribution
    assert deviations[0] == 0


def test_dithers_of_different_values_chunks_and_calls_differ() -> None:
    values = np.full(70_000, 0.5)
    array = planned(2, 1.0, values)  # every value is a fair coin
    draw = source(1)
    first, second = levels_of(array.encode(values, draw)), levels_of(array.encode(values, draw))
    for left, right in ((first, second), (first[:32_768], first[32_768:65_536]), (first[1:], first[:-1])):
        agreement = (left == right).mean()
        assert abs(agreement - 0.5) < 5 * 0.5 / math.sqrt(len(left))
    again = source(1)
    assert np.array_equal(levels_of(array.encode(values, again)), first)


def test_the_random_bytes_are_one_key_an_array() -> None:
    drawn: list[int] = []

    def counting(n: int) -> bytes:
        drawn.append(n)
        return bytes(n)

    values = np.zeros(100_000)
    planned(8, 1.0, values).encode(values, counting)
    assert drawn == [32]


def test_rounding_without_a_source_of_randomness_is_refused() -> None:
    with pytest.raises(MisuseError, match="array 'x' is rounded at random"):
        planned(8, 1.0, np.zeros(3)).encode(np.zeros(3))


@few
@given(every_bits, st.lists(st.floats(-1e9, 1e9, width=32), max_size=30), st.integers(0, 2**32))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_lies_beyond_the_clip_counts_as_the_clip(
    dtype: Any, bits: int, values: list[float], seed: int
) -> None:
    given_values, inside = np.array(values, dtype), np.clip(np.array(values), -5.0, 5.0).astype(dtype)
    array = planned(bits, 5.0, given_values)
    limbs, expected = array.encode(given_values, source(seed)), array.encode(inside, source(seed))
    assert np.array_equal(levels_of(limbs), levels_of(expected))
    assert array.clipped(limbs) == sum(abs(value) > 5 for value in values)
    assert array.clipped(expected) == 0


def test_a_float32_just_beyond_a_clip_that_is_no_float32_is_clipped() -> None:
    values = np.array([0.1, -0.1, 0.09], np.float32)  # 0.1 as float32 is more than the double 0.1
    array = planned(8, 0.1, values)
    assert array.clipped(array.encode(values, source(0))) == 2


@few
@given(st.integers(1, 8), st.integers(2, 16), st.integers(0, 2**32))
def test_sums_and_counts_are_those_of_all_holders(n: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    holders = [rng.normal(size=(3, 4)) for _ in range(n)]
    array = planned(bits, 1.0, holders[0], n)
    encoded = [array.encode(values, source(seed + i)) for i, values in enumerate(holders)]
    total = reduce(add_limbs, encoded)
    decoded = array.decode(total)
    expected = sum(np.clip(values, -1, 1) for values in holders)
    assert array.clipped(total) == sum(int((np.abs(values) > 1).sum()) for values in holders)
    assert decoded.shape == (3, 4)
    assert (np.abs(decoded - expected) <= 1.0001 * n / array.scale).all()
    assert np.array_equal(decoded.reshape(-1), sum(map(levels_of, encoded)) / array.scale)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_that_are_not_finite_are_refused_not_clipped(value: float, dtype: Any) -> None:
    values = np.zeros((2, 40_000), dtype)
    values[1, 39_999] = value
    with pytest.raises(ValueRangeError) as caught:
        planned(8, 1.0, values).encode(values, source(0))
    assert (caught.value.index, caught.value.problem) == ((1, 39_999), "not finite")


def test_a_value_near_the_largest_double_is_clipped() -> None:
    values = np.array([1.7e308, -1.7e308, 2.0**900])
    array = planned(31, 2.0**900, values)
    limbs = array.encode(values, source(0))
    assert array.clipped(limbs) == 2
    assert np.abs(levels_of(limbs)).min() >= array.levels - 1


@pytest.mark.parametrize("integers", [[128, 0], [-128, 0], [0, -1], [0, 2], [-(2**63), 0], [0, -(2**63)]])
def test_totals_and_counts_that_no_contributions_reach_are_refused(integers: list[int]) -> None:
    array = planned(8, 1.0, np.zeros(1))
    with pytest.raises(RangeError, match="'x'"):
        array.decode(integers_to_limbs(integers, 1))


def test_the_count_has_a_bound_of_its_own() -> None:
    array = planned(2, 1.0, np.zeros(1000), 3)
    assert (array.levels, array.bound, array.size) == (1, 1000, 1001)
    values = np.full(1000, 9.0)
    total = reduce(add_limbs, [array.encode(values, source(i)) for i in range(3)])
    assert limbs_to_integers(total) == [3] * 1000 + [3000]
    assert array.decode(total).tolist() == [3.0] * 1000
    total[7] = 4  # within the bound of the count
    with pytest.raises(RangeError, match="flat index 7"):
        array.decode(total)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bits", [2, 31])
def test_the_most_contributions_fit_a_limb(bits: int, dtype: str) -> None:
    array = planned(bits, 1.0, np.zeros(10, dtype), MAX_CONTRIBUTIONS)
    assert array.limbs == 1
    assert MAX_CONTRIBUTIONS * array.bound < 2**63


def test_a_sum_at_the_clip_beyond_the_dtype_is_refused() -> None:
    assert plan(Quantized(8, 1e38), [("x", "float32", (1,))], 3)
    with pytest.raises(SetupError, match=r"array 'x': 4 contributions of up to 1e[+]38 lie beyond float32"):
        plan(Quantized(8, 1e38), [("x", "float32", (1,))], 4)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3)])
def test_shapes_and_dtypes_come_back(shape: tuple[int, ...]) -> None:
    for dtype in (np.float32, np.float64):
        values = np.full(shape, 1.0, dtype)
        array = planned(8, 1.0, values)
        decoded = array.decode(array.encode(values, source(0)))
        assert decoded.dtype == dtype
        assert np.array_equal(decoded, values)
