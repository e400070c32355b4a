"""What a party of a deployment tells those who run its machine: metrics of Ray, and a log of lines of JSON.

Neither has a value of a row, a query or a total: sessions are counted by their outcome, with bytes and seconds, and
refusals by their reason of a fixed list. The log is in the party's own folder; metrics go where Ray exports them (with
``ray[default]``, where the party's file says so), to whoever reaches that port.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ray.util.metrics import Counter, Histogram

from ..protocols.key_agreement import Identity
from ..records.ledger import Ledger, Outcome

LOG_BYTES = 2**23
LOGS_KEPT = 4
STANDARD_OUTPUT, STANDARD_ERROR, NOWHERE = 1, 2, -1
SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]


class MeasuredLedger(Ledger):
    """A ledger whose entries are counted as metrics, too.

    Parameters
    ----------
    folder, identity, study
        As of `Ledger`.
    """

    def __init__(
        self, folder: str | os.PathLike[str], identity: Identity, *, study: bytes | None = None
    ) -> None:
        super().__init__(folder, identity, study=study)
        self._tags = {"party": identity.public.name}
        self._began: dict[bytes, float] = {}
        self._sessions = Counter(
            "tacit_sessions", "Sessions by how they ended.", tag_keys=("party", "outcome", "reason")
        )
        self._bytes = Counter("tacit_bytes_sent", "Bytes that left in sessions.", tag_keys=("party",))
        self._seconds = Histogram(
            "tacit_session_seconds",
            "Seconds from a release to the end of its session.",
            boundaries=SECONDS,
            tag_keys=("party",),
        )

    def intend(self, session: bytes, facts: Mapping[str, Any]) -> None:
        """Write as `Ledger.intend` does, and look at the clock."""
        super().intend(session, facts)
        self._began[session] = time.monotonic()

    def conclude(self, session: bytes, outcome: Outcome, facts: Mapping[str, Any]) -> None:
        """Write as `Ledger.conclude` does, and count."""
        began = self._began.pop(session, None)
        self._sessions.inc(tags={**self._tags, "outcome": outcome, "reason": str(facts.get("reason") or "")})
        if facts.get("bytes_sent"):
            self._bytes.inc(float(facts["bytes_sent"]), tags=self._tags)
        if began is not None:
            self._seconds.observe(time.monotonic() - began, tags=self._tags)
        super().conclude(session, outcome, facts)


class JsonLines(logging.Formatter):
    """One line of JSON a record, with where an exception was raised, and not what it says: a text may hold values.

    Parameters
    ----------
    party : str
    """

    def __init__(self, party: str) -> None:
        super().__init__()
        self._party = party

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "party": self._party,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info is not None and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["where"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line)


class LogFile(RotatingFileHandler):
    """A file of lines; of one that cannot be written it tells why, and not, as is usual, all that exceptions say."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT - 1, encoding="utf-8")
        self._error = os.dup(STANDARD_ERROR)  # which Ray keeps in a file of its own, until it is muted

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Say that a line is lost where the standard error was when this was made."""
        error = sys.exc_info()[1]
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        with contextlib.suppress(OSError):  # that may be as full
            os.write(self._error, f"a line of the log cannot be written: {reason}\n".encode())

    def close(self) -> None:
        """Close the file, and where it says what it cannot write."""
        super().close()
        with contextlib.suppress(OSError):  # it is closed already
            os.close(self._error)
        self._error = NOWHERE


def log_to(folder: Path, party: str) -> None:
    """Have what this package logs in this process go to ``log.jsonl`` in a folder, the last 32 MiB of it."""
    package = logging.getLogger(__name__.partition(".")[0])
    handler = LogFile(folder / "log.jsonl")
    handler.setFormatter(JsonLines(party))
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False  # to Ray's files, with all that exceptions say


def mute() -> None:
    """Discard whatever this process prints from now on.

    A function of an analyst's, or the warning of a library, may print rows: Ray would keep them in its files, and hand
    them to its head for whoever listens there.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (STANDARD_OUTPUT, STANDARD_ERROR):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
