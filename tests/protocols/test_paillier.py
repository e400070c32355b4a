from __future__ import annotations

import copy
import hashlib
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols.errors import InvalidMessageError, MisuseError, RangeError, SetupError
from tacit.protocols.paillier import (
    Ciphertexts,
    add,
    decrypt,
    encrypt,
    invert,
    random_ciphertexts,
    random_units,
    subtract,
)
from tacit.protocols.paillier_keys import PrivateKey, PublicKey, generate_keys
from tacit.protocols.paillier_noise import FixedBaseNoise, NoisePool, StrictNoise

quick = settings(deadline=None, derandomize=True, max_examples=40, database=None)
plaintexts_of_120_bits = st.lists(st.integers(0, 2**120), max_size=5)


@cache
def key(bits: int = 256, seed: int = 0) -> PrivateKey:
    return generate_keys(bits, random.Random(seed).randbytes)


def pool(private_key: PrivateKey | None = None, seed: int = 1) -> NoisePool:
    public_key = (private_key or key()).public_key
    randomness = random.Random(seed).randbytes
    return NoisePool(FixedBaseNoise(public_key, randomness, 2), randomness)


def read(array: NDArray[np.uint8], private_key: PrivateKey | None = None, **options: bytes) -> Ciphertexts:
    return Ciphertexts.read((private_key or key()).public_key, array, sender="b", **options)


def as_integers(ciphertexts: Ciphertexts) -> list[int]:
    return [int.from_bytes(row.tobytes(), "big") for row in ciphertexts.write()]


def as_bytes(public_key: PublicKey, *values: int) -> NDArray[np.uint8]:
    data = b"".join(value.to_bytes(public_key.ciphertext_bytes, "big") for value in values)
    return np.frombuffer(data, dtype=np.uint8).reshape(len(values), -1)


def unchecked(public_key: PublicKey, *values: int) -> Ciphertexts:
    return Ciphertexts(public_key, [gmpy2.mpz(value) for value in values])


# Keys


@pytest.mark.parametrize("bits", [64, 66, 128, 250, 256, 512])
def test_generated_modulus_is_blum_and_exactly_as_long_as_asked(bits: int) -> None:
    private_key = generate_keys(bits, random.Random(bits).randbytes)
    p, q = private_key.phe.p, private_key.phe.q
    assert private_key.public_key.n == p * q
    assert private_key.public_key.bits == bits
    assert p.bit_length() == q.bit_length() == bits // 2
    assert p % 4 == q % 4 == 3
    assert gmpy2.gcd(p - 1, q - 1) == 2
    assert gmpy2.is_prime(p)
    assert gmpy2.is_prime(q)


def test_key_generation_is_a_function_of_its_randomness() -> None:
    first, again, other = (generate_keys(128, random.Random(seed).randbytes) for seed in (3, 3, 4))
    assert first.public_key == again.public_key
    assert first.public_key != other.public_key


@pytest.mark.parametrize("bits", [0, -64, 62, 65, 129, 2**20])
def test_impossible_key_lengths_are_refused(bits: int) -> None:
    with pytest.raises(SetupError):
        generate_keys(bits, random.Random(0).randbytes)


def test_factors_that_make_no_key_are_refused() -> None:
    with pytest.raises(SetupError):
        PrivateKey(11, 11)
    with pytest.raises(SetupError):
        PrivateKey(7, 29)  # 7 divides 28: decryption would be ambiguous


@pytest.mark.parametrize("bits", [64, 128, 256, 512, 1024])
def test_own_keys_pass_validation(bits: int) -> None:
    n = key(bits).public_key.n
    assert PublicKey.validated(n, bits) == key(bits).public_key


P, Q = 2**127 - 1, int(gmpy2.next_prime(2**130))


