"""Residuals and their projections carry twice the digits of doubles."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.models.exact_arithmetic import (
    Pair,
    projections,
    residuals,
    sum_of_products,
    two_product,
    two_sum,
    weighted,
)

RNG = np.random.default_rng(5)
REAL = st.floats(-1e100, 1e100, allow_subnormal=False).filter(lambda value: abs(value) > 1e-100)


def exact(pair: Pair) -> list[Fraction]:
    return [
        Fraction(value) + Fraction(tail)
        for value, tail in zip(pair.value.tolist(), pair.tail.tolist(), strict=True)
    ]


@given(a=REAL, b=REAL)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_sums_and_products_of_two_are_exact(a: float, b: float) -> None:
    assert exact(two_sum(np.array([a]), np.array([b]))) == [Fraction(a) + Fraction(b)]
    assert exact(two_product(np.array([a]), np.array([b]))) == [Fraction(a) * Fraction(b)]


def fitted_almost() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return y, x and θ whose residuals cancel ten digits."""
    x = RNG.normal(size=(40, 3)) * [1, 1e3, 1e6]
    theta = np.array([1e6, 1e3, 1.0])
    return x @ theta + 1e-4 * RNG.normal(size=40), x, theta


def test_residuals_that_cancel_keep_their_digits() -> None:
    y, x, theta = fitted_almost()
    found = exact(residuals(y, x, theta))
    for row, value in enumerate(found):
        expected = Fraction(y[row]) - sum(
            Fraction(a) * Fraction(b) for a, b in zip(x[row], theta, strict=True)
        )
        assert abs(value - expected) <= Fraction(2.0**-90) * abs(Fraction(y[row]))


def test_projections_are_those_of_rational_arithmetic() -> None:
    y, x, theta = fitted_almost()
    weights = RNG.uniform(1, 2, size=40)
    error = weighted(weights, residuals(y, x, theta))
    found = exact(projections(Pair(x, np.zeros_like(x)), error))
    for column in range(3):
        expected = sum(
            (Fraction(a) * r for a, r in zip(x[:, column], exact(error), strict=True)), start=Fraction(0)
        )
        size = sum(abs(Fraction(a) * r) for a, r in zip(x[:, column], exact(error), strict=True))
        assert abs(found[column] - expected) <= Fraction(2.0**-95) * size


def test_a_sum_of_squares_is_rounded_once() -> None:
    y, x, theta = fitted_almost()
    error = residuals(y, x, theta)
    expected = float(sum(value**2 for value in exact(error)))
    assert sum_of_products(error, weighted(np.ones(40), error)) == pytest.approx(expected, rel=1e-15)
