"""A holder's columns as models read them: numbers with NaN for what is missing, or levels with None.

Nothing here depends on how a table was read: a column of whole numbers is the same column if a missing value
made it floats, and if it came as objects.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .level_table import Level

if TYPE_CHECKING:
    import pandas as pd

Numbers: TypeAlias = NDArray[np.float64]
Texts: TypeAlias = NDArray[np.object_]  # of levels; None where missing
Objects: TypeAlias = NDArray[np.object_]  # as they are given

NUMBER_KINDS = "biuf"
_EXACT = 2**53  # beyond it a float64 does not hold every integer


class Frame:
    """The rows of a holder; without a DataFrame, a table of no rows that has every column.

    Parameters
    ----------
    data : DataFrame, optional
        The rows.

    Raises
    ------
    DataError
        If they are no DataFrame.
    """

    def __init__(self, data: Any = None) -> None:
        import pandas as pd  # noqa: PLC0415  # 0.3 s: models of other data do without

        if data is not None and not isinstance(data, pd.DataFrame):
            raise DataError(f"a formula needs a DataFrame, not {type(data).__name__}")
        self._data: pd.DataFrame | None = data
        self._columns: dict[str, Numbers | Texts] = {}

    def __len__(self) -> int:
        """Return the number of rows."""
        return 0 if self._data is None else len(self._data)

    def where(self, chosen: NDArray[np.bool_]) -> Frame:
        """Return the chosen rows."""
        return Frame(self._data if self._data is None else self._data[chosen])

    def column(self, name: str) -> Numbers | Texts:
        """Return a column as numbers, or as levels if it holds text or is a pandas Categorical.

        Parameters
        ----------
        name : str
            The column; truth values become 0 and 1. A column without any value is one of numbers, all missing.

        Returns
        -------
        ndarray, shape (n,)
            float64 with NaN, or objects with None.

        Raises
        ------
        DataError
            If there is no such column, or it holds what is neither number nor text, infinite values, or
            integers that are no exact floats.
        """
        if name not in self._columns:
            self._columns[name] = np.empty(0) if self._data is None else _column(self._series(name), name)
        return self._columns[name]

    def levels(self, name: str) -> Texts:
        """Return a column as levels: texts, truth values and numbers, a whole number as an int. None if missing.

        Raises
        ------
        DataError
            If there is no such column, or it holds something else.
        """
        return np.empty(0, dtype=object) if self._data is None else _levels(self._series(name), name)

    def objects(self, name: str) -> Objects:
        """Return a column as it is given, whatever it holds.

        Raises
        ------
        DataError
            If there is no such column.
        """
        return np.asarray([] if self._data is None else self._series(name), dtype=np.object_)

    def is_of_numbers(self, name: str) -> bool:
        """Whether a column holds numbers or truth values by its dtype, whatever its values.

        Raises
        ------
        DataError
            If there is no such column.
        """
        return self._data is None or self._series(name).dtype.kind in NUMBER_KINDS

    def categories(self, name: str) -> list[Level]:
        """Return the categories of a column in their order; none if it is no pandas Categorical."""
        series = None if self._data is None else self._series(name)
        if series is None or not _is_categorical(series):
            return []
        return [_level(value, name) for value in series.cat.categories.tolist()]

    def _series(self, name: str) -> pd.Series[Any]:
        import pandas as pd  # noqa: PLC0415

        if self._data is None or name not in self._data:
            raise DataError(f"the rows have no column {name!r}, which the formula needs")
        series = self._data[name]
        if isinstance(series, pd.DataFrame):
            raise DataError(f"the rows have {series.shape[1]} columns {name!r}: name them apart")
        return series


def _column(series: pd.Series[Any], name: str) -> Numbers | Texts:
    if series.dtype.kind in NUMBER_KINDS:
        return _numbers(series, name)
    if series.dtype.kind != "O":  # of Categorical too, and of pandas' own texts
        raise DataError(
            f"the column {name!r} holds {series.dtype}: give numbers or text, for instance the days since a date"
        )
    codes, different = _factorized(series, name)
    if not different:
        return np.full(len(series), np.nan)
    if _is_categorical(series) or all(isinstance(value, str) for value in different):
        return _taken(codes, different, name)
    if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in different):
        return _numbers(series, name)
    raise DataError(f"the column {name!r} holds neither numbers only nor text only")


def _levels(series: pd.Series[Any], name: str) -> Texts:
    return _taken(*_factorized(series, name), name)


def _factorized(series: pd.Series[Any], name: str) -> tuple[NDArray[np.intp], list[Any]]:
    """Return the different values, and for each row the index of its own, -1 if it is missing."""
    try:
        codes, different = series.factorize()
    except TypeError:
        raise DataError(f"{name!r} holds neither texts nor numbers") from None
    return codes, different.tolist()


def _taken(codes: NDArray[np.intp], different: list[Any], name: str) -> Texts:
    return np.array([*(_level(value, name) for value in different), None], dtype=object)[codes]


def as_levels(numbers: Numbers, name: str, *, boolean: bool) -> Texts:
    """Return numbers that were computed as levels; 0 and 1 as truth values if they are such."""
    different, codes = np.unique(numbers, return_inverse=True)
    levels = [None if math.isnan(value) else _level(value, name) for value in different.tolist()]
    return np.array([bool(level) if boolean and level is not None else level for level in levels], object)[
        codes
    ]


def _is_categorical(series: pd.Series[Any]) -> bool:
    return hasattr(series, "cat")


def _numbers(series: pd.Series[Any], name: str) -> Numbers:
    if series.dtype.kind in "iuO" and any(abs(int(value)) > _EXACT for value in _extreme_integers(series)):
        raise DataError(
            f"the column {name!r} holds integers beyond 2^53, which are no exact floats: scale it"
        )
    result: Numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(result).any():
        raise DataError(f"the column {name!r} holds infinite values, which are neither numbers nor missing")
    return result


def _extreme_integers(series: pd.Series[Any]) -> list[Any]:
    """Return the smallest and the largest whole number; none if there is no whole number."""
    present = series.dropna()
    if series.dtype.kind == "O":
        present = present[[isinstance(value, int | np.integer) for value in present]]
    return [present.min(), present.max()] if len(present) else []


def _level(value: Any, name: str) -> Level:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{name!r} holds infinite values, which are no levels")
        return int(value) if value.is_integer() else value
    if isinstance(value, str | bool | int):
        return value
    raise DataError(f"{name!r} holds {type(value).__name__}, where levels are texts or numbers")
