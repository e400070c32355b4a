"""Sums over two aggregators on hosts of their own, one of which ends, freezes or is cut off in the middle."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import hosts
import numpy as np
import pytest
from deployments import STATED_SECONDS, TYPED, Analyst, Deployed, deploy

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),  # Ray takes half a minute to start on six hosts, and on a busy machine more
    pytest.mark.skipif(bool(hosts.obstacle()), reason=hosts.obstacle() or "there can be hosts"),
]

HOLDERS = ("north", "east", "south")
AGGREGATORS = ("first", "second")
ANALYSIS = """\
model = "OLS"
formula = "y ~ x"
data = "rows"
"""
X = np.arange(12)
Y = {name: (X * X + number) % 7 for number, name in enumerate(HOLDERS)}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("study")
    rows = {
        name: "x,y\n" + "".join(f"{x},{y}\n" for x, y in zip(X, Y[name], strict=True)) for name in HOLDERS
    }
    with hosts.network(folder, 7) as network:
        made = deploy(
            network, folder, rows, ANALYSIS, protocol='name = "AdditiveSharing"', aggregators=AGGREGATORS
        )
        made.start()
        yield made


def check_works(analyst: Analyst) -> None:
    answer = analyst.ask("run")
    assert "error" not in answer, answer
    assert answer["survivors"] == [*HOLDERS]
    slope, constant = np.polyfit(np.tile(X, len(HOLDERS)), np.concatenate([*Y.values()]), 1)
    assert answer["params"] == pytest.approx([constant, slope], rel=1e-9)


@pytest.mark.parametrize("happens", ["ends", "freezes", "is cut off"])
def test_an_aggregator_that_is_lost_ends_the_run_and_comes_back(
    happens: str, deployed: Deployed, analyst: Analyst
) -> None:
    """Nothing can be added up without it."""
    host = deployed.host("second")
    begins: dict[str, Callable[[], None]] = {
        "ends": lambda: deployed.send("second", signal.SIGKILL),
        "freezes": lambda: deployed.send("second", signal.SIGSTOP),
        "is cut off": host.cut_off,
    }
    ends: dict[str, Callable[[], None]] = {
        "ends": lambda: None,
        "freezes": lambda: deployed.send("second", signal.SIGCONT),
        "is cut off": host.plug_in,
    }
    check_works(analyst)
    analyst.begin("run")
    time.sleep(0.1)
    begins[happens]()
    try:
        answers = [analyst.end(), analyst.ask("run")]
    finally:
        ends[happens]()
    for answer in answers:
        assert answer["seconds"] < STATED_SECONDS
        assert answer.get("error") in (None, *TYPED), answer
    assert "error" in answers[1] or happens == "ends"  # it may be back by then
    deployed.wait_until_all_are_met(analyst)
    deployed.wait_for(lambda: "error" not in analyst.ask("run"))  # holders may meet it a moment later
    check_works(analyst)
    deployed.check_records(analyst)
