"""Messages: frozen values, declared field by field, that check themselves when they are made.

What crosses between parties is one of the classes declared here and nothing else, so this is the place that
decides what can leave a party at all: no objects, no code, no lists, no value whose type is not declared. A
message is checked when it is constructed, at the sender and again at the receiver (the codec constructs it),
so a role never meets a malformed one. What a field means is for the protocol to check.

    @message("Ready", version=1)
    class Ready(Message):
        session: Annotated[bytes, Size(32)]
        arrays: tuple[ArraySpecification, ...]
        masked: NDArray[np.uint64]  # y_u

Fields may be

* ``bool``, ``int`` (signed, to 64 KiB), ``float``, ``str``, ``bytes``: no subclasses, no numpy scalars;
* ``NDArray[np.float64]`` and so on, or ``NDArray[Any]``: bool, integers, float32, float64; little endian;
* ``tuple[X, ...]``, ``tuple[X, Y]``, ``Mapping[str, X]``, ``X | None``;
* a message class, a union of message classes, or `Message` itself for any registered one;
* ``Annotated[...]`` of these with `Size`, `AtMost`, `Between` or `OneOf`.

A new field is a new version: declare another class under the next number and keep the old one for old frames.
Errors and representations name messages, fields, types and sizes, never values: a message may hold a holder's
contribution.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NewType,
    Protocol,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from .errors import EncodeError

MAX_DIMENSIONS = 8
MAX_INTEGER_BYTES = 65_536
DTYPES = frozenset(("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f4", "<f8"))

M = TypeVar("M", bound="Message")


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
    """What a field may hold; the codec has one way to write and one to read each."""

    def check(self, value: Any, where: str) -> Any:
        """Return the value as the message keeps it, or raise EncodeError that names the field `where`."""


def _mismatch(where: str, expected: str, value: object) -> EncodeError:
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
            raise _mismatch(where, self.type.__name__, value)
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
            raise _mismatch(where, "a numpy array", value)
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
            raise _mismatch(where, "a tuple", value)
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
            raise _mismatch(where, f"a tuple of {len(self.items)}", value)
        return tuple([kind.check(item, where) for kind, item in zip(self.items, value, strict=True)])


@dataclass(frozen=True, slots=True)
class MappingType:
    """Values under names, kept as a read-only mapping sorted by name."""

    item: FieldType
    limits: tuple[Limit, ...] = ()

    def check(self, value: Any, where: str) -> Any:
        """See FieldType. Sorted, so that equal mappings are equal bytes and both ends see one order."""
        if not isinstance(value, Mapping):
            raise _mismatch(where, "a mapping", value)
        for limit in self.limits:
            limit.check(value, where)
        for name in value:
            _SCALARS[str].check(name, f"a name in {where}")
        check = self.item.check
        return MappingProxyType({name: check(value[name], where) for name in sorted(value)})


@dataclass(frozen=True, slots=True)
class MessageType:
    """A message of one of some classes; of any registered class if none is named."""

    classes: tuple[type[Message], ...]

    def check(self, value: Any, where: str) -> Any:
        """See FieldType."""
        if not self.accepts(type(value)):
            allowed = " or ".join(accepted.__name__ for accepted in self.classes) or "a registered message"
            raise _mismatch(where, allowed, value)
        return value

    def accepts(self, candidate: type) -> bool:
        """Whether messages of a class may stand here."""
        return candidate in self.classes if self.classes else is_registered(candidate)


_SCALARS: dict[Any, ScalarType] = {
    bool: ScalarType(bool),
    float: ScalarType(float),
    int: ScalarType(int, (_BoundedInteger(),)),
    str: ScalarType(str, (_Unicode(),)),
    bytes: ScalarType(bytes),
}


# ── messages ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field of a message.

    Attributes
    ----------
    name : str
        Its name in the class.
    where : str
        What errors call it: ``Ready.session``.
    type : FieldType
        What it may hold.
    """

    name: str
    where: str
    type: FieldType


