"""A fit reads like statsmodels' results, prints like R's, and survives storage."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import special
from tacit.models.definition import Definition, State
from tacit.models.errors import ModelError
from tacit.models.fit import Fit
from tacit.models.information import estimated_covariance
from tacit.models.summary import r_style


def example(**changes: Any) -> Fit:
    fields: dict[str, Any] = {
        "definition": Definition("MaximumLikelihood", {"start": [5.0]}),
        "names": ("lambda",),
        "estimates": np.array([9.175]),
        "covariance": np.array([[9.175 / 40]]),
        "llf": -99.76641322293028,
        "nobs": 40,
        "iterations": 5,
        "n_passes": 6,
        "converged": True,
        "states": (
            State(0, np.array([5.0]), 155.55, 8.7, 0, 1),
            State(5, np.array([9.175]), 99.77, 1e-10, 0, 6),
        ),
        **changes,
    }
    return Fit(**fields)


PROVENANCE: dict[str, Any] = {
    "protocol": "ring-Paillier, 3072 bits",
    "holders": ["site-1", "site-2", "site-3"],
    "survivors": ["site-1", "site-3"],
    "digits": "exact sums, rounded once",
    "privacy": "none",
    "trust": "broken if the coordinator and all holders but one pool",
}
TWO = {
    "names": ("intercept", "slope_of_something_long"),
    "estimates": np.array([-123.456789, 0.00012345678]),
    "covariance": np.array([[4.0, 0.001], [0.001, 1e-8]]),
}


def test_series_are_indexed_by_name() -> None:
    fit = example()
    assert fit.params["lambda"] == 9.175
    assert fit.bse["lambda"] == pytest.approx(0.47893110151670043, rel=1e-15)
    assert fit.tvalues["lambda"] == pytest.approx(9.175 / 0.47893110151670043)
    assert fit.cov_params()["lambda"]["lambda"] == 9.175 / 40
    assert fit.pvalues["lambda"] == pytest.approx(8.2e-82, rel=0.02)


def test_criteria_are_those_of_r(poisson_reference: dict[str, Any]) -> None:
    fit, closed = example(), poisson_reference["closed_form"]
    assert fit.aic == pytest.approx(closed["aic"], rel=1e-15)
    assert fit.bic == pytest.approx(closed["bic"], rel=1e-14)
    assert fit.df_resid == 39


def test_intervals_are_walds() -> None:
    fit = example()
    margin = 1.959963984540054 * fit.bse["lambda"]
    assert fit.conf_int().to_numpy().tolist()[0] == pytest.approx([9.175 - margin, 9.175 + margin], rel=1e-14)
    assert fit.intervals(0.5)[0, 1] < fit.intervals(0.01)[0, 1]


def test_students_t_is_used_where_the_model_says_so() -> None:
    fit = example(df_t=3.0)
    assert fit.pvalues["lambda"] == pytest.approx(2 * special.stdtr(3, -fit.tvalues["lambda"]))
    assert fit.intervals(0.05)[0, 1] - 9.175 == pytest.approx(3.182446305284263 * fit.bse["lambda"])
    assert "P>|t|" in fit.summary()


def test_the_line_of_r() -> None:
    assert r_style(
        example(estimates=np.array([9.174999600849896]), covariance=np.array([[0.2293749749610932]]))
    ) == (
        "            Estimate Std. Error\n"
        "lambda         9.175  0.4789311        -2 log L: 199.5328     'log Lik.' -99.76641"
    )


def test_several_lines_of_r_share_their_decimals() -> None:
    text = r_style(
        example(names=("a", "b"), estimates=np.array([1.5, -20.25]), covariance=np.diag([0.25, 1e-4]))
    )
    assert text.splitlines()[:2] == ["            Estimate Std. Error", "a               1.50       0.50"]
    assert text.splitlines()[2].startswith("b             -20.25       0.01        -2 log L: ")


def test_what_has_no_error_prints_as_nan() -> None:
    assert "NaN" in r_style(example(covariance=np.array([[np.nan]])))
    assert "nan" in example(covariance=np.array([[np.nan]])).summary()


def test_the_summary_of_the_demonstration() -> None:
    text = example().with_provenance(**PROVENANCE).summary()
    assert (
        str(text)
        == """\
                          MaximumLikelihood Results
==============================================================================
Model:               MaximumLikelihood  Log-Likelihood:             -99.766413
Method:        Newton, one pass a step  AIC:                         201.53283
No. Observations:                   40  BIC:                         203.22171
Df Residuals:                       39  Iterations:                          5
Converged:                         yes  Passes:                              6
==============================================================================
                      coef    std err         z    P>|z|     [0.025     0.975]
