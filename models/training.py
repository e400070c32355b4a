"""What training a network over holders needs besides torch: the recipe, what is measured, where a training stands.

Holders weigh by n / unit, where the unit, a power of two, is no smaller than the number of all rows: scaling by it
is exact, and the weights of all holders together are at most 1. So one declared bound holds for every holder's weighted
change, and for their sum, for any number of rows and holders. Losses travel as integers of 2^-32, whatever the
encoding of the change.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..serialization.encoding_parameters import FixedPoint, FixedPointMean
from .definition import State
from .errors import ModelError

Vector: TypeAlias = NDArray[np.floating[Any]]
Aggregation: TypeAlias = Literal["fedavg", "fedsgd", "fedprox"]

LARGEST_CHANGE, LARGEST_GRADIENT = 8.0, 64.0  # of a parameter in a round, where nothing else is said
BUFFER_BOUND = 2.0**20  # of the change of a buffer in a round: variances are larger than weights
LARGEST_LOSS = 2.0**20  # of a row, on the average; a larger one counts as this
LOSS_BITS = 32
_GRID_BITS = 48  # of a value at its bound: leaves room for 2^15 - 1 holders
_SHORT_GRID_BITS = 30  # in words of 32 bits, with room for what is rounded up
_SHORT_BOUND = 64.0  # up to which such words resolve 2^-24, what float32 does at 1
_BOUNDS = (2.0**-20, 2.0**40)


# What all parties agree on.


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained: public numbers, checked when they are given.

    Attributes
    ----------
    aggregation, optimizer, optimizer_options, learning_rate, rounds, local_epochs, batch_size, proximal, seed,
    validation, early_stop, bound
        As `NeuralNetwork` documents them.
    """

    aggregation: Aggregation
    optimizer: str
    optimizer_options: Mapping[str, Any]
    learning_rate: float
    rounds: int
    local_epochs: int
    batch_size: int | None
    proximal: float | None
    seed: int
    validation: float | None
    early_stop: int | None
    bound: float

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "bound", float(np.float32(self.bound))
        )  # so that no clipped value exceeds it
        for name in ("rounds", "local_epochs", "batch_size", "early_stop"):
            value = getattr(self, name)
            optional = name in {"batch_size", "early_stop"}
            if not (_is_whole(value) and value >= 1) and not (optional and value is None):
                raise ModelError(f"{name} is a whole number from 1" + (", or None" if optional else ""))
        if not _is_whole(self.seed) or self.seed < 0:
            raise ModelError("seed is a whole number from 0")
        if not 0 < self.learning_rate < math.inf:
            raise ModelError("learning_rate is a positive number")
        if not _BOUNDS[0] <= self.bound <= _BOUNDS[1]:
            raise ModelError("bound, the largest change of a parameter in a round, is from 2^-20 to 2^40")
        if self.validation is not None and not 0 < self.validation < 1:
            raise ModelError("validation is the fraction of rows held out, between 0 and 1")
        if self.early_stop is not None and self.validation is None:
            raise ModelError(
                "early_stop watches the loss of rows held out: give validation=0.1, for instance"
            )
        self._check_aggregation()

    def _check_aggregation(self) -> None:
        if self.aggregation not in ("fedavg", "fedsgd", "fedprox"):
            raise ModelError("aggregation is 'fedavg', 'fedsgd' or 'fedprox'")
        if (self.proximal is not None) != (self.aggregation == "fedprox"):
            raise ModelError("proximal=, the weight of the proximal term, goes with aggregation='fedprox'")
        if self.proximal is not None and not 0 <= self.proximal < math.inf:
            raise ModelError("proximal is a number from 0")
        local = self.local_epochs != 1 or self.optimizer != "sgd" or self.optimizer_options
        if self.aggregation == "fedsgd" and local:
            raise ModelError(
                "fedsgd takes one step a round, at the coordinator: leave out local_epochs, optimizer and its "
                "options, and choose a server_optimizer"
            )

    def encoding(self, dtype: np.dtype[Any]) -> FixedPointMean:
        """Return a grid for the sums that the bounds allow, among up to 32,767 holders, by the network's precision.

        Bounds are 2^48 units. That on changes of parameters in float32 is 2^30, so that they go in words of 32 bits,
        as long as that resolves 2^-24. A gradient has 2^48 in any case: small ones may move the network as much.
        """
        is_short = dtype == np.float32 and self.aggregation != "fedsgd" and self.bound <= _SHORT_BOUND
        update = _fraction_bits(self.bound, _SHORT_GRID_BITS if is_short else _GRID_BITS)
        buffers = _fraction_bits(BUFFER_BOUND, _GRID_BITS)
        return FixedPointMean(
            FixedPoint({"": self.bound, "buffers": BUFFER_BOUND}, {"": update, "buffers": buffers})
        )

    def generator(self, *number: int) -> np.random.Generator:
        """Return the source of the public randomness of a round and an epoch, the same at every holder."""
        return np.random.default_rng((self.seed, *number))

    def torch_seed(self, number: int) -> int:
        """Return the seed of torch's own generator in a round, for dropout and its like."""
        return int(self.generator(number).integers(2**62))


