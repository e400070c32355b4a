"""Arrays of numbers as exact integers, and the sum of integers as an array of numbers again.

All protocols sum the same integers, so all give the same bits: the grid belongs to the encoding, never to
the protocol or the roster. An integer travels as *limbs*, little-endian words of 64 bits that together hold
it in two's complement; an array of `count` integers is a matrix (count, limbs). Sums propagate carries from
limb to limb (`limbs`): limbs summed separately would leak more than the total does. Which array gets which
encoding is the plan's affair (`encoding_plan`); the two with a declared grid are in `grid_encodings`.

=============  ==========================  =================================  ================
encoding       unit of the integer         bound R of one contribution        limbs
=============  ==========================  =================================  ================
integers       1                           the dtype's largest magnitude      1, 64 bit: 2
ExactFloat     2^-1074 (float32: 2^-149)   largest finite number / unit       34 (float32: 5)
FixedPoint     2^-fraction_bits            round(bound · 2^fraction_bits)     1
FixedPointMean as FixedPoint               as FixedPoint                      1
Quantized      clip / (2^(bits−1) − 1)     2^(bits−1) − 1, or the size        1
=============  ==========================  =================================  ================

A protocol that sums modulo a power of two may sum *words* instead, no wider than the total needs: of 32 bits
where every total of the roster's contributions provably fits (`ArrayEncoding.word_bits`), else the limbs.

Encoding is local: nobody learns anything here. What a decoded total gives away is itself, low-order bits
included (see `ExactFloat`). ExactFloat rounds once, to nearest and ties to even, when the total is decoded.
Source: IEEE 754-2019.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import RangeError, SetupError
from .limbs import Limbs, Words, nearest_floats, negate_limbs
from .secret import RandomBytes

MAX_CONTRIBUTIONS = 2**20
DECODED_BYTES = 2**18  # at a time: what a decoder makes on its way stays in the processor's cache

_REMEDIES = {
    "not finite": "leave out or impute the missing values, or ask at another point",
    "out of the declared range": "declare a larger bound (and fewer fraction bits), or use ExactFloat()",
}


class ValueRangeError(RangeError):
    """A holder's own value cannot be encoded; the value itself is never told.

    Attributes
    ----------
    array : str
        Name of the array.
    index : tuple of int
        Where in the array.
    problem : str
        ``"not finite"`` or ``"out of the declared range"``.
    """

    def __init__(self, *, array: str, index: tuple[int, ...], problem: str) -> None:
        self.array = array
        self.index = index
        self.problem = problem
        super().__init__(array, index, problem)

    def __str__(self) -> str:
        place = f"array {self.array!r} at index {self.index}" if self.index else f"array {self.array!r}"
        return f"{place} is {self.problem}: {_REMEDIES.get(self.problem, 'change the query')}"


@dataclass(frozen=True, kw_only=True)
class ArrayEncoding(ABC):
    """How one named array becomes integers, the same for every holder of the roster.

    Attributes
    ----------
    name : str
    dtype : dtype
        What a holder contributes, in native byte order.
    shape : tuple of int
    bound : int
        R: every holder's integers satisfy |v| ≤ R.
    n_contributions : int
        Holders of the roster (not the survivors).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    bound: int
    n_contributions: int

    @property
    def size(self) -> int:
        """Number of integers: one a value."""
        return math.prod(self.shape)

    @property
    def limbs(self) -> int:
        """Limbs of 64 bits an integer has: enough for MAX_CONTRIBUTIONS, whatever the roster."""
        return (MAX_CONTRIBUTIONS * self.bound).bit_length() // 64 + 1

    @property
    def largest_total(self) -> int:
        """Largest magnitude of a total: n_contributions · R."""
        return self.n_contributions * self.bound

    @property
    def word_bits(self) -> int:
        """Bits of a word: the narrowest of 32 and 64·limbs that holds every total, with its sign."""
        return 32 if self.largest_total <= 2**31 - 1 else 64 * self.limbs

    @property
    def word_dtype(self) -> np.dtype[Any]:
        """What words are stored as: uint32 or uint64."""
        return np.dtype(np.uint32 if self.word_bits == 32 else np.uint64)

    @property
    def word_shape(self) -> tuple[int, ...]:
        """Shape of the words: (size,), or (size, limbs) for more limbs than one."""
        return (self.size, self.limbs) if self.limbs > 1 else (self.size,)

    def encode(self, array: NDArray[Any], random_bytes: RandomBytes | None = None) -> Limbs:
        """Encode one holder's array.

        Parameters
        ----------
        array : ndarray
            Of the agreed dtype and shape.
        random_bytes : callable, optional
            Source of random bytes, for an encoding that rounds at random.

        Returns
        -------
        ndarray of uint64, shape (size, limbs)

        Raises
        ------
        SetupError
            The array has another dtype or shape than agreed.
        ValueRangeError
            A value is not finite or out of the declared range.
        MisuseError
            The encoding rounds at random and has no source to do it from.
        """
        if isinstance(array, np.ma.MaskedArray):
            raise SetupError(f"array {self.name!r} is masked: fill or leave out the masked values first")
        given = np.asarray(array)
        if given.dtype.newbyteorder("=") != self.dtype or given.shape != self.shape:
            raise SetupError(
                f"array {self.name!r} is {given.dtype}{given.shape}, expected {self.dtype}{self.shape}: "
                "every holder contributes the same dtype and shape"
            )
        return self._to_limbs(np.ascontiguousarray(given, dtype=self.dtype).reshape(-1), random_bytes)

    @property
    def total_dtype(self) -> np.dtype[Any]:
        """The dtype of a decoded total: the array's own, int64 for bool."""
        return np.dtype(np.int64) if self.dtype.kind == "b" else self.dtype

    def decode(self, total: Limbs | Words, *, in_place: bool = False) -> NDArray[Any]:
        """Decode a sum of at most n_contributions encoded arrays, piece by piece.

        Parameters
        ----------
        total : ndarray of uint64, shape (size, limbs), or of word_dtype and word_shape
            As integers or as words.
        in_place : bool
            Whether a long total is decoded where it lies, and gives back what it does not need of its memory:
            **nobody may use it, or a view of it, any more**.

        Returns
        -------
        ndarray
            In the array's shape, of total_dtype.

        Raises
        ------
        SetupError
            The total has another shape.
        RangeError
            A total cannot be represented, or is none of n_contributions contributions.
        """
        integers = (np.dtype(np.uint64), (self.size, self.limbs))
        if (total.dtype, total.shape) not in (integers, (self.word_dtype, self.word_shape)):
            raise SetupError(
                f"the total of array {self.name!r} is {total.dtype}{total.shape}, expected "
                f"{self.word_dtype}{self.word_shape}: decode it with the encoding it was made with"
            )
        count = math.prod(self.shape)
        if not (in_place and self._fits(total)):
            values = np.empty(count, dtype=self.total_dtype)
            self._decode_into(values, total)
            return values.reshape(self.shape)
        self._decode_into(_begin_of(total, count, self.total_dtype), total)
        needed = -(-count * self.total_dtype.itemsize // total[:1].nbytes)
        total.resize((needed, *total.shape[1:]), refcheck=False)
        return _begin_of(total, count, self.total_dtype).reshape(self.shape)

    def _fits(self, total: Limbs | Words) -> bool:
        """Whether a total is worth decoding in place, and its values never run ahead of the words still to be read."""
        its_own = total.flags.owndata and total.flags.writeable and total.flags.c_contiguous
        shorter = len(total) == math.prod(self.shape) and self.total_dtype.itemsize <= total[:1].nbytes
        return total.nbytes > DECODED_BYTES and its_own and shorter

    def _decode_into(self, values: NDArray[Any], total: Limbs | Words) -> None:
        rows = max(1, DECODED_BYTES // (8 * self.limbs))
        for start in range(0, len(values), rows):
            part = slice(start, min(start + rows, len(values)))
            values[part] = self._from_limbs(self.from_words(total[part]), start)

    def to_words(self, limbs: Limbs) -> Words:
        """Return integers as words, for sums modulo 2^word_bits.

        Parameters
        ----------
        limbs : ndarray of uint64, shape (size, limbs)

        Returns
        -------
        ndarray of word_dtype and word_shape
            Words of 32 bits are a copy, wider ones the same memory.
        """
        if self.word_bits == 32:
            return limbs[:, 0].astype(np.uint32)
        return limbs.reshape(len(limbs), *self.word_shape[1:])

    def from_words(self, words: Words | Limbs) -> Limbs:
        """Return words as integers, as `to_words` made them or summed modulo 2^word_bits.

        Parameters
        ----------
        words : ndarray of word_dtype, or of uint64
            Of some values one after the other; integers stay as they are.

        Returns
        -------
        ndarray of uint64, shape (count, limbs)
            Wide words are the same memory.
        """
        if words.dtype == np.uint32:
            words = words.view(np.int32).astype(np.int64).view(np.uint64)  # the sign is extended
        return words.reshape(len(words), self.limbs).astype(np.uint64, copy=False)

    @abstractmethod
    def _to_limbs(self, values: NDArray[Any], random_bytes: RandomBytes | None) -> Limbs:
        """Encode a contiguous vector of the right dtype."""

    @abstractmethod
    def _from_limbs(self, total: Limbs, start: int) -> NDArray[Any]:
        """Decode the integers of some values, from the place `start` on, to a vector of total_dtype."""

    def _refuse_value(self, bad: NDArray[np.bool_], problem: str) -> None:
        """Name the first value for which `bad` holds."""
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), self.shape))
            raise ValueRangeError(array=self.name, index=index, problem=problem)

    def _refuse_total(self, bad: NDArray[np.bool_], start: int, problem: str) -> None:
        """Name the first total, of those from `start` on, for which `bad` holds."""
        if bad.any():
            raise RangeError(
                f"the total of array {self.name!r} at flat index {start + int(np.argmax(bad))} {problem}"
            )

    def _refuse_impossible(
        self, words: NDArray[np.int64], start: int, largest: int, problem: str = ""
    ) -> None:
        """Refuse totals that contributions in range do not sum to."""
        self._refuse_total(
            ~((words <= largest) & (words >= -largest)),
            start,
            problem
            or f"exceeds what {self.n_contributions} contributions in range sum to: some message was wrong",
        )


