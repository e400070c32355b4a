"""Metrics and logs of a party: what is counted, and that no value is told."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from studies import identity_of
from tacit.actors import telemetry
from tacit.actors.telemetry import LogFile, MeasuredLedger, log_to

IDENTITY = identity_of("north", "holder")
SECRET = "private row 17"


class Meter:
    """Takes what a metric of Ray takes."""

    found: ClassVar[dict[str, list[tuple[Any, ...]]]] = {}

    def __init__(self, name: str, description: str, **_: Any) -> None:
        self.seen = self.found[name] = []

    def inc(self, value: float = 1.0, *, tags: dict[str, str]) -> None:
        self.seen.append((value, tags))

    def observe(self, value: float, *, tags: dict[str, str]) -> None:
        self.seen.append((value, tags))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredLedger:
    for name in ("Counter", "Histogram"):
        monkeypatch.setattr(telemetry, name, Meter)
    return MeasuredLedger(tmp_path, IDENTITY)


def test_sessions_are_counted_by_outcome_with_bytes_and_seconds(ledger: MeasuredLedger) -> None:
    ledger.intend(bytes(32), {"over": ["north"]})
    ledger.conclude(bytes(32), "released", {"reason": "", "bytes_sent": 120})
    ledger.conclude(b"1" * 32, "refused", {"reason": "its policy does not allow this model", "bytes_sent": 0})
    released, refused = Meter.found["tacit_sessions"]
    assert released == (1.0, {"party": "north", "outcome": "released", "reason": ""})
    assert refused[1]["reason"] == "its policy does not allow this model"
    assert Meter.found["tacit_bytes_sent"] == [(120.0, {"party": "north"})]
    [(seconds, _)] = Meter.found["tacit_session_seconds"]
    assert 0 <= seconds < 60


def test_the_ledger_has_every_session_that_is_counted(ledger: MeasuredLedger) -> None:
    ledger.conclude(bytes(32), "ended", {"reason": "DropoutError"})
    assert ledger.head.size == 1


@pytest.fixture
def package() -> Iterator[logging.Logger]:
    package = logging.getLogger("tacit")
    handlers, level, propagate = package.handlers[:], package.level, package.propagate
    yield package
    added = [handler for handler in package.handlers if handler not in handlers]
    package.handlers[:], package.propagate = handlers, propagate  # first: a closed one opens again
    package.setLevel(level)
    for handler in added:
        handler.close()


def test_a_log_tells_where_an_exception_was_raised_and_not_what_it_says(
    package: logging.Logger, tmp_path: Path
) -> None:
    log_to(tmp_path, "north")
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        logging.getLogger("tacit.actors.data_holder").error("the contribution failed", exc_info=error)
    text = (tmp_path / "log.jsonl").read_text()
    line = json.loads(text)
    assert (line["party"], line["level"], line["message"]) == ("north", "error", "the contribution failed")
    assert line["exception"] == "KeyError"
    assert "test_telemetry.py" in line["where"][0]
    assert SECRET not in text
    assert not package.propagate


def test_a_log_on_a_full_disk_tells_no_more(
    package: logging.Logger,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_space(_: LogFile) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LogFile, "flush", no_space)
    log_to(tmp_path, "north")
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        logging.getLogger("tacit.actors.data_holder").error("the contribution failed", exc_info=error)
    said = capfd.readouterr().err
    assert "a line of the log cannot be written: No space left on device" in said
    assert SECRET not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_where_nothing_can_be_written_a_party_goes_on(
    package: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log is not worth a party."""

    def no_space(_: LogFile) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LogFile, "flush", no_space)
    monkeypatch.setattr(telemetry, "STANDARD_ERROR", os.open("/dev/full", os.O_WRONLY))
    log_to(tmp_path, "north")
    logging.getLogger("tacit.actors.data_holder").error("the contribution failed")
    os.close(telemetry.STANDARD_ERROR)


def test_a_log_that_is_closed_holds_nothing_open(tmp_path: Path) -> None:
    before = os.dup(2)
    os.close(before)
    handler = LogFile(tmp_path / "log.jsonl")
    handler.close()
    handler.close()
    after = os.dup(2)  # the lowest that is free
    os.close(after)
    assert after == before


PRINTING = """
import os, subprocess, sys, warnings
from tacit.actors.telemetry import mute
print("before")
if sys.argv[1] == "muted":
    mute()
print("a row")
sys.stderr.write("a row")
warnings.warn("a row")
os.write(2, b"a row")
subprocess.run(["echo", "a row"])
raise ValueError("a row")
"""


@pytest.mark.parametrize("how", ["muted", "not muted"])
def test_a_process_that_is_muted_shows_nothing_of_what_is_printed_in_it(how: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-u", "-c", PRINTING, how], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1
    assert shown.stdout.startswith("before\n")
    n_seen = (shown.stdout + shown.stderr).count("a row")
    assert n_seen == 0 if how == "muted" else n_seen >= 6
