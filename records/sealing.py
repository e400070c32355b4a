"""Encryption at rest: every file of a repository sealed under a key of its own.

Each file is encrypted with AES-256-GCM under a fresh key, and that key with AES-256-GCM under the *repository key*,
which lies elsewhere: in a file that only the repository's process reads, or in its environment. Associated data is
its address, so a file moved to another place does not open. Objects are named by a keyed hash (HMAC-SHA256) of their
address, which in clear would be a hash of what they hold, against which a guess could be tried; so are checkpoints,
whose address has the name of the run.

Who learns what: whoever has the disk or the bucket sees how many files there are, their sizes and times, and which
are log entries. Adversary: one who reads and changes files at will, without the key; a changed, swapped or
unencrypted file does not open. What is as old as it is whole (an earlier head, the log cut short to it) opens: against
that stands the head that somebody remembers.

Source: NIST SP 800-38D (GCM). Nonces are random, 96 bits; a fresh key encrypts one file, the repository key at
most 2^32 of them.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..protocols.key_agreement import derive
from ..protocols.secret import RandomBytes, Secret
from .errors import RecordError
from .object_store import ObjectStore

ENVIRONMENT = "TACIT_REPOSITORY_KEY"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
MAGIC = b"tacit sealed 1\n"
NAMED = ("objects", "checkpoints")  # places whose files would tell by their names what they hold
LARGEST = 2**31 - 1 - TAG_BYTES  # bytes that `cryptography` encrypts at once

_WRAPPED = slice(len(MAGIC) + NONCE_BYTES, len(MAGIC) + NONCE_BYTES + KEY_BYTES + TAG_BYTES)


class RepositoryKey(Secret):
    """What opens a sealed repository: *never sent*.

    Parameters
    ----------
    octets : bytes
        32 secret bytes.

    Raises
    ------
    RecordError
        If there are not 32 of them.
    """

    __slots__ = ("_naming", "_wrapping")

    def __init__(self, octets: bytes) -> None:
        if len(octets) != KEY_BYTES:
            raise RecordError("a repository key has 32 bytes: 64 hexadecimal digits")
        self._wrapping = derive(octets, salt=b"", purpose=b"tacit repository 1: wrap keys")
        self._naming = derive(octets, salt=b"", purpose=b"tacit repository 1: name objects")

    @classmethod
    def from_hex(cls, text: str) -> RepositoryKey:
        """Read a key from 64 hexadecimal digits."""
        try:
            return cls(binascii.unhexlify(text.strip()))
        except ValueError:
            raise RecordError("a repository key has 32 bytes: 64 hexadecimal digits") from None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> RepositoryKey:
        """Read a key from a file of 64 hexadecimal digits."""
        return cls.from_hex(read_secret(path))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RepositoryKey | None:
        """Read a key from ``TACIT_REPOSITORY_KEY``; None if that is not set."""
        text = environment.get(ENVIRONMENT)
        return None if text is None else cls.from_hex(text)

    def wrap(self, key: bytes, nonce: bytes, file: bytes) -> bytes:
        """Encrypt the key of a file."""
        return AESGCM(self._wrapping).encrypt(nonce, key, file)

    def unwrap(self, wrapped: bytes, nonce: bytes, file: bytes) -> bytes:
        """Decrypt the key of a file."""
        return AESGCM(self._wrapping).decrypt(nonce, wrapped, file)

    def name(self, address: str) -> str:
        """Return the keyed hash that an object is named by."""
        return hmac.new(self._naming, address.encode(), hashlib.sha256).hexdigest()


class SealedStore:
    """A store whose files are encrypted.

    Parameters
    ----------
    inner : ObjectStore
        Where the encrypted files go.
    key : RepositoryKey
    random_bytes : callable
        Source of fresh keys and nonces.
    """

    def __init__(self, inner: ObjectStore, key: RepositoryKey, random_bytes: RandomBytes) -> None:
        self._inner = inner
        self._key = key
        self._random_bytes = random_bytes

    def read(self, address: str) -> bytes | None:
        """Return what is sealed at an address; None if nothing is."""
        return self.read_file(self.file_of(address))

    def read_file(self, file: str) -> bytes | None:
        """Return what is sealed in a file; None if there is none."""
        sealed = self._inner.read(file)
        return None if sealed is None else unseal(self._key, file, sealed)

    def create(self, address: str, content: bytes) -> bool:
        """Seal bytes where there are none; False if the address is taken."""
        file = self.file_of(address)
        return self._inner.create(file, seal(self._key, file, content, self._random_bytes))

    def replace(self, address: str, content: bytes) -> None:
        """Seal bytes in place of those that are there."""
        file = self.file_of(address)
        self._inner.replace(file, seal(self._key, file, content, self._random_bytes))

    def files(self) -> list[str]:
        """Return every file, in order."""
        return self._inner.files()

    def file_of(self, address: str) -> str:
        """Return under which file an address lies: objects and checkpoints are named by a keyed hash."""
        place = address.partition("/")[0]
        return f"{place}/{self._key.name(address)}" if place in NAMED else address

    def locked(self) -> AbstractContextManager[None]:
        """Keep other writers out."""
        return self._inner.locked()


def seal(key: RepositoryKey, file: str, content: bytes, random_bytes: RandomBytes) -> bytes:
    """Encrypt a file under a fresh key, and that under the repository key.

    Raises
    ------
    RecordError
        If it has more than 2 GiB.
    """
    if len(content) > LARGEST:
        raise RecordError(f"{file} has more than 2 GiB: that cannot be sealed")
    fresh, key_nonce, nonce = random_bytes(KEY_BYTES), random_bytes(NONCE_BYTES), random_bytes(NONCE_BYTES)
    wrapped = key.wrap(fresh, key_nonce, file.encode())
    return b"".join([MAGIC, key_nonce, wrapped, nonce, AESGCM(fresh).encrypt(nonce, content, file.encode())])


def unseal(key: RepositoryKey, file: str, sealed: bytes) -> bytes:
    """Decrypt a file.

    Raises
    ------
    RecordError
        If it is not sealed, was changed, belongs elsewhere, or is sealed under another key.
    """
    if not sealed.startswith(MAGIC):
        raise RecordError(f"{file} is damaged: it is not sealed, as everything is in this repository")
    key_nonce, rest = sealed[len(MAGIC) : _WRAPPED.start], sealed[_WRAPPED.stop :]
    try:
        fresh = key.unwrap(sealed[_WRAPPED], key_nonce, file.encode())
        return AESGCM(fresh).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], file.encode())
    except (InvalidTag, ValueError):
        raise RecordError(f"{file} is damaged, or sealed under another key") from None


def read_secret(path: str | os.PathLike[str]) -> str:
    """Read the text of a key file, naming the file but nothing of it if that fails."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        raise RecordError(f"the key file {os.fspath(path)} cannot be read") from None
