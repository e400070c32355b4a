"""Shamir's secret sharing of vectors, plain or packed, with most of the randomness sent as seeds.

A dealer shares a column of secrets by a polynomial over a prime field that takes the secrets' values at *secret
points*, and whose values at the other points are the shares, one for each *share holder*. With l secrets a column
(l = 1: Shamir 1979; more: Franklin and Yung 1992) and threshold T the degree is T − 1 and

- any T shares determine all secrets, as do sums of shares the sums of secrets;
- any T − l shares together are independent of the secrets, whoever holds them. Between T − l and T shares of a packed
  column tell something, though not all: threshold − packing is what counts against curious share holders.

T − l values may be chosen freely, so the first T − l shares are expansions of 32-byte seeds (`prime_field.uniform`),
and the others are interpolated from them and the secrets. That is the distribution of uniform polynomials as far as
AES-256 is a pseudorandom permutation, and those share holders receive 32 bytes instead of a vector.

Points are neighbouring integers: interpolation between them has small integer coefficients, which makes the products
cheap (`field_matrix`). Plain sharing has the secret at 0 and shares at 1, −1, 2, −2, …; packed sharing has secrets
at 0, −1, …, −(l − 1) and shares at 1, 2, 3, …, for a point of both *would be* a secret.

Nothing here is authentic: wrong shares give wrong secrets unless there are more than T of them
(`robust_decoding`), and a dealer may deal shares of no polynomial.

Sources: A. Shamir, CACM 22 (1979); M. Franklin, M. Yung, STOC 1992 (packing). That shares travel as seeds is known
from additive sharing (H. Corrigan-Gibbs, D. Boneh, NSDI 2017); here it is the same for as many as are free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .errors import MisuseError, SetupError
from .field_matrix import FieldMatrix, lagrange
from .key_agreement import KEY_BYTES
from .prime_field import PRIMES, Elements, Moduli, uniform
from .secret import RandomBytes


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """The public parameters of a sharing, the same for all dealers, share holders and the coordinator.

    Attributes
    ----------
    n_share_holders : int
        N: shares of each column, numbered from 0.
    threshold : int
        T: shares that reconstruct.
    packing : int
        l: secrets a column.
    moduli : tuple of int
        Primes just below 2^61; every secret is shared modulo each of them.

    Raises
    ------
    SetupError
        Not 1 ≤ packing < threshold ≤ n_share_holders.
    """

    n_share_holders: int
    threshold: int
    packing: int = 1
    moduli: Moduli = PRIMES[:1]

    def __post_init__(self) -> None:
        if not 1 <= self.packing < self.threshold <= self.n_share_holders:
            raise SetupError(
                f"a threshold of {self.threshold} among {self.n_share_holders} share holders with {self.packing} "
                "secrets a column: the threshold exceeds the secrets a column, and is at most the share holders"
            )

    @property
    def n_seeds(self) -> int:
        """Shares that travel as seeds, the first ones: as many as together tell nothing of the secrets."""
        return self.threshold - self.packing

    @property
    def secret_points(self) -> tuple[int, ...]:
        """Where a column's polynomial takes the secrets' values."""
        return tuple(range(0, -self.packing, -1))

    @property
    def share_points(self) -> tuple[int, ...]:
        """Where a column's polynomial takes the shares' values."""
        if self.packing > 1:
            return tuple(range(1, self.n_share_holders + 1))
        return tuple((i // 2 + 1) * (1 if i % 2 == 0 else -1) for i in range(self.n_share_holders))

    def n_columns(self, count: int) -> int:
        """Return how many columns hold `count` secrets, and so the length of a share."""
        return -(-count // self.packing)


def split(
    sharing: Sharing, secrets: Elements, random_bytes: RandomBytes
) -> tuple[list[bytes], NDArray[np.uint64]]:
    """Deal shares of a vector of secrets.

    Parameters
    ----------
    sharing : Sharing
    secrets : ndarray of uint64, shape (moduli, count)
        Canonical elements.
    random_bytes : callable
        Source of 32 secret bytes for each seed.

    Returns
    -------
    seeds : list of bytes
        The shares of the first n_seeds share holders: each expands its own with `expand`. **Never two of
        them to one party**, as with any share.
    shares : ndarray of uint64, shape (n_share_holders − n_seeds, moduli, columns)
        The shares of the others, canonical.
    """
    seeds = [random_bytes(KEY_BYTES) for _ in range(sharing.n_seeds)]
    count = secrets.shape[1]
    shares = _splitting(sharing).apply(
        [*_columns(sharing, secrets), *(expand(sharing, seed, count) for seed in seeds)]
    )
    return seeds, shares


def expand(sharing: Sharing, seed: bytes, count: int) -> Elements:
    """Expand the seed that a dealer of `count` secrets has sent to the share it stands for.

    Returns
    -------
    ndarray of uint64, shape (moduli, columns)
    """
    return uniform(seed, sharing.moduli, sharing.n_columns(count))


def reconstruct(sharing: Sharing, shares: Mapping[int, Elements], count: int) -> Elements:
    """Reconstruct secrets, or sums of secrets from sums of their shares.

    Parameters
    ----------
    sharing : Sharing
    shares : mapping of int to ndarray of uint64, shape (moduli, columns)
        By number of the share holder; canonical (`prime_field.require_elements`). Only the first
        `threshold` of them are looked at.
    count : int
        Number of secrets.

    Returns
    -------
    ndarray of uint64, shape (moduli, count)
        Canonical.

    Raises
    ------
    MisuseError
        There are fewer shares than the threshold.
    """
    if len(shares) < sharing.threshold:
        raise MisuseError(f"{len(shares)} shares cannot reconstruct: wait for {sharing.threshold}")
    chosen = sorted(shares)[: sharing.threshold]
    columns = _reconstruction(sharing, tuple(chosen)).apply([shares[holder] for holder in chosen])
    # Row j holds the secrets at −j, which are the j-th part of the vector.
    return columns.transpose(1, 0, 2).reshape(len(sharing.moduli), -1)[:, :count]


def _columns(sharing: Sharing, secrets: Elements) -> Sequence[Elements]:
    """Cut vectors into `packing` parts of equal length, the last one padded with zeros."""
    n_columns = sharing.n_columns(secrets.shape[1])
    missing = sharing.packing * n_columns - secrets.shape[1]
    padded = np.pad(secrets, ((0, 0), (0, missing))) if missing else secrets
    return np.split(padded, sharing.packing, axis=1)


@lru_cache(maxsize=16)
def _splitting(sharing: Sharing) -> FieldMatrix:
    """Return the matrix that takes secrets and the first shares to the other shares."""
    seeded, others = sharing.share_points[: sharing.n_seeds], sharing.share_points[sharing.n_seeds :]
    return _interpolation((*sharing.secret_points, *seeded), others, sharing.moduli)


@lru_cache(maxsize=64)
def _reconstruction(sharing: Sharing, holders: tuple[int, ...]) -> FieldMatrix:
    """Return the matrix that takes the shares of some share holders to the secrets."""
    points = [sharing.share_points[holder] for holder in holders]
    return _interpolation(points, sharing.secret_points, sharing.moduli)


def _interpolation(points: Sequence[int], targets: Collection[int], moduli: Moduli) -> FieldMatrix:
    return FieldMatrix([lagrange(points, tuple(targets), modulus) for modulus in moduli], moduli)
