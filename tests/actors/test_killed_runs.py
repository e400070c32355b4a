"""Runs whose processes are killed, and go on: with Ray, by SIGKILL."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import tacit
from tacit.actors.events import Event, Pass

pytestmark = pytest.mark.ray

KILLS = int(os.environ.get("KILLS", "16"))  # of which each takes about ten seconds
VICTIMS = ("coordinator", "a", "c", "repository")  # a and b share a process
ROWS = {name: np.random.default_rng(7 + number).gamma(3.0, 2.0, 40) for number, name in enumerate("abc")}


def gamma_nll(theta: Any, rows: Any) -> float:
    """Negative log-likelihood of a gamma distribution by the logarithms of shape and scale."""
    shape, scale = math.exp(theta[0]), math.exp(theta[1])
    logs = (shape - 1) * np.log(rows) - rows / scale - math.lgamma(shape) - shape * math.log(scale)
    return -float(logs.sum())


MODEL = tacit.MaximumLikelihood(gamma_nll, start={"log shape": -2.0, "log scale": 4.0})


def bits(fit: Any) -> tuple[bytes, bytes, int, int]:
    """What has to be the same whatever happened on the way."""
    return fit.params.to_numpy().tobytes(), fit.bse.to_numpy().tobytes(), fit.iterations, fit.n_passes


def pid_of(federation: tacit.Federation, name: str) -> int:
    host = federation._repository if name == "repository" else federation._parties[name]
    return int(ray.get(host.ping.remote()))


def break_off(federation: tacit.Federation) -> None:
    """Kill the coordinator in the middle of a fit."""
    coordinator = pid_of(federation, "coordinator")

    def kill(event: Event) -> None:
        if isinstance(event, Pass) and event.number == 5:  # of 11; the first checkpoint is complete by then
            os.kill(coordinator, signal.SIGKILL)

    with pytest.raises(tacit.PeerUnreachableError, match=r"restart\(\) the federation"):
        federation.fit(MODEL, checkpoint="killed", on_event=kill)


def test_a_fit_goes_on_after_its_coordinator_was_killed(running_ray: str) -> None:
    with tacit.simulate(ROWS, tacit.PairwiseMasking(), holders_per_actor=3) as federation:
        undisturbed = federation.fit(MODEL)
        break_off(federation)
        federation.restart()
        fit = federation.fit(MODEL, checkpoint="killed")
        assert bits(fit) == bits(undisturbed)
        [warning] = fit.warnings
        assert warning.startswith("resumed after iteration")
        assert federation.repository.verify().ok


@pytest.mark.faults
def test_a_new_federation_over_the_same_repository_takes_up(running_ray: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"repository": tmp_path, "holders_per_actor": 3}
    with tacit.simulate(ROWS, tacit.PairwiseMasking(), **options) as federation:
        undisturbed = federation.fit(MODEL)
        break_off(federation)
    with tacit.simulate(ROWS, tacit.PairwiseMasking(), **options) as federation:
        fit = federation.fit(MODEL, checkpoint="killed")
    assert fit.warnings[0].startswith("resumed after iteration")
    assert bits(fit) == bits(undisturbed)


@dataclass
class Scene:
    """A federation whose processes are killed again and again, and what was promised of its repository."""

    federation: tacit.Federation
    undisturbed: Any
    seconds: float  # that a fit takes, and saving it
    versions: int = 0
    told: Counter[str] = field(default_factory=Counter)

    def work(self) -> Any:
        """Fit, under a checkpoint, and save."""
        fit = self.federation.fit(MODEL, checkpoint="killed")
        self.versions = self.federation.repository.save(fit, "killed")
        return fit

    def attempt(self) -> tuple[Any, str]:
        """Work; returns the fit, or None and the name of the error."""
        try:
            return self.work(), ""
        except (tacit.PeerUnreachableError, tacit.DropoutError) as error:
            return None, type(error).__name__

    def check_repository(self) -> None:
        """Everything that was promised is there, whole."""
        repository = self.federation.repository
        checked = repository.verify()
        assert checked.ok, str(checked)
        versions = repository.versions("killed")
        assert versions == list(range(1, len(versions) + 1))
        assert len(versions) in {self.versions, self.versions + 1}, (
            "one may be there of which nobody was told"
        )
        self.versions = len(versions)
        for version in versions[-2:]:
            assert bits(repository.load("killed", version)) == bits(self.undisturbed)


@pytest.fixture(scope="module")
def scene(
    running_ray: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("repository")
    began = time.monotonic()
    with tacit.simulate(ROWS, tacit.PairwiseMasking(), repository=folder, holders_per_actor=2) as federation:
        scene = Scene(federation, federation.fit(MODEL), 0.0)
        at = time.monotonic()
        scene.work()
        scene.seconds = time.monotonic() - at
        yield scene
        scene.check_repository()
        for version in range(1, scene.versions + 1):
            assert bits(federation.repository.load("killed", version)) == bits(scene.undisturbed)
    told = ", ".join(f"{count} {what}" for what, count in sorted(scene.told.items()))
    summary = f"{KILLS} kills in {time.monotonic() - began:.0f} s, {scene.versions} versions: {told}"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary}")  # noqa: T201 - what `make faults` is run for


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(KILLS))
def test_whoever_is_killed_at_whatever_moment_nothing_is_lost(scene: Scene, seed: int) -> None:
    victim = VICTIMS[seed % len(VICTIMS)]
    moment = random.Random(seed).uniform(0, scene.seconds)
    killer = threading.Timer(moment, os.kill, (pid_of(scene.federation, victim), signal.SIGKILL))
    killer.start()
    fit, error = scene.attempt()
    killer.join()
    if error or victim != "repository":  # which Ray has started again
        scene.federation.restart()
    scene.check_repository()
    if fit is None:
        fit = scene.work()
    assert bits(fit) == bits(scene.undisturbed)
    end = f"{error}, taken up" if fit.warnings else f"{error}, begun anew"
    scene.told[f"{victim}: {end if error else 'nobody noticed'}"] += 1


@pytest.mark.faults
def test_enough_of_them_were_taken_up(scene: Scene) -> None:
    assert sum(scene.told.values()) == KILLS
    assert sum(count for what, count in scene.told.items() if what.endswith("taken up")) >= KILLS // 5
