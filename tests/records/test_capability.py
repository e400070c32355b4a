"""Tokens allow what they say, as often and as long as they say, and nothing else."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from tacit.records import capability
from tacit.records.capability import Action, admit, issue, read_token
from tacit.records.errors import AccessError, RecordError
from tacit.records.model_store import ModelStore
from tacit.records.signing import SigningKey
from tacit.records.verification import verify

ISSUER = SigningKey(b"\x01" * 32)
STRANGER = SigningKey(b"\x02" * 32)
KEYS = (ISSUER.public,)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def test_a_token_says_who_may_do_what(store: ModelStore) -> None:
    token = issue(ISSUER, "a clinic", ["predict", "list"], names=["risk"], quota=3)
    capability = read_token(token, KEYS)
    assert capability.subject == "a clinic"
    assert capability.may == {"predict", "list"}
    assert (capability.names, capability.quota) == (frozenset({"risk"}), 3)
    assert admit(store, KEYS, token, "predict", "risk") == capability


ACTIONS: list[Action] = ["list", "predict", "download", "tag"]


@pytest.mark.parametrize("allowed", ACTIONS)
@pytest.mark.parametrize("asked", ACTIONS)
def test_one_action_does_not_imply_another(store: ModelStore, allowed: Action, asked: Action) -> None:
    token = issue(ISSUER, "x", [allowed])
    if asked == allowed:
        admit(store, KEYS, token, asked, "risk")
    else:
        with pytest.raises(AccessError, match=f"does not allow to {asked}"):
            admit(store, KEYS, token, asked, "risk")


def test_a_token_for_one_model_is_for_no_other(store: ModelStore) -> None:
    token = issue(ISSUER, "x", ["list"], names=["risk"])
    with pytest.raises(AccessError, match="not for 'costs'"):
        admit(store, KEYS, token, "list", "costs")
    with pytest.raises(AccessError, match="not for every model"):
        admit(store, KEYS, token, "list")


def test_a_quota_outlives_the_process_and_refusals_do_not_count(store: ModelStore, tmp_path: Path) -> None:
    token = issue(ISSUER, "x", ["predict"], quota=2)
    admit(store, KEYS, token, "predict", "risk")
    with pytest.raises(AccessError, match="does not allow"):
        admit(store, KEYS, token, "tag", "risk")
    admit(ModelStore(tmp_path), KEYS, token, "predict", "costs")
    for each in (store, ModelStore(tmp_path)):
        with pytest.raises(AccessError, match="used up: it was good for 2 uses"):
            admit(each, KEYS, token, "predict", "risk")
    admit(store, KEYS, issue(ISSUER, "x", ["predict"], quota=2), "predict", "risk")


def test_uses_are_logged_with_whose_they_are(store: ModelStore) -> None:
    admit(store, KEYS, issue(ISSUER, "a clinic", ["predict"]), "predict", "risk")
    [entry] = store.uses.entries()
    assert (entry.body["subject"], entry.body["action"], entry.body["name"]) == (
        "a clinic",
        "predict",
        "risk",
    )
    assert verify(store).ok


def test_an_expired_token_is_refused() -> None:
    with pytest.raises(
        AccessError, match=r"has expired: the repository's clock says .* UTC; have it set by NTP"
    ):
        read_token(issue(ISSUER, "x", ["list"], seconds=-5), KEYS)


def test_a_token_from_later_than_now_names_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as ahead:
        ahead.setattr(capability, "time", SimpleNamespace(time=lambda: time.time() + 3600))
        token = issue(ISSUER, "x", ["list"])
    with pytest.raises(
        AccessError, match=r"issued later than now: the repository's clock says .* UTC; have it"
    ):
        read_token(token, KEYS)


def test_a_token_by_another_key_is_refused() -> None:
    with pytest.raises(AccessError, match="nobody who may issue"):
        read_token(issue(STRANGER, "x", ["list"]), KEYS)


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def forgeries() -> dict[str, str]:
    header, claims, signature = issue(ISSUER, "x", ["list"]).split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    more = part({**said, "may": ["list", "download"]})
    named = {"kid": ISSUER.public}
    return {
        "no token": "",
        "noise": "a.b.c",
        "more rights": f"{header}.{more}.{signature}",
        "no signature": f"{part({'alg': 'none', **named})}.{claims}.",
        "symmetric": jwt.encode(said, bytes.fromhex(ISSUER.public), algorithm="HS256", headers=named),
        "a stranger's": jwt.encode(said, STRANGER.private, algorithm="EdDSA", headers=named),
        "for another": jwt.encode({**said, "aud": "x"}, ISSUER.private, algorithm="EdDSA", headers=named),
        "for ever": jwt.encode(
            {name: value for name, value in said.items() if name != "exp"},
            ISSUER.private,
            algorithm="EdDSA",
            headers=named,
        ),
        "malformed": jwt.encode({**said, "may": "list"}, ISSUER.private, algorithm="EdDSA", headers=named),
    }


@pytest.mark.parametrize("name", list(forgeries()))
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_forged_tokens_are_refused_and_not_logged(store: ModelStore, name: str) -> None:
    with pytest.raises(AccessError):
        admit(store, KEYS, forgeries()[name], "list")
    assert store.uses.head().size == 0


def test_a_token_that_would_allow_nothing_is_not_issued() -> None:
    wrong: list[dict[str, Any]] = [
        {"may": []},
        {"may": ["delete"]},
        {"may": ["list"], "quota": 0},
        {"may": ["list"], "names": ["a/b"]},
    ]
    for options in wrong:
        with pytest.raises(RecordError):
            issue(ISSUER, "x", **options)
