"""How a sum on Ray grows with the number of holders and with their vectors, under pairwise masking.

Many holders are hosted together, as a simulation of that size does by itself: one process a core. Time of a sum is
the median over sums of an epoch that is set up; the first one, which sets it up, stands apart. Memory is what all
processes have together, this one and Ray's included, at its largest; what they share counts once.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tacit
from numpy.typing import NDArray

from . import memory
from .measure import Figure, Section

HOLDERS, LENGTH = (3, 10, 30, 100, 300, 1000), 1_000
LENGTHS, N_HOLDERS = (10**3, 10**4, 10**5, 10**6, 10**7), 3
QUICK_HOLDERS, QUICK_LENGTH = 30, 10**5
MEMORY_LIMIT = 24 * 1024**3 / 1e6  # MB
LATER_SUMS = 3
PROTOCOL = tacit.PairwiseMasking(active=False)
BOUND, FRACTION_BITS = 1.0, 20  # a thousand contributions fit words of 32 bits


@dataclass(frozen=True)
class Grown:
    """What a federation of some size took: seconds of the first sum, of a later one, and MB of all processes."""

    first: float
    later: float
    megabytes: float


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure growth with the holders, with the length, and the two largest sums."""
    holders = [n for n in HOLDERS if not quick or n <= QUICK_HOLDERS]
    yield _growth_with_holders(holders, say)
    lengths = [length for length in LENGTHS if not quick or length <= QUICK_LENGTH]
    yield _growth_with_length(lengths, say)
    if not quick:
        yield _largest(say)


def contribution(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Contribute the rows as they are."""
    return rows


def words(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Contribute integers of 64 bits, made on the spot: the first is the holder's own."""
    made = np.ones(int(rows[1]), dtype=np.int64)
    made[0] = rows[0]
    return made


def _growth_with_holders(sizes: list[int], say: Callable[[str], None]) -> Section:
    figures: list[Figure] = []
    for n_holders in sizes:
        say(f"scale: {n_holders} holders with {LENGTH:,} values")
        figures += _figures(f"{n_holders} holders", measure(n_holders, LENGTH))
        degree = PROTOCOL.degree(n_holders)
        note = f"{degree / math.log2(n_holders):.2g} times log2 n: the vector work of a holder"
        figures.append(Figure("… others with whom each masks", "", degree, note=note))
    return _section(f"Growth with the holders, {LENGTH:,} float32 each", figures)


def _growth_with_length(lengths: list[int], say: Callable[[str], None]) -> Section:
    figures: list[Figure] = []
    for length in lengths:
        say(f"scale: {N_HOLDERS} holders with {length:,} values")
        figures += _figures(f"{length:,} values", measure(N_HOLDERS, length))
    return _section(f"Growth with the length, {N_HOLDERS} holders", figures)


def _largest(say: Callable[[str], None]) -> Section:
    say("scale: 1,000 holders with 100,000 values")
    many = measure(1000, 10**5, later=1)
    say("scale: 3 holders with 100,000,000 words of 64 bits")
    long = measure_words(3, 10**8)
    figures = [
        *_figures("1,000 holders × 10^5", many, limit=MEMORY_LIMIT),
        *_figures("3 holders × 10^8 words of 64 bits", long, limit=MEMORY_LIMIT),
    ]
    return _section("The largest sums", figures)


def measure(n_holders: int, length: int, later: int = LATER_SUMS) -> Grown:
    """Sum vectors of values between −1 and 1; the total is checked."""
    generator = np.random.default_rng(0)
    rows = {
        f"site-{place:04}": generator.uniform(-BOUND, BOUND, length).astype(np.float32)
        for place in range(n_holders)
    }
    expected = np.zeros(length)
    for own in rows.values():
        expected += np.rint(own.astype(np.float64) * 2**FRACTION_BITS)
    expected *= 2.0**-FRACTION_BITS
    encoding = tacit.FixedPoint(BOUND, FRACTION_BITS)
    with _federation(rows) as federation:
        return _measure(lambda: federation.sum(contribution, encoding=encoding), expected, later)


def measure_words(n_holders: int, length: int) -> Grown:
    """Sum vectors of 64-bit words once more than the set-up; each is made where it is contributed."""
    rows = {f"site-{place}": np.array([place, length]) for place in range(n_holders)}
    expected = np.full(length, n_holders)
    expected[0] = sum(range(n_holders))
    with _federation(rows) as federation:
        return _measure(lambda: federation.sum(words), expected, later=1)


def _federation(rows: dict[str, NDArray[np.float32]] | dict[str, NDArray[np.int64]]) -> tacit.Federation:
    together = math.ceil(len(rows) / (os.cpu_count() or 1))
    return tacit.simulate(rows, protocol=PROTOCOL, holders_per_actor=together)


def _measure(one_sum: Callable[[], NDArray[np.generic]], expected: NDArray[np.generic], later: int) -> Grown:
    seconds: list[float] = []
    with memory.Watch() as watch:
        for _ in range(1 + later):
            start = time.perf_counter()
            total = one_sum()
            seconds.append(time.perf_counter() - start)
    if not np.array_equal(total, expected.astype(total.dtype)):
        raise SystemExit("the benchmark's sum is wrong")
    return Grown(seconds[0], statistics.median(seconds[1:]), watch.megabytes)


def _figures(what: str, grown: Grown, limit: float | None = None) -> list[Figure]:
    return [
        Figure(f"{what}, a sum", "s", grown.later),
        Figure("… the first sum", "s", grown.first, note="with the set-up of an epoch"),
        Figure("… memory of all processes", "MB", grown.megabytes, limit=limit),
    ]


def _section(title: str, figures: list[Figure]) -> Section:
    remarks = (
        "pairwise masking against a curious coordinator; federation.sum, wall time, all parties on this machine",
    )
    return Section(title, "", tuple(figures), remarks)
