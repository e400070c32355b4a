"""Regressions over the code of the actors, without Ray: pooled bits under every protocol, and losses on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pytest
from in_process import SMALL, Network, Posted, ShortKeys
from regressions import fitted, glm_of, ols_of, reference, sites
from tacit.actors.data_holder import DataHolder
from tacit.models.regression import GLM
from tacit.protocols.errors import DropoutError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.protocol import Protocol
from tacit.protocols.secret_sharing import SecretSharing

PROTOCOLS: list[Protocol[Any]] = [SMALL, PairwiseMasking(), SecretSharing()]
NAMES = "abcd"


def network(protocol: Protocol[Any], data: list[pd.DataFrame]) -> Network:
    holder = ShortKeys if protocol is SMALL else DataHolder
    return Network(dict(zip(NAMES, data, strict=False)), protocol=protocol, holder=holder)


def fit_over(protocol: Protocol[Any], model: Any, data: list[pd.DataFrame]) -> Any:
    async def scene() -> Any:
        async with network(protocol, data) as parties:
            return (await parties.run(model)).value

    return asyncio.run(scene())


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.title)
def test_fit_has_the_bits_of_plain_exact_sums(protocol: Protocol[Any]) -> None:
    entry = reference("lm")["mtcars"]
    model, data = ols_of(entry).with_cov_type("HC3"), sites(entry["data_file"])
    assert fit_over(protocol, model, data).to_dict() == fitted(model, data).to_dict()


def test_levels_that_no_holder_has_all_of_are_found_in_secret() -> None:
    entry = reference("glm")["insectsprays_poisson"]
    model, data = glm_of(entry), sites(entry["data_file"])
    assert max(part["spray"].nunique() for part in data) < 6
    fit = fit_over(PairwiseMasking(), model, data)
    assert fit.params.to_numpy() == pytest.approx(entry["coef"], rel=1e-8)
    assert fit.to_dict() == fitted(model, data).to_dict()


def test_fit_that_loses_a_holder_on_the_way_tells_it() -> None:
    data = sites("mtcars.csv")

    async def scene() -> None:
        async with network(PairwiseMasking(), data) as parties:
            n_frames = 0

            def on_frame(posted: Posted) -> bool:
                nonlocal n_frames
                n_frames += 1
                if n_frames == 60:
                    parties.kill("d")
                return True

            parties.on_frame = on_frame
            with pytest.raises(DropoutError, match="d"):
                await parties.run(GLM("am ~ wt", family="binomial"))

    asyncio.run(scene())
