"""One run of a model that is kept: after every step a signed checkpoint in the repository, from which another takes up.

A checkpoint holds what the run has been told (`models.journal`), and over whom; so a run that is taken up, by a new
coordinator with new sessions, goes the same way as if it had never been broken off, to the last bit, and asks nothing
again that the checkpoint has. It is written while the next round runs, once the sums that it rests on are on record,
and is complete before the next one begins.

What was asked after the last checkpoint is asked again: of the same holders, which tells nothing new. Over fewer, the
difference to a sum that the dead coordinator may have seen would isolate the lost. So a run is taken up over exactly
the holders that it had, and ends if one is lost before it is past what may have been asked.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from ..models.definition import State
from ..models.journal import Journal, Outcome, Replay
from ..models.total import Arrays, EvaluationError
from ..privacy.errors import PrivacyError
from ..protocols.errors import DropoutError, SetupError
from ..records.checkpoints import CHECKPOINT_TYPE, Checkpoint, checkpoint_file, read_checkpoint
from ..records.signing import PartySigner
from ..serialization.codec import digest
from ..serialization.session_messages import Query
from .computation import Computation, HoldersChanged, Kept

# Checkpoints: one may have been under way at the break, and the next one would have waited for it; and the newest that
# was complete may be damaged or gone since.
CAUGHT_UP = 3
OPEN_QUESTIONS = (
    "what the run had asked when it broke off may have been answered over all of them: bring back who is lost, "
    "or begin anew with resume=False, after which the difference to those answers may tell what the lost put in"
)

_OTHER = {
    "definition": "another model",
    "protocol": "another protocol, or other options of it",
    "encoding": "another encoding",
    "holders": "other holders",
    "every": "another every=",  # within so many checkpoints of it lies what may have been asked
}


class KeptComputation(Computation):
    """One run of a model over secure sums, from checkpoint to checkpoint.

    Parameters
    ----------
    coordinator, definition, terms, events
        As of `Computation`; the terms say how it is kept.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.terms.kept is None:
            raise SetupError("these terms do not say how the run is kept")
        self._kept: Kept = self.terms.kept
        self._journal = self._written = Journal()
        self._replay = Replay(self._journal)
        self._fixed: dict[str, Any] = {}  # what a run that takes up must have in common
        self._number = self._iteration = 0
        self._n_states = 0  # since the last checkpoint
        self._n_to_catch_up = 0
        self._writing: asyncio.Future[None] | None = None

    async def _iterate(self, model: Any) -> Any:
        try:
            value = await super()._iterate(model)
            await self._finish()
            return value
        finally:
            if self._writing is not None:  # whoever takes up must find it
                await asyncio.wait({self._writing})

    # Taking up

    async def _begin(self, model: Any) -> State | None:
        """Return the state from which the run goes on; everything else that it had is restored."""
        if self.noised is not None:
            raise PrivacyError(
                "a run under privacy is not kept: what it released after its last checkpoint would be released "
                "twice, which its epsilon does not count. Leave checkpoint out"
            )
        self._fixed = {
            "definition": model.definition.digest.hex(),
            "protocol": f"{self.protocol.title} {digest(self.protocol.options).hex()}",
            "encoding": None if self.terms.encoding is None else digest(self.terms.encoding).hex(),
            "holders": sorted(self.coordinator.roster.holders),
            "every": self._kept.every,
        }
        ask, name = self.coordinator.ask_repository, self._kept.name
        if not self._kept.resume:
            self._number = await ask("checkpoint_number", name)
        elif (octets := await ask("checkpoint", name)) is not None:
            checkpoint = read_checkpoint(octets, f"the checkpoint {name!r}")
            if not checkpoint.finished:
                return self._taken_up(checkpoint)
            self._number = checkpoint.number
        await self._write()  # that it has begun: what it asks from now on may be answered
        await self._until_written()
        return None

    def _taken_up(self, checkpoint: Checkpoint) -> State | None:
        self._number, run = checkpoint.number, checkpoint.run
        for what, value in self._fixed.items():
            if run[what] != value:
                raise SetupError(
                    f"the checkpoint {checkpoint.name!r} is of a run with {_OTHER[what]}: give this one a name of its "
                    "own, or begin anew with resume=False"
                )
        self._restore_holders(run["survivors"], run["summed"])
        self.n_passes, self._iteration = run["n_passes"], run["iteration"]
        self._present = {step: present for step, present in enumerate(run["present"]) if present}
        where = f"checkpoint {checkpoint.number} of {checkpoint.name!r}"
        resumed = f"resumed after iteration {self._iteration}, from {where}"
        self.remarks = dict.fromkeys([*run["remarks"], resumed])
        self._journal = self._written = Journal.from_dict(checkpoint.content)
        self._replay = Replay(self._journal)
        return self._journal.start

    def _restore_holders(self, survivors: list[str], summed: list[str]) -> None:
        """Go on over those over whom the run was, and no others."""
        self.coordinator.summed.update(one for one in self.coordinator.roster.holders if one in summed)
        self.on_dropout, self._n_to_catch_up = "fail", CAUGHT_UP
        if missing := set(survivors).difference(self.roster.holders):
            raise self._dropout(sorted(missing))
        self.roster = self.roster.without([one for one in self.roster.holders if one not in survivors])

    # On the way

    async def total(self, query: Query) -> Arrays:
        """Return a sum: what the run was told before, or a new one, which is noted."""
        if not self._replay.is_over:
            told = self._replay.answer(query)
            return _as_then(told.outcome, told.sums, query)
        try:
            sums = await super().total(query)
        except EvaluationError:
            self._enter(query, "void")
            raise
        except HoldersChanged:
            self._enter(query, "changed")
            raise
        self._enter(query, "summed", sums)
        return sums

    def _enter(self, query: Query, outcome: Outcome, sums: Arrays | None = None) -> None:
        self._journal = self._journal.and_then(query, outcome, sums)

    async def _accepted(self, state: State) -> None:
        """Tell of a new state and, every so many, have a checkpoint written."""
        if not self._replay.is_over:
            return
        await super()._accepted(state)
        self._journal, self._iteration = self._journal.at(state), state.iteration
        if self._journal is not self._written:
            self._n_states += 1
            if self._n_states >= self._kept.every:
                await self._write()

    async def _finish(self) -> None:
        """Leave word that nothing is left to take up."""
        self._journal = Journal()
        await self._write(finished=True)
        await self._until_written()

    # Writing

    async def _until_written(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises
        ------
        RecordError, PeerUnreachableError
            If it could not be.
        """
        if self._writing is not None:
            await self._writing

    async def _write(self, *, finished: bool = False) -> None:
        """Begin to write a checkpoint, once the one before is complete."""
        await self._until_written()
        self._caught_up()
        self._number, self._n_states, self._written = self._number + 1, 0, self._journal
        run = {
            **self._fixed,
            "survivors": list(self.roster.holders),
            "summed": sorted(self.coordinator.summed),
            "n_passes": self.n_passes,
            "iteration": self._iteration,
            "present": [self._present.get(step, 0) for step in range(self._iteration + 1)],
            "remarks": list(self.remarks),
        }
        work = self._written_to_repository(self._number, run, self._journal, list(self.records), finished)
        self._writing = self.coordinator.in_background(work)

    async def _written_to_repository(
        self,
        number: int,
        run: dict[str, Any],
        journal: Journal,
        records: list[asyncio.Task[None]],
        finished: bool,
    ) -> None:
        await asyncio.gather(*records)
        ledger = await self.coordinator.ask_repository("ledger_head")
        sign = partial(PartySigner(self.coordinator.identity).sign, content_type=CHECKPOINT_TYPE)

        def signed() -> bytes:
            content = {} if finished else journal.to_dict()
            checkpoint = Checkpoint(self._kept.name, number, run, content, finished, ledger)
            return checkpoint_file(checkpoint, time.time(), sign)

        await self.coordinator.ask_repository("save_checkpoint", await asyncio.to_thread(signed))

    def _caught_up(self) -> None:
        """Allow losses again, once the run is past all that may have been asked before it broke off."""
        if self._n_to_catch_up:
            self._n_to_catch_up -= 1
            if not self._n_to_catch_up:
                self.on_dropout = self.terms.on_dropout

    def _dropout(self, lost: list[Any], *, reason: str = "") -> DropoutError:
        """Return the loss of holders, with what is needed to go on."""
        return super()._dropout(lost, reason=OPEN_QUESTIONS if self._n_to_catch_up else reason)


def _as_then(outcome: Outcome, sums: Arrays, query: Query) -> Arrays:
    """Return a sum, or raise what a model was told in place of one."""
    if outcome == "void":
        raise EvaluationError
    if outcome == "changed":
        raise HoldersChanged(query)
    return sums
