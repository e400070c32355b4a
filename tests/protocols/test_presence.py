"""Presence: every way in which a process can be another than the party that it is taken for is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import identity_of, secret_of
from tacit.protocols.errors import SetupError
from tacit.protocols.key_agreement import Identity
from tacit.protocols.presence import Agreement, check_presence, present
from tacit.serialization.codec import Frame, decode, encode, unsigned_digest, with_signature
from tacit.serialization.deployment_messages import Presence
from tacit.serialization.session_messages import Finished

NORTH, EAST = identity_of("north", "holder"), identity_of("east", "holder")
AGREED = Agreement(study=bytes(range(32)), version="1.0")
CHALLENGE = bytes(31) + b"\x07"


def said(
    identity: Identity = NORTH,
    agreement: Agreement = AGREED,
    challenge: bytes = CHALLENGE,
    seconds: int = 1_700_000_000,
) -> Presence:
    return present(identity, agreement, challenge, seconds)


def check(presence: object) -> Presence:
    return check_presence(presence, NORTH.public, AGREED, CHALLENGE)


def signed_anew(presence: Presence, identity: Identity = NORTH, **changes: Any) -> Presence:
    changed = dataclasses.replace(presence, **changes)
    return with_signature(changed, identity.sign(unsigned_digest(changed)))


def test_party_of_the_study_is_believed() -> None:
    assert check(said()) == said()


def test_what_was_said_survives_the_wire() -> None:
    assert check(decode(Frame(encode(said()).header, ()))) == said()


def test_other_party_is_refused_by_its_name() -> None:
    with pytest.raises(SetupError, match="goes by the name of north is another party"):
        check(said(EAST))


@pytest.mark.parametrize("answer", [None, b"here", Finished(session=bytes(32), released=True)])
def test_anything_but_a_presence_is_refused(answer: object) -> None:
    with pytest.raises(SetupError, match="is another party: end that process"):
        check(answer)


def test_other_party_that_takes_the_name_is_refused_by_its_key() -> None:
    with pytest.raises(SetupError, match="north signs with another key"):
        check(signed_anew(said(EAST), EAST, party="north"))


def test_replayed_answer_is_refused() -> None:
    with pytest.raises(SetupError, match="north repeats an old answer"):
        check(said(challenge=bytes(32)))


@pytest.mark.parametrize("place", range(32))
def test_study_that_differs_in_a_byte_is_refused_with_both_digests(place: int) -> None:
    study = bytearray(AGREED.study)
    study[place] ^= 1
    with pytest.raises(SetupError, match="north goes by another study file") as caught:
        check(said(agreement=Agreement(bytes(study), AGREED.version)))
    assert bytes(study[:8]).hex() in str(caught.value)
    assert AGREED.study[:8].hex() in str(caught.value)
    assert "copy the agreed one" in str(caught.value)


def test_other_version_is_refused_with_both() -> None:
    with pytest.raises(SetupError, match=r"north runs tacit 1\.1, and this party 1\.0: install the same"):
        check(said(agreement=Agreement(AGREED.study, "1.1")))


def test_the_key_is_looked_at_before_what_it_signs() -> None:
    """Who has no key learns nothing of what this party goes by."""
    other = signed_anew(said(EAST, Agreement(bytes(32), "0")), EAST, party="north")
    with pytest.raises(SetupError, match="another key"):
        check(other)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_no_field_can_be_changed_under_the_signature(data: st.DataObject) -> None:
    presence = said()
    changes: dict[str, st.SearchStrategy[Any]] = {
        "party": st.text(min_size=1, max_size=20),
        "study": st.binary(min_size=32, max_size=32),
        "version": st.text(max_size=20),
        "challenge": st.binary(min_size=32, max_size=32),
        "seconds": st.integers(0, 2**63 - 1),
        "signature": st.binary(min_size=64, max_size=64),
    }
    assert changes.keys() == {field.name for field in dataclasses.fields(Presence)}
    name = data.draw(st.sampled_from(sorted(changes)))
    value = data.draw(changes[name].filter(lambda value: value != getattr(presence, name)))
    with pytest.raises(SetupError):
        check(dataclasses.replace(presence, **{name: value}))


def test_the_secret_is_in_nothing_that_is_said() -> None:
    header = encode(said()).header

    for half in (secret_of("north")[:32], secret_of("north")[32:]):
        assert half not in header
        assert half.hex() not in repr(said())
