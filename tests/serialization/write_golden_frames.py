"""Write the golden frames that are missing; refuse to change one that exists.

    python tests/serialization/write_golden_frames.py

The examples are in test_golden_frames.py; the bad frames are built here, from msgpack by hand.
"""

from __future__ import annotations

import runpy
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
from tacit.serialization.codec import encode

tests = runpy.run_path(str(Path(__file__).with_name("test_golden_frames.py")))

SESSION = bytes(32)
FINISHED = [1, "Finished", 1, SESSION, True]


def pack(*entries: Any) -> bytes:
    """Pack a header."""
    packed: bytes = msgpack.packb(list(entries))
    return packed


def array(
    *shape: int, dtype: bytes = b"<f8", items: bytes = b"", number: int = 0, code: int = 2, more: int = 0
) -> Any:
    """Build the extension of an array, inline (2) or in a buffer (3), with more dimensions than it has."""
    claim = struct.pack("<3sBI", dtype, len(shape) + more, number) + struct.pack(f"<{len(shape)}Q", *shape)
    return msgpack.ExtType(code, claim + items)


def query(**arrays: Any) -> bytes:
    """Build a Query of arrays."""
    return pack(1, "Query", 1, "step", arrays, False)


def sealed(*arrays: Any) -> bytes:
    """Build a Sealed message with buffers."""
    return pack(1, "Sealed", 1, SESSION, "a", "b", False, 0, SESSION, b"", list(arrays))


def buffered(number: int, items: bytes = b"") -> Any:
    """Build the reference to a buffer of three bytes."""
    return array(3, dtype=b"|u1", number=number, code=3, items=items)


def partial_sum(hop: Any, ciphertexts: Any) -> bytes:
    """Build a PartialSum."""
    return pack(1, "PartialSum", 1, SESSION, hop, SESSION, SESSION, ciphertexts)


def refusal(reason: Any) -> bytes:
    """Build a Refusal."""
    return pack(1, "Refusal", 1, SESSION, reason, "")


def moduli(*numbers: Any) -> bytes:
    """Build RingParameters."""
    return pack(1, "RingParameters", 1, list(numbers))


def replaced(header: bytes, old: bytes, new: bytes) -> bytes:
    """Replace the one place where some bytes occur."""
    if header.count(old) != 1:
        raise ValueError(f"{old!r} occurs {header.count(old)} times")
    return header.replace(old, new)


def fixed_point(bound: Any, fraction_bits: Any) -> bytes:
    """Build a FixedPoint."""
    return pack(1, "FixedPoint", 1, bound, fraction_bits)


def integer(code: int, data: bytes) -> Any:
    """Build an extension where an integer belongs."""
    return msgpack.ExtType(code, data)


def deep() -> bytes:
    """Nest seventeen messages."""
    innermost: list[Any] = ["Finished", 1, SESSION, True]
    for _ in range(16):
        innermost = ["Begin", 1, SESSION, [], innermost, bytes(64)]
    return pack(1, *innermost)


def invitation(query: Sequence[Any]) -> bytes:
    """Build an Invitation around a query."""
    return pack(
        1, "Invitation", 1, SESSION, ["RingParameters", 1, []], ["Integers", 1], [], SESSION, query, SESSION,
        [], bytes(64),
    )  # fmt: skip


