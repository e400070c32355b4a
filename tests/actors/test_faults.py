"""Processes that die or hang, and what is left of a program that is interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import tacit
from tacit.actors.events import Event, Lost, Result
from tacit.models.poisson import poisson_nll

pytestmark = [pytest.mark.ray, pytest.mark.faults]

VALUES = {"a": 1.0, "b": 20.0, "c": 300.0, "d": 4000.0}
COUNTS = {
    "a": np.array([7, 9, 12, 8, 9]),
    "b": np.array([10, 6, 11]),
    "c": np.array([9, 13, 8, 7]),
    "d": np.array([12, 8]),
}
SHORT = tacit.RingPaillier(key_bits=2048)


def pid_of(federation: tacit.Federation, name: str) -> int:
    return int(ray.get(federation._parties[name].ping.remote()))


def kill(federation: tacit.Federation, name: str) -> None:
    os.kill(pid_of(federation, name), signal.SIGKILL)


def slowly(folder: Path, at: Any, seconds: float = 30.0) -> Callable[[Any], Any]:
    """A function of which the holder with the rows `at` computes for long, and shows when it has begun."""

    def function(rows: Any) -> Any:
        if np.array_equal(rows, at):
            (folder / "computing").touch()
            time.sleep(seconds)
        return rows

    return function


async def appears(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - made by another process
        await asyncio.sleep(0.01)


async def while_computing(
    federation: tacit.Federation, folder: Path, rows: Any, harm: Callable[[], None], **options: Any
) -> Any:
    """Sum the rows themselves, and do harm while the holder of these rows computes."""
    total = asyncio.ensure_future(federation.asum(slowly(folder, rows), **options))
    await appears(folder / "computing")
    harm()
    return await total


# Death


def test_holder_killed_while_it_computes_is_named(running_ray: str, tmp_path: Path) -> None:
    data = {name: VALUES[name] for name in "abc"}
    with tacit.simulate(data, SHORT) as federation:
        scene = while_computing(federation, tmp_path, VALUES["b"], lambda: kill(federation, "b"))
        with pytest.raises(tacit.DropoutError) as caught:
            asyncio.run(scene)
        assert (caught.value.present, caught.value.missing) == (("a", "c"), ("b",))
        with pytest.raises(tacit.DropoutError, match="missing b"):
            federation.sum(lambda rows: rows)
        assert federation.ledger == []


def test_sums_go_on_over_the_survivors(running_ray: str, tmp_path: Path) -> None:
    with tacit.simulate(VALUES, SHORT, on_dropout="continue") as federation:
        events: list[Event] = []
        scene = while_computing(
            federation, tmp_path, VALUES["b"], lambda: kill(federation, "b"), on_event=events.append
        )
        with pytest.warns(tacit.HoldersLostWarning, match="over 3 of 4 holders: b lost"):
            assert asyncio.run(scene) == 4301.0
        assert [event for event in events if isinstance(event, Lost)] == [Lost(("b",))]
        [result] = [event for event in events if isinstance(event, Result)]
        assert (result.survivors, result.lost) == (("a", "c", "d"), ("b",))
        assert [record["holders"] for record in federation.ledger] == [["a", "c", "d"]]
        # One more, and two are left.
        (tmp_path / "computing").unlink()
        scene = while_computing(federation, tmp_path, VALUES["d"], lambda: kill(federation, "d"))
        with pytest.raises(tacit.DropoutError) as caught:
            asyncio.run(scene)
        assert (caught.value.needed, caught.value.present) == (3, ("a", "c"))
        assert caught.value.missing == ("b", "d")


@pytest.fixture(scope="module")
def four(running_ray: str) -> Iterator[tacit.Federation]:
    """Four holders of counts, of which two tests take their share."""
    with tacit.simulate(COUNTS, SHORT, on_dropout="continue") as federation:
        yield federation


def test_holder_that_hangs_is_lost_and_a_fit_says_so(four: tacit.Federation) -> None:
    model = tacit.MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
    assert four.sum(len) == 14
    hanging = pid_of(four, "c")
    os.kill(hanging, signal.SIGSTOP)
    try:
        fit = four.fit(model)
        with pytest.warns(tacit.HoldersLostWarning, match="c lost"):
            assert four.sum(lambda rows: float(rows.sum())) == 92.0
    finally:
        os.kill(hanging, signal.SIGKILL)
    assert (fit.holders, fit.survivors) == (("a", "b", "c", "d"), ("a", "b", "d"))
    assert fit.params["lambda"] == pytest.approx(9.2, abs=1e-9)
    assert fit.nobs == 10
    [warning] = fit.warnings
    assert "c" in warning.split()
    assert "isolate" in warning
    assert "Survivors: 3 of 4" in str(fit.summary())


def test_dead_coordinator_is_told(four: tacit.Federation, tmp_path: Path) -> None:
    scene = while_computing(four, tmp_path, COUNTS["d"], lambda: kill(four, "coordinator"))
    with pytest.raises(tacit.PeerUnreachableError, match="coordinator"):
        asyncio.run(scene)
    with pytest.raises(tacit.PeerUnreachableError, match="coordinator"):
        four.sum(len)
    assert isinstance(four.ledger, list)  # the repository lives


# What is left behind


def descendants(root: int) -> dict[int, str]:
    """Every process below another, by number, with the time it started."""
    parents, started = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        number = int(folder.name)
        parents[number], started[number] = int(fields[1]), fields[19]
    found: dict[int, str] = {}
    level = {root}
    while level:
        level = {number for number, parent in parents.items() if parent in level}
        found |= {number: started[number] for number in level}
    return found


def alive(processes: dict[int, str]) -> list[str]:
    """The names of those that are still there; zombies are not."""
    names = []
    for number, started in processes.items():
        try:
            name, _, rest = Path(f"/proc/{number}/stat").read_text().partition(" (")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if fields[19] == started and fields[0] != "Z":
            names.append(name)
    return names


PROGRAM = """
import pathlib, time
import tacit

folder = pathlib.Path({folder!r})

def slow(rows):
    (folder / str(rows)).touch()
    time.sleep(60)
    return rows

with tacit.simulate({{"a": 1, "b": 20, "c": 300}}, tacit.RingPaillier(key_bits=2048)) as federation:
    print(federation.sum(lambda rows: rows), federation.temporary.name, flush=True)
    federation.sum(slow)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program of its own, with its own Ray, which shows in `tmp_path` when its holders are computing."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(folder=str(tmp_path)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as started:
        yield started
        started.kill()


def wait_for(paths: list[Path], process: subprocess.Popen[str]) -> None:
    while not all(path.exists() for path in paths):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def wait_until_gone(processes: dict[int, str]) -> list[str]:
    """Wait a while for processes to end; returns those that do not."""
    for _ in range(1000):
        if not alive(processes):
            break
        time.sleep(0.01)
    return alive(processes)


def test_interrupted_program_leaves_nothing(program: subprocess.Popen[str], tmp_path: Path) -> None:
    wait_for([tmp_path / name for name in ("1", "20", "300")], program)
    assert program.stdout is not None
    total, temporary = program.stdout.readline().split()
    assert total == "321"
    assert Path(temporary).is_dir()
    below = descendants(program.pid)
    assert len(below) > 5
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does at Ctrl-C
    _, told = program.communicate()
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert "(raylet)" not in told
    assert program.returncode == -signal.SIGINT
    assert wait_until_gone(below) == []
    assert not Path(temporary).exists()
