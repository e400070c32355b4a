"""Elements of prime fields: the primes are the largest below 2^61, sums are canonical, expansions are uniform."""

from __future__ import annotations

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.errors import InvalidMessageError
from tacit.protocols.prime_field import PRIMES, Elements, add_in_place, require_elements, uniform
from tacit.protocols.stream_cipher import add_masks

few = settings(deadline=None, derandomize=True, max_examples=50)
SEED = bytes(range(32))
MERSENNE = PRIMES[0]


def elements(rows: list[list[int]]) -> Elements:
    return np.array(rows, dtype=np.uint64)


def keystream(n_words: int) -> list[int]:
    words = np.zeros(n_words, dtype=np.uint64)
    add_masks(words, [(SEED, 1)])
    return [int(word) for word in words]


def test_primes_are_the_largest_below_2_to_61_in_order() -> None:
    largest = [2**61]
    for _ in PRIMES:
        largest.append(int(gmpy2.prev_prime(largest[-1])))
    assert largest[1:] == list(PRIMES)
    assert MERSENNE == 2**61 - 1


@few
@given(st.data())
def test_sums_are_canonical(data: st.DataObject) -> None:
    moduli = (PRIMES[0], PRIMES[-1])
    pairs = [
        [
            data.draw(st.tuples(*[st.sampled_from([0, 1, p - 1, p // 2]) | st.integers(0, p - 1)] * 2))
            for _ in range(4)
        ]
        for p in moduli
    ]
    total = elements([[a for a, _ in row] for row in pairs])
    add_in_place(total, elements([[b for _, b in row] for row in pairs]), moduli)
    assert total.tolist() == [[(a + b) % p for a, b in row] for row, p in zip(pairs, moduli, strict=True)]


def test_expansion_is_the_keystream_cut_to_61_bits() -> None:
    moduli = PRIMES[:2]
    expected = [word % 2**61 for word in keystream(10)]
    assert uniform(SEED, moduli, 5).tolist() == [expected[:5], expected[5:]]


def test_words_outside_the_field_give_way_to_the_next_blocks() -> None:
    # Modulo 2^59 three of four words are rejected; no prime has a rejection that a test would live to see.
    count, modulus = 7, 2**59
    words = [word % 2**61 for word in keystream(400)]
    spare = iter(words[8::2])  # the first word of each block after the 56 bytes, filled up to 64
    expected = []
    for word in words[:count]:
        fitting = word
        while fitting >= modulus:
            fitting = next(spare)
        expected.append(fitting)
    assert uniform(SEED, (modulus,), count).tolist() == [expected]


def test_rejections_keep_to_the_modulus_of_their_row() -> None:
    expanded = uniform(SEED, (2**61, 2**58), 50)
    assert (expanded[1] < 2**58).all()
    assert expanded[0].tolist() == [word % 2**61 for word in keystream(50)]


def test_expansion_covers_the_field_evenly() -> None:
    counts = np.bincount(
        (uniform(SEED, PRIMES[:1], 64_000)[0] >> np.uint64(55)).astype(np.int64), minlength=64
    )
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 120  # chi-square of 63 degrees: 1.6e-5 above


@pytest.mark.parametrize("count", [0, 1])
def test_short_expansions(count: int) -> None:
    assert uniform(SEED, PRIMES[:3], count).shape == (3, count)


def test_canonical_elements_pass() -> None:
    require_elements(elements([[0, MERSENNE - 1]]), PRIMES[:1], 2, sender="a")


@pytest.mark.parametrize(
    "received",
    [
        elements([[0, MERSENNE]]),
        elements([[2**64 - 1, 0]]),
        elements([[0]]),
        elements([[0, 0], [0, 0]]),
        np.zeros((1, 2), dtype=np.int64),
        np.zeros(2, dtype=np.uint64),
    ],
    ids=["p", "all bits", "too short", "too many moduli", "signed", "flat"],
)
def test_what_is_no_array_of_canonical_elements_is_refused(received: Elements) -> None:
    with pytest.raises(InvalidMessageError) as refused:
        require_elements(received, PRIMES[:1], 2, sender="a")
    assert refused.value.culprits == ("a",)


def test_each_row_is_held_to_its_own_modulus() -> None:
    received = elements([[PRIMES[1]], [PRIMES[1]]])
    with pytest.raises(InvalidMessageError, match="canonical"):
        require_elements(received, PRIMES[:2], 1, sender="a")
