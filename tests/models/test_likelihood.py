"""Maximum likelihood over several holders equals what R finds over all rows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln
from tacit.models.definition import State
from tacit.models.errors import EvaluationError, ModelError
from tacit.models.fit import Fit
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.total import Arrays, Total, pooled
from tacit.serialization.session_messages import Query

Vector = NDArray[np.float64]
Fitter = Callable[..., Fit]
Stepper = Callable[..., list[State | Fit]]
COUNTS = list(poisson_sites().values())
RNG = np.random.default_rng(3)
NORMAL = [RNG.normal(3, 2, size=n) for n in (30, 20, 10, 0)]
ALL_NORMAL = np.concatenate(NORMAL)


def poisson_model(start: float = 5.0, **options: Any) -> MaximumLikelihood:
    return MaximumLikelihood(poisson_nll, start={"lambda": start}, bounds={"lambda": (0, None)}, **options)


def normal_nll(theta: Vector, data: Vector) -> float:
    residuals = (data - theta[0]) * np.exp(-theta[1])
    return float(np.sum(theta[1] + 0.5 * np.log(2 * np.pi) + 0.5 * residuals**2))


def normal_gradient(theta: Vector, data: Vector) -> Vector:
    residuals = (data - theta[0]) * np.exp(-theta[1])
    return np.array([-np.sum(residuals) * np.exp(-theta[1]), len(data) - np.sum(residuals**2)])


def normal_hessian(theta: Vector, data: Vector) -> Vector:
    scale = np.exp(-theta[1])
    residuals = (data - theta[0]) * scale
    mixed = 2 * np.sum(residuals) * scale
    return np.array([[len(data) * scale**2, mixed], [mixed, 2 * np.sum(residuals**2)]])


NORMAL_START = {"mean": 0.0, "log_sd": 0.0}


def contribution(model: MaximumLikelihood, data: Any, theta: list[float], step: str = "trial") -> Arrays:
    return model.contribution(data, Query(step, {"theta": np.array(theta)}, may_fail=True))


# Against R.


def test_three_sites_give_the_closed_form(fit: Fitter, poisson_reference: dict[str, Any]) -> None:
    result = fit(poisson_model(), COUNTS)
    closed = poisson_reference["closed_form"]
    assert result.params["lambda"] == pytest.approx(closed["lambda"], abs=1e-9)
    assert result.bse["lambda"] == pytest.approx(closed["se"], rel=1e-10)
    assert result.llf == pytest.approx(closed["loglik"], abs=1e-11)
    assert result.aic == pytest.approx(closed["aic"], abs=1e-9)
    assert result.bic == pytest.approx(closed["bic"], abs=1e-9)
    assert (result.nobs, result.df_resid) == (40, 39)
    assert result.converged
    assert result.warnings == ()


def test_six_passes_where_r_takes_twenty_nine_evaluations(
    fit: Fitter, poisson_reference: dict[str, Any]
) -> None:
    result = fit(poisson_model(), COUNTS)
    assert poisson_reference["stats4_mle"]["evaluations"] == 29
    assert result.n_passes == 6
    assert result.iterations == 5


def test_the_same_bits_however_the_rows_are_split(fit: Fitter) -> None:
    """Not of the rows' likelihoods, which each holder rounds, but of everything printed."""
    pooled_rows = fit(poisson_model(), [np.concatenate(COUNTS)])
    assert fit(poisson_model(), COUNTS).llf == pytest.approx(pooled_rows.llf, abs=1e-12)
    assert fit(poisson_model(), COUNTS[::-1]).to_dict() == fit(poisson_model(), COUNTS).to_dict()


def test_contributions_are_those_of_the_reference(poisson_reference: dict[str, Any]) -> None:
    model = poisson_model()
    table = poisson_reference["nll_table"]
    for index, theta in enumerate(table["lambda"]):
        for site, counts in zip(("site1", "site2", "site3"), COUNTS, strict=True):
            found = float(contribution(model, counts, [theta])["nll"])
            assert found == pytest.approx(table[site][index], rel=1e-14)
        total = pooled(model, COUNTS)
        arrays = asyncio.run(_await(total, Query("trial", {"theta": np.array([theta])}, may_fail=True)))
        assert float(arrays["nll"]) == pytest.approx(table["overall"][index], rel=1e-14)


async def _await(total: Total, query: Query) -> Arrays:
    return await total(query)


