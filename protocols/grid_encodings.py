"""The encodings with a declared grid: `FixedPoint`, which refuses and never clips, and `Quantized`, which clips.

Both take one word of 64 bits an integer, or of 32 where the totals fit (`ArrayEncoding.word_bits`), and walk a
vector once, in chunks that stay in the processor's cache.

FixedPoint rounds each value to the nearest multiple of 2^-fraction_bits, ties to even; the sum of what is rounded
is exact, and is rounded once more where it has more bits than the array's dtype.

Quantized rounds at random. With x = value · levels / clip, X = round(x · 2^32) and u uniform in [0, 2^32),

    level = ⌊(X + u) / 2^32⌋,  which has the expectation X / 2^32:

x itself, but for 2^-33 from rounding X, and for 2^-53 |x| since x is computed as a double. The u are a keystream
of AES-256 under a fresh key of 32 random bytes. How many values were clipped is one integer more, the last
one, and summed like the others: the coordinator learns the total count and no holder's own.

References
----------
D. Alistarh, D. Grubic, J. Li, R. Tomioka, M. Vojnovic, NeurIPS 2017 (QSGD); M. Croci et al., Royal Society Open
Science 9, 2022 (stochastic rounding).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoding import ArrayEncoding
from .errors import MisuseError, RangeError
from .key_agreement import KEY_BYTES
from .limbs import Limbs, Words, nearest_floats
from .secret import RandomBytes
from .stream_cipher import Keystream

CHUNK = 2**15  # values: 256 KiB of doubles
LARGEST_WHOLE_DOUBLE = 2**53  # up to here a double holds every integer
LARGEST_SHORT, LARGEST_SHORT_MEAN = (
    2**31 - 1,
    2**30,
)  # that words of 32 bits are for: totals, and bounds of means
DITHER_BITS = 32


@dataclass(frozen=True, kw_only=True)
class FixedPointArray(ArrayEncoding):
    """Floats on the grid of multiples of 2^-fraction_bits.

    Attributes
    ----------
    limit : float
        B: every value satisfies |v| ≤ B; `bound` is round(B · 2^fraction_bits).
    fraction_bits : int
    is_mean : bool
        Whether the values are multiplied by weights that together are at most 1.
    """

    limit: float
    fraction_bits: int
    is_mean: bool = False

    @property
    def limbs(self) -> int:
        """One: the plan has proven that the total fits a signed word."""
        return 1

    @property
    def largest_total(self) -> int:
        """Largest magnitude of a total; of a mean R, and what weighing in float32 and the grid may round up."""
        total = super().largest_total
        return min(total, self.bound + (self.bound >> 20) + self.n_contributions) if self.is_mean else total

    @property
    def word_bits(self) -> int:
        """Bits of a word; a mean's holds nearly two bounds, so that weights up to there are refused, and never wrap."""
        largest = min(super().largest_total, 2 * self.bound - 1) if self.is_mean else self.largest_total
        return 32 if largest <= 2**31 - 1 else 64

    def _to_limbs(self, values: NDArray[Any], random_bytes: RandomBytes | None) -> Limbs:
        words = np.empty(len(values), dtype=np.int64)
        half = self.fraction_bits // 2  # 2^fraction_bits may lie beyond the doubles; its halves do not
        for part, doubles in _chunks(values):
            if not _peak(doubles) <= self.limit:  # True for NaN
                self._refuse_values(values)
            np.multiply(doubles, math.ldexp(1.0, half), out=doubles)
            np.multiply(doubles, math.ldexp(1.0, self.fraction_bits - half), out=doubles)
            words[part] = np.rint(doubles, out=doubles)
        return words.view(np.uint64).reshape(-1, 1)

    def _refuse_values(self, values: NDArray[Any]) -> None:
        """Name the first value that is not finite, or else the first out of range."""
        self._refuse_value(~np.isfinite(values), "not finite")
        self._refuse_value(np.abs(values.astype(np.float64)) > self.limit, "out of the declared range")

    def _from_limbs(self, total: Limbs, start: int) -> NDArray[Any]:
        words = total[:, 0].view(np.int64)
        problem = (
            "is beyond the bound of a mean: the weights are more than 1 together" if self.is_mean else ""
        )
        self._refuse_impossible(words, start, self.largest_total, problem)
        if self.dtype == np.float32 and self.largest_total > LARGEST_WHOLE_DOUBLE:
            return nearest_floats(total, -self.fraction_bits, self.dtype)
        # To float64, the conversion rounds; to float32, the cast, after an exact conversion. The scaling is
        # exact, since the unit is no finer than 2^-1074.
        doubles = words.astype(np.float64)
        doubles *= math.ldexp(1.0, -self.fraction_bits)
        return _as_dtype(doubles, self.dtype)


