"""What the log of a run tells, and what it keeps to itself; the code of the actors, without Ray."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from in_process import Network, Posted
from ray.exceptions import RayActorError
from tacit.actors import run_log
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Event, Failure, Iterated
from tacit.actors.run_log import RunLog
from tacit.models.definition import Definition, State
from tacit.models.errors import ModelError
from tacit.models.total import Arrays, Total
from tacit.protocols.errors import RefusedError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.serialization.session_messages import Query

ROWS = {name: np.arange(size, dtype=np.float64) for name, size in {"a": 5, "b": 7, "c": 9, "d": 11}.items()}


class Halving:
    """A model of three steps: the rows of all holders, halved at each."""

    definition = Definition("Halving")
    expected_passes = 3

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        return {"rows": np.asarray(len(data)) + 0 * query.arrays["number"]}

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | str]:
        for number in range(0 if start is None else start.iteration + 1, 3):
            sums = await total(Query("ask", {"number": np.asarray(number)}))
            yield State(number, np.zeros(1), float(sums["rows"]) / 2**number)
        yield "done"


def logged(scene: Callable[[Network], Any], **options: Any) -> list[dict[str, Any]]:
    """The lines of the one run of a scene."""

    async def play() -> list[dict[str, Any]]:
        async with Network(ROWS, **options) as network:
            await scene(network)
            (lines,) = network.repository.write_run.written.values()
            return lines

    return asyncio.run(play())


def test_fit_is_told_from_beginning_to_end() -> None:
    model = Halving()
    first, *events = logged(lambda network: network.run(model))
    assert first["model"] == "Halving"
    assert first["model_digest"] == model.definition.digest.hex()
    assert (first["protocol"], first["encoding"]) == ("ring-Paillier", None)
    assert "key_bits=256" in first["options"]
    assert first["holders"] == list(ROWS)
    assert [event["event"] for event in events] == ["pass", "iteration"] * 3 + ["result"]
    assert (events[0]["step"], events[0]["holders"], events[0]["released"]) == ("ask", list(ROWS), ["rows"])
    assert [(event["iteration"], event["value"]) for event in events[1::2]] == [
        (0, 32.0),
        (1, 16.0),
        (2, 8.0),
    ]
    assert events[-1]["survivors"] == list(ROWS)
    times = [event["seconds"] for event in events]
    assert times == sorted(times)


def test_lost_holders_are_told() -> None:
    async def scene(network: Network) -> None:
        network.kill("c")
        await asyncio.sleep(0)
        assert await network.sum(len, on_dropout="continue") == 23

    lines = logged(scene, protocol=PairwiseMasking(), holder=DataHolder)
    assert lines[-1]["lost"] == ["c"]


def test_refusal_is_told_without_the_user_s_traceback() -> None:
    def fails(rows: Any) -> float:
        raise ValueError(f"private row {rows[1]}")

    async def scene(network: Network) -> None:
        with pytest.raises(RefusedError, match="private row"):
            await network.sum(fails)

    lines = logged(scene)
    assert lines[-1]["event"] == "failure"
    assert lines[-1]["type"] == "RefusedError"
    assert set(lines[-1]["refusals"].values()) == {"its contribution could not be computed"}
    assert "private" not in json.dumps(lines)
    assert "Traceback" not in json.dumps(lines)


class Nameless(Halving):
    """A model that cannot be told of: the run fails before its log begins."""

    @property
    def noised(self) -> Any:
        raise ModelError("what this model releases cannot be told")


def test_run_that_fails_before_its_log_begins_is_told() -> None:
    async def scene() -> None:
        async with Network(ROWS) as network:
            with pytest.raises(ModelError, match="cannot be told"):
                await network.run(Nameless())

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_run_that_is_cancelled_says_so() -> None:
    async def scene(network: Network) -> None:
        begun = asyncio.Event()

        def hold_back(_: Posted) -> bool:
            begun.set()
            return False

        network.on_frame = hold_back
        running = asyncio.ensure_future(network.sum(len, name="mine"))
        await begun.wait()
        await network.coordinator.cancel("mine")
        with pytest.raises(Exception, match="cancelled"):
            await running

    lines = logged(scene)
    assert [line["event"] for line in lines] == ["begin", "failure"]
    assert lines[1]["message"] == "coordinator ended the session: cancelled"


class Writer:
    """In place of the repository."""

    def __init__(self, error: Exception | None = None) -> None:
        self.write_run = self
        self.written: list[int] = []
        self.error = error

    async def remote(self, run: str, lines: list[Any]) -> None:
        self.written.append(len(lines))
        if self.error is not None:
            raise self.error


def log(writer: Writer) -> RunLog:
    return RunLog(writer, "coordinator", {"model": "Sum"})


def test_long_run_is_written_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "WRITE_SECONDS", 0.001)
    writer = Writer()

    async def play() -> None:
        async with log(writer) as running:
            while writer.written != [1]:  # noqa: ASYNC110 - the writer is the test's, the waiting its point
                await asyncio.sleep(0.001)
            running.note(Iterated(1, math.nan, "first"))
            while writer.written != [1, 2]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    asyncio.run(play())
    assert writer.written == [1, 2, 2]  # nothing new, nothing written, but at the end


def test_run_does_not_fail_for_want_of_its_log(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with log(Writer(RayActorError())):
            pass

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    assert "could not be written: RayActorError" in caplog.text


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Failure(ModelError("no start")), {"type": "ModelError", "message": "no start"}),
        (Failure(ValueError("private row 17")), {"type": "ValueError"}),
        (Iterated(2, math.nan, "round 2"), {"iteration": 2, "value": None, "text": "round 2"}),
    ],
)
def test_line_of_an_event(event: Event, told: dict[str, Any]) -> None:
    writer = Writer()
    running = log(writer)
    running.note(event)
    last = dict(running._lines[-1])
    assert {"event", "seconds"} == last.keys() - told.keys()
    assert told.items() <= last.items()


def test_holders_by_step_follow_a_loss() -> None:
    async def play() -> Any:
        async with Network(ROWS, protocol=PairwiseMasking(), holder=DataHolder) as network:

            class Watched(list[Event]):
                def append(self, event: Event, /) -> None:
                    if isinstance(event, Iterated) and event.iteration == 0:
                        network.kill("c")

            network.events = Watched()
            return await network.run(Halving(), on_dropout="continue")

    result = asyncio.run(play())
    assert (result.lost, result.holders_by_step) == (("c",), (4, 3, 3))
