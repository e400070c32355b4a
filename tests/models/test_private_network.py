"""Networks under differential privacy: what one record, person or holder can do to a round, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tacit.models import private_network_gradients
from tacit.models.definition import State
from tacit.models.errors import DataError, ModelError
from tacit.models.network_fit import NetworkFit
from tacit.models.neural_network import NeuralNetwork
from tacit.models.registry import kind_of
from tacit.models.total import Arrays, Total, contribute, pooled
from tacit.models.training import TrainingState
from tacit.privacy.clipping import sensitivity
from tacit.privacy.errors import PrivacyError
from tacit.privacy.guarantee import Privacy
from tacit.serialization.session_messages import Query

pytest.importorskip("torch")
pytest.importorskip("dp_accounting")
import torch
from torch import nn

Pair = tuple[NDArray[Any], NDArray[Any]]


def perceptron(*between: Any, n_in: int = 3, n_out: int = 2, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(n_in, 4), *between, nn.ReLU(), nn.Linear(4, n_out))


def holders(*sizes: int, seed: int = 0) -> list[Pair]:
    generator = np.random.default_rng(seed)
    inputs = [generator.normal(size=(size, 3)).astype(np.float32) for size in sizes]
    return [(x, (x @ [1.0, -1.0, 0.5] > 0).astype(np.int64)) for x in inputs]


def frame_of(pair: Pair, persons: Any) -> pd.DataFrame:
    return pd.DataFrame(pair[0], columns=["a", "b", "c"]).assign(y=pair[1], who=persons)


def network(module: Any = None, loss: Any = "cross_entropy", **options: Any) -> NeuralNetwork:
    chosen: dict[str, Any] = {"learning_rate": 0.5, "rounds": 3, "aggregation": "fedsgd", **options}
    return NeuralNetwork(perceptron() if module is None else module, loss, **chosen)


def privacy(clip: float = 1.0, **options: Any) -> Privacy:
    return Privacy(8, 1e-5, clip=clip, **options)


def private(clip: float = 1.0, module: Any = None, **options: Any) -> NeuralNetwork:
    return network(module, **options).with_privacy(privacy(clip))


PERSONS = {"target": "y", "features": ["a", "b", "c"]}


def for_persons(clip: float, **options: Any) -> NeuralNetwork:
    return network(**PERSONS, **options).with_privacy(privacy(clip, unit="person", person="who"))


def flat(module: Any) -> NDArray[Any]:
    vector: NDArray[Any] = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    return vector


def ask(model: NeuralNetwork, data: Any, module: Any = None) -> NDArray[Any]:
    """Return what a holder puts into the first round, before noise."""
    weights = flat(perceptron() if module is None else module)
    arrays = {"weights": weights, "round": np.asarray(1), "exponent": np.asarray(0)}
    found = contribute(model, data, Query("round", arrays))
    assert list(found) == ["noised"]
    assert found["noised"].dtype == np.float64
    return found["noised"]


def gradients(pair: Pair, module: Any = None, loss: Any = nn.functional.cross_entropy) -> NDArray[Any]:
    """Return the gradient of each row by plain autograd on batches of one row."""
    chosen = (perceptron() if module is None else module).double()
    rows = []
    for x, y in zip(torch.tensor(pair[0]).double(), torch.tensor(pair[1]), strict=True):
        parts = torch.autograd.grad(loss(chosen(x[None]), y[None]), [*chosen.parameters()])
        rows.append(torch.cat([part.flatten() for part in parts]).numpy())
    return np.array(rows)


def clipped(rows: NDArray[Any], clip: float) -> NDArray[Any]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: NDArray[Any] = rows * np.minimum(1, clip / np.maximum(lengths, 1e-300))
    return found


def grid_of(model: NeuralNetwork) -> float:
    assert model.noised is not None
    return math.ldexp(1.0, -model.noised.fraction_bits)


def with_holders(total: Total, n_holders: int) -> Total:
    """As the coordinator's side, which knows over how many holders a sum is."""

    async def counted(query: Query) -> Arrays:
        return {**await total(query), "holders": np.array(n_holders)}

    return counted


