"""A network that studies over hosts name, importable at every party, and its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from tacit.models.neural_network import NeuralNetwork

NAME = "studied_network:network"
HOLDERS = ("north", "east", "south", "west")


def network(rounds: int) -> NeuralNetwork:
    """Return a network of two layers that starts from weights of its own."""
    import torch  # noqa: PLC0415 - a test asks for it first

    torch.manual_seed(3)
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    columns = ["x", "y", "z"]
    return NeuralNetwork(
        module,
        "cross_entropy",
        learning_rate=0.2,
        rounds=rounds,
        batch_size=8,
        target="kind",
        features=columns,
    )


def rows_of(holder: str) -> pd.DataFrame:
    """Return a holder's rows: points on either side of a plane."""
    points = np.random.default_rng(HOLDERS.index(holder)).normal(size=(30, 3))
    return pd.DataFrame(points, columns=["x", "y", "z"]).assign(kind=(points.sum(axis=1) > 0).astype(int))
