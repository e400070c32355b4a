"""The one message of the links: another message's frame, sealed from end to end.

Who carries it (the relaying coordinator, the object store, the network) learns names, sizes and times. All
fields but `body` and `buffers` are the associated data of the seal, so none can be changed.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from .field_types import AtMost, Between, Size
from .schema import Message, message


@message("Sealed", version=1)
class Sealed(Message):
    """A frame under AES-256-GCM."""

    session: Annotated[bytes, Size(32)]
    sender: Annotated[str, AtMost(100)]
    recipient: Annotated[str, AtMost(100)]
    handshake: bool  # sealed under the key of the first Noise message
    counter: Annotated[int, Between(0, 2**64 - 1)]  # the nonce; used once under a key
    ephemeral: Annotated[bytes, Size(32)]  # the sender's fresh X25519 key
    body: bytes  # the sealed header; with buffers, after their key and hash
    buffers: tuple[NDArray[np.uint8], ...]  # large arrays, under a key of their own
