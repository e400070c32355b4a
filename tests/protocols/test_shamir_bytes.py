"""Sharing of short secrets: enough shares give them back, fewer say nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.errors import InvalidMessageError, SetupError
from tacit.protocols.shamir_bytes import Octets, interpolate, split

few = settings(deadline=None, derandomize=True, max_examples=40)
VECTORS = json.loads((Path(__file__).parent / "vectors" / "slip39.json").read_text())["vectors"]


def octets(seed: int, *shape: int) -> Octets:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def deal(secrets: Octets, threshold: int, points: list[int], seed: int = 0) -> Octets:
    return split(secrets, threshold=threshold, points=points, random_bytes=random.Random(seed).randbytes)


def product(a: int, b: int) -> int:
    """Multiply in GF(2^8) as FIPS 197 defines it: by shifts."""
    result = 0
    while b:
        result ^= a * (b & 1)
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return result


def evaluate(coefficients: list[int], at: int) -> int:
    """Evaluate a polynomial, lowest coefficient first, by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = product(value, at) ^ coefficient
    return value


@st.composite
def dealings(draw: st.DrawFn) -> tuple[Octets, int, list[int], Octets]:
    """Secrets, their threshold, points in any order and shares; sizes on both sides of the table's limit."""
    points = draw(st.lists(st.integers(1, 255), min_size=1, max_size=20, unique=True))
    threshold = draw(st.integers(1, len(points)))
    seed = draw(st.integers(0, 2**32))
    secrets = octets(seed, draw(st.integers(0, 12)), draw(st.sampled_from([0, 1, 32, 64])))
    return secrets, threshold, points, deal(secrets, threshold, points, seed)


# The field


@pytest.mark.parametrize(("a", "b", "expected"), [(0x57, 0x83, 0xC1), (0x57, 0x13, 0xFE), (0x53, 0xCA, 0x01)])
def test_products_of_the_standard(a: int, b: int, expected: int) -> None:
    # The line through (0, 0) and (1, a) is a · x: FIPS 197, 4.2; 0x53 and 0xCA are inverses.
    line = np.array([[0], [a]], dtype=np.uint8)
    assert interpolate([0, 1], line, b) == [expected]


def test_every_product_and_every_quotient() -> None:
    slopes = np.arange(256, dtype=np.uint8)
    for x in range(2, 256):
        lines = np.stack([0 * slopes, slopes])
        products = interpolate([0, 1], lines, x)
        assert products.tolist() == [product(slope, x) for slope in range(256)]
        assert np.array_equal(interpolate([0, x], np.stack([0 * slopes, products]), 1), slopes)


@few
@given(st.lists(st.integers(0, 255), min_size=1, max_size=9), st.integers(0, 255), st.randoms())
def test_values_of_a_polynomial_interpolate_to_its_values(
    coefficients: list[int], at: int, order: random.Random
) -> None:
    points = order.sample(range(256), len(coefficients))
    values = np.array([evaluate(coefficients, point) for point in points], dtype=np.uint8)
    assert interpolate(points, values, at) == evaluate(coefficients, at)


def test_at_a_given_point_the_given_value_returns() -> None:
    values = octets(1, 4, 3, 5)
    for point, value in zip((9, 0, 255, 2), values, strict=True):
        assert np.array_equal(interpolate((9, 0, 255, 2), values, point), value)


# Test vectors of SLIP-0039


def recovered(points_and_values: list[tuple[int, bytes]], threshold: int) -> bytes:
    """Return the secret at 255 after comparing the digest at 254, as SLIP-0039 has it."""
    points = [point for point, _ in points_and_values]
    if threshold == 1:
        return points_and_values[0][1]
    values = np.array([list(value) for _, value in points_and_values], dtype=np.uint8)
    digest, secret = (interpolate(points, values, at).tobytes() for at in (254, 255))
    expected = hmac.digest(digest[4:], secret, "sha256")[:4]
    if digest[:4] != expected:
        raise ValueError("the digest does not fit the secret")
    return secret


def decrypted(encrypted: bytes, identifier: int, iteration_exponent: int) -> bytes:
    """Undo the cipher that SLIP-0039 puts around a master secret; the vectors' passphrase is TREZOR."""
    left, right = encrypted[: len(encrypted) // 2], encrypted[len(encrypted) // 2 :]
    salt = b"shamir" + identifier.to_bytes(2, "big")
    for turn in (3, 2, 1, 0):
        pad = hashlib.pbkdf2_hmac(
            "sha256", bytes([turn]) + b"TREZOR", salt + right, 2500 << iteration_exponent, len(right)
        )
        left, right = right, bytes(a ^ b for a, b in zip(left, pad, strict=True))
    return right + left


def master_secret(vector: dict[str, Any]) -> bytes:
    groups = []
    for group in vector["groups"]:
        shares = [(share["point"], bytes.fromhex(share["value"])) for share in group["shares"]]
        groups.append((group["point"], recovered(shares, group["threshold"])))
    encrypted = recovered(groups, vector["group_threshold"])
    return decrypted(encrypted, vector["identifier"], vector["iteration_exponent"])


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["master_secret"]], ids=lambda v: v["name"])
def test_slip39_master_secrets(vector: dict[str, Any]) -> None:
    assert master_secret(vector).hex() == vector["master_secret"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if not v["master_secret"]], ids=lambda v: v["name"])
