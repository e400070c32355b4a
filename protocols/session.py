"""One role, driven by hand: a session is exactly one secure sum as one party sees it.

`Session` performs no input or output and owns no clock: whoever drives it (a simulation, an actor) passes in
what arrived and what time it is, and carries out the `Step` that comes back. The rules of every protocol live
here, once:

- a slot is (kind of message, sender), with the turn if the kind has one, and holds one message; an identical
  repeat is ignored, a different one is an `EquivocationError`; of a message that a role has folded into something
  else, the slot keeps the digest;
- a message from outside the session's parties, of a kind that its sender has no part in, or more than a few turns
  ahead, is refused before it reaches the role; messages for a later wait keep in their slots, so the inbox is bounded;
- whoever is lost, or ends the session, is noticed by every wait that needs it;
- when a role fails, the others are told at once, with a reason from a fixed list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from ..serialization.codec import digest
from ..serialization.schema import Message
from ..serialization.session_messages import Abort
from .channel import TURNS_AHEAD, Channel, Role, Wait, Work
from .errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    ProtocolError,
    UnexpectedMessageError,
)
from .party import PartyId

R = TypeVar("R")

Accepted = Mapping[PartyId, Collection[type[Message]]]
Slot = tuple[type[Message], PartyId, int]


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The role has returned."""

    result: R


