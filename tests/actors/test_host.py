"""Hosts of many holders, as they run in actors, in one loop and without Ray."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pytest
from in_process import SMALL, Repository, ShortKeys, definition_of
from ray.exceptions import ActorDiedError
from tacit.actors import holder_host, watching_host
from tacit.actors.computation import Terms
from tacit.actors.coordinator import Coordinator
from tacit.actors.coordinator_host import CoordinatorHost
from tacit.actors.data_holder import DataHolder
from tacit.actors.driver import THREADS
from tacit.actors.errors import ActorError
from tacit.actors.events import Failure, Result
from tacit.actors.holder_host import HolderHost, share_out
from tacit.actors.host import Host
from tacit.actors.transport import Answer
from tacit.models.sum import Sum
from tacit.protocols.errors import AbortedError, DropoutError, SetupError
from tacit.protocols.party import COORDINATOR, PartyId
from tacit.serialization.codec import Frame, decode, encode
from tacit.serialization.link_messages import Sealed
from tacit.serialization.session_messages import Finished

ROWS = {name: 10.0**place for place, name in enumerate("abcdefgh")}
HALVES = [list("abcd"), list("efgh")]
AT_ONCE = (0, list[int](), False, False)  # a call of the coordinator that waits for no answer


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def short_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder_host, "DataHolder", ShortKeys)


class Handle:
    """A host as other processes have it: calls are noted, and fail once it is dead."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: list[Answer] = []
        self.hangs = False
        self._pending: set[asyncio.Task[Any]] = set()
        self._dead = False

    def __getattr__(self, method: str) -> Method:
        return Method(self, method)

    def call(self, method: str, arguments: tuple[Any, ...]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(self._call(method, arguments))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self.calls.append((method, arguments))
        try:
            if self.hangs:
                await asyncio.Event().wait()
            if not self._dead:
                answer = await getattr(self.host, method)(*arguments)
                if method == "deliver" and answer is not None:
                    self.answers.append(answer)
                return answer
        except asyncio.CancelledError:
            if not self._dead:
                raise
        raise ActorDiedError

    def die(self) -> None:
        """End as a process does: what is under way fails, too."""
        self._dead = True
        for party in self.host._parties.values():
            party.driver._closed = True
        for task in self._pending:
            task.cancel()

    @property
    def delivered(self) -> list[list[tuple[str, bytes]]]:
        return [arguments[1] for method, arguments in self.calls if method == "deliver"]


class Method:
    def __init__(self, handle: Handle, name: str) -> None:
        self._handle = handle
        self._name = name

    def remote(self, *arguments: Any) -> asyncio.Task[Any]:
        return self._handle.call(self._name, arguments)


class Processes:
    """A coordinator's host and holders' hosts, connected; make it with `async with`."""

    def __init__(self, groups: list[list[str]], rows: Mapping[str, Any] = ROWS) -> None:
        self.coordinator = Handle(CoordinatorHost(COORDINATOR, Repository()))
        self.holders = [
            Handle(HolderHost(names, *(rows[name] for name in names), simulation=True)) for names in groups
        ]
        self.all = [self.coordinator, *self.holders]

    async def __aenter__(self) -> Processes:
        introduced = [await handle.host.introduce() for handle in self.all]
        for handle in self.all:
            await handle.host.connect(introduced, self.all)
        return self

    async def __aexit__(self, *_: object) -> None:
        for handle in self.all:
            await handle.host.leave()
            handle.die()
        await asyncio.sleep(0)

    @property
    def lost(self) -> set[PartyId]:
        party = self.coordinator.host._parties[PartyId(COORDINATOR)]
        assert isinstance(party, Coordinator)
        return party.lost

    async def sum(self, function: Any, *, on_dropout: Literal["fail", "continue"] = "fail") -> Result:
        host, model = self.coordinator.host, Sum(function)
        definition = definition_of(model)
        assert isinstance(host, CoordinatorHost)
        await host.install(definition, [model])
        async for event in host.compute("sum", model, definition, Terms(SMALL, None, on_dropout)):
            if isinstance(event, Failure):
                raise event.error
            if isinstance(event, Result):
                return event
        raise AssertionError("the events end without a result")


def driver_of(handle: Handle, name: str) -> Any:
    return handle.host._parties[PartyId(name)].driver


# Models


def test_models_of_computations_that_are_over_are_let_go(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes([["a", "b"]]) as processes:
            host, [handle] = processes.coordinator.host, processes.holders
            assert isinstance(host, CoordinatorHost)
            holders = [party for party in handle.host._parties.values() if isinstance(party, DataHolder)]

            async def held(model: Any, *over: bytes) -> list[list[bytes]]:
                """What each holder holds after another model was installed."""
                await host.install(definition_of(model), [model], over)
                return [list(holder._models) for holder in holders]

            first, second, third = models = [Sum(len), Sum(max), Sum(min)]
            one, two, three = map(definition_of, models)
            assert await held(first) == [[one]] * 2
            assert await held(first, one) == [[one]] * 2  # for another computation
            assert await held(second) == [[one, two]] * 2
            assert await held(second, one, two) == [[two]] * 2
            assert await held(third, two) == [[three]] * 2

    loop.run(scene())


# Sums


@pytest.mark.parametrize("per_host", [1, 2, 3, 8])
def test_sum_does_not_depend_on_who_shares_a_process(loop: asyncio.Runner, per_host: int) -> None:
    async def scene() -> None:
        groups = [list(names) for names in share_out(list(ROWS), per_host)]
        async with Processes(groups) as processes:
            result = await processes.sum(lambda rows: rows)
            assert (result.value, result.survivors) == (11_111_111.0, tuple(ROWS))

    loop.run(scene())


def test_only_frames_between_processes_are_calls(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            await processes.sum(lambda rows: rows)
            for handle, names in zip(processes.holders, HALVES, strict=True):
                sealed = [decode(Frame(header)) for frames in handle.delivered for _, header in frames]
                senders = {frame.sender for frame in sealed if isinstance(frame, Sealed)}
                assert COORDINATOR in senders
                assert senders.isdisjoint(names)

    loop.run(scene())


def test_broadcast_is_one_call_a_process(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            await processes.sum(lambda rows: rows)
            answers = [frames for _, frames in processes.coordinator.answers]
            for handle, names in zip(processes.holders, HALVES, strict=True):
                carried: list[Any] = [*handle.delivered, *answers]
                bundles = [[to for to, *_ in frames] for frames in carried]
                assert bundles[0] == names  # invitations
                assert bundles.count(names) == 3  # beginnings and farewells, too

    loop.run(scene())


def test_holders_of_one_process_hand_each_other_sealed_frames(
    loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Sealed] = []
    take = Host._take

    def noting(self: Host, to: PartyId, frame: Frame) -> None:
        sealed = decode(frame)
        assert isinstance(sealed, Sealed)
        taken.append(sealed)
        take(self, to, frame)

    monkeypatch.setattr(Host, "_take", noting)

    async def scene() -> None:
        async with Processes([list("abc")]) as processes:
            assert (await processes.sum(lambda rows: rows)).value == 111.0

    loop.run(scene())
    hops = [sealed for sealed in taken if COORDINATOR not in (sealed.sender, sealed.recipient)]
    assert len(hops) == 2
    assert {sealed.sender for sealed in hops} < set("abc")


def test_model_comes_into_a_process_once(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            await processes.sum(lambda rows: rows)
            for handle in processes.holders:
                assert Counter(method for method, _ in handle.calls)["install"] == 1

    loop.run(scene())


def test_holders_share_a_few_threads(loop: asyncio.Runner) -> None:
    names = [f"site-{i}" for i in range(30)]
    before = threading.active_count()

    async def scene() -> None:
        async with Processes([names], dict.fromkeys(names, 1)) as processes:
            assert (await processes.sum(lambda rows: rows)).value == 30
            assert threading.active_count() - before <= 2 * THREADS  # the host's and the coordinator's

    loop.run(scene())


# Faults


def test_process_that_dies_loses_all_of_its_holders(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            await processes.sum(lambda rows: rows)
            processes.holders[0].die()
            with pytest.raises(DropoutError) as caught:
                await processes.sum(lambda rows: 2 * rows)
            assert caught.value.missing == tuple("abcd")
            result = await processes.sum(lambda rows: 2 * rows, on_dropout="continue")
            assert (result.value, result.survivors) == (2 * 11_110_000.0, tuple("efgh"))

    loop.run(scene())


def test_process_that_dies_in_a_sum_loses_all_of_its_holders(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            running = asyncio.get_running_loop()

            def dying(rows: float) -> float:
                if rows == ROWS["b"]:
                    running.call_soon_threadsafe(processes.holders[0].die)
                return rows

            result = await processes.sum(dying, on_dropout="continue")
            assert (result.value, result.lost) == (11_110_000.0, tuple("abcd"))

    loop.run(scene())


def test_process_that_hangs_is_lost(loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        with monkeypatch.context() as impatient:
            impatient.setattr(watching_host, "SILENCE_SECONDS", 0.2)
            impatient.setattr(watching_host, "PING_SECONDS", 0.001)
            async with Processes(HALVES) as processes:
                processes.holders[1].hangs = True
                while not processes.lost:  # noqa: ASYNC110 - told to nobody while nothing runs
                    await asyncio.sleep(0.01)
                assert processes.lost == set("efgh")

    loop.run(scene())


def test_watch_over_a_process_leaves_no_call_behind(
    loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call ends for itself, and who watches makes the next."""
    monkeypatch.setattr("tacit.actors.host.WATCH_SECONDS", 0.001)

    async def scene() -> None:
        async with Processes(HALVES) as processes:
            first = processes.holders[0]
            while sum(method == "watch" for method, _ in first.calls) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert not processes.lost

    loop.run(scene())


def test_process_that_loads_a_model_may_be_silent_for_longer(
    loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        with monkeypatch.context() as impatient:
            impatient.setattr(watching_host, "SILENCE_SECONDS", 0.002)
            impatient.setattr(watching_host, "PING_SECONDS", 0.001)
            async with Processes(HALVES) as processes:
                host = processes.coordinator.host
                assert isinstance(host, watching_host.WatchingHost)
                with host.loading():
                    processes.holders[1].hangs = True
                    for _ in range(20):
                        await asyncio.sleep(0.001)
                    assert not processes.lost
                while not processes.lost:  # noqa: ASYNC110 - told to nobody while nothing runs
                    await asyncio.sleep(0.001)

    loop.run(scene())


def test_frame_that_cannot_be_taken_in_stops_no_other(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes([list("abc")]) as processes:
            [handle] = processes.holders
            await handle.host.deliver(AT_ONCE, [("nobody", b"1"), ("a", b"2"), ("b", b"3")])
            assert [driver_of(handle, name).refused_frames for name in "abc"] == [1, 1, 0]

    loop.run(scene())


def test_frame_for_another_party_of_the_process_is_refused(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes([list("abc")]) as processes:
            [handle] = processes.holders
            await processes.sum(lambda rows: rows)
            _, header = handle.delivered[0][0]  # the invitation to a
            await handle.host.deliver(AT_ONCE, [("b", header)])
            assert driver_of(handle, "b").refused_frames == 1

    loop.run(scene())


# Its life


def test_host_is_connected_once(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            introduced = [await handle.host.introduce() for handle in processes.all]
            with pytest.raises(ActorError, match="pinned once"):
                await processes.holders[0].host.connect(introduced, processes.all)

    loop.run(scene())


def test_host_is_introduced_to_identities_only(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        host = HolderHost("abc", 1, 2, 3, simulation=True)
        other = encode(Finished(session=bytes(32), released=True)).header
        with pytest.raises(SetupError, match="no identity"):
            await host.connect([[other], await host.introduce()], [None, None])

    loop.run(scene())


def test_host_that_leaves_ends_the_sessions_of_all_its_parties(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Processes(HALVES) as processes:
            first, _ = processes.holders
            running = asyncio.get_running_loop()

            def leaving(rows: float) -> float:
                if rows == ROWS["b"]:
                    asyncio.run_coroutine_threadsafe(first.host.leave(), running).result()
                return rows

            with pytest.raises(AbortedError, match="closed"):
                await processes.sum(leaving)
            assert all(not driver_of(first, name)._running for name in "abcd")

    loop.run(scene())


def test_host_that_was_never_connected_leaves_quietly(loop: asyncio.Runner) -> None:
    loop.run(HolderHost("a", 1, simulation=True).leave())


def test_rows_are_no_fewer_than_the_holders() -> None:
    with pytest.raises(ValueError, match="shorter"):
        HolderHost("ab", 1, simulation=True)


# Who shares a process


@pytest.mark.parametrize(
    ("n_holders", "holders_per_actor", "sizes"),
    [
        (3, None, [1] * 3),
        (10, None, [1] * 10),
        (11, None, [3, 3, 3, 2]),
        (1000, None, [250] * 4),
        (11, 1, [1] * 11),
        (5, 2, [2, 2, 1]),
        (5, 5, [5]),
        (5, 100, [5]),
    ],
)
def test_holders_share_processes(
    n_holders: int, holders_per_actor: int | None, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    names = [f"site-{i}" for i in range(n_holders)]
    groups = share_out(names, holders_per_actor)
    assert [len(group) for group in groups] == sizes
    assert [name for group in groups for name in group] == names


def test_arrays_are_the_rows_of_their_holder(loop: asyncio.Runner) -> None:
    rows = {name: np.arange(place, dtype=np.int64) for place, name in enumerate("abcd", start=1)}

    async def scene() -> None:
        async with Processes([list("ab"), list("cd")], rows) as processes:
            assert (await processes.sum(len)).value == 10

    loop.run(scene())
