"""Regressions under privacy: the pooled answer without noise, intervals that cover with it, refusals with reasons."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from regressions import fitted, glm_of, ols_of, reference, rows_of_three, sites
from scipy import special
from tacit.models import private_regression
from tacit.models.definition import State
from tacit.models.errors import DataError, ModelError
from tacit.models.families import family_of
from tacit.models.fit import Fit
from tacit.models.least_squares import OLS
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.noised_matrices import matrix_of, noise_along, product_rows, triangle_size
from tacit.models.noised_newton import Round, contributions, pooled_rounds
from tacit.models.noised_newton import solve as solve_rounds
from tacit.models.parameters import Vector
from tacit.models.private_glm import PrivateGLM
from tacit.models.private_least_squares import PrivateOLS
from tacit.models.private_least_squares import solve as solve_moments
from tacit.models.regression import GLM
from tacit.models.regression_sums import Matrix, Rows, Standardisation
from tacit.models.total import Arrays, Total, contribute, pooled
from tacit.privacy.clipping import clip_rows
from tacit.privacy.errors import PrivacyError
from tacit.privacy.guarantee import Privacy
from tacit.privacy.noised_sum import NoisedSum
from tacit.serialization.session_messages import Query

THREE = rows_of_three()
ALL = pd.concat(THREE, ignore_index=True)
BY_PERSON = Privacy(1, 1e-5, clip=8, unit="person", person="id")
Private = PrivateGLM | PrivateOLS


def asked(epsilon: float = 1.0, clip: float = 8.0, **others: Any) -> Privacy:
    return Privacy(epsilon, 1e-5, clip=clip, **others)


class Unclipped:
    """A noised sum with neither a clip nor a grid."""

    def __init__(self, noised: NoisedSum) -> None:
        self.privacy, self.rounds, self.dimension = noised.privacy, noised.rounds, noised.dimension
        self.to_dict = noised.to_dict

    def clipped_sum(self, rows: Matrix) -> Vector:
        return np.asarray(rows.sum(axis=0))


def unclipped(model: Private) -> Any:
    model.noised = Unclipped(model.noised)  # type: ignore[assignment]
    return model


def generator_bytes(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def noisy(model: Private, data: Sequence[Any], seed: int = 0, asked_for: list[Query] | None = None) -> Total:
    """Return the total with every holder's noise, and its variance, as a coordinator hands it on."""
    random_bytes, n_holders = generator_bytes(seed), len(data)

    async def total(query: Query) -> Arrays:
        if asked_for is not None:
            asked_for.append(query)
        released = (await pooled(model, data)(query))["noised"]
        for _ in data:
            released = released + model.noised.add_noise(np.zeros_like(released), n_holders, random_bytes)
        return {"noised": released, "variance": np.array(model.noised.variance(n_holders, n_holders))}

    return total


def run(model: Private, total: Total, start: State | None = None) -> list[Any]:
    async def collect() -> list[Any]:
        return [item async for item in model.iterate(total, start)]

    return asyncio.run(collect())


def noisy_fit(model: Private, data: Sequence[Any], seed: int = 0) -> Any:
    return run(model, noisy(model, data, seed))[-1]


