"""``python -m tacit join | run | status | doctor``: what they teach, print, and end with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tacit
from studies import study_text, write_party, write_study
from tacit.actors import joining
from tacit.actors.errors import PeerUnreachableError
from tacit.cli.app import app
from tacit.protocols.errors import RefusedError
from tacit.protocols.invitation import MODEL_NOT_ALLOWED
from tacit.records.study import Study
from typer.testing import CliRunner, Result

LOCAL = study_text(address="127.0.0.1:9")
ABSENT = {"east": "not there yet"}


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, LOCAL)


@pytest.fixture
def holder(study: Path) -> Path:
    return write_party(study.parent, "north")


# Help


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("join", ("Ctrl-C", "coordinator's machine", "takes rows from the source", "--json")),
        ("run", ("ray job submit", "--save", "policy", "--json")),
        ("status", ("Ends with 1", "study file", "--json")),
        ("doctor", ("without starting anything", "Ends with 1", "--json")),
    ],
)
def test_help_teaches(command: str, words: tuple[str, ...]) -> None:
    printed = " ".join(run(command, "--help").output.split())
    for word in words:
        assert word in printed


@pytest.mark.parametrize("command", ["join", "run", "status", "doctor"])
def test_file_that_is_not_there_is_told_in_a_line(command: str, tmp_path: Path) -> None:
    result = run(command, tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "none.toml" in result.output
    assert "Traceback" not in result.output


# doctor


def test_doctor_says_what_was_found(holder: Path) -> None:
    result = run("doctor", holder)
    assert result.exit_code == 0
    for word in ("in order", "warning", "2 rows", "it allows the study's question, a GLM"):
        assert word in result.output


def test_doctor_prints_json(holder: Path) -> None:
    printed = json.loads(run("doctor", holder, "--json").stdout)
    assert printed["ready"] is True
    assert {check["what"] for check in printed["checks"]} >= {"identity", "data", "policy"}


def test_doctor_ends_with_1_if_something_is_not_ready(holder: Path) -> None:
    holder.write_text(holder.read_text() + "[policy]\nminimum_rows = 3\n")
    assert run("doctor", holder).exit_code == 1
    result = run("doctor", holder, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ready"] is False


# join


@pytest.fixture
def stayed(monkeypatch: pytest.MonkeyPatch) -> list[joining.Joining]:
    """Who joined; nothing is started, and what happens is told."""
    joined: list[joining.Joining] = []

    def stay(self: joining.Joining) -> None:
        joined.append(self)
        for event in (
            {"event": "printed", "process": "Ray", "line": "Ray runtime started."},
            {"event": "clocks", "ahead": {"east": 3600}, "told": "this machine's clock is 3600 s behind"},
            {"event": "ready", "party": "north", "study": "Insect sprays", "not_met": ABSENT},
            {"event": "parties", "not_met": {}},
            {"event": "failed", "error": "source 'sprays': it cannot be read"},
            {"event": "ended", "process": "Ray", "code": 1, "last": ["first", "the port is taken"]},
            {"event": "pause", "seconds": 3.0},
        ):
            self.say(event)

    monkeypatch.setattr(joining.Joining, "stay", stay)
    return joined


def test_join_tells_what_happens(holder: Path, stayed: list[joining.Joining]) -> None:
    result = run("join", holder)
    assert result.exit_code == 0
    for line in (
        "this machine's clock is 3600 s behind",
        "ready: north takes part in Insect sprays; east: not there yet",
        "all parties are met",
        "cannot take part: source 'sprays': it cannot be read",
        "the process of Ray has ended with 1: the port is taken",
        "starting again in 3 s (Ctrl-C leaves)",
    ):
        assert line in result.output
    assert "runtime started" not in result.output


def test_join_prints_a_line_of_json_for_everything(holder: Path, stayed: list[joining.Joining]) -> None:
    events = [json.loads(line) for line in run("join", holder, "--json").stdout.splitlines()]
    assert [event["event"] for event in events] == [
        "checked",
        "printed",
        "clocks",
        "ready",
        "parties",
        "failed",
        "ended",
        "pause",
    ]
    assert events[0]["ready"] is True


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_who_is_not_ready_does_not_join(
    options: tuple[str, ...], holder: Path, stayed: list[joining.Joining]
) -> None:
    holder.write_text(holder.read_text() + "[policy]\nminimum_rows = 3\n")
    result = run("join", holder, *options)
    assert result.exit_code == 1
    assert "there are 2 rows" in result.output
    assert stayed == []


def test_open_cluster_is_not_joined(holder: Path, stayed: list[joining.Joining]) -> None:
    write_study(holder.parent, study_text(address="192.0.2.1:1"))
    result = run("join", holder)
    assert result.exit_code == 1
    assert "keys cluster" in result.output
    assert stayed == []


# run and status


class Answered:
    """A fit, as far as a command looks at it."""

    def summary(self) -> str:
        return "a table [bold]of numbers[/bold]"

    def to_dict(self) -> dict[str, Any]:
        return {"params": [0.1, 1 / 3]}


class Saved:
    def __init__(self) -> None:
        self.names: list[str] = []

    def save(self, fit: Any, name: str) -> int:
        self.names.append(name)
        return 4


class Connected:
    """A deployment, as far as the commands look at it."""

    def __init__(self, study: Path) -> None:
        self.study = Study.read(study)
        self.answer: Any = Answered()
        self.absent: dict[str, str] = {}
        self.repository = Saved()
        self.ledger: list[dict[str, Any]] = [{}, {}]
        self.runs = [
            {"run": "1", "time": "2026-01-01T00:00:00Z", "model": "GLM", "outcome": "result", "events": []}
        ]

    def run(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def there(study: Path, monkeypatch: pytest.MonkeyPatch) -> Connected:
    connected = Connected(study)

    @contextlib.contextmanager
    def connect(path: Path, certificates: Path | None) -> Iterator[Connected]:
        assert path == study
        yield connected

    monkeypatch.setattr(tacit, "connect", connect, raising=False)
    return connected


def test_run_prints_the_summary_as_it_is(study: Path, there: Connected) -> None:
    result = run("run", study)
    assert result.exit_code == 0
    assert "a table [bold]of numbers[/bold]" in result.output
    assert there.repository.names == []


def test_run_stores_the_model_under_a_name(study: Path, there: Connected) -> None:
    assert "stored as sprays, version 4" in run("run", study, "--save", "sprays").output
    assert there.repository.names == ["sprays"]


def test_run_of_a_sum_stores_no_model_and_asks_nobody(study: Path, there: Connected) -> None:
    write_study(
        study.parent, study_text(analysis='model = "Sum"\nfunction = "builtins:len"\ndata = "sprays"')
    )
    there.study = Study.read(study)
    there.answer = AssertionError("nobody is to be asked")
    result = run("run", study, "--save", "sprays")
    assert result.exit_code == 1
    assert "leave --save out" in result.output


def test_run_prints_json_with_all_digits(study: Path, there: Connected) -> None:
    printed = json.loads(run("run", study, "--save", "sprays", "--json").stdout)
    assert printed == {"result": {"params": [0.1, 1 / 3]}, "version": 4}


@pytest.mark.parametrize("total", [np.array(21), np.array([[1.5, 2.0]])])
def test_run_prints_sums_too(total: Any, study: Path, there: Connected) -> None:
    there.answer = total
    assert json.loads(run("run", study, "--json").stdout)["result"] == total.tolist()
    assert str(total) in run("run", study).output


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RefusedError({"east": (MODEL_NOT_ALLOWED, "")}), ("RefusedError", "east")),
        (
            PeerUnreachableError("coordinator", "let it join"),
            ("PeerUnreachableError", "coordinator", "let it join"),
        ),
    ],
)
def test_run_that_fails_ends_with_1_and_says_who(
    error: Exception, words: tuple[str, ...], study: Path, there: Connected
) -> None:
    there.answer = error
    result = run("run", study)
    assert result.exit_code == 1
    for word in words:
        assert word in result.output
    assert "Traceback" not in result.output


def test_status_shows_study_parties_and_runs(study: Path, there: Connected) -> None:
    result = run("status", study)
    assert result.exit_code == 0
    for word in ("Insect sprays", "north", "there", "sums released", "GLM: result"):
        assert word in result.output


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_status_ends_with_1_if_a_party_is_not_there(
    options: tuple[str, ...], study: Path, there: Connected
) -> None:
    there.absent = ABSENT
    result = run("status", study, *options)
    assert result.exit_code == 1
    assert "not there yet" in result.output


def test_status_prints_json(study: Path, there: Connected) -> None:
    there.absent = ABSENT
    printed = json.loads(run("status", study, "--json").stdout)
    assert printed["parties"] == {
        "coordinator": "there",
        "north": "there",
        "east": "not there yet",
        "south": "there",
    }
    assert printed["study"]["title"] == "Insect sprays"
    assert printed["sums"] == 2
    assert printed["runs"][0] == {
        "run": "1",
        "time": "2026-01-01T00:00:00Z",
        "model": "GLM",
        "outcome": "result",
        "seconds": None,
    }
