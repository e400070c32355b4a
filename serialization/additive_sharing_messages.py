"""Messages of additive sharing to aggregators (protocols/additive_sharing).

    every holder → one aggregator           FullShare
    every aggregator → every other one      MissingShares
    every aggregator → coordinator          ShareSum, or TooFewShares

What an aggregator reads of a contribution is masked by the shares of the others, which they derive from the
session's keys; what the coordinator reads is a sum, masked likewise until the last one is there. Names of holders
whose share has not come are told to all aggregators and the coordinator.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from .field_types import AtMost, Between, Size
from .schema import Message, message


@message("AdditiveSharing", version=1)
class AdditiveSharingOptions(Message):
    """What a user chooses of the protocol; part of every invitation."""

    aggregators: Annotated[int, Between(2, 100)]
    colluding: int  # n_C, the holders that may pool with the coordinator
    at_most: Annotated[int, Between(3, 2**32 - 1)] | None = (
        None  # holders; None: the coordinator knows how many
    )


@message("AggregationParameters", version=1)
class AggregationParameters(Message):
    """What the coordinator fixes for a sum."""

    needed: Annotated[int, Between(1, 2**32 - 1)]  # holders: with fewer in the sum, no aggregator answers


@message("FullShare", version=1)
class FullShare(Message):
    """A holder's contribution minus the shares of all aggregators but one."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    flag: NDArray[np.uint64]  # of the flag: zero if the contribution is in range
    vectors: tuple[NDArray[Any], ...]  # words of 32 or 64 bits, or rows of limbs


@message("MissingShares", version=1)
class MissingShares(Message):
    """An aggregator's signed word whose full shares, of those that were to come to it, have not come."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    aggregator: Annotated[str, AtMost(100)]
    missing: tuple[Annotated[str, AtMost(100)], ...]  # in roster order
    signature: Annotated[bytes, Size(64)]


@message("ShareSum", version=1)
class ShareSum(Message):
    """The sum of an aggregator's shares over the holders that nobody misses."""

    session: Annotated[bytes, Size(32)]
    statements: tuple[MissingShares, ...]  # of all aggregators, in roster order: what it has gone by
    flag: NDArray[np.uint64]
    vectors: tuple[NDArray[Any], ...]


@message("TooFewShares", version=1)
class TooFewShares(Message):
    """The answer of an aggregator that gives no sum, because it would be over too few holders."""

    session: Annotated[bytes, Size(32)]
    statements: tuple[MissingShares, ...]  # of all aggregators, in roster order
