"""Memory of this process and of Ray's actors, as Linux counts it; elsewhere nothing is found."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

PROCESSES = Path("/proc")
MEGABYTE = 1e6
SAMPLING_SECONDS = 0.5


def resident(process: int | None = None) -> float:
    """Resident megabytes of a process now, by default this one; 0 where the kernel does not tell."""
    return _status(process or os.getpid(), "VmRSS")


def peak(process: int | None = None) -> float:
    """Largest resident megabytes of a process so far, by default this one."""
    return _status(process or os.getpid(), "VmHWM")


def forget_peak(process: int) -> None:
    """Have the kernel look for the peak of a process from now on."""
    with contextlib.suppress(OSError):  # no such kernel
        (PROCESSES / str(process) / "clear_refs").write_text("5", encoding="ascii")


def actors() -> dict[int, str]:
    """Names of the actors' processes started from here, by process id, as Ray names them: ``ray::Class``."""
    names = {process: _command(process) for process in _descendants(os.getpid())}
    return {
        process: name
        for process, name in names.items()
        if name.startswith("ray::") and not name.startswith("ray::IDLE")
    }


def actor_peaks(without: str) -> dict[int, float]:
    """Peak megabytes of each actor's process started from here, by process id; those of class `without` left out."""
    return {
        process: _status(process, "VmHWM")
        for process, name in actors().items()
        if not name.startswith(f"ray::{without}")
    }


def together() -> float:
    """Resident megabytes of this process and all that it has started, now; what they share counts once."""
    processes = [os.getpid(), *_descendants(os.getpid())]
    return sum(_status(process, "Pss:", file="smaps_rollup") for process in processes)


class Watch:
    """Notes, while it is entered, the largest `together`, as far as samples show it.

    Attributes
    ----------
    megabytes : float
    """

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.megabytes = max(self.megabytes, together())
            if self._over.wait(SAMPLING_SECONDS):
                return


def _status(process: int, field: str, file: str = "status") -> float:
    """One line of /proc/<process>/status, or of a file like it, given there in kB (1024 bytes)."""
    try:
        lines = (PROCESSES / str(process) / file).read_text(encoding="utf-8").splitlines()
    except OSError:  # no such kernel, or the process has ended
        return 0.0
    return next((1024 * int(line.split()[1]) / MEGABYTE for line in lines if line.startswith(field)), 0.0)


def _command(process: int) -> str:
    try:
        return (
            (PROCESSES / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


def _descendants(ancestor: int) -> Iterator[int]:
    """All processes started by a process, directly or not."""
    children: dict[int, list[int]] = {}
    for folder in PROCESSES.glob("[0-9]*"):
        try:
            # The name, in parentheses, may contain anything; the parent is the second field after it.
            fields = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    waiting = [ancestor]
    while waiting:
        found = children.get(waiting.pop(), [])
        waiting += found
        yield from found
