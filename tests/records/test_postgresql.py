"""A holder's query of a real PostgreSQL reads, and writes nothing, whatever it says."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import databases
import pandas as pd
import pytest
from databases import BIN, PASSWORD
from tacit.models.errors import DataError
from tacit.records.data_source import source_from
from tacit.records.toml_tables import Table

OBSTACLE = databases.obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE or "there can be a database")

TABLES = """
create table visits (age bigint, dose double precision);
insert into visits values (31, 0.5), (44, 1.5);
create sequence numbers;
create function noted(age bigint) returns bigint language sql volatile as
    'insert into visits values (age, 0) returning age';
"""
INSERT = "insert into visits values (99, 9.9) returning age"


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The folder of the socket of a server that is the holder's own, reached by it alone."""
    assert BIN is not None
    control = [str(BIN / "pg_ctl"), "-w", "-s"]
    with databases.database_files() as folder:
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        where = ["-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options]
        databases.as_postgres([*control, "start", *where])
        try:
            psql(folder, TABLES)
            yield folder
        finally:
            databases.as_postgres([*control, "stop", "-D", str(folder / "data"), "-m", "immediate"])


def psql(server: Path, script: str) -> str:
    """Run a script as the holder, without tacit."""
    assert BIN is not None
    done = subprocess.run(
        [str(BIN / "psql"), "-v", "ON_ERROR_STOP=1", "-Atq", "-h", str(server), "-U", "holder", "postgres"],
        env={**os.environ, "PGPASSWORD": PASSWORD},
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def read(server: Path, folder: Path, query: str) -> pd.DataFrame:
    """Read the rows of a query as a party does whose file has it."""
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    text = f'sql = "postgresql://holder@/postgres?host={server}"\npassword_file = "password"\n'
    table = Table("holder.toml", "data.visits", {**tomllib.loads(text), "query": query})
    return source_from("visits", table, folder).read()


def test_rows_of_a_query_are_read(server: Path, tmp_path: Path) -> None:
    rows = read(server, tmp_path, "select age, dose from visits where dose > 1 and '%s :x' <> ''")
    assert rows.to_dict("list") == {"age": [44], "dose": [1.5]}


@pytest.mark.parametrize(
    "query",
    [
        INSERT,
        f"with written as ({INSERT}) select * from written",
        "select noted(age) from visits",
        "select nextval('numbers')",
        "delete from visits returning age",
        "create table copied as select * from visits",
        f"commit; {INSERT}",
        f"set transaction read write; {INSERT}",
        f"select 1; commit; begin read write; {INSERT}; commit; select age from visits",
        f"rollback; set default_transaction_read_only = off; {INSERT}",
    ],
)
def test_a_query_that_writes_is_refused_and_nothing_is_written(
    server: Path, tmp_path: Path, query: str
) -> None:
    with pytest.raises(DataError, match=r"source 'visits': it cannot be read: \w+$"):
        read(server, tmp_path, query)
    state = "select count(*) from visits; select is_called from numbers; select to_regclass('copied') is null"
    assert psql(server, state).split() == ["2", "f", "t"]
