"""Logs of runs in a store: whole files, readable by any tool, in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore
from tacit.records.object_store import FolderStore, open_objects
from tacit.records.run_logs import RunLogs
from tacit.records.sealing import RepositoryKey, SealedStore
from tacit.records.verification import verify

BEGIN = {"event": "begin", "run": "1-a", "model": "Sum"}
PASS = {"event": "pass", "seconds": 0.5, "number": 1}
RESULT = {"event": "result", "seconds": 0.75}
FAILURE = {"event": "failure", "seconds": 0.25, "type": "SetupError"}


@pytest.fixture
def logs(tmp_path: Path) -> RunLogs:
    return RunLogs(FolderStore(tmp_path))


def test_file_has_a_line_of_json_for_every_event(logs: RunLogs, tmp_path: Path) -> None:
    logs.write("1-a", [BEGIN, PASS])
    logs.write("1-a", [BEGIN, PASS, RESULT])
    lines = (tmp_path / "runs" / "1-a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [BEGIN, PASS, RESULT] == logs.read("1-a")


@pytest.mark.parametrize(
    ("events", "outcome", "seconds"),
    [
        ([PASS, RESULT], "result", 0.75),
        ([FAILURE], "failure", 0.25),
        ([PASS], "unfinished", 0.5),
        ([], "unfinished", 0.0),
    ],
)
def test_run_is_summed_up(logs: RunLogs, events: list[dict[str, Any]], outcome: str, seconds: float) -> None:
    logs.write("1-a", [BEGIN, *events])
    assert logs.all() == [
        {"run": "1-a", "model": "Sum", "outcome": outcome, "seconds": seconds, "events": events}
    ]


def test_runs_come_oldest_first(logs: RunLogs) -> None:
    for run in ("20261122T080542000001-0a", "20261122T080541999999-ff"):
        logs.write(run, [{**BEGIN, "run": run}])
    assert [run["run"][:20] for run in logs.all()] == ["20261122T08054199999", "20261122T08054200000"]


def test_url_and_sealed_folder_keep_logs_too(tmp_path: Path) -> None:
    key = RepositoryKey(bytes(32))
    stores = [open_objects("memory://runs-test"), SealedStore(FolderStore(tmp_path), key, bytes)]
    for store in stores:
        logs = RunLogs(store)
        logs.write("1-a", [BEGIN, RESULT])
        logs.write("1-a", [BEGIN, RESULT])
        assert [run["outcome"] for run in logs.all()] == ["result"]
    assert b"Sum" not in (tmp_path / "runs" / "1-a.jsonl").read_bytes()


def test_verification_passes_over_logs_of_runs_and_nothing_else_in_their_folder(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    RunLogs(store.objects).write("1-a", [BEGIN, RESULT])
    assert verify(store).ok
    (tmp_path / "runs" / "other.txt").touch()
    assert [fault.file for fault in verify(store).faults] == ["runs/other.txt"]


@pytest.mark.parametrize("run", ["", "../log/00000001", "a.b", "x" * 101])
def test_run_has_a_plain_name(logs: RunLogs, run: str) -> None:
    with pytest.raises(RecordError, match="letters, digits and dashes"):
        logs.write(run, [BEGIN])
    with pytest.raises(RecordError, match="no log"):
        logs.read(run)


@pytest.mark.parametrize("value", [float("nan"), b"octets"])
def test_what_json_cannot_carry_is_refused_without_its_value(logs: RunLogs, value: Any) -> None:
    with pytest.raises(RecordError, match="what JSON cannot carry"):
        logs.write("1-a", [{"event": "begin", "x": value}])


@pytest.mark.parametrize("content", [b"", b"{", b"3\n", b'"\xff"\n'])
def test_damage_is_told(logs: RunLogs, tmp_path: Path, content: bytes) -> None:
    logs.write("1-a", [BEGIN])
    (tmp_path / "runs" / "1-a.jsonl").write_bytes(content)
    with pytest.raises(RecordError, match=r"runs/1-a\.jsonl is damaged"):
        logs.read("1-a")
