"""Linear hypotheses about coefficients, as a user writes them, as a matrix."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ModelError

Matrix = NDArray[np.float64]


def linear_constraints(
    hypotheses: str | ArrayLike, values: ArrayLike | None, names: Sequence[str]
) -> tuple[Matrix, Matrix]:
    """Return R and r of the hypotheses Rθ = r, shapes (q, p) and (q,).

    Parameters
    ----------
    hypotheses : str or array_like
        ``"a = b = 0, c = 2 * d"`` over names of coefficients, or the matrix R.
    values : array_like, optional
        The vector r beside a matrix; the default is 0.
    names : sequence of str
        The coefficients.

    Raises
    ------
    ModelError
        If they cannot be read, or have not as many columns as there are coefficients.
    """
    if isinstance(hypotheses, str):
        if values is not None:
            raise ModelError("values= goes with a matrix; a text says what its terms equal")
        return _read(hypotheses, names)
    matrix = np.atleast_2d(np.asarray(hypotheses, dtype=np.float64))
    if matrix.shape[1] != len(names) or not np.isfinite(matrix).all():
        raise ModelError(f"a matrix of hypotheses has {len(names)} columns, one for each coefficient")
    wanted = np.zeros(len(matrix)) if values is None else np.asarray(values, dtype=np.float64)
    return matrix, np.broadcast_to(wanted, len(matrix)).astype(np.float64)


def _read(text: str, names: Sequence[str]) -> tuple[Matrix, Matrix]:
    """Parse a text; names may hold any characters, so they are replaced by plain ones before."""
    from formulaic.errors import FormulaicError  # noqa: PLC0415
    from formulaic.utils.constraints import LinearConstraints  # noqa: PLC0415

    plain = [f"coefficient_{index}_" for index in range(len(names))]
    known = dict(zip(names, plain, strict=True))
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.])`?({'|'.join(longest_first)})`?(?![\w.])")
    replaced = pattern.sub(lambda found: known[found[1]], text)
    clauses = [clause for chain in replaced.split(",") for clause in _pairs(chain)]
    try:
        parsed = LinearConstraints.from_spec(", ".join(clauses), plain)
    except (FormulaicError, ValueError, KeyError, TypeError, SyntaxError):
        raise ModelError(
            f"the hypotheses {text!r} cannot be read: write for instance '{names[0]} = 0', with the names "
            f"{', '.join(names)}"
        ) from None
    return (
        np.asarray(parsed.constraint_matrix, dtype=np.float64),
        np.asarray(parsed.constraint_values, dtype=np.float64),
    )


def _pairs(chain: str) -> list[str]:
    """Return ``a = b = 0`` as ``a = b`` and ``b = 0``; a side alone equals 0."""
    sides = [side.strip() for side in chain.split("=")]
    if len(sides) == 1:
        return [f"{sides[0]} = 0"]
    return [f"{left} = {right}" for left, right in itertools.pairwise(sides)]
