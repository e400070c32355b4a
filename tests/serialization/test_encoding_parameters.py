"""Parameters of encodings: what describes a grid, for every array or by name, and what is refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.serialization.codec import decode, encode
from tacit.serialization.encoding_parameters import EncodingParameters, ExactFloat, FixedPoint, Quantized
from tacit.serialization.errors import EncodeError

few = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedPoint(0.0),
        lambda: FixedPoint(-1.0),
        lambda: FixedPoint(math.nan),
        lambda: FixedPoint(math.inf),
        lambda: FixedPoint(10**400),
        lambda: FixedPoint(True),
        lambda: FixedPoint("1"),  # type: ignore[arg-type]
        lambda: FixedPoint(None),  # type: ignore[arg-type]
        lambda: FixedPoint(1.0, -1),
        lambda: FixedPoint(1.0, 1075),
        lambda: FixedPoint(1.0, 2.0),  # type: ignore[arg-type]
        lambda: FixedPoint(1e12, 32),
        lambda: FixedPoint(1e-12, 32),
        lambda: FixedPoint({}),
        lambda: FixedPoint(1.0, {}),
        lambda: FixedPoint({1: 1.0}),  # type: ignore[dict-item]
        lambda: FixedPoint({"x": 1.0, "y": 0.0}),
        lambda: FixedPoint({"x": 1.0, "y": 1e12}),
        lambda: FixedPoint(1.0, {"x": 20, "y": 1075}),
        lambda: Quantized(1, 1.0),
        lambda: Quantized(32, 1.0),
        lambda: Quantized(8.0, 1.0),  # type: ignore[arg-type]
        lambda: Quantized(8, 0.0),
        lambda: Quantized(8, -1.0),
        lambda: Quantized(8, math.nan),
        lambda: Quantized(8, math.inf),
        lambda: Quantized(8, 1e-290),
        lambda: Quantized(8, {}),
        lambda: Quantized(8, {"x": 1.0, "y": -1.0}),
    ],
)
def test_what_describes_no_grid_is_refused(make: Callable[[], EncodingParameters]) -> None:
    with pytest.raises(EncodeError):
        make()


@pytest.mark.parametrize(
    ("bound", "fraction_bits", "missing"),
    [({"x": 1.0, "y": 2.0}, {"x": 20}, "fraction_bits"), ({"x": 1.0}, {"x": 20, "y": 20}, "bound")],
)
def test_an_array_named_for_one_half_of_its_grid_is_refused(
    bound: dict[str, float], fraction_bits: dict[str, int], missing: str
) -> None:
    with pytest.raises(EncodeError, match=f"no {missing} for array 'y'"):
        FixedPoint(bound, fraction_bits)


def test_refusals_name_the_array() -> None:
    with pytest.raises(EncodeError, match="for array 'y' is 0 units"):
        FixedPoint({"x": 1.0, "y": 1e-12})
    with pytest.raises(EncodeError, match="for every array is 0 units"):
        FixedPoint(1e-12)
    with pytest.raises(EncodeError, match=r"clip 0\.0 for array 'y'"):
        Quantized(8, {"x": 1.0, "y": 0.0})


def test_whole_numbers_and_numpy_scalars_are_taken_for_floats() -> None:
    assert FixedPoint(1000) == FixedPoint(1000.0, 32) == FixedPoint(np.float64(1000.0))
    assert FixedPoint({"x": 3}) == FixedPoint({"x": np.float64(3.0)})
    assert Quantized(8, 1) == Quantized(8, np.float64(1.0))


def test_parameters_show_what_the_user_gave() -> None:
    assert repr(ExactFloat()) == "ExactFloat()"
    assert repr(FixedPoint(1000, fraction_bits=20)) == "FixedPoint(bound=1000.0, fraction_bits=20)"
    assert repr(FixedPoint({"y": 2, "x": 1})) == "FixedPoint(bound={'x': 1.0, 'y': 2.0}, fraction_bits=32)"
    assert repr(Quantized(8, 0.5)) == "Quantized(bits=8, clip=0.5)"


def test_one_number_holds_for_every_array_and_names_for_theirs() -> None:
    mixed = FixedPoint({"weights": 1.0, "bias": 100.0}, fraction_bits=20)
    assert mixed.grid("bias") == (100.0, 20)
    assert mixed.grid("other") is None
    assert FixedPoint(10.0).grid("anything") == (10.0, 32)
    assert Quantized(8, {"weights": 1.0}).clip_of("weights") == 1.0
    assert Quantized(8, {"weights": 1.0}).clip_of("bias") is None


names = st.sampled_from(["weights", "bias", "Köln", "x"])
bounds = st.floats(2.0**-20, 2.0**20)
bits = st.integers(20, 40)


@few
@given(st.dictionaries(names, st.tuples(bounds, bits), min_size=1), st.integers(2, 31))
def test_parameters_survive_the_wire_and_pickling(grids: dict[str, tuple[float, int]], levels: int) -> None:
    by_name = {name: bound for name, (bound, _) in grids.items()}
    bound, fraction_bits = next(iter(grids.values()))
    for parameters in (
        FixedPoint(by_name, {name: chosen for name, (_, chosen) in grids.items()}),
        FixedPoint(by_name, fraction_bits),
        FixedPoint(bound, fraction_bits),
        Quantized(levels, by_name),
        Quantized(levels, bound),
    ):
        assert decode(encode(parameters)) == parameters
        assert pickle.loads(pickle.dumps(parameters)) == parameters
