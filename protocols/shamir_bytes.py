"""Shamir's secret sharing of short secrets, byte by byte: seeds and keys, not contributions.

Every byte of a secret is the value at 0 of a polynomial of degree threshold − 1 over GF(2^8), and a share is its
value at the share's own point, 1 … 255. The field is Rijndael's: bytes are polynomials over GF(2) modulo
x^8 + x^4 + x^3 + x + 1; addition is XOR.

The shares of the first threshold − 1 points are uniform bytes, and the others are interpolated from them and the
secret. That is the same distribution as uniform coefficients give, for threshold − 1 values and the secret fix
the polynomial; and it is less work, so that splitting and reconstructing are one matrix product each.

Who learns what: threshold − 1 shares together are independent of the secret, whoever holds them. Nothing here is
authentic: a wrong share, or a dealer whose shares lie on no polynomial, shows only in shares beyond the
threshold (`robust_bytes`), or in a commitment to the secret that the caller holds. Table look-ups are not constant in
time; no other party observes them.

Sources: Shamir 1979 (How to share a secret); FIPS 197, section 4, for the field; SLIP-0039 uses the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidMessageError, SetupError
from .secret import RandomBytes

Octets: TypeAlias = NDArray[np.uint8]

LARGEST_POINT = 255
_DIRECT_BYTES = 256  # a column of so many bytes repays a table of its own


# Steps


def split(secrets: Octets, *, threshold: int, points: Sequence[int], random_bytes: RandomBytes) -> Octets:
    """Deal shares of many secrets at once.

    Parameters
    ----------
    secrets : ndarray of uint8, shape (count, length)
    threshold : int
        The number of shares that reconstructs.
    points : sequence of int
        One for every share, distinct, 1 … 255.
    random_bytes : callable
        Source of (threshold − 1) · count · length secret bytes, asked once.

    Returns
    -------
    ndarray of uint8, shape (len(points), count, length)

    Raises
    ------
    SetupError
        If points repeat or lie outside 1 … 255, or fewer than `threshold` are given.
    """
    check(points, threshold)
    free = threshold - 1
    uniform = np.frombuffer(random_bytes(free * secrets.size), np.uint8).reshape(free, *secrets.shape)
    known = np.concatenate((secrets[np.newaxis], uniform))
    others = _interpolated((0, *points[:free]), known, points[free:])
    return np.concatenate((uniform, others))


def interpolate(points: Sequence[int], values: Octets, at: int = 0) -> Octets:
    """Evaluate, at one point, the polynomials of least degree through the given values.

    Parameters
    ----------
    points : sequence of int
        Distinct field elements, 0 … 255; here 0 is a point like any other.
    values : ndarray of uint8, shape (len(points), ...)
        Values at the points, of any number of polynomials.
    at : int
        A field element.

    Returns
    -------
    ndarray of uint8, shape (...)

    Raises
    ------
    InvalidMessageError
        If there is not one value a point.
    SetupError
        If points repeat or are no field elements.
    """
    _check_points(points, smallest=0)
    _check_points((at,), smallest=0)
    check_shares(points, values)
    value: Octets = _interpolated(points, values, (at,))[0]
    return value


# Checks


def check(points: Sequence[int], threshold: int) -> None:
    """Refuse points that are not distinct, 1 … 255, or fewer than the threshold."""
    _check_points(points, smallest=1)
    if not 1 <= threshold <= len(points):
        raise SetupError(
            f"{len(points)} shares cannot have threshold {threshold}: choose one from 1 to {len(points)}"
        )


def _check_points(points: Sequence[int], *, smallest: int) -> None:
    if not points or len(set(points)) != len(points):
        raise SetupError("every share needs a point of its own: number the parties from 1")
    if not all(smallest <= point <= LARGEST_POINT for point in points):
        raise SetupError(
            f"a point lies outside {smallest} … {LARGEST_POINT}: deal to at most {LARGEST_POINT} parties"
        )


def check_shares(points: Sequence[int], shares: Octets) -> None:
    """Refuse what is not one share of bytes a point."""
    if shares.dtype != np.uint8 or shares.ndim == 0 or len(shares) != len(points):
        raise InvalidMessageError(f"there must be {len(points)} shares of bytes, one a point")


# The field


def _logarithms() -> tuple[Octets, NDArray[np.intp]]:
    """Return the powers of the generator x + 1, twice around, and each element's exponent (0 for 0)."""
    powers, exponents = np.zeros(510, np.uint8), np.zeros(256, np.intp)
    element = 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = element
        exponents[element] = exponent
        doubled = (element << 1) ^ (0x11B if element & 0x80 else 0)
        element ^= doubled
    return powers, exponents


def _multiplication_table() -> Octets:
    """Return all products: entry (a, b) is a · b."""
    table: Octets = POWERS[EXPONENTS[:, np.newaxis] + EXPONENTS]
    table[0] = table[:, 0] = 0
    return table


POWERS, EXPONENTS = _logarithms()
PRODUCTS = _multiplication_table()


def _interpolated(points: Sequence[int], values: Octets, targets: Sequence[int]) -> Octets:
    """Evaluate the polynomials through `values` at every target: (len(targets), ...)."""
    matrix = _lagrange(tuple(points), tuple(targets))
    columns = values.reshape(len(points), -1)
    return product(matrix, columns).reshape(len(targets), *values.shape[1:])


@lru_cache(maxsize=1024)
def _lagrange(points: tuple[int, ...], targets: tuple[int, ...]) -> Octets:
    """Return the weights of the values at `points` (columns) in the values at `targets` (rows).

    The weight of point i at target z is Π_{j≠i} (z − x_j) / (x_i − x_j), as a sum of exponents. A target that
    is a point takes that value alone.
    """
    x, z = np.array(points, np.intp), np.array(targets, np.intp)
    apart = z[:, np.newaxis] ^ x
    above = EXPONENTS[apart]
    below = EXPONENTS[x[:, np.newaxis] ^ x].sum(axis=0)  # the exponent of 0, at j = i, adds nothing
    weights: Octets = POWERS[(above.sum(axis=1, keepdims=True) - above - below) % 255]
    at_point = (apart == 0).any(axis=1)
    weights[at_point] = apart[at_point] == 0
    weights.setflags(write=False)
    return weights


def product(matrix: Octets, columns: Octets) -> Octets:
    """Multiply a matrix (rows, n) by n rows of bytes (n, size): (rows, size)."""
    if columns.shape[1] <= _DIRECT_BYTES:
        places = (matrix.astype(np.intp) << 8)[:, :, np.newaxis] | columns
        rows: Octets = np.bitwise_xor.reduce(PRODUCTS.ravel().take(places), axis=1)
        return rows
    total = np.zeros((columns.shape[1], len(matrix)), np.uint8)
    for weights, column in zip(matrix.T, columns, strict=True):
        # Entry b of this table holds b times each weight, so that one look-up serves all rows.
        total ^= PRODUCTS[:, weights].take(column, axis=0)
    return np.ascontiguousarray(total.T)
