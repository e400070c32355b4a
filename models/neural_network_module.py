"""A torch module as a flat vector and as a public description; torch kept reproducible while it works."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .definition import fingerprint
from .errors import ModelError

if TYPE_CHECKING:
    import torch

Module: TypeAlias = "torch.nn.Module"
Named: TypeAlias = "tuple[tuple[str, torch.Tensor], ...]"
Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]

_ALONE = threading.Lock()  # torch's generator and threads belong to the process


@contextlib.contextmanager
def working_alone(seed: int) -> Iterator[None]:
    """Let torch give the same bits every time: one thread, and its generator seeded.

    Both belong to the process, so holders that share one take turns, and leave them as they were. On one thread of a
    processor torch's sums have one order, without `torch.use_deterministic_algorithms`, which would import its
    compiler: 1.3 s and 74 MB in every process.
    """
    import torch  # noqa: PLC0415

    with _ALONE, torch.random.fork_rng(devices=[]):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.default_generator.manual_seed(
            seed
        )  # torch.manual_seed notes a traceback for graphics cards, each time
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a module stand in a flat vector: trainable parameters, then buffers.

    Buffers count if they are saved with the module and hold floating-point numbers, as a batch norm's running
    statistics do. Parameters that are frozen, and buffers of integers, belong to the module as it was given.

    Attributes
    ----------
    parameters, buffers : tuple of (str, shape)
    dtype : dtype
        float32 or float64, the same for all.
    """

    parameters: Shapes
    buffers: Shapes
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, module: torch.nn.Module) -> Layout:
        """Return the layout of a module.

        Raises
        ------
        ModelError
            If nothing can be trained, or the tensors differ in precision.
        """
        parameters, buffers = _trained(module), _averaged(module)
        if not parameters:
            raise ModelError(
                "the module has no parameter that requires a gradient: there is nothing to train"
            )
        dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for _, tensor in (*parameters, *buffers)})
        if dtypes not in (["float32"], ["float64"]):
            raise ModelError(
                f"the module's tensors are {', '.join(dtypes)}: use module.float() or module.double() for all"
            )
        return cls(_shapes(parameters), _shapes(buffers), np.dtype(dtypes[0]))

    @property
    def n_parameters(self) -> int:
        """Trainable numbers, p."""
        return _size(self.parameters)

    @property
    def n_buffers(self) -> int:
        """Numbers in buffers, b."""
        return _size(self.buffers)

    @property
    def size(self) -> int:
        """Length of the vector, p + b."""
        return self.n_parameters + self.n_buffers

    def vector(self, module: torch.nn.Module) -> NDArray[Any]:
        """Return a copy of the module's parameters and buffers, shape (p + b,)."""
        tensors = [tensor for _, tensor in (*_trained(module), *_averaged(module))]
        return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])

    def arrays(self, module: torch.nn.Module, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the module's state dict with views of a vector in it; what is not trained is the module's, copied."""
        places: dict[int, NDArray[Any]] = {}  # by tensor: one may have several names
        start = 0
        for _, tensor in (*_trained(module), *_averaged(module)):
            end = start + tensor.numel()
            places[id(tensor)] = vector[start:end].reshape(tuple(tensor.shape))
            start = end
        state = module.state_dict(keep_vars=True)
        return {
            name: places[id(tensor)] if id(tensor) in places else tensor.detach().numpy().copy()
            for name, tensor in state.items()
        }

    def load(self, module: torch.nn.Module, vector: NDArray[Any]) -> None:
        """Copy a vector into the module's parameters and buffers."""
        import torch  # noqa: PLC0415

        start = 0
        with torch.no_grad():
            for _, tensor in (*_trained(module), *_averaged(module)):
                end = start + tensor.numel()
                tensor.copy_(torch.tensor(vector[start:end]).reshape(tensor.shape))
                start = end


def without_weights(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a module whose tensors that stand in a vector have a shape, and no memory."""
    import torch  # noqa: PLC0415

    bare = copy.deepcopy(module)
    for _, tensor in (*_trained(bare), *_averaged(bare)):
        tensor.data = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    return bare


def describe(module: torch.nn.Module) -> dict[str, Any]:
    """Return what identifies a module: its printed form, its tensors, and the code of classes outside torch."""
    digest = hashlib.sha256()
    tensors = []
    for name, tensor in module.state_dict().items():
        array = tensor.detach().numpy()
        tensors.append([name, str(array.dtype), list(array.shape)])
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "printed": repr(module),
        "tensors": tensors,
        "trained": [name for name, _ in _trained(module)],
        "state": digest.hexdigest(),
        "code": _code(module),
    }


def _code(module: torch.nn.Module) -> list[dict[str, str]]:
    """Fingerprint the forward pass of each class that does not come with torch."""
    kinds = {type(part) for part in module.modules()}
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] != "torch"]
    return sorted((fingerprint(kind.forward) for kind in own), key=lambda found: found["name"])


def _trained(module: torch.nn.Module) -> Named:
    return tuple((name, tensor) for name, tensor in module.named_parameters() if tensor.requires_grad)


def _averaged(module: torch.nn.Module) -> Named:
    saved = module.state_dict(keep_vars=True).keys()
    return tuple(
        (name, tensor)
        for name, tensor in module.named_buffers()
        if name in saved and tensor.is_floating_point()
    )


def _shapes(tensors: Named) -> Shapes:
    return tuple((name, tuple(tensor.shape)) for name, tensor in tensors)


def _size(shapes: Shapes) -> int:
    return sum(math.prod(shape) for _, shape in shapes)
