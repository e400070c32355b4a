"""Secrets from shares of which some are wrong: the wrong ones found, left out, and named.

The shares of one column are a word of a generalised Reed–Solomon code: m replies are m values of one polynomial of
degree below the threshold T. Wrong replies are wrong rows of a matrix with a row a share holder, so all columns are
compressed to a single word, by products with one vector of uniform elements that is drawn **after the
shares are in**, and one word is decoded:

1. word w_i = Σ_c ρ_c·s_ic, for each reply i;
2. syndromes S_j = Σ_i u_i·x_i^j·w_i for j < m − T, with u_i = 1/Π_{k≠i} (x_i − x_k): all zero exactly for the values
   of a polynomial of degree below T;
3. Berlekamp and Massey's shortest recurrence of the syndromes; its characteristic polynomial has the points of the
   wrong replies as its roots;
4. reconstruction from the others.

What is corrected and what is found out, with m replies and at most e to be corrected (e ≤ (m − T)/2):

- up to e wrong rows are left out, and the secrets are right;
- up to m − T − e wrong rows never give wrong secrets: they are corrected or refused. (Correcting costs detection: with
  e = 0, all of up to m − T wrong rows are found out; more can be shares of other secrets under any decoder.)

Both but for a chance of 2^-61 a wrong row and modulus: a wrong row escapes if its errors, not all zero and fixed
before ρ was drawn, have a zero product with ρ, which is uniform over the field. One compression is therefore enough.
(With coefficients ρ of 21 bits it would be 2^-21, and three would be needed.)

Who learns what: the coordinator learns nothing beyond the shares. A wrong row makes *suspects*: its share
holder, or a dealer who dealt it a share off the polynomial.

Sources: J. L. Massey, IEEE Trans. Inf. Theory 15 (1969); F. J. MacWilliams, N. J. A. Sloane, The Theory of
Error-Correcting Codes (1977), ch. 12; R. Freivalds, 1977 (checking products by random vectors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from .errors import InvalidMessageError, MisuseError
from .field_matrix import word_digits
from .key_agreement import KEY_BYTES
from .prime_field import Elements, Moduli, uniform
from .secret import RandomBytes
from .shamir import Sharing, reconstruct

_DIGITS = 4  # of 16 bits
_BLOCK = 2**13  # columns that are compressed at a time; up to 2^21 would be exact


@dataclass(frozen=True)
class Decoded:
    """What robust decoding found.

    Attributes
    ----------
    secrets : ndarray of uint64, shape (moduli, count)
        Canonical.
    wrong : tuple of int
        Share holders whose shares were wrong and are left out.
    """

    secrets: Elements
    wrong: tuple[int, ...]


def decode(
    sharing: Sharing,
    shares: Mapping[int, Elements],
    count: int,
    random_bytes: RandomBytes,
    *,
    correct: int | None = None,
) -> Decoded:
    """Reconstruct secrets from shares of which some may be wrong.

    **Call when the shares are in**: whoever knows the random vector can choose errors that pass.

    Parameters
    ----------
    sharing : Sharing
    shares : mapping of int to ndarray of uint64, shape (moduli, columns)
        By number of the share holder; canonical (`prime_field.require_elements`).
    count : int
        Number of secrets.
    random_bytes : callable
        Source of 32 bytes nobody can foresee.
    correct : int, optional
        e: wrong rows to correct, at most; 0 only detects. By default as many as can be,
        (len(shares) − threshold) // 2.

    Raises
    ------
    InvalidMessageError
        More rows are wrong than are to be corrected; which ones is unknown.
    MisuseError
        Fewer shares than the threshold, or more to be corrected than can be.
    """
    surplus = len(shares) - sharing.threshold
    most = surplus // 2 if correct is None else correct
    if not 0 <= 2 * most <= surplus:
        raise MisuseError(
            f"{len(shares)} shares with threshold {sharing.threshold} cannot correct {most}: wait for more"
        )
    holders = sorted(shares)
    vector = uniform(random_bytes(KEY_BYTES), sharing.moduli, sharing.n_columns(count))
    words = compress([shares[holder] for holder in holders], vector, sharing.moduli)
    points = [sharing.share_points[holder] for holder in holders]
    wrong: set[int] = set()
    for word, modulus in zip(words, sharing.moduli, strict=True):
        found = wrong_points(points, word, surplus, modulus)
        if found is None or len(wrong | found) > most:
            raise InvalidMessageError(
                f"shares of {len(shares)} share holders contradict one another, and more than {most} are wrong"
            )
        wrong |= found
    good = {holder: shares[holder] for holder, x in zip(holders, points, strict=True) if x not in wrong}
    return Decoded(reconstruct(sharing, good, count), tuple(h for h in holders if h not in good))


def compress(shares: Sequence[Elements], vector: Elements, moduli: Moduli) -> list[list[int]]:
    """Multiply each share with one vector: for each modulus a word, of one value a share.

    Digits of 16 bits are multiplied by BLAS: sums over a block stay below 2^(32 + 13), sums over all
    of up to 2^29 columns below 2^61, and four of those below 2^63.

    Parameters
    ----------
    shares : sequence of ndarray of uint64, shape (moduli, columns)
    vector : ndarray of uint64, shape (moduli, columns)
    moduli : tuple of int
    """
    sums = np.zeros((len(shares), len(moduli), _DIGITS, _DIGITS), dtype=np.int64)
    for start in range(0, vector.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        right = word_digits(vector[:, block], _DIGITS).astype(np.float64)
        for row, share in enumerate(shares):
            left = word_digits(share[:, block], _DIGITS).astype(np.float64)
            sums[row] += np.matmul(left.swapaxes(1, 2), right).astype(np.int64)
    # Σ_ij c_ij·2^(16(i + j)): the c_ij of one power are a diagonal of the table turned over.
    flipped = sums[..., ::-1]
    diagonals = [np.trace(flipped, _DIGITS - 1 - power, -2, -1) for power in range(2 * _DIGITS - 1)]
    terms = np.stack(diagonals, axis=-1).swapaxes(0, 1).tolist()  # modulus, share, power of 2^16
    return [
        [sum(term << (16 * power) for power, term in enumerate(value)) % p for value in word]
        for word, p in zip(terms, moduli, strict=True)
    ]


def wrong_points(points: Sequence[int], word: Sequence[int], surplus: int, modulus: int) -> set[int] | None:
    """Tell at which points a word is off the polynomial on which nearly all of it lies.

    Parameters
    ----------
    points : sequence of int
        Distinct, and none of them 0 modulo the modulus.
    word : sequence of int
        The values there.
    surplus : int
        Values beyond those that determine a polynomial: len(points) − threshold.
    modulus : int
        A prime.

    Returns
    -------
    set of int, or None
        The points of the at most surplus/2 wrong values; None if there are more.
    """
    scaled = [u * w % modulus for u, w in zip(_multipliers(tuple(points), modulus), word, strict=True)]
    syndromes = []
    for _ in range(surplus):
        syndromes.append(sum(scaled) % modulus)
        scaled = [value * x % modulus for value, x in zip(scaled, points, strict=True)]
    recurrence = _shortest_recurrence(syndromes, modulus)
    order = len(recurrence) - 1
    # Σ_k r_k·x^(order − k) vanishes at the wrong points, and has no other roots if there are few enough of them.
    roots = {x for x in points if _evaluate(recurrence, x, modulus) == 0}
    return roots if 2 * order <= surplus and len(roots) == order else None


@lru_cache(maxsize=128)
def _multipliers(points: tuple[int, ...], modulus: int) -> tuple[int, ...]:
    """Return u_i = 1/Π_{k≠i} (x_i − x_k)."""
    return tuple(pow(prod(x - other for other in points if other != x), -1, modulus) for x in points)


def _shortest_recurrence(sequence: Sequence[int], modulus: int) -> list[int]:
    """Return r_0 = 1, …, r_L of least L with Σ_k r_k·s_(n−k) = 0 for all n ≥ L (Massey 1969, algorithm 6)."""
    current, previous = [1], [1]
    length, gap, last_discrepancy = 0, 1, 1
    for n in range(len(sequence)):
        discrepancy = sum(r * sequence[n - k] for k, r in enumerate(current[: length + 1])) % modulus
        if discrepancy:
            factor = discrepancy * pow(last_discrepancy, -1, modulus)
            corrected = _subtract_shifted(current, previous, factor, gap, modulus)
            if 2 * length <= n:
                length, previous, last_discrepancy, gap = n + 1 - length, current, discrepancy, 0
            current = corrected
        gap += 1
    return (current + [0] * length)[: length + 1]


def _subtract_shifted(a: list[int], b: list[int], factor: int, shift: int, modulus: int) -> list[int]:
    """Return a − factor·x^shift·b, lowest coefficients first."""
    shifted = [0] * shift + [factor * coefficient for coefficient in b]
    size = max(len(a), len(shifted))
    return [
        (x - y) % modulus
        for x, y in zip(a + [0] * (size - len(a)), shifted + [0] * (size - len(shifted)), strict=True)
    ]


def _evaluate(coefficients: Sequence[int], x: int, modulus: int) -> int:
    """Evaluate a polynomial, its highest coefficient first (Horner)."""
    value = 0
    for coefficient in coefficients:
        value = (value * x + coefficient) % modulus
    return value