------------------------------------------------------------------------------
lambda              9.1750      0.479    19.157    0.000      8.236     10.114
==============================================================================
Protocol:  ring-Paillier, 3072 bits
Holders:   site-1, site-2, site-3
Survivors: 2 of 3, lost site-2
Digits:    exact sums, rounded once
Privacy:   none
Trust:     broken if the coordinator and all holders but one pool"""
    )
    assert repr(text) == str(text)


def test_warnings_end_the_summary() -> None:
    fit = example(converged=False, warnings=("not converged",), statistics={"Deviance": 12.5})
    lines = fit.summary().splitlines()
    assert lines[-1] == "Warning: not converged"
    assert any("NO" in line for line in lines)
    assert any("Deviance:" in line and "12.5" in line for line in lines)


def test_small_and_large_numbers_stay_legible() -> None:
    rows = example(**TWO).summary().splitlines()
    assert rows[10].split()[:3] == ["intercept", "-123.4568", "2.000"]
    assert rows[11].split()[:3] == ["slope_of_something_long", "0.0001235", "0.0001"]


def test_history_is_a_table() -> None:
    history = example().history
    assert history.columns.tolist() == [
        "iteration",
        "pass",
        "lambda",
        "value",
        "gradient_norm",
        "step_halvings",
    ]
    assert history["lambda"].tolist() == [5.0, 9.175]


@pytest.mark.parametrize(
    "fit",
    [
        example(),
        example(**TWO).with_provenance(**PROVENANCE),
        example(covariance=np.array([[np.nan]]), llf=-np.inf, warnings=("w",), on_bound=("lambda",)),
        example(states=(State(0, np.array([1.0]), np.nan),), statistics={"a": np.nan, "b": 1.0}, df_t=3.0),
    ],
)
def test_a_fit_is_restored_bit_by_bit(fit: Fit) -> None:
    text = json.dumps(fit.to_dict(), allow_nan=False)
    restored = Fit.from_dict(json.loads(text))
    assert json.dumps(restored.to_dict()) == json.dumps(fit.to_dict())
    np.testing.assert_array_equal(restored.estimates, fit.estimates)
    np.testing.assert_array_equal(restored.covariance, fit.covariance)
    assert restored.summary() == fit.summary()
    assert restored.definition == fit.definition


def test_a_fit_survives_pickling() -> None:
    fit = example().with_provenance(**PROVENANCE)
    assert pickle.loads(pickle.dumps(fit)).to_dict() == fit.to_dict()


@pytest.mark.parametrize("content", [{}, {"colour": "red"}, {**example().to_dict(), "definition": {}}])
def test_what_is_no_saved_fit_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no saved fit"):
        Fit.from_dict(content)


def test_provenance_leaves_the_fit_itself_alone() -> None:
    fit = example(warnings=("first",))
    known = fit.with_provenance(**PROVENANCE, warnings=["second"])
    assert fit.protocol is None
    assert known.warnings == ("first", "second")
    assert known.estimates is fit.estimates


def test_a_likelihood_predicts_no_rows() -> None:
    with pytest.raises(ModelError, match="predicts no rows"):
        example().predict([1.0])


def test_a_repr_is_one_line() -> None:
    assert repr(example()) == "<Fit MaximumLikelihood: lambda=9.175; llf=-99.766413, converged=True>"


def test_a_log_likelihood_that_is_not_released_is_not_shown() -> None:
    private = example(llf=math.nan)
    assert repr(private) == "<Fit MaximumLikelihood: lambda=9.175; converged=True>"
    assert r_style(private).endswith("  0.4789311")


def test_the_covariance_is_the_inverse_information() -> None:
    information = np.array([[4.0, 1.0], [1.0, 3.0]])
    covariance, remarks, definite = estimated_covariance(information, ("a", "b"), np.ones(2, dtype=bool))
    np.testing.assert_allclose(covariance, np.linalg.inv(information), rtol=1e-14)
    assert definite
    assert remarks == []


def test_a_held_parameter_is_fixed_for_the_others() -> None:
    covariance, _, definite = estimated_covariance(
        np.array([[4.0, 1.0], [1.0, 3.0]]), ("a", "b"), np.array([True, False])
    )
    assert definite
    np.testing.assert_array_equal(covariance, [[0.25, np.nan], [np.nan, np.nan]])


def test_a_negative_direction_is_no_maximum() -> None:
    _, remarks, definite = estimated_covariance(np.diag([4.0, -1.0]), ("a", "b"), np.ones(2, dtype=bool))
    assert not definite
    assert remarks == ["the information is negative along b: this is no maximum, start elsewhere"]


def test_scales_do_not_make_an_information_singular() -> None:
    covariance, _, definite = estimated_covariance(np.diag([1e-20, 1e20]), ("a", "b"), np.ones(2, dtype=bool))
    assert definite
    np.testing.assert_allclose(np.diag(covariance), [1e20, 1e-20])
