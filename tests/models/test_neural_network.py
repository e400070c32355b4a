"""Networks over holders: what a round sums, what the coordinator makes of it, and what comes out."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tacit.models.definition import State
from tacit.models.errors import DataError, EvaluationError, ModelError
from tacit.models.network_fit import NetworkFit
from tacit.models.neural_network import NeuralNetwork
from tacit.models.total import Arrays, Total, contribute, pooled
from tacit.models.training import TrainingState, unit_exponent
from tacit.models.training_optimizers import ServerMomentum
from tacit.protocols.encoding_plan import plan
from tacit.protocols.limbs import add_limbs
from tacit.serialization.encoding_parameters import EncodingParameters, ExactFloat, Quantized
from tacit.serialization.session_messages import Query

pytest.importorskip("torch")
import torch
from torch import nn

Pair = tuple[NDArray[Any], NDArray[Any]]


def linear(n_in: int = 3, n_out: int = 2, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Linear(n_in, n_out)


def perceptron(*between: Any, n_in: int = 3, n_out: int = 2, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(n_in, 5), *between, nn.ReLU(), nn.Linear(5, n_out))


def holders(*sizes: int, seed: int = 0) -> list[Pair]:
    """Rows of two classes that a plane separates."""
    generator = np.random.default_rng(seed)
    inputs = [generator.normal(size=(size, 3)).astype(np.float32) for size in sizes]
    return [(x, (x @ [1.0, -1.0, 0.5] > 0).astype(np.int64)) for x in inputs]


def classifier(module: Any = None, **options: Any) -> NeuralNetwork:
    chosen: dict[str, Any] = {"learning_rate": 0.1, "rounds": 3, **options}
    return NeuralNetwork(linear() if module is None else module, "cross_entropy", **chosen)


def run(
    model: NeuralNetwork, total: Total, start: State | None = None
) -> tuple[list[TrainingState], NetworkFit]:
    async def collect() -> list[TrainingState | NetworkFit]:
        return [item async for item in model.iterate(total, start)]

    *states, last = asyncio.run(collect())
    assert isinstance(last, NetworkFit)
    return [state for state in states if isinstance(state, TrainingState)], last


def trained(model: NeuralNetwork, datasets: Sequence[Any]) -> NetworkFit:
    return run(model, pooled(model, datasets))[1]


def flat(module: Any) -> NDArray[Any]:
    vector: NDArray[Any] = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    return vector


def weights(fit: NetworkFit) -> NDArray[Any]:
    return flat(fit.network())


def round_query(weights: NDArray[Any], number: int = 1, exponent: int = 5) -> Query:
    arrays = {"weights": weights, "round": np.asarray(number), "exponent": np.asarray(exponent)}
    return Query("round", arrays, may_fail=True)


def encoded(model: NeuralNetwork, datasets: Sequence[Any], encoding: EncodingParameters | None) -> Total:
    """Sums as every protocol does: encoded, added as integers, decoded."""

    async def total(query: Query) -> Arrays:
        contributions = [contribute(model, data, query) for data in datasets]
        forms = [(name, array.dtype, array.shape) for name, array in contributions[0].items()]
        return {
            found.name: found.decode(
                reduce(add_limbs, [found.encode(arrays[found.name], os.urandom) for arrays in contributions])
            )
            for found in plan(encoding, forms, len(datasets))
        }

    return total


# The same answer as one machine.


@pytest.mark.parametrize("exact", [pooled, lambda model, rows: encoded(model, rows, ExactFloat())])
def test_fedsgd_is_to_the_last_bit_one_machine_that_adds_the_same_contributions(exact: Any) -> None:
    datasets, rate, unit = holders(5, 8, 4), 0.3, 32
    point = flat(perceptron())
    for _ in range(3):
        contributions = []
        for x, y in datasets:
            network = perceptron()
            nn.utils.vector_to_parameters(torch.tensor(point), network.parameters())
            loss = nn.functional.cross_entropy(network(torch.tensor(x)), torch.tensor(y))
            gradient = torch.autograd.grad(loss, [*network.parameters()])
            contributions.append(torch.cat([part.flatten() for part in gradient]).numpy() * (len(y) / unit))
        columns = zip(*(part.tolist() for part in contributions), strict=True)
        total = np.array([math.fsum(column) for column in columns], dtype=np.float32)
        point = point + total * (-rate * (unit / 17))
    model = classifier(perceptron(), aggregation="fedsgd", learning_rate=rate)
    _, fit = run(model, exact(model, datasets))
    assert weights(fit).tobytes() == point.tobytes()


def test_fedsgd_is_gradient_descent_on_the_pooled_rows() -> None:
    datasets = holders(5, 8, 3)
    together = [tuple(np.concatenate(parts) for parts in zip(*datasets, strict=True))]
    model = classifier(perceptron(), aggregation="fedsgd", rounds=5)
    np.testing.assert_allclose(
        weights(trained(model, datasets)), weights(trained(model, together)), atol=1e-6
    )


@pytest.mark.parametrize("aggregation", ["fedavg", "fedsgd"])
def test_the_default_encoding_gives_the_exact_sums_within_its_grid(aggregation: Any) -> None:
    datasets = holders(20, 30, 10)
    model = classifier(perceptron(nn.BatchNorm1d(5)), aggregation=aggregation, batch_size=4)
    _, fit = run(model, encoded(model, datasets, model.default_encoding))
    np.testing.assert_allclose(weights(fit), weights(trained(model, datasets)), atol=1e-6)


def test_quantized_changes_train_as_well() -> None:
    datasets = holders(40, 30, 50)
    model = classifier(rounds=20, batch_size=8)
    _, fit = run(model, encoded(model, datasets, Quantized(16, clip=1.0)))
    assert abs(fit.loss - trained(model, datasets).loss) < 1e-3


def test_a_training_goes_on_over_somewhat_more_rows_than_it_began_with() -> None:
    model, few, more = classifier(), holders(20, 12), holders(20, 12, 28)
    states, _ = run(model, pooled(model, few))
    assert [state.exponent for state in states] == [5, 5, 5, 5]
    later, fit = run(model, pooled(model, more), states[1])
    assert [state.exponent for state in later] == [6, 6]
    ahead = replace(states[1], exponent=6)  # by powers of two, weights scale without rounding
    assert np.array_equal(flat(fit.network()), flat(run(model, pooled(model, more), ahead)[1].network()))


def test_a_training_over_many_more_rows_than_it_began_with_is_refused() -> None:
    model = classifier()
    states, _ = run(model, pooled(model, holders(20, 12)))
    with pytest.raises(ModelError, match="in round 2 the holders had 61 rows, many more than"):
        run(model, pooled(model, holders(20, 12, 29)), states[1])


def test_contributions_beyond_the_bound_are_clipped_and_counted_never_refused() -> None:
    datasets = holders(6, 7)
    model = classifier(bound=2.0**-10, learning_rate=5.0)
    _, fit = run(model, encoded(model, datasets, model.default_encoding))
    assert fit.history["clipped"].tolist()[1:] == [record.clipped for record in fit.records[1:]]
    assert fit.history["clipped"].sum() > 0
    assert "clipped at the bound 0.000976562" in fit.warnings[0]
    assert np.abs(weights(fit) - flat(linear())).max() <= 3 * 2.0**-10 + 1e-6


# What a round is.


def test_changes_are_averaged_by_rows() -> None:
    datasets = holders(4, 12)
    model = classifier(local_epochs=2, batch_size=3, rounds=1)
    alone = [weights(trained(model, [data])) for data in datasets]
    expected = alone[0] * (4 / 16) + alone[1] * (12 / 16)
    np.testing.assert_allclose(weights(trained(model, datasets)), expected, rtol=1e-6)


def test_one_local_step_over_all_rows_is_fedsgd() -> None:
    datasets = holders(4, 9)
    averaged, descended = classifier(rounds=4), classifier(rounds=4, aggregation="fedsgd")
    np.testing.assert_allclose(
        weights(trained(averaged, datasets)), weights(trained(descended, datasets)), atol=1e-6
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_local_steps_are_those_of_torch(optimizer: str) -> None:
    (data,) = holders(10)
    options = {"weight_decay": 0.01}
    model = classifier(optimizer=optimizer, optimizer_options=options, rounds=1, local_epochs=3)
    network = linear()
    kind = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}[
        optimizer
    ]
    steps = getattr(torch.optim, kind)(network.parameters(), lr=0.1, **options)
    for _ in range(3):
        steps.zero_grad()
        loss = nn.functional.cross_entropy(network(torch.tensor(data[0])), torch.tensor(data[1]))
        loss.backward()
        steps.step()
    np.testing.assert_allclose(weights(trained(model, [data])), flat(network), atol=1e-6)


def test_plain_steps_are_those_of_torchs_sgd() -> None:
    datasets = holders(10)
    plain = classifier(local_epochs=3, batch_size=4)
    torchs = classifier(local_epochs=3, batch_size=4, optimizer_options={"momentum": 0.0, "foreach": False})
    np.testing.assert_array_equal(weights(trained(plain, datasets)), weights(trained(torchs, datasets)))


def test_fedprox_without_weight_is_fedavg() -> None:
    datasets = holders(5, 9)
    options: dict[str, Any] = {"local_epochs": 3, "batch_size": 2}
    near = classifier(aggregation="fedprox", proximal=0.0, **options)
    np.testing.assert_array_equal(
        weights(trained(near, datasets)), weights(trained(classifier(**options), datasets))
    )


def test_fedprox_adds_the_gradient_of_its_term() -> None:
    ((x, y),) = holders(6)
    model = classifier(aggregation="fedprox", proximal=0.7, rounds=1, local_epochs=4)
    network, start = linear(), [tensor.detach().clone() for tensor in linear().parameters()]
    for _ in range(4):
        loss = nn.functional.cross_entropy(network(torch.tensor(x)), torch.tensor(y))
        loss = loss + sum(
            0.35 * (tensor - origin).square().sum()
            for tensor, origin in zip(network.parameters(), start, strict=True)
        )
        gradients = torch.autograd.grad(loss, [*network.parameters()])
        with torch.no_grad():
            for tensor, gradient in zip(network.parameters(), gradients, strict=True):
                tensor.sub_(gradient, alpha=0.1)
    np.testing.assert_allclose(weights(trained(model, [(x, y)])), flat(network), atol=1e-6)


def test_server_momentum_moves_by_the_averaged_change() -> None:
    datasets = holders(5, 9)
    model = classifier(server_optimizer=ServerMomentum(0.5, 0.9), rounds=1)
    change = weights(trained(classifier(rounds=1), datasets)) - flat(linear())
    moved = weights(trained(model, datasets)) - flat(linear())
    np.testing.assert_allclose(moved, 0.5 * change, atol=1e-7)


def test_a_batch_under_fedsgd_stands_for_all_rows_of_its_holder() -> None:
    ((x, y),) = holders(30)
    model = classifier(aggregation="fedsgd", batch_size=4)
    point = flat(linear())
    whole = classifier(aggregation="fedsgd").contribution((x, y), round_query(point))
    parts = [model.contribution((x, y), round_query(point, number)) for number in (1, 2, 3)]
    assert {int(part["rows"]) for part in parts} == {30}
    assert len({part["update"].tobytes() for part in parts}) == 3
    for part in parts:
        assert 0.1 < np.linalg.norm(part["update"]) / np.linalg.norm(whole["update"]) < 10


def test_a_holder_without_rows_weighs_nothing() -> None:
    datasets = [*holders(6, 8), (np.zeros((0, 3)), np.zeros(0, dtype=np.int64))]
    model = classifier(batch_size=2, validation=0.3)
    np.testing.assert_array_equal(weights(trained(model, datasets)), weights(trained(model, datasets[:2])))


def test_no_batch_of_one_row_is_left_over_for_a_batch_norm() -> None:
    model = classifier(perceptron(nn.BatchNorm1d(5)), batch_size=8)
    trained(model, holders(9, 17))  # torch refuses a batch of one row


# Buffers.


def test_running_statistics_are_averaged_by_rows() -> None:
    datasets = holders(4, 12)
    model = classifier(nn.Sequential(nn.BatchNorm1d(3), linear()), rounds=1)
    fit = trained(model, datasets)
    means = [0.1 * x.mean(axis=0) for x, _ in datasets]  # torch's momentum of 0.1, from 0
    variances = [0.9 + 0.1 * x.var(axis=0, ddof=1) for x, _ in datasets]
    for name, parts in (("0.running_mean", means), ("0.running_var", variances)):
        np.testing.assert_allclose(fit.arrays[name], parts[0] / 4 + parts[1] * 3 / 4, rtol=1e-5)
    assert fit.arrays["0.num_batches_tracked"] == 0


def test_buffers_can_be_refused() -> None:
    with pytest.raises(ModelError, match=r"running_mean.*GroupNorm"):
        classifier(perceptron(nn.BatchNorm1d(5)), buffers="refuse")
    classifier(perceptron(nn.LayerNorm(5)), buffers="refuse")


def test_frozen_parameters_stay_and_are_not_sent() -> None:
    module = perceptron()
    module[0].requires_grad_(False)
    model = classifier(module)
    assert {array.name: array.shape for array in model.specifications()}["update"] == (12,)
    fit = trained(model, holders(8))
    np.testing.assert_array_equal(fit.arrays["0.weight"], module[0].weight.numpy())
    assert not np.array_equal(fit.arrays["2.weight"], module[2].weight.detach().numpy())


# Rows held out.


def test_rows_held_out_are_not_trained_on_and_evaluated_every_round() -> None:
    datasets = holders(20, 31)
    model = classifier(validation=0.25, rounds=4)
    states, fit = run(model, pooled(model, datasets))
    assert fit.nobs == 51 - 5 - 7
    assert [record.rows for record in fit.records] == [0, 39, 39, 39, 39]
    assert fit.history["validation_loss"].notna().all()
    assert fit.history["validation_loss"].iloc[-1] == fit.validation_loss
    assert math.isnan(states[-1].records[-1].validation_loss)
    assert states[0].n_passes == 1
    assert fit.n_passes == 6 == model.expected_passes


def test_accuracy_is_hits_over_rows() -> None:
    datasets = holders(20, 30)
    fit = trained(classifier(rounds=5), datasets)
    hits = sum(int((fit.predict(x) == y).sum()) for x, y in datasets)
    assert fit.accuracy == hits / 50


def test_early_stop_returns_the_best_network() -> None:
    datasets = holders(12, 12, seed=3)
    model = classifier(
        perceptron(), learning_rate=2.5, rounds=60, local_epochs=5, batch_size=2, validation=0.3, early_stop=4
    )
    states, fit = run(model, pooled(model, datasets))
    measured = [record.validation_loss for record in fit.records]
    assert [state.iteration for state in states] == [*range(fit.iterations + 1), fit.iterations]
    assert fit.iterations == fit.best_round + 4 < 60
    assert fit.best_round == int(np.argmin(measured))
    assert fit.validation_loss == min(measured)
    np.testing.assert_array_equal(weights(fit), states[fit.best_round].parameters)


def test_the_best_network_is_returned_also_when_the_rounds_run_out() -> None:
    model = classifier(perceptron(), learning_rate=3.0, rounds=6, batch_size=2, validation=0.3, early_stop=6)
    fit = trained(model, holders(12, 12, seed=3))
    measured = [record.validation_loss for record in fit.records]
    assert fit.validation_loss == min(measured)
    assert fit.best_round == int(np.argmin(measured))
    assert fit.n_passes == 1 + 6 + 1 + (fit.best_round < 6)


def test_a_fraction_too_small_for_any_row_is_told() -> None:
    fit = trained(classifier(validation=0.1), holders(5, 6))
    assert "no rows were held out" in fit.warnings[0]


# Continuing, and the same bits every time.


@pytest.mark.parametrize("after", [0, 3])
def test_a_training_continues_from_a_stored_state_with_the_same_bits(after: int) -> None:
    datasets = holders(20, 12)
    model = classifier(
        perceptron(nn.BatchNorm1d(5), nn.Dropout(0.3)),
        rounds=5,
        batch_size=4,
        server_optimizer="momentum",
        validation=0.2,
        early_stop=5,
    )
    states, fit = run(model, pooled(model, datasets))
    stored = json.loads(json.dumps(states[after].to_dict()))
    rest, again = run(model, pooled(model, datasets), TrainingState.from_dict(stored))
    assert [state.iteration for state in rest][: 5 - after] == list(range(after + 1, 6))
    assert again.records == fit.records
    assert all(again.arrays[name].tobytes() == fit.arrays[name].tobytes() for name in fit.arrays)


def test_a_state_of_another_network_is_refused() -> None:
    model = classifier()
    states, _ = run(model, pooled(model, holders(5)))
    for other in (classifier(perceptron()), classifier(server_optimizer="adam")):
        with pytest.raises(ModelError, match="continue from"):
            run(other, pooled(other, holders(5)), states[0])
    with pytest.raises(ModelError, match="continue from"):
        run(model, pooled(model, holders(5)), State(1, np.zeros(8), 0.0))


def test_a_run_has_the_same_bits_and_leaves_torch_as_it_was() -> None:
    model = classifier(perceptron(nn.Dropout(0.5)), batch_size=4)
    first = weights(trained(model, holders(20)))
    torch.manual_seed(17)
    threads, expected = torch.get_num_threads(), torch.rand(1)
    torch.manual_seed(17)
    second = weights(trained(model, holders(20)))
    assert first.tobytes() == second.tobytes()
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_the_users_module_is_left_alone() -> None:
    module = perceptron(nn.BatchNorm1d(5))
    before = copy.deepcopy(module.state_dict())
    trained(classifier(module, rounds=1), holders(9))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


# What goes wrong.


def test_a_training_that_diverges_says_so_and_names_nobody() -> None:
    ((x, y),) = holders(6)
    model = NeuralNetwork(linear(3, 1), "mse", learning_rate=1e30, rounds=9, local_epochs=2)
    with pytest.raises(ModelError, match=r"diverged at some holder \(unnamed\): lower the learning rate"):
        trained(model, [(x, y)])


def test_a_diverged_contribution_is_all_nan_and_voids_the_sum() -> None:
    model = NeuralNetwork(linear(3, 1), "mse", learning_rate=1e30, rounds=9, local_epochs=2)
    query, (data,) = round_query(flat(linear(3, 1))), holders(6)
    assert np.isnan(model.contribution(data, query)["update"]).all()

    async def total() -> Arrays:
        return await pooled(model, [data])(query)

    with pytest.raises(EvaluationError):
        asyncio.run(total())


@pytest.mark.parametrize(
    "other",
    [
        (np.zeros((4, 2), dtype=np.float32), np.zeros(4, dtype=np.int64)),
        (np.zeros((4, 3), dtype=np.int64), np.zeros(4, dtype=np.int64)),
        (np.zeros((4, 3), dtype=np.float32), np.zeros((4, 2), dtype=np.float32)),
    ],
)
def test_holders_whose_rows_differ_in_form_are_told_so(other: Any) -> None:
    class Anything(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, x: Any) -> Any:
            return self.weight.expand(len(x), 2)

    model = classifier(Anything())
    with pytest.raises(ModelError, match="rows differ"):
        trained(model, [*holders(6), other])


def test_integers_and_floats_are_alike_where_the_loss_takes_numbers() -> None:
    ((x, y),) = holders(6)
    model = NeuralNetwork(linear(3, 1), "bce_with_logits", rounds=1)
    trained(model, [(x, y), (x.astype(np.float64), y.astype(np.float64)), (x, y > 0)])


def test_columns_in_another_order_are_noticed() -> None:
    ((x, y),) = holders(6)
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y)
    model = classifier(target="y")
    trained(model, [frame, frame])
    with pytest.raises(ModelError, match="same columns in the same order"):
        trained(model, [frame, frame[["b", "a", "c", "y"]]])
    named = classifier(target="y", features=["a", "b", "c"])
    trained(named, [frame, frame[["b", "a", "c", "y"]]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.full((2, 3), np.nan), np.zeros(2)), "X has values that are missing"),
        ((np.zeros((2, 3)), np.zeros(3)), "different numbers of rows"),
        ((np.zeros((2, 3)), np.array([0.5, 1.0])), "numbers of classes"),
        ((np.array([["a"] * 3] * 2), np.zeros(2)), "give numbers"),
        (np.zeros((3, 3)), r"give \(X, y\)"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classifier().contribution(data, Query("start"))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"a": [1.0], "y": [0]}, "no column b"),
        ({"a": [1.0], "b": [1.0]}, "no column y"),
        ({"a": ["x"], "b": [1.0], "y": [0]}, "no numbers"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(frame: dict[str, Any], message: str) -> None:
    model = classifier(linear(2), target="y", features=["a", "b"])
    with pytest.raises(DataError, match=message):
        model.contribution(pd.DataFrame(frame), Query("start"))


def test_outputs_that_do_not_fit_the_targets_are_told_at_the_start() -> None:
    model = NeuralNetwork(linear(3, 2), "mse", rounds=1)
    with pytest.raises(ModelError, match="one output a target"):
        model.contribution(holders(4)[0], Query("start"))


GOOD = flat(linear())


@pytest.mark.parametrize(
    "query",
    [
        Query("trial"),
        Query("round"),
        round_query(GOOD[:-1]),
        round_query(GOOD.astype(np.float64)),
        round_query(np.full_like(GOOD, np.nan)),
        round_query(GOOD, number=4),
        round_query(GOOD, exponent=41),
        round_query(GOOD, exponent=1),
        Query("evaluate", {"weights": GOOD, "round": np.asarray(1.5), "exponent": np.asarray(0)}),
    ],
)
def test_queries_of_another_training_are_refused(query: Query) -> None:
    with pytest.raises(ModelError, match="quer"):
        classifier().contribution(holders(4)[0], query)


def test_no_rows_at_all_are_refused() -> None:
    with pytest.raises(ModelError, match="no rows together"):
        trained(classifier(), [(np.zeros((0, 3)), np.zeros(0))])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: "network", "torch.nn.Module"),
        (nn.ReLU, "nothing to train"),
        (lambda: linear().half(), "float16"),
        (lambda: nn.Sequential(linear(), linear().double()), "float32, float64"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused(module: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        classifier(module())


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_module_without_shapes_is_refused() -> None:
    with pytest.raises(ModelError, match="call it once with rows"):
        classifier(nn.LazyLinear(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "entropy"}, "loss is a function"),
        ({"optimizer": "lbfgs"}, "optimizer is one of"),
        ({"optimizer_options": {"moment": 1}}, "torch refuses"),
        ({"buffers": "drop"}, "buffers is"),
        ({"features": ["a"]}, "target"),
    ],
)
def test_options_that_nobody_has_are_refused(options: dict[str, Any], message: str) -> None:
    chosen: dict[str, Any] = {"loss": "cross_entropy", "rounds": 1, **options}
    with pytest.raises(ModelError, match=message):
        NeuralNetwork(linear(), **chosen)


# The definition and the plan.


def test_the_definition_is_data_and_changes_with_what_is_trained() -> None:
    definition = classifier().definition
    assert definition == classifier().definition
    json.dumps(definition.parameters)
    others = [
        classifier(linear(seed=1)),
        classifier(perceptron()),
        classifier(learning_rate=0.2),
        classifier(seed=1),
        classifier(server_optimizer="adam"),
        NeuralNetwork(linear(), lambda outputs, targets: outputs.sum(), learning_rate=0.1, rounds=3),
    ]
    assert len({definition, *(other.definition for other in others)}) == 7


def test_the_code_of_a_forward_pass_is_part_of_the_definition() -> None:
    def network(forward: Any) -> Any:
        return type("Network", (nn.Module,), {"forward": forward, "__repr__": lambda self: "N"})

    definitions = []
    for forward in (lambda self, x: self.part(x), lambda self, x: -self.part(x)):
        module = network(forward)()
        module.part = linear()
        definitions.append(classifier(module).definition)
    assert definitions[0] != definitions[1]


@pytest.mark.parametrize("options", [{}, {"validation": 0.5}, {"aggregation": "fedsgd"}])
@pytest.mark.parametrize("module", [linear, lambda: perceptron(nn.BatchNorm1d(5)).double()])
def test_a_plan_knows_the_arrays_of_a_round(module: Any, options: dict[str, Any]) -> None:
    model = classifier(module(), **options)
    states, _ = run(model, pooled(model, holders(6)))
    found = contribute(model, holders(6)[0], round_query(states[0].parameters))
    planned = {array.name: (array.dtype, array.shape) for array in model.specifications()}
    assert planned == {name: (array.dtype.name, array.shape) for name, array in found.items()}


# Losses.


def test_a_loss_of_the_users_may_be_a_mean_or_a_value_a_row() -> None:
    datasets = holders(7, 9)
    losses: list[Any] = [
        "cross_entropy",
        nn.CrossEntropyLoss(),
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, reduction="none"),
    ]
    models = [NeuralNetwork(linear(), loss, rounds=2, batch_size=4) for loss in losses]
    first, *others = [weights(trained(model, datasets)) for model in models]
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-7)


def test_a_loss_of_the_wrong_shape_is_refused() -> None:
    model = NeuralNetwork(linear(), lambda outputs, targets: outputs[:1], rounds=1)
    with pytest.raises(ModelError, match="one value a row"):
        model.contribution(holders(5)[0], Query("start"))


def test_a_regression_of_one_output_does_not_broadcast() -> None:
    ((x, _),) = holders(200)
    y = x @ np.array([1.0, 2.0, -1.0], dtype=np.float32)
    model = NeuralNetwork(linear(3, 1), "mse", learning_rate=0.3, rounds=60)
    fit = trained(model, [(x[:90], y[:90]), (x[90:], y[90:])])
    assert fit.loss < 1e-6
    assert math.isnan(fit.accuracy)
    np.testing.assert_allclose(fit.predict(x), y, atol=0.01)
    assert fit.predict(x).shape == (200,)


def test_two_classes_by_one_logit() -> None:
    datasets = holders(40, 60)
    fit = trained(NeuralNetwork(linear(3, 1), "bce_with_logits", learning_rate=1.0, rounds=40), datasets)
    predictions = np.concatenate([fit.predict(x) for x, _ in datasets])
    assert fit.accuracy == np.mean(predictions == np.concatenate([y for _, y in datasets])) > 0.9


def test_a_module_of_several_inputs_and_integers_for_embeddings() -> None:
    class Both(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding, self.linear = nn.Embedding(4, 2), nn.Linear(3, 2)

        def forward(self, x: Any, kind: Any) -> Any:
            return self.linear(x) + self.embedding(kind)

    ((x, y),) = holders(12)
    data = ((x, np.arange(12) % 4), torch.tensor(y))
    fit = trained(classifier(Both()), [data, data])
    assert fit.predict(data[0]).shape == (12,)


# The fit.


@pytest.fixture(scope="module")
def fit() -> NetworkFit:
    return trained(classifier(perceptron(), validation=0.2, rounds=2), holders(20, 15))


def test_a_fit_survives_json_bit_by_bit(fit: NetworkFit) -> None:
    content = json.loads(
        json.dumps(fit.with_provenance(protocol="p", holders=["a"]).to_dict(), allow_nan=False)
    )
    restored = NetworkFit.from_dict(content)
    assert restored.definition == fit.definition
    assert restored.records == pytest.approx(fit.records, nan_ok=True) or repr(restored.records) == repr(
        fit.records
    )
    assert {name: array.tobytes() for name, array in restored.arrays.items()} == {
        name: array.tobytes() for name, array in fit.arrays.items()
    }
    assert (restored.protocol, restored.holders, restored.loss) == ("p", ("a",), fit.loss)
    with pytest.raises(ModelError, match="no saved fit"):
        NetworkFit.from_dict({**content, "more": 1})


def test_a_restored_fit_predicts_with_its_module_and_refuses_another(fit: NetworkFit) -> None:
    restored, ((x, _),) = NetworkFit.from_dict(fit.to_dict()), holders(5)
    with pytest.raises(ModelError, match="with_module"):
        restored.predict(x)
    np.testing.assert_array_equal(restored.with_module(perceptron(seed=9)).outputs(x), fit.outputs(x))
    with pytest.raises(ModelError, match="other printed"):
        restored.with_module(linear())


def test_a_fit_predicts_rows_of_a_frame() -> None:
    ((x, y),) = holders(20)
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y)
    fit = trained(classifier(target="y", features=["c", "a", "b"]), [frame])
    np.testing.assert_array_equal(fit.predict(frame), fit.predict(frame.drop(columns="y")[["b", "c", "a"]]))


def test_a_fit_prints(fit: NetworkFit) -> None:
    told = fit.with_provenance(protocol="Ring", holders=["a", "b"], survivors=["a"], warnings=["mind"])
    text = str(told.summary())
    assert "Parameters:                         32" in text
    assert "Survivors: 1 of 2, lost b" in text
    assert text.endswith("Warning: mind")
    assert max(map(len, text.splitlines())) <= 78
    assert repr(fit).startswith("<NetworkFit: 32 parameters, round 2, loss=")


def test_the_history_has_a_row_for_the_start_and_every_round(fit: NetworkFit) -> None:
    assert fit.history["round"].tolist() == [0, 1, 2]
    assert fit.history.columns.tolist() == [
        "round",
        "loss",
        "validation_loss",
        "validation_accuracy",
        "rows",
        "clipped",
    ]


def test_torch_is_imported_only_when_it_is_used() -> None:
    code = "import sys, tacit.models.neural_network as n; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A task that people know.


def uneven(y: NDArray[Any], n_holders: int, generator: np.random.Generator) -> list[NDArray[Any]]:
    """Deal rows so that every holder has its own mixture of classes: Dirichlet(1/2) by class."""
    shares: list[list[int]] = [[] for _ in range(n_holders)]
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        cuts = np.cumsum(generator.dirichlet([0.5] * n_holders))[:-1] * len(rows)
        for share, part in zip(shares, np.split(rows, cuts.astype(int)), strict=True):
            share.extend(part.tolist())
    return [np.array(share) for share in shares]


def test_digits_over_ten_uneven_holders_as_well_as_pooled() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(y))
    (x, y), (x_test, y_test) = ((x[part] / 16, y[part]) for part in (order[:1347], order[1347:]))
    sites = [(x[rows], y[rows]) for rows in uneven(y, 10, generator)]

    def accuracy(data: Sequence[Pair], **options: Any) -> float:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        fit = trained(NeuralNetwork(module, "cross_entropy", **options), data)
        return float(np.mean(fit.predict(x_test) == y_test))

    together = accuracy([(x, y)], learning_rate=0.2, rounds=30, batch_size=32)
    assert together > 0.975
    momentum = ServerMomentum(momentum=0.5)
    federated = accuracy(sites, learning_rate=1.0, rounds=60, batch_size=64, server_optimizer=momentum)
    assert federated >= together - 0.005


def test_the_unit_of_weights_does_not_show_in_the_result() -> None:
    datasets = holders(5, 6)
    assert unit_exponent(11) == 4
    model = classifier(rounds=1)
    query = round_query(flat(linear()), exponent=4)
    parts = [model.contribution(data, query) for data in datasets]
    change = sum(part["update"] for part in parts) * (16 / 11)
    np.testing.assert_allclose(weights(trained(model, datasets)), flat(linear()) + change, atol=1e-7)


# Apart from its weights.


class Tied(nn.Module):  # type: ignore[misc]
    """One matrix under two names, a frozen one, and a batch norm's statistics."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.last.weight.requires_grad_(False)

    def forward(self, x: Any) -> Any:
        return self.last(self.second(self.norm(torch.relu(self.first(x)))))


