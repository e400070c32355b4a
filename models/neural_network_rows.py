"""A holder's rows as tensors: from arrays, tensors or a data frame; which are held out; whether all holders agree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .columns import NUMBER_KINDS
from .errors import DataError, ModelError

if TYPE_CHECKING:
    import pandas as pd
    import torch

Targets: TypeAlias = Literal["classes", "numbers", "any"]

_HASHES, _HASH_BITS = 4, 15  # 60 bits; rows times the square of a hash fit an int64 up to 2^32 rows


@dataclass(frozen=True)
class Rows:
    """Inputs and targets, one entry a row.

    Attributes
    ----------
    inputs : tuple of Tensor
        What the module is called with.
    targets : Tensor
    columns : tuple of str
        Names of the columns, if the rows came as a data frame.
    """

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        import torch  # noqa: PLC0415

        chosen = torch.from_numpy(indices)
        return Rows(tuple(part[chosen] for part in self.inputs), self.targets[chosen], self.columns)

    def blank(self, n_rows: int) -> Rows:
        """Return rows of the same form with zeros for all values: what fails at them fails whatever the rows are."""
        inputs = tuple(part.new_zeros((n_rows, *part.shape[1:])) for part in self.inputs)
        return Rows(inputs, self.targets.new_zeros((n_rows, *self.targets.shape[1:])), self.columns)

    def split(self, fraction: float | None, generator: np.random.Generator) -> tuple[Rows, Rows]:
        """Return the rows to train on, and those held out: the whole part of `fraction` of them, at random."""
        order = generator.permutation(len(self))
        n_held_out = int(len(self) * fraction) if fraction else 0
        return self.take(np.sort(order[n_held_out:])), self.take(np.sort(order[:n_held_out]))

    def form(self) -> list[Any]:
        """Return what must be the same at every holder: names, and the shape and dtype of a row."""
        parts = (*self.inputs, self.targets)
        return [list(self.columns), *([list(part.shape[1:]), str(part.dtype)] for part in parts)]


@dataclass(frozen=True)
class FrameColumns:
    """Where a data frame has X and y.

    Attributes
    ----------
    target : str, optional
        The column of y; None if the rows are no data frame but (X, y).
    features : tuple of str, optional
        The columns of X; None for all others, in their order, which must be the same at every holder.
    """

    target: str | None = None
    features: tuple[str, ...] | None = None

    def of(self, data: pd.DataFrame, dtype: np.dtype[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
        """Return X of a data frame, with or without its target, and the names of its columns.

        Raises
        ------
        DataError
            If columns are missing, or hold no numbers.
        """
        names = self._names(data)
        try:
            return data[list(names)].to_numpy(dtype=dtype), tuple(map(str, names))
        except (TypeError, ValueError):
            raise DataError(
                "a column of X holds no numbers: encode it, the same way at every holder"
            ) from None

    def present(self, data: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows of a data frame have a value of everything, where X and y are numbers by their dtype.

        Raises
        ------
        DataError
            If columns are missing, or their dtype is not one of numbers, whatever they hold.
        """
        used = [*self._names(data), self.target]
        if self.target not in data.columns:
            raise DataError(f"the data frame has no column {self.target}, the model's target")
        for name, dtype in data[used].dtypes.items():
            if dtype.kind not in NUMBER_KINDS:
                raise DataError(
                    f"the column {name} holds {dtype}: convert it to numbers, the same way at every holder"
                )
        return np.asarray(data[used].notna().to_numpy().all(axis=1))

    def _names(self, data: pd.DataFrame) -> tuple[str, ...]:
        if not hasattr(data, "columns"):
            raise DataError(
                f"the rows are {type(data).__name__}, not a data frame, which the model's target= asks for"
            )
        names = self.features or tuple(name for name in data.columns if name != self.target)
        missing = [str(name) for name in names if name not in data.columns]
        if missing:
            raise DataError(f"the data frame has no column {', '.join(missing)}")
        return names


def rows_of(data: Any, columns: FrameColumns, dtype: np.dtype[Any], targets: Targets) -> Rows:
    """Return a holder's data as tensors.

    Parameters
    ----------
    data : (X, y) or DataFrame
        X may be a tuple of arrays, for a module of several inputs.
    columns : FrameColumns
    dtype : dtype
        Of the module. Floats become this, bytes and truth values too; other integers stay, for embeddings.
    targets : {"classes", "numbers", "any"}
        What y is: numbers of classes, unless it is a table of their probabilities; numbers, integers or not; or what
        it is given as.

    Raises
    ------
    DataError
        If the data have another form, or values that are missing or not finite.
    """
    rows = _as_given(data, columns, dtype)
    for part, name in [*((part, "X") for part in rows.inputs), (rows.targets, "y")]:
        _check_finite(part, name)
    if not _are_targets(rows.targets, targets).all():
        raise DataError("y has fractions, and the loss takes numbers of classes: 0, 1, …")
    return _with_targets(rows, dtype, targets)


