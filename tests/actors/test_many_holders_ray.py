"""Many holders in few processes, on Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import ray
import tacit
from numpy.typing import NDArray

pytestmark = [pytest.mark.ray, pytest.mark.faults]

SHORT = tacit.RingPaillier(key_bits=2048, masks=False)
LONG = 20_000  # 160 kB: beside the header, through shared memory
ROWS = {f"site-{i}": np.full(LONG, float(2**i)) for i in range(12)}


@pytest.fixture(scope="module")
def federation(running_ray: str) -> Iterator[tacit.Federation]:
    with tacit.simulate(ROWS, SHORT, on_dropout="continue", holders_per_actor=6) as federation:
        yield federation


def processes(federation: tacit.Federation) -> dict[str, int]:
    """The number of the process in which each party lives."""
    numbers = {handle: int(ray.get(handle.ping.remote())) for handle in set(federation._parties.values())}
    return {name: numbers[handle] for name, handle in federation._parties.items()}


def first(rows: NDArray[np.float64]) -> float:
    return float(rows[0])


def test_holders_share_processes(federation: tacit.Federation) -> None:
    where = processes(federation)
    hosts = [where.pop("coordinator"), *dict.fromkeys(where.values())]
    assert len(set(hosts)) == 3
    assert list(where.values()) == [hosts[1]] * 6 + [hosts[2]] * 6


def test_sum_is_over_all_holders(federation: tacit.Federation) -> None:
    assert federation.sum(first) == 2.0**12 - 1
    assert federation.ledger[-1]["holders"] == list(ROWS)


def test_public_value_beyond_a_header_reaches_every_holder(federation: tacit.Federation) -> None:
    at = np.arange(LONG, dtype=np.float64)
    assert federation.sum(lambda rows, at: float(rows[-1] + at[-1]), at=at) == 2.0**12 - 1 + 12 * (LONG - 1)


def test_failure_names_the_holder(federation: tacit.Federation) -> None:
    with pytest.raises(tacit.RefusedError, match="site-7 refuses"):
        federation.sum(lambda rows: 1 / int(rows[0] - 2.0**7))


def test_killed_process_loses_all_of_its_holders(federation: tacit.Federation) -> None:
    os.kill(processes(federation)["site-0"], signal.SIGKILL)
    with pytest.warns(tacit.HoldersLostWarning, match="over 6 of 12 holders: site-0, .*, site-5 lost"):
        assert federation.sum(lambda rows: 3.0 * rows[0]) == 3.0 * (2.0**12 - 2.0**6)


def test_thousand_holders_start(running_ray: str) -> None:
    data = {f"site-{i}": i for i in range(1000)}
    with tacit.simulate(data, SHORT) as federation:
        assert len(set(processes(federation).values())) == 1 + min(1000, os.cpu_count() or 1)
