"""A network of parties in one process: virtual time, seeded randomness, and every fault on demand.

Public API: protocols are tested here, and users can watch one run without any cluster. Messages really become
frames and are decoded again, so what is counted is what would travel. A run is repeatable from its seed:
randomness, delays and faults come from one generator. **Never use a simulation's randomness for real data.**
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..serialization.codec import Frame, decode, encode
from ..serialization.errors import DecodeError
from ..serialization.schema import Message
from .channel import Role
from .errors import MisuseError, UnexpectedMessageError
from .party import PartyId
from .session import Accepted, Done, Failed, Session, Step

SESSION_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A message on its way: the `index`-th of the run, from one party to another."""

    index: int
    sender: PartyId
    recipient: PartyId
    message: Message

    def __str__(self) -> str:
        return f"{self.sender} -> {self.recipient}: {type(self.message).__name__}"


Tamper = Callable[[Sent], Message | Frame | None]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run.

    Attributes
    ----------
    outcomes : dict of PartyId to Done, Failed or None
        None for a party that died.
    sent : tuple of Sent
        Every message, in the order of sending, as it was before anybody altered it.
    bytes_per_link : dict of (sender, recipient) to int
        Bytes of frames that left.
    seconds : float
        Virtual seconds from start to end.
    refused : int
        Messages from outside a recipient's session: refused, without harm.
    """

    outcomes: Mapping[PartyId, Done[Any] | Failed | None]
    sent: tuple[Sent, ...]
    bytes_per_link: Mapping[tuple[PartyId, PartyId], int]
    seconds: float
    refused: int = 0

    @property
    def transcript(self) -> list[str]:
        """One line a message: ``"k -> a: PartialSum"``."""
        return [str(sent) for sent in self.sent]

    def result(self, party: str) -> Any:
        """Return what a party's role returned.

        Raises
        ------
        Exception
            Whatever the role raised.
        MisuseError
            If the party died in this run.
        """
        outcome = self.outcomes[PartyId(party)]
        if isinstance(outcome, Failed):
            raise outcome.error
        if outcome is None:
            raise MisuseError(f"{party} died in this run and has no result")
        return outcome.result


@dataclass(slots=True)
class _Seat:
    """A party's place in the simulation."""

    role: Role[Any]
    accepts: Accepted | None
    tell: tuple[PartyId, ...] | None
    dies_after: int | None
    dies_before: type[Message] | None
    lasts: float
    n_sent: int = 0
    dead: bool = False
    session: Session[Any] = field(init=False)


