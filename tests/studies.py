"""A study of three holders and its identities: for the tests of records and of the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tacit.protocols.key_agreement import Identity
from tacit.records.identity_file import as_toml, make_identity

HOLDERS = ("north", "east", "south")
PARTIES = (("coordinator", "coordinator"), *((name, "holder") for name in HOLDERS))
PROTOCOL = 'name = "RingPaillier"\nkey_bits = 3072'
ANALYSIS = 'model = "GLM"\nformula = "count ~ C(spray)"\nfamily = "poisson"\ndata = "sprays"'


def secret_of(name: str) -> bytes:
    """The 64 bytes of a party's identity in these tests."""
    return hashlib.sha512(name.encode()).digest()


def identity_of(name: str, kind: str) -> Identity:
    halves = iter((secret_of(name)[:32], secret_of(name)[32:]))
    return Identity(name, kind, lambda _: next(halves))


def parties_text(parties: Sequence[tuple[str, str]] = PARTIES) -> str:
    return "\n".join(as_toml(identity_of(name, kind).public) for name, kind in parties)


def study_text(
    *,
    parties: str | None = None,
    protocol: str = PROTOCOL,
    analysis: str = ANALYSIS,
    rest: str = "",
    address: str = "10.1.0.1:6379",
) -> str:
    return f"""\
title = "Insect sprays"
form = 1

{parties_text() if parties is None else parties}
[protocol]
{protocol}
[analysis]
{analysis}
[cluster]
address = "{address}"
{rest}
"""


def write_study(folder: Path, text: str | None = None) -> Path:
    path = folder / "study.toml"
    path.write_text(study_text() if text is None else text)
    return path


def write_party(folder: Path, name: str, kind: str = "holder", rest: str = "") -> Path:
    """Write a party's file, its identity, and the study and two rows beside it."""
    if not (folder / "study.toml").exists():
        write_study(folder)
    write_identity(folder, name, kind)
    (folder / "rows.csv").write_text("count,spray\n1,A\n2,B\n")
    path = folder / f"{name}.toml"
    data = '[data.sprays]\ncsv = "rows.csv"\n' if kind == "holder" else ""
    path.write_text(
        f'study = "study.toml"\nparty = "{name}"\nidentity = "{name}.identity"\nstate = "state"\n{data}{rest}'
    )
    path.chmod(0o600)
    return path


def write_identity(folder: Path, name: str, kind: str) -> Path:
    path = folder / f"{name}.identity"
    make_identity(path, name, kind, lambda n: secret_of(name)[:n])
    return path
