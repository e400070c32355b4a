"""The server's optimizers: what the coordinator does with an averaged change of the parameters.

References
----------
T.-M. Hsu, H. Qi, M. Brown, arXiv:1909.06335, 2019 (FedAvgM); S. Reddi et al., ICLR 2021 (FedAdam).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from .errors import ModelError
from .training import Vector

Memory: TypeAlias = Mapping[str, Vector]


class ServerOptimizer(Protocol):
    """Moves the common point by an averaged change."""

    name: ClassVar[str]

    def start(self, parameters: Vector) -> Memory:
        """Return what is remembered before the first round: arrays like the parameters."""
        ...

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Return the step for an averaged change, and what is remembered of it; `change` may be overwritten."""
        ...


@dataclass(frozen=True)
class ServerSGD:
    """The averaged change times a learning rate: 1 is plain averaging."""

    learning_rate: float = 1.0
    name: ClassVar[str] = "sgd"

    def start(self, parameters: Vector) -> Memory:
        """Nothing is remembered."""
        return {}

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Return the scaled change."""
        change *= self.learning_rate
        return change, memory


@dataclass(frozen=True)
class ServerMomentum:
    """FedAvgM: v ← momentum · v + change; the step is learning_rate · v."""

    learning_rate: float = 1.0
    momentum: float = 0.9
    name: ClassVar[str] = "momentum"

    def start(self, parameters: Vector) -> Memory:
        """Return v = 0."""
        return {"velocity": np.zeros_like(parameters)}

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Return the step, and v."""
        change += self.momentum * memory["velocity"]
        return self.learning_rate * change, {"velocity": change}


@dataclass(frozen=True)
class ServerAdam:
    """FedAdam: m ← β1 m + (1 − β1) change; v ← β2 v + (1 − β2) change²; the step is learning_rate · m / (√v + τ).

    Reddi et al. 2021, algorithm 2, with v = τ² before the first round and without a correction of the bias.
    """

    learning_rate: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    name: ClassVar[str] = "adam"

    def start(self, parameters: Vector) -> Memory:
        """Return m = 0 and v = τ²."""
        return {"mean": np.zeros_like(parameters), "square": np.full_like(parameters, self.tau**2)}

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Return the step, m and v."""
        mean = self.beta1 * memory["mean"] + (1 - self.beta1) * change
        square = self.beta2 * memory["square"] + (1 - self.beta2) * np.square(change, out=change)
        step = np.sqrt(square, out=change)
        step += self.tau
        np.divide(mean, step, out=step)
        step *= self.learning_rate
        return step, {"mean": mean, "square": square}


_SERVER_OPTIMIZERS: Mapping[str | None, Callable[[], ServerOptimizer]] = {
    None: ServerSGD,
    "momentum": ServerMomentum,
    "adam": ServerAdam,
}


def server_optimizer_of(choice: str | ServerOptimizer | None) -> ServerOptimizer:
    """Return a server optimizer from its name, or as it was given.

    Raises
    ------
    ModelError
        If there is none of this name.
    """
    if isinstance(choice, ServerSGD | ServerMomentum | ServerAdam):
        return choice
    if choice is None or (isinstance(choice, str) and choice in _SERVER_OPTIMIZERS):
        return _SERVER_OPTIMIZERS[choice]()
    raise ModelError(
        "server_optimizer is None, 'momentum', 'adam', or ServerSGD(…), ServerMomentum(…), ServerAdam(…)"
    )


def description_of(optimizer: ServerOptimizer) -> dict[str, Any]:
    """Return a server optimizer as a definition holds it."""
    numbers = {item.name: getattr(optimizer, item.name) for item in fields(optimizer)}  # type: ignore[arg-type]
    return {"name": optimizer.name, **numbers}
