"""A bound for values that nobody knows the size of: a secure maximum over exponents, found by one secure sum.

The buckets stand for the bounds 2^-64, 2^-63, …, 2^64. A holder finds the lowest bound that none of its values
exceeds, and contributes a uniform word to that bucket and to every one below it, and 0 to those above. Summed
modulo 2^64, a bucket that nobody fills stays 0, and one that somebody fills is uniform. So the highest bucket
that is not 0 is the largest holder's, whose bound holds for all.

Who learns what: the coordinator learns that one bound, a power of two. A filled bucket's sum is uniform, whether
one holder filled it or all, so nothing shows how many did, or the exponent of any holder but the largest. This
holds **only where words are summed modulo 2^64**, all of it under the protocol's own protection; summed as plain
integers, as in slots of a Paillier plaintext, the size of a sum shows how many holders filled the bucket.

The answer is too low if the words of the highest filled bucket sum to 0: probability 2^-64. Then some value is
out of the declared range and its holder refuses, as for any bound; no sum is ever wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.encoding_parameters import FixedPoint
from .encoding import ArrayEncoding
from .errors import MisuseError, RangeError, SetupError
from .limbs import Limbs, Words
from .secret import RandomBytes

LOWEST_EXPONENT, HIGHEST_EXPONENT = -64, 64
N_BUCKETS = HIGHEST_EXPONENT - LOWEST_EXPONENT + 1
GRID_BITS = 42  # of the bound: with 2^20 holders a word still holds the sum


def n_filled_buckets(array: NDArray[np.floating[Any]]) -> int:
    """Return how many buckets a holder fills: up to the lowest bound 2^e with |x| ≤ 2^e for all its values.

    Parameters
    ----------
    array : ndarray of float32 or float64

    Returns
    -------
    int
        0 if there is no value but zeros; at most N_BUCKETS.

    Raises
    ------
    RangeError
        A value is NaN, infinite, or beyond ±2^64.
    """
    peak = max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))
    if not peak <= math.ldexp(1.0, HIGHEST_EXPONENT):  # True for NaN
        raise RangeError(
            f"a value is not finite or beyond 2^{HIGHEST_EXPONENT}: scale the values, or use ExactFloat()"
        )
    if peak == 0:
        return 0
    mantissa, exponent = math.frexp(peak)  # mantissa in [1/2, 1), and 1/2 for a power of two
    return max(exponent - (mantissa == 0.5), LOWEST_EXPONENT) - LOWEST_EXPONENT + 1


def bucket_words(n_filled: int, random_bytes: RandomBytes) -> NDArray[np.uint64]:
    """Return a holder's contribution: uniform words in its first `n_filled` buckets, 0 above.

    Uniform, zero included: words without 0 would not sum to uniform ones.

    Parameters
    ----------
    n_filled : int
        From `n_filled_buckets`.
    random_bytes : callable
        Source of 8 secret bytes a filled bucket.

    Returns
    -------
    ndarray of uint64, shape (N_BUCKETS,)
        To be summed modulo 2^64.
    """
    words = np.zeros(N_BUCKETS, dtype=np.uint64)
    words[:n_filled] = np.frombuffer(random_bytes(8 * n_filled), dtype="<u8")
    return words


def range_from_total(total: NDArray[np.uint64]) -> float | None:
    """Return the bound of the highest bucket that is not 0: no value of any holder exceeds it.

    Parameters
    ----------
    total : ndarray of uint64, shape (N_BUCKETS,)
        The sum, modulo 2^64, of all holders' `bucket_words`.

    Returns
    -------
    float or None
        A power of two; None if all values of all holders are zeros.

    Raises
    ------
    SetupError
        The total has another shape.
    """
    if total.shape != (N_BUCKETS,):
        raise SetupError(f"the total has shape {total.shape}, expected {(N_BUCKETS,)}")
    filled = np.flatnonzero(total)
    return math.ldexp(1.0, LOWEST_EXPONENT + int(filled[-1])) if filled.size else None


@dataclass(frozen=True, kw_only=True)
class RangeArray(ArrayEncoding):
    """Floats of which nothing is summed but who fills which bucket; decodes to the bound."""

    @property
    def size(self) -> int:
        """Number of words: one a bucket, whatever the array."""
        return N_BUCKETS

    @property
    def limbs(self) -> int:
        """One: words are summed modulo 2^64."""
        return 1

    def _to_limbs(self, values: NDArray[Any], random_bytes: RandomBytes | None) -> Limbs:
        if random_bytes is None:
            raise MisuseError("a bucket is filled at random: pass random_bytes")
        self._refuse_value(~np.isfinite(values), "not finite")
        self._refuse_value(np.abs(values) > math.ldexp(1.0, HIGHEST_EXPONENT), "out of the declared range")
        return bucket_words(n_filled_buckets(values), random_bytes)[:, None]

    def decode(self, total: Limbs | Words, *, in_place: bool = False) -> NDArray[np.float64]:
        """Return the bound, 0 if all values are zeros; never in place."""
        return np.array(range_from_total(self.from_words(total)[:, 0]) or 0.0)

    def _from_limbs(self, total: Limbs, start: int) -> NDArray[Any]:
        raise MisuseError("a range is decoded whole")


def grid_within(bounds: Mapping[str, float]) -> FixedPoint:
    """Return the encoding for arrays with these bounds, by name: a grid of 2^-42 of each.

    Raises
    ------
    SetupError
        If a bound exceeds 2^42.
    """
    exponents = {name: math.frexp(bound)[1] - 1 if bound else 0 for name, bound in bounds.items()}
    if any(exponent > GRID_BITS for exponent in exponents.values()):
        raise SetupError(f"some value exceeds 2^{GRID_BITS}: scale the values, or use ExactFloat()")
    return FixedPoint(
        {name: math.ldexp(1.0, exponent) for name, exponent in exponents.items()},
        {name: GRID_BITS - exponent for name, exponent in exponents.items()},
    )
