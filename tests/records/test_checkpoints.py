"""Checkpoints: whole or not there, two a run, signed, and resting on the ledger."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tacit.records.checkpoints import CHECKPOINT_TYPE, Checkpoint, checkpoint_file, read_checkpoint
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore
from tacit.records.sealing import RepositoryKey
from tacit.records.signing import SigningKey
from tacit.records.verification import verify

COORDINATOR = SigningKey(b"\x05" * 32)
SEALED = RepositoryKey(bytes(range(32)))


def file_of(store: ModelStore, number: int, name: str = "risk", **content: Any) -> bytes:
    """A checkpoint as the coordinator writes it."""
    checkpoint = Checkpoint(
        name=name,
        number=number,
        run={"holders": ["a", "b"]},
        content=content,
        finished=False,
        ledger=store.ledger.head(),
    )
    return checkpoint_file(checkpoint, 1.5, partial(COORDINATOR.sign, content_type=CHECKPOINT_TYPE))


def save(store: ModelStore, number: int, name: str = "risk", **content: Any) -> int:
    return store.checkpoints.save(file_of(store, number, name, **content))


def newest(store: ModelStore, name: str = "risk") -> Checkpoint:
    octets = store.checkpoints.load(name)
    assert octets is not None
    return read_checkpoint(octets, "it")


CONTENT: dict[str, Any] = {
    "sums": {
        "score": np.array([0.1, -0.0, np.nan]),
        "rows": np.array(7),
        "small": np.array([[1], [2]], dtype=np.float32),
    },
    "step": "trial",
    "value": np.inf,
}


@pytest.mark.parametrize("key", [None, SEALED])
def test_a_checkpoint_comes_back_with_the_same_bits(tmp_path: Path, key: RepositoryKey | None) -> None:
    store = ModelStore(tmp_path, repository_key=key)
    assert store.checkpoints.load("risk") is None
    save(store, 1, **CONTENT)
    found = newest(ModelStore(tmp_path, repository_key=key))
    assert (found.number, found.run, found.key) == (1, {"holders": ["a", "b"]}, COORDINATOR.public)
    assert (found.content["step"], found.content["value"]) == ("trial", np.inf)
    for name, array in CONTENT["sums"].items():
        restored = found.content["sums"][name]
        assert (restored.dtype, restored.shape) == (array.dtype, array.shape)
        assert restored.tobytes() == array.tobytes()


@pytest.mark.parametrize("key", [None, SEALED])
def test_two_are_kept_and_none_is_a_version(tmp_path: Path, key: RepositoryKey | None) -> None:
    store = ModelStore(tmp_path, repository_key=key)
    for number in range(1, 6):
        assert save(store, number, n=number) == number
    assert newest(store).content == {"n": 5}
    assert len([file for file in store.objects.files() if file.startswith("checkpoints/")]) == 2
    assert store.names() == []
    assert verify(store).ok


def test_names_do_not_meet(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    for name in ("risk", "risk.0", "risk.1"):
        save(store, 1, name, of=name)
    assert [newest(store, name).content["of"] for name in ("risk", "risk.0", "risk.1")] == [
        "risk",
        "risk.0",
        "risk.1",
    ]
    with pytest.raises(RecordError, match="a name has"):
        store.checkpoints.load("../risk")


def test_a_repeated_call_is_harmless_and_another_run_is_not_written_over(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    first = file_of(store, 1, of="this")
    assert [store.checkpoints.save(first) for _ in range(2)] == [1, 1]
    for number in (1, 3):
        with pytest.raises(RecordError, match="another run"):
            save(store, number, of="another")
    assert newest(store).content == {"of": "this"}


def test_changed_bytes_are_found_and_named(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    save(store, 1, x=np.arange(3.0))
    save(store, 2, x=np.arange(2.0))
    file = tmp_path / "checkpoints" / "risk.0"
    whole = file.read_bytes()
    for index in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[index] ^= 1
        file.write_bytes(bytes(changed))
        with pytest.raises(RecordError):
            read_checkpoint(bytes(changed), "it")
    assert [fault.file for fault in verify(store).faults] == ["checkpoints/risk.0"]
    assert newest(store).number == 1  # the one before is whole
    assert save(store, 2, x=np.arange(5.0)) == 2  # and the next one takes the place of the damaged
    assert verify(store).ok


def test_damage_to_both_is_told(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    save(store, 1)
    save(store, 2)
    for number in (1, 2):
        (tmp_path / "checkpoints" / f"risk.{number % 2}").write_bytes(b"{}\n{}\n")
    with pytest.raises(RecordError, match=r"risk\.[01] is damaged"):
        store.checkpoints.load("risk")


def test_a_checkpoint_in_the_place_of_another_is_found(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    save(store, 1, "other")
    save(store, 1)
    (tmp_path / "checkpoints" / "risk.1").write_bytes((tmp_path / "checkpoints" / "other.1").read_bytes())
    with pytest.raises(RecordError, match="another run"):
        store.checkpoints.load("risk")
    assert [fault.file for fault in verify(store).faults] == ["checkpoints/risk.1"]


def test_a_checkpoint_rests_on_the_sums_on_record(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "one")
    store.append_aggregate({"session": "1"})
    octets = file_of(store, 1)
    other = ModelStore(tmp_path / "other")
    other.append_aggregate({"session": "2"})
    other.checkpoints.save(octets)
    with pytest.raises(RecordError, match="not those that the checkpoint 'risk' rests on"):
        other.checkpoints.load("risk")
    assert not verify(other).ok


def test_whose_key_signed_is_checked_against_those_trusted(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    save(store, 1)
    assert verify(store, trusted=[COORDINATOR.public]).ok
    [fault] = verify(store, trusted=[store.signing_key.public]).faults
    assert (fault.file, COORDINATOR.public in fault.problem) == ("checkpoints/risk.1", True)


def test_the_signature_of_a_checkpoint_is_none_of_a_card(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    checkpoint = Checkpoint("risk", 1, {}, {}, finished=False, ledger=store.ledger.head())
    with pytest.raises(RecordError, match="signature is wrong"):
        store.checkpoints.save(checkpoint_file(checkpoint, 1.5, COORDINATOR.sign))


def test_a_sealed_repository_does_not_tell_the_name_of_a_run(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, repository_key=SEALED)
    save(store, 1, "secret-name", x=np.arange(3.0))
    assert not any("secret-name" in file for file in store.objects.files())
    assert b"secret-name" not in b"".join((tmp_path / file).read_bytes() for file in store.objects.files())
