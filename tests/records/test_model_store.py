"""The store of results: nothing is changed, nothing is lost, nothing is half there."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "repository")


def aggregate(number: int) -> dict[str, Any]:
    return {"session": f"{number:064x}", "released": {"x": [number / 7]}}


# Results


def test_versions_count_from_one_and_load_gives_each(store: ModelStore) -> None:
    assert store.versions("risk") == []
    assert [store.save("risk", {"n": n}) for n in range(3)] == [1, 2, 3]
    assert store.versions("risk") == [1, 2, 3]
    assert [store.load("risk", version) for version in (1, 2, 3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert store.load("risk") == {"n": 2}


def test_names_have_their_own_versions(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    store.save("costs", {"n": 2})
    store.save("costs", {"n": 3})
    assert store.names() == ["costs", "risk"]
    assert (store.versions("risk"), store.versions("costs")) == ([1], [1, 2])


def test_another_store_on_the_folder_sees_the_same(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    store.append_aggregate(aggregate(1))
    other = ModelStore(store.folder)
    assert other.load("risk") == {"n": 1}
    assert other.aggregates() == [aggregate(1)]
    assert other.save("risk", {"n": 2}) == 2


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_version_that_is_not_there_says_which_are(store: ModelStore, version: int) -> None:
    store.save("risk", {})
    with pytest.raises(RecordError, match="its versions are 1"):
        store.load("risk", version)


def test_a_name_that_is_not_there_says_so(store: ModelStore) -> None:
    with pytest.raises(RecordError, match="nothing is saved under 'risk'"):
        store.load("risk")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "a\0", "é", "x" * 101]
)
def test_names_that_could_leave_the_folder_are_refused(store: ModelStore, name: str) -> None:
    before = sorted(store.folder.rglob("*"))
    for act in (store.versions, store.load, lambda odd: store.save(odd, {})):
        with pytest.raises(RecordError, match="a name has"):
            act(name)
    assert sorted(store.folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["risk", "Risk-2.1_final", "0", "x" * 100])
def test_ordinary_names_are_fine(store: ModelStore, name: str) -> None:
    assert store.save(name, {"n": 1}) == 1
    assert store.load(name) == {"n": 1}


# Numbers


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=st.lists(st.floats(allow_nan=False), max_size=20))
def test_floats_come_back_bit_for_bit(values: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    store.save("risk", {"x": values})
    assert [bits(value) for value in store.load("risk")["x"]] == [bits(value) for value in values]


def test_special_floats_come_back(store: ModelStore) -> None:
    store.save("risk", {"x": [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]})
    first, *others = store.load("risk")["x"]
    assert bits(first) == bits(math.nan)
    assert [bits(x) for x in others] == [
        bits(x) for x in (math.inf, -math.inf, -0.0, 5e-324, sys.float_info.max)
    ]


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", 1j, object()], ids=["set", "bytes", "complex", "object"])
def test_what_json_cannot_carry_is_refused_and_leaves_nothing(store: ModelStore, value: Any) -> None:
    with pytest.raises(RecordError, match="JSON"):
        store.save("risk", {"x": value})
    with pytest.raises(RecordError, match="JSON"):
        store.append_aggregate({"session": "1", "x": value})
    assert store.versions("risk") == []
    assert store.aggregates() == []


# Aggregates


def test_aggregates_are_numbered_in_the_order_of_coming(store: ModelStore) -> None:
    assert [store.append_aggregate(aggregate(n)) for n in (5, 3, 4)] == [1, 2, 3]
    assert store.aggregates() == [aggregate(5), aggregate(3), aggregate(4)]


def test_a_session_is_recorded_once_however_often_it_is_told(store: ModelStore) -> None:
    first = store.append_aggregate(aggregate(1))
    store.append_aggregate(aggregate(2))
    assert store.append_aggregate(aggregate(1)) == first
    assert ModelStore(store.folder).append_aggregate(aggregate(2)) == 2
    assert len(store.aggregates()) == 2


@pytest.mark.parametrize("record", [{}, {"session": None}, {"session": b"x"}, {"session": 3}])
def test_a_record_without_a_session_is_refused(store: ModelStore, record: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="session"):
        store.append_aggregate(record)


# What is there is never changed


def test_a_version_is_never_overwritten(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    path = next((store.folder / "results" / "risk").glob("*.json"))
    before = path.read_bytes()
    store.save("risk", {"n": 2})
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_number_that_somebody_takes_in_between_is_passed_over(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("risk", {"n": 1})
    taken = store.folder / "results" / "risk" / "00000002.json"
    link = os.link

    def taken_just_before(source: Path, target: Path) -> None:
        if target == taken and not taken.exists():
            taken.write_text('{"n": "theirs"}')
        link(source, target)

    monkeypatch.setattr(os, "link", taken_just_before)
    assert store.save("risk", {"n": "ours"}) == 3
    assert [store.load("risk", version)["n"] for version in (1, 2, 3)] == [1, "theirs", "ours"]


def test_what_a_killed_writer_left_is_ignored(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    place = store.folder / "results" / "risk"
    (place / ".00000002.json.0123456789abcdef").write_text('{"n": ')
    (place / "notes.txt").write_text("somebody's")
    (place / "1.json").write_text("{}")
    (place / "x0000003.json").write_text("{}")
    assert store.versions("risk") == [1]
    assert store.save("risk", {"n": 2}) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"3", b"[" * 100_000])
def test_a_damaged_file_is_a_record_error_and_the_others_still_load(
    store: ModelStore, content: bytes
) -> None:
    store.save("risk", {"n": 1})
    store.save("risk", {"n": 2})
    (store.folder / "results" / "risk" / "00000001.json").write_bytes(content)
    with pytest.raises(RecordError):
        store.load("risk", 1)
    assert store.load("risk") == {"n": 2}
    assert store.save("risk", {"n": 3}) == 3


def test_a_folder_that_cannot_be_made_is_a_record_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be made"):
        ModelStore(tmp_path / "file" / "repository")


def test_a_folder_that_is_gone_is_a_record_error(store: ModelStore) -> None:
    for path in (store.folder / "aggregates", store.folder / "results"):
        path.rmdir()
    with pytest.raises(RecordError):
        store.append_aggregate(aggregate(1))


# Many writers


def test_threads_lose_and_overwrite_nothing(store: ModelStore) -> None:
    def write(n: int) -> tuple[int, int, int]:
        own = ModelStore(store.folder) if n % 2 else store
        return (
            own.save("risk", {"n": n}),
            own.append_aggregate(aggregate(n)),
            own.append_aggregate(aggregate(0)),
        )

    with ThreadPoolExecutor(8) as executor:
        written = list(executor.map(write, range(24)))
    versions = [version for version, _, _ in written]
    assert sorted(versions) == store.versions("risk") == list(range(1, 25))
    for n, version in enumerate(versions):
        assert store.load("risk", version) == {"n": n}
    sessions = [record["session"] for record in store.aggregates()]
    assert len(sessions) == len(set(sessions)) == 24


MANY = """
import sys
from tacit.records.model_store import ModelStore
store = ModelStore(sys.argv[1])
for n in range(10):
    store.save("risk", {"writer": int(sys.argv[2]), "n": n})
    store.append_aggregate({"session": f"{n:064x}"})