class Message:
    """What may leave a party. Derive from this class directly and decorate with `message`.

    Messages are equal if they are of one class and their fields are the same bit for bit (arrays: dtype,
    shape and bytes; a NaN equals itself, −0.0 is not 0.0). They have no hash: see `codec.digest`.

    Attributes
    ----------
    message_name : str
        The name on the wire.
    message_version : int
        The version on the wire, from 1.
    message_fields : tuple of Field
        The fields, in the order of the wire.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    message_name: ClassVar[str]
    message_version: ClassVar[int]
    message_fields: ClassVar[tuple[Field, ...]]

    def __init_subclass__(cls) -> None:
        if any(is_registered(base) for base in cls.__mro__):
            raise TypeError(f"{cls.__name__} must derive from Message itself, not from another message")

    def __post_init__(self) -> None:
        for entry in self.message_fields:
            value = getattr(self, entry.name)
            checked = entry.type.check(value, entry.where)
            if checked is not value:
                object.__setattr__(self, entry.name, checked)

    def __eq__(self, other: object) -> bool:
        return _same(self, other) if isinstance(other, Message) else NotImplemented

    def __repr__(self) -> str:
        shown = (f"{name}={_described(value)}" for name, value in _values(self).items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {name: _thawed(value) for name, value in _values(self).items()})


_registry: dict[tuple[str, int], type[Message]] = {}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(name: str, version: int) -> Callable[[type[M]], type[M]]:
    """Make a class derived from `Message` a frozen, slotted, checked and registered dataclass.

    Parameters
    ----------
    name : str
        Its name on the wire; the class may be renamed, this may not.
    version : int
        Its version on the wire, from 1; to change a field, declare another class with the next version.

    Returns
    -------
    callable
        The decorator. Fields may have dataclass defaults. A ``__post_init__`` of the class runs after the
        fields have been checked; it raises EncodeError, without values, for what the class does not allow.

    Raises
    ------
    TypeError
        While the module is imported: a field of an unknown type, or a name and version that are taken.
    """

    def declare(declared: type[M]) -> type[M]:
        if Message not in declared.__bases__:
            raise TypeError(f"{declared.__name__} must derive from Message")
        if not (name.isascii() and 0 < len(name) <= 100 and type(version) is int and version > 0):
            raise TypeError(f"{declared.__name__} needs an ASCII name and a version from 1")
        if (name, version) in _registry:
            raise TypeError(f"version {version} of message {name} is declared twice")
        own = declared.__dict__.get("__post_init__")
        if own is not None:
            setattr(declared, "__post_init__", _checked_before(own))  # noqa: B010
        finished = dataclass(frozen=True, slots=True, eq=False, repr=False)(declared)
        finished.message_name, finished.message_version = name, version
        finished.message_fields = _declared_fields(finished)
        _registry[name, version] = finished
        return finished

    return declare


def registered_messages() -> Mapping[tuple[str, int], type[Message]]:
    """All declared messages by name and version, as far as their modules are imported."""
    return MappingProxyType(_registry)


def is_registered(candidate: type) -> bool:
    """Whether a class is a declared message."""
    return "message_fields" in candidate.__dict__


def as_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """View the memory of a contiguous array as flat bytes, without a copy."""
    return array.reshape(-1).view(np.uint8)


def _checked_before(own: Callable[[Any], None]) -> Callable[[Any], None]:
    def __post_init__(self: Any) -> None:  # noqa: N807
        Message.__post_init__(self)
        own(self)

    return __post_init__


def _values(self: Message) -> dict[str, Any]:
    return {entry.name: getattr(self, entry.name) for entry in self.message_fields}


def _same(left: Any, right: Any) -> bool:
    """Compare two field values bit for bit."""
    if type(left) is not type(right):
        return False
    match left:
        case Message():
            same = _same(tuple(_values(left).values()), tuple(_values(right).values()))
        case np.ndarray():
            same = left.dtype.str == right.dtype.str and left.shape == right.shape
            same = same and np.array_equal(as_bytes(left), as_bytes(right))
        case float():
            same = struct.pack("<d", left) == struct.pack("<d", right)
        case tuple():
            same = len(left) == len(right) and all(map(_same, left, right))
        case Mapping():
            same = left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
        case _:
            same = left == right
    return bool(same)


def _described(value: Any) -> str:
    """Tell type and size of a field value, never the value."""
    match value:
        case None:
            return "None"
        case str():
            return f"<{len(value)} characters>"
        case bytes():
            return f"<{len(value)} bytes>"
        case tuple() | Mapping():
            return f"<{len(value)} items>"
        case np.ndarray():
            return f"<{value.dtype.name} {value.shape}>"
    return f"<{type(value).__name__}>"


def _thawed(value: Any) -> Any:
    """Replace read-only mappings, which cannot be pickled, by dictionaries."""
    if isinstance(value, MappingProxyType):
        return {name: _thawed(item) for name, item in value.items()}
    return tuple(map(_thawed, value)) if isinstance(value, tuple) else value


def _rebuild(declared: type[M], values: dict[str, Any]) -> M:
    """Construct a message again, checked, for copy and pickle."""
    return declared(**values)


# ── from annotations to field types, once per class ────────────────────────────────────────────────


def _declared_fields(declared: type[Message]) -> tuple[Field, ...]:
    hints = get_type_hints(declared, include_extras=True)
    names = [entry.name for entry in fields(declared)]  # type: ignore[arg-type]
    if any(name.startswith(("message_", "_")) for name in names):
        raise TypeError(f"{declared.__name__}: names of fields may not begin with message_ or _")
    return tuple(Field(name, f"{declared.__name__}.{name}", _field_type(hints[name])) for name in names)


def _field_type(annotation: Any) -> FieldType:
    """Translate an annotation; TypeError for one that no message may have."""
    limits: tuple[Any, ...] = ()
    while get_origin(annotation) is Annotated or isinstance(annotation, NewType):
        if isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        else:
            annotation, *more = get_args(annotation)
            limits += tuple(more)
    kind = _unlimited(annotation)
    for limit in limits:
        kind = _limited(kind, limit)
    return kind


def _unlimited(annotation: Any) -> FieldType:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None and annotation in _SCALARS:
        return _SCALARS[annotation]
    if origin is None and isinstance(annotation, type) and issubclass(annotation, Message):
        return _message_type((annotation,))
    if origin in (Union, UnionType):
        return _union_type(arguments)
    if origin is np.ndarray:
        return _array_type(get_args(arguments[1])[0])
    if origin in (tuple, Mapping):
        return _container_type(origin, arguments)
    raise TypeError(f"{annotation!r} is no type for a field of a message")


def _container_type(origin: Any, arguments: tuple[Any, ...]) -> FieldType:
    match origin, arguments:
        case _, (item, last) if origin is tuple and last is Ellipsis:
            return TupleType(_field_type(item))
        case _, (_, *_) if origin is tuple:
            return RecordType(tuple(_field_type(argument) for argument in arguments))
        case _, (key, item) if origin is Mapping and key is str:
            return MappingType(_field_type(item))
    raise TypeError(f"{origin!r} of {arguments!r} is no type for a field of a message")


def _array_type(scalar: Any) -> ArrayType:
    if scalar is Any:
        return ArrayType(DTYPES)
    for dtype in map(np.dtype, DTYPES):
        if scalar is dtype.type:
            return ArrayType(frozenset({dtype.str}))
    raise TypeError(f"{scalar!r} is no dtype for an array of a message")


def _union_type(alternatives: tuple[Any, ...]) -> FieldType:
    """Translate X | None, or a union of message classes."""
    present = tuple(item for item in alternatives if item is not NoneType)
    if len(present) == 1:
        return OptionalType(_field_type(present[0]))
    if not all(isinstance(item, type) and issubclass(item, Message) for item in present):
        raise TypeError("a field of a message may be a union of messages, or X | None, and no other union")
    kind = _message_type(present)
    return kind if len(present) == len(alternatives) else OptionalType(kind)


def _message_type(classes: tuple[type[Message], ...]) -> MessageType:
    if classes == (Message,):
        return MessageType(())
    if not all(is_registered(nested) for nested in classes):
        raise TypeError(f"{classes!r}: a nested message must be declared before the message that holds it")
    return MessageType(classes)


def _limited(kind: FieldType, limit: Any) -> FieldType:
    """Put a limit on a field type; TypeError where it has no meaning."""
    if isinstance(kind, ScalarType) and type(limit) in _LIMITS_OF.get(kind.type, ()):
        return replace(kind, limits=(*kind.limits, limit))
    if isinstance(kind, TupleType | MappingType) and isinstance(limit, Size | AtMost):
        return replace(kind, limits=(*kind.limits, limit))
    raise TypeError(f"{limit!r} limits nothing in {kind!r}")
