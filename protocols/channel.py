"""What a protocol role may do: send, wait for messages, and have heavy work done elsewhere.

A role is a coroutine that awaits nothing but its channel. So it reads like the paper, and whoever drives it
(a `Session`, by hand) decides what time it is, what arrives, and where work runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Generator, Iterable
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, TypeVar

from ..serialization.schema import Message
from .party import PartyId

TURNS_AHEAD = 8  # of a kind with turns, so many messages may come before the first of them is awaited

M = TypeVar("M", bound=Message)
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """A role's request: messages of one kind from some senders.

    Attributes
    ----------
    kinds : tuple of types of Message
        What is awaited from each sender: any one of them.
    senders : tuple of PartyId
        From whom.
    at_least : int
        How many suffice once the others are lost or late.
    within : float or None
        Seconds until the wait ends with what is there; None waits for the session's deadline.
    relying_on : frozenset of PartyId
        Parties whose loss ends the wait at once.
    take : callable or None
        Takes in each message as it comes; nothing of it is kept then but its digest.
    turn, n_turns : int
        Of those kinds whose messages are numbered, from which one on, and how many of them.
    """

    kinds: tuple[type[Message], ...]
    senders: tuple[PartyId, ...]
    at_least: int
    within: float | None
    relying_on: frozenset[PartyId]
    take: Callable[[PartyId, Any], None] | None = None
    turn: int = 0
    n_turns: int = 1


@dataclass(frozen=True, slots=True)
class Work:
    """A role's request: call a function away from the loop and give back what it returns."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """Call the function."""
        return self.function(*self.arguments, **self.keywords)


@coroutine
def _request(wanted: Wait | Work) -> Generator[Wait | Work, Any, Any]:
    """Hand a request to whoever drives the role, and return the answer."""
    return (yield wanted)


class Channel:
    """All that a role may do.

    Attributes
    ----------
    me : PartyId
        The party whose role this is.
    """

    def __init__(self, me: PartyId, random_bytes: Callable[[int], bytes]) -> None:
        self.me = me
        self._random_bytes = random_bytes
        self._queued: list[tuple[PartyId, Message]] = []

    def send(self, to: PartyId, message: Message) -> None:
        """Queue a message; it leaves at the role's next await, or when the role ends."""
        self._queued.append((to, message))

    def broadcast(self, to: Iterable[PartyId], message: Message) -> None:
        """Queue the same message to several parties."""
        for party in to:
            self.send(party, message)

    def random_bytes(self, n: int) -> bytes:
        """Random bytes: the operating system's in actors, seeded in a simulation."""
        return self._random_bytes(n)

    async def receive(
        self,
        kind: type[M],
        *,
        sender: PartyId,
        within: float | None = None,
        relying_on: Collection[PartyId] = (),
    ) -> M:
        """Wait for one message from one sender.

        Raises
        ------
        DropoutError
            If the sender, or a party relied on, is lost, or time runs out.
        AbortedError
            If one of them ended the session.
        """
        found = await self.gather(kind, senders=(sender,), within=within, relying_on=relying_on)
        return found[sender]

    async def gather(
        self,
        kind: type[M] | tuple[type[M], ...],
        *,
        senders: Collection[PartyId],
        at_least: int | None = None,
        within: float | None = None,
        relying_on: Collection[PartyId] = (),
        turn: int = 0,
    ) -> dict[PartyId, M]:
        """Wait for one message from each of several senders.

        Returns when all are there, when everyone missing is lost, or when time runs out.

        Parameters
        ----------
        kind : type of Message, or a tuple of them
            What each sender is to send; of a tuple, either.
        senders : collection of PartyId
            From whom; the result keeps this order, whatever the order of arrival.
        at_least : int, optional
            How many suffice; all of them by default.
        within : float, optional
            Seconds to wait; by default until the session's deadline.
        relying_on : collection of PartyId
            Parties whose loss ends the wait at once.
        turn : int
            Of a kind with a field ``turn``, which of its messages.

        Returns
        -------
        dict of PartyId to Message
            What has come, in the order of `senders`.

        Raises
        ------
        DropoutError
            If fewer than `at_least` came, or a party relied on is lost.
        AbortedError
            If a party that this needed ended the session.
        """
        kinds: tuple[type[Message], ...] = kind if isinstance(kind, tuple) else (kind,)
        needed = len(senders) if at_least is None else at_least
        wait = Wait(kinds, tuple(senders), needed, within, frozenset(relying_on), turn=turn)
        found: dict[PartyId, M] = await _request(wait)
        return found

    async def fold(
        self,
        kind: type[M],
        take: Callable[[PartyId, M], None],
        *,
        senders: Collection[PartyId],
        at_least: int | None = None,
        within: float | None = None,
        relying_on: Collection[PartyId] = (),
        turn: int = 0,
        n_turns: int = 1,
    ) -> tuple[PartyId, ...]:
        """Wait as `gather` does, but hand over each message as it comes, whole, and keep none.

        A sum of many long vectors takes no more memory than one of them and itself.

        Parameters
        ----------
        kind : type of Message
            What each sender is to send.
        take : callable
            ``take(sender, message)``, called in the order of arrival, so what it makes of messages must not depend on
            the order; what it raises ends the wait.
        senders, at_least, within, relying_on, turn
            As of `gather`.
        n_turns : int
            How many messages each sender is to send, of this turn and those after it.

        Returns
        -------
        tuple of PartyId
            All of whose messages were taken, in the order of `senders`; whoever was lost afterwards is among them.

        Raises
        ------
        DropoutError, AbortedError
            As `gather` does.
        """
        needed = len(senders) if at_least is None else at_least
        wait = Wait((kind,), tuple(senders), needed, within, frozenset(relying_on), take, turn, n_turns)
        return tuple(await _request(wait))

    async def compute(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function off the loop (inline in a simulation) and return what it returns."""
        result: T = await _request(Work(function, args, kwargs))
        return result

    def take_queued(self) -> tuple[tuple[PartyId, Message], ...]:
        """Empty the queue of messages to send: for whoever drives the role."""
        queued, self._queued = tuple(self._queued), []
        return queued


Role = Callable[[Channel], Coroutine[Any, Any, R]]
