"""What a holder co-signs: models that it took part in, as the card tells it, and nothing else."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tacit.models.definition import Definition
from tacit.models.fit import Fit
from tacit.models.sum import Sum
from tacit.privacy.guarantee import Privacy
from tacit.protocols.key_agreement import Identity
from tacit.protocols.party import PartyId, Roster
from tacit.records.canonical import canonical, parse
from tacit.records.co_signing import Participations
from tacit.records.errors import CoSignatureError, RecordError
from tacit.records.model_card import Release, draft_of
from tacit.records.signing import PartySigner, Signature
from tacit.records.transparency_log import Head

NAMES = ("a", "b", "c")


class Model:
    """A model that has a definition, and perhaps privacy."""

    def __init__(self, definition: Definition, noised: Any = None) -> None:
        self.definition = definition
        self.noised = noised


def identity(place: int, name: str, kind: str) -> Identity:
    drawn = iter(range(1, 9))
    return Identity(name, kind, lambda n: bytes([place, next(drawn)] * (n // 2)))


PARTIES = {name: identity(place, name, "holder") for place, name in enumerate(NAMES)}
COORDINATOR = identity(9, "k", "coordinator")
ROSTER = Roster((COORDINATOR.public, *(party.public for party in PARTIES.values())))
KEYS = {name: party.public.verify_key.hex() for name, party in PARTIES.items()}
DEFINITION = Definition("MaximumLikelihood", {"start": [1.5, -0.0], "$": 1})
NOISED = Sum(np.asarray).with_privacy(Privacy(1.0, 1e-5, clip=1.0)).noised
ME = PartyId("b")


def fit(definition: Definition = DEFINITION, **told: Any) -> dict[str, Any]:
    made = Fit(
        definition=definition,
        names=("x",),
        estimates=np.array([1.0]),
        covariance=np.array([[0.25]]),
        llf=-1.0,
        nobs=40,
        iterations=3,
        n_passes=4,
        converged=True,
    ).with_provenance(**{"holders": NAMES, "survivors": NAMES, "protocol": "ring-Paillier", **told})
    return made.to_dict()


def card(
    result: dict[str, Any] | None = None, signatories: dict[str, str] = KEYS, **provenance: Any
) -> bytes:
    release = Release(len(signatories), signatories)
    return draft_of("risk", 1, result or fit(), Head(0, ""), release, provenance, 0.0).card


def signed(octets: bytes, by: Identity = COORDINATOR) -> tuple[bytes, Signature]:
    return octets, PartySigner(by).sign(octets)


@pytest.fixture
def took_part() -> Participations:
    known = Participations()
    known.note(b"a session's name", Model(DEFINITION), NAMES, len(NAMES))
    return known


def test_a_model_that_it_took_part_in_is_signed(took_part: Participations) -> None:
    took_part.check(*signed(card()), ME, ROSTER)
    took_part.check(*signed(card(fit(survivors=("a", "b")))), ME, ROSTER)
    took_part.check(*signed(card(remark="for the board")), ME, ROSTER)


def test_what_the_coordinator_has_not_signed_is_not_signed(took_part: Participations) -> None:
    _, of_another = signed(card(remark="for the board"))
    for octets, signature in (signed(card(), PARTIES["a"]), (card(), of_another)):
        with pytest.raises(RecordError, match="coordinator has not signed"):
            took_part.check(octets, signature, ME, ROSTER)


STRANGER = {**KEYS, "d": "00" * 32}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: card(fit(Definition("MaximumLikelihood", {"start": [1.5, 0.0], "$": 1}))), "took no part"),
        (lambda: card({"n": 1}), "of no model"),
        (lambda: card({"definition": "GLM"}), "of no model"),
        (lambda: card(fit(holders=("a", "c"))), "not of this holder"),
        (lambda: card(fit(holders=(*NAMES, "d"))), "not of this holder"),
        (lambda: card(fit(holders=())), "not of this holder"),
        (lambda: card(fit(survivors=("a", "c"))), "was in no sum"),
        (lambda: card(fit(privacy="(ε = 1)")), "another privacy"),
        (lambda: card(privacy="(ε = 1)"), "another privacy"),
        (lambda: card(protocol="none"), "something else of the model's origin"),
        (lambda: card(definition="00" * 32), "something else of the model's origin"),
        (lambda: card(roster=[*NAMES]), None),
        (lambda: card(roster=["a", "b"]), "something else of the model's origin"),
        (lambda: card(signatories=STRANGER), "signatories other than"),
        (lambda: card(signatories={**KEYS, "c": "00" * 32}), "signatories other than"),
        (lambda: card(signatories={"a": KEYS["a"]}), "signatories other than"),
        (lambda: b"{}", "no model card"),
        (lambda: b"[", "damaged"),
    ],
)
def test_what_is_not_as_it_knows_it_is_not_signed(
    took_part: Participations, make: Callable[[], bytes], problem: str | None
) -> None:
    if problem is None:
        took_part.check(*signed(make()), ME, ROSTER)
        return
    with pytest.raises(RecordError, match=problem):
        took_part.check(*signed(make()), ME, ROSTER)


def test_survivors_are_those_of_one_sum() -> None:
    known = Participations()
    for together in (("a", "b"), ("b", "c")):
        known.note(b"1", Model(DEFINITION), together, 3)
    known.check(*signed(card(fit(survivors=("b", "c")))), ME, ROSTER)
    with pytest.raises(RecordError, match="was in no sum"):
        known.check(*signed(card()), ME, ROSTER)


def test_privacy_is_the_one_that_the_sums_had() -> None:
    known = Participations()
    known.note(b"1", Model(DEFINITION, NOISED), NAMES, 3)
    assert NOISED is not None
    known.check(*signed(card(fit(privacy=NOISED.described(3)))), ME, ROSTER)
    for told in (None, NOISED.described(3).replace("ε = 1", "ε = 0.1")):
        with pytest.raises(RecordError, match="another privacy"):
            known.check(*signed(card(fit(privacy=told))), ME, ROSTER)


def test_cards_are_read_as_canonical_json_alone(took_part: Participations) -> None:
    spaced = card().replace(b":", b": ")
    with pytest.raises(RecordError, match="canonical"):
        took_part.check(*signed(spaced), ME, ROSTER)
    assert canonical(parse(card(), "card")) == card()


def test_the_error_of_too_few_survives_pickling() -> None:
    error = CoSignatureError(name="risk", version=2, needed=3, given=1, refusals={"b": "no", "c": "never"})
    again = pickle.loads(pickle.dumps(error))
    assert (again.refusals, again.needed, str(again)) == (error.refusals, 3, str(error))
    assert "1 of 3 co-signatures are there (b does not sign: no; c does not sign: never)" in str(error)
