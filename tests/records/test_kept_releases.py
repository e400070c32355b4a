"""A memory of releases on disk: what an analyst tries who asks again after a restart, or in other words."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tacit.models.least_squares import OLS
from tacit.models.registry import columns_read_by
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.protocols.errors import AbortedError, MisuseError
from tacit.protocols.invitation import QUERIES_SPENT, invite
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.ring_paillier import RingPaillier
from tacit.records.errors import RecordError
from tacit.records.release_memory import Limits, ReleaseMemory
from tacit.serialization.session_messages import Invitation, Query

RING = RingPaillier.insecure_for_tests()
IDENTITIES = {
    name: Identity(name, "coordinator" if name == "k" else "holder", random.Random(name).randbytes)
    for name in "kabcd"
}
ROSTER = Roster(tuple(identity.public for identity in IDENTITIES.values()))
ME = PartyId("a")
FIRST, SECOND, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))


def invitation(
    session: bytes, model: Any = None, *, lost: Iterable[str] = (), theta: float = 1.0
) -> Invitation:
    """The coordinator's invitation to everybody but the lost, to evaluate a model at theta."""
    keys = SessionKeys(
        IDENTITIES["k"], ROSTER.without(tuple(lost)), session, random.Random(session).randbytes
    )
    return invite(
        keys,
        protocol=RING.options,
        encoding=None,
        definition=bytes(32) if model is None else model.definition.digest,
        query=Query(step="sum", arrays={"theta": np.array([theta])}),
    )


def memory(folder: Path, *models: Any, **limits: Any) -> ReleaseMemory:
    """The memory as a process finds it that has just been started."""
    known = {model.definition.digest: columns_read_by(model) for model in models}
    kept = Limits(path=folder / "releases", **limits)
    return ReleaseMemory(ME, ROSTER, kept, lambda invited: known.get(invited.definition))


def release(kept: ReleaseMemory, invited: Invitation) -> None:
    assert kept.allows(invited, dispensable=1)
    kept.record(invited, Roster(invited.roster).holders)


def test_a_question_over_one_holder_fewer_is_refused_after_a_restart(tmp_path: Path) -> None:
    release(memory(tmp_path), invitation(FIRST))
    again = memory(tmp_path)
    assert not again.allows(invitation(SECOND, lost="d"), dispensable=1)
    assert again.allows(invitation(SECOND), dispensable=1)


def test_two_processes_of_one_holder_know_of_each_other(tmp_path: Path) -> None:
    one, other = memory(tmp_path), memory(tmp_path)
    assert other.allows(invitation(SECOND, lost="d"), dispensable=1)
    release(one, invitation(FIRST))
    with pytest.raises(Exception, match="two sessions at once"):
        other.record(invitation(SECOND, lost="d"), Roster(invitation(SECOND, lost="d").roster).holders)


def test_a_session_of_before_the_restart_is_not_opened_again(tmp_path: Path) -> None:
    release(memory(tmp_path), invitation(FIRST))
    again = memory(tmp_path)
    assert not again.allows(invitation(FIRST, theta=2.0), dispensable=1)


REGRESSION = OLS("y ~ x")
IN_OTHER_WORDS: dict[str, Any] = {
    "renamed": GLM("y ~ x", "gaussian"),
    "recoded": OLS("y ~ 1 + I(2 * x)"),
    "another column": OLS("y ~ x + I(0 * z)"),
    "start values": GLM("y ~ x", "gaussian", start=[0.0, 1e-9]),
    "standard errors": OLS("y ~ x").with_cov_type("HC1"),
    "weights": OLS("z ~ w", weights="x"),
    "a function": Sum(len),
}


@pytest.mark.parametrize("model", IN_OTHER_WORDS.values(), ids=IN_OTHER_WORDS)
def test_the_same_columns_in_other_words_are_the_same_question(tmp_path: Path, model: Any) -> None:
    release(memory(tmp_path, REGRESSION, set_changes=0), invitation(FIRST, REGRESSION))
    asked = invitation(SECOND, model, lost="d", theta=1.0 + 1e-12)
    again = memory(tmp_path, REGRESSION, model, set_changes=0)
    assert not again.allows(asked, dispensable=1)
    assert again.allows(invitation(SECOND, model, theta=3.0), dispensable=1)


