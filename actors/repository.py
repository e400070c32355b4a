"""The model repository: an actor over a folder, the one writer of results and of every aggregate's record.

It holds no secret, so Ray may start it again when its process dies; what it has stored is on disk, whole.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import ray

from ..models.fit import Fit
from ..records.model_store import ModelStore

REPOSITORY = "the repository"


class ModelRepository:
    """Stores results and the records of aggregates.

    Parameters
    ----------
    folder : str
        Made if it does not exist.
    """

    def __init__(self, folder: str) -> None:
        self._store = ModelStore(folder)

    async def append_aggregate(self, record: dict[str, Any]) -> int:
        """Append the record of one aggregate; repeating a call is harmless."""
        return self._store.append_aggregate(record)

    async def aggregates(self) -> list[dict[str, Any]]:
        """Every record, oldest first."""
        return self._store.aggregates()

    async def save(self, name: str, result: dict[str, Any]) -> int:
        """Save a result as the next version of a name."""
        return self._store.save(name, result)

    async def load(self, name: str, version: int | None) -> dict[str, Any]:
        """Load a version of a result, by default the newest."""
        return self._store.load(name, version)

    async def versions(self, name: str) -> list[int]:
        """Return the versions of a name, oldest first."""
        return self._store.versions(name)

    @ray.method(concurrency_group="control")
    async def ping(self) -> int:
        """Answer at once: the number of this process."""
        return os.getpid()


class Repository:
    """Results by name and version, as a user sees them; made by `Federation.repository`.

    Every method has an asynchronous twin: `asave`, `aload`, `aversions`.
    """

    def __init__(
        self,
        actor: Callable[[], Any],
        get: Callable[[Any, str], Any],
        await_remote: Callable[[Any, str], Awaitable[Any]],
    ) -> None:
        self._actor = actor
        self._get = get
        self._await = await_remote

    def save(self, fit: Fit, name: str) -> int:
        """Save a fit as the next version of a name; returns the version."""
        return int(self._get(self._actor().save.remote(name, fit.to_dict()), REPOSITORY))

    async def asave(self, fit: Fit, name: str) -> int:
        """Save a fit as `save` does: its asynchronous twin."""
        return int(await self._await(self._actor().save.remote(name, fit.to_dict()), REPOSITORY))

    def load(self, name: str, version: int | None = None) -> Fit:
        """Load a fit, by default its newest version, with the same bits as it was saved."""
        return Fit.from_dict(self._get(self._actor().load.remote(name, version), REPOSITORY))

    async def aload(self, name: str, version: int | None = None) -> Fit:
        """Load a fit as `load` does: its asynchronous twin."""
        return Fit.from_dict(await self._await(self._actor().load.remote(name, version), REPOSITORY))

    def versions(self, name: str) -> list[int]:
        """Return the versions of a name, oldest first."""
        return list(self._get(self._actor().versions.remote(name), REPOSITORY))

    async def aversions(self, name: str) -> list[int]:
        """Return the versions of a name as `versions` does: its asynchronous twin."""
        return list(await self._await(self._actor().versions.remote(name), REPOSITORY))