def many(n_rows: int = 6000, seed: int = 5) -> list[pd.DataFrame]:
    """Return rows of three holders with an event, a count and a size, by x, z and g."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"x": rng.normal(size=n_rows), "z": rng.uniform(-1, 1, n_rows)})
    rows["g"] = rng.choice(["a", "b"], n_rows)
    eta = 0.3 + 0.5 * rows.x - 0.4 * rows.z + 0.3 * (rows.g == "b")
    rows["size"] = eta + rng.normal(size=n_rows)
    rows["event"] = (rng.uniform(size=n_rows) < special.expit(eta)).astype(int)
    rows["count"] = rng.poisson(np.exp(eta))
    rows["id"] = rng.integers(0, n_rows // 2, n_rows)
    return [rows[i::3] for i in range(3)]


MANY = many()


# Without noise and clip: the pooled answer.


def with_levels(formula: str, data: Sequence[pd.DataFrame], known: dict[str, Any] | None) -> dict[str, Any]:
    """Declare the levels of all text columns, and of C(...)."""
    rows = pd.concat(data)
    named = [str(name) for name in rows if str(name) in formula.split("~")[1]]
    texts = [name for name in named if rows[name].dtype.kind == "O" or f"C({name})" in formula]
    return {name: sorted(rows[name].unique().tolist()) for name in texts} | (known or {})


def declared(model: GLM | OLS, data: Sequence[pd.DataFrame]) -> Any:
    """Return the model with declared levels."""
    terms = dict(model.agreement.parameters)
    terms["levels"] = with_levels(terms["formula"], data, terms["levels"])
    if isinstance(model, OLS):
        terms.pop("offset")
        return OLS(**terms)
    return GLM(family=model.family.name, link=model.family.link, **terms)


@pytest.mark.parametrize("name", reference("lm"))
def test_least_squares_without_noise_are_the_pooled_ones(name: str) -> None:
    entry = reference("lm")[name]
    data = sites(entry["data_file"])
    plain = declared(ols_of(entry), data)
    fit, expected = fitted(unclipped(plain.with_privacy(asked())), data), fitted(plain, data)
    assert fit.names == expected.names
    np.testing.assert_allclose(fit.estimates, expected.estimates, rtol=1e-7)
    np.testing.assert_allclose(fit.standard_errors, expected.standard_errors, rtol=1e-7)
    for figure in ("nobs", "scale", "rsquared", "df_resid", "fvalue", "f_pvalue"):
        assert getattr(fit, figure) == pytest.approx(getattr(expected, figure), rel=1e-6)


GLMS = ["menarche_grouped", "esoph_grouped", "warpbreaks_poisson", "insectsprays_poisson", "mtcars_logit_am"]


@pytest.mark.parametrize("name", GLMS)
def test_generalised_linear_models_without_noise_are_the_pooled_ones(name: str) -> None:
    entry = reference("glm")[name]
    data = sites(entry["data_file"])
    plain = declared(glm_of(entry), data)
    fit = fitted(unclipped(plain.with_privacy(asked(clip=1e9), rounds=24)), data)
    np.testing.assert_allclose(fit.estimates, entry["coef"], rtol=1e-7)
    np.testing.assert_allclose(fit.standard_errors, entry["se"], rtol=1e-7)
    assert (fit.nobs, fit.iterations, fit.n_passes, fit.converged) == (entry["n"], 24, 24, True)
    assert fit.warnings == ()


@pytest.mark.parametrize("formula", ["size ~ 0 + x + z", "size ~ x + z + offset(w)"])
@pytest.mark.parametrize("weights", [None, "w * (x > -1)"])
def test_least_squares_without_intercept_and_with_weights(formula: str, weights: str | None) -> None:
    plain = OLS(formula, weights)
    fit, expected = fitted(unclipped(plain.with_privacy(asked())), THREE), fitted(plain, THREE)
    np.testing.assert_allclose(fit.estimates, expected.estimates, rtol=1e-9)
    np.testing.assert_allclose(fit.standard_errors, expected.standard_errors, rtol=1e-9)
    assert (fit.nobs, fit.df_t) == (expected.nobs, expected.df_t)
    assert fit.null_deviance == pytest.approx(expected.null_deviance)


@pytest.mark.parametrize(
    ("response", "family", "link"),
    [
        ("count", "poisson", "log"),
        ("event", "binomial", "probit"),
        ("event", "binomial", "cloglog"),
        ("event", "binomial", "cauchit"),
    ],
)
def test_links_offset_and_weights_without_noise(response: str, family: str, link: str) -> None:
    plain = GLM(f"{response} ~ x + z", family, link, offset="np.log(exposure)", weights="w")
    fit = fitted(unclipped(plain.with_privacy(asked(clip=1e9), rounds=32)), THREE)
    expected = fitted(plain, THREE)
    np.testing.assert_allclose(fit.estimates, expected.estimates, rtol=1e-6)
    np.testing.assert_allclose(fit.standard_errors, expected.standard_errors, rtol=1e-6)


def test_negative_binomial_of_known_theta_and_given_start() -> None:
    plain = GLM("visits ~ x", "negativebinomial", theta=1.7, start={"Intercept": 1.0, "x": 0.0})
    fit = fitted(unclipped(plain.with_privacy(asked(clip=1e9), rounds=24)), THREE)
    np.testing.assert_allclose(fit.estimates, fitted(plain, THREE).estimates, rtol=1e-7)


# With noise.


def test_triangles_have_the_length_of_their_rows_and_are_matrices() -> None:
    z = np.random.default_rng(1).normal(size=(20, 4))
    weights = np.linspace(0, 2, 20)
    rows = product_rows(z, weights)
    assert rows.shape == (20, triangle_size(4))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), weights * np.square(z).sum(axis=1))
    np.testing.assert_allclose(matrix_of(rows.sum(axis=0)), z.T @ (z * weights[:, None]), atol=1e-13)


def test_covariance_of_the_noise_along_a_vector() -> None:
    w = np.array([0.5, -1.0, 2.0])
    parts = [matrix_of(one) @ w for one in np.eye(triangle_size(3))]
    np.testing.assert_allclose(noise_along(4.0, w), 4 * sum(np.outer(part, part) for part in parts))


def covered(estimates: Vector, truth: Vector, covariance: Matrix) -> Any:
    return np.abs(estimates - truth) < 1.96 * np.sqrt(np.diag(covariance))


def test_intervals_of_least_squares_cover() -> None:
    # zCDP of ρ = 0.05 at n = 1000: z = 1 / sqrt(2 ρ). Without the noise in them, intervals cover half as often.
    rng, truth, clip, n_rows = np.random.default_rng(1), np.array([0.3, 0.6, -0.4]), 15.0, 1000
    variance = clip**2 / 0.1
    with_noise, without = [], []
    for _ in range(300):
        x = np.column_stack([np.ones(n_rows), rng.normal(size=(n_rows, 2))])
        y = x @ truth + rng.normal(scale=0.6, size=n_rows)
        rows = clip_rows(product_rows(np.column_stack([x, y]), np.ones(n_rows)), clip)
        moments = matrix_of(rows.sum(axis=0) + math.sqrt(variance) * rng.normal(size=rows.shape[1]))
        found = solve_moments(moments, variance, round(moments[0, 0]), ("Intercept", "a", "b"))
        with_noise.append(covered(found.estimates, truth, found.covariance))
        without.append(covered(found.estimates, truth, found.scale * found.inverse.matrix))
    assert np.all(np.abs(np.mean(with_noise, axis=0) - 0.95) < 0.03)
    assert np.all(np.mean(without, axis=0) < 0.6)


def rows_like(x: Matrix, y: Vector) -> Rows:
    ones = np.ones(len(y))
    return Rows(x, x, y, ones, ones, 0 * ones, Standardisation.of_intercept(), 0)


def test_intervals_of_a_generalised_linear_model_cover() -> None:
    rng, truth, clip, n_rounds = np.random.default_rng(2), np.array([0.5, 0.4]), 8.0, 5
    family, n_rows = family_of("poisson"), 500
    variance = n_rounds * clip**2 / 0.1
    with_noise, without = [], []
    for _ in range(120):
        x = np.column_stack([np.ones(n_rows), rng.normal(size=n_rows)])
        rows = rows_like(x, rng.poisson(np.exp(x @ truth)).astype(np.float64))
        rounds: list[Round] = []
        theta = None
        for _ in range(n_rounds):
            clipped = clip_rows(contributions(rows, family, theta, clip), clip)
            noised = clipped.sum(axis=0) + math.sqrt(variance) * rng.normal(size=clipped.shape[1])
            sums = {"noised": noised, "variance": np.array(variance)}
            rounds.append(Round.of(sums, np.zeros(2) if theta is None else theta))
            found = solve_rounds(pooled_rounds(rounds, n_rounds), ("Intercept", "a"))
            theta = found.estimates
        with_noise.append(covered(found.estimates, truth, found.covariance))
        without.append(covered(found.estimates, truth, found.inverse.matrix))
    assert np.all(np.abs(np.mean(with_noise, axis=0) - 0.95) < 0.045)
    assert np.all(np.mean(without, axis=0) < 0.85)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_shrunk_scores_have_mean_zero_and_fit_the_clip(link: str) -> None:
    family, clip, theta = family_of("binomial", link), 1.5, np.array([-0.5, 2.0])
    x = np.column_stack([np.ones(50), np.linspace(-2, 2, 50)])
    mu = family.mean(x @ theta)
    if_one, if_zero = (contributions(rows_like(x, np.full(50, y)), family, theta, clip) for y in (1.0, 0.0))
    mean = mu[:, None] * if_one + (1 - mu)[:, None] * if_zero
    np.testing.assert_allclose(mean[:, :2], 0, atol=1e-12)
    lengths = np.linalg.norm([if_one, if_zero], axis=2)
    assert lengths.max() == pytest.approx(clip)
    assert (lengths <= clip * (1 + 1e-15)).all()


def test_least_squares_with_noise() -> None:
    model = OLS("size ~ x + z + g", levels={"g": ["a", "b"]}).with_privacy(asked(3, 12))
    fit = noisy_fit(model, MANY)
    expected = fitted(OLS("size ~ x + z + g"), MANY)
    assert fit.names == expected.names
    assert np.all(np.abs(fit.estimates - expected.estimates) < 4 * fit.standard_errors)
    assert np.all(fit.standard_errors > expected.standard_errors)
    assert 0 < abs(fit.nobs - 6000) < 400
    assert fit.rsquared == pytest.approx(expected.rsquared, abs=0.05)
    assert (fit.n_passes, len(fit.states), fit.converged, fit.warnings) == (1, 1, True, ())
    assert fit.f_test == fit.wald_test(np.eye(4)[1:])


@pytest.mark.parametrize(
    ("response", "family", "clip"), [("event", "binomial", 2.0), ("count", "poisson", 9.0)]
)
def test_generalised_linear_models_with_noise(response: str, family: str, clip: float) -> None:
    model = GLM(f"{response} ~ x + z", family).with_privacy(asked(3, clip))
    fit = noisy_fit(model, MANY)
    expected = fitted(GLM(f"{response} ~ x + z", family), MANY)
    assert np.all(np.abs(fit.estimates - expected.estimates) < 4 * fit.standard_errors)
    assert np.all(fit.standard_errors > expected.standard_errors)
    assert abs(fit.nobs - 6000) < 500
    assert (fit.n_passes, len(fit.states), fit.converged, fit.warnings) == (8, 8, True, ())


def test_same_noise_gives_the_same_fit_and_other_noise_another() -> None:
    model = OLS("size ~ x").with_privacy(asked(3))
    first, again, other = (noisy_fit(model, MANY, seed).estimates.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_only_clipped_sums_are_asked_for() -> None:
    model = GLM("event ~ x", "binomial").with_privacy(asked(3, 2), rounds=5)
    queries: list[Query] = []
    run(model, noisy(model, MANY, asked_for=queries))
    assert [(query.step, sorted(query.arrays), query.may_fail) for query in queries] == [
        ("round", [] if i == 0 else ["theta"], False) for i in range(5)
    ]
    arrays = contribute(model, MANY[0], queries[1])
    assert set(arrays) == {"noised"}
    assert arrays["noised"].shape == (model.noised.dimension,) == model.specifications()[0].shape


def test_a_run_goes_on_with_the_rounds_that_are_left() -> None:
    model = GLM("event ~ x", "binomial").with_privacy(asked(3, 2), rounds=6)
    states = run(model, noisy(model, MANY))[:4]
    queries: list[Query] = []
    *others, fit = run(model, noisy(model, MANY[:2], asked_for=queries), states[-1])
    np.testing.assert_array_equal(queries[0].arrays["theta"], states[-1].parameters)
    assert [state.iteration for state in others] == [5, 6]
    assert (fit.iterations, fit.n_passes) == (6, 6)


def test_a_noised_matrix_that_is_not_definite_is_told_with_its_column() -> None:
    moments = np.diag([100.0, 90.0, -3.0, 80.0])
    with pytest.raises(ModelError, match=r"the noise hides what the rows say about z: .* larger epsilon"):
        solve_moments(moments, 25.0, 100, ("Intercept", "x", "z"))
    of_round = Round(np.zeros(3), np.zeros(3), moments[:3, :3], 100.0, 25.0)
    with pytest.raises(ModelError, match=r"about z: .* fewer columns or rounds"):
        solve_rounds([of_round], ("Intercept", "x", "z"))


def test_a_sum_of_squares_that_the_noise_hides_is_told() -> None:
    moments = np.array([[100.0, 0.0, 50.0], [0.0, 100.0, 80.0], [50.0, 80.0, 20.0]])
    with pytest.raises(ModelError, match="squared residuals is not positive"):
        solve_moments(moments, 25.0, 100, ("Intercept", "x"))


def test_too_few_rows_are_told() -> None:
    model = OLS("size ~ x + z").with_privacy(asked(100, 50))
    with pytest.raises(ModelError, match="do not determine 3 coefficients"):
        fitted(model, [part[:1] for part in THREE])


def test_products_near_the_noise_are_warned_of() -> None:
    fit = noisy_fit(OLS("size ~ x + I(z / 5)").with_privacy(asked(1, 6)), MANY, 3)
    assert "times what the noise does" in fit.warnings[0]


def test_rounds_that_do_not_settle_are_warned_of() -> None:
    plain = GLM("event ~ x", "binomial", start=[1.0, -2.0])
    fit = fitted(unclipped(plain.with_privacy(asked(clip=100), rounds=3)), MANY)
    assert not fit.converged
    assert "take more rounds, by with_privacy(privacy, rounds=6)" in fit.warnings[0]


def test_iterations_that_run_away_are_no_fit() -> None:
    plain = GLM("event ~ x", "binomial", start=[8.0, -8.0])
    with pytest.raises(ModelError, match="say about Intercept, x"):
        noisy_fit(plain.with_privacy(asked(clip=4)), MANY)


def test_rows_whose_predictor_overflows_count_as_nothing() -> None:
    model = GLM("count ~ x", "poisson").with_privacy(asked(clip=8))
    query = Query("round", {"theta": np.array([0.0, 1.0])})
    part = MANY[0][["x", "count"]]
    beside = pd.concat([part, part[:1].assign(x=1e6)])
    without, with_one = (contribute(model, rows, query)["noised"] for rows in (part, beside))
    np.testing.assert_array_equal(with_one, without)


# Units, and rows that lack a value.


def test_rows_of_a_person_are_clipped_together() -> None:
    model, plain = OLS("size ~ x").with_privacy(BY_PERSON), OLS("size ~ x").with_privacy(asked())
    part = MANY[0]
    query = Query("moments", {})
    together = contribute(model, part, query)["noised"]
    z = np.column_stack([np.ones(len(part)), part.x, part["size"]])
    sums = pd.DataFrame(product_rows(z, np.ones(len(part)))).groupby(part.id.to_numpy()).sum()
    np.testing.assert_array_equal(together, model.noised.clipped_sum(sums.to_numpy()))
    assert together[0] < contribute(plain, part, query)["noised"][0]
    alone = part.assign(id=np.arange(len(part)))
    np.testing.assert_array_equal(
        contribute(model, alone, query)["noised"], contribute(plain, part, query)["noised"]
    )


def test_persons_keep_to_their_rows_where_rows_drop_out() -> None:
    part = MANY[0][:40].assign(w=1.0, id=[f"p{i // 2}" for i in range(40)])
    lacking = part.copy()
    lacking.loc[part.index[3], "x"] = np.nan
    lacking.loc[part.index[8], "w"] = 0.0
    model = OLS("size ~ x", "w").with_privacy(BY_PERSON)
    kept = part.drop(part.index[[3, 8]])
    found, expected = (contribute(model, rows, Query("moments", {}))["noised"] for rows in (lacking, kept))
    np.testing.assert_array_equal(found, expected)


def test_rows_that_break_what_is_declared_count_as_absent_and_refuse_nothing() -> None:
    """Whoever writes the formula could else ask about any one row, without noise and uncharged."""
    part = MANY[0][:40].assign(w=1.0, id=[f"p{i // 2}" for i in range(40)])
    logarithm = OLS("size ~ np.log(scale(x, 0.5, 1))").with_privacy(BY_PERSON)
    nobody = part.assign(id=part["id"].where(np.arange(40) >= 3).astype(object))
    nobody.loc[part.index[9], "id"] = 9  # another label, and of another type
    foreign = OLS("size ~ g", levels={"g": ["a", "b"]}).with_privacy(asked())
    infinite = OLS("size ~ I(1 / (x - x0))").with_privacy(asked())
    large = np.arange(40)
    large[5] = 2**60  # no exact float
    cases = [
        (logarithm, part, part[part.x > 0.5]),
        (OLS("size ~ x").with_privacy(BY_PERSON), nobody, nobody[3:]),
        (foreign, THREE[0], THREE[0][THREE[0].g.isin(["a", "b"])]),
        (
            OLS("size ~ x").with_privacy(asked()),
            part.assign(x=part.x.where(part.x < 1, np.inf)),
            part[part.x < 1],
        ),
        (
            OLS("size ~ x").with_privacy(asked()),
            part.assign(x=large),
            part.assign(x=large).drop(part.index[5]),
        ),
        (infinite, part.assign(x0=part.x.iloc[7]), part.assign(x0=part.x.iloc[7]).drop(part.index[7])),
    ]
    for model, rows, sound in cases:
        assert len(sound) < len(rows)
        found, expected = (contribute(model, some, Query("moments", {}))["noised"] for some in (rows, sound))
        np.testing.assert_array_equal(found, expected)


def test_a_clipped_sum_does_not_depend_on_how_rows_are_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OLS("size ~ x + z").with_privacy(asked())
    at_once = contribute(model, MANY[0], Query("moments", {}))["noised"]
    monkeypatch.setattr(private_regression, "NUMBERS_AT_ONCE", 100)
    np.testing.assert_array_equal(contribute(model, MANY[0], Query("moments", {}))["noised"], at_once)


def test_a_fit_that_has_not_settled_says_so() -> None:
    """Pooled estimates move slowly; where the last round alone would go does not hide it."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=20_000)
    rows = pd.DataFrame({"x": x, "event": rng.random(20_000) < 1 / (1 + np.exp(5.5 - x))}).astype(float)
    short, long = (
        fitted(GLM("event ~ x", "binomial").with_privacy(asked(2), rounds=rounds), [rows])
        for rounds in (4, 24)
    )
    assert not short.converged
    assert "more rounds" in short.warnings[-1]
    assert long.converged