@dataclass(frozen=True, slots=True)
class Failed:
    """The role has raised."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Step:
    """What the driver has to do next: send messages, and start the work if there is some."""

    messages: tuple[tuple[PartyId, Message], ...] = ()
    work: Work | None = None


class Session(Generic[R]):
    """Drives one role, without input or output.

    Parameters
    ----------
    identifier : bytes
        The session's 32-byte identifier.
    me : PartyId
        The party whose role this is.
    role : callable
        ``role(channel)``, the coroutine function to drive.
    accepts : mapping of PartyId to kinds of Message
        Which kinds each peer may send here; `Abort` is always accepted from them.
    tell : collection of PartyId
        Who learns at once when this role fails.
    random_bytes : callable
        The role's source of randomness.
    lasts : float, optional
        Seconds after which the session fails whatever it waits for.
    """

    def __init__(
        self,
        identifier: bytes,
        me: PartyId,
        role: Role[R],
        *,
        accepts: Accepted,
        tell: Collection[PartyId] = (),
        random_bytes: Callable[[int], bytes],
        lasts: float | None = None,
    ) -> None:
        self.identifier = identifier
        self.outcome: Done[R] | Failed | None = None
        self.waiting_for: Wait | None = None
        self._channel = Channel(me, random_bytes)
        self._role = role
        self._coroutine: Coroutine[Any, Any, R] | None = None
        self._accepts = accepts
        self._tell = tuple(tell)
        self._lasts = lasts
        self._ends: float | None = None
        self._wait_ends: float | None = None
        self._working = False
        self._slots: dict[Slot, Message | bytes] = {}  # or the digest of what is gone
        self._turn = 0  # the last one awaited
        self._awaited: dict[PartyId, None] = {}  # whose messages the present wait has not all, in its order
        self._lost: dict[PartyId, AbortedError | None] = {}  # with its own word, if it gave one
        self._told: set[PartyId] = set()

    def __repr__(self) -> str:
        state = "done" if isinstance(self.outcome, Done) else "failed" if self.outcome else "running"
        return f"<Session {self.identifier.hex()[:8]} of {self._channel.me}: {state}>"

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called next, on the driver's clock."""
        ends = [time for time in (self._ends, self._wait_ends) if time is not None]
        return min(ends) if ends and self.outcome is None else None

    @property
    def lost(self) -> frozenset[PartyId]:
        """The peers that are lost or have ended the session."""
        return frozenset(self._lost)

    def start(self, now: float) -> Step:
        """Run the role up to its first await."""
        if self._coroutine is not None:
            raise MisuseError("a session is started once: make a new one, with fresh randomness")
        if self.outcome is not None:  # ended before it began
            return Step()
        self._ends = None if self._lasts is None else now + self._lasts
        self._coroutine = self._role(self._channel)
        return self._resume(now)

    def receive(self, sender: PartyId, message: Message, now: float) -> Step:
        """Take a message in.

        Raises
        ------
        UnexpectedMessageError
            If the sender is not one of the session's parties; the session goes on.
        """
        if sender not in self._accepts:
            raise UnexpectedMessageError("a message from outside the session", culprits=[sender])
        if self.outcome is not None:
            return Step()
        if isinstance(message, Abort):
            # What a peer writes there may come to a screen or a log.
            reason = message.reason if message.reason.isprintable() else "for a reason that cannot be shown"
            lost = [party for party in message.lost if party in self._accepts]
            return self.peer_lost(sender, now, error=AbortedError(party=sender, reason=reason, lost=lost))
        kind, turn = type(message), getattr(message, "turn", 0)
        problem = "a message ahead of its turn" if turn > self._turn + TURNS_AHEAD else ""
        if kind not in self._accepts[sender]:
            problem = "a kind of message it has no part in"
        if problem:
            return self._fail_with(UnexpectedMessageError(problem, culprits=[sender]))
        slot = kind, sender, turn
        is_new = slot not in self._slots
        kept = self._slots.setdefault(slot, message)
        if kept != (digest(message) if isinstance(kept, bytes) else message):
            return self._fail_with(EquivocationError("two different messages in one slot", culprits=[sender]))
        wait = self.waiting_for
        if wait is not None and is_new and sender in self._awaited and slot in _slots_of(wait, sender):
            try:
                self._hand_over(wait, sender, message)
            except Exception as error:  # noqa: BLE001 - the role's own, and thrown into it
                return self._resume(now, error=error)
            if len(self._found(wait, sender)) == wait.n_turns:
                del self._awaited[sender]
        return self._advance(now)

    def refuse(self, sender: PartyId, problem: str) -> Step:
        """End the session because what a peer sent is no message; the sender or the link altered it.

        Raises
        ------
        UnexpectedMessageError
            If the sender is not one of the session's parties; the session goes on.
        """
        if sender not in self._accepts:
            raise UnexpectedMessageError("bytes from outside the session", culprits=[sender])
        if self.outcome is not None:
            return Step()
        return self._fail_with(InvalidMessageError(problem, suspects=[sender]))

    def peer_lost(self, party: PartyId, now: float, *, error: AbortedError | None = None) -> Step:
        """Note that a peer is gone, or that it ended the session: with which error."""
        if party not in self._accepts or self.outcome is not None:
            return Step()
        self._lost.setdefault(party, error)
        return self._advance(now)

    def tick(self, now: float) -> Step:
        """Let time pass: ends waits and sessions that are overdue."""
        if self.outcome is not None or self._coroutine is None:
            return Step()
        if self._ends is not None and now >= self._ends:
            return self._fail_with(self._dropout(self._awaited, reason="the session's time is over"))
        return self._advance(now)

    def computed(self, result: Any, now: float, *, error: BaseException | None = None) -> Step:
        """Give back what the work returned, or raised, into the role."""
        if self.outcome is not None:
            return Step()
        if not self._working:
            raise MisuseError("no work was asked for")
        self._working = False
        return self._resume(now, result, error)

    def cancel(self, reason: str = "cancelled") -> Step:
        """End the session from outside, telling the others."""
        if self.outcome is not None:
            return Step()
        return self._fail_with(AbortedError(party=self._channel.me, reason=reason))

    # Inside

    def _hand_over(self, wait: Wait, sender: PartyId, message: Message | bytes) -> None:
        """Let the role take in what has come, if it does so message by message, and drop it."""
        if isinstance(message, bytes):
            raise MisuseError("a message that was folded into something is gone: await it once")
        if wait.take is not None:
            self._slots[type(message), sender, getattr(message, "turn", 0)] = digest(message)
            wait.take(sender, message)

    def _found(self, wait: Wait, sender: PartyId) -> list[Message | bytes]:
        """Return what has come from a sender, or the digest of what was handed over; of several kinds, the first."""
        slots = (slot for slot in _slots_of(wait, sender) if slot in self._slots)
        return [self._slots[slot] for slot in islice(slots, wait.n_turns)]

    def _answers(self, wait: Wait) -> dict[PartyId, Message | bytes]:
        """Return what has come from those who have sent all that a wait is for."""
        found = ((sender, self._found(wait, sender)) for sender in wait.senders)
        return {sender: messages[0] for sender, messages in found if len(messages) == wait.n_turns}

    def _advance(self, now: float) -> Step:
        """End the present wait if it can end, successfully or not."""
        wait, missing = self.waiting_for, self._awaited
        if wait is None:
            return Step()
        n_found = len(wait.senders) - len(missing)
        n_alive = len(missing.keys() - self._lost.keys())
        fatal = [party for party in self._lost if party in wait.relying_on]
        overdue = self._wait_ends is not None and now >= self._wait_ends
        if n_found >= wait.at_least and not missing:
            return self._resume(now, self._answers(wait))
        if fatal or n_found + n_alive < wait.at_least:
            return self._resume(now, error=self._loss(fatal or [s for s in missing if s in self._lost]))
        if n_found >= wait.at_least and (overdue or not n_alive):
            return self._resume(now, self._answers(wait))
        if overdue:
            return self._resume(now, error=self._dropout(missing, reason="no answer in time"))
        return Step()

    def _loss(self, parties: list[PartyId]) -> ProtocolError:
        """Return the error for parties that are gone: their own word if they gave one."""
        words = (self._lost[party] for party in parties)
        return next((word for word in words if word is not None), None) or self._dropout(parties)

    def _dropout(self, missing: Collection[PartyId], *, reason: str = "") -> DropoutError:
        wait = self.waiting_for
        everyone = [*wait.senders, *sorted(wait.relying_on - set(wait.senders))] if wait else list(missing)
        present = [party for party in everyone if party not in missing]
        needed = max(wait.at_least, len(wait.relying_on)) if wait else len(everyone)
        return DropoutError(needed=needed, present=present, missing=missing, reason=reason)

    def _resume(self, now: float, value: Any = None, error: BaseException | None = None) -> Step:
        """Run the role until it asks for something that is not there yet, or ends."""
        self.waiting_for = self._wait_ends = None
        self._awaited = {}
        if self._coroutine is None:
            raise MisuseError("a session is started before anything else")
        try:
            wanted = self._coroutine.throw(error) if error is not None else self._coroutine.send(value)
        except StopIteration as stop:
            self.outcome = Done(stop.value)
            return Step(self._take_queued())
        except Exception as failure:  # noqa: BLE001 - kept as the outcome, told to the others
            return self._fail_with(failure)
        if isinstance(wanted, Work):
            self._working = True
            return Step(self._take_queued(), wanted)
        if not isinstance(wanted, Wait):
            return self._resume(now, error=MisuseError("a role awaits nothing but its channel"))
        self.waiting_for, self._turn = wanted, max(wanted.turn + wanted.n_turns - 1, self._turn)
        try:
            for sender in wanted.senders:
                for message in self._found(wanted, sender):
                    self._hand_over(wanted, sender, message)
        except Exception as failure:  # noqa: BLE001 - the role's own, and thrown into it
            return self._resume(now, error=failure)
        answered = self._answers(wanted)
        self._awaited = dict.fromkeys(sender for sender in wanted.senders if sender not in answered)
        self._wait_ends = None if wanted.within is None else now + wanted.within
        sent = self._take_queued()
        onward = self._advance(now)
        return Step(sent + onward.messages, onward.work)

    def _fail_with(self, error: Exception) -> Step:
        """Close the role and tell the others, with a reason that holds no value."""
        if self._coroutine is not None:
            self._coroutine.close()
        self.outcome = Failed(error)
        self.waiting_for = None
        lost = error.missing if isinstance(error, DropoutError) else ()
        message = Abort(session=self.identifier, reason=abort_reason(error), lost=lost)
        queued = self._take_queued()
        told = tuple((party, message) for party in self._tell if party not in {*self._lost, *self._told})
        return Step(queued + told)

    def _take_queued(self) -> tuple[tuple[PartyId, Message], ...]:
        """Take the role's messages, noting whom it has told the end itself."""
        queued = self._channel.take_queued()
        self._told.update(party for party, message in queued if isinstance(message, Abort))
        return queued


def _slots_of(wait: Wait, sender: PartyId) -> list[Slot]:
    """Return where a wait finds what a sender has sent: a slot a kind, and a turn."""
    if wait.n_turns > 1:
        return [(kind, sender, wait.turn + turn) for kind in wait.kinds for turn in range(wait.n_turns)]
    return [(kind, sender, wait.turn if hasattr(kind, "turn") else 0) for kind in wait.kinds]


def abort_reason(error: Exception) -> str:
    """Return what other parties are told of an error: its class if it is tacit's, never its text."""
    if isinstance(error, AbortedError):
        return error.reason
    return type(error).__name__ if isinstance(error, ProtocolError) else "an error at this party"
