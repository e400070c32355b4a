"""What a field of a message may hold, and the limits that a declaration may put on it.

A value is of exactly the declared type (no subclasses, no numpy scalars), within the limits, and immutable as
far as Python allows: arrays are kept as read-only views, mappings as read-only and sorted. The check runs in
every party, at the sender and again at the receiver, so it relies on nothing that the other side did. Its
errors name the field, the type and the limit, never the value, which may be a holder's contribution.

Which annotation stands for which type is in `schema`, and so is the type of a nested message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from .errors import EncodeError

MAX_DIMENSIONS = 8
MAX_INTEGER_BYTES = 65_536
DTYPES = frozenset(("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f4", "<f8"))


# ── limits, put on a field with Annotated ──────────────────────────────────────────────────────────


class Limit(Protocol):
    """What a value of the right type must fulfil besides."""

    def check(self, value: Any, where: str) -> None:
        """Raise EncodeError, naming the field `where`, if the value does not fulfil it."""


@dataclass(frozen=True, slots=True)
class Size:
    """The exact length of bytes, a string (in code points), a tuple or a mapping."""

    length: int

    def check(self, value: Any, where: str) -> None:
        """See Limit."""
        if len(value) != self.length:
            raise EncodeError(f"{where} must have length {self.length}")


@dataclass(frozen=True, slots=True)
class AtMost:
    """The greatest length of bytes, a string (in code points), a tuple or a mapping."""

    length: int

    def check(self, value: Any, where: str) -> None:
        """See Limit."""
        if len(value) > self.length:
            raise EncodeError(f"{where} must have at most length {self.length}")


@dataclass(frozen=True, slots=True)
class Between:
    """The range of an integer, both ends included."""

    low: int
    high: int

    def check(self, value: Any, where: str) -> None:
        """See Limit."""
        if not self.low <= value <= self.high:
            raise EncodeError(f"{where} must be between {self.low} and {self.high}")


class OneOf:
    """The only values that a string may take."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def check(self, value: Any, where: str) -> None:
        """See Limit."""
        if value not in self.choices:
            raise EncodeError(f"{where} must be one of {', '.join(self.choices)}")


class _BoundedInteger:
    """Holds for every int field: its two's complement has at most 64 KiB."""

    def check(self, value: Any, where: str) -> None:
        if value.bit_length() >= 8 * MAX_INTEGER_BYTES:
            raise EncodeError(f"{where} must be an integer of at most {MAX_INTEGER_BYTES} bytes")


class _Unicode:
    """Holds for every str field: it has a UTF-8 form."""

    def check(self, value: Any, where: str) -> None:
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise EncodeError(f"{where} must be text without lone surrogates")


_LIMITS_OF: dict[type, tuple[type, ...]] = {
    int: (Between,),
    str: (Size, AtMost, OneOf),
    bytes: (Size, AtMost),
}


# ── field types: what a value must be ──────────────────────────────────────────────────────────────


class FieldType(Protocol):
    """What a field may hold; `forms` has one way to write and one to read each."""

    def check(self, value: Any, where: str) -> Any:
        """Return the value as the message keeps it, or raise EncodeError that names the field `where`."""


def mismatch(where: str, expected: str, value: object) -> EncodeError:
    """Say what a field must hold; of the value only its type is told."""
    return EncodeError(f"{where} must be {expected}, not {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class ScalarType:
    """A bool, int, float, str or bytes, of exactly that type."""

    type: type
    limits: tuple[Limit, ...] = ()

    def check(self, value: Any, where: str) -> Any:
        """See FieldType."""
        if type(value) is not self.type:
            raise mismatch(where, self.type.__name__, value)
        for limit in self.limits:
            limit.check(value, where)
        return value


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A numpy array of one of some dtypes, kept as a read-only contiguous view."""

    dtypes: frozenset[str]

    def check(self, value: Any, where: str) -> Any:
        """See FieldType; an array that is not contiguous is copied, any other is not."""
        if type(value) is not np.ndarray:
            raise mismatch(where, "a numpy array", value)
        if value.dtype.str not in self.dtypes:
            allowed = ", ".join(sorted(np.dtype(code).name for code in self.dtypes))
            raise EncodeError(f"{where} must be an array of {allowed}, not of {value.dtype.name}")
        if value.ndim > MAX_DIMENSIONS:
            raise EncodeError(f"{where} must have at most {MAX_DIMENSIONS} dimensions")
        view = value.view() if value.flags.c_contiguous else value.copy(order="C")
        view.setflags(write=False)
        # Any other byte in a bool array is undefined behaviour in numpy, and remote bytes come here unread.
        if view.dtype.kind == "b" and view.size and as_bytes(view).max() > 1:
            raise EncodeError(f"{where} must be an array of bool, each 0 or 1")
        return view


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value, or None."""

    item: FieldType

    def check(self, value: Any, where: str) -> Any:
        """See FieldType."""
        return None if value is None else self.item.check(value, where)


@dataclass(frozen=True, slots=True)
class TupleType:
    """A tuple of any number of values of one type."""

    item: FieldType
    limits: tuple[Limit, ...] = ()

    def check(self, value: Any, where: str) -> Any:
        """See FieldType."""
        if type(value) is not tuple:
            raise mismatch(where, "a tuple", value)
        for limit in self.limits:
            limit.check(value, where)
        check = self.item.check
        return tuple([check(item, where) for item in value])


@dataclass(frozen=True, slots=True)
class RecordType:
    """A tuple of a fixed number of values, each of its own type."""

    items: tuple[FieldType, ...]

    def check(self, value: Any, where: str) -> Any:
        """See FieldType."""
        if type(value) is not tuple or len(value) != len(self.items):
            raise mismatch(where, f"a tuple of {len(self.items)}", value)
        return tuple([kind.check(item, where) for kind, item in zip(self.items, value, strict=True)])


@dataclass(frozen=True, slots=True)
class MappingType:
    """Values under names, kept as a read-only mapping sorted by name."""

    item: FieldType
    limits: tuple[Limit, ...] = ()

    def check(self, value: Any, where: str) -> Any:
        """See FieldType. Sorted, so that equal mappings are equal bytes and both ends see one order."""
        if not isinstance(value, Mapping):
            raise mismatch(where, "a mapping", value)
        for limit in self.limits:
            limit.check(value, where)
        for name in value:
            SCALARS[str].check(name, f"a name in {where}")
        check = self.item.check
        return MappingProxyType({name: check(value[name], where) for name in sorted(value)})


SCALARS: dict[Any, ScalarType] = {
    bool: ScalarType(bool),
    float: ScalarType(float),
    int: ScalarType(int, (_BoundedInteger(),)),
    str: ScalarType(str, (_Unicode(),)),
    bytes: ScalarType(bytes),
}


def limited(kind: FieldType, limit: Any) -> FieldType:
    """Put a limit on a field type; TypeError where it has no meaning."""
    if isinstance(kind, ScalarType) and type(limit) in _LIMITS_OF.get(kind.type, ()):
        return replace(kind, limits=(*kind.limits, limit))
    if isinstance(kind, TupleType | MappingType) and isinstance(limit, Size | AtMost):
        return replace(kind, limits=(*kind.limits, limit))
    raise TypeError(f"{limit!r} limits nothing in {kind!r}")


def as_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """View the memory of a contiguous array as flat bytes, without a copy."""
    return array.reshape(-1).view(np.uint8)
