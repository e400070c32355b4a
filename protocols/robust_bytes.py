"""Short secrets from shares of which some are wrong, byte by byte over GF(2^8): the wrong ones found and named.

The shares of one byte are a word of a generalised Reed–Solomon code: m shares are m values of one polynomial of
degree below the threshold T. A wrong share is wrong in all bytes or in some, at the same point:

1. syndromes of every byte, S_j = Σ_i u_i·x_i^j·w_i for j < m − T, with u_i = 1/Π_{k≠i} (x_i − x_k): all zero
   exactly for the values of a polynomial of degree below T;
2. of one byte that has others, Berlekamp and Massey's shortest recurrence: the roots of its characteristic
   polynomial are the points of the shares that are wrong in this byte;
3. the same over the shares that are left, until all syndromes are zero; then interpolation.

Up to (m − T)/2 wrong shares are found, whatever they are: nothing is drawn at random. More are refused, or taken for
shares of another secret, as under any decoder: **compare the secret with a commitment**.

Who learns what: nobody learns anything beyond the shares. A wrong share makes *suspects*: who gave it, or a dealer who
dealt it off the polynomial.

Sources: J. L. Massey, IEEE Trans. Inf. Theory 15 (1969); F. J. MacWilliams, N. J. A. Sloane, The Theory of
Error-Correcting Codes (1977), ch. 12. `robust_decoding` does the same to long vectors over a prime field.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidMessageError
from .shamir_bytes import EXPONENTS, POWERS, PRODUCTS, Octets, check, check_shares, interpolate, product

Points = NDArray[np.intp]


def decode(points: Sequence[int], shares: Octets, *, threshold: int) -> tuple[Octets, tuple[int, ...]]:
    """Reconstruct secrets from shares of which some may be wrong.

    Parameters
    ----------
    points : sequence of int
        One for every share, distinct, 1 … 255.
    shares : ndarray of uint8, shape (len(points), ...)
        In the order of `points`, of any number of secrets.
    threshold : int
        The number of shares that reconstructs.

    Returns
    -------
    secrets : ndarray of uint8, shape (...)
        With exactly `threshold` shares, nothing shows a wrong one.
    wrong : tuple of int
        The points of the wrong shares, at most (len(points) − threshold) // 2.

    Raises
    ------
    InvalidMessageError
        If more are wrong; which ones is unknown. Also if there is not one share of bytes a point.
    SetupError
        If points repeat or lie outside 1 … 255, or fewer than `threshold` are given.
    """
    check(points, threshold)
    check_shares(points, shares)
    if len(points) == threshold:
        return interpolate(points, shares), ()
    x, columns = np.array(points, np.intp), shares.reshape(len(points), -1)
    good = np.ones(len(points), dtype=np.bool_)
    most = (len(points) - threshold) // 2
    while len(off := _syndromes_off_zero(x[good], columns[good], threshold)):
        found = _wrong_points(x[good], off[0])
        good &= ~np.isin(x, found)
        if not len(found) or len(points) - np.count_nonzero(good) > most:
            raise InvalidMessageError(
                f"{len(points)} shares of a secret contradict one another, and more than {most} are wrong"
            )
    used = np.flatnonzero(good)[:threshold]
    return interpolate(x[used].tolist(), shares[used]), tuple(x[~good].tolist())


def _syndromes_off_zero(x: Points, columns: Octets, threshold: int) -> Octets:
    """Return the syndromes, (bytes, m − T), of those bytes whose shares lie on no polynomial."""
    apart = EXPONENTS[x[:, np.newaxis] ^ x].sum(axis=0)  # a point from itself, at exponent 0, adds nothing
    powers = np.arange(len(x) - threshold)[:, np.newaxis]
    syndromes = product(POWERS[(powers * EXPONENTS[x] - apart) % 255], columns).T
    off: Octets = syndromes[syndromes.any(axis=1)]
    return off


def _wrong_points(x: Points, syndromes: Octets) -> Points:
    """Return the points at which one byte is wrong; none if there are too many."""
    recurrence = _shortest_recurrence(syndromes)
    values = np.zeros(len(x), np.uint8)
    for coefficient in recurrence:  # Σ_k r_k·x^(L − k) vanishes at the wrong points
        values = PRODUCTS[values, x] ^ coefficient
    order, roots = len(recurrence) - 1, x[values == 0]
    return roots if 2 * order <= len(syndromes) and len(roots) == order else x[:0]


def _shortest_recurrence(sequence: Octets) -> Octets:
    """Return r_0 = 1, …, r_L of least L with Σ_k r_k·s_(n−k) = 0 for all n ≥ L (Massey 1969, algorithm 6)."""
    current = np.zeros(len(sequence) + 1, np.uint8)
    current[0] = 1
    length, previous = 0, current  # `previous` is scaled to a discrepancy of 1
    for n in range(len(sequence)):
        previous = np.concatenate(([np.uint8(0)], previous[:-1]))  # times x
        discrepancy = np.bitwise_xor.reduce(PRODUCTS[current[: n + 1], sequence[n::-1]])
        if discrepancy:
            corrected = current ^ PRODUCTS[discrepancy, previous]
            if 2 * length <= n:
                length, previous = n + 1 - length, PRODUCTS[POWERS[255 - EXPONENTS[discrepancy]], current]
            current = corrected
    return current[: length + 1]
