"""Products and sums of doubles as if computed in twice their precision.

A residual near the solution of least squares is a small difference of large numbers, and its products with the
columns cancel in the sum over all rows. Computed this way they keep their digits, so that one step of
refinement makes the solution right to the last digits but one.

T. Ogita, S. M. Rump and S. Oishi, Accurate sum and dot product (SIAM J. Sci. Comput. 26, 2005), algorithms 3.1 to
3.3 and 5.3; J. R. Shewchuk's exact summation is `math.fsum`.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from .parameters import Vector

_SPLITTER = 2.0**27 + 1  # Veltkamp's, for 53 bits


class Pair(NamedTuple):
    """An unevaluated sum of two doubles, the second small against the first."""

    value: Vector
    tail: Vector


def two_sum(a: Vector, b: Vector) -> Pair:
    """Return a + b exactly (Knuth)."""
    value = a + b
    seen = value - a
    return Pair(value, (a - (value - seen)) + (b - seen))


def two_product(a: Vector, b: Vector) -> Pair:
    """Return a · b exactly, unless it leaves the range of doubles (Dekker)."""
    value = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return Pair(value, a_low * b_low - (((value - a_high * b_high) - a_low * b_high) - a_high * b_low))


def _split(a: Vector) -> Pair:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return Pair(high, a - high)


def residuals(y: Vector, x: Vector, theta: Vector) -> Pair:
    """Return y − xθ, shapes (n,), from columns x of shape (n, p)."""
    value, tail = y, np.zeros_like(y)
    for column, coefficient in zip(x.T, theta, strict=True):
        product = two_product(-column, np.full_like(y, coefficient))
        value, error = two_sum(value, product.value)
        tail = tail + (error + product.tail)
    return two_sum(value, tail)


def weighted(weights: Vector, pair: Pair) -> Pair:
    """Return the products of weights with a pair."""
    product = two_product(weights, pair.value)
    return two_sum(product.value, product.tail + weights * pair.tail)


def projections(x: Pair, pair: Pair) -> Pair:
    """Return x'r for columns x of shape (n, p), each sum rounded once and what the rounding took, shapes (p,)."""
    columns = (Pair(value, tail) for value, tail in zip(x.value.T, x.tail.T, strict=True))
    sums = [_exact_sum(_products(column, pair)) for column in columns]
    return Pair(np.array([value for value, _ in sums]), np.array([tail for _, tail in sums]))


def sum_of_products(one: Pair, other: Pair) -> float:
    """Return the sum of the products of two pairs of shape (n,), rounded once."""
    return _exact_sum(_products(one, other))[0]


def _products(one: Pair, other: Pair) -> list[float]:
    product = two_product(one.value, other.value)
    rest = product.tail + (one.value * other.tail + one.tail * other.value)
    return [*product.value.tolist(), *rest.tolist()]


def _exact_sum(terms: list[float]) -> tuple[float, float]:
    value = math.fsum(terms)
    return value, math.fsum(itertools.chain(terms, [-value]))
