"""The coordinator's process: what a federation asks of it, and its watch over the holders' processes.

A process that dies shows at once, since a call is pending there; one that hangs, when it leaves a ping
without an answer. Either way all of its parties are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..protocols.errors import SetupError
from ..protocols.protocol import Protocol
from ..serialization.schema import Message
from .coordinator import Coordinator
from .errors import cause_of
from .events import Event
from .host import Host
from .transport import Peer

PING_SECONDS = 0.5
SILENCE_SECONDS = 5.0  # longer than a library call that holds the interpreter's lock


class CoordinatorHost(Host):
    """Runs the coordinator.

    Parameters
    ----------
    name, protocol, repository
        As of `Coordinator`.
    """

    def __init__(self, name: str, protocol: Protocol[Any], repository: Any) -> None:
        self._coordinator = Coordinator(name, protocol, repository)
        self._watching: dict[Peer, asyncio.Task[None]] = {}
        super().__init__([self._coordinator])

    async def connect(self, introduced: Sequence[Sequence[bytes]], handles: Sequence[Any]) -> None:
        """Pin the identities, and watch over the others' processes from now on."""
        await super().connect(introduced, handles)
        loop = asyncio.get_running_loop()
        self._watching = {peer: loop.create_task(self._watch(peer)) for peer in self._peers}

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
        await asyncio.gather(
            *(
                self._unless_lost(peer, peer.handle.install.remote(definition, *shared))
                for peer in self._peers
            )
        )

    async def compute(
        self, computation: str, model: Any, definition: bytes, encoding: Message | None, on_dropout: str
    ) -> AsyncGenerator[Event, None]:
        """Run a model to its end, as `Coordinator.compute` does; yields its events."""
        running = self._coordinator.compute(computation, model, definition, encoding, on_dropout)
        async with contextlib.aclosing(running) as events:
            async for event in events:
                yield event

    async def cancel(self, computation: str) -> None:
        """Break a computation off: its sessions end at every holder, its events with a failure."""
        await self._coordinator.cancel(computation)

    async def leave(self) -> None:
        """Break everything off, once what was revealed is on record."""
        for task in self._watching.values():
            task.cancel()
        await super().leave()

    async def _unless_lost(self, peer: Peer, answer: Any) -> None:
        """Wait for a process's answer, or until it is lost: one that hangs never answers."""
        answered = asyncio.ensure_future(_settled(answer))
        await asyncio.wait({answered, self._watching[peer]}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            return
        try:
            answered.result()
        except RayTaskError as error:
            raise _not_installed(peer, error) from None

    async def _watch(self, peer: Peer) -> None:
        """Notice a process that dies (at once) or falls silent."""
        gone = asyncio.ensure_future(_ended(peer.handle))
        try:
            while not gone.done():
                answer = asyncio.ensure_future(_answers(peer.handle))
                await asyncio.wait(
                    {gone, answer}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not answer.done() or not answer.result():
                    answer.cancel()
                    break
                await asyncio.wait({gone}, timeout=PING_SECONDS)
        finally:
            gone.cancel()
        for party in peer.parties:
            self._coordinator.lose(party)


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


async def _ended(handle: Any) -> None:
    """Return when an actor's process is gone."""
    with contextlib.suppress(RayActorError):
        await handle.watch.remote()


async def _answers(handle: Any) -> bool:
    """Whether an actor answers a ping."""
    try:
        await handle.ping.remote()
    except RayActorError:
        return False
    return True
