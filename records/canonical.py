"""The one byte string of a record: JSON with sorted keys, no blanks, ASCII, floats as their shortest decimals.

A file that is not the canonical form of what it says has been changed by somebody, even if it says the same:
`parse` refuses it. JSON has no NaN and no infinities; here they are ``{"$float": "nan"}``, and a mapping of whose
keys one begins with ``$`` is ``{"$mapping": [[key, value], …]}``. Floats come back with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from .errors import RecordError


def canonical(value: Any) -> bytes:
    """Return the canonical form of texts, numbers, booleans, None, and lists and mappings of them.

    Raises
    ------
    RecordError
        If JSON cannot carry the value exactly.
    """
    try:
        return _encoded(_escaped(value))
    except (TypeError, ValueError, RecursionError):
        raise RecordError("a record holds what JSON cannot carry exactly") from None


def parse(octets: bytes, what: str) -> Any:
    """Return the value of a canonical form.

    Parameters
    ----------
    octets : bytes
    what : str
        Where they come from, for the error.

    Raises
    ------
    RecordError
        If these are not the bytes of any value.
    """
    try:
        value = json.loads(octets)
        if _encoded(value) == octets:
            return _restored(value)
    except (ValueError, TypeError, RecursionError):
        pass
    raise RecordError(f"{what} is damaged: it is no canonical JSON")


def parse_mapping(octets: bytes, what: str) -> dict[str, Any]:
    """Return the mapping of a canonical form, as `parse` does."""
    value = parse(octets, what)
    if not isinstance(value, dict):
        raise RecordError(f"{what} is damaged: it holds no record")
    return value


def sha256(octets: bytes) -> str:
    """Return the SHA-256 as 64 hexadecimal digits: the address of an object."""
    return hashlib.sha256(octets).hexdigest()


def _encoded(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _escaped(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("JSON turns keys into texts")
        items = {key: _escaped(item) for key, item in value.items()}
        if any(key.startswith("$") for key in items):
            return {"$mapping": [[key, items[key]] for key in sorted(items)]}
        return items
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        if value.keys() == {"$mapping"}:
            return {key: _restored(item) for key, item in value["$mapping"]}
        return {key: _restored(item) for key, item in value.items()}
    return value
