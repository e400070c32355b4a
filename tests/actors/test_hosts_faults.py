"""A training over several hosts, and what happens to machines: far away, with a full disk, with a wrong clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import pytest
from deployments import COORDINATOR, STATED_SECONDS, TYPED, Analyst, Deployed, deploy
from in_process import Network
from studied_network import HOLDERS, NAME, network, rows_of
from tacit.actors.data_holder import DataHolder
from tacit.protocols.pairwise_masking import PairwiseMasking

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(900),  # Ray takes half a minute to start on five hosts, and on a busy machine more
    pytest.mark.skipif(bool(hosts.obstacle()), reason=hosts.obstacle() or "there can be hosts"),
]

ROUNDS = 10
ANALYSIS = f"""\
model = "{NAME}"
rounds = {ROUNDS}
data = "rows"
"""
POLICY = f'importable = ["{NAME}"]\nset_changes = 100'
# What libfaketime shifts makes a thread of Python wait for ever; so it is the clock as Python has it.
CLOCK = """
import time
actual = time.time
time.time = lambda: actual() + {seconds}
"""
START_SECONDS = 600.0  # every process that makes the model imports torch
ON_OWN_DISK = (COORDINATOR, "south")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Four holders and a coordinator; two of these have their state on disks that a test can fill."""
    folder = tmp_path_factory.mktemp("study")
    rows = {name: rows_of(name).to_csv(index=False) for name in HOLDERS}
    installed = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as environment, hosts.network(folder, 3) as made:
        environment.setenv("PYTHONPATH", installed)
        study = deploy(made, folder, rows, ANALYSIS, policy=POLICY, rules='on_dropout = "continue"')
        for name in ON_OWN_DISK:
            study.host(name).mount(state_of(study, name))
        study.start(START_SECONDS)
        yield study


@pytest.fixture(autouse=True)
def all_there(deployed: Deployed, analyst: Analyst) -> None:
    deployed.wait_until_all_are_met(analyst)


@pytest.fixture(scope="module")
def simulated() -> str:
    """The bits of the network that the same study trains in a simulation."""
    model = network(ROUNDS)
    rows = {name: rows_of(name) for name in HOLDERS}

    async def play() -> Any:
        async with Network(rows, protocol=PairwiseMasking(), holder=DataHolder) as parties:
            return (await parties.run(model, encoding=model.default_encoding)).value

    return "".join(array.tobytes().hex() for array in asyncio.run(play()).arrays.values())


def state_of(deployed: Deployed, name: str) -> Path:
    return deployed.folder / name / "state"


def check_works(analyst: Analyst, simulated: str) -> dict[str, Any]:
    """A run over all holders gives the bits of the simulation."""
    answer = analyst.ask("run")
    assert "error" not in answer, answer
    assert answer["survivors"] == [*HOLDERS]
    assert answer["bits"] == simulated
    return answer


def check_comes_back(deployed: Deployed, analyst: Analyst, simulated: str) -> None:
    """Every run answers, and before long over all holders, who find each other later than the coordinator does."""

    def is_over_all() -> bool:
        answer = analyst.ask("run")
        assert "error" not in answer, answer
        return bool(answer["survivors"] == [*HOLDERS])

    deployed.wait_until_all_are_met(analyst)
    deployed.wait_for(is_over_all)
    check_works(analyst, simulated)


@contextlib.contextmanager
def full(deployed: Deployed, name: str) -> Iterator[None]:
    """Leave no room on the disk of a party's state, for a while."""
    host, state = deployed.host(name), state_of(deployed, name)
    host.fill(state)
    try:
        yield
    finally:
        host.make_room(state)


def test_a_training_has_the_bits_of_the_simulation(analyst: Analyst, simulated: str) -> None:
    assert check_works(analyst, simulated)["rows"] == 120


