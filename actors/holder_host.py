"""The process of data holders: of one in a deployment, of one or many in a simulation."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..records.errors import RecordError
from ..records.policy import Policy
from ..records.signing import Signature
from .data_holder import DataHolder
from .driver import THREADS
from .host import Host

logger = logging.getLogger(__name__)

HOLDERS_ALONE = 10  # so many have a process each; a hundred processes take half a minute and 4 GB to start


class HolderCalls:
    """What others call at the process of data holders, wherever they come from."""

    _holders: list[DataHolder]

    async def co_sign(self, name: str, card: bytes, signature: Signature) -> Signature | str:
        """Have a holder sign the card of a model, with the coordinator's signature at hand.

        Returns
        -------
        Signature or str
            Why it does not sign, in words without a value of its rows.
        """
        holder = next((one for one in self._holders if one.name == name), None)
        if holder is None:
            return "it does not live here"
        try:
            return holder.co_sign(card, signature)
        except RecordError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a text may hold values
            logger.error("a card could not be looked at: %s", type(error).__name__)
            return "it cannot look at the card"


class HolderHost(HolderCalls, Host):
    """Runs data holders.

    Parameters
    ----------
    names : sequence of str
        Their names in the roster.
    *rows : Any
        The rows of each, in the same order; apart, so that no two holders share an object.
    simulation : bool
        As of `DataHolder`.
    policies : mapping of str to Policy, optional
        What each insists on; who is not named, on nothing.
    threads : int, optional
        As of `Host`.
    """

    def __init__(
        self,
        names: Sequence[str],
        *rows: Any,
        simulation: bool,
        policies: Mapping[str, Policy] = MappingProxyType({}),
        threads: int = THREADS,
    ) -> None:
        self._holders = [
            DataHolder(name, data, simulation=simulation, policy=policies.get(name))
            for name, data in zip(names, rows, strict=True)
        ]
        super().__init__(self._holders, threads)

    async def install(self, definition: bytes, model: Any, over: Sequence[bytes] = ()) -> None:
        """Have every holder hold a model ready, and let go of others; in a simulation only.

        Raises
        ------
        ProtocolError
            In a deployment, where models come from the holder's side.
        """
        for holder in self._holders:
            await holder.install(definition, model)
            for ended in over:
                holder.let_go(ended)


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
