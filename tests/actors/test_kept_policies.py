"""Rules that outlive a process: an analyst who tries to get round them, against holders that are started anew."""

from __future__ import annotations

import asyncio
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
from tacit.protocols.errors import RefusedError
from tacit.protocols.invitation import (
    ALREADY_RELEASED,
    COLUMN_NOT_ALLOWED,
    CONTRIBUTION_FAILED,
    QUERIES_SPENT,
    RECORDS_OUT_OF_ORDER,
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
                return await network.run(model)

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
