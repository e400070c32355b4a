"""Bytes at addresses, in a folder and behind a URL: whole, once, and listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tacit.records import object_store
from tacit.records.errors import RecordError
from tacit.records.object_store import FolderStore, ObjectStore, RemoteStore, open_objects
from tacit.records.sealing import RepositoryKey, SealedStore


@pytest.fixture(params=["folder", "url", "sealed", "file url"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "url":
        return open_objects(f"memory://{tmp_path.name}/models")
    if request.param == "file url":
        return open_objects(f"file://{tmp_path}/models")
    folder = open_objects(tmp_path / "models")
    return folder if request.param == "folder" else SealedStore(folder, RepositoryKey(bytes(32)), bytes)


def test_what_is_created_is_read_and_never_overwritten(objects: ObjectStore) -> None:
    assert objects.read("log/1") is None
    assert objects.create("log/1", b"first")
    assert not objects.create("log/1", b"second")
    assert objects.read("log/1") == b"first"


def test_what_somebody_else_has_created_is_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, flushed = open_objects(tmp_path / "models"), list[Path]()
    objects.create("log/1", b"first")  # by a writer that may have been killed before it flushed the folder
    monkeypatch.setattr(object_store, "sync_folder", flushed.append)
    assert not objects.create("log/1", b"first")
    assert flushed == [tmp_path / "models" / "log"]


def test_what_is_replaced_is_read(objects: ObjectStore) -> None:
    for content in (b"first", b"second"):
        objects.replace("log/head", content)
        assert objects.read("log/head") == content


def test_every_file_is_listed_and_read(objects: ObjectStore) -> None:
    assert objects.files() == []
    addresses = ["aggregates/1", "log/1", "log/head", "objects/a"]
    with objects.locked():
        for address in addresses:
            objects.create(address, address.encode())
    assert objects.files() == [objects.file_of(address) for address in addresses]
    assert [objects.read_file(file) for file in objects.files()] == [
        address.encode() for address in addresses
    ]


def test_a_path_is_a_folder_and_a_url_is_not(tmp_path: Path) -> None:
    for path in (tmp_path, f"file://{tmp_path}", f"local://{tmp_path}"):
        assert isinstance(open_objects(path), FolderStore)
    assert isinstance(open_objects("memory://x"), RemoteStore)


def test_a_url_that_leads_nowhere_is_a_record_error() -> None:
    with pytest.raises(RecordError, match="no way to the repository"):
        open_objects("nonsense://x")


def test_what_killed_writers_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    objects = FolderStore(tmp_path)
    objects.create("log/1", b"first")
    (tmp_path / "log" / ".2.0123.partial").write_bytes(b"half")
    assert objects.files() == ["log/1"]
    with objects.locked():
        assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["1"]


def test_a_folder_that_cannot_be_read_or_locked_is_a_record_error(tmp_path: Path) -> None:
    objects = FolderStore(tmp_path / "models")
    (tmp_path / "models" / "log").mkdir()
    (tmp_path / "models" / ".lock").mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        objects.read("log")
    with pytest.raises(RecordError, match="cannot be locked"), objects.locked():
        pass
