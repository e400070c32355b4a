"""Packing: sums of plaintexts are plaintexts of sums, and what is not a sum of the roster's shows."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.encoding import ArrayEncoding
from tacit.protocols.encoding_plan import Specification, plan
from tacit.protocols.errors import InvalidMessageError, MisuseError, RangeError, SetupError, VoidedError
from tacit.protocols.limbs import Limbs, add_limbs, integers_to_limbs, limbs_to_integers
from tacit.protocols.packing import (
    MINIMUM_PLAINTEXTS,
    Packing,
    expected_tags,
    packing_for,
    required_bits,
    tag,
    tags,
)
from tacit.serialization.encoding_parameters import ExactFloat, FixedPoint

few = settings(deadline=None, derandomize=True, max_examples=40)
SESSION = b"s" * 32


def holders(m: int) -> list[str]:
    return [f"site-{i}" for i in range(m)]


def plaintexts(packing: Packing, values: list[list[int]], holder: str) -> list[int]:
    limbs = [
        integers_to_limbs(row, encoding.limbs)
        for row, encoding in zip(values, packing.encodings, strict=True)
    ]
    return packing.pack(limbs, tags(SESSION, holder, packing.n_plaintexts))


def expected(packing: Packing) -> list[int]:
    return expected_tags(SESSION, holders(packing.n_contributions), packing.n_plaintexts)


def total_of(contributions: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*contributions, strict=True)]


def small_ring(m: int = 3, n_values: int = 50) -> tuple[Packing, list[list[int]]]:
    """A ring of FixedPoint values with a plaintext that is not full, and everybody's plaintexts."""
    encodings = plan(FixedPoint(100.0), [("x", "float64", (n_values,))], m)
    packing = packing_for(encodings, m, 1000)
    rng = np.random.default_rng(0)
    limbs = [encodings[0].encode(rng.uniform(-100, 100, n_values)) for _ in range(m)]
    return packing, [
        packing.pack([own], tags(SESSION, holder, packing.n_plaintexts))
        for own, holder in zip(limbs, holders(m), strict=True)
    ]


