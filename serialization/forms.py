"""How a message and each type of its fields stands in a frame's header: one way to write, one to read.

A form is chosen by the declaration, never by the bytes, which may be an adversary's: it asks the reader for
what is declared, and whatever else is there ends in `DecodeError`, whose text holds no value. Whether what was
read is as declared (ranges, lengths, exact types) the message checks when it is constructed. The layout is in
`codec`, which also holds the two ends of the header, made of msgpack.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import DecodeError, EncodeError, TacitError
from .field_types import (
    DTYPES,
    MAX_DIMENSIONS,
    MAX_INTEGER_BYTES,
    ArrayType,
    FieldType,
    MappingType,
    OptionalType,
    RecordType,
    ScalarType,
    TupleType,
    as_bytes,
)
from .schema import Message, MessageType, registered_messages

BUFFER_BYTES = 1 << 16  # arrays from this size on travel beside the header
MAX_NESTED_MESSAGES = 16

_BIG_INTEGER, _INLINE_ARRAY, _BUFFERED_ARRAY = 1, 2, 3
_ARRAY_PREFIX = struct.Struct("<3sBI")  # 8 bytes, so that the items of an inline array are aligned
_DTYPES = {code.encode(): np.dtype(code) for code in DTYPES}
_NIL = 0xC0


# ── what a form needs of the header ────────────────────────────────────────────────────────────────


class Extension(NamedTuple):
    """What msgpack has no type for: bytes under a code."""

    code: int
    data: bytes


class Writer(Protocol):
    """A header under construction, and the buffers beside it."""

    buffers: list[NDArray[np.uint8]]
    depth: int

    def pack(self, value: Any, /) -> object:
        """Write None, a bool, an integer of up to 64 bits, a float, a string or bytes."""

    def pack_array(self, length: int, /) -> object:
        """Begin an array, whose items follow."""

    def pack_map(self, length: int, /) -> object:
        """Begin a map, whose names and items follow by turns."""

    def pack_extension(self, code: int, data: bytes, /) -> object:
        """Write an extension."""


class Reader(Protocol):
    """A header being read, type by declared type, and the buffers beside it."""

    header: bytes
    buffers: tuple[NDArray[np.uint8], ...]
    used: int
    depth: int

    def position(self) -> int:
        """How many bytes have been read."""

    def unpack(self) -> Any:
        """Read whatever comes next; only for what cannot be a container."""

    def scalar(self) -> Any:
        """Read anything but a container."""

    def read_array(self) -> int:
        """Read the beginning of an array: its length."""

    def read_map(self) -> int:
        """Read the beginning of a map: its length."""

    def items(self, length: int) -> range:
        """Count the items of a container, if so many can be there."""


# ── messages ───────────────────────────────────────────────────────────────────────────────────────


def write_entries(writer: Writer, message: Message) -> None:
    """Write name, version and fields into an array whose length has been written."""
    writer.depth += 1
    if writer.depth > MAX_NESTED_MESSAGES:
        raise EncodeError(f"messages are nested more than {MAX_NESTED_MESSAGES} deep")
    writer.pack(message.message_name)
    writer.pack(message.message_version)
    for name, form in _forms_of(type(message)):
        form.write(writer, getattr(message, name))
    writer.depth -= 1


def read_entries(reader: Reader, length: int, accepts: Callable[[type], bool]) -> Message:
    """Read name, version and fields of a message from an array whose length has been read."""
    reader.depth += 1
    if reader.depth > MAX_NESTED_MESSAGES:
        raise DecodeError(f"messages are nested more than {MAX_NESTED_MESSAGES} deep")
    declared = registered_messages().get((reader.scalar(), reader.scalar()))
    if declared is None or not accepts(declared):
        raise DecodeError("the frame has a message of an unknown or unexpected name or version")
    forms = _forms_of(declared)
    if length != len(forms) + 2:
        raise DecodeError(f"the frame has another number of fields than {declared.__name__}")
    values = {name: form.read(reader) for name, form in forms}
    reader.depth -= 1
    return _construct(declared, values)


def _construct(declared: type[Message], values: dict[str, Any]) -> Message:
    """Make a message, which checks its fields; the reason of a refusal may hold a value and stays here."""
    try:
        return declared(**values)
    except TacitError:
        raise DecodeError(f"the fields of {declared.__name__} are not as declared") from None


# ── the forms of the field types: whether what was read is as declared, the message checks ─────────


class _Form(Protocol):
    def write(self, writer: Writer, value: Any) -> None: ...
    def read(self, reader: Reader) -> Any: ...


class _Scalar:
    def write(self, writer: Writer, value: Any) -> None:
        writer.pack(value)

    def read(self, reader: Reader) -> Any:
        return reader.scalar()


class _Integer:
    def write(self, writer: Writer, value: int) -> None:
        if -(1 << 63) <= value < 1 << 64:
            writer.pack(value)
        else:
            length = (value if value >= 0 else ~value).bit_length() // 8 + 1  # one bit more, for the sign
            writer.pack_extension(_BIG_INTEGER, value.to_bytes(length, "big", signed=True))

    def read(self, reader: Reader) -> Any:
        value = reader.scalar()
        if type(value) is not Extension:
            return value
        if value.code != _BIG_INTEGER or len(value.data) > MAX_INTEGER_BYTES:
            raise DecodeError("the frame has no integer, or too long a one, where one is declared")
        return int.from_bytes(value.data, "big", signed=True)


class _Array:
    def write(self, writer: Writer, array: NDArray[Any]) -> None:
        buffered = array.nbytes >= BUFFER_BYTES
        number = len(writer.buffers) if buffered else 0
        described = _ARRAY_PREFIX.pack(array.dtype.str.encode(), array.ndim, number)
        described += struct.pack(f"<{array.ndim}Q", *array.shape)
        if buffered:
            writer.pack_extension(_BUFFERED_ARRAY, described)
            writer.buffers.append(as_bytes(array))
        else:
            writer.pack_extension(_INLINE_ARRAY, described + array.tobytes())

    def read(self, reader: Reader) -> NDArray[Any]:
        extension = reader.scalar()
        if type(extension) is not Extension or extension.code not in (_INLINE_ARRAY, _BUFFERED_ARRAY):
            raise DecodeError("the frame has no array where one is declared")
        dtype, shape, number, items = self._split(extension.data)
        if extension.code == _BUFFERED_ARRAY:
            if number != reader.used or number >= len(reader.buffers) or items.size:
                raise DecodeError("the frame does not use each of its buffers once, in order")
            items = reader.buffers[number]
            reader.used += 1
        if items.size != math.prod(shape) * dtype.itemsize:
            raise DecodeError("an array of the frame has more or fewer bytes than its shape")
        return items.view(dtype).reshape(shape)

    def _split(self, data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int, NDArray[np.uint8]]:
        """Split an array's extension into dtype, shape, number of the buffer and items."""
        if len(data) < _ARRAY_PREFIX.size:
            raise DecodeError("an array of the frame is cut short")
        name, dimensions, number = _ARRAY_PREFIX.unpack_from(data)
        start = _ARRAY_PREFIX.size + 8 * dimensions
        if name not in _DTYPES or dimensions > MAX_DIMENSIONS or len(data) < start:
            raise DecodeError("an array of the frame has an unknown dtype or an impossible shape")
        shape = struct.unpack_from(f"<{dimensions}Q", data, _ARRAY_PREFIX.size)
        return _DTYPES[name], shape, number, np.frombuffer(data, np.uint8)[start:]


