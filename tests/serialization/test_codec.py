"""Messages survive bit for bit, in one form; anything else becomes DecodeError, in bounded memory."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import math
import struct
import tracemalloc
from collections.abc import Mapping
from typing import Annotated, Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as array_strategies
from numpy.typing import NDArray
from tacit.serialization import codec
from tacit.serialization.codec import (
    FORMAT,
    Frame,
    decode,
    digest,
    encode,
    unsigned_digest,
    with_signature,
)
from tacit.serialization.errors import DecodeError, EncodeError
from tacit.serialization.field_types import Size
from tacit.serialization.forms import BUFFER_BYTES, MAX_NESTED_MESSAGES
from tacit.serialization.schema import Message, message
from tacit.serialization.session_messages import Finished, Party

quick = settings(deadline=None, derandomize=True, max_examples=100)


@message("test-codec/Leaf", version=1)
class Leaf(Message):
    number: int = 7
    real: float = 0.5


@message("test-codec/Tree", version=1)
class Tree(Message):
    flag: bool = False
    number: int = 0
    real: float = 0.0
    text: str = ""
    data: bytes = b""
    maybe: str | None = None
    numbers: tuple[int, ...] = ()
    pair: tuple[float, bool] = (0.0, False)
    table: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    arrays: tuple[NDArray[Any], ...] = ()
    named: Mapping[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    either: Leaf | None = None
    anything: Message = dataclasses.field(default_factory=Leaf)


@message("test-codec/Signed", version=1)
class Signed(Message):
    text: str
    signature: Annotated[bytes, Size(64)]


@message("test-codec/Word", version=1)
class Word(Message):
    value: Annotated[bytes, Size(3)] | None


EXAMPLE = Tree(
    flag=True,
    number=-(1 << 70),
    real=math.nan,
    text="ä",
    data=b"\0\xff",
    maybe="",
    numbers=(1, 1 << 64, -129),
    pair=(math.inf, True),
    table={"b": None, "a": 1},
    arrays=(np.arange(3, dtype=np.int16), np.array([True, False])),
    named={"x": np.array([[0.5]])},
    either=Leaf(1),
    anything=Leaf(2),
)
LARGE = Tree(arrays=(np.arange(70_000, dtype=np.uint8), np.zeros(3), np.ones((100, 100))))


def assert_message_or_decode_error(frame: Frame) -> Message | None:
    try:
        found = decode(frame)
    except DecodeError:
        return None
    assert encode(found) == frame
    return found


# ── round trips ───────────────────────────────────────────────────────────────────────────────────────────

integers = st.integers() | st.integers(-(1 << 300), 1 << 300) | st.sampled_from([(1 << 64) - 1, 1 << 64])
bits64 = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
texts = st.text(max_size=10)
dtypes = st.sampled_from("?bhilBHILfd").map(np.dtype)
shapes = array_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
leaves = st.builds(Leaf, integers, bits64)
trees = st.builds(
    Tree,
    flag=st.booleans(),
    number=integers,
    real=bits64,
    text=texts,
    data=st.binary(max_size=50),
    maybe=st.none() | texts,
    numbers=st.lists(integers, max_size=5).map(tuple),
    pair=st.tuples(bits64, st.booleans()),
    table=st.dictionaries(texts, st.none() | integers, max_size=5),
    arrays=st.lists(dtypes.flatmap(lambda dtype: array_strategies.arrays(dtype, shapes)), max_size=3).map(
        tuple
    ),
    named=st.dictionaries(texts, array_strategies.arrays(np.float64, shapes), max_size=3),
    either=st.none() | leaves,
    anything=leaves | st.builds(Tree, anything=leaves),
)


@quick
@given(trees)
def test_random_messages_survive(tree: Tree) -> None:
    frame = encode(tree)
    found = decode(frame)
    assert found == tree
    assert encode(found) == frame


@pytest.mark.parametrize("example", [EXAMPLE, LARGE, Tree(), Leaf()])
def test_examples_survive(example: Message) -> None:
    assert decode(encode(example)) == example


@pytest.mark.parametrize("bits", [63, 64, 65, 127, 128, 3072, 8 * 65_536 - 1])
@pytest.mark.parametrize("offset", [-1, 0])
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_of_any_size_survive(bits: int, offset: int, sign: int) -> None:
    value = sign * ((1 << bits) - 1 + offset)
    found = decode(encode(Leaf(number=value)))
    assert isinstance(found, Leaf)
    assert found.number == value


def test_equal_mappings_have_one_frame() -> None:
    assert encode(Tree(table={"a": 1, "b": 2})) == encode(Tree(table={"b": 2, "a": 1}))


def test_signalling_nan_survives() -> None:
    signalling = struct.unpack("<d", struct.pack("<Q", (0x7FF0 << 48) + 1))[0]
    found = decode(encode(Leaf(real=signalling)))
    assert found == Leaf(real=signalling)


# ── buffers ───────────────────────────────────────────────────────────────────────────────────────────────


def test_large_arrays_travel_beside_the_header_without_a_copy() -> None:
    frame = encode(LARGE)
    assert [buffer.nbytes for buffer in frame.buffers] == [70_000, 80_000]
    assert np.shares_memory(frame.buffers[1], LARGE.arrays[2])
    found = decode(frame)
    assert isinstance(found, Tree)
    assert np.shares_memory(found.arrays[2], LARGE.arrays[2])
    assert not found.arrays[2].flags.writeable


def test_the_border_between_inline_and_buffer() -> None:
    below, at = np.zeros(BUFFER_BYTES - 1, np.uint8), np.zeros(BUFFER_BYTES, np.uint8)
    assert encode(Tree(arrays=(below,))).buffers == ()
    assert len(encode(Tree(arrays=(at,))).buffers) == 1


def test_inline_arrays_are_read_only() -> None:
    found = decode(encode(EXAMPLE))
    assert isinstance(found, Tree)
    assert not found.arrays[0].flags.writeable


def test_size_counts_header_and_buffers() -> None:
    frame = encode(LARGE)
    assert frame.size == len(frame.header) + 150_000


def test_frames_compare_by_content_and_show_sizes_only() -> None:
    frame = encode(LARGE)
    assert frame == Frame(frame.header, tuple(buffer.copy() for buffer in frame.buffers))
    assert frame != Frame(frame.header, frame.buffers[:1])
    assert frame != frame.header
    assert repr(frame) == f"Frame(header=<{len(frame.header)} bytes>, buffers=<2 items>)"


def test_a_large_array_inline_is_not_canonical() -> None:
    header = encode(Tree(arrays=(np.zeros(BUFFER_BYTES - 1, np.uint8),))).header
    unpacked = msgpack.unpackb(header)
    inline = unpacked[12][0]
    data = inline.data[:8] + struct.pack("<Q", BUFFER_BYTES) + bytes(BUFFER_BYTES)
    unpacked[12][0] = msgpack.ExtType(inline.code, data)
    with pytest.raises(DecodeError, match="canonical"):
        decode(Frame(msgpack.packb(unpacked)))


@pytest.mark.parametrize(
    "alter",
    [
        lambda a, b: (a,),
        lambda a, b: (b, a),
        lambda a, b: (a, b, b),
        lambda a, b: (a, b[:-1]),
        lambda a, b: (a, np.append(b, b[:8])),
        lambda a, b: (a, b.view(np.float64)),
        lambda a, b: (a, b.reshape(2, -1)),
        lambda a, b: (a, np.repeat(b, 2)[::2]),
        lambda a, b: (a, bytes(b)),
        lambda a, b: [a, b],
    ],
)
def test_buffers_that_do_not_fit_are_refused(alter: Any) -> None:
    frame = encode(LARGE)
    with pytest.raises(DecodeError):
        decode(Frame(frame.header, alter(*frame.buffers)))


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────


def test_headers_above_the_limit_are_refused_however_long_the_buffers() -> None:
    frame = encode(LARGE)
    assert frame.size > len(frame.header)
    assert decode(frame, at_most=len(frame.header)) == LARGE
    with pytest.raises(DecodeError, match="at most"):
        decode(frame, at_most=len(frame.header) - 1)


def test_arrays_above_the_limit_of_headers_travel_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = encode(LARGE)
    monkeypatch.setattr("tacit.serialization.codec.HEADER_LIMIT", len(frame.header))
    assert decode(encode(LARGE)) == LARGE


def nested(depth: int) -> Message:
    innermost: Message = Leaf()
    for _ in range(depth - 1):
        innermost = Tree(anything=innermost)
    return innermost


def test_nesting_has_a_limit_on_both_sides() -> None:
    deepest = nested(MAX_NESTED_MESSAGES)
    assert decode(encode(deepest)) == deepest
    with pytest.raises(EncodeError, match="nested"):
        encode(nested(MAX_NESTED_MESSAGES + 1))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"])
def test_deep_or_huge_containers_neither_overflow_nor_allocate(opening: bytes) -> None:
    start = encode(Leaf()).header[:-10]
    for frame in (Frame(opening * 20_000), Frame(start + opening * 20_000)):
        assert peak_of_refusing(frame) < 2_000_000


def peak_of_refusing(frame: Frame) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(frame)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", [2, 3])
@pytest.mark.parametrize(
    "shape", [(1 << 40,), (1 << 63, 2), (1 << 32, 1 << 32), (0, 1 << 63), (1 << 20,) * 8]
)
def test_claimed_shapes_allocate_nothing(code: int, shape: tuple[int, ...]) -> None:
    claim = struct.pack(f"<3sBI{len(shape)}Q", b"<f8", len(shape), 0, *shape)
    fields = msgpack.unpackb(encode(Tree()).header)
    fields[12] = [msgpack.ExtType(code, claim)]
    buffers = (np.zeros(BUFFER_BYTES, np.uint8),) if code == 3 else ()
    assert peak_of_refusing(Frame(msgpack.packb(fields), buffers)) < 200_000


def test_claimed_tuples_allocate_nothing() -> None:
    header = encode(Tree(numbers=(1, 2, 3))).header
    claim = header.replace(b"\x93\x01\x02\x03", b"\xdd\x7f\xff\xff\xff\x01\x02\x03")
    assert claim != header
    assert peak_of_refusing(Frame(claim)) < 200_000


# ── hostile frames ────────────────────────────────────────────────────────────────────────────────────────


@quick
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_an_error(header: bytes) -> None:
    assert_message_or_decode_error(Frame(header))


def extension(data: bytes, code: int) -> Any:
    return msgpack.ExtType(code, data)


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.builds(extension, st.binary(max_size=20), st.integers(0, 4))
)
trees_of_anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.booleans(), inner, max_size=3)
    ),
    max_leaves=10,
)


@quick
@given(
    st.sampled_from(["test-codec/Tree", "test-codec/Leaf", "test-codec/Word"]),
    st.lists(trees_of_anything, max_size=14),
)
def test_arbitrary_fields_are_a_message_or_an_error(name: str, fields: list[Any]) -> None:
    assert_message_or_decode_error(Frame(msgpack.packb([FORMAT, name, 1, *fields])))


@quick
@given(st.integers(3, 15), trees_of_anything)
def test_one_arbitrary_field_is_a_message_or_an_error(position: int, value: Any) -> None:
    fields = msgpack.unpackb(encode(EXAMPLE).header)
    fields[position] = value
    assert_message_or_decode_error(Frame(msgpack.packb(fields)))


def test_every_truncation_is_refused() -> None:
    header = encode(EXAMPLE).header
    for length in range(len(header)):
        with pytest.raises(DecodeError):
            decode(Frame(header[:length]))


def test_every_flipped_bit_is_another_message_or_an_error() -> None:
    header = encode(EXAMPLE).header
    for bit in range(8 * len(header)):
        altered = bytearray(header)
        altered[bit // 8] ^= 1 << bit % 8
        assert assert_message_or_decode_error(Frame(bytes(altered))) != EXAMPLE


@quick
@given(st.lists(st.tuples(st.integers(0, 149_999), st.integers(1, 255)), min_size=1, max_size=3))
def test_flipped_buffers_are_a_message_or_an_error(flips: list[tuple[int, int]]) -> None:
    frame = encode(LARGE)
    joined = np.concatenate(frame.buffers)
    for position, bits in flips:
        joined[position] ^= bits
    assert_message_or_decode_error(Frame(frame.header, (joined[:70_000], joined[70_000:])))


@pytest.mark.parametrize("thing", [None, b"", "frame", (b"", ()), Leaf()])
def test_what_is_no_frame_is_refused(thing: Any) -> None:
    with pytest.raises(DecodeError):
        decode(thing)


@pytest.mark.parametrize(
    "header", [None, "", bytearray(encode(Leaf()).header), memoryview(encode(Leaf()).header)]
)
def test_headers_are_bytes(header: Any) -> None:
    with pytest.raises(DecodeError, match="bytes"):
        decode(Frame(header))


@message("test-codec/Careless", version=1)
class Careless(Message):
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise EncodeError(f"{self.number} is below zero")
        if self.number == 0:
            raise ZeroDivisionError("a mistake of the class")


@pytest.mark.parametrize("number", [-271828, 0])
def test_reasons_of_a_class_stay_here(number: int) -> None:
    frame = Frame(msgpack.packb([FORMAT, "test-codec/Careless", 1, number]))
    with pytest.raises(DecodeError) as caught:
        decode(frame)
    assert "271828" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_undeclared_class_is_not_encoded() -> None:
    with pytest.raises(EncodeError, match="no declared message"):
        encode(type("Undeclared", (Message,), {})())
    with pytest.raises(EncodeError, match="no declared message"):
        encode("text")  # type: ignore[arg-type]


# ── digests ───────────────────────────────────────────────────────────────────────────────────────────────


def test_digest_is_over_parts_and_their_lengths() -> None:
    frame = encode(LARGE)
    joined = b"".join(
        len(part).to_bytes(8, "little") + bytes(part) for part in (frame.header, *(map(bytes, frame.buffers)))
    )
    assert digest(LARGE) == hashlib.sha256(joined).digest()


def test_digest_follows_content_only() -> None:
    assert digest(EXAMPLE) == digest(decode(encode(EXAMPLE)))
    assert digest(Leaf(1)) != digest(Leaf(2))


def test_unsigned_digest_leaves_the_signature_out() -> None:
    signed = Signed("a", b"s" * 64)
    assert (
        unsigned_digest(signed) == unsigned_digest(Signed("a", b"t" * 64)) == digest(Signed("a", bytes(64)))
    )
    assert unsigned_digest(signed) != unsigned_digest(Signed("b", b"s" * 64))


def test_with_signature_changes_nothing_else() -> None:
    assert with_signature(Signed("a", bytes(64)), b"s" * 64) == Signed("a", b"s" * 64)


def test_only_messages_with_a_signature_have_an_unsigned_digest() -> None:
    with pytest.raises(EncodeError, match="no field"):
        unsigned_digest(Leaf())


def test_a_frame_that_nobody_would_take_in_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.serialization.codec.HEADER_LIMIT", 40)
    with pytest.raises(EncodeError, match="Finished takes 47 bytes besides its large arrays, at most 40"):
        encode(Finished(session=bytes(32), released=True))


# ── what everybody is shown ───────────────────────────────────────────────────────────────────────────────


def shown(name: str = "a") -> Party:
    return Party(name=name, kind="holder", verify_key=bytes(32), agreement_key=bytes(32))


def test_parties_of_one_process_read_what_all_are_shown_once() -> None:
    frame = encode(shown())
    assert decode(Frame(bytes(frame.header))) is decode(frame)
    assert decode(encode(shown("b"))) == shown("b")


def test_what_is_computed_once_is_forgotten_with_its_message() -> None:
    known = codec._digest_once._known
    gc.collect()  # what other tests have left
    message = shown()
    before = len(known)
    assert digest(message) == digest(message) == digest(shown())
    assert len(known) == before + 1
    del message
    gc.collect()
    assert len(known) == before


def test_what_is_not_shown_to_all_is_read_anew() -> None:
    frame = encode(Leaf())
    assert decode(frame) is not decode(frame)
