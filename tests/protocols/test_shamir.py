"""Shares of vectors: enough of them give the secrets and their sums, fewer are uniform whatever was shared."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.protocols.errors import MisuseError, SetupError
from tacit.protocols.field_matrix import FieldMatrix, lagrange
from tacit.protocols.limbs import integers_to_limbs, limbs_to_integers
from tacit.protocols.prime_field import PRIMES, Elements, add_in_place
from tacit.protocols.residues import choose_moduli, from_residues, to_residues
from tacit.protocols.shamir import Sharing, expand, reconstruct, split

few = settings(deadline=None, derandomize=True, max_examples=40)
MERSENNE, SMALLEST = PRIMES[0], PRIMES[-1]
VECTORS = json.loads((Path(__file__).parent / "vectors" / "mpyc_thresha.json").read_text(encoding="utf-8"))


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def all_shares(sharing: Sharing, secrets: Elements, seed: int = 0) -> list[Elements]:
    """What all share holders have, once they have expanded their seeds."""
    seeds, shares = split(sharing, secrets, seeded(seed))
    return [expand(sharing, own, secrets.shape[1]) for own in seeds] + list(shares)


def rule(modulus: int, points: list[int], values: list[int], x: int) -> int:
    """Lagrange's formula at x as `thresha.recombine` has it, in Python's integers."""
    total = 0
    for x_i, y_i in zip(points, values, strict=True):
        others = [x_j for x_j in points if x_j != x_i]
        numerator, denominator = prod(x - x_j for x_j in others), prod(x_i - x_j for x_j in others)
        total += y_i * numerator * pow(denominator, -1, modulus)
    return total % modulus


@st.composite
def sharings(draw: st.DrawFn) -> Sharing:
    packing = draw(st.integers(1, 4))
    threshold = draw(st.integers(packing + 1, packing + 8))
    moduli = draw(st.sampled_from([(MERSENNE,), (SMALLEST,), PRIMES[:3]]))
    n = draw(st.integers(threshold, threshold + 8))
    return Sharing(n_share_holders=n, threshold=threshold, packing=packing, moduli=moduli)


def secrets_of(sharing: Sharing, count: int, seed: int = 0) -> Elements:
    rng = random.Random(seed)
    rows = [([0, 1, p - 1] + [rng.randrange(p) for _ in range(count)])[:count] for p in sharing.moduli]
    return np.array(rows, dtype=np.uint64).reshape(len(sharing.moduli), count)


@few
@given(sharings(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_give_the_secrets(sharing: Sharing, count: int, rng: random.Random) -> None:
    secrets = secrets_of(sharing, count)
    shares = dict(enumerate(all_shares(sharing, secrets)))
    chosen = rng.sample(sorted(shares), sharing.threshold)
    assert (reconstruct(sharing, {holder: shares[holder] for holder in chosen}, count) == secrets).all()


@few
@given(sharings(), st.integers(1, 7))
def test_shares_are_canonical_values_of_one_polynomial_of_the_degree(sharing: Sharing, count: int) -> None:
    secrets = secrets_of(sharing, count)
    shares = all_shares(sharing, secrets)
    n_columns = sharing.n_columns(count)
    points = list(sharing.share_points)
    for m, p in enumerate(sharing.moduli):
        padded = [*secrets[m].tolist(), *[0] * (sharing.packing * n_columns - count)]
        for column in range(n_columns):
            values = [int(share[m, column]) for share in shares]
            determining, threshold = values[: sharing.threshold], sharing.threshold
            assert values == [rule(p, points[:threshold], determining, x) for x in points]
            at_secret_points = [rule(p, points[:threshold], determining, x) for x in sharing.secret_points]
            assert at_secret_points == padded[column::n_columns]


@pytest.mark.parametrize("packing", [1, 3])
def test_sums_of_shares_give_the_sums_of_secrets(packing: int) -> None:
    sharing = Sharing(n_share_holders=7, threshold=5, packing=packing, moduli=PRIMES[:2])
    secrets = [secrets_of(sharing, 10, seed) for seed in range(6)]
    totals = all_shares(sharing, secrets[0])
    for dealer in range(1, 6):
        for total, share in zip(totals, all_shares(sharing, secrets[dealer], dealer), strict=True):
            add_in_place(total, share, sharing.moduli)
    expected = [[sum(int(s[m, c]) for s in secrets) % p for c in range(10)] for m, p in enumerate(PRIMES[:2])]
    assert reconstruct(sharing, dict(enumerate(totals[2:], 2)), 10).tolist() == expected


def test_a_sum_of_wide_integers_comes_back_from_shares_of_residues() -> None:
    largest = 3 * 2**300
    sharing = Sharing(n_share_holders=3, threshold=2, moduli=choose_moduli(largest, check=True))
    integers = [[2**300, -(2**300), 5], [2**300, -(2**300), -7], [2**300, -(2**300), 0]]
    totals = [np.zeros((len(sharing.moduli), 3), dtype=np.uint64) for _ in range(3)]
    for dealer, values in enumerate(integers):
        residues = to_residues(integers_to_limbs(values, 5), sharing.moduli)
        for total, share in zip(totals, all_shares(sharing, residues, dealer), strict=True):
            add_in_place(total, share, sharing.moduli)
    joined = from_residues(reconstruct(sharing, {1: totals[1], 2: totals[2]}, 3), sharing.moduli, 5, largest)
    assert limbs_to_integers(joined) == [3 * 2**300, -3 * 2**300, -2]


@pytest.mark.parametrize(("n", "threshold", "packing"), [(10, 5, 1), (10, 7, 3), (30, 16, 1), (100, 67, 5)])
def test_large_groups(n: int, threshold: int, packing: int) -> None:
    sharing = Sharing(n_share_holders=n, threshold=threshold, packing=packing)
    secrets = secrets_of(sharing, 20)
    shares = dict(list(enumerate(all_shares(sharing, secrets)))[-threshold:])
    assert (reconstruct(sharing, shares, 20) == secrets).all()


@pytest.mark.parametrize("packing", [1, 2, 3])
@pytest.mark.parametrize("modulus", [MERSENNE, SMALLEST])
def test_shares_below_the_threshold_are_independent_of_the_secrets(packing: int, modulus: int) -> None:
    # Free values at the first points and the secrets determine any n_seeds shares one to one, whatever
    # the secrets: the matrix from the former to the latter is invertible. So uniform goes to uniform.
    sharing = Sharing(n_share_holders=7, threshold=packing + 2, packing=packing, moduli=(modulus,))
    free = sharing.share_points[: sharing.n_seeds]
    for chosen in combinations(sharing.share_points[sharing.n_seeds :], sharing.n_seeds):
        matrix = lagrange((*sharing.secret_points, *free), chosen, modulus)
        (a, b), (c, d) = (row[packing:] for row in matrix)
        assert (a * d - b * c) % modulus


def test_secret_points_are_no_share_points() -> None:
    for n, packing in product(range(3, 12), range(1, 3)):
        sharing = Sharing(n_share_holders=n, threshold=3, packing=packing)
        assert len({*sharing.share_points, *sharing.secret_points}) == n + packing


def test_zeros_and_extremes_cannot_be_told_apart_by_one_share() -> None:
    sharing = Sharing(n_share_holders=3, threshold=2)
    for value in (0, MERSENNE - 1):
        share = all_shares(sharing, np.full((1, 32_000), value, dtype=np.uint64))[2]
        counts = np.bincount((share[0] >> np.uint64(56)).astype(np.int64), minlength=32)
        assert ((counts - 1000.0) ** 2 / 1000).sum() < 80  # chi-square of 31 degrees: 3e-6 above


def test_two_dealings_of_the_same_secrets_have_nothing_in_common() -> None:
    sharing = Sharing(n_share_holders=5, threshold=3)
    secrets = secrets_of(sharing, 100)
    for one, other in zip(all_shares(sharing, secrets, 1), all_shares(sharing, secrets, 2), strict=True):
        assert not (one == other).any()


def test_the_first_shares_are_seeds() -> None:
    sharing = Sharing(n_share_holders=10, threshold=7, packing=3)
    seeds, shares = split(sharing, secrets_of(sharing, 31), seeded(0))
    assert [len(seed) for seed in seeds] == [32] * 4
    assert shares.shape == (6, 1, 11)


def test_too_few_shares_are_refused() -> None:
    sharing = Sharing(n_share_holders=5, threshold=3)
    shares = all_shares(sharing, secrets_of(sharing, 4))
    with pytest.raises(MisuseError, match="wait for 3"):
        reconstruct(sharing, {0: shares[0], 1: shares[1]}, 4)


@pytest.mark.parametrize(("n", "threshold", "packing"), [(3, 4, 1), (3, 1, 1), (5, 3, 3), (5, 3, 0)])
def test_impossible_sharings_are_refused(n: int, threshold: int, packing: int) -> None:
    with pytest.raises(SetupError, match="threshold"):
        Sharing(n_share_holders=n, threshold=threshold, packing=packing)


def recombine(
    modulus: int, points: list[int], shares: list[list[int]], targets: list[int]
) -> list[list[int]]:
    """Recombine as we do, but at any points."""
    matrix = FieldMatrix([lagrange(points, targets, modulus)], (modulus,))
    rows: NDArray[np.uint64] = matrix.apply([np.array([share], dtype=np.uint64) for share in shares])
    recombined: list[list[int]] = rows[:, 0].tolist()
    return recombined


@pytest.mark.parametrize(
    "case", VECTORS["random_split"]["cases"], ids=lambda c: f"{c['n_parties']},{c['degree']}"
)
def test_we_recombine_what_mpyc_has_split(case: dict[str, Any]) -> None:
    modulus, n, t = case["modulus"], case["n_parties"], case["degree"]
    for chosen in (range(t + 1), range(n - t - 1, n)):
        shares = [case["shares"][party] for party in chosen]
        assert recombine(modulus, [party + 1 for party in chosen], shares, [0]) == [case["secrets"]]


@pytest.mark.parametrize("case", VECTORS["recombine"]["cases"], ids=lambda c: f"{c['x_coords']}")
def test_we_recombine_as_mpyc_does(case: dict[str, Any]) -> None:
    arguments = case["modulus"], case["x_coords"], case["shares"]
    assert recombine(*arguments, case["x_rs"]) == case["recombined"]
    columns = [list(column) for column in zip(*case["shares"], strict=True)]
    by_rule = [[rule(case["modulus"], case["x_coords"], c, x) for c in columns] for x in case["x_rs"]]
    assert by_rule == case["recombined"]
