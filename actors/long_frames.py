"""Frames with large arrays: sealed a piece at a time, as they leave, and put together where they arrive.

However long a frame is, and however many receive it, no more of it than a piece for each lies sealed at its sender.
What a piece is under is one AES-256-GCM of its whole buffer, as of any other frame: whoever receives a long frame opens
it as if it had come at once. A piece that is sent again is the same bytes; none is ever sealed a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM
from numpy.typing import NDArray

from ..protocols.errors import MisuseError
from ..protocols.secret import Secret
from ..serialization.codec import Frame

SLICE_BYTES = 2**16
TAG_BYTES = 16


class LongFrame(Secret):
    """A frame whose buffers are sealed as they leave: *never sent itself*, it holds a key.

    Attributes
    ----------
    header : bytes
        As of the frame.
    sizes : tuple of int
        Bytes of each buffer.

    Parameters
    ----------
    header : bytes
    key : bytes
        Of this direction: 32 bytes.
    about : bytes
        What every seal covers besides the content.
    buffers : sequence of (bytes, ndarray of uint8)
        The nonce and the content of each; **nobody may write to them** until the frame has left.
    """

    def __init__(
        self, header: bytes, key: bytes, about: bytes, buffers: Sequence[tuple[bytes, NDArray[np.uint8]]]
    ) -> None:
        self.header = header
        self.sizes = tuple(content.nbytes + TAG_BYTES for _, content in buffers)
        self._key = key
        self._about = about
        self._buffers = list(buffers)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.header) + sum(self.sizes)

    def slices(self) -> Iterator[NDArray[np.uint8]]:
        """Seal the buffers, one after the other, each slice of 64 KiB when it is asked for; **call once**.

        The tag of a buffer is at the end of its last slice.

        Raises
        ------
        MisuseError
            On a second call: what has changed meanwhile would be under the same nonce.
        """
        if len(self._buffers) < len(self.sizes):
            raise MisuseError("a long frame is sealed once")
        while self._buffers:
            nonce, content = self._buffers.pop(0)
            encryptor = Cipher(AES256(self._key), GCM(nonce)).encryptor()
            encryptor.authenticate_additional_data(self._about)
            for start in range(0, max(content.nbytes, 1), SLICE_BYTES):
                sealed = encryptor.update(content[start : start + SLICE_BYTES].data)
                if start + SLICE_BYTES >= content.nbytes:
                    sealed += encryptor.finalize() + encryptor.tag
                yield np.frombuffer(sealed, dtype=np.uint8)

    def whole(self) -> Frame:
        """Seal it all at once; as of `slices`."""
        arriving = Arriving(self.sizes)
        arriving.take(0, self.slices())
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

    def take(self, start: int, slices: Iterable[NDArray[np.uint8]]) -> None:
        """Put slices that follow one another where they belong; again, if they come again.

        What is missing, or lies elsewhere, is found out when the seal is opened.
        """
        for octets in slices:
            part = self._octets[start : start + len(octets)]
            part[:] = octets[: len(part)]
            start += len(octets)

    def frame(self, header: bytes) -> Frame:
        """Return the frame."""
        return Frame(header, tuple(self._octets[start:end] for start, end in pairwise(self._bounds)))
