"""Traps of phe and faults of the ancestor: each shown where that is cheap, and absent from our code."""

from __future__ import annotations

import math
import pickle
import random
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import gmpy2
import numpy as np
import phe
import pytest
from gmpy2 import mpz
from tacit.protocols.errors import InvalidMessageError, RangeError, SetupError
from tacit.protocols.paillier import (
    Ciphertexts,
    add,
    decrypt,
    encrypt,
    random_ciphertexts,
    subtract,
)
from tacit.protocols.paillier_keys import PrivateKey, PublicKey, generate_keys
from tacit.protocols.paillier_noise import FixedBaseNoise, NoisePool, StrictNoise


@cache
def key(bits: int = 256, seed: int = 0) -> PrivateKey:
    return generate_keys(bits, random.Random(seed).randbytes)


def pool(private_key: PrivateKey | None = None) -> NoisePool:
    public_key = (private_key or key()).public_key
    randomness = random.Random(1).randbytes
    return NoisePool(FixedBaseNoise(public_key, randomness, 2), randomness)


def difference_without_key(n: int, before: int, after: int) -> int | None:
    """What an onlooker reads off two ciphertexts that share their noise; None if they do not."""
    quotient = after * pow(before, -1, n * n) % (n * n)
    return (quotient - 1) // n if quotient % n == 1 else None


def numbers(ciphertexts: Ciphertexts) -> list[int]:
    return [int.from_bytes(row.tobytes(), "big") for row in ciphertexts.write()]


# Deferred re-randomisation


def test_phe_shows_the_summand_to_whoever_sees_both_messages() -> None:
    public_key = key().public_key.phe
    received = public_key.encrypt(1000)
    sent = pickle.loads(pickle.dumps(received + 42))
    onlooker = difference_without_key(
        public_key.n, received.ciphertext(be_secure=False), sent.ciphertext(be_secure=False)
    )
    assert onlooker == 42


def test_our_hop_shares_no_noise_with_its_input() -> None:
    public_key = key().public_key
    received = random_ciphertexts(public_key, 20, random.Random(2).randbytes)
    sent = add(received, encrypt(public_key, [42] * 20, pool()))
    for before, after in zip(numbers(received), numbers(sent), strict=True):
        assert difference_without_key(public_key.n, before, after) is None


def test_even_adding_zero_changes_the_ciphertext() -> None:
    public_key = key().public_key
    received = random_ciphertexts(public_key, 20, random.Random(2).randbytes)
    sent = add(received, encrypt(public_key, [0] * 20, pool()))
    assert not set(numbers(received)) & set(numbers(sent))


def test_one_plaintext_never_has_the_same_ciphertext_twice_nor_the_same_noise() -> None:
    public_key = key().public_key
    noise = pool()
    values = numbers(encrypt(public_key, [7] * 30, noise)) + numbers(encrypt(public_key, [7] * 30, noise))
    assert len(set(values)) == 60
    assert len({value % public_key.n for value in values}) == 60  # modulo n only the noise is left


def test_noise_is_always_applied() -> None:
    public_key = key().public_key
    for value in numbers(encrypt(public_key, [0, 1, 2, public_key.n - 1], pool())):
        assert difference_without_key(public_key.n, 1, value) is None


# The exponent


def test_phes_exponent_tells_the_magnitude_and_ours_does_not_exist() -> None:
    public_key = key().public_key
    assert public_key.phe.encrypt(1.0).exponent != public_key.phe.encrypt(1e-20).exponent
    small, large = (encrypt(public_key, [m], pool()).write() for m in (0, public_key.n - 1))
    assert type(small) is type(large) is np.ndarray
    assert small.dtype == large.dtype == np.uint8
    assert small.shape == large.shape == (1, public_key.ciphertext_bytes)


# Overflow


def test_phe_misses_an_overflow_beyond_the_middle_third() -> None:
    public_key = key().public_key.phe
    large = public_key.encrypt(public_key.max_int)
    with pytest.raises(OverflowError):
        key().phe.decrypt(large + large)
    assert key().phe.decrypt(large + large + large + large) < public_key.max_int  # wrong, and silent


@pytest.mark.parametrize("excess", [0, 7, 10**6])
def test_what_would_wrap_around_is_refused(excess: int) -> None:
    public_key = key().public_key
    assert key().phe.raw_decrypt(public_key.phe.raw_encrypt(public_key.n + excess)) == excess
    for vector in ([0, public_key.n + excess], [public_key.n**2 + excess, 0]):
        with pytest.raises(RangeError):
            encrypt(public_key, vector, pool())


