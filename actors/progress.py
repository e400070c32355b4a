"""What a terminal shows while a user waits: nothing at first, then one line that goes away by itself.

Logs and pipes stay quiet. Whoever wants more passes a function of his own and gets every event.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from .events import Event, Iterated, Lost, Pass

QUIET_SECONDS = 2.0

OnEvent = Callable[[Event], None]


@contextlib.contextmanager
def following(on_event: OnEvent | None) -> Iterator[OnEvent]:
    """Give the user's follower, or a line of progress on a terminal once two seconds have gone by."""
    if on_event is not None:
        yield on_event
        return
    began = time.monotonic()

    def follow(event: Event) -> None:
        waited = time.monotonic() - began
        if waited > QUIET_SECONDS and isinstance(event, Pass | Iterated | Lost):
            _show(f"{_line(event)} ({waited:.0f} s)")

    try:
        yield follow
    finally:
        _show("")


@contextlib.contextmanager
def waiting(line: str) -> Iterator[None]:
    """Show a line while something goes on that takes seconds."""
    _show(line)
    try:
        yield
    finally:
        _show("")


def _show(line: str) -> None:
    """Write a line over the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)  # noqa: T201 - a terminal's progress


def _line(event: Pass | Iterated | Lost) -> str:
    if isinstance(event, Pass):
        return f"pass {event.number}" + (f" over {len(event.holders)} holders" if event.holders else "")
    if isinstance(event, Lost):
        return f"lost {', '.join(event.holders)}"
    return str(event.state)
