"""The coordinator: opens sessions, drives a model's iteration over their totals, and notes what was revealed.

It learns the total of every pass and nothing else. Whoever holds its handle may ask it for a computation;
progress and result come back as a stream of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..protocols.errors import AbortedError, SetupError
from ..protocols.key_agreement import Identity
from ..protocols.party import PartyId
from ..protocols.protocol import Protocol
from ..records.ledger import Ledger
from ..serialization.codec import digest
from .computation import Computation, Terms
from .convened_computation import ConvenedComputation
from .errors import PeerUnreachableError, cause_of
from .events import Event, Failure, Result
from .kept_computation import KeptComputation
from .party import Party


class Coordinator(Party):
    """The one coordinator.

    Parameters
    ----------
    name : str
        Its name in the roster.
    repository : actor handle
        Where the record of every aggregate goes.
    identity : Identity, optional
        As of `Party`.
    ledger : Ledger, optional
        Where it notes every session; by default nowhere.
    """

    kind = "coordinator"

    def __init__(
        self,
        name: str,
        repository: Any,
        identity: Identity | None = None,
        *,
        ledger: Ledger | None = None,
    ) -> None:
        super().__init__(name, identity)
        self.ledger = ledger
        self.repository = repository
        self._memories: dict[bytes, tuple[Protocol[Any], Any]] = {}
        self.lost: set[PartyId] = set()
        self.summed: set[PartyId] = set()  # holders whose contributions are in some total that was revealed
        self.summed_sets: set[bytes] = set()  # likewise, as salted hashes, if it does not know holders
        self.commitment: bytes | None = None  # what it has pinned in place of holders whom it does not know
        self._computations: dict[str, asyncio.Task[None]] = {}
        self._records: set[asyncio.Task[None]] = set()
        self._recording = asyncio.Lock()  # so that records keep the order of the sums

    def memory_of(self, protocol: Protocol[Any]) -> Any:
        """Return what is kept between sums under a protocol with these options."""
        return self._memories.setdefault(digest(protocol.options), (protocol, protocol.memory()))[1]

    async def compute(
        self, computation: str, model: Any, definition: bytes, terms: Terms
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
        terms : Terms
            How sums are computed, and what happens when a holder is lost.
        """
        events: asyncio.Queue[Event] = asyncio.Queue()
        work = _kind_of(terms)(self, definition, terms, events)
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
        for task in self._computations.values():
            task.cancel()
        await super().leave()
        await asyncio.gather(*self._records, return_exceptions=True)

    def lose(self, party: PartyId) -> None:
        """Tell every session that a holder is gone, and have none with it from now on."""
        self.lost.add(party)
        super().lose(party)

    def regain(self, party: PartyId) -> None:
        """Invite a holder that is there again, and may have lost what it kept between sums."""
        self.lost.discard(party)
        for protocol, memory in self._memories.values():
            protocol.forget(memory, party)

    def record(self, revealed: dict[str, Any]) -> asyncio.Task[None]:
        """Have the repository note what was revealed; a task that outlives the computation."""
        return self.in_background(self._append(revealed))

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that outlives the computation."""
        task = asyncio.get_running_loop().create_task(work)
        self._records.add(task)
        task.add_done_callback(self._records.discard)
        return task

    async def _append(self, revealed: dict[str, Any]) -> None:
        async with self._recording:
            await self.ask_repository("append_aggregate", revealed)

    async def ask_repository(self, method: str, *arguments: Any) -> Any:
        """Return what the repository answers.

        Raises
        ------
        PeerUnreachableError
            If it is gone.
        RecordError
            As the method does.
        """
        try:
            return await getattr(self.repository, method).remote(*arguments)
        except RayActorError:
            raise PeerUnreachableError("the repository") from None
        except RayTaskError as error:
            raise cause_of(error) from None


def _kind_of(terms: Terms) -> type[Computation]:
    """Return how a model is run on these terms.

    Raises
    ------
    SetupError
        If nobody could tell whether a run that is taken up is over the same holders.
    """
    if terms.protocol.at_most is None:
        return Computation if terms.kept is None else KeptComputation
    if terms.kept is not None:
        raise SetupError(
            "checkpoint= needs a coordinator that knows the holders: another could not tell whether a run that it "
            "takes up is over the same ones. Leave it out, or choose a protocol without at_most="
        )
    return ConvenedComputation


def _tell_cancelled(party: PartyId, events: asyncio.Queue[Event], task: asyncio.Task[None]) -> None:
    """End the stream of events of a computation that was broken off: whoever waits must not wait for ever."""
    if task.cancelled():
        events.put_nowait(Failure(AbortedError(party=party, reason="cancelled")))
