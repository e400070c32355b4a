"""The root of every error that tacit raises, and the errors of bytes.

TacitError
├── SerializationError      a value cannot become a frame, or bytes are no frame
│   ├── EncodeError
│   └── DecodeError
├── ProtocolError           protocols/errors
├── ModelError, DataError   models/errors
├── RecordError             records/errors
└── ActorError              actors/errors
"""

from __future__ import annotations

from typing import Any


class TacitError(Exception):
    """The root of all errors of tacit; every one survives pickling with its fields."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[TacitError], args: tuple[Any, ...], fields: dict[str, Any]) -> TacitError:
    """Restore an error without calling its constructor, whose arguments are keywords."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class SerializationError(TacitError):
    """A value cannot become a frame, or bytes are no frame."""


class EncodeError(SerializationError):
    """A message holds a value that its declaration does not allow; nothing was sent."""


class DecodeError(SerializationError):
    """Bytes are not a well-formed frame of a known message within its size limits."""
