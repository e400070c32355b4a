"""Merkle trees over a list that only grows: one hash for all of it, and short proofs that something is in it.

Source: RFC 9162 (Certificate Transparency 2.0), section 2.1; the same hashes as RFC 6962.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()
LEAF_BYTES = len(EMPTY)


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry: no inner node has the same."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Peaks:
    """The roots of the perfect trees that a growing list of leaves falls into, largest first: all a root needs."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Append a leaf, given its hash."""
        size, root = self.size, leaf
        while size & 1:  # two trees of one size become one
            root = node_hash(self._roots.pop(), root)
            size >>= 1
        self._roots.append(root)
        self.size += 1

    def root(self) -> bytes:
        """Return the hash of the whole tree."""
        if not self._roots:
            return EMPTY
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaves, given their hashes."""
    peaks = Peaks()
    for leaf in leaves:
        peaks.add(leaf)
    return peaks.root()


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from one leaf to the root (RFC 9162, 2.1.3.1).

    Parameters
    ----------
    leaves : sequence of bytes
        Hashes of all leaves.
    index : int
        Which of them, from 0.
    """
    if len(leaves) == 1:
        return []
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)  # the largest power of two below the number of leaves
    if index < middle:
        return [*inclusion_path(leaves[:middle], index), root_of(leaves[middle:])]
    return [*inclusion_path(leaves[middle:], index - middle), root_of(leaves[:middle])]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a path leads from a leaf at an index to the root of a tree of a size (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, reached = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            reached = node_hash(sibling, reached)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            reached = node_hash(reached, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and reached == root
