"""Declared types of columns: what every holder's rows are made of, so that they agree whatever the file.

A column that happens to hold whole numbers at one holder, and one missing value at another, is read as two types; so
are levels that only some holders have. Where that matters, the holder's file declares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from ..models.errors import DataError
from .toml_tables import Table

if TYPE_CHECKING:
    import pandas as pd

DTYPES = ("float64", "int64", "bool", "str")


@dataclass(frozen=True)
class ColumnTypes:
    """Types, and the levels of categories in their order, by the names of columns.

    Attributes
    ----------
    dtypes : mapping of str to str
        "float64", "int64", "bool" or "str".
    categories : mapping of str to tuple
        Every level that a column may have, texts or whole numbers.
    """

    dtypes: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, dtypes: Table, categories: Table) -> ColumnTypes:
        """Read the two tables of a source.

        Raises
        ------
        RecordError
            If a type is not known, levels are none, or a column is declared twice.
        """
        for column in dtypes.content:
            dtypes.one_of(column, DTYPES)
        levels = {column: _levels(categories, column) for column in categories.content}
        for column in levels.keys() & dtypes.content.keys():
            raise categories.problem("has a dtype, too: declare one of them", column)
        return cls(dict(dtypes.content), levels)

    def while_reading(self) -> dict[str, str]:
        """Return what a CSV reader is told: levels that are texts stay texts, such as "01"."""
        texts = {column: "str" for column, levels in self.categories.items() if isinstance(levels[0], str)}
        return {**self.dtypes, **texts}

    def applied(self, rows: pd.DataFrame, source: str) -> pd.DataFrame:
        """Return the rows with these types.

        Raises
        ------
        DataError
            If a column is missing, or a value (which is not told) does not fit.
        """
        import pandas as pd  # noqa: PLC0415

        columns: dict[str, pd.Series[Any]] = {}
        for column in (*self.dtypes, *self.categories):
            if column not in rows.columns:
                raise DataError(
                    f"source {source!r}: there is no column {column!r}, which has a declared type"
                )
        for column, dtype in self.dtypes.items():
            columns[column] = _converted(rows[column], dtype, source)
        for column, levels in self.categories.items():
            if not rows[column].dropna().isin(levels).all():
                raise DataError(
                    f"source {source!r}: column {column!r} has a value that is no declared category"
                )
            columns[column] = rows[column].astype(pd.CategoricalDtype(list(levels)))
        return rows.assign(**columns)


def _converted(column: pd.Series[Any], dtype: str, source: str) -> pd.Series[Any]:
    """Return a column as another type, the same values."""
    try:
        converted: pd.Series[Any] = column.astype(cast(Any, dtype))
        if dtype not in ("int64", "bool") or bool(
            (converted == column).all()
        ):  # 2.5 is not 2, and "no" is not true
            return converted
        cause = "some value is none"
    except (ValueError, TypeError, OverflowError) as error:
        cause = type(error).__name__
    raise DataError(f"source {source!r}: column {column.name!r} cannot be read as {dtype}: {cause}")


def _levels(categories: Table, column: str) -> tuple[Any, ...]:
    levels = categories.get(column, list)
    kinds = {type(level) for level in levels}
    if kinds not in ({str}, {int}) or len(set(levels)) < len(levels):
        raise categories.problem("takes a list of all levels, texts or whole numbers, each once", column)
    return tuple(levels)
