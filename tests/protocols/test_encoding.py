"""Encodings: sums of encoded arrays are the exact sums, rounded once, or a typed refusal."""

from __future__ import annotations

import math
import pickle
import random
import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols.encoding import DECODED_BYTES, MAX_CONTRIBUTIONS, ArrayEncoding, ValueRangeError
from tacit.protocols.encoding_plan import LARGEST_WORD, grid_bound, largest_fraction_bits, plan
from tacit.protocols.errors import RangeError, SetupError
from tacit.protocols.limbs import Limbs, add_limbs, integers_to_limbs, limbs_to_integers, negate_limbs
from tacit.serialization.encoding_parameters import (
    EncodingParameters,
    ExactFloat,
    FixedPoint,
    FixedPointMean,
    Integers,
    Quantized,
)

few = settings(deadline=None, derandomize=True, max_examples=60)
doubles = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(allow_nan=False, allow_infinity=False, width=32)

LARGEST = 1.7976931348623157e308
TINY = 5e-324


def encoding_for(values: NDArray[Any], n: int, encoding: EncodingParameters | None = None) -> ArrayEncoding:
    (planned,) = plan(encoding, [("x", values.dtype, values.shape)], n)
    return planned


def total_of(encoding: ArrayEncoding, arrays: Sequence[NDArray[Any]]) -> Limbs:
    return reduce(add_limbs, [encoding.encode(array) for array in arrays])


def exact_sum(values: Sequence[float], dtype: Any = np.float64) -> NDArray[Any]:
    arrays = [np.array([value], dtype=dtype) for value in values]
    encoding = encoding_for(arrays[0], len(arrays))
    return encoding.decode(total_of(encoding, arrays))


def nearest_single(exact: Fraction) -> float:
    """Round to float32 with integers only: to nearest, ties to even; the oracle for values in range."""
    if exact == 0:
        return 0.0
    exponent = max(math.frexp(float(abs(exact)))[1] - 26, -149)
    scaled = abs(exact) / Fraction(2) ** exponent
    while scaled >= 2**24:
        exponent, scaled = exponent + 1, scaled / 2
    return math.copysign(math.ldexp(round(scaled), exponent), exact)


# Limbs


@few
@given(st.data(), st.integers(1, 5))
def test_limbs_compute_like_integers(data: st.DataObject, limbs: int) -> None:
    half = 2 ** (64 * limbs - 1)
    edges = st.sampled_from([0, 1, -1, half - 1, -half, half >> 1, 2**63, -(2**63), 2**64 - 1])
    integer = (st.integers(-half, half - 1) | edges).map(lambda v: (v + half) % (2 * half) - half)
    left = data.draw(st.lists(integer, min_size=1, max_size=8))
    right = data.draw(st.lists(integer, min_size=len(left), max_size=len(left)))
    a, b = integers_to_limbs(left, limbs), integers_to_limbs(right, limbs)

    def wrapped(values: list[int]) -> list[int]:
        return [(value + half) % (2 * half) - half for value in values]

    assert limbs_to_integers(a) == left
    assert limbs_to_integers(add_limbs(a, b)) == wrapped([x + y for x, y in zip(left, right, strict=True)])
    assert limbs_to_integers(add_limbs(a, b[:1])) == wrapped([x + right[0] for x in left])
    assert limbs_to_integers(add_limbs(a[:1], b)) == wrapped([left[0] + y for y in right])
    assert limbs_to_integers(negate_limbs(a)) == wrapped([-x for x in left])


def test_an_integer_too_large_for_its_limbs_is_refused() -> None:
    with pytest.raises(RangeError, match="128 bits"):
        integers_to_limbs([2**127], 2)


# ExactFloat


@few
@given(st.lists(doubles, min_size=1, max_size=12))
def test_exact_sum_is_the_correctly_rounded_sum(values: list[float]) -> None:
    try:
        expected = float(sum(map(Fraction, values), Fraction(0)))
    except OverflowError:
        with pytest.raises(RangeError, match="lies beyond float64"):
            exact_sum(values)
        return
    result = exact_sum(values)[0]
    assert struct.pack("<d", result) == struct.pack("<d", expected)


