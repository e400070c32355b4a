"""Bounds that nobody knows beforehand: found by one secure sum, and good for the next."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tacit
from in_process import Network
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Pass
from tacit.protocols.auto_range import grid_within
from tacit.protocols.errors import RefusedError, SetupError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.protocol import check_encoding
from tacit.serialization.encoding_parameters import AutoRange

ROWS = {"a": np.array([0.25, -3.0]), "b": np.array([100.5, 0.0]), "c": np.array([1e-3, 2.0])}


async def summed(rows: Mapping[str, Any]) -> tuple[Any, list[Pass], list[dict[str, Any]]]:
    async with Network(rows, protocol=PairwiseMasking(), holder=DataHolder) as network:
        total = await network.sum(lambda values: values, encoding=AutoRange())
        await network.settle()
        passes = [event for event in network.events if isinstance(event, Pass)]
        return total, passes, network.repository.records


def test_the_sum_is_on_a_grid_that_suits_the_largest_value() -> None:
    total, passes, records = asyncio.run(summed(ROWS))
    assert len(passes) == 2
    assert total.tolist() == pytest.approx([100.751, -1.0], abs=3 * math.ldexp(128, -42))
    assert records[0]["released"] == {"sum": 128.0}, "the bound, and nothing else"


def test_zeros_sum_to_zero() -> None:
    total, _, records = asyncio.run(summed(dict.fromkeys("abc", np.zeros(3))))
    assert total.tolist() == [0.0, 0.0, 0.0]
    assert records[0]["released"] == {"sum": 0.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, 2.0**65])
def test_a_value_without_a_bound_is_refused_with_its_place(bad: float) -> None:
    with pytest.raises(RefusedError, match=r"b refuses.*\n.*index \(1,\)"):
        asyncio.run(summed(ROWS | {"b": np.array([1.0, bad])}))


def test_a_bound_beyond_the_words_is_refused() -> None:
    with pytest.raises(SetupError, match="scale"):
        asyncio.run(summed(ROWS | {"b": np.array([1.0, 2.0**43])}))


@pytest.mark.parametrize("bound", [2.0**-64, 1.0, 2.0**42])
def test_every_grid_holds_a_million_contributions(bound: float) -> None:
    grid = grid_within({"x": bound}).grid("x")
    assert grid is not None
    limit, fraction_bits = grid
    assert limit == bound
    assert 2**20 * round(limit * 2.0**fraction_bits) <= 2**63 - 1


@pytest.mark.parametrize("protocol", [tacit.RingPaillier(), tacit.SecretSharing()])
def test_protocols_that_would_show_more_are_refused_before_anything_starts(protocol: Any) -> None:
    with pytest.raises(SetupError, match="PairwiseMasking"):
        check_encoding(protocol, AutoRange())
