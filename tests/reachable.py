"""What an object holds on to: all that can be reached from it, but for code."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any


def reachable(root: Any) -> Iterator[Any]:
    """Yield everything that `root` holds on to, each once."""
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        found = waiting.pop()
        if id(found) not in seen and not isinstance(found, type | ModuleType | FunctionType):
            seen[id(found)] = found
            waiting += gc.get_referents(found)
            waiting += (
                found if isinstance(found, dict) else ()
            )  # whose keys the collector passes over if all are texts
            yield found


def holds_text(root: Any, text: str) -> bool:
    """Whether a text is part of something that `root` holds on to."""
    return any(
        text in found if isinstance(found, str) else text.encode() in bytes(found)
        for found in reachable(root)
        if isinstance(found, str | bytes | bytearray)
    )
