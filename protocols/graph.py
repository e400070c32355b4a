"""Who masks with whom, and how many shares reconstruct: thresholds, degrees and the graph of pairwise masking.

Up to `COMPLETE_UP_TO` holders every pair shares a mask. Beyond, each holder masks with k neighbours only, who also
hold the shares of its secrets: the holders stand on a circle, in an order shuffled by a seed, and each is joined to
the k/2 on either side. That is Harary's graph: no other graph of so few edges takes more losses before it falls apart.

Against whom, of n holders of whom some collude, chosen before the seed is known, and some are lost:

* *semi-honest*: neighbours who pool t shares open a holder's secret, so fewer than t of them may collude;
* *active*: a coordinator that asks half the neighbours for one secret of a holder and half for the other gets both
  if 2t ≤ k + its colluders there, so fewer than 2t − k of them may collude;
* if colluding and lost holders cut the graph, the sum of each part shows. A cut takes two runs of k/2. A lying
  coordinator may choose whom it calls lost; but the secrets of the holder next to a run open only with t shares, of
  which its other side gives at most k/2, so both runs together hold 2t − k colluders. Over all pairs of runs that
  is at most n/2 times as likely as the case before;
* a holder left with fewer than t living neighbours ends the round without a result.

The seed is joint: each holder commits to a share of it before any share is revealed, so neither the coordinator nor
any holder chooses its neighbours. Who withholds its share at the end can only make all start again with fresh shares,
and so has one more draw; never go on without it.

Sources: Bonawitz et al. 2017 (thresholds); Bell, Bonawitz, Gascón, Lepoint and Raykova 2020 (graph and conditions on
it); Harary 1962 (The maximum connectivity of a graph).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .errors import InvalidMessageError, SetupError
from .party import PartyId

COMPLETE_UP_TO = 64  # holders: a mask costs too little for a sparser graph to pay

# What may go wrong, over all holders together. Privacy fails by colluding neighbours or by a cut: half for each.
PRIVACY = Fraction(1, 2**40)
COMPLETION = Fraction(1, 2**20)

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """How many neighbours each holder has, and how many of them reconstruct its secrets.

    A holder deals to its neighbours and keeps no share itself: it is asked for nothing while it lives, and
    cannot answer once it is lost.

    Attributes
    ----------
    degree : int
        Neighbours of a holder: k.
    threshold : int
        Shares that reconstruct: t of k.
    """

    degree: int
    threshold: int


# Thresholds


def default_threshold(n_holders: int, *, active: bool) -> int:
    """Return the threshold used when none is chosen: ⌊n/2⌋ + 1, or ⌊2n/3⌋ + 1 against an active coordinator."""
    return (2 * n_holders // 3 if active else n_holders // 2) + 1


def check_threshold(threshold: int, n_holders: int, *, colluding: int, active: bool) -> None:
    """Check that so many colluding holders learn no more than a sum over two honest ones.

    The condition is n_C + 2 ≤ t ≤ n, and 2t > n + n_C against an active coordinator, which could show two
    included sets to two halves of the honest holders.

    Raises
    ------
    SetupError
        If the threshold is too low, or there are too few holders for any.
    """
    smallest = _smallest_threshold(n_holders, colluding, active)
    if smallest > n_holders:
        raise SetupError(
            f"{n_holders} holders have no threshold that withstands {colluding} colluding ones: "
            "assume fewer or add holders"
        )
    if not smallest <= threshold <= n_holders:
        raise SetupError(
            f"threshold {threshold} of {n_holders} does not withstand {colluding} colluding holders: "
            f"choose one from {smallest} to {n_holders}"
        )


def tolerated_collusion(threshold: int, n_holders: int, *, active: bool) -> int:
    """Return the most holders that may collude with the coordinator at this threshold.

    Raises
    ------
    SetupError
        If the threshold is not even safe when none do.
    """
    check_threshold(threshold, n_holders, colluding=0, active=active)
    return min(threshold - 2, 2 * threshold - n_holders - 1) if active else threshold - 2


def _smallest_threshold(n_holders: int, colluding: int, active: bool) -> int:
    return max(colluding + 2, (n_holders + colluding) // 2 + 1 if active else 0)


# Degrees


def degree_and_threshold(
    n_holders: int,
    *,
    corrupt_fraction: float | Fraction,
    dropout_fraction: float | Fraction,
    active: bool,
    degree: int | None = None,
) -> Neighbourhood:
    """Return the smallest degree, and for it the smallest threshold, that keep within `PRIVACY` and `COMPLETION`.

    With X colluding and Y lost among the k neighbours of one holder, hypergeometric over the n − 1 others, and
    t the threshold, the conditions are:

    * n · P[X ≥ t] ≤ 2^-41, against an active coordinator n · P[X ≥ 2t − k] ≤ 2^-41;
    * P[cut] ≤ 2^-41, where P[cut] ≤ n(n − 1)/2 · P[k given places hold colluding or lost holders only];
    * n · P[Y > k − t] + P[cut] ≤ 2^-20.

    Probabilities are exact fractions. Degrees are even, or n − 1.

    Parameters
    ----------
    n_holders : int
    corrupt_fraction : float
        Of the holders, who may collude with the coordinator: more than 0; any part of a holder counts as one.
    dropout_fraction : float
        Of the holders, who may be lost in a round.
    active : bool
        Whether the coordinator may lie.
    degree : int, optional
        This degree and no other.

    Raises
    ------
    SetupError
        If not even the complete graph withstands so many, or the degree given does not.
    """
    corrupt = _part(corrupt_fraction, n_holders)
    dropped = _part(dropout_fraction, n_holders)
    if corrupt < 1:
        raise SetupError("some holder is always curious: choose a corrupt fraction above 0")
    # In the complete graph the counts are certain: all of the corrupt and lost are neighbours of an honest holder.
    if _threshold(n_holders - 1, corrupt + 1, active) + dropped > n_holders - 1:
        raise SetupError(
            f"{n_holders} holders of which {corrupt} collude cannot lose {dropped}: expect fewer or add holders"
        )
    degrees = (*range(2, n_holders - 1, 2), n_holders - 1)
    found = (_neighbourhood(n_holders, corrupt, dropped, k, active) for k in degrees if degree in (None, k))
    neighbourhood = next((one for one in found if one is not None), None)
    if neighbourhood is None:
        raise SetupError(
            f"{degree} neighbours each of {n_holders} holders do not withstand {corrupt} colluding and {dropped} "
            f"lost ones: choose an even number from 2 to {n_holders - 2}, or {n_holders - 1}, and a larger one"
        )
    return neighbourhood


def hypergeometric_tail(population: int, marked: int, draws: int, at_least: int) -> Fraction:
    """Return the probability that so many draws without replacement hit at least so many of the marked, exactly."""
    counts = range(max(at_least, 0), min(marked, draws) + 1)
    cases = sum(math.comb(marked, hit) * math.comb(population - marked, draws - hit) for hit in counts)
    return Fraction(cases, math.comb(population, draws))


def _part(fraction: float | Fraction, n_holders: int) -> int:
    """Return how many holders a fraction is, rounded up; 0.07 means the decimal, not its nearest double."""
    if not 0 <= fraction < 1:
        raise SetupError(f"{fraction} is no fraction of the holders: choose one from 0 to below 1")
    return math.ceil(Fraction(str(fraction)) * n_holders)


def _neighbourhood(
    n_holders: int, corrupt: int, dropped: int, degree: int, active: bool
) -> Neighbourhood | None:
    """Return the smallest threshold at this degree, or None if no threshold meets the conditions."""
    others = n_holders - 1
    threshold = _threshold(degree, _rare_count(others, corrupt, degree, PRIVACY / (2 * n_holders)), active)
    if threshold > degree:
        return None
    all_gone = Fraction(math.comb(corrupt + dropped, degree), math.comb(n_holders, degree))
    cut = math.comb(n_holders, 2) * all_gone
    stranded = n_holders * hypergeometric_tail(others, dropped, degree, degree - threshold + 1)
    if cut > PRIVACY / 2 or stranded + cut > COMPLETION:
        return None
    return Neighbourhood(degree, threshold)


def _threshold(degree: int, colluding: int, active: bool) -> int:
    """Return the smallest threshold that takes `colluding` neighbours to break: t, or 2t − k if active."""
    return -(-(degree + colluding) // 2) if active else colluding


def _rare_count(population: int, marked: int, draws: int, limit: Fraction) -> int:
    """Return the smallest count that so many draws reach with at most the limiting probability."""
    allowed = math.floor(limit * math.comb(population, draws))
    cases = 0
    for hit in range(min(marked, draws), -1, -1):
        cases += math.comb(marked, hit) * math.comb(population - marked, draws - hit)
        if cases > allowed:
            return hit + 1
    return 0


# The graph


def harary_neighbours(order: Sequence[PartyId], degree: int) -> dict[PartyId, tuple[PartyId, ...]]:
    """Join each holder to degree/2 others on either side of a circle, or all if the degree reaches that.

    Parameters
    ----------
    order : sequence of PartyId
        The circle.
    degree : int
        Even, or at least len(order) − 1 for the complete graph.

    Returns
    -------
    dict
        For each holder its neighbours, sorted by name.

    Raises
    ------
    SetupError
        If a holder stands in the circle twice, or the degree is odd or below 2.
    """
    n = len(order)
    if len(set(order)) != n:
        raise SetupError("a holder stands twice in the graph: give each its own name")
    if degree >= n - 1:
        return {holder: tuple(sorted(set(order) - {holder})) for holder in order}
    if degree < 2 or degree % 2:
        raise SetupError(f"degree {degree} among {n} holders: choose an even one, or {n - 1} for all pairs")
    steps = [step for step in range(-(degree // 2), degree // 2 + 1) if step]
    return {
        holder: tuple(sorted(order[(place + step) % n] for step in steps))
        for place, holder in enumerate(order)
    }


def shuffled(holders: Sequence[PartyId], seed: bytes) -> tuple[PartyId, ...]:
    """Return the holders in the order of SHA-256(seed ‖ name), however they were given."""
    return tuple(sorted(holders, key=lambda name: hashlib.sha256(seed + name.encode()).digest()))


def commitment(seed_share: bytes, holder: PartyId, session: bytes) -> bytes:
    """Return what a holder publishes before any share of the seed is revealed: 32 bytes.

    It hides the share, `SEED_BYTES` fresh random bytes, and can be repeated neither by another holder nor in
    another session. **Reveal only once all hold the same commitments of everybody.**
    """
    return hashlib.sha256(b"tacit graph commitment" + session + _named(holder) + seed_share).digest()


def joint_seed(shares: Mapping[PartyId, bytes]) -> bytes:
    """Join the revealed shares of *all* who committed: 32 bytes, uniform if one of them is.

    Without the share of one who committed, start again with fresh shares: leaving it out would let every
    colluding holder choose between two seeds.

    Raises
    ------
    InvalidMessageError
        If a share is not `SEED_BYTES` long.
    """
    wrong = [holder for holder, share in shares.items() if len(share) != SEED_BYTES]
    if wrong:
        raise InvalidMessageError(f"a share of the graph's seed is not {SEED_BYTES} bytes", culprits=wrong)
    joined = b"".join(_named(holder) + shares[holder] for holder in sorted(shares))
    return hashlib.sha256(b"tacit graph seed" + joined).digest()


def _named(holder: PartyId) -> bytes:
    """Return a name after its length."""
    name = holder.encode()
    return len(name).to_bytes(4, "big") + name
