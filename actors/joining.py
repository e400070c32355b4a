"""A party's stay in a cluster: Ray on this machine, the party's process, and both again when they have ended.

This process owns neither rows nor keys, and does not use Ray itself: Ray ends whoever uses it when it cannot reach its
head. It keeps two others: ``ray start --block``, and one that makes the party's process and waits with it
(`party_keeper`). When the party's ends it is started anew, after a pause, and when Ray ends both are: so a machine that
was cut off, or whose head was away, is there again by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..protocols.errors import SetupError
from ..protocols.party import COORDINATOR
from ..records.certificates import environment
from ..records.party_file import PartyFile
from .finding import LABEL

PAUSE_SECONDS = 3.0
LOOK_SECONDS = 0.2
END_SECONDS = 10.0
RAY_SECONDS = 60.0  # that Ray may take to start

Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Joining:
    """What it takes to join.

    Parameters
    ----------
    file : PartyFile
    say : callable
        Is handed what happens, as JSON-able data with an "event".
    """

    file: PartyFile
    say: Say

    def stay(self) -> None:
        """Join, and stay until the process is interrupted or ended.

        Raises
        ------
        SetupError
            If the cluster would be open to its network.
        """
        check_secured(self.file)
        with _ended_by_signals():
            while True:
                self._stay_with_ray()
                self._pause()

    def _stay_with_ray(self) -> None:
        """Start Ray, if that is to be done here, and keep the party's process until Ray ends."""
        if not self.file.ray.start:
            self._keep(None)
            return
        with self._running("Ray", ray_command(self.file)) as ray:
            while ray.poll() is None:
                self._keep(ray)
                if ray.poll() is None:
                    self._pause()
            self.say({"event": "ended", "process": "Ray", "code": ray.returncode})

    def _keep(self, ray: subprocess.Popen[str] | None) -> None:
        """Keep the party's process until it, or Ray, ends."""
        command = [sys.executable, "-m", "tacit.actors.party_keeper", str(self.file.path)]
        with self._running("party", command) as keeper:
            while keeper.poll() is None and (ray is None or ray.poll() is None):
                time.sleep(LOOK_SECONDS)
            if keeper.poll() is not None:
                self.say({"event": "ended", "process": "party", "code": keeper.returncode})

    def _pause(self) -> None:
        self.say({"event": "pause", "seconds": PAUSE_SECONDS})
        time.sleep(PAUSE_SECONDS)

    @contextlib.contextmanager
    def _running(self, name: str, command: list[str]) -> Iterator[subprocess.Popen[str]]:
        """Run a process of its own group, pass on what it prints, and end the group at the end."""
        process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a peer is in it
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        listening = threading.Thread(target=self._listen, args=(name, process), daemon=True)
        listening.start()
        try:
            yield process
        finally:
            _end(process)
            listening.join(END_SECONDS)

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            told = _told(line)
            if told is not None:
                self.say(told)
            elif line.strip():
                self.say({"event": "printed", "process": name, "line": line.rstrip()})

    @property
    def environment(self) -> dict[str, str]:
        """What Ray needs to know, of certificates and token, in the environment of every process that uses it."""
        folder = self.file.ray.certificates
        secured = {"RAY_AUTH_MODE": "disabled"} if folder is None else environment(folder)
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", **secured}


def check_secured(file: PartyFile) -> None:
    """Refuse a cluster over several machines without certificates and token.

    Raises
    ------
    SetupError
        Saying what to do.
    """
    host = file.study.address.rpartition(":")[0]
    local = host in ("127.0.0.1", "localhost", "[::1]")
    if file.ray.certificates is None and not local and not file.ray.insecure:
        raise SetupError(
            f"Ray at {file.study.address} would be open to its network, and whoever reaches it can run code in it: "
            "make certificates and a token with `python -m tacit keys cluster`, and name their folder in [ray] "
            "certificates (or say [ray] insecure = true on a network that nobody else reaches)"
        )


def ray_command(file: PartyFile) -> list[str]:
    """Return the command that starts Ray on this machine, with the party's label; the coordinator's has the head."""
    host, _, port = file.study.address.rpartition(":")
    head = file.party.kind == COORDINATOR
    where = ["--head", f"--port={port}"] if head else [f"--address={host}:{port}"]
    if head:
        where.append(f"--include-dashboard={str(file.ray.dashboard).lower()}")
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *where,
        *([] if file.ray.ip is None else [f"--node-ip-address={file.ray.ip}"]),
        f"--labels={LABEL}={file.party.name}",
    ]


def _told(line: str) -> dict[str, Any] | None:
    """Return what a keeper tells, None if the line is somebody else's."""
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "event" in told else None


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and those that it has started."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave in order when the process is ended, as systemd and containers do it."""

    def leave(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
