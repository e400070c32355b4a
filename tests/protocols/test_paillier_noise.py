from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache, partial

import gmpy2
import pytest
from gmpy2 import mpz
from tacit.protocols import paillier_noise
from tacit.protocols.errors import MisuseError, SetupError
from tacit.protocols.paillier_keys import PrivateKey, PublicKey, generate_keys
from tacit.protocols.paillier_noise import FixedBaseNoise, Noise, NoisePool, StrictNoise, best_window


@cache
def key(bits: int = 128, seed: int = 0) -> PrivateKey:
    return generate_keys(bits, random.Random(seed).randbytes)


def is_nth_power(private_key: PrivateKey, entry: mpz) -> bool:
    """Noise decrypts to 0, which is to say that it is an n-th power."""
    return bool(private_key.phe.raw_decrypt(int(entry)) == 0)


def fixed_base_noise(public_key: PublicKey, window_bits: int) -> FixedBaseNoise:
    return FixedBaseNoise(public_key, random.Random(9).randbytes, window_bits)


KINDS: dict[str, Callable[[PublicKey], Noise]] = {
    "strict": StrictNoise,
    "strict, threads": lambda public_key: StrictNoise(public_key, threads=3),
    **{f"window {w}": partial(fixed_base_noise, window_bits=w) for w in (0, 1, 2, 3, 5, 8)},
}


