"""A thousand sessions in a row, undisturbed and among deaths: what grows, and whether every sum is right.

Two federations, one after the other, under pairwise masking and in the ring of Paillier. In each

    undisturbed     a thousand sessions in the same processes: what each of them holds more at the end than after the
                    first hundred
    with kills      five hundred more; every now and then the process of some party is killed at a random moment of a
                    session, some sessions follow without it, and then all parties start anew. Every sum is the
                    correctly rounded one over the holders that the result names, or a typed error

Only the user's process and the repository's live through the kills, so the growth of parties is of the first kind.
What is counted is at rest: calls that wait for frames hold references, and have ended by then.
"""

from __future__ import annotations

import gc
import math
import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import ray
import tacit
from numpy.typing import NDArray
from ray._private import state, worker
from tacit.actors.events import Event, Result
from tacit.actors.transport import WAITING_SECONDS
from tacit.protocols.protocol import Protocol

from . import memory
from .measure import Figure, Section

SESSIONS, QUICK_SESSIONS = 1_000, 60
FIRST, QUICK_FIRST = 100, 20  # sessions after which growth is measured: pools and caches have filled
HOLDERS, ROWS = 4, 8
SESSIONS_A_DEATH, QUICK_SESSIONS_A_DEATH = 25, 5  # on average
LATEST_SECONDS = 0.2  # after the begin of a session that a process is killed; most are over by then
FURTHER_SESSIONS = 3  # at most so many follow a death, before all parties start anew
LOOKS, LOOK_SECONDS = 5, 0.3  # of which the least counts: what is under way is no growth
GROWTH_LIMIT = 10.0  # percent
FILES_LIMIT, THREADS_LIMIT = 0, 8  # its and our pools of threads come with use
SESSION_SECONDS = 10.0  # in which a session is over, whoever dies

DRIVER, REPOSITORY = "the user's process", "the repository"

Rows = NDArray[np.float64]


class Held(NamedTuple):
    """What a process holds: megabytes, descriptors of files, threads."""

    resident: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """What is there at one moment: of each process, and of Ray."""

    processes: Mapping[str, Held]
    ray: Mapping[str, int]


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Soak both protocols."""
    n_sessions = QUICK_SESSIONS if quick else SESSIONS
    generator = np.random.default_rng(0)
    rows = {f"site-{place + 1}": generator.normal(0, 1, ROWS) for place in range(HOLDERS)}
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        for protocol in (tacit.PairwiseMasking(), tacit.RingPaillier()):
            yield from _soaked(protocol, rows, n_sessions, say)
    finally:
        ray.shutdown()


def contribution(rows: Rows, at: float) -> Rows:
    """Contribute numbers whose sum rounds, and depends on which session it is."""
    return np.asarray(np.cos(rows + at))


def references(_: Rows) -> int:
    """Count the objects of Ray that a holder's process refers to; what nobody refers to is collected first."""
    gc.collect()
    return _references()


def _soaked(
    protocol: Protocol[Any], rows: Mapping[str, Rows], n_sessions: int, say: Callable[[str], None]
) -> Iterator[Section]:
    with tacit.simulate(rows, protocol, on_dropout="continue") as federation:
        soak = Soak(federation, rows, say)
        say(f"soak: {protocol.title}, {n_sessions:,} sessions undisturbed")
        yield _section(f"{n_sessions:,} sessions: {protocol.title}", soak.undisturbed(n_sessions))
        n_sessions //= 2
        say(f"soak: {protocol.title}, {n_sessions:,} sessions with kills")
        yield _section(f"{n_sessions:,} sessions with kills: {protocol.title}", soak.with_kills(n_sessions))


# The sessions


@dataclass
class Tally:
    """How sessions ended.

    Attributes
    ----------
    sums : Counter of int
        Right sums, by how many holders are in them.
    errors : Counter of str
        Typed errors, by name.
    wrong : list of str
        Whatever else came: sums that were wrong, errors without a type of ours.
    kills : Counter of str
        Processes that were killed, by party.
    slowest : float
        Seconds of the longest session.
    """

    sums: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


