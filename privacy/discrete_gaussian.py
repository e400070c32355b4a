"""Exact samples of the discrete Gaussian N_Z(0, σ²): P(x) ∝ exp(−x² / 2σ²) over the integers, σ² rational.

Noise that is rounded from floats has gaps, and a gap gives the value away that was noised (Mironov 2012). Here no
probability is a float: the statistical distance to N_Z(0, σ²) is 0 if the random bytes are uniform, for any number
of draws. There are two samplers.

*By rejection* (Canonne, Kamath and Steinke): integers only, one draw at a time, for any σ.

*By table*, many draws at once. The magnitude is q·B + r with 0 ≤ r < B = 2^b and b least such that σ/B ≤ 512:
q ≥ 0 has the half distribution ∝ exp(−q²B² / 2σ²) by inversion, r is uniform, and the two are accepted with
probability exp(−r(2qB + r) / 2σ²); a random sign is refused to zero half the time. That is exact for every B
(Ducas et al., algorithm 12), and for σ ≤ 512 the table alone decides. Every decision is whether a uniform real
number U is below a real number p. The first 63 or 64 bits of U are drawn, and tell wherever integers or floats prove
on which side p is; if not, about once in 2^39 draws, U gets further bits and p further digits until they part
(`_is_below`, `_Table._exact_index`).

Who learns what: samples are secrets of the holder that draws them. How long a draw takes, and which memory it
touches, depends on its value: whoever measures that within the holder's machine is not defended against.

References
----------
C. Canonne, G. Kamath, T. Steinke, NeurIPS 2020 (algorithms 1 to 3); L. Ducas, A. Durmus, T. Lepoint,
V. Lyubashevsky, CRYPTO 2013; I. Mironov, CCS 2012.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import PrivacyError

RandomBytes: TypeAlias = Callable[[int], bytes]
Bounds: TypeAlias = Callable[[int], tuple[int, int]]  # bits: lower and upper bound of p · 2^bits

MAX_VARIANCE = Fraction(2**96)  # magnitudes stay exact as doubles, and sums of 2^10 within 63 bits
TABLE_VARIANCE = 512**2
CHUNK = 2**14  # draws at a time: every scratch array stays in the processor's cache
FEW = 32  # fewer draws than these are not worth a table
WORD_BITS = 64
INDEX_BITS = WORD_BITS - 1  # one bit is the sign
FLOAT_MARGIN = 2.0**-40  # far above the error of an exponential and its argument in doubles


def discrete_gaussian(variance: Fraction, count: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
    """Draw independent samples of N_Z(0, variance), exactly.

    Parameters
    ----------
    variance : Fraction
        σ², positive and at most 2^96. The variance of N_Z(0, σ²) itself is less, by 14 % at σ = 0.5, by a
        relative 2e-7 at σ = 1 and 1e-32 at σ = 2.
    count : int
    random_bytes : callable
        The system's randomness: n to n independent uniform bytes. About 8 bytes a draw are taken, 24 if σ > 512.

    Returns
    -------
    ndarray of int64, shape (count,)

    Raises
    ------
    PrivacyError
        The variance is not positive, or too large for words of 64 bits.
    """
    if not 0 < variance <= MAX_VARIANCE:
        raise PrivacyError(
            f"noise of variance {float(variance):.3g} grid units²: choose fraction bits for at most 2^96"
        )
    if count < FEW:
        few = [discrete_gaussian_by_rejection(variance, random_bytes) for _ in range(count)]
        return np.array(few, dtype=np.int64)
    table = _table(variance)
    result = np.empty(count, dtype=np.int64)
    filled = 0
    while filled < count:
        draws = table.draw(min(CHUNK, count - filled), random_bytes)
        result[filled : filled + len(draws)] = draws
        filled += len(draws)
    return result


# ── by rejection ───────────────────────────────────────────────────────────────────────────────────


def discrete_gaussian_by_rejection(variance: Fraction, random_bytes: RandomBytes) -> int:
    """Draw one sample of N_Z(0, variance) with integers alone (Canonne, Kamath and Steinke, algorithm 3)."""
    scale = math.isqrt(math.floor(variance)) + 1
    while True:
        candidate = _discrete_laplace(scale, random_bytes)
        if _bernoulli_exp((abs(candidate) - variance / scale) ** 2 / (2 * variance), random_bytes):
            return candidate


def _discrete_laplace(scale: int, random_bytes: RandomBytes) -> int:
    """Draw x with P(x) ∝ exp(−|x| / scale) (algorithm 2)."""
    while True:
        remainder = _uniform(scale, random_bytes)
        if not _bernoulli_exp(Fraction(remainder, scale), random_bytes):
            continue
        quotient = 0
        while _bernoulli_exp(Fraction(1), random_bytes):
            quotient += 1
        magnitude = remainder + scale * quotient
        negative = _uniform(2, random_bytes)
        if magnitude or not negative:
            return -magnitude if negative else magnitude


def _bernoulli_exp(exponent: Fraction, random_bytes: RandomBytes) -> bool:
    """Return True with probability exp(−exponent) (algorithm 1)."""
    while exponent > 1:
        if not _bernoulli_exp(Fraction(1), random_bytes):
            return False
        exponent -= 1
    trials = 1
    while _uniform(exponent.denominator * trials, random_bytes) < exponent.numerator:
        trials += 1
    return trials % 2 == 1


def _uniform(bound: int, random_bytes: RandomBytes) -> int:
    """Draw an integer from 0 to bound − 1."""
    bits = (bound - 1).bit_length()
    n_bytes = -(-bits // 8)
    while True:
        value = int.from_bytes(random_bytes(n_bytes), "little") >> (8 * n_bytes - bits)
        if value < bound:
            return value


# ── by table ───────────────────────────────────────────────────────────────────────────────────────


class _Table:
    """Draws of one variance, many at a time; the table is public and holds no draw.

    Parameters
    ----------
    variance : Fraction
    """

    def __init__(self, variance: Fraction) -> None:
        self._variance = variance
        self._block_bits = 0  # b
        while variance > TABLE_VARIANCE << 2 * self._block_bits:
            self._block_bits += 1
        self._index_variance = variance / (1 << 2 * self._block_bits)
        thresholds = _thresholds(self._index_variance, INDEX_BITS)
        self._thresholds = np.array(thresholds, dtype=np.uint64)
        self._before = np.array(
            [0, *thresholds], dtype=np.uint64
        )  # the threshold at or below an index's uniform

    def draw(self, candidates: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
        """Return the samples that are left of so many candidates: at least half of them, on average."""
        words = _words(candidates, random_bytes)
        uniform = words >> np.uint64(1)
        magnitude = np.searchsorted(self._thresholds, uniform, side="right").astype(np.int64, copy=False)
        for lane in np.flatnonzero(uniform - self._before[magnitude] <= 1):
            magnitude[lane] = self._exact_index(int(uniform[lane]), random_bytes)
        negative = (words & np.uint64(1)).astype(np.int64)
        accepted = np.ones(candidates, dtype=bool)
        if self._block_bits:
            magnitude, accepted = self._spread(magnitude, random_bytes)
        accepted &= (magnitude | (negative ^ 1)) != 0  # no −0
        return ((magnitude ^ -negative) + negative)[accepted]

    def _exact_index(self, uniform: int, random_bytes: RandomBytes) -> int:
        """Return the index of a uniform number whose first 63 bits do not decide it."""
        bits = INDEX_BITS
        while True:
            thresholds = _thresholds(self._index_variance, bits)
            surely = bisect_right(thresholds, uniform - 2)  # thresholds at or below it
            at_most = bisect_right(thresholds, uniform)
            if surely == at_most < len(thresholds):
                return surely
            uniform, bits = _extended(uniform, random_bytes), bits + WORD_BITS

    def _spread(
        self, index: NDArray[np.int64], random_bytes: RandomBytes
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Spread indices over their blocks: magnitudes, and which of them are accepted."""
        start = index << self._block_bits
        offset = (_words(len(index), random_bytes) & np.uint64((1 << self._block_bits) - 1)).astype(np.int64)
        words = _words(len(index), random_bytes)
        exponent = offset.astype(np.float64) * (2 * start + offset) * (-0.5 / float(self._variance))
        margin = np.exp(exponent)
        margin -= words * 2.0**-WORD_BITS
        accepted = margin > 0
        for lane in np.flatnonzero(np.abs(margin) < FLOAT_MARGIN):
            first, step = int(start[lane]), int(offset[lane])
            bounds = _exponential_bounds(step * (2 * first + step) / (2 * self._variance))
            accepted[lane] = _is_below(int(words[lane]), bounds, random_bytes)
        return start + offset, accepted