@pytest.mark.parametrize("module", [perceptron, Tied], ids=["perceptron", "tied"])
def test_training_apart_from_its_weights_gives_the_same_bits(module: Any) -> None:
    model, datasets = classifier(module()), holders(20, 30)
    whole = trained(model, datasets)
    lean, start = model.apart()
    lean.begin_with(start)
    fit = model.completed(run(lean, pooled(model, datasets))[1])
    assert list(fit.arrays) == list(whole.arrays)
    assert all(fit.arrays[name].tobytes() == array.tobytes() for name, array in whole.arrays.items())
    assert fit.outputs(datasets[0][0]).tobytes() == whole.outputs(datasets[0][0]).tobytes()


def test_coordinator_keeps_no_weights_but_those_of_the_state() -> None:
    model, datasets = classifier(linear(2_000, 3)), [(np.ones((4, 2_000), np.float32), np.zeros(4, np.int64))]
    lean, start = model.apart()
    assert len(pickle.dumps(lean)) < start.nbytes / 2
    lean.begin_with(start)
    gone = weakref.ref(start)
    del start

    async def scene() -> None:
        async for state in lean.iterate(pooled(model, datasets)):
            if isinstance(state, TrainingState) and state.iteration == 2:
                assert gone() is None

    asyncio.run(scene())


def test_training_apart_from_its_weights_does_not_begin_without_them() -> None:
    model, datasets = classifier(), holders(20, 30)
    with pytest.raises(ModelError, match="apart from its weights"):
        run(model.apart()[0], pooled(model, datasets))


def test_training_apart_from_its_weights_continues_without_them() -> None:
    model, datasets = classifier(), holders(20, 30)
    states, whole = run(model, pooled(model, datasets))
    fit = run(model.apart()[0], pooled(model, datasets), states[1])[1]
    assert all(fit.arrays[name].tobytes() == array.tobytes() for name, array in whole.arrays.items())
