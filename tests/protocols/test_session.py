"""The rules of the engine, one by one, with a session driven by hand."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tacit.protocols.channel import Channel, Work
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    RangeError,
    RemoteError,
    UnexpectedMessageError,
    VoidedError,
)
from tacit.protocols.party import PartyId
from tacit.protocols.session import Done, Failed, Session, Step, abort_reason
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Abort, Finished, Query, Refusal

A, B, C, ME = PartyId("a"), PartyId("b"), PartyId("c"), PartyId("me")
SESSION = bytes(range(32))
ACCEPTED: frozenset[type[Message]] = frozenset({Refusal, Finished})

AnyRole = Callable[[Channel], Coroutine[Any, Any, Any]]


def word(text: str) -> Refusal:
    return Refusal(session=SESSION, reason=text, details="")


def abort(reason: str = "SetupError") -> Abort:
    return Abort(session=SESSION, reason=reason, lost=())


def session_of(role: AnyRole, *, lasts: float | None = None) -> Session[Any]:
    return Session(
        SESSION,
        ME,
        role,
        accepts={A: ACCEPTED, B: ACCEPTED, C: ACCEPTED},
        tell=(A, B),
        random_bytes=random.Random(1).randbytes,
        lasts=lasts,
    )


def waiting(**options: Any) -> Session[Any]:
    """A session that gathers a word of a, b and c, started at time 0."""

    async def role(channel: Channel) -> dict[PartyId, str]:
        found = await channel.gather(Refusal, senders=(A, B, C), **options)
        return {sender: message.reason for sender, message in found.items()}

    session = session_of(role)
    session.start(0.0)
    return session


def result(session: Session[Any]) -> Any:
    assert isinstance(session.outcome, Done), session.outcome
    return session.outcome.result


def error(session: Session[Any]) -> Exception:
    assert isinstance(session.outcome, Failed), session.outcome
    return session.outcome.error


def told(step: Step) -> dict[PartyId, str]:
    """Whom a step tells of the end, and why."""
    return {party: message.reason for party, message in step.messages if isinstance(message, Abort)}


# Slots


def test_gather_keeps_the_order_of_the_roster_whatever_the_order_of_arrival() -> None:
    session = waiting()
    for sender in (C, A, B):
        session.receive(sender, word(sender.upper()), 1.0)
    assert list(result(session).items()) == [(A, "A"), (B, "B"), (C, "C")]


def test_an_identical_repeat_is_ignored() -> None:
    session = waiting()
    for sender in (A, A, B, B, A, C):
        session.receive(sender, word(sender), 1.0)
    assert result(session) == {A: "a", B: "b", C: "c"}


def test_a_different_repeat_is_equivocation_and_names_who_sent_it() -> None:
    session = waiting()
    session.receive(A, word("yes"), 1.0)
    step = session.receive(A, word("no"), 2.0)
    found = error(session)
    assert isinstance(found, EquivocationError)
    assert found.culprits == (A,)
    assert told(step) == {A: "EquivocationError", B: "EquivocationError"}


def test_a_slot_stays_taken_after_its_wait_is_over() -> None:
    async def role(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A)
        await channel.receive(Refusal, sender=B)

    session = session_of(role)
    session.start(0.0)
    session.receive(A, word("first"), 1.0)
    session.receive(A, word("second"), 1.0)
    assert isinstance(error(session), EquivocationError)


def test_messages_for_a_later_wait_keep_until_then() -> None:
    async def role(channel: Channel) -> list[str]:
        first = await channel.receive(Refusal, sender=B)
        await channel.receive(Finished, sender=C)
        last = await channel.receive(Refusal, sender=A)
        return [first.reason, last.reason]

    session = session_of(role)
    session.start(0.0)
    session.receive(A, word("last"), 1.0)
    session.receive(C, Finished(session=SESSION, released=True), 1.0)
    assert session.outcome is None
    session.receive(B, word("first"), 1.0)
    assert result(session) == ["first", "last"]


def test_messages_before_the_start_keep_until_then() -> None:
    async def role(channel: Channel) -> str:
        return (await channel.receive(Refusal, sender=A)).reason

    session = session_of(role)
    session.receive(A, word("early"), 0.0)
    session.start(1.0)
    assert result(session) == "early"


def test_of_a_tuple_of_kinds_either_will_do() -> None:
    async def role(channel: Channel) -> list[str]:
        kinds: tuple[type[Message], ...] = (Refusal, Finished)
        found = await channel.gather(kinds, senders=(A, B))
        return [type(message).__name__ for message in found.values()]

    session = session_of(role)
    session.start(0.0)
    session.receive(B, word("no"), 1.0)
    session.receive(A, Finished(session=SESSION, released=False), 1.0)
    assert result(session) == ["Finished", "Refusal"]


# Messages that are taken in as they come


def folding(taken: list[str], **options: Any) -> Session[Any]:
    """A session that takes in a word of a, b and c, started at time 0; it returns whose."""

    async def role(channel: Channel) -> tuple[PartyId, ...]:
        def take(sender: PartyId, message: Refusal) -> None:
            if message.reason == "wrong":
                raise InvalidMessageError("a wrong word", culprits=[sender])
            taken.append(sender + message.reason)

        return await channel.fold(Refusal, take, senders=(A, B, C), **options)

    session = session_of(role)
    session.start(0.0)
    return session


def test_a_fold_takes_each_message_as_it_comes_and_names_senders_in_the_order_of_the_roster() -> None:
    taken: list[str] = []
    session = folding(taken)
    for count, sender in enumerate((C, A, B), start=1):
        session.receive(sender, word("!"), 1.0)
        assert len(taken) == count
    assert taken == ["c!", "a!", "b!"]
    assert result(session) == (A, B, C)


def test_a_fold_takes_what_came_before_its_wait() -> None:
    async def role(channel: Channel) -> list[str]:
        taken: list[str] = []
        await channel.receive(Finished, sender=C)
        await channel.fold(Refusal, lambda sender, message: taken.append(message.reason), senders=(A, B))
        return taken

    session = session_of(role)
    session.start(0.0)
    session.receive(B, word("early"), 1.0)
    session.receive(C, Finished(session=SESSION, released=True), 1.0)
    session.receive(A, word("late"), 1.0)
    assert result(session) == ["early", "late"]


def test_an_identical_repeat_is_not_taken_twice() -> None:
    taken: list[str] = []
    session = folding(taken)
    for sender in (A, A, B, A, C):
        session.receive(sender, word("!"), 1.0)
    assert taken == ["a!", "b!", "c!"]


def test_a_different_message_after_one_that_was_taken_is_equivocation() -> None:
    session = folding([])
    session.receive(A, word("yes"), 1.0)
    session.receive(A, word("no"), 2.0)
    found = error(session)
    assert isinstance(found, EquivocationError)
    assert found.culprits == (A,)


def test_a_slot_stays_taken_after_its_fold_is_over() -> None:
    async def role(channel: Channel) -> None:
        await channel.fold(Refusal, lambda *_: None, senders=(A,))
        await channel.receive(Finished, sender=B)

    session = session_of(role)
    session.start(0.0)
    session.receive(A, word("first"), 1.0)
    session.receive(A, word("first"), 1.0)
    assert session.outcome is None
    session.receive(A, word("second"), 1.0)
    assert isinstance(error(session), EquivocationError)


def test_what_a_fold_does_not_accept_ends_the_wait() -> None:
    session = folding([])
    session.receive(B, word("wrong"), 1.0)
    found = error(session)
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (B,)


def test_a_fold_ends_without_who_is_lost_and_with_who_was_lost_after_its_message() -> None:
    taken: list[str] = []
    session = folding(taken, at_least=2)
    session.receive(A, word("!"), 1.0)
    session.peer_lost(A, 2.0)
    session.peer_lost(C, 2.0)
    session.receive(B, word("!"), 3.0)
    assert result(session) == (A, B)
    assert taken == ["a!", "b!"]


def test_what_comes_after_a_fold_has_ended_is_not_taken() -> None:
    taken: list[str] = []

    async def role(channel: Channel) -> None:
        await channel.fold(
            Refusal, lambda sender, _: taken.append(sender), senders=(A, B), at_least=1, within=10.0
        )
        await channel.receive(Finished, sender=C)

    session = session_of(role)
    session.start(0.0)
    session.receive(A, word("in time"), 1.0)
    session.tick(10.0)
    session.receive(B, word("late"), 11.0)
    assert taken == [A]
    assert session.outcome is None


def test_a_message_that_was_taken_cannot_be_awaited_again() -> None:
    async def role(channel: Channel) -> None:
        await channel.fold(Refusal, lambda *_: None, senders=(A,))
        await channel.receive(Refusal, sender=A)

    session = session_of(role)
    session.start(0.0)
    session.receive(A, word("a"), 1.0)
    assert isinstance(error(session), MisuseError)


def test_nothing_is_left_of_a_message_that_was_taken() -> None:
    session = folding([])
    message = word("long")
    left = weakref.ref(message)
    session.receive(A, message, 1.0)
    del message
    assert left() is None


# Who may send what


@pytest.mark.parametrize("message", [word("x"), abort()])
def test_a_message_from_outside_is_refused_and_harms_nothing(message: Message) -> None:
    session = waiting()
    with pytest.raises(UnexpectedMessageError) as caught:
        session.receive(PartyId("mallory"), message, 1.0)
    assert caught.value.culprits == ("mallory",)
    assert session.outcome is None
    for sender in (A, B, C):
        session.receive(sender, word(sender), 1.0)
    assert list(result(session)) == [A, B, C]


def test_bytes_from_outside_are_refused_and_harm_nothing() -> None:
    session = waiting()
    with pytest.raises(UnexpectedMessageError):
        session.refuse(PartyId("mallory"), "noise")
    assert session.outcome is None


def test_the_loss_of_somebody_outside_changes_nothing() -> None:
    session = waiting()
    assert session.peer_lost(PartyId("mallory"), 1.0) == Step()
    assert session.lost == frozenset()


def test_a_foreign_kind_of_message_ends_the_session_and_names_who_sent_it() -> None:
    session = waiting()
    session.receive(B, Query(step="sum"), 1.0)
    found = error(session)
    assert isinstance(found, UnexpectedMessageError)
    assert found.culprits == (B,)


def test_bytes_that_are_no_message_end_the_session_and_make_a_suspect() -> None:
    session = waiting()
    session.refuse(B, "bytes that are no message")
    found = error(session)
    assert isinstance(found, InvalidMessageError)
    assert (found.culprits, found.suspects) == ((), (B,))


# Losses


def test_a_wait_ends_early_when_all_that_is_missing_is_lost() -> None:
    session = waiting(at_least=1)
    session.receive(B, word("b"), 1.0)
    session.peer_lost(A, 2.0)
    assert session.outcome is None
    session.peer_lost(C, 3.0)
    assert result(session) == {B: "b"}


def test_a_wait_fails_as_soon_as_too_few_can_come() -> None:
    session = waiting(at_least=2)
    session.peer_lost(A, 1.0)
    assert session.outcome is None
    session.peer_lost(B, 2.0)
    found = error(session)
    assert isinstance(found, DropoutError)
    assert (found.needed, found.present, found.missing) == (2, (C,), (A, B))


def test_somebody_lost_after_its_message_is_not_missed() -> None:
    session = waiting()
    session.receive(A, word("a"), 1.0)
    session.peer_lost(A, 1.0)
    session.receive(B, word("b"), 1.0)
    session.receive(C, word("c"), 1.0)
    assert list(result(session)) == [A, B, C]


def test_more_cannot_be_asked_for_than_there_are_senders() -> None:
    session = waiting(at_least=4)
    for sender in (A, B, C):
        session.receive(sender, word(sender), 1.0)
    assert isinstance(error(session), DropoutError)


def test_the_loss_of_a_party_relied_on_ends_the_wait_at_once() -> None:
    async def role(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A, relying_on=(B, C))

    session = session_of(role)
    session.start(0.0)
    session.peer_lost(C, 1.0)
    found = error(session)
    assert isinstance(found, DropoutError)
    assert found.missing == (C,)
    assert found.present == (A, B)


def test_a_loss_before_the_wait_counts_too() -> None:
    async def role(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A)
        await channel.receive(Refusal, sender=B)

    session = session_of(role)
    session.start(0.0)
    session.peer_lost(B, 1.0)
    assert session.outcome is None
    session.receive(A, word("a"), 1.0)
    assert isinstance(error(session), DropoutError)


def test_an_abort_carries_its_reason_to_whoever_waits_for_that_party() -> None:
    session = waiting()
    step = session.receive(B, abort("RangeError"), 1.0)
    found = error(session)
    assert isinstance(found, AbortedError)
    assert (found.party, found.reason) == (B, "RangeError")
    assert told(step) == {A: "RangeError"}, "the others are told, b knows"


def test_an_abort_tells_whom_its_sender_has_lost_of_the_session_and_nobody_else() -> None:
    session = waiting()
    session.receive(B, Abort(session=SESSION, reason="DropoutError", lost=(C, "\x1b[2J")), 1.0)
    found = error(session)
    assert isinstance(found, AbortedError)
    assert (found.party, found.reason, found.lost) == (B, "DropoutError", (C,))
    assert str(found) == "b ended the session: DropoutError (it has lost c)"


def test_an_abort_with_an_odd_reason_never_reaches_a_screen() -> None:
    session = waiting()
    session.receive(B, abort("\x1b[2Jgone"), 1.0)
    assert "\x1b" not in str(error(session))


# Time


def test_within_ends_the_wait_with_what_is_there() -> None:
    session = waiting(at_least=1, within=10.0)
    assert session.deadline == 10.0
    session.receive(B, word("b"), 1.0)
    session.tick(9.9)
    assert session.outcome is None
    session.tick(10.0)
    assert result(session) == {B: "b"}


def test_within_fails_with_too_few_there_and_names_the_silent() -> None:
    session = waiting(at_least=2, within=10.0)
    session.receive(B, word("b"), 1.0)
    session.tick(10.0)
    found = error(session)
    assert isinstance(found, DropoutError)
    assert (found.needed, found.missing, found.present) == (2, (A, C), (B,))
    assert "no answer in time" in str(found)


def test_each_wait_has_its_own_deadline() -> None:
    async def role(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A, within=10.0)
        await channel.receive(Refusal, sender=B, within=10.0)

    session = session_of(role)
    session.start(5.0)
    assert session.deadline == 15.0
    session.receive(A, word("a"), 12.0)
    assert session.deadline == 22.0


def test_the_session_has_a_deadline_longer_than_any_wait() -> None:
    async def role(channel: Channel) -> None:
        await channel.receive(Refusal, sender=A)

    session = session_of(role, lasts=60.0)
    session.start(100.0)
    assert session.deadline == 160.0
    session.tick(159.0)
    assert session.outcome is None
    step = session.tick(160.0)
    found = error(session)
    assert isinstance(found, DropoutError)
    assert found.missing == (A,)
    assert told(step) == {A: "DropoutError", B: "DropoutError"}
    assert session.deadline is None


def test_an_overdue_session_ends_though_its_work_is_still_running() -> None:
    async def role(channel: Channel) -> None:
        await channel.compute(int)

    session = session_of(role, lasts=1.0)
    session.start(0.0)
    session.tick(1.0)
    assert isinstance(error(session), DropoutError)
    assert session.computed(0, 2.0) == Step(), "the late result changes nothing"


# Work


async def computing(channel: Channel) -> str:
    try:
        value = await channel.compute(divmod, 7, 2)
    except ZeroDivisionError:
        return "caught"
    return f"{value}"


def test_work_is_handed_out_and_its_result_comes_back() -> None:
    session = session_of(computing)
    step = session.start(0.0)
    assert isinstance(step.work, Work)
    session.computed(step.work.run(), 1.0)
    assert result(session) == "(3, 1)"


def test_an_exception_of_the_work_is_thrown_into_the_role() -> None:
    session = session_of(computing)
    session.start(0.0)
    session.computed(None, 1.0, error=ZeroDivisionError())
    assert result(session) == "caught"


def test_an_exception_that_the_role_lets_pass_is_its_end_and_not_the_drivers() -> None:
    session = session_of(computing)
    session.start(0.0)
    session.computed(None, 1.0, error=ValueError("private row 17"))
    assert isinstance(error(session), ValueError)


def test_messages_and_losses_during_work_wait_for_it() -> None:
    async def role(channel: Channel) -> None:
        await channel.compute(int)
        await channel.gather(Refusal, senders=(A, B))

    session = session_of(role)
    session.start(0.0)
    session.receive(A, word("a"), 1.0)
    session.peer_lost(B, 1.0)
    assert session.outcome is None
    session.computed(0, 2.0)
    found = error(session)
    assert isinstance(found, DropoutError)
    assert found.missing == (B,)


def test_a_result_that_nobody_asked_for_is_misuse() -> None:
    session = waiting()
    with pytest.raises(MisuseError):
        session.computed(1, 1.0)


def test_queued_messages_leave_with_the_next_await_or_the_end() -> None:
    async def role(channel: Channel) -> None:
        channel.broadcast((A, B), word("one"))
        await channel.compute(int)
        channel.send(C, word("two"))

    session = session_of(role)
    assert session.start(0.0).messages == ((A, word("one")), (B, word("one")))
    assert session.computed(0, 1.0).messages == ((C, word("two")),)


# Misuse


def test_a_role_that_awaits_anything_else_fails_with_misuse() -> None:
    async def role(channel: Channel) -> None:
        await asyncio.sleep(0)

    session = session_of(role)
    session.start(0.0)
    assert isinstance(error(session), MisuseError)


def test_a_session_is_started_once() -> None:
    session = waiting()
    with pytest.raises(MisuseError, match="started once"):
        session.start(1.0)


def test_a_session_that_ended_before_its_start_never_runs() -> None:
    async def role(channel: Channel) -> None:
        channel.send(A, word("never"))

    session = session_of(role)
    session.cancel()
    assert session.start(1.0) == Step()
    assert isinstance(error(session), AbortedError)


def test_after_its_end_nothing_moves_a_session() -> None:
    session = waiting()
    session.cancel()
    ended = session.outcome
    assert session.receive(A, word("late"), 1.0) == Step()
    assert session.peer_lost(B, 1.0) == Step()
    assert session.refuse(C, "noise") == Step()
    assert session.tick(1e9) == Step()
    assert session.cancel() == Step()
    assert session.outcome is ended
    assert session.deadline is None


def test_cancelling_tells_the_others() -> None:
    assert told(waiting().cancel()) == {A: "cancelled", B: "cancelled"}


def test_whom_the_role_has_told_itself_is_not_told_again() -> None:
    async def role(channel: Channel) -> None:
        channel.send(A, abort("DropoutError"))
        raise DropoutError(needed=1, present=(), missing=(C,))

    step = session_of(role).start(0.0)
    assert [party for party, _ in step.messages] == [A, B]


# What others are told


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("private row 17"), "an error at this party"),
        (RangeError("value 3.14 at row 17"), "RangeError"),
        (RemoteError("b sent 3.14", culprits=["b"]), "RemoteError"),
        (VoidedError(), "VoidedError"),
        (DropoutError(needed=3, present=(), missing=("b",)), "DropoutError"),
        (AbortedError(party="b", reason="SetupError"), "SetupError"),
    ],
)
def test_the_reason_that_leaves_holds_no_value(failure: Exception, reason: str) -> None:
    assert abort_reason(failure) == reason

    async def role(channel: Channel) -> None:
        raise failure

    step = session_of(role).start(0.0)
    for party, message in step.messages:
        assert isinstance(message, Abort)
        assert message.reason == reason
        assert message.lost == (("b",) if isinstance(failure, DropoutError) else ())
        assert party in {A, B}


def test_the_shown_form_of_a_session_holds_no_content() -> None:
    session = waiting()
    session.receive(A, word("private row 17"), 1.0)
    assert "17" not in repr(session)
    assert "running" in repr(session)
    session.cancel()
    assert "failed" in repr(session)
