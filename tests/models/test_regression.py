"""Generalised linear models over several holders are those of R and statsmodels over all rows."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from numpy.typing import NDArray
from regressions import fitted, glm_of, reference, rows_of_three, sites, steps_of, summed
from statsmodels.datasets import scotland
from statsmodels.genmod import families as sm
from tacit.models.definition import State
from tacit.models.design import Design
from tacit.models.errors import DataError, EvaluationError, ModelError
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.regression import GLM
from tacit.models.regression_fit import GLMFit
from tacit.models.regression_model import standardisation_of
from tacit.models.regression_sums import unpacked
from tacit.models.total import Arrays, contribute, pooled
from tacit.serialization.session_messages import Query

GLMS = {name: entry for name, entry in reference("glm").items() if name != "separation"}
THREE = rows_of_three()
ALL = pd.concat(THREE)


def trial(design: Design, theta: NDArray[np.float64]) -> Query:
    """Return the query of a trial point."""
    mean = np.array([0.5])
    return Query("trial", {"design": design.to_array(), "theta": theta, "null_mean": mean}, may_fail=True)


# Against R.


@pytest.mark.parametrize("name", GLMS)
def test_every_fit_is_that_of_r(name: str) -> None:
    entry = GLMS[name]
    fit = fitted(glm_of(entry), sites(entry["data_file"]))
    np.testing.assert_allclose(fit.estimates, entry["coef"], rtol=1e-8)
    np.testing.assert_allclose(fit.standard_errors, entry["se"], rtol=1e-8)
    np.testing.assert_allclose(fit.two_sided, entry["p_value"], rtol=1e-6, atol=1e-12)
    for ours, theirs in {
        "deviance": "deviance",
        "null_deviance": "null_deviance",
        "scale": "dispersion",
        "pearson_chi2": "pearson_chi2",
        "df_resid": "df_residual",
        "df_null": "df_null",
        "nobs": "n",
    }.items():
        assert getattr(fit, ours) == pytest.approx(entry[theirs], rel=1e-8), ours
    assert fit.converged
    assert fit.warnings == ()


@pytest.mark.parametrize("name", GLMS)
def test_every_log_likelihood_is_that_of_r(name: str) -> None:
    entry = GLMS[name]
    fit = fitted(glm_of(entry), sites(entry["data_file"]))
    if entry["loglik"] is None:
        assert math.isnan(fit.llf)
        assert math.isnan(fit.aic)
        return
    assert fit.llf == pytest.approx(entry["loglik"], rel=1e-12)
    assert fit.aic == pytest.approx(entry["aic"], rel=1e-12)
    assert fit.bic == pytest.approx(entry["bic"], rel=1e-12)


@pytest.mark.parametrize("name", GLMS)
def test_robust_errors_are_those_of_the_package_sandwich(name: str) -> None:
    entry = GLMS[name]
    data = sites(entry["data_file"])
    plain = fitted(glm_of(entry), data)
    robust = fitted(glm_of(entry).with_cov_type("HC0"), data)
    np.testing.assert_allclose(robust.standard_errors, np.sqrt(np.diag(entry["hc0"])), rtol=1e-8)
    assert robust.cov_type == "HC0"
    assert robust.df_t is None
    assert robust.n_passes == plain.n_passes + 1


@pytest.mark.parametrize(
    "name", ["esoph_grouped", "mtcars_gaussian_log", "mtcars_weighted", "warpbreaks_poisson"]
)
def test_errors_by_holder_have_the_outer_products_of_the_sites_scores(name: str) -> None:
    entry = GLMS[name]
    fit = fitted(glm_of(entry).with_cov_type("CR0"), sites(entry["data_file"]))
    bread = np.array(entry["vcov"]) / entry["dispersion"]
    expected = np.diag(bread @ np.array(entry["cluster_site_meat"]) @ bread)
    np.testing.assert_allclose(np.diag(fit.covariance), expected, rtol=1e-7)


@pytest.mark.parametrize("name", ["menarche_grouped", "insectsprays_sqrt", "mtcars_gaussian_log"])
def test_score_and_information_of_each_site_are_those_of_r(name: str) -> None:
    entry = GLMS[name]
    model, data = glm_of(entry), sites(entry["data_file"])
    design = fitted(model, data).design
    to_coefficients = np.linalg.inv(standardisation_of(design).to_coefficients)
    theta = np.array(entry["coef"])
    query = trial(design, theta)
    size = 1 / np.array(entry["se"])
    for rows, expected in zip(data, entry["per_site"].values(), strict=True):
        found = contribute(model, rows, query)
        score = to_coefficients.T @ found["score"]
        information = to_coefficients.T @ unpacked(found["information"]) @ to_coefficients
        np.testing.assert_allclose(score / size, expected["score_over_dispersion1"] / size, atol=1e-6)
        np.testing.assert_allclose(information, expected["XtWX"], rtol=1e-6, atol=1e-9)
        assert found["deviance"] == pytest.approx(expected["deviance"], rel=1e-7)


def test_a_gamma_model_has_the_aic_of_r() -> None:
    """R's numbers of Gill's example on Scottish votes, as statsmodels' tests have them."""
    rows = scotland.load_pandas().data
    formula = "YES ~ COUTAX + UNEMPF + MOR + ACT + GDP + AGE + COUTAX_FEMALEUNEMP"
    fit = fitted(GLM(formula, "gamma"), [rows[:10], rows[10:11], rows[11:]])
    assert fit.aic == pytest.approx(182.947045954721, abs=1e-9)
    assert fit.null_deviance == pytest.approx(0.536072, abs=1e-6)
    assert fit.deviance == pytest.approx(0.087388516417, abs=1e-11)
    assert fit.scale == pytest.approx(0.003584283, abs=1e-9)
    assert fit.params["ACT"] == pytest.approx(1.118520e-04, rel=1e-6)


