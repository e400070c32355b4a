"""Derivatives from values: precise, on every scale, and never from outside the bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.models.differentiation import differentiate

Vector = NDArray[np.float64]
COUNTS = np.array([12.0, 9, 11, 8, 13, 8, 14, 10, 9, 9])
SCALES = np.array([1.0, 3.0, 1e3, 1e-4])
COVARIATES = np.random.default_rng(5).normal(size=(60, 4)) * SCALES
RESPONSES = np.random.default_rng(6).poisson(2.0, size=60).astype(np.float64)


def free(n: int) -> tuple[Vector, Vector]:
    return np.full(n, -np.inf), np.full(n, np.inf)


def poisson(theta: Vector) -> float:
    return float(np.sum(theta[0] - COUNTS * np.log(theta[0])))


def regression(theta: Vector) -> float:
    eta = COVARIATES @ theta
    return float(np.sum(np.exp(eta) - RESPONSES * eta))


def regression_gradient(theta: Vector) -> Vector:
    result: Vector = COVARIATES.T @ (np.exp(COVARIATES @ theta) - RESPONSES)
    return result


def regression_hessian(theta: Vector) -> Vector:
    result: Vector = (COVARIATES.T * np.exp(COVARIATES @ theta)) @ COVARIATES
    return result


@pytest.mark.parametrize("theta", [1e-6, 0.3, 5.0, 9.175, 1e4])
def test_a_poisson_likelihood_to_eleven_digits(theta: float) -> None:
    found = differentiate(poisson, np.array([theta]), np.zeros(1), np.full(1, np.inf))
    curvature = COUNTS.sum() / theta**2
    assert found.hessian[0, 0] == pytest.approx(curvature, rel=4e-11)
    error = found.gradient[0] - (len(COUNTS) - COUNTS.sum() / theta)
    assert abs(error) / curvature**0.5 < 1e-9  # in standard errors


def test_at_the_estimate_the_standard_error_to_twelve_digits() -> None:
    theta = COUNTS.mean()
    found = differentiate(poisson, np.array([theta]), np.zeros(1), np.full(1, np.inf))
    assert found.hessian[0, 0] ** -0.5 == pytest.approx((theta / len(COUNTS)) ** 0.5, rel=4e-12)


@pytest.mark.parametrize("point", [np.zeros(4), np.array([0.1, -0.05, 2e-4, 300.0])])
def test_parameters_of_very_different_scales(point: Vector) -> None:
    found = differentiate(regression, point, *free(4))
    exact = regression_hessian(point)
    errors = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(
        found.hessian / np.outer(errors, errors), exact / np.outer(errors, errors), atol=3e-11
    )
    np.testing.assert_allclose(found.gradient / errors, regression_gradient(point) / errors, atol=1e-11)


def test_on_the_bounds_differences_are_one_sided() -> None:
    point = np.array([0.1, -0.05, 2e-4, 300.0])
    found = differentiate(
        regression, point, point - np.array([0, np.inf, 0, 1e3]), point + np.array([1, 0, np.inf, 0])
    )
    exact = regression_hessian(point)
    errors = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(
        found.hessian / np.outer(errors, errors), exact / np.outer(errors, errors), atol=1e-6
    )
    np.testing.assert_allclose(found.gradient / errors, regression_gradient(point) / errors, atol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=2),
    st.lists(st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 10.0, np.inf]), min_size=4, max_size=4),
)
def test_the_bounds_are_never_left(point: list[float], room: list[float]) -> None:
    at = np.array(point)
    lower, upper = at - room[:2], at + np.maximum(room[2:], np.where(np.array(room[:2]) == 0, 1e-9, 0))

    def guarded(theta: Vector) -> float:
        assert (theta >= lower).all()
        assert (theta <= upper).all()
        return float(np.sum(np.exp(theta)) + theta[0] * theta[1])

    found = differentiate(guarded, at, lower, upper)
    assert np.isfinite(found.hessian).all()


def test_a_domain_without_declared_bounds_is_found_by_trial() -> None:
    found = differentiate(lambda x: poisson(x) if x[0] > 0 else np.nan, np.array([0.01]), *free(1))
    assert found.hessian[0, 0] == pytest.approx(COUNTS.sum() / 1e-4, rel=4e-11)


@pytest.mark.parametrize(
    ("function", "hessian"),
    [
        (lambda x: 0.0, [[0, 0], [0, 0]]),  # a holder without rows
        (lambda x: -0.0, [[0, 0], [0, 0]]),
        (lambda x: float(3 * x[0] - x[1] + 7), [[0, 0], [0, 0]]),
        (lambda x: float(np.sum((x - 1) ** 2) + 100), [[2, 0], [0, 2]]),
        (lambda x: float(x[0] * x[1]), [[0, 1], [1, 0]]),
    ],
)
def test_what_is_exactly_zero_comes_out_as_zero(function: Callable[[Vector], float], hessian: Any) -> None:
    found = differentiate(function, np.array([0.5, 2.0]), *free(2))
    np.testing.assert_allclose(found.hessian, hessian, atol=1e-10)


def test_corners_have_no_information() -> None:
    found = differentiate(lambda x: float(np.abs(x - 0.3).sum() * 10), np.zeros(2), *free(2))
    np.testing.assert_array_equal(found.hessian, np.zeros((2, 2)))


def test_an_exact_gradient_leaves_one_difference() -> None:
    point = np.array([0.1, -0.05, 2e-4, 300.0])
    found = differentiate(regression, point, *free(4), gradient=regression_gradient)
    exact = regression_hessian(point)
    errors = np.sqrt(np.diag(exact))
    np.testing.assert_array_equal(found.gradient, regression_gradient(point))
    np.testing.assert_allclose(
        found.hessian / np.outer(errors, errors), exact / np.outer(errors, errors), atol=1e-12
    )


def test_exact_derivatives_take_one_value() -> None:
    points: list[Vector] = []

    def counted(theta: Vector) -> float:
        points.append(theta)
        return regression(theta)

    found = differentiate(
        counted, np.zeros(4), *free(4), gradient=regression_gradient, hessian=regression_hessian
    )
    assert len(points) == 1
    np.testing.assert_array_equal(found.hessian, regression_hessian(np.zeros(4)))


def test_one_parameter_takes_few_values() -> None:
    points: list[float] = []

    def counted(theta: Vector) -> float:
        points.append(float(theta[0]))
        return poisson(theta)

    differentiate(counted, np.array([9.175]), np.zeros(1), np.full(1, np.inf))
    assert len(points) == len(set(points)) <= 30


def test_where_there_is_no_value_there_are_no_derivatives() -> None:
    found = differentiate(lambda x: np.inf, np.zeros(2), *free(2))
    assert np.isnan(found.value)
    assert np.isnan(found.gradient).all()
    assert np.isnan(found.hessian).all()


def test_a_function_that_writes_into_its_argument_does_no_harm() -> None:
    def writing(theta: Vector) -> float:
        value = poisson(theta)
        theta[:] = -1.0
        return value

    point = np.array([5.0])
    found = differentiate(writing, point, np.zeros(1), np.full(1, np.inf))
    assert point[0] == 5.0
    assert found.hessian[0, 0] == pytest.approx(COUNTS.sum() / 25, rel=1e-10)
