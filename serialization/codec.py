"""Messages to frames and back: one canonical form, bounded memory, no surprises.

A frame is a msgpack header and the large arrays beside it, so that these need not be copied, and can be sealed and
travel piece by piece. The header is the array

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
whose text holds no value. How each declared type is written and read is in `forms`; msgpack is known here
only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from weakref import ReferenceType, ref

import numpy as np
from msgpack import Packer, Unpacker
from msgpack.exceptions import UnpackException
from numpy.typing import NDArray

from .errors import DecodeError, EncodeError, TacitError
from .forms import Extension, read_entries, write_entries
from .schema import Message, is_registered, registered_messages

M = TypeVar("M", bound=Message)
R = TypeVar("R")

FORMAT = 1
HEADER_LIMIT = 1 << 28  # 256 MiB

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
        If it is no declared message, or messages are nested more than 16 deep, or the header is larger than
        HEADER_LIMIT, which nobody would take in.
    """
    return _encode_once(message) if _is_shown_to_all(message) else _encode(message)


def _encode(message: Message) -> Frame:
    if not is_registered(type(message)):
        raise EncodeError(f"{type(message).__name__} is no declared message")
    writer = _Writer()
    fields = message.message_fields
    writer.pack_array(len(fields) + 3)
    writer.pack(FORMAT)
    write_entries(writer, message)
    header = writer.packer.bytes()
    if len(header) > HEADER_LIMIT:
        raise EncodeError(
            f"{type(message).__name__} takes {len(header):,} bytes besides its large arrays, "
            f"at most {HEADER_LIMIT:,} travel"
        )
    return Frame(header, tuple(writer.buffers))


def decode(frame: Frame, *, at_most: int = HEADER_LIMIT) -> Message:
    """Turn a frame, from whomever, into its message.

    Buffers are neither copied nor read, so that decoding takes as long as the header is, however long they are:
    how long they may be follows from what a session has agreed upon, and is checked where that is known.

    Parameters
    ----------
    frame : Frame
        What arrived. Arrays of the message are read-only views of its buffers: **nobody may write to them.**
    at_most : int
        Bytes that the header may have; checked before anything is read.

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
        return _read_once(frame.header) if _is_public(frame) else _read_canonical(frame)
    except DecodeError:
        raise
    except (UnpackException, TacitError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise DecodeError(f"the frame is not well formed ({type(error).__name__})") from None
    except (RecursionError, MemoryError):
        raise DecodeError("the frame is too large or too deep for this process") from None


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
    return _digest_once(message) if _is_shown_to_all(message) else _digest(message)


def _digest(message: Message) -> bytes:
    frame = _encode(message)
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
    return _unsigned_once(message) if _is_shown_to_all(message) else _unsigned_digest(message)


def _unsigned_digest(message: Message) -> bytes:
    return _digest(with_signature(message, bytes(64)))


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


# ── what everybody is shown, read and hashed once a process ────────────────────────────────────────

# A session of n holders shows n messages to each of them. Where many holders share a process, as in a large
# simulation, these are the very same bytes, so what is a function of them is computed once and not n times.

_FRAMES_KEPT = 4


class _Once(Generic[R]):
    """A function of messages, computed once for each object and forgotten with it."""

    def __init__(self, function: Callable[[Message], R]) -> None:
        self._function = function
        self._known: dict[int, tuple[ReferenceType[Message], R]] = {}

    def __call__(self, message: Message) -> R:
        key = id(message)  # given to no other message while the entry is there
        if key not in self._known:
            forgotten = ref(message, lambda _: self._known.pop(key, None))
            self._known[key] = forgotten, self._function(message)
        return self._known[key][1]


_encode_once, _digest_once, _unsigned_once = _Once(_encode), _Once(_digest), _Once(_unsigned_digest)


@lru_cache(maxsize=_FRAMES_KEPT)
def _read_once(header: bytes) -> Message:
    return _read_canonical(Frame(header))


def _is_shown_to_all(message: object) -> bool:
    return isinstance(message, Message) and message.message_is_public


def _is_public(frame: Frame) -> bool:
    """Whether a frame claims to be one that everybody is shown, and has its arrays in the header."""
    reader = _Reader(frame)
    reader.read_array()
    reader.scalar()
    declared = registered_messages().get((reader.scalar(), reader.scalar()))
    return declared is not None and declared.message_is_public and not frame.buffers


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


class _Reader:
    """A header being read, type by declared type, and the buffers beside it."""

    __slots__ = ("buffers", "depth", "header", "position", "read_array", "read_map", "unpack", "used")

    def __init__(self, frame: Frame) -> None:
        unpacker = Unpacker(max_buffer_size=len(frame.header), read_size=1, ext_hook=Extension)
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


def _check_parts(frame: object, at_most: int) -> None:
    """Refuse what is no frame, or too large, before anything of it is read."""
    if type(frame) is not Frame or type(frame.header) is not bytes or type(frame.buffers) is not tuple:
        raise DecodeError("a frame is a header of bytes and a tuple of buffers")
    for buffer in frame.buffers:
        if type(buffer) is not np.ndarray or buffer.dtype != np.uint8 or buffer.ndim != 1:
            raise DecodeError("the buffers of a frame are flat arrays of uint8")
        if not buffer.flags.c_contiguous:
            raise DecodeError("the buffers of a frame are contiguous")
    if len(frame.header) > at_most:
        raise DecodeError(f"the frame's header has {len(frame.header)} bytes, at most {at_most} are accepted")


def _read_canonical(frame: Frame) -> Message:
    message = _read(frame)
    if _encode(message).header != frame.header:
        raise DecodeError("the frame is not in canonical form")
    return message


def _read(frame: Frame) -> Message:
    reader = _Reader(frame)
    length = reader.read_array()
    if reader.scalar() != FORMAT:
        raise DecodeError(f"the frame is not of format {FORMAT}")
    message = read_entries(reader, length - 1, is_registered)
    if reader.position() != len(frame.header) or reader.used != len(frame.buffers):
        raise DecodeError("the frame has bytes left over")
    return message
