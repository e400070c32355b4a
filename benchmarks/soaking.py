"""Sessions in a row over a federation whose processes are killed: how each session ended, and who lived.

Every sum must be the correctly rounded one over the holders that the result names, who are all that live. A typed error
is as good **only where a death accounts for it**: one for each death, in its session or the next, and any number while
the coordinator or too many holders are dead; after two in a row all start anew. Whatever else comes is wrong.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import ray
import tacit
from numpy.typing import NDArray
from ray._private import state, worker
from tacit.actors.events import Event, Result
from tacit.actors.transport import WAITING_SECONDS
from tacit.protocols.party import COORDINATOR

from . import memory
from .lives import LOOK_SECONDS, LOOKS, Life, Lives

FAILURES = 2  # in a row, after which all parties start anew

DRIVER, REPOSITORY = "the user's process", "the repository"

Rows = NDArray[np.float64]


class Death(NamedTuple):
    """Who dies in a session: the first of the victims that lives, after so many times what a session takes."""

    victims: Sequence[str]
    after: float


def contribution(rows: Any, at: float) -> Rows:
    """Contribute numbers whose sum rounds, and depends on which session it is; rows are an array, or one column."""
    return np.asarray(np.cos(np.ravel(rows) + at))


@dataclass
class Tally:
    """How sessions ended.

    Attributes
    ----------
    sums : Counter of int
        Right sums, by how many holders are in them.
    errors : Counter of str
        Typed errors that a death accounts for, by name.
    wrong : list of str
        Whatever else came: wrong sums, errors without a type of ours or without a death, living holders left out.
    kills : Counter of str
        Processes that were killed, by party.
    n_amid : int
        How many of them before the session was over.
    n_restarts : int
        How often all parties were started anew.
    slowest : float
        Seconds of the longest session.
    """

    sums: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    n_amid: int = 0
    n_restarts: int = 0
    slowest: float = 0.0


@dataclass(frozen=True)
class Soaked:
    """Sessions in a row: how they ended, who lived, and what Ray held after the first of them and after all."""

    tally: Tally
    lives: Sequence[Life]
    first: Mapping[str, int]
    last: Mapping[str, int]
    n_unrecorded: int  # sums that were revealed, and are not in the repository
    n_faults: int  # that the repository finds in itself


class Soak:
    """Sessions in a row over one federation.

    Parameters
    ----------
    federation : Federation
    rows : mapping of str to array
        Of each holder.
    fewest : int
        Holders without whom there is no sum.
    n_first : int
        As of `Lives`.
    say : callable
        Told of progress.
    """

    def __init__(
        self,
        federation: Any,
        rows: Mapping[str, Rows],
        fewest: int,
        n_first: int,
        say: Callable[[str], None],
    ) -> None:
        self._federation = federation
        self._rows = rows
        self._fewest = fewest
        self._n_first = n_first
        self._say = say
        self._tally, self._lives = Tally(), Lives(n_first)
        self._n_sessions = 0  # over all runs, so that each asks another question
        self._n_sums = 0
        self._usual = 0.0  # seconds of a session
        self._victim = ""  # who dies in this session
        self._excused = 0  # the last session that may fail for a death
        self._n_failed = 0  # in a row
        self._is_returning = False  # whether parties are about to find each other again

    def run(self, n_sessions: int, deaths: Mapping[int, Death]) -> Soaked:
        """Run so many sessions, in some of which a process is killed."""
        self._tally, self._lives = Tally(), Lives(self._n_first)
        self._lives.meet(self._processes())
        counts = []
        for number in range(1, n_sessions + 1):
            if number in deaths:
                self._fatal_session(deaths[number])
            else:
                self._session()
                if REPOSITORY not in self._lives.alive:  # Ray starts it again
                    self._lives.meet(self._processes())
            self._lives.age()
            if self._n_failed == FAILURES:
                self._bring_back()
            if number in (self._n_first, n_sessions):
                counts.append(self._at_rest())
                self._say(f"soak: {number:,} sessions are over")
        n_unrecorded = self._n_sums - len({record["session"] for record in self._federation.ledger})
        n_faults = len(self._federation.repository.verify().faults)
        return Soaked(self._tally, self._lives.every, counts[0], counts[-1], max(0, n_unrecorded), n_faults)

    def _fatal_session(self, death: Death) -> None:
        """Kill some party's process in the middle of a session."""
        self._lives.look()
        self._victim = next(victim for victim in death.victims if victim in self._lives.alive)
        killed: list[float] = []

        def kill(process: int) -> None:
            os.kill(process, signal.SIGKILL)
            killed.append(time.monotonic())

        process = self._lives.alive[self._victim].process
        killer = threading.Timer(death.after * self._usual, kill, [process])
        killer.start()
        self._excused = self._n_sessions + 2
        self._session()
        ended = time.monotonic()
        killer.join()
        del self._lives.alive[self._victim]
        self._tally.kills[self._victim] += 1
        self._tally.n_amid += killed[0] < ended
        self._victim = ""

    def _bring_back(self) -> None:
        """Start all parties anew; the user's process and the repository's go on."""
        self._lives.look()
        self._federation.restart()
        for party in (*self._rows, COORDINATOR):
            self._lives.alive.pop(party, None)
        self._lives.meet(self._processes())
        self._tally.n_restarts += 1
        self._n_failed = 0

    def _processes(self) -> dict[str, int]:
        """Return the process of each party that lives, and of the repository and of the user."""
        return _processes(self._federation)

    def _session(self) -> int:
        """Run one session, and judge what came of it; return over how many holders there is a sum."""
        self._n_sessions += 1
        at = float(self._n_sessions)
        results: list[Result] = []

        def note(event: Event) -> None:
            if isinstance(event, Result):
                results.append(event)

        began = time.monotonic()
        problem = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", tacit.HoldersLostWarning)
                total = self._federation.sum(contribution, at, on_event=note)
        except tacit.TacitError as error:
            problem = self._judge_error(error)
        except Exception as error:  # noqa: BLE001 - what must not come is counted, and the soak goes on
            problem = f"a {type(error).__name__}"
        else:
            problem = self._judge_sum(total, at, results[0].survivors)
        seconds = time.monotonic() - began
        if problem is not None:
            self._tally.wrong.append(f"{problem} in session {self._n_sessions}")
        elif not self._n_failed and not self._victim:
            self._usual = seconds
        self._tally.slowest = max(self._tally.slowest, seconds)
        return len(results[0].survivors) if results and problem is None else 0

    def _judge_error(self, error: tacit.TacitError) -> str | None:
        """Return what is wrong with an error: that no death accounts for it."""
        self._n_failed += 1
        alive = self._lives.alive
        able = COORDINATOR in alive and len(self._rows.keys() & alive.keys()) >= self._fewest
        if able and not self._is_returning and self._n_sessions > self._excused:
            return f"a {type(error).__name__} without a death ({error})"
        if able:
            self._excused = 0
        self._tally.errors[type(error).__name__] += 1
        return None

    def _judge_sum(self, total: Rows, at: float, survivors: Sequence[str]) -> str | None:
        """Return what is wrong with a sum: its value, or that a holder who lives is not in it."""
        self._n_failed = 0
        self._n_sums += 1
        left_out = (self._rows.keys() & self._lives.alive.keys()) - {*survivors, self._victim}
        if left_out:
            return f"a sum without {', '.join(sorted(left_out))}"
        if total.tolist() != exact_sum([self._rows[name] for name in survivors], at):
            return f"another sum than that over {', '.join(survivors)}"
        self._tally.sums[len(survivors)] += 1
        return None

    def _at_rest(self) -> dict[str, int]:
        """Look at every process and at Ray, when all parties are there and nothing is under way."""
        if not self._lives.alive.keys() >= {*self._rows, COORDINATOR}:
            self._bring_back()
        gc.collect()
        time.sleep(WAITING_SECONDS + 1)
        self._lives.look()
        return {**_held_by_ray(), "references that the parties hold": self._references()}

    def _references(self) -> int:
        """Count what the parties' processes refer to; of several looks the least counts, as pings are under way."""
        counts = []
        for _ in range(LOOKS):
            counts.append(_held_by_parties(self._federation))
            time.sleep(LOOK_SECONDS)
        return min(counts)


