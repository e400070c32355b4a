"""Where the bytes of a repository lie: a folder, or any URL that fsspec knows.

In a folder, a file appears whole or not at all, is never changed once created, and is there after the process, or
the machine, has died: it is written beside its place under a hidden name, flushed to disk, and linked to its name,
which fails if the name is taken; then the folder is flushed. Several processes may write to one folder: each holds
the lock while it does, and what a killed one left under a hidden name is cleared away by the next.

Behind a URL there is no lock: **one process writes, the repository's actor**; others may read. That an object
appears whole is what object stores (S3, GCS, Azure) promise of a put; a file server (SFTP) promises nothing of the
kind, and is for reading only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from .errors import RecordError

LOCK = ".lock"
PARTIAL = ".partial"
POLL_SECONDS = 0.005  # how often a writer that waits for the lock tries


class ObjectStore(Protocol):
    """Bytes by address, a relative path of plain names: ``"log/00000001.json"``."""

    def read(self, address: str) -> bytes | None:
        """Return the bytes at an address; None if there are none."""
        ...

    def create(self, address: str, content: bytes) -> bool:
        """Write bytes where there are none, whole and durably; False if the address is taken."""
        ...

    def replace(self, address: str, content: bytes) -> None:
        """Write bytes in place of those that are there, whole and durably."""
        ...

    def files(self) -> list[str]:
        """Return every file, in order; those of writers that were killed are passed over."""
        ...

    def file_of(self, address: str) -> str:
        """Return under which of `files` the bytes of an address lie."""
        ...

    def read_file(self, file: str) -> bytes | None:
        """Return what is in one of `files`, whatever its address."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keep other writers out; **every writer holds it**."""
        ...


def open_objects(location: str | os.PathLike[str]) -> ObjectStore:
    """Return the store at a path or a URL.

    Raises
    ------
    RecordError
        If the folder cannot be made, or the URL's scheme is not known.
    """
    text = os.fspath(location)
    for local in ("file://", "local://"):
        if text.startswith(local):
            return FolderStore(text.removeprefix(local))
    return RemoteStore(text) if "://" in text else FolderStore(text)


class FolderStore:
    """A folder, made if it does not exist.

    Raises
    ------
    RecordError
        If it cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._swept = False
        _make_folder(self.folder)

    def read(self, address: str) -> bytes | None:
        """Return the bytes at an address; None if there are none."""
        try:
            return (self.folder / address).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"{address} cannot be read: {error.strerror}") from None

    def create(self, address: str, content: bytes) -> bool:
        """Write bytes where there are none, whole and durably; False if the address is taken."""
        with self._written(address, content) as (temporary, path):
            created = True
            try:
                os.link(temporary, path)
            except FileExistsError:
                created = False
            sync_folder(path.parent)  # of what is there, too: its writer may have been killed
        return created

    def replace(self, address: str, content: bytes) -> None:
        """Write bytes in place of those that are there, whole and durably."""
        with self._written(address, content) as (temporary, path):
            os.replace(temporary, path)
            sync_folder(path.parent)

    def files(self) -> list[str]:
        """Return every file, in order; those of writers that were killed are passed over."""
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != LOCK and not path.name.endswith(PARTIAL)
        )

    def file_of(self, address: str) -> str:
        """Return the address: files lie where they are looked for."""
        return address

    def read_file(self, file: str) -> bytes | None:
        """Return what is in a file."""
        return self.read(file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others; a killed one lets go."""
        import filelock  # noqa: PLC0415 - a reader needs no lock

        lock = filelock.FileLock(self.folder / LOCK, mode=0o600, is_singleton=False)
        try:
            lock.acquire(poll_interval=POLL_SECONDS)
        except OSError as error:
            raise RecordError(f"{self.folder} cannot be locked: {error.strerror}") from None
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Clear away, once, what killed writers left: whoever holds the lock is the only writer."""
        if not self._swept:
            for path in self.folder.rglob(f".*{PARTIAL}"):
                path.unlink(missing_ok=True)
            self._swept = True

    @contextlib.contextmanager
    def _written(self, address: str, content: bytes) -> Iterator[tuple[Path, Path]]:
        """Write a file beside its place and flush it to disk; gone at the end unless renamed."""
        path = self.folder / address
        _make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, path
        except OSError as error:
            raise RecordError(f"{address} cannot be written: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


class RemoteStore:
    """A URL that fsspec knows, with one writer.

    Raises
    ------
    RecordError
        If fsspec does not know the scheme, or misses the library for it.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # noqa: PLC0415 - half a second, for those who have a URL

        try:
            self._system, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            raise RecordError(f"there is no way to the repository's URL: {error}") from None
        self._root = str(root).rstrip("/")
        self._lock = threading.Lock()

    def read(self, address: str) -> bytes | None:
        """Return the bytes at an address; None if there are none."""
        try:
            return bytes(self._system.cat_file(self._path(address)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"{address} cannot be read: {error}") from None

    def create(self, address: str, content: bytes) -> bool:
        """Write bytes where there are none; False if the address is taken."""
        try:
            self._put(address, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            raise RecordError(f"{address} cannot be written: {error}") from None
        return True

    def replace(self, address: str, content: bytes) -> None:
        """Write bytes in place of those that are there."""
        try:
            self._put(address, content, mode="overwrite")
        except OSError as error:
            raise RecordError(f"{address} cannot be written: {error}") from None

    def files(self) -> list[str]:
        """Return every file, in order."""
        self._system.invalidate_cache()
        try:
            found: list[Any] = self._system.find(self._root)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RecordError(f"the repository cannot be listed: {error}") from None
        start = f"{self._root}/".lstrip("/")
        return sorted(str(path).lstrip("/").removeprefix(start) for path in found)

    def file_of(self, address: str) -> str:
        """Return the address: files lie where they are looked for."""
        return address

    def read_file(self, file: str) -> bytes | None:
        """Return what is in a file."""
        return self.read(file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads of the one writer out."""
        with self._lock:
            yield

    def _path(self, address: str) -> str:
        return f"{self._root}/{address}"

    def _put(self, address: str, content: bytes, *, mode: str) -> None:
        path = self._path(address)
        self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(path, content, mode=mode)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that are there after the machine has died."""
    if folder.is_dir():
        return
    try:
        missing = [folder, *(above for above in folder.parents if not above.is_dir())]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)
    except OSError as error:
        problem = error.strerror or "unusable path"
        raise RecordError(f"the folder {folder} cannot be made: {problem}") from None


def sync_folder(folder: Path) -> None:
    """Have what was made or renamed in a folder outlive the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
