"""The scikit-learn face: scikit-learn's own checks, its estimates without a penalty, and rows that lie at holders."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model
from in_process import Network
from regressions import reference, rows_of_three, sites
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from tacit.actors.data_holder import DataHolder
from tacit.estimators import GammaRegressor, LinearRegression, LogisticRegression, PoissonRegressor
from tacit.models.errors import DataError, ModelError
from tacit.protocols.pairwise_masking import PairwiseMasking

ESTIMATORS = [LinearRegression, LogisticRegression, PoissonRegressor, GammaRegressor]

# Why a check of scikit-learn's does not apply.
NOT_APPLICABLE = {
    "check_sample_weight_equivalence_on_dense_data": (
        "it fits 30 columns to 27 rows, to which tacit says that they determine no coefficients; "
        "test_weights_count_as_repeated_rows checks the same with fewer columns"
    ),
}
NOT_RUN = {"check_array_api_input"}  # scikit-learn leaves it out unless SCIPY_ARRAY_API is in the environment

ROWS = pd.concat(rows_of_three(), ignore_index=True)
SITES = np.repeat(["a", "b", "c"], [len(part) for part in rows_of_three()])


class Federation:
    """Holders that sum by pairwise masking, in this process."""

    def __init__(self, data: Mapping[str, pd.DataFrame]) -> None:
        self.data = data

    def fit(self, model: Any) -> Any:
        async def scene() -> Any:
            async with Network(self.data, protocol=PairwiseMasking(), holder=DataHolder) as parties:
                return (await parties.run(model)).value

        return asyncio.run(scene())


@pytest.fixture(scope="module")
def federation() -> Federation:
    return Federation(dict(zip("abc", rows_of_three(), strict=True)))


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)  # classes that two columns separate
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scikit_learns_checks_pass(estimator: Any) -> None:
    results = check_estimator(estimator(), expected_failed_checks=NOT_APPLICABLE, on_skip=None)
    by_status = {
        status: {result["check_name"] for result in results if result["status"] == status}
        for status in ("passed", "xfail", "skipped")
    }
    assert len(by_status["passed"]) >= 50
    assert by_status["xfail"] == set(NOT_APPLICABLE)
    assert by_status["skipped"] <= NOT_RUN


# The estimates.


@pytest.mark.parametrize(
    ("estimator", "other", "response"),
    [
        (LinearRegression(), sklearn.linear_model.LinearRegression(), "size"),
        (LogisticRegression(), sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10), "event"),
        (PoissonRegressor(), sklearn.linear_model.PoissonRegressor(alpha=0, tol=1e-10), "count"),
        (GammaRegressor(), sklearn.linear_model.GammaRegressor(alpha=0, tol=1e-10), "cost"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
@pytest.mark.parametrize("intercept", [True, False])
def test_estimates_predictions_and_score_are_scikit_learns_without_penalty(
    estimator: Any, other: Any, response: str, intercept: bool
) -> None:
    x, y, weights = ROWS[["x", "z"]], ROWS[response], ROWS["w"]
    ours = clone(estimator).set_params(fit_intercept=intercept).fit(x, y, sample_weight=weights)
    theirs = other.set_params(fit_intercept=intercept).fit(x, y, sample_weight=weights)
    assert ours.coef_ == pytest.approx(theirs.coef_, abs=1e-5)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-5)
    assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)
    assert ours.predict(x) == pytest.approx(theirs.predict(x), abs=1e-4)
    assert ours.score(x, y, weights) == pytest.approx(theirs.score(x, y, weights), abs=1e-8)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_count_as_repeated_rows(estimator: Any) -> None:
    x, y, weights = ROWS[["x", "z"]], ROWS["event" if estimator is LogisticRegression else "cost"], ROWS["w"]
    weights = weights.where(ROWS["g"] != "a", 0).astype(int)
    repeated = np.repeat(np.arange(len(ROWS)), weights)
    weighted = estimator().fit(x, y, sample_weight=weights)
    alike = estimator().fit(x.iloc[repeated], y.iloc[repeated])
    assert weighted.coef_ == pytest.approx(alike.coef_, rel=1e-9)
    assert weighted.fit_.nobs == (weights > 0).sum()


@pytest.mark.parametrize(
    ("estimator", "name", "response"),
    [
        (LogisticRegression(["wt"]), "mtcars_logit_am", "am"),
        (PoissonRegressor(["spray"]), "insectsprays_poisson", "count"),
        (LinearRegression(["wt", "hp", "qsec"]), "mtcars_gaussian", "mpg"),
    ],
)
def test_fit_has_rs_estimates_and_standard_errors(estimator: Any, name: str, response: str) -> None:
    entry = reference("glm")[name]
    parts = sites(entry["data_file"])
    rows = pd.concat(parts)
    groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    estimator.fit(rows, rows[response], groups=groups)
    coefficients = [*np.ravel(estimator.intercept_), *np.ravel(estimator.coef_)]
    assert coefficients == pytest.approx(entry["coef"], rel=1e-8)
    assert estimator.fit_.bse.to_numpy() == pytest.approx(entry["se"], rel=1e-8)


# Rows at the holders, and rows at hand.


@pytest.fixture(scope="module")
def at_holders(federation: Federation) -> LogisticRegression:
    return LogisticRegression(["x", "np.log(exposure)", "C(g)"]).fit(federation, "event", sample_weight="w")


def test_groups_at_hand_give_the_bits_of_a_federation(at_holders: LogisticRegression) -> None:
    at_hand = clone(at_holders).fit(ROWS, ROWS["event"], sample_weight=ROWS["w"], groups=SITES)
    assert at_hand.coef_.tobytes() == at_holders.coef_.tobytes()
    assert at_hand.fit_.covariance.tobytes() == at_holders.fit_.covariance.tobytes()
    assert at_hand.predict_proba(ROWS).tolist() == at_holders.predict_proba(ROWS).tolist()


def test_features_at_holders_are_the_named_terms(at_holders: LogisticRegression) -> None:
    assert at_holders.feature_names_in_.tolist() == ["x", "np.log(exposure)", "C(g)"]
    assert at_holders.n_features_in_ == 3
    assert at_holders.fit_.names == ("Intercept", "x", "np.log(exposure)", "C(g)[T.b]", "C(g)[T.c]")
    assert at_holders.coef_.shape == (1, 4)


def test_classes_at_holders_are_zero_and_one(at_holders: LogisticRegression) -> None:
    assert at_holders.classes_.tolist() == [0, 1]
    assert at_holders.score(ROWS, ROWS["event"]) > 0.5


def test_fitted_estimator_goes_into_a_file_without_its_federation(at_holders: LogisticRegression) -> None:
    again = pickle.loads(pickle.dumps(at_holders))
    assert again.predict_proba(ROWS).tolist() == at_holders.predict_proba(ROWS).tolist()
    assert not any(isinstance(value, Federation) for value in vars(at_holders).values())


def test_response_at_holders_may_be_an_expression(federation: Federation) -> None:
    model = LinearRegression(["x"]).fit(federation, "I(time > 1)")
    assert model.coef_ == pytest.approx(LinearRegression().fit(ROWS[["x"]], ROWS["time"] > 1).coef_)


def test_fit_at_hand_says_that_no_protocol_ran() -> None:
    fit = LinearRegression().fit(ROWS[["x"]], ROWS["size"], groups=SITES).fit_
    assert "Protocol:  none: all rows lie in one process\nHolders:   a, b, c" in fit.summary()


def test_fit_at_hand_needs_no_event_loop_of_its_own() -> None:
    async def notebook() -> Any:
        return LogisticRegression().fit(ROWS[["x"]], ROWS["event"])

    assert asyncio.run(notebook()).fit_.converged


def test_classes_of_any_labels_and_probabilities() -> None:
    labels = np.where(ROWS["event"] == 1, "ill", "healthy")
    model = LogisticRegression().fit(ROWS[["x", "z"]], labels)
    probabilities = model.predict_proba(ROWS[["x", "z"]])
    assert model.classes_.tolist() == ["healthy", "ill"]
    assert probabilities[:, 1] == pytest.approx(model.fit_.predict(ROWS).to_numpy(), rel=1e-12)
    assert model.predict_log_proba(ROWS[["x", "z"]]) == pytest.approx(np.log(probabilities), rel=1e-9)


def test_estimator_works_in_a_pipeline_and_in_cross_validation() -> None:
    x = ROWS[["x", "z"]]
    scaled = make_pipeline(StandardScaler(), LinearRegression()).fit(x, ROWS["size"])
    plain = LinearRegression().fit(x, ROWS["size"])
    assert scaled.predict(x) == pytest.approx(plain.predict(x), rel=1e-12)
    named = PoissonRegressor(["x", "g"])  # a term of text: the folds are tables too
    assert len(cross_val_score(named, ROWS, ROWS["count"], cv=3)) == 3


def test_columns_keep_their_names_and_a_column_may_be_called_y() -> None:
    rows = ROWS[["x", "z"]].set_axis(["y", "length (cm)"], axis=1)
    fit = LinearRegression().fit(rows, ROWS["size"], sample_weight=ROWS["w"]).fit_
    assert fit.names == ("Intercept", "y", "length (cm)")
    assert fit.converged


# What cannot be used.


def test_missing_scikit_learn_is_told() -> None:
    script = "import sys; sys.modules['sklearn'] = None; import tacit.estimators"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: tacit.estimators needs scikit-learn: pip install 'tacit[sklearn]'" in run.stderr


def test_columns_that_separate_the_classes_are_told() -> None:
    with pytest.warns(ConvergenceWarning, match="x0 separate the responses"):
        LogisticRegression().fit([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])


def test_collinear_columns_are_told_by_name() -> None:
    with pytest.raises(ModelError, match="the columns a, b are linearly dependent"):
        LinearRegression().fit(ROWS[["x"]].assign(a=ROWS["x"], b=ROWS["x"])[["a", "b"]], ROWS["size"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["a", "b", "c", "a"],
            "Only binary classification is supported. The type of the target is multiclass",
        ),
        (["a", "a", "a", "a"], "only one class"),
        ([0.5, 0.1, 0.2, 0.3], "Unknown label type"),
    ],
)
def test_classifier_takes_two_classes(labels: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogisticRegression().fit([[1.0], [2.0], [1.0], [4.0]], labels)


@pytest.mark.parametrize("estimator", [PoissonRegressor, GammaRegressor])
def test_response_that_is_none_of_the_familys_is_refused(estimator: Any) -> None:
    with pytest.raises(DataError, match="some response is none of the family"):
        estimator().fit([[1.0], [2.0], [1.5]], [1.0, -1.0, 2.0])


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (None, {"y": "event"}, r"LogisticRegression\(features="),
        ("x", {"y": "event"}, "features is a list of terms"),
        (["x"], {"y": ROWS["event"]}, "names of columns there"),
        (["x"], {"y": "event", "sample_weight": ROWS["w"]}, "names of columns there"),
        (["x"], {"y": "event", "groups": SITES}, "groups the holders"),
    ],
)
def test_what_is_asked_of_holders_is_named(
    features: Any, arguments: dict[str, Any], message: str, federation: Federation
) -> None:
    with pytest.raises(ValueError, match=message):
        LogisticRegression(features).fit(federation, **arguments)


def test_groups_are_one_a_row() -> None:
    with pytest.raises(ValueError, match=r"groups has the shape \(2,\), the rows are 240"):
        LinearRegression().fit(ROWS[["x"]], ROWS["size"], groups=["a", "b"])


def test_named_features_predict_complete_tables_only() -> None:
    model = LinearRegression(["x", "np.log(exposure)"])
    with pytest.raises(NotFittedError):
        model.predict(ROWS)
    model.fit(ROWS, ROWS["size"])
    with pytest.raises(ValueError, match="X is a DataFrame, not ndarray"):
        model.predict(ROWS[["x", "exposure"]].to_numpy())
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(ROWS.assign(x=np.nan))
    with pytest.raises(DataError, match="no column 'exposure'"):
        model.predict(ROWS[["x"]])


def test_rows_that_lack_a_named_feature_are_left_out_and_counted() -> None:
    lacking = ROWS.assign(x=ROWS["x"].where(ROWS.index >= 7))
    fit = LinearRegression(["x"]).fit(lacking, ROWS["size"]).fit_
    assert (fit.nobs, fit.n_missing) == (len(ROWS) - 7, 7)
