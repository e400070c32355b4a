"""Messages of pairwise masking (protocols/pairwise_masking): all of them between a holder and the coordinator.

    once an epoch, more than 64 holders:
        holders → coordinator → holders     GraphCommitment, GraphCommitments, GraphSeed, GraphSeeds
    once an epoch:
        holders → coordinator → holders     DealtShares, ReceivedShares
    every sum:
        holders → coordinator               MaskedInput
        or, of a long one,
        holders → coordinator → holders     MaskedPart, PartWanted, as often as there are parts
        coordinator → holders               Survivors
        holders → coordinator → holders     SurvivorCodes, ForwardedCodes      against an active coordinator
        holders → coordinator               UnmaskingShares

What the coordinator reads here is masked, sealed for another holder, a commitment, or a share of which it needs
as many as the threshold. Matrices have one row a holder, in roster order.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from .field_types import AtMost, Between, OneOf, Size
from .schema import Message, message


@message("PairwiseMasking", version=1)
class PairwiseMaskingOptions(Message):
    """What a user chooses of the protocol; part of every invitation."""

    threshold: int | None  # shares that reconstruct; None follows from the number of holders
    neighbours: int | None  # with whom each holder masks; None follows from the number of holders
    epoch: Annotated[int, Between(1, 255)]  # sums for which one set-up is good
    active: bool  # whether holders make sure that all were told the same survivors
    mode: Annotated[str, OneOf("resilient", "direct")]
    colluding: int  # n_C, the holders that may pool with the coordinator


@message("MaskingParameters", version=1)
class MaskingParameters(Message):
    """What the coordinator fixes for a sum: which round of which epoch it is."""

    epoch: Annotated[bytes, Size(32)]  # the session that sets the epoch up; this one's own: a new epoch
    index: Annotated[int, Between(0, 254)]  # each is used once


@message("GraphCommitment", version=1)
class GraphCommitment(Message):
    """A holder's commitment to its part of the seed that places all holders in the graph."""

    session: Annotated[bytes, Size(32)]
    commitment: Annotated[bytes, Size(32)]


@message("GraphCommitments", version=1, public=True)
class GraphCommitments(Message):
    """All commitments, before anybody opens one."""

    session: Annotated[bytes, Size(32)]
    commitments: tuple[Annotated[bytes, Size(32)], ...]


@message("GraphSeed", version=1)
class GraphSeed(Message):
    """What a holder has committed itself to."""

    session: Annotated[bytes, Size(32)]
    seed: Annotated[bytes, Size(32)]


@message("GraphSeeds", version=1, public=True)
class GraphSeeds(Message):
    """All parts of the seed."""

    session: Annotated[bytes, Size(32)]
    seeds: tuple[Annotated[bytes, Size(32)], ...]


@message("DealtShares", version=1)
class DealtShares(Message):
    """A dealer's shares of its rounds' secrets, and its pairwise seeds under the keys that it shares."""

    session: Annotated[bytes, Size(32)]
    sealed: tuple[bytes, ...]  # for each neighbour: shares of (self seed, opening key) of every round
    locked_seeds: tuple[bytes, ...]  # C_u: for each round, the seeds of all pairs under the opening key
    seed_commitments: NDArray[np.uint8]  # (rounds, neighbours, 32): H(s_uv)
    self_commitments: NDArray[np.uint8]  # (rounds, 32): H(b_u)


@message("ReceivedShares", version=1)
class ReceivedShares(Message):
    """Who has dealt, and what a holder's neighbours have dealt it."""

    session: Annotated[bytes, Size(32)]
    dealers: tuple[Annotated[str, AtMost(100)], ...]  # U2
    sealed: tuple[bytes, ...]


@message("MaskedInput", version=1)
class MaskedInput(Message):
    """A holder's contribution under its masks."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    flag: NDArray[np.uint64]  # y_u of the flag: zero if the contribution is in range
    vectors: tuple[NDArray[Any], ...]  # y_u: words of 32 or 64 bits, or rows of limbs


@message("MaskedPart", version=1)
class MaskedPart(Message):
    """A part of a holder's contribution under its masks, if that is long."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    turn: Annotated[int, Between(0, 2**63 - 1)]  # parts sent so far, also those sent again
    part: Annotated[int, Between(0, 2**63 - 1)]
    vectors: tuple[NDArray[Any], ...]  # consecutive words of y_u, of the flag first


@message("PartWanted", version=1, public=True)
class PartWanted(Message):
    """From which part on the next few are to come: the first again if a holder was lost in the middle."""

    session: Annotated[bytes, Size(32)]
    turn: Annotated[int, Between(1, 2**63 - 1)]  # of the first of them
    part: Annotated[int, Between(0, 2**63 - 1)]


@message("Survivors", version=1, public=True)
class Survivors(Message):
    """Whose contributions are in the sum: those delivered in time."""

    session: Annotated[bytes, Size(32)]
    survivors: tuple[Annotated[str, AtMost(100)], ...]  # U3


@message("SurvivorCodes", version=1)
class SurvivorCodes(Message):
    """A holder's authentication codes of the survivors it was told, one for each of them."""

    session: Annotated[bytes, Size(32)]
    codes: NDArray[np.uint8]  # (survivors, 32); its own row is zero


@message("ForwardedCodes", version=1)
class ForwardedCodes(Message):
    """The codes that the survivors have made for one holder."""

    session: Annotated[bytes, Size(32)]
    codes: NDArray[np.uint8]  # (survivors, 32); zero where none came


@message("UnmaskingShares", version=1)
class UnmaskingShares(Message):
    """A holder's shares: of a survivor its self seed, of a lost dealer its opening key, never both."""

    session: Annotated[bytes, Size(32)]
    binding: Annotated[bytes, Size(32)]
    shares: NDArray[np.uint8]  # (dealers whose shares it keeps, 32)
