"""Frames on their way between processes: what goes in one call, what is sent again, what is a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ray.exceptions import ActorDiedError, ActorUnavailableError
from tacit.actors import transport
from tacit.actors.long_frames import SLICE_BYTES, TAG_BYTES, Content, LongFrame
from tacit.actors.transport import RETRIES, SLICES, Answer, Peer, Piece, RayTransport, Underway
from tacit.protocols.party import PartyId
from tacit.serialization.codec import Frame

A, B, C = map(PartyId, "abc")
HERE = 7
About = tuple[int, list[int], bool, bool]
Pieces = tuple[list[Piece], tuple[NDArray[np.uint8], ...]]
Call = tuple[list[tuple[PartyId, bytes]], tuple[NDArray[np.uint8], ...]]


class Process:
    """A handle that notes the calls of `deliver`; the first of them fail as told."""

    def __init__(self, *failures: Exception) -> None:
        self.about: list[About] = []
        self.calls: list[Call] = []
        self.answers: list[Answer] = []
        self._failures = list(failures)
        self.pieces: list[Pieces] = []  # of each call
        self.deliver = self
        self.deliver_pieces = LongCalls(self)

    async def remote(
        self, about: About, frames: list[tuple[PartyId, bytes]], *buffers: NDArray[np.uint8]
    ) -> Answer | None:
        self.about.append(about)
        self.calls.append((frames, buffers))
        await asyncio.sleep(0)
        if self._failures:
            raise self._failures.pop(0)
        return self.answers.pop(0) if self.answers else None


class LongCalls:
    """Notes the calls of `deliver_pieces`, which fail as those of `deliver`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def remote(self, caller: int, pieces: list[Piece], *slices: NDArray[np.uint8]) -> None:
        assert caller == HERE
        self._process.pieces.append((pieces, slices))
        await asyncio.sleep(0)
        if self._process._failures:
            raise self._process._failures.pop(0)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.0)


def peer_of(
    process: Process, take: Callable[[PartyId, Frame], None] = print, underway: Underway | None = None
) -> Peer:
    return Peer(process, [A, B, C], HERE, take, underway or Underway(shared=True))


def posted(
    process: Process, *frames: tuple[PartyId, Frame | LongFrame], lost: Callable[[PartyId], None] = print
) -> Any:
    """Post frames to parties of one process, all in one turn of the loop."""
    peer = peer_of(process)
    wire = RayTransport({}, dict.fromkeys(peer.parties, peer), lost)
    return asyncio.gather(*(wire.post(to, frame) for to, frame in frames))


