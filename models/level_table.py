"""The union of the holders' levels by one secure sum.

Each holder puts its (factor, position, level) keys into an invertible Bloom lookup table: every key, a row of
numbers of GF(p), is added to `_HASHES` cells that a hash of the key chooses. The sum of the tables is a
table of the union, from which the keys are peeled: a cell with one key left shows it, and it is taken out of its
other cells.

Who learns what: the coordinator the union. A holder adds its keys times random elements of GF(p), so a key that
is in the union stands there times a random element, however many holders have it (the elements of several
holders cancel with probability 1/p). To each number it also adds a random multiple of p, which hides how often a sum of
several holders wrapped around p but for a statistical distance of about sqrt(n_holders) 2^-20 a number.

Goodrich and Mitzenmacher 2011, Invertible Bloom lookup tables, section 4 (multiplicities, with a check sum).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Level: TypeAlias = str | int | float | bool
Key: TypeAlias = tuple[int, int, Level]  # factor number, position among its holder's categories or -1, level
RandomBytes: TypeAlias = Callable[[int], bytes]

_PRIME = 2**32 + 15  # the smallest that holds any word of four bytes
_BLUR = 2**20  # sums of 2,047 holders' numbers, each below _PRIME * _BLUR, stay within int64
_WORD = 4  # bytes
_WORDS = 16  # of a key
LONGEST_KEY = _WORD * _WORDS  # bytes
_HASHES = 4
_ROOM = 1.5  # cells a key: four hashes peel up to 1 / 1.295, and small tables need more


def table_shape(max_levels: int) -> tuple[int, int]:
    """Return the shape of a table for so many keys: cells, and in each count, check and the words of a key."""
    return _HASHES * math.ceil(_ROOM * max_levels / _HASHES + 2), 2 + _WORDS


def key_length(key: Key) -> int:
    """Return how many bytes a key takes; a table holds those up to `LONGEST_KEY`."""
    return len(_text_of(key))


def table_of(keys: Iterable[Key], max_levels: int, seed: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
    """Return a holder's table, to be summed over the holders.

    Parameters
    ----------
    keys : iterable of Key
        This holder's keys; a repeated one counts once.
    max_levels : int
        How many keys the union may have.
    seed : int
        Chooses the hash functions; the same at all holders.
    random_bytes : callable
        The source of multipliers and blur; a table is as secret as they are.

    Returns
    -------
    ndarray of int64, shape ``table_shape(max_levels)``

    Raises
    ------
    ValueError
        If a key is longer than `LONGEST_KEY`.
    """
    table = np.zeros(table_shape(max_levels), dtype=np.int64)
    for key in dict.fromkeys(map(_bytes_of, keys)):
        multiplier = 1 + int.from_bytes(random_bytes(12)) % (_PRIME - 1)
        _add(table, key, multiplier, seed)
    blur = np.frombuffer(random_bytes(4 * table.size), dtype="<u4").astype(np.int64) % _BLUR
    return table + _PRIME * blur.reshape(table.shape)


def union_of(table: NDArray[np.int64], seed: int) -> set[Key] | None:
    """Return the keys in a sum of tables, or None if there are too many (or, seldom, the hashes collide).

    Parameters
    ----------
    table : ndarray of int64
        The sum of the holders' tables.
    seed : int
        As it was for `table_of`; another seed resolves a collision.
    """
    rest = table % _PRIME
    keys = set()
    waiting = list(range(len(rest)))
    while waiting:
        cell = waiting.pop()
        if (key := _single_key(rest[cell])) is not None and cell in (cells := _cells(key, len(rest), seed)):
            keys.add(key)
            _add(rest, key, -int(rest[cell, 0]), seed)
            waiting += cells
    return None if rest.any() else {_key_of(key) for key in keys}


def _add(table: NDArray[np.int64], key: bytes, multiplier: int, seed: int) -> None:
    """Add the row of a key times a number of GF(p) to its cells."""
    row = [1, _check(key), *(int.from_bytes(word) for word in _words(key))]
    multiples = np.array([multiplier * number % _PRIME for number in row], dtype=np.int64)
    for cell in _cells(key, len(table), seed):
        table[cell] = (table[cell] + multiples) % _PRIME


def _single_key(cell: NDArray[np.int64]) -> bytes | None:
    """Return the key if the cell holds one only: a multiple of its row, as the check tells."""
    count, check, *words = cell.tolist()
    if count == 0:
        return None
    inverse = pow(count, -1, _PRIME)
    quotients = [word * inverse % _PRIME for word in words]
    if any(quotient >= 2 ** (8 * _WORD) for quotient in quotients):
        return None
    key = b"".join(quotient.to_bytes(_WORD) for quotient in quotients)
    return key if check * inverse % _PRIME == _check(key) else None


def _bytes_of(key: Key) -> bytes:
    text = _text_of(key)
    if len(text) > LONGEST_KEY:
        raise ValueError(f"a key has {len(text)} bytes, a table {LONGEST_KEY}")
    return text.ljust(LONGEST_KEY)


def _text_of(key: Key) -> bytes:
    return json.dumps(key, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def _key_of(key: bytes) -> Key:
    factor, position, level = json.loads(key)
    return factor, position, level


def _words(key: bytes) -> list[bytes]:
    return [key[start : start + _WORD] for start in range(0, len(key), _WORD)]


def _check(key: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"check" + key).digest()[:_WORD])


def _cells(key: bytes, n_cells: int, seed: int) -> list[int]:
    """Return one cell in each of the table's equal parts."""
    digest = hashlib.sha256(b"cells" + seed.to_bytes(4) + key).digest()
    size = n_cells // _HASHES
    return [part * size + int.from_bytes(digest[8 * part : 8 * part + 8]) % size for part in range(_HASHES)]
