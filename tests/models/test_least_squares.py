"""Least squares over several holders: R's numbers, NIST's digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike
from regressions import fitted, ols_of, reference, rows_of_three, sites, steps_of
from statsmodels.datasets import longley
from tacit.models.definition import State
from tacit.models.errors import DataError, ModelError
from tacit.models.least_squares import OLS
from tacit.models.regression import GLM
from tacit.models.regression_fit import OLSFit
from tacit.models.total import contribute
from tacit.serialization.session_messages import Query

LMS = reference("lm")
THREE = rows_of_three()
ALL = pd.concat(THREE)


def digits(found: ArrayLike, certified: ArrayLike) -> float:
    """Return the fewest correct digits."""
    values = np.asarray(certified, dtype=np.float64)
    errors = np.abs(np.asarray(found) - values) / np.abs(values)
    return float(-np.log10(np.maximum(errors, 1e-17)).min())


# Against R.


@pytest.mark.parametrize("name", LMS)
def test_every_fit_is_that_of_r(name: str) -> None:
    entry = LMS[name]
    fit = fitted(ols_of(entry), sites(entry["data_file"]))
    for ours, theirs in {
        "estimates": "coef",
        "standard_errors": "se",
        "deviance": "rss",
        "rsquared": "r2",
        "rsquared_adj": "adj_r2",
        "llf": "loglik",
        "aic": "aic",
        "bic": "bic",
        "df_resid": "df_residual",
    }.items():
        np.testing.assert_allclose(getattr(fit, ours), entry[theirs], rtol=1e-11, err_msg=ours)
    np.testing.assert_allclose(fit.two_sided, entry["p"], rtol=1e-9)
    np.testing.assert_allclose(fit.conf_int(), entry["confint"], rtol=1e-10)
    assert math.sqrt(fit.scale) == pytest.approx(entry["sigma"], rel=1e-12)
    assert [fit.fvalue, fit.df_model, fit.df_resid] == pytest.approx(entry["fstat"], rel=1e-12)
    assert fit.converged
    assert fit.warnings == ()


COVARIANCES = {
    "HC0": "hc0",
    "HC1": "hc1",
    "HC3": "hc3",
    "CR0": "cluster_site_cr0",
    "cluster": "cluster_site_default",
}


@pytest.mark.parametrize("cov_type", COVARIANCES)
@pytest.mark.parametrize("name", LMS)
def test_robust_errors_are_those_of_the_package_sandwich(name: str, cov_type: str) -> None:
    entry = LMS[name]
    fit = fitted(ols_of(entry).with_cov_type(cov_type), sites(entry["data_file"]))
    expected = np.array(entry[COVARIANCES[cov_type]])
    np.testing.assert_allclose(fit.standard_errors, np.sqrt(np.diag(expected)), rtol=1e-10)
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(fit.covariance / size, expected / size, atol=1e-9)


def test_hc2_and_its_z_tests_are_those_of_statsmodels() -> None:
    import statsmodels.formula.api as smf  # noqa: PLC0415

    expected = smf.ols("size ~ x + z", ALL).fit(cov_type="HC2")
    fit = fitted(OLS("size ~ x + z").with_cov_type("HC2"), THREE)
    np.testing.assert_allclose(fit.bse, expected.bse, rtol=1e-11)
    np.testing.assert_allclose(fit.pvalues, expected.pvalues, rtol=1e-8)
    assert fit.fvalue == pytest.approx(expected.fvalue, rel=1e-10)


def test_errors_by_holder_are_those_of_statsmodels() -> None:
    import statsmodels.formula.api as smf  # noqa: PLC0415

    groups = np.repeat([0, 1, 2], [len(rows) for rows in THREE])
    expected = smf.ols("size ~ x + z", ALL).fit(cov_type="cluster", cov_kwds={"groups": groups})
    fit = fitted(OLS("size ~ x + z").with_cov_type("cluster"), THREE)
    np.testing.assert_allclose(fit.bse, expected.bse, rtol=1e-10)


# Digits.


def thirds(rows: pd.DataFrame) -> list[pd.DataFrame]:
    third = len(rows) // 3
    return [rows[:third], rows[third : 2 * third], rows[2 * third :]]


LONGLEY = "TOTEMP ~ GNPDEFL + GNP + UNEMP + ARMED + POP + YEAR"
CERTIFIED = {  # NIST Statistical Reference Datasets, Longley: estimates and standard deviations
    "Intercept": (-3482258.63459582, 890420.383607373),
    "GNPDEFL": (15.0618722713733, 84.9149257747669),
    "GNP": (-0.358191792925910e-01, 0.334910077722432e-01),
    "UNEMP": (-2.02022980381683, 0.488399681651699),
    "ARMED": (-1.03322686717359, 0.214274163161675),
    "POP": (-0.511041056535807e-01, 0.226073200069370),
    "YEAR": (1829.15146461355, 455.478499142212),
}


def test_longley_has_fourteen_digits() -> None:
    fit = fitted(OLS(LONGLEY), thirds(longley.load_pandas().data))
    estimates, deviations = zip(*(CERTIFIED[name] for name in fit.names), strict=True)
    assert digits(fit.estimates, estimates) > 14
    assert digits(fit.standard_errors, deviations) > 12
    assert digits(math.sqrt(fit.scale), 304.854073561965) > 13
    assert digits(fit.rsquared, 0.995479004577296) > 14
    assert digits(fit.fvalue, 330.285339234588) > 13


def test_longley_as_a_generalised_model_has_eleven_digits() -> None:
    fit = fitted(GLM(LONGLEY), thirds(longley.load_pandas().data))
    assert digits(fit.estimates, [CERTIFIED[name][0] for name in fit.names]) > 11


WAMPLER = "y ~ x + I(x**2) + I(x**3) + I(x**4) + I(x**5)"
X = np.arange(21.0)


def test_wampler_1_has_fifteen_digits() -> None:
    rows = pd.DataFrame({"x": X, "y": np.polyval(np.ones(6), X)})
    fit = fitted(OLS(WAMPLER), thirds(rows))
    assert digits(fit.estimates, np.ones(6)) > 15
    assert fit.deviance == 0


def test_wampler_2_has_thirteen_digits() -> None:
    rows = pd.DataFrame({"x": X, "y": np.polyval(0.1 ** np.arange(5, -1, -1.0), X).round(5)})
    fit = fitted(OLS(WAMPLER), thirds(rows))
    assert digits(fit.estimates, 0.1 ** np.arange(6)) > 13


def test_a_large_mean_costs_no_digits() -> None:
    far = [rows.assign(x=rows.x + 2.0**40, size=rows["size"] + 2.0**30) for rows in THREE]
    near = [rows.assign(x=rows.x - 2.0**40, size=rows["size"] - 2.0**30) for rows in far]
    expected = fitted(OLS("size ~ x"), near)
    fit = fitted(OLS("size ~ x"), far)
    assert fit.params["x"] == pytest.approx(expected.params["x"], rel=1e-14)
    assert fit.bse["x"] == pytest.approx(expected.bse["x"], rel=1e-11)
    assert fit.rsquared == pytest.approx(expected.rsquared, rel=1e-12)


def test_nearly_dependent_columns_are_refined_until_they_are_right() -> None:
    """y is x exactly: what the near copy of x gets is nothing but error."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    rows = pd.DataFrame({"x": x, "y": x, "copy": x + 1e-6 * rng.normal(size=60)})
    fit = fitted(OLS("y ~ x + copy"), thirds(rows))
    assert fit.converged
    np.testing.assert_allclose(fit.estimates, [0, 1, 0], atol=1e-13)


