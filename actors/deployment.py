"""A federation over several machines: each party was started by its owner, and here they are only asked.

The parties of a study are looked up by their names; they are given nothing but public data. What is fitted travels as a
definition; each holder makes the model of what is installed at its side, if its policy allows that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar

import ray
from ray.exceptions import RayError

from ..models.sum import Sum
from ..protocols.errors import SetupError
from ..protocols.party import COORDINATOR
from ..protocols.planning import Wish
from ..protocols.protocol import check_encoding
from ..records.study import Study
from ..serialization.schema import Message
from . import cluster, finding, heartbeat
from .choice import Choice
from .computation import Kept, Terms
from .errors import PeerUnreachableError
from .events import Result
from .federation import Federation, Stream
from .progress import OnEvent
from .question import question
from .repository import REPOSITORY

ANSWER_SECONDS = 8.0  # that a coordinator may take to say whom it has met, and Ray's head to say where it is
REMEDY = "let it join, with `python -m tacit join`, and ask again"
NO_HEAD = "Ray's head does not answer: look at its machine, and whether this one reaches it, and ask again"


def connected(study: Study) -> Deployment:
    """Look up the parties of a study."""
    identifier = uuid.uuid4().hex
    cluster.join_ray(study.address, identifier)
    deployment = Deployment(
        Choice(study.protocol, Wish()),
        study.on_dropout,
        tuple(study.roster.holders),
        {},
        _identifier=identifier,
        study=study,
    )
    try:
        deployment.look_up()
    except BaseException:
        deployment.close()
        raise
    return deployment


def _found(study: str, name: str) -> Any:
    """Look up a process; Ray itself would wait a minute for a head that does not answer."""
    found: Future[Any] = Future()

    def look() -> None:
        try:
            found.set_result(finding.party(study, name))
        except BaseException as error:  # noqa: BLE001 - raised below, unless nobody waits any more
            found.set_exception(error)

    threading.Thread(target=look, daemon=True).start()
    try:
        return found.result(ANSWER_SECONDS)
    except LookupError:
        raise PeerUnreachableError(name, REMEDY) from None
    except (TimeoutError, RayError):
        raise PeerUnreachableError(name, NO_HEAD) from None


@dataclass
class Deployment(Federation):
    """The parties of a study, ready to be asked.

    Attributes
    ----------
    study : Study
        What the parties have agreed on.
    """

    _remedy: ClassVar[str] = REMEDY

    study: Study = field(kw_only=True)

    def run(self, on_event: OnEvent | None = None) -> Any:
        """Carry out the study's analysis over all holders.

        Parameters
        ----------
        on_event : callable, optional
            As in `fit`.

        Returns
        -------
        Fit, GLMFit, OLSFit, NetworkFit or ndarray
            By the study's model.

        Raises
        ------
        RefusedError
            If a holder's policy is against it; names holder and rule.
        PeerUnreachableError
            If the coordinator's process ends, or gives no sign of life for some seconds: it hangs, or its machine is
            frozen or cut off. A computation may take as long as it likes.
        DropoutError, ModelError
            As `fit`.
        """
        model, encoding = self._analysis()
        return self._end_of(model, encoding, self._wait(model, encoding, on_event))

    async def arun(self, on_event: OnEvent | None = None) -> Any:
        """Carry out the study's analysis as `run` does: its asynchronous twin."""
        model, encoding = self._analysis()
        return self._end_of(model, encoding, await self._await(model, encoding, on_event))

    def _analysis(self) -> tuple[Any, Message | None]:
        study = self.study
        model = study.model(study.analysis.importable)
        return question(self._situation, model, study.encoding, study.privacy, study.cov_type)

    def _end_of(self, model: Any, encoding: Message | None, result: Result) -> Any:
        return self._array(result) if isinstance(model, Sum) else self._fit(model, result, encoding)

    @property
    def absent(self) -> dict[str, str]:
        """Which parties the coordinator has not met, and why."""
        self._ensure_open()
        asked = self._coordinator.problems.remote()
        answered, _ = ray.wait([asked], timeout=ANSWER_SECONDS)
        if not answered:
            raise PeerUnreachableError(COORDINATOR, "it is starting, or hangs: look at its machine")
        return dict(self._get(asked, COORDINATOR))

    def restart(self) -> None:
        """Refuse: the parties are not the asker's to end.

        Raises
        ------
        SetupError
            Always.
        """
        raise SetupError("each party of a deployment is started by its owner, with `python -m tacit join`")

    def close(self) -> None:
        """Let go of the parties, which go on. May be called twice."""
        if not self._closed:
            self._closed = True
            cluster.stop_ray(self._identifier)

    def look_up(self) -> None:
        """Find the coordinator and its repository, which are other processes when it has joined anew.

        Raises
        ------
        PeerUnreachableError
            If it has not joined.
        """
        self._parties[COORDINATOR] = _found(self.study.title, self.study.roster.coordinator)
        super()._ensure_open()  # it may have been closed meanwhile, and Ray would start one for whoever asks it
        self._repository = _found(self.study.title, finding.REPOSITORY)

    def _ensure_open(self) -> None:
        super()._ensure_open()
        self.look_up()

    async def _aensure_open(self) -> None:
        super()._ensure_open()
        await asyncio.to_thread(self.look_up)
        super()._ensure_open()  # as in between

    def _hosts(self) -> dict[str, Any]:
        """Look up who is there."""
        found = {}
        for name in self.study.roster:
            with contextlib.suppress(LookupError):
                found[str(name)] = finding.party(self.study.title, name)
        return found

    def _start(
        self, model: Any, encoding: Message | None, kept: Kept | None
    ) -> tuple[Any, Callable[[], Stream]]:
        """Propose the model to every holder; then the coordinator may begin."""
        definition = model.definition
        protocol = self.choice.protocol_for(model, len(self.holders), encoding)
        terms = Terms(protocol, encoding, self.on_dropout, kept, needed=self.study.minimum_holders)
        check_encoding(protocol, encoding)
        coordinator = self._coordinator
        proposing = coordinator.propose.remote(definition.canonical)
        identifier = uuid.uuid4().hex

        def begin() -> Stream:
            compute = coordinator.compute_definition.options(num_returns="streaming")
            at = model.at if isinstance(model, Sum) else None
            events = compute.remote(identifier, definition.canonical, terms, at)
            return Stream(identifier, heartbeat.Heard(events, coordinator, COORDINATOR))

        return proposing, begin

    def _get(self, reference: Any, party: str) -> Any:
        """Wait for a remote value as long as its process, which is somebody else's, gives signs of life."""
        heartbeat.wait(reference, self._process(party), party)
        return super()._get(reference, party)

    async def _await_remote(self, reference: Any, party: str) -> Any:
        """As `_get`, without blocking the caller's loop."""
        return await super()._await_remote(heartbeat.awaited(reference, self._process(party), party), party)

    def _process(self, party: str) -> Any:
        return self._repository if party == REPOSITORY else self._coordinator
