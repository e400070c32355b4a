"""The repository's actor and its face, in one process: the code of the actor, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tacit.actors.repository import ModelRepository, Repository
from tacit.models.definition import Definition
from tacit.models.errors import ModelError
from tacit.models.fit import Fit
from tacit.protocols.key_agreement import Identity
from tacit.records.capability import issue
from tacit.records.errors import AccessError, RecordError
from tacit.records.model_card import Release
from tacit.records.signing import PartySigner, Signature, SigningKey

ISSUER = SigningKey(b"\x01" * 32)
HOLDER = SigningKey(b"\x02" * 32)


class Method:
    """One method of an actor, as its handle has it."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class Handle:
    """An actor's handle: its methods' `remote` returns what can be awaited."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self._actor, name))


class SigningCoordinator:
    """A coordinator that signs cards with its identity."""

    def __init__(self) -> None:
        self.identity = Identity("coordinator", "coordinator", lambda n: b"\x09" * n)
        self.before: Callable[[], None] = lambda: None

    async def sign_card(self, card: bytes) -> Signature:
        self.before()
        return PartySigner(self.identity).sign(card)


def face(actor: ModelRepository, coordinator: SigningCoordinator | None = None) -> Repository:
    async def awaited(reference: Any, _: str) -> Any:
        return await reference

    async def found() -> Handle:
        return Handle(actor)

    return Repository(
        lambda: Handle(actor),
        found,
        lambda reference, _: asyncio.run(reference),
        awaited,
        coordinator=(lambda: None) if coordinator is None else (lambda: Handle(coordinator)),
    )


def fit(estimate: float = 9.175) -> Fit:
    return Fit(
        definition=Definition("MaximumLikelihood"),
        names=("lambda",),
        estimates=np.array([estimate]),
        covariance=np.array([[0.25]]),
        llf=-99.7,
        nobs=40,
        iterations=3,
        n_passes=4,
        converged=True,
    )


class Doubling(Fit):
    """A fit that predicts."""

    def predict(self, rows: Any) -> Any:
        return pd.Series(rows["x"] * 2 * self.estimates[0], name="y")


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fit, "predict", Doubling.predict)


def test_fits_are_saved_and_loaded_with_the_same_bits(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path)))
    assert [repository.save(fit(n), "risk") for n in (1.0, 2.0)] == [1, 2]
    assert repository.versions("risk") == [1, 2]
    assert repository.load("risk").to_dict() == fit(2.0).to_dict()
    assert repository.load("risk", 1).to_dict() == fit(1.0).to_dict()
    assert repository.verify().ok


def test_the_coordinator_signs_with_its_identity(tmp_path: Path) -> None:
    coordinator = SigningCoordinator()
    repository = face(ModelRepository(str(tmp_path)), coordinator)
    repository.save(fit(), "risk")
    assert repository.verify().signed_by == (coordinator.identity.public.verify_key.hex(),)


def test_a_version_that_is_taken_while_the_coordinator_signs_is_drafted_again(tmp_path: Path) -> None:
    coordinator = SigningCoordinator()
    repository = face(ModelRepository(str(tmp_path)), coordinator)
    other = face(ModelRepository(str(tmp_path)))

    def save_another() -> None:
        coordinator.before = lambda: None
        draft = Handle(ModelRepository(str(tmp_path)))._actor._store
        draft.save("risk", fit(1.0).to_dict())

    coordinator.before = save_another
    assert repository.save(fit(2.0), "risk") == 2
    assert other.load("risk", 1).to_dict() == fit(1.0).to_dict()
    assert other.load("risk", 2).to_dict() == fit(2.0).to_dict()
    assert other.verify().ok


@pytest.mark.usefixtures("doubling")
def test_predictions_are_made_at_the_repository(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path)))
    repository.save(fit(2.0), "risk")
    rows = pd.DataFrame({"x": [1.0, 2.0]})
    assert repository.predict("risk", rows).tolist() == [4.0, 8.0]
    with pytest.raises(RecordError, match="nothing is saved"):
        repository.predict("never", rows)


def test_a_fit_that_predicts_no_rows_says_so(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path)))
    repository.save(fit(), "risk")
    with pytest.raises(ModelError, match="predicts no rows"):
        repository.predict("risk", [])


def test_a_pending_version_waits_for_its_holders(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path)))
    version = repository.save(fit(), "risk", release=Release(1, {"site-1": HOLDER.public}))
    with pytest.raises(RecordError, match="pending"):
        repository.load("risk")
    assert not repository.listing("risk")[0].released
    assert repository.co_sign("risk", version, HOLDER.sign(repository.card("risk"))).released
    assert [one.released for one in repository.listing()] == [True]
    assert repository.load("risk").to_dict() == fit().to_dict()


@pytest.mark.usefixtures("doubling")
def test_with_token_keys_everybody_needs_a_token(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path), token_keys=[ISSUER.public]))
    repository.save(fit(2.0), "risk")
    rows = pd.DataFrame({"x": [1.0]})
    for ask in (
        lambda: repository.card("risk"),
        lambda: repository.load("risk"),
        lambda: repository.versions("risk"),
        repository.listing,
        lambda: repository.predict("risk", rows),
        lambda: repository.tag("risk", "best"),
    ):
        with pytest.raises(AccessError, match="takes a token"):
            ask()
    token = issue(ISSUER, "a clinic", ["predict"], names=["risk"], quota=2)
    assert [repository.predict("risk", rows, token=token).tolist() for _ in range(2)] == [[4.0], [4.0]]
    with pytest.raises(AccessError, match="used up"):
        repository.predict("risk", rows, token=token)
    with pytest.raises(AccessError, match="does not allow to download"):
        repository.load("risk", token=token)


def test_tags_are_set_and_followed(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path)))
    repository.save(fit(1.0), "risk")
    repository.save(fit(2.0), "risk")
    assert repository.tag("risk", "best", 1) == 1
    assert repository.load("risk", "best").to_dict() == fit(1.0).to_dict()


def test_keys_are_read_from_files_that_are_named_to_the_actor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sign").write_text("03" * 32)
    (tmp_path / "seal").write_text("04" * 32)
    folder = str(tmp_path / "models")
    options = {"signing_key_file": str(tmp_path / "sign"), "repository_key_file": str(tmp_path / "seal")}
    repository = face(ModelRepository(folder, **options))
    repository.save(fit(), "risk")
    assert repository.verify(trusted=[SigningKey(b"\x03" * 32).public]).ok
    with pytest.raises(RecordError):
        face(ModelRepository(folder)).save(fit(), "risk")
    monkeypatch.setenv("TACIT_REPOSITORY_KEY", "04" * 32)
    assert face(ModelRepository(folder)).load("risk").to_dict() == fit().to_dict()


def test_every_method_has_a_twin_that_does_the_same(tmp_path: Path) -> None:
    repository = face(ModelRepository(str(tmp_path)))

    async def use() -> None:
        assert await repository.asave(fit(), "risk") == 1
        assert await repository.aversions("risk") == [1]
        assert await repository.atag("risk", "best") == 1
        assert (await repository.aload("risk", "best")).to_dict() == fit().to_dict()
        assert [version.tags for version in await repository.alisting()] == [("best",)]
        assert await repository.acard("risk") == await repository.acard("risk", "best")
        with pytest.raises(RecordError, match="not co-signed by this key"):
            await repository.aco_sign("risk", 1, HOLDER.sign(await repository.acard("risk")))
        assert (await repository.averify()).ok
        with pytest.raises(ModelError):
            await repository.apredict("risk", [])

    asyncio.run(use())
    methods = {name for name in vars(Repository) if not name.startswith("_")}
    assert {name for name in methods if f"a{name}" not in methods and name[1:] not in methods} == set()
