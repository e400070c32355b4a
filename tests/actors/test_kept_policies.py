"""Rules that outlive a process: an analyst who tries to get round them, against holders that are started anew."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_process import Network
from tacit.actors.data_holder import DataHolder
from tacit.models.least_squares import OLS
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.privacy.guarantee import Privacy
from tacit.protocols.errors import RefusedError
from tacit.protocols.invitation import (
    ALREADY_RELEASED,
    BUDGET_SPENT,
    COLUMN_NOT_ALLOWED,
    CONTRIBUTION_FAILED,
    MODEL_NOT_ALLOWED,
    PRIVACY_REQUIRED,
    PROTOCOL_NOT_ALLOWED,
    QUERIES_SPENT,
    RECORDS_OUT_OF_ORDER,
    TOO_FEW_HOLDERS,
    TOO_FEW_ROWS,
    TOO_MANY_NUMBERS,
    WAITS_FOR_APPROVAL,
)
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.records.policy import Policy

RANDOM = np.random.default_rng(1)
TABLES = {
    name: pd.DataFrame({column: RANDOM.normal(size=30) for column in ("y", "x", "z", "income")})
    for name in "abcd"
}
FIT = OLS("y ~ x")


def total(rows: pd.DataFrame) -> float:
    return float(rows["x"].sum())


def peek(rows: pd.DataFrame) -> float:
    return float(rows["income"].sum())


class Study:
    """Holders with a policy, each with a folder that stays when its process does not."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.folder = folder
        self.policy = Policy(folder=folder, **rules)

    def ask(self, model: Any, among: str = "abcd") -> Any:
        """Ask holders that have just been started; what they refuse is raised."""

        async def within() -> Any:
            data = {name: TABLES[name] for name in among}
            holder: Any = self._holder
            async with Network(data, False, PairwiseMasking(), holder) as network:
                noised = getattr(model, "noised", None)
                return await network.run(
                    model, encoding=None if noised is None else noised.encoding(len(among))
                )

        return asyncio.run(within())

    def _holder(self, name: str, rows: Any, *, simulation: bool, policy: Any) -> DataHolder:
        releases = self.folder / f"{name}.releases"
        return DataHolder(name, rows, simulation=simulation, policy=self.policy, releases=releases)

    def refuses(self, model: Any, among: str = "abcd") -> set[str]:
        with pytest.raises(RefusedError) as caught:
            self.ask(model, among)
        assert all(details == "" for _, details in caught.value.refusals.values())
        return {reason for reason, _ in caught.value.refusals.values()}


@pytest.mark.parametrize(
    "model",
    [FIT, GLM("y ~ x", "gaussian"), OLS("y ~ x + I(0 * z)"), GLM("x ~ y", start=[0.0, 1e-6]), Sum(total)],
    ids=["the same", "renamed", "another column", "start values", "a function"],
)
def test_a_roster_smaller_by_one_is_refused_after_a_restart(tmp_path: Path, model: Any) -> None:
    study = Study(tmp_path, set_changes=0)
    study.ask(FIT)
    assert study.refuses(model, among="abc") == {ALREADY_RELEASED}


def test_a_change_that_is_allowed_is_made_once(tmp_path: Path) -> None:
    study = Study(tmp_path, set_changes=1)
    study.ask(Sum(total))
    study.ask(Sum(total), among="abc")
    assert study.refuses(Sum(total), among="bcd") == {ALREADY_RELEASED}
    study.ask(Sum(total))


def test_queries_are_counted_whatever_they_are_called(tmp_path: Path) -> None:
    study = Study(tmp_path, maximum_queries=2)
    study.ask(Sum(total))
    study.ask(Sum(len))
    for model in (Sum(total), FIT):
        assert study.refuses(model) == {QUERIES_SPENT}


