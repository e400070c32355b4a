"""Whatever byte of a repository is changed, `verify` finds it and names the file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.records.errors import RecordError
from tacit.records.model_card import Release
from tacit.records.model_store import ModelStore
from tacit.records.sealing import RepositoryKey
from tacit.records.signing import SigningKey
from tacit.records.verification import verify

HOLDER = SigningKey(b"\x05" * 32)
COORDINATOR = SigningKey(b"\x06" * 32)
SEALED = RepositoryKey(b"\x07" * 32)


def filled(folder: Path, key: RepositoryKey | None) -> ModelStore:
    """Return a store with everything that a store may hold."""
    store = ModelStore(folder, signing_key=COORDINATOR, repository_key=key)
    for number in range(3):
        store.append_aggregate({"session": str(number), "released": {"x": [number / 7]}})
        store.save("risk", {"x": [number / 3, 1.0], "note": "a"}, release=Release(1, {"site": HOLDER.public}))
    store.co_sign("risk", 2, HOLDER.sign(store.card_bytes(store.find("risk", 2))))
    store.tag("risk", "best", 2)
    with store.objects.locked():
        store.uses.append({"token": "t", "action": "list"})
        store.objects.create(orphan(), b"what a killed writer left")
    return store


def orphan() -> str:
    return "objects/adab961fbd0b3c1b15e98de72979f3bcb313305ab64dda8db5202fd9d70ada11.json"


@pytest.fixture(scope="module", params=[None, SEALED], ids=["open", "sealed"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ModelStore]:
    folder = tmp_path_factory.mktemp("repository")
    return folder, filled(folder, request.param)


def faulty(store: ModelStore, **options: Any) -> set[str]:
    return {fault.file for fault in verify(store, **options).faults}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_changed_byte_is_found_and_its_file_named(
    store: tuple[Path, ModelStore], data: st.DataObject
) -> None:
    folder, whole = store
    file = data.draw(st.sampled_from(whole.objects.files()))
    octets = (folder / file).read_bytes()
    at = data.draw(st.integers(0, len(octets) - 1))
    mask = data.draw(st.integers(1, 255))
    (folder / file).write_bytes(octets[:at] + bytes([octets[at] ^ mask]) + octets[at + 1 :])
    try:
        assert file in faulty(whole)
    finally:
        (folder / file).write_bytes(octets)


def test_files_that_are_gone_or_cut_short_are_named(store: tuple[Path, ModelStore]) -> None:
    folder, whole = store
    for file in whole.objects.files():
        octets = (folder / file).read_bytes()
        (folder / file).write_bytes(octets[: len(octets) // 2])
        assert file in faulty(whole)
        (folder / file).unlink()
        missing = faulty(whole)
        last = file in {"aggregates/00000003.json", "uses/00000001.json", "log/00000005.json"}
        assert (file.partition("/")[0] + "/head.json" if last else file) in missing or _is_orphan(whole, file)
        (folder / file).write_bytes(octets)
    assert verify(whole).ok


def _is_orphan(store: ModelStore, file: str) -> bool:
    return file == store.objects.file_of(orphan())


def test_a_file_of_somebody_is_named(store: tuple[Path, ModelStore]) -> None:
    folder, whole = store
    for file in ("notes.txt", "log/notes.txt", "log/1.json", "objects/x.json", "results/risk/00000001.json"):
        (folder / file).parent.mkdir(exist_ok=True, parents=True)
        (folder / file).write_bytes(b"{}")
        assert faulty(whole) == {file}
        (folder / file).unlink()


def test_another_key_than_those_trusted_is_named(store: tuple[Path, ModelStore]) -> None:
    _, whole = store
    assert verify(whole, trusted=[COORDINATOR.public]).ok
    assert {file.partition("/")[0] for file in faulty(whole, trusted=[HOLDER.public])} == {
        "aggregates",
        "log",
        "objects",
        "uses",
    }


def test_what_is_verified_is_told(store: tuple[Path, ModelStore]) -> None:
    _, whole = store
    checked = verify(whole)
    assert [(version.version, version.released) for version in checked.versions] == [
        (1, False),
        (2, True),
        (3, False),
    ]
    assert checked.signed_by == checked.logged_by == (COORDINATOR.public,)
    assert checked.n_files == len(whole.objects.files())
    assert verify(whole, remembered=checked.heads).ok
    assert "nothing was changed" in str(checked)
    assert verify(whole, "risk").ok
    with pytest.raises(RecordError, match="nothing is saved under 'never'"):
        verify(whole, "never")


def test_a_repository_that_is_being_written_verifies(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)

    def write() -> None:
        for n in range(12):
            store.append_aggregate({"session": str(n)})
            store.save("risk", {"x": [float(n)]})

    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(write)
        while not writing.done():
            assert verify(ModelStore(tmp_path)).faults == ()
        writing.result()
    assert len(verify(store).versions) == 12


def test_a_card_in_the_place_of_another_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path, None)
    first, second = (f"objects/{store.find('risk', version).card}.json" for version in (1, 2))
    os.replace(tmp_path / first, tmp_path / second)
    assert faulty(store) == {first, second}


def test_a_ledger_cut_back_with_its_head_is_found_by_the_card_that_rests_on_it(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.append_aggregate({"session": "1"})
    head = (tmp_path / "aggregates" / "head.json").read_bytes()
    store.append_aggregate({"session": "2"})
    store.save("risk", {"n": 1})
    (tmp_path / "aggregates" / "00000002.json").unlink()
    (tmp_path / "aggregates" / "head.json").write_bytes(head)
    assert faulty(store) == {"aggregates/"}
