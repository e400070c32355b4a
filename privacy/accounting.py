"""What noised sums cost together: ε for a δ, by Rényi divergences, with Google's dp-accounting.

A release is a sum whose noise, as far as the adversary does not know it, has a standard deviation of
`noise_multiplier` times the sensitivity. Its divergences of all orders α add up over releases, and give ε. For a
discrete Gaussian they are at most the continuous one's, α / 2z²; what a sum of several of them adds is already in
the multiplier (`noise_plan`). Under Poisson sampling the continuous curve is taken, which one discrete Gaussian
has exactly at integer orders, where the moments of its likelihood ratio are the continuous ones.

The orders are dp-accounting's default ones, so anybody gets the same ε from its command of that name.

References
----------
I. Mironov, CSF 2017; I. Mironov, K. Talwar, L. Zhang, arXiv 1908.10530 (sampling); C. Canonne, G. Kamath, T. Steinke,
NeurIPS 2020 (discrete noise; proposition 12: from divergences to ε).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PrivacyError

PRECISION = 2.0**-20  # of a calibrated multiplier, relative
LARGEST_MULTIPLIER = 2.0**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What some releases of one kind cost.

    Attributes
    ----------
    noise_multiplier : float
        z: noise that the adversary does not know, in sensitivities.
    rounds : int
        How many such releases.
    sampling : float
        Probability with which each unit takes part in a release, independently and in secret; 1 is all of them.

    Raises
    ------
    PrivacyError
        These are no such numbers.
    """

    noise_multiplier: float
    rounds: int = 1
    sampling: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.noise_multiplier < math.inf:
            raise PrivacyError(f"noise multiplier {self.noise_multiplier!r}: it is positive and finite")
        if not isinstance(self.rounds, int) or self.rounds < 1:
            raise PrivacyError(f"{self.rounds!r} rounds: a charge is for at least one")
        if not 0 < self.sampling <= 1:
            raise PrivacyError(f"sampling {self.sampling!r}: a probability above 0 and up to 1")


def epsilon_of(charges: Iterable[Charge], delta: float) -> float:
    """Return the ε of all charges together; 0 without any.

    The result depends on the charges' numbers only, not on their order or on how rounds are split among them.

    Parameters
    ----------
    charges : iterable of Charge
    delta : float
        Probability in (0, 1) with which ε may be exceeded.

    Raises
    ------
    PrivacyError
        The extra that counts is not installed, or δ is no such number.
    """
    if not 0 < delta < 1:
        raise PrivacyError(f"delta {delta!r}: a probability between 0 and 1, far below 1 / number of units")
    rounds: Counter[tuple[float, float]] = Counter()
    for charge in charges:
        rounds[charge.noise_multiplier, charge.sampling] += charge.rounds
    if not rounds:
        return 0.0
    rdp = _dp_accounting().rdp
    total = sum(count * _divergences(*kind) for kind, count in sorted(rounds.items()))
    return float(rdp.compute_epsilon(rdp.RdpAccountant().orders, total, delta)[0])


def multiplier_for(epsilon: float, delta: float, *, rounds: int = 1, sampling: float = 1.0) -> float:
    """Calibrate: return a z, the least but for a relative 2^-20, with which the rounds together cost at most ε.

    Parameters
    ----------
    epsilon, delta : float
    rounds : int
    sampling : float
        As in `Charge`.

    Raises
    ------
    PrivacyError
        No noise is enough, or the extra that counts is not installed.
    """

    def is_enough(multiplier: float) -> bool:
        charge = Charge(noise_multiplier=multiplier, rounds=rounds, sampling=sampling)
        return epsilon_of([charge], delta) <= epsilon

    enough = 1.0
    while not is_enough(enough):
        enough *= 2
        if enough > LARGEST_MULTIPLIER:
            raise PrivacyError(f"no noise gives epsilon {epsilon!r} in {rounds} rounds: ask for a larger one")
    too_little = enough / 2
    while is_enough(too_little):
        enough, too_little = too_little, too_little / 2
    while enough > too_little * (1 + PRECISION):
        middle = math.sqrt(enough * too_little)
        enough, too_little = (middle, too_little) if is_enough(middle) else (enough, middle)
    return enough


@lru_cache(maxsize=256)
def _divergences(noise_multiplier: float, sampling: float) -> NDArray[np.float64]:
    """Return the Rényi divergences of one release at the default orders."""
    library = _dp_accounting()
    event = library.GaussianDpEvent(noise_multiplier)
    if sampling < 1:
        event = library.PoissonSampledDpEvent(sampling, event)
    log = logging.getLogger("absl")
    log.addFilter(
        _drop
    )  # of an order whose series does not converge: it is left out, which costs sharpness only
    try:
        divergences: NDArray[np.float64] = library.rdp.RdpAccountant().compose(event).rdp
    finally:
        log.removeFilter(_drop)
    return divergences


def _drop(_: logging.LogRecord) -> bool:
    return False


def _dp_accounting() -> Any:
    """Import Google's accountant: 1 s that only those pay who ask for privacy."""
    try:
        import dp_accounting  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise PrivacyError('counting epsilon takes an extra: pip install "tacit[privacy]"') from None
    return dp_accounting
