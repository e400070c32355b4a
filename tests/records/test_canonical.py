"""One value, one byte string; no other bytes are read."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.records.canonical import canonical, parse
from tacit.records.errors import RecordError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(value=VALUES)
def test_what_is_parsed_is_what_was_written(value: Any) -> None:
    octets = canonical(value)
    assert parse(octets, "it") == value
    assert canonical(parse(octets, "it")) == octets


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=VALUES)
def test_it_is_strict_json_in_ascii(value: Any) -> None:
    json.loads(canonical(value).decode("ascii"), parse_constant=pytest.fail)


def test_floats_that_json_lacks_come_back() -> None:
    nan, *others = parse(canonical([math.nan, math.inf, -math.inf, -0.0]), "it")
    assert math.isnan(nan)
    assert others == [math.inf, -math.inf, 0.0]
    assert math.copysign(1, others[2]) == -1


@pytest.mark.parametrize(
    "value", [{"$float": "nan"}, {"$mapping": []}, {"$x": {"$float": 1}}, {"a": {"$": 2}}]
)
def test_mappings_that_look_like_its_own_come_back(value: Any) -> None:
    assert parse(canonical(value), "it") == value


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.50}',
        b"NaN",
        b'"\xc3\xa9"',
        b'{"$float":"x"}',
        b'{"$mapping":1}',
        b"[" * 100_000,
    ],
)
def test_any_other_bytes_are_refused_by_name(octets: bytes) -> None:
    with pytest.raises(RecordError, match="the card is damaged"):
        parse(octets, "the card")


@pytest.mark.parametrize("value", [{1: 2}, {(1, 2): 3}, {1, 2}, b"x", 1j, object()])
def test_what_json_changes_or_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(RecordError, match="JSON"):
        canonical({"x": value})
