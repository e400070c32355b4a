"""What a holder contributes to a regression: sums over its rows, and nothing of a single row.

Columns enter the sums centred and scaled by constants that all holders share, so that cross-products keep
their digits: with z = (x − centre) / scale the coefficients γ of z and θ of x are linear in each other. The
linear predictor is computed from θ, which is what all holders are told.

McCullagh and Nelder, Generalized Linear Models (1989), sections 2.2 and 2.5; for the negative binomial Venables and
Ripley, Modern Applied Statistics with S (2002), section 7.4; for the sandwich White (1980), MacKinnon and White (1985).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .families import Family, theta_derivatives
from .parameters import Vector

Matrix = NDArray[np.float64]
N_MOMENTS = 4
_NOTHING_LEFT = 1e-10  # of 1 − leverage: the row determines its own mean


@dataclass(frozen=True, eq=False)
class Standardisation:
    """How columns are centred and scaled.

    Attributes
    ----------
    centre, scale : ndarray, shape (p,)
        The intercept has centre 0 and scale 1; without an intercept nothing is centred.
    intercept : int or None
        Its column.
    """

    centre: Vector
    scale: Vector
    intercept: int | None

    @classmethod
    def of(cls, means: Vector, scales: Vector, intercept: int | None) -> Standardisation:
        """Return the standardisation by means and standard deviations; a constant column is not scaled."""
        scale = np.where((scales > 0) & np.isfinite(scales), scales, 1.0)
        centre = np.zeros_like(scale)
        if intercept is not None:
            centre, scale[intercept] = np.array(means, dtype=np.float64), 1.0
            centre[intercept] = 0.0
        return cls(centre, scale, intercept)

    @classmethod
    def of_intercept(cls) -> Standardisation:
        """Return that of nothing but an intercept."""
        return cls(np.zeros(1), np.ones(1), 0)

    def columns(self, x: Matrix) -> Matrix:
        """Return z, shape (n, p)."""
        return (x - self.centre) / self.scale

    @property
    def to_coefficients(self) -> Matrix:
        """The matrix T, shape (p, p), with θ = T γ."""
        matrix = np.diag(1 / self.scale)
        if self.intercept is not None:
            matrix[self.intercept] -= self.centre / self.scale
        return matrix


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a holder that have a weight.

    Attributes
    ----------
    x, z : ndarray, shape (n, p)
        The columns as they are named, and standardised.
    y : ndarray, shape (n,)
        Responses; of counts among trials, proportions.
    weights : ndarray, shape (n,)
        Prior weights, of counts times the trials; positive.
    trials : ndarray, shape (n,)
        Of how many trials y is a proportion; the weights if nothing says so, as in R.
    offset : ndarray, shape (n,)
    standardisation : Standardisation
        That makes z of x.
    n_missing : int
        Rows left out because something was missing.
    """

    x: Matrix
    z: Matrix
    y: Vector
    weights: Vector
    trials: Vector
    offset: Vector
    standardisation: Standardisation
    n_missing: int

    def part(self, chosen: slice) -> Rows:
        """Return some of the rows."""
        names = ("x", "z", "y", "weights", "trials", "offset")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    @property
    def of_null_model(self) -> Rows:
        """The same rows with nothing but an intercept."""
        ones = np.ones((len(self.y), 1))
        return replace(self, x=ones, z=ones, standardisation=Standardisation.of_intercept())


def packed(matrix: Matrix) -> Vector:
    """Return the upper triangle of a symmetric matrix, row by row, shape (p(p + 1)/2,)."""
    return matrix[np.triu_indices(len(matrix))]


def unpacked(triangle: Vector) -> Matrix:
    """Return the symmetric matrix of an upper triangle."""
    size = (math.isqrt(8 * len(triangle) + 1) - 1) // 2
    matrix = np.empty((size, size))
    rows, columns = np.triu_indices(size)
    matrix[rows, columns] = matrix[columns, rows] = triangle
    return matrix


def weighted_products(z: Matrix, weights: Vector) -> Vector:
    """Return z'Wz, packed."""
    return packed(z.T @ (z * weights[:, None]))


# The steps of a generalised linear model.


def start_sums(rows: Rows, family: Family, theta: Vector | None) -> dict[str, NDArray[Any]]:
    """Return the normal equations of the first weighted least squares, and what is known without a model.

    Parameters
    ----------
    rows : Rows
    family : Family
    theta : ndarray, shape (p,), or None
        Linearise here instead of at means near the responses.

    Returns
    -------
    dict
        ``information`` (p(p + 1)/2,) and ``projection`` (p,): z'Wz and z'W times the working response;
        ``weights``, ``y`` and ``y_squared`` (): weighted sums of 1, y, y²; ``nobs`` and ``n_missing`` (), int64.
    """
    near = family.predictor(family.start(rows.y, rows.weights))
    eta = near if theta is None else rows.x @ theta + rows.offset
    working = _working(rows, family, eta, _theta_to_start(family))
    response = eta - rows.offset + (rows.y - working.mu) / working.slope
    return {
        "information": weighted_products(rows.z, working.information),
        "projection": rows.z.T @ (working.information * response),
        "weights": rows.weights.sum(),
        "y": rows.weights @ rows.y,
        "y_squared": rows.weights @ rows.y**2,
        "nobs": np.int64(len(rows.y)),
        "n_missing": np.int64(rows.n_missing),
    }


def theta_of(family: Family, parameters: Vector, n_columns: int) -> float:
    """Return θ of the negative binomial, NaN for other families."""
    if family.estimates_theta:
        return math.exp(parameters[n_columns])
    return math.nan if family.theta is None else family.theta