# Drawing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [64, 126, 128, 256])
def test_noise_is_made_of_different_nth_powers_in_range(kind: str, bits: int) -> None:
    private_key = key(bits)
    entries = KINDS[kind](private_key.public_key).draw(20, random.Random(1).randbytes)
    assert len(set(entries)) == 20
    for entry in entries:
        assert is_nth_power(private_key, entry)
        assert 1 < entry < private_key.public_key.modulus_squared


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_nothing(kind: str) -> None:
    assert KINDS[kind](key().public_key).draw(0, random.Random(1).randbytes) == []


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_function_of_its_randomness(kind: str) -> None:
    noise = KINDS[kind](key().public_key)
    first, again, other = (noise.draw(3, random.Random(seed).randbytes) for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


class KnownExponents(FixedBaseNoise):
    """Draws the powers of given exponents instead of random ones."""

    exponents: tuple[int, ...]

    def _random_digits(self, count: int, random_bytes: object) -> list[list[int]]:
        w = self._window_bits
        return [[e >> w * i & 2**w - 1 for i in range(len(self._tables))] for e in self.exponents]


@pytest.mark.parametrize("window_bits", range(1, 11))
@pytest.mark.parametrize("bits", [64, 126, 128])
def test_tables_hold_the_powers_of_the_base(bits: int, window_bits: int) -> None:
    public_key = key(bits).public_key
    noise = KnownExponents(public_key, random.Random(9).randbytes, window_bits)
    noise.exponents = (0, 1, 2**window_bits - 1, 2**window_bits, 2 ** (bits // 2) - 1, 0x5A5A5A5A)
    assert noise.draw(6, random.Random(0).randbytes) == [
        gmpy2.powmod(noise._base, exponent, public_key.modulus_squared) for exponent in noise.exponents
    ]


@pytest.mark.parametrize("window_bits", [1, 3, 8, 10])
def test_every_bit_of_an_exponent_is_random(window_bits: int) -> None:
    noise = FixedBaseNoise(key(126).public_key, random.Random(9).randbytes, window_bits)
    drawn = list(noise._random_digits(200, random.Random(0).randbytes))
    exponents = [sum(digit << window_bits * i for i, digit in enumerate(digits)) for digits in drawn]
    assert max(exponents) < 2**63
    for bit in range(63):
        assert 60 < sum(exponent >> bit & 1 for exponent in exponents) < 140


def test_base_is_the_nth_power_of_minus_a_square() -> None:
    private_key = key()
    public_key, p, q = private_key.public_key, private_key.phe.p, private_key.phe.q
    base = FixedBaseNoise(public_key, random.Random(9).randbytes, 0)._base
    # Modulo a Blum prime −1 is no square, so neither is −x²; n is odd, so its n-th power is none either.
    assert gmpy2.legendre(base, p) == gmpy2.legendre(base, q) == -1
    assert is_nth_power(private_key, base)


def test_two_parties_draw_from_different_bases() -> None:
    first, second = (FixedBaseNoise(key().public_key, random.Random(s).randbytes, 0) for s in (1, 2))
    assert first._base != second._base


def test_a_modulus_that_cannot_be_blum_is_refused_but_strict_noise_serves_it() -> None:
    p, q = int(gmpy2.next_prime(2**40)), int(gmpy2.next_prime(2**41))
    while p % 4 != 1:
        p = int(gmpy2.next_prime(p))
    while q % 4 != 3:
        q = int(gmpy2.next_prime(q))
    private_key = PrivateKey(p, q)
    with pytest.raises(SetupError, match="Blum"):
        FixedBaseNoise(private_key.public_key, random.Random(0).randbytes, 2)
    (entry,) = StrictNoise(private_key.public_key).draw(1, random.Random(0).randbytes)
    assert is_nth_power(private_key, entry)


@pytest.mark.parametrize("window_bits", [-1, 11, 64])
def test_impossible_windows_are_refused(window_bits: int) -> None:
    with pytest.raises(SetupError, match="window"):
        FixedBaseNoise(key().public_key, random.Random(0).randbytes, window_bits)


@pytest.mark.parametrize("bits", [128, 2048, 3072])
def test_windows_grow_with_the_number_of_encryptions(bits: int) -> None:
    windows = [best_window(count, bits) for count in (0, 1, 10, 100, 1000, 10**5, 10**9)]
    assert windows == sorted(windows)
    assert windows[:2] == [0, 0]
    assert windows[-1] == 8


def test_tables_are_never_pickled_copied_or_shown() -> None:
    noise = FixedBaseNoise(key().public_key, random.Random(9).randbytes, 2)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(MisuseError, match="never sent"):
            attempt(noise)
    assert str(noise._base) not in repr(noise)
    assert repr(noise).endswith("window_bits=2, redacted)")


# The pool


class Counter(Noise):
    """Draws 1, 2, 3, …, so that tests can tell entries apart."""

    def __init__(self) -> None:
        self.public_key = key().public_key
        self.drawn = 0
        self._lock = threading.Lock()

    def draw(self, count: int, random_bytes: object) -> list[mpz]:
        with self._lock:
            self.drawn += count
            return [mpz(self.drawn - count + 1 + i) for i in range(count)]


def counting_pool() -> tuple[NoisePool, Counter]:
    noise = Counter()
    return NoisePool(noise, random.Random(0).randbytes), noise


def test_a_pool_gives_every_entry_out_once() -> None:
    pool, noise = counting_pool()
    pool.fill(5)
    taken = [*pool.take(2), *pool.take(0), *pool.take(3)]
    assert taken == [1, 2, 3, 4, 5]
    assert len(pool) == 0
    assert noise.drawn == 5
    assert not set(pool.take(2)) & set(taken)


def test_what_is_missing_is_drawn_on_the_spot() -> None:
    pool, noise = counting_pool()
    pool.fill(2)
    assert pool.take(5) == [1, 2, 3, 4, 5]
    assert noise.drawn == 5


@pytest.mark.parametrize("count", [0, 1, 16, 17, 100])
def test_filling_tops_up(count: int) -> None:
    pool, noise = counting_pool()
    pool.fill(count)
    pool.fill(count)
    pool.fill(count - 1)
    assert len(pool) == count
    assert noise.drawn == count


def test_threads_never_share_an_entry() -> None:
    pool, _ = counting_pool()
    taken: list[mpz] = []

    def use() -> None:
        for i in range(100):
            pool.fill(7)
            taken.extend(pool.take(i % 5))  # extending a list is atomic

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert len(taken) == len(set(taken)) == 4 * 200


def test_taking_waits_for_the_lock() -> None:
    pool, _ = counting_pool()
    pool.fill(1)
    thread = threading.Thread(target=pool.take, args=(1,))
    with pool._lock:
        thread.start()
        thread.join(0.02)
        assert len(pool) == 1
    thread.join()
    assert len(pool) == 0


def in_a_forked_child(check: Callable[[], bool]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other libraries' threads: the child only checks
        child = os.fork()
    if not child:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_starts_empty_and_the_parent_keeps_its_entries() -> None:
    pool, noise = counting_pool()
    pool.fill(3)
    assert in_a_forked_child(lambda: len(pool) == 0 and pool.take(1) == [4] and noise.drawn == 4)
    assert pool.take(3) == [1, 2, 3]


def test_a_child_whose_process_number_tells_nothing_starts_empty_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # numbers are reused, and differ between containers
    pool, _ = counting_pool()
    pool.fill(3)
    assert in_a_forked_child(lambda: pool.take(1) == [4])


def test_a_lock_held_by_a_lost_thread_does_not_block_the_child() -> None:
    pool, _ = counting_pool()
    pool.fill(3)
    with pool._lock:
        assert in_a_forked_child(lambda: pool.take(1) == [4])


@pytest.mark.parametrize("use", [NoisePool.__len__, lambda pool: pool.take(1), lambda pool: pool.fill(1)])
def test_a_fork_that_python_does_not_announce_is_noticed(
    use: Callable[[NoisePool], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, _ = counting_pool()
    pool.fill(3)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    use(pool)
    assert not set(pool.take(3)) & {1, 2, 3}


def test_a_pool_is_never_pickled_copied_or_shown() -> None:
    pool = NoisePool(StrictNoise(key().public_key), random.Random(0).randbytes)
    pool.fill(2)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(MisuseError, match="never sent"):
            attempt(pool)
    assert repr(pool) == "NoisePool(2 entries, redacted)"
    assert pool.public_key == key().public_key


def test_the_registry_of_pools_keeps_none_alive() -> None:
    before = len(paillier_noise._POOLS)
    pool, _ = counting_pool()
    assert len(paillier_noise._POOLS) == before + 1
    del pool
    gc.collect()
    assert len(paillier_noise._POOLS) <= before
