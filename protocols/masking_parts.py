"""Long contributions in parts: the coordinator asks every holder for the next few, once all have sent the last.

Masked words go into the total as they come, in any order, so the coordinator has the total in memory, and of each
holder no more than the few parts on their way. If a holder is lost in the middle, some of its parts are in the total:
it is set to zero, and the others send theirs again from the first. These are the same words under the same masks: **a
holder masks once**, and keeps what it has masked until it is told who survives. So whoever asks again, and in which
order, learns what he had.

Nothing is unmasked before all parts are in: masks cancel, and shares are given, as for one message. Each part travels
under a seal of its own with its number, and with the binding of the question.

Who learns what: as in `pairwise_masking`; the coordinator sees the same uniform words in several messages.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from ..serialization.pairwise_masking_messages import MaskedInput, MaskedPart, PartWanted, Survivors
from ..serialization.session_messages import Finished
from .channel import TURNS_AHEAD, Channel
from .encoding import ArrayEncoding
from .errors import InvalidMessageError
from .invitation import Opened
from .limbs import Words
from .masking_epoch import check_session
from .party import PartyId
from .running_sum import add_words

PART_BYTES = 2**18  # of words: a contribution of no more is one message
PARTS_AT_ONCE = TURNS_AHEAD  # that a holder sends, one after the other, when it is asked for more


class Stretch(NamedTuple):
    """Consecutive rows of a vector: the flag is vector 0, the arrays follow."""

    vector: int
    start: int
    stop: int


Part: TypeAlias = tuple[Stretch, ...]


def cut(encodings: Sequence[ArrayEncoding]) -> list[Part]:
    """Cut a flag and vectors into parts of PART_BYTES, the same at every party."""
    sizes = [(1, 8)]
    for encoding in encodings:
        rows, *rest = encoding.word_shape
        sizes.append((rows, encoding.word_dtype.itemsize * math.prod(rest)))
    parts: list[Part] = []
    stretches: list[Stretch] = []
    left = PART_BYTES
    for vector, (rows, row_bytes) in enumerate(sizes):
        start = 0
        while start < rows:
            if left < row_bytes and stretches:
                parts.append(tuple(stretches))
                stretches, left = [], PART_BYTES
            stop = min(rows, start + max(1, left // row_bytes))
            stretches.append(Stretch(vector, start, stop))
            left -= (stop - start) * row_bytes
            start = stop
    return [*parts, tuple(stretches)]


def n_requests(n_parts: int) -> int:
    """Return how often the coordinator asks for more of so many parts, if nobody is lost."""
    return -(-n_parts // PARTS_AT_ONCE) - 1


def words_of(vectors: Sequence[Words], part: Part) -> tuple[Words, ...]:
    """Return the rows of a part, where they lie."""
    return tuple(vectors[stretch.vector][stretch.start : stretch.stop] for stretch in part)


async def add_parts(
    channel: Channel,
    opened: Opened,
    totals: Sequence[Words],
    parts: Sequence[Part],
    *,
    senders: Collection[PartyId],
    within: float,
) -> tuple[PartyId, ...]:
    """Add all parts of the holders to a flag and vectors of zeros, at the coordinator; returns whose are in the sum.

    Parameters
    ----------
    channel, opened
        Of the session.
    totals : sequence of ndarray
        Zeros.
    parts : sequence of Part
        As of `cut`.
    senders : collection of PartyId
        Who has an input.
    within : float
        Seconds for what is sent at once.

    Raises
    ------
    DropoutError
        If fewer are left than needed.
    InvalidMessageError
        Naming who sends another part than was asked for.
    """
    there, begin, turn = tuple(senders), 0, 0
    while begin < len(parts):
        if turn:
            channel.broadcast(there, PartWanted(session=opened.session, turn=turn, part=begin))
        asked, added = _asked(parts, begin), set[PartyId]()
        rows = {turn + place: (number, words_of(totals, parts[number])) for place, number in enumerate(asked)}
        came = await channel.fold(
            MaskedPart,
            partial(_take, opened, rows, added),
            senders=there,
            at_least=opened.needed,
            within=within,
            turn=turn,
            n_turns=len(asked),
        )
        turn += len(asked)
        if len(came) == len(there) or (begin == 0 and added.issubset(came)):
            begin += len(asked)
        else:  # something of whoever is missing is in the totals
            begin = 0
            for total in totals:
                total[...] = 0
        there = came
    return there


def _asked(parts: Sequence[Part], begin: int) -> range:
    """Return the numbers of the parts that are sent when the one with number `begin` is asked for."""
    return range(begin, min(begin + PARTS_AT_ONCE, len(parts)))


def _take(
    opened: Opened,
    rows: Mapping[int, tuple[int, tuple[Words, ...]]],
    added: set[PartyId],
    holder: PartyId,
    masked: MaskedPart,
) -> None:
    """Add a holder's part to its rows of the totals, if it is the one of its turn, of the form agreed upon."""
    check_session(opened, holder, masked.session)
    number, totals = rows[masked.turn]
    expected = [(total.dtype, total.shape) for total in totals]
    if masked.binding != opened.binding or masked.part != number:
        raise InvalidMessageError("a part of a masked input that was not asked for", culprits=[holder])
    if [(words.dtype, words.shape) for words in masked.vectors] != expected:
        raise InvalidMessageError("a masked input of another length", culprits=[holder])
    added.add(holder)
    add_words(totals, masked.vectors)


async def send_parts(
    channel: Channel, opened: Opened, masked: MaskedInput, parts: Sequence[Part]
) -> Survivors | Finished:
    """Send what a holder has masked, in parts as they are asked for; returns what it is told when that is over.

    Raises
    ------
    InvalidMessageError
        If the coordinator asks for a part that there is not.
    """
    coordinator, vectors = opened.roster.coordinator, (masked.flag, *masked.vectors)
    begin = turn = 0
    while True:
        for number in _asked(parts, begin):
            part = part_of(masked, turn, number, words_of(vectors, parts[number]))
            channel.send(coordinator, part if len(parts) > 1 else masked)
            turn += 1
        told: dict[PartyId, PartWanted | Survivors | Finished] = await channel.gather(
            (PartWanted, Survivors, Finished), senders=(coordinator,), turn=turn
        )
        answer = told[coordinator]
        if not isinstance(answer, PartWanted):
            return answer
        check_session(opened, coordinator, answer.session)
        if answer.part >= len(parts) or len(parts) == 1:
            raise InvalidMessageError("a part is asked for that there is not", culprits=[coordinator])
        begin = answer.part


def part_of(masked: MaskedInput, turn: int, number: int, words: tuple[Words, ...]) -> MaskedPart:
    """Return a part of a masked input as a message."""
    return MaskedPart(session=masked.session, binding=masked.binding, turn=turn, part=number, vectors=words)


def empty_parts(session: bytes, encodings: Sequence[ArrayEncoding]) -> list[MaskedPart]:
    """Return the parts of zeros, to see how long they are."""
    vectors = [np.zeros(1, dtype=np.uint64)]
    vectors += [np.zeros(encoding.word_shape, encoding.word_dtype) for encoding in encodings]
    empty = MaskedInput(session=session, binding=session, flag=vectors[0], vectors=tuple(vectors[1:]))
    return [
        part_of(empty, number, number, words_of(vectors, part)) for number, part in enumerate(cut(encodings))
    ]