def test_rows_that_lack_a_value_are_left_out_and_not_counted() -> None:
    lacking = [part.assign(x=part.x.where(part.x < 1)) for part in MANY]
    model = OLS("size ~ x").with_privacy(asked(5))
    fit = noisy_fit(model, lacking)
    n_complete = sum(int(part.x.notna().sum()) for part in lacking)
    assert abs(fit.nobs - n_complete) < 300
    assert fit.n_missing is None
    assert f"Left out, missing:{'not released':>20}" in fit.summary()
    assert f"No. Observations:{f'{fit.nobs} (noised)':>21}" in fit.summary()


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (
            GLM("event ~ x", "binomial"),
            ["Log-Likelihood", "Deviance", "Null Deviance", "Pearson chi2", "AIC", "BIC"],
        ),
        (OLS("size ~ x"), ["Log-Likelihood", "AIC", "BIC"]),
    ],
)
def test_a_summary_says_of_what_is_not_released_that_it_is_not(model: GLM | OLS, names: list[str]) -> None:
    shown = noisy_fit(model.with_privacy(asked(4, 10)), MANY).summary()
    assert "nan" not in shown.lower()
    for name in names:
        assert f"  {name}:{'not released':>{38 - len(name) - 1}}\n" in shown
    assert shown.count("not released") == 1 + len(names)