def noised(model: NeuralNetwork, datasets: Sequence[Any], n_holders: int = 10) -> Total:
    """As over holders: each adds its share of the noise, as one of `n_holders`."""
    form = model.noised
    assert form is not None

    async def total(query: Query) -> Arrays:
        parts = [contribute(model, data, query)["noised"] for data in datasets]
        noise = [form.add_noise(part, n_holders, os.urandom) for part in parts]
        return {
            "noised": np.sum(noise, axis=0),
            "variance": np.array(form.variance(n_holders, len(datasets))),
            "holders": np.array(len(datasets)),
        }

    return total


def run(
    model: NeuralNetwork, total: Total, start: State | None = None
) -> tuple[list[TrainingState], NetworkFit]:
    async def collect() -> list[Any]:
        return [item async for item in model.iterate(total, start)]

    *states, last = asyncio.run(collect())
    assert isinstance(last, NetworkFit)
    return states, last


# What a holder puts in.


@pytest.mark.parametrize("clip", [0.01, 0.3])
def test_each_rows_own_gradient_is_clipped(clip: float) -> None:
    (data,) = holders(9)
    model = private(clip)
    expected = clipped(gradients(data), clip).sum(axis=0)
    np.testing.assert_allclose(ask(model, data), expected, atol=9 * grid_of(model))


def test_a_clip_that_nobody_reaches_gives_the_sum_of_the_gradients() -> None:
    (data,) = holders(20)
    plain = contribute(
        network(),
        data,
        Query(
            "round",
            {"weights": flat(perceptron()), "round": np.asarray(1), "exponent": np.asarray(5)},
            may_fail=True,
        ),
    )
    model = private(100.0)
    np.testing.assert_allclose(
        ask(model, data), plain["update"] * 32.0, atol=1e-5 + 20 * grid_of(model), rtol=1e-5
    )


@pytest.mark.parametrize("unit", ["record", "person"])
def test_no_unit_moves_the_sum_by_more_than_the_sensitivity(unit: str) -> None:
    ((x, y),) = holders(14)
    data = frame_of((x * 50, y), ["p", "q"] * 4 + ["r"] * 3 + ["s", "t", "u"])
    model = for_persons(0.2) if unit == "person" else network(**PERSONS).with_privacy(privacy(0.2))
    assert model.noised is not None
    bound = float(sensitivity(0.2, model.noised.dimension, model.noised.fraction_bits)) * grid_of(model)
    whole = ask(model, data)
    labels = data["who"] if unit == "person" else pd.Series(range(len(data)))
    moves = [np.linalg.norm(whole - ask(model, data[labels != label])) for label in labels.unique()]
    assert max(moves) <= bound
    assert max(moves) > 0.99 * bound  # such rows are all beyond the clip


def test_a_persons_rows_are_added_before_they_are_clipped() -> None:
    (pair,) = holders(10)
    persons = np.array(["m", "k", "m", "m", "l", "k", "m", "n", "m", "l"])
    rows = gradients(pair)
    sums = np.array([rows[persons == person].sum(axis=0) for person in "klmn"])
    model = for_persons(0.5)
    expected = clipped(sums, 0.5).sum(axis=0)
    np.testing.assert_allclose(ask(model, frame_of(pair, persons)), expected, atol=5 * grid_of(model))


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 7, 100])
def test_chunks_that_bound_the_memory_change_no_bit(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair,) = holders(17)
    persons = [0, 1, 1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 6, 7, 7, 7, 7]
    by_record, by_person = private(0.4), for_persons(0.4)
    expected = ask(by_record, pair), ask(by_person, frame_of(pair, persons))
    sizes: list[int] = []
    once = private_network_gradients.row_gradients

    def watched(network: Any, loss: Any, rows: Any) -> Any:
        if rows.inputs[0].any():  # and not the zeros that are tried first
            sizes.append(len(rows))
        return once(network, loss, rows)

    monkeypatch.setattr(private_network_gradients, "row_gradients", watched)
    monkeypatch.setattr(private_network_gradients, "CHUNK_NUMBERS", rows_at_once * expected[0].size)
    assert ask(by_record, pair).tobytes() == expected[0].tobytes()
    assert ask(by_person, frame_of(pair, persons)).tobytes() == expected[1].tobytes()
    assert max(sizes) <= rows_at_once
    assert sum(sizes) == 2 * 17