class Simulation:
    """Deterministic runs of many parties.

    Parameters
    ----------
    seed : int
        Everything that is random in a run follows from it.
    delays : (float, float)
        Shortest and longest seconds that a message is on its way.
    loss : float
        Probability that a message never arrives.
    duplicates : float
        Probability that a message arrives twice.
    tamper : callable, optional
        ``tamper(sent)`` returns what arrives instead: the message, another one, a `Frame` of any bytes, or
        None for nothing.

    Examples
    --------
    >>> async def hello(channel): return "done"
    >>> simulation = Simulation(seed=1)
    >>> simulation.add("a", hello)
    >>> simulation.run().result("a")
    'done'
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        delays: tuple[float, float] = (0.001, 0.010),
        loss: float = 0.0,
        duplicates: float = 0.0,
        tamper: Tamper | None = None,
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation is repeatable on purpose
        self._delays = delays
        self._loss = loss
        self._duplicates = duplicates
        self._tamper = tamper
        self._seats: dict[PartyId, _Seat] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._sent: list[Sent] = []
        self._bytes: Counter[tuple[PartyId, PartyId]] = Counter()
        self._refused = 0
        self._ran = False

    def add(
        self,
        party: str,
        role: Role[Any],
        *,
        accepts: Accepted | None = None,
        tell: Collection[PartyId] | None = None,
        dies_after: int | None = None,
        dies_before: type[Message] | None = None,
        lasts: float = SESSION_SECONDS,
    ) -> None:
        """Seat a party.

        Parameters
        ----------
        party : str
            Its name.
        role : callable
            ``role(channel)``, its coroutine function.
        accepts : mapping, optional
            Kinds it takes from each peer; by default any kind from every other party.
        tell : collection, optional
            Whom it tells when it fails; by default every other party.
        dies_after : int, optional
            It dies once it has sent so many messages (0: before the first).
        dies_before : type of Message, optional
            It dies when it is about to send such a message.
        lasts : float, optional
            Virtual seconds until its session ends, whatever it waits for.
        """
        name = PartyId(party)
        if name in self._seats:
            raise MisuseError(f"{party} is in this simulation already")
        told = None if tell is None else tuple(tell)
        self._seats[name] = _Seat(role, accepts, told, dies_after, dies_before, lasts)

    def random_bytes(self, n: int) -> bytes:
        """Repeatable bytes from the run's seed; for set-up that belongs to the simulation."""
        return self._random.randbytes(n)

    def run(self) -> Run:
        """Run until every living party's session has ended; **call once**.

        Raises
        ------
        MisuseError
            On a second call, or if parties wait for ever (which is a fault of a role).
        """
        if self._ran:
            raise MisuseError("a simulation runs once: make a new one, with another seed if you like")
        self._ran = True
        identifier = self.random_bytes(32)
        for name, seat in self._seats.items():
            others = {peer: AnyKind() for peer in self._seats if peer != name}
            seat.session = Session(
                identifier,
                name,
                seat.role,
                accepts=others if seat.accepts is None else seat.accepts,
                tell=tuple(others) if seat.tell is None else seat.tell,
                random_bytes=random.Random(self._random.getrandbits(256)).randbytes,  # noqa: S311
                lasts=seat.lasts,
            )
        for name, seat in self._seats.items():
            if seat.dies_after == 0:
                self._die(name)
            else:
                self._at(0.0, partial(self._start, name))
        while not self._over():
            self._next_event()
        outcomes = {name: None if seat.dead else seat.session.outcome for name, seat in self._seats.items()}
        return Run(outcomes, tuple(self._sent), dict(self._bytes), self._now, self._refused)

    def _over(self) -> bool:
        return all(seat.dead or seat.session.outcome is not None for seat in self._seats.values())

    def _at(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), event))

    def _next_event(self) -> None:
        """Let the next thing happen: an arrival, or somebody's deadline."""
        living = [(name, seat) for name, seat in self._seats.items() if not seat.dead]
        deadlines = [
            (seat.session.deadline, name) for name, seat in living if seat.session.deadline is not None
        ]
        ends, waiting = min(deadlines, default=(None, None))
        if self._events and (ends is None or self._events[0][0] <= ends):
            self._now, _, event = heapq.heappop(self._events)
            event()
        elif ends is not None and waiting is not None:
            self._now = ends
            self._carry_out(waiting, self._seats[waiting].session.tick(self._now))
        else:
            raise MisuseError("every party waits and nothing is under way")

    def _start(self, name: PartyId) -> None:
        self._carry_out(name, self._seats[name].session.start(self._now))

    def _carry_out(self, name: PartyId, step: Step) -> None:
        """Send a step's messages and do its work, unless the party dies on the way."""
        seat = self._seats[name]
        while True:
            for recipient, message in step.messages:
                if seat.dies_before is not None and isinstance(message, seat.dies_before):
                    self._die(name)
                    return
                self._send(Sent(len(self._sent), name, recipient, message))
                seat.n_sent += 1
                if seat.n_sent == seat.dies_after:
                    self._die(name)
                    return
            if step.work is None:
                return
            try:
                result = step.work.run()
            except Exception as error:  # noqa: BLE001 - the role decides what its work's failure means
                step = seat.session.computed(None, self._now, error=error)
            else:
                step = seat.session.computed(result, self._now)

    def _die(self, name: PartyId) -> None:
        """Take a party away; the others notice after a while."""
        self._seats[name].dead = True
        for peer in self._seats:
            if peer != name:
                self._at(self._delay(), partial(self._notice, peer, name))

    def _notice(self, peer: PartyId, lost: PartyId) -> None:
        if not self._seats[peer].dead:
            self._carry_out(peer, self._seats[peer].session.peer_lost(lost, self._now))

    def _delay(self) -> float:
        return self._random.uniform(*self._delays)

    def _send(self, sent: Sent) -> None:
        """Put a message on its way, through whatever happens to it there."""
        self._sent.append(sent)
        frame = encode(sent.message)
        self._bytes[sent.sender, sent.recipient] += frame.size
        if self._tamper is not None:
            altered = self._tamper(sent)
            if altered is None:
                return
            frame = encode(altered) if isinstance(altered, Message) else altered
        if self._random.random() < self._loss:
            return
        copies = 2 if self._random.random() < self._duplicates else 1
        for _ in range(copies):
            self._at(self._delay(), partial(self._arrive, sent.sender, sent.recipient, frame))

    def _arrive(self, sender: PartyId, recipient: PartyId, frame: Frame) -> None:
        seat = self._seats.get(recipient)
        if seat is None or seat.dead:
            return
        try:
            step = self._take_in(seat.session, sender, frame)
        except UnexpectedMessageError:
            self._refused += 1
        else:
            self._carry_out(recipient, step)

    def _take_in(self, session: Session[Any], sender: PartyId, frame: Frame) -> Step:
        try:
            message = decode(frame)
        except DecodeError:
            return session.refuse(sender, "bytes that are no message")
        return session.receive(sender, message, self._now)


class AnyKind(Collection[type[Message]]):
    """Accepts every kind of message: for a simulation that does not say."""

    def __contains__(self, kind: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0
