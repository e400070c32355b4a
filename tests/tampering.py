"""Messages altered on their way, for the tests of every protocol under faults."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from tacit.protocols.simulation import Sent
from tacit.serialization.codec import Frame, encode
from tacit.serialization.encoding_parameters import FixedPoint
from tacit.serialization.errors import TacitError
from tacit.serialization.schema import Message

Change = Callable[[Sent], Message | Frame | None]


def altering(index: int, change: Change) -> dict[str, Any]:
    return {"tamper": lambda sent: change(sent) if sent.index == index else sent.message}


def flipped(sent: Sent, place: random.Random) -> Frame:
    """The message's frame with one bit of it changed."""
    frame = encode(sent.message)
    octets = bytearray(frame.header)
    bit = place.randrange(8 * len(octets))
    octets[bit // 8] ^= 1 << bit % 8
    return Frame(bytes(octets), frame.buffers)


def mutations(value: Any, dtypes: Collection[Any] = (np.uint8,)) -> Iterator[Any]:
    """Values a little different from one of a message's fields, or from arrays of these types in it."""
    match value:
        case Message():
            for entry in value.message_fields:
                for changed in mutations(getattr(value, entry.name), dtypes):
                    try:
                        yield dataclasses.replace(value, **{entry.name: changed})  # type: ignore[type-var]
                    except TacitError:
                        continue  # the declaration does not allow it: it could not arrive
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1)
        case bytes():
            yield bytes([*value[:-1], value[-1] ^ 1]) if value else b"\0"
        case str():
            yield from (value + "x", "")
        case np.ndarray() if value.size and value.dtype in dtypes:
            changed = value.copy()
            changed.flat[-1] ^= 1
            yield from (changed, value[:0], np.concatenate([value, value]), value[None])
        case tuple() if value:
            yield from (value[:-1], (*value, value[0]), *([value[::-1]] if len(value) > 1 else []))
            yield from ((changed, *value[1:]) for changed in mutations(value[0], dtypes))
        case None:
            yield FixedPoint(10.0)