# Against statsmodels.


def compared(fit: GLMFit, other: Any) -> None:
    names = list(fit.names)
    np.testing.assert_allclose(fit.estimates, other.params[names], rtol=1e-7)
    np.testing.assert_allclose(fit.standard_errors, other.bse[names], rtol=1e-7)
    assert fit.deviance == pytest.approx(other.deviance, rel=1e-10)
    assert fit.null_deviance == pytest.approx(other.null_deviance, rel=1e-10)
    assert fit.pearson_chi2 == pytest.approx(other.pearson_chi2, rel=1e-8)
    assert fit.scale == pytest.approx(other.scale, rel=1e-8)
    assert fit.converged


def of_statsmodels(response: str, family: Any, **options: Any) -> Any:
    model = smf.glm(f"{response} ~ x + z + g", ALL, family=family, **options)
    start = np.zeros(model.exog.shape[1])
    start[0] = family.link(
        model.endog.mean()
    )  # its own start is none for binomial responses with the link log
    return model.fit(start, tol=1e-14, tol_criterion="params", maxiter=300)


LINKS = sm.links
FAMILIES = [
    ("event", sm.Binomial(LINKS.Probit())),
    ("event", sm.Binomial(LINKS.CLogLog())),
    ("event", sm.Binomial(LINKS.LogLog())),
    ("event", sm.Binomial(LINKS.Cauchy())),
    ("event", sm.Binomial(LINKS.Log())),
    ("event", sm.Binomial(LINKS.Identity())),
    ("cost", sm.Gamma(LINKS.Log())),
    ("time", sm.InverseGaussian(LINKS.Log())),
    ("cost", sm.Gamma(LINKS.Identity())),
    ("count", sm.Poisson(LINKS.Sqrt())),
    ("count", sm.Poisson(LINKS.Identity())),
    ("visits", sm.NegativeBinomial(alpha=0.5)),
    ("size", sm.Gaussian(LINKS.InversePower())),
]


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.DomainWarning")
@pytest.mark.parametrize(
    ("response", "family"),
    FAMILIES,
    ids=lambda value: value if isinstance(value, str) else type(value.link).__name__,
)
def test_families_and_links_are_those_of_statsmodels(response: str, family: Any) -> None:
    fit = fitted(GLM(f"{response} ~ x + z + g", copy.deepcopy(family)), THREE)
    compared(fit, of_statsmodels(response, family))


