"""Training without torch: recipes, weights, server optimizers, states."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.models.errors import ModelError
from tacit.models.training import (
    LARGEST_LOSS,
    Recipe,
    RoundRecord,
    Score,
    TrainingState,
    bounded,
    loss_units,
    mean_loss,
    unit_exponent,
)
from tacit.models.training_optimizers import (
    ServerAdam,
    ServerMomentum,
    ServerOptimizer,
    ServerSGD,
    description_of,
    server_optimizer_of,
)
from tacit.protocols.encoding_plan import plan


def recipe(**changes: Any) -> Recipe:
    options: dict[str, Any] = {
        "aggregation": "fedavg",
        "optimizer": "sgd",
        "optimizer_options": {},
        "learning_rate": 0.1,
        "rounds": 3,
        "local_epochs": 1,
        "batch_size": None,
        "proximal": None,
        "seed": 0,
        "validation": None,
        "early_stop": None,
        "bound": 64.0,
    }
    return Recipe(**{**options, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds is a whole number"),
        ({"local_epochs": 1.5}, "local_epochs is a whole number"),
        ({"batch_size": True}, "batch_size is a whole number from 1, or None"),
        ({"seed": -1}, "seed"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"bound": 0.0}, "bound"),
        ({"validation": 1.0}, "validation is the fraction"),
        ({"early_stop": 3}, "give validation"),
        ({"aggregation": "mean"}, "aggregation is"),
        ({"aggregation": "fedprox"}, "proximal"),
        ({"proximal": 0.1}, "proximal"),
        ({"aggregation": "fedsgd", "local_epochs": 2}, "fedsgd takes one step"),
        ({"aggregation": "fedsgd", "optimizer": "adam"}, "server_optimizer"),
    ],
)
def test_a_recipe_that_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        recipe(**changes)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(2.0**-19, 2.0**39))
@pytest.mark.parametrize(
    ("aggregation", "dtype", "is_short"),
    [("fedavg", "float32", True), ("fedavg", "float64", False), ("fedsgd", "float32", False)],
)
def test_the_default_grid_holds_32767_holders_at_the_bound(
    aggregation: str, dtype: str, is_short: bool, bound: float
) -> None:
    chosen = recipe(bound=bound, aggregation=aggregation)
    is_short &= chosen.bound <= 64
    specifications = [("update", dtype, (3,)), ("buffers", dtype, (3,))]
    update, buffers = plan(chosen.encoding(np.dtype(dtype)), specifications, 32_767)
    assert (update.word_bits, buffers.word_bits) == (32 if is_short else 64, 64)
    for encoding, largest, grid_bits in (
        (update, chosen.bound, 30 if is_short else 48),
        (buffers, 2.0**20, 48),
    ):
        at_bound = np.full(3, largest, dtype=dtype)
        assert 2 ** (grid_bits - 1) <= encoding.bound <= 2**grid_bits
        np.testing.assert_array_equal(encoding.decode(encoding.encode(at_bound)), at_bound)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(2.0**-19, 2.0**7), st.lists(st.integers(1, 10**6), min_size=1, max_size=9))
def test_the_mean_of_changes_at_the_bound_fits_its_words(bound: float, rows: list[int]) -> None:
    chosen, exponent = recipe(bound=bound), unit_exponent(sum(rows))
    (update,) = plan(chosen.encoding(np.dtype(np.float32)), [("update", "float32", (1,))], len(rows))
    at_bound = np.array([chosen.bound], dtype=np.float32)
    weighted = [at_bound * np.float32(math.ldexp(n, -exponent)) for n in rows]
    total = sum((update.to_words(update.encode(values)) for values in weighted), np.zeros(1, np.uint32))
    expected = chosen.bound * math.ldexp(sum(rows), -exponent)
    np.testing.assert_allclose(update.decode(np.asarray(total)), [expected], rtol=1e-6)


# Weights and losses.


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 1023, 1024, 1025])
def test_the_unit_is_the_least_power_of_two_that_holds_all_rows(rows: int) -> None:
    unit = 2 ** unit_exponent(rows)
    assert rows <= unit < 2 * rows


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.integers(1, 10**6)), min_size=1, max_size=6))
def test_losses_travel_as_integers(parts: list[tuple[float, int]]) -> None:
    rows = sum(n for _, n in parts)
    exponent = unit_exponent(rows)
    units = sum(loss_units(loss, n, exponent) for loss, n in parts)
    expected = math.fsum(loss * n for loss, n in parts) / rows
    assert mean_loss(units, rows, exponent) == pytest.approx(expected, rel=1e-12, abs=len(parts) * 2.0**-32)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e300])
def test_a_loss_beyond_bounds_counts_as_the_largest(loss: float) -> None:
    assert mean_loss(loss_units(loss, 7, 3), 7, 3) == LARGEST_LOSS


def test_a_score_survives_the_sum() -> None:
    scores = [Score(4, 0.5, 3, 4), Score(0), Score(12, 1.5, 6, 12)]
    parts = [score.to_arrays("held_out_", 4, hits=True) for score in scores]
    sums = {name: np.sum([part[name] for part in parts]) for name in parts[0]}
    total = Score.of("held_out_", sums, 4)
    assert total == Score(16, 1.25, 9, 16)
    assert total.accuracy == 9 / 16


def test_nothing_measured_is_nan() -> None:
    assert math.isnan(Score.of("", {}, 3).loss)
    assert math.isnan(Score.of("", {}, 3).accuracy)


def test_clipping_counts_and_keeps_nan() -> None:
    values = np.array([0.5, -3.0, 2.0, np.nan, 2.5], dtype=np.float32)
    assert bounded(values, 2.0) == 2
    np.testing.assert_array_equal(values, np.array([0.5, -2.0, 2.0, np.nan, 2.0], dtype=np.float32))


# Server optimizers, against their formulas.

CHANGES = [np.array([1.0, -2.0, 0.0]), np.array([0.5, 0.5, -1.0]), np.array([0.0, 1.0, 3.0])]


def moved(optimizer: ServerOptimizer) -> list[np.ndarray[Any, Any]]:
    memory = optimizer.start(np.zeros(3))
    steps = []
    for change in CHANGES:
        step, memory = optimizer.step(change.copy(), memory)
        steps.append(step.copy())
    return steps


def test_plain_averaging_adds_the_change() -> None:
    np.testing.assert_array_equal(moved(ServerSGD()), CHANGES)
    np.testing.assert_array_equal(moved(ServerSGD(0.5)), [0.5 * change for change in CHANGES])


def test_momentum_follows_fedavgm() -> None:
    a, b, c = CHANGES
    velocities = [a, 0.9 * a + b, 0.81 * a + 0.9 * b + c]
    np.testing.assert_allclose(
        moved(ServerMomentum(0.5, 0.9)), [0.5 * velocity for velocity in velocities], rtol=1e-14
    )


def test_adam_follows_fedadam() -> None:
    mean, square, expected = np.zeros(3), np.full(3, 0.01**2), []
    for change in CHANGES:
        mean = 0.9 * mean + 0.1 * change
        square = 0.99 * square + 0.01 * change**2
        expected.append(0.1 * mean / (np.sqrt(square) + 0.01))
    np.testing.assert_allclose(moved(ServerAdam(0.1, 0.9, 0.99, 0.01)), expected, rtol=1e-14)


@pytest.mark.parametrize("optimizer", [ServerSGD(0.3), ServerMomentum(0.3), ServerAdam()])
def test_precision_is_kept(optimizer: ServerOptimizer) -> None:
    change = np.ones(2, dtype=np.float32)
    step, memory = optimizer.step(change, optimizer.start(np.zeros(2, dtype=np.float32)))
    assert {step.dtype, *(array.dtype for array in memory.values())} == {np.dtype(np.float32)}


def test_server_optimizers_by_name() -> None:
    assert server_optimizer_of(None) == ServerSGD()
    assert server_optimizer_of("momentum") == ServerMomentum()
    assert server_optimizer_of(ServerAdam(1.0)) == ServerAdam(1.0)
    assert description_of(ServerSGD(2.0)) == {"name": "sgd", "learning_rate": 2.0}
    with pytest.raises(ModelError, match="'momentum', 'adam'"):
        server_optimizer_of("adamw")


# States.


def test_a_state_survives_json_bit_by_bit() -> None:
    state = TrainingState(
        2,
        np.array([1 / 3, -0.0, 1e-45], dtype=np.float32),
        0.1,
        n_passes=3,
        memory={"velocity": np.array([2 / 3], dtype=np.float32)},
        records=(RoundRecord(0), RoundRecord(1, 0.3, 0.2, 0.9, 12, 1)),
        best=np.array([1.5], dtype=np.float32),
        best_round=1,
    )
    restored = TrainingState.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False)))
    assert restored.parameters.tobytes() == state.parameters.tobytes()
    assert restored.parameters.dtype == np.float32
    assert restored.best is not None
    assert restored.best.tolist() == [1.5]
    assert restored.memory["velocity"].tobytes() == state.memory["velocity"].tobytes()
    assert repr(restored.records) == repr(state.records)
    assert (restored.iteration, restored.value, restored.n_passes, restored.best_round) == (2, 0.1, 3, 1)


def test_a_state_prints_as_progress() -> None:
    records = (RoundRecord(0, validation_loss=2.3, validation_accuracy=0.1), RoundRecord(1, 1.5))
    state = TrainingState(1, np.zeros(1), 1.5, records=records)
    assert str(state) == "round 1: loss 1.5, held out before it 2.3 (accuracy 10.0%)"
    assert str(TrainingState(1, np.zeros(1), 1.5)) == "round 1: loss 1.5"
