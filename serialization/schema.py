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
* ``Annotated[...]`` of these with the limits of `field_types`: `Size`, `AtMost`, `Between` or `OneOf`.

A new field is a new version: declare another class under the next number and keep the old one for old frames.
Errors and representations name messages, fields, types and sizes, never values: a message may hold a holder's
contribution.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NewType,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from numpy.typing import NDArray

from .field_types import (
    DTYPES,
    SCALARS,
    ArrayType,
    FieldType,
    MappingType,
    OptionalType,
    RecordType,
    TupleType,
    as_bytes,
    limited,
    mismatch,
)

M = TypeVar("M", bound="Message")


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
    message_is_public : bool
        Whether everybody in a session is shown the same.
    """

    __slots__ = ("__weakref__",)
    __hash__ = None  # type: ignore[assignment]
    message_name: ClassVar[str]
    message_version: ClassVar[int]
    message_fields: ClassVar[tuple[Field, ...]]
    message_is_public: ClassVar[bool] = False

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
def message(name: str, version: int, *, public: bool = False) -> Callable[[type[M]], type[M]]:
    """Make a class derived from `Message` a frozen, slotted, checked and registered dataclass.

    Parameters
    ----------
    name : str
        Its name on the wire; the class may be renamed, this may not.
    version : int
        Its version on the wire, from 1; to change a field, declare another class with the next version.
    public : bool
        Whether everybody in a session is shown the same: then parties who share a process read it once.

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
        finished.message_is_public = public
        _registry[name, version] = finished
        return finished

    return declare


def registered_messages() -> Mapping[tuple[str, int], type[Message]]:
    """All declared messages by name and version, as far as their modules are imported."""
    return MappingProxyType(_registry)


def is_registered(candidate: type) -> bool:
    """Whether a class is a declared message."""
    return "message_fields" in candidate.__dict__


def _checked_before(own: Callable[[Any], None]) -> Callable[[Any], None]:
    def __post_init__(self: Any) -> None:  # noqa: N807
        Message.__post_init__(self)
        own(self)

    return __post_init__


def _values(self: Message) -> dict[str, Any]:
    return {entry.name: getattr(self, entry.name) for entry in self.message_fields}


def _same(left: Any, right: Any) -> bool:
    """Compare two field values bit for bit; what is one object is not walked."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    match left:
        case str() | bytes() | int():
            same = left == right
        case Message():
            names = (entry.name for entry in left.message_fields)
            same = all(_same(getattr(left, name), getattr(right, name)) for name in names)
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


# ── the type of a field that holds a message ───────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MessageType:
    """A message of one of some classes; of any registered class if none is named."""

    classes: tuple[type[Message], ...]

    def check(self, value: Any, where: str) -> Any:
        """See FieldType."""
        if not self.accepts(type(value)):
            allowed = " or ".join(accepted.__name__ for accepted in self.classes) or "a registered message"
            raise mismatch(where, allowed, value)
        return value

    def accepts(self, candidate: type) -> bool:
        """Whether messages of a class may stand here."""
        return candidate in self.classes if self.classes else is_registered(candidate)


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
        kind = limited(kind, limit)
    return kind


def _unlimited(annotation: Any) -> FieldType:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None and annotation in SCALARS:
        return SCALARS[annotation]
    if origin is None and isinstance(annotation, type) and issubclass(annotation, Message):
        return _message_type((annotation,))
    if origin in (Union, UnionType):
        return _union_type(arguments)
    if origin is np.ndarray:
        return _array_type(get_args(arguments[1])[0])
    if origin is NDArray:  # from Python 3.12 on numpy's alias stays an alias
        return _array_type(arguments[0])
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