@dataclass(frozen=True, kw_only=True)
class QuantizedArray(ArrayEncoding):
    """Floats clipped and rounded at random to 2·levels + 1 levels, and the count of those that were clipped.

    Attributes
    ----------
    clip : float
        Values beyond ±clip count as ±clip.
    levels : int
        2^(bits−1) − 1: the clip, in steps. `bound` is this, or the number of values if that is larger.
    """

    clip: float
    levels: int

    @property
    def size(self) -> int:
        """Number of integers: one a value, and the count of the clipped ones."""
        return super().size + 1

    @property
    def scale(self) -> float:
        """Steps in a unit: levels / clip as a double, such that clip · scale never rounds above levels."""
        scale = self.levels / self.clip
        return scale if self.clip * scale <= self.levels else math.nextafter(scale, 0.0)

    def clipped(self, total: Limbs | Words) -> int:
        """Return how many values were clipped, over all contributions in a total.

        Parameters
        ----------
        total : ndarray
            As of `decode`.

        Raises
        ------
        RangeError
            The count is none of n_contributions contributions.
        """
        count = int(self.from_words(total[-1:])[0, 0].view(np.int64))
        most = self.n_contributions * (self.size - 1)
        if not 0 <= count <= most:
            raise RangeError(
                f"the count of clipped values of array {self.name!r} is outside 0 to {most}: "
                "some message was wrong"
            )
        return count

    def _to_limbs(self, values: NDArray[Any], random_bytes: RandomBytes | None) -> Limbs:
        if random_bytes is None:
            raise MisuseError(
                f"array {self.name!r} is rounded at random: give encode a source of random bytes"
            )
        words = np.zeros(len(values) + 1, dtype=np.int64)
        stream, scale = Keystream(random_bytes(KEY_BYTES)), math.ldexp(self.scale, DITHER_BITS)
        for part, doubles in _chunks(values):
            peak = _peak(doubles)
            if not peak < math.inf:  # True for NaN
                self._refuse_value(~np.isfinite(values), "not finite")
            if peak > self.clip:
                words[-1] += np.count_nonzero(np.abs(doubles) > self.clip)
                np.clip(doubles, -self.clip, self.clip, out=doubles)
            np.multiply(doubles, scale, out=doubles)
            levels = words[:-1][part]
            levels[:] = np.rint(doubles, out=doubles)
            levels += _dither(stream, len(levels))
            levels >>= DITHER_BITS
        return words.view(np.uint64).reshape(-1, 1)

    def decode(self, total: Limbs | Words, *, in_place: bool = False) -> NDArray[Any]:
        """Decode as `ArrayEncoding.decode` does, if the count of clipped values can be one; never in place."""
        values = super().decode(total)
        self.clipped(total)
        return values

    def _from_limbs(self, total: Limbs, start: int) -> NDArray[Any]:
        words = total[:, 0].view(np.int64)
        self._refuse_impossible(words, start, self.n_contributions * self.levels)
        return _as_dtype(words / self.scale, self.dtype)


def _chunks(values: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Walk a vector: yield where each chunk is, and its values as doubles, which the next chunk overwrites."""
    scratch = np.empty(min(CHUNK, len(values)))
    for start in range(0, len(values), CHUNK):
        part = slice(start, min(start + CHUNK, len(values)))
        doubles = scratch[: part.stop - start]
        doubles[:] = values[part]
        yield part, doubles


def _peak(doubles: NDArray[np.float64]) -> float:
    """Return the largest magnitude; NaN if there is a NaN."""
    return max(float(doubles.max()), -float(doubles.min()))


def _dither(stream: Keystream, count: int) -> NDArray[np.uint32]:
    """Return 32 uniform bits for each of `count` values."""
    octets = bytearray(4 * count)
    stream.fill(memoryview(octets))
    return np.frombuffer(octets, dtype="<u4")


def _as_dtype(doubles: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Cast to the array's dtype; what underflows becomes +0.0."""
    return doubles if dtype == doubles.dtype else doubles.astype(dtype) + dtype.type(0)