@pytest.mark.parametrize(
    "values",
    [
        [1e308, 1e-308, -1e308],
        [1e308, 1e308, -1e308, -1e308, 3.0],  # fsum overflows on the way; the sum does not
        [LARGEST, LARGEST, -LARGEST, TINY],
        [TINY, TINY, -TINY],
        [2.2250738585072014e-308, -TINY],
        [1.0, 2.0**-53],  # a tie: to even
        [1.0, 2.0**-53, TINY],  # just above the tie
        [1.0 + 2.0**-52, 2.0**-53],
        [1.0, 2.0**-54, 2.0**-54, -TINY],
        [0.1] * 10,
        [-0.0, -0.0],
        [1.5, -1.5],
    ],
)
def test_exact_sum_of_adversarial_values(values: list[float]) -> None:
    expected = float(sum(map(Fraction, values)))
    assert struct.pack("<d", exact_sum(values)[0]) == struct.pack("<d", expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_totals_beside_powers_of_two_are_rounded_once(sign: int) -> None:
    powers = [2**k for k in range(2098)]
    near = [sign * (power + offset) for power in powers for offset in (-(power >> 54), -1, 0, 1, power >> 53)]
    encoding = encoding_for(np.zeros(len(near)), 1, ExactFloat())
    totals = encoding.decode(integers_to_limbs(near, encoding.limbs))
    assert totals.tolist() == [float(Fraction(integer, 2**1074)) for integer in near]


def test_exact_sum_equals_fsum_in_bulk() -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**64, (7, 500), dtype=np.uint64)
    arrays = [np.where(np.isfinite(row), row, 1.0) * 2.0**-4 for row in bits.view(np.float64)]
    encoding = encoding_for(arrays[0], len(arrays))
    totals = encoding.decode(total_of(encoding, arrays))
    assert totals.tolist() == [math.fsum(column) for column in zip(*arrays, strict=True)]


@few
@given(st.lists(singles, min_size=1, max_size=8), st.integers(0, 3))
def test_float32_is_rounded_once(values: list[float], kind: int) -> None:
    close = [values[0], math.ldexp(values[0], -25), 2.0**-149, -(2.0**-149)][: kind + 1]
    terms = [*values, *map(float, np.array(close, dtype=np.float32))]
    exact = sum(map(Fraction, terms), Fraction(0))
    if abs(exact) >= 2**128 - 2**103:
        with pytest.raises(RangeError, match="lies beyond float32"):
            exact_sum(terms, np.float32)
        return
    result = exact_sum(terms, np.float32)
    assert result.dtype == np.float32
    assert float(result[0]) == nearest_single(exact)


def test_float32_would_be_wrong_if_rounded_twice() -> None:
    values = [1.0, 2.0**-24, 2.0**-80]  # as a double the sum is a tie, which rounds down to 1
    assert np.float32(math.fsum(values)) == 1.0
    assert exact_sum(values, np.float32)[0] == np.float32(1.0 + 2.0**-23)


@pytest.mark.parametrize(("dtype", "limbs"), [(np.float64, 34), (np.float32, 5)])
def test_exact_limbs_hold_the_most_contributions(dtype: Any, limbs: int) -> None:
    largest = np.array([np.finfo(dtype).max, -np.finfo(dtype).max], dtype=dtype)
    encoding = encoding_for(largest, MAX_CONTRIBUTIONS)
    assert limbs_to_integers(encoding.encode(largest)) == [encoding.bound, -encoding.bound]
    assert encoding.limbs == limbs
    assert MAX_CONTRIBUTIONS * encoding.bound < 2 ** (64 * limbs - 1)


def test_unrepresentable_total_names_array_and_index_not_the_value() -> None:
    arrays = [np.array([[0.0, 1.0], [0.0, sign * LARGEST]]) for sign in (1, 1)]
    encoding = encoding_for(arrays[0], 2)
    with pytest.raises(RangeError, match=r"array 'x' at flat index 3 lies beyond float64") as caught:
        encoding.decode(total_of(encoding, arrays))
    assert "797" not in str(caught.value)