def test_an_offset_and_its_null_model() -> None:
    fit = fitted(GLM("count ~ x + z + g", "poisson", offset="np.log(exposure)"), THREE)
    compared(fit, of_statsmodels("count", sm.Poisson(), offset=np.log(ALL["exposure"])))


def test_an_offset_in_the_formula_is_the_same() -> None:
    beside = fitted(GLM("count ~ x", "poisson", offset="np.log(exposure)"), THREE)
    within = fitted(GLM("count ~ x + offset(np.log(exposure))", "poisson"), THREE)
    np.testing.assert_array_equal(beside.estimates, within.estimates)
    assert beside.null_deviance == within.null_deviance


def test_without_an_intercept_the_null_model_is_the_offset() -> None:
    fit = fitted(GLM("count ~ 0 + x + z", "poisson", offset="np.log(exposure)"), THREE)
    unit = 2 * (
        ALL["count"] * np.log((ALL["count"] / ALL.exposure).where(ALL["count"] > 0, 1)) - ALL["count"]
    )
    assert fit.null_deviance == pytest.approx(float((unit + 2 * ALL.exposure).sum()), rel=1e-12)
    assert (fit.df_model, fit.df_null) == (2, 240)


def test_a_link_that_has_no_mean_at_zero_has_no_null_model_without_an_intercept() -> None:
    fit = fitted(GLM("cost ~ 0 + exposure", "gamma", "identity"), THREE)
    assert fit.converged
    assert math.isnan(fit.null_deviance)


def test_proportions_with_trials_as_weights_are_counts_of_successes() -> None:
    proportions = fitted(GLM("share ~ x", "binomial", weights="w"), THREE)
    counts = fitted(GLM("cbind(share * w, w - share * w) ~ x", "binomial"), THREE)
    np.testing.assert_allclose(proportions.estimates, counts.estimates, rtol=1e-12)
    assert proportions.llf == pytest.approx(counts.llf, rel=1e-12)


def test_rows_of_weight_zero_are_no_observations() -> None:
    weighted = [rows.assign(used=(rows.z > 0.3).astype(float)) for rows in THREE]
    fit = fitted(GLM("cost ~ x", "gamma", "log", weights="used"), weighted)
    chosen = fitted(GLM("cost ~ x", "gamma", "log"), [rows[rows.z > 0.3] for rows in THREE])
    np.testing.assert_allclose(fit.estimates, chosen.estimates, rtol=1e-10)
    assert fit.llf == pytest.approx(chosen.llf, rel=1e-12)
    assert (fit.nobs, fit.df_resid) == (chosen.nobs, chosen.df_resid)


def test_quasi_with_the_variance_of_a_family_is_that_family_with_a_free_dispersion() -> None:
    quasi = fitted(GLM("count ~ x", "quasi", "log", variance="mu"), THREE)
    poisson = fitted(GLM("count ~ x", "quasipoisson"), THREE)
    np.testing.assert_array_equal(quasi.covariance, poisson.covariance)
    assert quasi.scale == poisson.scale


# The negative binomial, with θ estimated.


def test_a_negative_binomial_estimates_theta_with_the_coefficients() -> None:
    fit = fitted(GLM("visits ~ x + z + g", "negativebinomial"), THREE)
    joint = smf.negativebinomial("visits ~ x + z + g", ALL).fit(disp=0, method="newton", tol=1e-14)
    theta = fit.statistics["theta"]
    assert theta == pytest.approx(1 / joint.params["alpha"], rel=1e-9)
    assert fit.llf == pytest.approx(joint.llf, rel=1e-12)
    compared(fit, of_statsmodels("visits", sm.NegativeBinomial(alpha=1 / theta)))
    assert fit.aic == pytest.approx(-2 * fit.llf + 2 * 6)
    assert list(fit.history.columns[-5:-3]) == ["g[T.c]", "log(theta)"]


