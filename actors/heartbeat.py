"""Waiting for an answer, however long it takes, as long as the process that owes it gives signs of life.

A computation may take hours, so no time is too long for its answer. But a process that is frozen, or whose machine is
cut off, does not end, and a call of it may never fail. So while somebody waits, the process is asked for a ping every
second: its control group, with a loop of its own, answers that while its parties compute.

Silence is counted in waits of a second and not by the clock: where the machine of who waits is too busy for those, it
is for answers too. A ping that is under way is not given up for a new one, which would be answered no sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Self, TypeVar

import ray
from ray.exceptions import RayError

from .errors import PeerUnreachableError

PULSE_SECONDS = 1.0
SILENT_PULSES = 6  # longer than a library call that holds the interpreter's lock
REMEDY = "it hangs, or its machine is frozen or cut off: look there, and ask again"

R = TypeVar("R")


def wait(waitable: Any, handle: Any, party: str) -> None:
    """Wait until a reference, or the next one of a stream of references, is there, or has failed.

    Parameters
    ----------
    waitable : ObjectRef or ObjectRefGenerator
    handle : actor handle
        Of the process that owes it.
    party : str
        What that is called.

    Raises
    ------
    PeerUnreachableError
        If the process gives no sign of life for six seconds, or seven.
    """
    n_silent, pulse = 0, None
    while not ray.wait([waitable], timeout=PULSE_SECONDS)[0]:
        if pulse is not None:
            if not ray.wait([pulse], timeout=0.0)[0]:
                n_silent = _more(n_silent, party)
                continue
            n_silent = 0 if _is_sign(pulse) else _more(n_silent, party)
        pulse = handle.ping.remote()


async def awaited(answer: Awaitable[R], handle: Any, party: str) -> R:
    """Return an answer, as `wait` does, without blocking the caller's loop.

    Parameters
    ----------
    answer : awaitable
    handle, party
        As of `wait`.

    Raises
    ------
    PeerUnreachableError
        As `wait`.
    """
    owed = asyncio.ensure_future(answer)
    pulse: asyncio.Future[bool] | None = None
    n_silent = 0
    try:
        while not (await asyncio.wait({owed}, timeout=PULSE_SECONDS))[0]:
            if pulse is not None:
                if not pulse.done():
                    n_silent = _more(n_silent, party)
                    continue
                n_silent = 0 if pulse.result() else _more(n_silent, party)
            pulse = asyncio.ensure_future(answers(handle))
        return owed.result()
    finally:
        owed.cancel()
        if pulse is not None:
            pulse.cancel()


class Heard:
    """A stream of references whose next one is waited for as long as its process gives signs of life.

    Parameters
    ----------
    stream : ObjectRefGenerator
    handle, party
        As of `wait`.
    """

    def __init__(self, stream: Any, handle: Any, party: str) -> None:
        self._stream = stream
        self._from = handle, party

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        wait(self._stream, *self._from)
        return next(self._stream)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await awaited(anext(self._stream), *self._from)


async def answers(handle: Any) -> bool:
    """Whether a process answers a ping: it may take for ever."""
    try:
        await handle.ping.remote()
    except RayError:
        return False
    return True


def _is_sign(pulse: Any) -> bool:
    """Whether a ping that is over was answered."""
    try:
        ray.get(pulse)
    except RayError:
        return False
    return True


def _more(n_silent: int, party: str) -> int:
    """Count one more second of silence, if it is still borne."""
    if n_silent + 1 >= SILENT_PULSES:
        raise PeerUnreachableError(party, REMEDY)
    return n_silent + 1
