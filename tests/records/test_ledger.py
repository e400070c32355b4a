"""A party's ledger: written before anything leaves, signed, and found out when it is not as it was written."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reachable import holds_text
from tacit.protocols.key_agreement import Identity
from tacit.records.errors import RecordError
from tacit.records.ledger import PLACE, Ledger
from tacit.records.log_verification import check_log
from tacit.records.object_store import FolderStore

NORTH = Identity("north", "holder", random.Random(1).randbytes)
STUDY = b"\x05" * 32
FIRST, SECOND = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, NORTH, study=STUDY)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Nothing can be flushed, until the patch is undone."""

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        yield patch


def bodies(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / PLACE).glob("0*.json"))
    return [json.loads(file.read_bytes())["body"] for file in files]


def test_a_session_has_an_intention_and_an_outcome(ledger: Ledger, tmp_path: Path) -> None:
    ledger.intend(FIRST, {"over": ["north", "south"]})
    [intention] = bodies(tmp_path)
    assert intention["event"] == "intention"
    assert intention["session"] == FIRST.hex()
    assert (intention["party"], intention["kind"], intention["study"]) == ("north", "holder", STUDY.hex())
    ledger.conclude(FIRST, "released", {"reason": ""})
    assert [body["event"] for body in bodies(tmp_path)] == ["intention", "outcome"]


def test_entries_are_signed_with_the_partys_own_key(ledger: Ledger, tmp_path: Path) -> None:
    ledger.conclude(FIRST, "refused", {})
    key = NORTH.public.verify_key.hex()
    assert list(check_log(FolderStore(tmp_path), PLACE, trusted=frozenset({key}))) == []


def test_a_ledger_goes_on_after_a_restart(ledger: Ledger, tmp_path: Path) -> None:
    ledger.intend(FIRST, {})
    remembered = ledger.head
    Ledger(tmp_path, NORTH).conclude(SECOND, "refused", {})
    assert list(check_log(FolderStore(tmp_path), PLACE, remembered=remembered)) == []
    assert ledger.head.size == 2


def test_what_a_ledger_says_is_on_disk_and_not_in_memory(ledger: Ledger) -> None:
    for session in (FIRST, SECOND):
        ledger.intend(session, {"planted": 1})
        ledger.conclude(session, "released", {"planted": 2})
    assert not holds_text(ledger, "planted")


def test_nobody_writes_into_another_partys_ledger(ledger: Ledger, tmp_path: Path) -> None:
    ledger.intend(FIRST, {})
    other = Ledger(tmp_path, Identity("south", "holder", random.Random(2).randbytes))
    with pytest.raises(RecordError, match="another party"):
        other.intend(SECOND, {})
    assert len(bodies(tmp_path)) == 1


def test_on_a_full_disk_no_intention_is_written(
    ledger: Ledger, tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordError, match="No space left"):
        ledger.intend(FIRST, {})
    full_disk.undo()
    assert bodies(tmp_path) == []
    ledger.intend(FIRST, {})
    assert len(bodies(tmp_path)) == 1


def test_an_outcome_that_cannot_be_written_is_owed(
    ledger: Ledger, tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordError):
        ledger.conclude(FIRST, "released", {})
    with pytest.raises(RecordError):
        ledger.check()
    full_disk.undo()
    ledger.check()
    ledger.intend(SECOND, {})
    assert [body["session"] for body in bodies(tmp_path)] == [FIRST.hex(), SECOND.hex()]


def test_an_entry_whose_head_finds_no_room_is_written_once(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.intend(FIRST, {})

    def no_space(*_: object) -> None:
        raise RecordError("head.json cannot be written: No space left on device")

    with monkeypatch.context() as full:
        full.setattr(FolderStore, "replace", no_space)
        ledger.conclude(FIRST, "released", {})
        ledger.check()
        with pytest.raises(RecordError, match="No space left"):
            ledger.intend(SECOND, {})  # the head would be two behind
    assert len(bodies(tmp_path)) == 2
    assert list(check_log(FolderStore(tmp_path), PLACE)) == []
    ledger.intend(SECOND, {})
    assert [body["event"] for body in bodies(tmp_path)] == ["intention", "outcome", "intention"]
    assert list(check_log(FolderStore(tmp_path), PLACE)) == []


def test_nothing_is_written_after_what_is_damaged(ledger: Ledger, tmp_path: Path) -> None:
    ledger.intend(FIRST, {})
    [file] = (tmp_path / PLACE).glob("0*.json")
    file.write_bytes(file.read_bytes().replace(b"north", b"south"))
    again = Ledger(tmp_path, NORTH)
    for write in (again.check, lambda: again.intend(SECOND, {})):
        with pytest.raises(RecordError, match="damaged"):
            write()
