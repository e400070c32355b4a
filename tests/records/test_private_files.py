"""What others may read is refused; what is made is for its owner alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tacit.records.errors import RecordError
from tacit.records.private_files import (
    check_private,
    check_unchanged_by_others,
    private_folder,
    read_private,
    write_private,
)


def test_text_comes_back(tmp_path: Path) -> None:
    write_private(tmp_path / "x", "ü\n")
    assert read_private(tmp_path / "x") == "ü\n"


def test_folder_is_made_for_its_owner_and_used_again(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "above" / "state")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder) == folder


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o750)
    with pytest.raises(RecordError, match=r"may read .*state.*chmod go="):
        private_folder(tmp_path / "state")


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(RecordError, match="cannot be made: File exists"):
        private_folder(tmp_path / "state")


@pytest.mark.parametrize(("mode", "allowed"), [(0o600, True), (0o644, True), (0o664, False), (0o602, False)])
def test_some_files_others_may_read_but_not_change(tmp_path: Path, mode: int, allowed: bool) -> None:
    (tmp_path / "x").write_text("")
    (tmp_path / "x").chmod(mode)
    if allowed:
        check_unchanged_by_others(tmp_path / "x")
    else:
        with pytest.raises(RecordError, match=r"may change .*chmod go-w"):
            check_unchanged_by_others(tmp_path / "x")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="gone cannot be read: No such file"):
        check_private(tmp_path / "gone")


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="x cannot be written: No such file"):
        write_private(tmp_path / "gone" / "x", "")


def test_nothing_is_left_of_what_a_full_disk_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(RecordError, match="x cannot be written: No space left"):
            write_private(tmp_path / "x", "a key")
    assert not (tmp_path / "x").exists()
    write_private(tmp_path / "x", "a key")