CIPHERTEXTS = array(2, dtype=b"|u1", items=b"\1\2")
BAD: dict[str, list[bytes]] = {
    "array_cut_short": [query(x=integer(2, b"<f8\1\0"))],
    "array_inline_with_a_buffer_number": [query(x=array(1, items=bytes(8), number=1))],
    "array_of_another_dtype": [partial_sum(1, array(1, items=bytes(8)))],
    "array_of_nine_dimensions": [query(x=array(*([1] * 9), items=bytes(8)))],
    "array_of_objects": [query(x=array(1, dtype=b"|O8", items=bytes(8)))],
    "array_of_unused_claims": [query(x=array(1, items=bytes(16)))],
    "array_shape_cut_short": [query(x=array(1, more=1))],
    "array_shape_of_2_to_40": [query(x=array(1 << 40))],
    "array_shape_overflows": [query(x=array(1 << 63, 2))],
    "array_shape_too_large_though_empty": [query(x=array(0, (1 << 64) - 1))],
    "array_stored_big_endian": [query(x=array(1, dtype=b">f8", items=bytes(8)))],
    "big_integer_empty": [moduli(integer(1, b""))],
    "big_integer_that_is_small": [moduli(integer(1, b"\5"))],
    "big_integer_with_a_needless_byte": [moduli(integer(1, (1 << 70).to_bytes(10, "big")))],
    "bool_array_with_a_two": [query(x=array(2, dtype=b"|b1", items=b"\1\2"))],
    "buffer_missing": [sealed(buffered(0))],
    "buffer_never_used": [sealed(), b"abc"],
    "buffer_numbers_out_of_order": [sealed(buffered(1), buffered(0)), b"abc", b"def"],
    "buffer_of_a_small_array": [sealed(buffered(0)), b"abc"],
    "buffer_of_another_size": [sealed(buffered(0)), b"abcd"],
    "buffer_used_twice": [sealed(buffered(0), buffered(0)), b"abc"],
    "buffered_array_with_items": [sealed(buffered(0, items=b"abc")), b"abc"],
    "bytes_for_text": [refusal(b"policy")],
    "bytes_length_not_minimal": [replaced(pack(*FINISHED), b"\xc4\x20", b"\xc5\0\x20")],
    "choice_not_offered": [pack(1, "Party", 1, "a", "worker", SESSION, SESSION)],
    "container_for_a_scalar": [refusal([])],
    "dimension_negative": [pack(1, "ArraySpecification", 1, "x", "float64", [-1])],
    "dimensions_too_many": [pack(1, "ArraySpecification", 1, "x", "float64", [1] * 9)],
    "empty": [b""],
    "field_missing": [pack(*FINISHED[:-1])],
    "field_too_many": [pack(*FINISHED, True)],
    "float_of_32_bits": [
        replaced(
            fixed_point({"": 0.5}, {"": 20}),
            b"\xcb" + struct.pack(">d", 0.5),
            b"\xca" + struct.pack(">f", 0.5),
        )
    ],
    "float_for_integer": [partial_sum(1.0, CIPHERTEXTS)],
    "format_unknown": [pack(2, *FINISHED[1:])],
    "grid_of_half_an_array": [fixed_point({"x": 0.5, "y": 0.5}, {"x": 20})],
    "grid_of_infinite_bound": [fixed_point({"": float("inf")}, {"": 20})],
    "header_cut_short": [pack(*FINISHED)[:-1]],
    "header_of_no_array": [msgpack.packb("Finished")],
    "header_with_bytes_left_over": [pack(*FINISHED) + b"\xc0"],
    "integer_for_bool": [pack(*FINISHED[:-1], 1)],
    "integer_for_float": [fixed_point({"": 5}, {"": 20})],
    "integer_not_minimal": [replaced(moduli(77), b"\x4d", b"\xcc\x4d")],
    "map_for_a_tuple": [pack(1, "RingParameters", 1, {})],
    "message_unknown": [pack(1, "Finish", 1, SESSION, True)],
    "names_out_of_order": [query(y=array(0), x=array(0))],
    "name_twice": [query(x=array(0), y=array(0)).replace(b"\xa1y", b"\xa1x")],
    "nested_of_another_class": [invitation(["Finished", 1, SESSION, True])],
    "nested_too_deep": [deep()],
    "none_for_text": [refusal(None)],
    "number_for_a_map": [fixed_point(0.5, 20)],
    "reserved_byte": [replaced(pack(*FINISHED), b"\xc3", b"\xc1")],
    "session_too_short": [pack(1, "Finished", 1, bytes(31), True)],
    "surrogate_in_text": [replaced(refusal("xyz"), b"xyz", b"\xed\xa0\x80")],
    "text_length_not_minimal": [replaced(pack(*FINISHED), b"\xa8Finished", b"\xd9\x08Finished")],
    "text_not_utf8": [replaced(refusal("xyz"), b"xyz", b"x\xffz")],
    "text_too_long": [refusal("x" * 201)],
    "timestamp_for_an_integer": [partial_sum(msgpack.Timestamp(1), CIPHERTEXTS)],
    "timestamp_of_a_wrong_length": [replaced(moduli(integer(7, b"\1")), b"\x07", b"\xff")],
    "tuple_claims_too_many": [moduli()[:-1] + b"\xdd\xff\xff\xff\xff"],
    "version_as_true": [pack(1, "Finished", True, SESSION, True)],
    "version_unknown": [pack(1, "Finished", 999, SESSION, True)],
}


def joined(parts: Sequence[bytes]) -> bytes:
    """Put each part after its length."""
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def wanted() -> dict[Path, bytes]:
    """Build the content of every file."""
    files = {}
    for name, example in tests["EXAMPLES"].items():
        frame = encode(example)
        files[tests["GOLDEN"] / f"{name}.frame"] = joined([frame.header, *map(bytes, frame.buffers)])
    for name, parts in BAD.items():
        files[tests["GOLDEN"] / "bad" / f"{name}.frame"] = joined(parts)
    return files


def main() -> int:
    """Write what is missing and name what differs."""
    differing = []
    for path, content in wanted().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)
            print(f"written: {path.name}")  # noqa: T201
        elif path.read_bytes() != content:
            differing.append(path.name)
    for name in differing:
        print(f"differs, left alone: {name} (declare a new version)", file=sys.stderr)  # noqa: T201
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