def test_long_total_decodes_piece_by_piece_to_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    array = rng.standard_normal(DECODED_BYTES // 8 + 3).astype(np.float32)
    for encoding in (ExactFloat(), FixedPoint(16.0, 40), FixedPoint(16.0, 20)):
        whole = encoding_for(array, 3, encoding)
        limbs = whole.encode(array)
        piece = encoding_for(array[-5:], 3, encoding)
        assert np.array_equal(whole.decode(limbs)[-5:], piece.decode(limbs[-5:]))


def test_index_of_an_unrepresentable_total_counts_from_the_start_of_the_array() -> None:
    encoding = encoding_for(np.zeros(DECODED_BYTES, np.int8), 2)
    total = np.zeros((encoding.size, 1), np.uint64)
    total[-1] = 200
    with pytest.raises(RangeError, match=f"at flat index {DECODED_BYTES - 1} lies beyond int8"):
        encoding.decode(total)


# FixedPoint


@few
@given(
    st.data(),
    st.integers(1, 30),
    st.sampled_from([0, 1, 16, 32, 52]),
    st.sampled_from([np.float64, np.float32]),
)
def test_fixed_point_sum_is_the_exact_sum_of_rounded_values(
    data: st.DataObject, n: int, fraction_bits: int, dtype: Any
) -> None:
    bound = 2.0 ** data.draw(st.integers(-fraction_bits, 58 - fraction_bits))
    values = st.floats(-bound, bound, width=64 if dtype == np.float64 else 32)
    terms = data.draw(st.lists(values, min_size=n, max_size=n))
    arrays = [np.array([term], dtype=dtype) for term in terms]
    encoding = encoding_for(arrays[0], n, FixedPoint(bound, fraction_bits))
    exact = Fraction(sum(round(Fraction(term) * 2**fraction_bits) for term in terms), 2**fraction_bits)
    total = encoding.decode(total_of(encoding, arrays))
    assert total.dtype == dtype
    assert float(total[0]) == (float(exact) if dtype == np.float64 else nearest_single(exact))


@few
@given(st.integers(0, 1074), st.floats(-1, 1), st.integers(1, 9))
def test_fixed_point_rounds_exactly_on_any_grid(fraction_bits: int, fraction: float, n: int) -> None:
    bound = max(math.ldexp(1.0, 58 - fraction_bits), 2.0**-1000)
    assert grid_bound(bound, fraction_bits) >= 1
    if grid_bound(bound, fraction_bits) * n > LARGEST_WORD:
        return
    value = np.array([fraction * bound])
    encoding = encoding_for(value, n, FixedPoint(bound, fraction_bits))
    integer = round(Fraction(value[0]) * 2**fraction_bits)
    assert limbs_to_integers(encoding.encode(value)) == [integer]
    total = encoding.decode(integers_to_limbs([n * integer], 1))
    assert total[0] == float(Fraction(n * integer, 2**fraction_bits))


def test_fixed_point_rounds_ties_to_even() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5])
    encoding = encoding_for(values, 3, FixedPoint(10, fraction_bits=0))
    assert limbs_to_integers(encoding.encode(values)) == [0, 2, 2, 0, -2]


def test_fixed_point_total_is_positive_zero_even_as_a_tiny_float32() -> None:
    value = np.array([-(2.0**-140)], dtype=np.float32)
    encoding = encoding_for(value, 1, FixedPoint(2.0**-140, fraction_bits=190))
    total = encoding.decode(integers_to_limbs([-1], 1))  # -2^-190 is no float32
    assert total[0] == 0.0
    assert not np.signbit(total[0])


def test_a_float32_total_of_more_bits_than_a_double_is_rounded_once() -> None:
    encoding = encoding_for(np.zeros(1, np.float32), 3, FixedPoint(2.0**60, fraction_bits=0))
    integer = 2**54 + 2**30 + 1  # as a double it is a tie, which rounds down to 2^54
    assert np.float32(float(integer)) == 2.0**54
    assert encoding.decode(integers_to_limbs([integer], 1))[0] == 2.0**54 + 2.0**31


@pytest.mark.parametrize("n", [1, 2, 3, 1000, MAX_CONTRIBUTIONS])
@pytest.mark.parametrize("bound", [1.0, 0.75, 1000.0, 1e-9, 3e9])
def test_the_fraction_bits_named_as_remedy_fit_and_no_more_do(n: int, bound: float) -> None:
    fitting = largest_fraction_bits(bound, n)
    assert fitting is not None
    assert n * grid_bound(bound, fitting) <= LARGEST_WORD < n * grid_bound(bound, fitting + 1)


def test_fixed_point_that_could_overflow_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        SetupError, match=r"8 contributions of up to 1000000000.0 with 32.*at most 30 fraction"
    ):
        plan(FixedPoint(1e9), [("x", "float64", (3,))], 8)
    with pytest.raises(SetupError, match="a smaller bound"):
        plan(FixedPoint(9e18, fraction_bits=0), [("x", "float64", (3,))], 8)


