"""Messages to frames and back: one canonical form, bounded memory, no surprises.

A frame is a msgpack header and the large arrays beside it, so that these can move through shared memory
without a copy. The header is the array

    [format, name, version, field, field, …]     the fields by position, in the order of the declaration

in which bool, float (64 bit), str, bytes, None and integers of up to 64 bits are themselves, and

    tuple               array of its items
    mapping             map, names in the order of their code points
    nested message      [name, version, field, …]
    other integers      ext 1: two's complement, big endian, as short as possible
    array below 64 KiB  ext 2: dtype ("<f8"), dimensions (u8), 0 (u32), shape (u64 each), items
    other arrays        ext 3: dtype, dimensions, number of the buffer (u32), shape

with all of an array's extension little endian, and buffers numbered in the order of their appearance.

Every message has exactly one frame, and every accepted frame is the one of its message (a receiver encodes
what it has decoded and compares), so a digest of the frame identifies the message and can be signed. A frame
comes from a party that may be an adversary: decoding follows the declared fields, never what the bytes claim,
allocates no more than in proportion to the bytes that are there, and ends in a message or in `DecodeError`,
whose text holds no value.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from msgpack import ExtType, Packer, Unpacker
from msgpack.exceptions import UnpackException
from numpy.typing import NDArray

from .errors import DecodeError, EncodeError, TacitError
from .schema import (
    DTYPES,
    MAX_DIMENSIONS,
    MAX_INTEGER_BYTES,
    ArrayType,
    FieldType,
    MappingType,
    Message,
    MessageType,
    OptionalType,
    RecordType,
    ScalarType,
    TupleType,
    as_bytes,
    is_registered,
    registered_messages,
)

M = TypeVar("M", bound=Message)

FORMAT = 1
DEFAULT_LIMIT = 1 << 28  # 256 MiB
BUFFER_BYTES = 1 << 16  # arrays from this size on travel beside the header
MAX_NESTED_MESSAGES = 16

_BIG_INTEGER, _INLINE_ARRAY, _BUFFERED_ARRAY = 1, 2, 3
_ARRAY_PREFIX = struct.Struct("<3sBI")  # 8 bytes, so that the items of an inline array are aligned
_DTYPES = {code.encode(): np.dtype(code) for code in DTYPES}
_NIL = 0xC0
_CONTAINERS = frozenset((*range(0x80, 0xA0), *range(0xDC, 0xE0)))  # first bytes of msgpack's maps and arrays


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """A message as bytes.

    Attributes
    ----------
    header : bytes
        The msgpack header.
    buffers : tuple of uint8 arrays
        The large arrays, flat, in the order in which the header refers to them.
    """

    header: bytes
    buffers: tuple[NDArray[np.uint8], ...] = ()

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.header) + sum(buffer.nbytes for buffer in self.buffers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        same = self.header == other.header and len(self.buffers) == len(other.buffers)
        return same and all(map(np.array_equal, self.buffers, other.buffers))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Frame(header=<{len(self.header)} bytes>, buffers=<{len(self.buffers)} items>)"


def encode(message: Message) -> Frame:
    """Turn a message into its frame.

    Parameters
    ----------
    message : Message
        Any declared message.

    Returns
    -------
    Frame
        The one frame of this message; its buffers are views of the message's arrays, not copies.

    Raises
    ------
    EncodeError
        If it is no declared message, or messages are nested more than 16 deep.
    """
    if not is_registered(type(message)):
        raise EncodeError(f"{type(message).__name__} is no declared message")
    writer = _Writer()
    fields = message.message_fields
    writer.pack_array(len(fields) + 3)
    writer.pack(FORMAT)
    writer.entries(message)
    return Frame(writer.packer.bytes(), tuple(writer.buffers))


def decode(frame: Frame, *, at_most: int = DEFAULT_LIMIT) -> Message:
    """Turn a frame, from whomever, into its message.

    Parameters
    ----------
    frame : Frame
        What arrived. Arrays of the message are read-only views of its buffers: **nobody may write to them.**
    at_most : int
        Bytes that header and buffers may have together; checked before anything is read.

    Returns
    -------
    Message
        Of a declared class, all fields as declared, and `encode` gives this very frame back.

    Raises
    ------
    DecodeError
        If the frame is anything else; no other error is raised, and none tells a value.
    """
    _check_parts(frame, at_most)
    try:
        message = _read(frame)
        canonical = encode(message).header == frame.header
    except DecodeError:
        raise
    except (UnpackException, TacitError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise DecodeError(f"the frame is not well formed ({type(error).__name__})") from None
    except (RecursionError, MemoryError):
        raise DecodeError("the frame is too large or too deep for this process") from None
    if not canonical:
        raise DecodeError("the frame is not in canonical form")
    return message


def digest(message: Message) -> bytes:
    """Hash a message: SHA-256 over its header and buffers, each after its length (u64, little endian).

    Parameters
    ----------
    message : Message
        Any declared message.

    Returns
    -------
    bytes
        32 bytes: the content hash, and what signatures are over.
    """
    frame = encode(message)
    hashed = hashlib.sha256()
    for part in (memoryview(frame.header), *(buffer.data for buffer in frame.buffers)):
        hashed.update(part.nbytes.to_bytes(8, "little"))
        hashed.update(part)
    return hashed.digest()


def unsigned_digest(message: Message) -> bytes:
    """Hash a message without its signature: the digest with 64 zero bytes in the field ``signature``.

    Name, version and all other fields are under the hash, so a signature fits no other kind of message.

    Raises
    ------
    EncodeError
        If the message has no such field.
    """
    return digest(with_signature(message, bytes(64)))


def with_signature(message: M, signature: bytes) -> M:
    """Return the same message with another value in its field ``signature``.

    Raises
    ------
    EncodeError
        If the message has no such field, or the signature has not the declared length.
    """
    fields = {field.name: getattr(message, field.name) for field in message.message_fields}
    if "signature" not in fields:
        raise EncodeError(f"{type(message).__name__} has no field for a signature")
    return type(message)(**(fields | {"signature": signature}))


# ── the header, written and read piece by piece ────────────────────────────────────────────────────


class _Writer:
    """A header under construction, and the buffers beside it."""

    __slots__ = ("buffers", "depth", "pack", "pack_array", "pack_extension", "pack_map", "packer")

    def __init__(self) -> None:
        self.packer = Packer(autoreset=False)
        self.pack = self.packer.pack
        self.pack_array = self.packer.pack_array_header
        self.pack_map = self.packer.pack_map_header
        self.pack_extension = self.packer.pack_ext_type
        self.buffers: list[NDArray[np.uint8]] = []
        self.depth = 0

    def entries(self, message: Message) -> None:
        """Write name, version and fields into an array whose length has been written."""
        self.depth += 1
        if self.depth > MAX_NESTED_MESSAGES:
            raise EncodeError(f"messages are nested more than {MAX_NESTED_MESSAGES} deep")
        self.pack(message.message_name)
        self.pack(message.message_version)
        for name, form in _forms_of(type(message)):
            form.write(self, getattr(message, name))
        self.depth -= 1


class _Reader:
    """A header being read, type by declared type, and the buffers beside it."""

    __slots__ = ("buffers", "depth", "header", "position", "read_array", "read_map", "unpack", "used")

    def __init__(self, frame: Frame) -> None:
        unpacker = Unpacker(max_buffer_size=len(frame.header), read_size=1)
        unpacker.feed(frame.header)
        self.unpack = unpacker.unpack
        self.read_array = unpacker.read_array_header
        self.read_map = unpacker.read_map_header
        self.position = unpacker.tell
        self.header = frame.header
        self.buffers = frame.buffers
        self.used = 0  # of the buffers
        self.depth = 0

    def scalar(self) -> Any:
        """Read anything but a container: msgpack allocates what a container claims before it reads it."""
        if self.header[self.position()] in _CONTAINERS:
            raise DecodeError("the frame has a container where none is declared")
        return self.unpack()

    def items(self, length: int) -> range:
        """Count the items of a container, each of which takes at least a byte."""
        if length > len(self.header) - self.position():
            raise DecodeError("the frame claims more items than it has bytes")
        return range(length)

    def entries(self, length: int, accepts: Callable[[type], bool]) -> Message:
        """Read name, version and fields of a message from an array whose length has been read."""
        self.depth += 1
        if self.depth > MAX_NESTED_MESSAGES:
            raise DecodeError(f"messages are nested more than {MAX_NESTED_MESSAGES} deep")
        declared = registered_messages().get((self.scalar(), self.scalar()))
        if declared is None or not accepts(declared):
            raise DecodeError("the frame has a message of an unknown or unexpected name or version")
        forms = _forms_of(declared)
        if length != len(forms) + 2:
            raise DecodeError(f"the frame has another number of fields than {declared.__name__}")
        values = {name: form.read(self) for name, form in forms}
        self.depth -= 1
        return _construct(declared, values)


def _check_parts(frame: object, at_most: int) -> None:
    """Refuse what is no frame, or too large, before anything of it is read."""
    if type(frame) is not Frame or type(frame.header) is not bytes or type(frame.buffers) is not tuple:
        raise DecodeError("a frame is a header of bytes and a tuple of buffers")
    for buffer in frame.buffers:
        if type(buffer) is not np.ndarray or buffer.dtype != np.uint8 or buffer.ndim != 1:
            raise DecodeError("the buffers of a frame are flat arrays of uint8")
        if not buffer.flags.c_contiguous:
            raise DecodeError("the buffers of a frame are contiguous")
    if frame.size > at_most:
        raise DecodeError(f"the frame has {frame.size} bytes, at most {at_most} are accepted")


def _read(frame: Frame) -> Message:
    reader = _Reader(frame)
    length = reader.read_array()
    if reader.scalar() != FORMAT:
        raise DecodeError(f"the frame is not of format {FORMAT}")
    message = reader.entries(length - 1, is_registered)
    if reader.position() != len(frame.header) or reader.used != len(frame.buffers):
        raise DecodeError("the frame has bytes left over")
    return message


def _construct(declared: type[Message], values: dict[str, Any]) -> Message:
    """Make a message, which checks its fields; the reason of a refusal may hold a value and stays here."""
    try:
        return declared(**values)
    except TacitError:
        raise DecodeError(f"the fields of {declared.__name__} are not as declared") from None


# ── the forms of the field types: whether what was read is as declared, the message checks ─────────


class _Form(Protocol):
    def write(self, writer: _Writer, value: Any) -> None: ...
    def read(self, reader: _Reader) -> Any: ...


class _Scalar:
    def write(self, writer: _Writer, value: Any) -> None:
        writer.pack(value)

    def read(self, reader: _Reader) -> Any:
        return reader.scalar()


class _Integer:
    def write(self, writer: _Writer, value: int) -> None:
        if -(1 << 63) <= value < 1 << 64:
            writer.pack(value)
        else:
            length = (value if value >= 0 else ~value).bit_length() // 8 + 1  # one bit more, for the sign
            writer.pack_extension(_BIG_INTEGER, value.to_bytes(length, "big", signed=True))

    def read(self, reader: _Reader) -> Any:
        value = reader.scalar()
        if type(value) is not ExtType:
            return value
        if value.code != _BIG_INTEGER or len(value.data) > MAX_INTEGER_BYTES:
            raise DecodeError("the frame has no integer, or too long a one, where one is declared")
        return int.from_bytes(value.data, "big", signed=True)


class _Array:
    def write(self, writer: _Writer, array: NDArray[Any]) -> None:
        buffered = array.nbytes >= BUFFER_BYTES
        number = len(writer.buffers) if buffered else 0
        described = _ARRAY_PREFIX.pack(array.dtype.str.encode(), array.ndim, number)
        described += struct.pack(f"<{array.ndim}Q", *array.shape)
        if buffered:
            writer.pack_extension(_BUFFERED_ARRAY, described)
            writer.buffers.append(as_bytes(array))
        else:
            writer.pack_extension(_INLINE_ARRAY, described + array.tobytes())

    def read(self, reader: _Reader) -> NDArray[Any]:
        extension = reader.scalar()
        if type(extension) is not ExtType or extension.code not in (_INLINE_ARRAY, _BUFFERED_ARRAY):
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

    def write(self, writer: _Writer, message: Message) -> None:
        writer.pack_array(len(message.message_fields) + 2)
        writer.entries(message)

    def read(self, reader: _Reader) -> Message:
        return reader.entries(reader.read_array(), self.accepts)


class _Optional:
    def __init__(self, item: _Form) -> None:
        self.item = item

    def write(self, writer: _Writer, value: Any) -> None:
        if value is None:
            writer.pack(None)
        else:
            self.item.write(writer, value)

    def read(self, reader: _Reader) -> Any:
        return reader.unpack() if reader.header[reader.position()] == _NIL else self.item.read(reader)


class _Tuple:
    def __init__(self, item: _Form) -> None:
        self.item = item

    def write(self, writer: _Writer, value: tuple[Any, ...]) -> None:
        writer.pack_array(len(value))
        for item in value:
            self.item.write(writer, item)

    def read(self, reader: _Reader) -> tuple[Any, ...]:
        return tuple([self.item.read(reader) for _ in reader.items(reader.read_array())])


class _Record:
    def __init__(self, items: tuple[_Form, ...]) -> None:
        self.items = items

    def write(self, writer: _Writer, value: tuple[Any, ...]) -> None:
        writer.pack_array(len(value))
        for form, item in zip(self.items, value, strict=True):
            form.write(writer, item)

    def read(self, reader: _Reader) -> tuple[Any, ...]:
        if reader.read_array() != len(self.items):
            raise DecodeError("a tuple of the frame has another length than declared")
        return tuple([form.read(reader) for form in self.items])


class _Mapping:
    def __init__(self, item: _Form) -> None:
        self.item = item

    def write(self, writer: _Writer, value: Mapping[str, Any]) -> None:
        writer.pack_map(len(value))
        for name, item in value.items():  # the message keeps them sorted
            writer.pack(name)
            self.item.write(writer, item)

    def read(self, reader: _Reader) -> dict[Any, Any]:
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
