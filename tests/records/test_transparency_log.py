"""A log of which nothing can be changed, removed or reordered unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from reachable import holds_text, reachable
from tacit.records.errors import RecordError
from tacit.records.log_verification import check_log
from tacit.records.object_store import FolderStore
from tacit.records.signing import SigningKey
from tacit.records.transparency_log import Entry, Head, Inclusion, Log

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)


def log_in(folder: Path, n_entries: int, key: SigningKey = KEY) -> Log:
    log = Log(FolderStore(folder), "log", key)
    for number in range(n_entries):
        log.append({"n": number})
    return log


def faulty_files(
    folder: Path, trusted: frozenset[str] = frozenset(), remembered: Head | None = None
) -> set[str]:
    faults = check_log(FolderStore(folder), "log", trusted=trusted, remembered=remembered)
    return {fault.file for fault in faults}


def test_entries_are_read_in_their_order_by_everybody(tmp_path: Path) -> None:
    log = log_in(tmp_path, 5)
    other = Log(FolderStore(tmp_path), "log")
    for each in (log, other):
        assert [(entry.number, entry.body["n"]) for entry in each.entries()] == [(n + 1, n) for n in range(5)]
    assert log.head() == other.head()
    assert faulty_files(tmp_path) == set()


def test_what_entries_say_is_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    told: list[Entry] = []
    written = log_in(tmp_path, 3)
    written.append({"planted": "a body"})
    read = Log(FolderStore(tmp_path), "log")
    assert read.head() == written.head() == Log(FolderStore(tmp_path), "log", note=told.append).head()
    for log in (written, read):
        assert not holds_text(log, "planted")
        assert [*log.entries()][3].body == {"planted": "a body"}
        assert not holds_text(log, "planted")
    assert holds_text(told, "planted")


def test_a_longer_log_holds_no_more_objects(tmp_path: Path) -> None:
    log = log_in(tmp_path, 8)  # a power of two of them, so that there is one peak
    before = len([*reachable(log)])
    for number in range(8):
        log.append({"n": number})
    assert len([*reachable(log)]) == before


def test_whoever_notes_the_entries_is_told_each_once(tmp_path: Path) -> None:
    told: list[int] = []
    log = Log(FolderStore(tmp_path), "log", KEY, note=lambda entry: told.append(entry.body["n"]))
    for number in range(3):
        log.append({"n": number})
    log_in(tmp_path, 1)
    log.refresh()
    assert told == [0, 1, 2, 0]


def test_an_entry_that_is_changed_after_it_was_read_is_not_read_again(tmp_path: Path) -> None:
    log = log_in(tmp_path, 3)
    file = tmp_path / "log" / "00000002.json"
    log_in(tmp_path / "other", 3, OTHER)
    for content in ((tmp_path / "other" / "log" / "00000002.json").read_bytes(), None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(RecordError, match=r"log/00000002\.json is damaged"):
            list(log.entries())


class WrittenMeanwhile(FolderStore):
    """A folder where somebody begins the log just after a reader has looked for its head."""

    begun = False

    def read(self, address: str) -> bytes | None:
        found = super().read(address)
        if address.endswith("head.json") and not self.begun:
            self.begun = True
            log_in(self.folder, 2)
        return found


def test_a_log_that_is_begun_while_it_is_read_is_whole(tmp_path: Path) -> None:
    assert not list(check_log(WrittenMeanwhile(tmp_path / "checked"), "log"))
    Log(WrittenMeanwhile(tmp_path / "appended"), "log", KEY).append({"n": 3})
    assert [entry.body["n"] for entry in log_in(tmp_path / "appended", 0).entries()] == [0, 1, 3]


def test_two_writers_take_turns(tmp_path: Path) -> None:
    first, second = log_in(tmp_path, 1), log_in(tmp_path, 0, OTHER)
    for writer in (second, first, second, first):
        writer.append({"by": writer is first})
    assert [entry.number for entry in first.entries()] == [1, 2, 3, 4, 5]
    assert faulty_files(tmp_path) == set()
    assert faulty_files(tmp_path, frozenset({KEY.public})) == {"log/00000002.json", "log/00000004.json"}


def test_a_reader_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="for reading only"):
        Log(FolderStore(tmp_path), "log").append({})


def test_a_head_one_entry_behind_is_what_a_kill_leaves(tmp_path: Path) -> None:
    log_in(tmp_path, 3)
    behind = (tmp_path / "log" / "head.json").read_bytes()
    log_in(tmp_path, 1)
    (tmp_path / "log" / "head.json").write_bytes(behind)
    assert faulty_files(tmp_path) == set()
    log_in(tmp_path, 1)
    assert faulty_files(tmp_path) == set()


@pytest.mark.parametrize("gone", ["head.json", "00000002.json", "00000003.json"])
def test_nothing_is_written_after_what_is_gone(tmp_path: Path, gone: str) -> None:
    log_in(tmp_path, 3)
    (tmp_path / "log" / gone).unlink()
    with pytest.raises(RecordError, match=f"log/{gone} is missing"):
        log_in(tmp_path, 1)


def remove(folder: Path) -> None:
    (folder / "00000003.json").unlink()


def remove_last(folder: Path) -> None:
    (folder / "00000005.json").unlink()


def swap(folder: Path) -> None:
    two, three = (folder / "00000002.json").read_bytes(), (folder / "00000003.json").read_bytes()
    (folder / "00000002.json").write_bytes(three)
    (folder / "00000003.json").write_bytes(two)


def remove_head(folder: Path) -> None:
    (folder / "head.json").unlink()


def put_in_another_log(folder: Path) -> None:
    foreign = Log(FolderStore(folder.parent), "other", KEY)
    for number in range(3):
        foreign.append({"n": number})
    (folder / "00000003.json").write_bytes((folder.parent / "other" / "00000003.json").read_bytes())


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (remove, "log/00000003.json"),
        (remove_last, "log/head.json"),
        (swap, "log/00000002.json"),
        (remove_head, "log/head.json"),
        (put_in_another_log, "log/00000003.json"),
    ],
)
def test_what_is_done_to_files_is_named(tmp_path: Path, tamper: Callable[[Path], None], named: str) -> None:
    log_in(tmp_path, 5)
    tamper(tmp_path / "log")
    assert named in faulty_files(tmp_path)


def test_a_log_written_anew_is_found_by_who_pins_the_key_or_remembers_the_head(tmp_path: Path) -> None:
    head = log_in(tmp_path / "own", 3).head()
    log_in(tmp_path / "forged", 4, OTHER)
    assert faulty_files(tmp_path / "forged") == set()
    assert "log/head.json" in faulty_files(tmp_path / "forged", frozenset({KEY.public}))
    assert faulty_files(tmp_path / "forged", remembered=head) == {"log/"}


def test_a_log_cut_short_with_the_head_of_that_time_is_found_by_who_remembers(tmp_path: Path) -> None:
    log_in(tmp_path, 3)
    old_head = (tmp_path / "log" / "head.json").read_bytes()
    head = log_in(tmp_path, 1).head()
    (tmp_path / "log" / "00000004.json").unlink()
    (tmp_path / "log" / "head.json").write_bytes(old_head)
    assert faulty_files(tmp_path) == set()
    assert faulty_files(tmp_path, remembered=head) == {"log/"}


def test_what_is_remembered_stays_true_while_the_log_grows(tmp_path: Path) -> None:
    remembered = log_in(tmp_path, 3).head()
    log_in(tmp_path, 4)
    assert faulty_files(tmp_path, remembered=remembered) == set()


@pytest.mark.parametrize("number", [1, 4, 7])
def test_an_entry_is_proven_to_be_in_the_log(tmp_path: Path, number: int) -> None:
    log = log_in(tmp_path, 7)
    proof = log.include(number)
    assert proof.holds(log.head())
    log.append({"n": 7})
    assert not proof.holds(log.head())
    assert log.include(number).holds(log.head())


def test_a_proof_travels_as_json(tmp_path: Path) -> None:
    log = log_in(tmp_path, 5)
    content = json.loads(json.dumps(log.include(2).to_dict()))
    assert Inclusion.from_dict(content) == log.include(2)
    assert not Inclusion.from_dict({**content, "path": ["zz"]}).holds(log.head())
    assert not Inclusion.from_dict({**content, "number": 3}).holds(log.head())
    assert not Inclusion.from_dict({**content, "entry": content["entry"] + " "}).holds(log.head())
    for broken in ({}, {**content, "head": 3}, {**content, "entry": "é"}):
        with pytest.raises(RecordError, match="no proof"):
            Inclusion.from_dict(broken)
