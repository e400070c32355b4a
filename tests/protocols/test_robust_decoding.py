"""Wrong shares: as many as can be are corrected and named, more are refused, and never a wrong secret."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.errors import InvalidMessageError, MisuseError
from tacit.protocols.field_matrix import lagrange
from tacit.protocols.prime_field import PRIMES, Elements, uniform
from tacit.protocols.robust_decoding import compress, decode, wrong_points
from tacit.protocols.shamir import Sharing, expand, split

few = settings(deadline=None, derandomize=True, max_examples=60)
MERSENNE, SMALLEST = PRIMES[0], PRIMES[-1]
COUNT = 5
COLLUSION = Sharing(n_share_holders=10, threshold=4)


def dealt(sharing: Sharing, seed: int = 0) -> tuple[Elements, dict[int, Elements]]:
    """Secrets, and the shares of all."""
    rng = random.Random(seed)
    rows = [[rng.randrange(p) for _ in range(COUNT)] for p in sharing.moduli]
    secrets = np.array(rows, dtype=np.uint64)
    seeds, shares = split(sharing, secrets, rng.randbytes)
    return secrets, dict(enumerate([*(expand(sharing, own, COUNT) for own in seeds), *shares]))


def tampered(
    sharing: Sharing, shares: Mapping[int, Elements], wrong: list[int], rng: random.Random
) -> dict[int, Elements]:
    """Change one element of each wrong row, to a value that is canonical, too."""
    changed = {holder: share.copy() for holder, share in shares.items()}
    for holder in wrong:
        m = rng.randrange(len(sharing.moduli))
        column = rng.randrange(changed[holder].shape[1])
        error = rng.choice([1, sharing.moduli[m] - 1, rng.randrange(1, sharing.moduli[m])])
        changed[holder][m, column] = (int(changed[holder][m, column]) + error) % sharing.moduli[m]
    return changed


@st.composite
def cases(draw: st.DrawFn) -> tuple[Sharing, list[int], random.Random]:
    """A sharing, and at most as many wrong rows as can be corrected among all share holders."""
    packing = draw(st.integers(1, 3))
    threshold = packing + draw(st.integers(1, 6))
    n = threshold + draw(st.integers(0, 7))
    moduli = draw(st.sampled_from([(MERSENNE,), PRIMES[-2:]]))
    wrong = draw(st.lists(st.integers(0, n - 1), max_size=(n - threshold) // 2, unique=True))
    sharing = Sharing(n_share_holders=n, threshold=threshold, packing=packing, moduli=moduli)
    return sharing, sorted(wrong), draw(st.randoms(use_true_random=False))


@few
@given(cases())
def test_wrong_rows_are_corrected_and_named(case: tuple[Sharing, list[int], random.Random]) -> None:
    sharing, wrong, rng = case
    secrets, shares = dealt(sharing)
    decoded = decode(sharing, tampered(sharing, shares, wrong, rng), COUNT, rng.randbytes)
    assert decoded.wrong == tuple(wrong)
    assert (decoded.secrets == secrets).all()


@few
@given(cases(), st.data())
def test_up_to_the_surplus_no_wrong_row_passes_when_none_is_corrected(
    case: tuple[Sharing, list[int], random.Random], data: st.DataObject
) -> None:
    sharing, _, rng = case
    n, surplus = sharing.n_share_holders, sharing.n_share_holders - sharing.threshold
    wrong = data.draw(st.lists(st.integers(0, n - 1), max_size=surplus, unique=True))
    secrets, shares = dealt(sharing)
    changed = tampered(sharing, shares, wrong, rng)
    if wrong:
        with pytest.raises(InvalidMessageError):
            decode(sharing, changed, COUNT, rng.randbytes, correct=0)
    else:
        assert (decode(sharing, changed, COUNT, rng.randbytes, correct=0).secrets == secrets).all()


def towards_other_secrets(shares: Mapping[int, Elements], n_wrong: int) -> dict[int, Elements]:
    """Let the first share holders of ten move towards other secrets, shares of which three of the others have too.

    With threshold 4 no two polynomials agree at more than three points: nobody can come closer.
    """
    points = COLLUSION.share_points
    changed = {holder: share.copy() for holder, share in shares.items()}
    for holder in range(n_wrong):
        error = prod(points[holder] - x for x in points[7:])
        changed[holder][0, 0] = (int(changed[holder][0, 0]) + error) % MERSENNE
    return changed


@pytest.mark.parametrize("correct", [0, 1, 2, 3])
def test_colluding_rows_are_corrected_or_refused_up_to_what_is_promised(correct: int) -> None:
    secrets, shares = dealt(COLLUSION)
    for n_wrong in range(6 - correct + 1):
        changed = towards_other_secrets(shares, n_wrong)
        if n_wrong <= correct:
            decoded = decode(COLLUSION, changed, COUNT, random.Random(0).randbytes, correct=correct)
            assert decoded.wrong == tuple(range(n_wrong))
            assert (decoded.secrets == secrets).all()
        else:
            with pytest.raises(InvalidMessageError):
                decode(COLLUSION, changed, COUNT, random.Random(0).randbytes, correct=correct)


@pytest.mark.parametrize("correct", [0, 1, 2, 3])
def test_one_colluding_row_more_than_promised_does_pass(correct: int) -> None:
    # The promise is as strong as can be: of other secrets these are the shares, but for `correct` wrong ones.
    secrets, shares = dealt(COLLUSION)
    changed = towards_other_secrets(shares, 7 - correct)
    decoded = decode(COLLUSION, changed, COUNT, random.Random(0).randbytes, correct=correct)
    assert len(decoded.wrong) == correct
    assert (decoded.secrets != secrets).any()


def test_rows_that_are_missing_do_not_matter() -> None:
    sharing = Sharing(n_share_holders=9, threshold=3)
    secrets, shares = dealt(sharing)
    kept = {holder: shares[holder] for holder in (1, 2, 4, 7, 8)}
    changed = tampered(sharing, kept, [7], random.Random(0))
    decoded = decode(sharing, changed, COUNT, random.Random(0).randbytes)
    assert decoded.wrong == (7,)
    assert (decoded.secrets == secrets).all()


def test_rows_wrong_modulo_different_primes_count_together() -> None:
    sharing = Sharing(n_share_holders=6, threshold=3, moduli=PRIMES[:2])
    _, shares = dealt(sharing)
    shares[0][0, 0] ^= np.uint64(1)
    shares[1][1, 0] ^= np.uint64(1)  # one wrong row for each prime, and one can be corrected
    with pytest.raises(InvalidMessageError, match="more than 1"):
        decode(sharing, shares, COUNT, random.Random(0).randbytes)


def test_more_corrections_than_can_be_are_refused() -> None:
    sharing = Sharing(n_share_holders=6, threshold=3)
    _, shares = dealt(sharing)
    for correct in (2, -1):
        with pytest.raises(MisuseError, match="wait for more"):
            decode(sharing, shares, COUNT, random.Random(0).randbytes, correct=correct)
    with pytest.raises(MisuseError):
        decode(sharing, {0: shares[0]}, COUNT, random.Random(0).randbytes)


def test_errors_orthogonal_to_the_vector_escape_and_no_others() -> None:
    # The chance that is told, made certain: whoever knows the vector beforehand can cheat.
    sharing = Sharing(n_share_holders=5, threshold=3)
    secrets, shares = dealt(sharing)
    known = bytes(32)
    first, second = (int(x) for x in uniform(known, sharing.moduli, COUNT)[0, :2])
    for column, error in ((0, second), (1, MERSENNE - first)):
        shares[0][0, column] = (int(shares[0][0, column]) + error) % MERSENNE
    foreseen = decode(sharing, shares, COUNT, lambda _: known)
    assert foreseen.wrong == ()
    assert (foreseen.secrets != secrets).any()
    drawn = decode(sharing, shares, COUNT, random.Random(0).randbytes)
    assert drawn.wrong == (0,)
    assert (drawn.secrets == secrets).all()


@few
@given(st.data())
def test_compression_is_the_product_with_the_vector(data: st.DataObject) -> None:
    moduli = (MERSENNE, SMALLEST)
    n_columns = data.draw(st.integers(0, 4))

    def rows() -> list[list[int]]:
        return [
            data.draw(
                st.lists(
                    st.sampled_from([0, p - 1]) | st.integers(0, p - 1),
                    min_size=n_columns,
                    max_size=n_columns,
                )
            )
            for p in moduli
        ]

    shares, vector = [rows() for _ in range(2)], rows()
    expected = [
        [sum(a * b for a, b in zip(share[m], vector[m], strict=True)) % p for share in shares]
        for m, p in enumerate(moduli)
    ]
    arrays = [np.array(row, dtype=np.uint64).reshape(2, n_columns) for row in (*shares, vector)]
    assert compress(arrays[:2], arrays[2], moduli) == expected


def test_compression_of_many_extreme_columns_is_exact() -> None:
    count = 3 * 2**13 + 5
    extreme = np.full((1, count), MERSENNE - 1, dtype=np.uint64)
    assert compress([extreme], extreme, (MERSENNE,)) == [[count % MERSENNE]]


@few
@given(st.data())
def test_wrong_points_are_those_without_which_all_others_agree(data: st.DataObject) -> None:
    points = [1, -1, 2, -2, 3, -3, 4]
    threshold = data.draw(st.integers(1, 6))
    word = data.draw(st.lists(st.integers(0, 3), min_size=7, max_size=7))  # small values agree often
    surplus = len(points) - threshold
    values = dict(zip(points, word, strict=True))

    def agree(kept: tuple[int, ...]) -> bool:
        rows = lagrange(kept[:threshold], kept[threshold:], MERSENNE)
        predicted = [
            sum(a * values[x] for a, x in zip(row, kept[:threshold], strict=True)) % MERSENNE for row in rows
        ]
        return predicted == [values[x] for x in kept[threshold:]]

    expected = None
    for n_wrong in range(surplus // 2, -1, -1):
        for kept in combinations(points, len(points) - n_wrong):
            if agree(kept):
                expected = set(points) - set(kept)
    assert wrong_points(points, word, surplus, MERSENNE) == expected


def test_a_recurrence_too_long_to_be_the_only_one_tells_nothing() -> None:
    # Syndromes 0, 1: the recurrence s_n = s_(n-2) has its roots at 1 and -1, but two errors are one too many.
    points = [1, -1, 2]
    half = pow(2, -1, MERSENNE)
    word = [half * (1 - -1) * (1 - 2), -half * (-1 - 1) * (-1 - 2), 0]
    assert wrong_points(points, word, surplus=2, modulus=MERSENNE) is None
