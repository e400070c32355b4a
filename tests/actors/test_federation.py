"""A federation of processes on this machine: what a user asks of it, and what he is told."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import tacit
from networks import Network
from ray._private import worker
from tacit.actors import cluster
from tacit.actors.errors import ClosedError
from tacit.actors.events import Event, Iterated, Pass, Result
from tacit.actors.simulated_federation import SimulatedFederation
from tacit.models.errors import DataError
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.sum import Sum
from tacit.models.total import Arrays, contribute, pooled
from tacit.records.policy import Policy
from tacit.serialization.session_messages import Query

pytestmark = pytest.mark.ray

SITES = poisson_sites()
PLACES = {len(rows): place for place, rows in enumerate(SITES.values())}
CANARY = 20_260_917.4321
SECRET = "private row 17"
FEW_MODELS = Policy(models=["Sum", "MaximumLikelihood"], minimum_holders=3)


@pytest.fixture(scope="module")
def federation(running_ray: str) -> Iterator[SimulatedFederation]:
    """The defaults: keys of 3072 bits, masks in the ring."""
    with tacit.simulate(SITES) as federation:
        yield federation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def others(running_ray: str, folder: Path) -> Iterator[dict[str, tacit.Federation]]:
    """Other options of the same protocol; what the first of them reveals is kept in `folder`."""
    short, unmasked = tacit.RingPaillier(key_bits=2048), tacit.RingPaillier(masks=False)
    with ExitStack() as stack:
        yield {
            "2048 bits": stack.enter_context(tacit.simulate(SITES, short, repository=folder)),
            "masks off": stack.enter_context(
                tacit.simulate(SITES, unmasked, holders_per_actor=3, policy={"site-2": FEW_MODELS})
            ),
        }


def poisson() -> MaximumLikelihood:
    return MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})


def numbers(fit: tacit.Fit) -> dict[str, Any]:
    """Every number of a fit, with all its bits."""
    kept = ("estimates", "covariance", "llf", "nobs", "iterations", "n_passes", "states", "converged")
    return {name: value for name, value in fit.to_dict().items() if name in kept}


@pytest.fixture(scope="module")
def fitted(federation: tacit.Federation) -> tuple[tacit.Fit, list[Event]]:
    events: list[Event] = []
    return federation.fit(poisson(), on_event=events.append), events


# A fit


def test_fit_has_the_reference_s_estimates(fitted: tuple[tacit.Fit, list[Event]]) -> None:
    fit, _ = fitted
    assert fit.params["lambda"] == pytest.approx(9.175, abs=1e-9)
    assert fit.bse["lambda"] == pytest.approx(0.478931101516700, abs=1e-8)
    assert fit.llf == pytest.approx(-99.7664132229305, abs=1e-9)
    assert fit.nobs == 40
    assert fit.converged


def test_fit_takes_at_most_eight_passes(fitted: tuple[tacit.Fit, list[Event]]) -> None:
    fit, events = fitted
    passes = [event for event in events if isinstance(event, Pass)]
    assert [event.number for event in passes] == list(range(1, fit.n_passes + 1))
    assert len(passes) <= 8
    moved = [event for event in events if isinstance(event, Iterated)]
    assert [(event.iteration, event.value) for event in moved] == [
        (state.iteration, state.value) for state in fit.states
    ]
    assert isinstance(events[-1], Result)


def test_history_tells_how_many_holders_were_there(fitted: tuple[tacit.Fit, list[Event]]) -> None:
    fit, _ = fitted
    assert fit.history["holders"].tolist() == [3] * (fit.iterations + 1)


def test_fit_says_how_it_came_about(fitted: tuple[tacit.Fit, list[Event]]) -> None:
    fit, _ = fitted
    assert (fit.holders, fit.survivors, fit.warnings) == (tuple(SITES), tuple(SITES), ())
    for told in ("ring-Paillier", *SITES, "exact sums", "Trust"):
        assert told in str(fit.summary())


def test_fit_has_the_bits_of_the_pooled_rows(fitted: tuple[tacit.Fit, list[Event]]) -> None:
    async def iterate() -> Any:
        model = poisson()
        return [last async for last in model.iterate(pooled(model, list(SITES.values())))][-1]

    assert numbers(fitted[0]) == numbers(asyncio.run(iterate()))


def test_fit_has_the_bits_of_the_simulator(fitted: tuple[tacit.Fit, list[Event]]) -> None:
    model, seeds = poisson(), itertools.count()
    first = Network(tacit.RingPaillier.insecure_for_tests(256), {})

    async def total(query: Query) -> Arrays:
        contributions = {name: contribute(model, rows, query) for name, rows in SITES.items()}
        network = Network(
            first.protocol,
            contributions,
            seed=next(seeds),
            memories=first.memories,
        )
        return network.aggregate().arrays

    async def iterate() -> Any:
        return [last async for last in model.iterate(total)][-1]

    assert numbers(fitted[0]) == numbers(asyncio.run(iterate()))


@pytest.mark.parametrize("options", ["2048 bits", "masks off"])
def test_fit_has_the_same_bits_under_other_options(
    fitted: tuple[tacit.Fit, list[Event]], others: dict[str, tacit.Federation], options: str
) -> None:
    other = others[options].fit(poisson())
    assert numbers(other) == numbers(fitted[0])
    if options == "masks off":
        assert "neighbours" in str(other.trust)


# A sum


def row_of_each() -> Callable[..., Any]:
    """A function that returns the row of `at` that belongs to the holder; one that the holders need not import."""
    places = PLACES

    def one_row_each(rows: Any, at: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(at[places[len(rows)]])

    return one_row_each


def test_sum_is_exact_to_the_last_bit(federation: tacit.Federation) -> None:
    columns = [
        (1e308, 1e-308, -1e308),
        (5e-324, -5e-324, 5e-324),
        (2.0**53, 1.0, -(2.0**53)),
        (-0.0, -0.0, -0.0),
        (1e308, 1e308, -1.7e308),
        (0.1, 0.2, 0.3),
        (1.0, 2.0**-53, 2.0**-106),
    ]
    total = federation.sum(row_of_each(), at=np.array(columns).T)
    expected = [float(sum(map(Fraction, column))) for column in columns]
    assert [struct.pack(">d", value) for value in total] == [struct.pack(">d", value) for value in expected]


def test_integers_stay_integers(federation: tacit.Federation) -> None:
    total = federation.sum(len)
    assert total.dtype == np.int64
    assert (total.shape, int(total)) == ((), 40)


def test_long_vector_travels_beside_its_frame(others: dict[str, tacit.Federation]) -> None:
    encoding = tacit.FixedPoint(bound=100.0, fraction_bits=8)

    def many(rows: Any) -> Any:
        return np.resize(rows, 20_000) / 4

    total = others["2048 bits"].sum(many, encoding=encoding)
    assert total.tolist() == sum(many(rows) for rows in SITES.values()).tolist()


def test_total_beyond_the_doubles_is_a_range_error(federation: tacit.Federation) -> None:
    with pytest.raises(tacit.RangeError):
        federation.sum(lambda _: 1e308)


def test_value_that_is_not_finite_is_told_with_holder_and_index(federation: tacit.Federation) -> None:
    def spoilt(rows: Any) -> Any:
        return np.array([[CANARY, CANARY], [CANARY, math.nan if len(rows) == 7 else CANARY]])

    with pytest.raises(tacit.RefusedError, match=r"site-2 refuses.*\n.*index \(1, 1\)") as caught:
        federation.sum(spoilt)
    assert list(caught.value.refusals) == ["site-2"]
    assert str(CANARY) not in str(caught.value)


def test_exception_of_the_user_s_function_is_shown(federation: tacit.Federation) -> None:
    def divides(rows: Any) -> float:
        return 1 / (len(rows) - 7)

    with pytest.raises(tacit.RefusedError) as caught:
        federation.sum(divides)
    [(holder, (_, details))] = caught.value.refusals.items()
    assert holder == "site-2"
    assert details.startswith("Traceback (most recent call last)")
    assert "test_federation.py" in details
    assert "return 1 / (len(rows) - 7)" in details
    assert details.endswith("ZeroDivisionError: division by zero")


def test_arrays_that_differ_are_told(federation: tacit.Federation) -> None:
    with pytest.raises(tacit.SetupError, match=r"site-1 has 'sum' int64\[20\], site-2 has 'sum' int64\[7\]"):
        federation.sum(lambda rows: rows)
    with pytest.raises(tacit.SetupError, match="site-2 has 'sum' float64"):
        federation.sum(lambda rows: 1.0 if len(rows) == 7 else 1)


def test_function_that_cannot_be_sent_is_refused(federation: tacit.Federation) -> None:
    lock = threading.Lock()
    with pytest.raises(tacit.SetupError, match="cannot be sent to the holders"):
        federation.sum(lambda _: lock.locked())


def imported(rows: Any) -> int:
    return len(rows)


def test_function_that_the_holders_cannot_import_is_refused(
    federation: tacit.Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported, "__module__", "nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", sys.modules[__name__])
    with pytest.raises(tacit.SetupError, match=r"site-. cannot load the model or function .*'nowhere'"):
        federation.sum(imported)


def test_what_is_no_function_and_what_is_no_fit_are_refused(federation: tacit.Federation) -> None:
    with pytest.raises(tacit.ModelError):
        federation.sum(3)  # type: ignore[arg-type]
    with pytest.raises(tacit.SetupError, match=r"federation\.sum"):
        federation.fit(Sum(len))


def test_holders_hold_no_models_of_questions_that_are_answered(federation: tacit.Federation) -> None:
    """Each is another one, with its `at`."""

    def models_held(_: Any) -> int:
        return sum(isinstance(found, Sum) for found in gc.get_objects())

    before = federation.sum(models_held)
    for at in range(5):
        federation.sum(lambda _, at: at, float(at))
    assert federation.sum(models_held) == before


# Under a running loop


def test_asynchronous_twins_give_the_same(federation: tacit.Federation) -> None:
    async def program() -> None:
        assert await federation.asum(len) == 40
        assert numbers(await federation.afit(poisson())) == numbers(federation.fit(poisson()))
        assert await federation.aledger() == federation.ledger

    asyncio.run(program())


def test_synchronous_sum_works_under_a_running_loop(federation: tacit.Federation) -> None:
    async def notebook() -> Any:
        return federation.sum(len)

    assert asyncio.run(notebook()) == 40


def test_two_sums_run_side_by_side(federation: tacit.Federation) -> None:
    async def program() -> list[Any]:
        other = federation.asum(lambda rows: float(rows.sum()))
        return list(await asyncio.gather(federation.asum(len), other))

    assert asyncio.run(program()) == [40, 367.0]


def computing_slowly(folder: Path) -> Callable[[Any], int]:
    """A function that shows in a folder which holders have begun with it."""

    def slow(rows: Any) -> int:
        (folder / str(len(rows))).touch()
        time.sleep(1.5)
        return len(rows)

    return slow


def test_cancelled_sum_leaves_the_federation_usable(federation: tacit.Federation, tmp_path: Path) -> None:
    async def program() -> None:
        running = asyncio.ensure_future(federation.asum(computing_slowly(tmp_path)))
        while len(list(tmp_path.iterdir())) < 3:  # noqa: ASYNC110, ASYNC240 - made by other processes
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await federation.asum(len) == 40

    asyncio.run(program())


INTERRUPT = """
import os, pathlib, signal, sys, time
while len(list(pathlib.Path(sys.argv[1]).iterdir())) < 3:
    time.sleep(0.01)
