"""A fitted regression predicts, tests, prints and is stored, from sums alone."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from regressions import fitted, rows_of_three
from scipy import stats
from statsmodels.genmod import families as sm
from tacit.models.errors import DataError, ModelError
from tacit.models.fit import Fit
from tacit.models.least_squares import OLS
from tacit.models.linear_constraints import linear_constraints
from tacit.models.regression import GLM
from tacit.models.regression_fit import GLMFit, OLSFit

THREE = rows_of_three()
ALL = pd.concat(THREE)


@pytest.fixture(scope="module")
def poisson() -> GLMFit:
    found: GLMFit = fitted(GLM("count ~ x + z + g", "poisson", offset="np.log(exposure)"), THREE)
    return found


@pytest.fixture(scope="module")
def linear() -> OLSFit:
    found: OLSFit = fitted(OLS("size ~ x + z + g"), THREE)
    return found


# Predictions.


def test_predictions_are_those_of_statsmodels(poisson: GLMFit) -> None:
    other = smf.glm("count ~ x + z + g", ALL, family=sm.Poisson(), offset=np.log(ALL["exposure"])).fit()
    np.testing.assert_allclose(poisson.predict(ALL), other.fittedvalues, rtol=1e-6)
    with pytest.raises(ModelError, match="rows are 3"):
        poisson.predict(ALL[:3], offset=[0.0, 1.0])
    zero = poisson.predict(ALL[:5], offset=np.zeros(5))
    np.testing.assert_allclose(zero, other.predict(ALL[:5], offset=np.zeros(5)), rtol=1e-6)


def test_the_linear_predictor_is_the_logarithm_of_the_mean(poisson: GLMFit) -> None:
    linear = poisson.predict(ALL, linear=True)
    np.testing.assert_allclose(np.exp(linear), poisson.predict(ALL), rtol=1e-13)
    assert linear.index.equals(ALL.index)


def test_a_row_with_a_missing_value_has_no_prediction(linear: OLSFit) -> None:
    rows = ALL[:4].assign(x=[1.0, np.nan, 2.0, 3.0])
    assert np.isnan(linear.predict(rows)).tolist() == [False, True, False, False]


def test_rows_without_a_column_have_no_prediction(linear: OLSFit) -> None:
    with pytest.raises(DataError, match="'z'"):
        linear.predict(ALL[["x", "g"]])


def test_new_rows_may_lack_levels(linear: OLSFit) -> None:
    one = ALL[ALL.g == "b"][:3]
    np.testing.assert_array_equal(linear.predict(one), linear.predict(ALL)[ALL.g == "b"][:3])


# Tests.


def test_wald_tests_are_those_of_statsmodels(linear: OLSFit, poisson: GLMFit) -> None:
    other = smf.ols("size ~ x + z + g", ALL).fit()
    for text, theirs in {
        "x = 0": "x = 0",
        "z = x = 0": "z = 0, x = 0",
        "g[T.b] = 2 * g[T.c], x = 0.4": "g[T.b] = 2 * g[T.c], x = 0.4",
    }.items():
        found = linear.wald_test(text)
        expected = other.wald_test(theirs, scalar=True)
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
        assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-9)
        assert (found.df_num, found.df_denom) == (expected.df_num, expected.df_denom)
    chi2 = poisson.wald_test("x = z = 0")
    assert chi2.df_denom is None
    assert chi2.pvalue == pytest.approx(stats.chi2.sf(chi2.statistic, 2), rel=1e-12)
    assert str(chi2).startswith("chi2(2) = ")


def test_a_matrix_and_a_text_ask_the_same(linear: OLSFit) -> None:
    names = list(linear.names)
    matrix = np.zeros((2, len(names)))
    matrix[0, names.index("x")], matrix[1, names.index("z")] = 1, 1
    assert linear.wald_test(matrix) == linear.wald_test("x = 0, z = 0")
    assert linear.wald_test(matrix, [0.4, 0.1]) == linear.wald_test("x = 0.4, z = 0.1")


def test_one_hypothesis_by_f_is_the_square_of_t(linear: OLSFit) -> None:
    found = linear.wald_test("x")
    assert found.statistic == pytest.approx(linear.tvalues["x"] ** 2, rel=1e-12)
    assert found.pvalue == pytest.approx(linear.pvalues["x"], rel=1e-9)
    assert str(found).startswith("F(1, 235) = ")


@pytest.mark.parametrize(
    ("hypotheses", "words"),
    [
        ("y = 0", "cannot be read"),
        ("x + ", "cannot be read"),
        ("x = 0, 2 * x = 0", "depend on each other"),
        (np.ones((1, 2)), "has 5 columns"),
    ],
)
def test_hypotheses_that_are_none_are_refused(linear: OLSFit, hypotheses: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        linear.wald_test(hypotheses)


def test_names_may_hold_any_characters() -> None:
    names = ["Intercept", "C(k, levels=['L', 'M'])[T.M]", "a", "a:b", "np.log(a)"]
    matrix, values = linear_constraints(
        "C(k, levels=['L', 'M'])[T.M] = a:b, np.log(a) - a = 1, `a` = 2", None, names
    )
    np.testing.assert_array_equal(matrix, [[0, 1, 0, -1, 0], [0, 0, -1, 0, 1], [0, 0, 1, 0, 0]])
    np.testing.assert_array_equal(values, [0, 1, 2])


def test_intervals_use_t_where_the_dispersion_is_estimated(linear: OLSFit, poisson: GLMFit) -> None:
    width = (linear.conf_int()[1] - linear.conf_int()[0]) / (2 * linear.bse)
    np.testing.assert_allclose(width, stats.t.ppf(0.975, 235), rtol=1e-10)
    width = (poisson.conf_int(0.1)[1] - poisson.conf_int(0.1)[0]) / (2 * poisson.bse)
    np.testing.assert_allclose(width, stats.norm.ppf(0.95), rtol=1e-10)


# Residuals.


def test_moments_of_residuals_are_those_of_the_rows(linear: OLSFit, poisson: GLMFit) -> None:
    residuals = ALL["size"] - linear.predict(ALL)
    moments = linear.residual_moments
    assert moments["mean"] == pytest.approx(0, abs=1e-12)
    assert moments["std"] == pytest.approx(residuals.std(ddof=0), rel=1e-10)
    assert moments["skewness"] == pytest.approx(stats.skew(residuals), rel=1e-9)
    assert moments["kurtosis"] == pytest.approx(stats.kurtosis(residuals, fisher=False), rel=1e-9)
    assert poisson.residual_sums[1] == pytest.approx(poisson.deviance, rel=1e-13)


# Storage.


@pytest.mark.parametrize("model", [GLM("count ~ x + g", "poisson", offset="z"), OLS("size ~ x + g")])
def test_a_fit_is_restored_bit_by_bit(model: GLM | OLS) -> None:
    fit = fitted(model, THREE).with_provenance(protocol="ring-Paillier", holders=("a", "b"))
    restored = Fit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert type(restored) is type(fit)
    assert isinstance(restored, GLMFit)
    assert restored.to_dict() == fit.to_dict()
    assert restored.summary() == fit.summary()
    np.testing.assert_array_equal(restored.predict(ALL), fit.predict(ALL))


def test_what_is_not_finite_is_restored_too() -> None:
    fit = fitted(GLM("count ~ x", "quasipoisson"), THREE)
    restored = Fit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert math.isnan(restored.llf)


def test_a_fit_survives_pickling(poisson: GLMFit) -> None:
    assert pickle.loads(pickle.dumps(poisson)).to_dict() == poisson.to_dict()


def test_a_fit_of_missing_fields_is_refused(linear: OLSFit) -> None:
    content = linear.to_dict()
    del content["deviance"]
    with pytest.raises(ModelError, match="no saved fit of this version"):
        Fit.from_dict(content)


# Print.


def test_a_generalised_model_prints_as_in_statsmodels(poisson: GLMFit) -> None:
    lines = str(poisson.summary()).splitlines()
    assert lines[0].strip() == "Generalized Linear Model Regression Results"
    text = str(poisson.summary())
    for name, value in {
        "Dep. Variable:": "count",
        "Model Family:": "Poisson",
        "Link Function:": "log",
        "Covariance Type:": "nonrobust",
        "No. Observations:": "240",
        "Df Residuals:": "235",
        "Df Model:": "4",
        "Null Deviance:": f"{poisson.null_deviance:.6g}",
        "Deviance:": f"{poisson.deviance:.6g}",
    }.items():
        assert any(part.startswith(name) and part.split()[-1] == value for part in entries(text)), name
    assert all(len(line) <= 78 for line in lines)


def entries(text: str) -> list[str]:
    """Return the left and right entries of the head."""
    head = text.split("=" * 78)[1].splitlines()
    return [part.strip() for line in head for part in (line[:38], line[40:])]


def test_a_linear_model_prints_as_in_statsmodels(linear: OLSFit) -> None:
    found = entries(str(linear.summary()))
    for name, value in {
        "R-squared:": f"{linear.rsquared:.4f}",
        "Adj. R-squared:": f"{linear.rsquared_adj:.4f}",
        "F-statistic:": f"{linear.fvalue:.4g}",
        "Prob (F-statistic):": f"{linear.f_pvalue:.3g}",
        "Converged:": "yes",
    }.items():
        assert any(part.startswith(name) and part.split()[-1] == value for part in found), name
    assert "P>|t|" in linear.summary()


def test_history_has_a_row_for_each_point(poisson: GLMFit) -> None:
    history = poisson.history
    assert list(history.columns[2:-3]) == list(poisson.names)
    np.testing.assert_allclose(history[list(poisson.names)].iloc[-1], poisson.estimates, rtol=1e-6)
    assert (history["value"].diff().dropna() <= 0).all()
    assert history["value"].iloc[-1] == pytest.approx(poisson.deviance)
