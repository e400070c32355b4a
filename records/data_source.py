"""Where a holder's rows come from: a file or a database of its own, by a query of its own.

A source is named and described in the holder's private file; whoever asks knows its name and nothing else. What comes
from it stays in the holder's process. A complaint names the source and the class of what went wrong, **never a row, a
value, or the text of a driver's error**, which often quotes one. Nothing is fetched from elsewhere at run time.

Adversary: whoever reads logs and errors. The owner of the file and the database is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..models.errors import DataError
from .column_types import ColumnTypes
from .toml_tables import Table

if TYPE_CHECKING:  # importing pandas takes 0.3 s
    import pandas as pd

KINDS = ("csv", "parquet", "sql")


class DataSource(Protocol):
    """A source of rows; its text says where they come from, without a secret."""

    @property
    def name(self) -> str:
        """What the study calls it."""
        ...

    def read(self) -> pd.DataFrame:
        """Return the rows as they are now.

        Raises
        ------
        DataError
            If they cannot be read, or are not of the declared types.
        RecordError
            If others may read the file of a password.
        """
        ...


@dataclass(frozen=True)
class CsvSource:
    """Rows of a CSV file with a heading.

    Floats are read to the nearest double, so that the same digits are the same bits at every holder.
    """

    name: str
    path: Path
    types: ColumnTypes

    def read(self) -> pd.DataFrame:
        """See DataSource."""
        import pandas as pd  # noqa: PLC0415

        def rows() -> pd.DataFrame:
            return pd.read_csv(self.path, dtype=self.types.while_reading(), low_memory=False)

        return self.types.applied(guarded(self.name, rows), self.name)

    def __str__(self) -> str:
        return f"CSV {self.path}"


@dataclass(frozen=True)
class ParquetSource:
    """Rows of a Parquet file."""

    name: str
    path: Path
    types: ColumnTypes

    def read(self) -> pd.DataFrame:
        """See DataSource."""

        def rows() -> pd.DataFrame:
            from pyarrow import parquet  # noqa: PLC0415 - of an extra

            frame: pd.DataFrame = parquet.read_table(self.path).to_pandas()
            return frame

        return self.types.applied(guarded(self.name, rows, extra="parquet"), self.name)

    def __str__(self) -> str:
        return f"Parquet {self.path}"


def source_from(name: str, table: Table, folder: Path) -> DataSource:
    """Return the source that a table of a holder's file describes; nothing is opened.

    Parameters
    ----------
    name : str
        What the study calls it.
    table : Table
        With exactly one of the keys csv, parquet and sql.
    folder : path
        Which relative paths start from.

    Raises
    ------
    RecordError
        With the table, the key, and what helps.
    """
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) != 1:
        raise table.problem(f"takes exactly one of {', '.join(KINDS)}; given: {', '.join(kinds) or 'none'}")
    types = ColumnTypes.of(table.table("dtypes"), table.table("categories"))
    if kinds == ["sql"]:
        from .sql_source import sql_source  # noqa: PLC0415 - which is made of this one

        table.only(("sql", "query", "password_file", "dtypes", "categories"))
        return sql_source(name, table, folder, types)
    table.only((*kinds, "dtypes", "categories"))
    path = local_path(table, kinds[0], folder)
    return CsvSource(name, path, types) if kinds == ["csv"] else ParquetSource(name, path, types)


def local_path(table: Table, key: str, folder: Path) -> Path:
    """Return the path of a file on this machine.

    Raises
    ------
    RecordError
        If it is a URL, or there is no such file.
    """
    text = table.get(key, str)
    if "://" in text:
        raise table.problem(
            "is a file on this machine: nothing is fetched at run time; copy it here first", key
        )
    path = folder / text
    if not path.is_file():
        raise table.problem(f"there is no file {path}", key)
    return path


def guarded(name: str, rows: Callable[[], pd.DataFrame], *, extra: str = "") -> pd.DataFrame:
    """Return rows; whatever goes wrong is told by its class, for its text may quote a value.

    Raises
    ------
    DataError
    """
    try:
        return rows()
    except ImportError as error:
        missing = error.name or "a library"
        problem = (
            f"reading it takes {missing}: pip install 'tacit[{extra}]'" if extra else f"{missing} is missing"
        )
    except MemoryError:
        problem = "the rows do not fit into memory: select fewer columns or rows"
    except Exception as error:  # noqa: BLE001 - drivers have their own trees of errors
        cause = getattr(error, "orig", None) or error  # of SQLAlchemy's errors: the driver's own
        problem = f"it cannot be read: {type(cause).__name__}"
        if isinstance(cause, OSError) and cause.strerror:
            problem += f" ({cause.strerror})"
    raise DataError(f"source {name!r}: {problem}")  # here, so that it does not carry the other one along


def sources_from(table: Table, folder: Path) -> Mapping[str, DataSource]:
    """Return all sources of the table [data], by their names.

    Raises
    ------
    RecordError
    """
    return {name: source_from(name, table.table(name), folder) for name in table.content}
