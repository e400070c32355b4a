"""Messages of secret sharing (protocols/secret_sharing): the coordinator relays what it cannot open.

    holders → coordinator                   SharedInput
    coordinator → share holders             IncludedShares
    share holders → coordinator             SummedShares

A share is sealed from its dealer to its share holder; the coordinator sees sizes, and sums of shares, of which it
needs as many as the threshold.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from .field_types import AtMost, Size
from .schema import Message, message


@message("SecretSharing", version=1)
class SecretSharingOptions(Message):
    """What a user chooses of the protocol; part of every invitation."""

    threshold: int | None  # shares that reconstruct; None follows from the number of share holders
    share_holders: tuple[Annotated[str, AtMost(100)], ...] | None  # None: all holders
    packing: int | None  # secrets a polynomial; None follows from the threshold
    robust: bool  # whether wrong sums of shares are found out and corrected
    colluding: int  # n_C, the share holders that may pool with the coordinator


@message("SharingParameters", version=1)
class SharingParameters(Message):
    """What the coordinator fixes for a sum: how many shares reconstruct."""

    threshold: int


@message("SharedInput", version=1)
class SharedInput(Message):
    """A dealer's shares of its contribution, each sealed for one share holder."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    sealed: tuple[NDArray[np.uint8], ...]  # for each share holder present but the dealer itself


@message("IncludedShares", version=1)
class IncludedShares(Message):
    """Whose contributions are in the sum, and their shares for one share holder."""

    session: Annotated[bytes, Size(32)]
    included: tuple[Annotated[str, AtMost(100)], ...]  # I
    sealed: tuple[NDArray[np.uint8], ...]  # of each dealer included but the share holder itself


@message("SummedShares", version=1)
class SummedShares(Message):
    """The sum of a share holder's shares over the included set."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    totals: tuple[NDArray[np.uint64], ...]  # (moduli, columns) for each group of arrays
