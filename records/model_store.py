"""An append-only store of results and of the record of every aggregate, in a folder.

Layout: ``aggregates/<number>.json``, one file for every sum that was revealed, and
``results/<name>/<version>.json``, one for every saved result. A file appears whole or not at all, is never
changed or overwritten, and is there after the process, or the machine, has died: it is written beside its
place, flushed to disk, and linked to its name, which fails if the name is taken. Several processes may write
to one folder.

Numbers are written as the shortest decimals that round-trip binary64, so what is read back has the same bits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import RecordError

Record = Mapping[str, Any]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NUMBERED = re.compile(r"(?a:(\d{8,})\.json)")


class ModelStore:
    """Results and records of aggregates in one folder.

    Parameters
    ----------
    folder : path
        Made if it does not exist.

    Raises
    ------
    RecordError
        If the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._sessions: dict[int, str] = {}  # of the aggregates seen so far, by number
        for part in ("aggregates", "results"):
            _make_folder(self.folder / part)

    def append_aggregate(self, record: Record) -> int:
        """Append the record of one aggregate; returns its number, from 1.

        A record of a session that is there already is not written again, so a repeated call is harmless.

        Raises
        ------
        RecordError
            If the record names no session, holds what JSON cannot carry, or cannot be written.
        """
        session = record.get("session")
        if not isinstance(session, str):
            raise RecordError("the record of an aggregate names its session, a text")
        place = self.folder / "aggregates"
        with _locked(place):
            for number, path in _numbers(place):
                if number not in self._sessions:
                    self._sessions[number] = str(_read(path).get("session"))
                if self._sessions[number] == session:
                    return number
            return self._append(place, record)

    def aggregates(self) -> list[dict[str, Any]]:
        """Every record, oldest first."""
        return [record for _, record in self._numbered(self.folder / "aggregates")]

    def save(self, name: str, result: Record) -> int:
        """Save a result as the next version of a name; returns the version, from 1."""
        place = self._place(name)
        _make_folder(place)
        return self._append(place, result)

    def load(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Load a version of a result, by default the newest.

        Raises
        ------
        RecordError
            If there is no such name or version, or the file is damaged.
        """
        versions = self.versions(name)
        if not versions:
            raise RecordError(f"nothing is saved under {name!r}")
        wanted = versions[-1] if version is None else version
        if wanted not in versions:
            known = ", ".join(map(str, versions))
            raise RecordError(f"{name!r} has no version {wanted}: its versions are {known}")
        return _read(self._place(name) / _file_name(wanted))

    def versions(self, name: str) -> list[int]:
        """Return the versions of a name, oldest first; empty if there are none."""
        return [number for number, _ in _numbers(self._place(name))]

    def names(self) -> list[str]:
        """Every name with a saved result."""
        return sorted(place.name for place in (self.folder / "results").iterdir() if place.is_dir())

    def _place(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RecordError(
                "a name has 1 to 100 letters, digits, dots, dashes and underscores, and starts with a letter "
                "or a digit"
            )
        return self.folder / "results" / name

    def _numbered(self, place: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        return ((number, _read(path)) for number, path in _numbers(place))

    def _append(self, place: Path, record: Record) -> int:
        """Write under the next free number."""
        try:
            content = json.dumps(record, sort_keys=True, allow_nan=True, indent=1).encode()
        except (TypeError, ValueError):
            raise RecordError("a record holds what JSON cannot carry exactly") from None
        number = max((known for known, _ in _numbers(place)), default=0) + 1  # others may be faster
        while not _write_once(place / _file_name(number), content):
            number += 1
        return number


def _file_name(number: int) -> str:
    return f"{number:08d}.json"


def _numbers(place: Path) -> list[tuple[int, Path]]:
    """Return the numbered files of a folder in their order; what a killed writer left is passed over."""
    if not place.is_dir():
        return []
    found = ((NUMBERED.fullmatch(path.name), path) for path in place.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _make_folder(folder: Path) -> None:
    """Make a folder that is there after the machine has died."""
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(folder.parent)
    except OSError as error:
        problem = error.strerror or "unusable path"
        raise RecordError(f"the folder {folder} cannot be made: {problem}") from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers out, in this process and in others; a killed one lets go."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RecordError(f"{folder} cannot be locked: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_once(path: Path, content: bytes) -> bool:
    """Write a file atomically and durably; False if the name is taken."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise RecordError(f"{path.name} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise RecordError(f"{path.name} in {path.parent.name} is damaged or unreadable") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path.name} in {path.parent.name} holds no record")
    return record
