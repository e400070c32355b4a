"""The store of results: nothing is changed, nothing is lost, nothing is half there."""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reachable import holds_text
from tacit.records.errors import RecordError
from tacit.records.model_card import Release, read_card, result_of
from tacit.records.model_store import ModelStore
from tacit.records.signing import Signature, SigningKey, open_envelope
from tacit.records.verification import verify


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "repository")


def aggregate(number: int) -> dict[str, Any]:
    return {"session": f"{number:064x}", "released": {"x": [number / 7]}}


# Results


def test_versions_count_from_one_and_load_gives_each(store: ModelStore) -> None:
    assert store.versions("risk") == []
    assert [store.save("risk", {"n": n}) for n in range(3)] == [1, 2, 3]
    assert store.versions("risk") == [1, 2, 3]
    assert [store.load("risk", version) for version in (1, 2, 3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert store.load("risk") == {"n": 2}


def test_names_have_their_own_versions(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    store.save("costs", {"n": 2})
    store.save("costs", {"n": 3})
    assert store.names() == ["costs", "risk"]
    assert (store.versions("risk"), store.versions("costs")) == ([1], [1, 2])


def test_another_store_on_the_folder_sees_the_same(store: ModelStore, tmp_path: Path) -> None:
    store.save("risk", {"n": 1})
    store.append_aggregate(aggregate(1))
    other = ModelStore(tmp_path / "repository")
    assert other.load("risk") == {"n": 1}
    assert other.aggregates() == [aggregate(1)]
    assert other.save("risk", {"n": 2}) == 2


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_version_that_is_not_there_says_which_are(store: ModelStore, version: int) -> None:
    store.save("risk", {})
    with pytest.raises(RecordError, match="its versions are 1"):
        store.load("risk", version)


def test_a_name_that_is_not_there_says_so(store: ModelStore) -> None:
    with pytest.raises(RecordError, match="nothing is saved under 'risk'"):
        store.load("risk")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "a\0", "é", "x" * 101]
)
def test_names_that_could_leave_the_folder_are_refused(store: ModelStore, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    for act in (store.versions, store.load, lambda odd: store.save(odd, {})):
        with pytest.raises(RecordError, match="a name has"):
            act(name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["risk", "Risk-2.1_final", "0", "x" * 100])
def test_ordinary_names_are_fine(store: ModelStore, name: str) -> None:
    assert store.save(name, {"n": 1}) == 1
    assert store.load(name) == {"n": 1}


# Numbers


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=st.lists(st.floats(allow_nan=False), max_size=20))
def test_floats_come_back_bit_for_bit(values: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    store.save("risk", {"x": values})
    assert [bits(value) for value in store.load("risk")["x"]] == [bits(value) for value in values]


def test_special_floats_come_back(store: ModelStore) -> None:
    store.save("risk", {"x": [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]})
    first, *others = store.load("risk")["x"]
    assert bits(first) == bits(math.nan)
    assert [bits(x) for x in others] == [
        bits(x) for x in (math.inf, -math.inf, -0.0, 5e-324, sys.float_info.max)
    ]


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", 1j, object()], ids=["set", "bytes", "complex", "object"])
def test_what_json_cannot_carry_is_refused_and_leaves_nothing(store: ModelStore, value: Any) -> None:
    with pytest.raises(RecordError, match="JSON"):
        store.save("risk", {"x": value})
    with pytest.raises(RecordError, match="JSON"):
        store.append_aggregate({"session": "1", "x": value})
    assert store.versions("risk") == []
    assert store.aggregates() == []


# Aggregates


def test_aggregates_are_numbered_in_the_order_of_coming(store: ModelStore) -> None:
    assert [store.append_aggregate(aggregate(n)) for n in (5, 3, 4)] == [1, 2, 3]
    assert store.aggregates() == [aggregate(5), aggregate(3), aggregate(4)]


def test_a_session_is_recorded_once_however_often_it_is_told(store: ModelStore, tmp_path: Path) -> None:
    first = store.append_aggregate(aggregate(1))
    store.append_aggregate(aggregate(2))
    assert store.append_aggregate(aggregate(1)) == first
    assert ModelStore(tmp_path / "repository").append_aggregate(aggregate(2)) == 2
    assert len(store.aggregates()) == 2


@pytest.mark.parametrize("record", [{}, {"session": None}, {"session": b"x"}, {"session": 3}])
def test_a_record_without_a_session_is_refused(store: ModelStore, record: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="session"):
        store.append_aggregate(record)


# What is there is never changed


def test_no_file_but_the_heads_is_ever_changed(store: ModelStore, tmp_path: Path) -> None:
    store.save("risk", {"n": 1})
    store.append_aggregate(aggregate(1))
    folder = tmp_path / "repository"
    before = {file: (folder / file).read_bytes() for file in store.objects.files() if "head" not in file}
    store.save("risk", {"n": 2})
    store.tag("risk", "best")
    store.append_aggregate(aggregate(2))
    assert {file: (folder / file).read_bytes() for file in before} == before
    assert {stat.S_IMODE((folder / file).stat().st_mode) for file in store.objects.files()} == {0o600}


def test_saving_the_same_twice_makes_two_versions(store: ModelStore) -> None:
    assert [store.save("risk", {"x": [1.0]}), store.save("risk", {"x": [1.0]})] == [1, 2]
    assert len([file for file in store.objects.files() if file.endswith(".safetensors")]) == 1


def test_a_repeated_request_is_answered_with_the_same_version(store: ModelStore) -> None:
    assert store.save("risk", {"n": 1}, request="once") == 1
    assert store.save("risk", {"n": 2}) == 2
    assert store.save("risk", {"n": 1}, request="once") == 1
    assert store.versions("risk") == [1, 2]
    assert store.save("risk", {"n": 3}, request="None") == 3  # the second was saved on no request at all


def test_a_draft_whose_version_was_taken_is_not_committed(store: ModelStore) -> None:
    draft = store.draft("risk", {"n": "late"})
    store.save("risk", {"n": "first"})
    assert store.commit(draft, store.signing_key.sign(draft.card)) is None
    assert store.load("risk") == {"n": "first"}


def test_a_card_that_is_not_signed_is_not_committed(store: ModelStore) -> None:
    draft = store.draft("risk", {"n": 1})
    other = store.draft("risk", {"n": 2})
    with pytest.raises(RecordError, match="not of this card"):
        store.commit(draft, store.signing_key.sign(other.card))
    assert store.objects.files() == []


def test_a_damaged_card_is_a_record_error_and_the_others_still_load(
    store: ModelStore, tmp_path: Path
) -> None:
    store.save("risk", {"n": 1})
    store.save("risk", {"n": 2})
    (tmp_path / "repository" / "objects" / f"{store.find('risk', 1).card}.json").write_bytes(b"{")
    with pytest.raises(RecordError, match="damaged"):
        store.load("risk", 1)
    assert store.load("risk") == {"n": 2}
    assert store.save("risk", {"n": 3}) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"3", b"[" * 100_000])
