"""The processes of a federation, from when they are met until they end: how old each is, and what it holds."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from typing import NamedTuple

from . import memory

LOOKS, LOOK_SECONDS = 5, 0.1  # of which the least counts: what is under way is no growth


class Held(NamedTuple):
    """What a process holds: megabytes, open files by name or kind, threads."""

    resident: float
    files: Counter[str]
    threads: int


@dataclass
class Life:
    """One process.

    Attributes
    ----------
    party : str
        Whose it is.
    process : int
    n_sessions : int
        That it has lived through.
    first, last : Held or None
        What it held after the first hundred of them, and when it was last looked at.
    """

    party: str
    process: int
    n_sessions: int = 0
    first: Held | None = None
    last: Held | None = None


class Lives:
    """All of them.

    Parameters
    ----------
    n_first : int
        Sessions after which growth is measured: pools and caches have filled.

    Attributes
    ----------
    every : list of Life
    alive : dict of str to Life
        By party.
    """

    def __init__(self, n_first: int) -> None:
        self.every: list[Life] = []
        self.alive: dict[str, Life] = {}
        self.n_first = n_first

    def meet(self, processes: Mapping[str, int]) -> None:
        """Take note of who is there; a party with another process than before is born anew."""
        for party, process in processes.items():
            if party not in self.alive or self.alive[party].process != process:
                self.alive[party] = Life(party, process)
                self.every.append(self.alive[party])

    def age(self) -> None:
        """Count one more session of all that live, and look when a first hundred is over."""
        for life in self.alive.values():
            life.n_sessions += 1
        if any(life.n_sessions == self.n_first for life in self.alive.values()):
            self.look()

    def look(self) -> None:
        """Look what each that lives holds."""
        gc.collect()
        looks = []
        for _ in range(LOOKS):
            time.sleep(LOOK_SECONDS)
            looks.append({party: held(life.process) for party, life in self.alive.items()})
        for party, life in self.alive.items():
            resident, files, threads = zip(*(look[party] for look in looks), strict=True)
            life.last = Held(min(resident), reduce(and_, files), min(threads))
            if life.n_sessions == self.n_first:
                life.first = life.last


def held(process: int) -> Held:
    """Return what a process holds now."""
    folder = memory.PROCESSES / str(process)
    files = Counter(_files(folder / "fd"))
    return Held(memory.resident(process), files, len(list((folder / "task").iterdir())))


def _files(descriptors: Path) -> Iterator[str]:
    """Yield what each descriptor leads to: a path, or what comes before the number of a socket or a pipe."""
    for descriptor in descriptors.iterdir():
        with contextlib.suppress(OSError):  # it has been closed meanwhile
            yield os.readlink(descriptor).partition(":[")[0]
