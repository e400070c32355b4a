"""A training in Flower's simulation, timed: run by `training` in Flower's own environment, where there is no tacit.

    python rival_flower_training.py '{"task": "digits.npz", "rounds": 20, "learning_rate": 0.002, "local_epochs": 4,
                                      "batch_size": 10, "threshold": 7, "secure": true}'

FedAvg over all holders, in the clear or by the workflow of SecAgg+ in which all are neighbours, on Flower's Ray
backend with an actor a core. A holder trains by Adam, for as many epochs as tacit's do. The task is a file:
``inputs-0``, ``targets-0``, … of each holder, ``test_inputs``, ``test_targets``, and ``weight-0``, … of the
convolutional network of the example, its weights and biases by turns.

Printed as JSON: seconds of every round but the first, at the server, between two evaluations; bytes of all messages
of the first round, as Flower serialises them; and the accuracy at the end.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Arrays = list[NDArray[Any]]


@lru_cache(maxsize=1)
def task(path: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of the task, read once a process."""
    with np.load(path) as arrays:
        return dict(arrays)


def numbered(arrays: dict[str, NDArray[Any]], name: str) -> Arrays:
    """Return the arrays of a name, in order."""
    keys = (f"{name}-{place}" for place in itertools.count())
    return [arrays[key] for key in itertools.takewhile(arrays.__contains__, keys)]


def network(weights: Arrays) -> nn.Sequential:
    """Return the network with these weights and biases."""
    made = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    with torch.no_grad():
        for tensor, weight in zip(made.parameters(), weights, strict=True):
            tensor.copy_(torch.from_numpy(weight.astype(np.float32)))
    return made


def train(weights: Arrays, inputs: NDArray[Any], targets: NDArray[Any], arguments: dict[str, Any]) -> Arrays:
    """Return the weights after the epochs of a round on a holder's own rows."""
    torch.set_num_threads(1)
    trained = network(weights)
    rows, classes = torch.from_numpy(inputs), torch.from_numpy(targets)
    n_batches = max(1, -(-len(classes) // arguments["batch_size"]))
    orders = (torch.randperm(len(classes)) for _ in range(arguments["local_epochs"]))
    optimizer = torch.optim.Adam(trained.parameters(), lr=arguments["learning_rate"])
    for batch in itertools.chain.from_iterable(torch.tensor_split(order, n_batches) for order in orders):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(trained(rows[batch]), classes[batch]))
        optimizer.step()
    return [tensor.detach().numpy() for tensor in trained.parameters()]


def accuracy(weights: Arrays, arrays: dict[str, NDArray[Any]]) -> float:
    """Return the fraction of test rows whose class is found."""
    with torch.no_grad():
        found = network(weights)(torch.from_numpy(arrays["test_inputs"])).argmax(dim=1).numpy()
    return float(np.mean(found == arrays["test_targets"]))


class Rounds:
    """Notes, at the server, when each round ends, and its weights."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.weights: Arrays = []

    def __call__(self, number: int, weights: Arrays, _: Any) -> None:
        """Take the place of Flower's evaluation at the server."""
        self.times.append(time.perf_counter())
        self.weights = weights


def count_bytes(grid: Any, rounds: Rounds) -> list[int]:
    """Have a class of grids note the bytes of every message of the first round, both ways."""
    serde: Any = importlib.import_module("flwr.common.serde")
    send_and_receive = grid.send_and_receive
    sizes: list[int] = []

    def counted(self: Any, messages: Iterable[Any], **options: Any) -> list[Any]:
        sent = list(messages)
        first = not rounds.times[1:]
        before = [_size(serde, message) for message in sent] if first else []
        answers = list(send_and_receive(self, sent, **options))
        after = [_size(serde, message) for message in answers] if first else []
        sizes.extend(before + after)
        return answers

    grid.send_and_receive = counted
    return sizes


def _size(serde: Any, message: Any) -> int:
    return int(serde.recorddict_to_proto(message.content).ByteSize())


def client_app(arguments: dict[str, Any]) -> Any:
    """Return what runs at every holder."""
    client: Any = importlib.import_module("flwr.client")

    class Holder(client.NumPyClient):  # type: ignore[misc]
        def __init__(self, place: int) -> None:
            arrays = task(arguments["task"])
            self._rows = arrays[f"inputs-{place}"], arrays[f"targets-{place}"]

        def fit(self, parameters: Arrays, _: Any) -> tuple[Arrays, int, dict[str, Any]]:
            return train(parameters, *self._rows, arguments), len(self._rows[1]), {}

    def holder(context: Any) -> Any:
        return Holder(int(context.node_config["partition-id"])).to_client()

    secaggplus: Any = importlib.import_module("flwr.client.mod").secaggplus_mod
    return client.ClientApp(client_fn=holder, mods=[secaggplus] if arguments["secure"] else [])


def server_app(arguments: dict[str, Any], n_holders: int, rounds: Rounds) -> Any:
    """Return what runs at the server."""
    server: Any = importlib.import_module("flwr.server")
    workflows: Any = importlib.import_module("flwr.server.workflow")
    common: Any = importlib.import_module("flwr.common")
    strategy = importlib.import_module("flwr.server.strategy").FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=n_holders,
        min_available_clients=n_holders,
        evaluate_fn=rounds,
        initial_parameters=common.ndarrays_to_parameters(numbered(task(arguments["task"]), "weight")),
    )
    app = server.ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def main(grid: Any, context: Any) -> None:
        config = server.ServerConfig(num_rounds=arguments["rounds"])
        fit = workflows.SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=arguments["threshold"])
        workflow = workflows.DefaultWorkflow(fit_workflow=fit if arguments["secure"] else None)
        workflow(grid, server.LegacyContext(context=context, config=config, strategy=strategy))

    return app


def main(arguments: dict[str, Any]) -> None:
    """Train, and print what was measured."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    simulation: Any = importlib.import_module("flwr.simulation")
    grid: Any = importlib.import_module("flwr.superlink.grid").InMemoryGrid
    arrays = task(arguments["task"])
    n_holders = len(numbered(arrays, "targets"))
    rounds = Rounds()
    sizes = count_bytes(grid, rounds)
    simulation.run_simulation(
        server_app=server_app(arguments, n_holders, rounds),
        client_app=client_app(arguments),
        num_supernodes=n_holders,
        backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"log_to_driver": False}},
    )
    found = {
        "seconds": np.diff(rounds.times)[1:].tolist(),
        "bytes": sum(sizes),
        "accuracy": accuracy(rounds.weights, arrays),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    # By its name, so that Flower's actors import it, once, instead of being sent it with every message.
    importlib.import_module("rival_flower_training").main(json.loads(sys.argv[1]))
