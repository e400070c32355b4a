"""Clocks of other parties: told where they differ, by whoever has proved who they are."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from studies import PARTIES, identity_of, write_study
from tacit.actors import clocks, finding
from tacit.actors.clocks import clocks_ahead
from tacit.protocols.party import PartyId
from tacit.protocols.presence import Agreement, present
from tacit.records.study import Study
from tacit.serialization.codec import encode

NOW = 1_800_000_000


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.read(write_study(tmp_path))


@pytest.fixture
def says(study: Study, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the clock of each party says; a test changes it, or puts an error there."""
    said: dict[str, Any] = {name: NOW for name, _ in PARTIES}
    agreement = Agreement(study.digest, version("tacit"))

    def answer(name: str, challenge: bytes) -> Any:
        if isinstance(said[name], Exception):
            return said[name]
        key = said.get("key", name)
        return encode(present(identity_of(key, dict(PARTIES)[key]), agreement, challenge, said[name])).header

    def party(_: str, name: str) -> Any:
        return SimpleNamespace(present=SimpleNamespace(remote=lambda challenge: answer(name, challenge)))

    def get(reference: Any, timeout: float) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return reference

    monkeypatch.setattr(finding, "party", party)
    monkeypatch.setattr(clocks, "ray", SimpleNamespace(get=get))
    return said


def ahead(study: Study, *names: str) -> dict[PartyId, int]:
    return clocks_ahead(study, [*map(PartyId, names)], now=lambda: NOW)


def test_clocks_that_differ_by_more_than_a_minute_are_told(study: Study, says: dict[str, Any]) -> None:
    says |= {"north": NOW + 3600, "east": NOW - 61, "south": NOW + 60}
    assert ahead(study, "north", "east", "south", "coordinator") == {"north": 3600, "east": -61}
    assert clocks.told({PartyId("north"): 3600, PartyId("east"): -61}) == (
        "this machine's clock is 3600 s behind that of north, 61 s ahead of that of east: have all clocks set by NTP, "
        "as certificates, tokens and the times in ledgers go by them"
    )


@pytest.mark.parametrize("problem", [ActorDiedError(), TimeoutError()])
def test_who_is_gone_has_no_clock(study: Study, says: dict[str, Any], problem: Exception) -> None:
    says["north"] = problem
    assert ahead(study, "north") == {}


def test_who_cannot_prove_who_it_is_has_no_clock(study: Study, says: dict[str, Any]) -> None:
    says |= {"north": NOW + 3600, "key": "east"}
    assert ahead(study, "north") == {}
