"""Messages of sums whose coordinator is kept from knowing how many holders there are (protocols/convening).

    coordinator → convener                          Invitation to a Commission
    convener → holders, other aggregators           Invitation to what was Commissioned
    convener → coordinator                          Convened
    every aggregator → coordinator                  ConvenedSum

The convener is the first aggregator. What the coordinator reads has the same size, and comes in as many frames,
whatever the number of holders; a roster or a set of holders is told to it as a salted hash only.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from .additive_sharing_messages import AdditiveSharingOptions
from .field_types import Between, Size
from .schema import Message, message
from .session_messages import ArraySpecification, Invitation


@message("Commission", version=1)
class Commission(Message):
    """What the coordinator asks of the aggregators, as the protocol of its invitation."""

    options: AdditiveSharingOptions
    commitment: Annotated[bytes, Size(32)]  # to the roster of all holders, as the study has pinned it
    everybody: bool  # a sum over all holders, or none


@message("Commissioned", version=1)
class Commissioned(Message):
    """The coordinator's own word, as the protocol of the convener's invitation."""

    invitation: Invitation  # the coordinator's, signed
    salt: Annotated[bytes, Size(32)]  # opens the commitment; the coordinator does not know it


@message("Convened", version=1)
class Convened(Message):
    """The word to the coordinator that a session has begun, over arrays of which shapes."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]  # of the holders' session
    arrays: tuple[ArraySpecification, ...]


@message("ConvenedSum", version=1)
class ConvenedSum(Message):
    """The sum of an aggregator's shares, over holders of whom it tells nothing but that they are enough."""

    session: Annotated[bytes, Size(32)]
    convened: Annotated[bytes, Size(32)]  # digest of the Convened that it would have sent itself
    included: Annotated[bytes, Size(32)]  # salted hash of those in the sum
    at_least: Annotated[int, Between(1, 2**32 - 1)]  # so many are: the minimum, never their number
    flag: NDArray[np.uint64]
    vectors: tuple[NDArray[Any], ...]  # words of 32 or 64 bits, or rows of limbs