# What is refused.


@pytest.mark.parametrize(
    ("model", "privacy", "reason"),
    [
        (OLS("y ~ x"), asked(unit="holder"), 'cannot hide a whole holder.* unit="record"'),
        (GLM("y ~ x", "poisson"), asked(sampling=0.1), "leave out sampling"),
        (OLS("y ~ x", missing="raise"), asked(), "take missing='drop'"),
        (OLS("y ~ C(k)"), asked(), r"levels of 'C\(k\)' .* levels="),
        (OLS("y ~ center(x)"), asked(), r"'center\(x\)' takes its parameters from the rows.*I\(\(x - 20\)"),
        (OLS("y ~ poly(x, 2)"), asked(), r"'poly\(x, 2\)' .* raw=True"),
        (OLS("y ~ x").with_cov_type("HC3"), asked(), "cov_type='HC3' needs squared scores"),
        (GLM("y ~ x", "poisson").with_cov_type("cluster"), asked(), "cov_type='cluster'"),
        (GLM("y ~ x"), asked(), "gaussian takes a dispersion.* take OLS"),
        (GLM("y ~ x", "quasipoisson"), asked(), "dispersion"),
        (GLM("y ~ x", "negativebinomial"), asked(), "give theta="),
        (GLM("y ~ x", "poisson", "identity"), asked(), "for poisson take log"),
        (GLM("y ~ x", "binomial", "log"), asked(), "no mean"),
        (GLM("y ~ x", "binomial"), asked(clip=0.5), "clip 0.5 leaves no room"),
        (MaximumLikelihood(lambda _, __: 0.0, {"a": 1.0}), asked(), "fit a GLM or OLS"),
    ],
)
def test_what_cannot_be_protected_is_refused(model: Any, privacy: Privacy, reason: str) -> None:
    with pytest.raises(PrivacyError, match=reason):
        model.with_privacy(privacy)