@st.composite
def rings(draw: st.DrawFn) -> tuple[Packing, list[list[list[int]]]]:
    """Arrays of random bounds, a random ring, and everybody's integers, extremes included."""
    m = draw(st.integers(1, 12))
    (template,) = plan(FixedPoint(1.0), [("x", "float64", (1,))], m)
    encodings: list[ArrayEncoding] = []
    for index in range(draw(st.integers(1, 4))):
        bound = draw(st.integers(0, (2**63 - 1) // m))
        shape = (draw(st.integers(0, 9)),)
        encodings.append(dataclasses.replace(template, name=f"x{index}", shape=shape, bound=bound))
    encodings += plan(None, [("f", "float32", (draw(st.integers(0, 2)),)), ("u", "uint64", (2,))], m)
    packing = packing_for(encodings, m, required_bits(encodings, m) + draw(st.integers(0, 700)))
    chosen = random.Random(draw(st.integers(0, 2**32)))

    def integer(bound: int) -> int:
        return chosen.choice([bound, -bound, 0, chosen.randint(-bound, bound)])

    return packing, [[[integer(e.bound) for _ in range(e.size)] for e in encodings] for _ in range(m)]


@few
@given(rings())
def test_totals_come_back(ring: tuple[Packing, list[list[list[int]]]]) -> None:
    packing, values = ring
    packed = [
        plaintexts(packing, own, holder) for own, holder in zip(values, holders(len(values)), strict=True)
    ]
    unpacked = packing.unpack(total_of(packed), expected(packing))
    sums = [[sum(column) for column in zip(*rows, strict=True)] for rows in zip(*values, strict=True)]
    assert [limbs_to_integers(limbs) for limbs in unpacked] == sums


@pytest.mark.parametrize("m", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("sign", [1, -1])
def test_extremes_of_everybody_fill_the_slots_exactly(m: int, sign: int) -> None:
    specifications: list[Specification] = [
        ("f", "float64", (3,)),
        ("u", "int64", (3,)),
        ("x", "float32", (2,)),
    ]
    encodings = plan(None, specifications, m)
    capacity = required_bits(encodings, m)
    packing = packing_for(encodings, m, capacity)
    extremes = [[sign * encoding.bound] * encoding.size for encoding in encodings]
    ring = total_of([plaintexts(packing, extremes, holder) for holder in holders(m)])
    assert all(total < 2**capacity for total in ring)
    totals = packing.unpack(ring, expected(packing))
    assert [limbs_to_integers(limbs) for limbs in totals] == [[m * v for v in row] for row in extremes]


def test_every_plaintext_has_the_same_full_length() -> None:
    specifications: list[Specification] = [("a", "float64", (70,)), ("n", "int8", (1,)), ("e", "int64", (0,))]
    encodings = plan(FixedPoint(1.0), specifications, 5)
    packing = packing_for(encodings, 5, 1023)
    lowest = [[-encoding.bound] * encoding.size for encoding in encodings]  # empty slots all
    lengths = {plaintext.bit_length() for plaintext in plaintexts(packing, lowest, "a")}
    assert lengths == {8 * packing.body_bytes + 64}


def test_a_3072_bit_key_holds_46_words() -> None:
    encodings = plan(FixedPoint(2.0**27), [("x", "float64", (10_000,))], 10)
    packing = packing_for(encodings, 10, 3071)
    assert (packing.groups[0].width, packing.groups[0].per_plaintext, packing.n_plaintexts) == (8, 46, 218)


def test_equal_widths_share_plaintexts() -> None:
    specifications: list[Specification] = [
        ("a", "float64", (20,)),
        ("n", "int64", (5,)),
        ("b", "float64", (20,)),
    ]
    packing = packing_for(plan(FixedPoint(2.0**27), specifications, 10), 10, 3071)
    assert [group.members for group in packing.groups] == [(1,), (0, 2)]
    assert packing.n_plaintexts == 2


def test_an_exact_float_needs_a_3072_bit_key() -> None:
    encodings = plan(ExactFloat(), [("x", "float64", (4,))], 10)
    assert 2048 < required_bits(encodings, 10) <= 2 * 2047
    assert packing_for(encodings, 10, 3071).n_plaintexts == 4
    with pytest.raises(SetupError, match="use a longer key"):
        packing_for(encodings, 10, 2047)


def test_required_bits_are_enough_and_one_less_is_not() -> None:
    encodings = plan(FixedPoint(1.0), [("x", "float64", (4,))], 10)
    needed = required_bits(encodings, 10)
    assert packing_for(encodings, 10, needed).groups[0].per_plaintext == 1
    with pytest.raises(SetupError):
        packing_for(encodings, 10, needed - 1)


def test_encodings_planned_for_another_roster_are_refused() -> None:
    with pytest.raises(SetupError, match="planned for 10"):
        packing_for(plan(None, [("x", "float64", (4,))], 10), 11, 3071)


def test_nothing_to_pack_takes_the_fewest_plaintexts() -> None:
    encodings = plan(None, [("x", "float64", (0, 3))], 3)
    packing = packing_for(encodings, 3, 3071)
    assert packing.n_plaintexts == MINIMUM_PLAINTEXTS
    empty = np.zeros((0, 34), dtype=np.uint64)
    packed = [packing.pack([empty], tags(SESSION, holder, MINIMUM_PLAINTEXTS)) for holder in holders(3)]
    totals = total_of(packed)
    assert [limbs.shape for limbs in packing.unpack(totals, expected(packing))] == [(0, 34)]
    with pytest.raises(InvalidMessageError, match="values where there are none"):
        packing.unpack([totals[0], totals[1] + 1], expected(packing))


def uniform(packing: Packing, seed: int) -> list[int]:
    """What a holder that cannot contribute puts in, as if modulo a key of 1000 bits."""
    generator = random.Random(seed)
    return [generator.getrandbits(1000) for _ in range(packing.n_plaintexts)]


@pytest.mark.parametrize("n_void", [1, 2, 3])
def test_uniform_plaintexts_of_any_holder_void_the_total(n_void: int) -> None:
    packing, packed = small_ring()
    totals = total_of([*packed[n_void:], *(uniform(packing, seed) for seed in range(n_void))])
    with pytest.raises(VoidedError, match="unnamed"):
        packing.unpack([total % (1 << 1000) for total in totals], expected(packing))


@pytest.mark.parametrize("n_values", [1, 50])
def test_one_altered_total_is_no_void(n_values: int) -> None:
    packing, packed = small_ring(n_values=n_values)
    _, *others = total_of(packed)
    with pytest.raises(InvalidMessageError):
        packing.unpack([uniform(packing, 1)[0], *others], expected(packing))


# Faults


def test_a_flipped_bit_outside_the_value_slots_is_found() -> None:
    packing, packed = small_ring()
    ring = total_of(packed)
    (group,) = packing.groups
    for chunk in range(packing.n_plaintexts):
        filled = min(group.n_values - chunk * group.per_plaintext, group.per_plaintext)
        for bit in range(8 * group.width * filled, 1100):
            changed = list(ring)
            changed[chunk] ^= 1 << bit
            with pytest.raises(InvalidMessageError):
                packing.unpack(changed, expected(packing))


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "int8"])
def test_a_slot_beyond_the_sum_of_the_bounds_is_found(dtype: str) -> None:
    packing = packing_for(plan(FixedPoint(100.0), [("x", dtype, (2,))], 3), 3, 1000)
    bound = packing.encodings[0].bound
    lowest, other = total_of([plaintexts(packing, [[-bound, -bound]], holder) for holder in holders(3)])
    second_slot = 8 * packing.groups[0].width
    largest = lowest + (2 * 3 * bound << second_slot)
    assert limbs_to_integers(packing.unpack([largest, other], expected(packing))[0]) == [
        -3 * bound,
        3 * bound,
    ]
    with pytest.raises(InvalidMessageError, match="array 'x' exceeds"):
        packing.unpack([largest + (1 << second_slot), other], expected(packing))


def test_a_missing_a_doubled_and_a_foreign_contribution_are_found() -> None:
    packing, (a, b, c) = small_ring()
    other = tags(b"another session", "site-2", packing.n_plaintexts)
    own = tags(SESSION, "site-2", packing.n_plaintexts)
    body = 8 * packing.body_bytes
    foreign = [p + ((o - t) << body) for p, o, t in zip(c, other, own, strict=True)]
    for contributions in ([a, b], [a, b, c, c], [a, b, b], [a, a, a], [a, b, foreign]):
        with pytest.raises(InvalidMessageError, match="missing, doubled or of another session"):
            packing.unpack(total_of(contributions), expected(packing))


def test_swapped_plaintexts_are_found() -> None:
    packing, packed = small_ring()
    first, second, *rest = total_of(packed)
    with pytest.raises(InvalidMessageError):
        packing.unpack([second, first, *rest], expected(packing))


def test_missing_totals_and_negative_totals_are_found() -> None:
    packing, packed = small_ring()
    ring = total_of(packed)
    for wrong in (ring[:-1], [*ring, ring[0]], [-ring[0], *ring[1:]], [0, *ring[1:]]):
        with pytest.raises(InvalidMessageError):
            packing.unpack(wrong, expected(packing))


def test_errors_tell_no_totals() -> None:
    packing, packed = small_ring()
    ring = total_of(packed)
    with pytest.raises(InvalidMessageError) as caught:
        packing.unpack([ring[0] + (1 << 999), *ring[1:]], expected(packing))
    assert str(ring[0])[:6] not in str(caught.value)


# What a holder may pack


@pytest.mark.parametrize("excess", [1, -1])
def test_an_integer_beyond_its_bound_is_not_packed(excess: int) -> None:
    packing, _ = small_ring()
    bound = packing.encodings[0].bound
    with pytest.raises(RangeError, match="array 'x' exceeds its bound"):
        plaintexts(packing, [[0] * 49 + [excess * (bound + 1)]], "site-0")


def test_limbs_of_another_plan_and_wrong_tags_are_refused() -> None:
    packing, _ = small_ring()
    limbs: Limbs = np.zeros((50, 1), dtype=np.uint64)
    good = tags(SESSION, "a", packing.n_plaintexts)
    for arrays, given_tags in (
        ([limbs[:49]], good),
        ([limbs, limbs], good),
        ([limbs], good[:-1]),
        ([limbs], [good[0] >> 1, *good[1:]]),
        ([limbs], [good[0] << 1, *good[1:]]),
    ):
        with pytest.raises(MisuseError):
            packing.pack(arrays, given_tags)


def test_packing_leaves_its_arguments_alone() -> None:
    packing, _ = small_ring()
    limbs = packing.encodings[0].encode(np.linspace(-100, 100, 50))
    before = limbs.copy()
    limbs.setflags(write=False)
    packing.pack([limbs], tags(SESSION, "a", packing.n_plaintexts))
    assert np.array_equal(limbs, before)
    assert np.array_equal(add_limbs(limbs, limbs), 2 * before)


# Tags


def test_tags_one_by_one_and_together() -> None:
    together = tags(SESSION, "site-1", 20)
    assert together == [tag(SESSION, "site-1", chunk) for chunk in range(20)]
    assert together[:3] == tags(SESSION, "site-1", 3)
    assert all(value.bit_length() == 64 for value in together)


def test_tags_differ_by_session_holder_and_chunk() -> None:
    seen = {
        value
        for session in (b"", b"a", b"aa")
        for holder in ("", "a", "aa")
        for value in tags(session, holder, 9)
    }
    assert len(seen) == 81


def test_tags_are_the_same_in_every_release() -> None:
    assert [hex(value) for value in tags(b"session", "site-1", 2)] == [
        "0xfd1f30c418c627d4",
        "0x9c97d1783a7719c7",
    ]


def test_expected_tags_are_the_sum_over_the_roster() -> None:
    assert expected_tags(SESSION, "ab", 2) == [
        tag(SESSION, "a", chunk) + tag(SESSION, "b", chunk) for chunk in (0, 1)
    ]