def _fraction_bits(bound: float, grid_bits: int) -> int:
    mantissa, exponent = math.frexp(bound)
    return grid_bits - (exponent if mantissa > 0.5 else exponent - 1)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Weights, and losses as integers.


def unit_exponent(rows: int) -> int:
    """Return e such that 2^e, the unit of weights, is the least power of two with `rows` ≤ 2^e."""
    return max(rows - 1, 0).bit_length()


def loss_units(loss: float, rows: int, exponent: int) -> int:
    """Return a holder's mean loss times its rows over the unit, in units of 2^-32; NaN counts as the largest."""
    limited = LARGEST_LOSS if math.isnan(loss) else min(max(loss, -LARGEST_LOSS), LARGEST_LOSS)
    return round(math.ldexp(limited * rows, LOSS_BITS - exponent))


def mean_loss(units: int, rows: int, exponent: int) -> float:
    """Return the mean loss over all rows from the sum of `loss_units`; NaN over none."""
    return math.ldexp(units, exponent - LOSS_BITS) / rows if rows else math.nan


def bounded(values: Vector, bound: float) -> int:
    """Bring values within ±bound in place, and return how many were beyond; NaN stays."""
    beyond = np.abs(values) > bound
    count = int(np.count_nonzero(beyond))
    if count:
        np.clip(values, -bound, bound, out=values)
    return count


class Score(NamedTuple):
    """How a network does on some rows.

    Attributes
    ----------
    rows : int
    loss : float
        Mean over the rows; NaN for none.
    hits, targets : int
        Targets met, and all; 0 if the loss knows no hits.
    """

    rows: int = 0
    loss: float = math.nan
    hits: int = 0
    targets: int = 0

    @property
    def accuracy(self) -> float:
        """Hits over targets; NaN for none."""
        return self.hits / self.targets if self.targets else math.nan

    def to_arrays(self, prefix: str, exponent: int, *, hits: bool) -> dict[str, NDArray[Any]]:
        """Return what a holder contributes, integers all, under names that begin with `prefix`."""
        counts = {"rows": self.rows, "loss": loss_units(self.loss, self.rows, exponent)}
        if hits:
            counts |= {"hits": self.hits, "targets": self.targets}
        return {prefix + name: np.asarray(value) for name, value in counts.items()}

    @classmethod
    def of(cls, prefix: str, sums: Mapping[str, NDArray[Any]], exponent: int) -> Score:
        """Return the score over all holders from the sums of their arrays; of no rows if there are none."""
        count = {name: int(sums[prefix + name]) for name in cls._fields if prefix + name in sums}
        loss = mean_loss(count.pop("loss", 0), count.get("rows", 0), exponent)
        return cls(**count, loss=loss)


