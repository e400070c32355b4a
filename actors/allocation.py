"""What a process keeps of the memory that it has freed."""

from __future__ import annotations

import contextlib
import ctypes

LARGE_BYTES = 2**15
_MMAP_THRESHOLD = -3  # of glibc's mallopt


def give_back_large_blocks() -> None:
    """Let every block from 32 KiB on, a slice of a frame included, go back to the system as soon as it is freed.

    By itself glibc does so with the first of a size, and keeps those after it, up to 32 MiB each, for later.
    Elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):  # another system's library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
