"""Forty counts over three sites, and their likelihood: the demonstration of the ancestor.

The counts are those of the vignette *homomorphing* of B. Narasimhan's R package homomorpheR. Their maximum
likelihood estimate is known in closed form: the mean, 9.175, with standard error sqrt(9.175 / 40).
"""

from __future__ import annotations

import csv
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln


def poisson_sites() -> dict[str, NDArray[np.int64]]:
    """Return the counts of ``site-1`` (20), ``site-2`` (7) and ``site-3`` (13)."""
    text = resources.files(__package__ or "").joinpath("poisson_mle.csv").read_text(encoding="utf-8")
    sites: dict[str, list[int]] = {}
    for row in csv.DictReader(text.splitlines()):
        sites.setdefault(f"site-{row['site']}", []).append(int(row["y"]))
    return {name: np.array(counts, dtype=np.int64) for name, counts in sites.items()}


def poisson_nll(theta: NDArray[np.float64], data: ArrayLike) -> float:
    """Return the negative log-likelihood of counts that are Poisson with mean ``theta[0]``.

    Parameters
    ----------
    theta : ndarray, shape (1,)
        The mean, positive.
    data : array_like of int, shape (n,)
        The counts; none of them give 0.
    """
    counts = np.asarray(data, dtype=np.float64)
    return float(np.sum(theta[0] - counts * np.log(theta[0]) + gammaln(counts + 1)))
