"""Arrays over prime fields just below 2^61: the primes, addition, uniform elements, and the gate for received ones.

Secret sharing works in these fields: modulo 2^61 − 1 for numbers that fit, modulo several primes at once for
wider ones (`residues`). An array of *elements* has shape (moduli, count); its row i holds canonical residues,
0 ≤ x < moduli[i]. Products are matrix products and have their own file (`field_matrix`).

Who learns what: all of this is local. `require_elements` is the gate for what others send: nothing
that is not canonical passes, so whatever is behind it may rely on x < p, and a sender cannot hide more in
a share than an element.

Source: NIST SP 800-90A, A.5.1 (uniform numbers by discarding what is too large).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidMessageError
from .stream_cipher import BLOCK_BYTES, add_masks, stream_bytes

Elements: TypeAlias = NDArray[np.uint64]  # (moduli, count), canonical
Moduli: TypeAlias = tuple[int, ...]

ELEMENT_BITS = 61

# All primes from 2^61 downwards, as their distances from it: as many as the widest totals take (`residues`).
_DISTANCES = (
    *(1, 31, 45, 229, 259, 283, 339, 391, 403, 465, 531, 579, 675, 759, 799, 819, 829, 843),
    *(
        859,
        939,
        985,
        1015,
        1153,
        1195,
        1215,
        1281,
        1299,
        1351,
        1371,
        1425,
        1489,
        1525,
        1533,
        1543,
        1609,
        1621,
    ),
)
_LOW_BITS = np.uint64((1 << ELEMENT_BITS) - 1)
PRIMES: Moduli = tuple((1 << ELEMENT_BITS) - distance for distance in _DISTANCES)


@lru_cache(maxsize=64)
def moduli_column(moduli: Moduli) -> NDArray[np.uint64]:
    """Return the moduli as a column, to stand beside arrays of shape (moduli, count)."""
    column = np.array(moduli, dtype=np.uint64)[:, None]
    column.flags.writeable = False
    return column


def add_in_place(total: Elements, elements: Elements, moduli: Moduli) -> None:
    """Add elements to a total, where it lies.

    Parameters
    ----------
    total, elements : ndarray of uint64, shape (moduli, count)
        Both canonical; the total stays so.
    """
    total += elements
    # Below p the difference wraps to more than 2^63, so that the minimum is the residue in both cases.
    np.minimum(total, total - moduli_column(moduli), out=total)


def uniform(seed: bytes, moduli: Moduli, count: int) -> Elements:
    """Expand a seed to uniform elements, the same for everybody who has it.

    The keystream of the seed is read as words of 64 bits, row after row, of which 61 are kept. A word
    that is no residue (one in 2^61 for the largest prime, 2^50 for the smallest) gives way to the first word of
    the next unused block of 16 bytes, until one fits: exactly uniform if the keystream is.

    **Use a seed once**: two expansions are equal as far as the shorter goes.

    Parameters
    ----------
    seed : bytes
        32 secret bytes.
    moduli : tuple of int
        At most 2^61 each.
    count : int
        Elements a modulus.

    Returns
    -------
    ndarray of uint64, shape (moduli, count)
    """
    words = np.zeros((len(moduli), count), dtype=np.uint64)
    add_masks(words.reshape(-1), [(seed, 1)])
    words &= _LOW_BITS
    offset = stream_bytes(words)
    for position in np.flatnonzero(words >= moduli_column(moduli)):
        row, column = divmod(int(position), count)
        while words[row, column] >= moduli[row]:
            block = np.zeros(BLOCK_BYTES // words.itemsize, dtype=np.uint64)
            add_masks(block, [(seed, 1)], offset=offset)
            words[row, column] = block[0] & _LOW_BITS
            offset += BLOCK_BYTES
    return words


def require_elements(received: NDArray[np.uint64], moduli: Moduli, count: int, *, sender: str) -> None:
    """Refuse a received array unless it holds `count` canonical elements a modulus.

    Raises
    ------
    InvalidMessageError
        Another dtype or shape, or a word that is no canonical residue; the sender is the culprit.
    """
    if received.dtype != np.uint64 or received.shape != (len(moduli), count):
        problem = f"{received.dtype}{received.shape} instead of {count} field elements for each of {len(moduli)} moduli"
        raise InvalidMessageError(problem, culprits=[sender])
    if (received >= moduli_column(moduli)).any():
        raise InvalidMessageError("a share is no canonical field element", culprits=[sender])