def test_the_standard_error_of_theta_is_that_of_mass() -> None:
    """Of `theta.ml`: the curvature in θ at the fitted means."""
    fit = fitted(GLM("visits ~ x", "negativebinomial"), THREE)
    theta, mu, step = fit.statistics["theta"], fit.predict(ALL).to_numpy(), 1e-3

    def value(at: float) -> float:
        family = replace(GLM("visits ~ x", "negativebinomial").family, theta=at)
        return float(
            family.likelihood_sums(ALL.visits.to_numpy(float), mu, np.ones(240), np.ones(240), at)[0]
        )

    curvature = -(value(theta + step) - 2 * value(theta) + value(theta - step)) / step**2
    assert fit.statistics["theta std err"] == pytest.approx(1 / math.sqrt(curvature), rel=1e-4)


def test_a_negative_binomial_has_robust_errors_at_its_theta() -> None:
    fit = fitted(GLM("visits ~ x", "negativebinomial").with_cov_type("HC3"), THREE)
    theta = fit.statistics["theta"]
    fixed = fitted(GLM("visits ~ x", "negativebinomial", theta=theta).with_cov_type("HC3"), THREE)
    np.testing.assert_allclose(fit.bse, fixed.bse, rtol=1e-8)


def test_the_null_model_of_a_negative_binomial_with_an_offset_keeps_theta() -> None:
    fit = fitted(GLM("visits ~ x + z + g", "negativebinomial", offset="np.log(exposure)"), THREE)
    family = sm.NegativeBinomial(alpha=1 / fit.statistics["theta"])
    compared(fit, of_statsmodels("visits", family, offset=np.log(ALL["exposure"])))


def test_counts_without_overdispersion_have_no_theta() -> None:
    rows = [part.assign(flat=np.arange(len(part)) % 3) for part in THREE]
    fit = fitted(GLM("flat ~ x", "negativebinomial"), rows)
    assert not fit.converged
    assert "theta grows without bound" in fit.warnings[0]
    poisson = fitted(GLM("flat ~ x", "poisson"), rows)
    np.testing.assert_allclose(fit.estimates, poisson.estimates, rtol=1e-5)


# What the data do not determine.


def test_complete_separation_is_told_with_its_columns() -> None:
    entry = reference("glm")["separation"]
    fit = fitted(GLM("y ~ x", "binomial"), sites(entry["data_file"]))
    assert not fit.converged
    assert fit.deviance < 1e-8
    assert fit.warnings[0].startswith("not converged: Intercept, x separate the responses")
    assert np.isnan(fit.bse).all()


def test_separation_with_a_wide_gap_is_told_too() -> None:
    fit = fitted(GLM("I(x > 0) ~ x", "binomial"), THREE)  # linear predictors beyond 355 on the way
    assert not fit.converged
    assert "x separate the responses" in fit.warnings[0]
    assert math.isnan(fit.bse["x"])


def test_quasi_complete_separation_names_only_what_runs_away() -> None:
    rows = [part.assign(event=np.where(part.g == "c", 1, part.event)) for part in THREE]
    fit = fitted(GLM("event ~ x + g", "binomial"), rows)
    assert not fit.converged
    assert fit.warnings[0].startswith("not converged: g[T.c] separate the responses")
    assert np.isnan(fit.bse["g[T.c]"])
    rest = fitted(GLM("event ~ x + g", "binomial"), [part[part.g != "c"] for part in rows])
    np.testing.assert_allclose(fit.bse[["x", "g[T.b]"]], rest.bse[["x", "g[T.b]"]], rtol=1e-5)


def test_a_group_without_any_event_runs_away_in_a_poisson_model() -> None:
    rows = [part.assign(count=np.where(part.g == "b", 0, part["count"])) for part in THREE]
    fit = fitted(GLM("count ~ x + g", "poisson"), rows)
    assert not fit.converged
    assert "g[T.b] separate" in fit.warnings[0]


def test_collinear_columns_are_named_with_the_remedy() -> None:
    rows = [part.assign(twice=2 * part.x - 1) for part in THREE]
    with pytest.raises(ModelError, match=r"columns x, twice are linearly dependent .* leave out one of them"):
        fitted(GLM("count ~ x + z + twice", "poisson"), rows)


