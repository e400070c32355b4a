"""Journals of runs: the same bits after a round trip, and a word when a run goes another way."""

from __future__ import annotations

import numpy as np
import pytest
from tacit.models.definition import State
from tacit.models.errors import ModelError
from tacit.models.journal import Journal, Replay
from tacit.models.training import RoundRecord, TrainingState
from tacit.serialization.session_messages import Query

START, TRIAL = Query("start"), Query("trial", {"theta": np.array([0.1, 0.2])}, may_fail=True)
SUMS = {"score": np.array([0.1, -0.0]), "rows": np.array(7)}
JOURNAL = Journal().and_then(START, "summed", SUMS).and_then(TRIAL, "void").and_then(TRIAL, "changed")


def test_a_journal_comes_back_with_the_same_bits() -> None:
    restored = Journal.from_dict(JOURNAL.to_dict())
    assert [(one.question, one.outcome) for one in restored.told] == [
        (one.question, one.outcome) for one in JOURNAL.told
    ]
    for name, array in SUMS.items():
        assert restored.told[0].sums[name].tobytes() == array.tobytes()
        assert restored.told[0].sums[name].dtype == array.dtype


def test_a_run_is_answered_as_it_was_then() -> None:
    replay = Replay(JOURNAL)
    assert [replay.answer(query).outcome for query in (START, TRIAL, TRIAL)] == ["summed", "void", "changed"]
    assert replay.is_over
    assert Replay(Journal()).is_over


@pytest.mark.parametrize("other", [Query("start", {"theta": np.zeros(1)}), Query("trial")])
def test_a_run_that_asks_something_else_is_told(other: Query) -> None:
    with pytest.raises(ModelError, match="asks another question than it did before"):
        Replay(JOURNAL).answer(other)


def test_a_state_that_says_all_takes_the_place_of_what_was_told() -> None:
    assert JOURNAL.at(State(3, np.array([0.5]), 1.0)) is JOURNAL
    state = TrainingState(
        3,
        np.array([0.1, 0.2]),
        0.5,
        memory={"first": np.array([1, 2], dtype=np.float32)},
        records=(RoundRecord(0), RoundRecord(1, loss=0.25, rows=3)),
        exponent=5,
    )
    journal = JOURNAL.at(state)
    assert journal.told == ()
    restored = Journal.from_dict(journal.to_dict()).start
    assert isinstance(restored, TrainingState)
    assert restored.to_dict() == state.to_dict()


@pytest.mark.parametrize(
    "content", [{}, {"start": None}, {"start": {}, "told": []}, {"start": None, "told": [1]}]
)
def test_what_is_no_journal_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="no journal"):
        Journal.from_dict(content)
