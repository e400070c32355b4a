"""Encryption, addition and decryption of vectors, against the loop that phe's documentation shows.

    encrypted = [public_key.encrypt(x) for x in floats]          a + b          private_key.decrypt(c)

Ours is everything between an array of doubles and bytes fit to send, and back: encode, pack, draw noise,
encrypt; decrypt, check, unpack, decode. Both use the same key, the same values, and one thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tacit.protocols import packing, paillier
from tacit.protocols.encoding import ArrayEncoding
from tacit.protocols.encoding_plan import largest_fraction_bits, plan
from tacit.protocols.paillier import Ciphertexts
from tacit.protocols.paillier_keys import PrivateKey, PublicKey, generate_keys
from tacit.protocols.paillier_noise import FixedBaseNoise, Noise, NoisePool, StrictNoise, best_window
from tacit.serialization.encoding_parameters import ExactFloat, FixedPoint

from . import memory
from .measure import Figure, Section, Task, Timing, compare, take_turns

HOLDERS = ("site-1", "site-2", "site-3")
SESSION = bytes(32)
BOUND = 1000.0
N_VALUES = 10_000
N_EXACT_VALUES = 20
N_STRICT_PLAINTEXTS = 6
PASSES = 16  # a noise table is sized for so many
N_ENCRYPTIONS, N_OPERANDS = 6, 24  # of phe in each turn: 276 additions of two operands
N_ADDITIONS = 4  # of our whole vectors in each turn, so that a turn takes as long as phe's
FRACTION_BITS = largest_fraction_bits(BOUND, len(HOLDERS)) or 0
KEY_BITS = (2048, 3072)
TARGETS = {  # times faster than phe
    2048: {"encryption": 300, "addition": 100, "decryption": 20},
    3072: {"encryption": 500, "addition": 100, "decryption": 35},
}

Vector = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass
class Ours:
    """The steps of a holder and of the coordinator on one array of floats."""

    private_key: PrivateKey
    values: Vector
    encoding: FixedPoint | ExactFloat
    noise: Noise | None = None

    @property
    def public_key(self) -> PublicKey:
        """The coordinator's public key."""
        return self.private_key.public_key

    @cached_property
    def pool(self) -> NoisePool:
        """Where a holder keeps its noise; empty unless filled."""
        return NoisePool(self.noise or StrictNoise(self.public_key), os.urandom)

    @cached_property
    def expected(self) -> list[int]:
        """What the check slots of a total must hold."""
        return packing.expected_tags(SESSION, HOLDERS, self.packing.n_plaintexts)

    @cached_property
    def array(self) -> ArrayEncoding:
        """How the array becomes integers."""
        (array,) = plan(self.encoding, [("x", np.float64, self.values.shape)], len(HOLDERS))
        return array

    @cached_property
    def packing(self) -> packing.Packing:
        """How the integers lie in plaintexts."""
        return packing.packing_for([self.array], len(HOLDERS), self.public_key.bits - 1)

    def plaintexts(self, holder: str) -> list[int]:
        """Encode and pack."""
        tags = packing.tags(SESSION, holder, self.packing.n_plaintexts)
        return self.packing.pack([self.array.encode(self.values)], tags)

    def encrypt(self, holder: str = HOLDERS[0]) -> Bytes:
        """Encode, pack and encrypt: from doubles to bytes."""
        return paillier.encrypt(self.public_key, self.plaintexts(holder), self.pool).write()

    def hop(self, received: Bytes, holder: str) -> Bytes:
        """Read what arrived and add a holder's fresh encryption: from bytes to bytes."""
        own = paillier.encrypt(self.public_key, self.plaintexts(holder), self.pool)
        return paillier.add(self.read(received), own).write()

    def decrypt(self, received: Bytes) -> NDArray[Any]:
        """Read, decrypt, check, unpack and decode: from bytes to doubles; one thread."""
        plaintexts = paillier.decrypt(self.private_key, self.read(received), threads=1)
        (limbs,) = self.packing.unpack(plaintexts, self.expected)
        return self.array.decode(limbs)

    def total(self) -> Bytes:
        """Pass the contributions round the ring."""
        first, *others = HOLDERS
        total = self.encrypt(first)
        for other in others:
            total = self.hop(total, other)
        return total

    def read(self, received: Bytes) -> Ciphertexts:
        """Read and check ciphertexts."""
        return Ciphertexts.read(self.public_key, received, sender=HOLDERS[0])

    def fill(self) -> None:
        """Draw the noise of one encryption ahead of time."""
        self.pool.fill(self.packing.n_plaintexts)


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure at every key length."""
    for bits in KEY_BITS:
        yield _section(bits, turns=3 if quick else 9, say=say)


def _section(bits: int, turns: int, say: Callable[[str], None]) -> Section:
    say(f"arithmetic at {bits} bits: a key, and a table of noise")
    private_key = generate_keys(bits, os.urandom)
    values = np.random.default_rng(bits).uniform(-BOUND, BOUND, N_VALUES)
    encoding = FixedPoint(BOUND, FRACTION_BITS)
    window = best_window(PASSES * Ours(private_key, values, encoding).packing.n_plaintexts, bits)
    table = FixedBaseNoise(private_key.public_key, os.urandom, window)
    ours = Ours(private_key, values, encoding, table)
    strict = Ours(
        private_key,
        values[: N_STRICT_PLAINTEXTS * ours.packing.groups[0].per_plaintext],
        encoding,
        StrictNoise(private_key.public_key),
    )
    say(f"arithmetic at {bits} bits: {turns} turns against phe")
    timings = take_turns(_tasks(ours, strict), turns)
    _check(ours)
    figures = [*_figures(bits, timings), *_table_figures(private_key.public_key, window)]
    if bits == max(KEY_BITS):
        figures.append(_exact_figure(private_key, table, turns))
    remarks = (
        f"{N_VALUES:,} doubles of up to ±{BOUND:g} on a grid of 2^-{FRACTION_BITS} (slots of 64 bits, "
        f"{ours.packing.groups[0].per_plaintext} a plaintext), {len(HOLDERS)} holders, one thread for both",
        f"bytes an element: {ours.packing.n_plaintexts * ours.public_key.ciphertext_bytes / N_VALUES:.1f} "
        f"against {ours.public_key.ciphertext_bytes} (phe's ciphertext without its exponent)",
        "phe adds faster if all values have one exponent, by encrypt(x, precision=…); plain floats differ",
    )
    return Section(f"Arithmetic, {bits} bits, per element", "phe", tuple(figures), remarks)


def _table_figures(public_key: PublicKey, window: int) -> list[Figure]:
    """Build a noise table in a process of its own, and tell what it costs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        seconds, megabytes = executor.submit(_build_table, public_key, window).result()
    note = f"once a key and holder; windows of {window} bits"
    return [
        Figure("noise table, time to build", "s", seconds, note=note),
        Figure("noise table, memory", "MB", megabytes, note=note),
    ]