def test_every_array_has_its_own_grid() -> None:
    encoding = FixedPoint({"weights": 1.0, "bias": 100.0}, {"weights": 40, "bias": 20})
    weights, bias, n = plan(
        encoding, [("weights", "float64", (2,)), ("bias", "float32", (1,)), ("n", "int64", ())], 3
    )
    assert limbs_to_integers(weights.encode(np.array([1.0, 2.0**-40]))) == [2**40, 1]
    assert limbs_to_integers(bias.encode(np.array([-100.0], np.float32))) == [-100 * 2**20]
    assert limbs_to_integers(n.encode(np.array(10**6))) == [10**6]
    with pytest.raises(ValueRangeError, match="'weights'"):
        weights.encode(np.array([1.5, 0.0]))


def test_one_number_holds_for_every_array_beside_one_given_by_name() -> None:
    fine, coarse = plan(
        FixedPoint(8.0, {"fine": 40, "coarse": 10}), [("fine", "float64", ()), ("coarse", "float64", ())], 3
    )
    assert (fine.bound, coarse.bound) == (8 * 2**40, 8 * 2**10)


@pytest.mark.parametrize(
    "encoding",
    [FixedPoint({"weights": 1.0}), FixedPoint(1.0, {"weights": 40}), Quantized(8, {"weights": 1.0})],
)
def test_an_array_without_a_grid_is_refused_by_name(encoding: EncodingParameters) -> None:
    assert plan(encoding, [("weights", "float64", (3,)), ("count", "int64", ())], 3)
    with pytest.raises(SetupError, match=r"array 'bias' has no .* in (FixedPoint|Quantized)\(.*'weights'"):
        plan(encoding, [("weights", "float64", (3,)), ("bias", "float64", (1,))], 3)


def test_the_refusal_of_a_grid_that_could_overflow_names_the_array() -> None:
    encoding = FixedPoint({"weights": 1.0, "bias": 1e9})
    with pytest.raises(SetupError, match=r"array 'bias': 8 contributions of up to 1000000000.0"):
        plan(encoding, [("weights", "float64", (3,)), ("bias", "float64", (1,))], 8)


@few
@given(st.integers(0, 2**32), st.sampled_from([32767, 32768, 32769, 70000]), st.sampled_from(["f4", "f8"]))
def test_long_vectors_are_encoded_chunk_by_chunk_like_short_ones(seed: int, length: int, kind: str) -> None:
    values = np.random.default_rng(seed).uniform(-5, 5, length).astype(kind)
    encoding = encoding_for(values, 3, FixedPoint(5.0))
    expected = np.rint(values.astype(np.float64) * 2.0**32).astype(np.int64)
    assert np.array_equal(encoding.encode(values)[:, 0].view(np.int64), expected)
    values[length - 1] = 5.5
    with pytest.raises(ValueRangeError) as caught:
        encoding.encode(values)
    assert caught.value.index == (length - 1,)


def test_a_bound_that_is_no_float32_is_not_rounded_to_one() -> None:
    value = np.array([0.1], np.float32)  # a little more than the double 0.1
    with pytest.raises(ValueRangeError):
        encoding_for(value, 3, FixedPoint(0.1)).encode(value)
    assert encoding_for(value, 3, FixedPoint(float(value[0]))).encode(value).shape == (1, 1)


def test_the_largest_number_of_contributions_just_fits() -> None:
    encoding = FixedPoint(1.0, fraction_bits=61)
    assert plan(encoding, [("x", "float64", ())], 3)
    with pytest.raises(SetupError):
        plan(encoding, [("x", "float64", ())], 4)


def test_a_total_that_no_contributions_reach_is_refused() -> None:
    encoding = encoding_for(np.zeros(2), 3, FixedPoint(1.0, fraction_bits=4))
    assert encoding.decode(integers_to_limbs([48, -48], 1)).tolist() == [3.0, -3.0]
    for impossible in (49, -49, -(2**63)):
        with pytest.raises(RangeError, match="flat index 1"):
            encoding.decode(integers_to_limbs([0, impossible], 1))


