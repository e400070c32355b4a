"""Who adds how much noise: shares that still suffice when holders are lost and others know their own.

Each of n holders adds N_Z(0, σ_h²) to each integer of its contribution, under the secure sum, with

    σ_h² = z²Δ² / (n − D − T),

so what is left after D losses, and after the T shares that the adversary knows are taken off, is still z times the
sensitivity Δ. A holder knows its own share: T ≥ 1 wherever holders see the result.

A sum of m discrete Gaussians is not quite one. With τ = 10 Σ_{k=1}^{m−1} exp(−2π² σ_h² k/(k+1)) its divergence of order
α is at most α/2 · (Δ/(√m σ_h) + τ√d)², that of a multiplier z' with 1/z' = 1/z + τ√d. Below 5 grid units a share is
refused; above, τ < m · 10^-106.

Adversary: everybody who sees the result, and the coordinator and T holders who pool what they know.

Source: P. Kairouz, Z. Liu, T. Steinke, ICML 2021, proposition 14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .discrete_gaussian import MAX_VARIANCE
from .errors import PrivacyError

LEAST_SHARE = 5  # grid units
VARIANCE_BITS = 20  # a share's variance is rounded up to a multiple of 2^-20, so that integers stay short
REACH = 12  # standard deviations of the sum that words have room for; beyond lies less than 2^-106


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePlan:
    """The noise of one released vector.

    Attributes
    ----------
    multiplier : float
        z, as calibrated.
    sensitivity : Fraction
        Δ, grid units.
    dimension : int
        d, numbers in the vector.
    n_holders, dropouts, known : int
        n, D and T.

    Raises
    ------
    PrivacyError
        Nobody's noise would be left, or the grid is too coarse or too fine for it.
    """

    multiplier: float
    sensitivity: Fraction
    dimension: int
    n_holders: int
    dropouts: int = 0
    known: int = 1

    def __post_init__(self) -> None:
        if self.counted < 1:
            raise PrivacyError(
                f"{self.n_holders} holders, {self.dropouts} of them lost and {self.known} known, leave no noise: "
                "take more holders, or tolerate fewer losses"
            )
        if self.share_variance < LEAST_SHARE**2:
            share = math.sqrt(self.share_variance)
            raise PrivacyError(
                f"a share of noise is {share:.3g} grid units and must be {LEAST_SHARE}: choose more fraction bits"
            )
        if self.share_variance > MAX_VARIANCE:
            raise PrivacyError("a share of noise is beyond 2^48 grid units: choose fewer fraction bits")

    @property
    def counted(self) -> int:
        """How many shares the guarantee counts on: n − D − T."""
        return self.n_holders - self.dropouts - self.known

    @property
    def share_variance(self) -> Fraction:
        """σ_h², grid units squared: what every holder adds, for `discrete_gaussian`."""
        exact = (Fraction(self.multiplier) * self.sensitivity) ** 2 / self.counted
        return Fraction(math.ceil(exact * 2**VARIANCE_BITS), 2**VARIANCE_BITS)

    @property
    def guaranteed_multiplier(self) -> float:
        """z': what the release is charged as."""
        variance = float(self.share_variance)
        tau = 10 * math.fsum(
            math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, self.counted)
        )
        return self.multiplier / (1 + self.multiplier * tau * math.sqrt(self.dimension))

    @property
    def reach(self) -> int:
        """Grid units that the sum's word size allows for noise, above the bound of the sum without noise."""
        return math.ceil(REACH * math.sqrt(self.n_holders * self.share_variance))
