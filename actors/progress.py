"""What a user sees while he waits: nothing for two seconds, then one line that goes away by itself.

On a terminal it is a bar, "round 7/20 · loss 0.312 · 9 of 10 holders · 0:12 left"; in a notebook the same without
the bar. Logs and pipes stay quiet. Whoever wants more passes a function of his own and gets every event.

A thread of its own draws the line, so that it moves while a long pass gives no event; it ends with the waiting.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .events import Event, Iterated, Lost, Pass

QUIET_SECONDS = 2.0
REFRESH_SECONDS = 0.2

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a computation before it begins.

    Attributes
    ----------
    n_passes : int
        Secure sums, about.
    n_holders : int
    n_rounds : int, optional
        How often the model will move, if that is settled beforehand.
    """

    n_passes: int
    n_holders: int
    n_rounds: int | None = None


@contextlib.contextmanager
def following(on_event: OnEvent | None, expected: Expected) -> Iterator[OnEvent]:
    """Give the user's follower, or a line of progress for who looks at a terminal or a notebook."""
    if on_event is not None:
        yield on_event
        return
    course = Course(expected, time.monotonic)
    show = _display()
    if show is None:
        yield course.follow
        return
    over = threading.Event()
    thread = threading.Thread(target=show, args=(course, over), name="tacit progress", daemon=True)
    thread.start()
    try:
        yield course.follow
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def waiting(line: str) -> Iterator[None]:
    """Show a line on a terminal while something goes on that takes seconds."""
    _overwrite(line)
    try:
        yield
    finally:
        _overwrite("")


def _overwrite(line: str) -> None:
    """Write a line over the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)  # noqa: T201 - a terminal's progress


# What there is to say


class Course:
    """How far a computation has come, by its events.

    Parameters
    ----------
    expected : Expected
    clock : callable
        Returns seconds, of which only differences count.
    """

    def __init__(self, expected: Expected, clock: Callable[[], float]) -> None:
        self.expected = expected
        self._clock = clock
        self._n_holders: int | None = None  # in the last sum, if that is told
        self._moved: Iterated | None = None
        self._lost: tuple[str, ...] = ()
        self._times = [clock()]  # of the beginning, and of the end of every pass
        self.n_passes = 0

    def follow(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Pass):
            self._n_holders = len(event.holders) or None
            self._times.append(self._clock())
            self.n_passes = event.number
        elif isinstance(event, Iterated):
            self._moved = event
        elif isinstance(event, Lost):
            self._lost += event.holders

    def line(self) -> str:
        """Return all there is to say at this moment."""
        return " · ".join((*self._where(), self._who(), self._when()))

    def _where(self) -> tuple[str, ...]:
        if self._moved is None or self._moved.iteration == 0:
            return (f"pass {self.n_passes + 1}",)
        number, rounds = self._moved.iteration, self.expected.n_rounds
        where = f"iteration {number}" if rounds is None else f"round {number}/{rounds}"
        if not math.isfinite(self._moved.value):
            return (where,)
        return where, f"{'objective' if rounds is None else 'loss'} {self._moved.value:.4g}"

    def _who(self) -> str:
        if self._n_holders is not None:
            return f"{self._n_holders} of {self.expected.n_holders} holders"
        return f"lost {', '.join(self._lost)}" if self._lost else f"{self.expected.n_holders} holders"

    def _when(self) -> str:
        """Return the time left, or the time gone where nothing can be said of what is left."""
        began, *ends = self._times
        left = self.expected.n_passes - self.n_passes
        if not ends or left <= 0:
            return _minutes(self._clock() - began)
        # The first pass, in which keys are made, takes longer: without it, once there are others.
        a_pass = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0] - began
        return f"{_minutes(max(a_pass * left - (self._clock() - ends[-1]), 0.0))} left"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


# Where it is shown


def _display() -> Callable[[Course, threading.Event], None] | None:
    """Return what draws here; None if nobody looks: in a log or a pipe."""
    if "ipykernel" in sys.modules:
        return _draw_in_notebook
    return _draw_on_terminal if sys.stderr.isatty() else None


def _draw_on_terminal(course: Course, over: threading.Event) -> None:
    """Draw a bar until it is over; what is printed meanwhile appears above it."""
    if over.wait(QUIET_SECONDS):
        return
    from rich.console import Console  # noqa: PLC0415 - for who waits
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    progress = Progress(
        BarColumn(bar_width=24, complete_style="green"),
        text,
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file stays there
    )
    task = progress.add_task(course.line(), total=course.expected.n_passes, completed=course.n_passes)
    with progress:
        while not over.wait(REFRESH_SECONDS):
            progress.update(task, description=course.line(), completed=course.n_passes, refresh=True)


def _draw_in_notebook(course: Course, over: threading.Event) -> None:
    """Write the line over itself until it is over."""
    if over.wait(QUIET_SECONDS):
        return
    width = 0
    while not over.wait(REFRESH_SECONDS):
        line = course.line()
        width = max(width, len(line))
        print(f"\r{line:<{width}}", end="", flush=True)  # noqa: T201 - a notebook's progress
    print(f"\r{'':<{width}}\r", end="", flush=True)  # noqa: T201
