"""What an information matrix tells: the covariance of the estimates, and what the data leave open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SINGULAR = 1e-8  # eigenvalue of the information brought to a unit diagonal
_TAKES_PART = 1e-4  # component of a direction in which a parameter counts as involved


def scaled_spectrum(
    hessian: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return scale, eigenvalues and eigenvectors of the Hessian brought to a unit diagonal.

    ``hessian = outer(scale, scale) * (vectors @ diag(eigenvalues) @ vectors.T)``.
    """
    diagonal = np.abs(np.diag(hessian))
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    eigenvalues, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    return scale, eigenvalues, vectors


def estimated_covariance(
    information: NDArray[np.float64], names: Sequence[str], free: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], list[str], bool]:
    """Return the inverse information, NaN for what it does not determine.

    Parameters
    ----------
    information : ndarray, shape (p, p)
        The Hessian of the negative log-likelihood at the estimates.
    names : sequence of str
        The parameters.
    free : ndarray of bool, shape (p,)
        False for parameters that are held; those of the others are computed with them fixed.

    Returns
    -------
    covariance : ndarray, shape (p, p)
        NaN in the rows and columns of held parameters and of those in a singular or negative direction; the
        rest is what any restriction that makes the parameters identifiable gives.
    remarks : list of str
        Which directions are singular or negative.
    definite : bool
        Whether the information of the free parameters is positive definite.
    """
    covariance = np.full(information.shape, np.nan)
    if not free.any():
        return covariance, [], True
    chosen = np.flatnonzero(free)
    scale, eigenvalues, vectors = scaled_spectrum(information[np.ix_(chosen, chosen)])
    good = eigenvalues > SINGULAR
    inverse = (vectors[:, good] / eigenvalues[good]) @ vectors[:, good].T / np.outer(scale, scale)
    affected = (np.abs(vectors[:, ~good]) > _TAKES_PART).any(axis=1)
    inverse[affected, :] = inverse[:, affected] = np.nan
    covariance[np.ix_(chosen, chosen)] = inverse
    remarks = [
        _remark(eigenvalue, vector / scale, [names[int(i)] for i in chosen])
        for eigenvalue, vector in zip(eigenvalues[~good], vectors[:, ~good].T, strict=True)
    ]
    return covariance, remarks, bool(good.all())


def _remark(eigenvalue: float, direction: NDArray[np.float64], names: Sequence[str]) -> str:
    weights = np.abs(direction)
    largest = direction[int(np.argmax(weights > 0.99 * weights.max()))]  # the first of those as large
    terms = [
        f"{weight:+.3g} {name}"
        for weight, name in zip(direction / largest, names, strict=True)
        if abs(weight) > _TAKES_PART
    ]
    along = " ".join(terms).removeprefix("+").replace("1 ", "", 1) if len(terms) == 1 else " ".join(terms)
    if eigenvalue < -SINGULAR:
        return f"the information is negative along {along}: this is no maximum, start elsewhere"
    return f"the information is singular along {along}: the data leave it open, remove or bound a parameter"
