"""Holders co-sign a model in their own processes: the code of the actors, in one process and without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import Network
from ray.exceptions import ActorDiedError
from tacit.actors.coordinator_host import CoordinatorHost
from tacit.actors.data_holder import DataHolder
from tacit.actors.holder_host import HolderHost
from tacit.actors.repository import ModelRepository, Repository
from tacit.models.fit import Fit
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.records.co_signing import Participations
from tacit.records.errors import CoSignatureError, RecordError
from tacit.records.signing import Signature

COUNTS = {name: np.array([2.0 + i, 5.0, 9.0]) for i, name in enumerate("abc")}
MODEL = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})


class Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class Handle:
    """An actor's handle: its methods' `remote` returns what can be awaited."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self._actor, name))


class Coordinator(CoordinatorHost):
    """The coordinator's host, of a network in one process."""

    def __init__(self, network: Network) -> None:
        self._coordinator = network.coordinator


class Holder(HolderHost):
    """A holder's host, of a network in one process."""

    def __init__(self, *holders: DataHolder) -> None:
        self._holders = list(holders)


async def fitted(network: Network, **told: Any) -> Fit:
    result = await network.run(MODEL)
    fit: Fit = result.value
    return fit.with_provenance(**{"holders": tuple("abc"), "survivors": result.survivors, **told})


def face(actor: ModelRepository, network: Network, hosts: Mapping[str, Any]) -> Repository:
    async def awaited(reference: Any, _: str) -> Any:
        return await reference

    async def found() -> Handle:
        return Handle(actor)

    return Repository(
        lambda: Handle(actor),
        found,
        lambda *_: None,
        awaited,
        coordinator=lambda: Handle(Coordinator(network)),
        holders=lambda: hosts,
    )


def scene(act: Callable[[Network, Repository, dict[str, Any]], Any], tmp_path: Path, **options: Any) -> None:
    async def within() -> None:
        network = Network(COUNTS, holder=DataHolder, protocol=PairwiseMasking(), **options)
        async with network:
            hosts: dict[str, Any] = {
                str(name): Handle(Holder(party)) for name, party in network.holders.items()
            }
            await act(network, face(ModelRepository(str(tmp_path)), network, hosts), hosts)

    asyncio.run(within())


@pytest.mark.parametrize("simulation", [True, False], ids=["simulation", "deployment"])
def test_all_holders_sign_with_their_identities(tmp_path: Path, simulation: bool) -> None:
    async def act(network: Network, repository: Repository, _: Any) -> None:
        fit = await fitted(network)
        assert await repository.asave(fit, "risk", release="all") == 1
        [version] = await repository.alisting()
        assert version.released
        pinned = {network.roster[name].verify_key.hex() for name in network.roster.holders}
        assert {signature.key for signature in version.signatures[1:]} == pinned
        assert version.signatures[0].key == network.coordinator.identity.public.verify_key.hex()
        assert (await repository.averify()).ok
        assert (await repository.aload("risk")).params["lambda"] == fit.params["lambda"]

    scene(act, tmp_path, simulation=simulation)


def test_a_holder_that_took_no_part_is_named_and_the_version_waits(tmp_path: Path) -> None:
    async def act(network: Network, repository: Repository, _: Any) -> None:
        fit = await fitted(network)
        network.holders[PartyId("b")]._participations = Participations()  # as after a restart
        with pytest.raises(CoSignatureError, match="2 of 3 co-signatures are there") as caught:
            await repository.asave(fit, "risk", release="all")
        assert caught.value.refusals == {"b": "the card is of a model in which it took no part"}
        with pytest.raises(RecordError, match="pending"):
            await repository.aload("risk")
        assert await repository.asave(fit, "risk", release=2) == 2
        assert (await repository.aload("risk", 2)).params["lambda"] == fit.params["lambda"]

    scene(act, tmp_path)


def test_a_card_that_promises_more_privacy_is_signed_by_nobody(tmp_path: Path) -> None:
    async def act(network: Network, repository: Repository, _: Any) -> None:
        fit = await fitted(network)
        with pytest.raises(CoSignatureError, match="another privacy") as caught:
            await repository.asave(fit, "risk", release=1, provenance={"privacy": "(ε = 0.1, δ = 0)"})
        assert set(caught.value.refusals) == {"a", "b", "c"}

    scene(act, tmp_path)


class Gone:
    async def co_sign(self, *_: Any) -> Signature:
        raise ActorDiedError


class Wrong:
    async def co_sign(self, *_: Any) -> Signature:
        return Signature("00" * 32, "00" * 64)


@pytest.mark.parametrize(
    ("host", "why"), [(Gone(), "gone"), (Wrong(), "not co-signed by this key"), (Holder(), "not live here")]
)
def test_one_that_cannot_sign_keeps_no_other_from_it(tmp_path: Path, host: Any, why: str) -> None:
    async def act(network: Network, repository: Repository, hosts: dict[str, Any]) -> None:
        fit = await fitted(network)
        hosts["a"] = Handle(host)
        assert await repository.asave(fit, "risk", release=2) == 1
        with pytest.raises(CoSignatureError, match=f"a does not sign: .*{why}"):
            await repository.asave(fit, "risk", release="all")

    scene(act, tmp_path)


@pytest.mark.parametrize(
    ("release", "told", "problem"),
    [
        (0, {}, "a number of holders from 1"),
        (True, {}, "a number of holders from 1"),
        ("some", {}, "a number of holders from 1"),
        (4, {}, "at most as many"),
        ("all", {"holders": ("at least 3",), "survivors": ()}, "kept from knowing them"),
        ("all", {"holders": (), "survivors": ()}, "no holders are known"),
        ("all", {"survivors": ("a", "stranger")}, "another federation"),
    ],
)
def test_what_nobody_could_sign_is_not_saved(tmp_path: Path, release: Any, told: Any, problem: str) -> None:
    async def act(network: Network, repository: Repository, _: Any) -> None:
        fit = await fitted(network, **told)
        with pytest.raises(RecordError, match=problem):
            await repository.asave(fit, "risk", release=release)
        assert await repository.alisting() == []

    scene(act, tmp_path)
