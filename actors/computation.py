"""One run of a model over secure sums: what happens at the coordinator between a question and its answer.

A model awaits sums; here each becomes a session over the holders that are there. When holders are lost, the model goes
on over the others if the user wants that and the protocol allows it: from the point in question, whose sum over the
larger set does not exist. A resilient protocol gives that point's sum over the others at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..models.definition import State
from ..models.total import Arrays, EvaluationError
from ..privacy.noised_sum import NoisedSum
from ..protocols.auto_range import grid_within
from ..protocols.errors import BRING_BACK, DropoutError, RangeError, RefusedError, SetupError, VoidedError
from ..protocols.invitation import ALREADY_RELEASED, invite, specify
from ..protocols.key_agreement import SessionKeys
from ..protocols.protocol import Aggregate, Protocol, accepted_by_coordinator, coordinator_role
from ..protocols.session import Session
from ..records.account import asked
from ..serialization.encoding_parameters import AutoRange
from ..serialization.schema import Message
from ..serialization.session_messages import Closed, Invitation, Query
from .events import Event, Failure, Iterated, Lost, Pass, Result
from .run_log import RunLog

if TYPE_CHECKING:
    from .coordinator import Coordinator

SESSION_SECONDS = 2 * 3_600.0  # longer than all waits of a session together
RECORDED_VALUES = 4_096  # of a longer array the ledger has the hash


class HoldersChanged(Exception):  # noqa: N818 - not a fault: what the iteration has to know
    """From now on sums are over fewer holders, so they do not compare with those before."""

    def __init__(self, query: Query) -> None:
        self.query = query
        super().__init__()


@dataclass(frozen=True)
class Kept:
    """That a run is kept in checkpoints, from which it can be taken up.

    Attributes
    ----------
    name : str
        What it is called in the repository.
    every : int
        A checkpoint after so many accepted states.
    resume : bool
        Whether to take up what is there; otherwise the run begins anew.
    """

    name: str
    every: int = 1
    resume: bool = True


@dataclass(frozen=True)
class Terms:
    """How the sums of one computation are made.

    Attributes
    ----------
    protocol : Protocol
    encoding : Message or None
        How numbers become integers; None is the default.
    on_dropout : {"fail", "continue"}
        What to do when a holder is lost.
    kept : Kept, optional
        Whether the run can be taken up by another one.
    needed : int
        Over how many holders every sum must be, as the holders' policies ask.
    """

    protocol: Protocol[Any]
    encoding: Message | None = None
    on_dropout: Literal["fail", "continue"] = "fail"
    kept: Kept | None = None
    needed: int = 0


class Computation:
    """One run of a model over secure sums.

    Parameters
    ----------
    coordinator : Coordinator
    definition : bytes
        The content hash under which holders know the model.
    terms : Terms
    events : asyncio.Queue
        Where progress goes.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        definition: bytes,
        terms: Terms,
        events: asyncio.Queue[Event],
    ) -> None:
        self.coordinator = coordinator
        self.definition = definition
        self.terms = terms
        self.protocol = terms.protocol
        self.on_dropout = terms.on_dropout
        self.events = events
        lost = [holder for holder in coordinator.roster.holders if holder in coordinator.lost]
        unneeded = () if terms.protocol.aggregators else coordinator.roster.aggregators
        self.roster = coordinator.roster.without([*lost, *unneeded])
        self.previous: tuple[Closed, ...] = ()
        self.loss: DropoutError | None = None
        self.n_passes = 0
        self.noised: NoisedSum | None = None  # the form of the model's releases under privacy
        self.remarks: dict[str, None] = {}  # each once, in order
        self.records: list[asyncio.Task[None]] = []
        self._model: Any = None
        self._present: dict[int, int] = {}  # how many holders are in the sum behind each step

    async def run(self, model: Any) -> None:
        """Iterate to the end and tell it; a failure is told too, never lost."""
        try:
            end = await self._logged(model)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            end = Failure(error)
        await self.events.put(end)

    async def _logged(self, model: Any) -> Result | Failure:
        self._model, self.noised = model, getattr(model, "noised", None)
        async with RunLog(self.coordinator.repository, self.coordinator.name, self._about(model)) as self.log:
            end = await self._end(model)
            self.log.note(end)
        return end

    async def _end(self, model: Any) -> Result | Failure:
        try:
            value = await self._iterate(model)
            await asyncio.gather(*self.records)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            return Failure(error)
        return self._result(value)

    async def _begin(self, model: Any) -> State | None:
        """Return the state to go on from: the model's own start."""
        return None

    async def _accepted(self, state: State) -> None:
        """Tell that the model has moved."""
        self._present[state.iteration] = len(self.roster.holders)
        await self._say(Iterated.of(state))

    async def _say(self, event: Event) -> None:
        """Tell whoever waits, and the log."""
        self.log.note(event)
        await self.events.put(event)

    def _about(self, model: Any) -> dict[str, Any]:
        """Return what is asked, as the log of the run has it."""
        return {
            "model": model.definition.kind,
            "model_digest": model.definition.digest.hex(),
            "definition": self.definition.hex(),
            "protocol": self.protocol.title,
            "options": repr(self.protocol),
            "encoding": None if self.terms.encoding is None else repr(self.terms.encoding),
            "privacy": None if self.noised is None else self.noised.to_dict(),
            "on_dropout": self.on_dropout,
            "holders": self._recorded_holders(),
        }

    def _result(self, value: Any) -> Result:
        survivors = self.roster.holders
        lost = tuple(holder for holder in self.coordinator.roster.holders if holder not in survivors)
        may_isolate = tuple(holder for holder in lost if holder in self.coordinator.summed)
        steps = tuple(self._present.get(step, 0) for step in range(max(self._present, default=-1) + 1))
        return Result(
            value,
            survivors,
            lost,
            self.n_passes,
            may_isolate,
            tuple(self.remarks),
            holders_by_step=steps,
        )

    async def _iterate(self, model: Any) -> Any:
        """Run the model, again from where it stood whenever the set of holders shrinks."""
        enough = len(self.roster.holders) >= self._fewest()
        lost = [holder for holder in self.coordinator.roster.holders if holder in self.coordinator.lost]
        if lost and (self.on_dropout == "fail" or not enough):
            raise self._dropout(lost)
        start = await self._begin(model)
        while True:
            last: Any = start
            try:
                async for last in model.iterate(self.total, start):
                    if isinstance(last, State):
                        await self._accepted(last)
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
        if isinstance(self.terms.encoding, AutoRange):
            ranges = await self._sum(query, self.terms.encoding)
            bounds = {name: float(bound) for name, bound in ranges.items() if bound.dtype.kind == "f"}
            return await self._sum(query, grid_within(bounds))
        return await self._sum(query, self.terms.encoding)

    async def _sum(self, query: Query, encoding: Message | None) -> Arrays:
        began = time.monotonic()
        self.n_passes += 1
        asked = len(self.roster.holders)
        try:
            aggregate = await self._session(query, encoding)
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
            await self._say(Lost(self._go_on_without(loss)))
            raise HoldersChanged(query) from None
        self.loss, self.previous = None, ()
        lost = self._go_on_over(aggregate)
        self._note(query, aggregate)
        await self._tell(query, began, tuple(aggregate.arrays))
        if lost:
            await self._say(Lost(lost))
        if lost and self.n_passes > 1 and self.noised is None:  # a noised sum is not asked for twice
            self.loss = self._dropout(list(lost))
            raise HoldersChanged(query)
        if self.noised is None:
            return aggregate.arrays
        n_survivors = len(aggregate.holders)
        variance = self.noised.variance(asked, n_survivors)
        return {**aggregate.arrays, "variance": np.array(variance), "holders": np.array(n_survivors)}

    def _go_on_over(self, aggregate: Aggregate) -> tuple[str, ...]:
        """Note who is in a sum, and return whom it has left out: from now on sums are without them."""
        self.coordinator.summed.update(aggregate.holders)
        lost = tuple(holder for holder in self.roster.holders if holder not in aggregate.holders)
        self.roster = self.roster.without(lost)
        return lost

    def _note(self, query: Query, aggregate: Aggregate) -> None:
        """Put what was revealed on record, and what a user must know of it among the remarks."""
        revealed: dict[str, Any] = {
            "released": {name: _recorded(array) for name, array in aggregate.arrays.items()},
            "binding": aggregate.binding.hex(),
        }
        if self.noised is not None:
            revealed["privacy"] = self.noised.to_dict()
        if aggregate.clipped:
            revealed["clipped"] = dict(aggregate.clipped)
        for name, count in aggregate.clipped.items():
            if count:
                self.remarks[f"{count:,} values of {name!r} were clipped, over all holders together"] = None
        if aggregate.suspects:
            suspects = ", ".join(aggregate.suspects)
            revealed["suspects"] = list(aggregate.suspects)
            self.remarks[
                f"wrong shares were corrected; suspects: {suspects}, or a dealer who framed them"
            ] = None
        self._record(query, aggregate.session, revealed)

    async def _session(self, query: Query, encoding: Message | None) -> Aggregate:
        """Open a session, with fresh keys, and run it."""
        coordinator = self.coordinator
        if gone := [party for party in self.roster.invited if party in coordinator.lost]:
            # Lost between two sessions: nobody would tell this one.
            present = [party for party in self.roster.invited if party not in gone]
            raise DropoutError(needed=len(self.roster.invited), present=present, missing=gone)
        keys = SessionKeys(coordinator.identity, self.roster, os.urandom(32), os.urandom)
        invitation = self._invitation(keys, query, encoding)
        session = self._new_session(keys, invitation)
        try:
            with asked(coordinator.ledger, invitation, self._model, self.roster.holders) as account:
                aggregate = await coordinator.driver.run(session, keys, count=account.count)
                account.learn_arrays(specify(aggregate.arrays))
                account.learn(survivors=list(aggregate.holders))
            return aggregate
        except RangeError:
            # The coordinator has seen the total; only its dtype cannot hold it.
            coordinator.summed.update(self.roster.holders)
            self._record(query, keys.session, {"remark": "a total beyond the range of its dtype"})
            raise
        except VoidedError:
            self._record(query, keys.session, {"remark": "void: some holder could not contribute"})
            raise

    def _wanted(self) -> int:
        """Return over how many holders a sum must be, beyond what the protocol needs."""
        n_holders = len(self.roster.holders)
        if self.on_dropout == "fail":
            return n_holders
        for_noise = 0 if self.noised is None else self.noised.needed(n_holders)
        return min(n_holders, max(self.terms.needed, for_noise))

    def _invitation(self, keys: SessionKeys, query: Query, encoding: Message | None) -> Invitation:
        """Return what opens a session."""
        if self.noised is not None:
            encoding = self.noised.encoding(len(self.roster.holders))
        return invite(
            keys,
            protocol=self.protocol.options,
            encoding=encoding,
            definition=self.definition,
            query=query,
            previous=self.previous,
        )

    def _new_session(self, keys: SessionKeys, invitation: Invitation) -> Session[Aggregate]:
        """Make a session with the coordinator's role."""
        return Session(
            keys.session,
            self.coordinator.name,
            coordinator_role(
                self.protocol,
                keys,
                invitation,
                self.coordinator.memory_of(self.protocol),
                needed=self._wanted(),
            ),
            accepts=accepted_by_coordinator(self.protocol, self.roster),
            tell=self.roster.invited,
            random_bytes=os.urandom,
            lasts=SESSION_SECONDS,
        )

    def _go_on_without(self, loss: DropoutError) -> tuple[str, ...]:
        """Shrink the roster and return who is lost, or give up: too few are left, or the user wants to know."""
        if set(self.roster.aggregators).intersection(loss.missing):
            raise loss  # which no protocol can do without
        # Only who is known to be gone: when time runs out in the ring, the last holder misses, whoever is slow.
        lost = [holder for holder in self.roster.holders if holder in self.coordinator.lost]
        remaining = len(self.roster.holders) - len(lost)
        if self.on_dropout == "fail" or not lost or remaining < self._fewest():
            reason = loss.reason
            if reason and not lost:
                reason += ": the last of the ring is named, but any before it may be the slow one"
            raise self._dropout(lost or list(loss.missing), reason=reason) from None
        self.roster = self.roster.without(lost)
        self.previous = (*self.previous, *loss.closed)
        self.loss = self._dropout(lost)
        return tuple(lost)

    def _dropout(self, lost: list[Any], *, reason: str = "") -> DropoutError:
        """Return the loss of holders, with what is needed to go on."""
        holders = self.coordinator.roster.holders
        needed = len(holders) if self.on_dropout == "fail" else self._fewest()
        present = [holder for holder in self.roster.holders if holder not in lost]
        missing = [holder for holder in holders if holder not in present]
        remedy = reason or (
            f'{BRING_BACK}, or allow losses with on_dropout="continue"'
            if self.on_dropout == "fail"
            else BRING_BACK
        )
        return DropoutError(needed=needed, present=present, missing=missing, reason=remedy)

    def _fewest(self) -> int:
        """Return the fewest holders among whom the protocol runs, and policies let it; all, if with no fewer."""
        n_holders = len(self.coordinator.roster.holders)
        for fewer in range(max(self.protocol.minimum_holders, self.terms.needed), n_holders):
            with contextlib.suppress(SetupError):
                self.protocol.check_number(fewer)
                return fewer
        return n_holders

    async def _tell(self, query: Query, began: float, released: tuple[str, ...]) -> None:
        seconds = time.monotonic() - began
        await self._say(Pass(self.n_passes, query.step, seconds, self.roster.holders, released))

    def _recorded_holders(self) -> list[str] | str:
        """Return over whom a sum is, as the ledger has it."""
        return list(self.roster.holders)

    def _record(self, query: Query, session: bytes, revealed: dict[str, Any]) -> None:
        """Note what was revealed, to whom, over which holders, under which protocol."""
        record = {
            "time": time.time(),
            "session": session.hex(),
            "definition": self.definition.hex(),
            "step": query.step,
            "query": {name: _recorded(array) for name, array in query.arrays.items()},
            "protocol": self.protocol.title,
            "released_to": self.coordinator.name,
            "holders": self._recorded_holders(),
            "released": {},
            **revealed,
        }
        self.records.append(self.coordinator.record(record))


def _recorded(array: NDArray[Any]) -> Any:
    """Return an array as it stands in the ledger: its values, or for a long one its form and its hash."""
    if array.size <= RECORDED_VALUES:
        return array.tolist()
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "sha256": hashlib.sha256(np.ascontiguousarray(array).data).hexdigest(),
    }
