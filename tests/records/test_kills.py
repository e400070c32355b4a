"""A writer may be killed at any moment: what is there is whole, and what was promised is there."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore
from tacit.records.verification import verify

KILLS = """
# Forks a writer, kills it at a random moment, looks at what it left, and again: prints what was promised.
import os, random, select, signal, sys, time
from tacit.records.model_store import ModelStore
from tacit.records.sealing import RepositoryKey
from tacit.records.verification import verify

folder, seed, n_kills, sealed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "sealed"
key = RepositoryKey(bytes(32)) if sealed else None
moments = random.Random(seed)


def write(pipe):
    store = ModelStore(folder, repository_key=key)
    n = 0
    while True:
        n += 1
        version = store.save("risk", {"pid": os.getpid(), "n": n, "x": [n / 7] * 3000})
        os.write(pipe, f"v {version} {os.getpid()} {n}\\n".encode())
        number = store.append_aggregate({"session": f"{os.getpid()}-{n}", "filling": "x" * 5000})
        os.write(pipe, f"a {number} {os.getpid()} {n}\\n".encode())
        store.tag("risk", "newest", version)


ModelStore(folder, repository_key=key).save("warm", {"x": [0.0]})
promised = []
for kill in range(n_kills):
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        write(writing)
    os.close(writing)
    select.select([reading], [], [], 10)  # its first promise; from then on, any moment
    time.sleep(moments.uniform(0, 0.03))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    with os.fdopen(reading) as lines:
        promised += [line.split() for line in lines if line.endswith("\\n")]
    store = ModelStore(folder, repository_key=key)
    checked = verify(store)
    assert checked.ok, str(checked)
    versions = store.versions("risk")
    assert versions == list(range(1, len(versions) + 1)), versions
    sessions = [record["session"] for record in store.aggregates()]
    for kind, number, pid, n in promised:
        if kind == "v":
            result = store.load("risk", int(number))
            assert result == {"pid": int(pid), "n": int(n), "x": [int(n) / 7] * 3000}
        else:
            assert sessions[int(number) - 1] == f"{pid}-{n}"
assert store.save("risk", {"n": "after"}) == len(versions) + 1, "the lock is free again"
assert not [name for _, _, names in os.walk(folder) for name in names if name.endswith(".partial")]
print(len(promised))
"""


@pytest.mark.parametrize(("seed", "sealed"), [(1, "open"), (2, "sealed")])
def test_a_repository_whose_writers_are_killed_verifies(tmp_path: Path, seed: int, sealed: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), str(seed), "12", sealed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 12


class Killed(BaseException):
    """The process is gone: nothing that follows in it happens."""


class Mortal:
    """Lets every system call of a writer through until its turn comes; then it, and all later ones, do nothing."""

    NAMES = ("open", "link", "replace", "fsync", "unlink", "mkdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dies_before: int) -> None:
        self.left = dies_before
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._mortal(getattr(os, name)))

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return call(*arguments, **options)

        return guarded


def act(store: ModelStore) -> None:
    store.save("risk", {"x": [1.0, 2.0], "n": 2})
    store.append_aggregate({"session": "2"})
    store.tag("risk", "best", 2)


def test_death_before_any_system_call_leaves_a_whole_version_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dies_before in range(1000):
        folder = tmp_path / str(dies_before)
        ModelStore(folder).save("risk", {"x": [1.0], "n": 1})
        store = ModelStore(folder)
        finished = False
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            Mortal(patch, dies_before)
            act(store)
            finished = True
        after = ModelStore(folder)
        checked = verify(after)
        assert checked.ok, f"dead before call {dies_before}: {checked}"
        assert after.versions("risk") in ([1], [1, 2])
        assert after.load("risk")["n"] == after.versions("risk")[-1]
        act(after)
        assert verify(after).ok
        assert not [path for path in folder.rglob("*.partial") if not finished]
        if finished:
            assert dies_before > 30
            return
    pytest.fail("the writer never finished")


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["link", "fsync"])
def test_a_full_disk_is_a_record_error_and_leaves_the_repository_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = ModelStore(tmp_path)
    store.save("risk", {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RecordError, match="No space left"):
            store.save("risk", {"n": 2})
    other = ModelStore(tmp_path)
    assert verify(other).ok
    assert other.save("risk", {"n": 3}) in (2, 3)


def test_a_version_whose_entry_is_on_disk_is_saved_with_a_head_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path)
    store.save("risk", {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert store.save("risk", {"n": 2}) == 2
        assert verify(ModelStore(tmp_path)).ok
        with pytest.raises(RecordError, match="No space left"):
            store.save("risk", {"n": 3})
    assert store.save("risk", {"n": 3}) == 3
    assert verify(ModelStore(tmp_path)).ok
