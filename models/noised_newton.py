"""Newton's method by noised sums, in a number of rounds that is fixed beforehand.

Each round a row contributes, at the coefficients θ that the coordinator asks for,

    (x s,  h x x' / 2,  1 / 2),       s = w (y − μ) μ' / V(μ),   h = w μ'² / V(μ),

its score, its part of the expected information, and its 1 for the number of rows, clipped together. Information and
count enter by half: what their noise does to the estimates is of second order, so the clip is spent on the score.
The first round linearises at means near each row's response, as R's `glm.fit` does: there the projection of the
working response stands for the score, and 0 for θ.

A row too long for the clip is shrunk, score and information alike, by a factor of its columns and mean alone: that
which brings it within the clip with the largest error a response may have (of counts, 4 standard deviations). At the
true coefficients the shrunk scores still have mean 0, so the estimates stay consistent, whatever the clip; a factor
that depended on the response would bias them: by 8 % in a probit of which 5 % of the rows were clipped. As no factor is
above 1, the covariance of the shrunk scores is at most the shrunk information: standard errors are on the safe side.

The first half of the rounds only approaches. The others are Newton steps from almost the same place with fresh
noise, and are pooled. With K of them, scores S_t and information H_t at θ_t,

    θ = (Σ H_t)⁻¹ Σ (S_t + H_t θ_t)

errs, to first order, by H⁻¹ (S + Σ (e_t + E_t (θ_t − θ)) / K): the score S of the rows at the true coefficients is the
same in all rounds and has the covariance H = Σ H_t / K; the noises e_t and E_t of score and information are drawn anew
when θ_t is known. Thus the covariance is the sandwich

    H⁻¹ (H + N) H⁻¹,        N = Σ (v 1 + 4 v / 2 · (|d_t|² 1 + d_t d_t')) / K²,      d_t = θ_t − θ,

with v the variance of the noise in one number of a release. The last step alone would have a noise of K times that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .families import Family
from .noised_matrices import Inverse, inverse_of, matrix_of, noise_along, product_rows, triangle_size
from .parameters import Vector
from .regression_sums import Matrix, Rows
from .total import Arrays

LEAST_CLIP = 1.0
_PART = 0.5  # of information and count in what a row contributes
_USUAL = 4.0  # standard deviations: beyond lie a few counts in ten thousand, which alone are clipped by what they are


def contribution_size(n_columns: int) -> int:
    """Return how many numbers a row contributes."""
    return n_columns + triangle_size(n_columns) + 1


def contributions(rows: Rows, family: Family, theta: Vector | None, clip: float) -> Matrix:
    """Return what each row contributes to a round, shape (n, p + p(p + 1)/2 + 1).

    Parameters
    ----------
    rows : Rows
    family : Family
        With a known dispersion.
    theta : ndarray, shape (p,), or None
        Linearise at means near the responses.
    clip : float
        At least `LEAST_CLIP`.

    Returns
    -------
    ndarray
        Shrunk; not finite where a linear predictor is too large for a mean.
    """
    predictor = _near(rows, family) if theta is None else rows.x @ theta + rows.offset
    mu, slope = family.mean(predictor), family.slope(predictor)
    variance = family.variance_of(mu, np.nan if family.theta is None else family.theta)
    relative = np.ones_like(mu) if family.is_canonical else slope / variance  # also where both are nearly 0
    information = rows.weights * slope * relative
    score = rows.weights * (rows.y - mu) * relative
    if theta is None:
        score += information * (predictor - rows.offset)
        largest = np.abs(score)
    else:
        largest = rows.weights * _largest_error(rows, family, mu, variance) * relative
    shrunk = _shrinkage(rows.x, largest, _PART * information, clip)
    return np.column_stack(
        [
            rows.x * (shrunk * score)[:, None],
            product_rows(rows.x, shrunk * _PART * information),
            np.full(len(score), _PART),
        ]
    )


def _near(rows: Rows, family: Family) -> Vector:
    """Return linear predictors of means near the responses."""
    return family.predictor(family.start(rows.y, rows.weights))


def _largest_error(rows: Rows, family: Family, mu: Vector, variance: Vector) -> Vector:
    """Return how far a response may lie from its mean: of a single trial at most, of counts as a rule."""
    usual = _USUAL * np.sqrt(variance / rows.weights)
    if family.is_binomial:
        usual = np.minimum(np.maximum(mu, 1 - mu), np.maximum(usual, 1 / rows.weights))
    return np.asarray(usual, dtype=np.float64)


def _shrinkage(x: Matrix, largest_score: Vector, information: Vector, clip: float) -> Vector:
    """Return factors of at most 1 that bring rows of the largest score within the clip, beside their count."""
    square = np.square(x).sum(axis=1)
    length = np.sqrt(square * largest_score**2 + (square * information) ** 2)
    return np.asarray(np.minimum(1.0, math.sqrt(clip**2 - _PART**2) / length), dtype=np.float64)


class Round(NamedTuple):
    """What one round released.

    Attributes
    ----------
    theta : ndarray, shape (p,)
        Where.
    score : ndarray, shape (p,)
    information : ndarray, shape (p, p)
    n_rows : float
        How many there are, by this release.
    variance : float
        Of the noise in each number released.
    """

    theta: Vector
    score: Vector
    information: Matrix
    n_rows: float
    variance: float

    @classmethod
    def of(cls, sums: Arrays, theta: Vector) -> Round:
        """Read a released sum; `theta` is 0 of the first round that linearises near the responses."""
        noised, n_columns = np.asarray(sums["noised"], dtype=np.float64), len(theta)
        information = matrix_of(noised[n_columns:-1]) / _PART
        variance = float(sums.get("variance", 0.0))
        return cls(theta, noised[:n_columns], information, float(noised[-1]) / _PART, variance)


class Solution(NamedTuple):
    """What some rounds say together.

    Attributes
    ----------
    estimates : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
        Of the rows' scores and of the noise.
    information : ndarray, shape (p, p)
        The mean of the rounds'.
    inverse : Inverse
        Of the information.
    """

    estimates: Vector
    covariance: Matrix
    information: Matrix
    inverse: Inverse

    def distance(self, theta: Vector) -> float:
        """Return how far the estimates are from θ: standard errors, root mean square of all directions."""
        step = self.estimates - theta
        whole = np.linalg.solve(self.covariance, step)
        return float(np.sqrt(step @ whole / len(step)))


def pooled_rounds(rounds: Sequence[Round], n_rounds: int) -> Sequence[Round]:
    """Return those of the rounds so far that are pooled, of `n_rounds` in all: the last until they settle."""
    n_approaching = n_rounds // 2
    return rounds[n_approaching:] or rounds[-1:]


def solve(rounds: Sequence[Round], names: Sequence[str]) -> Solution:
    """Solve the normal equations of pooled rounds.

    Raises
    ------
    ModelError
        If their information is not positive definite.
    """
    n_rounds = len(rounds)
    information = sum((one.information for one in rounds), np.zeros_like(rounds[0].information)) / n_rounds
    variance = sum(one.variance for one in rounds) / n_rounds**2
    inverse = inverse_of(information, variance / _PART**2, names)
    projection = sum((one.score + one.information @ one.theta for one in rounds), np.zeros(len(names)))
    estimates = inverse.matrix @ (projection / n_rounds)
    noise = variance * np.eye(len(names))
    for one in rounds:
        noise += noise_along(one.variance / _PART**2, one.theta - estimates) / n_rounds**2
    covariance = inverse.matrix + inverse.matrix @ noise @ inverse.matrix
    return Solution(estimates, covariance, information, inverse)