def test_a_column_that_says_nothing_is_named() -> None:
    levels = {"g": ["a", "b", "c", "d"]}
    with pytest.raises(ModelError, match=r"no row of any holder tells anything about g\[T.d\]"):
        fitted(GLM("count ~ g", "poisson", levels=levels), THREE)


def test_more_columns_than_rows_are_refused() -> None:
    with pytest.raises(ModelError, match="2 rows of positive weight do not determine 3 coefficients"):
        fitted(GLM("size ~ x + z"), [THREE[0][:1], THREE[1][:1]])


# The iteration.


def test_a_logit_model_takes_four_passes_after_the_design() -> None:
    model = GLM("event ~ x", "binomial")
    steps = steps_of(model, THREE)
    fit = steps[-1]
    assert isinstance(fit, GLMFit)
    assert [step.n_passes for step in steps[:-1] if isinstance(step, State)] == list(
        range(4, 4 + len(steps) - 1)
    )
    assert fit.n_passes <= model.expected_passes
    assert fit.states == tuple(steps[:-1])


def test_how_rows_are_split_does_not_matter() -> None:
    whole = fitted(GLM("cost ~ x + g", "gamma", "log"), [ALL])
    split = fitted(GLM("cost ~ x + g", "gamma", "log"), THREE)
    np.testing.assert_allclose(split.estimates, whole.estimates, rtol=1e-12)
    np.testing.assert_allclose(split.covariance, whole.covariance, rtol=1e-12)


def test_the_order_of_holders_does_not_matter_to_a_bit() -> None:
    forward = fitted(GLM("cost ~ x + g", "gamma", "log"), THREE)
    assert fitted(GLM("cost ~ x + g", "gamma", "log"), THREE[::-1]).to_dict() == forward.to_dict()


def test_a_holder_without_rows_changes_nothing() -> None:
    alone = fitted(GLM("count ~ x", "poisson"), THREE)
    joined = fitted(GLM("count ~ x", "poisson"), [*THREE, THREE[0][:0]])
    assert joined.to_dict() == alone.to_dict()


def test_an_invalid_first_solution_is_shortened_towards_the_null_model() -> None:
    rows = pd.DataFrame({"y": [0, 0, 0, 0, 1, 9, 30], "x": [1.0, 2, 3, 4, 5, 6, 7]})
    fit = fitted(GLM("y ~ x", "poisson", "sqrt"), [rows[:3], rows[3:]])
    assert fit.converged or fit.warnings


def test_a_maximum_at_the_edge_of_valid_means_is_told_soon() -> None:
    rows = pd.DataFrame({"y": [0, 0, 0, 1, 0, 3, 5, 9], "x": np.arange(8.0)})
    fit = fitted(GLM("y ~ x", "poisson", "identity"), [rows[:4], rows[4:]])
    assert not fit.converged
    assert "take another link" in fit.warnings[0]
    assert fit.n_passes < 60


def test_responses_that_are_no_means_ask_for_a_start() -> None:
    rows = [part.assign(size=part["size"].where(part.z > 0.05, 0.0)) for part in THREE]
    with pytest.raises(ModelError, match="give start="):
        fitted(GLM("size ~ x", "gaussian", "inverse"), rows)
    fit = fitted(GLM("size ~ x", "gaussian", "inverse", start={"Intercept": 0.4, "x": -0.1}), rows)
    other = smf.glm("size ~ x", pd.concat(rows), family=sm.Gaussian(LINKS.InversePower()))
    expected = other.fit(start_params=[0.4, -0.1], tol=1e-14, tol_criterion="params", maxiter=300)
    np.testing.assert_allclose(fit.estimates, expected.params, rtol=1e-7)


def test_a_start_may_be_a_list_and_must_fit_the_columns() -> None:
    plain = fitted(GLM("count ~ x", "poisson"), THREE)
    begun = fitted(GLM("count ~ x", "poisson", start=[0.3, 0.4]), THREE)
    np.testing.assert_allclose(begun.estimates, plain.estimates, rtol=1e-12)
    with pytest.raises(ModelError, match="start= has 3 values, but the columns are Intercept, x"):
        fitted(GLM("count ~ x", "poisson", start=[0.3, 0.4, 1]), THREE)
    for wrong in ([0.3, np.inf], ["a", "b"], 3, {"Intercept": None, "x": 1.0}):
        with pytest.raises(ModelError, match="start= is a finite number for each column"):
            GLM("count ~ x", "poisson", start=wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="start= names a, but the columns are Intercept, x"):
        fitted(GLM("count ~ x", "poisson", start={"a": 1.0}), THREE)


