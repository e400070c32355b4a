"""Timing of rivals side by side, and the figures that come out of it.

Machines drift: clocks throttle, neighbours come and go. So rivals take turns (A B A B …), each turn times a
batch, and a figure is the median over the turns: what is compared was measured in the same minutes.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("tacit", "numpy", "phe", "gmpy2", "cryptography", "ray", "scipy")


@dataclass(frozen=True)
class Task:
    """Something to time: `run` handles `count` items; what `prepare` does before each turn is not timed."""

    run: Callable[[], object]
    count: int = 1
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Timing:
    """Seconds an item: median and extremes over `turns` turns of `count` items."""

    seconds: float
    fastest: float
    slowest: float
    turns: int
    count: int


def timing(seconds: Sequence[float], count: int = 1) -> Timing:
    """Sum up turns that were timed elsewhere, in seconds an item."""
    return Timing(statistics.median(seconds), min(seconds), max(seconds), len(seconds), count)


def take_turns(tasks: Mapping[str, Task], turns: int) -> dict[str, Timing]:
    """Time all tasks, `turns` times each, one after the other in every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(turns):
        for name, task in tasks.items():
            task.prepare()
            seconds[name].append(_once(task.run) / task.count)
    return {name: timing(seconds[name], tasks[name].count) for name in tasks}


def _once(run: Callable[[], object]) -> float:
    """Seconds of one call, without pauses of the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    finally:
        gc.enable()


@dataclass(frozen=True)
class Figure:
    """One line of the report: ours, beside the rival's.

    Attributes
    ----------
    what, unit : str
        What was measured, and in what (``"µs"``, ``"ms"``, ``"s"``, ``"MB"``).
    ours, rival : float or None
        In that unit.
    limit : float, optional
        What `ours` must not exceed, in that unit.
    target : float, optional
        How many times faster than the rival it must be.
    note : str
        How it was measured.
    spread, rival_spread : (float, float), optional
        Fastest and slowest turn.
    """

    what: str
    unit: str
    ours: float | None
    rival: float | None = None
    target: float | None = None
    limit: float | None = None
    note: str = ""
    spread: tuple[float, float] | None = None
    rival_spread: tuple[float, float] | None = None

    @property
    def times(self) -> float | None:
        """How many times faster than the rival."""
        return self.rival / self.ours if self.rival is not None and self.ours else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is not None and self.times is not None:
            return self.times >= self.target
        if self.limit is not None and self.ours is not None:
            return self.ours <= self.limit
        return None

    def as_json(self) -> dict[str, Any]:
        """Every field, and what follows from them."""
        return {**asdict(self), "times": self.times, "met": self.met}


@dataclass(frozen=True)
class Section:
    """Figures that belong together, against one rival."""

    title: str
    rival: str
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...] = ()


SCALES = {"ns": 1e9, "µs": 1e6, "ms": 1e3, "s": 1.0}


def compare(
    what: str,
    unit: str,
    ours: Timing,
    rival: Timing | None = None,
    *,
    target: float | None = None,
    limit: float | None = None,
    note: str = "",
) -> Figure:
    """Make a figure of timings that took turns; how many turns, of how many items, goes into the note."""
    scale = SCALES[unit]
    counts = _counts(ours) if rival is None else f"{_counts(ours)} against {_counts(rival)}"
    return Figure(
        what,
        unit,
        scale * ours.seconds,
        None if rival is None else scale * rival.seconds,
        target=target,
        limit=limit,
        note=f"{note}; {counts}" if note else counts,
        spread=_spread(ours, scale),
        rival_spread=None if rival is None else _spread(rival, scale),
    )


def _counts(timed: Timing) -> str:
    return f"{timed.turns} × {timed.count:,}"


def _spread(timed: Timing, scale: float) -> tuple[float, float]:
    return scale * timed.fastest, scale * timed.slowest


def machine() -> dict[str, Any]:
    """Tell what the figures depend on: processor, Python, libraries, load."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write(path: Path, sections: Sequence[Section], options: Mapping[str, Any]) -> None:
    """Write everything as JSON, for the next run to compare with."""
    content = {
        "machine": machine(),
        "options": dict(options),
        "sections": [
            {
                "title": section.title,
                "rival": section.rival,
                "figures": [figure.as_json() for figure in section.figures],
                "remarks": section.remarks,
            }
            for section in sections
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