def _theta_to_start(family: Family) -> float:
    return family.theta or math.inf  # an unknown θ: the Poisson distribution, as glm.nb starts


def trial_sums(rows: Rows, family: Family, parameters: Vector, null_mean: float) -> dict[str, NDArray[Any]]:
    """Return deviance, score and information at a trial point, with what describes the fit if it is the last.

    Parameters
    ----------
    rows : Rows
    family : Family
    parameters : ndarray, shape (p,) or (p + 1,)
        The coefficients, and log θ where it is estimated.
    null_mean : float
        The mean of the null model, the same for all rows.

    Returns
    -------
    dict
        ``deviance``, ``null_deviance``, ``pearson`` (): weighted sums; ``score`` (p,) or (p + 1,);
        ``information`` (p(p + 1)/2,), expected; ``hessian``, observed, where it differs, with log θ;
        ``likelihood`` (k,); ``residuals`` (4,): sums of the powers 1 to 4 of the deviance residuals.
        All of them NaN if a mean is not valid.
    """
    n_columns = rows.x.shape[1]
    theta = theta_of(family, parameters, n_columns)
    eta = rows.x @ parameters[:n_columns] + rows.offset
    working = _working(rows, family, eta, theta)
    unit = rows.weights * family.unit_deviance(rows.y, working.mu, theta)
    residuals = np.sign(rows.y - working.mu) * np.sqrt(unit)
    null = np.full_like(rows.y, null_mean)
    arrays: dict[str, NDArray[Any]] = {
        "deviance": unit.sum(),
        "null_deviance": rows.weights @ family.unit_deviance(rows.y, null, theta),
        "pearson": rows.weights @ ((rows.y - working.mu) ** 2 / working.variance),
        "score": rows.z.T @ working.score,
        "information": weighted_products(rows.z, working.information),
        "likelihood": family.likelihood_sums(rows.y, working.mu, rows.weights, rows.trials, theta),
        "residuals": np.array([np.sum(residuals**power) for power in range(1, N_MOMENTS + 1)]),
    }
    if family.estimates_theta:
        arrays.update(_with_theta(rows, working, theta))
    elif not family.is_canonical:
        arrays["hessian"] = weighted_products(rows.z, working.hessian)
    finite = all(np.isfinite(array).all() for array in arrays.values())
    return arrays if finite else {name: np.full_like(array, np.nan) for name, array in arrays.items()}


def _with_theta(rows: Rows, working: _Working, theta: float) -> dict[str, NDArray[Any]]:
    """Return score and observed information of the coefficients and log θ."""
    by_theta = theta_derivatives(rows.y, working.mu, working.slope, theta)
    n_columns = rows.z.shape[1]
    hessian = np.empty((n_columns + 1, n_columns + 1))
    hessian[:n_columns, :n_columns] = unpacked(weighted_products(rows.z, working.hessian))
    hessian[:n_columns, n_columns] = -rows.z.T @ (rows.weights * by_theta.mixed)
    hessian[n_columns, n_columns] = -rows.weights @ by_theta.second
    score = np.append(rows.z.T @ working.score, rows.weights @ by_theta.first)
    return {"score": score, "hessian": packed(hessian)}


class _Working(NamedTuple):
    """For each row the mean, dμ/dη, V(μ); the score and both informations of its linear predictor."""

    mu: Vector
    slope: Vector
    variance: Vector
    score: Vector
    information: Vector  # expected
    hessian: Vector  # observed


def _working(rows: Rows, family: Family, eta: Vector, theta: float) -> _Working:
    mu, slope = family.mean(eta), family.slope(eta)
    variance = family.variance_of(mu, theta)
    relative = slope / variance
    error = rows.weights * (rows.y - mu)
    information = rows.weights * slope * relative
    bend = family.bend(eta) / variance - family.variance_slope(mu, theta) * relative**2
    return _Working(mu, slope, variance, error * relative, information, information - error * bend)


# The middle of a sandwich.


def sandwich_sums(
    rows: Rows, family: Family, parameters: Vector, kind: str, bread: Matrix | None
) -> dict[str, NDArray[Any]]:
    """Return the covariance of the score as the rows, or the holders, show it.

    Parameters
    ----------
    rows : Rows
    family : Family
    parameters : ndarray, shape (p,) or (p + 1,)
        The estimates, as in `trial_sums`.
    kind : str
        HC0, HC1, HC2, HC3, cluster or CR0.
    bread : ndarray, shape (p, p), or None
        The inverse information of all rows, for the leverages of HC2 and HC3.

    Returns
    -------
    dict
        ``meat`` (p(p + 1)/2,): Σ z z' score², over 1 − leverage for HC2 and its square for HC3, NaN where a leverage is
        1; by holder, the outer product of the holder's sum, and ``clusters`` (), 1 if the holder has a row.
    """
    n_columns = rows.x.shape[1]
    theta = theta_of(family, parameters, n_columns)
    working = _working(rows, family, rows.x @ parameters[:n_columns] + rows.offset, theta)
    if kind in {"cluster", "CR0"}:
        total = rows.z.T @ working.score
        return {"meat": packed(np.outer(total, total)), "clusters": np.asarray(len(rows.y) > 0)}
    squares = working.score**2
    if bread is not None:
        left = 1 - working.information * np.sum(rows.z @ bread * rows.z, axis=1)
        left[left < _NOTHING_LEFT] = np.nan
        squares = squares / (left if kind == "HC2" else left**2)
    return {"meat": weighted_products(rows.z, squares)}
