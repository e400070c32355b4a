"""What a user sees while he waits, and where he sees nothing."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from tacit.actors import progress
from tacit.actors.events import SHOWN_PARAMETERS, Event, Iterated, Lost, Pass
from tacit.actors.progress import Course, Expected, following
from tacit.models.definition import State

TEN = tuple("abcdefghij")


class Clock:
    """Seconds that go by when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def passed(number: int, holders: tuple[str, ...] = TEN) -> Pass:
    return Pass(number, "round", 1.0, holders, ("update",))


def course(expected: Expected, *events: Event, seconds: float = 0.0) -> Course:
    """A course after these events, each of them so many seconds after the one before."""
    clock = Clock()
    found = Course(expected, clock)
    for event in events:
        clock.now += seconds
        found.follow(event)
    return found


def test_line_tells_round_loss_holders_and_time_left() -> None:
    events = [passed(1), *(passed(number, TEN[1:]) for number in range(2, 9))]
    found = course(Expected(22, 10, 20), *events, seconds=3.0)
    found.follow(Iterated(7, 0.3121, "round 7"))
    assert found.line() == "round 7/20 · loss 0.3121 · 9 of 10 holders · 0:42 left"


def test_line_of_a_likelihood_has_its_objective_and_no_last_iteration() -> None:
    found = course(Expected(8, 3), passed(1, TEN[:3]), Iterated(1, 99.76641, "iteration 1"), seconds=2.0)
    assert found.line() == "iteration 1 · objective 99.77 · 3 of 3 holders · 0:12 left"


def test_before_the_first_pass_the_line_tells_how_long_it_has_taken() -> None:
    clock = Clock()
    found = Course(Expected(8, 3), clock)
    clock.now += 3_725
    assert found.line() == "pass 1 · 3 holders · 1:02:05"


def test_time_left_is_without_the_first_pass_and_runs_down() -> None:
    clock = Clock()
    found = Course(Expected(11, 3), clock)
    clock.now += 60
    found.follow(passed(1))
    clock.now += 4
    found.follow(passed(2))
    clock.now += 1
    assert found.line().endswith(" 0:35 left")
    clock.now += 100
    assert found.line().endswith(" 0:00 left")


def test_more_passes_than_expected_leave_no_time_to_tell() -> None:
    found = course(Expected(2, 3), *(passed(number, TEN[:3]) for number in (1, 2, 3)), seconds=5.0)
    assert found.line() == "pass 4 · 3 of 3 holders · 0:15"


def test_start_of_a_training_has_no_loss() -> None:
    found = course(Expected(22, 10, 20), passed(1), Iterated(0, np.nan, "round 0"))
    assert found.line().startswith("pass 2 · 10 of 10")


def test_holders_who_are_lost_are_named_where_no_number_is_told() -> None:
    found = course(Expected(8, 3), passed(1, ()), Lost(("b",)))
    assert "lost b" in found.line()


def test_log_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before = threading.active_count()
    with following(None, Expected(8, 3)) as follow:
        follow(passed(1))
        assert threading.active_count() == before
    assert written.getvalue() == ""


def test_own_follower_gets_every_event_and_nothing_else_is_shown() -> None:
    events: list[Event] = []
    with following(events.append, Expected(8, 3)) as follow:
        follow(passed(1))
    assert events == [passed(1)]


class Terminal(io.StringIO):
    """Somebody looks at it; tells when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "round 7" in text:
            self.written.set()
        return super().write(text)


def looked_at(monkeypatch: pytest.MonkeyPatch, quiet: float) -> Terminal:
    """Put a terminal of 100 columns in place of the streams; not in a fixture, after which pytest puts in its own."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "QUIET_SECONDS", quiet)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.005)
    for name, value in {"COLUMNS": "100", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return terminal


def tell(follow: Callable[[Event], None]) -> None:
    for event in (passed(1), passed(2, TEN[1:]), Iterated(7, 0.3121, "round 7")):
        follow(event)


def test_terminal_shows_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch, quiet=0.0)
    with following(None, Expected(22, 10, 20)) as follow:
        tell(follow)
        assert terminal.written.wait(20)
    shown = terminal.getvalue()
    assert re.search(r"━ +round 7/20 · loss 0.3121 · 9 of 10 holders · 0:00 left", shown)
    assert shown.endswith("\x1b[1A\x1b[2K")  # the line is erased


def test_what_is_short_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch, quiet=60.0)
    with following(None, Expected(22, 10, 20)) as follow:
        tell(follow)
    assert terminal.getvalue() == ""


def test_notebook_shows_one_line_over_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = looked_at(monkeypatch, quiet=0.0)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with following(None, Expected(22, 10, 20)) as follow:
        tell(follow)
        assert notebook.written.wait(20)
    first, *lines = notebook.getvalue().split("\r")
    assert {line.strip() for line in (first, *lines[-2:])} == {""}
    assert "round 7/20 · loss 0.3121 · 9 of 10 holders · 0:00 left" in {line.strip() for line in lines}


@pytest.mark.parametrize(("size", "shown"), [(SHOWN_PARAMETERS, True), (SHOWN_PARAMETERS + 1, False)])
def test_long_points_stay_with_the_coordinator(size: int, shown: bool) -> None:
    state = State(3, np.zeros(size), 1.5, 0.25)
    event = Iterated.of(state)
    assert (event.iteration, event.value, event.text) == (3, 1.5, str(state))
    assert (event.parameters is not None) == shown