class _Nested:
    def __init__(self, accepts: Callable[[type], bool]) -> None:
        self.accepts = accepts

    def write(self, writer: Writer, message: Message) -> None:
        writer.pack_array(len(message.message_fields) + 2)
        write_entries(writer, message)

    def read(self, reader: Reader) -> Message:
        return read_entries(reader, reader.read_array(), self.accepts)


class _Optional:
    def __init__(self, item: _Form) -> None:
        self.item = item

    def write(self, writer: Writer, value: Any) -> None:
        if value is None:
            writer.pack(None)
        else:
            self.item.write(writer, value)

    def read(self, reader: Reader) -> Any:
        return reader.unpack() if reader.header[reader.position()] == _NIL else self.item.read(reader)


class _Tuple:
    def __init__(self, item: _Form) -> None:
        self.item = item

    def write(self, writer: Writer, value: tuple[Any, ...]) -> None:
        writer.pack_array(len(value))
        for item in value:
            self.item.write(writer, item)

    def read(self, reader: Reader) -> tuple[Any, ...]:
        return tuple([self.item.read(reader) for _ in reader.items(reader.read_array())])


class _Record:
    def __init__(self, items: tuple[_Form, ...]) -> None:
        self.items = items

    def write(self, writer: Writer, value: tuple[Any, ...]) -> None:
        writer.pack_array(len(value))
        for form, item in zip(self.items, value, strict=True):
            form.write(writer, item)

    def read(self, reader: Reader) -> tuple[Any, ...]:
        if reader.read_array() != len(self.items):
            raise DecodeError("a tuple of the frame has another length than declared")
        return tuple([form.read(reader) for form in self.items])


class _Mapping:
    def __init__(self, item: _Form) -> None:
        self.item = item

    def write(self, writer: Writer, value: Mapping[str, Any]) -> None:
        writer.pack_map(len(value))
        for name, item in value.items():  # the message keeps them sorted
            writer.pack(name)
            self.item.write(writer, item)

    def read(self, reader: Reader) -> dict[Any, Any]:
        # A name that comes twice leaves fewer entries, so the frame turns out not to be canonical.
        return {reader.scalar(): self.item.read(reader) for _ in reader.items(reader.read_map())}


_known_forms: dict[type[Message], tuple[tuple[str, _Form], ...]] = {}


def _forms_of(declared: type[Message]) -> tuple[tuple[str, _Form], ...]:
    """Choose, once per class, how each field is written and read."""
    forms = _known_forms.get(declared)
    if forms is None:
        forms = tuple((field.name, _form_of(field.type)) for field in declared.message_fields)
        _known_forms[declared] = forms
    return forms


def _form_of(kind: FieldType) -> _Form:
    form: _Form
    match kind:
        case ScalarType(type=scalar):
            form = _Integer() if scalar is int else _Scalar()
        case ArrayType():
            form = _Array()
        case MessageType():
            form = _Nested(kind.accepts)
        case OptionalType(item):
            form = _Optional(_form_of(item))
        case TupleType(item):
            form = _Tuple(_form_of(item))
        case RecordType(items):
            form = _Record(tuple(map(_form_of, items)))
        case MappingType(item):
            form = _Mapping(_form_of(item))
        case _:
            raise TypeError(f"{kind!r} has no form on the wire")
    return form
