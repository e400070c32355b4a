"""Wrong shares of short secrets: half of the surplus are corrected and named, more are refused or taken for others."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.errors import InvalidMessageError, SetupError
from tacit.protocols.robust_bytes import decode
from tacit.protocols.shamir_bytes import Octets, split

few = settings(deadline=None, derandomize=True, max_examples=60)
Dealing = tuple[Octets, int, list[int], Octets, random.Random]


@st.composite
def dealings(draw: st.DrawFn, least_surplus: int = 0) -> Dealing:
    """Secrets, their threshold, points in any order, shares, and what is random besides."""
    threshold, surplus = draw(st.integers(1, 12)), draw(st.integers(least_surplus, 12))
    chosen = random.Random(draw(st.integers(0, 2**32)))
    points = chosen.sample(range(1, 256), threshold + surplus)
    shape = draw(st.sampled_from([(1, 32), (3, 16), (12, 64)]))
    secrets = np.frombuffer(chosen.randbytes(shape[0] * shape[1]), np.uint8).reshape(shape)
    shares = split(secrets, threshold=threshold, points=points, random_bytes=chosen.randbytes)
    return secrets, threshold, points, shares, chosen


def spoil(shares: Octets, rows: list[int], chosen: random.Random) -> None:
    """Alter one byte of some shares, and all bytes of others."""
    for row in rows:
        error = np.uint8(chosen.randint(1, 255))
        if chosen.random() < 0.5:
            shares[row] ^= error
        else:
            shares[row].reshape(-1)[chosen.randrange(shares[row].size)] ^= error


@few
@given(dealings(), st.data())
def test_up_to_half_of_the_surplus_are_corrected_and_named(dealing: Dealing, data: st.DataObject) -> None:
    secrets, threshold, points, shares, chosen = dealing
    n_wrong = data.draw(st.integers(0, (len(points) - threshold) // 2))
    rows = chosen.sample(range(len(points)), n_wrong)
    spoil(shares, rows, chosen)
    found, wrong = decode(points, shares, threshold=threshold)
    assert np.array_equal(found, secrets)
    assert wrong == tuple(points[row] for row in sorted(rows))


@few
@given(dealings(least_surplus=1))
def test_one_more_is_refused_or_makes_shares_of_something_else(dealing: Dealing) -> None:
    """Then a commitment to the secret shows it."""
    secrets, threshold, points, shares, chosen = dealing
    most = (len(points) - threshold) // 2
    rows = chosen.sample(range(len(points)), most + 1)
    for row in rows:
        shares[row] ^= np.uint8(chosen.randint(1, 255))
    try:
        found, wrong = decode(points, shares, threshold=threshold)
    except InvalidMessageError:
        return
    assert len(wrong) <= most
    assert not np.array_equal(found, secrets)


@few
@given(dealings(least_surplus=1))
def test_wrong_shares_as_many_as_the_surplus_are_never_right(dealing: Dealing) -> None:
    secrets, threshold, points, shares, chosen = dealing
    spoil(shares, chosen.sample(range(len(points)), len(points) - threshold), chosen)
    try:
        found, wrong = decode(points, shares, threshold=threshold)
    except InvalidMessageError:
        return
    assert wrong or not np.array_equal(found, secrets)


def test_wrong_in_different_bytes_are_wrong_together() -> None:
    """Each byte alone has few enough wrong values; all together have too many, and one fewer has not."""
    points, chosen = list(range(1, 9)), random.Random(1)
    secrets = np.zeros((1, 32), np.uint8)
    shares = split(secrets, threshold=4, points=points, random_bytes=chosen.randbytes)
    for row in range(3):
        shares[row, 0, row] ^= 1
    with pytest.raises(InvalidMessageError, match="more than 2"):
        decode(points, shares, threshold=4)
    shares[2, 0, 2] ^= 1
    found, wrong = decode(points, shares, threshold=4)
    assert not found.any()
    assert wrong == (1, 2)


def test_with_as_many_as_the_threshold_nothing_shows() -> None:
    secrets = np.zeros((1, 32), np.uint8)
    shares = split(secrets, threshold=3, points=[5, 6, 7], random_bytes=random.Random(2).randbytes)
    shares[0] ^= 1
    found, wrong = decode([5, 6, 7], shares, threshold=3)
    assert found.any()
    assert not wrong


def test_all_255_points_may_be_used() -> None:
    points, chosen = list(range(1, 256)), random.Random(3)
    secrets = np.frombuffer(chosen.randbytes(32), np.uint8).reshape(1, 32)
    shares = split(secrets, threshold=129, points=points, random_bytes=chosen.randbytes)
    rows = sorted(chosen.sample(range(255), 63))
    shares[rows] ^= 9
    found, wrong = decode(points, shares, threshold=129)
    assert np.array_equal(found, secrets)
    assert wrong == tuple(points[row] for row in rows)


def test_arguments_are_left_alone() -> None:
    secrets = np.full((2, 8), 7, np.uint8)
    shares = split(secrets, threshold=2, points=[1, 2, 3, 4], random_bytes=random.Random(4).randbytes)
    shares[3] = 0
    shares.setflags(write=False)
    assert decode([1, 2, 3, 4], shares, threshold=2)[1] == (4,)


@pytest.mark.parametrize(
    ("points", "threshold", "remedy"),
    [
        ([1, 2, 3], 0, "from 1 to 3"),
        ([1, 2, 3], 4, "from 1 to 3"),
        ([0, 1, 2], 2, "outside 1 … 255"),
        ([1, 2, 2], 2, "a point of its own"),
    ],
)
def test_impossible_parameters_are_refused(points: list[int], threshold: int, remedy: str) -> None:
    with pytest.raises(SetupError, match=remedy):
        decode(points, np.zeros((len(points), 1, 32), np.uint8), threshold=threshold)


@pytest.mark.parametrize("shares", [np.zeros((2, 1), np.uint8), np.zeros((3, 1), np.int64)])
def test_what_are_no_shares_of_these_points_is_refused(shares: Octets) -> None:
    with pytest.raises(InvalidMessageError, match="one a point"):
        decode([1, 2, 3], shares, threshold=2)
