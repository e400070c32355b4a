"""Rows of a database, by the holder's own query, read in a transaction that can write nothing.

The URL holds no password: that stands in a file which its owner alone may read, and goes to the driver when it
connects. SQLite is opened read-only; PostgreSQL runs the query in a read-only transaction, and as a prepared statement,
which is one command: a second one could end the transaction.

Adversary: whoever reads the holder's file, its errors and logs. The query's author is trusted.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

from .column_types import ColumnTypes
from .data_source import guarded
from .private_files import read_private
from .toml_tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Engine

SQLITE = "sqlite"
POSTGRESQL = "postgresql+psycopg"
SCHEMES = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "postgres": POSTGRESQL, POSTGRESQL: POSTGRESQL}
PASSWORD = re.compile("://[^@]*:.*@")  # before the host, whatever signs it has
SECRETS = ("password", "sslpassword")
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class SqlSource:
    """Rows of a query.

    Attributes
    ----------
    name : str
    url : str
        As SQLAlchemy writes it, without a password.
    query : str
        A SELECT of the database's own dialect.
    password_file : path or None
        Whose text, but for white space around it, is the password.
    types : ColumnTypes
    """

    name: str
    url: str
    query: str
    password_file: Path | None
    types: ColumnTypes

    def read(self) -> pd.DataFrame:
        """See DataSource."""
        password = None if self.password_file is None else read_private(self.password_file).strip()
        rows = guarded(self.name, lambda: self._rows(password), extra="sql")
        return self.types.applied(rows, self.name)

    def _rows(self, password: str | None) -> pd.DataFrame:
        import pandas as pd  # noqa: PLC0415

        engine = self._engine(password)
        try:
            with engine.connect() as connection:
                # As it is written: neither ":name" nor "%" stands for a parameter.
                plain = connection.execution_options(no_parameters=True)
                return pd.read_sql_query(self.query, plain)
        finally:
            engine.dispose()

    def _engine(self, password: str | None) -> Engine:
        from sqlalchemy import NullPool, create_engine, make_url  # noqa: PLC0415 - of an extra

        url = make_url(self.url)
        if url.get_backend_name() == SQLITE:
            file = f"file:{quote(str(url.database))}?mode=ro"
            return create_engine(
                "sqlite://", creator=lambda: sqlite3.connect(file, uri=True), poolclass=NullPool
            )
        import psycopg  # noqa: PLC0415

        return create_engine(
            url.set(password=password) if password else url,
            module=psycopg,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, "prepare_threshold": 0},
            execution_options={"postgresql_readonly": True},
        )

    def __str__(self) -> str:
        return f"SQL {self.url}"


def sql_source(name: str, table: Table, folder: Path, types: ColumnTypes) -> SqlSource:
    """Return the source that a table with the key "sql" describes; nothing is opened.

    Raises
    ------
    RecordError
        If the URL is of no database that is known here, or holds a password; it is not quoted then.
    """
    query = table.get("query", str)
    url = _url(table, folder)
    file = table.optional("password_file", str)
    if file is not None and url.startswith(SQLITE):
        raise table.problem("SQLite has no passwords: leave it out", "password_file")
    return SqlSource(name, url, query, None if file is None else folder / file, types)


def _url(table: Table, folder: Path) -> str:
    """Return the URL with its driver, and the path of an SQLite file in full."""
    text = table.get("sql", str)
    try:
        parts = urlsplit(text)
        secret = PASSWORD.search(text) is not None or any(key in SECRETS for key, _ in parse_qsl(parts.query))
    except ValueError:
        raise table.problem("is no URL of a database", "sql") from None
    if secret:
        raise table.problem(
            'the URL holds a password: write it into a file, chmod go= it, and set password_file = "…"', "sql"
        )
    if parts.scheme not in SCHEMES:
        raise table.problem('is "sqlite:///rows.db" or "postgresql+psycopg://user@host/database"', "sql")
    if parts.scheme != SQLITE:
        return SCHEMES[parts.scheme] + text[len(parts.scheme) :]
    path = folder / parts.path.removeprefix("/")
    if parts.netloc or parts.query or not path.is_file():
        raise table.problem(f"there is no file {path}: an SQLite URL is sqlite:///rows.db", "sql")
    return f"{SQLITE}:///{path.absolute()}"
