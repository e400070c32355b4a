"""Masks: the standard's own keystream, sums as Python's integers give them, and vectors nobody can tell apart."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols import stream_cipher
from tacit.protocols.errors import MisuseError
from tacit.protocols.stream_cipher import (
    _SKIPPED_BYTES,
    CHUNK_BYTES,
    SEGMENT_BYTES,
    STREAM_BYTES,
    Keystream,
    Masks,
    add_masks,
    add_masks_to_all,
    stream_bytes,
)

few = settings(deadline=None, derandomize=True, max_examples=60)

LIMBS = 34  # of ExactFloat
U32, U64, WIDE = "32-bit words", "64-bit words", "rows of limbs"
KINDS = [U32, U64, WIDE]
SMALL_CHUNK = 64  # bytes


def zeros(kind: str, count: int, limbs: int = LIMBS) -> NDArray[Any]:
    shape = (count, limbs) if kind == WIDE else (count,)
    return np.zeros(shape, np.uint32 if kind == U32 else np.uint64)


def uniform(kind: str, count: int, limbs: int = LIMBS, seed: int = 0) -> NDArray[Any]:
    vector = zeros(kind, count, limbs)
    content = np.frombuffer(random.Random(seed).randbytes(vector.nbytes), vector.dtype)
    return content.reshape(vector.shape).copy()


def masks_of(*signs: int, seed: int = 0) -> Masks:
    source = random.Random(seed)
    return [(source.randbytes(32), sign) for sign in signs]


def masked(vector: NDArray[Any], masks: Masks, **options: int) -> NDArray[Any]:
    result = vector.copy()
    add_masks(result, masks, **options)
    return result


# The oracle: counters enciphered one by one, and integers of any length.


def oracle_stream(key: bytes, offset: int, length: int) -> bytes:
    places = [
        divmod(block * 16, SEGMENT_BYTES) for block in range(offset // 16, (offset + length + 15) // 16)
    ]
    counters = [
        segment.to_bytes(12, "big") + (2 + within // 16).to_bytes(4, "big") for segment, within in places
    ]
    return enciphered(key, *counters)[:length]


def enciphered(key: bytes, *counters: bytes) -> bytes:
    return Cipher(AES256(key), ECB()).encryptor().update(b"".join(counters))


def oracle_sum(vector: NDArray[Any], masks: Masks, offset: int) -> NDArray[Any]:
    width = vector.itemsize * (vector.shape[1] if vector.ndim == 2 else 1)
    octets = vector.astype(vector.dtype.newbyteorder("<")).tobytes()
    streams = [(oracle_stream(key, offset, len(octets)), sign) for key, sign in masks]
    total = b""
    for at in range(0, len(octets), width):
        place = slice(at, at + width)
        integer = int.from_bytes(octets[place], "little")
        integer += sum(sign * int.from_bytes(stream[place], "little") for stream, sign in streams)
        total += (integer % 2 ** (8 * width)).to_bytes(width, "little")
    return np.frombuffer(total, vector.dtype.newbyteorder("<")).reshape(vector.shape)


# Vectors that nobody here wrote


# NIST SP 800-38A, F.5.5: CTR-AES256.Encrypt.
NIST_KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
NIST_COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
NIST_PLAINTEXT = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
NIST_CIPHERTEXT = bytes.fromhex(
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def test_oracle_enciphers_counters_as_nist_does() -> None:
    first = int.from_bytes(NIST_COUNTER, "big")
    keystream = enciphered(NIST_KEY, *((first + place).to_bytes(16, "big") for place in range(4)))
    assert bytes(a ^ b for a, b in zip(keystream, NIST_PLAINTEXT, strict=True)) == NIST_CIPHERTEXT


# D. McGrew, J. Viega, "The Galois/Counter Mode of Operation", test case 14: AES-256, a nonce of zeros.
GCM_CIPHERTEXT = bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18")


@pytest.mark.parametrize(("kind", "count"), [(U32, 4), (U64, 2), (WIDE, 1)])
def test_mask_is_the_keystream_of_gcm(kind: str, count: int) -> None:
    mask = zeros(kind, count, limbs=2)
    add_masks(mask, [(bytes(32), 1)])
    assert mask.astype(mask.dtype.newbyteorder("<")).tobytes() == GCM_CIPHERTEXT


@pytest.mark.parametrize("before", [0, 16, _SKIPPED_BYTES, _SKIPPED_BYTES + 16, SEGMENT_BYTES - 48])
@pytest.mark.parametrize("segment", [0, 1, 2**40])
def test_stream_goes_on_from_segment_to_segment(segment: int, before: int) -> None:
    key, offset = bytes(range(32)), segment * SEGMENT_BYTES + before
    octets = bytearray(96)
    stream = Keystream(key, offset)
    for part in (slice(0, 10), slice(10, 80), slice(80, 96)):
        stream.fill(memoryview(octets)[part])
    assert bytes(octets) == oracle_stream(key, offset, 96)


# Sums


@st.composite
def vectors(draw: st.DrawFn) -> NDArray[Any]:
    kind = draw(st.sampled_from(KINDS))
    limbs = draw(st.integers(1, 5))
    vector = zeros(kind, draw(st.integers(0, 20)), limbs)
    largest = 2 ** (8 * vector.itemsize) - 1
    word = st.sampled_from([0, 1, largest, largest // 2, largest // 2 + 1]) | st.integers(0, largest)
    words = draw(st.lists(word, min_size=vector.size, max_size=vector.size))
    return np.array(words, vector.dtype).reshape(vector.shape)


keyrings = st.lists(
    st.tuples(st.binary(min_size=32, max_size=32), st.sampled_from([1, -1])),
    max_size=4,
    unique_by=lambda mask: mask[0],
)
offsets = st.integers(0, 2**70).map(lambda block: 16 * block)


@few
@given(vectors(), keyrings, offsets)
def test_sums_are_those_of_integers(vector: NDArray[Any], masks: Masks, offset: int) -> None:
    result = masked(vector, masks, offset=offset)
    assert np.array_equal(result, oracle_sum(vector, masks, offset))


@few
@given(vectors(), keyrings, offsets)
def test_opposite_masks_cancel(vector: NDArray[Any], masks: Masks, offset: int) -> None:
    opposite = [(key, -sign) for key, sign in masks]
    assert np.array_equal(masked(masked(vector, masks, offset=offset), opposite, offset=offset), vector)


@pytest.mark.parametrize("value", [-1, 1, -(2**64), 2 ** (64 * LIMBS - 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_carries_run_through_all_limbs(value: int, sign: int) -> None:
    # Taking a mask off gives a long run of limbs that are all zeros, or all ones.
    width = 8 * LIMBS
    integer = (value % 2 ** (8 * width)).to_bytes(width, "little")
    vector = np.frombuffer(3 * integer, "<u8").astype(np.uint64).reshape(3, LIMBS)
    (mask,) = masks_of(sign)
    hidden = oracle_sum(vector, [mask], 0).astype(np.uint64)
    assert np.array_equal(masked(hidden, [(mask[0], -sign)]), vector)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_cipher, "CHUNK_BYTES", SMALL_CHUNK)


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("limbs", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_chunks")
def test_neither_chunks_nor_threads_change_the_result(kind: str, limbs: int, threads: int) -> None:
    vector, masks = uniform(kind, 101, limbs), masks_of(1, -1, -1)
    expected = oracle_sum(vector, masks, 160)
    assert np.array_equal(masked(vector, masks, offset=160, threads=threads), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_share_a_long_vector(kind: str) -> None:
    vector, masks = (
        uniform(kind, (2 * SEGMENT_BYTES + 5 * CHUNK_BYTES) // zeros(kind, 1).nbytes + 7),
        masks_of(1, -1),
    )
    assert np.array_equal(masked(vector, masks, threads=2), masked(vector, masks))


# One key, several arrays


@pytest.mark.parametrize("cuts", [[0, 60], [8, 8, 20, 40], [2, 4, 6, 58]])
@pytest.mark.parametrize("kind", [U32, U64])
def test_pieces_continue_one_stream(kind: str, cuts: list[int]) -> None:
    vector, masks = uniform(kind, 60), masks_of(1, -1)
    cuts = [cut * 16 // 2 // vector.itemsize for cut in cuts]  # whole blocks
    result = vector.copy()
    offset = 0
    for piece in np.split(result, cuts):
        add_masks(piece, masks, offset=offset)
        offset += stream_bytes(piece)
    assert np.array_equal(result, masked(vector, masks))


@pytest.mark.parametrize("chunk", [32, 2**18])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_arrays_of_a_contribution_follow_one_another(
    chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_cipher, "CHUNK_BYTES", chunk)  # longer than a chunk, and shorter
    vectors = [uniform(U64, 1), uniform(U32, 7), uniform(U32, 0), uniform(WIDE, 5), uniform(U64, 9)]
    masks, offset, expected = masks_of(1, -1, 1), 0, []
    for vector in vectors:
        expected.append(masked(vector, masks, offset=offset))
        offset += stream_bytes(vector)
    add_masks_to_all(vectors, masks, threads=threads)
    assert all(np.array_equal(one, other) for one, other in zip(vectors, expected, strict=True))


def test_arrays_that_cannot_be_masked_are_refused_together() -> None:
    vectors = [uniform(U64, 1), np.zeros(3)]
    with pytest.raises(MisuseError, match="cannot mask"):
        add_masks_to_all(vectors, masks_of(1))
    add_masks_to_all([], masks_of(1))


def test_arrays_of_any_length_use_no_block_twice() -> None:
    masks = masks_of(1)
    offset, blocks = 0, set[bytes]()
    lengths = [1, 2, 3, 4, 5, 31, 0, 33]
    for length in lengths:
        array = masked(zeros(U32, length), masks, offset=offset)
        offset += stream_bytes(array)
        blocks |= set(blocks_of(array.tobytes()))
    assert len(blocks) == offset // 16 == sum(-(-length // 4) for length in lengths)


def blocks_of(octets: bytes) -> Iterator[bytes]:
    return (octets[at : at + 16] for at in range(0, len(octets), 16))


# Secrecy


def extreme(kind: str, count: int) -> NDArray[Any]:
    """Alternate the largest and the smallest integer of two's complement."""
    vector = zeros(kind, count)
    words = vector.reshape(count, -1)
    words[::2] = ~words[::2]
    words[:, -1] ^= words.dtype.type(1 << (8 * words.itemsize - 1))
    return vector


