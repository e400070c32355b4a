"""Every protocol by the message that asks for it: adding a protocol is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..serialization.ring_paillier_messages import RingPaillierOptions
from ..serialization.schema import Message
from .errors import SetupError
from .protocol import Protocol
from .ring_paillier import RingPaillier

PROTOCOLS: Mapping[type[Message], Callable[[Any], Protocol[Any]]] = {
    RingPaillierOptions: RingPaillier.from_options,
}


def protocol_from(options: Message) -> Protocol[Any]:
    """The protocol that an invitation's options ask for.

    Raises
    ------
    SetupError
        If it is none that is installed here, or an option is out of its range.
    """
    make = PROTOCOLS.get(type(options))
    if make is None:
        raise SetupError("the invitation asks for a protocol that is not installed here")
    return make(options)
