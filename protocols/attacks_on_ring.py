"""Attacks on ring-Paillier: by whoever has its key, by neighbours in the ring, and by faults on the way.

What an adversary reads here are plaintexts: a partial sum less the one before it is one holder's packed input, under
its masks if it has some.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from ..serialization.codec import Frame, decode
from ..serialization.errors import DecodeError
from ..serialization.link_messages import Sealed
from ..serialization.ring_paillier_messages import PartialSum, RingParameters
from ..serialization.schema import Message
from . import paillier
from .adversary import Adversary, Loot, Values, adversary
from .attacks_on_sessions import accepted_total, replay_to
from .cohort import Cohort
from .errors import InvalidMessageError, RangeError, VoidedError
from .invitation import Opened
from .meeting import Meeting
from .packing import expected_tags
from .paillier_keys import PrivateKey, generate_keys
from .party import PartyId
from .ring_paillier import RingMemory, RingPaillier
from .ring_steps import MASK_PURPOSE, RingSetup, join_residues, pair_masks, partial_sum, read_partial_sum
from .session import Done
from .simulation import Sent

SMALL_PRIME = 65_519  # the largest below 2^16 that is 3 modulo 4
UNIFORM = "masks in the ring: what the key opens is uniform"


# What an adversary knows and computes


class HoardedKeys(dict[int, PrivateKey]):
    """The private keys of a coordinator that forgets none."""

    def pop(self, n: int, *default: object) -> PrivateKey:
        """Return a key, and keep it."""
        return self[n]


def hoard(cohort: Cohort) -> HoardedKeys:
    """Let the coordinator keep its keys."""
    keys = HoardedKeys()
    cast(RingMemory, cohort.memories[cohort.coordinator]).keys = keys
    return keys


def setup_of(meeting: Meeting) -> RingSetup:
    """Return what all parties of the ring have derived."""
    return cast(RingPaillier, meeting.protocol).setup(meeting.opened())


def partial_sums(meeting: Meeting) -> dict[int, PartialSum]:
    """Return what corrupt parties have seen of the ring, by hop."""
    return {partial.hop: partial for _, _, partial in meeting.seen(PartialSum)}


def added(
    setup: RingSetup, keys: Mapping[int, PrivateKey], before: PartialSum, after: PartialSum
) -> list[int]:
    """Decrypt what one partial sum has more than another: plaintexts."""
    parts = (read_partial_sum(setup, partial, setup.coordinator, partial.hop) for partial in (before, after))
    residues = [
        paillier.decrypt(keys[key.n], paillier.subtract(more, less))
        for key, less, more in zip(setup.public_keys, *parts, strict=True)
    ]
    return join_residues(residues, [key.n for key in setup.public_keys])


def read_inputs(setup: RingSetup, plaintexts: Sequence[int], of: Collection[PartyId]) -> Values | None:
    """Unpack the sum of some holders' inputs, as if all others had put zeros in; None if it is no such sum."""
    zeros = [
        np.zeros((encoding.size, encoding.limbs), dtype=np.uint64) for encoding in setup.packing.encodings
    ]
    rows = [setup.packing.pack(zeros, setup.tags(holder)) for holder in setup.order if holder not in of]
    totals = [sum(column) % setup.modulus for column in zip(plaintexts, *rows, strict=True)]
    expected = expected_tags(setup.session, setup.order, setup.n_plaintexts)
    try:
        words = setup.packing.unpack(totals, expected)
        return np.asarray(setup.packing.encodings[0].decode(words[0]), dtype=np.int64)
    except (InvalidMessageError, VoidedError, RangeError):
        return None


