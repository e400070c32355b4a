"""Signatures: Ed25519 over DSSE's pre-authentication encoding, by the coordinator, holders, and the store itself.

A card is signed as a DSSE envelope, with securesystemslib, so that other tools of that kind (in-toto, TUF) can check
an exported model. The encoding has the type of what is signed in it: the signature of a log entry is none of a card.

Who learns what: signatures and public keys are public. Adversary: one who changes files at will, without a signing
key; and, against co-signatures, a coordinator who would release what the holders have not seen.

Source: DSSE 1.0.2 (secure-systems-lab/dsse, protocol.md); RFC 8032 (Ed25519).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..protocols.key_agreement import Identity
from ..protocols.secret import RandomBytes, Secret
from .errors import RecordError
from .sealing import read_secret

CARD_TYPE = "application/vnd.tacit.model-card+json"
ENTRY_TYPE = "application/vnd.tacit.log-entry+json"
HEAD_TYPE = "application/vnd.tacit.log-head+json"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and whose it is.

    Attributes
    ----------
    key : str
        The Ed25519 public key, 64 hexadecimal digits.
    value : str
        The signature, 128 hexadecimal digits.
    """

    key: str
    value: str


class Signer(Protocol):
    """Whatever signs: a key of its own, or a party."""

    @property
    def public(self) -> str:
        """The Ed25519 public key, 64 hexadecimal digits."""
        ...

    def sign(self, content: bytes, content_type: str = ...) -> Signature:
        """Sign content of a type."""
        ...


class SigningKey(Secret):
    """An Ed25519 key that signs: *never sent*; `public` is what others pin.

    Parameters
    ----------
    octets : bytes
        32 secret bytes.

    Raises
    ------
    RecordError
        If there are not 32 of them.
    """

    __slots__ = ("_key", "public")

    def __init__(self, octets: bytes) -> None:
        if len(octets) != KEY_BYTES:
            raise RecordError("a signing key has 32 bytes: 64 hexadecimal digits")
        self._key = Ed25519PrivateKey.from_private_bytes(octets)
        self.public = self._key.public_key().public_bytes_raw().hex()

    @classmethod
    def fresh(cls, random_bytes: RandomBytes) -> SigningKey:
        """Make a key for as long as the process lives."""
        return cls(random_bytes(KEY_BYTES))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> SigningKey:
        """Read a key from a file of 64 hexadecimal digits."""
        try:
            return cls(bytes.fromhex(read_secret(path)))
        except ValueError:
            raise RecordError("a signing key has 32 bytes: 64 hexadecimal digits") from None

    def sign(self, content: bytes, content_type: str = CARD_TYPE) -> Signature:
        """Sign content of a type."""
        return _signed(self._key.sign, self.public, content, content_type)

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key itself, for capability tokens."""
        return self._key


class PartySigner(Secret):
    """Signs as a party, with the identity that others have pinned: *never sent*.

    Parameters
    ----------
    identity : Identity
    """

    __slots__ = ("_identity", "public")

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.public = identity.public.verify_key.hex()

    def sign(self, content: bytes, content_type: str = CARD_TYPE) -> Signature:
        """Sign content of a type."""
        return _signed(self._identity.sign, self.public, content, content_type)


def _signed(sign: Callable[[bytes], bytes], public: str, content: bytes, content_type: str) -> Signature:
    return Signature(public, sign(encoded(content, content_type)).hex())


def is_signed(signature: Signature, content: bytes, content_type: str = CARD_TYPE) -> bool:
    """Whether this is a signature of content of a type, by the key that it names."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
        key.verify(bytes.fromhex(signature.value), encoded(content, content_type))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def encoded(content: bytes, content_type: str) -> bytes:
    """Return DSSE's pre-authentication encoding: what is signed in fact.

    The one line of securesystemslib's `Envelope.pae`, which takes half a second to import.
    """
    kind = content_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(content), content)


def envelope_of(card: bytes, signatures: Iterable[Signature]) -> dict[str, Any]:
    """Return the DSSE envelope of a card, as JSON-able data.

    Its key identifiers are those that securesystemslib gives to Ed25519 keys.
    """
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - half a second, for those who export

    keyed = {key_identifier(one.key): one.value for one in signatures}
    signed = {identifier: _library().Signature(identifier, value) for identifier, value in keyed.items()}
    content: dict[str, Any] = Envelope(card, CARD_TYPE, signed).to_dict()
    return content


def open_envelope(envelope: dict[str, Any], keys: Iterable[str], *, needed: int) -> bytes:
    """Return the card of an envelope that enough of the keys have signed.

    Parameters
    ----------
    envelope : dict
        As `envelope_of` returns it.
    keys : iterable of str
        Public keys that are trusted.
    needed : int
        How many of them must have signed.

    Raises
    ------
    RecordError
        If the envelope is malformed, not of a card, or too few have signed it.
    """
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.exceptions import VerificationError  # noqa: PLC0415

    try:
        signed = [dict(one) for one in envelope["signatures"]]  # `from_dict` changes what it is given
        opened = Envelope.from_dict({**envelope, "signatures": signed})
        if opened.payload_type != CARD_TYPE:
            raise RecordError("the envelope holds no model card")
        opened.verify([_public(key) for key in dict.fromkeys(keys)], needed)
    except VerificationError:
        raise RecordError(f"the envelope has fewer than {needed} signatures by the keys given") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RecordError("this is no DSSE envelope, or more signatures are needed than keys given") from None
    return bytes(opened.payload)


def key_identifier(key: str) -> str:
    """Return what securesystemslib calls a public key."""
    return str(_public(key).keyid)


def _public(key: str) -> Any:
    return _library().SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)))


def _library() -> Any:
    import securesystemslib.signer  # noqa: PLC0415

    return securesystemslib.signer
