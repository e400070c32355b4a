"""A file of chained lines: on disk when `append` returns, and damaged by any change."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.records.chained_file import START, ChainedFile, Place
from tacit.records.errors import RecordError

LINES = [{"number": number, "text": "x" * number} for number in range(4)]


def filled(folder: Path) -> ChainedFile:
    file = ChainedFile(folder / "lines", "the file")
    with file.locked():
        file.append(START, *LINES)
    return file


def test_lines_come_back_in_order_in_another_process(tmp_path: Path) -> None:
    filled(tmp_path)
    assert ChainedFile(tmp_path / "lines", "the file").read()[0] == LINES


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = ChainedFile(tmp_path / "lines", "the file")
    place = START
    for line in LINES:
        with file.locked():
            file.append(file.read()[1], line)
        new, place = file.read(place)
        assert new == [line]
    assert file.read() == (LINES, place)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ChainedFile, bytes]:
    file = filled(tmp_path_factory.mktemp("whole"))
    return file, file.path.read_bytes()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_found(whole: tuple[ChainedFile, bytes], data: st.DataObject) -> None:
    file, octets = whole
    at = data.draw(st.integers(0, len(octets) - 2))  # the last line's end makes it a line
    changed = bytearray(octets)
    changed[at] ^= data.draw(st.integers(1, 255))
    file.path.write_bytes(changed)
    with pytest.raises(RecordError, match="damaged"):
        file.read()


@pytest.mark.parametrize(
    "order", [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (0, 1, 2, 3, 3)]
)
def test_dropped_doubled_and_moved_lines_are_found(tmp_path: Path, order: tuple[int, ...]) -> None:
    file = filled(tmp_path)
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(b"".join(lines[number] for number in order))
    with pytest.raises(RecordError, match="damaged"):
        file.read()


def test_a_line_without_its_end_is_none_and_is_cut_off_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = filled(tmp_path)
    file.path.write_bytes(file.path.read_bytes() + b"0123 half a li")
    contents, place = file.read()
    assert contents == LINES
    with file.locked():
        after = file.append(place, {"after": True})
    assert file.read()[0] == [*LINES, {"after": True}]
    assert [record.message for record in caplog.records] == [
        "the file lines had a line without its end, of a writer that was killed: it is cut off"
    ]
    with file.locked():
        file.append(after, {"more": True})
    assert len(caplog.records) == 1


def test_lines_that_were_read_and_are_gone_are_missed(tmp_path: Path) -> None:
    file = filled(tmp_path)
    _, place = file.read()
    file.path.unlink()
    with pytest.raises(RecordError, match="are gone"):
        file.read(place)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = filled(tmp_path)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RecordError, match="the file lines cannot be written: No space left"):
        file.append(Place(), {})


def test_there_is_no_file_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="make it first"):
        ChainedFile(tmp_path / "nowhere" / "lines", "the file")