@pytest.mark.parametrize(("kind", "count"), [(U32, 2**16), (U64, 2**16), (WIDE, 2**12)])
def test_masked_zeros_and_extremes_cannot_be_told_apart(kind: str, count: int) -> None:
    one, other = masks_of(1, -1, seed=1), masks_of(1, -1, seed=2)
    of_zeros = bits(masked(zeros(kind, count), one)).sum(axis=0, dtype=np.int64)
    of_extremes = bits(masked(extreme(kind, count), other)).sum(axis=0, dtype=np.int64)
    chi_square = (of_zeros - of_extremes) ** 2 / (count / 2)  # one degree of freedom for each bit
    assert chi_square.max() < 5**2
    assert abs(chi_square.sum() - chi_square.size) < 5 * np.sqrt(2 * chi_square.size)
    for ones in (of_zeros, of_extremes):
        assert np.abs(ones - count / 2).max() < 5 * np.sqrt(count / 4)


def bits(vector: NDArray[Any]) -> NDArray[np.uint8]:
    return np.unpackbits(vector.view(np.uint8).reshape(len(vector), -1), axis=1)


@pytest.mark.parametrize("kind", [U32, U64])
def test_every_byte_of_a_masked_word_takes_every_value(kind: str) -> None:
    words = masked(extreme(kind, 2**14), masks_of(-1))
    assert all(len(set(place.tolist())) == 256 for place in words.view(np.uint8).reshape(len(words), -1).T)