def without_masks(
    meeting: Meeting, setup: RingSetup, plaintexts: Sequence[int], holder: PartyId, peers: Collection[PartyId]
) -> list[int]:
    """Take those masks off a holder's plaintexts that it shares with corrupt peers."""
    bare = list(plaintexts)
    for peer in peers if setup.masks else ():
        keys = meeting.keys_of(peer)
        keys._taken.clear()  # its own keys: nobody keeps it from using one twice
        key = keys.take_pair_key(holder, MASK_PURPOSE, setup.binding)
        masks = pair_masks(key, -(-setup.modulus.bit_length() // 8), len(bare), setup.modulus)
        sign = 1 if holder < peer else -1
        bare = [(value - sign * mask) % setup.modulus for value, mask in zip(bare, masks, strict=True)]
    return bare


# By the owner of the key


@adversary("the coordinator decrypts a captured frame", "the coordinator and the network")
def captured_frame(cohort: Cohort) -> Loot:
    """Capture what the first holder of the ring passes on, and open it with the key."""
    meeting, keys = Meeting(cohort, corrupt=[cohort.coordinator]), hoard(cohort)
    captured: list[Frame] = []

    def intercept(sender: PartyId, recipient: PartyId, frame: Frame) -> Frame:
        if cohort.coordinator not in (sender, recipient):
            captured.append(frame)
        return frame

    meeting.intercepts = intercept
    run = meeting.run()
    setup = setup_of(meeting)
    for partial in _read(captured):
        if partial.hop == 1:
            plaintexts = added(setup, keys, partial_sums(meeting)[0], partial)
            value = read_inputs(setup, plaintexts, setup.order[:1])
            return Loot(value, (run,), setup.order[0], hidden_by=UNIFORM, sees="uniform plaintexts")
    sealed = "links: what passes between two holders is sealed from the coordinator"
    return Loot(None, (run,), setup.order[0], hidden_by=sealed, sees="ciphertext of the links")


def _read(captured: Sequence[Frame]) -> Iterator[PartialSum]:
    """Iterate over partial sums among captured frames, be they sealed or not."""
    for frame in captured:
        message = decode(frame)
        if isinstance(message, Sealed):
            try:
                message = decode(Frame(message.body, message.buffers))
            except DecodeError:
                continue
        if isinstance(message, PartialSum):
            yield message


@adversary(
    "two neighbours and the coordinator subtract partial sums",
    "the coordinator and a holder's two neighbours",
)
def neighbours(cohort: Cohort) -> Loot:
    """Open what goes into a holder and what comes out of it; among three holders the first, who has one neighbour."""
    meeting, keys = Meeting(cohort, corrupt=[cohort.coordinator]), hoard(cohort)
    run = meeting.run()
    setup = setup_of(meeting)
    place = 1 if len(setup.order) > 3 else 0
    peers = {*setup.order[max(0, place - 1) : place], setup.order[place + 1]}
    meeting.corrupt |= peers
    seen = partial_sums(meeting)
    plaintexts = added(setup, keys, seen[place], seen[place + 1])
    bare = without_masks(meeting, setup, plaintexts, setup.order[place], peers)
    value = read_inputs(setup, bare, [setup.order[place]])
    return Loot(value, (run,), setup.order[place], hidden_by=UNIFORM, sees="uniform plaintexts")


@adversary("a session is replayed after a restart", "the coordinator and the second holder of the ring")
def replay(cohort: Cohort) -> Loot:
    """Have the first holder of the ring answer a second time in one session, when its input has changed."""
    first, keys = Meeting(cohort, sealed=False), hoard(cohort)
    first.run()
    setup = setup_of(first)
    victim, successor = setup.order[:2]
    again, run = replay_to(cohort, victim, first)
    first.corrupt |= {successor}
    again.corrupt |= {successor}
    passed_on = [partial_sums(meeting).get(1) for meeting in (first, again)]
    if passed_on[0] is None or passed_on[1] is None:
        return Loot(None, (run,), victim, prize="change")
    plaintexts = added(setup, keys, passed_on[0], passed_on[1])
    return Loot(read_inputs(setup, plaintexts, ()), (run,), victim, prize="change", hidden_by=UNIFORM)


# By others


@adversary("a weak or malformed key", "two neighbours in the ring, without the coordinator")
def weak_key(cohort: Cohort) -> Loot:
    """Factor a modulus that was made carelessly, and open what goes into a holder and what comes out of it."""
    bits = cast(RingPaillier, cohort.protocol).key_bits - SMALL_PRIME.bit_length()
    careless = PrivateKey(SMALL_PRIME, int(generate_keys(2 * bits, cohort.random_bytes).phe.p))
    cast(RingMemory, cohort.memories[cohort.coordinator]).keys[careless.public_key.n] = careless
    meeting = Meeting(cohort, corrupt=[])
    run = meeting.run()
    keys = _factored(meeting.opened())
    if not isinstance(run.outcomes[cohort.coordinator], Done) or not keys:
        return Loot(None, (run,), cohort.victim, hidden_by="the length of the key's factors")
    setup = setup_of(meeting)
    peers = {setup.order[0], setup.order[2]}
    meeting.corrupt |= peers
    seen = partial_sums(meeting)
    bare = without_masks(meeting, setup, added(setup, keys, seen[1], seen[2]), setup.order[1], peers)
    return Loot(read_inputs(setup, bare, [setup.order[1]]), (run,), setup.order[1], hidden_by=UNIFORM)


def _factored(opened: Opened) -> dict[int, PrivateKey]:
    """Return the private keys of all moduli that have a small factor."""
    moduli = cast(RingParameters, opened.parameters).moduli
    factors = {n: next((p for p in range(3, 2**16, 2) if n % p == 0), None) for n in moduli}
    return {n: PrivateKey(p, n // p) for n, p in factors.items() if p is not None}


@adversary("a contribution counts twice, another is missing", "two faulty holders")
def doubled(cohort: Cohort) -> Loot:
    """Add, at the third holder of the ring, the second one's input once more instead of its own."""
    meeting = Meeting(cohort, corrupt=[])

    def double(sent: Sent) -> Message:
        if not isinstance(sent.message, PartialSum) or sent.message.hop != 3:
            return sent.message
        setup = setup_of(meeting)
        meeting.corrupt = {setup.order[0], setup.order[2]}
        seen = partial_sums(meeting)
        before, after = (read_partial_sum(setup, seen[hop], setup.coordinator, hop) for hop in (1, 2))
        once_more = map(paillier.subtract, after, before)
        return partial_sum(setup, 3, list(map(paillier.add, after, once_more)))

    meeting.bends = double
    run = meeting.run()
    return Loot(accepted_total(run, cohort.coordinator), (run,), prize="total")


@adversary("a frame of another session, hop or question is slipped in", "the network")
def stale_frame(cohort: Cohort) -> Loot:
    """Deliver between two holders what two, the same ones if they were, sent each other in an earlier session."""
    earlier, meeting = Meeting(cohort, corrupt=[], factor=3), Meeting(cohort, corrupt=[])
    captured: dict[tuple[PartyId, PartyId], Frame] = {}
    slipped_in: list[Frame] = []

    def keep(sender: PartyId, recipient: PartyId, frame: Frame) -> Frame:
        if cohort.coordinator not in (sender, recipient):
            captured[sender, recipient] = frame
        return frame

    def slip_in(sender: PartyId, recipient: PartyId, frame: Frame) -> Frame:
        if cohort.coordinator in (sender, recipient) or slipped_in:
            return frame
        slipped_in.append(captured.get((sender, recipient), next(iter(captured.values()))))
        return slipped_in[0]

    earlier.intercepts, meeting.intercepts = keep, slip_in
    runs = (earlier.run(), meeting.run())
    total = accepted_total(runs[1], cohort.coordinator)
    return Loot(total, runs, prize="total", hidden_by="; ".join(meeting.refused))


ATTACKS: tuple[Adversary, ...] = (captured_frame, neighbours, replay, weak_key, doubled, stale_frame)
