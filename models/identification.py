"""Which columns the data cannot tell apart, and which run away because they separate the responses.

Both are read from sums: the first from the information of standardised columns, the second from the direction in which
the iteration still walks when it can no longer see any progress.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .information import scaled_spectrum
from .parameters import Vector

# An eigenvalue of the information of columns brought to unit length. Exact dependence leaves rounding errors of
# 1e-16 times the number of columns; refinement restores the digits of anything above.
DEPENDENT = 1e-13
_INVOLVED = 1e-4  # component of a direction in which a column counts as involved


def whitening(information: Vector, names: Sequence[str]) -> Vector:
    """Return a matrix M with M' information M = 1, shape (p, p).

    Parameters
    ----------
    information : ndarray, shape (p, p)
        z'Wz of standardised columns.
    names : sequence of str
        The columns.

    Raises
    ------
    ModelError
        If the columns are linearly dependent over the rows of all holders; it names those involved.
    """
    scale, eigenvalues, vectors = scaled_spectrum(information)
    null = eigenvalues < DEPENDENT
    if null.any():
        raise ModelError(_dependence(np.diag(information), vectors[:, null], names))
    return vectors / np.sqrt(eigenvalues) / scale[:, None]


def _dependence(lengths: Vector, null: Vector, names: Sequence[str]) -> str:
    """Say which columns are dependent and what to do."""
    empty = [name for name, length in zip(names, lengths, strict=True) if length <= 0]
    if empty:
        return (
            f"no row of any holder tells anything about {', '.join(empty)}: the columns are constant, or their "
            "levels occur nowhere; leave them out, or declare levels= without them"
        )
    involved = np.abs(null).max(axis=1) > _INVOLVED
    columns = ", ".join(name for name, taken in zip(names, involved, strict=True) if taken)
    too_many = null.shape[1]
    which = "one of them" if too_many == 1 else f"{too_many} of them"
    return (
        f"the columns {columns} are linearly dependent over all holders (with the intercept, if there is one): "
        f"leave out {which}"
    )


def running_away(step: Vector, scale: Vector) -> NDArray[np.bool_]:
    """Return which coefficients take part in a step that does not end, shape (p,) of bool.

    Parameters
    ----------
    step : ndarray, shape (p,)
        The last Newton step of the coefficients.
    scale : ndarray, shape (p,)
        The columns' standard deviations, by which steps of different columns compare.
    """
    lengths = np.abs(step) * scale
    return np.asarray(lengths > 1e-2 * lengths.max(), dtype=np.bool_)


def separation(names: Sequence[str]) -> str:
    """Say that coefficients run away, and what to do."""
    return (
        f"{', '.join(names)} separate the responses, so that the best coefficients are infinite "
        "and have no standard errors; leave columns out, or join levels"
    )
