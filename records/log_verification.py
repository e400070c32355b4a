"""Is a log as it was written? Every file read anew, every signature, the chain and the root recomputed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import RecordError
from .merkle_tree import EMPTY, leaf_hash, root_of
from .object_store import ObjectStore
from .transparency_log import Head, read_entry, read_head

NUMBERED = re.compile(r"(?a:(\d{8}|[1-9]\d{8,})\.json)")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written.

    Attributes
    ----------
    file : str
        Which file.
    problem : str
        What is wrong with it.
    """

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def check_log(
    objects: ObjectStore, place: str, *, trusted: frozenset[str] = frozenset(), remembered: Head | None = None
) -> Iterator[Fault]:
    """Read a log anew and recompute everything: forms, signatures, the chain, the root; yield what is wrong.

    Parameters
    ----------
    objects : ObjectStore
    place : str
        The log's folder.
    trusted : frozenset of str
        Keys that may sign; empty for any.
    remembered : Head, optional
        A head seen earlier, with which the log must begin.
    """
    leaves: list[bytes] = []
    missing = 1
    head, found = _head(objects, place), numbers(objects, place)  # in this order: a writer may be at work
    if head is None and found:  # the first of all was written meanwhile, after the head
        head, found = _head(objects, place), numbers(objects, place)
    for number in found:
        file = f"{place}/{number:08d}.json"
        if number > missing:
            yield Fault(f"{place}/{missing:08d}.json", "missing")
        missing, octets = number + 1, b""
        try:
            octets = objects.read(file) or b""
            entry = read_entry(octets, place, number, file)
            if trusted and entry.key not in trusted:
                yield Fault(file, f"signed by {entry.key}, which is not trusted")
            if entry.previous != (leaves[-1] if leaves else EMPTY).hex():
                yield Fault(file, "does not follow the entry before it: one of the two was changed")
        except RecordError as error:
            yield Fault(file, str(error))
        leaves.append(leaf_hash(octets))
    yield from _faults_of_head(head, place, leaves, trusted)
    if remembered is not None and _root(leaves, remembered.size) != remembered.root:
        yield Fault(f"{place}/", f"its first {remembered.size} entries are not those that are remembered")


def _head(objects: ObjectStore, place: str) -> tuple[Head, str] | RecordError | None:
    """Return the head and who signed it; what is wrong with it; or None if there is none."""
    file = f"{place}/head.json"
    try:
        octets = objects.read(file)
        return None if octets is None else read_head(octets, place, file)
    except RecordError as error:
        return error


def _faults_of_head(
    found: tuple[Head, str] | RecordError | None, place: str, leaves: list[bytes], trusted: frozenset[str]
) -> Iterator[Fault]:
    file = f"{place}/head.json"
    if found is None:
        if leaves:
            yield Fault(file, "missing")
        return
    if isinstance(found, RecordError):
        yield Fault(file, str(found))
        return
    head, key = found
    if trusted and key not in trusted:
        yield Fault(file, f"signed by {key}, which is not trusted")
    if head.size > len(leaves):
        yield Fault(file, f"entries are missing: it counts {head.size}, there are {len(leaves)}")
    elif _root(leaves, head.size) != head.root:
        yield Fault(file, f"its root is not that of the first {head.size} entries: some were changed")


def _root(leaves: list[bytes], size: int) -> str | None:
    return root_of(leaves[:size]).hex() if 0 <= size <= len(leaves) else None


def numbers(objects: ObjectStore, place: str) -> list[int]:
    """Return the numbers of the entries that are there, in order."""
    names = (file.removeprefix(f"{place}/") for file in objects.files() if file.startswith(f"{place}/"))
    found = (int(match[1]) for name in names if (match := NUMBERED.fullmatch(name)))
    return sorted(set(found))
