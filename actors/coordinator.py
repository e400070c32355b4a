"""The coordinator: opens sessions, drives a model's iteration over their totals, and notes what was revealed.

It learns the total of every pass and nothing else. Whoever holds its handle may ask it for a computation;
progress and result come back as a stream of events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..protocols.errors import AbortedError, SetupError
from ..protocols.party import PartyId
from ..protocols.protocol import Protocol
from ..serialization.schema import Message
from .computation import Computation
from .errors import PeerUnreachableError, cause_of
from .events import Event, Failure, Result
from .party import Party

PING_SECONDS = 0.5
SILENCE_SECONDS = 5.0  # longer than a library call that holds the interpreter's lock


class Coordinator(Party):
    """The one coordinator.

    Parameters
    ----------
    name : str
        Its name in the roster.
    protocol : Protocol
        Options; the same for every session.
    repository : actor handle
        Where the record of every aggregate goes.
    """

    kind = "coordinator"

    def __init__(self, name: str, protocol: Protocol[Any], repository: Any) -> None:
        super().__init__(name)
        self.protocol = protocol
        self.repository = repository
        self.memory = protocol.memory()
        self.handles: Mapping[str, Any] = {}
        self.lost: set[PartyId] = set()
        self.summed: set[PartyId] = set()  # holders whose contributions are in some total that was revealed
        self._watching: dict[PartyId, asyncio.Task[None]] = {}
        self._computations: dict[str, asyncio.Task[None]] = {}
        self._records: set[asyncio.Task[None]] = set()
        self._recording = asyncio.Lock()  # so that records keep the order of the sums

    async def connect(self, parties: list[bytes], handles: Mapping[str, Any]) -> None:
        """Pin the identities, and watch over the holders from now on."""
        await super().connect(parties, handles)
        self.handles = handles
        loop = asyncio.get_running_loop()
        self._watching = {holder: loop.create_task(self._watch(holder)) for holder in self.roster.holders}

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
                self._unless_lost(holder, self.handles[holder].install.remote(definition, *shared))
                for holder in self.roster.holders
            )
        )

    async def _unless_lost(self, holder: PartyId, answer: Any) -> None:
        """Wait for a holder's answer, or until it is lost: one that hangs never answers."""
        answered = asyncio.ensure_future(_settled(answer))
        await asyncio.wait({answered, self._watching[holder]}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            return
        try:
            answered.result()
        except RayTaskError as error:
            raise _not_installed(holder, error) from None

    async def compute(
        self, computation: str, model: Any, definition: bytes, encoding: Message | None, on_dropout: str
    ) -> AsyncGenerator[Event, None]:
        """Run a model to its end; yields events, the last of them a `Result` or a `Failure`.

        Parameters
        ----------
        computation : str
            A name for `cancel`.
        model : Model
            Whose `iterate` runs here.
        definition : bytes
            The content hash under which holders know the model.
        encoding : Message or None
            How numbers become integers; None is the default.
        on_dropout : {"fail", "continue"}
            What to do when a holder is lost.
        """
        events: asyncio.Queue[Event] = asyncio.Queue()
        work = Computation(self, definition, encoding, on_dropout, events)
        task = asyncio.get_running_loop().create_task(work.run(model))
        task.add_done_callback(partial(_tell_cancelled, self.name, events))
        self._computations[computation] = task
        try:
            while True:
                event = await events.get()
                yield event
                if isinstance(event, Result | Failure):
                    return
        finally:
            task.cancel()
            self._computations.pop(computation, None)

    async def cancel(self, computation: str) -> None:
        """Break a computation off: its sessions end at every holder, its events with a failure."""
        task = self._computations.get(computation)
        if task is not None:
            task.cancel()

    async def leave(self) -> None:
        """Break everything off, once what was revealed is on record."""
        for task in [*self._computations.values(), *self._watching.values()]:
            task.cancel()
        await super().leave()
        await asyncio.gather(*self._records, return_exceptions=True)

    def record(self, revealed: dict[str, Any]) -> asyncio.Task[None]:
        """Have the repository note what was revealed; a task that outlives the computation."""
        task = asyncio.get_running_loop().create_task(self._append(revealed))
        self._records.add(task)
        task.add_done_callback(self._records.discard)
        return task

    async def _append(self, revealed: dict[str, Any]) -> None:
        try:
            async with self._recording:
                await self.repository.append_aggregate.remote(revealed)
        except RayActorError:
            raise PeerUnreachableError("the repository") from None
        except RayTaskError as error:
            raise cause_of(error) from None

    def _peer_lost(self, party: PartyId) -> None:
        self.lost.add(party)
        super()._peer_lost(party)

    async def _watch(self, holder: PartyId) -> None:
        """Notice a holder whose process dies (at once) or falls silent."""
        handle = self.handles[holder]
        gone = asyncio.ensure_future(_ended(handle))
        try:
            while not gone.done():
                answer = asyncio.ensure_future(_answers(handle))
                await asyncio.wait(
                    {gone, answer}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not answer.done() or not answer.result():
                    answer.cancel()
                    break
                await asyncio.wait({gone}, timeout=PING_SECONDS)
        finally:
            gone.cancel()
        self._peer_lost(holder)


def _tell_cancelled(party: PartyId, events: asyncio.Queue[Event], task: asyncio.Task[None]) -> None:
    """End the stream of events of a computation that was broken off: whoever waits must not wait for ever."""
    if task.cancelled():
        events.put_nowait(Failure(AbortedError(party=party, reason="cancelled")))


def _not_installed(holder: PartyId, error: RayTaskError) -> Exception:
    """Return what a user is told of a model that a holder could not take: its own word, or what Python lacks."""
    cause = cause_of(error)
    if cause is not error:
        return cause
    problem = str(getattr(error, "cause", None) or error).partition("\n")[0]
    return SetupError(
        f"{holder} cannot load the model or function ({problem}): define it in the script that calls, "
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
