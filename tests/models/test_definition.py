"""Definitions are data with one hash; a function is known by its code."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.models.definition import Definition, State, fingerprint
from tacit.models.errors import ModelError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_definition_survives_its_own_canonical_form(parameters: dict[str, Any]) -> None:
    definition = Definition("kind", parameters)
    content = json.loads(definition.canonical)
    assert Definition(content["kind"], content["parameters"]) == definition


def test_the_order_of_names_does_not_matter_but_that_of_lists_does() -> None:
    assert Definition("k", {"a": 1, "b": 2}).digest == Definition("k", {"b": 2, "a": 1}).digest
    assert Definition("k", {"a": [1, 2]}).digest != Definition("k", {"a": [2, 1]}).digest


def test_the_digest_tells_values_and_kinds_apart() -> None:
    parameters: list[Any] = [1, 1.0, True, "1", None, [1], 0.1, 0.1 + 2**-56]
    assert len({Definition("k", {"a": value}).digest for value in parameters}) == len(parameters)
    assert Definition("k", {"a": 1}) != Definition("k", {"a": True})
    assert len(Definition("k").digest) == 32


def test_the_digest_is_the_same_for_ever() -> None:
    definition = Definition("MaximumLikelihood", {"start": [5.0], "bounds": [[0.0, None]]})
    assert definition.canonical == (
        b'{"kind":"MaximumLikelihood","parameters":{"bounds":[[0.0,null]],"start":[5.0]}}'
    )


def test_scalars_of_numpy_count_as_numbers() -> None:
    assert Definition("k", {"a": np.float64(0.5), "b": np.int64(3)}) == Definition("k", {"a": 0.5, "b": 3})


@pytest.mark.parametrize("value", [math.nan, math.inf, np.ones(2), {1: 2}, object(), b"x"])
def test_what_is_no_plain_data_is_refused_by_its_place(value: Any) -> None:
    with pytest.raises(ModelError, match=r"parameters\['a'\]\[0\]"):
        Definition("k", {"a": [value]})


def shifted(by: Any) -> Callable[[float], float]:
    def function(x: float) -> float:
        return x + float(by)

    return function


def code(function: Callable[..., Any]) -> str:
    return fingerprint(function)["code"]


def test_functions_with_the_same_code_are_the_same() -> None:
    assert fingerprint(shifted(1.0)) == fingerprint(shifted(1.0))
    assert fingerprint(shifted(1.0))["name"].endswith("shifted.<locals>.function")


def test_constants_names_defaults_and_enclosed_values_count() -> None:
    functions: list[Callable[..., Any]] = [
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x: x + 1.0,
        lambda x: x - 1,
        lambda x, y=1: x + y,
        lambda x, y=2: x + y,
        lambda x, *, y=2: x + y,
        lambda x: x.mean,
        lambda x: x.sum,
        lambda x: [x + y for y in (1, 2)],
        lambda x: [x + y for y in (1, 3)],
        lambda x: lambda y: x + y + 1,
        lambda x: lambda y: x + y + 2,
        shifted(1.0),
        shifted(2.0),
        shifted(np.array([1.0])),
        shifted(np.array([2.0])),
        functools.partial(math.pow, 2.0),
        functools.partial(math.pow, 3.0),
        functools.partial(math.pow, 3.0, 1.0),
        math.exp,
        len,
    ]
    prints = [tuple(fingerprint(function).values()) for function in functions]
    assert len(set(prints)) == len(prints)


def test_a_recursive_function_has_a_fingerprint() -> None:
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    def again() -> Callable[[int], int]:
        def factorial(n: int) -> int:
            return n * factorial(n - 1) if n else 1

        return factorial

    assert code(factorial) == code(again())


def test_sets_of_constants_do_not_depend_on_the_hash_seed() -> None:
    assert code(lambda x: x in {"a", "b", "c"}) == code(lambda x: x in {"c", "b", "a"})


def test_methods_and_callable_objects_have_fingerprints() -> None:
    class One:
        def __call__(self, x: float) -> float:
            return x + 1

        def method(self, x: float) -> float:
            return x + 2

    class Two:
        def __call__(self, x: float) -> float:
            return x + 3

    assert code(One()) == code(One())
    assert len({code(One()), code(Two()), code(One().method)}) == 3


def test_a_state_is_restored_bit_by_bit() -> None:
    state = State(3, np.array([0.1, -1e-300]), 1 / 3, 2e-9, 1, 5)
    restored = State.from_dict(json.loads(json.dumps(state.to_dict())))
    np.testing.assert_array_equal(restored.parameters, state.parameters)
    assert restored.to_dict() == state.to_dict()


def test_a_state_prints_as_progress() -> None:
    text = str(State(3, np.array([9.0]), 99.7664, 0.012, 2, 5))
    assert text == "iteration 3, pass 5: value 99.7664, 0.012 standard errors to go, step shortened 2 times"


# Definitions that somebody else has sent


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.text(), st.dictionaries(st.text(), JSON, max_size=4))
def test_a_definition_is_restored_from_its_canonical_bytes(kind: str, parameters: dict[str, Any]) -> None:
    definition = Definition(kind, parameters)
    restored = Definition.from_canonical(definition.canonical)
    assert (restored, restored.digest) == (definition, definition.digest)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data())
def test_bytes_that_were_changed_are_refused_or_of_another_digest(data: st.DataObject) -> None:
    sent = Definition("GLM", {"formula": "y ~ x", "family": "poisson", "tolerance": 1e-8}).canonical
    place = data.draw(st.integers(0, len(sent) - 1))
    changed = (
        sent[:place]
        + data.draw(st.binary(max_size=2).filter(lambda new: new != sent[place : place + 1]))
        + sent[place + 1 :]
    )
    try:
        restored = Definition.from_canonical(changed)
    except ModelError:
        return
    assert restored.canonical == changed
    assert restored.digest != Definition.from_canonical(sent).digest


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"1",
        b'"kind"',
        b"{}",
        b'{"kind":"GLM"}',
        b'{"kind":1,"parameters":{}}',
        b'{"parameters":{},"kind":"GLM"}',
        b'{"kind": "GLM","parameters":{}}',
        b'{"kind":"GLM","kind":"GLM","parameters":{}}',
        b'{"also":1,"kind":"GLM","parameters":{}}',
        b'{"kind":"GLM","parameters":{"a":NaN}}',
        b'{"kind":"GLM","parameters":{"a":1e999}}',
        b'{"kind":"GLM","parameters":{"a":1.0e0}}',
        b'{"kind":"GLM","parameters":{"a":' + b"9" * 5_000 + b"}}",
        b'{"kind":"GLM","parameters":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"kind":"GLM","parameters":' + b"[" * 400 + b"]" * 400 + b" }",
        b"\xff\xfe",
        '{"kind":"GLM","parameters":{}}'.encode("utf-16"),
    ],
)
def test_what_is_not_the_canonical_form_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"no definition|not the canonical|not finite"):
        Definition.from_canonical(content)
