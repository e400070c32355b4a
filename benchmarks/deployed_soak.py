"""Sessions in a row over a study whose parties have joined, with all that they keep on disk.

All are on this machine: a coordinator, and holders as its guests, each with its own `python -m tacit join`, identity,
policy, ledger and memory of releases. A process that is killed is started anew by its `join`; sums go on over the other
holders, and then over all again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tacit
from tacit.protocols.party import COORDINATOR
from tacit.records.audit import Audit, audit
from tacit.records.identity_file import as_toml, make_identity

from .soaking import REPOSITORY, Death, Rows, Soak, Soaked

START_SECONDS, RETURN_SECONDS, END_SECONDS, LOOK_SECONDS = 120.0, 60.0, 30.0, 0.1
MODULE = f"{__package__}.soaking"
STUDY = """\
title = "A soak"
form = 1

{parties}
[protocol]
name = "PairwiseMasking"

[analysis]
model = "Sum"
function = "{module}:contribution"
data = "rows"

[rules]
on_dropout = "continue"
set_changes = 1000000

[cluster]
address = "127.0.0.1:{port}"
"""
PARTY = """\
study = "../study.toml"
party = "{name}"
identity = "{name}.identity"
state = "state"

[policy]
models = ["Sum"]
importable = ["{module}:contribution"]
"""
HOLDER = """
[data.rows]
csv = "rows.csv"

[ray]
start = false
"""


@dataclass
class Deployed:
    """Parties that have joined.

    Attributes
    ----------
    folder : Path
        With a folder for each.
    joins : mapping of str to process
        What keeps each.
    """

    folder: Path
    joins: Mapping[str, subprocess.Popen[bytes]]

    @property
    def study(self) -> Path:
        return self.folder / "study.toml"

    def audit(self) -> Audit:
        """Verify all ledgers, and reconcile them."""
        return audit([self.folder / name / "state" / "ledger" for name in self.joins])


def unlike(found: Audit, recorded: Collection[str]) -> tuple[int, int]:
    """Count sums that are in the repository and not in the coordinator's ledger, and the other way round.

    Parameters
    ----------
    found : Audit
    recorded : collection of str
        Sessions of which the repository has the sum.
    """
    told = {session: by[COORDINATOR] for session, by in found.sessions.items() if COORDINATOR in by}
    released = {session for session, one in told.items() if one.get("outcome") == "released"}
    return len({*recorded} - told.keys()), len(released - {*recorded})


@contextlib.contextmanager
def deployed(rows: Mapping[str, Rows]) -> Iterator[Deployed]:
    """Have a coordinator and holders of rows join on this machine, for as long as it is entered.

    Raises
    ------
    RuntimeError
        If they are not all there in time: with what they have said.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as named, contextlib.ExitStack() as stack:
        folder = Path(named)
        _write(folder, rows)
        joins = {name: stack.enter_context(_joined(folder / name)) for name in (COORDINATOR, *rows)}
        ends = time.monotonic() + START_SECONDS
        while not all(_is_ready(folder / name) for name in joins):
            if time.monotonic() > ends:
                raise RuntimeError("\n".join((folder / name / "log").read_text() for name in joins))
            time.sleep(LOOK_SECONDS)
        yield Deployed(folder, joins)


def _write(folder: Path, rows: Mapping[str, Rows]) -> None:
    """Write the study, and the files of each party."""
    blocks = []
    for name in (COORDINATOR, *rows):
        (folder / name).mkdir(mode=0o700)
        kind = COORDINATOR if name == COORDINATOR else "holder"
        block = as_toml(make_identity(folder / name / f"{name}.identity", name, kind, os.urandom))
        blocks.append(block if name == COORDINATOR else f'{block.rstrip()}\nmachine = "{COORDINATOR}"\n')
        text = PARTY.format(name=name, module=MODULE)
        if name in rows:
            (folder / name / "rows.csv").write_text(
                "".join(f"{value!r}\n" for value in ["value", *rows[name].tolist()]).replace("'", "")
            )
            text += HOLDER
        (folder / name / "party.toml").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    study = STUDY.format(parties="\n".join(blocks), module=MODULE, port=port)
    (folder / "study.toml").write_text(study)


@contextlib.contextmanager
def _joined(own: Path) -> Iterator[subprocess.Popen[bytes]]:
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (own / "log").open("wb") as log:
        joining = subprocess.Popen(
            [sys.executable, "-m", "tacit", "join", str(own / "party.toml"), "--json"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield joining
        finally:
            joining.terminate()
            try:
                joining.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                joining.kill()


def _is_ready(own: Path) -> bool:
    lines = (own / "log").read_text(errors="replace").splitlines()
    return any(line.startswith("{") and json.loads(line)["event"] == "ready" for line in lines)


class DeployedSoak(Soak):
    """Sessions in a row over parties that come back by themselves.

    Parameters
    ----------
    parties : Deployed
    federation, rows, fewest, n_first, say
        As of `Soak`.
    """

    def __init__(
        self,
        parties: Deployed,
        federation: Any,
        rows: Mapping[str, Rows],
        *,
        fewest: int,
        n_first: int,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(federation, rows, fewest, n_first, say)
        self._parties = parties
        self.longest_return = 0.0  # seconds from the end of a fatal session until sums are over all again
        self.n_ends = 0  # of the coordinator's process

    def run(self, n_sessions: int, deaths: Mapping[int, Death]) -> Soaked:
        """Run so many sessions, in some of which a process is killed."""
        self.longest_return = 0.0
        return super().run(n_sessions, deaths)

    def _processes(self) -> dict[str, int]:
        keepers = {f"join of {name}": process.pid for name, process in self._parties.joins.items()}
        return {**super()._processes(), **keepers}

    def _fatal_session(self, death: Death) -> None:
        """Kill some party's process in the middle of a session, and wait until it is back."""
        super()._fatal_session(death)
        if COORDINATOR not in self._lives.alive:  # with whom the repository ends
            self._lives.alive.pop(REPOSITORY, None)
            self.n_ends += 1
        self._bring_back()

    def _bring_back(self) -> None:
        """Go on with sessions until they are over all holders again, who find each other later than the coordinator.

        Raises
        ------
        RuntimeError
            If they are not in time.
        """
        began = time.monotonic()
        self._lives.look()
        self._is_returning = True
        while not self._is_met() or self._session() < len(self._rows):
            if time.monotonic() - began > RETURN_SECONDS:
                raise RuntimeError(f"not all parties are back in {RETURN_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        self._is_returning = False
        self.longest_return = max(self.longest_return, time.monotonic() - began)
        self._lives.meet(self._processes())
        self._tally.n_restarts += 1
        self._n_failed = 0

    def _is_met(self) -> bool:
        """Whether the coordinator is there, and misses nobody."""
        try:
            return not self._federation.absent
        except tacit.TacitError:
            return False
