"""What a holder insists on: each rule refuses what it is against, and says which rule it is."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tacit.models.definition import Definition
from tacit.models.errors import ModelError
from tacit.models.least_squares import OLS
from tacit.models.poisson import poisson_sites
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.privacy.accounting import Charge
from tacit.privacy.guarantee import Privacy
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.invitation import (
    BUDGET_OF_OTHERS,
    BUDGET_OUT_OF_ORDER,
    BUDGET_SPENT,
    COLUMN_NOT_ALLOWED,
    MODEL_NOT_ALLOWED,
    PRIVACY_REQUIRED,
    PROTOCOL_NOT_ALLOWED,
    REFUSALS,
    TOO_FEW_HOLDERS,
    TOO_FEW_ROWS,
    TOO_MANY_NUMBERS,
)
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.records.errors import BudgetError, PolicyError, RecordError
from tacit.records.policy import Policy, state_file
from tacit.records.table import n_rows

PRIVACY = Privacy(1.0, 1e-5, clip=1.0)
ROWS = np.arange(10.0)
RING = RingPaillier.insecure_for_tests()


def check(
    policy: Policy, model: Any = None, data: Any = ROWS, protocol: Any = RING, n_holders: int = 3
) -> None:
    policy.check(Sum(len) if model is None else model, data, protocol=protocol, n_holders=n_holders)


def reason(policy: Policy, *question: Any, **asked: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        check(policy, *question, **asked)
    assert caught.value.reason in REFUSALS
    assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason
    return caught.value.reason


def test_a_policy_without_rules_allows_everything() -> None:
    check(Policy(), data=None, n_holders=1)


def test_models_are_allowed_by_their_classes() -> None:
    policy = Policy(models=["OLS", "GLM"])
    check(policy, OLS("y ~ x"))
    assert reason(policy) == MODEL_NOT_ALLOWED
    with pytest.raises(PolicyError, match="the model is a Sum, and allowed: OLS, GLM"):
        check(policy)


class Renamed(OLS):
    """A model that gives itself out for another."""

    kind = "OLS"

    @property
    def definition(self) -> Definition:
        return OLS("y ~ x").definition


def test_a_model_is_what_its_class_is_and_not_what_it_says() -> None:
    assert reason(Policy(models=["OLS"]), Renamed("y ~ x")) == MODEL_NOT_ALLOWED
    check(Policy(models=[f"{Renamed.__module__}:Renamed"]), Renamed("y ~ x"))
    forged = type("OLS", (Sum,), {"__module__": OLS.__module__})
    assert reason(Policy(models=["OLS"]), forged(len)) == MODEL_NOT_ALLOWED


def test_protocols_are_allowed_by_their_classes() -> None:
    check(Policy(protocols=("RingPaillier",)))
    assert reason(Policy(protocols=("RingPaillier",)), protocol=PairwiseMasking()) == PROTOCOL_NOT_ALLOWED


@pytest.mark.parametrize(
    ("protocol", "withstands"),
    [
        (PairwiseMasking(), 1),
        (PairwiseMasking(colluding=3), 3),
        (SecretSharing(colluding=2), 2),
        (AdditiveSharing(colluding=2), 2),
        (RING, 1),
        (RingPaillier.insecure_for_tests(masks=False, colluding=3), 0),  # one neighbour is enough
    ],
)
def test_protocols_withstand_as_many_who_pool_as_is_asked_for(protocol: Any, withstands: int) -> None:
    check(Policy(colluding=withstands), protocol=protocol)
    assert reason(Policy(colluding=withstands + 1), protocol=protocol) == PROTOCOL_NOT_ALLOWED


def test_too_few_holders_are_refused() -> None:
    check(Policy(minimum_holders=3))
    assert reason(Policy(minimum_holders=4)) == TOO_FEW_HOLDERS


def test_too_few_rows_are_refused() -> None:
    check(Policy(minimum_rows=10))
    assert reason(Policy(minimum_rows=11)) == TOO_FEW_ROWS
    assert reason(Policy(minimum_rows=1), data=None) == TOO_FEW_ROWS


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (np.zeros((4, 2)), 4),
        (pd.DataFrame({"x": [1, 2, 3]}), 3),
        (pd.Series([1, 2]), 2),
        ((np.zeros((4, 2)), np.zeros(4)), 4),
        ((np.zeros((4, 2)), np.zeros(3)), 3),
        ([1, 2, 3], 3),
        ({"x": [1, 2], "y": [3, 4]}, 2),
        ({}, 0),
        (np.float64(3), None),
        (np.array(3.0), None),
        ((1, 2), None),
        ("five", None),
        (None, None),
    ],
)
def test_rows_are_counted(data: Any, rows: int | None) -> None:
    assert n_rows(data) == rows


def test_what_is_not_noised_is_refused_where_privacy_is_required(tmp_path: Path) -> None:
    noised = Sum(np.asarray).with_privacy(PRIVACY)
    pretended = copy.copy(Sum(len))
    pretended.__dict__["noised"] = "as I say"
    for policy in (Policy(privacy="required"), Policy(epsilon=1.0, delta=1e-5, folder=tmp_path)):
        check(policy, noised)
        assert reason(policy) == PRIVACY_REQUIRED
        assert reason(policy, pretended) == PRIVACY_REQUIRED


def test_a_definition_makes_what_is_allowed_here() -> None:
    own, name = Sum(poisson_sites).definition, "tacit.models.poisson:poisson_sites"
    named = Policy(models=["OLS", "Sum"], importable=[name])
    assert named.model_of(own).definition == own
    assert named.model_of(OLS("y ~ x").definition).definition == OLS("y ~ x").definition
    with pytest.raises(ModelError, match="may not be imported"):
        Policy(models=["Sum"]).model_of(own)
    with pytest.raises(PolicyError) as caught:
        Policy(models=["OLS"], importable=[name]).model_of(own)
    assert caught.value.reason == MODEL_NOT_ALLOWED


# Budgets


def test_a_budget_is_a_holders_own_and_there_when_it_starts_again(tmp_path: Path) -> None:
    policy = Policy(epsilon=0.5, delta=1e-5, folder=tmp_path)
    budget = policy.budget("site-1")
    assert budget is not None
    budget.charge(PRIVACY, Charge(noise_multiplier=10.0), "a test")
    other, again = policy.budget("site-2"), pickle.loads(pickle.dumps(policy)).budget("site-1")
    assert other is not None
    assert other.spent == 0.0
    with pytest.raises(BudgetError) as caught:
        again.charge(PRIVACY, Charge(noise_multiplier=10.0), "a test")
    assert caught.value.reason == BUDGET_SPENT
    assert Policy().budget("site-1") is None


def test_a_budget_of_others_is_told(tmp_path: Path) -> None:
    budget = Policy(epsilon=0.5, delta=1e-5, folder=tmp_path).budget("a")
    assert budget is not None
    with pytest.raises(PolicyError) as caught:
        budget.charge(Privacy(1, 1e-5, clip=1.0, unit="holder"), Charge(noise_multiplier=10.0), "a test")
    assert caught.value.reason == BUDGET_OF_OTHERS
    budget.charge(PRIVACY, Charge(noise_multiplier=10.0), "a test")
    with pytest.raises(PolicyError) as caught:
        Policy(epsilon=0.5, delta=1e-5, folder=tmp_path, unit="holder").budget("a")
    assert caught.value.reason == BUDGET_OUT_OF_ORDER


def test_a_folder_that_is_not_there_is_no_new_budget(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="make it first"):
        Policy(epsilon=0.5, delta=1e-5, folder=tmp_path / "mistyped").budget("a")


NAMES = [
    "site-1",
    "Site-1",
    "site 1",
    "site/1",
    "../x",
    "..",
    "",
    ".",
    "\u00e4",
    "a\u0308",
    "x" * 100,
    "x" * 99,
    "站",
]


def test_budget_files_are_safe_and_different_for_every_name() -> None:
    files = [state_file(name, "budget") for name in NAMES]
    assert len({file.lower() for file in files}) == len(NAMES)
    assert all(
        file.isascii() and "/" not in file and len(file) <= 100 and file[0].isalnum() for file in files
    )
    assert state_file("site-1", "budget").startswith("site-1-")


def test_a_relative_folder_is_the_one_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Policy(epsilon=1.0, delta=1e-5, folder="budgets").folder == str(tmp_path / "budgets")


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"minimum_rows": -1}, "whole number"),
        ({"minimum_holders": 2.5}, "whole number"),
        ({"colluding": -1}, "colluding is a whole number"),
        ({"minimum_rows": True}, "whole number"),
        ({"models": "GLM"}, r"a list of names: models=\['GLM'\]"),
        ({"protocols": [""]}, "a list of names"),
        ({"importable": ["os.system"]}, "of the form"),
        ({"privacy": "yes"}, "optional"),
        ({"epsilon": 1.0}, "the folder"),
        ({"epsilon": 1.0, "delta": 1e-5}, "the folder"),
        ({"approval": "every-run"}, "approvals take the folder"),
        ({"approval": "always"}, "approval is one of never"),
        ({"set_changes": -1}, "set_changes is a whole number"),
        ({"maximum_queries": 1.0}, "maximum_queries is a whole number"),
        ({"parameters_per_row": 0}, "parameters_per_row is"),
        ({"columns": "x"}, r"columns=\['x'\]"),
        ({"unit": "row"}, "protects one of"),
    ],
)
def test_what_is_no_rule_is_refused(rules: dict[str, Any], problem: str) -> None:
    with pytest.raises(PolicyError, match=problem):
        Policy(**rules)


TABLE = pd.DataFrame({"y": [1.0, 2.0], "x": [0.5, 0.25], "income": [1e5, 2e5]})
SHOWN = Policy(columns=["y", "x"])
HIDDEN: dict[str, Any] = {
    "term": OLS("y ~ income"),
    "response": OLS("income ~ x"),
    "backticks": OLS("y ~ x + `income`"),
    "quoted": OLS('y ~ x + I(0 * Q("income"))'),
    "transform": OLS("y ~ x + center(income)"),
    "interaction": OLS("y ~ x:income"),
    "factor": OLS("y ~ C(income)"),
    "offset": GLM("y ~ x", "poisson", offset="income"),
    "offset in the formula": GLM("y ~ x + offset(income)", "poisson"),
    "weights": OLS("y ~ x", weights="1 / income"),
    "two responses": GLM("cbind(y, income) ~ x", "binomial"),
}


@pytest.mark.parametrize("model", HIDDEN.values(), ids=HIDDEN)
def test_a_column_that_is_not_allowed_is_refused_wherever_it_stands(model: Any) -> None:
    check(SHOWN, OLS("y ~ x"), TABLE)
    assert reason(SHOWN, model, TABLE) == COLUMN_NOT_ALLOWED


def test_no_function_is_shown_another_column() -> None:
    check(SHOWN, Sum(len), TABLE)
    assert list(SHOWN.visible(TABLE)) == ["y", "x"]
    assert SHOWN.visible({"x": ROWS, "income": ROWS}).keys() == {"x"}
    assert Policy().visible(TABLE) is TABLE


def test_rows_without_names_of_columns_are_refused() -> None:
    assert reason(SHOWN, Sum(len), ROWS) == COLUMN_NOT_ALLOWED


def test_numbers_that_leave_are_counted_against_the_rows() -> None:
    policy = Policy(parameters_per_row=0.5)
    policy.check_size(Sum(len), {"sum": np.zeros(5)}, ROWS)
    policy.check_size(OLS("y ~ x"), {"levels": np.zeros(999), "rows": np.zeros(2)}, ROWS)
    for data in (ROWS, iter(ROWS)):  # rows that cannot be counted are none
        with pytest.raises(PolicyError) as caught:
            policy.check_size(Sum(len), {"sum": np.zeros((2, 2)), "levels": np.zeros(2)}, data)
        assert caught.value.reason == TOO_MANY_NUMBERS