def test_a_training_goes_on_without_a_holder_that_is_cut_off(
    deployed: Deployed, analyst: Analyst, simulated: str
) -> None:
    undisturbed = check_works(analyst, simulated)["seconds"]
    host = deployed.host("east")
    analyst.begin("run")
    time.sleep(undisturbed / 2)
    host.cut_off()
    try:
        answer = analyst.end()
    finally:
        host.plug_in()
    assert answer["seconds"] < undisturbed + STATED_SECONDS
    if "error" in answer:
        assert answer["error"] in TYPED
    else:
        assert answer["survivors"] == ["north", "south", "west"]
        assert answer["rows"] == 90
    check_comes_back(deployed, analyst, simulated)


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="delays take /dev/net/tun")
@pytest.mark.parametrize(("seconds", "lost"), [(0.1, 0.0), (0.01, 0.02)])
def test_a_network_that_delays_or_loses_changes_no_bit(
    deployed: Deployed, analyst: Analyst, simulated: str, seconds: float, lost: float
) -> None:
    with deployed.host("west").far(seconds, lost):
        answer = check_works(analyst, simulated)
    assert answer["seconds"] > 2 * ROUNDS * seconds  # there and back in every round


def test_a_holder_whose_disk_is_full_is_in_no_sum_until_there_is_room(
    deployed: Deployed, analyst: Analyst, simulated: str
) -> None:
    with full(deployed, "south"):
        answers = [analyst.ask("run") for _ in range(2)]
    for answer in answers:
        if "error" in answer:
            assert answer["error"] in TYPED, answer
            assert "south" in answer["message"]
            assert "its records cannot be read or written" in answer["message"]
        else:
            assert answer["survivors"] == ["north", "east", "west"]
            assert answer["rows"] == 90
    check_comes_back(deployed, analyst, simulated)
    deployed.check_records(analyst)


def test_a_repository_whose_disk_is_full_loses_nothing(
    deployed: Deployed, analyst: Analyst, simulated: str
) -> None:
    check_works(analyst, simulated)
    version = analyst.ask("keep", name="plane")["version"]
    with full(deployed, COORDINATOR):
        answers = [analyst.ask("keep", name="plane"), analyst.ask("run")]
        assert analyst.ask("verify")["verified"]
    for answer in answers:
        assert answer.get("error") == "RecordError", answer
        assert "No space left on device" in answer["message"]
    check_comes_back(deployed, analyst, simulated)
    assert analyst.ask("keep", name="plane")["version"] == version + 1
    assert analyst.ask("verify")["verified"]
    deployed.check_records(analyst)


def clock(folder: Path, seconds: int) -> dict[str, str]:
    """Return what shifts the clock of every process that a command starts."""
    (folder / "sitecustomize.py").write_text(CLOCK.format(seconds=seconds))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}


@contextlib.contextmanager
def shifted(deployed: Deployed, name: str, folder: Path, seconds: int) -> Iterator[None]:
    """Have the clock of a party's machine go wrong, for a while."""
    deployed.leave(name)
    deployed.join(name, **clock(folder, seconds))
    try:
        deployed.wait_for(lambda: deployed.is_ready(name), START_SECONDS)
        yield
    finally:
        deployed.leave(name)
        deployed.join(name)


# Certificates are valid from an hour before they were made.
@pytest.mark.parametrize(("name", "seconds"), [("north", 3600), ("north", -1800), (COORDINATOR, 3600)])
def test_a_clock_that_is_wrong_is_told_at_both_ends_and_changes_no_bit(
    deployed: Deployed, simulated: str, name: str, seconds: int, tmp_path: Path
) -> None:
    other = "east" if name == COORDINATOR else COORDINATOR

    def is_told(by: str, of: str, ahead: int) -> bool:
        told = [event["ahead"] for event in deployed.events(by) if event["event"] == "clocks"]
        return [each[of] for each in told if of in each][-1:] == [pytest.approx(ahead, abs=30)]

    with shifted(deployed, name, tmp_path, seconds):
        deployed.wait_for(
            lambda: is_told(name, other, -seconds) and is_told(other, name, seconds), START_SECONDS
        )
        asking = deployed.analyst()  # Ray's head may be another one
        try:
            deployed.wait_until_all_are_met(asking)
            check_works(asking, simulated)
            deployed.check_records(asking, coordinator_ended=name == COORDINATOR)
        finally:
            asking.close()
