"""Sums with noise: what leaves a holder is clipped and noised, and no sum is over fewer than the noise counts on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_process import Network, Posted
from tacit.actors.computation import Computation
from tacit.actors.data_holder import DataHolder
from tacit.models.sum import Sum
from tacit.privacy.errors import PrivacyError
from tacit.privacy.guarantee import Privacy
from tacit.privacy.noised_sum import NoisedSum
from tacit.protocols.errors import AbortedError, RefusedError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.secret_sharing import SecretSharing
from tacit.records.policy import Policy
from tacit.serialization.encoding_parameters import AutoRange, ExactFloat, FixedPoint, Quantized
from tacit.serialization.session_messages import Query

DATA = {name: np.full(50, value) for name, value in zip("abcde", (0.1, 0.2, 0.3, 0.4, 30.0), strict=True)}
CLIPPED = 50 * (0.1 + 0.2 + 0.3 + 0.4 + 1.0)
RESILIENT = [PairwiseMasking(threshold=5), SecretSharing(threshold=5, packing=1)]


def private(model: Sum | None = None, **options: Any) -> Sum:
    guarantee = Privacy(50.0, 0.5, **{"clip": 1.0, **options})
    return (model or Sum(lambda rows: rows)).with_privacy(guarantee)


def run(act: Callable[[Network], Any], data: Any = DATA, **options: Any) -> Any:
    async def within() -> Any:
        async with Network(data, holder=DataHolder, **options) as network:
            return await act(network)

    return asyncio.run(within())


async def summed(network: Network, model: Sum, on_dropout: Any = "fail") -> Any:
    encoding = None if model.noised is None else model.noised.encoding(len(network.data))
    return (await network.run(model, encoding=encoding, on_dropout=on_dropout)).value


@pytest.mark.parametrize("protocol", [PairwiseMasking(), SecretSharing()])
def test_a_sum_is_over_clipped_records_and_has_the_noise_that_is_told(protocol: Any) -> None:
    model = private()
    assert model.noised is not None
    deviation = model.noised.variance(5, 5) ** 0.5
    value = run(lambda network: summed(network, model), protocol=protocol)
    assert value != CLIPPED
    assert abs(value - CLIPPED) < 8 * deviation < 20


def test_two_sums_have_different_noise() -> None:
    async def twice(network: Network) -> tuple[Any, Any]:
        return await summed(network, private()), await summed(network, private())

    first, second = run(twice, protocol=PairwiseMasking())
    assert first != second


def test_a_vector_a_record_keeps_its_shape() -> None:
    model = private(
        Sum(lambda rows: np.stack([rows, -rows], axis=1).reshape(-1, 1, 2), like=np.zeros((1, 2)))
    )
    value = run(lambda network: summed(network, model), protocol=PairwiseMasking())
    assert value.shape == (1, 2)


def test_the_entries_of_a_person_are_clipped_together() -> None:
    frame = pd.DataFrame({"x": [1.0, 1.0, 1.0, 1.0], "who": ["p", "p", "p", "q"]})
    model = private(Sum(lambda rows: rows["x"]), unit="person", person="who")
    assert model.noised is not None
    value = run(lambda n: summed(n, model), dict.fromkeys("abc", frame), protocol=PairwiseMasking())
    assert abs(value - 6) < 8 * model.noised.variance(3, 3) ** 0.5  # two persons a holder, 1 each


def test_a_function_that_sums_by_itself_is_refused() -> None:
    model = private(Sum(lambda rows: rows.sum()))
    with pytest.raises(RefusedError, match="one entry of shape"):
        run(lambda network: summed(network, model), protocol=PairwiseMasking())


def test_a_person_without_a_column_is_refused() -> None:
    model = private(unit="person", person="who")
    with pytest.raises(RefusedError, match="no column 'who'"):
        run(lambda network: summed(network, model), protocol=PairwiseMasking())


def test_sampling_of_a_sum_is_refused() -> None:
    with pytest.raises(PrivacyError, match="sampling"):
        private(sampling=0.5)


class Unnoised(Sum):
    """A model that would release more than its noised sum."""

    def contribution(self, data: Any, query: Any, /) -> Any:
        return {**super().contribution(data, query), "rows": np.int64(len(data))}


def test_a_model_that_would_release_more_than_its_noised_sum_is_refused() -> None:
    model = private(Unnoised(lambda rows: rows))
    with pytest.raises(RefusedError, match="one noised vector"):
        run(lambda network: summed(network, model), protocol=PairwiseMasking())


# Losses

SEVEN = {name: np.full(50, 0.5) for name in "abcdefg"}


async def summed_losing(network: Network, model: Sum, *names: str) -> Any:
    """Let holders die when they are told how a session begins."""

    def on_frame(posted: Posted) -> bool:
        if posted.to in names and not posted.sealed.handshake:
            network.kill(posted.to)
        return True

    network.on_frame = on_frame
    return await summed(network, model, on_dropout="continue")


@pytest.mark.parametrize("protocol", RESILIENT)
def test_a_sum_goes_on_without_as_many_as_the_noise_tolerates(protocol: Any) -> None:
    model = private(dropouts=1)
    assert model.noised is not None
    deviation = model.noised.variance(7, 6) ** 0.5
    value = run(lambda network: summed_losing(network, model, "e"), SEVEN, protocol=protocol)
    assert abs(value - 150) < 8 * deviation < 20


@pytest.mark.parametrize("protocol", RESILIENT)
def test_holders_let_no_coordinator_sum_over_fewer_than_the_noise_counts_on(
    monkeypatch: pytest.MonkeyPatch, protocol: Any
) -> None:
    monkeypatch.setattr(Computation, "_wanted", lambda _: 0)

    async def summed_in_clear(network: Network) -> Any:
        return await summed_losing(network, Sum(lambda rows: rows.sum()), "d", "e")

    assert run(summed_in_clear, SEVEN, protocol=protocol) == 125
    with pytest.raises(AbortedError):
        run(lambda network: summed_losing(network, private(dropouts=1), "d", "e"), SEVEN, protocol=protocol)


FOUR = {name: np.full(50, 0.5) for name in "abcd"}


@pytest.mark.parametrize("protocol", [PairwiseMasking(), SecretSharing()])
def test_a_question_is_answered_again_without_a_lost_holder_and_charged_again(
    tmp_path: Path, protocol: Any
) -> None:
    """Without noise it would be refused: the difference would be the lost holder's."""
    policies = dict.fromkeys(FOUR, Policy(epsilon=200.0, delta=0.6, folder=tmp_path))
    model = private()
    assert model.noised is not None
    form = model.noised

    async def again(network: Network) -> tuple[float, float]:
        first = await summed(network, model)
        network.kill("d")
        await asyncio.sleep(0)
        result = await network.run(model, encoding=form.encoding(3), on_dropout="continue")
        assert result.survivors == ("a", "b", "c")
        return float(first), float(result.value)

    first, second = run(again, FOUR, protocol=protocol, policies=policies)
    assert abs(first - 100) < 8 * form.variance(4, 4) ** 0.5 < 20
    assert abs(second - 75) < 8 * form.variance(3, 3) ** 0.5 < 20
    budgets = {name: policy.budget(name) for name, policy in policies.items()}
    charged = {name: sum(c.rounds for c in budget.charges()) for name, budget in budgets.items() if budget}
    assert charged == {"a": 2, "b": 2, "c": 2, "d": 1}