def test_words_of_a_mean_have_room_for_one_value_at_the_bound_whatever_the_number_of_holders() -> None:
    grid = FixedPoint(8.0, fraction_bits=27)
    for n in (1, 3, 2**20):
        mean = encoding_for(np.zeros(1, np.float32), n, FixedPointMean(grid))
        assert mean.word_bits == 32
        assert 2**30 <= mean.largest_total < 1.01 * 2**30
    assert encoding_for(np.zeros(1, np.float32), 3, grid).word_bits == 64
    for bound in (7.9, 8.0):  # a little more than half of what a word holds: a weight of 1.02 would wrap
        assert (
            encoding_for(np.zeros(1), 3, FixedPointMean(FixedPoint(bound, fraction_bits=28))).word_bits == 64
        )
    assert encoding_for(np.zeros(1), 1, FixedPointMean(FixedPoint(7.9, fraction_bits=28))).word_bits == 32


def test_a_mean_has_the_bits_of_the_same_grid_without_that_promise() -> None:
    values = [np.linspace(-0.8, 0.8, 7) * place / 5 for place in range(10)]
    grid = FixedPoint(8.0, fraction_bits=27)
    mean, without = (encoding_for(values[0], 10, encoding) for encoding in (FixedPointMean(grid), grid))
    words = sum((mean.to_words(mean.encode(array)) for array in values), np.zeros(7, np.uint32))
    assert np.array_equal(mean.decode(np.asarray(words)), without.decode(total_of(without, values)))


def test_a_mean_of_weights_up_to_nearly_two_beyond_the_bound_is_refused_and_never_wraps() -> None:
    mean = encoding_for(np.zeros(1, np.float32), 2, FixedPointMean(FixedPoint(8.0, fraction_bits=27)))
    for weight in (1.01, 1.5, 1.99):
        for sign in (1, -1):
            share = np.array([sign * 8.0 * weight / 2], dtype=np.float32)
            words = sum((mean.to_words(mean.encode(share)) for _ in range(2)), np.zeros(1, np.uint32))
            with pytest.raises(RangeError, match="the weights are more than 1 together"):
                mean.decode(np.asarray(words))


# Refusals at a holder


@pytest.mark.parametrize("encoding", [ExactFloat(), FixedPoint(10.0)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_that_are_not_finite_are_refused(encoding: ExactFloat, value: float, dtype: Any) -> None:
    array = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, value]], dtype=dtype)
    with pytest.raises(ValueRangeError) as caught:
        encoding_for(array, 3, encoding).encode(array)
    assert (caught.value.array, caught.value.index, caught.value.problem) == ("x", (1, 2), "not finite")


def test_a_value_out_of_range_is_refused_without_being_told() -> None:
    array = np.array([1.0, -1234.5])
    with pytest.raises(
        ValueRangeError, match=r"'x' at index \(1,\) is out of the declared range: "
    ) as caught:
        encoding_for(array, 3, FixedPoint(1234.0)).encode(array)
    assert "1234" not in str(caught.value) + repr(caught.value)


def test_the_refusal_survives_pickling() -> None:
    error = ValueRangeError(array="score", index=(1, 2), problem="not finite")
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is ValueRangeError
    assert (restored.array, restored.index, restored.problem, str(restored)) == (
        "score",
        (1, 2),
        "not finite",
        str(error),
    )


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(4), np.zeros(3, np.int64), np.float64(1)]
)
def test_another_dtype_or_shape_than_agreed_is_refused(array: NDArray[Any]) -> None:
    with pytest.raises(SetupError, match=r"'x' is .*expected float64\(3,\)"):
        encoding_for(np.zeros(3), 3).encode(array)


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(SetupError, match="masked"):
        encoding_for(np.zeros(2), 3).encode(np.ma.masked_array([1.0, 2.0], mask=[True, False]))


def test_byte_order_and_strides_do_not_matter() -> None:
    array = np.arange(12.0).reshape(3, 4)
    encoding = encoding_for(array.T, 2)
    expected = limbs_to_integers(encoding.encode(np.ascontiguousarray(array.T)))
    assert limbs_to_integers(encoding.encode(array.T)) == expected
    assert limbs_to_integers(encoding.encode(array.T.astype(">f8"))) == expected
    assert encoding_for(array.T.astype(">f8"), 2) == encoding