def test_a_row_whose_gradient_is_not_finite_counts_as_zeros() -> None:
    ((x, y),) = holders(6)
    model = private(0.3, nn.Linear(3, 1), loss="mse")
    module, beyond = nn.Linear(3, 1), x.astype(np.float64)
    beyond[2] = 1e308
    kept = np.arange(6) != 2
    assert np.array_equal(
        ask(model, (beyond, y.astype(float)), module), ask(model, (x[kept], y[kept].astype(float)), module)
    )


def test_a_holder_without_rows_puts_in_zeros() -> None:
    empty = (np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    assert not ask(private(), empty).any()
    assert not contribute(private(), empty, Query("start"))["noised"].any()


@pytest.mark.parametrize(
    "module",
    [
        lambda: perceptron(nn.GroupNorm(2, 4)),
        lambda: perceptron(nn.Dropout(0.0)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2), nn.Flatten(), nn.Linear(8, 2)),
    ],
)
def test_layers_that_treat_each_row_by_itself_are_taken(module: Any) -> None:
    (data,) = holders(5)
    model = private(0.1, module())
    weights = module()
    expected = clipped(gradients(data, copy.deepcopy(weights)), 0.1).sum(axis=0)
    np.testing.assert_allclose(ask(model, data, weights), expected, atol=6 * grid_of(model))


def test_frozen_parameters_take_no_noise() -> None:
    module = perceptron()
    module[0].requires_grad_(False)
    model = private(1.0, module)
    assert model.noised is not None
    assert model.noised.dimension == 10
    states, _ = run(model, pooled(model, holders(8)))
    assert states[-1].parameters.shape == (10,)


def test_a_loss_of_the_users_is_evaluated_row_by_row() -> None:
    (data,) = holders(7)
    losses: list[Any] = [
        nn.functional.cross_entropy,
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, reduction="none"),
    ]
    for loss in losses:
        np.testing.assert_array_equal(ask(private(0.2, loss=loss), data), ask(private(0.2), data))


@pytest.mark.parametrize(
    ("aggregation", "options"),
    [("fedsgd", {}), ("fedavg", {"local_epochs": 3, "batch_size": 2}), ("fedprox", {"proximal": 0.1})],
)
def test_a_holders_whole_change_is_clipped_to_the_length(aggregation: Any, options: dict[str, Any]) -> None:
    (data,) = holders(8)
    plain = network(aggregation=aggregation, learning_rate=0.3, **options)
    query = Query("round", {"weights": flat(perceptron()), "round": np.asarray(1), "exponent": np.asarray(3)})
    change = contribute(plain, data, query)["update"]
    for clip in (0.01, 10.0):
        model = plain.with_privacy(privacy(clip, unit="holder"))
        expected = clipped(change[None], clip)[0]
        np.testing.assert_allclose(ask(model, data), expected, atol=2 * grid_of(model), rtol=1e-6)


def test_a_holder_whose_training_diverges_puts_in_zeros() -> None:
    ((x, y),) = holders(6)
    model = network(nn.Linear(3, 1), "mse", aggregation="fedavg", learning_rate=1e30, local_epochs=4)
    model = model.with_privacy(privacy(unit="holder"))
    assert not ask(model, (x, y.astype(float)), nn.Linear(3, 1)).any()


# Nothing else is released.


