"""A whole secure round on Ray beside the plain one: ten holders, a million values of 32 bits each.

    secure      tacit.simulate(…).sum(…): invitation, evaluation, encoding, masks, sealed links, total
    plain       bare Ray actors return their arrays, another one adds them (`plain_round`)
    calls       the plain round, and as many rounds of empty calls as a secure one has besides: what Ray alone takes

All are timed at the coordinator, from the first frame to the total, and take turns on the same rows. Every actor has
a process of its own. Sums of an epoch that is set up are timed: the first one, which deals its secrets, stands apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tacit
from numpy.typing import NDArray
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.protocol import Protocol

from .measure import Figure, Section, Task, Timing, compare, take_turns, timing
from .plain_round import PlainRound

N_HOLDERS = 10
TARGET = 1 / 1.5  # so many times the plain round it may take at most
BOUND, FRACTION_BITS = 8.0, 24  # ten contributions fit words of 32 bits
EMPTY_ROUNDS = 3  # besides masked inputs: readiness, codes over the survivors, shares
SPREAD = 2.0  # of values that are drawn; those beyond the bound are cut off


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure pairwise masking in both encodings and with both adversaries, then the other protocols."""
    length, turns = (100_000, 3) if quick else (1_000_000, 9)
    generator = np.random.default_rng(0)
    rows = {
        f"site-{place + 1}": np.clip(generator.normal(0, SPREAD, length), -BOUND, BOUND).astype(np.float32)
        for place in range(N_HOLDERS)
    }
    fixed, quantized = tacit.FixedPoint(BOUND, FRACTION_BITS), tacit.Quantized(bits=16, clip=BOUND)
    kinds: dict[str, tuple[Protocol[Any], Any]] = {
        "pairwise masking": (tacit.PairwiseMasking(), fixed),
        "pairwise masking, Quantized": (tacit.PairwiseMasking(), quantized),
        "pairwise masking, curious coordinator": (tacit.PairwiseMasking(active=False), fixed),
        "secret sharing": (tacit.SecretSharing(), fixed),
        "additive sharing": (AdditiveSharing(), fixed),
    }
    figures: list[Figure] = []
    for name, (protocol, encoding) in kinds.items():
        say(f"rounds: {name}, {turns} turns of {N_HOLDERS} holders with {length:,} values")
        figures += _figures(name, protocol, encoding, rows, turns)
    remarks = (
        f"{N_HOLDERS} holders, {length:,} float32 each, a process a party; FixedPoint unless Quantized is named",
        "at the coordinator, from invitation to total; what the repository notes of the total comes after",
    )
    yield Section(f"A round of {N_HOLDERS} × {length:,} float32 on Ray", "plain", tuple(figures), remarks)


def contribution(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Contribute the rows as they are."""
    return rows


def _figures(
    name: str, protocol: Protocol[Any], encoding: Any, rows: dict[str, NDArray[np.float32]], turns: int
) -> Iterator[Figure]:
    with tacit.simulate(rows, protocol=protocol, holders_per_actor=1) as federation:
        plain = PlainRound(list(rows.values()))
        first, timings = _timings(federation, plain, encoding, turns)
        plain.close()
    target = TARGET if name.startswith("pairwise") else None
    yield compare(name, "ms", timings["pass"], timings["plain"], target=target)
    if isinstance(protocol, tacit.PairwiseMasking) and protocol.active:
        yield compare(
            "… calls alone", "ms", timings["calls"], timings["plain"], note="the least that it takes on Ray"
        )
    yield compare("… as federation.sum", "ms", timings["sum"], note="and its answer fetched, its total noted")
    yield Figure("… the first round", "ms", 1e3 * first, note="with whatever it sets up")


def _timings(
    federation: tacit.Federation, plain: PlainRound, encoding: Any, turns: int
) -> tuple[float, dict[str, Timing]]:
    """Time plain and secure rounds by turns; return the seconds of the first secure one apart."""
    passes: list[float] = []
    plains: list[float] = []
    calls: list[float] = []
    totals: dict[str, NDArray[np.float32]] = {}

    def note(event: object) -> None:
        seconds = getattr(event, "seconds", None)  # of the one event that tells of a pass
        if seconds is not None:
            passes.append(seconds)

    def secure_round() -> None:
        totals["secure"] = federation.sum(contribution, encoding=encoding, on_event=note)

    def plain_round() -> None:
        seconds, totals["plain"] = plain.sum()
        plains.append(seconds)

    def all_calls() -> None:
        seconds, _ = plain.sum()
        calls.append(seconds + plain.call(EMPTY_ROUNDS))

    def rest() -> None:
        time.sleep(0.2)

    tasks = {"sum": Task(secure_round, prepare=rest), "round": Task(plain_round, prepare=rest)}
    tasks["calls"] = Task(all_calls, prepare=rest)
    take_turns(tasks, 2)
    first = passes[0]
    passes.clear()
    plains.clear()
    calls.clear()
    timings = take_turns(tasks, turns)
    if not np.allclose(totals["secure"], totals["plain"], atol=0.01):
        raise SystemExit("the benchmark's secure round gave another total than the plain one")
    return first, {**timings, "pass": timing(passes), "plain": timing(plains), "calls": timing(calls)}
