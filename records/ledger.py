"""A party's ledger: every session that it took part in, or refused, in a chain of entries that it has signed.

Two entries a session, each with what has become known since the one before. The *intention* is on disk before anything
leaves from which, with others' help, a total could be had; the *outcome* follows when the session is over. A process
that dies in between leaves the intention: what may have been released is on record, whenever the machine stops. A
session of which nothing was released has an outcome alone.

What cannot be written stops what it would tell of: without its intention nothing leaves; an outcome that could not be
written is owed, and the party refuses until it is (`Ledger.check`).

Who learns what: whoever reads it, the names of the parties, what was asked (models by kind and digest, queries by
hash), the shapes of what was released, to whom, over whom, and the noise. No value of a row, a query or a total.
Adversary: one who changes files without the party's key, found by `records.log_verification`; a party that rewrites its
own chain, found by the others' chains (`records.audit`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from ..protocols.key_agreement import Identity
from .errors import RecordError
from .object_store import FolderStore
from .signing import PartySigner
from .transparency_log import Entry, Head, Log

PLACE = "sessions"  # of the log within the ledger's folder

Outcome: TypeAlias = Literal["released", "refused", "ended"]


class Ledger:
    """The ledger of one party.

    Parameters
    ----------
    folder : path
        Where it is kept; made if it does not exist.
    identity : Identity
        Whose it is, and what signs.
    study : bytes, optional
        The digest of the study that the party takes part in.

    Raises
    ------
    RecordError
        If the folder cannot be made.
    """

    def __init__(
        self, folder: str | os.PathLike[str], identity: Identity, *, study: bytes | None = None
    ) -> None:
        self._about = {
            "party": identity.public.name,
            "kind": identity.public.kind,
            "study": None if study is None else study.hex(),
        }
        self._signer = PartySigner(identity)
        self._objects = FolderStore(folder)
        self._last_key: str | None = None  # that signed the newest entry
        self._log = Log(self._objects, PLACE, self._signer, note=self._note)
        self._owed: list[Mapping[str, Any]] = []
        self._guard = threading.RLock()

    @property
    def head(self) -> Head:
        """Size and root: **remembered elsewhere**, it shows later that nothing was cut off."""
        return self._log.head()

    def intend(self, session: bytes, facts: Mapping[str, Any]) -> None:
        """Write that something is about to leave; **call before it does**.

        Raises
        ------
        RecordError
            If it cannot be written: **nothing may leave**.
        """
        with self._guard:
            self.check()
            self._append({"event": "intention", **self._headed(session), **facts})

    def conclude(self, session: bytes, outcome: Outcome, facts: Mapping[str, Any]) -> None:
        """Write how a session has ended, or owe it.

        Raises
        ------
        RecordError
            If it cannot be written now; `check` tries again.
        """
        with self._guard:
            self._owed.append({"event": "outcome", **self._headed(session), "outcome": outcome, **facts})
            self._pay()

    def check(self) -> None:
        """Write what is owed, and see whether more could follow; **call before a session is agreed to**.

        Raises
        ------
        RecordError
            If the chain is damaged, another party's, or cannot be written.
        """
        with self._guard:
            self._log.check_whole()
            if self._last_key not in (None, self._signer.public):
                raise RecordError(
                    "the ledger is signed by another party, or by this one under an earlier key"
                )
            self._pay()

    def _note(self, entry: Entry) -> None:
        self._last_key = entry.key

    def _headed(self, session: bytes) -> dict[str, Any]:
        return {**self._about, "session": session.hex(), "time": time.time()}

    def _pay(self) -> None:
        while self._owed:
            self._append(self._owed[0])
            del self._owed[0]

    def _append(self, body: Mapping[str, Any]) -> None:
        try:
            with self._objects.locked():
                self._log.append(body)
        except RecordError as error:
            raise RecordError(f"the ledger of {self._about['party']}: {error}") from None
