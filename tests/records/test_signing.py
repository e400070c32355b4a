"""Signatures of cards: DSSE as securesystemslib has it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from securesystemslib.dsse import Envelope
from tacit.protocols.errors import MisuseError
from tacit.protocols.key_agreement import Identity
from tacit.records.errors import RecordError
from tacit.records.signing import (
    CARD_TYPE,
    ENTRY_TYPE,
    PartySigner,
    Signature,
    SigningKey,
    encoded,
    envelope_of,
    is_signed,
    open_envelope,
)

KEYS = [SigningKey(bytes([n]) * 32) for n in range(1, 5)]
CARD = b'{"name":"risk"}'


def test_what_is_signed_is_the_encoding_of_securesystemslib() -> None:
    for content, kind in ((CARD, CARD_TYPE), (b"", "é"), (b"\x00" * 300, ENTRY_TYPE)):
        assert encoded(content, kind) == Envelope(content, kind, {}).pae()


def test_a_signature_is_of_one_content_type_and_key() -> None:
    signature = KEYS[0].sign(CARD)
    assert is_signed(signature, CARD)
    assert not is_signed(signature, CARD + b" ")
    assert not is_signed(signature, CARD, ENTRY_TYPE)
    assert not is_signed(Signature(KEYS[1].public, signature.value), CARD)


@pytest.mark.parametrize(("key", "value"), [("", ""), ("zz", "00"), ("01" * 32, "00" * 63), ("00", "é")])
def test_malformed_signatures_are_none(key: str, value: str) -> None:
    assert not is_signed(Signature(key, value), CARD)


def test_the_identity_of_a_coordinator_signs_cards() -> None:
    identity = Identity("coordinator", "coordinator", lambda n: b"\x07" * n)
    signature = PartySigner(identity).sign(CARD)
    assert is_signed(signature, CARD)
    assert signature == SigningKey(b"\x07" * 32).sign(CARD)


@pytest.mark.parametrize("needed", [1, 2, 3])
def test_an_envelope_opens_with_enough_signatures_by_trusted_keys(needed: int) -> None:
    envelope = envelope_of(CARD, [key.sign(CARD) for key in KEYS[:2]])
    trusted = [key.public for key in KEYS[:3]]
    if needed <= 2:
        assert open_envelope(envelope, trusted, needed=needed) == CARD
    else:
        with pytest.raises(RecordError, match="fewer than 3 signatures"):
            open_envelope(envelope, trusted, needed=needed)
    with pytest.raises(RecordError, match="fewer than 1"):
        open_envelope(envelope, [KEYS[3].public], needed=1)


def test_one_signer_counts_once() -> None:
    envelope = envelope_of(CARD, [KEYS[0].sign(CARD), KEYS[0].sign(CARD)])
    with pytest.raises(RecordError, match="more signatures are needed than keys"):
        open_envelope(envelope, [KEYS[0].public, KEYS[0].public], needed=2)


def test_envelopes_of_other_things_are_refused() -> None:
    envelope = envelope_of(CARD, [KEYS[0].sign(CARD)])
    for broken in ({}, {**envelope, "payloadType": ENTRY_TYPE}, {**envelope, "signatures": 3}):
        with pytest.raises(RecordError):
            open_envelope(broken, [KEYS[0].public], needed=1)


def test_a_signing_key_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{'01' * 32}\n")
    key = SigningKey.from_file(tmp_path / "key")
    assert key.public == KEYS[0].public
    assert "01" * 32 not in repr(key)
    with pytest.raises(MisuseError):
        pickle.dumps(key)
    (tmp_path / "key").write_text("01")
    with pytest.raises(RecordError, match="32 bytes"):
        SigningKey.from_file(tmp_path / "key")
    with pytest.raises(RecordError, match="cannot be read"):
        SigningKey.from_file(tmp_path / "none")
