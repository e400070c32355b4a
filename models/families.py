"""Families of generalised linear models: how the mean depends on the columns, the variance on the mean.

A family is a variance function and a link. Links are those of statsmodels; where R and statsmodels differ (the
deviance, the log-likelihood, the value from which the iteration starts, what a mean may be) the numbers are R's:
`stats::family`, `stats::glm.fit` and, for the negative binomial, `MASS::glm.nb` of Venables and Ripley.

Everything here is a formula for single rows, evaluated at the holder that has them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .errors import ModelError
from .parameters import Vector

Mask = NDArray[np.bool_]

_LARGEST_PROBABILITY = 1 - float(np.finfo(np.float64).eps)  # as R's links for probabilities have it


class _Variance(NamedTuple):
    """V(μ) and what follows from it; θ matters to the negative binomial only."""

    function: Callable[[Vector, float], Vector]
    slope: Callable[[Vector, float], Vector]
    unit_deviance: Callable[[Vector, Vector, float], Vector]
    start: Callable[[Vector, Vector], Vector]  # of responses and weights: R's mustart
    responses: Callable[[Vector], Mask]  # which may occur
    means: Callable[[Vector], Mask]  # which may be fitted
    allowed: str  # the responses, in words


class _Distribution(NamedTuple):
    title: str
    variance: str
    link: str
    known_dispersion: bool
    likelihood: bool = True


def _positive(values: Vector) -> Mask:
    return values > 0


def _negative_binomial_deviance(y: Vector, mu: Vector, theta: float) -> Vector:
    return 2 * (special.rel_entr(y, mu) - (y + theta) * np.log((y + theta) / (mu + theta)))


_VARIANCES: Mapping[str, _Variance] = {
    "constant": _Variance(
        lambda mu, _: np.ones_like(mu),
        lambda mu, _: np.zeros_like(mu),
        lambda y, mu, _: (y - mu) ** 2,
        lambda y, _: y,
        np.isfinite,
        np.isfinite,
        "finite",
    ),
    "mu(1-mu)": _Variance(
        lambda mu, _: mu * (1 - mu),
        lambda mu, _: 1 - 2 * mu,
        # y log(y/μ) + (1 − y) log((1 − y)/(1 − μ)); what kl_div adds to the first it takes from the second.
        lambda y, mu, _: 2 * (special.kl_div(y, mu) + special.kl_div(1 - y, 1 - mu)),
        lambda y, weights: (weights * y + 0.5) / (weights + 1),
        lambda y: (y >= 0) & (y <= 1),
        lambda mu: (mu > 0) & (mu < 1),
        "0 or 1, proportions, or counts of successes among trials",
    ),
    "mu": _Variance(
        lambda mu, _: mu,
        lambda mu, _: np.ones_like(mu),
        lambda y, mu, _: 2 * special.kl_div(y, mu),
        lambda y, _: y + 0.1,
        lambda y: y >= 0,
        _positive,
        "not negative",
    ),
    "mu^2": _Variance(
        lambda mu, _: mu**2,
        lambda mu, _: 2 * mu,
        lambda y, mu, _: 2 * ((y - mu) / mu - np.log(y / mu)),
        lambda y, _: y,
        _positive,
        _positive,
        "positive",
    ),
    "mu^3": _Variance(
        lambda mu, _: mu**3,
        lambda mu, _: 3 * mu**2,
        lambda y, mu, _: (y - mu) ** 2 / (y * mu**2),
        lambda y, _: y,
        _positive,
        _positive,
        "positive",
    ),
    "mu+mu^2/theta": _Variance(
        lambda mu, theta: mu + mu**2 / theta,
        lambda mu, theta: 1 + 2 * mu / theta,
        _negative_binomial_deviance,
        lambda y, _: y + (y == 0) / 6,
        lambda y: y >= 0,
        _positive,
        "not negative",
    ),
}

_DISTRIBUTIONS: Mapping[str, _Distribution] = {
    "gaussian": _Distribution("Gaussian", "constant", "identity", known_dispersion=False),
    "binomial": _Distribution("Binomial", "mu(1-mu)", "logit", known_dispersion=True),
    "poisson": _Distribution("Poisson", "mu", "log", known_dispersion=True),
    "gamma": _Distribution("Gamma", "mu^2", "inverse", known_dispersion=False),
    "inversegaussian": _Distribution("Inverse Gaussian", "mu^3", "1/mu^2", known_dispersion=False),
    "negativebinomial": _Distribution("Negative Binomial", "mu+mu^2/theta", "log", known_dispersion=True),
    "quasi": _Distribution("Quasi", "constant", "identity", known_dispersion=False, likelihood=False),
    "quasibinomial": _Distribution(
        "Quasi-Binomial", "mu(1-mu)", "logit", known_dispersion=False, likelihood=False
    ),
    "quasipoisson": _Distribution("Quasi-Poisson", "mu", "log", known_dispersion=False, likelihood=False),
}

# Our name (R's) and statsmodels' class.
_LINKS: Mapping[str, str] = {
    "identity": "Identity",
    "log": "Log",
    "sqrt": "Sqrt",
    "inverse": "InversePower",
    "1/mu^2": "InverseSquared",
    "logit": "Logit",
    "probit": "Probit",
    "cloglog": "CLogLog",
    "loglog": "LogLog",
    "cauchit": "Cauchy",
}
_PROBABILITIES = frozenset({"logit", "probit", "cloglog", "loglog", "cauchit"})
_QUASI_VARIANCES = ("constant", "mu(1-mu)", "mu", "mu^2", "mu^3")
_CANONICAL = frozenset(
    {
        ("constant", "identity"),
        ("mu(1-mu)", "logit"),
        ("mu", "log"),
        ("mu^2", "inverse"),
        ("mu^3", "1/mu^2"),
    }
)


def _plain(name: str) -> str:
    """Return a name as it is looked up: without case, blanks and punctuation."""
    return "".join(character for character in name.lower() if character.isalnum())


_FAMILY_NAMES = {_plain(name): name for name in _DISTRIBUTIONS}
_LINK_NAMES = {_plain(alias): name for name, other in _LINKS.items() for alias in (name, other)}


@dataclass(frozen=True)
class Family:
    """A variance function with a link.

    Attributes
    ----------
    name : str
        "gaussian", "binomial", "poisson", "gamma", "inversegaussian", "negativebinomial", "quasi",
        "quasibinomial" or "quasipoisson".
    link : str
        As R calls it: "identity", "log", "sqrt", "inverse", "1/mu^2", "logit", "probit", "cloglog", "loglog"
        or "cauchit".
    variance : str
        The variance function: "constant", "mu(1-mu)", "mu", "mu^2", "mu^3" or "mu+mu^2/theta".
    theta : float or None
        Of the negative binomial, if it is not estimated.
    """

    name: str
    link: str
    variance: str
    theta: float | None = None

    @property
    def title(self) -> str:
        """The name as it is printed."""
        return _DISTRIBUTIONS[self.name].title

    @property
    def has_known_dispersion(self) -> bool:
        """Whether the dispersion is 1; otherwise it is estimated by Pearson's χ² over its degrees of freedom."""
        return _DISTRIBUTIONS[self.name].known_dispersion

    @property
    def has_likelihood(self) -> bool:
        """False for the quasi-families."""
        return _DISTRIBUTIONS[self.name].likelihood

    @property
    def estimates_theta(self) -> bool:
        """Whether θ of the negative binomial is estimated."""
        return self.name == "negativebinomial" and self.theta is None

    @property
    def n_further(self) -> int:
        """How many parameters AIC and BIC count beside the coefficients, as R does: a dispersion or θ."""
        return int(self.estimates_theta or (self.has_likelihood and not self.has_known_dispersion))

    @property
    def is_canonical(self) -> bool:
        """Whether observed and expected information are the same."""
        return (self.variance, self.link) in _CANONICAL

    @property
    def is_binomial(self) -> bool:
        """Whether responses may be counts of successes among trials."""
        return self.variance == "mu(1-mu)"

    # Formulas of single rows.

    def are_responses(self, y: Vector) -> Mask:
        """Return which responses may occur."""
        return _VARIANCES[self.variance].responses(y)

    @property
    def allowed_responses(self) -> str:
        """Say what responses must be."""
        return _VARIANCES[self.variance].allowed

    def start(self, y: Vector, weights: Vector) -> Vector:
        """Return means near the responses from which to start, η = g(μ) being NaN where there is none."""
        return _VARIANCES[self.variance].start(y, weights)

    def predictor(self, mu: Vector) -> Vector:
        """Return the linear predictor g(μ); NaN where it is not finite."""
        eta = np.asarray(self._link(mu), dtype=np.float64)
        return np.where(np.isfinite(eta), eta, np.nan)

    def mean(self, eta: Vector) -> Vector:
        """Return the mean of a linear predictor; NaN where it is none."""
        mu = np.asarray(self._link.inverse(eta), dtype=np.float64)
        if self.link in _PROBABILITIES:
            mu = np.clip(mu, 1 - _LARGEST_PROBABILITY, _LARGEST_PROBABILITY)
        valid = _VARIANCES[self.variance].means(mu) & np.isfinite(mu)
        if self.link == "sqrt":
            valid &= eta > 0  # of the two roots R takes this one
        return np.where(valid, mu, np.nan)

    def slope(self, eta: Vector) -> Vector:
        """Return dμ/dη."""
        if self.link == "logit":  # that of statsmodels is inf / inf beyond 355
            return np.asarray(special.expit(eta) * special.expit(-eta), dtype=np.float64)
        return np.asarray(self._link.inverse_deriv(eta), dtype=np.float64)

    def bend(self, eta: Vector) -> Vector:
        """Return d²μ/dη², 0 where it is not finite: it steers the iteration but is in no result."""
        bend: Vector = np.nan_to_num(self._link.inverse_deriv2(eta), nan=0.0, posinf=0.0, neginf=0.0)
        return bend

    def variance_of(self, mu: Vector, theta: float = math.nan) -> Vector:
        """Return V(μ)."""
        return _VARIANCES[self.variance].function(mu, theta)

    def variance_slope(self, mu: Vector, theta: float = math.nan) -> Vector:
        """Return dV/dμ."""
        return _VARIANCES[self.variance].slope(mu, theta)

    def unit_deviance(self, y: Vector, mu: Vector, theta: float = math.nan) -> Vector:
        """Return twice what the log-likelihood lacks of that of a perfect fit, for dispersion and weight 1."""
        unit: Vector = np.maximum(_VARIANCES[self.variance].unit_deviance(y, mu, theta), 0.0)
        return unit

    @functools.cached_property
    def _link(self) -> Any:
        from statsmodels.genmod.families import links  # noqa: PLC0415 - takes a second

        return getattr(links, _LINKS[self.link])()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the object of statsmodels."""
        return {name: value for name, value in self.__dict__.items() if name != "_link"}

    # The log-likelihood: sums over rows, and what the coordinator makes of them.

    def likelihood_sums(
        self, y: Vector, mu: Vector, weights: Vector, trials: Vector, theta: float = math.nan
    ) -> Vector:
        """Return the sums over rows from which `loglik` is computed, shape (k,).

        Parameters
        ----------
        y, mu : ndarray, shape (n,)
            Responses and means; for counts of successes, proportions.
        weights : ndarray, shape (n,)
            Prior weights, of a binomial times the trials; positive.
        trials : ndarray, shape (n,)
            Of a binomial, the number m of trials of which y is a proportion.
        theta : float
            Of the negative binomial.
        """
        match self.name:
            case "gaussian":
                sums = [np.log(weights).sum()]
            case "binomial":
                sums = [np.sum(weights / trials * _binomial(y, mu, trials))]
            case "poisson":
                sums = [np.sum(weights * (special.xlogy(y, mu) - mu - special.gammaln(y + 1)))]
            case "gamma":
                sums = [np.sum(weights * np.log(y)), np.sum(weights * y / mu), np.sum(weights * np.log(mu))]
            case "inversegaussian":
                sums = [np.sum(weights * np.log(y))]
            case "negativebinomial":
                sums = [np.sum(weights * _negative_binomial(y, mu, theta))]
            case _:
                sums = []
        return np.array(sums, dtype=np.float64)

    def loglik(self, sums: Vector, deviance: float, total_weight: float, nobs: int) -> float:
        """Return the log-likelihood as R's `logLik` does; NaN for a quasi-family.

        Parameters
        ----------
        sums : ndarray, shape (k,)
            Of `likelihood_sums`, over all rows.
        deviance, total_weight : float
            Over all rows.
        nobs : int
            Rows of positive weight.
        """
        if not self.has_likelihood:
            return math.nan
        if self.has_known_dispersion:
            return float(sums[0])
        if deviance <= 0:
            return math.inf
        if self.name == "gaussian":
            return float(sums[0] - nobs * (math.log(2 * math.pi * deviance / nobs) + 1)) / 2
        dispersion = deviance / total_weight  # its estimate by maximum likelihood, or R's stand-in for it
        if self.name == "inversegaussian":
            return float(-total_weight * (math.log(2 * math.pi * dispersion) + 1) - 3 * sums[0]) / 2
        shape = 1 / dispersion
        log_y, ratio, log_mu = sums
        return float(
            (shape - 1) * log_y
            - shape * (ratio + log_mu)
            + total_weight * (shape * math.log(shape) - special.gammaln(shape))
        )


def _binomial(y: Vector, mu: Vector, trials: Vector) -> Vector:
    """Return log-probabilities of y·m successes, rounded to counts as R does."""
    m = np.round(trials)
    k = np.round(trials * y)
    choices = special.gammaln(m + 1) - special.gammaln(k + 1) - special.gammaln(m - k + 1)
    return np.asarray(choices + special.xlogy(k, mu) + special.xlog1py(m - k, -mu), dtype=np.float64)


def _negative_binomial(y: Vector, mu: Vector, theta: float) -> Vector:
    return np.asarray(
        special.gammaln(theta + y)
        - special.gammaln(theta)
        - special.gammaln(y + 1)
        + special.xlogy(y, mu)
        + theta * np.log(theta)
        - (theta + y) * np.log(theta + mu),
        dtype=np.float64,
    )


class ThetaDerivatives(NamedTuple):
    """Of the log-likelihood of single rows by log θ: first, second, and mixed with η."""

    first: Vector
    second: Vector
    mixed: Vector


def theta_derivatives(y: Vector, mu: Vector, slope: Vector, theta: float) -> ThetaDerivatives:
    """Return the derivatives of a negative binomial's log-likelihood by the logarithm of θ, shapes (n,).

    Parameters
    ----------
    y, mu, slope : ndarray, shape (n,)
        Responses, means, and dμ/dη.
    theta : float
        Positive.
    """
    total = theta + mu
    first = (
        special.digamma(theta + y) - special.digamma(theta) + np.log(theta / total) + 1 - (y + theta) / total
    )
    second = (
        special.polygamma(1, theta + y)
        - special.polygamma(1, theta)
        + 1 / theta
        - 2 / total
        + (y + theta) / total**2
    )
    return ThetaDerivatives(
        theta * first, theta**2 * second + theta * first, theta * (y - mu) / total**2 * slope
    )


# What a user writes.


def family_of(
    family: Any, link: Any = None, *, variance: str | None = None, theta: float | None = None
) -> Family:
    """Return the family that a user means.

    Parameters
    ----------
    family : str, or a family of statsmodels
        For instance "poisson", or ``sm.families.Poisson(sm.families.links.Sqrt())``; R's and statsmodels' names,
        whatever their case and punctuation. A `NegativeBinomial` of statsmodels has a known θ = 1 / alpha.
    link : str, or a link of statsmodels, optional
        The default is R's.
    variance : str, optional
        Of "quasi": "constant", "mu(1-mu)", "mu", "mu^2" or "mu^3".
    theta : float, optional
        Of "negativebinomial", which otherwise estimates it.

    Raises
    ------
    ModelError
        If a name is unknown, or an option does not belong to the family.
    """
    name = _family_name(family)
    if name == "negativebinomial" and theta is None and not isinstance(family, str | type):
        theta = 1 / float(family.alpha)
    if link is None and not isinstance(family, str | type):
        link = family.link
    distribution = _DISTRIBUTIONS[name]
    if variance is not None and (name != "quasi" or variance not in _QUASI_VARIANCES):
        raise ModelError(f"variance= is for family='quasi', one of {', '.join(_QUASI_VARIANCES)}")
    if theta is not None and (name != "negativebinomial" or not 0 < theta < math.inf):
        raise ModelError("theta= is a positive number, for family='negativebinomial' only")
    return Family(
        name,
        distribution.link if link is None else _link_name(link),
        variance or distribution.variance,
        theta,
    )


def _family_name(family: Any) -> str:
    known = _FAMILY_NAMES.get(_plain(_named(family)))
    if known is None:
        raise ModelError(f"unknown family {_named(family)!r}: choose one of {', '.join(_DISTRIBUTIONS)}")
    return known


def _link_name(link: Any) -> str:
    known = _LINK_NAMES.get(_plain(_named(link)))
    if known is None:
        raise ModelError(f"unknown link {_named(link)!r}: choose one of {', '.join(_LINKS)}")
    return known


def _named(value: Any) -> str:
    """Return a text, or the name of a class or of an object's class."""
    if isinstance(value, str):
        return value
    return value.__name__ if isinstance(value, type) else type(value).__name__
