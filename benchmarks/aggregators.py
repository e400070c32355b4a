"""The vector work of additive sharing, per element, beside AES-256-CTR over as many bytes, and a copy.

A holder subtracts one mask for each aggregator but one and sends what is left. An aggregator adds the vectors that it
receives and one mask for each of the other holders. The inputs come from a sum rehearsed in the simulator; counted is
processor time of the process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import tacit
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.additive_steps import deal, sum_shares
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.party import PartyId
from tacit.protocols.running_sum import total_of
from tacit.protocols.stream_cipher import CHUNK_BYTES
from tacit.serialization.additive_sharing_messages import FullShare

from .measure import Figure, Section, compare, timing
from .rehearsal import Rehearsal

N_HOLDERS = 10
VALUES = 2**22
ENCODINGS = {32: tacit.FixedPoint(float(VALUES), 0), 64: tacit.FixedPoint(float(VALUES), 30)}

Run = Callable[[], object]


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure two aggregators, in words of 32 and 64 bits."""
    turns, length = (3, 100_000) if quick else (15, 1_000_000)
    say(f"aggregators: {turns} turns of {N_HOLDERS} holders with {length:,} values")
    figures = [figure for bits in ENCODINGS for figure in _figures(bits, length, turns)]
    remarks = (
        f"{N_HOLDERS} holders, {length:,} elements, two aggregators; a figure is for one element of the vector",
        f"an aggregator adds {N_HOLDERS // 2} vectors and {N_HOLDERS // 2} masks; AES-256-CTR: one pass of the vector",
    )
    yield Section("Additive sharing, per element, processor time", "AES-CTR", tuple(figures), remarks)


class Sharing:
    """One rehearsed sum, whose steps are run again with fresh keys.

    Parameters
    ----------
    bits : {32, 64}
        Of a word.
    length : int
    """

    def __init__(self, bits: int, length: int) -> None:
        rows = np.random.default_rng(0).integers(0, VALUES, size=(N_HOLDERS, length)).astype(np.float64)
        names = [f"site-{place}" for place in range(N_HOLDERS)]
        vectors = dict(zip(names, rows, strict=True))
        self._rehearsal = Rehearsal(AdditiveSharing(), vectors, ENCODINGS[bits])
        if (self._rehearsal.total != rows.sum(axis=0)).any():
            raise SystemExit("the benchmark's sum is wrong")
        self._opened = self._rehearsal.opened
        self._holder, self._aggregator = self._opened.present[0], self._opened.roster.aggregators[0]
        (array,) = self._opened.encodings
        self._words = array.encode(rows[0])
        sent = [sent for sent in self._rehearsal.run.sent if isinstance(sent.message, FullShare)]
        self._shares = {s.sender: s.message for s in sent if s.recipient == self._aggregator}
        self.vector = np.zeros(length, array.word_dtype)
        self.other = np.ones_like(self.vector)

    def deal(self, keys: SessionKeys) -> object:
        """Split one holder's integers, which are noise from then on."""
        return deal(self._opened, keys, (self._words,), random_bytes=os.urandom)

    def aggregate(self, keys: SessionKeys) -> object:
        """Add one aggregator's shares."""
        shares = {holder: share for holder, share in self._shares.items() if isinstance(share, FullShare)}
        derived = [holder for holder in self._opened.present if holder not in shares]
        totals = total_of(self._opened.encodings, shares.values())
        return sum_shares(self._opened, keys, totals, derived, ())

    def cipher(self) -> None:
        """Encipher as many zeros, into one chunk that is overwritten."""
        size = min(CHUNK_BYTES, self.vector.nbytes)
        zeros, scratch = memoryview(bytes(size)), bytearray(size)
        encryptor = Cipher(AES256(os.urandom(32)), CTR(bytes(16))).encryptor()
        for start in range(0, self.vector.nbytes, size):
            encryptor.update_into(zeros[: self.vector.nbytes - start], scratch)

    def copy(self) -> None:
        """Copy a vector."""
        np.copyto(self.vector, self.other)

    def runs(self) -> dict[str, Run]:
        """What is timed, in this order; keys are fresh, since each is good for one session."""
        return {
            "holder": partial(self.deal, self._fresh(self._holder)),
            "aggregator": partial(self.aggregate, self._fresh(self._aggregator)),
            "cipher": self.cipher,
            "copy": self.copy,
        }

    def _fresh(self, party: PartyId) -> SessionKeys:
        """Return keys of a party that has agreed with all others."""
        keys = self._rehearsal.keys
        fresh = SessionKeys(keys[party].identity, self._opened.roster, os.urandom(32), os.urandom)
        for peer in keys:
            if peer != party:
                fresh.learn(peer, keys[peer].ephemeral)
                fresh.direction_key(party, peer, "rehearsal")
        return fresh


def _figures(bits: int, length: int, turns: int) -> list[Figure]:
    sharing = Sharing(bits, length)
    seconds: dict[str, list[float]] = {}
    for _ in range(turns):
        for name, run in sharing.runs().items():
            start = time.process_time()
            run()
            seconds.setdefault(name, []).append((time.process_time() - start) / length)
    timings = {name: timing(taken, length) for name, taken in seconds.items()}
    return [
        compare(f"a holder, {bits}-bit words", "ns", timings["holder"], timings["cipher"]),
        compare(f"an aggregator, {bits}-bit words", "ns", timings["aggregator"], timings["cipher"]),
        compare(f"copying alone, {bits}-bit words", "ns", timings["copy"]),
    ]
