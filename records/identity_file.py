"""A party's identity in a file: made once, kept on its machine, and shown to the others by its public keys.

Who learns what: the file holds the 64 secret bytes of an `Identity` and never leaves the machine. Others get the
party's public keys, in study.toml, and compare the fingerprint with what the party reads out to them: whoever can
change the keys on their way could otherwise take the party's place.

Adversary: other users of the machine, who cannot read the file; and whoever carries the public keys.
"""

from __future__ import annotations

import io
import os
import re
import tomllib

from ..protocols.key_agreement import KEY_BYTES, Identity
from ..protocols.party import AGGREGATOR, COORDINATOR, HOLDER
from ..protocols.secret import RandomBytes
from ..serialization.codec import digest
from ..serialization.session_messages import Party
from .errors import RecordError
from .private_files import read_private, write_private

FORM = 1
KINDS = (COORDINATOR, HOLDER, AGGREGATOR)
SECRET_BYTES = 2 * KEY_BYTES
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")  # as Ray's labels may be

TEXT = """\
# The long-term keys of {name}. Who has this file can speak as {name}: it stays on this machine, readable for its
# owner alone. What others need of it: python -m tacit keys show
form = {form}
name = "{name}"
kind = "{kind}"
secret = "{secret}"
"""


def make_identity(path: str | os.PathLike[str], name: str, kind: str, random_bytes: RandomBytes) -> Party:
    """Make an identity and write its file, mode 0600.

    Parameters
    ----------
    path : path
        A file that is not there yet.
    name : str
        1 to 63 letters, digits and ``. _ -``, the first and last of them a letter or digit.
    kind : {"coordinator", "holder", "aggregator"}
    random_bytes : callable
        Source of 64 secret bytes.

    Returns
    -------
    Party
        The public part, for study.toml.

    Raises
    ------
    RecordError
        If name or kind cannot be used, or the file is there already.
    """
    check_name(name)
    if kind not in KINDS:
        raise RecordError(f"a party is one of {', '.join(KINDS)}, not {kind!r}")
    secret = random_bytes(SECRET_BYTES)
    write_private(path, TEXT.format(form=FORM, name=name, kind=kind, secret=secret.hex()))
    return _identity(name, kind, secret).public


def read_identity(path: str | os.PathLike[str]) -> Identity:
    """Read an identity from its file.

    Raises
    ------
    RecordError
        If others may read the file, it is not there, or it is no identity; nothing of its content is told.
    """
    text = read_private(path)
    try:
        content = tomllib.loads(text)
        name, kind, secret = content["name"], content["kind"], bytes.fromhex(content["secret"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    usable = content.get("form") == FORM and kind in KINDS and is_name(name) and len(secret) == SECRET_BYTES
    if not usable:
        raise _damaged(path)
    return _identity(name, kind, secret)


def fingerprint(party: Party) -> str:
    """Return what people compare of a party over the telephone: 128 bits of the hash of its name, kind and keys.

    Eight groups of four hexadecimal digits. Finding other keys of the same fingerprint takes 2^128 trials.
    """
    digits = digest(party).hex()
    return " ".join(digits[start : start + 4] for start in range(0, 32, 4))


def as_toml(party: Party) -> str:
    """Return the table of a party as it stands in study.toml."""
    lines = (
        f'name = "{party.name}"',
        f'kind = "{party.kind}"',
        f'verify_key = "{party.verify_key.hex()}"',
        f'agreement_key = "{party.agreement_key.hex()}"',
    )
    return "\n".join(("[[party]]", *lines)) + "\n"


def is_name(name: object) -> bool:
    """Whether a party, or a machine, may be called so: as a label of Ray's may be."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def check_name(name: object) -> None:
    """Refuse a name that is no label.

    Raises
    ------
    RecordError
        With what a name is.
    """
    if not is_name(name):
        raise RecordError(
            f"{name!r} is no name: take 1 to 63 letters, digits and . _ -, with a letter or digit at both ends"
        )


def _identity(name: str, kind: str, secret: bytes) -> Identity:
    return Identity(name, kind, io.BytesIO(secret).read)


def _damaged(path: str | os.PathLike[str]) -> RecordError:
    return RecordError(
        f"{os.fspath(path)} is no identity file, or is damaged: bring back a copy, or make another identity with "
        "python -m tacit keys identity and have its keys put into study.toml"
    )
