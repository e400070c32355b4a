"""Files and folders that nobody but their owner may read: keys, passwords, tokens, and what a party keeps.

Adversary: other users of the machine, as far as the file system keeps them apart; not its administrator.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import RecordError

OTHERS = stat.S_IRWXG | stat.S_IRWXO
CHANGING = stat.S_IWGRP | stat.S_IWOTH


def read_private(path: str | os.PathLike[str]) -> str:
    """Read the text of a file that its owner alone may read.

    Raises
    ------
    RecordError
        If others may read or change it, or it cannot be read; nothing of it is told.
    """
    try:
        with open(path, encoding="utf-8") as file:
            _check(os.fspath(path), os.fstat(file.fileno()).st_mode, OTHERS, "go=")
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def write_private(path: str | os.PathLike[str], text: str) -> None:
    """Write a file that is not there yet, and that its owner alone may read: it is on the disk on return.

    Raises
    ------
    RecordError
        If there is one already, which stays as it is, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise RecordError(
            f"{os.fspath(path)} is there already, and is not overwritten: choose another name, or move it away"
        ) from None
    except OSError as error:
        raise RecordError(f"{os.fspath(path)} cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        os.unlink(path)  # half of a key would be taken for one
        raise RecordError(f"{os.fspath(path)} cannot be written: {error.strerror}") from None


def check_private(path: str | os.PathLike[str]) -> None:
    """Refuse a file or folder that others than its owner may read or change.

    Raises
    ------
    RecordError
        With the command that helps; or if it is not there.
    """
    _check(os.fspath(path), _mode(path), OTHERS, "go=")


def check_unchanged_by_others(path: str | os.PathLike[str]) -> None:
    """Refuse a file that others than its owner may change, though they may read it.

    Raises
    ------
    RecordError
        With the command that helps; or if it is not there.
    """
    _check(os.fspath(path), _mode(path), CHANGING, "go-w")


def private_folder(path: str | os.PathLike[str]) -> Path:
    """Return a folder that its owner alone may enter, made if it is not there.

    Raises
    ------
    RecordError
        If others may, or it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"the folder {folder} cannot be made: {error.strerror}") from None
    check_private(folder)
    return folder


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise _unreadable(path, error) from None


def _check(path: str, mode: int, forbidden: int, remedy: str) -> None:
    if mode & forbidden:
        may = "change" if forbidden == CHANGING else "read"
        raise RecordError(
            f"others than its owner may {may} {path} (mode {stat.S_IMODE(mode):04o}): chmod {remedy} {path}"
        )


def _unreadable(path: str | os.PathLike[str], error: OSError | UnicodeDecodeError) -> RecordError:
    reason = error.strerror if isinstance(error, OSError) else "it is no text"
    return RecordError(f"{os.fspath(path)} cannot be read: {reason}")
