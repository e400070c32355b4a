"""The plan of a session's arrays: which encoding each gets, proven to fit before anything is sent.

Every party makes the plan for itself from what all have agreed upon (the encoding, the arrays' names, dtypes
and shapes, the number of holders), so all encode alike and no coordinator can talk one holder into another
grid. A plan is refused unless the sum of all contributions at their bounds can be carried: no total overflows
in silence. The plan is public; nobody learns anything of a value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..serialization.encoding_parameters import (
    AutoRange,
    EncodingParameters,
    FixedPoint,
    FixedPointMean,
    Integers,
    Quantized,
)
from .auto_range import RangeArray
from .encoding import FLOAT_FORMATS, MAX_CONTRIBUTIONS, ArrayEncoding, ExactFloatArray, IntegerArray
from .errors import SetupError
from .grid_encodings import FixedPointArray, QuantizedArray

Specification: TypeAlias = tuple[str, DTypeLike, tuple[int, ...]]  # name, dtype, shape of one array

DEFAULT_EXACT_VALUES = 4096
LARGEST_WORD = 2**63 - 1


def plan(
    encoding: EncodingParameters | None,
    specifications: Sequence[Specification],
    n_contributions: int,
) -> tuple[ArrayEncoding, ...]:
    """Choose and prove the encoding of every array before anything is sent.

    Parameters
    ----------
    encoding : ExactFloat, FixedPoint, FixedPointMean, Quantized, Integers or None
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
        A dtype cannot be summed exactly, the totals would not fit, an array has no grid, or too many floats
        without an encoding.
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
    if kind not in FLOAT_FORMATS and (kind.kind not in "biu" or kind.itemsize > 8):
        raise SetupError(
            f"array {name!r} has dtype {kind}, expected bool, an integer of up to 64 bits, float32 or "
            "float64: convert it first (complex numbers: send real and imaginary parts)"
        )
    if any(length < 0 for length in shape):
        raise SetupError(f"array {name!r} has shape {shape}, expected lengths of 0 or more")
    return name, kind, tuple(int(length) for length in shape)


def _plan_array(
    encoding: EncodingParameters | None,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    n_contributions: int,
) -> ArrayEncoding:
    """Return the encoding of one array."""
    if dtype.kind == "f" and isinstance(encoding, FixedPoint):
        return _plan_fixed_point(encoding, name, dtype, shape, n_contributions)
    if dtype.kind == "f" and isinstance(encoding, FixedPointMean):
        array = _plan_fixed_point(encoding.grid, name, dtype, shape, n_contributions)
        return dataclasses.replace(array, is_mean=True)
    if dtype.kind == "f" and isinstance(encoding, AutoRange):
        return RangeArray(
            name=name, dtype=dtype, shape=shape, bound=LARGEST_WORD, n_contributions=n_contributions
        )
    if dtype.kind == "f" and isinstance(encoding, Quantized):
        return _plan_quantized(encoding, name, dtype, shape, n_contributions)
    if dtype.kind == "f" and isinstance(encoding, Integers):
        raise SetupError(
            f"array {name!r} has dtype {dtype} under Integers(): contribute integers, or pass "
            "ExactFloat() or FixedPoint(bound)"
        )
    if dtype.kind == "f":
        bound, kind = FLOAT_FORMATS[dtype].largest, ExactFloatArray
        return kind(name=name, dtype=dtype, shape=shape, bound=bound, n_contributions=n_contributions)
    bound = 1 if dtype.kind == "b" else max(int(np.iinfo(dtype).max), -int(np.iinfo(dtype).min))
    return IntegerArray(name=name, dtype=dtype, shape=shape, bound=bound, n_contributions=n_contributions)


def _plan_fixed_point(
    encoding: FixedPoint, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], n_contributions: int
) -> FixedPointArray:
    """Prove that n contributions fit a signed word of 64 bits."""
    grid = encoding.grid(name)
    if grid is None:
        raise SetupError(
            f"array {name!r} has no bound, or no fraction bits, in {encoding}: name it there, "
            "or give one number for every array"
        )
    limit, fraction_bits = grid
    bound = grid_bound(limit, fraction_bits)
    if not n_contributions * bound <= LARGEST_WORD:
        fitting = largest_fraction_bits(limit, n_contributions)
        remedy = (
            "use a smaller bound, or ExactFloat()"
            if fitting is None
            else f"use at most {fitting} fraction bits, or a smaller bound"
        )
        raise SetupError(
            f"array {name!r}: {n_contributions} contributions of up to {limit!r} with {fraction_bits} "
            f"fraction bits reach {n_contributions * bound}, more than 2^63 - 1 = {LARGEST_WORD}: {remedy}"
        )
    return FixedPointArray(
        name=name,
        dtype=dtype,
        shape=shape,
        bound=bound,
        n_contributions=n_contributions,
        limit=limit,
        fraction_bits=fraction_bits,
    )


def _plan_quantized(
    encoding: Quantized, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], n_contributions: int
) -> QuantizedArray:
    """Prove that the sum of n contributions at the clip is finite; as levels and count it always fits."""
    clip = encoding.clip_of(name)
    if clip is None:
        raise SetupError(
            f"array {name!r} has no clip in {encoding}: name it there, or give one for every array"
        )
    if not n_contributions * clip <= float(np.finfo(dtype).max):
        raise SetupError(
            f"array {name!r}: {n_contributions} contributions of up to {clip!r} lie beyond {dtype}: "
            "declare a smaller clip"
        )
    levels = 2 ** (encoding.bits - 1) - 1
    return QuantizedArray(
        name=name,
        dtype=dtype,
        shape=shape,
        bound=max(levels, math.prod(shape)),
        n_contributions=n_contributions,
        clip=clip,
        levels=levels,
    )