def test_a_poisson_regression_equals_glm(
    fit: Fitter, warpbreaks_reference: dict[str, Any], warpbreaks_rows: list[dict[str, str]]
) -> None:
    result = fit(
        MaximumLikelihood(
            regression_nll, start=dict.fromkeys(warpbreaks_reference["coef_names"], 0.0), nobs=row_count
        ),
        regression_sites(warpbreaks_rows),
    )
    np.testing.assert_allclose(result.estimates, warpbreaks_reference["coef"], rtol=1e-9)
    np.testing.assert_allclose(result.standard_errors, warpbreaks_reference["se"], rtol=1e-9)
    np.testing.assert_allclose(result.covariance, warpbreaks_reference["vcov"], rtol=1e-8)
    assert result.llf == pytest.approx(warpbreaks_reference["loglik"], abs=1e-9)
    assert result.aic == pytest.approx(warpbreaks_reference["aic"], abs=1e-9)
    assert result.bic == pytest.approx(warpbreaks_reference["bic"], abs=1e-9)
    assert result.converged


def test_score_and_information_of_each_site_equal_those_of_glm(
    warpbreaks_reference: dict[str, Any], warpbreaks_rows: list[dict[str, str]]
) -> None:
    model = MaximumLikelihood(regression_nll, start=dict.fromkeys("abcdef", 0.0), nobs=row_count)
    for site, data in zip("123", regression_sites(warpbreaks_rows), strict=True):
        expected = warpbreaks_reference["per_site"][site]
        found = contribution(model, data, warpbreaks_reference["coef"])
        np.testing.assert_allclose(-found["score"], expected["score_over_dispersion1"], atol=1e-8)
        information = np.array(expected["XtWX"])[np.triu_indices(6)]
        np.testing.assert_allclose(found["information"], information, rtol=1e-9, atol=1e-8)


def regression_nll(theta: Vector, data: tuple[Vector, Vector]) -> float:
    covariates, counts = data
    eta = covariates @ theta
    return float(np.sum(np.exp(eta) - counts * eta + gammaln(counts + 1)))


def row_count(data: tuple[Vector, Vector]) -> int:
    return len(data[1])


def regression_sites(rows: list[dict[str, str]]) -> list[tuple[Vector, Vector]]:
    sites = []
    for site in "123":
        chosen = [row for row in rows if row["site"] == site]
        b, m, h = (
            np.array([float(row[name] == level) for row in chosen])
            for name, level in (("wool", "B"), ("tension", "M"), ("tension", "H"))
        )
        covariates = np.column_stack([np.ones(len(chosen)), b, m, h, b * m, b * h])
        sites.append((covariates, np.array([float(row["breaks"]) for row in chosen])))
    return sites


def test_mean_and_spread_of_a_normal_equal_the_closed_form(fit: Fitter) -> None:
    result = fit(MaximumLikelihood(normal_nll, start=NORMAL_START), NORMAL)
    n, sd = len(ALL_NORMAL), ALL_NORMAL.std()
    np.testing.assert_allclose(result.estimates, [ALL_NORMAL.mean(), math.log(sd)], atol=1e-10)
    np.testing.assert_allclose(result.standard_errors, [sd / n**0.5, (2 * n) ** -0.5], rtol=1e-9)
    assert result.covariance[0, 1] == pytest.approx(0, abs=1e-12)


def test_exact_derivatives_give_the_same_fit(fit: Fitter) -> None:
    numerical = fit(MaximumLikelihood(normal_nll, start=NORMAL_START), NORMAL)
    choices: tuple[dict[str, Any], ...] = (
        {"gradient": normal_gradient},
        {"gradient": normal_gradient, "hessian": normal_hessian},
        {"hessian": normal_hessian},
    )
    for options in choices:
        exact = fit(MaximumLikelihood(normal_nll, start=NORMAL_START, **options), NORMAL)
        np.testing.assert_allclose(exact.estimates, numerical.estimates, rtol=1e-9)
        np.testing.assert_allclose(exact.standard_errors, numerical.standard_errors, rtol=1e-9)
        assert exact.n_passes == numerical.n_passes


# What a pass carries.