def test_a_training_with_another_seed_is_the_same_question(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tacit.models.neural_network import NeuralNetwork  # noqa: PLC0415 - torch takes seconds

    def network(seed: int) -> Any:
        return NeuralNetwork(torch.nn.Linear(1, 1), "mse", rounds=1, target="y", features=["x"], seed=seed)

    first, second = network(0), network(1)
    assert first.definition.digest != second.definition.digest
    release(memory(tmp_path, first, set_changes=0), invitation(FIRST, first))
    again = memory(tmp_path, second, set_changes=0)
    assert not again.allows(invitation(SECOND, second, lost="d", theta=2.0), dispensable=1)
    assert columns_read_by(second) == frozenset({"x", "y"})


def test_other_columns_are_another_question(tmp_path: Path) -> None:
    other = OLS("u ~ v")
    kept = memory(tmp_path, REGRESSION, other, set_changes=0)
    release(kept, invitation(FIRST, REGRESSION))
    assert kept.allows(invitation(SECOND, other, lost="d"), dispensable=1)


def test_so_many_changes_of_the_set_are_allowed(tmp_path: Path) -> None:
    release(memory(tmp_path, set_changes=1), invitation(FIRST))
    release(memory(tmp_path, set_changes=1), invitation(SECOND, lost="d"))
    again = memory(tmp_path, set_changes=1)
    assert not again.allows(invitation(THIRD, lost="c", theta=2.0), dispensable=1)
    for lost in ("", "d"):  # sets that were there before are no change
        assert again.allows(invitation(THIRD, lost=lost, theta=2.0), dispensable=1)


def test_a_release_that_shrinks_within_its_session_counts_once(tmp_path: Path) -> None:
    kept, asked = memory(tmp_path, maximum_queries=1, set_changes=0), invitation(FIRST)
    release(kept, asked)
    kept.record(asked, [PartyId(name) for name in "abc"])
    assert not memory(tmp_path, set_changes=0).allows(invitation(SECOND), dispensable=1)
    assert memory(tmp_path, set_changes=0).allows(invitation(SECOND, lost="d"), dispensable=1)


def test_queries_are_counted_over_restarts_whatever_they_ask(tmp_path: Path) -> None:
    release(memory(tmp_path, maximum_queries=2), invitation(FIRST))
    opened_at_once = memory(tmp_path, maximum_queries=2)
    asked = [invitation(session, theta=2.0) for session in (SECOND, THIRD)]
    assert all(opened_at_once.allows(one, dispensable=1) for one in asked)
    opened_at_once.record(asked[0], ROSTER.holders)
    with pytest.raises(AbortedError) as caught:
        opened_at_once.record(asked[1], ROSTER.holders)
    assert caught.value.reason == QUERIES_SPENT
    assert memory(tmp_path, maximum_queries=2).is_full
    assert not memory(tmp_path, maximum_queries=3).is_full


@pytest.mark.parametrize("damage", [lambda octets: octets.replace(b'"b"', b'"e"'), lambda octets: b"x\n"])
def test_a_damaged_file_allows_nothing(tmp_path: Path, damage: Any) -> None:
    release(memory(tmp_path), invitation(FIRST))
    file = tmp_path / "releases"
    file.write_bytes(damage(file.read_bytes()))
    kept = memory(tmp_path)
    with pytest.raises(RecordError, match="damaged at line 1: nothing is released"):
        kept.allows(invitation(SECOND), dispensable=1)
    with pytest.raises(RecordError, match="damaged at line 1"):
        _ = kept.is_full


def test_what_cannot_be_written_is_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = memory(tmp_path)
    assert kept.allows(invitation(FIRST), dispensable=1)

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RecordError, match="No space left"):
        kept.record(invitation(FIRST), ROSTER.holders)


def test_a_release_is_examined_in_this_process(tmp_path: Path) -> None:
    assert memory(tmp_path).allows(invitation(FIRST), dispensable=1)
    with pytest.raises(MisuseError):
        memory(tmp_path).record(invitation(FIRST), ROSTER.holders)