@pytest.mark.parametrize("unit", ["record", "holder"])
def test_every_pass_of_a_training_releases_one_noised_vector(unit: Any) -> None:
    model = network().with_privacy(privacy(unit=unit))
    asked: list[str] = []
    total = with_holders(pooled(model, holders(5, 7)), 2)

    async def watched(query: Query) -> Arrays:
        sums = await total(query)
        asked.append(query.step)
        assert set(sums) == {"noised", "holders"}
        return sums

    _, fit = run(model, watched)
    assert asked == ["start"] * (unit == "record") + ["round"] * 3
    assert model.noised is not None
    assert len(asked) == model.noised.rounds == model.expected_passes == fit.n_passes
    (planned,) = model.specifications()
    assert (planned.name, planned.dtype, planned.shape) == ("noised", "float64", (model.noised.dimension,))


@pytest.mark.parametrize(
    ("unit", "step"), [("record", "evaluate"), ("holder", "evaluate"), ("holder", "start")]
)
def test_what_a_coordinator_may_not_ask_is_refused(unit: Any, step: str) -> None:
    model = network().with_privacy(privacy(unit=unit))
    arrays = {"weights": flat(perceptron()), "round": np.asarray(1), "exponent": np.asarray(0)}
    with pytest.raises(ModelError, match="not released under privacy"):
        model.contribution(holders(4)[0], Query(step, arrays))


def test_losses_and_clips_are_not_told_and_rows_are_a_noised_count() -> None:
    model = private(clip=0.5)
    _, fit = run(model, noised(model, holders(200, 300)))
    assert math.isnan(fit.loss)
    assert math.isnan(fit.accuracy)
    assert fit.history[["loss", "clipped", "validation_loss"]].iloc[1:].isna().all(axis=None)
    assert 400 < fit.nobs < 600
    assert fit.records[0].rows == fit.nobs
    assert not fit.warnings


# The steps.


@pytest.mark.parametrize("clip", [0.05, 100.0])
def test_the_step_is_by_the_mean_of_the_clipped_gradients(clip: float) -> None:
    datasets = holders(5, 8)
    model = private(clip, rounds=1, server_optimizer="momentum", learning_rate=0.3)
    together = tuple(np.concatenate(parts) for parts in zip(*datasets, strict=True))
    mean = clipped(gradients((together[0], together[1])), clip).sum(axis=0) / 13
    states, fit = run(model, pooled(model, datasets))
    assert fit.nobs == 13
    np.testing.assert_allclose(
        states[-1].parameters, flat(perceptron()) - 0.3 * mean, atol=1e-6 + grid_of(model)
    )


def test_without_noise_and_clipping_it_is_the_training_without_privacy() -> None:
    datasets = holders(9, 4)
    model = private(100.0, rounds=4)
    plain = network(rounds=4)
    (_, fit), (_, expected) = run(model, pooled(model, datasets)), run(plain, pooled(plain, datasets))
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(fit.arrays[name], array, atol=1e-3)


def test_holders_weigh_the_same_whatever_their_rows() -> None:
    datasets = holders(3, 30)
    plain = network(aggregation="fedavg", rounds=1)
    model = plain.with_privacy(privacy(100.0, unit="holder"))
    alone = [run(plain, pooled(plain, [data]))[0][-1].parameters for data in datasets]
    states, fit = run(model, with_holders(pooled(model, datasets), 2))
    np.testing.assert_allclose(states[-1].parameters, (alone[0] + alone[1]) / 2, atol=1e-3)
    assert fit.nobs == 2


def test_sampled_records_are_other_ones_in_each_round_and_the_mean_allows_for_them() -> None:
    ((x, y),) = holders(400)
    model = network(rounds=1).with_privacy(privacy(100.0, sampling=0.25))
    counts = {float(contribute(model, (x, y), Query("start"))["noised"][0]) for _ in range(5)}
    assert len(counts) > 1
    states, fit = run(model, pooled(model, [(x, y)]))
    assert 250 < fit.nobs < 550
    assert states[-1].records[-1].rows == round(fit.nobs * 0.25)
    assert len({ask(model, (x, y)).tobytes() for _ in range(3)}) == 3


