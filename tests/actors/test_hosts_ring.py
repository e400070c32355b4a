"""A ring over several hosts, where each holder sends to the next: two of them cannot reach each other."""

from __future__ import annotations

from collections.abc import Iterator

import hosts
import pytest
from deployments import STATED_SECONDS, TYPED, Analyst, Deployed, deploy

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),  # Ray takes half a minute to start on five hosts, and on a busy machine more
    pytest.mark.skipif(bool(hosts.obstacle()), reason=hosts.obstacle() or "there can be hosts"),
]

HOLDERS = ("north", "east", "south", "west")
ANALYSIS = """\
model = "OLS"
formula = "y ~ x"
data = "rows"
"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("study")
    rows = {
        name: "x,y\n" + "".join(f"{x},{(x * x + number) % 7}\n" for x in range(12))
        for number, name in enumerate(HOLDERS)
    }
    with hosts.network(folder, 6) as network:
        made = deploy(
            network,
            folder,
            rows,
            ANALYSIS,
            protocol='name = "RingPaillier"\nkey_bits = 2048',
            policy="set_changes = 100",
            rules='on_dropout = "continue"',
        )
        made.start()
        yield made


def check_works(analyst: Analyst) -> None:
    answer = analyst.ask("run")
    assert "error" not in answer, answer
    assert answer["survivors"] == [*HOLDERS]


def test_two_holders_who_cannot_reach_each_other_are_told_and_the_ring_closes_again(
    deployed: Deployed, analyst: Analyst
) -> None:
    """The coordinator reaches both: it cannot know."""
    check_works(analyst)
    north, south = deployed.host("north"), deployed.host("south")
    north.shun(south)
    try:
        answers = [analyst.ask("run") for _ in range(4)]
    finally:
        north.admit(south)
    for answer in answers:  # in some orders of the ring they are no neighbours
        assert answer["seconds"] < STATED_SECONDS
        if "error" not in answer:
            assert answer["survivors"] == [*HOLDERS]
            continue
        assert answer["error"] in TYPED, answer
    told = [answer["message"] for answer in answers if "error" in answer]
    assert any("it has lost north" in message or "it has lost south" in message for message in told), told

    def have_met() -> bool:
        told = [[e for e in deployed.events(name) if "not_met" in e][-1] for name in ("north", "south")]
        return not any(last["not_met"] for last in told)

    deployed.wait_for(have_met)
    for _ in range(3):
        check_works(analyst)
    deployed.check_records(analyst)