def _begin_of(total: Limbs | Words, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the memory at the beginning of a total as values."""
    return total.reshape(-1).view(np.uint8)[: count * dtype.itemsize].view(dtype)


class IntegerArray(ArrayEncoding):
    """Integers of up to 64 bits, signed or not, and bool, as they are."""

    def _to_limbs(self, values: NDArray[Any], random_bytes: RandomBytes | None) -> Limbs:
        limbs = np.zeros((len(values), self.limbs), dtype=np.uint64)
        limbs[:, 0] = values.astype(np.uint64)
        if self.limbs > 1 and self.dtype.kind == "i":
            limbs[:, 1:] = (values >> 63).astype(np.uint64)[:, None]
        return limbs

    def _from_limbs(self, total: Limbs, start: int) -> NDArray[Any]:
        dtype, low = self.total_dtype, total[:, 0]
        words = low.view(np.int64) if total.shape[1] == 1 or dtype.kind == "i" else low
        limits = np.iinfo(dtype)
        too_large = (words < limits.min) | (words > limits.max)
        if total.shape[1] == 1:
            self._refuse_impossible(low.view(np.int64), start, self.largest_total)
        else:
            extension = (words >> 63).astype(np.uint64) if dtype.kind == "i" else np.zeros_like(low)
            too_large |= (total[:, 1:] != extension[:, None]).any(axis=1)
        self._refuse_total(too_large, start, f"lies beyond {dtype}: contribute a wider integer, or floats")
        return words.astype(dtype)


@dataclass(frozen=True)
class _FloatFormat:
    """An IEEE 754 binary format, seen as integers in units of its smallest subnormal."""

    bits: np.dtype[Any]
    mantissa_bits: int
    exponent_mask: int
    unit_exponent: int

    @property
    def largest(self) -> int:
        """Return the largest finite number in units."""
        return ((1 << (self.mantissa_bits + 1)) - 1) << (self.exponent_mask - 2)


FLOAT_FORMATS = {
    np.dtype(np.float64): _FloatFormat(np.dtype(np.uint64), 52, 0x7FF, -1074),
    np.dtype(np.float32): _FloatFormat(np.dtype(np.uint32), 23, 0xFF, -149),
}


class ExactFloatArray(ArrayEncoding):
    """Floats as integers in units of the smallest subnormal: sums are exact, rounded once at the end."""

    def _to_limbs(self, values: NDArray[Any], random_bytes: RandomBytes | None) -> Limbs:
        self._refuse_value(~np.isfinite(values), "not finite")
        form = FLOAT_FORMATS[self.dtype]
        bits = values.view(form.bits).astype(np.uint64)
        exponent = (bits >> np.uint64(form.mantissa_bits)) & np.uint64(form.exponent_mask)
        normal = exponent > 0
        mantissa = bits & np.uint64((1 << form.mantissa_bits) - 1)
        mantissa |= normal.astype(np.uint64) << np.uint64(form.mantissa_bits)
        shift = exponent - normal  # subnormals have exponent 0 but the unit of exponent 1
        within = shift & np.uint64(63)
        limb = (shift >> np.uint64(6)).astype(np.intp)
        rows = np.arange(len(values))
        limbs = np.zeros((len(values), self.limbs), dtype=np.uint64)
        limbs[rows, limb] = mantissa << within
        limbs[rows, limb + 1] = (mantissa >> np.uint64(1)) >> (np.uint64(63) - within)
        negative = np.signbit(values)
        limbs[negative] = negate_limbs(limbs[negative])
        return limbs

    def _from_limbs(self, total: Limbs, start: int) -> NDArray[Any]:
        floats = nearest_floats(total, FLOAT_FORMATS[self.dtype].unit_exponent, self.dtype)
        problem = f"lies beyond {self.dtype}: scale the values down before summing"
        self._refuse_total(~np.isfinite(floats), start, problem)
        return floats
