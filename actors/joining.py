"""A party's stay in a cluster: Ray on this machine, the party's process, and both again when they have ended.

This process owns neither rows nor keys, and does not use Ray itself: Ray ends whoever uses it when it cannot reach its
head. It keeps two others: ``ray start --block``, and one that makes the party's process and waits with it
(`party_keeper`). When the party's ends it is started anew, after a pause, and when Ray ends both are: so a machine that
was cut off, or whose head was away, is there again by itself. Both end with this process, even if it is killed
(`tether`): so nothing is in the way of the next one.
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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..protocols.errors import SetupError
from ..protocols.party import COORDINATOR
from ..records.certificates import environment
from ..records.party_file import PartyFile
from ..records.readiness import LOCAL
from .finding import LABEL, RAY_ENVIRONMENT, WITHOUT_METRICS

PAUSE_SECONDS = 3.0
LOOK_SECONDS = 0.2
END_SECONDS = 10.0
SHOWN = 5  # of the last lines that a process has printed
TETHERED = (sys.executable, "-m", "tacit.actors.tether")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[Mapping[str, Any]], None]


@dataclass
class _Child:
    """A process that is kept, and what it printed last."""

    name: str
    process: subprocess.Popen[str]
    printed: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN))


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
        with _hearing_signals() as is_over:
            while not is_over():
                self._stay_once(is_over)
                self._pause(is_over)

    def _stay_once(self, is_over: Callable[[], bool]) -> None:
        """Keep Ray running, if it is started here, and a party's process in it, until Ray ends."""
        commands = self._commands()
        with contextlib.ExitStack() as stack:
            rays = [
                stack.enter_context(self._running(name, command))
                for name, command in commands.items()
                if name == "Ray"
            ]
            ended: list[_Child] = []
            while not is_over() and not any(ray in ended for ray in rays):
                with self._running("party", commands["party"]) as keeper:
                    while _run_all([keeper, *rays]) and not is_over():
                        time.sleep(LOOK_SECONDS)
                    ended = [child for child in (keeper, *rays) if not _run_all([child])]
                self._tell([child for child in ended if child not in rays])
                if not rays:
                    return
                if _run_all(rays):
                    self._pause(is_over)
        self._tell([ray for ray in rays if ray in ended])

    def _tell(self, ended: Iterable[_Child]) -> None:
        """Tell which processes have ended, once all that they have printed is read."""
        for child in ended:
            code = child.process.returncode
            self.say({"event": "ended", "process": child.name, "code": code, "last": [*child.printed]})

    def _pause(self, is_over: Callable[[], bool]) -> None:
        if not is_over():
            self.say({"event": "pause", "seconds": PAUSE_SECONDS})
        _wait(PAUSE_SECONDS, is_over)

    def _commands(self) -> dict[str, list[str]]:
        """Return what is kept running here, by its name."""
        ray = {"Ray": ray_command(self.file)} if self.file.ray.start else {}
        return {**ray, "party": keeper_command(self.file)}

    @contextlib.contextmanager
    def _running(self, name: str, command: list[str]) -> Iterator[_Child]:
        """Run a process of its own group, pass on what it prints, and end the group at the end."""
        process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a peer is in it
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,  # on which nothing is ever written
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        child = _Child(name, process)
        listening = threading.Thread(target=self._listen, args=(child,), daemon=True)
        listening.start()
        try:
            yield child
        finally:
            _end(process)
            listening.join(END_SECONDS)
            if process.stdin is not None:
                process.stdin.close()

    def _listen(self, child: _Child) -> None:
        with child.process.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                told = _told(line)
                if told is None and line.strip():
                    child.printed.append(line.rstrip())
                    told = {"event": "printed", "process": child.name, "line": line.rstrip()}
                if told is not None:
                    self.say(told)

    @property
    def environment(self) -> dict[str, str]:
        """What Ray needs to know, of certificates and token, in the environment of every process that uses it."""
        folder = self.file.ray.certificates
        secured = {"RAY_AUTH_MODE": "disabled"} if folder is None else environment(folder)
        wanted = RAY_ENVIRONMENT if self.file.ray.metrics else {**RAY_ENVIRONMENT, **WITHOUT_METRICS}
        chosen = {name: os.environ.get(name, value) for name, value in wanted.items()}
        return {**chosen, **secured}


def check_secured(file: PartyFile) -> None:
    """Refuse a cluster over several machines without certificates and token.

    Raises
    ------
    SetupError
        Saying what to do.
    """
    if file.ray.certificates is None and not _is_local(file) and not file.ray.insecure:
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
    ip = file.ray.ip or ("127.0.0.1" if _is_local(file) else None)
    if ip is not None:
        where.append(f"--node-ip-address={ip}")
    return [
        *TETHERED,
        *("ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *where,
        f"--labels={LABEL}={file.party.name}",
    ]


def keeper_command(file: PartyFile) -> list[str]:
    """Return the command that makes the party's process and waits with it."""
    return [*TETHERED, "tacit.actors.party_keeper", str(file.path)]


def _is_local(file: PartyFile) -> bool:
    """Whether the cluster is on this machine alone."""
    return file.study.address.rpartition(":")[0] in LOCAL


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
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _run_all(children: Iterable[_Child]) -> bool:
    return all(child.process.poll() is None for child in children)


def _wait(seconds: float, is_over: Callable[[], bool]) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not is_over():
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _hearing_signals() -> Iterator[Callable[[], bool]]:
    """Yield whether this process is to end: by a user, a closed terminal, systemd or a container.

    A signal interrupts nothing: wherever that might be, a process could be left behind.
    """
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup
    for number in before:
        signal.signal(number, lambda number, _: heard.append(number))
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