@pytest.mark.parametrize(
    ("n", "reason"),
    [
        (P * Q * 2, "even"),
        (P * Q * 65521, "small prime"),
        (int(gmpy2.primorial(97)) // 2, "small prime"),
        (P**2, "perfect power"),
        (P**3, "perfect power"),
        (Q, "prime"),
        (2**521 - 1, "prime"),
        (P * Q >> 200, "bits"),
        ((1 << 20000) | 1, "bits"),
        (1, "int above 1"),
        (0, "int above 1"),
        (-P * Q, "int above 1"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value.bit_length()} bits",
)
def test_unfit_moduli_are_refused_with_the_reason(n: int, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        PublicKey.validated(n, 100)


@pytest.mark.parametrize("n", [3.0, True, "15", None, np.int64(15)])
def test_a_modulus_that_is_no_int_is_refused(n: object) -> None:
    with pytest.raises(SetupError):
        PublicKey.validated(n, 2)  # type: ignore[arg-type]


def test_short_keys_are_refused() -> None:
    with pytest.raises(SetupError, match="1024 bits: at least 2048"):
        PublicKey.validated(key(1024).public_key.n, 2048)


def test_key_id_is_a_domain_separated_hash_of_the_modulus() -> None:
    public_key = key().public_key
    n_bytes = public_key.n.to_bytes(32, "big")
    assert public_key.key_id == hashlib.sha256(b"tacit Paillier public key, version 1\x00" + n_bytes).digest()
    assert public_key.key_id != hashlib.sha256(n_bytes).digest()
    assert public_key.key_id != key(256, 5).public_key.key_id


def test_public_key_survives_pickling() -> None:
    public_key = key().public_key
    assert public_key.modulus_squared == public_key.n**2
    again = pickle.loads(pickle.dumps(public_key))
    assert again == public_key
    assert hash(again) == hash(public_key)
    assert again.key_id == public_key.key_id
    assert again.phe == public_key.phe
    assert again.ciphertext_bytes == 64


def test_private_key_is_never_pickled_copied_or_shown() -> None:
    private_key = key()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        for secret in (private_key, private_key.parts[0]):
            with pytest.raises(MisuseError, match="never sent"):
                attempt(secret)
    shown = f"{private_key!r} {private_key} {private_key.parts}"
    for secret_number in (private_key.phe.p, private_key.phe.q, private_key.phe.hp):
        assert str(secret_number) not in shown
        assert f"{secret_number:x}" not in shown
    assert not hasattr(private_key, "__dict__")


# Encryption and decryption


@quick
@given(plaintexts_of_120_bits)
def test_decryption_inverts_encryption(plaintexts: list[int]) -> None:
    private_key = key(128)
    ciphertexts = encrypt(private_key.public_key, plaintexts, pool(private_key))
    assert ciphertexts.write().shape == (len(plaintexts), 32)
    assert decrypt(private_key, ciphertexts, 1) == plaintexts
    assert decrypt(private_key, read(ciphertexts.write(), private_key), 1) == plaintexts


@quick
@given(plaintexts_of_120_bits, st.randoms(use_true_random=False))
def test_sums_and_differences_are_those_of_the_plaintexts(first: list[int], rng: random.Random) -> None:
    private_key = key(128)
    public_key = private_key.public_key
    second = [rng.randrange(public_key.n) for _ in first]
    noise = pool(private_key)
    a, b = encrypt(public_key, first, noise), encrypt(public_key, second, noise)
    sums = [(x + y) % public_key.n for x, y in zip(first, second, strict=True)]
    assert decrypt(private_key, add(a, b), 1) == sums
    differences = [(x - y) % public_key.n for x, y in zip(first, second, strict=True)]
    assert decrypt(private_key, subtract(a, b), 1) == differences
    negatives = [-y % public_key.n for y in second]
    assert decrypt(private_key, invert(b), 1) == negatives


@quick
@given(plaintexts_of_120_bits, st.integers(0, 2**32))
def test_dividing_by_the_offset_leaves_the_sum(plaintexts: list[int], seed: int) -> None:
    private_key = key(128)
    public_key = private_key.public_key
    offset = random_ciphertexts(public_key, len(plaintexts), random.Random(seed).randbytes)
    passed_on = add(offset, encrypt(public_key, plaintexts, pool(private_key)))
    assert decrypt(private_key, subtract(passed_on, offset), 1) == plaintexts


def test_extreme_plaintexts() -> None:
    n = key().public_key.n
    plaintexts = [0, 1, n - 1, n // 2]
    assert decrypt(key(), encrypt(key().public_key, plaintexts, pool())) == plaintexts


@pytest.mark.parametrize("strict", [False, True])
def test_a_key_of_2048_bits(strict: bool) -> None:
    private_key = key(2048)
    public_key = PublicKey.validated(private_key.public_key.n, 2048)
    randomness = random.Random(1).randbytes
    noise = StrictNoise(public_key) if strict else FixedBaseNoise(public_key, randomness, 0)
    plaintexts = [0, public_key.n - 1]
    ciphertexts = encrypt(public_key, plaintexts, NoisePool(noise, randomness))
    assert ciphertexts.write().shape == (2, 512)
    assert decrypt(private_key, ciphertexts) == plaintexts
    assert [private_key.phe.raw_decrypt(c) for c in as_integers(ciphertexts)] == plaintexts


@pytest.mark.parametrize("bits", [256, 512])
def test_phe_decrypts_ours_and_we_decrypt_phes(bits: int) -> None:
    private_key = key(bits)
    public_key = private_key.public_key
    plaintexts = [0, 1, 12345, public_key.n - 1]
    ours = encrypt(public_key, plaintexts, pool(private_key))
    assert [private_key.phe.raw_decrypt(c) for c in as_integers(ours)] == plaintexts
    theirs = read(as_bytes(public_key, *[public_key.phe.raw_encrypt(m) for m in plaintexts]), private_key)
    assert decrypt(private_key, theirs) == plaintexts
    mixed = [private_key.phe.raw_decrypt(c) for c in as_integers(add(ours, theirs))]
    assert mixed == [2 * m % public_key.n for m in plaintexts]


def test_phe_agrees_on_every_factor_of_a_ciphertext() -> None:
    public_key = key().public_key
    (root,) = random_units(public_key.modulus, 1, random.Random(8).randbytes)

    class KnownNoise(StrictNoise):
        def draw(self, count: int, random_bytes: object) -> list[gmpy2.mpz]:
            return [gmpy2.powmod(root, public_key.modulus, public_key.modulus_squared)] * count

    ours = encrypt(public_key, [99], NoisePool(KnownNoise(public_key), random.Random(0).randbytes))
    assert as_integers(ours) == [public_key.phe.raw_encrypt(99, r_value=int(root))]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("threads", [None, 1, 2, 3, 4, 9])
def test_threads_do_not_change_the_result(count: int, threads: int | None) -> None:
    plaintexts = list(range(count))
    assert decrypt(key(), encrypt(key().public_key, plaintexts, pool()), threads) == plaintexts


def test_threads_can_be_passed_in() -> None:
    ciphertexts = encrypt(key().public_key, [4, 5, 6], pool())
    with ThreadPoolExecutor(2) as executor:
        assert decrypt(key(), ciphertexts, 4, executor=executor) == [4, 5, 6]
        assert executor.submit(int).result() == 0  # still open


def test_written_ciphertexts_are_read_only() -> None:
    ciphertexts = encrypt(key().public_key, [1], pool()).write()
    with pytest.raises(ValueError, match="read-only"):
        ciphertexts[0, 0] = 1


# Refusals


@pytest.mark.parametrize("step", [add, subtract])
def test_vectors_of_different_lengths_are_refused(
    step: Callable[[Ciphertexts, Ciphertexts], Ciphertexts],
) -> None:
    public_key = key().public_key
    three, two = encrypt(public_key, [1, 2, 3], pool()), encrypt(public_key, [1, 2], pool(seed=2))
    with pytest.raises(MisuseError, match="3 and 2"):
        step(three, two)


@pytest.mark.parametrize("step", [add, subtract])
def test_vectors_under_different_keys_are_refused(
    step: Callable[[Ciphertexts, Ciphertexts], Ciphertexts],
) -> None:
    ours, other = key(), key(256, 5)
    foreign = encrypt(other.public_key, [1], pool(other))
    with pytest.raises(MisuseError, match="different keys"):
        step(encrypt(ours.public_key, [1], pool()), foreign)
    with pytest.raises(MisuseError, match="another key"):
        decrypt(ours, foreign)


def test_a_refused_plaintext_uses_no_noise() -> None:
    noise = pool()
    noise.fill(2)
    with pytest.raises(RangeError):
        encrypt(key().public_key, [1, -1], noise)
    assert len(noise) == 2


def test_errors_do_not_show_the_plaintext() -> None:
    with pytest.raises(RangeError) as caught:
        encrypt(key().public_key, [1, -987654321], pool())
    assert "index 1" in str(caught.value)
    assert "987654321" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_noise_of_another_key_is_refused() -> None:
    with pytest.raises(MisuseError, match="another key"):
        encrypt(key().public_key, [1], pool(key(256, 5)))


BAD_ARRAYS = [
    np.zeros((1, 63), np.uint8),
    np.zeros((1, 65), np.uint8),
    np.zeros(64, np.uint8),
    np.zeros((1, 1, 64), np.uint8),
    np.ones((1, 64), np.int8),
    np.ones((1, 64), np.float64),
]


@pytest.mark.parametrize("array", BAD_ARRAYS, ids=lambda array: f"{array.shape}{array.dtype}")
def test_foreign_arrays_are_refused_and_the_sender_named(array: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        read(array)
    assert caught.value.culprits == ("b",)


@pytest.mark.parametrize("value", ["zero", "n squared", "above", "p", "n", "multiple of q"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_values_that_are_no_ciphertexts_are_refused(value: str, position: int) -> None:
    public_key, p, q = key().public_key, key().phe.p, key().phe.q
    n = public_key.n
    bad = {"zero": 0, "n squared": n * n, "above": 2**512 - 1, "p": p, "n": n, "multiple of q": 12 * q}[value]
    values = [5, 6]
    values.insert(position, bad)
    with pytest.raises(InvalidMessageError) as caught:
        read(as_bytes(public_key, *values))
    assert caught.value.culprits == ("b",)


@pytest.mark.parametrize("factor", ["p", "q", "n"])
def test_even_unread_a_value_that_is_no_unit_is_still_refused(factor: str) -> None:
    public_key = key().public_key
    value = {"p": key().phe.p, "q": key().phe.q, "n": public_key.n}[factor]
    bad = unchecked(public_key, 5, value)
    with pytest.raises(InvalidMessageError):
        decrypt(key(), bad)
    with pytest.raises(InvalidMessageError):
        subtract(encrypt(public_key, [1, 2], pool()), bad)


def test_genuine_ciphertexts_pass() -> None:
    public_key = key().public_key
    ciphertexts = encrypt(public_key, [0, 1, public_key.n - 1], pool())
    assert read(ciphertexts.write(), key_id=public_key.key_id).values == ciphertexts.values
    assert len(read(ciphertexts.write()[:0])) == 0
    edge = 1, public_key.n**2 - 1
    assert read(as_bytes(public_key, *edge)).values == list(edge)


def test_another_keys_ciphertexts_are_detected_by_the_key_id() -> None:
    other = key(256, 5)
    ciphertexts = encrypt(other.public_key, [1], pool(other))
    with pytest.raises(InvalidMessageError, match="another key") as caught:
        read(ciphertexts.write(), key_id=other.public_key.key_id)
    assert caught.value.culprits == ("b",)


def test_ciphertexts_show_their_number_alone() -> None:
    assert repr(encrypt(key().public_key, [1, 2], pool())) == "<2 Paillier ciphertexts>"


# The offset of step 1


def test_random_ciphertexts_are_distinct_units_and_reproducible() -> None:
    public_key = key(64).public_key
    first, again, other = (random_ciphertexts(public_key, 50, random.Random(s).randbytes) for s in (1, 1, 2))
    assert first.values == again.values
    values = as_integers(first) + as_integers(other)
    assert len(set(values)) == 100
    assert read(first.write(), key(64)).values == first.values


def test_random_units_are_uniform_over_the_units() -> None:
    modulus = gmpy2.mpz(35)
    drawn = [int(unit) for unit in random_units(modulus, 24000, random.Random(3).randbytes)]
    counts = {unit: drawn.count(unit) for unit in set(drawn)}
    assert set(counts) == {unit for unit in range(35) if unit % 5 and unit % 7}
    assert all(850 < count < 1150 for count in counts.values())  # five standard deviations


def test_random_ciphertexts_decrypt_to_spread_plaintexts() -> None:
    private_key = key(64)
    drawn = random_ciphertexts(private_key.public_key, 400, random.Random(4).randbytes)
    upper = sum(m > private_key.public_key.n // 2 for m in decrypt(private_key, drawn, 1))
    assert 150 < upper < 250
