"""How long one pass over Ray takes, beside the same hops between bare actors, and beside its own computing.

Three numbers for each size of the ring: Ray's floor (`bare_ring`), the computing of the pass in one process
(`in_process`), and the pass itself, asked for by `Federation.sum`. Between passes everything rests for a
moment, so that holders draw their noise off the clock; `fit` measures passes that follow one another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import tacit
from numpy.typing import NDArray

from . import memory
from .bare_ring import BareRing
from .in_process import InProcess
from .measure import Figure, Section, Task, Timing, compare, take_turns, timing

KEY_BITS = 3072
SIZES = (3, 10, 30)
VALUES = np.array(
    [1.5, -0.25, 3.0]
)  # as many as a Newton step of one parameter: likelihood, score, information
FLOORS = 2.0  # so many times Ray's floor, and the computing, a pass may take: demanded for the smallest ring
WARM_UP = 3


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure rings of every size, smallest first."""
    for n_holders in SIZES[:1] if quick else SIZES:
        yield _section(n_holders, turns=5 if quick else 21, say=say)


def contribution(data: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contribute the rows as they are."""
    return data


def _section(n_holders: int, turns: int, say: Callable[[str], None]) -> Section:
    protocol = tacit.RingPaillier(key_bits=KEY_BITS)
    alone = InProcess(protocol, VALUES, n_holders)
    say(f"latency, {n_holders} holders: starting {2 * n_holders + 3} actors")
    data = {f"site-{i + 1}": VALUES for i in range(n_holders)}
    with tacit.simulate(data, protocol=protocol, holders_per_actor=1) as federation:
        bare = BareRing(n_holders)
        say(f"latency, {n_holders} holders: {turns} turns")
        timings = _timings(federation, alone, bare, n_holders, turns)
        actors = memory.actor_peaks(without="Bare")
        bare.close()
    figures = _figures(timings, demanded=n_holders == min(SIZES))
    figures.append(Figure("peak memory, largest actor", "MB", max(actors.values(), default=0.0)))
    figures.append(Figure("peak memory, this process", "MB", memory.peak()))
    remarks = (
        f"{len(VALUES)} doubles, ExactFloat, {KEY_BITS} bits, an actor a party; noise drawn between passes",
        "bare hops: empty frames as a pass sends them: invitation, readiness, beginning, and round the ring",
    )
    return Section(f"One pass over {n_holders} holders", "bare Ray", tuple(figures), remarks)


def _timings(
    federation: tacit.Federation, alone: InProcess, bare: BareRing, n_holders: int, turns: int
) -> dict[str, Timing]:
    """Time bare hops, bare rounds, the computing alone and real passes by turns, with a rest before each.

    A processor that has rested starts slower, so all four rest alike.
    """
    hops: list[float] = []
    rounds: list[float] = []
    passes: list[float] = []  # all three from the first frame to the last, as the coordinator sees it

    def note(event: object) -> None:
        seconds = getattr(event, "seconds", None)  # of the one event that tells of a pass
        if seconds is not None:
            passes.append(seconds)

    def one_pass() -> None:
        total = federation.sum(contribution, on_event=note)
        if not np.array_equal(total, n_holders * VALUES):
            raise SystemExit("the benchmark's pass over Ray gave a wrong sum")

    def rest() -> None:
        time.sleep(0.15 + 0.02 * n_holders)

    def rest_with_noise() -> None:
        alone.fill()
        rest()

    tasks = {
        "computing": Task(alone.one_pass, prepare=rest_with_noise),
        "hops": Task(lambda: hops.append(bare.turn()), prepare=rest),
        "rounds": Task(lambda: rounds.append(bare.session()), prepare=rest),
        "sum": Task(one_pass, prepare=rest),
    }
    take_turns(tasks, WARM_UP)
    for seconds in (hops, rounds, passes):
        seconds.clear()
    timings = take_turns(tasks, turns)
    return {**timings, "hops": timing(hops), "rounds": timing(rounds), "pass": timing(passes)}


def _figures(timings: dict[str, Timing], *, demanded: bool) -> list[Figure]:
    computing = timings["computing"].seconds
    limit = 1e3 * (FLOORS * timings["rounds"].seconds + computing)
    return [
        compare(
            "a pass",
            "ms",
            timings["pass"],
            timings["rounds"],
            limit=limit if demanded else None,
            note="invitation to total, against the same hops, bare",
        ),
        compare(
            "federation.sum", "ms", timings["sum"], note="the pass, its model installed, its answer fetched"
        ),
        compare(
            "computing of a pass", "ms", timings["computing"], note="all parties one after the other, no Ray"
        ),
        Figure("2 × bare hops + computing", "ms", limit, note="what a pass over the smallest ring may take"),
        compare("the ring's hops alone", "ms", timings["hops"], note="bare, without the opening"),
    ]
