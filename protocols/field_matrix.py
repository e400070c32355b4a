"""Constant matrices over prime fields, applied to columns of elements by exact products of float64 matrices.

A product of float64 matrices is what a processor does fastest, and it is exact as long as the magnitudes of all
terms of a sum stay below 2^53 together. So elements are cut into short digits, x = Σ_j x_j·2^(aj); the matrix takes in
the powers, A_j = A·2^(aj) mod p, and is cut into digits itself, A_j = Σ_l A_jl·2^(bl), signed to be small. BLAS
computes c_l = Σ_j A_jl x_j, exactly, in whatever order it adds, and the result is Σ_l c_l·2^(bl) mod p:

- y = Σ_l c_l·2^(bl) is taken modulo 2^64, where shifts and sums just wrap;
- its quotient q = round(y/p) comes from the same sum in floating point, without c_0, which is small beside p;
- y − q·p, taken modulo 2^64, is exact, for it lies between −p and p; p is added if it is negative.

Small integers as entries, which interpolation between neighbouring integers has (`shamir`), take two digits of 32
bits for an element and two for an entry. Any entries at all take four digits of 16 bits for an element, and for an
entry two of 31 bits in short rows, three of 21 in long ones. Which is exact is computed from the very matrix.

Who learns what: all of this is local. No step branches on an element.
Sources: J.-G. Dumas, P. Giorgi, C. Pernet, ACM TOMS 35 (2008), no. 19 (exact products by BLAS); J. van der
Hoeven, G. Lecerf, G. Quintin, ACM TOMS 43 (2016), no. 5 (the quotient in floating point).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import SetupError
from .prime_field import ELEMENT_BITS, Elements, Moduli, moduli_column

Matrix: TypeAlias = Sequence[Sequence[int]]  # rows of entries, reduced or not
Digits: TypeAlias = NDArray[np.float64]  # integers
Workspace: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

WORD_BITS = 64
LARGEST_SUM = 2**51 - 1  # of magnitudes; with the magic number added, below 2^53
SINGLE_THREADED = 2**18  # multiplications of a product up to which OpenBLAS keeps to the calling thread
CACHED_DIGITS = 2**17  # digits and products worked on at a time: 1 MiB, for the second-level cache

# Digits of an element and of an entry, in the order in which they cost more.
_CUTS = ((2, 2), (4, 2), (4, 3))

# Added to an integer |c| < 2^51 it gives a double between 2^52 and 2^53, whose 64 bits are, as an integer, those
# of the magic number plus c. Added to any other double |x| < 2^51, it rounds it to an integer besides.
_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = int(np.float64(_MAGIC).view(np.uint64))


class DigitProduct:
    """A matrix modulo one or several primes, times columns of integers so small that all sums are exact.

    Parameters
    ----------
    matrices : sequence of matrices
        One a modulus, all of the same shape (rows, inputs).
    moduli : tuple of int
        Primes just below 2^61.
    n_digits : int
        Digits that each entry is cut into: 2 or 3.
    """

    def __init__(self, matrices: Sequence[Matrix], moduli: Moduli, n_digits: int) -> None:
        shifts = range(0, ELEMENT_BITS, -(-ELEMENT_BITS // n_digits))
        entries = [_entry_digits(matrix, p, shifts) for matrix, p in zip(matrices, moduli, strict=True)]
        self._weights = np.array(entries)  # (moduli, rows, digits, inputs)
        self._magnitude = int(np.abs(self._weights).sum(axis=-1).max())
        self._shifts = [np.uint64(shift) for shift in shifts]
        self._moduli = moduli_column(moduli)[:, :, None]
        self._scales = [2.0**shift / self._moduli.astype(np.float64) for shift in shifts]
        # Takes off y − q·p, modulo 2^64, what the magic bits of all c_l and of q add to it.
        excess = [sum(_MAGIC_BITS << shift for shift in shifts) - p * _MAGIC_BITS for p in moduli]
        self._correction = np.array([-e % 2**WORD_BITS for e in excess], dtype=np.uint64)[:, None, None]

    def is_exact_up_to(self, largest: int) -> bool:
        """Whether inputs of up to this magnitude give exact products."""
        return largest * self._magnitude <= LARGEST_SUM

    def workspace(self, length: int) -> Workspace:
        """Return room for so many columns at a time: asked for once, since fresh memory is slow."""
        n_moduli, n_rows, n_digits, _ = self._weights.shape
        return np.empty((n_moduli, n_rows, n_digits, length)), np.empty((n_moduli, n_rows, length))

    def apply(self, columns: Digits, out: NDArray[np.uint64], workspace: Workspace) -> None:
        """Multiply, and write canonical elements.

        Parameters
        ----------
        columns : ndarray of float64, shape (moduli, inputs, length) or (inputs, length)
            Integers of magnitudes for which `is_exact_up_to` holds; without moduli, the same for all.
        out : ndarray of uint64, shape (moduli, rows, length)
        workspace : what `workspace(length)` returns
            Overwritten.
        """
        products, quotient = workspace
        self._multiply(columns, products)
        # |c_l| < 2^51 and p ≈ 2^61: what is left out of q, c_0/p and roundings, is below 2^-9. So |y − q·p| < 0.51·p.
        np.multiply(products[:, :, 1], self._scales[1], out=quotient)
        for digit in range(2, len(self._shifts)):
            quotient += products[:, :, digit] * self._scales[digit]
        quotient += _MAGIC
        products += _MAGIC
        integers, multiples = products.view(np.uint64), quotient.view(np.uint64)
        multiples *= self._moduli
        remainder = integers[:, :, 0]
        remainder -= multiples
        for digit in range(1, len(self._shifts)):
            remainder += np.left_shift(integers[:, :, digit], self._shifts[digit], out=multiples)
        remainder += self._correction
        # A negative remainder is a word above 2^63; plus p it wraps to less.
        np.add(remainder, self._moduli, out=multiples)
        np.minimum(remainder, multiples, out=out)

    def _multiply(self, columns: Digits, products: Digits) -> None:
        """Multiply in pieces so small that OpenBLAS wakes no other thread, which here costs more than it gains."""
        n_moduli, n_rows, n_digits, n_inputs = self._weights.shape
        weights = self._weights.reshape(n_moduli, n_rows * n_digits, n_inputs)
        out = products.reshape(n_moduli, n_rows * n_digits, -1)
        step = max(16, SINGLE_THREADED // weights[0].size)
        for start in range(0, out.shape[-1], step):
            piece = slice(start, start + step)
            np.matmul(weights, columns[..., piece], out=out[..., piece])


class FieldMatrix:
    """A constant matrix over one or several prime fields.

    Parameters
    ----------
    matrices : sequence of matrices
        One a modulus, all of the same shape (rows, inputs).
    moduli : tuple of int
        Primes just below 2^61.

    Raises
    ------
    SetupError
        The matrix has more columns than can be summed exactly: thousands.
    """

    def __init__(self, matrices: Sequence[Matrix], moduli: Moduli) -> None:
        self._n_moduli, self._n_rows, self._n_inputs = len(moduli), len(matrices[0]), len(matrices[0][0])
        for self._n_digits, entry_digits in _CUTS:
            width = WORD_BITS // self._n_digits
            shifted = [
                [[a << (width * digit) for a in row for digit in range(self._n_digits)] for row in matrix]
                for matrix in matrices
            ]
            self._product = DigitProduct(shifted, moduli, entry_digits)
            if self._product.is_exact_up_to((1 << width) - 1):
                return
        raise SetupError(f"{self._n_inputs} terms are too many for an exact sum: share among fewer")

    def apply(self, inputs: Sequence[Elements]) -> NDArray[np.uint64]:
        """Multiply the matrix with columns of elements.

        Parameters
        ----------
        inputs : sequence of ndarray of uint64, shape (moduli, count)
            One array for each column of the matrix.

        Returns
        -------
        ndarray of uint64, shape (rows, moduli, count)
            Canonical.
        """
        count = inputs[0].shape[1]
        result = np.empty((self._n_rows, self._n_moduli, count), dtype=np.uint64)
        out = result.transpose(1, 0, 2)
        length, places = chunks(count, self._n_digits * (self._n_rows + self._n_inputs) * self._n_moduli)
        digits = np.empty((self._n_moduli, self._n_inputs, self._n_digits, length))
        workspace = self._product.workspace(length)
        for place in places:
            for column, elements in enumerate(inputs):
                digits[:, column] = word_digits(elements[:, place], self._n_digits).swapaxes(1, 2)
            self._product.apply(digits.reshape(self._n_moduli, -1, length), out[:, :, place], workspace)
        return result


def word_digits(words: NDArray[np.uint64], n_digits: int) -> NDArray[np.unsignedinteger]:
    """View each word as 2 digits of 32 bits or 4 of 16, the lowest first, along a new last axis.

    Parameters
    ----------
    words : ndarray of uint64, shape (…, count)
        The last axis contiguous.
    """
    digits = words.astype("<u8", copy=False).view(f"<u{8 // n_digits}")
    return digits.reshape(*words.shape, n_digits)


def chunks(count: int, digits_a_column: int) -> tuple[int, list[slice]]:
    """Return stretches of columns, all of one length, that fit the cache one at a time.

    The last one overlaps the one before: a few columns are done twice, and buffers always have the right length.
    """
    length = min(count, max(256, CACHED_DIGITS // digits_a_column))
    starts = [*range(0, count - length, length), count - length] if count else []
    return length, [slice(start, start + length) for start in starts]


def lagrange(points: Sequence[int], targets: Sequence[int], modulus: int) -> Matrix:
    """Return the matrix that takes a polynomial's values at some points to its values at others.

    Parameters
    ----------
    points : sequence of int
        Distinct modulo the modulus, and more than the polynomial's degree.
    targets : sequence of int
        None of them among the points.
    modulus : int
        A prime.

    Returns
    -------
    sequence of sequences of int, shape (targets, points)
        λ_ti = Π_{j≠i} (t − x_j) / (x_i − x_j), reduced.
    """
    scales = [pow(prod(x - other for other in points if other != x), -1, modulus) for x in points]
    rows = []
    for target in targets:
        whole = prod(target - x for x in points) % modulus
        rows.append(
            [whole * s * pow(target - x, -1, modulus) % modulus for x, s in zip(points, scales, strict=True)]
        )
    return rows


def _entry_digits(matrix: Matrix, modulus: int, shifts: Sequence[int]) -> NDArray[np.float64]:
    """Cut entries, as residues of least magnitude, into signed digits of shape (rows, digits, inputs)."""
    width = shifts[1]
    half, low = 1 << (width - 1), (1 << width) - 1
    rest = [[(entry + modulus // 2) % modulus - modulus // 2 for entry in row] for row in matrix]
    layers = []
    for _ in shifts[1:]:
        layers.append([[((entry + half) & low) - half for entry in row] for row in rest])
        rest = [[(entry + half) >> width for entry in row] for row in rest]
    return np.array([*layers, rest], dtype=np.float64).transpose(1, 0, 2)
