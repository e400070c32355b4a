"""Gradients row by row, clipped and added up: what a holder puts into a round that protects records or persons.

The loss of a row is that of a batch of this row alone, with its own copy of the parameters, which is a view
(`torch.func.vmap`, `functional_call`). So no gradient depends on another row, whatever the module does within a batch.

A unit's contribution must not depend on the other units' even in its last bit, or leaving one out would move the sum by
more than its own row. Integers are added exactly, and a person's rows by themselves; but torch may compute a row in
another order when its neighbours change. In double precision, whatever the network's own, that is some 2^-30 of a
grid unit, so that one number in about 2^30 might be rounded to the next unit.

All of this is local; nobody learns anything here.

References
----------
M. Abadi et al., CCS 2016 (DP-SGD); the PyTorch tutorial on per-sample gradients (vmap).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..privacy.errors import PrivacyError
from ..privacy.noised_sum import NoisedSum
from .neural_network_local import Loss
from .neural_network_rows import Rows

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

CHUNK_NUMBERS = 2**20  # of rows' gradients at a time: 8 MiB, and a few times that while they are clipped


def check_layers(module: torch.nn.Module) -> None:
    """Refuse layers whose output for a row depends on other rows or on chance, or that vmap cannot take.

    Raises
    ------
    PrivacyError
        The first such layer is named, with what to use in its place.
    """
    for name, part in module.named_modules():
        reason = _reason_against(part)
        if reason is not None:
            raise PrivacyError(f"{name or 'the module'}, a {type(part).__name__}, {reason}")


def _reason_against(part: torch.nn.Module) -> str | None:
    from torch import nn  # noqa: PLC0415

    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return "mixes the rows of a batch, whose gradients are then nobody's own: use GroupNorm or LayerNorm"
    if isinstance(part, nn.RNNBase):
        return "cannot be taken row by row (torch has no batching rule for it): use its cell, or attention"
    chance = part.p if isinstance(part, nn.modules.dropout._DropoutNd) else getattr(part, "dropout", 0.0)
    if isinstance(part, nn.RReLU) or (isinstance(chance, int | float) and chance > 0):
        return (
            "draws random numbers, which would be others for all rows if one were missing: leave the layer out, or set "
            "its probability to 0; the noise keeps a network from learning rows by heart"
        )
    return None


def check_on_zeros(network: torch.nn.Module, loss: Loss, rows: Rows, *, by_row: bool) -> torch.Tensor:
    """Check that network and loss can be evaluated on rows of this form, and return the outputs for two rows of zeros.

    An error at the rows themselves might tell of one; what fails at zeros is told whatever the rows are.

    Raises
    ------
    PrivacyError
        If they have to be evaluated row by row, and cannot be.
    """
    zeros = rows.blank(2)  # some layers take no batch of one
    try:
        outputs = _outputs(network, loss, zeros)
        if by_row:
            row_gradients(network, loss, zeros)
    except Exception as error:
        error.add_note("under privacy the module and the loss are first tried on rows of zeros")
        raise
    return outputs


def _outputs(network: torch.nn.Module, loss: Loss, rows: Rows) -> torch.Tensor:
    """Return the outputs for a batch, unless the network or the loss fails at it."""
    import torch  # noqa: PLC0415

    with torch.no_grad():
        outputs: torch.Tensor = network(*rows.inputs)
        loss.mean(outputs, rows.targets)
    return outputs


def clipped_gradients(
    network: torch.nn.Module, loss: Loss, rows: Rows, sizes: NDArray[np.int64], noised: NoisedSum
) -> NDArray[np.float64]:
    """Return the sum over units of the sum of the gradients of each one's rows, clipped; no noise.

    Parameters
    ----------
    network : torch.nn.Module
        In double precision.
    loss : Loss
    rows : Rows
        Unit by unit.
    sizes : ndarray of int64, shape (number of units,)
        How many rows each unit has, from 1.
    noised : NoisedSum
        Clip and grid.

    Returns
    -------
    ndarray of float64, shape (p,)
        On the grid. A row at which the module or the loss fails, or whose gradient is not finite, counts as zeros, and
        so does a unit with such a sum: an error would tell of it.
    """
    at_once = max(1, CHUNK_NUMBERS // noised.dimension)
    total = np.zeros(noised.dimension)
    first = 0
    for chunk in _whole_units(sizes, at_once):
        last = first + sum(chunk)
        part = rows.take(np.arange(first, last))
        total += noised.clipped_sum(_unit_gradients(network, loss, part, chunk, at_once))
        first = last
    return total


def _whole_units(sizes: NDArray[np.int64], at_once: int) -> Iterator[list[int]]:
    """Deal units, given by their sizes, into chunks of at most `at_once` rows, unless one unit has more."""
    chunk: list[int] = []
    n_rows = 0
    for size in sizes.tolist():
        if chunk and n_rows + size > at_once:
            yield chunk
            chunk, n_rows = [], 0
        chunk.append(size)
        n_rows += size
    if chunk:
        yield chunk


def _unit_gradients(
    network: torch.nn.Module, loss: Loss, rows: Rows, sizes: list[int], at_once: int
) -> NDArray[np.float64]:
    """Return the sums of the gradients of each unit's rows, shape (number of units, p); zeros if not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if len(sizes) == len(rows):
            sums = _gradients_or_zeros(network, loss, rows)
        elif len(sizes) > 1:
            firsts = np.cumsum([0, *sizes[:-1]])
            sums = np.add.reduceat(_gradients_or_zeros(network, loss, rows), firsts, axis=0)
        else:
            pieces = [
                rows.take(np.arange(start, min(start + at_once, len(rows))))
                for start in range(0, len(rows), at_once)
            ]
            parts = [_gradients_or_zeros(network, loss, piece).sum(axis=0) for piece in pieces]
            sums = np.sum(parts, axis=0, keepdims=True)
    sums[~np.isfinite(sums).all(axis=1)] = 0.0
    return sums


