"""An append-only store of results and of the record of every aggregate, in a folder.

Layout: ``aggregates/<number>.json``, one file for every sum that was revealed, and ``results/<name>/<version>.json``,
one for every saved result. A file appears whole or not at all, is never changed or overwritten, and is there after the
process, or the machine, has died: it is written beside its place, flushed to disk, and linked to its name, which fails
if the name is taken. Several processes may write to one folder.

Numbers are written as the shortest decimals that round-trip binary64, so what is read back has the same bits.
"""

from __future__ import annotations

import contextlib
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
        try:
            for part in ("aggregates", "results"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(
                f"no repository can be made in {self.folder}: {error.strerror or 'unusable path'}"
            ) from None

    def append_aggregate(self, record: Record) -> int:
        """Append the record of one aggregate; returns its number, from 1.

        A record of a session that is there already is not written again, so a repeated call is harmless.
        """
        for number, known in self._numbered(self.folder / "aggregates"):
            if known.get("session") == record.get("session"):
                return number
        return self._append(self.folder / "aggregates", record)

    def aggregates(self) -> list[dict[str, Any]]:
        """Every record, oldest first."""
        return [record for _, record in self._numbered(self.folder / "aggregates")]

    def save(self, name: str, result: Record) -> int:
        """Save a result as the next version of a name; returns the version, from 1."""
        place = self._place(name)
        place.mkdir(exist_ok=True)
        return self._append(place, result)

    def load(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Load a version of a result, by default the newest.

        Raises
        ------
        RecordError
            If there is no such name or version, or the file is damaged.
        """
        versions = self.versions(name)
        wanted = versions[-1] if version is None and versions else version
        if wanted not in versions:
            known = ", ".join(map(str, versions)) or "none"
            raise RecordError(f"{name!r} has no version {wanted}: its versions are {known}")
        return _read(self._place(name) / _file_name(wanted))

    def versions(self, name: str) -> list[int]:
        """The versions of a name, oldest first; empty if there are none."""
        return sorted(number for number, _ in _numbers(self._place(name)))

    def names(self) -> list[str]:
        """Every name with a saved result."""
        return sorted(place.name for place in (self.folder / "results").iterdir() if place.is_dir())

    def _place(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RecordError(
                "a name has 1 to 100 letters, digits, dots, dashes or underscores, and starts with one of the first two"
            )
        return self.folder / "results" / name

    def _numbered(self, place: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        return ((number, _read(path)) for number, path in sorted(_numbers(place)))

    def _append(self, place: Path, record: Record) -> int:
        """Write under the next free number."""
        try:
            content = json.dumps(record, sort_keys=True, allow_nan=True, indent=1).encode()
        except (TypeError, ValueError):
            raise RecordError("a record holds what JSON cannot carry exactly") from None
        number = max((known for known, _ in _numbers(place)), default=0) + 1
        while not _write_once(place / _file_name(number), content):
            number += 1
        return number


def _file_name(number: int) -> str:
    return f"{number:08d}.json"


def _numbers(place: Path) -> Iterator[tuple[int, Path]]:
    """The numbered files of a folder; temporary ones, left by a killed writer, are passed over."""
    if place.is_dir():
        for path in place.glob("[0-9]*.json"):
            yield int(path.stem), path


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
    except (OSError, ValueError):
        raise RecordError(f"{path.name} in {path.parent.name} is damaged or unreadable") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path.name} in {path.parent.name} holds no record")
    return record
