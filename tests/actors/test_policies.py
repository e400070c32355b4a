"""What a holder insists on, as the user meets it: he reads which holder refuses, and by which rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hidden import HiddenHolders
from in_process import Network, Posted
from tacit.actors.data_holder import DataHolder
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll
from tacit.models.sum import Sum
from tacit.privacy.guarantee import Privacy
from tacit.privacy.noised_sum import NoisedSum
from tacit.protocols.convening import UNNAMED
from tacit.protocols.errors import DropoutError, InvalidMessageError, RefusedError
from tacit.protocols.invitation import (
    BUDGET_OF_OTHERS,
    BUDGET_OUT_OF_ORDER,
    BUDGET_SPENT,
    CONTRIBUTION_FAILED,
    MODEL_NOT_ALLOWED,
    PRIVACY_REQUIRED,
    PROTOCOL_NOT_ALLOWED,
    TOO_FEW_HOLDERS,
    TOO_FEW_ROWS,
)
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.secret_sharing import SecretSharing
from tacit.records.policy import Policy
from tacit.serialization.errors import TacitError

ROWS = {"a": np.arange(30.0), "b": np.arange(7.0), "c": np.arange(40.0)}
FIVE = {name: np.arange(20.0) for name in "abcde"}
LIKELIHOOD = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
BOTH = pytest.mark.parametrize("simulation", [True, False], ids=["simulation", "deployment"])


def run(act: Callable[[Network], Any], policies: Mapping[str, Policy], **options: Any) -> Any:
    async def within() -> Any:
        data = options.pop("data", ROWS)
        options.setdefault("protocol", PairwiseMasking())
        async with Network(data, holder=DataHolder, policies=policies, **options) as network:
            return await act(network)

    return asyncio.run(within())


def refusals(
    model: Any, policies: Mapping[str, Policy], encoding: Any = None, **options: Any
) -> dict[str, tuple[str, str]]:
    with pytest.raises(RefusedError) as caught:
        run(lambda network: network.run(model, encoding=encoding), policies, **options)
    return caught.value.refusals


def not_at_b(rows: Any) -> float:
    if len(rows) == 7:
        raise AssertionError("the contribution is computed")
    return float(rows.sum())


@BOTH
@pytest.mark.parametrize(
    ("rule", "reason", "details"),
    [
        (Policy(models=["GLM", "OLS"]), MODEL_NOT_ALLOWED, "the model is a Sum, and allowed: GLM, OLS"),
        (Policy(protocols=["RingPaillier"]), PROTOCOL_NOT_ALLOWED, "is PairwiseMasking, and allowed: RingP"),
        (Policy(colluding=2), PROTOCOL_NOT_ALLOWED, "withstands 1 holders who pool with the coordinator"),
        (Policy(minimum_rows=20), TOO_FEW_ROWS, "there are 7 rows, and 20 are asked for"),
        (Policy(minimum_holders=4), TOO_FEW_HOLDERS, "3 holders are invited, and every sum must be over 4"),
        (Policy(privacy="required"), PRIVACY_REQUIRED, "ask with privacy=Privacy"),
    ],
    ids=["models", "protocols", "colluding", "rows", "holders", "privacy"],
)
def test_holder_and_rule_are_told_before_anything_is_computed(
    rule: Policy, reason: str, details: str, simulation: bool
) -> None:
    told = refusals(Sum(not_at_b), {"a": Policy(minimum_rows=1), "b": rule}, simulation=simulation)
    [(holder, (said, shown))] = told.items()
    assert (holder, said) == ("b", reason)
    assert details in shown if simulation else not shown


@pytest.mark.parametrize(
    "protocol", [PairwiseMasking(threshold=3, colluding=2), SecretSharing(threshold=2, colluding=2)]
)
def test_a_protocol_that_says_it_withstands_more_than_its_threshold_is_in_no_sum(protocol: Any) -> None:
    """What an analyst would try who cannot have `colluding` as the holder asks for and the threshold of his choice."""
    with pytest.raises(TacitError, match="threshold"):
        run(
            lambda network: network.run(Sum(len)),
            dict.fromkeys("abcde", Policy(colluding=2)),
            data=FIVE,
            protocol=protocol,
        )


@BOTH
def test_in_a_deployment_the_numbers_stay_with_the_holder(
    simulation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told = refusals(Sum(len), dict.fromkeys("abc", Policy(minimum_rows=20)), simulation=simulation)
    details = "there are 7 rows, and 20 are asked for"
    assert told == {"b": (TOO_FEW_ROWS, details if simulation else "")}
    assert (details in caplog.text) is not simulation


def test_what_is_allowed_is_computed() -> None:
    policy = Policy(models=["Sum", "MaximumLikelihood"], minimum_rows=7, minimum_holders=3)
    policies = dict.fromkeys("abc", policy)
    assert run(lambda network: network.sum(len), policies) == 77
    fit = run(lambda network: network.run(LIKELIHOOD), policies)
    assert fit.value.converged


def test_a_later_session_is_checked_as_the_first() -> None:
    async def act(network: Network) -> None:
        assert await network.sum(len) == 77
        network.holders[next(iter(network.holders))]._policy = Policy(models=[])
        with pytest.raises(RefusedError, match="a refuses: its policy does not allow this model"):
            await network.sum(np.sum)

    run(act, {})


def test_who_asks_without_knowing_the_holders_reads_the_rule_alone() -> None:
    async def within() -> None:
        async with HiddenHolders(FIVE) as hidden:
            hidden.holders[PartyId("d")]._policy = Policy(minimum_rows=21)
            with pytest.raises(RefusedError) as caught:
                await hidden.run(Sum(len))
            assert caught.value.refusals == {UNNAMED: (TOO_FEW_ROWS, "")}

    asyncio.run(within())


# Holders in a sum


def losing(network: Network, name: str) -> None:
    """Let a holder die when its answer to the invitation is on its way."""

    def on_frame(posted: Posted) -> bool:
        if posted.sender == name:
            network.kill(name)
            return False
        return True

    network.on_frame = on_frame


@pytest.mark.parametrize("needed", [5, 0], ids=["coordinator knows", "coordinator ignores"])
def test_a_sum_over_fewer_survivors_than_a_holder_asks_for_never_is(needed: int) -> None:
    async def act(network: Network) -> None:
        losing(network, "e")
        with pytest.raises(TacitError) as caught:
            await network.run(Sum(len), on_dropout="continue", needed=needed)
        assert isinstance(caught.value, DropoutError if needed else InvalidMessageError | TacitError)
        assert [record for record in network.repository.records if record["released"]] == []

    run(act, {"b": Policy(minimum_holders=5)}, data=FIVE, protocol=PairwiseMasking(threshold=4))


def test_a_sum_over_as_many_survivors_as_asked_for_is_fine() -> None:
    async def act(network: Network) -> Any:
        losing(network, "e")
        return (await network.run(Sum(len), on_dropout="continue", needed=4)).value

    policies = dict.fromkeys("abcde", Policy(minimum_holders=4))
    assert run(act, policies, data=FIVE, protocol=PairwiseMasking(threshold=4)) == 80


# Budgets


def noised(epsilon: float = 1.0, **options: Any) -> Sum:
    guarantee: dict[str, Any] = {"clip": 1.0, "known": 0, **options}
    return Sum(np.asarray).with_privacy(Privacy(epsilon, 1e-5, **guarantee))


def ask(model: Sum, policies: Mapping[str, Policy], **options: Any) -> Any:
    assert model.noised is not None
    encoding = model.noised.encoding(3)
    return run(lambda network: network.run(model, encoding=encoding), policies, **options)


def refused(model: Sum, policies: Mapping[str, Policy], **options: Any) -> dict[str, tuple[str, str]]:
    assert model.noised is not None
    return refusals(model, policies, model.noised.encoding(3), **options)


def test_a_spent_budget_refuses_also_after_a_restart(tmp_path: Path) -> None:
    small, large = (Policy(epsilon=epsilon, delta=1e-5, folder=tmp_path) for epsilon in (1.25, 9.0))
    policies = {"a": large, "b": small}
    ask(noised(), policies)
    for _ in range(2):  # each with new holders
        [(holder, (reason, details))] = refused(noised(), policies).items()
        assert (holder, reason) == ("b", BUDGET_SPENT)
        assert "of 1.25 are spent" in details
        assert "0 of 1 such rounds would fit" in details
    budgets = [policy.budget(name) for name, policy in policies.items()]
    assert [len(budget.charges()) for budget in budgets if budget is not None] == [3, 1]


def test_in_a_deployment_a_spent_budget_tells_no_number(tmp_path: Path) -> None:
    policies = {"b": Policy(epsilon=0.5, delta=1e-5, folder=tmp_path)}
    assert refused(noised(), policies, simulation=False) == {"b": (BUDGET_SPENT, "")}


def test_what_is_not_noised_is_no_way_round_a_budget(tmp_path: Path) -> None:
    policies = {"b": Policy(epsilon=0.5, delta=1e-5, folder=tmp_path)}
    assert refusals(Sum(len), policies)["b"][0] == PRIVACY_REQUIRED


def test_a_budget_kept_for_others_refuses(tmp_path: Path) -> None:
    policies = {"c": Policy(epsilon=9.0, delta=1e-5, folder=tmp_path, unit="person", person="who")}
    [(holder, (reason, details))] = refused(noised(), policies).items()
    assert (holder, reason) == ("c", BUDGET_OF_OTHERS)
    assert 'ask for unit="person"' in details


def test_a_damaged_budget_refuses_everything(tmp_path: Path) -> None:
    policy = Policy(epsilon=9.0, delta=1e-5, folder=tmp_path)
    ask(noised(), {"c": policy})
    budget = policy.budget("c")
    assert budget is not None
    budget.path.write_bytes(budget.path.read_bytes().replace(b'"number":1', b'"number":2'))
    [(holder, (reason, _))] = refused(noised(), {"c": policy}).items()
    assert (holder, reason) == ("c", BUDGET_OUT_OF_ORDER)


def test_a_contribution_that_fails_is_not_charged(tmp_path: Path) -> None:
    def fails(rows: Any) -> Any:
        raise ValueError("no such column")

    policy = Policy(epsilon=9.0, delta=1e-5, folder=tmp_path)
    model = Sum(fails).with_privacy(Privacy(1.0, 1e-5, clip=1.0))
    assert refused(model, {"c": policy})["c"][0] == CONTRIBUTION_FAILED
    budget = policy.budget("c")
    assert budget is not None
    assert budget.charges() == []


def test_a_fit_of_which_only_some_rounds_fit_is_refused_before_the_first(tmp_path: Path) -> None:
    """Three of its eight rounds would fit, and would be spent for nothing."""
    model = noised(2.0)
    assert model.noised is not None
    model.noised = NoisedSum(privacy=replace(model.noised.privacy, known=1), dimension=1, rounds=8)
    policy = Policy(epsilon=1.2, delta=1e-5, folder=tmp_path)
    [(holder, (reason, details))] = refused(model, {"c": policy}).items()
    assert (holder, reason) == ("c", BUDGET_SPENT)
    assert "of 8 such rounds would fit" in details
    budget = policy.budget("c")
    assert budget is not None
    assert budget.charges() == []
