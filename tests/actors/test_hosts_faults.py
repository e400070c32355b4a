"""A training over several hosts, and what happens to machines: far away, or with a wrong clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import pytest
from deployments import COORDINATOR, Analyst, Deployed, deploy
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


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Four holders and a coordinator."""
    folder = tmp_path_factory.mktemp("study")
    rows = {name: rows_of(name).to_csv(index=False) for name in HOLDERS}
    installed = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as environment, hosts.network(folder, 3) as made:
        environment.setenv("PYTHONPATH", installed)
        study = deploy(made, folder, rows, ANALYSIS, policy=POLICY, rules='on_dropout = "continue"')
        study.start(START_SECONDS)
        yield study


@pytest.fixture(scope="module")
def analyst(deployed: Deployed) -> Iterator[Analyst]:
    asking = deployed.analyst()
    yield asking
    asking.process.kill()
    asking.process.communicate()


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


def check_works(analyst: Analyst, simulated: str) -> dict[str, Any]:
    """A run over all holders gives the bits of the simulation."""
    answer = analyst.ask("run")
    assert "error" not in answer, answer
    assert answer["survivors"] == [*HOLDERS]
    assert answer["bits"] == simulated
    return answer


def test_a_training_has_the_bits_of_the_simulation(analyst: Analyst, simulated: str) -> None:
    assert check_works(analyst, simulated)["rows"] == 120


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="delays take /dev/net/tun")
@pytest.mark.parametrize(("seconds", "lost"), [(0.1, 0.0), (0.01, 0.02)])
def test_a_network_that_delays_or_loses_changes_no_bit(
    deployed: Deployed, analyst: Analyst, simulated: str, seconds: float, lost: float
) -> None:
    with deployed.host("west").far(seconds, lost):
        answer = check_works(analyst, simulated)
    assert answer["seconds"] > 2 * ROUNDS * seconds  # there and back in every round


def clock(folder: Path, seconds: int) -> dict[str, str]:
    """Return what shifts the clock of every process that a command starts."""
    (folder / "sitecustomize.py").write_text(CLOCK.format(seconds=seconds))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}


def test_a_clock_that_is_an_hour_ahead_is_told_at_both_ends_and_changes_no_bit(
    deployed: Deployed, analyst: Analyst, simulated: str, tmp_path: Path
) -> None:
    deployed.leave("north")
    deployed.join("north", **clock(tmp_path, 3600))

    def told(by: str, of: str) -> list[int]:
        ahead = [event["ahead"] for event in deployed.events(by) if event["event"] == "clocks"]
        return [each[of] for each in ahead if of in each]

    deployed.wait_for(lambda: bool(told("north", COORDINATOR) and told(COORDINATOR, "north")), START_SECONDS)
    assert told("north", COORDINATOR)[-1] == pytest.approx(-3600, abs=30)
    assert told(COORDINATOR, "north")[-1] == pytest.approx(3600, abs=30)
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst, simulated)