def test_sampled_persons_come_with_all_their_rows() -> None:
    (pair,) = holders(6)
    data = frame_of(pair, [1, 1, 2, 2, 2, 2])
    model = network(**PERSONS).with_privacy(privacy(100.0, unit="person", person="who", sampling=0.5))
    rows = gradients(pair)
    sums = [rows[:2].sum(axis=0), rows[2:].sum(axis=0)]
    possible = [np.zeros_like(sums[0]), *sums, sums[0] + sums[1]]
    for _ in range(8):
        found = ask(model, data)
        assert min(np.abs(found - other).max() for other in possible) < 3 * grid_of(model)


def test_a_count_that_the_noise_hides_is_refused() -> None:
    model = network().with_privacy(Privacy(0.1, 1e-6, clip=1.0))
    with pytest.raises(ModelError, match="too few for this guarantee"):
        run(model, noised(model, holders(3, 4)))


def test_a_training_continues_from_a_stored_state_without_counting_again() -> None:
    datasets = holders(9, 12)
    model = private(0.3, rounds=4, server_optimizer="adam")
    states, fit = run(model, pooled(model, datasets))
    stored = json.loads(json.dumps(states[2].to_dict(), allow_nan=False))
    rest, again = run(model, pooled(model, datasets), TrainingState.from_dict(stored))
    assert [state.iteration for state in rest] == [3, 4]
    assert again.n_passes == fit.n_passes == 5
    assert all(again.arrays[name].tobytes() == fit.arrays[name].tobytes() for name in fit.arrays)


def test_a_state_of_a_training_without_privacy_is_refused() -> None:
    plain, model = network(), private()
    states, _ = run(plain, pooled(plain, holders(9)))
    with pytest.raises(ModelError, match="under privacy"):
        run(model, pooled(model, holders(9)), states[0])


# What is refused, with the reason and a remedy.