def test_nothing_is_answered_without_approval_and_nothing_else_with_one(tmp_path: Path) -> None:
    study = Study(tmp_path, approval="new-definition")
    assert study.refuses(FIT) == {WAITS_FOR_APPROVAL}
    assert study.refuses(FIT) == {WAITS_FOR_APPROVAL}
    approve(study, FIT)
    study.ask(FIT)
    study.ask(FIT)
    for other in (GLM("y ~ x", "gaussian"), OLS("y ~ x").with_cov_type("HC1")):
        assert study.refuses(other) == {WAITS_FOR_APPROVAL}


def test_every_run_is_approved_of(tmp_path: Path) -> None:
    study = Study(tmp_path, approval="every-run")
    assert study.refuses(FIT) == {WAITS_FOR_APPROVAL}
    approve(study, FIT)
    study.ask(FIT)
    assert study.refuses(FIT) == {WAITS_FOR_APPROVAL}


def approve(study: Study, model: Any) -> None:
    for name in "abcd":
        approvals = study.policy.approvals(name)
        assert approvals is not None
        approvals.decide(model.definition.digest.hex(), "approved")


def test_columns_are_hidden_from_formulas_and_functions(tmp_path: Path) -> None:
    study = Study(tmp_path, columns=["y", "x"])
    study.ask(FIT)
    assert study.refuses(OLS("y ~ x + income")) == {COLUMN_NOT_ALLOWED}
    assert study.refuses(Sum(peek)) == {CONTRIBUTION_FAILED}


def test_too_many_numbers_for_so_few_rows_do_not_leave(tmp_path: Path) -> None:
    study = Study(tmp_path, parameters_per_row=0.9)
    study.ask(FIT)
    copied = Sum(lambda rows: rows["income"].to_numpy(), like=np.zeros(30))
    folded = Sum(lambda rows: rows["income"].to_numpy().reshape(5, 6), like=np.zeros((5, 6)))
    for model in (copied, folded):
        assert study.refuses(model) == {TOO_MANY_NUMBERS}


def damage(file: Path) -> None:
    file.write_bytes(b"x" + file.read_bytes()[1:])


@pytest.mark.parametrize("suffix", ["releases", "approvals"])
def test_a_damaged_file_refuses_everything(tmp_path: Path, suffix: str) -> None:
    study = Study(tmp_path, approval="new-definition")
    study.refuses(FIT)
    approve(study, FIT)
    study.ask(FIT)
    for file in tmp_path.glob(f"*.{suffix}"):
        damage(file)
    assert study.refuses(FIT) == {RECORDS_OUT_OF_ORDER}


# Each rule, and every way round it that an analyst would try


class Pretended(Sum):
    """A sum whose class bears the name of an allowed model."""


Pretended.__name__ = Pretended.__qualname__ = "OLS"


def subtotal(rows: pd.DataFrame) -> float:
    return float(sum(rows["x"]))


def seeded(rows: pd.DataFrame, seed: float) -> float:
    return float(rows["x"].sum() + 0 * seed)


def copied(rows: pd.DataFrame) -> Any:
    return rows["income"].to_numpy()


def folded(rows: pd.DataFrame) -> Any:
    return rows["income"].to_numpy().reshape(5, 6)


def reordered(rows: pd.DataFrame, seed: float) -> Any:
    return np.random.default_rng(int(seed)).permutation(rows["income"])


def clipped(rows: pd.DataFrame) -> Any:
    return rows["x"].to_numpy()


def clipped_too(rows: pd.DataFrame) -> Any:
    return rows["x"].clip(-9, 9).to_numpy()


def clipped_from(rows: pd.DataFrame, seed: float) -> Any:
    return rows["x"].to_numpy() + 0 * seed


@dataclass(frozen=True)
class Question:
    """What an analyst wants to know, and what else he could call it: a model by another name, one of another seed."""

    plain: Any
    renamed: Any
    seeded: Any


def sums(model: type[Sum] = Sum) -> Question:
    return Question(Sum(total), model(subtotal), Sum(seeded, 7))


