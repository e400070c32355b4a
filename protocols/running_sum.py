"""Sums of flagged vectors, one summand after the other: what is added need not be kept.

A summand is a message with a flag, zero if its holder could contribute, and the words of each array. Sums are modulo
the size of the words. All of this is local: nobody learns anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .encoding import ArrayEncoding
from .limbs import add_limbs
from .stream_cipher import CHUNK_BYTES


class Flagged(Protocol):
    """A message with a flag and vectors."""

    @property
    def flag(self) -> NDArray[np.uint64]:
        """One word."""

    @property
    def vectors(self) -> tuple[NDArray[Any], ...]:
        """The words of each array."""


def zeros(encodings: Sequence[ArrayEncoding]) -> list[NDArray[Any]]:
    """Return a flag and vectors of zeros, to add to."""
    flag = np.zeros(1, dtype=np.uint64)
    return [flag, *(np.zeros(encoding.word_shape, encoding.word_dtype) for encoding in encodings)]


def add(totals: Sequence[NDArray[Any]], summand: Flagged) -> None:
    """Add a summand's flag and vectors to totals, in place."""
    add_words(totals, (summand.flag, *summand.vectors))


def add_words(totals: Sequence[NDArray[Any]], vectors: Sequence[NDArray[Any]]) -> None:
    """Add vectors to totals, each to its own, in place."""
    for total, words in zip(totals, vectors, strict=True):
        if total.ndim == 1:
            np.add(total, words, out=total)
            continue
        rows = max(1, CHUNK_BYTES // max(1, total[:1].nbytes))  # carries take memory of their own
        for start in range(0, len(total), rows):
            part = total[start : start + rows]
            part[:] = add_limbs(part, words[start : start + rows])


def total_of(encodings: Sequence[ArrayEncoding], summands: Iterable[Flagged]) -> list[NDArray[Any]]:
    """Return the sum of flags, and of vectors, over summands that are all there."""
    totals = zeros(encodings)
    for summand in summands:
        add(totals, summand)
    return totals
