"""Rows come as they are in the file or the database; errors and texts hold no secret, no row and no value."""

from __future__ import annotations

import random
import sqlite3
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tacit.models.errors import DataError
from tacit.records.data_source import DataSource, source_from
from tacit.records.errors import RecordError
from tacit.records.sql_source import SqlSource
from tacit.records.toml_tables import Table

CANARY = "canary-7731"
ROWS = pd.DataFrame({"count": [1, 2, 3], "spray": ["A", "B", "A"], "weight": [0.1, 2.5, -1e-300]})


def source(folder: Path, text: str) -> DataSource:
    return source_from("sprays", Table("holder.toml", "data.sprays", tomllib.loads(text)), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ROWS.to_csv(tmp_path / "rows.csv", index=False)
    ROWS.to_parquet(tmp_path / "rows.parquet")
    connection = sqlite3.connect(tmp_path / "rows.db")
    ROWS.to_sql("sprays", connection, index=False)
    connection.close()
    return tmp_path


SQL = 'sql = "sqlite:///rows.db"\nquery = '


@pytest.mark.parametrize(
    "text", ['csv = "rows.csv"', 'parquet = "rows.parquet"', SQL + '"select * from sprays"']
)
def test_rows_are_the_same_whatever_they_are_kept_in(folder: Path, text: str) -> None:
    pd.testing.assert_frame_equal(source(folder, text).read(), ROWS)


def test_floats_of_a_csv_file_are_read_to_the_nearest_double(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [f"{draw.uniform(-1, 1):.25f}" for _ in range(2000)] + [
        f"{draw.random():.17g}e{draw.randint(-300, 290)}" for _ in range(2000)
    ]
    (tmp_path / "x.csv").write_text("x\n" + "\n".join(texts))
    assert source(tmp_path, 'csv = "x.csv"').read()["x"].tolist() == list(map(float, texts))


def test_rows_are_read_anew_each_time(folder: Path) -> None:
    rows = source(folder, 'csv = "rows.csv"')
    rows.read()
    (folder / "rows.csv").write_text("count\n7\n")
    assert rows.read()["count"].tolist() == [7]


def test_query_is_sent_as_it_is_written(folder: Path) -> None:
    query = "select count, '%s :name 100%' as text from sprays where count % 2 = 1"
    rows = source(folder, f'{SQL}"{query}"').read()
    assert rows["count"].tolist() == [1, 3]
    assert set(rows["text"]) == {"%s :name 100%"}


@pytest.mark.parametrize("query", ["delete from sprays returning count", "create table x (y int)"])
def test_query_can_write_nothing(folder: Path, query: str) -> None:
    with pytest.raises(DataError, match="source 'sprays': it cannot be read: "):
        source(folder, f'{SQL}"{query}"').read()
    assert len(source(folder, f'{SQL}"select * from sprays"').read()) == 3


def test_database_is_not_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"sql: there is no file .*rows\.db: an SQLite URL is"):
        source(tmp_path, SQL + '"select 1"')
    assert not (tmp_path / "rows.db").exists()


def test_postgresql_is_read_in_a_read_only_transaction(tmp_path: Path) -> None:
    made = source(tmp_path, 'sql = "postgresql://me@db.example:5433/study"\nquery = "select 1"')
    assert isinstance(made, SqlSource)
    engine = made._engine("a password")
    assert engine.get_execution_options()["postgresql_readonly"] is True
    assert (
        engine.url.render_as_string(hide_password=True) == "postgresql+psycopg://me:***@db.example:5433/study"
    )
    assert engine.hide_parameters


# Declared types.


def test_declared_types_hold_whatever_the_rows_look_like(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c,d\n1,1,01,true\n2,2,02,false\n")
    rows = source(
        tmp_path,
        'csv = "x.csv"\ndtypes = {a = "float64", b = "str", d = "bool"}\ncategories = {c = ["01", "02", "03"]}',
    ).read()
    assert rows["a"].dtype == "float64"
    assert rows["b"].tolist() == ["1", "2"]
    assert rows["c"].cat.categories.tolist() == ["01", "02", "03"]
    assert rows["c"].tolist() == ["01", "02"]
    assert rows["d"].tolist() == [True, False]


def test_categories_may_be_numbers_and_values_missing(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,5\n,5\n2,5\n")
    column = source(tmp_path, 'csv = "x.csv"\ncategories = {a = [2, 1, 0]}').read()["a"]
    assert column.cat.categories.tolist() == [2, 1, 0]
    assert column.isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("content", "types", "says"),
    [
        (f"a\n{CANARY}\n", 'dtypes = {a = "float64"}', "cannot be read: ValueError"),
        ("a\n77.31\n", 'dtypes = {a = "int64"}', "cannot be read: ValueError"),
        ("a\n1\n\n", 'dtypes = {b = "int64"}', "there is no column 'b', which has a declared type"),
        (f"a\n{CANARY}\n", 'categories = {a = ["A"]}', "column 'a' has a value that is no declared category"),
        (f'a\n"{CANARY}', "", "cannot be read: ParserError"),
        ("", "", "cannot be read: EmptyDataError"),
    ],
)
def test_what_does_not_fit_is_refused_without_a_value(
    tmp_path: Path, content: str, types: str, says: str
) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        source(tmp_path, f'csv = "x.csv"\n{types}').read()
    assert CANARY not in str(caught.value)
    assert "77" not in str(caught.value)
    assert caught.value.__context__ is None  # nor does the driver's error come along


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ([2.5, 1.0], "int64"),
        ([2, 0], "bool"),
        (["no", "yes"], "bool"),
        ([1.0, None], "int64"),
        (["x"], "float64"),
    ],
)
def test_no_value_becomes_another_one(tmp_path: Path, column: list[Any], dtype: str) -> None:
    pd.DataFrame({"a": column}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"column 'a' cannot be read as {dtype}: "):
        source(tmp_path, f'parquet = "x.parquet"\ndtypes = {{a = "{dtype}"}}').read()