@pytest.mark.parametrize("n_parameters", [1, 2, 5])
def test_a_pass_carries_value_score_information_and_the_rows_once(n_parameters: int) -> None:
    model = MaximumLikelihood(
        lambda theta, data: float(np.sum((theta - 1) ** 2)), start={f"p{i}": 0.0 for i in range(n_parameters)}
    )
    trial = contribution(model, [1, 2, 3], [0.0] * n_parameters)
    assert {name: a.shape for name, a in trial.items()} == {
        "nll": (),
        "score": (n_parameters,),
        "information": (n_parameters * (n_parameters + 1) // 2,),
    }
    first = contribution(model, [1, 2, 3], [0.0] * n_parameters, "start")
    assert first["nobs"].shape == ()
    assert first["nobs"].dtype == np.int64
    assert first["nobs"] == 3


def test_one_query_a_trial_point_and_only_the_first_asks_for_rows(poisson_reference: dict[str, Any]) -> None:
    queries: list[Query] = []
    model = poisson_model()
    over = pooled(model, COUNTS)

    async def total(query: Query) -> Arrays:
        queries.append(query)
        return await over(query)

    async def run() -> list[State | Fit]:
        return [item async for item in model.iterate(total)]

    last = asyncio.run(run())[-1]
    assert isinstance(last, Fit)
    assert [query.step for query in queries] == ["start"] + ["trial"] * (last.n_passes - 1)
    assert all(query.may_fail for query in queries)
    thetas = [float(query.arrays["theta"][0]) for query in queries]
    assert len(set(thetas)) == len(thetas)


def test_a_holder_without_rows_contributes_zeros() -> None:
    arrays = contribution(poisson_model(), np.array([], dtype=np.int64), [5.0], "start")
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "nll": 0.0,
        "score": [0.0],
        "information": [0.0],
        "nobs": 0,
    }


# Difficult likelihoods.


@pytest.mark.parametrize("start", [38.4, 0.01, 1e4, 9.175])
def test_bad_starts_end_in_the_same_place(fit: Fitter, start: float) -> None:
    result = fit(poisson_model(start), COUNTS)
    assert result.converged
    assert result.params["lambda"] == pytest.approx(9.175, abs=1e-9)


def test_a_domain_that_was_not_declared_costs_passes_but_no_answer(fit: Fitter) -> None:
    def nll(theta: Vector, data: NDArray[np.int64]) -> float:
        return math.fsum(theta[0] - y * math.log(theta[0]) + math.lgamma(y + 1) for y in data.tolist())

    result = fit(MaximumLikelihood(nll, start={"lambda": 40.0}), COUNTS)
    assert result.params["lambda"] == pytest.approx(9.175, abs=1e-9)
    assert result.n_passes > result.iterations + 1  # some trial points were beyond the domain
    assert result.history["step_halvings"].max() > 0


def test_standard_deviations_may_be_bounded_by_zero(fit: Fitter) -> None:
    def nll(theta: Vector, data: Vector) -> float:
        return normal_nll(np.array([theta[0], np.log(theta[1])]), data)

    result = fit(MaximumLikelihood(nll, start={"mean": 50.0, "sd": 0.5}, bounds={"sd": (0, None)}), NORMAL)
    assert result.converged
    np.testing.assert_allclose(result.estimates, [ALL_NORMAL.mean(), ALL_NORMAL.std()], rtol=1e-9)


def test_an_estimate_on_its_bound_is_said_to_be_there(fit: Fitter) -> None:
    result = fit(
        MaximumLikelihood(normal_nll, start={"mean": 5.0, "log_sd": 0.0}, bounds={"mean": (4, None)}), NORMAL
    )
    assert result.converged
    assert result.params["mean"] == 4.0
    assert result.on_bound == ("mean",)
    assert "mean is on its bound 4" in result.warnings[0]
    assert np.isnan(result.bse["mean"])
    conditional = 0.5 * np.log(np.mean((ALL_NORMAL - 4) ** 2))
    assert result.params["log_sd"] == pytest.approx(conditional, abs=1e-9)
    assert result.bse["log_sd"] == pytest.approx((2 * len(ALL_NORMAL)) ** -0.5, rel=1e-7)


def test_counts_that_are_all_zero_end_at_the_open_bound(fit: Fitter) -> None:
    result = fit(poisson_model(), [np.zeros(20), np.zeros(5)])
    assert result.converged
    assert result.on_bound == ("lambda",)
    assert 0 <= result.params["lambda"] < 1e-9
    assert np.isnan(result.bse["lambda"])


def test_a_redundant_parameter_is_named(fit: Fitter) -> None:
    def nll(theta: Vector, data: Vector) -> float:
        return normal_nll(np.array([theta[0] + theta[1], theta[2]]), data)

    result = fit(MaximumLikelihood(nll, start={"a": 0.0, "b": 1.0, "log_sd": 0.0}), NORMAL)
    assert not result.converged
    assert any("singular along +1 a -1 b" in warning for warning in result.warnings)
    assert result.bse.isna().tolist() == [True, True, False]
    assert result.bse["log_sd"] == pytest.approx((2 * len(ALL_NORMAL)) ** -0.5, rel=1e-7)
    assert result.params["a"] + result.params["b"] == pytest.approx(ALL_NORMAL.mean())


