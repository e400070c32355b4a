"""A holder's rows as a policy sees them: how many there are, and the columns that others may ask about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from typing import Any


def n_rows(data: Any) -> int | None:
    """Return how many rows a holder has; None if that cannot be said.

    Of a pair (X, y) these are X's, of a mapping of columns the shortest column's.
    """
    if isinstance(data, tuple) and len(data) == 2:
        lengths = [n_rows(part) for part in data]
        return None if None in lengths else min(length for length in lengths if length is not None)
    if isinstance(data, dict):
        return min((n_rows(column) or 0 for column in data.values()), default=0)
    if isinstance(data, str | bytes) or not isinstance(data, Sized):
        return None
    try:
        return len(data)
    except TypeError:  # an array without an axis
        return None


def only(data: Any, columns: Collection[str]) -> Any:
    """Return the rows without other columns than these; what has no columns by name stays as it is."""
    if isinstance(data, Mapping):
        return {name: column for name, column in data.items() if name in columns}
    if not has_columns(data):
        return data
    return data[[name for name in data.columns if name in columns]]


def has_columns(data: Any) -> bool:
    """Whether rows are a data frame, or a mapping of columns."""
    return hasattr(data, "columns") or isinstance(data, Mapping)