@pytest.mark.parametrize(
    ("options", "asked", "message"),
    [
        ({"aggregation": "fedavg"}, {}, r"one record changes in a step .* unit=\"holder\""),
        ({"aggregation": "fedprox", "proximal": 0.1}, {}, "fedsgd"),
        ({"batch_size": 4}, {}, "sampling"),
        ({"validation": 0.1}, {}, "leave out validation"),
        ({"validation": 0.1, "aggregation": "fedavg"}, {"unit": "holder"}, "leave out validation"),
        ({"target": "y"}, {}, "features="),
        ({}, {"unit": "person", "person": "who"}, "target="),
    ],
)
def test_trainings_that_keep_no_guarantee_are_refused(
    options: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(PrivacyError, match=message):
        network(**options).with_privacy(privacy(**asked))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(4, track_running_stats=False), "1, a BatchNorm1d, mixes the rows.*GroupNorm"),
        (nn.Dropout(0.5), "1, a Dropout, draws random numbers"),
        (nn.LSTM(4, 4), "1, a LSTM, cannot be taken row by row"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "draws random numbers"),
        (nn.RReLU(), "draws random numbers"),
    ],
)
def test_layers_under_which_no_gradient_is_a_rows_own_are_refused_by_name(layer: Any, message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        private(1.0, perceptron(layer))


@pytest.mark.parametrize("unit", ["record", "holder"])
def test_statistics_of_rows_are_refused(unit: Any) -> None:
    with pytest.raises(PrivacyError, match=r"1.running_mean, 1.running_var.*persistent=False"):
        network(perceptron(nn.BatchNorm1d(4))).with_privacy(privacy(unit=unit))


def test_constants_that_are_not_saved_are_taken() -> None:
    class Shifted(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(3, 2)
            self.register_buffer("shift", torch.ones(3), persistent=False)

        def forward(self, x: Any) -> Any:
            return self.part(x + self.shift)

    assert ask(private(1.0, Shifted()), holders(4)[0], nn.Linear(3, 2)).shape == (8,)


@pytest.mark.parametrize(
    "hidden",
    [
        lambda x: nn.functional.dropout(x, 0.5),
        lambda x: x * float(x.sum().item()),
    ],
)
def test_what_only_shows_in_the_forward_pass_is_refused_by_the_holder(hidden: Any) -> None:
    class Hiding(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return hidden(self.part(x))

    with pytest.raises(PrivacyError, match="cannot be evaluated row by row"):
        ask(private(1.0, Hiding()), holders(4)[0], nn.Linear(3, 2))


# Rows that cannot be used count as absent: a refusal would tell of one of them, without noise and uncharged.


def answers(model: NeuralNetwork, data: Any, module: Any) -> list[bytes]:
    """Return what a holder puts into each release, before noise."""
    assert model.noised is not None
    counts = [] if model.noised.privacy.unit == "holder" else [contribute(model, data, Query("start"))]
    return [*(count["noised"].tobytes() for count in counts), ask(model, data, module).tobytes()]


def with_bad(pair: Pair, x: float = 0.5, y: float = 1.0, place: int = 3) -> Pair:
    """Return rows with one more, whose first input and target are these."""
    row = np.array([[x, 0.1, 0.2]], dtype=np.float64)
    targets = pair[1].astype(np.asarray(y).dtype)
    return np.insert(pair[0].astype(np.float64), place, row, axis=0), np.insert(targets, place, y)


@pytest.mark.parametrize("unit", ["record", "holder"])
@pytest.mark.parametrize(
    "bad",
    [
        {"x": np.nan},
        {"x": np.inf},
        {"y": np.nan},
        {"y": -np.inf},
        {"y": 0.5},
        {"y": 2},
        {"y": -1},
        {"y": -100},
    ],
)
def test_a_row_that_cannot_be_used_counts_as_absent(bad: dict[str, Any], unit: Any) -> None:
    (pair,) = holders(7)
    model = network().with_privacy(privacy(0.3, unit=unit))
    expected = answers(model, (pair[0].astype(np.float64), pair[1]), perceptron())
    assert answers(model, with_bad(pair, **bad), perceptron()) == expected
    assert answers(model, with_bad(pair), perceptron()) != expected


@pytest.mark.parametrize("unit", ["record", "holder"])
def test_a_number_beyond_the_networks_is_a_row_that_counts_as_absent_or_zeros(unit: Any) -> None:
    (pair,) = holders(7)
    model = network().with_privacy(privacy(0.3, unit=unit))
    beyond = with_bad(pair, x=1e300)
    assert ask(model, beyond).tobytes() == ask(model, (pair[0].astype(np.float64), pair[1])).tobytes()


@pytest.mark.parametrize("unit", ["record", "person", "holder"])
@pytest.mark.parametrize(
    ("column", "value"), [("a", np.nan), ("b", np.inf), ("k", pd.NA), ("y", pd.NA), ("y", 7)]
)
def test_a_row_of_a_data_frame_that_cannot_be_used_counts_as_absent(
    column: str, value: Any, unit: Any
) -> None:
    (pair,) = holders(9)
    frame = frame_of(pair, list("ppqrqsspt")).assign(k=np.arange(9)).astype({"k": "Int64", "y": "Int64"})
    columns = {"target": "y", "features": ["a", "b", "k"]}
    person = "who" if unit == "person" else None
    model = network(**columns).with_privacy(privacy(0.3, unit=unit, person=person))
    bad = frame.copy()
    bad.loc[4, column] = value
    assert answers(model, bad, perceptron()) == answers(model, frame.drop(index=4), perceptron())
    alone = frame.copy()
    alone.loc[3, column] = value  # all that r has
    assert answers(model, alone, perceptron()) == answers(model, frame.drop(index=3), perceptron())


@pytest.mark.parametrize("nobody", [None, "", np.nan, pd.NA])
def test_a_row_of_nobody_counts_as_absent(nobody: Any) -> None:
    (pair,) = holders(5)
    frame = frame_of(pair, np.array(["b", nobody, "a", 3, "b"], dtype=object))
    model = for_persons(0.3)
    assert answers(model, frame, perceptron()) == answers(model, frame.drop(index=1), perceptron())


def test_a_row_at_which_a_layer_fails_counts_as_zeros() -> None:
    """By torch's rule for batches an embedding would reach into the copy of another row."""
    module = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 2))
    x, y = np.array([[0, 1], [2, 9], [3, 3], [1, -1], [0, 0]]), np.array([0, 1, 1, 0, 1])
    kept = [0, 2, 4]
    by_record, by_holder = (
        network(module).with_privacy(privacy(0.3, unit=unit)) for unit in ("record", "holder")
    )
    assert ask(by_record, (x, y), module).tobytes() == ask(by_record, (x[kept], y[kept]), module).tobytes()
    assert not ask(by_holder, (x, y), module).any()


FORMS: list[tuple[Any, str]] = [
    ((np.zeros((2, 3)), np.zeros(1, dtype=np.int64)), "different numbers of rows"),
    ((np.zeros((2, 3)), np.array(["a", "b"])), "give numbers, a row each"),
    ((np.zeros((2, 3)).tolist(), np.zeros(2)), "arrays or tensors"),
    ((np.zeros((2, 4)), np.zeros(2)), "shapes cannot be multiplied"),
]


@pytest.mark.parametrize("unit", ["record", "holder"])
@pytest.mark.parametrize(("data", "reason"), FORMS)
def test_the_wrong_form_is_told_even_without_rows(data: Any, reason: str, unit: Any) -> None:
    model = network().with_privacy(privacy(unit=unit))
    parts = [data, (data[0][:0], data[1][:0])] if "different" not in reason else [data]
    for part in parts:
        with pytest.raises((DataError, RuntimeError), match=reason):
            ask(model, part)


@pytest.mark.parametrize("unit", ["record", "person", "holder"])
def test_wrong_columns_are_told_even_without_rows(unit: Any) -> None:
    (pair,) = holders(4)
    frame = frame_of(pair, list("abcd"))
    person = "who" if unit == "person" else None
    model = network(**PERSONS).with_privacy(privacy(unit=unit, person=person))
    wrong = [
        (frame.drop(columns="a"), "no column a"),
        (frame.drop(columns="y"), "no column y"),
        (frame.astype({"b": object}), "column b holds object"),
        (frame.assign(y="one"), "column y holds str"),
    ]
    if unit == "person":
        wrong.append((frame.drop(columns="who"), "no column 'who'"))
    for data, reason in wrong:
        for part in (data, data[:0]):
            with pytest.raises(DataError, match=reason):
                ask(model, part)


# The definition and the fit.


def test_the_guarantee_is_part_of_the_definition_and_the_kind_stays() -> None:
    plain = network()
    definitions = {plain.definition, *(plain.with_privacy(privacy(clip)).definition for clip in (1, 2))}
    assert len(definitions) == 3
    model = plain.with_privacy(privacy())
    assert model.definition.parameters["privacy"] == privacy().to_dict()
    assert kind_of(model) == "NeuralNetwork"
    assert plain.noised is None


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        ("record", "No. Records (noised):               21"),
        ("holder", "No. Holders:                         2"),
    ],
)
def test_a_fit_under_privacy_prints_and_survives_json(unit: Any, line: str) -> None:
    model = network().with_privacy(privacy(unit=unit))
    _, fit = run(model, with_holders(pooled(model, holders(9, 12)), 2))
    text = str(fit.with_provenance(privacy="(ε = 8, …)").summary())
    assert line in text
    assert "Training loss:                       -" in text
    restored = NetworkFit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert math.isnan(restored.loss)
    assert all(restored.arrays[name].tobytes() == fit.arrays[name].tobytes() for name in fit.arrays)
    assert restored.with_module(perceptron()).predict(holders(4)[0][0]).shape == (4,)


def test_progress_is_told_without_a_loss() -> None:
    states, _ = run(private(), pooled(private(), holders(6)))
    assert [str(state) for state in states] == ["round 0", "round 1", "round 2", "round 3"]
