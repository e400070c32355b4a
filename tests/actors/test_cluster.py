"""Who starts Ray, and who stops it: never somebody else's, and not while another federation uses it."""

from __future__ import annotations

import functools
import os
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import AuthenticationError
from tacit.actors import cluster
from tacit.actors.errors import PeerUnreachableError
from tacit.actors.finding import RAY_ENVIRONMENT
from tacit.protocols.errors import SetupError
from tacit.records.party_file import RepositoryPlace


class FakeRay:
    """Runs or not, at an address that is new each time."""

    def __init__(self) -> None:
        self.n_started = 0
        self.running = False
        self.options: dict[str, Any] = {}
        self.troubles: list[str] = []
        self.address: str | None = None  # that it says it runs at, if it is not one of its own
        self.machines: list[dict[str, Any]] = []
        self.actors: dict[str, dict[str, Any]] = {}
        self.n_classes = 0

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
        return SimpleNamespace(gcs_address=self.address or f"127.0.0.1:{self.n_started}")

    def nodes(self) -> list[dict[str, Any]]:
        return self.machines

    def remote(self, **options: Any) -> Any:
        def with_options(**named: Any) -> Any:
            def start(*arguments: Any, **keywords: Any) -> str:
                if named["name"] in self.actors:
                    raise ValueError(f"The name {named['name']} is already taken")
                self.actors[named["name"]] = {
                    **options,
                    **named,
                    "arguments": arguments,
                    "keywords": keywords,
                }
                return str(named["name"])

            return SimpleNamespace(remote=start)

        self.n_classes += 1
        return lambda _: SimpleNamespace(options=with_options)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(cluster, "ray", fake)
    monkeypatch.setattr(cluster, "_own", cluster._OwnRay())
    monkeypatch.setattr(cluster, "_actor_class", functools.cache(cluster._actor_class.__wrapped__))
    for name in RAY_ENVIRONMENT:
        monkeypatch.setenv(name, "as the user has set it")
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


def test_own_ray_takes_its_settings_and_leaves_the_users(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_worker_niceness")
    cluster.start_ray("one")
    assert os.environ.pop("RAY_worker_niceness") == "0"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "as the user has set it"


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


# The Ray of a deployment

HEAD = "10.1.0.1:6379"


def test_ray_of_a_deployment_is_joined_where_the_study_says(fake: FakeRay) -> None:
    fake.address = HEAD
    cluster.join_ray(HEAD, "one")
    assert (fake.options["address"], fake.options["namespace"]) == (HEAD, "tacit")
    assert fake.options["log_to_driver"] is False
    cluster.stop_ray("one")
    assert not fake.running


def test_study_is_connected_with_twice_under_the_name_that_it_gives_the_head(fake: FakeRay) -> None:
    """Ray says it with the machine's address, whatever the study says."""
    fake.address = "192.0.2.7:6379"
    for user in ("one", "two"):
        cluster.join_ray("localhost:6379", user)
    assert fake.n_started == 1
    cluster.stop_ray("one")
    assert fake.running
    cluster.stop_ray("two")
    assert not fake.running


def test_ray_of_another_deployment_is_not_taken_for_this_one(fake: FakeRay) -> None:
    fake.address = HEAD
    cluster.join_ray(HEAD, "one")
    with pytest.raises(SetupError, match="this process uses another Ray"):
        cluster.join_ray("10.1.0.9:6379", "two")


def test_ray_that_a_user_has_joined_is_used_and_not_left(fake: FakeRay) -> None:
    fake.address = HEAD
    cluster.join_ray(HEAD, "one")
    cluster.stop_ray("one")
    fake.init()  # by the user, at the same address
    cluster.join_ray(HEAD, "two")
    cluster.stop_ray("two")
    assert fake.running


@pytest.mark.parametrize(
    "trouble",
    [
        ConnectionError("ray.init() cannot find it\nand more"),
        RuntimeError("ray.init() cannot find it"),
        ValueError("ray.init() cannot find it"),
        AuthenticationError("ray.init() cannot find it"),
    ],
)
def test_ray_that_cannot_be_joined_is_told_in_a_line(
    fake: FakeRay, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise trouble

    monkeypatch.setattr(fake, "init", init)
    with pytest.raises(PeerUnreachableError, match=r"python -m tacit join` \(ray\.init\(\) cannot find it"):
        cluster.join_ray(HEAD, "one")


# The processes of a deployment


def machine(party: str, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Labels": {"tacit.party": party, "ray.io/node-id": "1"}}


def test_process_of_a_party_is_on_its_machine_and_is_given_its_file_alone(fake: FakeRay) -> None:
    fake.machines = [machine("east"), machine("north")]
    assert cluster.start_party("Sprays", "north", "holder", "/etc/holder.toml", "north") == "Sprays: north"
    started = fake.actors["Sprays: north"]
    assert (started["label_selector"], started["namespace"]) == ({"tacit.party": "north"}, "tacit")
    assert (started["arguments"], started["keywords"]) == (("/etc/holder.toml",), {})
    assert (
        started["memory"] > 0
    )  # or Ray's head would start it by way of any machine, even one that is cut off
    assert started["max_restarts"] == 0  # it would not be met: its owner's keeper makes another


@pytest.mark.parametrize("machines", [[], [machine("east")], [machine("north", alive=False)]])
def test_party_without_a_machine_is_told_and_not_waited_for(
    fake: FakeRay, machines: list[dict[str, Any]]
) -> None:
    fake.machines = machines
    with pytest.raises(SetupError, match=r"no machine of the cluster bears the label tacit\.party=north"):
        cluster.start_party("Sprays", "north", "holder", "/etc/holder.toml", "north")


def test_second_process_of_a_party_is_refused_with_what_to_do(fake: FakeRay) -> None:
    fake.machines = [machine("north")]
    cluster.start_party("Sprays", "north", "holder", "/etc/holder.toml", "north")
    with pytest.raises(SetupError, match="a process of north is there already: end the other"):
        cluster.start_party("Sprays", "north", "holder", "/etc/holder.toml", "north")


def test_repository_is_beside_the_coordinator_and_is_given_the_names_of_key_files(fake: FakeRay) -> None:
    fake.machines = [machine("coordinator")]
    cluster.start_deployed_repository("Sprays", "coordinator", RepositoryPlace("/models", None, None))
    started = fake.actors["Sprays: the repository"]
    assert started["label_selector"] == {"tacit.party": "coordinator"}
    assert started["arguments"] == ("/models",)
    assert started["keywords"] == {"signing_key_file": None, "repository_key_file": None}


def test_all_processes_of_a_kind_are_of_one_class(fake: FakeRay) -> None:
    """Ray keeps every class that is made, also when the processes are gone."""
    fake.machines = [machine("east"), machine("north")]
    for party in ("east", "north"):
        cluster.start_party("Sprays", party, "holder", "/etc/holder.toml", party)
    assert fake.n_classes == 1
