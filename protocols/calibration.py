"""How long this machine takes for the operations in which a sum's load is counted.

`calibrate` times a little of each in processor time of its thread, so that what other programs take of the machine is
left out. The network is no matter of arithmetic: what a message takes at either end, how long it is on its way, and
how many bytes a second pass a link stay parameters, set by default to what Ray takes on one machine.

Who learns what: nothing leaves this machine, and all data are made up. **The keys made here are known to everybody**:
their randomness is a fixed sequence, so that every calibration searches for the very same primes.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from ..serialization.codec import Frame, decode, encode
from ..serialization.encoding_parameters import FixedPoint
from ..serialization.session_messages import Ready
from . import paillier
from .encoding_plan import plan
from .errors import MisuseError
from .invitation import NO_SIGNATURE, is_signed, signed
from .key_agreement import KEY_BYTES, Identity, SessionKeys
from .paillier_keys import generate_keys
from .paillier_noise import FixedBaseNoise, NoisePool
from .party import COORDINATOR, HOLDER, PartyId, Roster
from .secret import RandomBytes
from .shamir import Sharing, split
from .stream_cipher import add_masks
from .work import Ciphertexts, Load, Work

# Seeds whose search for primes is about as long as the average one, by length of the modulus.
KEY_SEEDS = {2048: 23, 3072: 24}
WINDOW_BITS = 3  # of a noise table that is soon made
N_CIPHERTEXTS = 4
N_WORDS = 2**15
N_ELEMENTS = 2**13
SHARING = Sharing(n_share_holders=10, threshold=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class CiphertextSeconds:
    """Seconds of a processor for operations on Paillier ciphertexts of one length; as in `Ciphertexts`."""

    key: float
    noise_product: float
    encryption: float
    hop: float
    decryption: float

    def of(self, work: Ciphertexts) -> float:
        """Return the seconds of all operations but decryption, which is spread over processors."""
        return (
            self.key * work.keys
            + self.noise_product * work.noise_products
            + self.encryption * work.encryptions
            + self.hop * work.hops
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What operations take on a machine, and messages on a network.

    Attributes
    ----------
    ciphertexts : mapping of int to CiphertextSeconds
        By length of the modulus; other lengths follow by a power law.
    keystream_bytes_per_second : float
        Bytes of masks added.
    word_bytes_per_second : float
        Bytes of words made of numbers and read again.
    seconds_per_field_product, seconds_per_signature, seconds_per_agreement : float
    processors : int
        Of each machine.
    one_machine : bool
        Whether all parties share one machine, as in a simulation, or have one each.
    seconds_per_message : float
        A processor's time for a message, at either end.
    latency : float
        Seconds that a message is on its way.
    bytes_per_second : float
        Bytes that pass a link, sealed, sent, opened and added.
    """

    ciphertexts: Mapping[int, CiphertextSeconds]
    keystream_bytes_per_second: float
    word_bytes_per_second: float
    seconds_per_field_product: float
    seconds_per_signature: float
    seconds_per_agreement: float
    processors: int = 1
    one_machine: bool = True
    seconds_per_message: float = 0.002
    latency: float = 0.0
    bytes_per_second: float = 3e8

    def seconds(self, load: Load, n_holders: int, rounds: int = 0) -> float:
        """Return how long a load takes, with so many messages one after the other."""
        side_by_side = max(1.0, n_holders / self.processors) if self.one_machine else 1.0
        return (
            rounds * self.latency
            + load.bytes_in_turn / self.bytes_per_second
            + side_by_side * self._seconds_of(load.by_each_holder)
            + self._seconds_of(load.in_turn)
        )

    def _seconds_of(self, work: Work) -> float:
        return (
            work.messages * self.seconds_per_message
            + work.signatures * self.seconds_per_signature
            + work.agreements * self.seconds_per_agreement
            + work.keystream_bytes / self.keystream_bytes_per_second
            + work.word_bytes / self.word_bytes_per_second
            + work.field_products * self.seconds_per_field_product
            + (0.0 if work.ciphertexts is None else self._seconds_of_ciphertexts(work.ciphertexts))
        )

    def _seconds_of_ciphertexts(self, work: Ciphertexts) -> float:
        seconds = self._ciphertexts_of(work.key_bits)
        # Each ciphertext is decrypted modulo two primes, by two threads if there are two processors.
        threads = max(1, min(self.processors, 2 * work.decryptions))
        return seconds.of(work) + work.decryptions * seconds.decryption / threads

    def _ciphertexts_of(self, key_bits: int) -> CiphertextSeconds:
        """Return the seconds at any length, by the power law through the shortest and the longest measured."""
        if key_bits in self.ciphertexts:
            return self.ciphertexts[key_bits]
        low, high = min(self.ciphertexts), max(self.ciphertexts)
        place = math.log(key_bits / low) / math.log(high / low)
        return CiphertextSeconds(
            **{
                name: getattr(self.ciphertexts[low], name) ** (1 - place)
                * getattr(self.ciphertexts[high], name) ** place
                for name in CiphertextSeconds.__slots__
            }
        )