os.kill(int(sys.argv[2]), signal.SIGINT)
"""


def test_interrupted_sum_leaves_the_federation_usable(federation: tacit.Federation, tmp_path: Path) -> None:
    told = [sys.executable, "-c", INTERRUPT, str(tmp_path), str(os.getpid())]
    with subprocess.Popen(told), pytest.raises(KeyboardInterrupt):
        federation.sum(computing_slowly(tmp_path))
    assert federation.sum(len) == 40


def fitting_slowly(folder: Path) -> MaximumLikelihood:
    """A model that shows in a folder which holders have begun with it."""

    def slow(theta: np.ndarray[Any, Any], rows: Any) -> float:
        (folder / str(len(rows))).touch()
        time.sleep(0.05)
        return float(poisson_nll(theta, rows))

    return MaximumLikelihood(slow, start={"lambda": 5.0}, bounds={"lambda": (0, None)})


def the_run_was_cancelled(federation: tacit.Federation, n_before: int) -> bool:
    """Whether the first run after so many ended as one that was broken off."""
    while (run := federation.runs[n_before])["outcome"] == "unfinished":
        time.sleep(0.01)
    return "cancelled" in run["events"][-1]["message"]


def test_cancelled_fit_ends_and_the_next_one_works(
    federation: tacit.Federation, fitted: tuple[tacit.Fit, list[Event]], tmp_path: Path
) -> None:
    n_before = len(federation.runs)

    async def program() -> tacit.Fit:
        running = asyncio.ensure_future(federation.afit(fitting_slowly(tmp_path)))
        while len(list(tmp_path.iterdir())) < 3:  # noqa: ASYNC110, ASYNC240 - made by other processes
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return await federation.afit(poisson())

    assert numbers(asyncio.run(program())) == numbers(fitted[0])
    assert the_run_was_cancelled(federation, n_before)


def test_interrupted_fit_ends_and_the_next_one_works(
    federation: tacit.Federation, fitted: tuple[tacit.Fit, list[Event]], tmp_path: Path
) -> None:
    n_before = len(federation.runs)
    told = [sys.executable, "-c", INTERRUPT, str(tmp_path), str(os.getpid())]
    with subprocess.Popen(told), pytest.raises(KeyboardInterrupt):
        federation.fit(fitting_slowly(tmp_path))
    assert numbers(federation.fit(poisson())) == numbers(fitted[0])
    assert the_run_was_cancelled(federation, n_before)


def test_follower_that_fails_ends_the_sum(federation: tacit.Federation) -> None:
    def follow(event: Event) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        federation.fit(poisson(), on_event=follow)
    assert federation.sum(len) == 40


# What is kept


def test_ledger_has_what_was_revealed_and_nothing_else(federation: tacit.Federation) -> None:
    before = federation.ledger
    with pytest.raises(tacit.RefusedError):
        federation.sum(lambda _: math.nan)
    assert federation.ledger == before
    federation.sum(row_of_each(), at=np.array([1.5, 2.5, 3.5]))
    [record] = federation.ledger[len(before) :]
    assert record["released"] == {"sum": 7.5}
    assert record["query"] == {"at": [1.5, 2.5, 3.5]}
    assert record["holders"] == list(SITES)
    assert (record["released_to"], record["protocol"]) == ("coordinator", "ring-Paillier")
    assert len({entry["session"] for entry in federation.ledger}) == len(federation.ledger)


def test_every_run_has_its_log(federation: SimulatedFederation) -> None:
    def fails(rows: Any) -> float:
        raise ValueError(f"{SECRET}: {rows[0]}")

    n_before = len(federation.runs)
    federation.sum(len)
    with pytest.raises(tacit.RefusedError, match=SECRET):
        federation.sum(fails)
    fit = federation.fit(poisson())
    runs = federation.runs[n_before:]
    assert runs == asyncio.run(federation.aruns())[n_before:]
    assert [(run["model"], run["outcome"]) for run in runs] == [
        ("Sum", "result"),
        ("Sum", "failure"),
        ("MaximumLikelihood", "result"),
    ]
    assert runs[2]["model_digest"] == fit.definition.digest.hex()
    assert runs[2]["definition"] == federation.ledger[-1]["definition"]
    assert [event["event"] for event in runs[0]["events"]] == ["pass", "result"]
    assert federation.temporary is not None
    file = Path(federation.temporary.name, "runs", f"{runs[1]['run']}.jsonl")
    assert SECRET not in file.read_text()
    assert len(file.read_text().splitlines()) == 2


def test_ledger_follows_a_fit_pass_by_pass(federation: tacit.Federation) -> None:
    before = len(federation.ledger)
    fit = federation.fit(poisson())
    records = federation.ledger[before:]
    assert [record["step"] for record in records] == ["start"] + ["trial"] * (fit.n_passes - 1)
    assert [record["query"]["theta"] for record in records] == [
        state.parameters.tolist() for state in fit.states
    ]


def test_saved_fit_is_loaded_with_the_same_bits(
    federation: tacit.Federation, fitted: tuple[tacit.Fit, list[Event]]
) -> None:
    fit, _ = fitted
    first = federation.repository.save(fit, name="bits")
    second = federation.repository.save(fit, "bits")
    assert federation.repository.versions("bits") == [first, second] == [1, 2]
    assert federation.repository.load("bits").to_dict() == fit.to_dict()
    assert federation.repository.load("bits", 1).to_dict() == fit.to_dict()
    with pytest.raises(tacit.RecordError, match="no version 3"):
        federation.repository.load("bits", 3)
    with pytest.raises(tacit.RecordError, match="never"):
        federation.repository.load("never")


def test_holders_co_sign_in_their_own_processes(
    federation: tacit.Federation, fitted: tuple[tacit.Fit, list[Event]]
) -> None:
    fit, _ = fitted
    version = federation.repository.save(fit, "co-signed", release="all")
    [listed] = federation.repository.listing("co-signed")
    assert (listed.version, listed.released, len(listed.signatures)) == (version, True, 4)
    with pytest.raises(tacit.RecordError, match="site-1 does not sign: the card tells another privacy"):
        federation.repository.save(fit, "co-signed", release=1, provenance={"privacy": "(ε = 0.1)"})
    assert federation.repository.load("co-signed").to_dict() == fit.to_dict()


def test_a_holder_refuses_what_its_policy_forbids(others: dict[str, tacit.Federation]) -> None:
    class Own(Sum):
        """A model that no policy lists."""

    with pytest.raises(tacit.RefusedError) as caught:
        others["masks off"].fit(Own(len))
    [(holder, (reason, details))] = caught.value.refusals.items()
    assert (holder, reason) == ("site-2", "its policy does not allow this model")
    assert "allowed: Sum, MaximumLikelihood" in details


def test_repository_survives_its_process(
    federation: tacit.Federation, fitted: tuple[tacit.Fit, list[Event]]
) -> None:
    version = federation.repository.save(fitted[0], "kept")
    ledger = federation.ledger
    os.kill(ray.get(federation._repository.ping.remote()), signal.SIGKILL)
    assert federation.repository.load("kept", version).to_dict() == fitted[0].to_dict()
    assert federation.sum(len) == 40
    assert federation.ledger[: len(ledger)] == ledger
    assert len(federation.ledger) == len(ledger) + 1


def test_folder_is_opened_again_by_another_federation(
    running_ray: str,
    others: dict[str, tacit.Federation],
    fitted: tuple[tacit.Fit, list[Event]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = others["2048 bits"]
    version = first.repository.save(fitted[0], "risk")
    first.sum(len)
    monkeypatch.chdir(folder.parent)
    short = tacit.RingPaillier(key_bits=2048)
    with tacit.simulate(SITES, short, repository=folder.name, holders_per_actor=3) as second:
        assert second.repository.load("risk", version).to_dict() == fitted[0].to_dict()
        assert second.ledger == first.ledger
        repository = second.repository
    second.close()
    for use in (
        lambda: second.sum(len),
        lambda: second.fit(poisson()),
        lambda: asyncio.run(second.asum(len)),
        lambda: second.ledger,
        lambda: asyncio.run(second.aledger()),
        lambda: repository.load("risk"),
    ):
        with pytest.raises(ClosedError):
            use()
    assert ray.get_runtime_context().gcs_address == running_ray  # Ray was used, and not stopped
    assert first.sum(len) == 40


def test_process_that_many_watch_answers_a_ping(federation: SimulatedFederation) -> None:
    """Also those of whom it does not know that they have given it up."""
    process = federation._parties["site-1"]
    watching = [process.watch.remote() for _ in range(50)]
    assert ray.wait(watching, timeout=0.2)[0] == []
    assert ray.get(process.ping.remote(), timeout=10.0) == federation.processes["site-1"]


def test_temporary_folder_goes_with_the_federation(federation: SimulatedFederation) -> None:
    assert federation.temporary is not None
    assert Path(federation.temporary.name).is_dir()
    assert "tacit-" in federation.temporary.name
    assert "_repository" not in repr(federation)


def test_log_files_hold_no_values(federation: tacit.Federation) -> None:
    def fails(rows: Any) -> float:
        raise ValueError(f"{SECRET}: {rows[0]} {CANARY}")

    def spoilt(rows: Any) -> Any:
        return np.array([CANARY, math.inf])

    for function in (fails, spoilt):
        with pytest.raises(tacit.RefusedError):
            federation.sum(function)
    assert federation.sum(lambda _: CANARY) == pytest.approx(3 * CANARY)
    assert worker._global_node is not None
    logs = [path for path in Path(worker._global_node.get_logs_dir_path()).rglob("*") if path.is_file()]
    assert len(logs) > 10
    for path in logs:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path.name
        assert str(CANARY).encode() not in content, path.name


# What cannot be simulated


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "two holders": (dict(list(SITES.items())[:2]), {}, "at least 3 holders, 2 given"),
    "no holders": ({}, {}, "at least 3 holders"),
    "no mapping": (list(SITES.values()), {}, "maps each holder's name"),
    "the coordinator's name": ({**SITES, "coordinator": 0}, {}, "other than 'coordinator'"),
    "an empty name": ({**SITES, "": 0}, {}, "1 to 100 characters"),
    "a long name": ({**SITES, "x" * 101: 0}, {}, "1 to 100 characters"),
    "a name that does not print": ({**SITES, "a\nb": 0}, {}, "printable"),
    "a number as name": ({**SITES, 4: 0}, {}, "printable"),
    "a protocol's class": (SITES, {"protocol": tacit.RingPaillier}, "such as tacit"),
    "a protocol's name": (SITES, {"protocol": "pairwise masking"}, "such as tacit"),
    "keys for tests": (SITES, {"protocol": tacit.RingPaillier.insecure_for_tests(256)}, "at least 2048"),
    "too few for the colluding": (SITES, {"protocol": tacit.RingPaillier(colluding=2)}, "at least 4 holders"),
    "on_dropout": (SITES, {"on_dropout": "perhaps"}, "'fail' or 'continue'"),
    "no holder in a process": (SITES, {"holders_per_actor": 0}, "whole number from 1"),
    "half a holder in a process": (SITES, {"holders_per_actor": 1.5}, "whole number from 1"),
    "a truth as a number": (SITES, {"holders_per_actor": True}, "whole number from 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_simulated_is_refused_before_anything_starts(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(user: str) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "start_ray", never)
    data, options, told = REFUSED[case]
    with pytest.raises(tacit.SetupError, match=told):
        tacit.simulate(data, **options)


def test_folder_that_cannot_be_made_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(user: str) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "start_ray", never)
    (tmp_path / "file").touch()
    with pytest.raises(tacit.RecordError, match="cannot be made"):
        tacit.simulate(SITES, repository=tmp_path / "file" / "folder")


def test_too_few_colluding_and_too_short_keys_are_refused() -> None:
    with pytest.raises(tacit.SetupError):
        tacit.RingPaillier(key_bits=1024)
    with pytest.raises(tacit.SetupError):
        tacit.RingPaillier(colluding=0)


def test_model_s_own_complaint_comes_back_as_it_was(federation: tacit.Federation) -> None:
    model = MaximumLikelihood(lambda theta, rows: math.nan, start={"x": 1.0})
    with pytest.raises(tacit.ModelError, match="no finite likelihood"):
        federation.fit(model)
    with pytest.raises(tacit.RefusedError) as caught:
        federation.sum(lambda rows: "text")
    assert DataError.__name__ in str(caught.value)
