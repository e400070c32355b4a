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
from tacit.actors.transport import RETRIES, Peer, RayTransport
from tacit.protocols.party import PartyId
from tacit.serialization.codec import Frame

A, B, C = map(PartyId, "abc")
Call = tuple[list[tuple[PartyId, bytes]], tuple[NDArray[np.uint8], ...]]


class Process:
    """A handle that notes the calls of `deliver`; the first of them fail as told."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[Call] = []
        self._failures = list(failures)
        self.deliver = self

    async def remote(self, frames: list[tuple[PartyId, bytes]], *buffers: NDArray[np.uint8]) -> None:
        self.calls.append((frames, buffers))
        await asyncio.sleep(0)
        if self._failures:
            raise self._failures.pop(0)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.0)


def posted(process: Process, *frames: tuple[PartyId, Frame], lost: Callable[[PartyId], None] = print) -> Any:
    """Post frames to parties of one process, all in one turn of the loop."""
    peer = Peer(process, [A, B, C])
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
        peer = Peer(process, [A])
        first = asyncio.ensure_future(peer.send(A, Frame(b"1")))
        while not process.calls:  # noqa: ASYNC110 - until the first call is under way
            await asyncio.sleep(0)
        assert not first.done()
        await peer.send(A, Frame(b"2"))
        await first

    loop.run(scene())
    assert process.calls == [([(A, b"1")], ()), ([(A, b"2")], ())]


def test_large_buffers_are_arguments_of_a_call_of_their_own(loop: asyncio.Runner) -> None:
    process, buffers = Process(), (np.ones(3, dtype=np.uint8), np.zeros(2, dtype=np.uint8))

    async def scene() -> None:
        await posted(process, (A, Frame(b"1")), (B, Frame(b"2", buffers)), (C, Frame(b"3")))

    loop.run(scene())
    [large, small] = process.calls
    assert small == ([(A, b"1"), (C, b"3")], ())
    assert large[0] == [(B, b"2")]
    assert all(ours is theirs for ours, theirs in zip(buffers, large[1], strict=True))  # no copy


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
        peer = Peer(process, [A, B])
        sending = [asyncio.ensure_future(peer.send(to, Frame(b"1"))) for to in (A, B)]
        await asyncio.sleep(0)
        sending[0].cancel()
        assert await sending[1]

    loop.run(scene())
    assert process.calls == [([(A, b"1"), (B, b"1")], ())]
