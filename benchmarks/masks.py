"""Masking a vector, beside the least it can cost: AES-256-CTR over as many bytes, and one addition a mask.

Ours is `add_masks`, keys to masked vector, cipher set-up included; signs alternate. The rival enciphers zeros
chunk by chunk into one buffer, then adds a vector to another once for each neighbour: it is no mask, only the
work. Both are counted in processor time of their thread: what other programs take of the machine is left out,
though they still slow it down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from tacit.protocols.stream_cipher import CHUNK_BYTES, Masks, add_masks

from .measure import Figure, Section, Task, Timing, compare, take_turns, timing

N_NEIGHBOURS = 10
N_ELEMENTS = 1_000_000
N_WIDE, LIMBS = 4096, 34  # as many as ExactFloat takes by default, and its limbs
N_SHARED = 10_000_000  # by two threads
LENGTHS = (10**3, 10**4, 10**5, 10**6, 10**7)
LIMITS = {np.uint64: 1.8, np.uint32: 0.9}  # ns an element and neighbour
OVERHEAD = 1.3  # so many times the rival it may take

Run = Callable[[], object]


@dataclass
class Masking:
    """A vector, fresh keys for every turn, and the same work without masking."""

    vector: NDArray[Any]

    @property
    def count(self) -> int:
        """Words times neighbours."""
        return N_NEIGHBOURS * self.vector.size

    @cached_property
    def other(self) -> NDArray[Any]:
        """Another vector, as long."""
        return np.ones_like(self.vector)

    def ours(self, threads: int = 1) -> None:
        """Add all masks."""
        masks: Masks = [(os.urandom(32), 1 - 2 * (i % 2)) for i in range(N_NEIGHBOURS)]
        add_masks(self.vector, masks, threads=threads)

    def cipher(self) -> None:
        """Encipher as many zeros, into one chunk that is overwritten."""
        size = min(CHUNK_BYTES, self.vector.nbytes)
        zeros, scratch = memoryview(bytes(size)), bytearray(size)
        for _ in range(N_NEIGHBOURS):
            encryptor = Cipher(AES256(os.urandom(32)), CTR(bytes(16))).encryptor()
            for start in range(0, self.vector.nbytes, size):
                encryptor.update_into(zeros[: self.vector.nbytes - start], scratch)

    def addition(self) -> None:
        """Add a vector to another, once for each neighbour."""
        for _ in range(N_NEIGHBOURS):
            np.add(self.vector, self.other, out=self.vector)

    def copy(self) -> None:
        """Copy a vector, once for each neighbour."""
        for _ in range(N_NEIGHBOURS):
            np.copyto(self.vector, self.other)

    def rival(self) -> None:
        """Encipher, then add."""
        self.cipher()
        self.addition()


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure both rings, the wide ring, growth with the length, and two threads."""
    turns = 5 if quick else 31
    say(f"masks: {turns} turns of {N_NEIGHBOURS} masks on {N_ELEMENTS:,} words")
    yield _rings(turns)
    say("masks: growth with the length, and threads")
    yield _growth(LENGTHS[:-1] if quick else LENGTHS, 3 if quick else 9)
    yield _threads(3 if quick else 9)


def _rings(turns: int) -> Section:
    figures: list[Figure] = []
    for word, limit in LIMITS.items():
        figures += _ring(Masking(np.zeros(N_ELEMENTS, word)), word.__name__, limit, turns)
    figures.append(_wide_ring(turns))
    remarks = (
        f"{N_ELEMENTS:,} elements, {N_NEIGHBOURS} neighbours; a figure is for one element and one neighbour",
        f"addition: numpy's, of two vectors of {N_ELEMENTS:,} words in memory; copying: of one onto the other",
    )
    return Section(
        "Masking, per element and neighbour, thread CPU time", "AES-CTR + addition", tuple(figures), remarks
    )


def _ring(masking: Masking, word: str, limit: float, turns: int) -> list[Figure]:
    """Figures of one word size, ours against its parts."""
    runs = {name: getattr(masking, name) for name in ("ours", "rival", "cipher", "addition", "copy")}
    timings = _processor_times({name: (run, masking.count) for name, run in runs.items()}, turns)
    ours, rival = timings["ours"], timings["rival"]
    return [
        compare(f"masking, {word}", "ns", ours, limit=limit),
        compare(f"masking, {word}, beside its parts", "ns", ours, rival, target=1 / OVERHEAD),
        compare(f"AES-256-CTR alone, {word}", "ns", timings["cipher"]),
        compare(f"addition alone, {word}", "ns", timings["addition"]),
        compare(f"copying alone, {word}", "ns", timings["copy"]),
    ]


def _wide_ring(turns: int) -> Figure:
    """Time integers with carries; the rival's addition has none."""
    wide = Masking(np.zeros((N_WIDE, LIMBS), np.uint64))
    timings = _processor_times({"ours": (wide.ours, wide.count), "rival": (wide.rival, wide.count)}, turns)
    note = f"{N_WIDE:,} integers of {LIMBS} limbs; the rival's addition has no carries"
    return compare("masking, wide ring, per limb", "ns", timings["ours"], timings["rival"], note=note)


def _growth(lengths: tuple[int, ...], turns: int) -> Section:
    """Time vectors of any length; short ones many times a turn, so that turns take as long."""
    figures = []
    for length in lengths:
        masking = Masking(np.zeros(length, np.uint64))
        times = max(1, N_ELEMENTS // length)
        runs = {"ours": masking.ours, "rival": masking.rival}
        tasks = {name: (partial(_repeat, run, times), times * masking.count) for name, run in runs.items()}
        timings = _processor_times(tasks, turns)
        figures.append(compare(f"{length:,} words", "ns", timings["ours"], timings["rival"]))
    remarks = (
        f"uint64, {N_NEIGHBOURS} neighbours; both set a cipher up for every key: short vectors show it",
    )
    return Section(
        "Masking vectors of any length, per element and neighbour, thread CPU time",
        "AES-CTR + addition",
        tuple(figures),
        remarks,
    )


def _threads(turns: int) -> Section:
    masking = Masking(np.zeros(N_SHARED, np.uint64))
    tasks = {str(threads): Task(partial(masking.ours, threads), masking.count) for threads in (1, 2)}
    timings = take_turns(tasks, turns)
    figure = compare("two threads", "ns", timings["2"], timings["1"], note="wall time")
    remarks = (f"{N_SHARED:,} words of 64 bits, {N_NEIGHBOURS} neighbours",)
    return Section(
        "Masking by threads, per element and neighbour, wall time", "one thread", (figure,), remarks
    )


def _repeat(run: Run, times: int) -> None:
    for _ in range(times):
        run()


def _processor_times(runs: Mapping[str, tuple[Run, int]], turns: int) -> dict[str, Timing]:
    """Let runs of so many items take turns; return the seconds of processor time an item."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}

    def timed(name: str) -> None:
        run, count = runs[name]
        start = time.thread_time()
        run()
        seconds[name].append((time.thread_time() - start) / count)

    take_turns({name: Task(partial(timed, name)) for name in runs}, turns)
    return {name: timing(seconds[name], count) for name, (_, count) in runs.items()}