def test_small_frames_of_one_turn_go_in_one_call(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> None:
        await posted(process, (A, Frame(b"1")), (B, Frame(b"2")), (A, Frame(b"3")))

    loop.run(scene())
    assert process.calls == [([(A, b"1"), (B, b"2"), (A, b"3")], ())]


def test_frames_of_different_turns_do_not_wait_for_each_other(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> None:
        peer = peer_of(process)
        first = asyncio.ensure_future(peer.send(A, Frame(b"1")))
        while not process.calls:  # noqa: ASYNC110 - until the first call is under way
            await asyncio.sleep(0)
        assert not first.done()
        await peer.send(A, Frame(b"2"))
        await first

    loop.run(scene())
    assert process.calls == [([(A, b"1")], ()), ([(A, b"2")], ())]


@pytest.mark.parametrize("shared", [True, False], ids=["many parties", "one party"])
def test_frame_waits_for_what_other_parties_of_its_process_are_at(
    shared: bool, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, underway = Process(), Underway(shared=shared)
    monkeypatch.setattr(transport, "GATHERING_SECONDS", 1e6)

    async def scene() -> None:
        peer = peer_of(process, underway=underway)
        with underway:
            first = asyncio.ensure_future(peer.send(A, Frame(b"1")))
            for _ in range(10):
                await asyncio.sleep(0)
            second = asyncio.ensure_future(peer.send(B, Frame(b"2")))
        await asyncio.gather(first, second)

    loop.run(scene())
    together = [([(A, b"1"), (B, b"2")], ())]
    assert process.calls == (together if shared else [([(A, b"1")], ()), ([(B, b"2")], ())])


def test_no_frame_waits_long_for_the_others(loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    process, underway = Process(), Underway(shared=True)
    monkeypatch.setattr(transport, "GATHERING_SECONDS", 0.001)

    async def scene() -> None:
        with underway:
            await peer_of(process, underway=underway).send(A, Frame(b"1"))

    loop.run(scene())
    assert process.calls == [([(A, b"1")], ())]


def test_frames_that_come_back_are_answered_together(loop: asyncio.Runner) -> None:
    process = Process()
    process.answers = [(5, [(B, b"x"), (C, b"y")])]

    async def scene() -> None:
        sending: list[asyncio.Future[bool]] = []
        peer = peer_of(process, lambda to, frame: sending.append(asyncio.ensure_future(peer.send(A, frame))))
        await peer.send(A, Frame(b"1"))
        await asyncio.gather(*sending)

    loop.run(scene())
    assert process.calls == [([(A, b"1")], ()), ([(A, b"x"), (A, b"y")], ())]


def long_frame(*sizes: int) -> LongFrame:
    """Make a long frame under a key that the test knows, of bytes 0, 1, 2, …"""
    return LongFrame(b"long", content(*sizes))


def content(*sizes: int) -> Content:
    return Content(bytes(32), b"about", [np.arange(size, dtype=np.uint8) for size in sizes])


def arrived(process: Process, at: Peer) -> list[tuple[PartyId, Frame]]:
    """Give the pieces that a process was sent to one that receives them; return the frames that they make."""
    return [frame for pieces, slices in process.pieces for frame in at.take_pieces(pieces, slices)]


def test_long_frames_travel_in_pieces_whose_slices_the_call_itself_carries(loop: asyncio.Runner) -> None:
    process, sizes = Process(), (SLICES * SLICE_BYTES, 70_000)

    async def scene() -> None:
        await posted(process, (A, Frame(b"1")), (B, long_frame(*sizes)), (C, Frame(b"3")))

    loop.run(scene())
    assert process.calls == [([(A, b"1"), (C, b"3")], ())]
    lengths = [[len(octets) for octets in slices] for _, slices in process.pieces]
    assert max(map(max, lengths)) <= SLICE_BYTES + TAG_BYTES < 100 * 1024  # from where on Ray shares memory
    assert [sum(length) for length in lengths] == [SLICES * SLICE_BYTES + TAG_BYTES, 70_000 + TAG_BYTES]
    assert arrived(process, peer_of(Process())) == [(B, long_frame(*sizes).whole())]


def test_piece_leaves_when_the_last_one_has_arrived(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> None:
        sending = asyncio.ensure_future(peer_of(process).send_long(B, long_frame(3 * SLICES * SLICE_BYTES)))
        while not process.pieces:  # noqa: ASYNC110 - until the first call is under way
            await asyncio.sleep(0)
        assert len(process.pieces) == 1
        assert await sending

    loop.run(scene())
    assert len(process.pieces) == 3


def test_long_frames_that_wait_share_their_calls(loop: asyncio.Runner) -> None:
    process, size = Process(), 3 * SLICES // 4 * SLICE_BYTES
    frames = [(to, long_frame(size)) for to in (A, B, C, A)]
    loop.run(asyncio.wait_for(gathered(process, frames), 1))
    assert [[piece[:2] for piece in pieces] for pieces, _ in process.pieces] == [
        [(1, 0), (2, 0)],
        [(2, size // 3), (3, 0)],
        [(3, 2 * size // 3), (4, 0)],
    ]
    assert max(len(slices) for _, slices in process.pieces) == SLICES
    assert arrived(process, peer_of(Process())) == [(to, long_frame(size).whole()) for to, _ in frames]


async def gathered(process: Process, frames: list[tuple[PartyId, LongFrame]]) -> None:
    """Post long frames, all in one turn of the loop."""
    await posted(process, *frames)


def test_of_frames_in_one_call_that_fails_each_is_a_loss(loop: asyncio.Runner) -> None:
    process, lost = Process(ActorDiedError(), ActorDiedError()), list[PartyId]()

    async def scene() -> None:
        frames = [(to, long_frame(SLICES * SLICE_BYTES // 2)) for to in (A, B, C)]
        await posted(process, *frames, lost=lost.append)

    loop.run(asyncio.wait_for(scene(), 1))
    assert lost == [A, B, C]


def test_call_that_cannot_be_made_is_told_to_whoever_waits(loop: asyncio.Runner) -> None:
    process = Process(ValueError("no arguments of a call"))

    async def scene() -> list[Any]:
        peer = peer_of(process)
        frames = [peer.send_long(to, long_frame(SLICES * SLICE_BYTES)) for to in (A, B)]
        return await asyncio.gather(*frames, return_exceptions=True)

    assert [type(told) for told in loop.run(asyncio.wait_for(scene(), 1))] == [ValueError, ValueError]


def test_frame_that_waits_goes_to_the_process_that_is_met_meanwhile(loop: asyncio.Runner) -> None:
    process, other = Process(), Process()

    async def scene() -> tuple[bool, bool]:
        peer = peer_of(process)
        first = asyncio.ensure_future(peer.send_long(A, long_frame(2 * SLICES * SLICE_BYTES)))
        second = asyncio.ensure_future(peer.send_long(B, long_frame(3)))
        while not process.pieces:  # noqa: ASYNC110 - until the first call is under way
            await asyncio.sleep(0)
        peer.meet(other)
        return await first, await second

    assert loop.run(scene()) == (True, True)
    assert len(process.pieces) == 1
    assert arrived(other, peer_of(Process())) == [(B, long_frame(3).whole())]


def test_pieces_that_come_twice_make_one_frame(loop: asyncio.Runner) -> None:
    process, size = Process(ActorUnavailableError("x", None)), SLICES * SLICE_BYTES + 5
    loop.run(peer_of(process).send_long(B, long_frame(size)))
    assert len(process.pieces) == 3  # the first of two was sent again
    process.pieces += process.pieces[-1:]
    assert arrived(process, peer_of(Process())) == [(B, long_frame(size).whole())]


def test_long_frame_of_a_peer_takes_the_place_of_one_that_was_never_finished(loop: asyncio.Runner) -> None:
    process, peer, size = Process(), peer_of(Process()), SLICES * SLICE_BYTES + 1
    loop.run(peer_of(process).send_long(B, long_frame(size)))
    [(_, *what)], slices = process.pieces[0]
    process.pieces += [([(number, *what)], slices) for number in (3, 2)]  # type: ignore[list-item]
    assert len(arrived(process, peer)) == 1
    assert peer._arriving is not None  # the third, whose end has not come; the second is of the past


def test_long_frame_to_a_process_that_is_gone_is_a_loss(loop: asyncio.Runner) -> None:
    process, lost = Process(ActorDiedError()), list[PartyId]()

    async def scene() -> None:
        await posted(process, (B, long_frame(3 * SLICES * SLICE_BYTES)), lost=lost.append)

    loop.run(scene())
    assert len(process.pieces) == 1
    assert lost == [B]


def test_what_several_parties_of_a_process_receive_goes_there_once(loop: asyncio.Runner) -> None:
    process, shared = Process(), content(3 * SLICES * SLICE_BYTES)
    frames = [(to, LongFrame(to.encode(), shared)) for to in (A, B, C)]
    loop.run(asyncio.wait_for(gathered(process, [*frames, (A, long_frame(5))]), 1))
    assert len(process.pieces) == 4
    expected = [*((to, frame.whole()) for to, frame in frames), (A, long_frame(5).whole())]
    assert arrived(process, peer_of(Process())) == expected


def test_what_follows_a_content_that_is_on_its_way_goes_with_one_of_its_own(loop: asyncio.Runner) -> None:
    process, shared = Process(), content(2 * SLICES * SLICE_BYTES)

    async def scene() -> tuple[bool, bool]:
        peer = peer_of(process)
        first = asyncio.ensure_future(peer.send_long(A, LongFrame(b"a", shared)))
        while not process.pieces:  # noqa: ASYNC110 - until the first call is under way
            await asyncio.sleep(0)
        return await peer.send_long(B, LongFrame(b"b", shared)), await first

    assert loop.run(asyncio.wait_for(scene(), 1)) == (True, True)
    expected = [(to, LongFrame(header, shared).whole()) for to, header in ((A, b"a"), (B, b"b"))]
    assert arrived(process, peer_of(Process())) == expected


def test_what_several_were_to_receive_is_lost_to_each_when_their_process_is(loop: asyncio.Runner) -> None:
    process, lost, shared = Process(ActorDiedError()), list[PartyId](), content(9)

    async def scene() -> None:
        await posted(process, *[(to, LongFrame(b"x", shared)) for to in (A, B)], lost=lost.append)

    loop.run(asyncio.wait_for(scene(), 1))
    assert lost == [A, B]


def test_party_of_the_same_process_is_handed_the_very_same_frame(loop: asyncio.Runner) -> None:
    taken: list[Frame] = []
    frame = Frame(b"1", (np.ones(3, dtype=np.uint8),))
    loop.run(RayTransport({A: taken.append}, {}, print).post(A, frame))
    assert taken[0] is frame


def test_bundle_is_sent_again_with_identical_bytes_until_it_arrives(loop: asyncio.Runner) -> None:
    process, lost = Process(*[ActorUnavailableError("x", None)] * (RETRIES - 1)), list[PartyId]()

    async def scene() -> None:
        await posted(process, (A, Frame(b"1")), (B, Frame(b"2")), lost=lost.append)

    loop.run(scene())
    assert process.calls == [([(A, b"1"), (B, b"2")], ())] * RETRIES
    assert lost == []


@pytest.mark.parametrize(
    ("failures", "n_calls"),
    [([ActorDiedError()], 1), ([ActorUnavailableError("x", None)] * RETRIES, RETRIES)],
    ids=["dead", "never available"],
)
def test_process_that_is_gone_loses_whoever_was_posted_to(
    failures: list[Exception], n_calls: int, loop: asyncio.Runner
) -> None:
    process, lost = Process(*failures), list[PartyId]()

    async def scene() -> None:
        await posted(process, (A, Frame(b"1")), (C, Frame(b"2")), lost=lost.append)

    loop.run(scene())
    assert len(process.calls) == n_calls
    assert lost == [A, C]


def test_post_that_is_cancelled_takes_no_other_of_its_bundle_with_it(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> None:
        peer = peer_of(process)
        sending = [asyncio.ensure_future(peer.send(to, Frame(b"1"))) for to in (A, B)]
        await asyncio.sleep(0)
        sending[0].cancel()
        assert await sending[1]

    loop.run(scene())
    assert process.calls == [([(A, b"1"), (B, b"1")], ())]


# Frames that go back with the answer to a call


def test_frames_go_back_with_the_call_that_waits(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> Answer | None:
        peer = peer_of(process)
        waiting = asyncio.ensure_future(peer.answer([], False, True))
        await asyncio.sleep(0)
        sent = await asyncio.gather(peer.send(A, Frame(b"1")), peer.send(B, Frame(b"2")))
        assert all(sent)
        return await waiting

    assert loop.run(scene()) == (1, [(A, b"1"), (B, b"2")])
    assert process.calls == []


def test_long_frame_leaves_alone_the_call_that_waits(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> bool:
        peer = peer_of(process)
        waiting = asyncio.ensure_future(peer.answer([], False, True))
        await asyncio.sleep(0)
        assert await peer.send_long(B, long_frame(3))
        still_waits = not waiting.done()
        waiting.cancel()
        return still_waits

    assert loop.run(scene())


def test_frames_for_which_no_call_waits_go_in_a_call_of_their_own(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> None:
        peer = peer_of(process)
        waiting = asyncio.ensure_future(peer.answer([], False, True))
        await asyncio.sleep(0)
        await peer.send(A, Frame(b"1"))
        await waiting
        await peer.send(A, Frame(b"2"))

    loop.run(scene())
    assert process.calls == [([(A, b"2")], ())]


def test_one_call_waits_at_a_time_and_none_for_ever(
    loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "WAITING_SECONDS", 0.01)

    async def scene() -> None:
        peer = peer_of(Process())
        first, second = (asyncio.ensure_future(peer.answer([], False, True)) for _ in range(2))
        assert await first is None
        assert not second.done()
        assert await second is None

    loop.run(scene())


def test_call_of_a_process_that_leaves_does_not_wait_nor_do_those_before_it(loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> None:
        peer = peer_of(process)
        waiting = asyncio.ensure_future(peer.answer([], False, True))
        await asyncio.sleep(0)
        assert await peer.answer([], False, False) is None
        assert await waiting is None
        await peer.send(A, Frame(b"1"))
        await peer.hurry()
        await peer.send(A, Frame(b"2"))

    loop.run(scene())
    assert [patient for _, _, _, patient in process.about] == [True, False, False]


def test_process_that_was_never_called_is_not_told_of_leaving(loop: asyncio.Runner) -> None:
    process = Process()
    loop.run(peer_of(process).hurry())  # a coordinator that knows no holders would count these calls
    assert process.about == []


def test_answer_that_may_be_lost_goes_out_again_until_it_is_confirmed(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        peer = peer_of(Process())
        frames = [(A, b"1")]
        for confirmed, again, expected in (
            ([], False, (1, frames)),
            ([], True, (2, frames)),  # the first may be lost
            ([1], True, (3, frames)),  # the first has come after all, the second not
            ([3], True, None),
        ):
            answer = asyncio.ensure_future(peer.answer(confirmed, again, not again))
            await asyncio.sleep(0)
            if expected == (1, frames):
                await peer.send(A, Frame(b"1"))
            assert await answer == expected

    loop.run(scene())


def test_what_comes_back_is_taken_in_and_confirmed_by_the_next_call(loop: asyncio.Runner) -> None:
    process, taken = Process(), list[tuple[PartyId, bytes]]()
    process.answers = [(5, [("b", b"x"), ("c", b"y")])]

    async def scene() -> None:
        peer = peer_of(process, lambda to, frame: taken.append((to, frame.header)))
        for header in (b"1", b"2", b"3"):
            await peer.send(A, Frame(header))

    loop.run(scene())
    assert taken == [(B, b"x"), (C, b"y")]
    assert process.about == [(7, [], False, True), (7, [5], False, True), (7, [], False, True)]


def test_call_that_fails_confirms_again_and_says_that_an_answer_may_be_lost(loop: asyncio.Runner) -> None:
    process = Process()
    process.answers = [(5, [("b", b"x")])]

    async def scene() -> None:
        peer = peer_of(process, lambda *_: None)
        await peer.send(A, Frame(b"1"))
        process._failures = [ActorUnavailableError("x", None)]
        await peer.send(A, Frame(b"2"))

    loop.run(scene())
    assert process.about[1:] == [(7, [5], False, True), (7, [5], True, True)]


def test_frames_given_to_a_call_that_is_repeated_in_the_same_turn_go_out_again(loop: asyncio.Runner) -> None:
    async def scene() -> Answer | None:
        peer = peer_of(Process())
        waiting = asyncio.ensure_future(peer.answer([], False, True))
        await asyncio.sleep(0)
        sending = asyncio.ensure_future(peer.send(A, Frame(b"1")))
        await asyncio.sleep(0)
        repeated = asyncio.ensure_future(peer.answer([], True, True))  # before the first call has gone on
        assert await sending
        await waiting
        return await asyncio.wait_for(repeated, 1)

    assert loop.run(scene()) == (2, [(A, b"1")])


@pytest.mark.parametrize("given", [False, True], ids=["waits", "has been given frames"])
def test_call_that_is_cancelled_costs_no_frame(given: bool, loop: asyncio.Runner) -> None:
    process = Process()

    async def scene() -> Answer | None:
        peer = peer_of(process)
        waiting = asyncio.ensure_future(peer.answer([], False, True))
        await asyncio.sleep(0)
        sending = asyncio.ensure_future(peer.send(A, Frame(b"1")))
        await asyncio.sleep(0)
        if given:
            await asyncio.sleep(0)
        waiting.cancel()
        assert await sending
        return await peer.answer([], True, False)

    answer = loop.run(scene())
    assert (answer is None) == bool(process.calls)  # with the repetition, or in a call of its own


def test_call_after_one_that_was_given_up_says_that_an_answer_may_be_lost(loop: asyncio.Runner) -> None:
    process = Process(*[ActorUnavailableError("x", None)] * RETRIES)

    async def scene() -> None:
        peer = peer_of(process)
        assert not await peer.send(A, Frame(b"1"))
        assert await peer.send(A, Frame(b"2"))
        assert await peer.send(A, Frame(b"3"))

    loop.run(scene())
    assert [again for _, _, again, _ in process.about[RETRIES:]] == [True, False]


# A process that is met in place of another


class Pending:
    """A handle whose calls wait, until they fail as told."""

    def __init__(self) -> None:
        self.failing: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.deliver = self

    def remote(self, *_: Any) -> asyncio.Future[Answer | None]:
        return self.failing


@pytest.mark.parametrize(
    "failure", [ActorDiedError(), ActorUnavailableError("x", None)], ids=["dead", "away"]
)
def test_frame_to_a_process_that_was_replaced_is_no_loss_of_the_next(
    failure: Exception, loop: asyncio.Runner
) -> None:
    """That the last one is lost was told as the next one was met; a second time it would be the next one's loss."""
    lost: list[PartyId] = []

    async def scene() -> None:
        first, second = Pending(), Process()
        peer = Peer(first, [A], 7, print, Underway(shared=False))
        posting = asyncio.ensure_future(RayTransport({}, {A: peer}, lost.append).post(A, Frame(b"1")))
        await asyncio.sleep(0.001)
        peer.meet(second)
        first.failing.set_exception(failure)
        await posting
        assert second.calls == []  # what was for the last one is not sent to the next

    loop.run(scene())
    assert lost == []


def test_process_is_not_told_that_answers_of_the_last_have_arrived(loop: asyncio.Runner) -> None:
    """It would take its own, of the same number, for confirmed, and not send them again."""

    async def scene() -> None:
        first, second = Pending(), Process()
        peer = Peer(first, [A], 7, print, Underway(shared=False))
        calling = asyncio.ensure_future(peer.send(A, Frame(b"1")))
        await asyncio.sleep(0.001)
        peer.meet(second)
        first.failing.set_result((1, []))
        await calling
        await peer.send(A, Frame(b"2"))
        assert [confirmed for _, confirmed, *_ in second.about] == [[]]

    loop.run(scene())
