"""What a message accepts when it is made, what it refuses when it is declared, and what it shows."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import struct
from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from typing import Annotated, Any, NewType

import numpy as np
import pytest
from numpy.typing import NDArray
from tacit.serialization.errors import EncodeError
from tacit.serialization.field_types import AtMost, Between, OneOf, Size
from tacit.serialization.schema import Message, message, registered_messages

SessionId = NewType("SessionId", bytes)
SECRET = 271828


@message("test-schema/Leaf", version=1)
class Leaf(Message):
    number: int


@message("test-schema/Branch", version=1)
class Branch(Message):
    leaves: tuple[Leaf, ...]


@message("test-schema/Everything", version=1)
class Everything(Message):
    flag: bool = True
    number: int = 0
    real: float = 0.0
    text: str = ""
    data: bytes = b""
    session: Annotated[SessionId, Size(4)] = SessionId(b"abcd")
    short: Annotated[str, AtMost(3)] = ""
    colour: Annotated[str, OneOf("red", "green")] = "red"
    small: Annotated[int, Between(0, 9)] = 0
    few: Annotated[tuple[int, ...], AtMost(2)] = ()
    maybe: int | None = None
    pair: tuple[int, str] = (0, "")
    table: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    words: NDArray[np.uint64] = dataclasses.field(default_factory=lambda: np.zeros(1, np.uint64))
    array: NDArray[Any] = dataclasses.field(default_factory=lambda: np.zeros(1))
    leaf: Leaf = dataclasses.field(default_factory=lambda: Leaf(1))
    either: Leaf | Branch | None = None
    anything: Message = dataclasses.field(default_factory=lambda: Leaf(1))


class Undeclared(Message):
    """Derived, but not declared."""


class Text(str):
    """A subclass of an allowed type."""


Pair = namedtuple("Pair", "a b")

REFUSED: list[tuple[str, Any]] = [
    ("flag", 1),
    ("flag", np.True_),
    ("number", True),
    ("number", 1.0),
    ("number", np.int64(1)),
    ("real", 1),
    ("real", np.float64(1)),
    ("text", b""),
    ("text", Text("x")),
    ("text", None),
    ("text", "\ud800"),
    ("data", ""),
    ("data", bytearray()),
    ("data", memoryview(b"")),
    ("session", b"abc"),
    ("session", b"abcde"),
    ("short", "four"),
    ("colour", "blue"),
    ("small", -1),
    ("small", 10),
    ("small", True),
    ("few", (1, 2, 3)),
    ("few", [1]),
    ("few", Pair(1, 2)),
    ("few", (1.0,)),
    ("maybe", ""),
    ("pair", (0,)),
    ("pair", (0, "", 0)),
    ("pair", ("", 0)),
    ("table", {1: ()}),
    ("table", {"a": [1.0]}),
    ("table", [("a", ())]),
    ("table", {"\udfff": ()}),
    ("words", np.zeros(1, np.int64)),
    ("words", np.zeros(1, ">u8")),
    ("words", [1]),
    ("words", np.uint64(1)),
    ("words", np.ma.masked_array(np.zeros(1, np.uint64))),
    ("array", np.zeros(1, complex)),
    ("array", np.zeros(1, object)),
    ("array", np.zeros(1, "U3")),
    ("array", np.zeros(1, "M8[s]")),
    ("array", np.zeros(1, [("a", "f8")])),
    ("array", np.zeros(1, np.float16)),
    ("array", np.zeros((1,) * 9)),
    ("array", np.array([0, 2], np.uint8).view(bool)),
    ("leaf", Branch(())),
    ("leaf", {"number": 1}),
    ("either", 1),
    ("either", Everything),
    ("anything", Undeclared()),
    ("anything", None),
    ("anything", b""),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_values_of_another_type_or_size_are_refused_by_field(name: str, value: Any) -> None:
    with pytest.raises(EncodeError, match=rf"Everything\.{name}\b"):
        Everything(**{name: value})


def test_integers_have_at_most_64_kib() -> None:
    assert Leaf((1 << 524_287) - 1).number > 0
    with pytest.raises(EncodeError, match=r"Leaf\.number must be an integer of at most"):
        Leaf(1 << 524_287)


@pytest.mark.parametrize(("name", "value"), [("text", SECRET), ("few", ("271828",)), ("small", SECRET)])
def test_errors_name_no_value(name: str, value: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        Everything(**{name: value})
    assert str(SECRET) not in str(caught.value)


ACCEPTED: list[tuple[str, Any]] = [
    ("real", float("nan")),
    ("real", float("-inf")),
    ("text", "ä\U0001f600\0"),
    ("few", (1, 2)),
    ("maybe", None),
    ("maybe", 3),
    ("pair", (3, "x")),
    ("words", np.zeros((0, 3), np.uint64)),
    ("array", np.array(3.0)),
    ("array", np.array([True, False])),
    ("array", np.zeros((1,) * 8, np.int8)),
    ("either", Branch((Leaf(1),))),
    ("either", Leaf(1)),
    ("either", None),
    ("anything", Branch(())),
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_values_as_declared_are_kept(name: str, value: Any) -> None:
    kept = getattr(Everything(**{name: value}), name)
    if isinstance(value, np.ndarray):
        assert kept.shape == value.shape
        assert kept.dtype == value.dtype
        assert np.array_equal(kept, value)
    else:
        assert kept is value or kept == value


@pytest.mark.parametrize("code", "?bhilBHILfd")
def test_every_common_dtype_is_allowed(code: str) -> None:
    assert Everything(array=np.zeros(2, code)).array.dtype == np.dtype(code)


def test_arrays_become_read_only_views_without_a_copy() -> None:
    original = np.arange(6, dtype=np.uint64)
    kept = Everything(words=original).words
    assert np.shares_memory(kept, original)
    assert not kept.flags.writeable
    assert original.flags.writeable


def test_strided_arrays_become_contiguous() -> None:
    original = np.arange(12.0).reshape(3, 4).T
    kept = Everything(array=original).array
    assert kept.flags.c_contiguous
    assert not kept.flags.writeable
    assert np.array_equal(kept, original)


def test_arrays_inside_containers_become_read_only() -> None:
    held = Arrays(several=(np.zeros(2),), named={"a": np.zeros(2)})
    assert not held.several[0].flags.writeable
    assert not held.named["a"].flags.writeable


@message("test-schema/Arrays", version=1)
class Arrays(Message):
    several: tuple[NDArray[np.float64], ...]
    named: Mapping[str, NDArray[np.float64]]


def test_mappings_become_sorted_and_read_only_copies() -> None:
    original: dict[str, tuple[float, ...]] = {"b": (), "a": (1.0,)}
    kept = Everything(table=original).table
    original["c"] = ()
    assert list(kept) == ["a", "b"]
    with pytest.raises(TypeError):
        kept["c"] = ()  # type: ignore[index]


def test_any_mapping_is_accepted() -> None:
    assert Everything(table=OrderedDict(a=())).table == {"a": ()}


def test_messages_are_frozen_and_slotted() -> None:
    leaf = Leaf(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        leaf.number = 2  # type: ignore[misc]
    assert not hasattr(leaf, "__dict__")


def test_equality_is_bit_for_bit() -> None:
    quiet, other = struct.unpack("<2d", struct.pack("<2Q", 0x7FF8 << 48, (0x7FF8 << 48) + 1))
    assert Everything(real=quiet) == Everything(real=quiet)
    assert Everything(real=quiet) != Everything(real=other)
    assert Everything(real=0.0) != Everything(real=-0.0)
    assert Everything(array=np.array([np.nan])) == Everything(array=np.array([np.nan]))
    assert Everything(array=np.array([0.0])) != Everything(array=np.array([-0.0]))
    assert Everything(array=np.zeros(2)) != Everything(array=np.zeros((2, 1)))
    assert Everything(array=np.zeros(2, np.int64)) != Everything(array=np.zeros(2, np.uint64))
    assert Everything(table={"a": (1.0,), "b": ()}) == Everything(table={"b": (), "a": (1.0,)})
    assert Everything(table={"a": (1.0,)}) != Everything(table={"a": (2.0,)})
    assert Everything(few=(1,)) != Everything(few=(1, 2))


def test_equality_is_of_one_class() -> None:
    assert Leaf(1) != Branch(())
    assert Leaf(1) != 1
    assert Leaf(1) == Leaf(1)


def test_messages_have_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Leaf(1))


def test_representation_shows_types_and_sizes_only() -> None:
    shown = repr(
        Everything(
            number=SECRET,
            text="Alice",
            data=b"Alice",
            maybe=SECRET,
            table={"Alice": ()},
            words=np.full((3, 2), SECRET, np.uint64),
            leaf=Leaf(SECRET),
        )
    )
    assert "Alice" not in shown
    assert str(SECRET) not in shown
    assert shown.startswith("Everything(flag=<bool>, number=<int>, real=<float>, text=<5 characters>, ")
    assert "data=<5 bytes>" in shown
    assert "words=<uint64 (3, 2)>" in shown
    assert "table=<1 items>" in shown
    assert "leaf=<Leaf>" in shown
    assert "either=None" in shown


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))]
)
def test_copies_and_pickles_are_equal_and_read_only(duplicate: Any) -> None:
    original = Everything(table={"a": (1.0,)}, leaf=Leaf(5), array=np.arange(3))
    other = duplicate(original)
    assert other == original
    assert not other.array.flags.writeable


def test_registry_knows_the_declared() -> None:
    assert registered_messages()["test-schema/Leaf", 1] is Leaf
    assert (Leaf.message_name, Leaf.message_version) == ("test-schema/Leaf", 1)


def test_a_name_and_version_are_declared_once() -> None:
    with pytest.raises(TypeError, match="declared twice"):

        @message("test-schema/Leaf", version=1)
        class Again(Message):
            number: int

    assert registered_messages()["test-schema/Leaf", 1] is Leaf


@pytest.mark.parametrize(
    "annotation",
    [
        list[int],
        dict[str, int],
        set,
        object,
        Any,
        complex,
        int | str,
        int | str | None,
        Leaf | int,
        tuple,
        tuple[()],
        tuple[object, ...],
        Mapping,
        Mapping[int, int],
        np.ndarray,
        np.float64,
        NDArray[np.complex128],
        NDArray[np.object_],
        NDArray[np.floating],
        type[Leaf],
        Undeclared,
        Leaf | Undeclared,
        Annotated[int, AtMost(3)],
        Annotated[float, Between(0, 1)],
        Annotated[bytes, OneOf("a")],
        Annotated[NDArray[Any], AtMost(3)],
        Annotated[bytes, 32],
    ],
)
def test_unknown_field_types_are_refused_at_declaration(annotation: Any) -> None:
    declared = type(
        "Declared", (Message,), {"__annotations__": {"field": annotation}, "__module__": __name__}
    )
    with pytest.raises(TypeError):
        message("test-schema/Refused", version=1)(declared)
    assert ("test-schema/Refused", 1) not in registered_messages()


@pytest.mark.parametrize("name", ["message_name", "_hidden"])
def test_reserved_field_names_are_refused(name: str) -> None:
    declared = type("Declared", (Message,), {"__annotations__": {name: int}, "__module__": __name__})
    with pytest.raises(TypeError, match="names of fields"):
        message("test-schema/Refused", version=1)(declared)


@pytest.mark.parametrize(("name", "version"), [("", 1), ("é", 1), ("x" * 101, 1), ("x", 0), ("x", True)])
def test_names_are_ascii_and_versions_count_from_one(name: str, version: int) -> None:
    with pytest.raises(TypeError, match="ASCII name"):
        message(name, version)(type("Declared", (Message,), {}))


def test_a_message_derives_from_message_itself() -> None:
    with pytest.raises(TypeError, match="must derive from Message"):
        message("test-schema/Refused", version=1)(int)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="not from another message"):
        type("Twig", (Leaf,), {})


@message("test-schema/Even", version=1)
class Even(Message):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise EncodeError("Even.number must be even")


def test_a_class_adds_its_own_check_after_the_declared_ones() -> None:
    assert Even(2).number == 2
    with pytest.raises(EncodeError, match="must be even"):
        Even(1)
    with pytest.raises(EncodeError, match="must be int"):
        Even("1")  # type: ignore[arg-type]
