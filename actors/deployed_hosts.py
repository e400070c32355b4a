"""The processes of a deployment: each party's own, on its own machine, which finds the others by their names.

A process reads its private file and the study, takes its rows from nowhere else, and pins the identities that the study
names. Each keeps looking for every other one: whom it finds has to prove that it is the party of the study, with the
same study file and version (`protocols.presence`); who is lost is looked for again. So a party that restarts joins by
itself, and all that it has to do is to be there.

Who learns what: a process that may call another one learns that it is there. Ray keeps out who has no token and no
certificate; **who may call an actor can run code in it**.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from ray.exceptions import RayError

from ..models.asking import as_asked
from ..models.definition import Definition
from ..models.errors import ModelError
from ..protocols.errors import RefusedError, SetupError
from ..protocols.invitation import MODEL_NOT_ALLOWED
from ..protocols.party import AGGREGATOR, COORDINATOR, HOLDER, PartyId
from ..protocols.presence import CHALLENGE_BYTES, Agreement, check_presence, present
from ..records.errors import PolicyError
from ..records.party_file import PartyFile
from ..serialization.codec import Frame, decode, encode
from ..serialization.errors import DecodeError, TacitError
from . import finding
from .aggregator import Aggregator
from .allocation import give_back_large_blocks
from .clocks import Clocks
from .computation import Terms
from .coordinator import Coordinator
from .coordinator_host import CoordinatorCalls
from .data_holder import MODELS_KEPT, DataHolder
from .dispatching_host import DispatchingHost
from .events import Event
from .holder_host import HolderCalls
from .party import Party
from .telemetry import MeasuredLedger, log_to, mute
from .transport import Peer

SEEK_SECONDS = 2.0  # between two looks for a party that is not there
ANSWER_SECONDS = 5.0
START_SECONDS = 15.0
# A party that is not reached, and greets so often in so many seconds, is there, and the way to it is not.
GREETINGS = 3
GREETING_SECONDS = 30.0

NOT_THERE = "not there yet"
UNREACHED = "it is there, and is not reached from this machine"
UNREACHING = "it is there, and does not reach this machine"

logger = logging.getLogger(__name__)


class DeployedHost(DispatchingHost):
    """One party of a study.

    Parameters
    ----------
    path : str
        Its private file, on this machine.
    """

    def __init__(self, path: str) -> None:
        self._file = PartyFile.read(Path(path))
        log_to(self._file.state, self._file.party.name)
        self._study = self._file.study
        self._agreement = Agreement(self._study.digest, version("tacit"))
        others = (party.name for party in self._study.parties if party != self._file.party)
        self._problems = dict.fromkeys(others, NOT_THERE)  # why a party is not met
        self._clocks = Clocks()
        self._there: dict[Peer, asyncio.Event] = {}  # set as long as a party is met
        self._proving: dict[Peer, asyncio.Lock] = {}
        self._greeted: dict[Peer, deque[float]] = {}  # when each has said that it is there
        self._keeping: list[asyncio.Future[Any]] = []
        super().__init__([self._party()])

    def _party(self) -> Party:
        raise NotImplementedError

    def _ledger(self) -> MeasuredLedger:
        return MeasuredLedger(self._file.ledger, self._file.identity, study=self._study.digest)

    async def mute(self) -> None:
        """Discard what this process prints, be it rows: for who keeps it to ask, before they are read."""
        mute()

    async def start(self) -> dict[str, str]:
        """Pin the study's identities, look for the others, and go on looking; return who was not met, and why.

        Raises
        ------
        DataError
            If the rows cannot be read.
        """
        await asyncio.to_thread(self._load)
        self.pin([[party] for party in self._study.parties], [None] * len(self._study.parties))
        self._there = {peer: asyncio.Event() for peer in self._peers.values()}
        self._proving = {peer: asyncio.Lock() for peer in self._there}
        self._greeted = {peer: deque(maxlen=GREETINGS) for peer in self._there}
        for peer in self._there:
            self._lose(peer)
        seeking = [asyncio.ensure_future(self._seek(peer)) for peer in self._there]
        await asyncio.wait(seeking, timeout=START_SECONDS)
        self._keeping = [*seeking, *(asyncio.ensure_future(self._keep(peer)) for peer in self._there)]
        return dict(self._problems)

    async def leave(self) -> None:
        """End every session, and look for nobody any longer."""
        for task in self._keeping:
            task.cancel()
        await super().leave()

    async def connect(self, introduced: Sequence[Sequence[bytes]], handles: Sequence[Any]) -> None:
        """Refuse: whom this party knows, its study says.

        Raises
        ------
        SetupError
            Always.
        """
        raise SetupError("a party of a deployment pins the identities that its study names, and no others")

    async def install(self, definition: bytes, shared: list[Any], over: Sequence[bytes] = ()) -> None:
        """Refuse: here a model travels as its definition.

        Raises
        ------
        SetupError
            Always.
        """
        raise SetupError("a party of a deployment takes no model from outside: propose its definition")

    def _load(self) -> None:
        """Read what the party needs besides its keys, off the loop."""

    def _agreed_definition(self) -> Definition:
        """Make the study's model; return its definition."""
        study = self._study
        model = as_asked(study.model(self._file.policy.importable), study.privacy, study.cov_type)
        definition: Definition = model.definition
        return definition

    async def present(self, challenge: bytes) -> bytes:
        """Answer a challenge with a `Presence`, as a frame."""
        (party,) = self._parties.values()
        return encode(present(party.identity, self._agreement, challenge, int(time.time()))).header

    async def greet(self, name: str) -> str:
        """Look at once for a party that says it is there; return why it is not met, or nothing."""
        peer = next((peer for peer in self._there if name in peer.parties), None)
        if peer is None:
            return "the study has no such party" if self._there else NOT_THERE
        self._greeted[peer].append(time.monotonic())
        return await self._seek(peer, greets=False)

    async def problems(self) -> dict[str, str]:
        """Return which parties are not met, and why."""
        return dict(self._problems)

    async def clocks_ahead(self) -> dict[PartyId, int]:
        """Return how many seconds the clocks of parties that are met are ahead, where it is more than a minute."""
        return {name: ahead for name, ahead in self._clocks.ahead.items() if name not in self._problems}

    # Inside

    async def _seek(self, peer: Peer, *, greets: bool = True) -> str:
        """Look for a party, and tell it of this one; return why it is not met, or nothing."""
        (name,) = peer.parties
        (own,) = self._parties
        try:
            handle = await self._proven(peer)
            problem = await _in_time(handle.greet.remote(own)) if greets else ""
            if problem == UNREACHED:
                problem = UNREACHING
            elif problem not in ("", NOT_THERE):
                raise SetupError(f"{name} does not take {own} for the party of its study: {problem}")
        except (LookupError, RayError, OSError):  # among them a timeout
            problem = UNREACHED if self._reaches(peer) else NOT_THERE
        except SetupError as error:
            problem = str(error)
        else:
            if not problem and finding.is_same(peer.handle, handle):
                self._take_in(peer)
        if problem and not self._there[peer].is_set():  # it may have been met by its own greeting, meanwhile
            if problem not in (NOT_THERE, self._problems.get(name)):
                logger.warning("of %s: %s", name, problem)
            self._problems[name] = problem
        return problem

    def _reaches(self, peer: Peer) -> bool:
        """Whether a party that this process does not reach has greeted it again and again, just now."""
        greeted = self._greeted[peer]
        return len(greeted) == GREETINGS and time.monotonic() - greeted[0] < GREETING_SECONDS

    async def _proven(self, peer: Peer) -> Any:
        """Find a party's process, have it prove that it is the party, and send to it from now on; return its handle."""
        (name,) = peer.parties
        async with self._proving[peer]:  # so that the process that is found last is the one that is kept
            handle = await asyncio.to_thread(finding.party, self._study.title, name)
            challenge = os.urandom(CHALLENGE_BYTES)
            answer = await _answer_of(handle, challenge)
            presence = check_presence(answer, self._study.roster[name], self._agreement, challenge)
            self._clocks.note(name, presence.seconds - int(time.time()))
            if not finding.is_same(peer.handle, handle):
                self._lose(peer)  # for sessions with the process that went by this name before
                peer.meet(handle)
            return handle

    def _take_in(self, peer: Peer) -> None:
        """Take note that a party is met: from now on it is watched over, and invited."""
        (name,) = peer.parties
        self._problems.pop(name, None)
        self._greeted[peer].clear()
        if self._there[peer].is_set():
            return
        self.watch_over(peer)
        for party in self._parties.values():
            party.driver.absent.discard(name)
            party.regain(name)
        self._there[peer].set()

    def _lose(self, peer: Peer) -> None:
        """Tell the party of this process that another is gone, and have it looked for."""
        super()._lose(peer)
        for party in self._parties.values():
            party.driver.absent.update(peer.parties)
        self._problems.setdefault(peer.parties[0], NOT_THERE)
        self._there[peer].clear()
        watching = self.watching.get(peer)
        if watching is not None:
            watching.cancel()

    def _unreached(self, here: Party, there: PartyId) -> None:
        """Look anew for a party that no frame reaches, even if its process answers."""
        self._lose(next(peer for peer in self._there if there in peer.parties))

    async def _keep(self, peer: Peer) -> None:
        """Look for a process until it is there, watch over it, and look again when it is lost."""
        there = self._there[peer]
        while True:
            if there.is_set():
                watching = self.watching[peer]
                await asyncio.wait({watching})
                if self.watching[peer] is watching:  # and no other process has been met meanwhile
                    self._lose(peer)
                continue
            await self._seek(peer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEEK_SECONDS):
                    await there.wait()


