"""Processes of a deployment in one loop, without Ray: they find each other by name, as they do in a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from studies import PARTIES, study_text, write_identity, write_study
from tacit.actors import deployed_hosts, finding, watching_host
from tacit.actors.deployed_hosts import HOSTS, NOT_THERE, DeployedHost

KINDS = dict(PARTIES)
TITLE = "Insect sprays"
ROWS = {
    "north": "count,spray\n1,A\n2,B\n",
    "east": "count,spray\n3,A\n4,B\n",
    "south": "count,spray\n5,A\n6,B\n",
}
MASKING = 'name = "PairwiseMasking"'
NUMBERS = itertools.count()


def total_count(rows: Any) -> Any:
    """What a study of these tests may ask for."""
    return rows["count"].sum()


def count_above(rows: Any, at: Any) -> int:
    """What may be asked for beside it, at any value."""
    return int((rows["count"] > at).sum())


def party_file(
    folder: Path, name: str, study: str | None = None, *, policy: str = "", rest: str = "", identity: str = ""
) -> Path:
    """Write all that a party has, in a folder of its own; returns its file."""
    kind, own = KINDS[name], folder / name
    own.mkdir(parents=True, exist_ok=True)
    write_study(own, study_text(protocol=MASKING) if study is None else study)
    if not (own / f"{name}.identity").exists():
        write_identity(own, name, kind)
    lines = ['study = "study.toml"', f'party = "{name}"', f'identity = "{name}.identity"', 'state = "state"']
    if kind == "holder":
        (own / "rows.csv").write_text(ROWS[name])
        lines += ["[data.sprays]", 'csv = "rows.csv"']
    path = own / f"{kind}.toml"
    path.write_text("\n".join([*lines, "[policy]", policy, rest]))
    path.chmod(0o644)
    return path


class Handle:
    """A process as others have it: calls fail once it is dead, and wait while it hangs."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self._actor_id = next(NUMBERS)
        self.hangs: set[str] = set()  # the methods that do not answer
        self.dead = False
        self._pending: set[asyncio.Task[Any]] = set()

    def __getattr__(self, method: str) -> Method:
        if method.startswith("_") or not hasattr(self.actor, method):
            raise AttributeError(method)
        return Method(self, method)

    async def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            while method in self.hangs:  # noqa: ASYNC110 - a test takes the method out
                await asyncio.sleep(0.001)
            if not self.dead:
                return await getattr(self.actor, method)(*arguments)
        except asyncio.CancelledError:
            if not self.dead:
                raise
        raise ActorDiedError

    def is_asked(self, method: str) -> bool:
        """Whether a call is under way."""
        return any(task.get_name() == method for task in self._pending)

    def die(self) -> None:
        """End as a process does: what is under way fails, too."""
        self.dead = True
        for task in self._pending:
            task.cancel()


class Method:
    def __init__(self, handle: Handle, name: str) -> None:
        self._handle = handle
        self._name = name

    def options(self, *, num_returns: str) -> Streaming:
        assert num_returns == "streaming"
        return Streaming(self._handle, self._name)

    def remote(self, *arguments: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(self._handle._call(self._name, arguments), name=self._name)
        self._handle._pending.add(task)
        task.add_done_callback(self._handle._pending.discard)
        return task


class Streaming:
    """A method whose answers come one after the other, as references."""

    def __init__(self, handle: Handle, name: str) -> None:
        self._handle = handle
        self._name = name

    async def remote(self, *arguments: Any) -> AsyncIterator[asyncio.Future[Any]]:
        async for answer in getattr(self._handle.actor, self._name)(*arguments):
            while self._name in self._handle.hangs:  # noqa: ASYNC110 - a test takes the method out
                await asyncio.sleep(0.001)
            reference = asyncio.get_running_loop().create_future()
            reference.set_result(answer)
            yield reference


class Repository:
    """Takes what the coordinator has noted."""

    async def append_aggregate(self, record: Mapping[str, Any]) -> int:
        return 1

    async def write_run(self, run: str, lines: list[dict[str, Any]]) -> None:
        pass


class Cluster:
    """Where processes are found by their names; make it with `async with`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.handles: dict[str, Handle] = {finding.REPOSITORY: Handle(Repository())}
        monkeypatch.setattr(finding, "party", self.find)
        monkeypatch.setattr(deployed_hosts, "SEEK_SECONDS", 0.005)
        monkeypatch.setattr(watching_host, "PING_SECONDS", 0.005)

    def find(self, study: str, name: str) -> Handle:
        if study != TITLE or name not in self.handles:
            raise LookupError(name)
        return self.handles[name]

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.handles):
            await self.end(name)

    def make(self, name: str, study: str | None = None, **options: Any) -> DeployedHost:
        """Make a party's process, which can be found from now on, and has not started."""
        host = HOSTS[KINDS[name]](str(party_file(self.folder, name, study, **options)))
        self.handles[name] = Handle(host)
        return host

    async def join(self, name: str, study: str | None = None, **options: Any) -> dict[str, str]:
        """Make a party's process and start it; returns whom it has not met."""
        return await self.make(name, study, **options).start()

    async def end(self, name: str) -> None:
        """End a party's process at once."""
        handle = self.handles.pop(name)
        handle.die()
        if isinstance(handle.actor, DeployedHost):
            for task in handle.actor._keeping:
                task.cancel()
            with contextlib.suppress(Exception):
                await handle.actor.leave()
        await asyncio.sleep(0)

    def host(self, name: str) -> Any:
        return self.handles[name].actor

    def problems(self, name: str) -> dict[str, str]:
        """Whom a party has not met, and why."""
        return dict(self.host(name)._problems)

    async def misses(self, name: str, *others: str) -> None:
        """Wait until a party has met all but others, who are not there."""
        await until(lambda: self.problems(name) == dict.fromkeys(others, NOT_THERE))

    @property
    def lost(self) -> set[str]:
        """Whom the coordinator does not invite."""
        return {str(name) for name in self.host("coordinator")._coordinator.lost}


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    while not condition():  # noqa: ASYNC110 - there is nothing to be added to processes for tests
        await asyncio.sleep(0.001)
