"""What a holder does with a network and its own rows: a local training, a gradient, an evaluation.

Batches come from public seeds: the order of the rows depends on the seed, the round, the epoch and their number, so
that a run can be repeated to the bit. Rows are dealt into batches of equal size, give or take one, so that no batch
of a single row is left over for a batch norm to fail on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .definition import fingerprint
from .errors import ModelError
from .neural_network_rows import Rows, Targets
from .training import Recipe, Score

if TYPE_CHECKING:
    import torch

LossFunction: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"

CHUNK_ROWS = 1024  # in one forward pass that is not a batch of the user's
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
_CLASSES = {"cross_entropy": "cross_entropy", "nll": "nll_loss"}
_ELEMENTS = {
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "mse": "mse_loss",
    "l1": "l1_loss",
    "huber": "huber_loss",
    "poisson_nll": "poisson_nll_loss",
}


@dataclass(frozen=True)
class Loss:
    """What is minimised: the mean over the rows.

    Parameters
    ----------
    choice : str or callable
        One of torch's losses by name, or ``loss(outputs, targets)`` that returns a tensor: the mean over the rows of
        a batch, or a value for each row.
    """

    choice: str | LossFunction

    def __post_init__(self) -> None:
        known = (*_CLASSES, *_ELEMENTS)
        if not callable(self.choice) and self.choice not in known:
            raise ModelError(f"loss is a function of (outputs, targets), or one of {', '.join(known)}")

    @property
    def targets(self) -> Targets:
        """What the targets are."""
        if callable(self.choice):
            return "any"
        return "classes" if self.choice in _CLASSES else "numbers"

    @property
    def counts_hits(self) -> bool:
        """Whether an output can be right or wrong."""
        return self.targets == "classes" or self.choice == "bce_with_logits"

    def description(self) -> Any:
        """Return the loss as a definition holds it."""
        return fingerprint(self.choice) if callable(self.choice) else self.choice

    def mean(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over the rows of a batch.

        Raises
        ------
        ModelError
            If outputs and targets do not go together, or the function returns neither one value nor one a row.
        """
        if isinstance(self.choice, str):
            return self._named(self.choice, outputs, targets)
        value = self.choice(outputs, targets)
        if value.ndim and len(value) != len(targets):
            raise ModelError(
                f"loss returned {tuple(value.shape)}: return the mean over the rows, or one value a row"
            )
        return value.mean()

    def _named(self, name: str, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional  # noqa: PLC0415

        if name in _ELEMENTS:
            targets = _like(outputs, targets)
        value: torch.Tensor = getattr(functional, {**_CLASSES, **_ELEMENTS}[name])(outputs, targets)
        return value

    def hits(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[int, int]:
        """Return how many targets the outputs meet, and how many targets there are."""
        if self.targets == "numbers":
            wanted = _like(outputs, targets) > 0.5
            return int(((outputs > 0) == wanted).sum()), wanted.numel()
        if targets.is_floating_point():  # probabilities of classes
            targets = targets.argmax(dim=1)
        return int((outputs.argmax(dim=1) == targets).sum()), targets.numel()


def _like(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if outputs.numel() != targets.numel():  # torch would broadcast (n, 1) against (n,) to (n, n)
        raise ModelError(
            f"the module gives {tuple(outputs.shape)} for targets {tuple(targets.shape)}: one output a target"
        )
    return targets.to(outputs.dtype).reshape(outputs.shape)


def evaluate(module: torch.nn.Module, rows: Rows, loss: Loss) -> Score:
    """Return the loss and the hits of a network on rows, in evaluation mode."""
    import torch  # noqa: PLC0415

    module.eval()
    total = hits = targets = 0.0
    with torch.no_grad():
        for batch in _batches(rows, CHUNK_ROWS):
            outputs = module(*batch.inputs)
            total += float(loss.mean(outputs, batch.targets)) * len(batch)
            if loss.counts_hits:
                met, of = loss.hits(outputs, batch.targets)
                hits, targets = hits + met, targets + of
    return Score(len(rows), total / len(rows) if len(rows) else math.nan, int(hits), int(targets))


def train(module: torch.nn.Module, rows: Rows, loss: Loss, recipe: Recipe, number: int) -> float:
    """Train a network in place for the local epochs of a round, and return the mean loss over its batches.

    The proximal term of FedProx adds proximal · (w − w_start) to the gradient.
    """
    import torch  # noqa: PLC0415

    module.train()
    parameters = [tensor for tensor in module.parameters() if tensor.requires_grad]
    start = [tensor.detach().clone() for tensor in parameters] if recipe.proximal else []
    step = _stepper(recipe, parameters)
    total, size = 0.0, recipe.batch_size or max(len(rows), 1)
    for epoch in range(recipe.local_epochs):
        for batch in _batches(rows, size, recipe.generator(number, epoch)):
            module.zero_grad()
            value = loss.mean(module(*batch.inputs), batch.targets)
            value.backward()
            with torch.no_grad():
                for tensor, origin in zip(parameters, start, strict=False):
                    if tensor.grad is not None:
                        tensor.grad.add_(tensor - origin, alpha=recipe.proximal or 0.0)
            step()
            total += float(value.detach()) * len(batch)
    return total / (len(rows) * recipe.local_epochs) if len(rows) else math.nan


def gradient(
    module: torch.nn.Module, rows: Rows, loss: Loss, recipe: Recipe, number: int
) -> tuple[NDArray[Any], float]:
    """Return the mean gradient over the rows, or over `batch_size` of them at random, flat, and their mean loss."""
    module.train()
    module.zero_grad()
    if recipe.batch_size is not None and recipe.batch_size < len(rows):
        order = recipe.generator(number, 0).permutation(len(rows))
        rows = rows.take(np.sort(order[: recipe.batch_size]))
    total = 0.0
    for batch in _batches(rows, CHUNK_ROWS):
        share = loss.mean(module(*batch.inputs), batch.targets) * (len(batch) / len(rows))
        share.backward()
        total += float(share.detach())
    parameters = [tensor for tensor in module.parameters() if tensor.requires_grad]
    flat = [tensor.new_zeros(tensor.shape) if tensor.grad is None else tensor.grad for tensor in parameters]
    return np.concatenate([part.numpy().ravel() for part in flat]), total if len(rows) else math.nan


def _stepper(recipe: Recipe, parameters: Sequence[torch.nn.Parameter]) -> Callable[[], object]:
    """Return what takes a local step along the gradients.

    Plain gradient steps go without torch's optimizers, which import its compiler: 1.3 s and 74 MB in every process.
    """
    import torch  # noqa: PLC0415

    if recipe.optimizer != "sgd" or recipe.optimizer_options:
        step: Callable[[], object] = local_optimizer(recipe, parameters).step
        return step

    def descend() -> None:
        with torch.no_grad():
            for tensor in parameters:
                if tensor.grad is not None:
                    tensor.sub_(tensor.grad, alpha=recipe.learning_rate)

    return descend


def local_optimizer(recipe: Recipe, parameters: Any) -> torch.optim.Optimizer:
    """Return torch's optimizer for the local steps.

    Raises
    ------
    ModelError
        If there is none of this name, or it does not take the options.
    """
    import torch  # noqa: PLC0415

    if recipe.optimizer not in OPTIMIZERS:
        raise ModelError(f"optimizer is one of {', '.join(OPTIMIZERS)}")
    options: Mapping[str, Any] = {**recipe.optimizer_options, "lr": recipe.learning_rate}
    try:
        made: torch.optim.Optimizer = getattr(torch.optim, OPTIMIZERS[recipe.optimizer])(
            parameters, **options
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"torch refuses the options of {recipe.optimizer}: {error}") from None
    return made


def _batches(rows: Rows, size: int, generator: np.random.Generator | None = None) -> Iterator[Rows]:
    """Deal rows, shuffled if there is a generator, into the fewest batches of at most `size`."""
    order = np.arange(len(rows)) if generator is None else generator.permutation(len(rows))
    for part in np.array_split(order, math.ceil(len(rows) / size)) if len(rows) else ():
        yield rows.take(part)


def outputs_of(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> NDArray[Any]:
    """Return a network's outputs in evaluation mode, one entry a row."""
    import torch  # noqa: PLC0415

    module.eval()
    n_rows = len(inputs[0])
    with torch.no_grad():
        parts = [
            module(*(part[start : start + CHUNK_ROWS] for part in inputs)).numpy()
            for start in range(0, max(n_rows, 1), CHUNK_ROWS)
        ]
    return np.concatenate(parts)


def load_arrays(module: torch.nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Copy arrays into a module's state dict, by name."""
    import torch  # noqa: PLC0415

    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