def test_a_damaged_log_entry_stops_the_writer_and_the_others_still_load(
    store: ModelStore, tmp_path: Path, content: bytes
) -> None:
    store.save("risk", {"n": 1})
    store.save("costs", {"n": 2})
    (tmp_path / "repository" / "log" / "00000001.json").write_bytes(content)
    other = ModelStore(tmp_path / "repository")
    assert other.load("costs") == {"n": 2}
    with pytest.raises(RecordError, match="damaged log"):
        other.save("costs", {"n": 3})


@pytest.mark.parametrize("entry", ["version", "co-signature", "tag"])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_no_older_version_is_loaded_because_the_newest_entry_is_damaged(
    tmp_path: Path, entry: str, harm: str
) -> None:
    store = ModelStore(tmp_path)
    store.save("risk", {"n": 1})
    store.tag("risk", "best")
    if entry == "co-signature":
        store.save("risk", {"n": 2}, release=Release(1, {"site-1": HOLDERS["site-1"].public}))
        store.co_sign("risk", 2, signed_by(store, "risk", 2, "site-1"))
    else:
        store.save("risk", {"n": 2})
    if entry == "tag":
        store.tag("risk", "best")
    file = max((tmp_path / "log").glob("0*.json"))
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes().replace(b'"number"', b'"numbex"'))
    other = ModelStore(tmp_path)
    for version in (None, "best"):
        with pytest.raises(RecordError, match=file.name):
            other.load("risk", version)
    assert other.load("risk", 1) == {"n": 1}


def test_a_name_whose_only_entry_is_damaged_is_told(store: ModelStore, tmp_path: Path) -> None:
    store.save("risk", {"n": 1})
    (tmp_path / "repository" / "log" / "00000001.json").write_bytes(b"{}")
    with pytest.raises(RecordError, match=r"00000001\.json is damaged"):
        ModelStore(tmp_path / "repository").load("risk", 1)


def test_nothing_outside_is_read_whatever_an_entry_says(store: ModelStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "outside.json")  # whoever opens it waits for ever
    entry = {"kind": "version", "name": "risk", "version": 1, "card": "../../outside", "needed": 0}
    with store.objects.locked():
        store.log.append({**entry, "by": "", "signature": ""})
    with pytest.raises(RecordError, match="the address of no object"):
        store.load("risk")
    assert not verify(store).ok