def test_open_knots_are_refused() -> None:
    with pytest.raises(ModelError, match="declare knots"):
        OLS("y ~ bs(x, df=5)").with_privacy(asked())


@pytest.mark.parametrize("rounds", [1, 2.5, True])
def test_rounds_are_a_number(rounds: Any) -> None:
    with pytest.raises(PrivacyError, match="rounds"):
        GLM("y ~ x", "poisson").with_privacy(asked(), rounds=rounds)


def test_declared_transforms_are_taken() -> None:
    spline = "bs(exposure, knots=[2], lower_bound=0, upper_bound=5)"
    formula = f"size ~ scale(x, center=0.5, scale=2):g + poly(z, 2, raw=True) + {spline}"
    plain = OLS(formula, levels={"g": ["a", "b", "c"]})
    fit = fitted(unclipped(plain.with_privacy(asked())), THREE)
    np.testing.assert_allclose(fit.estimates, fitted(plain, THREE).estimates, rtol=1e-6)


def test_text_without_levels_is_told_at_the_holder() -> None:
    with pytest.raises(DataError, match=r"declare them by levels=\{'g'"):
        contribute(OLS("size ~ g").with_privacy(asked()), THREE[0], Query("moments", {}))


@pytest.mark.parametrize("formula", ["size ~ x", "x ~ z"])
def test_a_column_that_is_none_of_numbers_by_its_dtype_is_told_even_without_rows(formula: str) -> None:
    model = OLS(formula).with_privacy(asked())
    for rows in (THREE[0], THREE[0][:0]):
        with pytest.raises(DataError, match="'x' is text or of mixed objects"):
            contribute(model, rows.astype({"x": object}), Query("moments", {}))