def test_flipping_any_bit_of_a_key_changes_half_of_the_mask() -> None:
    ((key, _),) = masks_of(1)
    mask = masked(zeros(U64, 64), [(key, 1)])
    n_bits = 8 * mask.nbytes
    for bit in range(256):
        flipped = (int.from_bytes(key, "big") ^ (1 << bit)).to_bytes(32, "big")
        changed = int(np.bitwise_count(mask ^ masked(zeros(U64, 64), [(flipped, 1)])).sum())
        assert abs(changed - n_bits / 2) < 6 * np.sqrt(n_bits / 4), f"bit {bit}"


# Memory and refusals


@pytest.mark.parametrize(("kind", "extra"), [(U32, 0), (U64, 0), (WIDE, CHUNK_BYTES // 2)])
def test_extra_memory_is_a_chunk(kind: str, extra: int) -> None:
    vector, masks = zeros(kind, 6 * CHUNK_BYTES // zeros(kind, 1).nbytes), masks_of(1, -1, 1, -1)
    add_masks(vector[:2], masks)

    def peak() -> int:
        tracemalloc.start()
        try:
            add_masks(vector, masks)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Threads that earlier tests have left may allocate meanwhile, so the least of some peaks is its own.
    assert min(peak() for _ in range(5)) <= CHUNK_BYTES + extra + 8192


def read_only() -> NDArray[Any]:
    vector = uniform(U64, 8)
    vector.flags.writeable = False
    return vector


@pytest.mark.parametrize(
    "vector",
    [
        uniform(U64, 8).view(np.int64),
        uniform(U64, 8).view(np.float64),
        uniform(U64, 8).astype(np.uint16),
        uniform(U64, 8).astype(np.dtype(np.uint64).newbyteorder()),
        uniform(U32, 8).reshape(4, 2),
        uniform(U64, 8).reshape(2, 2, 2),
        uniform(U64, 8)[0:1].reshape(()),
        uniform(U64, 8)[::2],
        uniform(WIDE, 4, 2).T,
        read_only(),
    ],
    ids=lambda vector: f"{vector.dtype.str}{vector.shape}",
)
def test_vector_of_another_kind_is_refused(vector: NDArray[Any]) -> None:
    before = vector.copy()
    with pytest.raises(MisuseError, match=r"cannot mask|in place"):
        add_masks(vector, masks_of(1))
    assert np.array_equal(vector, before, equal_nan=True)


GOOD, ANOTHER = (key for key, _ in masks_of(1, 1))


@pytest.mark.parametrize(
    ("masks", "options", "problem"),
    [
        ([(GOOD, 1), (ANOTHER[:16], 1)], {}, "32 bytes"),
        ([(GOOD, 1), (ANOTHER + b"x", 1)], {}, "32 bytes"),
        ([(GOOD, 1), (ANOTHER, 0)], {}, "sign"),
        ([(GOOD, 1), (ANOTHER, 2)], {}, "sign"),
        ([(GOOD, 1), (GOOD, -1)], {}, "given twice"),
        ([(GOOD, 1)], {"offset": 8}, "offset"),
        ([(GOOD, 1)], {"offset": -16}, "offset"),
        ([(GOOD, 1)], {"offset": STREAM_BYTES - 48}, "offset"),
        ([(GOOD, 1)], {"threads": 0}, "threads"),
    ],
)
def test_misuse_is_refused_and_changes_nothing(masks: Masks, options: dict[str, int], problem: str) -> None:
    vector = zeros(U64, 8)
    with pytest.raises(MisuseError, match=problem) as refusal:
        add_masks(vector, masks, **options)
    assert not vector.any()
    assert repr(GOOD) not in str(refusal.value)


def test_the_last_blocks_of_a_stream_are_used() -> None:
    vector, masks = uniform(U64, 8), masks_of(1)
    offset = STREAM_BYTES - stream_bytes(vector)
    assert np.array_equal(masked(vector, masks, offset=offset), oracle_sum(vector, masks, offset))
