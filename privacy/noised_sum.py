"""One vector that is released again and again with noise: what a model under privacy asks its holders for.

A model under privacy releases sums of this one form, and nothing else. Each unit (a record, a person or a holder) puts
in one row; the holder clips and rounds the rows and adds them up (`clipped_sum`), charges its budget, adds its share of
the noise (`add_noise`), and only then does the sum enter the protocol. All parties work out clip, grid, and noise for
themselves, from the public guarantee, the dimension, the number of rounds and the roster.

Adversary: as of `Privacy`; the coordinator sees the noised total only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.encoding_parameters import MAX_FRACTION_BITS, FixedPoint
from .accounting import Charge
from .clipping import sum_of_rows
from .discrete_gaussian import RandomBytes, discrete_gaussian
from .errors import PrivacyError
from .guarantee import Privacy
from .noise_plan import NoisePlan

FINE_BITS = 14  # a clip is at least 2^14 √d grid units, so rounding adds at most 2^-15 to the noise
LARGEST_CLIP_BITS = (
    30  # so that 2^23 rows or more, which no holder has by a coordinator's choice, fill a word
)
LARGEST_TOTAL_BITS = 52  # a holder's noised sum is exact as a double


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedSum:
    """The form of a model's releases under privacy.

    Attributes
    ----------
    privacy : Privacy
        What all rounds together keep.
    dimension : int
        d, the numbers of a row, and of the released vector.
    rounds : int
        Releases of the whole computation, fixed beforehand.

    Raises
    ------
    PrivacyError
        The clip is too large or too small for a grid.
    """

    privacy: Privacy
    dimension: int
    rounds: int

    def __post_init__(self) -> None:
        if self.dimension < 1 or self.rounds < 1:
            raise PrivacyError("a release has at least one number, and a computation one release")
        if self.rounds > 1 and self.privacy.known < 1:
            raise PrivacyError(
                "known 0: holders see what rounds release, and each knows its own noise; at least 1"
            )
        if self.fraction_bits > MAX_FRACTION_BITS:
            raise PrivacyError(f"clip {self.privacy.clip!r} is too small for a grid: contribute larger units")
        if self.privacy.clip > 2.0**LARGEST_CLIP_BITS * math.sqrt(self.dimension):
            raise PrivacyError(
                f"clip {self.privacy.clip!r} is too large for a grid: contribute smaller units"
            )

    @property
    def fraction_bits(self) -> int:
        """The grid is the multiples of 2^-fraction_bits: fine beside the clip, coarse beside a double."""
        _, exponent = math.frexp(math.sqrt(self.dimension) / self.privacy.clip)
        return max(0, exponent + FINE_BITS)

    # At a holder

    def clipped_sum(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Clip every row, round it to the grid, and add the rows up, exactly and without noise.

        Parameters
        ----------
        rows : ndarray of float, shape (n, d)
            One row a unit; no rows give zeros.

        Raises
        ------
        PrivacyError
            A value is not finite, a row has another length, or there are too many rows.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise PrivacyError(f"rows of shape {rows.shape}: give one row of {self.dimension} numbers a unit")
        units = sum_of_rows(rows, self.privacy.clip, self.fraction_bits)
        return np.ldexp(units.astype(np.float64), -self.fraction_bits)

    def sample(self, n_units: int, random_bytes: RandomBytes) -> NDArray[np.bool_]:
        """Draw who takes part in a round: each unit by itself, with the probability `privacy.sampling`.

        Parameters
        ----------
        n_units : int
        random_bytes : callable
            The system's randomness: who takes part is a secret of the holder.
        """
        if self.privacy.sampling == 1:
            return np.ones(n_units, dtype=np.bool_)
        draws = np.frombuffer(random_bytes(8 * n_units), dtype=np.uint64)
        return draws < np.uint64(math.floor(math.ldexp(self.privacy.sampling, 64)))

    def add_noise(
        self, total: NDArray[Any], n_holders: int, random_bytes: RandomBytes
    ) -> NDArray[np.float64]:
        """Add this holder's share of the noise to what `clipped_sum` returned; **charge the budget before**.

        Parameters
        ----------
        total : ndarray of float64, shape (d,)
        n_holders : int
            Of the session's roster.
        random_bytes : callable
            The system's randomness.

        Returns
        -------
        ndarray of float64, shape (d,)

        Raises
        ------
        PrivacyError
            The total is none of `clipped_sum`, or does not fit the encoding.
        """
        units = np.ldexp(np.asarray(total, dtype=np.float64), self.fraction_bits)
        if units.shape != (self.dimension,) or not (units == np.rint(units)).all():
            raise PrivacyError(
                "a contribution under privacy is one vector as NoisedSum.clipped_sum returns it"
            )
        plan = self.plan(n_holders)
        room = 2.0 ** _total_bits(n_holders) - plan.reach
        if room < 0:
            raise PrivacyError("the noise is too much for one word: contribute smaller units")
        units = np.clip(
            units, -room, room
        )  # to refuse would tell, without noise, that there are so many rows
        noise = discrete_gaussian(plan.share_variance, self.dimension, random_bytes)
        return np.ldexp(units + noise, -self.fraction_bits)

    # What all parties work out

    def plan(self, n_holders: int) -> NoisePlan:
        """Return the noise of a round over a roster of so many holders.

        Raises
        ------
        PrivacyError
            So few holders leave no noise that nobody knows, or no noise is enough.
        """
        return _plan(self, n_holders)

    def charge(self, n_holders: int, rounds: int = 1) -> Charge:
        """Return what a round costs, or several, for a holder's budget."""
        return self.privacy.charge(self.plan(n_holders), rounds)

    def needed(self, n_holders: int) -> int:
        """Return how many holders must be in a sum: with fewer, noise would be missing."""
        return n_holders - self.privacy.dropouts

    def encoding(self, n_holders: int) -> FixedPoint:
        """Return the grid on which the noised sums of so many holders are added."""
        return FixedPoint(2.0 ** (_total_bits(n_holders) - self.fraction_bits), self.fraction_bits)

    def variance(self, n_holders: int, n_survivors: int) -> float:
        """Return the variance of the noise in each number of a released sum, in its own units squared.

        Parameters
        ----------
        n_holders : int
            Of the session's roster.
        n_survivors : int
            Whose contributions are in the sum.
        """
        return math.ldexp(float(self.plan(n_holders).share_variance) * n_survivors, -2 * self.fraction_bits)

    def to_dict(self) -> dict[str, Any]:
        """Return the guarantee, and how many releases it is for, as JSON-able data."""
        return {**self.privacy.to_dict(), "dimension": self.dimension, "rounds": self.rounds}

    def described(self, n_holders: int) -> str:
        """Return the guarantee and its mechanism in a line, for a summary and a card."""
        privacy, plan = self.privacy, self.plan(n_holders)
        rounds = "1 release" if self.rounds == 1 else f"{self.rounds} releases"
        sampled = (
            "" if privacy.sampling == 1 else f", each {privacy.unit} in one with p = {privacy.sampling:g}"
        )
        return (
            f"(ε = {privacy.epsilon:g}, δ = {privacy.delta:g}) for a {privacy.unit}, {privacy.adjacency}: discrete "
            f"Gaussian noise of {plan.multiplier:.4g} sensitivities, clip {privacy.clip:g}, {rounds}{sampled}; "
            f"{privacy.dropouts} dropouts, {privacy.known} known"
        )


@lru_cache(maxsize=256)
def _plan(noised: NoisedSum, n_holders: int) -> NoisePlan:
    return noised.privacy.noise_plan(
        n_holders=n_holders,
        dimension=noised.dimension,
        fraction_bits=noised.fraction_bits,
        rounds=noised.rounds,
    )


def _total_bits(n_holders: int) -> int:
    """Return b such that n sums of up to 2^b grid units fit a word of 64 bits, and each is exact as a double."""
    return min(LARGEST_TOTAL_BITS, 62 - (n_holders - 1).bit_length())