# A coordinator that asks otherwise


@pytest.mark.parametrize("encoding", [Quantized(2, 1e-6), AutoRange(), FixedPoint(1e6, 0), ExactFloat()])
def test_under_privacy_no_encoding_is_taken_but_the_one_that_follows_from_it(
    monkeypatch: pytest.MonkeyPatch, encoding: Any
) -> None:
    """A maximum, a sign or a refusal would tell of a single holder's share, which has too little noise."""
    monkeypatch.setattr(Computation, "noised", property(lambda _: None, lambda *_: None), raising=False)
    model = private()
    with pytest.raises(RefusedError, match="encoding follows from the guarantee"):
        run(lambda network: network.run(model, encoding=encoding), protocol=PairwiseMasking())


def put_in(model: Sum, data: Any) -> Any:
    return np.asarray(model.contribution(data, Query("sum"))["noised"]).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_counts_as_absent(value: float) -> None:
    frame = pd.DataFrame({"x": [0.25, 5.0, 0.5, 0.75], "who": ["p", "q", "p", "r"]})
    bad = frame.assign(x=frame["x"].where(frame.index != 2, value))
    for options in ({}, {"unit": "person", "person": "who"}):
        model = private(Sum(lambda rows: rows["x"]), **options)
        assert put_in(model, bad) == put_in(model, frame.drop(index=2)) != put_in(model, frame)


@pytest.mark.parametrize("nobody", [None, "", np.nan, pd.NA])
def test_an_entry_of_nobody_counts_as_absent(nobody: Any) -> None:
    who = np.array(["p", nobody, "p", 7], dtype=object)
    frame = pd.DataFrame({"x": [0.25, 0.75, 0.5, 0.75], "who": pd.Series(who, dtype=object)})
    model = private(Sum(lambda rows: rows["x"]), unit="person", person="who")
    assert put_in(model, frame) == put_in(model, frame.drop(index=1))


def test_an_entry_that_is_not_finite_counts_as_absent_and_refuses_nothing() -> None:
    model = private(Sum(lambda rows: np.where(rows < 0.15, np.nan, 5.0)))
    assert model.noised is not None
    value = run(lambda network: summed(network, model), protocol=PairwiseMasking())
    assert abs(value - 200) < 8 * model.noised.variance(5, 5) ** 0.5 < 20


class Quiet(NoisedSum):
    """Noise that is none."""

    def add_noise(self, total: Any, n_holders: int, random_bytes: Any) -> Any:
        return total


def test_noise_of_the_user_s_own_is_refused() -> None:
    model = private()
    assert model.noised is not None
    quiet = Quiet(privacy=model.noised.privacy, dimension=1, rounds=1)
    model.noised = quiet
    with pytest.raises(RefusedError, match="none of tacit's"):
        run(lambda network: summed(network, model), protocol=PairwiseMasking())
