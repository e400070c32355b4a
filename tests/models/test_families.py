"""Families: statsmodels' variances and deviances, R's log-likelihoods, and what users write for them."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.genmod import families as sm
from tacit.models.errors import ModelError
from tacit.models.families import Family, family_of, theta_derivatives

Vector = NDArray[np.float64]
LINKS = ("identity", "log", "sqrt", "inverse", "1/mu^2", "logit", "probit", "cloglog", "loglog", "cauchit")
OF_STATSMODELS = {
    "gaussian": sm.Gaussian(),
    "binomial": sm.Binomial(),
    "poisson": sm.Poisson(),
    "gamma": sm.Gamma(),
    "inversegaussian": sm.InverseGaussian(),
    "negativebinomial": sm.NegativeBinomial(alpha=0.4),
}
Y = np.array([0.1, 0.25, 0.5, 0.6, 0.9])
MU = np.array([0.3, 0.2, 0.5, 0.8, 0.7])
WEIGHTS = np.array([1.0, 2.0, 1.0, 3.0, 2.0])
ONES = np.ones(5)


@pytest.mark.parametrize("name", OF_STATSMODELS)
def test_variance_and_deviance_are_those_of_statsmodels(name: str) -> None:
    other = OF_STATSMODELS[name]
    family = family_of(other)
    theta = family.theta or math.nan
    assert family.name == name
    np.testing.assert_allclose(family.variance_of(MU, theta), other.variance(MU), rtol=1e-15)
    np.testing.assert_allclose(family.variance_slope(MU, theta), other.variance.deriv(MU), rtol=1e-14)
    np.testing.assert_allclose(family.unit_deviance(Y, MU, theta), other.resid_dev(Y, MU) ** 2, atol=1e-15)


@pytest.mark.parametrize("link", LINKS)
def test_slope_and_bend_are_the_derivatives_of_the_mean(link: str) -> None:
    family = family_of("binomial", link)
    eta = family.predictor(MU)
    step = 1e-5
    np.testing.assert_allclose(family.mean(eta), MU, rtol=1e-14)
    slope = (family.mean(eta + step) - family.mean(eta - step)) / (2 * step)
    np.testing.assert_allclose(family.slope(eta), slope, rtol=1e-9)
    bend = (family.slope(eta + step) - family.slope(eta - step)) / (2 * step)
    np.testing.assert_allclose(family.bend(eta), bend, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("gaussian", "identity"),
        ("binomial", "logit"),
        ("poisson", "log"),
        ("gamma", "inverse"),
        ("inversegaussian", "1/mu^2"),
    ],
)
def test_canonical_links_make_slope_and_variance_proportional(name: str, link: str) -> None:
    family = family_of(name)
    eta = family.predictor(MU)
    assert family.link == link
    assert family.is_canonical
    ratio = family.slope(eta) / family.variance_of(MU)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-13)
    assert not family_of(name, "sqrt").is_canonical


# Log-likelihoods, with the dispersion that R's logLik puts in: the deviance over the weights.


def loglik(family: Family, y: Vector, mu: Vector, weights: Vector, trials: Vector) -> float:
    theta = family.theta or math.nan
    sums = family.likelihood_sums(y, mu, weights, trials, theta)
    deviance = float(weights @ family.unit_deviance(y, mu, theta))
    return family.loglik(sums, deviance, float(weights.sum()), len(y))


def test_normal_loglik() -> None:
    family = family_of("gaussian")
    sigma2 = float(WEIGHTS @ (Y - MU) ** 2) / 5
    expected = np.sum(stats.norm.logpdf(Y, MU, np.sqrt(sigma2 / WEIGHTS)))
    assert loglik(family, Y, MU, WEIGHTS, ONES) == pytest.approx(expected, rel=1e-14)


def test_binomial_loglik_of_counts_and_of_weighted_proportions() -> None:
    successes, trials = np.array([1.0, 0, 3, 5, 7]), np.array([4.0, 3, 3, 9, 8])
    expected = np.asarray(stats.binom.logpmf(successes, trials, MU))
    family = family_of("binomial")
    assert loglik(family, successes / trials, MU, trials, trials) == pytest.approx(expected.sum(), rel=1e-13)
    assert loglik(family, successes / trials, MU, WEIGHTS * trials, trials) == pytest.approx(
        WEIGHTS @ expected, rel=1e-13
    )


def test_poisson_loglik() -> None:
    counts, mu = np.array([0.0, 1, 2, 5, 9]), 10 * MU
    expected = WEIGHTS @ stats.poisson.logpmf(counts, mu)
    assert loglik(family_of("poisson"), counts, mu, WEIGHTS, ONES) == pytest.approx(expected, rel=1e-14)


def test_gamma_loglik() -> None:
    family = family_of("gamma")
    dispersion = WEIGHTS @ family.unit_deviance(Y, MU) / WEIGHTS.sum()
    expected = WEIGHTS @ stats.gamma.logpdf(Y, 1 / dispersion, scale=MU * dispersion)
    assert loglik(family, Y, MU, WEIGHTS, ONES) == pytest.approx(expected, rel=1e-13)


def test_inverse_gaussian_loglik() -> None:
    family = family_of("inverse.gaussian")
    shape = 1 / (ONES @ family.unit_deviance(Y, MU) / 5)
    expected = np.sum(stats.invgauss.logpdf(Y, MU / shape, scale=shape))
    assert loglik(family, Y, MU, ONES, ONES) == pytest.approx(expected, rel=1e-13)


def test_negative_binomial_loglik() -> None:
    counts, mu, theta = np.array([0.0, 1, 2, 5, 9]), 10 * MU, 2.5
    expected = np.sum(stats.nbinom.logpmf(counts, theta, theta / (theta + mu)))
    family = family_of("negativebinomial", theta=theta)
    assert loglik(family, counts, mu, ONES, ONES) == pytest.approx(expected, rel=1e-13)


def test_derivatives_by_log_theta() -> None:
    counts, eta, theta = np.array([0.0, 1, 2, 5, 9]), np.log(10 * MU), 2.5

    def value(log_theta: float, shift: float = 0.0) -> Vector:
        found: Vector = stats.nbinom.logpmf(
            counts, math.exp(log_theta), 1 / (1 + np.exp(eta + shift - log_theta))
        )
        return found

    at, step = math.log(theta), 1e-4
    found = theta_derivatives(counts, np.exp(eta), np.exp(eta), theta)
    np.testing.assert_allclose(found.first, (value(at + step) - value(at - step)) / (2 * step), rtol=1e-6)
    second = (value(at + step) - 2 * value(at) + value(at - step)) / step**2
    np.testing.assert_allclose(found.second, second, rtol=1e-5, atol=1e-7)
    corners = (
        value(at + step, step) - value(at + step, -step) - value(at - step, step) + value(at - step, -step)
    )
    np.testing.assert_allclose(found.mixed, corners / (4 * step**2), rtol=1e-5, atol=1e-7)


def test_quasi_families_have_no_likelihood() -> None:
    for name in ("quasi", "quasipoisson", "quasibinomial"):
        family = family_of(name)
        assert not family.has_likelihood
        assert not family.has_known_dispersion
        assert math.isnan(loglik(family, Y, MU, ONES, ONES))


# Means that are none.


@pytest.mark.parametrize(
    ("name", "link", "eta"),
    [
        ("poisson", "identity", -0.1),
        ("poisson", "sqrt", -0.1),
        ("binomial", "identity", 1.1),
        ("binomial", "log", 0.1),
        ("gamma", "inverse", -2.0),
        ("inversegaussian", "1/mu^2", -2.0),
        ("gaussian", "inverse", 0.0),
    ],
)
def test_a_mean_that_is_none_is_nan(name: str, link: str, eta: float) -> None:
    with np.errstate(all="ignore"):
        assert np.isnan(family_of(name, link).mean(np.array([eta]))[0])


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "loglog", "cauchit"])
def test_probabilities_stay_inside_zero_and_one_as_in_r(link: str) -> None:
    with np.errstate(all="ignore"):
        mu = family_of("binomial", link).mean(np.array([-800.0, 800.0]))
    assert (mu > 0).all()
    assert (mu < 1).all()


def test_responses_that_may_occur() -> None:
    y = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    allowed = {
        "gaussian": [True] * 5,
        "binomial": [False, True, True, True, False],
        "poisson": [False, True, True, True, True],
        "gamma": [False, False, True, True, True],
    }
    for name, expected in allowed.items():
        assert family_of(name).are_responses(y).tolist() == expected


# What users write.


@pytest.mark.parametrize(
    ("written", "name", "link"),
    [
        ("Gamma", "gamma", "inverse"),
        ("inverse.gaussian", "inversegaussian", "1/mu^2"),
        ("Inverse_Gaussian", "inversegaussian", "1/mu^2"),
        ("NegativeBinomial", "negativebinomial", "log"),
        (sm.Poisson(sm.links.Sqrt()), "poisson", "sqrt"),
        (sm.Gamma(sm.links.Log()), "gamma", "log"),
        (sm.Binomial(sm.links.Cauchy()), "binomial", "cauchit"),
        (sm.InverseGaussian, "inversegaussian", "1/mu^2"),
    ],
)
def test_families_are_known_by_their_names(written: Any, name: str, link: str) -> None:
    family = family_of(written)
    assert (family.name, family.link) == (name, link)


@pytest.mark.parametrize(
    ("written", "link"),
    [
        ("cauchy", "cauchit"),
        ("inverse_power", "inverse"),
        ("InverseSquared", "1/mu^2"),
        ("1/mu^2", "1/mu^2"),
        (sm.links.Probit(), "probit"),
        (sm.links.CLogLog, "cloglog"),
    ],
)
def test_links_are_known_by_their_names(written: Any, link: str) -> None:
    assert family_of("binomial", written).link == link


def test_a_negative_binomial_of_statsmodels_has_a_known_theta() -> None:
    assert family_of(sm.NegativeBinomial(alpha=0.5)).theta == 2.0
    assert not family_of(sm.NegativeBinomial(alpha=0.5)).estimates_theta
    assert family_of("negativebinomial").estimates_theta


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("tweedie",), {}, "unknown family 'tweedie'"),
        (("poisson", "square"), {}, "unknown link 'square'"),
        (("poisson", sm.links.NegativeBinomial()), {}, "unknown link 'NegativeBinomial'"),
        (("poisson",), {"variance": "mu"}, "variance= is for family='quasi'"),
        (("quasi",), {"variance": "mu^4"}, "variance= is for family='quasi'"),
        (("poisson",), {"theta": 1.0}, "theta= is a positive number"),
        (("negativebinomial",), {"theta": -1.0}, "theta= is a positive number"),
    ],
)
def test_what_is_no_family_is_refused(arguments: Any, options: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        family_of(*arguments, **options)


def test_a_family_survives_pickling_without_statsmodels_in_it() -> None:
    family = family_of("binomial", "probit")
    family.mean(np.zeros(1))
    stored = pickle.dumps(family)
    assert b"statsmodels" not in stored
    assert pickle.loads(stored) == family
