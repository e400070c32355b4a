"""Arrays of numbers as exact integers, and the sum of integers as an array of numbers again.

All protocols sum the same integers, so all give the same bits: the grid belongs to the encoding, never to
the protocol or the roster. An integer travels as *limbs*, little-endian words of 64 bits that together hold
it in two's complement; an array of `count` integers is a matrix (count, limbs). Sums propagate carries from
limb to limb: limbs summed separately would leak more than the total does.

=============  ==========================  =================================  ================
encoding       unit of the integer         bound R of one contribution        limbs
=============  ==========================  =================================  ================
integers       1                           the dtype's largest magnitude      1, 64 bit: 2
ExactFloat     2^-1074 (float32: 2^-149)   largest finite number / unit       34 (float32: 5)
FixedPoint     2^-fraction_bits            round(bound · 2^fraction_bits)     1
=============  ==========================  =================================  ================

Encoding is local: nobody learns anything here. What a decoded total gives away is itself, low-order bits
included (see `ExactFloat`). Rounding is to nearest, ties to even. ExactFloat rounds once, when the total is
decoded; FixedPoint rounds each value to the grid, and a total of more than 53 bits to a double.
Sources: IEEE 754-2019; Boldo and Melquiond 2008 for rounding to odd before the last rounding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..serialization.encoding_parameters import ExactFloat, FixedPoint, Integers
from .errors import RangeError, SetupError

Limbs: TypeAlias = NDArray[np.uint64]  # (count, limbs): little-endian two's complement
Floats: TypeAlias = NDArray[np.float64]
Specification: TypeAlias = tuple[str, DTypeLike, tuple[int, ...]]  # name, dtype, shape of one array

MAX_CONTRIBUTIONS = 2**20
DEFAULT_EXACT_VALUES = 4096
LARGEST_WORD = 2**63 - 1

_ONE = np.uint64(1)
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


# Limbs ----------------------------------------------------------------------------------------------------


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


# Encodings of one array -----------------------------------------------------------------------------------


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
        Holders of the roster (not the survivors); |total| ≤ n_contributions · R.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    bound: int
    n_contributions: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def limbs(self) -> int:
        """Limbs of 64 bits an integer has: enough for MAX_CONTRIBUTIONS, whatever the roster."""
        return (MAX_CONTRIBUTIONS * self.bound).bit_length() // 64 + 1

    def encode(self, array: NDArray[Any]) -> Limbs:
        """Encode one holder's array.

        Returns
        -------
        ndarray of uint64, shape (size, limbs)

        Raises
        ------
        SetupError
            The array has another dtype or shape than agreed.
        ValueRangeError
            A value is not finite or out of the declared range.
        """
        if isinstance(array, np.ma.MaskedArray):
            raise SetupError(f"array {self.name!r} is masked: fill or leave out the masked values first")
        given = np.asarray(array)
        if given.dtype.newbyteorder("=") != self.dtype or given.shape != self.shape:
            raise SetupError(
                f"array {self.name!r} is {given.dtype}{given.shape}, expected {self.dtype}{self.shape}: "
                "every holder contributes the same dtype and shape"
            )
        return self._to_limbs(np.ascontiguousarray(given, dtype=self.dtype).reshape(-1))

    def decode(self, total: Limbs) -> NDArray[Any]:
        """Decode a sum of at most n_contributions encoded arrays.

        Parameters
        ----------
        total : ndarray of uint64, shape (size, limbs)

        Returns
        -------
        ndarray
            In the array's shape and dtype (int64 for bool).

        Raises
        ------
        SetupError
            The total has another shape.
        RangeError
            A total cannot be represented, or is none of n_contributions contributions.
        """
        if total.shape != (self.size, self.limbs):
            raise SetupError(
                f"the total of array {self.name!r} has shape {total.shape}, "
                f"expected {(self.size, self.limbs)}: decode it with the encoding it was made with"
            )
        return self._from_limbs(np.asarray(total, dtype=np.uint64)).reshape(self.shape)

    @abstractmethod
    def _to_limbs(self, values: NDArray[Any]) -> Limbs:
        """Encode a contiguous vector of the right dtype."""

    @abstractmethod
    def _from_limbs(self, total: Limbs) -> NDArray[Any]:
        """Decode a matrix of the right shape to a vector."""

    def _refuse_value(self, bad: NDArray[np.bool_], problem: str) -> None:
        """Name the first value for which `bad` holds."""
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), self.shape))
            raise ValueRangeError(array=self.name, index=index, problem=problem)

    def _refuse_total(self, bad: NDArray[np.bool_], problem: str) -> None:
        """Name the first total for which `bad` holds."""
        if bad.any():
            raise RangeError(
                f"the total of array {self.name!r} at flat index {int(np.argmax(bad))} {problem}"
            )

    def _refuse_impossible(self, words: NDArray[np.int64]) -> None:
        """Refuse single-limb totals that no n_contributions contributions sum to."""
        largest = self.n_contributions * self.bound
        self._refuse_total(
            ~((words <= largest) & (words >= -largest)),
            f"exceeds what {self.n_contributions} contributions in range sum to: some message was wrong",
        )


class IntegerArray(ArrayEncoding):
    """Integers of up to 64 bits, signed or not, and bool, as they are."""

    def _to_limbs(self, values: NDArray[Any]) -> Limbs:
        limbs = np.zeros((len(values), self.limbs), dtype=np.uint64)
        limbs[:, 0] = values.astype(np.uint64)
        if self.limbs > 1 and self.dtype.kind == "i":
            limbs[:, 1:] = (values >> 63).astype(np.uint64)[:, None]
        return limbs

    def _from_limbs(self, total: Limbs) -> NDArray[Any]:
        dtype = np.dtype(np.int64) if self.dtype.kind == "b" else self.dtype
        low = total[:, 0]
        words = low.view(np.int64) if total.shape[1] == 1 or dtype.kind == "i" else low
        limits = np.iinfo(dtype)
        too_large = (words < limits.min) | (words > limits.max)
        if total.shape[1] == 1:
            self._refuse_impossible(low.view(np.int64))
        else:
            extension = (words >> 63).astype(np.uint64) if dtype.kind == "i" else np.zeros_like(low)
            too_large |= (total[:, 1:] != extension[:, None]).any(axis=1)
        self._refuse_total(too_large, f"lies beyond {dtype}: contribute a wider integer, or floats")
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


_FORMATS = {
    np.dtype(np.float64): _FloatFormat(np.dtype(np.uint64), 52, 0x7FF, -1074),
    np.dtype(np.float32): _FloatFormat(np.dtype(np.uint32), 23, 0xFF, -149),
}


class ExactFloatArray(ArrayEncoding):
    """Floats as integers in units of the smallest subnormal: sums are exact, rounded once at the end."""

    def _to_limbs(self, values: NDArray[Any]) -> Limbs:
        self._refuse_value(~np.isfinite(values), "not finite")
        form = _FORMATS[self.dtype]
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
        limbs[rows, limb + 1] = (mantissa >> _ONE) >> (np.uint64(63) - within)
        negative = np.signbit(values)
        limbs[negative] = negate_limbs(limbs[negative])
        return limbs

    def _from_limbs(self, total: Limbs) -> NDArray[Any]:
        floats = nearest_floats(total, _FORMATS[self.dtype].unit_exponent, self.dtype)
        self._refuse_total(
            ~np.isfinite(floats), f"lies beyond {self.dtype}: scale the values down before summing"
        )
        return floats


@dataclass(frozen=True, kw_only=True)
class FixedPointArray(ArrayEncoding):
    """Floats on the grid of multiples of 2^-fraction_bits, in one word of 64 bits.

    Attributes
    ----------
    limit : float
        B: every value satisfies |v| ≤ B; `bound` is round(B · 2^fraction_bits).
    fraction_bits : int
    """

    limit: float
    fraction_bits: int

    @property
    def limbs(self) -> int:
        """One: the plan has proven that the total fits a signed word."""
        return 1

    def _to_limbs(self, values: NDArray[Any]) -> Limbs:
        exact = values.astype(np.float64)
        in_range = np.abs(exact) <= self.limit  # False for NaN
        if not in_range.all():
            self._refuse_value(~np.isfinite(exact), "not finite")
            self._refuse_value(~in_range, "out of the declared range")
        words = np.rint(np.ldexp(exact, self.fraction_bits)).astype(np.int64)
        return words.view(np.uint64).reshape(-1, 1)

    def _from_limbs(self, total: Limbs) -> NDArray[Any]:
        words = total[:, 0].view(np.int64)
        self._refuse_impossible(words)
        if self.dtype == np.float32:
            return nearest_floats(total, -self.fraction_bits, self.dtype)
        # The conversion rounds; the scaling is exact, since the unit is no finer than 2^-1074.
        return words.astype(np.float64) * math.ldexp(1.0, -self.fraction_bits)


# The plan of all arrays -----------------------------------------------------------------------------------


def plan(
    encoding: ExactFloat | FixedPoint | Integers | None,
    specifications: Sequence[Specification],
    n_contributions: int,
) -> tuple[ArrayEncoding, ...]:
    """Choose and prove the encoding of every array before anything is sent.

    Parameters
    ----------
    encoding : ExactFloat, FixedPoint, Integers or None
        For the float arrays; None is ExactFloat for up to DEFAULT_EXACT_VALUES floats in all.
        Integer arrays always go as integers.
    specifications : sequence of (name, dtype, shape)
        The agreed arrays; every holder contributes the same.
    n_contributions : int
        Holders of the roster.

    Returns
    -------
    tuple of ArrayEncoding
        In the order of the specifications.

    Raises
    ------
    SetupError
        A dtype cannot be summed exactly, the totals would not fit, or too many floats without an encoding.
    """
    if not 1 <= n_contributions <= MAX_CONTRIBUTIONS:
        raise SetupError(f"{n_contributions} contributions, expected 1 to {MAX_CONTRIBUTIONS}")
    checked = [_check_specification(*specification) for specification in specifications]
    if len({name for name, _, _ in checked}) < len(checked):
        raise SetupError(f"two arrays share a name among {[name for name, _, _ in checked]}: rename one")
    n_floats = sum(math.prod(shape) for _, dtype, shape in checked if dtype.kind == "f")
    if encoding is None and n_floats > DEFAULT_EXACT_VALUES:
        raise SetupError(
            f"{n_floats:,} floats without an encoding (limit {DEFAULT_EXACT_VALUES:,}): pass "
            "FixedPoint(bound) for speed, or ExactFloat() to have every total exact"
        )
    return tuple(_plan_array(encoding, name, dtype, shape, n_contributions) for name, dtype, shape in checked)


def largest_fraction_bits(bound: float, n_contributions: int) -> int | None:
    """Return the largest f ≥ 0 with n · round(bound · 2^f) ≤ 2^63 − 1, or None if there is none."""
    estimate = 64 - math.frexp(bound)[1] - (n_contributions - 1).bit_length()
    for fraction_bits in range(min(estimate, 1074), -1, -1):
        if n_contributions * grid_bound(bound, fraction_bits) <= LARGEST_WORD:
            return fraction_bits
    return None


def grid_bound(bound: float, fraction_bits: int) -> int:
    """Return round(bound · 2^fraction_bits), ties to even."""
    return round(Fraction(bound) * (1 << fraction_bits))


def _check_specification(
    name: str, dtype: DTypeLike, shape: tuple[int, ...]
) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    """Refuse dtypes and shapes that cannot be summed; bring the dtype to native byte order."""
    try:
        kind = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise SetupError(f"array {name!r} has dtype {dtype!r}, which numpy does not know") from None
    if kind not in _FORMATS and (kind.kind not in "biu" or kind.itemsize > 8):
        raise SetupError(
            f"array {name!r} has dtype {kind}, expected bool, an integer of up to 64 bits, float32 or "
            "float64: convert it first (complex numbers: send real and imaginary parts)"
        )
    if any(length < 0 for length in shape):
        raise SetupError(f"array {name!r} has shape {shape}, expected lengths of 0 or more")
    return name, kind, tuple(int(length) for length in shape)


def _plan_array(
    encoding: ExactFloat | FixedPoint | Integers | None,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    n_contributions: int,
) -> ArrayEncoding:
    """Return the encoding of one array."""
    if dtype.kind == "f" and isinstance(encoding, FixedPoint):
        return _plan_fixed_point(encoding, name, dtype, shape, n_contributions)
    if dtype.kind == "f" and isinstance(encoding, Integers):
        raise SetupError(
            f"array {name!r} has dtype {dtype} under Integers(): contribute integers, or pass "
            "ExactFloat() or FixedPoint(bound)"
        )
    if dtype.kind == "f":
        bound, kind = _FORMATS[dtype].largest, ExactFloatArray
        return kind(name=name, dtype=dtype, shape=shape, bound=bound, n_contributions=n_contributions)
    bound = 1 if dtype.kind == "b" else max(int(np.iinfo(dtype).max), -int(np.iinfo(dtype).min))
    return IntegerArray(name=name, dtype=dtype, shape=shape, bound=bound, n_contributions=n_contributions)


def _plan_fixed_point(
    encoding: FixedPoint, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], n_contributions: int
) -> FixedPointArray:
    """Prove that n contributions fit a signed word of 64 bits."""
    bound = grid_bound(encoding.bound, encoding.fraction_bits)
    if not n_contributions * bound <= LARGEST_WORD:
        fitting = largest_fraction_bits(encoding.bound, n_contributions)
        remedy = (
            "use a smaller bound, or ExactFloat()"
            if fitting is None
            else f"use at most {fitting} fraction bits, or a smaller bound"
        )
        raise SetupError(
            f"{n_contributions} contributions of up to {encoding.bound!r} with {encoding.fraction_bits} "
            f"fraction bits reach {n_contributions * bound}, more than 2^63 - 1 = {LARGEST_WORD}: {remedy}"
        )
    return FixedPointArray(
        name=name,
        dtype=dtype,
        shape=shape,
        bound=bound,
        n_contributions=n_contributions,
        limit=encoding.bound,
        fraction_bits=encoding.fraction_bits,
    )