# Where a training stands.


@dataclass(frozen=True)
class RoundRecord:
    """What is known of the network after a round; NaN for what was not measured.

    Attributes
    ----------
    round : int
        0 is the start.
    loss : float
        Mean loss of the rows over the batches of this round.
    validation_loss, validation_accuracy : float
        Of the rows held out, under the network as this round left it.
    rows : int
        In the sum of this round: of all holders that were there. Under privacy an estimate of how many records or
        persons are in it, or the number of holders.
    clipped : float
        Values of all holders together that were beyond the bound: a whole number, or NaN.
    """

    round: int
    loss: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    rows: int = 0
    clipped: float = 0

    @property
    def is_validated(self) -> bool:
        """Whether the rows held out have been evaluated."""
        return not math.isnan(self.validation_loss)


@dataclass(frozen=True, eq=False)
class TrainingState(State):
    """A network between two rounds: everything that the next round depends on.

    Attributes
    ----------
    parameters : ndarray, shape (p + b,)
        Trainable parameters, then the buffers in floating point, in the network's own precision.
    value : float
        Mean training loss of the last round.
    memory : mapping of str to ndarray
        What the server's optimizer remembers.
    records : tuple of RoundRecord
        The start and every round so far. The last one's validation is measured by the next round.
    best : ndarray, optional
        With `early_stop`: the parameters of the round with the least validation loss.
    best_round : int
        That round.
    exponent : int
        Holders weigh by their rows over 2^exponent.
    """

    suffices: ClassVar[bool] = True

    memory: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    records: tuple[RoundRecord, ...] = ()
    best: NDArray[Any] | None = None
    best_round: int = -1
    exponent: int = 0

    def __str__(self) -> str:
        text = f"round {self.iteration}" + ("" if math.isnan(self.value) else f": loss {self.value:.4g}")
        before = self.records[-2] if len(self.records) > 1 else RoundRecord(0)
        if before.is_validated:
            text += f", held out before it {before.validation_loss:.4g}"
        if not math.isnan(before.validation_accuracy):
            text += f" (accuracy {before.validation_accuracy:.1%})"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able data (arrays as base64); `from_dict` restores the same bits."""
        return {
            **self.__dict__,
            "parameters": array_to_dict(self.parameters),
            "memory": {name: array_to_dict(array) for name, array in self.memory.items()},
            "records": [record_to_dict(record) for record in self.records],
            "best": None if self.best is None else array_to_dict(self.best),
            **{name: _number(getattr(self, name)) for name in ("value", "gradient_norm")},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingState:
        """Restore a state from `to_dict`."""
        restored = {
            "parameters": array_from_dict(content["parameters"]),
            "memory": {name: array_from_dict(array) for name, array in content["memory"].items()},
            "records": tuple(record_from_dict(record) for record in content["records"]),
            "best": None if content["best"] is None else array_from_dict(content["best"]),
            **{name: _float(content[name]) for name in ("value", "gradient_norm")},
        }
        return cls(**{**content, **restored})


def array_to_dict(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array of numbers as JSON-able data: dtype, shape, and its bytes as base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    octets = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "base64": octets}


def array_from_dict(content: Mapping[str, Any]) -> NDArray[Any]:
    """Restore an array from `array_to_dict`."""
    dtype = np.dtype(content["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype}")
    octets = base64.b64decode(content["base64"], validate=True)
    return np.frombuffer(octets, dtype=dtype).reshape(content["shape"]).astype(dtype.newbyteorder("="))


def record_to_dict(record: RoundRecord) -> dict[str, Any]:
    """Return a record as JSON-able data, NaN as None."""
    return {name: _number(value) for name, value in asdict(record).items()}


def record_from_dict(content: Mapping[str, Any]) -> RoundRecord:
    """Restore a record from `record_to_dict`."""
    return RoundRecord(**{name: _float(value) for name, value in content.items()})


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _float(value: Any) -> Any:
    return math.nan if value is None else value
