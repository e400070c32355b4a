"""Waiting for a process of Ray: as long as it lives, and not when it is frozen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import ray
from tacit.actors import heartbeat
from tacit.actors.errors import PeerUnreachableError

pytestmark = pytest.mark.ray


def made() -> Any:
    """Start a process that has a stream of answers, the first at once and the second later."""

    class Slow:
        @ray.method(concurrency_group="control")
        async def ping(self) -> int:
            return os.getpid()

        async def stream(self, seconds: float) -> AsyncIterator[str]:
            yield "first"
            await asyncio.sleep(seconds)
            yield "second"

    options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {"control": 8}}
    return ray.remote(**options)(Slow).remote()


@pytest.fixture(scope="module")
def process(running_ray: str) -> Iterator[Any]:
    handle = made()
    yield handle
    ray.kill(handle)


def stream(process: Any, seconds: float) -> heartbeat.Heard:
    """Ask for answers; the first of them is waited for with patience, since the process may be starting."""
    ray.get(process.ping.remote())
    found = process.stream.options(num_returns="streaming").remote(seconds)
    return heartbeat.Heard(found, process, "coordinator")


async def all_of(heard: heartbeat.Heard) -> list[str]:
    return [await reference async for reference in heard]


def test_stream_is_heard_to_its_end_however_long_it_takes(
    process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SILENT_PULSES", 3)  # it takes longer than that
    assert [ray.get(reference) for reference in stream(process, 4.0)] == ["first", "second"]
    assert asyncio.run(all_of(stream(process, 4.0))) == ["first", "second"]


@pytest.mark.parametrize("asynchronously", [False, True])
def test_process_that_is_frozen_is_told_and_asked_again_when_it_has_thawed(
    asynchronously: bool, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ray.get(process.ping.remote())
    with monkeypatch.context() as impatient:
        impatient.setattr(heartbeat, "PULSE_SECONDS", 0.1)
        heard = stream(process, 3_600.0)
        ray.get(next(heard))
        os.kill(number, signal.SIGSTOP)
        try:
            with pytest.raises(PeerUnreachableError, match="frozen or cut off"):
                asyncio.run(all_of(heard)) if asynchronously else next(heard)
        finally:
            os.kill(number, signal.SIGCONT)
    assert [ray.get(reference) for reference in stream(process, 0.0)] == ["first", "second"]
