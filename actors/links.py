"""Sealed links: every frame between two parties is encrypted and authenticated end to end.

Follows the Noise pattern KK message by message, with `protocols.key_agreement` as the source of keys: the
first frame of a session is sealed under the coordinator's fresh key and both static keys (es, ss), every
other one under all four exchanges; AES-256-GCM, one key a direction, the counter as nonce, the header as
associated data. Large arrays are under a key of their own, which is sealed so, with their hash (`long_frames`). A retry
resends identical bytes.

Who learns what: the relaying coordinator, the object store and the network see who sends how many bytes to
whom, which of them are the same for several, and ciphertext. In ring-Paillier this is essential: the coordinator holds
the Paillier key and must not read a frame between two holders. An adversary that alters, injects or misroutes a frame
is refused and changes nothing, and so is a recipient that alters for another what both were sent.
"""

from __future__ import annotations

import dataclasses
import struct
from weakref import ref

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from ..protocols.errors import InvalidMessageError
from ..protocols.key_agreement import SessionKeys
from ..protocols.party import PartyId
from ..protocols.secret import Secret
from ..serialization.codec import Frame, decode, encode
from ..serialization.errors import EncodeError
from ..serialization.link_messages import Sealed
from ..serialization.schema import Message
from .long_frames import OPENING_BYTES, TAG_BYTES, Content, LongFrame, open_content

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
        self._ciphers: dict[tuple[PartyId, PartyId, bool], AESGCM] = {}
        # Of the last long frame; kept by whoever sends it, and no longer.
        self._last: tuple[ref[Message], ref[Content]] | None = None

    def seal(self, to: PartyId, message: Message) -> Frame:
        """Encrypt a message to one party; large arrays stay separate buffers.

        Raises
        ------
        EncodeError
            If the message cannot be a frame, or an array of it has 2 GiB or more, which no cipher takes at once.
        """
        frame = self.seal_to_send(to, message)
        return frame.whole() if isinstance(frame, LongFrame) else frame

    def seal_to_send(self, to: PartyId, message: Message) -> Frame | LongFrame:
        """Encrypt a message as `seal` does; large arrays only as they leave, piece by piece.

        The same message to several parties, one after the other, has the same content in all frames.

        Raises
        ------
        EncodeError
            As `seal` does.
        """
        inner, keys = encode(message), self._keys
        content = self._content_of(message, inner.buffers) if inner.buffers else None
        opening, sizes = (content.opening, content.sizes) if content else (b"", ())
        sealed = Sealed(
            session=keys.session,
            sender=keys.me,
            recipient=to,
            handshake=not keys.knows(to),
            counter=keys.take_counter(to),
            ephemeral=keys.ephemeral,
            body=b"",
            # The header tells how long the buffers are; memory that nobody touches is none.
            buffers=tuple(np.empty(size, dtype=np.uint8) for size in sizes),
        )
        cipher = self._cipher(keys.me, to, sealed.handshake, keys.ephemeral)
        try:
            body = cipher.encrypt(_nonce(sealed.counter), opening + inner.header, _associated(sealed))
        except OverflowError:
            raise _too_large(message) from None
        frame = encode(dataclasses.replace(sealed, body=body))
        return LongFrame(frame.header, content) if content else frame

    def _content_of(self, message: Message, buffers: tuple[NDArray[np.uint8], ...]) -> Content:
        """Return the large arrays of a message as a content: that of the last one, while it is the same."""
        last = self._last[1]() if self._last and self._last[0]() is message else None
        if last is not None:
            return last
        if max(buffer.nbytes for buffer in buffers) > LARGEST_BYTES:
            raise _too_large(message)
        about = _about_content(self._keys.session, self._keys.me, len(buffers))
        content = Content(self._keys.draw_key(), about, buffers)
        self._last = ref(message), ref(content)
        return content

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
        buffers: tuple[NDArray[np.uint8], ...] = ()
        try:
            cipher = self._cipher(sender, me, sealed.handshake, sealed.ephemeral)
            header = cipher.decrypt(_nonce(sealed.counter), sealed.body, _associated(sealed))
            if sealed.buffers:
                opening, header = header[:OPENING_BYTES], header[OPENING_BYTES:]
                about = _about_content(sealed.session, sender, len(sealed.buffers))
                buffers = open_content(opening, about, sealed.buffers)
        except (InvalidTag, OverflowError, struct.error):
            raise InvalidMessageError("a frame that its sender has not sealed", suspects=[sender]) from None
        self._keys.learn(sender, sealed.ephemeral)
        return decode(Frame(header, buffers))

    def _cipher(self, sender: PartyId, recipient: PartyId, opening: bool, ephemeral: bytes) -> AESGCM:
        """Return the cipher of one direction; kept once the peer's fresh key is known."""
        kept = self._ciphers.get((sender, recipient, opening))
        if kept is not None and self._is_known(sender, ephemeral):
            return kept
        if opening:
            key = self._keys.opening_key(sender, recipient, ephemeral, PURPOSE)
        elif sender == self._keys.me:
            key = self._keys.direction_key(sender, recipient, PURPOSE)
        else:
            key = self._keys.direction_key(sender, recipient, PURPOSE, ephemeral)
        made = AESGCM(key)
        if self._is_known(sender, ephemeral):
            self._ciphers[sender, recipient, opening] = made
        return made

    def _is_known(self, sender: PartyId, ephemeral: bytes) -> bool:
        return sender == self._keys.me or self._keys.has_learned(sender, ephemeral)


def _too_large(message: Message) -> EncodeError:
    return EncodeError(f"a {type(message).__name__} has an array of 2 GiB or more")


def _associated(sealed: Sealed) -> bytes:
    """Return what the seal covers besides the content: all other fields, and how many buffers there are."""
    texts = sealed.session, sealed.ephemeral, sealed.sender.encode(), sealed.recipient.encode()
    numbers = struct.pack(">4IQ?I", *map(len, texts), sealed.counter, sealed.handshake, len(sealed.buffers))
    return b"".join((b"tacit sealed 2", numbers, *texts))


def _about_content(session: bytes, sender: PartyId, n_buffers: int) -> bytes:
    """Return what the seal of large arrays covers besides them: no recipient, as there may be several."""
    texts = session, sender.encode()
    return b"".join((b"tacit content 1", struct.pack(">2II", *map(len, texts), n_buffers), *texts))


def _nonce(counter: int) -> bytes:
    """96 bits, never used twice under one key."""
    return struct.pack(">QI", counter, 0)
