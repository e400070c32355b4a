"""The ancestor's scheme as its vignette has it: a likelihood, one function value at a time, round a ring.

A re-enactment of *homomorphing*, a vignette of B. Narasimhan's R package homomorpheR, with its own choices:

- a real number travels as two ciphertexts, its integer part, and its fraction as a numerator over 2^256;
- the master draws an offset for each, encrypts it, and sends it to site 1; every site adds its encrypted
  negative log-likelihood and forwards; the master decrypts and subtracts the offset;
- `stats4::mle` maximises: BFGS on function values with a numerical gradient, and a numerical Hessian for the
  standard error: 29 evaluations, hence 29 times round the ring, for a model of one parameter.

Encryption is the textbook's, by phe, and decryption phe's, faster than the ancestor's own. All parties live
in one process and call one another, as in the vignette. `maximum_likelihood` follows R's `vmmin` and
`optimhess` (src/appl/optim.c, src/library/stats/src/optim.c; after J. C. Nash, "Compact Numerical Methods for
Computers", algorithm 21) and visits the same points as R does.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Vector = NDArray[np.float64]
Objective = Callable[[Vector], float]

DENOMINATOR = 2**256
OFFSET_BITS = 256

# R's optim: control parameters and constants of method "BFGS".
STEP = 1e-3  # ndeps
RELATIVE_TOLERANCE = math.sqrt(np.finfo(np.float64).eps)  # reltol
REDUCTION, ACCEPTANCE, RELATIVE_TEST = 0.2, 1e-4, 10.0
MAX_ITERATIONS = 100


# The ring


@dataclass(frozen=True)
class Pair:
    """A real number as two ciphertexts."""

    whole: Any
    fraction: Any

    def __add__(self, other: Pair) -> Pair:
        return Pair(self.whole + other.whole, self.fraction + other.fraction)


@dataclass(frozen=True)
class Site:
    """A site: its counts, and the public key."""

    counts: Vector
    public_key: Any

    def add_and_forward(self, rate: float, partial_sum: Pair) -> Pair:
        """Add the encrypted negative log-likelihood of this site's counts (``addNLLAndForward``)."""
        value = poisson_nll(rate, self.counts)
        whole = math.floor(value)
        numerator = (Fraction(value - whole) * DENOMINATOR).numerator
        return partial_sum + Pair(self.public_key.encrypt(whole), self.public_key.encrypt(numerator))


@dataclass(frozen=True)
class Master:
    """The master: it alone holds the private key, and has no data."""

    public_key: Any
    private_key: Any
    sites: tuple[Site, ...]

    def nll(self, rate: float) -> float:
        """Sum the negative log-likelihood over all sites: once round the ring."""
        whole_offset, fraction_offset = secrets.randbits(OFFSET_BITS), secrets.randbits(OFFSET_BITS)
        total = Pair(self.public_key.encrypt(whole_offset), self.public_key.encrypt(fraction_offset))
        for site in self.sites:
            total = site.add_and_forward(rate, total)
        whole = self.private_key.decrypt(total.whole) - whole_offset
        numerator = self.private_key.decrypt(total.fraction) - fraction_offset
        return float(whole) + float(Fraction(numerator, DENOMINATOR))


def poisson_nll(rate: float, counts: Vector) -> float:
    """Return what R computes as -sum(dpois(counts, rate, log = TRUE))."""
    return float(np.sum(rate - counts * np.log(rate) + gammaln(counts + 1)))


@dataclass(frozen=True)
class Estimate:
    """What `stats4::mle` prints, and at which points it asked."""

    rate: float
    standard_error: float
    points: tuple[float, ...]


def fit_poisson(
    data: Sequence[Sequence[int]], public_key: Any, private_key: Any, start: float = 5.0
) -> Estimate:
    """Run the whole vignette, from the keys on.

    Parameters
    ----------
    data : sequence of sequences of int
        Each site's counts.
    public_key, private_key
        Of phe.
    start : float
        Where the vignette starts.
    """
    sites = tuple(Site(np.array(counts, dtype=np.float64), public_key) for counts in data)
    master = Master(public_key, private_key, sites)
    points: list[float] = []

    def objective(parameters: Vector) -> float:
        points.append(float(parameters[0]))
        return master.nll(points[-1])

    estimate, covariance = maximum_likelihood(objective, np.array([start]))
    return Estimate(float(estimate[0]), math.sqrt(covariance[0, 0]), tuple(points))


# R's optimiser


def maximum_likelihood(objective: Objective, start: Vector) -> tuple[Vector, Vector]:
    """Estimate and covariance as of ``stats4::mle``."""
    estimate = bfgs(objective, start)
    covariance = np.linalg.inv(hessian(objective, estimate))
    return estimate, covariance.astype(np.float64)


def gradient(objective: Objective, at: Vector) -> Vector:
    """Central differences with R's fixed step (``fmingr``)."""
    steps = np.eye(len(at)) * STEP
    return np.array([(objective(at + step) - objective(at - step)) / (2 * STEP) for step in steps])


def hessian(objective: Objective, at: Vector) -> Vector:
    """Central differences of the gradient, symmetrised (``optimhess``)."""
    steps = np.eye(len(at)) * STEP
    rows = [(gradient(objective, at + step) - gradient(objective, at - step)) / (2 * STEP) for step in steps]
    return (np.array(rows) + np.array(rows).T) / 2


def bfgs(objective: Objective, start: Vector) -> Vector:
    """Minimise as R's ``vmmin`` does, restarts from the steepest descent included."""
    point, value, slope = start, objective(start), gradient(objective, start)
    inverse, age = np.eye(len(start)), 0  # of the Hessian; in gradients since the last restart
    for _ in range(MAX_ITERATIONS):
        direction = -inverse @ slope
        before, old_value, old_slope = point, value, slope
        point, value = _line_search(objective, point, value, direction, float(direction @ slope))
        if abs(value - old_value) > RELATIVE_TOLERANCE * (abs(old_value) + RELATIVE_TOLERANCE):
            slope = gradient(objective, point)
            age += 1
            if not _update(inverse, point - before, slope - old_slope) or age > 2 * len(start):
                inverse, age = np.eye(len(start)), 0
        elif age == 0:
            break
        else:
            inverse, age = np.eye(len(start)), 0
    return point


def _line_search(
    objective: Objective, point: Vector, value: float, direction: Vector, slope: float
) -> tuple[Vector, float]:
    """Shorten the step until the value falls enough; stay if it goes uphill, or the point no longer moves."""
    length = 1.0
    while slope < 0:
        trial = point + length * direction
        if np.array_equal(RELATIVE_TEST + point, RELATIVE_TEST + trial):
            break
        found = objective(trial)
        if math.isfinite(found) and found <= value + slope * length * ACCEPTANCE:
            return trial, found
        length *= REDUCTION
    return point, value


def _update(inverse: Vector, step: Vector, change: Vector) -> bool:
    """Update the inverse Hessian in place, by BFGS; False if it would cease to be positive definite."""
    curvature = float(step @ change)
    if curvature <= 0:
        return False
    turned = inverse @ change
    factor = 1 + float(turned @ change) / curvature
    inverse += (factor * np.outer(step, step) - np.outer(step, turned) - np.outer(turned, step)) / curvature
    return True
