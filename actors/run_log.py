"""The log of one run, kept by the coordinator while it works: a line for every event, written by the repository.

Lines tell what the ledger tells, and when: never a holder's value, and of a failure no details, which in a simulation
hold a traceback of the user's function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from ray.exceptions import RayError

from ..protocols.errors import AbortedError, RefusedError
from ..serialization.errors import TacitError
from .events import Event, Failure, Iterated, Lost, Pass, Result

WRITE_SECONDS = 2.0  # how late a line may be in the file while the run goes on

logger = logging.getLogger(__name__)


class RunLog:
    """Notes the events of a run, and has them written: every two seconds while the block goes on, and at its end.

    Parameters
    ----------
    repository : actor handle
        Where the log is kept.
    party : str
        Who keeps it.
    about : mapping
        What was asked: JSON-able data.
    """

    def __init__(self, repository: Any, party: str, about: Mapping[str, Any]) -> None:
        began = datetime.now(UTC)
        self.run = f"{began:%Y%m%dT%H%M%S%f}-{os.urandom(2).hex()}"
        self._repository = repository
        self._party = party
        self._began = time.monotonic()
        self._lines: list[dict[str, Any]] = [
            {"event": "begin", "run": self.run, "time": began.isoformat(timespec="milliseconds"), **about}
        ]
        self._written = 0

    def note(self, event: Event) -> None:
        """Add the line of an event."""
        seconds = round(time.monotonic() - self._began, 4)
        self._lines.append({"event": _NAMES[type(event)], "seconds": seconds, **_told(event)})

    async def __aenter__(self) -> Self:
        self._over = asyncio.Event()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is asyncio.CancelledError:
            self.note(Failure(AbortedError(party=self._party, reason="cancelled")))
        await self._keeping  # calls of an actor keep no order: the last one waits for the others
        await self._write()

    async def _keep(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), WRITE_SECONDS)
                return
            if self._written < len(self._lines):
                await self._write()

    async def _write(self) -> None:
        """Have the repository write all lines; a run does not fail for want of its log."""
        self._written = len(self._lines)
        try:
            await self._repository.write_run.remote(self.run, self._lines[: self._written])
        except RayError as error:
            logger.warning("the log of run %s could not be written: %s", self.run, type(error).__name__)


_NAMES: Mapping[type[Event], str] = {
    Pass: "pass",
    Iterated: "iteration",
    Lost: "lost",
    Result: "result",
    Failure: "failure",
}


def _told(event: Event) -> dict[str, Any]:
    match event:
        case Pass():
            return {
                "number": event.number,
                "step": event.step,
                "took": round(event.seconds, 4),
                "holders": list(event.holders),
                "released": list(event.released),
            }
        case Iterated():
            value = event.value if math.isfinite(event.value) else None
            return {"iteration": event.iteration, "value": value, "text": event.text}
        case Lost():
            return {"holders": list(event.holders)}
        case Result():
            return {
                "passes": event.n_passes,
                "survivors": list(event.survivors),
                "lost": list(event.lost),
                "remarks": list(event.remarks),
            }
        case Failure():
            return _told_of(event.error)


def _told_of(error: Exception) -> dict[str, Any]:
    """Return what is told of an error; other than tacit's own may say anything, so of them the name only."""
    told: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, RefusedError):
        told["refusals"] = {holder: reason for holder, (reason, _) in error.refusals.items()}
    elif isinstance(error, TacitError):
        told["message"] = str(error)
    return told