def sound_rows_of(
    data: Any, columns: FrameColumns, dtype: np.dtype[Any], targets: Targets
) -> tuple[Rows, NDArray[np.int64]]:
    """Return those rows that `rows_of` would not refuse, and their places: under privacy others count as absent.

    A refusal that depends on a value would tell, without noise, that there is such a row. So the form of the data is
    judged by what it is whatever the rows.

    Raises
    ------
    DataError
        If the data have another form, or their dtype is not fixed (a list, a column of objects).
    """
    places = None
    if columns.target is None:
        inputs, y = _of_pair(data)
        if not all(isinstance(part, np.ndarray) or hasattr(part, "detach") for part in (*inputs, y)):
            raise DataError(
                "under privacy X and y are arrays or tensors: of what kind a list is depends on its rows"
            )
    else:
        present = columns.present(data)
        data, places = data[present], np.flatnonzero(present)
    with np.errstate(over="ignore"):
        rows = _as_given(data, columns, dtype)
    sound = _are_targets(rows.targets, targets)
    for part in (*rows.inputs, rows.targets):
        sound &= part.isfinite().flatten(1).all(dim=1) if part.ndim > 1 else part.isfinite()
    chosen: NDArray[np.int64] = np.flatnonzero(sound.numpy())
    return _with_targets(rows.take(chosen), dtype, targets), chosen if places is None else places[chosen]


def _as_given(data: Any, columns: FrameColumns, dtype: np.dtype[Any]) -> Rows:
    """Return all rows, whatever their values."""
    names: tuple[str, ...] = ()
    if columns.target is None:
        inputs, y = _of_pair(data)
    else:
        x, names = columns.of(data, dtype)
        inputs, y = (x,), _column(data, columns.target)
    tensors = tuple(_tensor(part, dtype, "X") for part in inputs)
    found = _tensor(y, dtype, "y")
    if any(len(part) != len(found) for part in tensors):
        raise DataError("X and y have different numbers of rows")
    return Rows(tensors, found, names)


def _are_targets(found: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Return which rows' targets are whole numbers, if they are numbers of classes."""
    import torch  # noqa: PLC0415

    if targets == "classes" and found.ndim == 1 and found.is_floating_point():
        return found == found.trunc()
    return torch.ones(len(found), dtype=torch.bool)


def _with_targets(rows: Rows, dtype: np.dtype[Any], targets: Targets) -> Rows:
    """Return the rows with targets of the kind that the loss takes."""
    found = rows.targets
    if targets == "classes" and found.ndim == 1:
        found = found.long()
    elif targets == "numbers":
        found = _tensor(found.double(), dtype, "y")
    return replace(rows, targets=found)


def inputs_of(data: Any, columns: FrameColumns, dtype: np.dtype[Any]) -> tuple[torch.Tensor, ...]:
    """Return rows to predict as tensors: X, or a data frame where the model has a target."""
    if columns.target is not None and hasattr(data, "columns"):
        data, _ = columns.of(data, dtype)
    tensors = tuple(_tensor(part, dtype, "X") for part in (data if isinstance(data, tuple) else (data,)))
    for part in tensors:
        _check_finite(part, "X")
    return tensors


def _check_finite(part: torch.Tensor, name: str) -> None:
    if not part.isfinite().all():
        raise DataError(f"{name} has values that are missing or not finite: leave out or impute those rows")


def _column(data: pd.DataFrame, name: str) -> Any:
    if name not in data.columns:
        raise DataError(f"the data frame has no column {name}, the model's target")
    return data[name].to_numpy()


def _of_pair(data: Any) -> tuple[tuple[Any, ...], Any]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise DataError(
            f"the rows are {type(data).__name__}: give (X, y), or data frames and a model with target="
        )
    x, y = data
    return (x if isinstance(x, tuple) else (x,)), y


def _tensor(values: Any, dtype: np.dtype[Any], name: str) -> torch.Tensor:
    import torch  # noqa: PLC0415

    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in NUMBER_KINDS or not array.ndim:
        raise DataError(f"{name} is an array of {array.dtype}{array.shape}: give numbers, a row each")
    wanted = dtype if array.dtype.kind in "fb" or array.dtype == np.uint8 else np.dtype(np.int64)
    return torch.from_numpy(np.array(array, dtype=wanted))


# Whether all holders' rows have one form, told by sums alone.


def form_sums(rows: Rows) -> NDArray[np.int64]:
    """Return Σh and Σh² over the rows for hashes h of their form, shape (2, 4).

    Summed over holders, n Σh² = (Σh)² if and only if all hashes are equal (Cauchy and Schwarz): the sums tell that
    forms differ, and neither how many do nor whose.
    """
    digest = hashlib.sha256(repr(rows.form()).encode()).digest()
    words = np.frombuffer(digest, dtype="<u2")[:_HASHES].astype(np.int64) >> (16 - _HASH_BITS)
    return len(rows) * np.stack([words, words**2])


def check_forms(sums: NDArray[np.int64], n_rows: int) -> None:
    """Refuse holders whose rows differ in form.

    Raises
    ------
    ModelError
        If they do.
    """
    firsts, seconds = sums.tolist()
    if any(n_rows * second != first**2 for first, second in zip(firsts, seconds, strict=True)):
        raise ModelError(
            "the holders' rows differ in their columns, or in the shape or kind of X or y: bring all to one form "
            "(same columns in the same order, floats or integers alike)"
        )