def test_a_parameter_without_effect_is_named(fit: Fitter) -> None:
    model = MaximumLikelihood(
        lambda theta, data: normal_nll(theta[:2], data), start={**NORMAL_START, "unused": 1.0}
    )
    result = fit(model, NORMAL)
    assert any("singular along unused" in warning for warning in result.warnings)
    assert result.bse.isna().tolist() == [False, False, True]


def test_separated_data_have_no_maximum(fit: Fitter) -> None:
    def nll(theta: Vector, data: Vector) -> float:
        eta = data[:, 0] * theta[0]
        return float(np.sum(np.logaddexp(0, eta) - data[:, 1] * eta))

    result = fit(
        MaximumLikelihood(nll, start={"b": 0.0}), [np.array([[-2, 0], [-1, 0], [1, 1.0], [0.5, 1]])] * 2
    )
    assert not result.converged
    assert any("runs away" in warning for warning in result.warnings)
    assert "Warning: not converged" in result.summary()


def test_a_symmetric_start_between_two_components_is_left(fit: Fitter) -> None:
    def nll(theta: Vector, data: Vector) -> float:
        first, second = (-0.5 * (data - mean) ** 2 for mean in theta)
        return float(-np.sum(np.logaddexp(first, second)))

    rng = np.random.default_rng(4)
    data = [np.concatenate([rng.normal(-2, 1, n), rng.normal(2, 1, n)]) for n in (40, 30)]
    result = fit(MaximumLikelihood(nll, start={"a": 0.0, "b": 0.0}), data)
    assert result.converged
    assert sorted(result.estimates.round()) == [-2, 2]


def test_a_likelihood_of_corners_has_no_standard_error(fit: Fitter) -> None:
    model = MaximumLikelihood(lambda theta, data: float(np.abs(data - theta[0]).sum()), start={"median": 0.0})
    result = fit(model, NORMAL)
    assert not result.converged
    assert np.isnan(result.bse["median"])


def test_a_wrong_gradient_is_noticed(fit: Fitter) -> None:
    doubled = MaximumLikelihood(
        normal_nll, start=NORMAL_START, gradient=lambda t, d: 2 * normal_gradient(t, d)
    )
    assert any("contradict" in warning for warning in fit(doubled, NORMAL).warnings)
    negative = MaximumLikelihood(normal_nll, start=NORMAL_START, gradient=lambda t, d: -normal_gradient(t, d))
    assert not fit(negative, NORMAL).converged


def test_warnings_of_the_users_function_do_not_reach_anybody(fit: Fitter) -> None:
    """Warnings are errors in these tests: log(negative) below would raise one."""
    result = fit(MaximumLikelihood(poisson_nll, start={"lambda": 40.0}), COUNTS)
    assert result.converged


# Progress and resuming.


