"""Generalised linear models under differential privacy: noised Newton rounds, as many as were declared.

All that steers the iteration is released: no deviance is asked for, no step is halved, no round is left out because of
what a former one told. Whether it has settled is told afterwards, by the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import numpy as np

from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from ..serialization.session_messages import Query
from .definition import State
from .families import Family
from .noised_newton import (
    LEAST_CLIP,
    Round,
    Solution,
    contribution_size,
    contributions,
    pooled_rounds,
    solve,
)
from .private_regression import COV_TYPE, PrivateRegression, refuse_cov_type, remarks_on
from .regression import GLM
from .regression_fit import GLMFit
from .regression_model import Passes
from .regression_sums import N_MOMENTS, Matrix, Rows
from .total import Total

ROUNDS = 8
_SETTLED = 1.0  # standard errors
_LINKS = {
    "binomial": ("logit", "probit", "cloglog", "loglog", "cauchit"),
    "poisson": ("log",),
    "negativebinomial": ("log",),
}


class PrivateGLM(PrivateRegression, GLM):
    """A generalised linear model under privacy, as `GLM.with_privacy` makes it.

    Parameters
    ----------
    model : GLM
        Of a family whose dispersion is known: binomial, poisson, or negative binomial with a given θ.
    privacy : Privacy
        `clip` is of the length of a row's score, half its information and 1 / 2 together; at least 1.
    rounds : int
        Releases, for all of which together the noise is made; at least 2.

    Raises
    ------
    PrivacyError
        If the guarantee cannot be given.
    """

    step: ClassVar[str] = "round"

    def __init__(self, model: GLM, privacy: Privacy, rounds: int = ROUNDS) -> None:
        if model.cov_type != "nonrobust":
            refuse_cov_type(model.cov_type)
        family = model.family
        _check(family)
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 2:
            raise PrivacyError(f"{rounds!r} rounds: give a number from 2 on, as a rule 6 to 12")
        if privacy.clip < LEAST_CLIP:
            raise PrivacyError(
                f"clip {privacy.clip:g} leaves no room for scores: take {LEAST_CLIP:g} or more"
            )
        terms = model.agreement.parameters
        super().__init__(family=family.name, link=family.link, theta=family.theta, start=model.start, **terms)
        self._protect(privacy, rounds)
        self._begin(self.design, None)  # refuses a start that does not fit the columns

    def with_privacy(self, privacy: Privacy, rounds: int | None = None) -> PrivateGLM:
        """Return the model with another guarantee, and as many rounds if nothing is said of them."""
        return PrivateGLM(self, privacy, self.noised.rounds if rounds is None else rounds)

    @property
    def _dimension(self) -> int:
        return contribution_size(len(self.design.names))

    def _contributions(self, rows: Rows, query: Query) -> Matrix:
        if not query.arrays.keys() <= {"theta"}:
            raise self._foreign(query)
        theta = self._vector(query, "theta", rows) if query.arrays else None
        return contributions(rows, self.family, theta, self.noised.privacy.clip)

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | GLMFit]:
        """Fit the model by its rounds, awaiting nothing but noised sums.

        Parameters
        ----------
        total : Total
            Sums contributions over the holders.
        start : State, optional
            Of a run that goes on over fewer holders: with the rounds that are left, and without what the larger set
            released.

        Yields
        ------
        State or GLMFit
            A state for each round, whose value is not known; last, the fit.

        Raises
        ------
        ModelError
            If the noise leaves no solution.
        """
        passes = Passes(total)
        passes.n_passes, done = (0, 0) if start is None else (start.n_passes, start.iteration)
        theta, names = self._begin(self.design, start), self.design.names
        rounds: list[Round] = []
        states: list[State] = []
        n_rounds = self.noised.rounds - done
        for _ in range(n_rounds):
            sums = await passes(Query(self.step, {} if theta is None else {"theta": theta}))
            rounds.append(Round.of(sums, np.zeros(len(names)) if theta is None else theta))
            solution = solve(pooled_rounds(rounds, n_rounds), names)
            distance = math.nan if theta is None else solution.distance(theta)
            theta = solution.estimates
            states.append(State(done + len(rounds), theta, math.nan, distance, 0, passes.n_passes))
            yield states[-1]
        yield self._fit_of(solution, rounds, states)

    def _fit_of(self, solution: Solution, rounds: Sequence[Round], states: Sequence[State]) -> GLMFit:
        nobs = round(sum(one.n_rows for one in rounds) / len(rounds))
        self._check_rows(nobs)
        # Where the last round alone would go: the pooled estimates are slow to move, and so seem to have settled.
        last = solve([rounds[-1]._replace(information=solution.information)], self.design.names)
        settled = last.distance(solution.estimates) <= _SETTLED
        remarks = remarks_on(solution.inverse)
        if not settled:
            remarks += (
                "the last round still moved the estimates by more than the noise does: take more rounds, by "
                f"with_privacy(privacy, rounds={2 * len(rounds)}), or columns that do not separate the responses",
            )
        return GLMFit(
            definition=self.definition,
            names=self.design.names,
            estimates=solution.estimates,
            covariance=solution.covariance,
            llf=math.nan,
            nobs=nobs,
            iterations=states[-1].iteration,
            n_passes=states[-1].n_passes,
            converged=settled,
            states=tuple(states),
            warnings=remarks,
            design=self.design,
            family=self.family.name,
            link=self.family.link,
            deviance=math.nan,
            null_deviance=math.nan,
            pearson_chi2=math.nan,
            scale=1.0,
            cov_type=COV_TYPE,
            residual_sums=np.full(N_MOMENTS, np.nan),
            n_further=self.family.n_further,
            n_missing=None,
            method="Newton, noised rounds",
        )


def _check(family: Family) -> None:
    """Check that a row has a mean and a score at all coefficients, and that nothing but coefficients is estimated.

    Raises
    ------
    PrivacyError
        If not.
    """
    if not family.has_known_dispersion:
        raise PrivacyError(
            f"the family {family.name} takes a dispersion from the residuals of all rows, which the rounds do not "
            "release: take OLS, or the family binomial or poisson"
        )
    if family.estimates_theta:
        raise PrivacyError(
            "theta of a negative binomial is estimated from sums that the rounds do not release: give theta=, or take "
            "the family poisson"
        )
    allowed = _LINKS[family.name]
    if family.link not in allowed:
        raise PrivacyError(
            f"with the link {family.link} there are coefficients at which a row has no mean, and that one has none "
            f"would tell of it: for {family.name} take {', '.join(allowed)}"
        )