@lru_cache(maxsize=8)
def _table(variance: Fraction) -> _Table:
    return _Table(variance)


def _words(count: int, random_bytes: RandomBytes) -> NDArray[np.uint64]:
    return np.frombuffer(random_bytes(8 * count), dtype="<u8").astype(np.uint64, copy=False)


def _extended(uniform: int, random_bytes: RandomBytes) -> int:
    """Append the next 64 bits of a uniform number."""
    return uniform << WORD_BITS | int.from_bytes(random_bytes(WORD_BITS // 8), "little")


def _is_below(uniform: int, bounds: Bounds, random_bytes: RandomBytes) -> bool:
    """Whether a uniform number in [0, 1), of which 64 bits are known, lies below p."""
    bits = WORD_BITS
    while True:
        lower, upper = bounds(bits)
        if uniform < lower:  # so uniform + 1 ≤ lower, whatever bits follow
            return True
        if uniform >= upper:
            return False
        uniform, bits = _extended(uniform, random_bytes), bits + WORD_BITS


# ── exponentials of rational numbers, as integers ──────────────────────────────────────────────────


def _thresholds(variance: Fraction, bits: int) -> list[int]:
    """Bound the probabilities P(Q ≤ q) of the half distribution P(q) ∝ exp(−q² / 2·variance), q = 0, 1, ….

    Returns
    -------
    list of int
        L with L[q] ≤ P(Q ≤ q) · 2^bits < L[q] + 2, ascending; the last is at least 2^bits − 2.
    """
    # Fixed point with 64 guard bits, all rounded down. In units of the last place the factors are below the truth
    # by at most 3q + 2, so the weights by 2(q + 1)², and sums of n and all that follows by 4(n + 1)³ < 2^63.
    precision = bits + 64
    weight = 1 << precision
    factor = _exponential(1 / (2 * variance), precision)  # exp(−(2q + 1) / 2σ²): from q to q + 1
    ratio = _exponential(1 / variance, precision)
    sums, total = [], 0
    while weight:
        total += weight
        sums.append(total)
        weight = weight * factor >> precision
        factor = factor * ratio >> precision
    whole = total + 4 * (len(sums) + 1) ** 3
    return [(part << bits) // whole for part in sums]


def _exponential_bounds(exponent: Fraction) -> Bounds:
    def bounds(bits: int) -> tuple[int, int]:
        lower = _exponential(exponent, bits)
        return lower, lower + 2

    return bounds


def _exponential(exponent: Fraction, bits: int) -> int:
    """Return L with L ≤ exp(−exponent) · 2^bits < L + 2, for an exponent ≥ 0."""
    # Taylor's series at exponent / 2^k ≤ 1/2, squared k times. The series errs by at most 2 · precision + 4 units in
    # the last place, and each squaring doubles that: together less than half a unit of the result.
    halvings = max(0, exponent.numerator.bit_length() - exponent.denominator.bit_length() + 2)
    guard = halvings + bits.bit_length() + 12
    precision = bits + guard
    x = (exponent.numerator << precision) // (exponent.denominator << halvings)
    term = total = 1 << precision
    n = 0
    while term:
        n += 1
        term = (term * x >> precision) // n
        total += -term if n % 2 else term
    for _ in range(halvings):
        total = total * total >> precision
    return max(0, total - (1 << guard - 1)) >> guard
