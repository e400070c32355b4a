"""Clipped rows on a grid, and how far one unit can move their sum.

A *unit* is what the guarantee hides: a record, a person or a holder. It contributes one row of numbers. The row is
clipped to Euclidean length c, multiplied by s = 2^fraction_bits and rounded to the nearest integers, unit by unit
*before* anything is summed: so a unit moves the sum, in grid units, by at most

    Δ = s·c + √d / 2,        d numbers in a row,

since rounding moves each number by at most 1/2. Rounding at random has no such bound that always holds, and is not
offered. A replaced unit moves the sum by at most 2Δ.

All of this is local; nobody learns anything here.

Source: P. Kairouz, Z. Liu, T. Steinke, ICML 2021 (clipping and rounding before discrete noise).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..serialization.encoding_parameters import CLIPS, MAX_FRACTION_BITS
from .errors import PrivacyError

Adjacency: TypeAlias = Literal["add-or-remove", "replace-one"]
MOVES: dict[Adjacency, int] = {"add-or-remove": 1, "replace-one": 2}  # rows by which neighbouring data differ

LARGEST_CLIP = 2**52  # grid units: every integer up to here is a double, and so is its half
ROOT_BITS = 40  # the root of d is rounded up to a multiple of 2^-40


def sensitivity(
    clip: float, dimension: int, fraction_bits: int, adjacency: Adjacency = "add-or-remove"
) -> Fraction:
    """Bound how far one unit moves the sum of `sum_of_rows`: Δ, or 2Δ where a unit is replaced.

    Parameters
    ----------
    clip : float
        c, from 2^-900 to 2^900.
    dimension : int
        d, the numbers in a row.
    fraction_bits : int
        The grid is the multiples of 2^-fraction_bits.
    adjacency : str
        Whether neighbouring data lack a unit or have another in its place.

    Returns
    -------
    Fraction
        Grid units, Euclidean; rounded up by less than 2^-40.

    Raises
    ------
    PrivacyError
        The grid is coarser than the clip, or finer than doubles are.
    """
    _check_grid(clip, fraction_bits)
    if dimension < 1:
        raise PrivacyError(f"a row of {dimension} numbers: a released sum has at least one")
    root = Fraction(math.isqrt(dimension << 2 * ROOT_BITS) + 1, 1 << ROOT_BITS)
    return MOVES[adjacency] * (Fraction(clip) * (1 << fraction_bits) + root / 2)


def sum_of_rows(rows: NDArray[Any], clip: float, fraction_bits: int) -> NDArray[np.int64]:
    """Clip every row, round it to the grid, and add the rows up, exactly.

    Parameters
    ----------
    rows : ndarray of float, shape (n, d)
        One row a unit; no rows give zeros.
    clip, fraction_bits
        As for `sensitivity`.

    Returns
    -------
    ndarray of int64, shape (d,)
        Grid units.

    Raises
    ------
    PrivacyError
        A value is not finite, the grid does not fit, or the sum might not fit a word of 64 bits.
    """
    _check_grid(clip, fraction_bits)
    if len(rows) * (Fraction(clip) * (1 << fraction_bits) + 1) >= 2**63:
        raise PrivacyError(
            f"a sum of {len(rows)} rows does not fit a word of 64 bits: choose fewer fraction bits"
        )
    clipped = clip_rows(rows, clip)
    units = np.rint(np.ldexp(clipped, fraction_bits, out=clipped), out=clipped).astype(np.int64)
    total: NDArray[np.int64] = units.sum(axis=0)
    return total


def clip_rows(rows: NDArray[Any], clip: float) -> NDArray[np.float64]:
    """Shorten every row that is longer than the clip to that length.

    Parameters
    ----------
    rows : ndarray of float, shape (n, d)
    clip : float

    Returns
    -------
    ndarray of float64, shape (n, d)
        The exact length of every row is at most `clip`: what is shortened, or longer than clip · (1 − κ) with
        κ = (d + 16) · 2^-53, gets the length clip · (1 − κ), to allow for rounding. Other rows are unchanged.

    Raises
    ------
    PrivacyError
        A value is not finite; the row is named, never the value.
    """
    if rows.ndim != 2:
        raise PrivacyError(f"rows of shape {rows.shape}: give one row a unit, shape (n, d)")
    values = rows.astype(np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise PrivacyError(f"row {int(np.argmin(finite))} is not finite: leave out or impute missing values")
    limit = clip * (1 - (values.shape[1] + 16) * 2.0**-53)
    largest = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
    directions = values / np.where(
        largest > 0, largest, 1.0
    )  # so that no square is lost, or beyond the doubles
    lengths = np.sqrt(np.square(directions).sum(axis=1, keepdims=True))
    too_long = largest > limit / np.maximum(lengths, 1.0)
    np.copyto(values, directions * (limit / np.maximum(lengths, 1.0)), where=too_long)
    return values


def rows_by_unit(rows: NDArray[Any], persons: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Return what each unit puts in: its row, or the sum of a person's rows, so that all of it is clipped together.

    A row that is not finite or names no person counts as absent, and so does a person whose sum is not finite. To
    refuse would tell, exactly and uncharged, that there is such a row; and who asks may choose what is not finite.

    Parameters
    ----------
    rows : ndarray of float, shape (n, d)
    persons : ndarray, shape (n,), optional
        Whose row it is, as for `numbers_of_persons`; by default each row is a unit. **No person may be at two
        holders**: nobody can see it here.

    Returns
    -------
    ndarray of float64, shape (number of units, d)
        Of persons in the order of their first rows.

    Raises
    ------
    PrivacyError
        There is not one person for every row.
    """
    sound = np.isfinite(rows).all(axis=1)
    if persons is None:
        return np.asarray(rows[sound], dtype=np.float64)
    if persons.shape != (len(rows),):
        raise PrivacyError(f"{persons.size} persons for {len(rows)} rows: name one for every row")
    numbers = numbers_of_persons(persons)
    kept = np.flatnonzero(sound & (numbers >= 0))
    order = kept[np.argsort(numbers[kept], kind="stable")]
    _, starts = np.unique(numbers[order], return_index=True)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(rows[order].astype(np.float64), starts, axis=0)
    finite: NDArray[np.float64] = sums[np.isfinite(sums).all(axis=1)]
    return finite


