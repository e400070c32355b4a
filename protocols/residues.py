"""Integers wider than a field as residues modulo several primes, and back by the Chinese remainder theorem.

A secret sum of integers |total| ≤ R needs a modulus above 2·R. Instead of one wide field several primes just
below 2^61 serve, one sharing each: sums of residues are residues of the sum, and the totals' residues determine
the total. One more prime than needed makes a *check residue*: a total that is wrong modulo one prime is then out of
range for certain, and one that is wrong at random modulo several but for a chance of about 2^-61. Limbs are never
shared one by one: their sums would tell more than the total.

Who learns what: all of this is local. A total's residues tell what the total tells.
Sources: D. E. Knuth, TAOCP vol. 2, §4.3.2; for the quotient in floating point D. J. Bernstein, J. Sorenson, Math.
Comp. 76 (2007), §2 (explicit Chinese remainder theorem).
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidMessageError, SetupError
from .field_matrix import DigitProduct, Digits, FieldMatrix, chunks, word_digits
from .limbs import Limbs, add_limbs, integers_to_limbs, negate_limbs
from .prime_field import PRIMES, Elements, Moduli

_DIGIT_BITS = 16  # numpy views a word as four such digits
_DIGITS_A_LIMB = 64 // _DIGIT_BITS
_LOW = (1 << _DIGIT_BITS) - 1


def choose_moduli(largest: int, *, check: bool = False) -> Moduli:
    """Choose the fewest primes that hold every integer of magnitude up to `largest`.

    Parameters
    ----------
    largest : int
        R: |total| ≤ R.
    check : bool
        Whether to add a prime for a check residue.

    Returns
    -------
    tuple of int
        The largest primes below 2^61. Without the check's, a single one exceeds 2·R, or the product of
        several 4·R, so that `from_residues` may round.

    Raises
    ------
    SetupError
        All the primes tacit knows do not hold such integers.
    """
    for count in range(1, len(PRIMES) + 1 - check):
        if prod(PRIMES[:count]) > (2 if count == 1 else 4) * largest:
            return PRIMES[: count + check]
    raise SetupError(
        f"totals of {largest.bit_length()} bits are too wide to be shared: declare a smaller bound"
    )


def to_residues(limbs: Limbs, moduli: Moduli) -> Elements:
    """Reduce signed integers modulo several primes.

    Parameters
    ----------
    limbs : ndarray of uint64, shape (count, limbs)

    Returns
    -------
    ndarray of uint64, shape (moduli, count)
        Canonical.
    """
    count, n_limbs = limbs.shape
    product = _reduction(n_limbs, moduli)
    residues = np.empty((len(moduli), 1, count), dtype=np.uint64)
    length, places = chunks(count, _DIGITS_A_LIMB * n_limbs + 3 * len(moduli))
    workspace = product.workspace(length)
    for place in places:
        words = np.ascontiguousarray(limbs[place])
        digits = word_digits(words, _DIGITS_A_LIMB).reshape(length, -1).T.astype(np.float64, order="C")
        digits[-1] -= (words[:, -1] >> np.uint64(63)) * 2.0**_DIGIT_BITS  # two's complement
        product.apply(digits, residues[:, :, place], workspace)
    return residues[:, 0]


def from_residues(residues: Elements, moduli: Moduli, limbs: int, largest: int) -> Limbs:
    """Join residues to signed integers.

    With X ≡ r_i modulo p_i, P = Π p_i and y_i = r_i·(P/p_i)⁻¹ mod p_i, X = Σ y_i·P/p_i − q·P, where
    q = round(Σ y_i/p_i): the sum is X/P + q, and |X| < P/4, or else out of range whatever q is.

    Parameters
    ----------
    residues : ndarray of uint64, shape (moduli, count)
        Canonical.
    moduli : tuple of int
        As `choose_moduli(largest)` returns them, with or without a check.
    limbs : int
        Limbs that hold every integer in range.
    largest : int
        R: |X| ≤ R.

    Returns
    -------
    ndarray of uint64, shape (count, limbs)

    Raises
    ------
    InvalidMessageError
        Residues belong to no integer in range: some are wrong.
    """
    if len(moduli) == 1:
        return _resized(_centred(residues[0], moduli[0], largest), limbs)
    inverses, digits_of_terms, bounds = _joining(moduli, largest)
    (terms,) = inverses.apply([residues])
    count = residues.shape[1]
    joined = np.empty((count, limbs), dtype=np.uint64)
    _, places = chunks(count, sum(digits_of_terms.shape))
    for place in places:
        wide = _join(terms[:, place], moduli, digits_of_terms)
        outside = (add_limbs(wide, bounds) | add_limbs(negate_limbs(wide), bounds))[:, -1] >> np.uint64(63)
        _refuse(outside)
        joined[place] = _resized(wide, limbs)
    return joined


def _centred(residues: NDArray[np.uint64], modulus: int, largest: int) -> Limbs:
    """Return residues modulo a single prime as the integers of least magnitude, of one limb."""
    signed = residues.view(np.int64) - np.int64(modulus) * (residues > modulus // 2)
    _refuse(np.abs(signed) > largest)
    return signed.view(np.uint64)[:, None]


def _refuse(outside: NDArray[Any]) -> None:
    """Refuse totals that no contributions in range sum to."""
    if outside.any():
        raise InvalidMessageError("residues of a total belong to no integer in range: a share was wrong")


@lru_cache(maxsize=16)
def _reduction(n_limbs: int, moduli: Moduli) -> DigitProduct:
    """Return the product that takes digits of 16 bits to residues."""
    powers = [1 << (_DIGIT_BITS * digit) for digit in range(_DIGITS_A_LIMB * n_limbs)]
    for n_digits in (2, 3):
        product = DigitProduct([[powers]] * len(moduli), moduli, n_digits)
        if product.is_exact_up_to(_LOW):
            return product
    raise SetupError(f"integers of {n_limbs} limbs are too wide to be reduced: declare a smaller bound")


@lru_cache(maxsize=16)
def _joining(moduli: Moduli, largest: int) -> tuple[FieldMatrix, Digits, Limbs]:
    """Return the inverses of P/p_i, P/p_i and −P in digits (digits out, digits in), and R as limbs."""
    whole = prod(moduli)
    inverses = FieldMatrix([[[pow(whole // p, -1, p)]] for p in moduli], moduli)
    n_limbs = (whole.bit_length() + 2) // 64 + 1  # so that X ± R keeps its sign
    factors = [whole // p << (_DIGIT_BITS * digit) for p in moduli for digit in range(_DIGITS_A_LIMB)] + [
        -whole
    ]
    rows = [
        [factor >> (_DIGIT_BITS * digit) & _LOW for factor in factors]
        for digit in range(_DIGITS_A_LIMB * n_limbs)
    ]
    return inverses, np.array(rows, dtype=np.float64), integers_to_limbs([largest], n_limbs)


def _join(terms: Elements, moduli: Moduli, digits_of_terms: Digits) -> Limbs:
    """Return Σ y_i·P/p_i − q·P modulo 2^(64·limbs), for limbs that hold P."""
    n_moduli, length = terms.shape
    inputs = np.empty((_DIGITS_A_LIMB * n_moduli + 1, length))
    inputs[:-1].reshape(n_moduli, _DIGITS_A_LIMB, length)[:] = word_digits(terms, _DIGITS_A_LIMB).swapaxes(
        1, 2
    )
    inputs[-1] = np.rint(np.array([1 / p for p in moduli]) @ terms.astype(np.float64))
    # Digits of 16 bits times digits of 16 bits, at most 145 of them: sums below 2^40 are exact.
    columns = (digits_of_terms @ inputs).astype(np.int64)
    digits = np.empty((length, len(columns)), dtype="<u2")
    carry = np.zeros(length, dtype=np.int64)
    for place, column in enumerate(columns):
        carry += column
        digits[:, place] = carry & _LOW
        carry >>= _DIGIT_BITS
    return digits.view("<u8").astype(np.uint64)


def _resized(limbs: Limbs, n_limbs: int) -> Limbs:
    """Drop limbs, or add some that extend the sign."""
    missing = n_limbs - limbs.shape[1]
    if missing <= 0:
        return limbs[:, :n_limbs]
    extension: NDArray[np.uint64] = (limbs[:, -1:].view(np.int64) >> 63).view(np.uint64)
    return np.hstack([limbs, np.repeat(extension, missing, axis=1)])
