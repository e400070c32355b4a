"""Sealed links: every frame between two parties is encrypted and authenticated end to end.

Follows the Noise pattern KK message by message, with `protocols.key_agreement` as the source of keys: the
first frame of a session is sealed under the coordinator's fresh key and both static keys (es, ss), every
other one under all four exchanges; AES-256-GCM, one key a direction, the counter as nonce, the header as
associated data. A retry resends identical bytes.

Who learns what: the relaying coordinator, the object store and the network see who sends how many bytes to
whom, and ciphertext. In ring-Paillier this is essential: the coordinator holds the Paillier key and must not
read a frame between two holders. An adversary that alters, injects or misroutes a frame is refused and
changes nothing.
"""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..protocols.errors import InvalidMessageError
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId
from ..protocols.secret import Secret
from ..serialization.codec import Frame, decode, encode
from ..serialization.errors import EncodeError
from ..serialization.link_messages import Sealed
from ..serialization.schema import Message
from .long_frames import TAG_BYTES, LongFrame

PURPOSE = "link"
LARGEST_BYTES = 2**31 - 1 - TAG_BYTES  # that a cipher takes at once


class Links(Secret):
    """One party's links in one session: *never sent*.

    Parameters
    ----------
    keys : SessionKeys
        The session's keys; the links note a peer's fresh key when its first frame has proven authentic.
    """

    def __init__(self, keys: SessionKeys) -> None:
        self._keys = keys
        self._ciphers: dict[tuple[PartyId, PartyId, bool], tuple[AESGCM, bytes]] = {}

    def seal(self, to: PartyId, message: Message) -> Frame:
        """Encrypt a message to one party; large arrays stay separate buffers.

        Raises
        ------
        EncodeError
            If the message cannot be a frame, or an array of it has 2 GiB or more, which no cipher takes at once.
        """
        return self._seal(to, message, encode(message))

    def seal_to_send(self, to: PartyId, message: Message) -> Frame | LongFrame:
        """Encrypt a message as `seal` does; large arrays only as they leave, piece by piece.

        Raises
        ------
        EncodeError
            As `seal` does.
        """
        inner = encode(message)
        if not inner.buffers:
            return self._seal(to, message, inner)
        if max(buffer.nbytes for buffer in inner.buffers) > LARGEST_BYTES:
            raise _too_large(message)
        keys, empty = self._keys, self._empty(to)
        about = _associated(empty, 1 + len(inner.buffers))
        cipher, key = self._cipher(keys.me, to, empty.handshake, keys.ephemeral)
        body = cipher.encrypt(_nonce(empty.counter, 0), inner.header, about)
        # The header tells how long the buffers are; memory that nobody touches is none.
        shut = tuple(np.empty(buffer.nbytes + TAG_BYTES, dtype=np.uint8) for buffer in inner.buffers)
        header = encode(dataclasses.replace(empty, body=body, buffers=shut)).header
        contents = [(_nonce(empty.counter, place), part) for place, part in enumerate(inner.buffers, start=1)]
        return LongFrame(header, key, about, contents)

    def _empty(self, to: PartyId) -> Sealed:
        """Return what comes around the next frame to a party."""
        keys = self._keys
        return Sealed(
            session=keys.session,
            sender=keys.me,
            recipient=to,
            handshake=not keys.knows(to),
            counter=keys.take_counter(to),
            ephemeral=keys.ephemeral,
            body=b"",
            buffers=(),
        )

    def _seal(self, to: PartyId, message: Message, inner: Frame) -> Frame:
        keys, empty = self._keys, self._empty(to)
        parts: tuple[bytes | memoryview, ...] = (inner.header, *(buffer.data for buffer in inner.buffers))
        about = _associated(empty, len(parts))
        cipher, _ = self._cipher(keys.me, to, empty.handshake, keys.ephemeral)
        try:
            body, *buffers = (
                cipher.encrypt(_nonce(empty.counter, place), part, about) for place, part in enumerate(parts)
            )
        except OverflowError:
            raise _too_large(message) from None
        shut = tuple(np.frombuffer(buffer, dtype=np.uint8) for buffer in buffers)
        return encode(dataclasses.replace(empty, body=body, buffers=shut))

    def open(self, sealed: Sealed) -> Message:
        """Decrypt a frame that was sealed for this party in this session.

        Raises
        ------
        InvalidMessageError
            If it was not sealed by the sender it names, for this party and session.
        DecodeError
            If the sender sealed what is no message.
        """
        sender, me = PartyId(sealed.sender), self._keys.me
        if sender not in self._keys.roster or sender == me or sealed.recipient != me:
            raise InvalidMessageError("a frame from or for somebody else")
        if len(sealed.body) + sum(buffer.nbytes for buffer in sealed.buffers) > self._keys.frame_bytes:
            raise InvalidMessageError("a frame longer than any that this session needs", suspects=[sender])
        if any(buffer.ndim != 1 for buffer in sealed.buffers):
            raise InvalidMessageError("a frame whose sealed buffers are not flat", suspects=[sender])
        shut: tuple[bytes | memoryview, ...] = (sealed.body, *(buffer.data for buffer in sealed.buffers))
        about = _associated(sealed, len(shut))
        try:
            cipher, _ = self._cipher(sender, me, sealed.handshake, sealed.ephemeral)
            parts = [
                cipher.decrypt(_nonce(sealed.counter, place), part, about) for place, part in enumerate(shut)
            ]
        except (InvalidTag, OverflowError, struct.error):
            raise InvalidMessageError("a frame that its sender has not sealed", suspects=[sender]) from None
        self._keys.learn(sender, sealed.ephemeral)
        buffers = tuple(np.frombuffer(part, dtype=np.uint8) for part in parts[1:])
        return decode(Frame(parts[0], buffers))

    def _cipher(
        self, sender: PartyId, recipient: PartyId, opening: bool, ephemeral: bytes
    ) -> tuple[AESGCM, bytes]:
        """Return the cipher of one direction, and its key; kept once the peer's fresh key is known."""
        kept = self._ciphers.get((sender, recipient, opening))
        if kept is not None and self._is_known(sender, ephemeral):
            return kept
        if opening:
            key = self._keys.opening_key(sender, recipient, ephemeral, PURPOSE)
        elif sender == self._keys.me:
            key = self._keys.direction_key(sender, recipient, PURPOSE)
        else:
            key = self._keys.direction_key(sender, recipient, PURPOSE, ephemeral)
        made = AESGCM(key), key
        if self._is_known(sender, ephemeral):
            self._ciphers[sender, recipient, opening] = made
        return made

    def _is_known(self, sender: PartyId, ephemeral: bytes) -> bool:
        return sender == self._keys.me or self._keys.has_learned(sender, ephemeral)


def _too_large(message: Message) -> EncodeError:
    return EncodeError(f"a {type(message).__name__} has an array of 2 GiB or more")


def _associated(sealed: Sealed, n_parts: int) -> bytes:
    """Return what the seal covers besides the content: all other fields, and how many parts there are."""
    texts = sealed.session, sealed.ephemeral, sealed.sender.encode(), sealed.recipient.encode()
    numbers = struct.pack(">4IQ?I", *map(len, texts), sealed.counter, sealed.handshake, n_parts)
    return b"".join((b"tacit sealed 1", numbers, *texts))


def _nonce(counter: int, place: int) -> bytes:
    """96 bits, never used twice under one key: the frame's counter, and the part's place in it."""
    return struct.pack(">QI", counter, place)
