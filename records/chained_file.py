"""A file that only grows, one line of JSON after the other, each hashed with all before it.

A line is appended and flushed to disk under a lock before `append` returns: what has left after that is on record,
whenever the process or the machine dies. A line that a killed writer left without its end is cut off.

A line is the SHA-256 of the line before's and of its own content, a blank, and the content, canonical JSON. A changed,
lost or moved line is found, and the file then refuses everything. Lines cut off at the end, or a file that is deleted,
are not found, unless a process has read them: the file is its owner's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from .canonical import canonical, parse_mapping, sha256
from .errors import RecordError
from .object_store import POLL_SECONDS, sync_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file has been read: whole lines, where the last of them ends, and its SHA-256."""

    lines: int = 0
    end: int = 0
    chain: str = ""


START = Place()


class ChainedFile:
    """A file of chained lines; several processes may append to it.

    Parameters
    ----------
    path : path
        Made with the first line, in a folder that exists.
    what : str
        What errors call it: "the budget".

    Raises
    ------
    RecordError
        If the folder is not there.
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.path = Path(path)
        self.title = f"{what} {self.path.name}"
        if not self.path.parent.is_dir():
            raise RecordError(f"the folder of {self.title} is not there: make it first")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others; a killed one lets go."""
        lock = FileLock(f"{self.path}.lock", mode=0o600, is_singleton=False)
        try:
            lock.acquire(poll_interval=POLL_SECONDS)
        except OSError as error:
            raise RecordError(f"{self.title} cannot be locked: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    def read(self, after: Place = START) -> tuple[list[dict[str, Any]], Place]:
        """Return the lines after a place, and the place after the last of them.

        Raises
        ------
        RecordError
            If the file is damaged or unreadable.
        """
        octets = self._octets(after.end)
        lines, end, chain = after.lines, after.end, after.chain
        contents: list[dict[str, Any]] = []
        for line in octets[: octets.rfind(b"\n") + 1].split(b"\n")[:-1]:
            content = line[65:]
            chain, lines, end = _chained(chain, content), lines + 1, end + len(line) + 1
            if line[:65] != chain.encode() + b" ":
                raise RecordError(f"{self.title} is damaged at line {lines}: nothing is released")
            contents.append(parse_mapping(content, self.title))
        return contents, Place(lines, end, chain)

    def append(self, after: Place, *contents: Mapping[str, Any]) -> Place:
        """Add lines after the last whole one, and return when they are on disk; **the caller holds the lock**.

        Raises
        ------
        RecordError
            If they cannot be written.
        """
        chain, octets = after.chain, b""
        for content in map(canonical, contents):
            chain = _chained(chain, content)
            octets += chain.encode() + b" " + content + b"\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                if os.fstat(file.fileno()).st_size > after.end:
                    logger.warning(
                        "%s had a line without its end, of a writer that was killed: it is cut off",
                        self.title,
                    )
                file.truncate(after.end)
                file.seek(after.end)
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.path.parent)
        except OSError as error:
            raise RecordError(f"{self.title} cannot be written: {error.strerror}") from None
        return Place(after.lines + len(contents), after.end + len(octets), chain)

    def _octets(self, start: int) -> bytes:
        """Return the bytes from a place on, which must still be there."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(start)
                octets = file.read()
        except FileNotFoundError:
            size, octets = 0, b""
        except OSError as error:
            raise RecordError(f"{self.title} cannot be read: {error.strerror}") from None
        if size < start:
            raise RecordError(
                f"{self.title} is damaged: lines that were read are gone, and nothing is released"
            )
        return octets


def _chained(chain: str, content: bytes) -> str:
    return sha256(chain.encode() + content)