# Integers


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integers_stay_integers_and_totals_beyond_their_dtype_are_refused(dtype: str) -> None:
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    rows = [[low, high, high - 1, 3], [-low, 0, 1, 4]] if low else [[0, high, high - 1, 3], [0, 0, 1, 4]]
    if low:
        rows = [[low + 1, *rows[0][1:]], [-1, *rows[1][1:]]]
    arrays = [np.array(row, dtype=dtype) for row in rows]
    encoding = encoding_for(arrays[0], 3)
    total = encoding.decode(total_of(encoding, arrays))
    assert total.dtype == np.dtype(dtype)
    assert total.tolist() == [a + b for a, b in zip(*rows, strict=True)]
    for beyond in (high + 1, low - 1, 2 * high, 3 * low - 1):
        bad = integers_to_limbs([0, 0, beyond, 0], encoding.limbs)
        with pytest.raises(RangeError, match="flat index 2"):
            encoding.decode(bad)


def test_the_most_contributions_of_extreme_integers_fit() -> None:
    for dtype in ("bool", "int8", "uint32", "int64", "uint64"):
        encoding = encoding_for(np.zeros(1, dtype), MAX_CONTRIBUTIONS)
        assert MAX_CONTRIBUTIONS * encoding.bound < 2 ** (64 * encoding.limbs - 1)


def test_bools_are_counted() -> None:
    arrays = [np.array([True, False, True]), np.array([True, False, False])]
    encoding = encoding_for(arrays[0], 2)
    total = encoding.decode(total_of(encoding, arrays))
    assert total.dtype == np.int64
    assert total.tolist() == [2, 0, 1]


def test_integers_stay_integers_under_any_encoding() -> None:
    array = np.array([2**53 + 1, -5])
    for choice in (None, ExactFloat(), FixedPoint(1.0), Integers()):
        encoding = encoding_for(array, 2, choice)
        assert encoding.decode(encoding.encode(array)).tolist() == array.tolist()


def test_floats_under_integers_are_refused() -> None:
    with pytest.raises(SetupError, match="under Integers"):
        plan(Integers(), [("x", "float64", (3,))], 3)


# The plan


@pytest.mark.parametrize(
    "dtype", ["complex128", "object", "str", "longdouble", "float16", "datetime64[s]", "nonsense"]
)
def test_dtypes_that_cannot_be_summed_exactly_are_refused(dtype: str) -> None:
    with pytest.raises(SetupError, match="array 'x' has dtype"):
        plan(None, [("x", dtype, (3,))], 3)


def test_many_floats_want_an_explicit_encoding() -> None:
    at_limit = [("a", "float64", (4000,)), ("b", "float32", (96,)), ("n", "int64", (10_000,))]
    assert len(plan(None, at_limit, 3)) == 3
    beyond = [*at_limit, ("c", "float64", ())]
    with pytest.raises(SetupError, match="4,097 floats without an encoding"):
        plan(None, beyond, 3)
    assert len(plan(ExactFloat(), beyond, 3)) == 4


@pytest.mark.parametrize(
    ("names", "shape", "n"), [("xx", (1,), 3), ("xy", (-1,), 3), ("xy", (1,), 0), ("xy", (1,), 2**20 + 1)]
)
def test_impossible_plans_are_refused(names: str, shape: tuple[int, ...], n: int) -> None:
    with pytest.raises(SetupError):
        plan(None, [(name, "float64", shape) for name in names], n)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint64, np.int8])
def test_shapes_come_back(shape: tuple[int, ...], dtype: Any) -> None:
    array = np.full(shape, 7, dtype=dtype)
    for choice in (ExactFloat(), FixedPoint(10.0)):
        encoding = encoding_for(array, 2, choice)
        limbs = encoding.encode(array)
        assert limbs.shape == (encoding.size, encoding.limbs)
        assert np.array_equal(encoding.decode(add_limbs(limbs, limbs)), 2 * array)


def test_a_total_of_another_shape_is_refused() -> None:
    encoding = encoding_for(np.zeros(3), 3)
    with pytest.raises(SetupError, match=r"expected uint64\(3, 34\)"):
        encoding.decode(np.zeros((3, 1), dtype=np.uint64))


def test_sums_do_not_depend_on_the_order() -> None:
    rng = random.Random(5)
    values = [rng.choice([1, -1]) * 10 ** rng.uniform(-300, 300) for _ in range(40)]
    results = set()
    for _ in range(4):
        rng.shuffle(values)
        results.add(exact_sum(values)[0])
    assert len(results) == 1