def foreign_queries() -> Iterator[tuple[Private, Query]]:
    ols, glm = OLS("size ~ x").with_privacy(asked()), GLM("event ~ x", "binomial").with_privacy(asked())
    for step in ("design_columns", "products", "refinement", "sandwich", "round"):
        yield ols, Query(step, {})
    yield ols, Query("moments", {"theta": np.zeros(2)})
    yield glm, Query("trial", {"theta": np.zeros(2)})
    yield glm, Query("round", {"theta": np.zeros(3)})
    yield glm, Query("round", {"null_mean": np.zeros(1)})


@pytest.mark.parametrize(("model", "query"), list(foreign_queries()))
def test_foreign_queries_are_refused(model: Private, query: Query) -> None:
    with pytest.raises(ModelError, match="none of this"):
        contribute(model, THREE[0], query)


# The model and the fit as data.


def test_the_guarantee_is_in_the_definition() -> None:
    plain = GLM("event ~ x", "binomial", offset="z")
    model = plain.with_privacy(asked(2), rounds=6)
    parameters = dict(model.definition.parameters)
    assert parameters.pop("privacy") == {**asked(2).to_dict(), "dimension": 6, "rounds": 6}
    assert parameters == plain.definition.parameters
    assert model.definition.kind == "GLM"
    assert plain.noised is None
    assert (model.expected_passes, OLS("size ~ x").with_privacy(asked()).expected_passes) == (6, 1)


