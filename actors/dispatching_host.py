"""The process of the party that holders get their sessions from: the coordinator, or a convener in its place.

In a simulation it also hands them the models.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..protocols.errors import SetupError
from .errors import cause_of
from .transport import Peer
from .watching_host import WatchingHost


class DispatchingHost(WatchingHost):
    """Runs a party that knows the holders' processes."""

    async def install(self, definition: bytes, shared: list[Any], over: Sequence[bytes] = ()) -> None:
        """Have every living holder hold a model ready, and let go of others; in a simulation only.

        Parameters
        ----------
        definition : bytes
            Its content hash.
        shared : list with one ObjectRef
            The model.
        over : sequence of bytes
            The content hashes of models that were installed for computations that are over.

        Raises
        ------
        SetupError
            If a holder cannot load it.
        """
        holders = frozenset(holder for party in self._parties.values() for holder in party.roster.holders)
        with self.loading():
            await asyncio.gather(
                *(
                    self._unless_lost(peer, peer.handle.install.remote(definition, *shared, over))
                    for peer in self._peers.values()
                    if holders.intersection(peer.parties)
                )
            )

    async def _unless_lost(self, peer: Peer, answer: Any) -> Any:
        """Return a process's answer, or None if it is lost: one that hangs never answers."""
        answered = asyncio.ensure_future(_settled(answer))
        await asyncio.wait({answered, self.watching[peer]}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            return None
        try:
            return answered.result()
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


async def _settled(answer: Any) -> Any:
    """Wait for a remote call, or for the death of its actor, which is told elsewhere."""
    with contextlib.suppress(RayActorError):
        return await answer
    return None