def calibrate(
    seconds: float = 2.0,
    *,
    one_machine: bool = True,
    seconds_per_message: float = 0.002,
    latency: float = 0.0,
    bytes_per_second: float = 3e8,
) -> Calibration:
    """Measure this machine.

    Parameters
    ----------
    seconds : float
        About how long that may take; a key and a table of each length take most of a second in any case.
    one_machine, seconds_per_message, latency, bytes_per_second
        As in `Calibration`.
    """
    random_bytes = random.Random("calibration").randbytes  # noqa: S311 - the same work every time
    share = max(0.0, seconds - 1.0) / (4 * len(KEY_SEEDS) + 5)
    return Calibration(
        ciphertexts={bits: _ciphertext_seconds(bits, share) for bits in KEY_SEEDS},
        keystream_bytes_per_second=1 / _keystream_seconds(share, random_bytes),
        word_bytes_per_second=1 / _word_seconds(share),
        seconds_per_field_product=_field_seconds(share, random_bytes),
        seconds_per_signature=_signature_seconds(share, random_bytes),
        seconds_per_agreement=_agreement_seconds(share, random_bytes),
        processors=os.cpu_count() or 1,
        one_machine=one_machine,
        seconds_per_message=seconds_per_message,
        latency=latency,
        bytes_per_second=bytes_per_second,
    )


def _timed(run: Callable[[], object], budget: float, before: Callable[[], object] = lambda: None) -> float:
    """Return the median processor time of a few runs, as many as the budget of seconds holds, each prepared anew."""
    times: list[float] = []
    end = time.perf_counter() + budget
    while not times or time.perf_counter() < end:
        before()
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return median(times)


def _ciphertext_seconds(bits: int, budget: float) -> CiphertextSeconds:
    random_bytes = random.Random(KEY_SEEDS[bits]).randbytes  # noqa: S311 - the same work every time
    start = time.thread_time()
    private = generate_keys(bits, random_bytes)
    key_seconds = time.thread_time() - start
    public = private.public_key
    noise = FixedBaseNoise(public, random_bytes, WINDOW_BITS)
    products = N_CIPHERTEXTS * -(-bits // (2 * WINDOW_BITS))
    plaintexts = list(range(N_CIPHERTEXTS))
    pool = NoisePool(noise, random_bytes)
    total = paillier.encrypt(public, plaintexts, pool)
    written = total.write()

    def hop() -> None:
        received = paillier.Ciphertexts.read(public, written, sender="calibration")
        paillier.add(received, total).write()

    drawn = _timed(lambda: noise.draw(N_CIPHERTEXTS, random_bytes), budget)
    encrypted = _timed(
        lambda: paillier.encrypt(public, plaintexts, pool), budget, lambda: pool.fill(N_CIPHERTEXTS)
    )
    decrypted = _timed(lambda: paillier.decrypt(private, total, threads=1), budget)
    return CiphertextSeconds(
        key=key_seconds,
        noise_product=drawn / products,
        encryption=encrypted / N_CIPHERTEXTS,
        hop=_timed(hop, budget) / N_CIPHERTEXTS,
        decryption=decrypted / N_CIPHERTEXTS,
    )


def _keystream_seconds(budget: float, random_bytes: RandomBytes) -> float:
    words = np.zeros(N_WORDS, dtype=np.uint64)
    keys = [(random_bytes(KEY_BYTES), 1), (random_bytes(KEY_BYTES), -1)]
    return _timed(lambda: add_masks(words, keys), budget) / (len(keys) * words.nbytes)


def _word_seconds(budget: float) -> float:
    """Time a vector of numbers on a grid; there and back take about as long."""
    (encoding,) = plan(FixedPoint(1.0), [("x", np.float64, (N_WORDS,))], 3)
    numbers = np.linspace(-1.0, 1.0, N_WORDS)
    return _timed(lambda: encoding.decode(encoding.encode(numbers)), budget) / (2 * numbers.nbytes)


def _field_seconds(budget: float, random_bytes: RandomBytes) -> float:
    secrets = np.zeros((1, N_ELEMENTS), dtype=np.uint64)
    rows = SHARING.n_share_holders - SHARING.n_seeds
    products = N_ELEMENTS * rows * (SHARING.packing + SHARING.n_seeds)
    return _timed(lambda: split(SHARING, secrets, random_bytes), budget) / products


def _parties(random_bytes: RandomBytes) -> list[SessionKeys]:
    """Return the session keys of a coordinator and a holder."""
    identities = [
        Identity(name, kind, random_bytes) for name, kind in (("k", COORDINATOR), ("holder", HOLDER))
    ]
    roster = Roster(tuple(identity.public for identity in identities))
    session = random_bytes(KEY_BYTES)
    return [SessionKeys(identity, roster, session, random_bytes) for identity in identities]


def _signature_seconds(budget: float, random_bytes: RandomBytes) -> float:
    """Time the reading of a holder's `Ready` and the check of its signature; signing takes no longer."""
    _, holder = _parties(random_bytes)
    ready = Ready(
        session=holder.session,
        holder=holder.me,
        invitation=bytes(KEY_BYTES),
        arrays=(),
        ephemeral=holder.ephemeral,
        signature=NO_SIGNATURE,
    )

    frames: list[Frame] = []

    def sign() -> None:  # anew each time: a signature that was checked once is not checked again
        another = replace(ready, ephemeral=random_bytes(KEY_BYTES))
        frames.append(encode(signed(another, holder.identity)))

    def check() -> None:
        received = decode(frames.pop())
        if not isinstance(received, Ready) or not is_signed(received, holder.roster, holder.me):
            raise MisuseError("what was signed a moment ago is not")

    return _timed(check, budget, sign)


def _agreement_seconds(budget: float, random_bytes: RandomBytes) -> float:
    """Time a key with a peer, from both parties' fresh keys."""
    coordinator, holder = _parties(random_bytes)

    def agree() -> None:
        keys = SessionKeys(holder.identity, holder.roster, holder.session, random_bytes)
        keys.learn(coordinator.me, coordinator.ephemeral)
        keys.direction_key(keys.me, PartyId(coordinator.me), "calibration")

    return _timed(agree, budget)
