"""The process of data holders: of one in a deployment, of one or many in a simulation."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from .data_holder import DataHolder
from .host import Host

HOLDERS_ALONE = 10  # so many have a process each; a hundred processes take half a minute and 4 GB to start


class HolderHost(Host):
    """Runs data holders.

    Parameters
    ----------
    names : sequence of str
        Their names in the roster.
    *rows : Any
        The rows of each, in the same order; apart, so that no two holders share an object.
    simulation : bool
        As of `DataHolder`.
    """

    def __init__(self, names: Sequence[str], *rows: Any, simulation: bool) -> None:
        self._holders = [
            DataHolder(name, data, simulation=simulation) for name, data in zip(names, rows, strict=True)
        ]
        super().__init__(self._holders)

    async def install(self, definition: bytes, model: Any) -> None:
        """Have every holder hold a model ready; in a simulation only.

        Raises
        ------
        ProtocolError
            In a deployment, where models come from the holder's side.
        """
        for holder in self._holders:
            await holder.install(definition, model)


def share_out(names: Sequence[str], holders_per_actor: int | None) -> list[Sequence[str]]:
    """Return which holders of a simulation share a process: neighbours in the roster.

    Parameters
    ----------
    names : sequence of str
        The holders, in roster order.
    holders_per_actor : int or None
        At most so many in one process. None gives up to ten holders a process each, and more of them one
        for every core.
    """
    if holders_per_actor is None:
        alone = len(names) <= HOLDERS_ALONE
        holders_per_actor = 1 if alone else math.ceil(len(names) / (os.cpu_count() or 1))
    return [names[first : first + holders_per_actor] for first in range(0, len(names), holders_per_actor)]