def test_progress_is_streamed_and_kept_as_history(steps: Stepper) -> None:
    *states, last = steps(poisson_model(), COUNTS)
    assert isinstance(last, Fit)
    assert [state.iteration for state in states if isinstance(state, State)] == list(range(6))
    history = last.history
    assert history["iteration"].tolist() == list(range(6))
    assert history["lambda"].iloc[0] == 5.0
    assert history["lambda"].iloc[-1] == last.params["lambda"]
    assert history["value"].is_monotonic_decreasing
    assert history["pass"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_run_continues_from_any_state_to_the_same_bits(steps: Stepper) -> None:
    *states, whole = steps(poisson_model(), COUNTS)
    assert isinstance(whole, Fit)
    for state in states:
        assert isinstance(state, State)
        resumed = steps(poisson_model(), COUNTS, State.from_dict(state.to_dict()))[-1]
        assert isinstance(resumed, Fit)
        np.testing.assert_array_equal(resumed.estimates, whole.estimates)
        assert resumed.iterations == whole.iterations
        assert resumed.n_passes == whole.n_passes + 1  # the state's own point again


def test_a_state_of_another_model_is_refused(fit: Fitter) -> None:
    with pytest.raises(ModelError, match="2 parameters, the model 1"):
        fit(poisson_model(), COUNTS, State(3, np.zeros(2), 1.0))


# What cannot work is said before, or at, the start.


def test_a_start_that_cannot_be_evaluated_says_which(fit: Fitter) -> None:
    model = MaximumLikelihood(poisson_nll, start={"lambda": -1.0})
    with pytest.raises(ModelError, match=r"start=\{'lambda': -1\}.*another start") as caught:
        fit(model, COUNTS)
    assert not isinstance(caught.value, EvaluationError)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"start": {}}, "start names the parameters"),
        ({"start": [5.0]}, "start names the parameters"),
        ({"start": {"a": math.nan}}, "start of 'a' is no finite number"),
        ({"start": {"a": "5"}}, "start of 'a' is no finite number"),
        ({"start": {"a": True}}, "start of 'a' is no finite number"),
        ({"start": {"a": 1.0}, "bounds": {"b": (0, 1)}}, "bounds for b, but the parameters are a"),
        ({"start": {"a": 0.0}, "bounds": {"a": (0, 1)}}, "not strictly inside"),
        ({"start": {"a": 2.0}, "bounds": {"a": (0, 1)}}, "not strictly inside"),
        ({"start": {"a": 0.5}, "bounds": {"a": (1, 0)}}, "are empty"),
        ({"start": {"a": 0.5}, "bounds": {"a": (math.nan, 1)}}, "are empty"),
        ({"start": {"a": 0.5}, "bounds": {"a": 3}}, r"are a pair \(low, high\)"),
        ({"start": {"a": 0.5}, "gradient": "x"}, "gradient is str"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        MaximumLikelihood(poisson_nll, **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"nll": lambda theta, data: data - theta[0]},
            r"nll returned an array of shape \(20,\).*sum over the rows",
        ),
        ({"nobs": lambda data: 1.5}, "number of observations, not float"),
        ({"nobs": lambda data: -1}, "number of observations"),
        ({"gradient": lambda theta, data: np.ones(2)}, r"gradient .* must return an array of shape \(1,\)"),
    ],
)
def test_functions_of_the_wrong_shape_are_named(options: dict[str, Any], problem: str) -> None:
    model = MaximumLikelihood(**{"nll": poisson_nll, "start": {"lambda": 5.0}, **options})
    with pytest.raises(ModelError, match=problem):
        contribution(model, COUNTS[0], [5.0], "start")


def test_a_mistake_in_the_users_function_is_shown(fit: Fitter) -> None:
    with pytest.raises(KeyError, match="no_such_column"):
        fit(MaximumLikelihood(lambda theta, data: {"a": 1.0}["no_such_column"], start={"a": 0.0}), COUNTS)


@pytest.mark.parametrize(
    "query",
    [
        Query("sum"),
        Query("trial"),
        Query("trial", {"theta": np.zeros(2)}),
        Query("trial", {"theta": np.array([np.nan])}),
        Query("trial", {"theta": np.array([-1.0])}),
    ],
)
def test_a_foreign_query_is_refused(query: Query) -> None:
    with pytest.raises(ModelError):
        poisson_model().contribution(COUNTS[0], query)


def test_the_definition_knows_everything_that_a_holder_evaluates() -> None:
    models = [
        poisson_model(),
        poisson_model(6.0),
        MaximumLikelihood(poisson_nll, start={"lambda": 5.0}),
        MaximumLikelihood(poisson_nll, start={"mu": 5.0}, bounds={"mu": (0, None)}),
        MaximumLikelihood(normal_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)}),
        poisson_model(gradient=normal_gradient),
        poisson_model(nobs=np.size),
    ]
    assert len({model.definition.digest for model in models}) == len(models)
    assert poisson_model().definition == poisson_model().definition


# Before anything runs.


def test_a_plan_knows_the_arrays_of_the_first_sum() -> None:
    model = MaximumLikelihood(normal_nll, start=NORMAL_START)
    found = contribution(model, NORMAL[0], [0.5, 0.1], step="start")
    assert [(s.name, s.dtype, s.shape) for s in model.specifications()] == [
        (name, array.dtype.name, array.shape) for name, array in found.items()
    ]


def test_a_plan_expects_about_as_many_passes_as_there_are(steps: Stepper) -> None:
    fits = [
        steps(poisson_model(), COUNTS)[-1],
        steps(MaximumLikelihood(normal_nll, NORMAL_START), NORMAL)[-1],
    ]
    passes = [fit.n_passes for fit in fits if isinstance(fit, Fit)]
    assert all(0.5 < n_passes / poisson_model().expected_passes < 2 for n_passes in passes)
