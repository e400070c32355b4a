"""Who starts Ray, and who stops it: never somebody else's, and not while another federation uses it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tacit.actors import cluster


class FakeRay:
    """Runs or not, at an address that is new each time."""

    def __init__(self) -> None:
        self.n_started = 0
        self.running = False
        self.options: dict[str, Any] = {}
        self.troubles: list[str] = []

    def init(self, **options: Any) -> None:
        self.options = options
        self.n_started += 1
        if self.troubles:
            raise RuntimeError(self.troubles.pop())
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def is_initialized(self) -> bool:
        return self.running

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address=f"127.0.0.1:{self.n_started}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(cluster, "ray", fake)
    monkeypatch.setattr(cluster, "_own", cluster._OwnRay())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return fake


def test_ray_is_started_and_stopped_by_whoever_needs_it(fake: FakeRay) -> None:
    cluster.start_ray("one")
    assert fake.running
    cluster.stop_ray("one")
    assert not fake.running


def test_own_ray_is_local_and_quiet(fake: FakeRay) -> None:
    cluster.start_ray("one")
    assert fake.options["address"] == "local"  # else it may join somebody else's cluster
    assert fake.options["log_to_driver"] is fake.options["include_dashboard"] is False


def test_own_ray_that_is_late_is_started_once_more(fake: FakeRay) -> None:
    fake.troubles = ["The current node timed out during startup."]
    cluster.start_ray("one")
    assert fake.running
    assert fake.n_started == 2


@pytest.mark.parametrize("troubles", [["no such port"], ["node timed out during startup"] * 2])
def test_other_trouble_with_ray_is_told(fake: FakeRay, troubles: list[str]) -> None:
    fake.troubles = list(troubles)
    with pytest.raises(RuntimeError, match=troubles[0]):
        cluster.start_ray("one")


def test_running_ray_is_used_and_not_stopped(fake: FakeRay) -> None:
    fake.init()
    cluster.start_ray("one")
    cluster.stop_ray("one")
    assert (fake.n_started, fake.running) == (1, True)


@pytest.mark.parametrize("first", ["one", "two"])
def test_ray_stops_with_the_last_who_uses_it(fake: FakeRay, first: str) -> None:
    for user in ("one", "two"):
        cluster.start_ray(user)
    cluster.stop_ray(first)
    assert (fake.n_started, fake.running) == (1, True)
    cluster.stop_ray(first)  # a second time
    assert fake.running
    cluster.stop_ray({"one": "two", "two": "one"}[first])
    assert not fake.running


def test_ray_that_the_user_has_started_in_its_place_is_not_stopped(fake: FakeRay) -> None:
    cluster.start_ray("one")
    fake.shutdown()
    fake.init()
    cluster.start_ray("two")
    for user in ("one", "two"):
        cluster.stop_ray(user)
    assert fake.running


def test_ray_is_started_anew_after_somebody_stopped_it(fake: FakeRay) -> None:
    cluster.start_ray("one")
    fake.shutdown()
    cluster.start_ray("two")
    cluster.stop_ray("one")
    assert (fake.n_started, fake.running) == (2, True)
    cluster.stop_ray("two")
    assert not fake.running
