"""Regressions over a plain list of data sets, and R's answers to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tacit.models.definition import State
from tacit.models.least_squares import OLS
from tacit.models.regression import GLM
from tacit.models.regression_fit import GLMFit
from tacit.models.total import Arrays, Contributor, pooled
from tacit.serialization.session_messages import Query

REFERENCE = Path(__file__).parent / "models" / "reference"
LEVELS = {"warpbreaks.csv": {"tension": ["L", "M", "H"]}}  # elsewhere alphabetical


def reference(name: str) -> dict[str, dict[str, Any]]:
    """Return R's answers: those of "glm" or "lm", by fit."""
    content: dict[str, dict[str, Any]] = json.loads((REFERENCE / f"{name}.json").read_text())
    return content


def sites(name: str) -> list[pd.DataFrame]:
    """Return the rows of a file, one data set a site."""
    rows = pd.read_csv(REFERENCE / name, dtype={"site": str})
    return [part.drop(columns="site") for _, part in rows.groupby("site")]


def glm_of(entry: dict[str, Any]) -> GLM:
    """Return the model that an entry of "glm" answers."""
    levels = LEVELS.get(entry["data_file"])
    return GLM(entry["formula"], entry["family"], entry["link"], weights=entry["weights"], levels=levels)


def ols_of(entry: dict[str, Any]) -> OLS:
    """Return the model that an entry of "lm" answers."""
    return OLS(entry["formula"].replace("factor(", "C("), weights=entry["weights"])


def steps_of(model: GLM | OLS, data: Sequence[Any], start: State | None = None) -> list[State | GLMFit]:
    """Return all that the iteration yields."""

    async def collect() -> list[State | GLMFit]:
        return [item async for item in model.iterate(pooled(model, data), start)]

    return asyncio.run(collect())


def fitted(model: GLM | OLS, data: Sequence[Any], start: State | None = None) -> Any:
    """Return the fit."""
    return steps_of(model, data, start)[-1]


def summed(model: Contributor, data: Sequence[Any], query: Query) -> Arrays:
    """Return one sum."""

    async def one() -> Arrays:
        return await pooled(model, data)(query)

    return asyncio.run(one())


def rows_of_three(n_rows: int = 240, seed: int = 3) -> list[pd.DataFrame]:
    """Return made-up rows of three holders: columns x, z, g; responses of every family; exposures and weights."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"x": rng.normal(size=n_rows), "z": rng.uniform(size=n_rows)})
    rows["g"] = rng.choice(["a", "b", "c"], n_rows)
    rows["exposure"] = rng.uniform(0.5, 3, n_rows)
    rows["w"] = rng.integers(1, 5, n_rows).astype(float)
    eta = 0.3 + 0.4 * rows.x - 0.5 * rows.z
    probability = 1 / (1 + np.exp(-eta))
    rows["count"] = rng.poisson(rows.exposure * np.exp(eta))
    rows["event"] = (rng.uniform(size=n_rows) < probability).astype(int)
    rows["share"] = rng.binomial(rows.w.astype(int), probability) / rows.w
    rows["cost"] = rng.gamma(2, np.exp(eta) / 2)
    rows["time"] = rng.wald(np.exp(eta), 3.0)
    rows["visits"] = rng.negative_binomial(1.7, 1.7 / (1.7 + np.exp(eta + 1)))
    rows["size"] = np.exp(eta) + rng.normal(size=n_rows) * 0.1 + 1
    return [rows[:70], rows[70:150], rows[150:]]