class DeployedHolder(HolderCalls, DeployedHost):
    """Runs the data holder of this machine."""

    def _party(self) -> DataHolder:
        file = self._file
        holder = DataHolder(
            file.party.name,
            None,
            simulation=False,
            policy=file.policy,
            identity=file.identity,
            ledger=self._ledger(),
            releases=file.releases,
        )
        holder.agreed = self._study.protocol.options
        self._holders = [holder]
        return holder

    def _load(self) -> None:
        (holder,) = self._holders
        self._agreed = self._agreed_definition()
        holder.take_rows(self._file.source().read())

    async def propose(self, definition: bytes) -> str:
        """Hold the model of a definition ready if the holder allows it; return the reason if it does not."""
        (holder,) = self._holders
        try:
            asked = Definition.from_canonical(definition)
            if self._file.policy.models is None and asked != self._agreed:
                return MODEL_NOT_ALLOWED  # who names no models has agreed to the study's, and to no other
            holder.hold_ready(asked.digest, await asyncio.to_thread(self._file.policy.model_of, asked))
        except PolicyError as error:
            logger.warning("declined a model: %s", error)
            return error.reason
        except ModelError as error:
            logger.warning("declined a model: %s", error)
            return MODEL_NOT_ALLOWED
        return ""


class DeployedCoordinator(CoordinatorCalls, DeployedHost):
    """Runs the coordinator, with the repository beside it."""

    def _party(self) -> Coordinator:
        give_back_large_blocks()
        repository = finding.party(self._study.title, finding.REPOSITORY)
        name, identity = self._file.party.name, self._file.identity
        self._coordinator = Coordinator(name, repository, identity, ledger=self._ledger())
        self._agreed: bytes | None = None
        # Definitions whose models each process has made before: what they import is there.
        self._made: defaultdict[Peer, set[bytes]] = defaultdict(set)
        return self._coordinator

    def _load(self) -> None:
        """Make the study's model once, while nobody waits: libraries that it imports hold the interpreter's lock."""
        with contextlib.suppress(TacitError):  # told to whoever asks
            self._agreed = self._agreed_definition().canonical

    async def propose(self, definition: bytes) -> None:
        """Have every living holder hold the model of a definition ready.

        Raises
        ------
        RefusedError
            If some do not allow it.
        """
        peers = [peer for peer in self._peers.values() if self._is_living_holder(peer)]
        is_known = definition == self._agreed or all(definition in self._made[peer] for peer in peers)
        with contextlib.nullcontext() if is_known else self.loading():
            answers = await asyncio.gather(
                *(self._unless_lost(peer, peer.handle.propose.remote(definition)) for peer in peers)
            )
        refusals = {
            str(peer.parties[0]): (reason, "") for peer, reason in zip(peers, answers, strict=True) if reason
        }
        if refusals:
            raise RefusedError(refusals)
        for peer, reason in zip(peers, answers, strict=True):
            if reason is not None:  # it was not lost
                self._note_made(peer, definition)

    def _lose(self, peer: Peer) -> None:
        """As the base does; who is met again may be another process, which has imported nothing."""
        super()._lose(peer)
        self._made.pop(peer, None)

    def _note_made(self, peer: Peer, definition: bytes) -> None:
        """Note that a process has imported all that a definition takes."""
        if len(self._made[peer]) >= MODELS_KEPT:
            self._made[peer].clear()
        self._made[peer].add(definition)

    async def compute_definition(
        self, computation: str, definition: bytes, terms: Terms, at: NDArray[Any] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Run the model of a definition to its end; yields its events, as `compute` does.

        Parameters
        ----------
        computation : str
        definition : bytes
        terms : Terms
        at : ndarray, optional
            Where a sum's function is evaluated, which is part of the question and not of the definition.

        Raises
        ------
        ModelError, PolicyError
            If the model cannot be made of what is installed here.
        """
        asked = Definition.from_canonical(definition)
        model = await asyncio.to_thread(self._file.policy.model_of, asked)
        if at is not None:
            model = model.evaluated_at(at)
        running = self.compute(computation, model, asked.digest, terms)
        async with contextlib.aclosing(running) as events:
            async for event in events:
                yield event

    def _is_living_holder(self, peer: Peer) -> bool:
        (name,) = peer.parties
        return name in self._study.roster.holders and name not in self._coordinator.lost


class DeployedAggregator(DeployedHost):
    """Runs an aggregator."""

    def _party(self) -> Aggregator:
        limits = self._file.policy.limits(self._file.releases)
        name, identity = self._file.party.name, self._file.identity
        aggregator = Aggregator(name, identity, ledger=self._ledger(), limits=limits)
        aggregator.agreed = self._study.protocol.options
        return aggregator


async def _in_time(answer: Awaitable[Any]) -> Any:
    """Wait for an answer, but not long (`asyncio.wait_for` may lose a cancellation, and who waits goes on for ever)."""
    async with asyncio.timeout(ANSWER_SECONDS):
        return await answer


async def _answer_of(handle: Any, challenge: bytes) -> object:
    """Return what a process says to a challenge; None if that is no message, or nothing that a party would say."""
    try:
        header = await _in_time(handle.present.remote(challenge))
        return decode(Frame(header, ())) if isinstance(header, bytes) else None
    except (AttributeError, TypeError, DecodeError):  # an actor of another kind
        return None


HOSTS: dict[str, type[DeployedHost]] = {
    COORDINATOR: DeployedCoordinator,
    HOLDER: DeployedHolder,
    AGGREGATOR: DeployedAggregator,
}