def test_an_entry_that_is_gone_from_the_end_stops_the_writer(store: ModelStore, tmp_path: Path) -> None:
    store.save("risk", {"n": 1})
    store.save("risk", {"n": 2})
    (tmp_path / "repository" / "log" / "00000002.json").unlink()
    with pytest.raises(RecordError, match=r"log/00000002\.json is missing"):
        ModelStore(tmp_path / "repository").save("risk", {"n": 3})


# Tags


def test_a_tag_points_to_a_version_until_it_is_moved(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    store.save("risk", {"n": 2})
    assert store.tag("risk", "best", 1) == 1
    assert store.load("risk", "best") == {"n": 1}
    assert store.tag("risk", "best") == 2
    assert store.load("risk", "best") == {"n": 2}
    assert [version.tags for version in store.listing()] == [(), ("best",)]


@pytest.mark.parametrize("tag", ["3", "a/b", "", ".x"])
def test_a_tag_is_a_name_and_no_number(store: ModelStore, tag: str) -> None:
    store.save("risk", {"n": 1})
    with pytest.raises(RecordError):
        store.tag("risk", tag)


# Release


HOLDERS = {f"site-{n}": SigningKey(bytes([n]) * 32) for n in (1, 2, 3)}
TWO_OF_THREE = Release(2, {name: key.public for name, key in HOLDERS.items()})


def signed_by(store: ModelStore, name: str, version: int, holder: str) -> Signature:
    return HOLDERS[holder].sign(store.card_bytes(store.find(name, version)))


def test_a_version_is_pending_until_enough_have_co_signed(store: ModelStore) -> None:
    store.save("risk", {"n": 1})
    version = store.save("risk", {"n": 2}, release=TWO_OF_THREE)
    store.co_sign("risk", version, signed_by(store, "risk", version, "site-1"))
    store.co_sign("risk", version, signed_by(store, "risk", version, "site-1"))
    assert [one.released for one in store.listing("risk")] == [True, False]
    assert store.load("risk") == {"n": 1}, "the newest that is released"
    for use in (store.load, store.predict, store.files_of):
        with pytest.raises(RecordError, match="version 2 is pending: 1 of 2 co-signatures"):
            use("risk", *([None, version] if use == store.predict else [version]))
    store.co_sign("risk", version, signed_by(store, "risk", version, "site-3"))
    assert store.load("risk") == {"n": 2}
    assert store.versions("risk") == [1, 2]


def test_co_signatures_of_others_and_of_other_cards_are_refused(store: ModelStore) -> None:
    version = store.save("risk", {"n": 1}, release=TWO_OF_THREE)
    other = store.save("risk", {"n": 2}, release=TWO_OF_THREE)
    stranger = SigningKey(bytes(32)).sign(store.card_bytes(store.find("risk", version)))
    with pytest.raises(RecordError, match="not co-signed by this key"):
        store.co_sign("risk", version, stranger)
    with pytest.raises(RecordError, match="not of the card"):
        store.co_sign("risk", version, signed_by(store, "risk", other, "site-1"))
    assert not any(one.released for one in store.listing("risk"))


def forge(store: ModelStore, version: int, holder: str) -> None:
    """Log a co-signature that is none."""
    found, key = store.find("risk", version), HOLDERS[holder].public
    body = {"kind": "co-signature", "name": "risk", "version": version, "card": found.card}
    with store.objects.locked():
        store.log.append({**body, "by": key, "signature": "00" * 64})


def test_a_wrong_co_signature_counts_for_nothing_and_keeps_out_no_genuine_one(
    store: ModelStore, tmp_path: Path
) -> None:
    store.save("risk", {"n": 1})
    version = store.save("risk", {"n": 2}, release=TWO_OF_THREE)
    for holder in ("site-1", "site-3"):
        forge(store, version, holder)
    for each in (store, ModelStore(tmp_path / "repository")):
        assert not each.find("risk", version).released
        assert each.load("risk") == {"n": 1}
    for holder in ("site-1", "site-3"):
        store.co_sign("risk", version, signed_by(store, "risk", version, holder))
    for each in (store, ModelStore(tmp_path / "repository")):
        assert each.find("risk", version).released
        assert each.load("risk") == {"n": 2}
    assert [fault.file for fault in verify(store).faults] == [f"objects/{store.find('risk').card}.json"]


def test_a_damaged_card_of_the_newest_version_is_told(store: ModelStore, tmp_path: Path) -> None:
    store.save("risk", {"n": 1})
    version = store.save("risk", {"n": 2}, release=TWO_OF_THREE)
    for holder in ("site-1", "site-2"):
        store.co_sign("risk", version, signed_by(store, "risk", version, holder))
    (tmp_path / "repository" / "objects" / f"{store.find('risk').card}.json").write_bytes(b"{")
    for each in (store, ModelStore(tmp_path / "repository")):
        with pytest.raises(RecordError, match="damaged"):
            each.load("risk")


def test_more_signatures_than_signatories_are_refused() -> None:
    with pytest.raises(RecordError, match="at most as many"):
        Release(2, {"site-1": "aa", "the same again": "aa"})


def test_what_is_exported_is_checked_without_the_repository(store: ModelStore) -> None:
    version = store.save("risk", {"x": [1.5, 2.5]}, release=TWO_OF_THREE)
    for holder in ("site-2", "site-3"):
        store.co_sign("risk", version, signed_by(store, "risk", version, holder))
    files = store.files_of("risk")
    envelope, card, arrays = files["envelope.json"], files["card.json"], files["arrays.safetensors"]
    assert isinstance(envelope, dict)
    assert isinstance(card, bytes)
    assert isinstance(arrays, bytes)
    keys = [store.signing_key.public, *TWO_OF_THREE.signatories.values()]
    assert open_envelope(envelope, keys, needed=3) == card
    assert result_of(read_card(card, "card"), arrays) == {"x": [1.5, 2.5]}
    assert store.prove("risk").holds(store.log.head())
    store.save("risk", {"n": 2})
    assert store.prove("risk", version).holds(store.log.head())


def test_a_folder_that_cannot_be_made_is_a_record_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be made"):
        ModelStore(tmp_path / "file" / "repository")


# Many writers


def test_threads_lose_and_overwrite_nothing(store: ModelStore, tmp_path: Path) -> None:
    def write(n: int) -> tuple[int, int, int]:
        own = ModelStore(tmp_path / "repository") if n % 2 else store
        return (
            own.save("risk", {"n": n}),
            own.append_aggregate(aggregate(n)),
            own.append_aggregate(aggregate(0)),
        )

    with ThreadPoolExecutor(8) as executor:
        written = list(executor.map(write, range(24)))
    versions = [version for version, _, _ in written]
    assert sorted(versions) == store.versions("risk") == list(range(1, 25))
    for n, version in enumerate(versions):
        assert store.load("risk", version) == {"n": n}
    sessions = [record["session"] for record in store.aggregates()]
    assert len(sessions) == len(set(sessions)) == 24


def test_what_records_of_sums_say_is_on_disk_and_not_in_memory(store: ModelStore) -> None:
    for number in range(3):
        store.append_aggregate({**aggregate(number), "released": {"planted": [0.25] * 8}})
    assert store.append_aggregate(aggregate(1)) == 2
    assert not holds_text(store, "planted")
    assert "planted" in store.aggregates()[2]["released"]
    assert not holds_text(store, "planted")


MANY = """
import sys
from tacit.records.model_store import ModelStore
store = ModelStore(sys.argv[1])
for n in range(10):
    store.save("risk", {"writer": int(sys.argv[2]), "n": n})
    store.append_aggregate({"session": f"{n:064x}"})
"""


def test_processes_lose_and_overwrite_nothing(store: ModelStore, tmp_path: Path) -> None:
    commands = [
        [sys.executable, "-c", MANY, str(tmp_path / "repository"), str(writer)] for writer in range(3)
    ]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    records = [store.load("risk", version) for version in store.versions("risk")]
    assert len(records) == 30
    for writer in range(3):
        assert [record["n"] for record in records if record["writer"] == writer] == list(range(10))
    assert [record["session"] for record in store.aggregates()] == [
        aggregate(n)["session"] for n in range(10)
    ]


def test_cards_are_json_that_anybody_can_read(store: ModelStore, tmp_path: Path) -> None:
    store.save("risk", {"params": [0.1], "llf": -1.5, "name": "risk"})
    text = (tmp_path / "repository" / "objects" / f"{store.find('risk').card}.json").read_text()
    assert json.loads(text)["result"] == {
        "params": {"@array": "params", "as": "list"},
        "llf": -1.5,
        "name": "risk",
    }


def test_a_store_behind_a_url_keeps_the_same(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    store = ModelStore(url)
    assert [store.save("risk", {"x": [float(n)]}) for n in range(3)] == [1, 2, 3]
    store.append_aggregate(aggregate(1))
    other = ModelStore(url)
    assert other.load("risk", 2) == {"x": [1.0]}
    assert other.aggregates() == [aggregate(1)]