# What is refused before anything is opened.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "[data.sprays]: takes exactly one of csv, parquet, sql; given: none"),
        ('csv = "rows.csv"\nparquet = "rows.parquet"', "given: csv, parquet"),
        ('csv = "rows.csv"\nquery = "select 1"', "query: is not known here"),
        ('csv = "gone.csv"', "csv: there is no file"),
        ('csv = "https://example.org/rows.csv"', "nothing is fetched at run time; copy it here first"),
        ('parquet = "s3://bucket/rows.parquet"', "nothing is fetched at run time"),
        ('sql = "sqlite:///rows.db"', "query: is missing"),
        (
            'sql = "mysql://me@host/db"\nquery = "select 1"',
            'sql: is "sqlite:///rows.db" or "postgresql+psycopg://',
        ),
        (SQL + '"select 1"\npassword_file = "x"', "password_file: SQLite has no passwords"),
        ('csv = "rows.csv"\ndtypes = {count = "float46"}', "count: is one of float64, int64, bool, str"),
        ('csv = "rows.csv"\ncategories = {spray = []}', "spray: takes a list of all levels"),
        ('csv = "rows.csv"\ncategories = {spray = ["A", 1]}', "spray: takes a list of all levels"),
        ('csv = "rows.csv"\ncategories = {spray = ["A", "A"]}', "spray: takes a list of all levels"),
        (
            'csv = "rows.csv"\ndtypes = {spray = "str"}\ncategories = {spray = ["A"]}',
            "[data.sprays.categories], spray: has a dtype, too",
        ),
    ],
)
def test_wrong_table_is_refused_by_its_place(folder: Path, text: str, says: str) -> None:
    with pytest.raises(RecordError) as caught:
        source(folder, text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{CANARY}@host/db",
        f"postgresql://me:{CANARY}/@host/db",
        f"postgresql://me:{CANARY}#@host/db",
        f"postgresql://me@host/db?password={CANARY}",
        f"mysql://me:{CANARY}@host/db",
        f"postgresql://me:{CANARY}@[::1/db",
    ],
)
def test_password_in_a_url_is_refused_and_not_quoted(tmp_path: Path, url: str) -> None:
    with pytest.raises(RecordError) as caught:
        source(tmp_path, f'sql = "{url}"\nquery = "select 1"')
    assert "password_file" in str(caught.value) or "no URL of a database" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_password_comes_from_a_private_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(CANARY + "\n")
    (tmp_path / "password").chmod(0o600)
    # Port 1 of this machine: nobody listens there.
    text = 'sql = "postgresql://me@127.0.0.1:1/db"\npassword_file = "password"\nquery = "select 1"'
    made = source(tmp_path, text)
    with pytest.raises(DataError, match="source 'sprays': it cannot be read: OperationalError") as caught:
        made.read()
    assert CANARY not in f"{made!r} {made} {caught.value}"
    assert caught.value.__context__ is None


def test_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(CANARY)
    (tmp_path / "password").chmod(0o644)
    text = 'sql = "postgresql://me@127.0.0.1:1/db"\npassword_file = "password"\nquery = "select 1"'
    with pytest.raises(RecordError, match=r"password \(mode 0644\): chmod go="):
        source(tmp_path, text).read()


@pytest.mark.parametrize(
    ("library", "text", "extra"),
    [
        ("sqlalchemy", SQL + '"select 1"', "sql"),
        ("psycopg", 'sql = "postgresql://me@127.0.0.1:1/db"\nquery = "select 1"', "sql"),
        ("pyarrow", 'parquet = "rows.parquet"', "parquet"),
    ],
)
def test_missing_library_is_told_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch, library: str, text: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError, match=rf"takes {library}: pip install 'tacit\[{extra}\]'"):
        source(folder, text).read()
