"""Encryption at rest: nothing readable, nothing movable, nothing changeable."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.errors import MisuseError
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore
from tacit.records.sealing import ENVIRONMENT, MAGIC, RepositoryKey, seal, unseal

KEY = RepositoryKey(bytes(range(32)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(content=st.binary(max_size=200))
def test_what_is_sealed_opens_at_its_place_alone(content: bytes) -> None:
    sealed = seal(KEY, "objects/a", content, os.urandom)
    assert unseal(KEY, "objects/a", sealed) == content
    assert len(sealed) == len(MAGIC) + 12 + 48 + 12 + len(content) + 16
    for place, key in (("objects/b", KEY), ("objects/a", RepositoryKey(bytes(32)))):
        with pytest.raises(RecordError, match="damaged, or sealed under another key"):
            unseal(key, place, sealed)


def test_every_changed_byte_is_found() -> None:
    sealed = seal(KEY, "log/1", b"content", os.urandom)
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(RecordError, match="log/1 is damaged"):
            unseal(KEY, "log/1", bytes(changed))


@pytest.mark.parametrize("length", [0, 5, 15, 40, 75, 87, 100])
def test_a_file_cut_short_is_found(length: int) -> None:
    sealed = seal(KEY, "log/1", b"content", os.urandom)
    with pytest.raises(RecordError, match="log/1 is damaged"):
        unseal(KEY, "log/1", sealed[:length])


def test_the_same_content_is_sealed_differently_each_time() -> None:
    assert seal(KEY, "a", b"content", os.urandom) != seal(KEY, "a", b"content", os.urandom)


def test_a_sealed_repository_tells_no_name_number_or_hash(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, repository_key=KEY)
    store.save("secret-name", {"x": [1.0, 2.0], "note": "a note"})
    store.append_aggregate({"session": "a session"})
    octets = b"".join((tmp_path / file).read_bytes() for file in store.objects.files())
    for word in (b"secret-name", b"note", b"session", b"safetensors", b"float64"):
        assert word not in octets
    open_names = ModelStore(tmp_path / "open")
    open_names.save("secret-name", {"x": [1.0, 2.0], "note": "a note"})
    arrays = [file for file in open_names.objects.files() if file.endswith(".safetensors")]
    assert not {Path(file).stem for file in arrays} & {Path(file).name for file in store.objects.files()}


def test_a_sealed_repository_opens_with_its_key_alone(tmp_path: Path) -> None:
    ModelStore(tmp_path, repository_key=KEY).save("risk", {"n": 1})
    assert ModelStore(tmp_path, repository_key=RepositoryKey(bytes(range(32)))).load("risk") == {"n": 1}
    for key in (None, RepositoryKey(bytes(32))):
        with pytest.raises(RecordError):
            ModelStore(tmp_path, repository_key=key).save("risk", {"n": 2})


def test_an_unsealed_file_is_not_read_in_a_sealed_repository(tmp_path: Path) -> None:
    ModelStore(tmp_path).save("risk", {"n": 1})
    with pytest.raises(RecordError, match="not sealed"):
        ModelStore(tmp_path, repository_key=KEY).save("risk", {"n": 2})


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    text = bytes(range(32)).hex()
    (tmp_path / "key").write_text(text + "\n")
    environment = RepositoryKey.from_environment({ENVIRONMENT: text})
    assert environment is not None
    assert RepositoryKey.from_environment({}) is None
    for key in (environment, RepositoryKey.from_file(tmp_path / "key")):
        assert key.name("a") == KEY.name("a")


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33, "é" * 64])
def test_a_key_of_another_form_is_refused_without_being_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(RecordError) as caught:
        RepositoryKey.from_file(tmp_path / "key")
    assert not text or not re.search(re.escape(text), str(caught.value))


def test_a_key_is_neither_shown_nor_pickled() -> None:
    assert bytes(range(32)).hex() not in repr(KEY)
    with pytest.raises(MisuseError):
        pickle.dumps(KEY)
