"""What a human at a holder has approved of, and what waits for it: in a file of the holder's, for `tacit approve`.

A definition is approved by its digest: another name, seed or start value makes another definition, which waits anew.
Under the rule "every-run" an approval is good for one run. A run is over when its first question is asked again, or
when it has taken several times the sums that its model expects; what has been used of it is on disk before anything
leaves, so a restart gives nothing back.

Adversary: an analyst who would have approved one model and run another, or one run and make two; one who floods the
holder with requests.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..models.registry import kind_of
from ..protocols.invitation import NOT_ALLOWED, WAITS_FOR_APPROVAL
from .chained_file import START, ChainedFile
from .errors import PolicyError, RecordError

MOST_WAITING = 100  # definitions; further ones are refused without a note
SPARE = 4  # times the sums that a model expects are a run at most
Status: TypeAlias = Literal["waiting", "approved", "declined"]


@dataclass
class Request:
    """A definition that somebody asks with.

    Attributes
    ----------
    digest : str
        Of the definition, 64 hexadecimal digits.
    kind : str
        What class of model it is.
    parameters : mapping
        Of the definition.
    asker : str
        The party that asks.
    since : float
        When it first did, or did again after its approval was used up; seconds since 1970.
    sums : int
        That a run may take.
    status : {"waiting", "approved", "declined"}
    used : dict of str to str
        The questions released under the approval, by session; only where approvals are for one run.
    """

    digest: str
    kind: str
    parameters: Mapping[str, Any]
    asker: str
    since: float
    sums: int
    status: Status = "waiting"
    used: dict[str, str] = field(default_factory=dict)

    def is_used_up(self, question: str) -> bool:
        """Whether this question would begin another run."""
        first = next(iter(self.used.values()), "")  # of earlier versions, after the definition
        return (bool(first) and first.endswith(question)) or len(self.used) >= self.sums

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {**self.__dict__, "used": len(self.used)}


class Approvals:
    """The requests at one holder, and what a human said of them.

    Parameters
    ----------
    path : path
        The file, in a folder that exists.
    every_run : bool
        Whether an approval is for one run.

    Raises
    ------
    RecordError
        If the folder is not there.
    """

    def __init__(self, path: str | os.PathLike[str], *, every_run: bool = False) -> None:
        self._every_run = every_run
        self._file = ChainedFile(path, "the approvals")
        self._place = START
        self._requests: dict[str, Request] = {}
        self._guard = threading.Lock()

    def requests(self) -> list[Request]:
        """Return all that was asked, oldest first.

        Raises
        ------
        RecordError
            If the file is damaged or unreadable.
        """
        with self._guard:
            self._refresh()
            return sorted(self._requests.values(), key=lambda request: request.since)

    def check(self, model: Any, asker: str, question: bytes) -> None:
        """Refuse a model that nobody has approved, and note that it waits.

        Parameters
        ----------
        model : Model
        asker : str
            Who asks.
        question : bytes
            As of `release_memory.query_of`: without the definition, as a model that was packed another way is no other.

        Raises
        ------
        PolicyError
            With the reason: it waits, or was declined.
        RecordError
            If the file is damaged, or the request cannot be noted.
        """
        definition = model.definition
        digest = definition.digest.hex()
        with self._guard, self._file.locked():
            self._refresh()
            request = self._requests.get(digest)
            if request is None or (request.status == "approved" and self._is_used_up(request, question)):
                self._ask(
                    digest=digest,
                    kind=kind_of(model),
                    parameters=definition.parameters,
                    asker=asker,
                    sums=SPARE * model.expected_passes,
                )
            elif request.kind != kind_of(model):
                raise PolicyError("another model goes by this definition", reason=NOT_ALLOWED)
            elif request.status == "declined":
                raise PolicyError(f"the definition {digest[:12]} was declined", reason=NOT_ALLOWED)
            elif request.status == "approved":
                return
        raise PolicyError(f"the definition {digest[:12]} waits for approval", reason=WAITS_FOR_APPROVAL)

    def use(self, digest: bytes, session: bytes, question: bytes) -> None:
        """Note that a session is released under an approval; **call before anything leaves**, after `check`.

        Raises
        ------
        PolicyError
            If the approval was withdrawn or used up since then.
        RecordError
            If it cannot be noted: **nothing may leave**.
        """
        with self._guard, self._file.locked():
            self._refresh()
            request = self._requests.get(digest.hex())
            if request is not None and session.hex() in request.used:
                return
            if request is None or request.status != "approved" or self._is_used_up(request, question):
                raise PolicyError("the approval is used up", reason=WAITS_FOR_APPROVAL)
            if self._every_run:
                self._append("used", digest.hex(), session=session.hex(), question=question.hex())

    def decide(self, digest: str, status: Literal["approved", "declined"]) -> Request:
        """Approve or decline a definition; what was approved may be declined later.

        Parameters
        ----------
        digest : str
            Or as many digits of its beginning as tell it from others.
        status : {"approved", "declined"}

        Raises
        ------
        RecordError
            If nothing, or more than one definition, has such a digest; or it cannot be written.
        """
        with self._guard, self._file.locked():
            self._refresh()
            found = [request for request in self._requests.values() if request.digest.startswith(digest)]
            if len(found) != 1 or not digest:
                raise RecordError(f"{len(found)} definitions have a digest that begins with {digest!r}")
            self._append(status, found[0].digest)
            return found[0]

    def _is_used_up(self, request: Request, question: bytes) -> bool:
        return self._every_run and request.is_used_up(question.hex())

    def _ask(self, *, digest: str, **about: Any) -> None:
        if sum(request.status == "waiting" for request in self._requests.values()) < MOST_WAITING:
            self._append("asked", digest, since=time.time(), **about)

    # The file

    def _refresh(self) -> None:
        lines, self._place = self._file.read(self._place)
        for line in lines:
            self._take(line)

    def _append(self, event: str, digest: str, **facts: Any) -> None:
        line = {"event": event, "digest": digest, **facts}
        self._place = self._file.append(self._place, line)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        facts = {name: value for name, value in line.items() if name != "event"}
        try:
            match line["event"]:
                case "asked":
                    self._requests[line["digest"]] = Request(**facts)
                case "approved" | "declined" as status:
                    self._requests[line["digest"]].status = status
                    self._requests[line["digest"]].used.clear()
                case "used":
                    self._requests[line["digest"]].used[line["session"]] = line["question"]
        except (KeyError, TypeError):
            raise RecordError("a line of the approvals was written by another version of tacit") from None
