"""Residues modulo several primes: any integer in range comes back, no other passes."""

from __future__ import annotations

import random
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.encoding import FLOAT_FORMATS, MAX_CONTRIBUTIONS
from tacit.protocols.errors import InvalidMessageError, SetupError
from tacit.protocols.limbs import integers_to_limbs, limbs_to_integers
from tacit.protocols.prime_field import PRIMES, Elements, add_in_place
from tacit.protocols.residues import choose_moduli, from_residues, to_residues

few = settings(deadline=None, derandomize=True, max_examples=40)
EXACT_FLOAT = MAX_CONTRIBUTIONS * FLOAT_FORMATS[np.dtype(np.float64)].largest


def residues_of(integers: list[int], moduli: tuple[int, ...]) -> Elements:
    return np.array([[x % p for x in integers] for p in moduli], dtype=np.uint64).reshape(len(moduli), -1)


@pytest.mark.parametrize(
    ("largest", "n_primes"),
    [(0, 1), (2**60 - 1, 1), (2**60, 2), (2**63 - 1, 2), (2**83, 2), (2**121, 3), (EXACT_FLOAT, 35)],
)
def test_as_many_primes_as_hold_the_totals(largest: int, n_primes: int) -> None:
    moduli = choose_moduli(largest)
    assert len(moduli) == n_primes
    assert moduli == PRIMES[:n_primes]
    assert choose_moduli(largest, check=True) == PRIMES[: n_primes + 1]


def test_totals_wider_than_all_primes_are_refused() -> None:
    with pytest.raises(SetupError, match="bound"):
        choose_moduli(prod(PRIMES))


@st.composite
def totals(draw: st.DrawFn) -> tuple[list[int], int, int, bool]:
    """Integers of up to any magnitude, that magnitude, limbs that hold them, and whether to check."""
    bits = draw(st.sampled_from([1, 59, 60, 62, 63, 100, 300, 2118]))
    largest = draw(st.integers(1 << (bits - 1), (1 << bits) - 1))
    values = st.sampled_from([0, 1, -1, largest, -largest]) | st.integers(-largest, largest)
    limbs = bits // 64 + 1 + draw(st.integers(0, 2))
    return draw(st.lists(values, max_size=5)), largest, limbs, draw(st.booleans())


@few
@given(totals())
def test_integers_come_back(case: tuple[list[int], int, int, bool]) -> None:
    integers, largest, limbs, check = case
    moduli = choose_moduli(largest, check=check)
    residues = to_residues(integers_to_limbs(integers, limbs), moduli)
    assert residues.tolist() == residues_of(integers, moduli).tolist()
    assert limbs_to_integers(from_residues(residues, moduli, limbs, largest)) == integers


def test_extremes_of_every_limb_are_reduced() -> None:
    integers = [2 ** (64 * 34 - 1) - 1, -(2 ** (64 * 34 - 1)), -1, 0]
    assert (
        to_residues(integers_to_limbs(integers, 34), PRIMES).tolist()
        == residues_of(integers, PRIMES).tolist()
    )


def test_sums_of_residues_are_residues_of_the_sum() -> None:
    moduli = choose_moduli(EXACT_FLOAT, check=True)
    rng = random.Random(0)
    columns = [[rng.randint(-EXACT_FLOAT // 8, EXACT_FLOAT // 8) for _ in range(3)] for _ in range(8)]
    total = np.zeros((len(moduli), 3), dtype=np.uint64)
    for column in columns:
        add_in_place(total, to_residues(integers_to_limbs(column, 34), moduli), moduli)
    joined = limbs_to_integers(from_residues(total, moduli, 34, EXACT_FLOAT))
    assert joined == [sum(values) for values in zip(*columns, strict=True)]


def test_many_integers_at_once() -> None:
    integers = [(-3) ** (k % 38) for k in range(20_000)]
    moduli = choose_moduli(3**38)
    limbs = integers_to_limbs(integers, 2)
    assert (from_residues(to_residues(limbs, moduli), moduli, 2, 3**38) == limbs).all()


@pytest.mark.parametrize(
    ("largest", "check"), [(2**50, False), (2**50, True), (2**63 - 1, False), (EXACT_FLOAT, True)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_first_integer_out_of_range_is_refused(largest: int, check: bool, sign: int) -> None:
    moduli = choose_moduli(largest, check=check)
    residues = residues_of([0, sign * largest, sign * (largest + 1)], moduli)
    assert len(from_residues(residues[:, :2], moduli, 34, largest)) == 2
    with pytest.raises(InvalidMessageError, match="no integer in range"):
        from_residues(residues, moduli, 34, largest)


@pytest.mark.parametrize("n_primes", [1, 2, 3, 36])
def test_the_largest_totals_that_so_many_primes_take_come_back(n_primes: int) -> None:
    largest = (prod(PRIMES[:n_primes]) - 1) // (2 if n_primes == 1 else 4)
    assert len(choose_moduli(largest)) == n_primes
    if n_primes < len(PRIMES):
        assert len(choose_moduli(largest + 1)) > n_primes
    for total in (largest, -largest, largest - 1):
        residues = residues_of([total], PRIMES[:n_primes])
        assert limbs_to_integers(from_residues(residues, PRIMES[:n_primes], 35, largest)) == [total]


@pytest.mark.parametrize("wrong", [0, 17, 35])
def test_a_wrong_residue_of_an_exact_float_is_found(wrong: int) -> None:
    moduli = choose_moduli(EXACT_FLOAT, check=True)
    residues = residues_of([12345], moduli)
    residues[wrong] = (residues[wrong] + np.uint64(1)) % np.uint64(moduli[wrong])
    with pytest.raises(InvalidMessageError):
        from_residues(residues, moduli, 34, EXACT_FLOAT)
