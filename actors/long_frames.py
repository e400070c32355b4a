"""Frames with large arrays: sealed a piece at a time, as they leave, and put together where they arrive.

Large arrays lie beside a frame's header, under a key of their own, drawn for this one message. The header, which is
sealed for its recipient alone, has that key and the SHA-256 of what it opens. So what many receive is the same bytes
for all, whoever of them share a process get it once, and none of them, though it knows the key, can pass anything else
off as the sender's: the hash would be another.

However long a frame is, and however many receive it, no more of it than a piece for each process lies sealed at its
sender. A piece that is sent again is the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
from numpy.typing import NDArray

from ..protocols.key_agreement import KEY_BYTES
from ..protocols.secret import Secret
from ..serialization.codec import Frame

SLICE_BYTES = 2**16
TAG_BYTES = 16
HASH_BYTES = 32
OPENING_BYTES = KEY_BYTES + HASH_BYTES

Octets = NDArray[np.uint8]


class Content(Secret):
    """The large arrays of one message, to be sealed under a key of their own: *never sent itself*.

    Attributes
    ----------
    opening : bytes
        The key and the hash, by which `open_content` opens it: 64 bytes, secret.
    sizes : tuple of int
        Sealed bytes of each array.

    Parameters
    ----------
    key : bytes
        32 random bytes, **for this content alone**.
    about : bytes
        What every seal covers besides the content.
    buffers : sequence of ndarray of uint8
        **Nobody may write to them** until all frames with this content have left.
    """

    def __init__(self, key: bytes, about: bytes, buffers: Sequence[Octets]) -> None:
        self.opening = key + _hash(buffers)
        self.sizes = tuple(buffer.nbytes + TAG_BYTES for buffer in buffers)
        self._key = key
        self._about = about
        self._buffers = tuple(buffers)

    def slices(self) -> Iterator[Octets]:
        """Seal the buffers, one after the other, each slice of 64 KiB when it is asked for.

        These are always the same bytes, as nobody writes to the buffers: two contents under one key would show how they
        differ. The tag of a buffer is at the end of its last slice.
        """
        for place, content in enumerate(self._buffers):
            encryptor = Cipher(AES256(self._key), GCM(_nonce(place))).encryptor()
            encryptor.authenticate_additional_data(self._about)
            for start in range(0, max(content.nbytes, 1), SLICE_BYTES):
                sealed = encryptor.update(content[start : start + SLICE_BYTES].data)
                if start + SLICE_BYTES >= content.nbytes:
                    sealed += encryptor.finalize() + encryptor.tag
                yield np.frombuffer(sealed, dtype=np.uint8)


def open_content(opening: bytes, about: bytes, sealed: Sequence[Octets]) -> tuple[Octets, ...]:
    """Return the arrays of a content.

    Parameters
    ----------
    opening, about
        As of `Content`.
    sealed : sequence of ndarray of uint8
        Its sealed arrays.

    Raises
    ------
    InvalidTag
        If they are not what the opening is for.
    """
    if len(opening) != OPENING_BYTES:
        raise InvalidTag
    cipher = AESGCM(opening[:KEY_BYTES])
    parts = [cipher.decrypt(_nonce(place), part.data, about) for place, part in enumerate(sealed)]
    buffers = tuple(np.frombuffer(part, dtype=np.uint8) for part in parts)
    if not hmac.compare_digest(_hash(buffers), opening[KEY_BYTES:]):
        raise InvalidTag
    return buffers


def _hash(buffers: Sequence[Octets]) -> bytes:
    """SHA-256 over the buffers, each after its length (u64, little endian)."""
    hashed = hashlib.sha256()
    for buffer in buffers:
        hashed.update(buffer.nbytes.to_bytes(8, "little"))
        hashed.update(buffer.data)
    return hashed.digest()


def _nonce(place: int) -> bytes:
    return place.to_bytes(12, "big")


class LongFrame:
    """A frame for one recipient, whose content is sealed as it leaves.

    Attributes
    ----------
    header : bytes
        As of the frame.
    content : Content
        Frames with the same content may go to other recipients.
    """

    def __init__(self, header: bytes, content: Content) -> None:
        self.header = header
        self.content = content

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.header) + sum(self.content.sizes)

    def whole(self) -> Frame:
        """Seal it all at once."""
        arriving = Arriving(self.content.sizes)
        arriving.take(0, self.content.slices())
        return arriving.frame(self.header)


class Arriving:
    """The buffers of a long frame, as far as they have arrived.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of each buffer.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._bounds = list(accumulate(sizes, initial=0))
        self._octets = np.empty(self._bounds[-1], dtype=np.uint8)

    def take(self, start: int, slices: Iterable[Octets]) -> None:
        """Put slices that follow one another where they belong; again, if they come again.

        What is missing, or lies elsewhere, is found out when the seal is opened.
        """
        for octets in slices:
            part = self._octets[start : start + len(octets)]
            part[:] = octets[: len(part)]
            start += len(octets)

    def frame(self, header: bytes) -> Frame:
        """Return the frame with this header: one for each who receives the content."""
        return Frame(header, tuple(self._octets[start:end] for start, end in pairwise(self._bounds)))
