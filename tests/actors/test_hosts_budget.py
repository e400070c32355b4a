"""A budget of privacy over hosts: whatever happens to a holder, what it has released is charged, and no more is."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import hosts
import numpy as np
import pandas as pd
import pytest
from deployments import STATED_SECONDS, TYPED, Analyst, Deployed, deploy
from tacit.protocols.invitation import BUDGET_SPENT
from tacit.records.audit import read_chain
from tacit.records.chained_file import ChainedFile

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),  # Ray takes half a minute to start on several hosts, and on a busy machine more
    pytest.mark.skipif(bool(hosts.obstacle()), reason=hosts.obstacle() or "there can be hosts"),
]

HOLDERS = ("north", "east", "south", "west")
ANALYSIS = """\
model = "OLS"
formula = "y ~ x"
data = "rows"
[analysis.privacy]
epsilon = 1.0
delta = 1e-6
clip = 2.0
dropouts = 1
"""
BUDGET = "epsilon = 2.5\ndelta = 1e-5"
MOST_RUNS = 12


def rows_of(number: int) -> str:
    x = np.random.default_rng(number).uniform(-1, 1, 200)
    return pd.DataFrame({"x": x, "y": (x + np.roll(x, 1)) / 2}).to_csv(index=False)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("study")
    rows = {name: rows_of(number) for number, name in enumerate(HOLDERS)}
    with hosts.network(folder, 5) as network:
        made = deploy(network, folder, rows, ANALYSIS, policy=BUDGET, rules='on_dropout = "continue"')
        (folder / "coordinator" / "party.toml").write_text(
            (folder / "coordinator" / "party.toml").read_text().replace(BUDGET, "")
        )
        made.start()
        yield made


def charged(deployed: Deployed, name: str) -> list[str]:
    """Sessions that a holder has charged, oldest first."""
    files = (deployed.folder / name / "state").glob("*.budget")  # none before the first charge
    return [str(line["purpose"]) for file in files for line in ChainedFile(file, "the budget").read()[0][1:]]


def released(deployed: Deployed, name: str) -> list[str]:
    """Sessions of which a holder may have released something, as its ledger says."""
    chain = read_chain(deployed.folder / name / "state" / "ledger")
    assert not chain.faults
    return [session for session, told in chain.sessions.items() if told["intended"]]


def check_charges(deployed: Deployed) -> None:
    for name in HOLDERS:
        charges = charged(deployed, name)
        assert set(released(deployed, name)) <= set(charges), name
        assert len(set(charges)) == len(charges), name  # once each


def test_what_a_killed_holder_has_released_is_charged_and_a_spent_budget_stays_spent(
    deployed: Deployed, analyst: Analyst
) -> None:
    answers: list[dict[str, Any]] = [analyst.ask("run")]
    assert "error" not in answers[0], answers
    check_charges(deployed)
    while BUDGET_SPENT not in answers[-1].get("message", ""):
        assert len(answers) < MOST_RUNS, answers
        before = {"west": deployed.times_ready("west")}
        analyst.begin("run")
        time.sleep(0.05 * (len(answers) - 1))
        deployed.send("west", signal.SIGKILL)  # at another moment of each run
        answers.append(analyst.end())
        assert answers[-1]["seconds"] < STATED_SECONDS
        assert answers[-1].get("error", "RefusedError") in TYPED, answers
        deployed.wait_until_ready_again(before)
        deployed.wait_until_all_are_met(analyst)
        check_charges(deployed)
    spent = {name: charged(deployed, name) for name in HOLDERS}
    before = {name: deployed.times_ready(name) for name in HOLDERS}
    for name in HOLDERS:
        deployed.send(name, signal.SIGKILL)
    deployed.wait_until_ready_again(before)
    deployed.wait_until_all_are_met(analyst)
    again = analyst.ask("run")
    assert (again["error"], BUDGET_SPENT in again["message"]) == ("RefusedError", True), again
    for name in HOLDERS:
        assert charged(deployed, name)[: len(spent[name])] == spent[name]
        assert (
            name == "west" or charged(deployed, name) == spent[name]
        )  # which may have had room for one more
    deployed.check_records(analyst)
