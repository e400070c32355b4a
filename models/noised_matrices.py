"""Sums of products z z' with noise: how they travel, what the noise does to what is solved with them.

A symmetric matrix travels as its upper triangle with off-diagonal elements times √2. The length of the triangle of
z z' is then |z|², in whatever direction z points, and the noise E in the summed matrix has the same distribution in
every orthonormal basis: variance v on the diagonal, v / 2 beside it. Without the √2, and with the clip that just leaves
a row z whole, the variances of the elements of E w, w any vector, would add up to at least as much, and to as much
only if all elements of z have one size.

E is Gaussian (but for its grid), independent of the rows, and its variance is public. So what it adds to the variance
of a solution is computed, not estimated: Cov(E w) = v / 2 · (|w|² 1 + w w') for a fixed w.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import ModelError
from .information import scaled_spectrum
from .parameters import Vector
from .regression_sums import Matrix, unpacked

_ROOT = math.sqrt(2.0)
_INVOLVED = 0.1  # component of the direction that is lost in which a column counts as involved


def triangle_size(size: int) -> int:
    """Return how many numbers the triangle of a matrix of this size has."""
    return size * (size + 1) // 2


def product_rows(z: Matrix, weights: Vector) -> Matrix:
    """Return the triangle of w z z' of each row, shape (n, m(m + 1)/2), and of length w |z|².

    Parameters
    ----------
    z : ndarray, shape (n, m)
    weights : ndarray, shape (n,)
    """
    rows, columns = np.triu_indices(z.shape[1])
    scale = np.where(rows == columns, 1.0, _ROOT)
    return np.asarray(z[:, rows] * z[:, columns] * weights[:, None] * scale, dtype=np.float64)


def matrix_of(triangle: Vector) -> Matrix:
    """Return the symmetric matrix of a sum of `product_rows`."""
    matrix = unpacked(triangle / _ROOT)
    np.fill_diagonal(matrix, np.diag(matrix) * _ROOT)
    return matrix


def noise_along(variance: float, direction: Vector) -> Matrix:
    """Return the covariance of E w, shape (m, m).

    Parameters
    ----------
    variance : float
        v, of the noise in one number of the triangle.
    direction : ndarray, shape (m,)
        w.
    """
    size = float(direction @ direction)
    return np.asarray(
        variance / 2 * (size * np.eye(len(direction)) + np.outer(direction, direction)), dtype=np.float64
    )


class Inverse(NamedTuple):
    """The inverse of a noised matrix, and how far the matrix stands out of the noise.

    Attributes
    ----------
    matrix : ndarray, shape (p, p)
    clearance : float
        The smallest eigenvalue of the noised matrix, in standard deviations of the noise; inf without noise.
    """

    matrix: Matrix
    clearance: float


def inverse_of(matrix: Matrix, variance: float, names: Sequence[str]) -> Inverse:
    """Invert a sum of products with noise.

    Parameters
    ----------
    matrix : ndarray, shape (p, p)
    variance : float
        v, of the noise in one number of its triangle.
    names : sequence of str
        The columns.

    Raises
    ------
    ModelError
        If it is not positive definite, as it would be without noise and without dependent columns.
    """
    # Brought to a unit diagonal: of the same signs, and correct whatever the units of the columns.
    scale, eigenvalues, vectors = scaled_spectrum(matrix)
    if eigenvalues[0] > len(matrix) * np.finfo(np.float64).eps:
        least = float(np.linalg.eigvalsh(matrix)[0])
        clearance = least / math.sqrt(variance) if variance > 0 else math.inf
        return Inverse((vectors / eigenvalues) @ vectors.T / np.outer(scale, scale), clearance)
    weakest = [name for name, part in zip(names, vectors[:, 0], strict=True) if abs(part) > _INVOLVED]
    raise ModelError(
        f"the noise hides what the rows say about {', '.join(weakest)}: the noised sums of products are not positive "
        "definite; take more rows, a larger epsilon, fewer columns or rounds, or centre and scale the columns by "
        "constants so that they are of similar size (if they are linearly dependent, leave one out)"
    )