def test_a_run_that_is_taken_up_ends_where_it_would_have() -> None:
    begun = {"Intercept": 1.0, "x": 0.4}
    for model in (
        GLM("count ~ x", "poisson"),
        GLM("visits ~ x", "negativebinomial"),
        GLM("visits ~ x", "negativebinomial", start=begun),
    ):
        steps = steps_of(model, THREE)
        state, fit = steps[1], steps[-1]
        assert isinstance(state, State)
        assert isinstance(fit, GLMFit)
        again = fitted(model, THREE, state)
        np.testing.assert_allclose(again.estimates, fit.estimates, rtol=1e-9)
        assert again.n_passes > state.n_passes


def test_a_run_that_goes_on_over_fewer_holders_asks_for_no_design_again() -> None:
    """The same question over fewer holders would tell what the lost one had put in."""
    model = GLM("count ~ x + g", "poisson")
    asked: list[bytes] = []

    async def run(data: list[pd.DataFrame], start: State | None, stop_after: int) -> list[Any]:
        total = pooled(model, data)

        async def recorded(query: Query) -> Arrays:
            asked.append(b"".join(array.tobytes() for array in query.arrays.values()))
            return await total(query)

        items = []
        async for item in model.iterate(recorded, start):
            items.append(item)
            if len(items) == stop_after:
                break
        return items

    state = asyncio.run(run(THREE, None, 2))[-1]
    before = set(asked)
    asked.clear()
    trial = replace(state, parameters=state.parameters + 1e-3)  # what the lost session had asked
    fit = asyncio.run(run(THREE[:2], trial, 99))[-1]
    assert not before & set(asked)
    alone = fitted(GLM("count ~ x + g", "poisson"), THREE[:2])
    np.testing.assert_allclose(fit.estimates, alone.estimates, rtol=1e-9)
    assert fit.nobs == alone.nobs


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(ModelError, match="the state has 3 parameters; columns: Intercept, x"):
        fitted(GLM("count ~ x", "poisson"), THREE, State(1, np.zeros(3), 0.0))


# At a holder.


def test_missing_values_are_dropped_and_counted() -> None:
    holed = [rows.assign(x=rows.x.where(rows.z > 0.1)) for rows in THREE]
    fit = fitted(GLM("count ~ x", "poisson"), holed)
    complete = fitted(GLM("count ~ x", "poisson"), [rows.dropna() for rows in holed])
    np.testing.assert_array_equal(fit.estimates, complete.estimates)
    assert fit.n_missing == int((ALL.z <= 0.1).sum())
    assert "Left out, missing:" in fit.summary()
    with pytest.raises(DataError):
        fitted(GLM("count ~ x", "poisson", missing="raise"), holed)


def test_a_holder_whose_means_are_invalid_answers_nan() -> None:
    model = GLM("count ~ x", "poisson", "identity")
    design = fitted(GLM("count ~ x", "poisson", "identity", start=[1.5, 0.1]), THREE).design
    query = trial(design, np.array([0.0, 1.0]))
    found = contribute(model, THREE[0], query)
    assert all(np.isnan(array).all() for array in found.values())
    with pytest.raises(EvaluationError):
        summed(model, THREE, query)