def test_slip39_invalid_digests(vector: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="digest"):
        master_secret(vector)


# Splitting and reconstructing


@few
@given(dealings(), st.randoms())
def test_any_shares_in_any_order_reconstruct(
    dealing: tuple[Octets, int, list[int], Octets], order: random.Random
) -> None:
    secrets, threshold, points, shares = dealing
    assert shares.shape == (len(points), *secrets.shape)
    chosen = order.sample(range(len(points)), order.randint(threshold, len(points)))
    assert np.array_equal(interpolate([points[i] for i in chosen], shares[chosen]), secrets)


def test_every_subset_reconstructs() -> None:
    secrets, points = octets(3, 1, 32), [1, 2, 3, 4, 5, 6]
    shares = deal(secrets, 3, points)
    for subset in combinations(range(6), 3):
        assert np.array_equal(interpolate([points[i] for i in subset], shares[list(subset)]), secrets)


def test_all_255_points_may_be_dealt_to() -> None:
    points = list(range(1, 256))
    shares = deal(octets(4, 1, 2), 255, points)
    assert np.array_equal(interpolate(points, shares), octets(4, 1, 2))


@pytest.mark.parametrize("threshold", [2, 3])
def test_fewer_shares_are_alike_for_every_secret(threshold: int) -> None:
    # Over all random bytes, any threshold − 1 shares take each of their values exactly once, whatever the secret.
    n_cases = 256 ** (threshold - 1)
    uniform = np.indices((256,) * (threshold - 1), dtype=np.uint8).reshape(threshold - 1, n_cases)
    for secret in (0, 1, 200):
        secrets = np.full((n_cases, 1), secret, dtype=np.uint8)
        shares = split(
            secrets, threshold=threshold, points=[1, 7, 3, 255], random_bytes=lambda _: uniform.tobytes()
        )
        for seen in combinations(shares[:, :, 0].astype(np.intp), threshold - 1):
            joint = np.ravel_multi_index(seen, (256,) * (threshold - 1))
            assert np.array_equal(np.bincount(joint, minlength=n_cases), np.ones(n_cases))


def test_fewer_shares_are_consistent_with_every_secret() -> None:
    shares = deal(octets(5, 1, 1), 3, [4, 5, 6])
    seen = np.broadcast_to(shares[:2, 0], (2, 256))
    every = np.arange(256, dtype=np.uint8)
    third = interpolate([0, 4, 5], np.concatenate([every[np.newaxis], seen]), 6)
    assert len(set(third.tolist())) == 256


def test_randomness_is_asked_for_once_and_exactly() -> None:
    asked: list[int] = []

    def random_bytes(n: int) -> bytes:
        asked.append(n)
        return bytes(n)

    split(octets(6, 5, 32), threshold=4, points=range(1, 8), random_bytes=random_bytes)
    assert asked == [3 * 5 * 32]


def test_secrets_of_a_batch_are_shared_independently() -> None:
    same = np.zeros((50, 8), dtype=np.uint8)
    shares = deal(same, 2, [1, 2, 3])
    for share in shares:
        assert len({row.tobytes() for row in share}) == 50


def test_arguments_are_left_alone() -> None:
    secrets = octets(7, 3, 32)
    secrets.setflags(write=False)
    shares = deal(secrets, 2, [1, 2, 3])
    shares.setflags(write=False)
    assert np.array_equal(interpolate([1, 2, 3], shares), secrets)


# Faults


@pytest.mark.parametrize(
    "shares",
    [np.zeros((2, 1, 32), np.uint8), np.zeros((3, 1, 32), np.int64), np.zeros((), np.uint8)],
    ids=["too few", "no bytes", "no array"],
)
def test_what_are_no_shares_of_these_points_is_refused(shares: Octets) -> None:
    with pytest.raises(InvalidMessageError, match="one a point"):
        interpolate([1, 2, 3], shares)


@pytest.mark.parametrize(
    ("points", "threshold", "remedy"),
    [
        ([1, 2, 3], 0, "from 1 to 3"),
        ([1, 2, 3], 4, "from 1 to 3"),
        ([0, 1, 2], 2, "outside 1 … 255"),
        ([1, 2, 256], 2, "outside 1 … 255"),
        ([1, 2, 2], 2, "a point of its own"),
        ([], 1, "a point of its own"),
    ],
)
def test_impossible_parameters_are_refused(points: list[int], threshold: int, remedy: str) -> None:
    with pytest.raises(SetupError, match=remedy):
        deal(octets(13, 1, 32), threshold, points)


@pytest.mark.parametrize("at", [-1, 256])
def test_only_field_elements_are_interpolated_at(at: int) -> None:
    with pytest.raises(SetupError, match="outside 0 … 255"):
        interpolate([1, 2], octets(14, 2, 3), at)
