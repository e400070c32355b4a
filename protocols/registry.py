"""Every protocol by the message that asks for it: adding a protocol is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..serialization.additive_sharing_messages import AdditiveSharingOptions
from ..serialization.convening_messages import Commission, Commissioned
from ..serialization.pairwise_masking_messages import PairwiseMaskingOptions
from ..serialization.ring_paillier_messages import RingPaillierOptions
from ..serialization.schema import Message
from ..serialization.secret_sharing_messages import SecretSharingOptions
from .additive_sharing import AdditiveSharing
from .convening_steps import options_of
from .errors import SetupError
from .pairwise_masking import PairwiseMasking
from .protocol import Protocol
from .ring_paillier import RingPaillier
from .secret_sharing import SecretSharing

PROTOCOLS: Mapping[type[Message], Callable[[Any], Protocol[Any]]] = {
    RingPaillierOptions: RingPaillier.from_options,
    PairwiseMaskingOptions: PairwiseMasking.from_options,
    SecretSharingOptions: SecretSharing.from_options,
    AdditiveSharingOptions: AdditiveSharing.from_options,
}


def protocol_from(options: Message) -> Protocol[Any]:
    """The protocol that an invitation's options ask for.

    Raises
    ------
    SetupError
        If it is none that is installed here, or an option is out of its range.
    """
    if isinstance(options, Commission | Commissioned):
        options = options_of(options)
    make = PROTOCOLS.get(type(options))
    if make is None:
        raise SetupError("the invitation asks for a protocol that is not installed here")
    return make(options)
