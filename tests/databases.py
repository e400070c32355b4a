"""A database cluster of PostgreSQL, of Debian's packages, for the tests that need one."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PASSWORD = "a-password-of-this-test"


def obstacle() -> str:
    """Return why there can be no database here; nothing if there can."""
    if BIN is None:
        return "there is no PostgreSQL here (Debian: postgresql)"
    return "" if os.geteuid() == 0 else "PostgreSQL's own user takes root"


def as_postgres(command: list[str]) -> None:
    """Run a command as PostgreSQL's own user, who is never root."""
    owner = pwd.getpwnam("postgres")
    done = subprocess.run(
        command, user=owner.pw_uid, group=owner.pw_gid, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def database_files() -> Iterator[Path]:
    """Make the files of a database cluster, whose user is "holder", in "data" of a folder."""
    assert BIN is not None
    folder = Path(tempfile.mkdtemp(prefix="tacit-postgresql-"))
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    (folder / "password").write_text(PASSWORD)
    os.chown(folder / "password", owner.pw_uid, owner.pw_gid)
    try:
        initdb = [str(BIN / "initdb"), "-D", str(folder / "data"), "-U", "holder", "-A", "scram-sha-256"]
        as_postgres([*initdb, f"--pwfile={folder / 'password'}", "--no-sync"])
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