"""


def test_processes_lose_and_overwrite_nothing(store: ModelStore) -> None:
    commands = [[sys.executable, "-c", MANY, str(store.folder), str(writer)] for writer in range(3)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    records = [store.load("risk", version) for version in store.versions("risk")]
    assert len(records) == 30
    for writer in range(3):
        assert [record["n"] for record in records if record["writer"] == writer] == list(range(10))
    assert [record["session"] for record in store.aggregates()] == [
        aggregate(n)["session"] for n in range(10)
    ]


WRITER = """
import sys
from tacit.records.model_store import ModelStore
store = ModelStore(sys.argv[1])
n = 0
while True:
    n += 1
    store.save("risk", {"n": n, "filling": "x" * 20_000})
    store.append_aggregate({"session": str(n), "filling": "x" * 20_000})
    print(n, flush=True)
"""


@pytest.mark.parametrize("n_written", [1, 4, 9])
def test_a_killed_process_leaves_only_whole_files(store: ModelStore, n_written: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= n_written:
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    versions = store.versions("risk")
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) >= n_written
    for version in versions:
        assert store.load("risk", version) == {"n": version, "filling": "x" * 20_000}
    assert all(record["filling"] == "x" * 20_000 for record in store.aggregates())
    assert store.save("risk", {"n": "after"}) == len(versions) + 1
    assert store.append_aggregate({"session": "after"}) == len(store.aggregates()), "the lock is free again"


def test_files_are_json_that_anybody_can_read(store: ModelStore) -> None:
    store.save("risk", {"params": [0.1], "name": "risk"})
    text = (store.folder / "results" / "risk" / "00000001.json").read_text()
    assert json.loads(text) == {"params": [0.1], "name": "risk"}
