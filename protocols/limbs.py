"""Arithmetic on limbs: integers of any fixed width as rows of little-endian 64-bit words.

An integer is one row of a matrix (count, limbs), in two's complement over all of its limbs; sums and negatives
are modulo 2^(64·limbs), and carries run from limb to limb. `nearest_floats` rounds such integers to floats,
once, to nearest and ties to even.

All of this is local: nobody learns anything, and nothing here is secret from the party that computes it. It is
not constant in time and need not be: no other party observes it.
Sources: IEEE 754-2019; Boldo and Melquiond 2008 for rounding to odd before the last rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import RangeError

Limbs: TypeAlias = NDArray[np.uint64]  # (count, limbs): little-endian two's complement
Words: TypeAlias = NDArray[np.uint32 | np.uint64]  # (count,), modulo 2^32 or 2^64; or limbs

_ONE = np.uint64(1)


def add_limbs(a: Limbs, b: Limbs) -> Limbs:
    """Add integers, carries propagated, modulo 2^(64·limbs).

    Parameters
    ----------
    a, b : ndarray of uint64, shape (count, limbs)
        Summands; one of them may have a single row, which is added to all.

    Returns
    -------
    ndarray of uint64, shape (count, limbs)
    """
    total = a + b
    if total.shape[1] == 1:
        return total
    carry = total[:, 0] < a[:, 0]
    for limb in range(1, total.shape[1]):
        overflow = total[:, limb] < a[:, limb]
        total[:, limb] += carry
        carry = overflow | (carry & (total[:, limb] == 0))
    return total


def negate_limbs(limbs: Limbs) -> Limbs:
    """Negate integers modulo 2^(64·limbs): −x = ~x + 1, the carry running through all low zero limbs."""
    carry = np.ones(limbs.shape, dtype=bool)
    np.logical_and.accumulate(limbs[:, :-1] == 0, axis=1, out=carry[:, 1:])
    return ~limbs + carry


def limbs_to_integers(limbs: Limbs) -> list[int]:
    """Convert each row of limbs to a signed Python integer."""
    width = 8 * limbs.shape[1]
    octets = np.ascontiguousarray(limbs, dtype="<u8").tobytes()
    return [
        int.from_bytes(octets[at : at + width], "little", signed=True) for at in range(0, len(octets), width)
    ]


def integers_to_limbs(integers: Iterable[int], limbs: int) -> Limbs:
    """Convert signed Python integers to rows of `limbs` limbs.

    Raises
    ------
    RangeError
        An integer needs more than 64·limbs bits in two's complement.
    """
    try:
        octets = b"".join(integer.to_bytes(8 * limbs, "little", signed=True) for integer in integers)
    except OverflowError:
        raise RangeError(
            f"an integer exceeds {64 * limbs} bits in two's complement: use more limbs"
        ) from None
    return np.frombuffer(octets, dtype="<u8").astype(np.uint64).reshape(-1, limbs)


def nearest_floats(total: Limbs, unit_exponent: int, dtype: np.dtype[Any]) -> NDArray[np.floating[Any]]:
    """Round total · 2^unit_exponent once, to nearest and ties to even; too large becomes an infinity.

    Parameters
    ----------
    total : ndarray of uint64, shape (count, limbs)
        Signed integers.
    unit_exponent : int
        At least −1074, so that no intermediate double is rounded by underflow.
    dtype : dtype
        float64 or float32.

    Returns
    -------
    ndarray of `dtype`, shape (count,)
        Zero is always +0.0.
    """
    negative = (total[:, -1] >> np.uint64(63)) != 0
    magnitude = total.copy()
    magnitude[negative] = negate_limbs(total[negative])
    head, exponent = _leading_bits(magnitude)
    if dtype == np.float32:
        # Rounded to odd at 53 >= 24 + 2 bits, so that the cast to float32 below is the only rounding.
        head = (head >> np.uint64(10)) | ((head & np.uint64(1023)) != 0)
        exponent += 10
    with np.errstate(over="ignore", under="ignore"):
        floats = np.ldexp(head.view(np.int64).astype(np.float64), exponent + unit_exponent).astype(dtype)
    floats[negative] *= -1
    return np.asarray(floats + dtype.type(0), dtype=dtype)  # −0.0 + 0.0 is +0.0


def _leading_bits(magnitude: Limbs) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return head and exponent with magnitude ≈ head · 2^exponent, head of 63 bits and rounded to odd.

    The lowest bit of the head is set if any bit below it was: what is rounded from the head to fewer
    than 62 bits is then rounded as if from the whole magnitude.
    """
    rows = np.arange(len(magnitude))
    nonzero = magnitude != 0
    top = magnitude.shape[1] - 1 - np.argmax(nonzero[:, ::-1], axis=1)
    high = magnitude[rows, top]
    low = np.where(top > 0, magnitude[rows, np.maximum(top - 1, 0)], np.uint64(0))
    # Clearing the second highest bit keeps the conversion from rounding up to the next power of two.
    length = np.frexp((high & ~(high >> _ONE)).astype(np.float64))[1]
    shift = np.minimum(64 - length, 63).astype(np.uint64)
    head = (high << shift) | ((low >> _ONE) >> (np.uint64(63) - shift))
    rest = ((low << shift) != 0) | ((np.argmax(nonzero, axis=1) < top - 1) & (high != 0))
    odd = (head >> _ONE) | (head & _ONE) | rest
    return odd, 64 * top - shift.astype(np.int64) + 1