def exact_sum(rows: Sequence[Rows], at: float) -> list[float]:
    """Return the correctly rounded exact sums of contributions."""
    contributions = [contribution(own, at).tolist() for own in rows]
    return [math.fsum(values) for values in zip(*contributions, strict=True)]


# What is there


def _processes(federation: Any) -> dict[str, int]:
    repository = int(ray.get(federation._repository.ping.remote()))
    return {**federation.processes, DRIVER: os.getpid(), REPOSITORY: repository}


def _held_by_ray() -> dict[str, int]:
    return {
        "actors alive": sum(actor["State"] == "ALIVE" for actor in state.actors().values()),
        "processes of Ray that are not idle": len(memory.actors()),
        "bytes in Ray's store": _stored(),
        "references that the user's process holds": _references(),
    }


def _stored() -> int:
    """Return how many bytes of Ray's shared memory are in use."""
    in_all: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    left: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return int(in_all["object_store_memory"] - left["object_store_memory"])


def _held_by_parties(federation: Any) -> int:
    """Return to how many objects the processes of the parties refer; what nobody refers to is collected first."""
    asked = [host.__ray_call__.remote(_held) for host in federation._hosts().values()]
    return sum(ray.get(asked))


def _held(_: Any) -> int:
    gc.collect()
    return _references()


def _references() -> int:
    here: Any = worker.global_worker
    return len(here.core_worker.get_all_reference_counts())