def _build_table(public_key: PublicKey, window: int) -> tuple[float, float]:
    """Return the seconds and resident megabytes of one table."""
    before, start = memory.resident(), time.perf_counter()
    table = FixedBaseNoise(public_key, os.urandom, window)
    seconds, megabytes = time.perf_counter() - start, memory.resident() - before
    del table
    return seconds, megabytes


def _tasks(ours: Ours, strict: Ours) -> dict[str, Task]:
    """Everything that takes turns; what phe handles is fewer values, since each takes so much longer."""
    phe_key, phe_private = ours.public_key.phe, ours.private_key.phe
    received, total = ours.encrypt(), ours.total()
    first, second = ours.read(received), ours.read(ours.encrypt(HOLDERS[1]))
    floats: list[float] = ours.values[:N_OPERANDS].tolist()
    operands = [phe_key.encrypt(x) for x in floats]
    aligned = [phe_key.encrypt(x, precision=2.0**-FRACTION_BITS) for x in floats]
    pairs, aligned_pairs = list(combinations(operands, 2)), list(combinations(aligned, 2))
    some, few = floats[:N_ENCRYPTIONS], operands[:N_ENCRYPTIONS]
    return {
        "encrypt": Task(ours.encrypt, N_VALUES),
        "phe encrypt": Task(lambda: [phe_key.encrypt(x) for x in some], len(some)),
        "encrypt online": Task(ours.encrypt, N_VALUES, ours.fill),
        "encrypt strict": Task(strict.encrypt, len(strict.values)),
        "add": Task(
            lambda: [paillier.add(first, second) for _ in range(N_ADDITIONS)], N_ADDITIONS * N_VALUES
        ),
        "phe add": Task(lambda: [a + b for a, b in pairs], len(pairs)),
        "phe add aligned": Task(lambda: [a + b for a, b in aligned_pairs], len(aligned_pairs)),
        "hop online": Task(lambda: ours.hop(received, HOLDERS[1]), N_VALUES, ours.fill),
        "decrypt": Task(partial(ours.decrypt, total), N_VALUES),
        "phe decrypt": Task(lambda: [phe_private.decrypt(c) for c in few], len(few)),
    }


def _figures(bits: int, timings: dict[str, Timing]) -> list[Figure]:
    target = TARGETS[bits]
    rival = timings["phe encrypt"]
    return [
        compare(
            "encryption",
            "µs",
            timings["encrypt"],
            rival,
            target=target["encryption"],
            note="doubles to bytes, noise from the table",
        ),
        compare(
            "encryption, online", "µs", timings["encrypt online"], rival, note="noise from a filled pool"
        ),
        compare(
            "encryption, strict noise", "µs", timings["encrypt strict"], rival, note="r^n, as phe draws it"
        ),
        compare(
            "addition",
            "µs",
            timings["add"],
            timings["phe add"],
            target=target["addition"],
            note="plain floats; vectors in memory for both",
        ),
        compare(
            "addition, one exponent",
            "µs",
            timings["add"],
            timings["phe add aligned"],
            note="phe at its best",
        ),
        compare(
            "ring hop, online",
            "µs",
            timings["hop online"],
            note="bytes to bytes: read, check, encode, pack, encrypt, add",
        ),
        compare(
            "decryption",
            "µs",
            timings["decrypt"],
            timings["phe decrypt"],
            target=target["decryption"],
            note="bytes to doubles",
        ),
    ]


def _exact_figure(private_key: PrivateKey, table: Noise, turns: int) -> Figure:
    """Time the default encoding, exact for any doubles: one plaintext a value."""
    values = np.random.default_rng(0).standard_normal(N_EXACT_VALUES)
    ours = Ours(private_key, values, ExactFloat(), table)
    some: list[float] = values[:N_ENCRYPTIONS].tolist()
    public_key = private_key.public_key.phe
    tasks = {
        "ours": Task(ours.encrypt, N_EXACT_VALUES),
        "phe": Task(lambda: [public_key.encrypt(x) for x in some], len(some)),
    }
    timings = take_turns(tasks, turns)
    return compare(
        "encryption, ExactFloat", "µs", timings["ours"], timings["phe"], note="exact sums of any doubles"
    )


def _check(ours: Ours) -> None:
    """Make sure that what was timed is right: three times the values, each off by half a unit at most."""
    error = float(np.abs(ours.decrypt(ours.total()) - len(HOLDERS) * ours.values).max())
    if not error <= len(HOLDERS) * 2.0**-FRACTION_BITS:
        raise SystemExit(f"the benchmark decrypted a wrong sum, off by {error}")
