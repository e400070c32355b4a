"""Is this machine ready to take part? Everything that can be known before anything is started, each with its remedy.

Who learns what: whoever reads it on this machine; nothing of it leaves. It tells the number of rows and the names of
columns, and no value.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, Literal

from ..models.asking import as_asked
from ..models.errors import DataError
from ..protocols.party import COORDINATOR, HOLDER
from ..serialization.errors import TacitError
from .certificates import check_certificates, utc_now
from .errors import RecordError
from .identity_file import fingerprint
from .party_file import PartyFile
from .table import n_rows

PACKAGES = ("tacit", "ray", "numpy", "phe", "msgpack", "cryptography")
REACH_SECONDS = 3.0
LEAST_FREE = 2**28  # bytes: a ledger and a budget must never meet a full disk
CLOCK_SECONDS = 60.0  # that it may be behind what was written before
LOCAL = ("127.0.0.1", "localhost", "[::1]")

Outcome = Literal["in order", "warning", "not ready"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    outcome : {"in order", "warning", "not ready"}
        With something that is not ready a party does not join.
    told : str
        What was found and, where something is wrong, what to do.
    """

    what: str
    outcome: Outcome
    told: str

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON-able data."""
        return {"what": self.what, "outcome": self.outcome, "told": self.told}


def readiness(file: PartyFile) -> Iterator[Check]:
    """Check, one after the other, what a party needs to take part in its study.

    Parameters
    ----------
    file : PartyFile
        Which was read: study, identity and permissions are in order, then.
    """
    yield Check("study", "in order", f"{file.study.title}, SHA-256 {file.study.digest.hex()[:16]}…")
    yield Check("identity", "in order", f"{file.party.kind} {file.party.name}, {fingerprint(file.party)}")
    yield Check("versions", "in order", _versions())
    yield _clock(file)
    yield _security(file)
    yield _disk(file)
    if file.party.kind == COORDINATOR:
        yield _repository(file)
        yield _question(file)
    else:
        yield _head(file.study.address)
    if file.party.kind == HOLDER:
        yield from _rows(file)


def _versions() -> str:
    found = [f"Python {python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} from its folder")
    return ", ".join(found)


def _clock(file: PartyFile) -> Check:
    """Look whether this party's ledger was written later than the clock says it is.

    The others' clocks are looked at when they are met.
    """
    now = utc_now()
    behind = max(map(_written, file.ledger.rglob("*")), default=0.0) - now.timestamp()
    if behind > CLOCK_SECONDS:
        return Check(
            "clock",
            "warning",
            f"it says {now:%Y-%m-%d %H:%M} UTC, and this party's ledger was written {behind:.0f} s later: have it set "
            "by NTP, as certificates, tokens and the times in ledgers go by it",
        )
    return Check("clock", "in order", f"it says {now:%Y-%m-%d %H:%M} UTC")


def _written(path: Path) -> float:
    """Return when a file was written; 0 if it is gone, as what a party that runs has just moved to its place."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _security(file: PartyFile) -> Check:
    folder, what = file.ray.certificates, "certificates"
    is_local = file.study.address.rpartition(":")[0] in LOCAL
    if folder is not None:
        if file.ray.ip in LOCAL or (is_local and file.ray.ip is None):
            return Check(
                what,
                "not ready",
                "Ray takes this machine's address in its network in the place of 127.0.0.1, and would wait for a "
                "certificate of that: name that address in study.toml's [cluster] and as [ray] ip and make "
                "certificates for it, or leave [ray] certificates out",
            )
        try:
            check_certificates(folder, file.ray.ip)
        except RecordError as error:
            return Check(what, "not ready", str(error))
        return Check(what, "in order", f"TLS and a token, in {folder.name}")
    remedy = (
        "make certificates and a token with `python -m tacit keys cluster`, and name their folder in [ray] "
        "certificates: whoever reaches an open Ray can run code in it, and reads what is sent"
    )
    if is_local:  # which Ray, too, takes for any address of the machine
        alone = "no other machine takes part, but Ray listens at all addresses of this one"
        return Check(what, "warning", f"{alone}: let a firewall keep others out, or {remedy}")
    if file.ray.insecure:
        return Check(what, "warning", f"Ray is open to its network, as [ray] insecure says: {remedy}")
    return Check(what, "not ready", remedy)


def _disk(file: PartyFile) -> Check:
    free = shutil.disk_usage(file.state).free
    if free < LEAST_FREE:
        return Check(
            "disk", "not ready", f"{free >> 20} MiB are free in {file.state}: make room, or move `state`"
        )
    if not os.access(file.state, os.W_OK):
        return Check("disk", "not ready", f"{file.state} cannot be written: let it belong to this user")
    return Check("disk", "in order", f"{free >> 20} MiB are free for ledger and budgets")


def _repository(file: PartyFile) -> Check:
    if file.repository is None:
        return Check("repository", "in order", "beside the other state, as [repository] names none")
    return Check("repository", "in order", file.repository.folder)


def _question(file: PartyFile) -> Check:
    try:
        as_asked(file.study.model(file.policy.importable), file.study.privacy, file.study.cov_type)
    except TacitError as error:
        return Check("question", "not ready", str(error))
    return Check("question", "in order", f"a {file.study.analysis.kind} of {file.study.data!r}")


def _head(address: str) -> Check:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except OSError as error:
        return Check(
            "coordinator",
            "warning",
            f"{address} does not answer ({error.strerror or error}): joining waits until it has "
            "joined; if it has, look at the address in the study, and at firewalls",
        )
    return Check("coordinator", "in order", f"{address} answers")


def _rows(file: PartyFile) -> Iterator[Check]:
    """Read the rows, and see whether the policy would have the study's question asked of them."""
    source = file.source()
    try:
        rows = source.read()
    except (DataError, RecordError) as error:
        yield Check("data", "not ready", str(error))
        return
    columns = ", ".join(map(str, getattr(rows, "columns", ())))
    yield Check("data", "in order", f"{source}: {n_rows(rows)} rows; {columns}")
    yield _policy(file, rows)


def _policy(file: PartyFile, rows: Any) -> Check:
    study = file.study
    try:
        asked = as_asked(study.model(file.policy.importable), study.privacy, study.cov_type)
        model = file.policy.model_of(asked.definition)
        file.policy.check(model, rows, protocol=study.protocol, n_holders=len(study.roster.holders))
    except TacitError as error:
        return Check("policy", "not ready", f"it is against the study's question: {error}")
    return Check("policy", "in order", f"it allows the study's question, a {study.analysis.kind}")
