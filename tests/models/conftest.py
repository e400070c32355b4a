"""Running a model over a plain list of data sets, and the reference answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tacit.models.definition import State
from tacit.models.fit import Fit
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.total import pooled

REFERENCE = Path(__file__).parent / "reference"


def _steps(
    model: MaximumLikelihood, datasets: Sequence[Any], start: State | None = None
) -> list[State | Fit]:
    async def collect() -> list[State | Fit]:
        return [item async for item in model.iterate(pooled(model, datasets), start)]

    return asyncio.run(collect())


def _fit(model: MaximumLikelihood, datasets: Sequence[Any], start: State | None = None) -> Fit:
    last = _steps(model, datasets, start)[-1]
    assert isinstance(last, Fit)
    return last


@pytest.fixture
def steps() -> Callable[..., list[State | Fit]]:
    """Everything that the iteration yields: `steps(model, datasets, start=None)`."""
    return _steps


@pytest.fixture
def fit() -> Callable[..., Fit]:
    """The fit over a list of data sets: `fit(model, datasets, start=None)`."""
    return _fit


@pytest.fixture(scope="session")
def poisson_reference() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REFERENCE / "a_poisson_mle.json").read_text())
    return content


@pytest.fixture(scope="session")
def warpbreaks_reference() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REFERENCE / "warpbreaks_poisson.json").read_text())
    return content


@pytest.fixture(scope="session")
def warpbreaks_rows() -> list[dict[str, str]]:
    lines = (REFERENCE / "warpbreaks.csv").read_text().splitlines()
    names = [name.strip('"') for name in lines[0].split(",")]
    return [dict(zip(names, (v.strip('"') for v in line.split(",")), strict=True)) for line in lines[1:]]
