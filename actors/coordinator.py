"""The coordinator: opens sessions, drives a model's iteration over their totals, and notes what was revealed.

It learns the total of every pass and nothing else. Whoever holds its handle may ask it for a computation;
progress and result come back as a stream of events.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..models.definition import State
from ..models.total import Arrays, EvaluationError
from ..protocols.errors import AbortedError, DropoutError, RefusedError, SetupError, VoidedError
from ..protocols.invitation import ALREADY_RELEASED, invite
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId
from ..protocols.protocol import Aggregate, Protocol, accepted_by_coordinator, coordinator_role
from ..protocols.session import Session
from ..serialization.schema import Message
from ..serialization.session_messages import Closed, Query
from .errors import PeerUnreachableError, cause_of
from .events import Event, Failure, Iterated, Lost, Pass, Result
from .party import Party

SESSION_SECONDS = 3_600.0
PING_SECONDS = 0.5
SILENCE_SECONDS = 5.0  # longer than a library call that holds the interpreter's lock


class HoldersChanged(Exception):  # noqa: N818 - not a fault: what the iteration has to know
    """From now on sums are over fewer holders, so they do not compare with those before."""

    def __init__(self, query: Query) -> None:
        self.query = query
        super().__init__()


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


class Computation:
    """One run of a model over secure sums.

    Parameters
    ----------
    coordinator : Coordinator
    definition : bytes
        The content hash under which holders know the model.
    encoding : Message or None
    on_dropout : {"fail", "continue"}
    events : asyncio.Queue
        Where progress goes.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        definition: bytes,
        encoding: Message | None,
        on_dropout: str,
        events: asyncio.Queue[Event],
    ) -> None:
        self.coordinator = coordinator
        self.definition = definition
        self.encoding = encoding
        self.on_dropout = on_dropout
        self.events = events
        self.roster = coordinator.roster.without(sorted(coordinator.lost))
        self.previous: tuple[Closed, ...] = ()
        self.loss: DropoutError | None = None
        self.n_passes = 0
        self.records: list[asyncio.Task[None]] = []

    async def run(self, model: Any) -> None:
        """Iterate to the end and tell it; a failure is told too, never lost."""
        try:
            value = await self._iterate(model)
            await asyncio.gather(*self.records)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            await self.events.put(Failure(error))
        else:
            await self.events.put(self._result(value))

    def _result(self, value: Any) -> Result:
        survivors = self.roster.holders
        lost = tuple(holder for holder in self.coordinator.roster.holders if holder not in survivors)
        may_isolate = tuple(holder for holder in lost if holder in self.coordinator.summed)
        return Result(value, survivors, lost, self.n_passes, may_isolate)

    async def _iterate(self, model: Any) -> Any:
        """Run the model, again from where it stood whenever the set of holders shrinks."""
        enough = len(self.roster.holders) >= self.coordinator.protocol.minimum_holders
        if self.coordinator.lost and (self.on_dropout == "fail" or not enough):
            raise self._dropout(sorted(self.coordinator.lost))
        start: State | None = None
        while True:
            last: Any = start
            try:
                async for last in model.iterate(self.total, start):
                    if isinstance(last, State):
                        await self.events.put(Iterated(last))
            except HoldersChanged as change:
                start = last if isinstance(last, State) else None
                if start is not None and "theta" in change.query.arrays:
                    # The point in question: its sum over the larger set does not exist.
                    start = dataclasses.replace(start, parameters=change.query.arrays["theta"])
                continue
            return last

    async def total(self, query: Query) -> Arrays:
        """Sum all holders' contributions to a query: one session.

        Raises
        ------
        EvaluationError
            If some holder cannot evaluate a query that may fail.
        HoldersChanged
            If a holder was lost and the computation goes on over the others.
        """
        began = time.monotonic()
        self.n_passes += 1
        try:
            aggregate = await self._session(query)
        except VoidedError:
            if not query.may_fail:
                raise
            await self._tell(query, began, ())
            raise EvaluationError from None
        except RefusedError as refused:
            reasons = {reason for reason, _ in refused.refusals.values()}
            if self.loss is None or reasons != {ALREADY_RELEASED}:
                raise
            self.loss.reason = "the survivors had released this question, so a total over all may exist"
            raise self.loss from None
        except DropoutError as loss:
            await self.events.put(Lost(self._go_on_without(loss)))
            raise HoldersChanged(query) from None
        self.loss, self.previous = None, ()
        self.coordinator.summed.update(aggregate.holders)
        self.records.append(self.coordinator.record(self._revealed(query, aggregate)))
        await self._tell(query, began, tuple(aggregate.arrays))
        return aggregate.arrays

    async def _session(self, query: Query) -> Aggregate:
        """Open a session, with fresh keys, and run it."""
        coordinator = self.coordinator
        holders = self.roster.holders
        if gone := [holder for holder in holders if holder in coordinator.lost]:
            # Lost between two sessions: nobody would tell this one.
            present = [holder for holder in holders if holder not in gone]
            raise DropoutError(needed=len(holders), present=present, missing=gone)
        keys = SessionKeys(coordinator.identity, self.roster, os.urandom(32), os.urandom)
        invitation = invite(
            keys,
            protocol=coordinator.protocol.options,
            encoding=self.encoding,
            definition=self.definition,
            query=query,
            previous=self.previous,
        )
        session = Session(
            keys.session,
            coordinator.name,
            coordinator_role(coordinator.protocol, keys, invitation, coordinator.memory),
            accepts=accepted_by_coordinator(coordinator.protocol, self.roster),
            tell=self.roster.holders,
            random_bytes=os.urandom,
            lasts=SESSION_SECONDS,
        )
        return await coordinator.driver.run(session, keys)

    def _go_on_without(self, loss: DropoutError) -> tuple[str, ...]:
        """Shrink the roster and return who is lost, or give up: too few are left, or the user wants to know."""
        # Only who is known to be gone: when time runs out in the ring, the last holder misses, whoever is slow.
        lost = [holder for holder in self.roster.holders if holder in self.coordinator.lost]
        remaining = len(self.roster.holders) - len(lost)
        if self.on_dropout == "fail" or not lost or remaining < self.coordinator.protocol.minimum_holders:
            raise self._dropout(lost or list(loss.missing), reason=loss.reason) from None
        self.roster = self.roster.without(lost)
        self.previous = (*self.previous, *loss.closed)
        self.loss = self._dropout(lost)
        return tuple(lost)

    def _dropout(self, lost: list[Any], *, reason: str = "") -> DropoutError:
        """Return the loss of holders, with what is needed to go on."""
        holders = self.coordinator.roster.holders
        needed = len(holders) if self.on_dropout == "fail" else self.coordinator.protocol.minimum_holders
        present = [holder for holder in self.roster.holders if holder not in lost]
        missing = [holder for holder in holders if holder not in present]
        remedy = reason or (
            'start a new federation, or allow losses with on_dropout="continue"'
            if self.on_dropout == "fail"
            else "start a new federation with more holders"
        )
        return DropoutError(needed=needed, present=present, missing=missing, reason=remedy)

    async def _tell(self, query: Query, began: float, released: tuple[str, ...]) -> None:
        seconds = time.monotonic() - began
        await self.events.put(Pass(self.n_passes, query.step, seconds, self.roster.holders, released))

    def _revealed(self, query: Query, aggregate: Aggregate) -> dict[str, Any]:
        """Return what was revealed, to whom, over which holders, under which protocol."""
        return {
            "time": time.time(),
            "session": aggregate.session.hex(),
            "binding": aggregate.binding.hex(),
            "definition": self.definition.hex(),
            "step": query.step,
            "query": {name: array.tolist() for name, array in query.arrays.items()},
            "protocol": self.coordinator.protocol.title,
            "released_to": self.coordinator.name,
            "holders": list(aggregate.holders),
            "released": {name: array.tolist() for name, array in aggregate.arrays.items()},
        }
