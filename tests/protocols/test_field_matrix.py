"""Products with constant matrices over prime fields equal those of Python's integers, at the extremes too."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols.errors import SetupError
from tacit.protocols.field_matrix import (
    LARGEST_SUM,
    DigitProduct,
    FieldMatrix,
    Matrix,
    chunks,
    lagrange,
    word_digits,
)
from tacit.protocols.prime_field import PRIMES, Moduli

few = settings(deadline=None, derandomize=True, max_examples=60)
MERSENNE, SMALLEST = PRIMES[0], PRIMES[-1]
BOTH: Moduli = (MERSENNE, SMALLEST)


def apply(matrices: list[Matrix], moduli: Moduli, inputs: NDArray[np.uint64]) -> list[list[list[int]]]:
    """Multiply; inputs and result are indexed by column or row, modulus, place."""
    result: list[list[list[int]]] = FieldMatrix(matrices, moduli).apply(list(inputs)).tolist()
    return result


def by_integers(matrices: list[Matrix], moduli: Moduli, inputs: NDArray[np.uint64]) -> list[list[list[int]]]:
    values = inputs.tolist()
    return [
        [
            [
                sum(a * column[m][place] for a, column in zip(matrices[m][row], values, strict=True)) % p
                for place in range(inputs.shape[2])
            ]
            for m, p in enumerate(moduli)
        ]
        for row in range(len(matrices[0]))
    ]


def entries(p: int) -> st.SearchStrategy[int]:
    """Small entries, extreme ones, and any: for every way of cutting."""
    return (
        st.integers(-1000, 1000) | st.sampled_from([p - 1, p // 2, p // 2 + 1, 2**60]) | st.integers(0, p - 1)
    )


@st.composite
def products(draw: st.DrawFn) -> tuple[list[Matrix], Moduli, NDArray[np.uint64]]:
    moduli = draw(st.sampled_from([(MERSENNE,), (SMALLEST,), BOTH]))
    n_rows, n_inputs, count = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(0, 4))
    matrices: list[Matrix] = [
        [[draw(entries(p)) for _ in range(n_inputs)] for _ in range(n_rows)] for p in moduli
    ]
    inputs = [
        [
            draw(
                st.lists(
                    st.sampled_from([0, 1, p - 1]) | st.integers(0, p - 1), min_size=count, max_size=count
                )
            )
            for p in moduli
        ]
        for _ in range(n_inputs)
    ]
    return matrices, moduli, np.array(inputs, dtype=np.uint64).reshape(n_inputs, len(moduli), count)


@few
@given(products())
def test_products_are_those_of_integers(
    product: tuple[list[Matrix], Moduli, NDArray[np.uint64]],
) -> None:
    assert apply(*product) == by_integers(*product)


# Entries with which all signed digits are as large as can be, for each cut: rows of small integers, short rows, long.
HALF_DIGITS = {
    "small": 2**12 - 1,
    "short": (1 << 60) - 1 - (1 << 30),
    "long": (1 << 60) - 1 - (1 << 41) - (1 << 20),
}


@pytest.mark.parametrize("modulus", [MERSENNE, SMALLEST])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("kind", "n_inputs"), [("small", 100), ("short", 8), ("long", 700)])
def test_extreme_entries_times_extreme_elements(kind: str, n_inputs: int, sign: int, modulus: int) -> None:
    matrix = [[sign * HALF_DIGITS[kind]] * n_inputs]
    elements = [
        0,
        1,
        modulus - 1,
        2**60,
        2**60 - 1,
        (1 << 61) - 1 - (1 << 32),
        sum(0xFFFF << s for s in (0, 32)),
    ]
    inputs = np.full((n_inputs, 1, len(elements)), elements, dtype=np.uint64)
    assert apply([matrix], (modulus,), inputs) == by_integers([matrix], (modulus,), inputs)


@pytest.mark.parametrize("n_inputs", [1, 7, 40, 600])
def test_rows_of_any_length(n_inputs: int) -> None:
    rng = random.Random(n_inputs)
    matrices: list[Matrix] = [[[rng.randrange(p) for _ in range(n_inputs)] for _ in range(2)] for p in BOTH]
    inputs = np.array(
        [[[rng.randrange(p) for _ in range(3)] for p in BOTH] for _ in range(n_inputs)], dtype=np.uint64
    )
    assert apply(matrices, BOTH, inputs) == by_integers(matrices, BOTH, inputs)


def test_columns_beyond_a_chunk() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, MERSENNE, size=(3, 1, 50_021), dtype=np.uint64)
    matrix = [[3, -5, 7]]
    expected = [(3 * int(a) - 5 * int(b) + 7 * int(c)) % MERSENNE for a, b, c in inputs[:, 0].T]
    assert apply([matrix], (MERSENNE,), inputs) == [[expected]]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000, 100_003])
def test_chunks_cover_all_columns_and_have_one_length(count: int) -> None:
    length, places = chunks(count, 500)
    covered = np.zeros(count, dtype=int)
    for place in places:
        covered[place] += 1
    assert (covered > 0).all()
    assert {place.stop - place.start for place in places} <= {length}


def test_inexact_sums_are_never_taken() -> None:
    # 2 digits of the entry 2^12 - 1 are (2^12 - 1, 0): the bound on the inputs is exact.
    product = DigitProduct([[[2**12 - 1]]], (MERSENNE,), 2)
    assert product.is_exact_up_to(LARGEST_SUM // (2**12 - 1))
    assert not product.is_exact_up_to(LARGEST_SUM // (2**12 - 1) + 1)


@pytest.mark.parametrize("modulus", [MERSENNE, SMALLEST])
@pytest.mark.parametrize("n_digits", [2, 3])
def test_sums_as_large_as_can_be(n_digits: int, modulus: int) -> None:
    width = -(-61 // n_digits)
    matrix = [[1 << (width * digit)] for digit in range(n_digits)]  # digit by digit, and nothing else
    product = DigitProduct([matrix], (modulus,), n_digits)
    inputs = [LARGEST_SUM, -LARGEST_SUM, LARGEST_SUM - 1, 0]
    out = np.empty((1, n_digits, len(inputs)), dtype=np.uint64)
    product.apply(np.array([inputs], dtype=np.float64), out, product.workspace(len(inputs)))
    assert out[0].tolist() == [[entry * x % modulus for x in inputs] for (entry,) in matrix]


def test_more_terms_than_can_be_summed_exactly_are_refused() -> None:
    with pytest.raises(SetupError, match="fewer"):
        FieldMatrix([[[MERSENNE // 3] * 40_000]], (MERSENNE,))


def test_digits_are_the_lowest_first() -> None:
    words = np.array([[0x0123_4567_89AB_CDEF]], dtype=np.uint64)
    assert word_digits(words, 2).tolist() == [[[0x89AB_CDEF, 0x0123_4567]]]
    assert word_digits(words, 4).tolist() == [[[0xCDEF, 0x89AB, 0x4567, 0x0123]]]


@few
@given(st.data())
def test_interpolation_agrees_with_evaluation(data: st.DataObject) -> None:
    p = data.draw(st.sampled_from(BOTH))
    places = data.draw(st.lists(st.integers(-20, 20), min_size=2, max_size=9, unique=True))
    points, targets = places[:-1], places[-1:]
    polynomial = data.draw(st.lists(st.integers(0, p - 1), min_size=1, max_size=len(points)))

    def value(x: int) -> int:
        total = 0
        for coefficient in reversed(polynomial):
            total = (total * x + coefficient) % p
        return total

    (row,) = lagrange(points, targets, p)
    assert sum(a * value(x) for a, x in zip(row, points, strict=True)) % p == value(targets[0])
