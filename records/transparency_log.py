"""A log that only grows: every entry signed and chained to the one before, all of them under one Merkle root.

Layout, under the log's place: ``<number>.json``, one file an entry, from 1; ``head.json``, the signed size and root,
written after each entry. A writer killed between the two, or a disk that is full then, leaves a head that is one entry
behind, which is no fault: the next writer brings it up to date. Fewer entries than the head says, or another root over
so many, is one.

Who learns what: entries are public to whoever reads the store. Adversary: one who changes, removes or reorders files
without the signing key: found by the signatures, the chain and the head. One who cuts the log short *and* puts back
the head of that time, or who has the key, is found by whoever remembers a later head.

In memory a log takes 32 bytes an entry, the hash: what entries say stays in their files, and with whoever is told.

Source: the log of RFC 9162 (Certificate Transparency), reduced to one writer and files.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import canonical, parse_mapping
from .errors import RecordError
from .merkle_tree import EMPTY, LEAF_BYTES, Peaks, inclusion_path, is_included, leaf_hash, root_of
from .object_store import ObjectStore
from .signing import ENTRY_TYPE, HEAD_TYPE, Signature, Signer, is_signed


@dataclass(frozen=True, slots=True)
class Head:
    """How long a log is, and the root over all its entries: **remember it** to know later that none was cut off."""

    size: int
    root: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"size": self.size, "root": self.root}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log.

    Attributes
    ----------
    number : int
        From 1.
    body : mapping
        What it says.
    previous : str
        The hash of the entry before.
    key : str
        The public key that it is signed with.
    leaf : bytes
        Its hash as a leaf of the tree.
    """

    number: int
    body: Mapping[str, Any]
    previous: str
    key: str
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A proof that an entry is in a log with a certain root.

    Attributes
    ----------
    entry : bytes
        The entry's file.
    number : int
        Its number, from 1.
    path : tuple of str
        The hashes that lead to the root.
    head : Head
        The size and the root.
    """

    entry: bytes
    number: int
    path: tuple[str, ...]
    head: Head

    def holds(self, head: Head) -> bool:
        """Whether the entry is in the log that has this head, got from somewhere else than the proof."""
        try:
            path, root = [bytes.fromhex(step) for step in self.path], bytes.fromhex(head.root)
        except ValueError:
            return False
        leaf = leaf_hash(self.entry)
        return head == self.head and is_included(leaf, self.number - 1, head.size, path, root)

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as JSON-able data."""
        return {
            "entry": self.entry.decode("ascii"),
            "number": self.number,
            "path": list(self.path),
            "head": self.head.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Inclusion:
        """Restore a proof from `to_dict`.

        Raises
        ------
        RecordError
            If it is none.
        """
        try:
            head = Head(int(content["head"]["size"]), str(content["head"]["root"]))
            path = tuple(map(str, content["path"]))
            return cls(content["entry"].encode("ascii"), int(content["number"]), path, head)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RecordError("this is no proof of inclusion") from None


class Log:
    """A log at a place in a store.

    Parameters
    ----------
    objects : ObjectStore
    place : str
        Its folder.
    key : Signer, optional
        What entries and heads are signed with; not needed to read.
    note : callable, optional
        Told every entry that can be read, once, oldest first, when it is first read or written here: the log itself
        keeps none.
    """

    def __init__(
        self,
        objects: ObjectStore,
        place: str,
        key: Signer | None = None,
        *,
        note: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.place = place
        self._objects = objects
        self._key = key
        self._note = note
        self._guard = threading.RLock()
        self._leaves = bytearray()  # of all entries read so far, one after the other
        self._peaks = Peaks()
        self._damages: dict[int, str] = {}  # what is wrong with an entry, by its number
        self._owes_head = False

    def entries(self) -> Iterator[Entry]:
        """Read every entry once more, oldest first.

        Raises
        ------
        RecordError
            If one is damaged, or is not what it was when it was first read.
        """
        for number in range(1, self.head().size + 1):
            yield self._reread(number)

    def head(self) -> Head:
        """Return size and root of what is there, computed and not as `head.json` says."""
        with self._guard:
            self.refresh()
            return Head(self._peaks.size, self._peaks.root().hex())

    def root_at(self, size: int) -> str | None:
        """Return the root over the first entries; None if there are fewer."""
        with self._guard:
            self.refresh()
            return root_of(self._first(size)).hex() if 0 <= size <= self._peaks.size else None

    def append(self, body: Mapping[str, Any]) -> Entry:
        """Append an entry; **the caller holds the lock of the store**.

        Raises
        ------
        RecordError
            If the body is no JSON, or the log is damaged, or it cannot be written: then it is not there.
        """
        with self._guard:
            self._check_appendable()
            number = self._peaks.size + 1
            content = self._signed(
                {"body": body, "log": self.place, "number": number, "previous": self._last()}, ENTRY_TYPE
            )
            if self._owes_head or (number == 1 and self._objects.read(self.head_address) is None):
                self._write_head()
            if not self._objects.create(self.address(number), content):
                raise RecordError(
                    f"{self.address(number)} appeared meanwhile: two processes write without a lock"
                )
            entry = self._take(content)
            with contextlib.suppress(
                RecordError
            ):  # the entry is on disk, and its head comes before the next one
                self._write_head()
            if entry is None:
                raise RecordError("the log does not read what it wrote")
            return entry

    def check_whole(self, after: int = 0) -> None:
        """Refuse a log of which an entry after a number, or the head, is damaged or missing.

        Raises
        ------
        RecordError
            With the file.
        """
        octets = self._objects.read(self.head_address)  # before the entries: a writer may be at work
        size = 0 if octets is None else read_head(octets, self.place, self.head_address)[0].size
        with self._guard:
            self.refresh()
            for number, damage in self._damages.items():
                if number > after:
                    raise RecordError(damage)
            if octets is None and self._leaves and self._objects.read(self.head_address) is None:
                raise RecordError(f"{self.head_address} is missing")
            if size > self._peaks.size:
                raise RecordError(f"{self.address(self._peaks.size + 1)} is missing")

    def include(self, number: int) -> Inclusion:
        """Prove that an entry is in the log as it is now."""
        with self._guard:
            self.refresh()
            path = inclusion_path(self._first(self._peaks.size), number - 1)
            content = self._objects.read(self.address(number)) or b""
            return Inclusion(content, number, tuple(step.hex() for step in path), self.head())

    @property
    def head_address(self) -> str:
        """Where the head lies."""
        return f"{self.place}/head.json"

    def address(self, number: int) -> str:
        """Return where an entry lies."""
        return f"{self.place}/{number:08d}.json"

    def refresh(self) -> None:
        """Read the entries that came since."""
        with self._guard:
            while (content := self._objects_read(self._peaks.size + 1)) is not None:
                self._take(content)

    def _first(self, size: int) -> list[bytes]:
        """Return the leaves of the first entries."""
        return [bytes(self._leaves[at : at + LEAF_BYTES]) for at in range(0, LEAF_BYTES * size, LEAF_BYTES)]

    def _last(self) -> str:
        """Return what the next entry names as the one before it."""
        return (self._leaves[-LEAF_BYTES:] or EMPTY).hex()

    def _reread(self, number: int) -> Entry:
        if number in self._damages:
            raise RecordError(self._damages[number])
        file, content = self.address(number), self._objects.read(self.address(number))
        leaf = self._leaves[LEAF_BYTES * (number - 1) : LEAF_BYTES * number]
        if content is None or leaf_hash(content) != leaf:
            raise RecordError(f"{file} is damaged: it is not what it was")
        return read_entry(content, self.place, number, file)

    def _objects_read(self, number: int) -> bytes | None:
        """Return an entry's bytes; of one that cannot be opened, bytes that are no entry."""
        try:
            return self._objects.read(self.address(number))
        except RecordError as error:
            self._damages.setdefault(number, str(error))
            return b""

    def _take(self, content: bytes) -> Entry | None:
        number, entry = self._peaks.size + 1, None
        try:
            entry = read_entry(content, self.place, number, self.address(number))
            if self._leaves and entry.previous != self._last():
                raise RecordError(f"{self.address(number)} does not follow the entry before it")
        except RecordError as error:
            self._damages.setdefault(number, str(error))
        leaf = leaf_hash(content)
        self._leaves += leaf
        self._peaks.add(leaf)
        if entry is not None:
            self._note(entry)
        return entry

    def _check_appendable(self) -> None:
        """Refuse to write after what is damaged: the new entry would vouch for it."""
        try:
            self.check_whole()
        except RecordError as error:
            raise RecordError(f"nothing is written to a damaged log: {error}") from None

    def _write_head(self) -> None:
        self._owes_head = True
        head = Head(self._peaks.size, self._peaks.root().hex())
        self._objects.replace(
            self.head_address, self._signed({"log": self.place, **head.to_dict()}, HEAD_TYPE)
        )
        self._owes_head = False

    def _signed(self, content: Mapping[str, Any], content_type: str) -> bytes:
        if self._key is None:
            raise RecordError(f"{self.place} is open for reading only")
        signed = {**content, "key": self._key.public}
        signature = self._key.sign(canonical(signed), content_type)
        return canonical({**signed, "signature": signature.value})


def read_entry(octets: bytes, place: str, number: int, file: str) -> Entry:
    """Return the entry of a file, unless its form, place, number or signature is wrong."""
    content = parse_mapping(octets, file)
    body, previous, key = content.get("body"), content.get("previous"), content.get("key")
    if (content.get("log"), content.get("number")) != (place, number):
        raise RecordError(f"{file} is damaged: it is another entry, or of another log")
    if not isinstance(body, dict) or not isinstance(previous, str) or not isinstance(key, str):
        raise RecordError(f"{file} is damaged: it is no log entry")
    if not _is_own(content, ENTRY_TYPE):
        raise RecordError(f"{file} is damaged: its signature is wrong")
    return Entry(number, body, previous, key, leaf_hash(octets))


def read_head(octets: bytes, place: str, file: str) -> tuple[Head, str]:
    """Return the head of a file and the key that signed it.

    Raises
    ------
    RecordError
        If it is malformed, or not signed.
    """
    content = parse_mapping(octets, file)
    size, root, key = content.get("size"), content.get("root"), content.get("key")
    if not _is_own(content, HEAD_TYPE) or content.get("log") != place:
        raise RecordError(f"{file} is damaged: its signature is wrong")
    if not isinstance(size, int) or not isinstance(root, str):
        raise RecordError(f"{file} is damaged: it is no head")
    return Head(size, root), str(key)


def _is_own(content: Mapping[str, Any], content_type: str) -> bool:
    """Whether what a file says is signed by the key that it names."""
    rest = {name: value for name, value in content.items() if name != "signature"}
    signature = Signature(str(content.get("key")), str(content.get("signature")))
    return is_signed(signature, canonical(rest), content_type)
