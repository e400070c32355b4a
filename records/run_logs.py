"""The log of every run: what happened, in lines of JSON, for people and their tools.

Layout: ``runs/<run>.jsonl``, one file a run. Its first line says what was asked, each further one tells an event, the
last how it ended; a run whose process was killed has no such end. A file is always rewritten whole, so it never ends in
the middle of a line and a repeated call is harmless.

Who learns what: names of holders, which sums were revealed and when, the objective at each step: nothing that is not in
the ledger of aggregates, and no value of any holder. Unlike the ledger it is **not signed**: a help, no evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import RecordError
from .object_store import ObjectStore

RUNS = "runs"
RUN = re.compile(r"[0-9A-Za-z-]{1,100}")
RUN_LOG = re.compile(rf"{RUNS}/({RUN.pattern})\.jsonl")


class RunLogs:
    """The logs of runs in a store.

    Parameters
    ----------
    objects : ObjectStore
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def write(self, run: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the log of a run as far as it has come, in place of what there was.

        Raises
        ------
        RecordError
            If the name is unusable, a line is no JSON, or it cannot be written.
        """
        if not RUN.fullmatch(run):
            raise RecordError("a run is named by up to 100 letters, digits and dashes")
        try:
            text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        except (TypeError, ValueError):
            raise RecordError(f"the log of run {run} holds what JSON cannot carry") from None
        with self._objects.locked():
            self._objects.replace(f"{RUNS}/{run}.jsonl", text.encode("ascii"))

    def read(self, run: str) -> list[dict[str, Any]]:
        """Return the lines of a run's log.

        Raises
        ------
        RecordError
            If there is none, or it is damaged.
        """
        content = self._objects.read(f"{RUNS}/{run}.jsonl") if RUN.fullmatch(run) else None
        if content is None:
            raise RecordError(f"there is no log of a run {run!r}")
        try:
            lines = [json.loads(line) for line in content.decode("ascii").splitlines()]
        except ValueError:
            lines = []
        if not lines or not all(isinstance(line, dict) for line in lines):
            raise RecordError(f"{RUNS}/{run}.jsonl is damaged")
        return lines

    def all(self) -> list[dict[str, Any]]:
        """Return every run, oldest first: its first line, its ``outcome``, ``seconds`` and ``events``.

        The outcome is "result", "failure", "unfinished" of a run that goes on or was killed, or "damaged".
        """
        found = (RUN_LOG.fullmatch(file) for file in self._objects.files())
        return [self._told(match[1]) for match in found if match]

    def _told(self, run: str) -> dict[str, Any]:
        try:
            return _summary(self.read(run))
        except RecordError:  # one damaged file does not hide the others
            return {"run": run, "outcome": "damaged", "seconds": 0.0, "events": []}


def _summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    first, *events = lines
    last = events[-1] if events else {}
    outcome = last["event"] if last.get("event") in ("result", "failure") else "unfinished"
    about = {name: value for name, value in first.items() if name != "event"}
    return {**about, "outcome": outcome, "seconds": last.get("seconds", 0.0), "events": events}