def numbers_of_persons(persons: NDArray[Any]) -> NDArray[np.int64]:
    """Number the persons in the order of their first rows.

    Parameters
    ----------
    persons : ndarray, shape (n,)
        Integers, texts, or whatever else can be a key, mixed as they come.

    Returns
    -------
    ndarray of int64, shape (n,)
        The same number for the same label; -1 for a row that names no person, by a missing value, an empty text or
        what is no label at all.
    """
    numbers: dict[Any, int] = {}

    def number(label: Any) -> int:
        try:
            is_missing = label is None or label == "" or label != label  # noqa: PLR0124 - NaN is not itself
            return -1 if is_missing else numbers.setdefault(label, len(numbers))
        except TypeError:  # pandas' NA is neither the same nor another, and a list is no key
            return -1

    return np.array([number(label) for label in persons.tolist()], dtype=np.int64)


def _check_grid(clip: float, fraction_bits: int) -> None:
    if not CLIPS[0] <= clip <= CLIPS[1]:
        raise PrivacyError(f"clip {clip!r}: declare one from 2^-900 to 2^900")
    if not 0 <= fraction_bits <= MAX_FRACTION_BITS:
        raise PrivacyError(f"{fraction_bits} fraction bits: choose 0 to {MAX_FRACTION_BITS}")
    units = Fraction(clip) * (1 << fraction_bits)
    if not 1 <= units <= LARGEST_CLIP:
        remedy = "more" if units < 1 else "fewer"
        raise PrivacyError(
            f"a clip of {clip!r} is {float(units):.3g} units of 2^-{fraction_bits}, outside 1 to 2^52: "
            f"choose {remedy} fraction bits"
        )