def test_rounds_stay_with_a_model_that_is_asked_again() -> None:
    model = GLM("event ~ x", "binomial").with_privacy(asked(2), rounds=6).with_privacy(asked(1))
    assert (model.noised.rounds, model.noised.privacy.epsilon) == (6, 1.0)
    assert GLM("event ~ x", "binomial").with_privacy(asked()).noised.rounds == 8
    assert model.with_cov_type("nonrobust") is model
    with pytest.raises(PrivacyError, match="HC1"):
        model.with_cov_type("HC1")


def test_rows_stay_behind_when_a_model_travels() -> None:
    model = OLS("size ~ x").with_privacy(asked())
    before = contribute(model, THREE[0], Query("moments", {}))["noised"]
    copied = pickle.loads(pickle.dumps(model))
    assert copied._units == {}
    np.testing.assert_array_equal(contribute(copied, THREE[0], Query("moments", {}))["noised"], before)


@pytest.mark.parametrize(
    "model",
    [
        OLS("size ~ x + g", levels={"g": ["a", "b"]}),
        GLM("event ~ x + g", "binomial", levels={"g": ["a", "b"]}),
    ],
)
def test_a_fit_is_stored_printed_and_predicts(model: OLS | GLM) -> None:
    fit = noisy_fit(model.with_privacy(asked(4, 10)), MANY)
    again: Any = Fit.from_dict(fit.to_dict())
    assert again.to_dict() == fit.to_dict()
    assert again.summary() == fit.summary()
    assert "nonrobust + noise" in fit.summary()
    assert all(math.isnan(value) for value in (fit.llf, fit.aic, fit.bic))
    assert fit.predict(MANY[0][:3]).shape == (3,)
    assert 0 <= fit.wald_test("x = 0").pvalue < 0.01
    assert len(fit.history) == len(fit.states)
    assert fit.residual_moments.isna().all()
