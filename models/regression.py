"""Generalised linear models, as if the rows of all holders lay in one table.

Each pass returns, summed over the holders, the deviance, the score and the information at one trial point, and what a
fit prints of it. The first linearises at means near the responses, as R's `glm.fit` does; from there Newton's
method on the deviance goes to the maximum of the likelihood, with the observed information, which takes
fewer passes than Fisher scoring where the link is not canonical. Standard errors are of the expected information.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..privacy.guarantee import Privacy
from ..serialization.session_messages import ArraySpecification, Query
from .definition import State
from .design import Design
from .errors import ModelError
from .families import family_of
from .parameters import Vector
from .regression_fit import GLMFit
from .regression_model import Passes, RegressionModel, standardisation_of
from .regression_search import Search
from .regression_sums import N_MOMENTS, Matrix, Rows, Standardisation, start_sums, trial_sums
from .safeguarded_newton import Progress
from .total import Arrays, Total

if TYPE_CHECKING:
    from .private_glm import PrivateGLM


class GLM(RegressionModel):
    """A generalised linear model.

    Parameters
    ----------
    formula : str
        As R, statsmodels and formulaic have it: ``"low ~ age + lwt + C(race)"``; counts of successes and failures as
        ``"cbind(n, total - n) ~ age"``.
    family : str or a family of statsmodels
        gaussian, binomial, poisson, gamma, inversegaussian, negativebinomial, quasi, quasibinomial or
        quasipoisson. A negative binomial estimates θ with the coefficients, as `MASS::glm.nb` does.
    link : str or a link of statsmodels, optional
        identity, log, sqrt, inverse, 1/mu^2, logit, probit, cloglog, loglog or cauchit; R's default.
    offset, weights : str, optional
        A column, or an expression: added to the linear predictor; prior weights (for proportions the
        trials). Rows of weight 0 do not count as observations.
    levels : mapping of str to sequence, optional
        The levels of factors in order, the reference first: ``levels={"tension": ["L", "M", "H"]}``.
    missing : {"drop", "raise"}
        Whether rows with a missing value are left out and counted, or are an error.
    max_levels : int
        How many undeclared levels may be found in all factors together.
    start : mapping of str to float, or sequence of float, optional
        Coefficients to begin with, by the names of all columns or in their order.
    variance : str, optional
        Of "quasi": constant, mu(1-mu), mu, mu^2 or mu^3.
    theta : float, optional
        Of a negative binomial that does not estimate it.

    Raises
    ------
    ModelError
        If the formula, the family or one of the others cannot be used.

    Examples
    --------
    >>> model = GLM("breaks ~ wool * tension", family="poisson", levels={"tension": ["L", "M", "H"]})
    >>> fit = federation.fit(model)                                                     # doctest: +SKIP
    """

    kind: ClassVar[str] = "GLM"
    _iteration_passes: ClassVar[int] = 7

    def __init__(
        self,
        formula: str,
        family: Any = "gaussian",
        link: Any = None,
        offset: str | None = None,
        weights: str | None = None,
        *,
        levels: Mapping[str, Sequence[Any]] | None = None,
        missing: Literal["drop", "raise"] = "drop",
        max_levels: int = 128,
        start: Mapping[str, float] | Sequence[float] | None = None,
        variance: str | None = None,
        theta: float | None = None,
    ) -> None:
        super().__init__(
            formula,
            family_of(family, link, variance=variance, theta=theta),
            offset=offset,
            weights=weights,
            levels=levels,
            missing=missing,
            max_levels=max_levels,
        )
        self.start = _start(start)

    def with_privacy(self, privacy: Privacy, rounds: int | None = None) -> PrivateGLM:
        """Return the model under differential privacy: noised Newton rounds, standard errors that include the noise.

        Nothing is found out from the rows beforehand: levels, and the constants of transforms, are declared in the
        formula. Rows that lack a value are left out, and their number is not released; nor are deviance and
        log-likelihood.

        Parameters
        ----------
        privacy : Privacy
            For the unit "record" or "person", without sampling. ``clip`` is of what a row contributes, the root of
            s² |x|² + h² |x|⁴ / 4 + 1 / 4: its columns with the intercept are x, its score s (for a logit below 1, for
            counts around the root of the mean), its information h (below 1 / 4, around the mean). Centre and scale
            by constants, ``"low ~ I((age - 25) / 5)"``, so that columns are around 1, and take a clip that most rows
            stay below: longer ones count less, by their columns and not by their response, which biases nothing.
        rounds : int, optional
            How many sums are released, for all of which together the noise is made; 8 by default. More settle
            harder cases: the first half only approaches, the others are pooled.

        Raises
        ------
        PrivacyError
            If the guarantee cannot be given for this model: the family is to be one of known dispersion, with a
            link that has a mean everywhere.
        ModelError
            If splines leave their knots to the data.
        """
        from .private_glm import ROUNDS, PrivateGLM  # noqa: PLC0415 - which is made of this one

        return PrivateGLM(self, privacy, ROUNDS if rounds is None else rounds)

    def _own_parameters(self) -> dict[str, Any]:
        return {
            "family": self.family.name,
            "link": self.family.link,
            "variance": self.family.variance,
            "theta": self.family.theta,
            "start": self.start,
        }

    def _own_specifications(self, n_columns: int) -> tuple[ArraySpecification, ...]:
        triangle = n_columns * (n_columns + 1) // 2
        shapes: dict[str, tuple[int, ...]] = {
            "deviance": (),
            "null_deviance": (),
            "pearson": (),
            "score": (n_columns,),
            "information": (triangle,),
            "likelihood": (1,),
            "residuals": (N_MOMENTS,),
        }
        if not self.family.is_canonical:
            shapes["hessian"] = (triangle,)
        return tuple(
            ArraySpecification(name=name, dtype="float64", shape=shape) for name, shape in shapes.items()
        )

    # At a holder.

    def _sums(self, rows: Rows, query: Query) -> Arrays:
        family, arrays, null = self.family, query.arrays, rows.of_null_model
        if "null_theta" in arrays:  # of a negative binomial's null model
            family = replace(family, theta=float(arrays["null_theta"]))
        match query.step:
            case "start" if "theta" not in arrays:
                return start_sums(rows, family, None)
            case "start":
                n_columns = rows.x.shape[1]
                further = arrays["theta"].shape != (n_columns,)  # log θ, of a run that goes on
                return start_sums(rows, family, self._vector(query, "theta", rows, further)[:n_columns])
            case "trial":
                theta = self._vector(query, "theta", rows, family.estimates_theta)
                return trial_sums(rows, family, theta, float(self._vector(query, "null_mean", null)[0]))
            case "null_start":
                return start_sums(null, family, None)
            case "null_trial":
                mean = float(self._vector(query, "null_mean", null)[0])
                return trial_sums(null, family, self._vector(query, "null", null), mean)
        raise self._foreign(query)

    # At the coordinator.

    async def iterate(self, total: Total, start: State | None = None) -> AsyncIterator[State | GLMFit]:
        """Fit the model, awaiting nothing but sums.

        Parameters
        ----------
        total : Total
            Sums contributions over the holders.
        start : State, optional
            Continue from here.

        Yields
        ------
        State or GLMFit
            A state for each accepted point, its value being the deviance (−2 log-likelihood where θ is
            estimated); last, the fit.

        Raises
        ------
        ModelError
            If columns are linearly dependent, or no valid means are found from which to start.
        """
        passes = Passes(total)
        passes.n_passes = 0 if start is None else start.n_passes
        design = await self._agreed_design(passes, start)
        query: dict[str, NDArray[Any]] = {"design": design.to_array()}
        search = Search(self.family, design.names, standardisation_of(design), passes, query)
        first = await search.first(self._begin(design, start))
        states: list[State] = []
        iteration = 0 if start is None else start.iteration
        async for progress in search.progress(first, iteration):
            if not states or progress.iteration > states[-1].iteration:
                states.append(search.state(progress, passes.n_passes))
                yield states[-1]
        null_deviance = await self._null_deviance(search, design)
        yield await self._fit(search, progress, design, states, null_deviance)

    def _begin(self, design: Design, start: State | None) -> Vector | None:
        """Return where the user, or a run that is taken up, wants to begin."""
        names = design.names
        if start is not None:
            if start.parameters.size not in {len(names), len(names) + self.family.estimates_theta}:
                raise ModelError(
                    f"the state has {start.parameters.size} parameters; columns: {', '.join(names)}"
                )
            return start.parameters
        if self.start is None:
            return None
        given = self.start
        if isinstance(given, dict):
            if set(given) != set(names):
                raise ModelError(f"start= names {', '.join(given)}, but the columns are {', '.join(names)}")
            given = [given[name] for name in names]
        if len(given) != len(names):
            raise ModelError(f"start= has {len(given)} values, but the columns are {', '.join(names)}")
        return np.array(given, dtype=np.float64)

    async def _null_deviance(self, search: Search, design: Design) -> float:
        """Return the deviance of an intercept alone, or of nothing but the offset; NaN if the link has no such mean."""
        if not design.schema.offsets:
            return float(search.last["null_deviance"]) if search.has_null_mean else math.nan
        family, query = self.family, search.query
        if family.estimates_theta:
            family = replace(family, theta=search.theta)
            query = {**query, "null_theta": np.array(search.theta)}
        standardisation = Standardisation.of_intercept()
        null = Search(family, ("Intercept",), standardisation, search.passes, query, prefix="null_")
        if not design.has_intercept:
            return await null.deviance_of_offset(search.null_mean)
        async for _ in null.progress(await null.first(None), 0):
            pass
        return float(null.last["deviance"])

    async def _fit(
        self, search: Search, last: Progress, design: Design, states: list[State], null_deviance: float
    ) -> GLMFit:
        sums, names, nobs = search.last, design.names, search.nobs
        df_resid = nobs - len(names)
        scale = 1.0
        if not self.family.has_known_dispersion:
            scale = float(sums["pearson"]) / df_resid if df_resid else math.nan
        uses_t = self.cov_type == "nonrobust" and not self.family.has_known_dispersion
        return GLMFit(
            definition=self.definition,
            names=names,
            estimates=search.estimates(last)[: len(names)],
            covariance=await self._covariance(search, last, scale),
            llf=self.family.loglik(sums["likelihood"], float(sums["deviance"]), search.total_weight, nobs),
            nobs=nobs,
            iterations=last.iteration,
            n_passes=search.passes.n_passes,
            converged=last.end in {"stationary", "rounding"} and not search.is_poisson(last),
            states=tuple(states),
            warnings=tuple(search.remarks(last)),
            statistics=search.theta_statistics(last),
            df_t=float(df_resid) if uses_t else None,
            design=design,
            family=self.family.name,
            link=self.family.link,
            deviance=float(sums["deviance"]),
            null_deviance=null_deviance,
            pearson_chi2=float(sums["pearson"]),
            scale=scale,
            cov_type=self.cov_type,
            residual_sums=np.asarray(sums["residuals"], dtype=np.float64),
            n_further=self.family.n_further,
            n_missing=search.n_missing,
        )

    async def _covariance(self, search: Search, last: Progress, scale: float) -> Matrix:
        """Return the covariance of the coefficients; NaN for those that grow without end."""
        standardised = scale * search.bread
        if self.cov_type != "nonrobust":
            query = {**search.query, "theta": search.estimates(last)}
            standardised = await self._robust(search.passes, query, search.bread, search.nobs)
        matrix = search.standardisation.to_coefficients
        covariance = matrix @ standardised @ matrix.T
        away = search.away(last)
        covariance[away, :] = covariance[:, away] = np.nan
        return covariance


def _start(start: Mapping[str, float] | Sequence[float] | None) -> dict[str, float] | list[float] | None:
    """Return a start as plain data."""
    if start is None:
        return None
    try:
        values = np.array(list(start.values() if isinstance(start, Mapping) else start), dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ModelError("start= is a finite number for each column")
    return dict(zip(start, values.tolist(), strict=True)) if isinstance(start, Mapping) else values.tolist()