@pytest.mark.parametrize(
    ("formula", "family", "words"),
    [
        ("x ~ z", "poisson", "not negative"),
        ("count ~ z", "binomial", "0 or 1, proportions"),
        ("count ~ z", "gamma", "positive"),
    ],
)
def test_responses_that_are_none_of_the_family_are_refused_without_their_values(
    formula: str, family: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        fitted(GLM(formula, family), THREE)


def test_counts_of_successes_go_with_a_binomial_only() -> None:
    with pytest.raises(ModelError, match="go with a binomial family, not poisson"):
        fitted(GLM("cbind(event, 1 - event) ~ x", "poisson"), THREE)


def test_queries_of_other_models_are_refused() -> None:
    model = GLM("count ~ x", "poisson")
    design = fitted(model, THREE).design.to_array()
    for query in (
        Query("trial", {}),
        Query("other", {"design": design}),
        Query("trial", {"design": design, "theta": np.zeros(3)}),
        Query("trial", {"design": design, "theta": np.array([0, np.nan])}),
    ):
        with pytest.raises(ModelError, match="is none of this GLM"):
            model.contribution(THREE[0], query)
    with pytest.raises(ModelError, match="a design of another model"):
        GLM("count ~ z", "poisson").contribution(THREE[0], Query("start", {"design": design}))
    declared = GLM("count ~ g", "poisson", levels={"g": ["c", "b", "a"]})
    design = fitted(GLM("count ~ g", "poisson"), THREE).design.to_array()
    with pytest.raises(ModelError, match="a design of another model"):
        declared.contribution(THREE[0], Query("start", {"design": design}))


def test_a_leverage_of_one_has_no_hc3() -> None:
    rows = [THREE[0].assign(single=0.0), THREE[1].assign(single=[1.0] + [0.0] * 79)]
    assert np.isfinite(fitted(GLM("size ~ x + single").with_cov_type("HC1"), rows).bse).all()
    with pytest.raises(ModelError, match='take cov_type="HC1"'):
        fitted(GLM("size ~ x + single").with_cov_type("HC3"), rows)


def test_errors_by_holder_need_two_holders() -> None:
    with pytest.raises(ModelError, match="at least two holders"):
        fitted(GLM("size ~ x").with_cov_type("cluster"), [ALL, ALL[:0]])


# The definition.


def test_the_definition_says_all_that_matters() -> None:
    model = GLM("count ~ g", sm.Poisson(), offset="x", weights="w", levels={"g": ["a", "b", "c"]})
    assert model.definition.kind == "GLM"
    assert model.definition.parameters == {
        "formula": "count ~ g",
        "family": "poisson",
        "link": "log",
        "variance": "mu",
        "theta": None,
        "offset": "x",
        "weights": "w",
        "levels": {"g": ["a", "b", "c"]},
        "missing": "drop",
        "max_levels": 128,
        "start": None,
        "cov_type": "nonrobust",
    }
    assert model.with_cov_type("HC3").definition != model.definition
    assert (
        model.definition
        == GLM("count ~ g", "poisson", "log", "x", "w", levels={"g": ["a", "b", "c"]}).definition
    )


def test_a_model_takes_no_rows_along_when_it_travels() -> None:
    model = GLM("count ~ x", "poisson")
    before = pickle.dumps(model)
    fitted(model, THREE)
    assert pickle.dumps(model) == before
    np.testing.assert_array_equal(
        fitted(pickle.loads(before), THREE).estimates, fitted(model, THREE).estimates
    )


def test_rows_are_computed_once_a_run() -> None:
    model = GLM("count ~ x", "poisson")
    design = fitted(model, THREE).design.to_array()
    first = model._rows_of(THREE[0], design)
    assert model._rows_of(THREE[0], design) is first
    assert model._rows_of(THREE[1], design) is not first


def test_specifications_are_those_of_a_trial_when_columns_are_numbers() -> None:
    model = GLM("cost ~ log(exposure) + log(w)", "gamma", "log")
    fit = fitted(model, THREE)
    query = trial(fit.design, fit.estimates)
    found = contribute(model, THREE[0], query)
    specified = {item.name: item.dtype for item in model.specifications()}
    assert specified == {name: array.dtype.name for name, array in found.items()}


def test_unknown_cov_types_are_refused() -> None:
    with pytest.raises(ModelError, match="unknown cov_type 'HC9'"):
        GLM("count ~ x", "poisson").with_cov_type("HC9")
    likelihood = MaximumLikelihood(lambda theta, data: 0.0, start={"a": 1.0})
    assert likelihood.with_cov_type("nonrobust") is likelihood
    with pytest.raises(ModelError, match="fit a GLM or OLS"):
        likelihood.with_cov_type("HC0")
