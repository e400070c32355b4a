"""The rivals of the benchmarks are what they claim to be, and the commands explain themselves."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tacit
from house import ROOT
from phe import generate_paillier_keypair
from tacit.actors.driver import Driver
from tacit.actors.events import Result
from tacit.actors.transport import RayTransport
from tacit.models.total import Total
from tacit.protocols.party import PartyId
from tacit.serialization.codec import Frame
from tacit.serialization.session_messages import Query
from typer.testing import CliRunner

# The counts of the vignette by site, and what R 4.2.2 prints for it: stats4::mle, its method BFGS.
SITES = (
    (12, 9, 11, 8, 13, 8, 14, 10, 9, 9, 6, 10, 9, 6, 5, 10, 7, 10, 6, 6),
    (12, 7, 10, 9, 16, 8, 12),
    (6, 12, 6, 3, 13, 8, 3, 9, 8, 13, 11, 12, 11),
)
R_ESTIMATE, R_STANDARD_ERROR, R_EVALUATIONS = 9.174999600849896, 0.47893107537629376, 29
R_POINTS = {3: 38.40000097868767, 4: 11.680000195737534, 13: 10.268217190025462, 28: 9.172999600849895}


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmarks, which are found from the root only."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module(f"benchmarks.{name}")


def test_reenactment_gives_the_answer_of_r_at_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = generate_paillier_keypair(
        n_length=384
    )  # above 256 bits of offset and denominator, as short as can be
    fit = benchmark("ancestor", monkeypatch).fit_poisson(SITES, *keys)
    assert fit.rate == pytest.approx(R_ESTIMATE, abs=1e-10)
    assert fit.standard_error == pytest.approx(R_STANDARD_ERROR, abs=1e-9)
    assert len(fit.points) == R_EVALUATIONS
    assert [fit.points[index] for index in R_POINTS] == pytest.approx(list(R_POINTS.values()), abs=1e-9)


def test_a_target_is_met_or_missed_by_the_quotient(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = benchmark("measure", monkeypatch)
    assert measure.Figure("x", "ms", 2.0, 30.0, target=15).met is True
    assert measure.Figure("x", "ms", 2.0, 30.0, target=16).met is False
    assert measure.Figure("x", "ms", 2.0, 30.0).met is None
    assert measure.Figure("x", "ms", 2.0, limit=1.0).met is False


def test_rivals_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = benchmark("measure", monkeypatch)
    done: list[str] = []
    tasks = {name: measure.Task(lambda name=name: done.append(name), 2) for name in "ab"}
    timings = measure.take_turns(tasks, 3)
    assert done == list("ababab")
    assert (timings["a"].turns, timings["a"].count) == (3, 2)


def test_figures_are_written_as_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measure = benchmark("measure", monkeypatch)
    figure = measure.compare(
        "addition", "µs", measure.timing([1e-6, 3e-6]), measure.timing([1e-4]), target=50
    )
    path = tmp_path / "build" / "figures.json"
    measure.write(path, [measure.Section("Arithmetic", "phe", (figure,))], {"quick": True})
    (section,) = json.loads(path.read_text(encoding="utf-8"))["sections"]
    (written,) = section["figures"]
    assert math.isclose(written["times"], 50)
    assert math.isclose(written["ours"], 2)


def test_flower_is_run_with_our_threshold_on_the_same_vectors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    masking_sums = benchmark("masking_sums", monkeypatch)
    told: dict[str, Any] = {}
    monkeypatch.setattr(masking_sums.rivals, "run", lambda *asked: told.update(asked[2]))
    masking_sums.flower(tmp_path, tmp_path / "vectors", 10, [0, 1])
    assert told == {"vectors": str(tmp_path / "vectors"), "n_holders": 10, "threshold": 7, "lost": [0, 1]}


@pytest.mark.parametrize("n_lost", [0, 1])
@pytest.mark.parametrize("bits", ["NARROW", "WIDE"])
def test_what_is_timed_of_a_masked_sum_gives_the_sum(
    monkeypatch: pytest.MonkeyPatch, n_lost: int, bits: str
) -> None:
    masking_sums = benchmark("masking_sums", monkeypatch)
    rows = np.arange(15, dtype=np.uint32).reshape(5, 3)
    one = masking_sums.Sum(rows, n_lost, getattr(masking_sums, bits))
    one.check()
    assert one.mask().vectors[0].shape == (3,)
    assert one.expected.tolist() == rows[: 5 - n_lost].sum(axis=0).tolist()
    one.expected[0] += 1
    with pytest.raises(SystemExit, match="another sum"):
        one.check()


def test_a_rival_that_finds_another_sum_is_not_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    masking_sums = benchmark("masking_sums", monkeypatch)
    rows = np.ones((3, 2), dtype=np.uint32)
    sums = {0: masking_sums.Sum(rows, 0, masking_sums.NARROW)}
    found = {"seconds": {"holder": 1.0}, "totals": {"0": sums[0].digest}}
    monkeypatch.setattr(masking_sums.rivals, "run", lambda *_: found)
    _, theirs = masking_sums._take_turns({}, tmp_path, rows, sums, turns=1)
    assert theirs["holder"].seconds == 1.0
    found["totals"] = {"0": "another"}
    with pytest.raises(SystemExit, match="Flower"):
        masking_sums._take_turns({}, tmp_path, rows, sums, turns=1)


def test_flower_trains_with_our_threshold_by_the_same_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training = benchmark("training", monkeypatch)
    told: dict[str, Any] = {}
    monkeypatch.setattr(training.rivals, "run", lambda *asked: told.update(asked[2]))
    training.flower(tmp_path, tmp_path / "task", {"learning_rate": 1.0, "local_epochs": 5}, 20, secure=True)
    assert told == {
        "task": str(tmp_path / "task"),
        "rounds": 20,
        "learning_rate": 1.0,
        "local_epochs": 5,
        "threshold": 7,
        "secure": True,
    }


class Reader:
    """A model of one round, which contributes the rows."""

    def contribution(self, data: float, _: Query, /) -> dict[str, Any]:
        return {"rows": np.array([data])}

    async def iterate(self, total: Total) -> AsyncIterator[Any]:
        await total(Query("start"))
        yield (await total(Query("round")))["rows"].tolist()


def test_plain_training_adds_what_all_holders_contribute(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = benchmark("plain_training", monkeypatch)
    hosts = [plain.PlainHolders(Reader(), 1.0, 2.0), plain.PlainHolders(Reader(), 4.0)]
    processes = [SimpleNamespace(contribute=SimpleNamespace(remote=host.contribute)) for host in hosts]
    seconds, fit = asyncio.run(plain.PlainCoordinator(*processes).train(Reader()))
    assert fit == [7.0]
    assert len(seconds) == 1  # the pass at the start is no round


def test_trainings_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    training = benchmark("training", monkeypatch)
    one, other = (SimpleNamespace(arrays={"weight": np.array([value])}) for value in (1.0, 1.1))
    training._check(one, one)
    with pytest.raises(SystemExit, match="another network"):
        training._check(one, other)


def test_accuracies_over_deals_are_of_the_recipe_that_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Known:
        """Tells one picture in a hundred more with every deal."""

        name, rounds, accuracy_in_one_place = "known", 1, 98.0

        def __init__(self, deal: int = 0) -> None:
            self.deal, self.sites, self.test = deal, {"site-1": ()}, ((), ())

        def train(self, _: Any) -> int:
            return self.deal

        def accuracy(self, fit: int) -> float:
            return 97.0 + fit

    first, mean = benchmark("training", monkeypatch)._accuracy(Known(), 0, 3).figures
    assert (first.ours, first.met) == (1.0, False)
    assert (mean.ours, mean.met) == (0.0, True)
    assert mean.note.endswith("at worst 1.0")


def test_bytes_of_frames_are_counted_both_ways_by_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = benchmark("traffic", monkeypatch)
    told = mock.AsyncMock()
    monkeypatch.setattr(traffic.Computation, "_tell", told)
    host, frame = SimpleNamespace(), Frame(b"header", (np.zeros(10, dtype=np.uint8),))
    came: list[Any] = []
    transport = RayTransport({PartyId("site-1"): came.append}, {}, came.append)

    async def two_rounds() -> None:
        await transport.post(PartyId("site-1"), frame)
        Driver(PartyId("site-2"), transport).deliver(frame)
        await traffic.Computation._tell(None, Query("round"), 0.0)
        await transport.post(PartyId("site-1"), frame)
        await traffic.Computation._tell(None, Query("round"), 0.0)

    try:
        traffic._count(host)
        asyncio.run(two_rounds())
    finally:
        mock.patch.stopall()
    assert came == [frame, frame]
    assert traffic._sizes(host, "round") == [2 * frame.size, frame.size]
    assert told.await_count == 2


def test_steps_of_additive_sharing_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    aggregators = benchmark("aggregators", monkeypatch)
    runs = aggregators.Sharing(32, 5).runs()
    assert runs["holder"]().vectors[0].shape == (5,)
    assert runs["aggregator"]().vectors[0].shape == (5,)


class Soaking:
    """A federation whose processes can be killed, and whose sums may be made wrong."""

    def __init__(self, rows: dict[str, Any]) -> None:
        self.rows = rows
        self.processes = {name: place for place, name in enumerate([*rows, "coordinator", "the repository"])}
        self.n_started, self.n_sums = len(self.processes), 0
        self.killed: list[str] = []
        self.ledger: list[dict[str, str]] = []
        self.error: Exception | None = None
        self.left_out: set[str] = set()
        self.wrong_by = 0.0
        self.repository = SimpleNamespace(verify=lambda: SimpleNamespace(faults=()))

    def kill(self, process: int, _: Any) -> None:
        [victim] = [name for name, its in self.processes.items() if its == process]
        del self.processes[victim]
        self.killed.append(victim)
        if victim == "the repository":
            self.start(victim)

    def start(self, *names: str) -> None:
        for name in names:
            self.processes[name] = self.n_started
            self.n_started += 1

    def restart(self) -> None:
        self.start(*self.rows, "coordinator")

    def sum(self, function: Any, *at: float, on_event: Any = lambda _: None) -> Any:
        survivors = tuple(name for name in self.rows if name in self.processes and name not in self.left_out)
        if "coordinator" not in self.processes or len(survivors) < 3:
            raise tacit.ClosedError
        if self.error is not None:
            raise self.error
        self.n_sums += 1
        self.ledger.append({"session": str(self.n_sums)})
        on_event(Result(None, survivors, (), 1))
        each = [np.atleast_1d(function(self.rows[name], *at)) for name in survivors]
        return np.array([math.fsum(values) + self.wrong_by for values in zip(*each, strict=True)]).squeeze()


@pytest.fixture
def soaking(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Soaking]:
    module, lives = benchmark("soaking", monkeypatch), benchmark("lives", monkeypatch)
    federation = Soaking({f"site-{place}": np.array([place, 0.1]) for place in (1, 2, 3, 4)})
    monkeypatch.setattr(module, "_processes", lambda federation: federation.processes)
    monkeypatch.setattr(module, "_held_by_ray", dict)
    monkeypatch.setattr(module, "_held_by_parties", lambda federation: len(federation.rows))
    monkeypatch.setattr(module, "WAITING_SECONDS", -1.0)
    monkeypatch.setattr(module.os, "kill", federation.kill)
    monkeypatch.setattr(lives, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(lives, "held", lambda _: lives.Held(100.0, Counter(a=9), 5))
    return module, module.Soak(federation, federation.rows, 3, 10, lambda _: None), federation


def test_a_soak_tells_right_sums_from_wrong_ones(soaking: tuple[Any, Any, Soaking]) -> None:
    _, soak, federation = soaking
    assert soak.run(20, {}).tally.sums == {4: 20}
    federation.wrong_by = 1e-12
    soaked = soak.run(20, {})
    assert (len(soaked.tally.wrong), soaked.tally.sums) == (20, {})
    federation.wrong_by, federation.left_out = 0.0, {"site-2"}
    assert soak.run(20, {}).tally.wrong[0].startswith("a sum without site-2 in session")


@pytest.mark.parametrize("error", [tacit.ClosedError(), KeyError("site-1")])
def test_no_error_of_a_soak_is_right_without_a_death(
    soaking: tuple[Any, Any, Soaking], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _, soak, federation = soaking
    federation.error = error
    monkeypatch.setattr(soak, "_at_rest", dict)
    tally = soak.run(20, {}).tally
    assert len(tally.wrong) == 20
    assert tally.wrong[0].startswith(f"a {type(error).__name__}")


def test_a_soak_goes_on_over_the_survivors_until_it_cannot(soaking: tuple[Any, Any, Soaking]) -> None:
    module, soak, federation = soaking
    deaths = {
        12: module.Death(["site-2", "coordinator"], 0.0),
        14: module.Death(["the repository"], 0.0),
        17: module.Death(["site-2", "site-4"], 0.0),  # two of four are too few
        24: module.Death(["coordinator"], 0.0),
    }
    tally = soak.run(30, deaths).tally
    assert federation.killed == ["site-2", "the repository", "site-4", "coordinator"]
    assert tally.wrong == []
    assert tally.n_restarts == 2
    assert set(tally.sums) >= {3, 4}
    assert sum(tally.sums.values()) + sum(tally.errors.values()) == 30


def test_sums_that_are_not_on_record_are_counted(soaking: tuple[Any, Any, Soaking]) -> None:
    _, soak, federation = soaking
    soak.run(20, {})
    del federation.ledger[3:5]
    assert soak.run(20, {}).n_unrecorded == 2


class Returning(Soaking):
    """A federation whose parties come back by themselves: the coordinator looks for them now and then."""

    @property
    def absent(self) -> dict[str, str]:
        gone = [name for name in (*self.rows, "coordinator", "the repository") if name not in self.processes]
        self.start(*gone)
        if "coordinator" in gone:
            raise tacit.ClosedError
        return dict.fromkeys(gone, "not there yet")

    def kill(self, process: int, number: Any) -> None:
        super().kill(process, number)
        if self.killed[-1] == "coordinator":
            del self.processes["the repository"]


def test_a_deployed_soak_goes_on_until_sums_are_over_all_again(
    soaking: tuple[Any, Any, Soaking], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, simulated = soaking
    federation, deployed = Returning(simulated.rows), benchmark("deployed_soak", monkeypatch)
    monkeypatch.setattr(module.os, "kill", federation.kill)
    monkeypatch.setattr(deployed, "LOOK_SECONDS", 0.0)
    parties = SimpleNamespace(joins={"site-1": SimpleNamespace(pid=99)})
    soak = deployed.DeployedSoak(
        parties, federation, federation.rows, fewest=3, n_first=10, say=lambda _: None
    )
    deaths = {
        number: module.Death([victim], 0.0)
        for number, victim in ((12, "site-2"), (14, "coordinator"), (17, "the repository"))
    }
    tally = soak.run(30, deaths).tally
    assert federation.killed == ["site-2", "coordinator", "the repository"]
    assert tally.wrong == []
    assert (tally.n_restarts, soak.n_ends) == (3, 1)
    assert set(tally.sums) <= {3, 4}
    assert tally.sums[4] >= 30 - 2
    assert soak._lives.alive.keys() == {*federation.processes, "join of site-1"}
    federation.left_out = {"site-3"}
    monkeypatch.setattr(deployed, "RETURN_SECONDS", 0.05)
    with pytest.raises(RuntimeError, match="not all parties are back"):
        soak.run(30, {12: module.Death(["site-2"], 0.0)})


def test_sums_that_ledger_and_repository_have_not_alike_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = benchmark("deployed_soak", monkeypatch)
    outcomes = {"a": "released", "b": "released", "c": None, "d": "refused"}
    found = SimpleNamespace(
        sessions={name: {"coordinator": {"outcome": outcome}} for name, outcome in outcomes.items()}
    )
    assert deployed.unlike(found, {"a", "b"}) == (0, 0)
    assert deployed.unlike(found, {"a", "c", "e"}) == (1, 1)


def test_processes_are_watched_by_their_own_age(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = benchmark("lives", monkeypatch)
    megabytes = iter(range(100, 200))
    monkeypatch.setattr(lives, "LOOKS", 1)
    monkeypatch.setattr(lives, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(
        lives, "held", lambda process: lives.Held(1000.0 * process + next(megabytes), Counter(a=9), 5)
    )
    watched = lives.Lives(2)
    watched.meet({"a": 1, "b": 2})
    for met in ({}, {"b": 3}, {}, {}):
        watched.meet({"a": 1, **met})
        watched.age()
    watched.look()
    assert [(life.process, life.n_sessions) for life in watched.every] == [(1, 4), (2, 1), (3, 3)]
    assert watched.every[1].first is None
    assert all(life.last.resident > life.first.resident for life in watched.every if life.first)


def test_growth_is_told_where_it_is_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    module, lives = benchmark("soak", monkeypatch), benchmark("lives", monkeypatch)
    held = lives.Held(100.0, Counter(socket=9), 5)
    grown = [
        lives.Life("a", 1, 20, held, lives.Held(105.0, Counter(socket=9), 5)),
        lives.Life("b", 2, 30, held, lives.Held(111.0, Counter(socket=9, log=5), 5)),
        lives.Life("b", 3, 20, held, held),
        lives.Life("c", 4, 3, None, held),
    ]
    section = module.section("soak", module.Soaked(module.Tally(), grown, {"actors": 3}, {"actors": 3}, 0, 0))
    met = {figure.what: figure.met for figure in section.figures}
    assert [what for what in met if met[what] is False] == [
        "resident memory: b",
        "open files",
    ]
    assert met["resident memory: c"] is None
    assert [figure.note for figure in section.figures if "files" in figure.what] == [
        "9, then 14: b (log × 5)"
    ]


def test_a_soak_kills_holders_coordinator_and_repository_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("soak", monkeypatch)
    fatal = module.deaths(10_000, 40.0, ["a", "b", "c"])
    assert fatal == module.deaths(10_000, 40.0, ["a", "b", "c"])
    first = [death.victims[0] for death in fatal.values()]
    assert len(first) == pytest.approx(250, rel=0.2)
    for victim in ("coordinator", "the repository"):
        assert first.count(victim) == pytest.approx(len(first) / 3, rel=0.3)


@pytest.mark.parametrize("command", ["masks", "rounds", "training", "scale", "aggregators", "shares", "soak"])
def test_every_command_explains_itself(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    application = benchmark("__main__", monkeypatch).application
    shown = CliRunner().invoke(application, [command, "--help"], env={"COLUMNS": "100"})
    assert shown.exit_code == 0
    assert "Measure" in shown.stdout
    assert "--quick" in shown.stdout


def test_help_names_the_parts() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "ring", "--help"],
        cwd=ROOT,
        env={"COLUMNS": "100", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(part in run.stdout for part in ("arithmetic", "fit", "latency", "--quick", "--output"))


def test_memory_is_watched_at_its_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = benchmark("memory", monkeypatch)
    seen = iter([3.0, 7.0, 5.0])
    sampled = threading.Event()

    def together() -> float:
        megabytes = next(seen, 1.0)
        if megabytes == 5.0:
            sampled.set()
        return megabytes

    monkeypatch.setattr(memory, "together", together)
    monkeypatch.setattr(memory, "SAMPLING_SECONDS", 0.0)
    with memory.Watch() as watch:
        assert sampled.wait(10)
    assert watch.megabytes == 7.0
