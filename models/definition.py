"""What a model is: a public definition, a contribution at each holder, an iteration at the coordinator.

The definition is all that the parties agree on beforehand. It is plain data with one canonical byte string
and one hash, so that a holder can see that it is asked what it has allowed, and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import ArraySpecification, Query
from .errors import ModelError
from .total import Arrays, Total

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, eq=False)
class Definition:
    """The public definition of a model: data, never code.

    Attributes
    ----------
    kind : str
        The model's registered name, for instance ``"MaximumLikelihood"``.
    parameters : mapping
        Texts, booleans, integers, finite floats, None, and lists and mappings of them. Order matters in lists
        only; an integer differs from the float of the same value.

    Raises
    ------
    ModelError
        If a parameter is of another type, or not finite.
    """

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", _plain(self.parameters, "parameters"))

    @property
    def canonical(self) -> bytes:
        """The one byte string of this definition: JSON, keys sorted, floats as their shortest decimals."""
        content = {"kind": self.kind, "parameters": self.parameters}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_canonical(cls, content: bytes) -> Definition:
        """Restore a definition from `canonical`, as somebody else may have sent it.

        Raises
        ------
        ModelError
            If these are not the canonical bytes of a definition.
        """
        try:
            read = json.loads(content)
            definition = cls(read["kind"], read["parameters"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ModelError("these bytes are no definition of a model") from None
        if not isinstance(definition.kind, str) or definition.canonical != content:
            raise ModelError("these bytes are not the canonical ones of a definition")
        return definition

    @property
    def digest(self) -> bytes:
        """The SHA-256 of `canonical`, 32 bytes."""
        return hashlib.sha256(self.canonical).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.digest)


def _plain(value: Any, where: str) -> Any:
    """Copy a JSON-like value, numpy scalars as Python's own, refusing everything else by its place."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ModelError(f"{where} is not finite: leave out a bound by None")
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise ModelError(
        f"{where} is {type(value).__name__}: a definition holds texts, numbers, lists and mappings"
    )


@dataclass(frozen=True, eq=False)
class State:
    """Where an iteration stands: printed as progress, kept as a checkpoint, taken up again by `iterate`.

    Attributes
    ----------
    iteration : int
        Accepted steps so far; 0 is the start.
    parameters : ndarray, shape (p,)
        The current point.
    value : float
        The objective there, summed over all holders.
    gradient_norm : float
        How far the point is from a stationary one, in standard errors (the Newton decrement).
    step_halvings : int
        How often the step to this point had to be shortened.
    n_passes : int
        Secure sums so far.
    """

    suffices: ClassVar[bool] = False  # whether what follows depends on nothing else that a run has been told

    iteration: int
    parameters: NDArray[np.float64]
    value: float
    gradient_norm: float = math.nan
    step_halvings: int = 0
    n_passes: int = 0

    def __str__(self) -> str:
        shortened = f", step shortened {self.step_halvings} times" if self.step_halvings else ""
        return (
            f"iteration {self.iteration}, pass {self.n_passes}: value {self.value:.10g}, "
            f"{self.gradient_norm:.2g} standard errors to go{shortened}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able data; `from_dict` restores the same bits."""
        return {**self.__dict__, "parameters": self.parameters.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> State:
        """Restore a state from `to_dict`."""
        return cls(**{**content, "parameters": np.asarray(content["parameters"], dtype=np.float64)})


class Model(Protocol[R_co]):
    """What is computed. A new model is one file with a class of this form.

    `R_co` is what the iteration ends with, `Fit` for the statistical models.
    """

    @property
    def definition(self) -> Definition:
        """The public definition."""
        ...

    @property
    def expected_passes(self) -> int:
        """How many sums the iteration takes, about: for a plan."""
        ...

    def specifications(self) -> Sequence[ArraySpecification]:
        """Return names, dtypes and shapes of the longest contribution, before anything runs: for a plan."""
        ...

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return a holder's private input to the sum that the query asks for."""
        ...

    def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | R_co]:
        """Yield a `State` for each accepted step and, last, the result, awaiting nothing but sums."""
        ...


def fingerprint(function: Callable[..., Any]) -> dict[str, str]:
    """Return a function's qualified name and a hash of its code, to stand for it in a definition.

    Two functions with the same fingerprint run the same bytecode with the same constants, defaults and
    enclosed values under one version of Python. Global variables and the functions it calls count by their
    names only. What has no bytecode (built-in functions) is known by its name.
    """
    content = repr(_code_of(function)).encode()
    return {"name": _name_of(function), "code": hashlib.sha256(content).hexdigest()}


def _name_of(function: Any) -> str:
    if isinstance(function, functools.partial):
        return f"functools.partial({_name_of(function.func)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _code_of(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Reduce a value to nested tuples of plain data whose repr does not depend on the process."""
    if id(value) in within:
        return ("itself", len(within) - within.index(id(value)))  # a recursive function
    reduce = functools.partial(_code_of, within=(*within, id(value)))
    if isinstance(value, MethodType):
        return ("method", reduce(value.__func__))
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        keywords = sorted((value.__kwdefaults__ or {}).items())
        return ("function", *map(reduce, (value.__code__, value.__defaults__, keywords, cells)))
    if isinstance(value, CodeType):
        return ("code", value.co_code.hex(), value.co_names, value.co_varnames, reduce(value.co_consts))
    if isinstance(value, functools.partial):
        return ("partial", *map(reduce, (value.func, value.args, sorted(value.keywords.items()))))
    return _code_of_data(value, reduce)


def _code_of_data(value: Any, reduce: Callable[[Any], Any]) -> Any:
    if value is None or value is ... or isinstance(value, str | bytes | bool | int | float | complex):
        return value
    if isinstance(value, tuple | list):
        return (type(value).__name__, *map(reduce, value))
    if isinstance(value, frozenset | set):
        return ("set", *sorted(repr(reduce(item)) for item in value))
    if isinstance(value, dict):
        return ("dict", *sorted(repr((reduce(key), reduce(item))) for key, item in value.items()))
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return ("array", value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest())
    call = value.__call__ if callable(value) and not isinstance(value, type) else None
    return ("named", _name_of(value), reduce(call) if isinstance(call, MethodType) else None)


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a recursive function, defined but not yet bound
        return False
    return True
