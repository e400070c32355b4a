"""A result becomes a card and arrays, and comes back as it was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.models.definition import Definition, State
from tacit.models.fit import Fit
from tacit.records.errors import RecordError
from tacit.records.model_card import Arrays, Release, draft_of, read_card, release_of, result_of, take_apart
from tacit.records.transparency_log import Head

HEAD = Head(0, "00")


def there_and_back(result: dict[str, Any]) -> dict[str, Any]:
    draft = draft_of("risk", 1, result, HEAD, None, {}, 0.0)
    return result_of(read_card(draft.card, "card"), draft.arrays)


def fit() -> Fit:
    return Fit(
        definition=Definition("MaximumLikelihood", {"start": [5.0], "names": ["lambda"]}),
        names=("lambda", "mu"),
        estimates=np.array([9.175, -0.0]),
        covariance=np.array([[0.1, math.nan], [math.nan, 5e-324]]),
        llf=-math.inf,
        nobs=40,
        iterations=3,
        n_passes=4,
        converged=True,
        states=(State(0, np.array([5.0, 1.0]), 1.5), State(1, np.array([6.0, 2.0]), math.inf)),
        statistics={"deviance": math.nan},
        protocol="ring-Paillier",
        holders=("a", "b"),
        survivors=("a",),
    )


def test_a_fit_comes_back_with_the_same_bits() -> None:
    content = fit().to_dict()
    assert there_and_back(content) == content
    assert Fit.from_dict(there_and_back(content)).estimates.tobytes() == fit().estimates.tobytes()


def test_the_card_of_a_fit_says_where_it_comes_from() -> None:
    draft = draft_of("risk", 3, fit().to_dict(), Head(7, "ab"), None, {"survivors per round": [2, 1]}, 12.5)
    card = read_card(draft.card, "card")
    assert card["provenance"] == {
        "definition": fit().definition.digest.hex(),
        "roster": ["a", "b"],
        "protocol": "ring-Paillier",
        "passes": 4,
        "rounds": 3,
        "survivors": ["a"],
        "survivors per round": [2, 1],
    }
    assert (card["name"], card["version"], card["time"]) == ("risk", 3, 12.5)
    assert card["ledger"] == {"size": 7, "root": "ab"}
    assert card["result"]["definition"] == {
        "kind": "MaximumLikelihood",
        "parameters": {"start": [5.0], "names": ["lambda"]},
    }


NUMBERS = st.floats(allow_nan=False) | st.none()
RESULTS = st.dictionaries(
    st.text(st.characters(codec="ascii"), max_size=3).filter(lambda key: key != "@array"),
    st.recursive(
        NUMBERS | st.integers() | st.text(max_size=3) | st.lists(st.lists(NUMBERS, min_size=2, max_size=2)),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "a/b", "b"]), inner)
        ),
        max_leaves=10,
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(result=RESULTS)
def test_any_result_comes_back(result: dict[str, Any]) -> None:
    assert repr(there_and_back(result)) == repr({key: result[key] for key in sorted(result)}) or (
        there_and_back(result) == result
    )


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "uint8", "bool", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)])
def test_numpy_arrays_come_back_as_arrays(kind: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    back = there_and_back({"weights": {"layer.0": array}})["weights"]["layer.0"]
    assert back.shape == shape
    assert back.dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("array", [np.array([object()]), np.array([1j]), np.array(["x"])])
def test_arrays_that_safetensors_lacks_are_refused(array: Any) -> None:
    with pytest.raises(RecordError, match="cannot be stored"):
        there_and_back({"x": array})


def test_keys_with_slashes_are_not_confused() -> None:
    result = {"a/b": [1.0], "a": {"b": [2.0]}}
    assert there_and_back(result) == result


def test_lists_that_are_no_arrays_stay_in_the_card() -> None:
    arrays: Arrays = {}
    odd = {"counts": [1, 2], "names": ["x"], "ragged": [[1], [2, 3]], "empty": [], "mixed": [math.nan, None]}
    assert take_apart(odd, arrays) == odd
    assert arrays == {}


def test_a_field_that_looks_like_an_array_is_refused() -> None:
    with pytest.raises(RecordError, match="no field of the name @array"):
        there_and_back({"x": {"@array": "y"}})


def test_a_card_without_its_arrays_is_refused() -> None:
    draft = draft_of("risk", 1, {"x": [1.0]}, HEAD, None, {}, 0.0)
    card = read_card(draft.card, "card")
    for arrays in (None, b"", b"x" * 40):
        with pytest.raises(RecordError, match="array"):
            result_of(card, arrays)


def test_who_must_co_sign_is_in_the_card() -> None:
    release = Release(1, {"a": "00", "b": "01"})
    draft = draft_of("risk", 1, {}, HEAD, release, {}, 0.0)
    assert release_of(read_card(draft.card, "card")) == release
