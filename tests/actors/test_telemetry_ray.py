"""What Ray exports of a party's metrics, scraped from a cluster: what was counted, and nothing else of a study."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import deployed
import pytest
import ray
from deployed import Cluster, until
from tacit.actors import deployed_hosts
from tacit.actors.computation import Terms
from tacit.actors.events import Event, Failure
from tacit.models.regression import GLM
from tacit.protocols.errors import RefusedError
from tacit.protocols.invitation import TOO_FEW_ROWS
from tacit.protocols.pairwise_masking import PairwiseMasking

MISSING = [name for name in ("aiohttp", "opentelemetry", "prometheus_client") if find_spec(name) is None]
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(bool(MISSING), reason=f"metrics take ray[default]: {', '.join(MISSING)} missing"),
]

SCRAPE_SECONDS = 60.0  # Ray exports every ten
ROWS = {
    "north": "count,spray\n7319,canary-a\n2,canary-b\n",
    "east": "count,spray\n3,canary-a\n4,canary-b\n",
    "south": "count,spray\n5,canary-a\n6,canary-b\n",
}


async def ask(cluster: Cluster) -> Event:
    """Ask the study's question; return how that ended."""
    host, asked = cluster.host("coordinator"), GLM("count ~ C(spray)", family="poisson").definition
    await until(lambda: not cluster.lost)
    await host.propose(asked.canonical)
    async for event in host.compute_definition(
        "fit", asked.canonical, Terms(PairwiseMasking(), None, "fail")
    ):
        last: Event = event
    return last


async def sessions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that is answered, and then refused by a holder."""
    async with Cluster(folder, monkeypatch) as cluster:
        for name in ("coordinator", *ROWS):
            await cluster.join(name)
        assert not isinstance(await ask(cluster), Failure)
        await cluster.end("north")
        await until(lambda: cluster.lost)
        await cluster.join("north", policy="minimum_rows = 99")
        refused = await ask(cluster)
        assert isinstance(refused, Failure)
        assert isinstance(refused.error, RefusedError)


def scraped(wanted: str) -> str:
    """Return the lines of Ray's export port, once what is wanted is among them."""
    [node] = ray.nodes()  # type: ignore[no-untyped-call]
    ends = time.monotonic() + SCRAPE_SECONDS
    while True:
        with urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as page:
            found = str(page.read().decode())
        if wanted in found or time.monotonic() > ends:
            return found
        time.sleep(1.0)


def test_sessions_refusals_bytes_and_seconds_are_exported_and_no_value(
    running_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed_hosts, "log_to", lambda folder, party: None)
    monkeypatch.setattr(deployed, "ROWS", ROWS)
    asyncio.run(sessions(tmp_path, monkeypatch))
    page = scraped(f'reason="{TOO_FEW_ROWS}"')
    told = [line for line in page.splitlines() if line.startswith("ray_tacit_")]

    def total(name: str, **tags: str) -> float:
        wanted = [f'{tag}="{value}"' for tag, value in tags.items()]
        found = [
            line for line in told if line.startswith(f"ray_tacit_{name}{{") and all(map(line.count, wanted))
        ]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    for party in ("coordinator", *ROWS):
        released = total("sessions_total", party=party, outcome="released")
        assert released >= 2
        assert total("session_seconds_count", party=party) >= released
        assert total("session_seconds_sum", party=party) > 0
        assert total("bytes_sent_total", party=party) > 1000
    assert total("sessions_total", party="north", outcome="refused", reason=TOO_FEW_ROWS) == 1
    assert total("sessions_total", party="coordinator", outcome="refused") == 1
    for secret in ("canary", "spray"):
        assert secret not in page
    assert not [line for line in told if "7319" in line]
