"""Waiting for an answer: without limit for who gives signs of life, and not long for who gives none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError
from tacit.actors import heartbeat
from tacit.actors.errors import PeerUnreachableError

HOUR = 3_600
STATED_SECONDS = 10
UNAVAILABLE = ActorUnavailableError("cut off", None)


class Process:
    """A process, and Ray as who waits for it has it, in a time of their own.

    Parameters
    ----------
    owes : int or None
        After how many seconds its answer is there.
    pings : callable
        After how many seconds it answers the ping of a second; None if it does not, or the error with which that fails.
    """

    def __init__(self, owes: int | None, pings: Callable[[int], int | Exception | None]) -> None:
        self.now = 0
        self.n_pings = 0
        self._owes = owes
        self._pings = pings
        self.ping = self

    def remote(self) -> int:
        """Ask for a ping; its reference is the second."""
        self.n_pings += 1
        return self.now

    def wait(self, references: list[Any], *, timeout: float) -> tuple[list[Any], list[Any]]:
        self.now += int(timeout)
        ready = [reference for reference in references if self._is_there(reference)]
        return ready, [reference for reference in references if reference not in ready]

    def get(self, reference: int) -> int:
        answer = self._pings(reference)
        if isinstance(answer, Exception):
            raise answer
        return 17

    def _is_there(self, reference: Any) -> bool:
        if reference == "answer":
            return self._owes is not None and self.now >= self._owes
        answer = self._pings(reference)
        if isinstance(answer, Exception):
            return True
        return answer is not None and self.now >= reference + answer


def waited(process: Process, monkeypatch: pytest.MonkeyPatch) -> int:
    """Wait for what a process owes; return how long it took."""
    monkeypatch.setattr(heartbeat, "ray", process)
    heartbeat.wait("answer", process, "coordinator")
    return process.now


def test_answer_may_take_hours_if_there_are_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited(Process(10 * HOUR, lambda _: 0), monkeypatch) == 10 * HOUR


def test_quick_answer_takes_no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(0, lambda _: 0)
    waited(process, monkeypatch)
    assert process.n_pings == 0


def test_slow_sign_of_life_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library call may hold the interpreter's lock."""
    assert waited(Process(HOUR, lambda _: 5), monkeypatch) == HOUR


@pytest.mark.parametrize("sign", [None, UNAVAILABLE], ids=["frozen", "cut off"])
@pytest.mark.parametrize("falls_silent", [0, 1, 2, 100])
def test_silence_is_told_in_time_with_the_party_and_the_remedy(
    falls_silent: int, sign: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(None, lambda second: 0 if second < falls_silent else sign)
    with pytest.raises(PeerUnreachableError, match=r"coordinator.*frozen or cut off: look there"):
        waited(process, monkeypatch)
    assert falls_silent < process.now < falls_silent + STATED_SECONDS


def test_short_silence_is_borne_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(HOUR, lambda second: UNAVAILABLE if second % 10 > 5 else 0)
    assert waited(process, monkeypatch) == HOUR


# The asynchronous twin


class Living:
    """A process in the test's own loop."""

    def __init__(self) -> None:
        self.silent = False
        self.fails = False
        self.pings = 0
        self.ping = self

    async def remote(self) -> int:
        self.pings += 1
        if self.fails:
            raise UNAVAILABLE
        if self.silent:
            await asyncio.Event().wait()
        return 17


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    monkeypatch.setattr(heartbeat, "PULSE_SECONDS", 0.001)
    with asyncio.Runner() as runner:
        yield runner


def test_answer_is_awaited_as_long_as_there_are_signs_of_life(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        process = Living()
        assert await heartbeat.awaited(late(process), process, "coordinator") == "late"

    async def late(process: Living) -> str:
        while process.pings < 10 * heartbeat.SILENT_PULSES:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return "late"

    loop.run(scene())


@pytest.mark.parametrize("how", ["silent", "fails"])
def test_silence_ends_the_waiting(how: str, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        process = Living()
        setattr(process, how, True)
        with pytest.raises(PeerUnreachableError, match="frozen or cut off"):
            await heartbeat.awaited(asyncio.Event().wait(), process, "coordinator")

    loop.run(scene())
    assert not asyncio.all_tasks(loop.get_loop())


def test_failure_of_an_answer_is_its_own(loop: asyncio.Runner) -> None:
    async def failing() -> None:
        raise ValueError

    async def scene() -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            await heartbeat.awaited(failing(), Living(), "coordinator")

    loop.run(scene())


def test_stream_that_falls_silent_in_the_middle_is_told(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        process = Living()

        async def stream() -> Any:
            yield "first"
            process.silent = True
            await asyncio.Event().wait()

        heard = heartbeat.Heard(stream(), process, "coordinator")
        assert await anext(heard) == "first"
        with pytest.raises(PeerUnreachableError):
            await anext(heard)

    loop.run(scene())


def test_stream_ends_as_it_does(loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stream() -> Any:
        yield 1
        yield 2

    async def scene() -> list[int]:
        return [reference async for reference in heartbeat.Heard(stream(), Living(), "coordinator")]

    assert loop.run(scene()) == [1, 2]
    monkeypatch.setattr(
        heartbeat, "ray", type("Ray", (), {"wait": lambda waitables, timeout: (waitables, [])})
    )
    assert list(heartbeat.Heard(iter([1, 2]), Living(), "coordinator")) == [1, 2]