@dataclass(frozen=True)
class Soaked:
    """Sessions in a row: how they ended, and what was there after the first of them and after all."""

    tally: Tally
    first: Sample
    last: Sample
    lasting: tuple[str, ...]  # processes that have lived through all of it


class Soak:
    """Sessions in a row over one federation.

    Parameters
    ----------
    federation : Federation
    rows : mapping of str to array
        Of each holder.
    say : callable
        Told of progress.
    """

    def __init__(self, federation: Any, rows: Mapping[str, Rows], say: Callable[[str], None]) -> None:
        self._federation = federation
        self._rows = rows
        self._say = say
        self._tally = Tally()
        self._random = random.Random(0)  # of deaths, not of secrets
        self._n_sessions = 0

    def undisturbed(self, n_sessions: int) -> Soaked:
        """Run so many sessions."""
        first, last = self._run(n_sessions, self._session)
        return Soaked(self._tally, first, last, tuple(last.processes))

    def with_kills(self, n_sessions: int) -> Soaked:
        """Run so many sessions or a few more, in some of which a process is killed."""
        sessions_a_death = QUICK_SESSIONS_A_DEATH if n_sessions <= QUICK_SESSIONS else SESSIONS_A_DEATH

        def sessions() -> None:
            if self._random.random() < 1 / sessions_a_death:
                self._death()
            else:
                self._session()

        first, last = self._run(n_sessions, sessions)
        return Soaked(self._tally, first, last, (DRIVER, REPOSITORY))

    def _run(self, n_sessions: int, some: Callable[[], None]) -> tuple[Sample, Sample]:
        self._tally, before = Tally(), self._n_sessions
        samples = []
        for goal in (QUICK_FIRST if n_sessions <= QUICK_SESSIONS else FIRST, n_sessions):
            while self._n_sessions - before < goal:
                some()
            self._say(f"soak: {goal:,} sessions are over")
            samples.append(_sample(self._federation))
        first, last = samples
        return first, last

    def _death(self) -> None:
        """Kill some party's process in the middle of a session, go on without it, and start all anew."""
        victim, process = self._random.choice(sorted(self._federation.processes.items()))
        killer = threading.Timer(self._random.uniform(0, LATEST_SECONDS), os.kill, (process, signal.SIGKILL))
        killer.start()
        self._session()
        killer.join()
        self._tally.kills[victim] += 1
        for _ in range(self._random.randint(0, FURTHER_SESSIONS)):
            self._session()
        self._federation.restart()

    def _session(self) -> None:
        """Run one session, and judge what came of it; each asks another question, which survivors may answer."""
        self._n_sessions += 1
        at = float(self._n_sessions)
        results: list[Result] = []

        def note(event: Event) -> None:
            if isinstance(event, Result):
                results.append(event)

        began = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", tacit.HoldersLostWarning)
                total = self._federation.sum(contribution, at, on_event=note)
        except tacit.TacitError as error:
            self._tally.errors[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - what must not come is counted, and the soak goes on
            self._tally.wrong.append(f"a {type(error).__name__} in session {self._n_sessions}")
        else:
            self._judge(total, at, results[0].survivors)
        self._tally.slowest = max(self._tally.slowest, time.monotonic() - began)

    def _judge(self, total: Rows, at: float, survivors: Sequence[str]) -> None:
        if total.tolist() == exact_sum([self._rows[name] for name in survivors], at):
            self._tally.sums[len(survivors)] += 1
        else:
            self._tally.wrong.append(
                f"another sum than that over {', '.join(survivors)} in session {self._n_sessions}"
            )


def exact_sum(rows: Sequence[Rows], at: float) -> list[float]:
    """Return the correctly rounded exact sums of contributions."""
    contributions = [contribution(own, at).tolist() for own in rows]
    return [math.fsum(values) for values in zip(*contributions, strict=True)]


# What is there


def _sample(federation: Any) -> Sample:
    """Look at every process and at Ray, at rest."""
    n_references = min(int(federation.sum(references)) for _ in range(LOOKS))
    gc.collect()
    time.sleep(WAITING_SECONDS + 1)
    processes = federation.processes
    processes |= {DRIVER: os.getpid(), REPOSITORY: ray.get(federation._repository.ping.remote())}
    looks = []
    for _ in range(LOOKS):
        time.sleep(LOOK_SECONDS)
        looks.append({name: _held(process) for name, process in processes.items()})
    least = {name: Held(*map(min, zip(*(look[name] for look in looks), strict=True))) for name in processes}
    return Sample(
        least,
        {
            "actors alive": sum(actor["State"] == "ALIVE" for actor in state.actors().values()),
            "processes of Ray that are not idle": len(memory.actors()),
            "bytes in Ray's store": _stored(),
            "references that the user's process holds": _references(),
            "references that the holders hold": n_references,
        },
    )


def _held(process: int) -> Held:
    folder = memory.PROCESSES / str(process)
    return Held(memory.resident(process), *(len(list((folder / part).iterdir())) for part in ("fd", "task")))


def _stored() -> int:
    """Return how many bytes of Ray's shared memory are in use."""
    in_all: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    left: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return int(in_all["object_store_memory"] - left["object_store_memory"])


def _references() -> int:
    here: Any = worker.global_worker
    return len(here.core_worker.get_all_reference_counts())


# What is told of it


def _section(title: str, soaked: Soaked) -> Section:
    """Put growth and ends of sessions beside their limits."""
    tally, first, last = soaked.tally, soaked.first, soaked.last
    n_right = sum(tally.sums.values())
    n_typed = sum(tally.errors.values())
    figures = [
        Figure(
            "neither a right sum nor a typed error",
            "",
            float(len(tally.wrong)),
            limit=0,
            note=f"{n_right:,} right sums, {n_typed:,} typed errors",
        ),
        Figure("the longest session", "s", tally.slowest, limit=SESSION_SECONDS),
    ]
    figures += [_growth(name, first.processes[name], last.processes[name]) for name in soaked.lasting]
    both = {name: (first.processes[name], last.processes[name]) for name in last.processes}
    files = {name: (was.descriptors, now.descriptors) for name, (was, now) in both.items()}
    threads = {name: (was.threads, now.threads) for name, (was, now) in both.items()}
    figures += [
        _more("open files of a process", files, FILES_LIMIT),
        _more("threads of a process", threads, THREADS_LIMIT),
        *(_more(what, {"": (first.ray[what], last.ray[what])}, 0) for what in last.ray),
    ]
    return Section(title, "", tuple(figures), tuple(_remarks(tally)))


def _growth(name: str, was: Held, now: Held) -> Figure:
    percent = 100 * (now.resident / was.resident - 1) if was.resident else None
    note = f"{was.resident:.1f} MB, then {now.resident:.1f} MB"
    return Figure(f"resident memory: {name}", "% more", percent, limit=GROWTH_LIMIT, note=note)


def _more(what: str, counts: Mapping[str, tuple[int, int]], limit: int) -> Figure:
    """Return by how much a count has grown where it has grown most."""
    where, (was, now) = max(counts.items(), key=lambda item: item[1][1] - item[1][0])
    note = f"{was:,}, then {now:,}" + (f": {where}" if where else "")
    return Figure(what, "more", float(now - was), limit=limit, note=note)


def _remarks(tally: Tally) -> Iterator[str]:
    if tally.kills:
        yield f"{sum(tally.kills.values())} kills: {_listed(tally.kills)}"
        yield f"right sums by how many holders are in them: {_listed(tally.sums)}"
    if tally.errors:
        yield f"typed errors: {_listed(tally.errors)}"
    yield from tally.wrong


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{what} × {count}" for what, count in sorted(counts.items()))
