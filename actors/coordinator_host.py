"""The coordinator's process: what a federation asks of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.signing import PartySigner, Signature
from .allocation import give_back_large_blocks
from .computation import Terms
from .coordinator import Coordinator
from .dispatching_host import DispatchingHost
from .events import Event


class CoordinatorCalls:
    """What others call at the process of a coordinator, wherever it comes from."""

    _coordinator: Coordinator
    _weights: tuple[str, NDArray[Any]] | None = None  # of the computation that is about to begin

    async def pin_commitment(self, commitment: bytes) -> None:
        """Pin what stands for the holders, if the coordinator is kept from knowing them."""
        self._coordinator.commitment = commitment

    async def take_weights(
        self, computation: str, form: tuple[str, int], start: int, *slices: NDArray[np.uint8]
    ) -> None:
        """Take in a piece of the weights that a training, given without them, begins with.

        Parameters
        ----------
        computation : str
            As of `compute`.
        form : (str, int)
            Dtype and number of the weights.
        start : int
            At which byte the piece begins.
        *slices : uint8 arrays
            Consecutive bytes.
        """
        if self._weights is None or self._weights[0] != computation:
            dtype, size = form
            self._weights = computation, np.empty(size, dtype=dtype)
        octets = self._weights[1].view(np.uint8)
        for part in slices:
            octets[start : start + len(part)] = part
            start += len(part)

    async def compute(
        self, computation: str, model: Any, definition: bytes, terms: Terms, *_: None
    ) -> AsyncGenerator[Event, None]:
        """Run a model to its end, as `Coordinator.compute` does; yields its events.

        What comes after the terms, Ray waits for: the answers to `take_weights`.
        """
        if self._weights is not None and self._weights[0] == computation:
            model.begin_with(self._weights[1])
            self._weights = None
        running = self._coordinator.compute(computation, model, definition, terms)
        async with contextlib.aclosing(running) as events:
            async for event in events:
                yield event

    async def sign_card(self, card: bytes) -> Signature:
        """Sign the card of a model that is being stored."""
        return PartySigner(self._coordinator.identity).sign(card)

    async def holder_keys(self) -> dict[str, str]:
        """Return the public keys that the coordinator has pinned, of the holders it knows: with these they co-sign."""
        roster = self._coordinator.roster
        return {str(holder): roster[holder].verify_key.hex() for holder in roster.holders}

    async def cancel(self, computation: str) -> None:
        """Break a computation off: its sessions end at every holder, its events with a failure."""
        await self._coordinator.cancel(computation)


class CoordinatorHost(CoordinatorCalls, DispatchingHost):
    """Runs the coordinator.

    Parameters
    ----------
    name, repository
        As of `Coordinator`.
    """

    def __init__(self, name: str, repository: Any) -> None:
        give_back_large_blocks()
        self._coordinator = Coordinator(name, repository)
        super().__init__([self._coordinator])
