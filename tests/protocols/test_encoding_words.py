"""Words: integers modulo 2^32, 2^64 or 2^(64·limbs), and back, for every total that can be."""

from __future__ import annotations

import os
import random
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols import encoding as encoding_module
from tacit.protocols.encoding import ArrayEncoding
from tacit.protocols.encoding_plan import plan
from tacit.protocols.errors import SetupError
from tacit.protocols.limbs import add_limbs, integers_to_limbs, limbs_to_integers
from tacit.serialization.encoding_parameters import EncodingParameters, ExactFloat, FixedPoint, Quantized

few = settings(deadline=None, derandomize=True, max_examples=24)

# Encoding, dtype, and the bits of the words that ten contributions of five values need.
ENCODINGS: list[tuple[EncodingParameters | None, Any, int]] = [
    (None, "bool", 32),
    (None, "int16", 32),
    (None, "int32", 64),
    (None, "int64", 128),
    (None, "uint64", 128),
    (ExactFloat(), "float64", 34 * 64),
    (ExactFloat(), "float32", 5 * 64),
    (FixedPoint(1.0, fraction_bits=24), "float32", 32),
    (FixedPoint(1.0), "float64", 64),
    (Quantized(8, clip=1.0), "float32", 32),
    (Quantized(28, clip=1.0), "float64", 32),
    (Quantized(29, clip=1.0), "float64", 64),
]
each_encoding = pytest.mark.parametrize(("encoding", "dtype", "bits"), ENCODINGS)


def planned(encoding: EncodingParameters | None, dtype: Any, n: int = 10) -> ArrayEncoding:
    (array,) = plan(encoding, [("x", dtype, (5,))], n)
    return array


def added(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Add modulo 2^word_bits, as a protocol does."""
    return add_limbs(left, right) if left.ndim == 2 else left + right


@each_encoding
def test_words_are_as_wide_as_the_total_needs(
    encoding: EncodingParameters | None, dtype: Any, bits: int
) -> None:
    array = planned(encoding, dtype)
    words = array.to_words(np.zeros((array.size, array.limbs), dtype=np.uint64))
    assert array.word_bits == bits
    assert (words.dtype, words.shape) == (array.word_dtype, array.word_shape)
    assert words.itemsize * words.size * 8 == bits * array.size


def test_the_last_number_of_contributions_that_fits_32_bits() -> None:
    fits = planned(FixedPoint(1.0, fraction_bits=28), "float64", 7)
    assert (fits.word_bits, fits.n_contributions * fits.bound) == (32, 7 * 2**28)
    assert planned(FixedPoint(1.0, fraction_bits=28), "float64", 8).word_bits == 64  # 2^31 is one too many
    exactly = planned(FixedPoint(float(2**31 - 1), fraction_bits=0), "float64", 1)
    assert exactly.word_bits == 32
    assert exactly.from_words(np.full(5, 2**31 + 1, np.uint32))[0] == np.int64(1 - 2**31).view(np.uint64)


@each_encoding
@few
@given(data=st.data())
def test_words_and_integers_are_inverse_for_every_total(
    encoding: EncodingParameters | None, dtype: Any, bits: int, data: st.DataObject
) -> None:
    array = planned(encoding, dtype)
    largest = array.n_contributions * array.bound
    total = st.integers(-largest, largest) | st.sampled_from([0, -1, 1, largest, -largest])
    totals = data.draw(st.lists(total, min_size=array.size, max_size=array.size))
    limbs = integers_to_limbs(totals, array.limbs)
    words = array.to_words(limbs)
    assert limbs_to_integers(array.from_words(words)) == totals
    assert np.array_equal(array.to_words(array.from_words(words)), words)


@each_encoding
@few
@given(seed=st.integers(0, 2**32), n=st.integers(1, 10))
def test_sums_of_masked_words_decode_as_sums_of_integers(
    encoding: EncodingParameters | None, dtype: Any, bits: int, seed: int, n: int
) -> None:
    rng, array = random.Random(seed), planned(encoding, dtype)
    integers = [
        [rng.choice([-array.bound, array.bound, rng.randint(-array.bound, array.bound)]) for _ in range(5)]
        + [rng.randint(0, 5)] * (array.size - 5)
        for _ in range(n)
    ]
    if np.dtype(dtype).kind == "b":
        integers = [[abs(integer) for integer in row] for row in integers]
    limbs = [integers_to_limbs(row, array.limbs) for row in integers]
    octets = rng.randbytes(array.word_bits // 8 * array.size)
    mask = np.frombuffer(octets, array.word_dtype).reshape(array.word_shape)
    masked = [mask, *map(array.to_words, limbs), _negated(mask)]
    opened = reduce(added, masked)
    total = array.from_words(opened)
    assert limbs_to_integers(total) == [sum(column) for column in zip(*integers, strict=True)]
    assert np.array_equal(total, reduce(add_limbs, limbs))


def _negated(mask: NDArray[Any]) -> NDArray[Any]:
    """−mask = ~mask + 1 modulo 2^word_bits."""
    one = np.zeros_like(mask)
    one[(..., 0) if mask.ndim == 2 else ...] = 1
    return add_limbs(~mask, one) if mask.ndim == 2 else ~mask + one


@each_encoding
def test_words_of_a_contribution_decode(encoding: EncodingParameters | None, dtype: Any, bits: int) -> None:
    array = planned(encoding, dtype)
    values = np.array([0, 1, 0, 1, 1]).astype(dtype)
    words = array.to_words(array.encode(values, os.urandom))
    assert np.array_equal(array.decode(words), values)
    assert np.array_equal(array.decode(array.from_words(words)), values)


@pytest.mark.parametrize(
    "words", [np.zeros(5, np.uint64), np.zeros(4, np.uint32), np.zeros((5, 1), np.uint32), np.zeros(5)]
)
def test_words_of_another_width_or_number_are_refused(words: Any) -> None:
    with pytest.raises(SetupError, match=r"expected uint32\(5,\)"):
        planned(None, "int8").decode(words)


@each_encoding
@pytest.mark.parametrize("at_a_time", [8, 24])
def test_total_decoded_where_it_lies_is_the_same_to_the_last_bit(
    encoding: EncodingParameters | None,
    dtype: Any,
    bits: int,
    at_a_time: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoding_module, "DECODED_BYTES", at_a_time)
    array = planned(encoding, dtype)
    values = np.array([1, 0, 1, 1, 0], dtype=dtype)
    words = array.to_words(array.encode(values, os.urandom)).copy()
    expected = array.decode(words)
    found = array.decode(words, in_place=True)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    if not isinstance(encoding, Quantized) and bits >= 64:
        assert np.shares_memory(found, words)
        assert words.nbytes < found.nbytes + bits // 8  # the rest is given back


def test_memory_of_somebody_else_is_not_decoded_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "DECODED_BYTES", 8)
    array = planned(FixedPoint(1.0), "float64")
    words = array.to_words(array.encode(np.full(5, 0.5)))
    before = words.copy()
    for lent in (words[:], np.frombuffer(words.tobytes(), dtype=words.dtype)):
        assert array.decode(lent, in_place=True).tolist() == [0.5] * 5
        assert lent.tolist() == before.tolist()
