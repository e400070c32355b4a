"""The model repository: an actor over a folder, the one writer of results and of every aggregate's record.

It holds no secret, so Ray may start it again when its process dies; what it has stored is on disk, whole.
"""

from __future__ import annotations

from typing import Any

import ray

from ..records.model_store import ModelStore


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
    async def ping(self) -> str:
        """Answer at once: the folder."""
        return str(self._store.folder)
