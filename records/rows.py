"""Rows from a file, and predictions for them as text: for the command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import RecordError

if TYPE_CHECKING:  # importing pandas takes 0.3 s
    import pandas as pd


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the rows of a CSV file with a heading.

    Raises
    ------
    RecordError
        If it cannot be read.
    """
    import pandas as pd  # noqa: PLC0415

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{os.fspath(path)} cannot be read as CSV: {error}") from None


def as_csv(predictions: Any) -> str:
    """Return predictions, one for each row, as CSV with a heading; floats keep all their digits."""
    import pandas as pd  # noqa: PLC0415

    table = pd.DataFrame(predictions)
    if isinstance(predictions, pd.Series) and predictions.name is None:
        table.columns = pd.Index(["prediction"])
    return str(table.to_csv(index_label="row"))


def as_lists(predictions: Any) -> Any:
    """Return predictions as nested lists for JSON, None for NaN."""
    values = np.asarray(predictions)
    if values.dtype.kind == "f":
        numbers = values.astype(object)
        numbers[np.isnan(values)] = None
        return numbers.tolist()
    return values.tolist()
