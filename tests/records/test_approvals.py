"""A human approves of a definition, or it waits: what an analyst tries to have another one answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tacit.models.definition import Definition
from tacit.models.least_squares import OLS
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.protocols.invitation import NOT_ALLOWED, REFUSALS, WAITS_FOR_APPROVAL
from tacit.records.approvals import MOST_WAITING, SPARE, Approvals
from tacit.records.errors import PolicyError, RecordError

MODEL = OLS("y ~ x")
DIGEST = MODEL.definition.digest.hex()
QUESTIONS = [bytes([n]) * 64 for n in range(200)]
SESSIONS = (n.to_bytes(32) for n in itertools.count())


def opened(folder: Path, *, every_run: bool = False) -> Approvals:
    """The approvals as a process finds them that has just been started."""
    return Approvals(folder / "approvals", every_run=every_run)


def reason(act: Callable[[], Any]) -> str:
    with pytest.raises(PolicyError) as caught:
        act()
    assert caught.value.reason in REFUSALS
    return caught.value.reason


def waits(approvals: Approvals, model: Any = MODEL, question: bytes = QUESTIONS[0]) -> bool:
    return reason(lambda: approvals.check(model, "hub", question)) == WAITS_FOR_APPROVAL


def run(approvals: Approvals, questions: list[bytes]) -> None:
    for question in questions:
        approvals.check(MODEL, "hub", question)
        approvals.use(MODEL.definition.digest, next(SESSIONS), question)


def test_what_nobody_has_approved_waits_once(tmp_path: Path) -> None:
    assert waits(opened(tmp_path))
    assert waits(opened(tmp_path))
    [request] = opened(tmp_path).requests()
    assert (request.digest, request.kind, request.asker, request.status) == (DIGEST, "OLS", "hub", "waiting")
    assert request.parameters["formula"] == "y ~ x"


def test_what_is_approved_is_answered_for_good(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    assert waits(approvals)
    opened(tmp_path).decide(DIGEST[:8], "approved")  # in another process
    run(approvals, QUESTIONS[:2] * 2)
    run(opened(tmp_path), QUESTIONS[:2])


def test_what_is_declined_is_refused_and_an_approval_can_be_taken_back(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    assert waits(approvals)
    approvals.decide(DIGEST, "approved")
    approvals.check(MODEL, "hub", QUESTIONS[0])
    approvals.decide(DIGEST, "declined")
    assert reason(lambda: approvals.check(MODEL, "hub", QUESTIONS[0])) == NOT_ALLOWED
    assert reason(lambda: approvals.use(MODEL.definition.digest, bytes(32), QUESTIONS[0]))


@pytest.mark.parametrize(
    "model",
    [
        GLM("y ~ x", "gaussian"),
        OLS("y ~ x + z"),
        OLS("y ~ x").with_cov_type("HC1"),
        GLM("y ~ x", start=[1.0]),
    ],
    ids=["renamed", "another formula", "standard errors", "start values"],
)
def test_another_definition_waits_anew(tmp_path: Path, model: Any) -> None:
    approvals = opened(tmp_path)
    assert waits(approvals)
    approvals.decide(DIGEST, "approved")
    assert waits(approvals, model)


class InItsName(Sum):
    """A model that gives itself out for another."""

    @property
    def definition(self) -> Definition:
        return MODEL.definition


def test_a_model_in_the_name_of_an_approved_one_is_refused(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    assert waits(approvals)
    approvals.decide(DIGEST, "approved")
    assert reason(lambda: approvals.check(InItsName(len), "hub", QUESTIONS[0])) == NOT_ALLOWED


def test_a_second_run_waits_even_after_a_restart(tmp_path: Path) -> None:
    assert waits(opened(tmp_path, every_run=True))
    opened(tmp_path).decide(DIGEST, "approved")
    run(opened(tmp_path, every_run=True), QUESTIONS[:5])
    assert waits(opened(tmp_path, every_run=True))
    assert opened(tmp_path).requests()[0].status == "waiting"
    opened(tmp_path).decide(DIGEST, "approved")
    run(opened(tmp_path, every_run=True), QUESTIONS[:5])


def test_a_run_has_an_end(tmp_path: Path) -> None:
    approvals = opened(tmp_path, every_run=True)
    assert waits(approvals)
    approvals.decide(DIGEST, "approved")
    n_sums = SPARE * MODEL.expected_passes
    run(approvals, QUESTIONS[:n_sums])
    assert waits(approvals, question=QUESTIONS[n_sums])


def test_of_two_runs_opened_at_once_one_is_released(tmp_path: Path) -> None:
    approvals = opened(tmp_path, every_run=True)
    assert waits(approvals)
    approvals.decide(DIGEST, "approved")
    for _ in range(2):
        approvals.check(MODEL, "hub", QUESTIONS[0])
    approvals.use(MODEL.definition.digest, bytes(32), QUESTIONS[0])
    approvals.use(MODEL.definition.digest, bytes(32), QUESTIONS[0])  # over fewer holders, in the same session
    with pytest.raises(PolicyError):
        approvals.use(MODEL.definition.digest, b"\x01" * 32, QUESTIONS[0])


def test_requests_do_not_pile_up(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    for number in range(MOST_WAITING + 2):
        assert waits(approvals, OLS(f"y ~ x{number}"))
    assert len(approvals.requests()) == MOST_WAITING


def test_only_one_definition_is_decided_about(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    for digest in ("", "ff"):
        with pytest.raises(RecordError, match="0 definitions"):
            approvals.decide(digest, "approved")


def test_a_damaged_file_approves_of_nothing(tmp_path: Path) -> None:
    assert waits(opened(tmp_path))
    opened(tmp_path).decide(DIGEST, "declined")
    file = tmp_path / "approvals"
    file.write_bytes(file.read_bytes().replace(b"declined", b"approved"))
    with pytest.raises(RecordError, match="damaged"):
        opened(tmp_path).check(MODEL, "hub", QUESTIONS[0])