def _gradients_or_zeros(network: torch.nn.Module, loss: Loss, rows: Rows) -> NDArray[Any]:
    """Return the gradient of each row's loss, zeros where there is none; after `check_on_zeros`.

    The rows go through the network as a batch first: among the copies of `row_gradients`, an index that an embedding
    does not have would not fail, but reach into the copy of another row (torch 2.13), whose clipped gradient it moves.
    """
    try:
        _outputs(network, loss, rows)
        found = row_gradients(network, loss, rows)
    except Exception:  # the module and the loss are the user's, and at zeros they did not fail
        if len(rows) > 1:
            halves = np.array_split(np.arange(len(rows)), 2)
            return np.concatenate([_gradients_or_zeros(network, loss, rows.take(half)) for half in halves])
        logger.warning(
            "a row counts as zeros in the round: the module or the loss fails at it", exc_info=True
        )
        return np.zeros((1, sum(part.numel() for part in network.parameters() if part.requires_grad)))
    found[~np.isfinite(found).all(axis=1)] = 0.0
    return found


def row_gradients(network: torch.nn.Module, loss: Loss, rows: Rows) -> NDArray[Any]:
    """Return the gradient of each row's loss by the trainable parameters, shape (n, p), n ≥ 1.

    Raises
    ------
    PrivacyError
        If the module or the loss cannot be evaluated row by row.
    """
    import torch  # noqa: PLC0415

    # Ordinary gradients by n copies of the parameters, not `torch.func.grad`: that imports torch's compiler, 1.5 s.
    copies = {
        name: tensor.detach().expand(len(rows), *tensor.shape).requires_grad_()
        for name, tensor in network.named_parameters()
        if tensor.requires_grad
    }

    def loss_of(
        parameters: dict[str, torch.Tensor], inputs: tuple[torch.Tensor, ...], target: torch.Tensor
    ) -> torch.Tensor:
        batch = tuple(part.unsqueeze(0) for part in inputs)
        return loss.mean(torch.func.functional_call(network, parameters, batch), target.unsqueeze(0))

    try:
        losses = torch.func.vmap(loss_of, randomness="error")(copies, rows.inputs, rows.targets)
        found = torch.autograd.grad(
            losses.sum(), [*copies.values()], allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if "vmap" not in str(error) and "atching rule" not in str(error):
            raise
        raise PrivacyError(
            "the module or the loss cannot be evaluated row by row, as clipping needs it: use other layers, or "
            f'unit="holder". torch says: {error}'
        ) from None
    flat = torch.empty(len(rows), sum(part[0].numel() for part in found), dtype=found[0].dtype)
    for place, part in zip(flat.split([part[0].numel() for part in found], dim=1), found, strict=True):
        place.view(part.shape).copy_(part)
    gradients: NDArray[Any] = flat.numpy()
    return gradients
