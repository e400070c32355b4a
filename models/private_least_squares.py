"""Least squares under differential privacy: one noised release of products, and standard errors that know the noise.

Each row contributes w z z' with z = (x, y − offset), clipped; its prior weight is w. From the noised sum

    M = Σ w z z' + E = [A b; b' s]

the estimates are A⁻¹ b. At the true coefficients β, with (−β, 1) = u and residuals e, exactly

    A (A⁻¹ b − β) = X'W e + (E u)_x,

two independent parts of known covariance: σ² X'W X, and v / 2 · ((1 + |β|²) 1 + ββ') by `noise_along`. Hence

    Cov = A⁻¹ (σ² A + V) A⁻¹,        σ² = (s − b'A⁻¹b + tr A⁻¹V) / (n − p):

the noise raises no residual at the true β, since u'E u has mean 0, but minimising over β takes p σ² + tr A⁻¹V off the
sum of squares. A for X'W X, and the estimate for β within V, leave out terms of the relative size of E beside A; a fit
in which they matter warns, and where A is not positive definite there is none.

n is the noised sum of 1 over the rows: the element of the intercept, or a number more in a row. A clipped row counts
with a weight below 1 in all of this. The weight depends on the response, which biases the estimates, and the standard
errors do not tell: with 4 columns and a response of unit size, a clip of 10 (4 % of rows clipped) made slopes 2 % too
small, of 15 (0.8 %) half a percent, of 20 (0.15 %) a thousandth.

Source: Y.-X. Wang, UAI 2018 (sufficient statistics with Gaussian noise); the variance is worked out above.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ..privacy.guarantee import Privacy
from ..serialization.session_messages import Query
from .definition import State
from .errors import ModelError
from .least_squares import OLS
from .noised_matrices import Inverse, inverse_of, matrix_of, noise_along, product_rows, triangle_size
from .parameters import Vector
from .private_regression import COV_TYPE, PrivateRegression, refuse_cov_type, remarks_on
from .regression_fit import OLSFit
from .regression_model import Passes
from .regression_sums import N_MOMENTS, Matrix, Rows
from .total import Total


class PrivateOLS(PrivateRegression, OLS):
    """Least squares under privacy, as `OLS.with_privacy` makes it.

    Parameters
    ----------
    model : OLS
    privacy : Privacy
        `clip` is of w |z|², the weight times the squared length of a row's columns, intercept and response; with
        weights or without an intercept, of the root of its square plus 1.

    Raises
    ------
    PrivacyError
        If the guarantee cannot be given.
    """

    step: ClassVar[str] = "moments"

    def __init__(self, model: OLS, privacy: Privacy) -> None:
        if model.cov_type != "nonrobust":
            refuse_cov_type(model.cov_type)
        terms = dict(model.agreement.parameters)
        terms.pop("offset")
        super().__init__(**terms)
        self._protect(privacy, rounds=1)

    @property
    def _counts_apart(self) -> bool:
        """Whether the number of rows is a number more; else it is the intercept's product with itself."""
        return not self.design.has_intercept or self.design.schema.weights is not None

    @property
    def _dimension(self) -> int:
        return triangle_size(len(self.design.names) + 1) + self._counts_apart

    def _contributions(self, rows: Rows, query: Query) -> Matrix:
        if query.arrays:
            raise self._foreign(query)
        products = product_rows(np.column_stack([rows.x, rows.y - rows.offset]), rows.weights)
        return np.column_stack([products, np.ones(len(products))]) if self._counts_apart else products

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | OLSFit]:
        """Fit the model by one noised sum.

        Parameters
        ----------
        total : Total
            Sums contributions over the holders.
        start : State, optional
            Not used: least squares begins anew.

        Yields
        ------
        State or OLSFit
            One state, its value being the noised sum of squared residuals; then the fit.

        Raises
        ------
        ModelError
            If the noise leaves no solution.
        """
        passes = Passes(total)
        sums = await passes(Query(self.step, {}))
        variance = float(sums.get("variance", 0.0))
        noised = np.asarray(sums["noised"], dtype=np.float64)
        moments = matrix_of(noised[: triangle_size(len(self.design.names) + 1)])
        intercept = self.design.names.index("Intercept") if self.design.has_intercept else None
        count = noised[-1] if self._counts_apart else moments[intercept, intercept]
        self._check_rows(round(float(count)))
        solution = solve(moments, variance, round(float(count)), self.design.names)
        state = State(0, solution.estimates, solution.ssr, n_passes=passes.n_passes)
        yield state
        yield self._fit_of(solution, state, _null_deviance(moments, intercept))

    def _fit_of(self, solution: Solution, state: State, null_deviance: float) -> OLSFit:
        return OLSFit(
            definition=self.definition,
            names=self.design.names,
            estimates=solution.estimates,
            covariance=solution.covariance,
            llf=math.nan,
            nobs=solution.nobs,
            iterations=0,
            n_passes=state.n_passes,
            converged=True,
            states=(state,),
            warnings=remarks_on(solution.inverse),
            df_t=float(solution.nobs - len(self.design.names)),
            design=self.design,
            family=self.family.name,
            link=self.family.link,
            deviance=solution.ssr,
            null_deviance=null_deviance,
            pearson_chi2=solution.ssr,
            scale=solution.scale,
            cov_type=COV_TYPE,
            residual_sums=np.full(N_MOMENTS, np.nan),
            n_further=self.family.n_further,
            n_missing=None,
            method="Least Squares, noised",
        )


class Solution(NamedTuple):
    """What the noised moments say.

    Attributes
    ----------
    estimates : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
        Of the rows' errors and of the noise.
    scale, ssr : float
        The residual variance, and as many times its degrees of freedom.
    nobs : int
        As it was given.
    inverse : Inverse
        Of the products of the columns.
    """

    estimates: Vector
    covariance: Matrix
    scale: float
    ssr: float
    nobs: int
    inverse: Inverse


def solve(moments: Matrix, variance: float, nobs: int, names: Sequence[str]) -> Solution:
    """Solve the noised normal equations.

    Parameters
    ----------
    moments : ndarray, shape (p + 1, p + 1)
        Σ w z z' with noise, the response last.
    variance : float
        v, of the noise in one number of its triangle.
    nobs : int
        More than p.
    names : sequence of str
        The columns.

    Raises
    ------
    ModelError
        If the products of the columns are not positive definite, or no residual variance is left.
    """
    products, projection = moments[:-1, :-1], moments[:-1, -1]
    inverse = inverse_of(products, variance, names)
    bread = inverse.matrix
    estimates = bread @ projection
    noise = noise_along(variance, np.append(-estimates, 1.0))[:-1, :-1]
    taken = float(np.trace(bread @ noise))
    df_resid = nobs - len(names)
    scale = float(moments[-1, -1] - projection @ estimates + taken) / df_resid
    if scale < 0 or (scale == 0 and variance > 0):
        raise ModelError(
            "the noise hides how far the responses lie from the model: the noised sum of squared residuals is not "
            "positive; take more rows, a larger epsilon or fewer columns"
        )
    covariance = scale * bread + bread @ noise @ bread
    return Solution(estimates, covariance, scale, scale * df_resid, nobs, inverse)


def _null_deviance(moments: Matrix, intercept: int | None) -> float:
    """Return the noised sum of squares about the mean, or about 0 without an intercept."""
    about_zero = float(moments[-1, -1])
    if intercept is None:
        return about_zero
    return about_zero - float(moments[intercept, -1]) ** 2 / float(moments[intercept, intercept])
