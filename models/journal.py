"""What a run has been told: the same sums, in the same order, bring its iteration to the same point, bit by bit.

A model awaits nothing but sums, so where it stands is a function of them. What is kept of a run is therefore no image
of a process but a list of sums, with those that some holder voided and those before which holders were lost. Where
a state says all that the rest depends on, as that of a training does, the list begins anew there.

Who learns what: the journal holds what the coordinator has learned, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from ..serialization.codec import digest
from ..serialization.session_messages import Query
from .definition import State
from .errors import ModelError
from .total import Arrays
from .training import TrainingState

Outcome: TypeAlias = Literal["summed", "void", "changed"]


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one question.

    Attributes
    ----------
    question : str
        The hash of what was asked.
    outcome : {"summed", "void", "changed"}
        There is a sum; some holder could not evaluate the question; or holders were lost, and the model was to go on
        over the others.
    sums : Arrays
        Empty unless there is a sum.
    """

    question: str
    outcome: Outcome
    sums: Arrays


@dataclass(frozen=True, slots=True)
class Journal:
    """What a run has been told so far.

    Attributes
    ----------
    start : State, optional
        The state that it is told from; None is the model's own start.
    told : tuple of Told
        Since then.
    """

    start: State | None = None
    told: tuple[Told, ...] = ()

    def and_then(self, query: Query, outcome: Outcome, sums: Arrays | None = None) -> Self:
        """Return the journal with one question more."""
        arrays = {name: np.asarray(array) for name, array in (sums or {}).items()}
        return replace(self, told=(*self.told, Told(question_of(query), outcome, arrays)))

    def at(self, state: State) -> Journal:
        """Return the journal of a run that has reached a state: from there on, if the state suffices."""
        return Journal(state) if state.suffices else self

    def to_dict(self) -> dict[str, Any]:
        """Return it as data that JSON and arrays can carry."""
        return {
            "start": None if self.start is None else self.start.to_dict(),
            "told": [
                {"question": one.question, "outcome": one.outcome, "sums": dict(one.sums)}
                for one in self.told
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Journal:
        """Restore a journal from `to_dict`, with the same bits.

        Raises
        ------
        ModelError
            If it is none.
        """
        try:
            start = None if content["start"] is None else TrainingState.from_dict(content["start"])
            told = tuple(Told(one["question"], one["outcome"], one["sums"]) for one in content["told"])
        except (KeyError, TypeError, ValueError):
            raise ModelError("there is no journal of a run from which it could be taken up") from None
        return cls(start, told)


class Replay:
    """Answers a run that is taken up with what it was told before.

    Parameters
    ----------
    journal : Journal
    """

    def __init__(self, journal: Journal) -> None:
        self._left = list(reversed(journal.told))

    @property
    def is_over(self) -> bool:
        """Whether the next question is a new one."""
        return not self._left

    def answer(self, query: Query) -> Told:
        """Return what came of a question before; **only until it is over**.

        Raises
        ------
        ModelError
            If another question was asked then.
        """
        told = self._left.pop()
        if told.question != question_of(query):
            raise ModelError(
                f"the run cannot be taken up: at the step {query.step!r} it asks another question than it did before, "
                "as it may with other versions of numpy or of the model: begin anew"
            )
        return told


def question_of(query: Query) -> str:
    """Return the hash of a question: its step and its arrays, to the last bit."""
    return digest(query).hex()
