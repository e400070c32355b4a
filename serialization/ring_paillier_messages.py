"""Messages of ring-Paillier (protocols/ring_paillier): one partial sum goes round the ring of holders.

    coordinator → h₁ → h₂ → … → h_m → coordinator       PartialSum

Every hop carries Paillier ciphertexts under the coordinator's key, so whoever holds that key must not see a
frame between two holders: the links seal it. With masks, what the coordinator could decrypt there is uniform.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from .field_types import Between, Size
from .schema import Message, message


@message("RingPaillier", version=1)
class RingPaillierOptions(Message):
    """What a user chooses of the protocol; part of every invitation."""

    key_bits: int
    masks: bool  # pairwise masks in the ring: an input is safe unless coordinator and all other holders pool
    noise: str
    fresh_keys: bool
    colluding: int  # n_C, the holders that may pool with the coordinator


@message("RingParameters", version=1)
class RingParameters(Message):
    """What the coordinator fixes for a pass: its public keys."""

    moduli: tuple[int, ...]  # n of each key, one for every residue


@message("PartialSum", version=1)
class PartialSum(Message):
    """The sum of the contributions so far, encrypted."""

    session: Annotated[bytes, Size(32)]
    hop: Annotated[int, Between(0, 2**32 - 1)]  # 0 from the coordinator, i from the i-th holder
    binding: Annotated[bytes, Size(32)]  # H(query ‖ model ‖ encoding ‖ roster ‖ session ‖ fresh keys)
    key_id: Annotated[bytes, Size(32)]
    ciphertexts: NDArray[np.uint8]  # c, (ciphertexts, bytes of n²), big endian