def private(*question: Any) -> Sum:
    return Sum(*question).with_privacy(Privacy(1.0, 1e-5, clip=1.0, known=0))


REGRESSION = Question(FIT, GLM("y ~ x", "gaussian"), GLM("y ~ x", "gaussian", start=[0.0, 1e-6]))
HIDDEN = Question(
    OLS("y ~ x + income"),
    GLM("y ~ x + income", "gaussian"),
    GLM("y ~ x + income", "gaussian", start=[0.0, 0.0, 1e-6]),
)
ROWS_THEMSELVES = Question(
    Sum(copied, like=np.zeros(30)),
    Sum(folded, like=np.zeros((5, 6))),
    Sum(reordered, 7, like=np.zeros(30)),
)
NOISED = Question(private(clipped), private(clipped_too), private(clipped_from, 7))


@dataclass(frozen=True)
class Rule:
    """A rule, what is refused under it and why, and what was answered before."""

    rules: Mapping[str, Any]
    question: Question
    reason: str
    answered: tuple[Any, ...] = ()
    approved: tuple[Any, ...] = ()
    over_all: bool = True  # whether it forbids the question over all holders, too


RULES = {
    "minimum_rows": Rule({"minimum_rows": 31}, REGRESSION, TOO_FEW_ROWS),
    "minimum_holders": Rule({"minimum_holders": 5}, REGRESSION, TOO_FEW_HOLDERS),
    "models": Rule({"models": ["OLS"]}, sums(Pretended), MODEL_NOT_ALLOWED),
    "protocols": Rule({"protocols": ["RingPaillier"]}, REGRESSION, PROTOCOL_NOT_ALLOWED),
    "colluding": Rule({"colluding": 3}, REGRESSION, PROTOCOL_NOT_ALLOWED),
    "columns": Rule({"columns": ["y", "x"]}, HIDDEN, COLUMN_NOT_ALLOWED),
    "parameters_per_row": Rule({"parameters_per_row": 0.9}, ROWS_THEMSELVES, TOO_MANY_NUMBERS),
    "maximum_queries": Rule({"maximum_queries": 1}, sums(), QUERIES_SPENT, answered=(Sum(total),)),
    "set_changes": Rule({"set_changes": 0}, sums(), ALREADY_RELEASED, answered=(FIT,), over_all=False),
    "new-definition": Rule({"approval": "new-definition"}, sums(), WAITS_FOR_APPROVAL, (FIT,), (FIT,)),
    "every-run": Rule({"approval": "every-run"}, sums(), WAITS_FOR_APPROVAL, (Sum(total),), (Sum(total),)),
    "privacy": Rule({"privacy": "required"}, sums(), PRIVACY_REQUIRED, answered=(NOISED.plain,)),
    "budget": Rule({"epsilon": 1.25, "delta": 1e-5}, NOISED, BUDGET_SPENT, answered=(NOISED.plain,)),
}
ALL, FEWER = "abcd", "abc"
WAYS = {
    "restart": ("plain", ALL),
    "a model by another name": ("renamed", ALL),
    "another seed": ("seeded", ALL),
    "a roster smaller by one": ("plain", FEWER),
    "all of them": ("seeded", FEWER),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RULES)
def test_no_way_leads_round_a_rule(name: str, way: str, tmp_path: Path) -> None:
    """Holders start anew before each question. After the same questions each is answered without the rule."""
    rule, (variant, among) = RULES[name], WAYS[way]
    study, free = Study(made(tmp_path / "ruled"), **rule.rules), Study(made(tmp_path / "free"))
    for model in rule.approved:
        study.refuses(model)
        approve(study, model)
    for model in rule.answered:
        study.ask(model)
        free.ask(model)
    question = getattr(rule.question, variant)
    if among == FEWER or rule.over_all:
        for _ in range(2):
            assert study.refuses(question, among) == {rule.reason}
    else:
        study.ask(question, among)
    free.ask(question, among)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