# What it is made of.


def test_two_passes_follow_the_design() -> None:
    model = OLS("size ~ log(exposure) + log(w)")
    steps = steps_of(model, THREE)
    fit = steps[-1]
    assert isinstance(fit, OLSFit)
    assert fit.n_passes == model.expected_passes == 3
    state = steps[0]
    assert isinstance(state, State)
    assert state.value == fit.deviance
    assert model.with_cov_type("HC0").expected_passes == 4


def test_without_an_intercept_sums_of_squares_are_about_0() -> None:
    fit = fitted(OLS("size ~ 0 + x + z"), THREE)
    assert fit.null_deviance == pytest.approx(float(np.sum(ALL["size"] ** 2)), rel=1e-14)
    assert (fit.df_model, fit.df_null, fit.df_resid) == (2, 240, 238)
    np.testing.assert_allclose(
        fit.estimates, np.linalg.lstsq(ALL[["x", "z"]], ALL["size"], rcond=None)[0], rtol=1e-13
    )


def test_an_offset_is_taken_from_the_response() -> None:
    fit = fitted(OLS("size ~ x + offset(z)"), THREE)
    moved = fitted(OLS("I(size - z) ~ x"), THREE)
    np.testing.assert_allclose(fit.estimates, moved.estimates, rtol=1e-15)
    np.testing.assert_allclose(fit.predict(ALL), moved.predict(ALL) + ALL.z, rtol=1e-14)