@pytest.mark.parametrize("negative", [-1, -(2**300)])
def test_negatives_are_refused_not_turned_into_n_minus_x(negative: int) -> None:
    with pytest.raises(RangeError):
        encrypt(key().public_key, [negative], pool())


# Types


@pytest.mark.parametrize("scalar", [np.float32(2), np.int64(2), np.uint8(2)])
def test_phe_takes_no_numpy_scalars(scalar: object) -> None:
    with pytest.raises(TypeError):
        key().public_key.phe.encrypt(scalar)


@pytest.mark.parametrize("scalar", [2, True, np.int64(2), np.uint64(2**63), np.int8(2), mpz(2)])
def test_integers_of_all_kinds_are_taken(scalar: int) -> None:
    assert decrypt(key(), encrypt(key().public_key, [scalar], pool())) == [int(scalar)]


def test_integer_arrays_are_taken() -> None:
    values = np.array([0, 1, 2**62], dtype=np.int64)
    assert decrypt(key(), encrypt(key().public_key, list(values), pool())) == values.tolist()


@pytest.mark.parametrize(
    "value",
    [0.9, 0.0, 1.0, math.nan, math.inf, -math.inf, np.float32(2), np.float64(2), Fraction(2), "2", None, 2j],
    ids=repr,
)
def test_whatever_is_no_integer_is_refused_never_truncated(value: object) -> None:
    with pytest.raises(RangeError, match="no integer"):
        encrypt(key().public_key, [value], pool())  # type: ignore[list-item]


# Keys


@pytest.mark.parametrize("n", [16, 15, 2**2048, 3**1300, 10**700])
def test_phe_takes_any_modulus_and_we_do_not(n: int) -> None:
    assert phe.PaillierPublicKey(n).n == n
    with pytest.raises(SetupError):
        PublicKey.validated(n, 4)


def test_the_ancestors_1024_bits_are_refused() -> None:
    with pytest.raises(SetupError):
        PublicKey.validated(key(1024).public_key.n, 2048)


def test_another_keys_ciphertext_decrypts_without_an_error_so_it_is_refused_before() -> None:
    ours, other = key(), key(256, 3)
    foreign = encrypt(other.public_key, [5], pool(other))
    assert key().phe.raw_decrypt(numbers(foreign)[0]) != 5
    with pytest.raises(InvalidMessageError, match="another key"):
        Ciphertexts.read(ours.public_key, foreign.write(), sender="b", key_id=other.public_key.key_id)


def test_a_key_of_another_length_shows_in_the_width() -> None:
    foreign = encrypt(key(264).public_key, [5], pool(key(264)))
    with pytest.raises(InvalidMessageError, match="another key"):
        Ciphertexts.read(key().public_key, foreign.write(), sender="b")


# Subtraction


def test_subtraction_subtracts() -> None:
    public_key = key().public_key
    ten, three = (encrypt(public_key, [m], pool()) for m in (10, 3))
    assert decrypt(key(), subtract(ten, three)) == [7]
    assert decrypt(key(), subtract(three, ten)) == [public_key.n - 7]


# The interpreter's lock


def lets_others_run(work: Callable[[], object]) -> bool:
    """Whether another thread gets its turn before the work is done, when nobody is made to hand over."""
    started, finished = threading.Event(), threading.Event()

    def worker() -> None:
        started.set()
        work()
        finished.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=worker)
        thread.start()
        started.wait()
        meanwhile = not finished.is_set()
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    return meanwhile


def test_plain_powmod_holds_the_lock() -> None:
    modulus = mpz(2) ** 1024 - 1
    assert not lets_others_run(lambda: [gmpy2.powmod(3, modulus - 2, modulus) for _ in range(20)])


@pytest.mark.parametrize("threads", [1, 2])
def test_decryption_lets_others_run(threads: int) -> None:
    ciphertexts = random_ciphertexts(key(1024).public_key, 100, random.Random(2).randbytes)
    assert lets_others_run(lambda: decrypt(key(1024), ciphertexts, threads))


def test_strict_noise_lets_others_run() -> None:
    noise = StrictNoise(key(1024).public_key)
    assert lets_others_run(lambda: noise.draw(40, random.Random(2).randbytes))
