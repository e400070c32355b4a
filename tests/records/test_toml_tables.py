"""Complaints about a file name the file, the table, the key, and what helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from tacit.privacy.guarantee import Privacy
from tacit.protocols.ring_paillier import RingPaillier
from tacit.records.errors import RecordError
from tacit.records.toml_tables import Table, read_table


def table(**content: object) -> Table:
    return Table("study.toml", "rules", content)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("minimum_rosw", "study.toml, [rules], minimum_rosw: is not known here; is minimum_rows meant?"),
        ("x", "study.toml, [rules], x: is not known here; known: minimum_rows, on_dropout"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_one(key: str, says: str) -> None:
    with pytest.raises(RecordError) as caught:
        table(**{key: 1}).only(("minimum_rows", "on_dropout"))
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("3", int, "takes a whole number, and this is a text"),
        (True, int, "takes a whole number, and this is true or false"),
        (1, bool, "takes true or false, and this is a whole number"),
        ([1], str, "takes a text, and this is a list"),
        (1.5, str, "takes a text, and this is a number"),
    ],
)
def test_value_of_another_type_is_refused(value: object, kind: type, says: str) -> None:
    with pytest.raises(RecordError) as caught:
        table(key=value).get("key", kind)
    assert str(caught.value) == f"study.toml, [rules], key: {says}"


def test_missing_value_is_refused_unless_there_is_a_default() -> None:
    assert table().get("key", int, 0) == 0
    assert table().optional("key", int) is None
    with pytest.raises(RecordError, match="key: is missing"):
        table().get("key", int)


def test_class_is_made_of_known_and_complete_keys() -> None:
    assert table(key_bits=2048).made(RingPaillier) == RingPaillier(2048)
    with pytest.raises(RecordError, match=r"\[rules\], delta: is missing"):
        table(epsilon=1.0, clip=1.0).made(Privacy)
    with pytest.raises(RecordError, match=r"epsilom: is not known here; is epsilon meant\?"):
        table(epsilom=1.0).made(Privacy)


def test_private_options_are_not_known() -> None:
    with pytest.raises(RecordError, match="_minimum_key_bits: is not known here"):
        table(key_bits=256, _minimum_key_bits=64).made(RingPaillier)


def test_what_a_class_says_against_a_value_stands_beside_the_table() -> None:
    with pytest.raises(
        RecordError, match=r"^study.toml, \[rules\]: key_bits is a whole number, at least 2048"
    ):
        table(key_bits=512).made(RingPaillier)


def test_tables_of_a_list_have_their_numbers() -> None:
    first, second = Table("x", "", {"party": [{"a": 1}, {"b": 2}]}).tables("party")
    assert (first.name, second.name) == ("party 1", "party 2")
    with pytest.raises(RecordError, match=r"is written as tables, \[\[party\]\]"):
        Table("x", "", {"party": [1]}).tables("party")


def test_content_is_not_shown() -> None:
    assert "secret" not in repr(table(password="secret"))


@pytest.mark.parametrize(
    ("content", "says"), [(b"a = ", "is no TOML: Invalid value"), (b"\xff", "it is no text in UTF-8")]
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(RecordError, match=says):
        read_table(tmp_path / "x.toml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"x\.toml cannot be read: No such file"):
        read_table(tmp_path / "x.toml")
