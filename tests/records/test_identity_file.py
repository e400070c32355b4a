"""An identity survives its file, and nobody else may see it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from tacit.protocols.key_agreement import Identity, verify
from tacit.protocols.secret import RandomBytes
from tacit.records.errors import RecordError
from tacit.records.identity_file import as_toml, fingerprint, make_identity, read_identity

SECRET = bytes(range(64))


def stream(secret: bytes = SECRET) -> RandomBytes:
    return lambda n: (secret * 2)[:n]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_identity(tmp_path / "north.identity", "north", "holder", stream())
    return tmp_path / "north.identity"


def test_what_is_read_is_what_was_made(tmp_path: Path) -> None:
    made = make_identity(tmp_path / "x", "north", "holder", os.urandom)
    read = read_identity(tmp_path / "x")
    assert read.public == made
    assert verify(made, b"content", read.sign(b"content"))


def test_keys_are_those_of_the_identity_of_these_bytes(path: Path) -> None:
    halves = iter((SECRET[:32], SECRET[32:]))
    assert read_identity(path).public == Identity("north", "holder", lambda n: next(halves)).public


def test_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_identity(tmp_path / "x", "north", "holder", stream())
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(RecordError, match="not overwritten: choose another name"):
        make_identity(path, "north", "holder", os.urandom)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o777])
def test_file_that_others_may_read_or_change_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(RecordError, match=rf"mode 0{mode:o}\): chmod go= {path}"):
        read_identity(path)


def test_secret_stands_in_no_text(path: Path) -> None:
    identity = read_identity(path)
    shown = repr(identity) + str(identity) + as_toml(identity.public) + fingerprint(identity.public)
    assert SECRET.hex()[:16] not in shown.replace(" ", "")
    assert SECRET.hex()[64:80] not in shown.replace(" ", "")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(SECRET.hex(), SECRET.hex()[:-2]),
        lambda text: text.replace(SECRET.hex(), SECRET.hex() + "00"),
        lambda text: text.replace(SECRET.hex(), SECRET.hex()[:-1] + "g"),
        lambda text: text.replace('"holder"', '"repository"'),
        lambda text: text.replace('"north"', '"north "'),
        lambda text: text.replace('"north"', "7"),
        lambda text: text.replace("form = 1", "form = 2"),
        lambda text: text.replace("secret", "public"),
        lambda text: text[:-3],
        lambda text: "",
    ],
)
def test_damaged_file_is_refused_and_not_quoted(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))
    with pytest.raises(RecordError, match="no identity file, or is damaged") as caught:
        read_identity(path)
    assert SECRET.hex()[:8] not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"gone cannot be read: No such file"):
        read_identity(tmp_path / "gone")


def test_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    (tmp_path / "x").chmod(0o600)
    with pytest.raises(RecordError, match="it is no text"):
        read_identity(tmp_path / "x")


@pytest.mark.parametrize(
    "name", ["", "-north", "north.", "nörd", "a/b", 'a"b', "a\nb", "n" * 64, "two words"]
)
def test_unusable_name_is_refused_before_a_file_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match="is no name: take 1 to 63 letters"):
        make_identity(tmp_path / "x", name, "holder", stream())
    assert not (tmp_path / "x").exists()


def test_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="one of coordinator, holder, aggregator, not 'asker'"):
        make_identity(tmp_path / "x", "north", "asker", stream())


def test_fingerprint_depends_on_every_part_and_is_short(tmp_path: Path) -> None:
    parties = [
        make_identity(tmp_path / "1", "north", "holder", stream()),
        make_identity(tmp_path / "2", "south", "holder", stream()),
        make_identity(tmp_path / "3", "north", "aggregator", stream()),
        make_identity(tmp_path / "4", "north", "holder", stream(SECRET[::-1])),
    ]
    fingerprints = set(map(fingerprint, parties))
    assert len(fingerprints) == 4
    assert all(len(each) == 39 and len(each.split()) == 8 for each in fingerprints)


def test_block_is_toml_of_the_public_part(path: Path) -> None:
    public = read_identity(path).public
    assert tomllib.loads(as_toml(public)) == {
        "party": [
            {
                "name": "north",
                "kind": "holder",
                "verify_key": public.verify_key.hex(),
                "agreement_key": public.agreement_key.hex(),
            }
        ]
    }
