"""The coordinator's process: what a federation asks of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..protocols.errors import SetupError
from .computation import Terms
from .coordinator import Coordinator
from .errors import cause_of
from .events import Event
from .transport import Peer
from .watching_host import WatchingHost


class CoordinatorHost(WatchingHost):
    """Runs the coordinator.

    Parameters
    ----------
    name, repository
        As of `Coordinator`.
    """

    def __init__(self, name: str, repository: Any) -> None:
        self._coordinator = Coordinator(name, repository)
        super().__init__([self._coordinator])

    async def install(self, definition: bytes, shared: list[Any]) -> None:
        """Have every living holder hold a model ready; in a simulation only.

        Parameters
        ----------
        definition : bytes
            Its content hash.
        shared : list with one ObjectRef
            The model.

        Raises
        ------
        SetupError
            If a holder cannot load it.
        """
        holders = frozenset(self._coordinator.roster.holders)
        await asyncio.gather(
            *(
                self._unless_lost(peer, peer.handle.install.remote(definition, *shared))
                for peer in self._peers
                if holders.intersection(peer.parties)
            )
        )

    async def compute(
        self, computation: str, model: Any, definition: bytes, terms: Terms
    ) -> AsyncGenerator[Event, None]:
        """Run a model to its end, as `Coordinator.compute` does; yields its events."""
        running = self._coordinator.compute(computation, model, definition, terms)
        async with contextlib.aclosing(running) as events:
            async for event in events:
                yield event

    async def cancel(self, computation: str) -> None:
        """Break a computation off: its sessions end at every holder, its events with a failure."""
        await self._coordinator.cancel(computation)

    async def _unless_lost(self, peer: Peer, answer: Any) -> None:
        """Wait for a process's answer, or until it is lost: one that hangs never answers."""
        answered = asyncio.ensure_future(_settled(answer))
        await asyncio.wait({answered, self.watching[peer]}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            return
        try:
            answered.result()
        except RayTaskError as error:
            raise _not_installed(peer, error) from None


def _not_installed(peer: Peer, error: RayTaskError) -> Exception:
    """Return what a user is told of a model that a holder could not take: its own word, or what Python lacks."""
    cause = cause_of(error)
    if cause is not error:
        return cause
    problem = str(getattr(error, "cause", None) or error).partition("\n")[0]
    return SetupError(
        f"{peer.parties[0]} cannot load the model or function ({problem}): define it in the script that calls, "
        "or in a module that the holders' processes can import"
    )


async def _settled(answer: Any) -> None:
    """Wait for a remote call, or for the death of its actor, which is told elsewhere."""
    with contextlib.suppress(RayActorError):
        await answer