def test_rows_of_weight_zero_are_no_observations() -> None:
    weighted = [rows.assign(used=(rows.z > 0.3).astype(float)) for rows in THREE]
    fit = fitted(OLS("size ~ x", "used"), weighted)
    chosen = fitted(OLS("size ~ x"), [rows[rows.z > 0.3] for rows in THREE])
    np.testing.assert_allclose(fit.estimates, chosen.estimates, rtol=1e-14)
    assert fit.llf == pytest.approx(chosen.llf, rel=1e-14)
    assert fit.nobs == chosen.nobs


def test_how_rows_are_split_changes_the_last_digits_at_most() -> None:
    split, whole = fitted(OLS("size ~ x + g"), THREE), fitted(OLS("size ~ x + g"), [ALL])
    np.testing.assert_allclose(split.estimates, whole.estimates, rtol=1e-15)


def test_as_many_rows_as_columns_leave_no_scale() -> None:
    fit = fitted(OLS("size ~ x"), [THREE[0][:1], THREE[1][:1]])
    assert fit.df_resid == 0
    assert math.isnan(fit.scale)
    assert np.isnan(fit.bse).all()
    assert math.isnan(fit.rsquared_adj)


def test_collinear_columns_are_named_with_the_remedy() -> None:
    rows = [part.assign(sum=part.x + part.z) for part in THREE]
    with pytest.raises(
        ModelError, match=r"columns x, z, sum are linearly dependent .* leave out one of them"
    ):
        fitted(OLS("size ~ x + z + sum"), rows)
    with pytest.raises(ModelError, match="2 rows do not determine 3 coefficients"):
        fitted(OLS("size ~ x + z"), [THREE[0][:1], THREE[1][:1]])


def test_a_run_that_is_taken_up_asks_with_its_own_design() -> None:
    model = OLS("size ~ x")
    steps = steps_of(model, THREE)
    assert isinstance(steps[0], State)
    fit = fitted(model, THREE[:2], steps[0])
    np.testing.assert_allclose(fit.estimates, fitted(OLS("size ~ x"), THREE[:2]).estimates, rtol=1e-14)
    assert fit.nobs == 150


def test_specifications_are_those_of_the_products_when_columns_are_numbers() -> None:
    model = OLS("size ~ log(exposure) + log(w)")
    query = Query("products", {"design": fitted(model, THREE).design.to_array()})
    found = contribute(model, THREE[0], query)
    assert {item.name: (item.dtype, item.shape) for item in model.specifications()} == {
        name: (array.dtype.name, array.shape) for name, array in found.items() if name != "projection"
    } | {"projection": ("float64", (3,))}


def test_text_is_no_response() -> None:
    with pytest.raises((DataError, ModelError)):
        fitted(OLS("g ~ x"), THREE)


def test_the_definition_has_no_family() -> None:
    found: dict[str, Any] = dict(OLS("size ~ x", "w").definition.parameters)
    assert found == {
        "formula": "size ~ x",
        "offset": None,
        "weights": "w",
        "levels": {},
        "missing": "drop",
        "max_levels": 128,
        "cov_type": "nonrobust",
    }


@pytest.mark.parametrize("cov_type", ["HC1", "cluster"])
def test_as_many_rows_as_columns_leave_no_corrected_errors(cov_type: str) -> None:
    fit = fitted(OLS("size ~ x").with_cov_type(cov_type), [ALL[:1], ALL[1:2]])
    assert np.isnan(fit.bse).all()
    assert "nan" in str(fit.summary())
