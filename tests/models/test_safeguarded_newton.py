"""The search: few passes, never outside its bounds, and it says why it ended."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.models.parameters import Bounds
from tacit.models.safeguarded_newton import Point, Progress, direction, held, minimise

Vector = NDArray[np.float64]
Function = Callable[[Vector], tuple[float, Vector, Vector]]
ANYWHERE = Bounds(np.full(2, -np.inf), np.full(2, np.inf))


def search(
    function: Function, start: list[float], bounds: Bounds = ANYWHERE, most: int = 100
) -> list[Progress]:
    """Minimise a function of value, gradient and Hessian; a value that is not finite is a failed pass."""

    def point(x: Vector) -> Point | None:
        assert (x >= bounds.lower).all()
        assert (x <= bounds.upper).all()
        with np.errstate(all="ignore"):
            value, gradient, hessian = function(x)
        return Point(x, float(value), gradient, hessian) if np.isfinite(value) else None

    async def evaluate(x: Vector) -> Point | None:
        return point(x)

    async def collect() -> list[Progress]:
        first = point(np.array(start))
        assert first is not None
        return [progress async for progress in minimise(evaluate, first, bounds, max_iterations=most)]

    return asyncio.run(collect())


def rosenbrock(x: Vector) -> tuple[float, Vector, Vector]:
    a, b = x
    gradient = np.array([-400 * a * (b - a**2) - 2 * (1 - a), 200 * (b - a**2)])
    hessian = np.array([[1200 * a**2 - 400 * b + 2, -400 * a], [-400 * a, 200.0]])
    return 100 * (b - a**2) ** 2 + (1 - a) ** 2, gradient, hessian


def saddle(x: Vector) -> tuple[float, Vector, Vector]:
    """Minima at (±1, 0), a saddle at the origin."""
    a, b = x
    return (a**2 - 1) ** 2 + b**2, np.array([4 * a * (a**2 - 1), 2 * b]), np.diag([12 * a**2 - 4, 2.0])


def quadratic(x: Vector) -> tuple[float, Vector, Vector]:
    """A minimum at (1, 2), correlated."""
    hessian = np.array([[2.0, 1.8], [1.8, 2.0]])
    away = x - np.array([1.0, 2.0])
    return away @ hessian @ away / 2 + 5, hessian @ away, hessian


def logarithm(x: Vector) -> tuple[float, Vector, Vector]:
    """Defined for positive arguments, a minimum at (3, 1)."""
    want = np.array([3.0, 1.0])
    return float(np.sum(x - want * np.log(x))), 1 - want / x, np.diag(want / x**2)


def softplus(x: Vector) -> tuple[float, Vector, Vector]:
    """No minimum: it falls for ever with the first argument."""
    e = np.exp(-x[0])
    return np.log1p(e) + x[1] ** 2, np.array([-e / (1 + e), 2 * x[1]]), np.diag([e / (1 + e) ** 2, 2.0])


def test_a_parabola_takes_two_passes() -> None:
    last = search(quadratic, [40.0, -70.0])[-1]
    assert (last.end, last.n_passes, last.iteration) == ("stationary", 2, 1)
    np.testing.assert_allclose(last.point.parameters, [1, 2], atol=1e-12)


def test_a_start_at_the_minimum_takes_one_pass() -> None:
    assert search(quadratic, [1.0, 2.0])[-1].n_passes == 1


def test_a_curved_valley() -> None:
    last = search(rosenbrock, [-1.2, 1.0])[-1]
    assert last.end == "stationary"
    assert last.n_passes <= 30
    np.testing.assert_allclose(last.point.parameters, [1, 1], atol=1e-8)


def test_every_accepted_point_lowers_the_value() -> None:
    values = [progress.point.value for progress in search(rosenbrock, [-1.2, 1.0])]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.floats(-3, 3).filter(lambda a: a == 0 or abs(a) > 1e-6), st.floats(-3, 3))
def test_from_anywhere_to_a_minimum_never_to_a_saddle(a: float, b: float) -> None:
    """But from so close beside one that what a step promises is below the rounding of the value: see `_drowns`."""
    last = search(saddle, [a, b])[-1]
    assert last.end in {"stationary", "rounding"}
    np.testing.assert_allclose(np.abs(last.point.parameters), [1, 0], atol=1e-5)


def test_a_start_exactly_on_a_saddle_is_left() -> None:
    last = search(saddle, [0.0, 0.0])[-1]
    np.testing.assert_allclose(np.abs(last.point.parameters), [1, 0], atol=1e-8)


@pytest.mark.parametrize("start", [[100.0, 100.0], [1e-3, 50.0], [7.0, 1e-6]])
def test_failed_passes_shorten_the_step(start: list[float]) -> None:
    last = search(logarithm, start)[-1]
    assert last.end == "stationary"
    np.testing.assert_allclose(last.point.parameters, [3, 1], rtol=1e-8)


def test_a_minimum_beyond_a_bound_is_found_on_it_with_the_rest_solved_again() -> None:
    bounds = Bounds(np.array([-np.inf, -np.inf]), np.array([0.0, np.inf]))
    last = search(quadratic, [-3.0, 0.0], bounds)[-1]
    assert last.end == "stationary"
    assert last.point.parameters[0] == 0.0
    assert last.point.parameters[1] == pytest.approx(2.9)  # the conditional minimum
    assert held(last.point, bounds).tolist() == [True, False]


def test_a_corner_can_be_the_minimum() -> None:
    last = search(quadratic, [-3.0, 0.0], Bounds(np.array([-9.0, -9.0]), np.array([0.0, 1.0])))[-1]
    assert last.point.parameters.tolist() == [0.0, 1.0]
    assert last.direction.decrement == 0


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.floats(-2, 2), st.floats(0.1, 2), st.floats(-2, 2), st.floats(0.1, 2), st.floats(0, 1), st.floats(0, 1)
)
def test_a_parabola_in_any_box_ends_where_no_descent_is_left(
    low: float, width: float, low2: float, width2: float, at: float, at2: float
) -> None:
    bounds = Bounds(np.array([low, low2]), np.array([low + width, low2 + width2]))
    start = bounds.clipped(bounds.lower + np.array([at * width, at2 * width2]))
    last = search(quadratic, start.tolist(), bounds)[-1]
    step = bounds.clipped(last.point.parameters - 1e-3 * last.point.gradient) - last.point.parameters
    assert last.end in {"stationary", "rounding"}
    assert np.abs(step).max() < 1e-7


def test_a_bound_is_left_again_if_the_other_parameters_ask_for_it() -> None:
    bounds = Bounds(np.array([0.0, -np.inf]), np.full(2, np.inf))
    last = search(quadratic, [0.0, 9.0], bounds)[-1]  # there the gradient pushes against the bound
    np.testing.assert_allclose(last.point.parameters, [1, 2], atol=1e-8)


def test_a_bound_that_cannot_be_evaluated_is_approached() -> None:
    def open_at_zero(x: Vector) -> tuple[float, Vector, Vector]:
        return (
            (x.sum() if x[0] > 0 else np.nan) + x[1] ** 2 - x[1],
            np.array([1.0, 2 * x[1]]),
            np.diag([0.0, 2.0]),
        )

    bounds = Bounds(np.array([0.0, -np.inf]), np.full(2, np.inf))
    last = search(open_at_zero, [5.0, 3.0], bounds)[-1]
    assert last.end == "stationary"
    assert held(last.point, bounds).tolist() == [True, False]
    assert 0 < last.point.parameters[0] < 1e-9
    assert last.n_passes <= 9


def test_a_function_without_a_minimum_is_said_to_run_away() -> None:
    last = search(softplus, [0.0, 1.0])[-1]
    assert last.end == "runaway"


def test_a_gradient_of_the_wrong_sign_gets_stuck() -> None:
    def wrong(x: Vector) -> tuple[float, Vector, Vector]:
        value, gradient, hessian = quadratic(x)
        return value, -gradient, hessian

    assert search(wrong, [4.0, 4.0])[-1].end == "stuck"


def test_a_gradient_of_the_wrong_length_is_noticed() -> None:
    def wrong(x: Vector) -> tuple[float, Vector, Vector]:
        value, gradient, hessian = rosenbrock(x)
        return value, 2 * gradient, 2 * hessian

    assert any(progress.suspicious for progress in search(wrong, [1.1, 1.2]))
    assert not any(progress.suspicious for progress in search(rosenbrock, [1.1, 1.2]))


def test_the_number_of_iterations_is_limited() -> None:
    last = search(rosenbrock, [-1.2, 1.0], most=3)[-1]
    assert (last.end, last.iteration) == ("exhausted", 3)


def test_when_rounding_hides_any_further_decrease_the_search_ends() -> None:
    def rounded(x: Vector) -> tuple[float, Vector, Vector]:
        value, gradient, hessian = quadratic(x)
        return value + 1e6, gradient + 1e-6, hessian

    last = search(rounded, [1.0 + 1e-5, 2.0])[-1]
    assert last.end in {"rounding", "stationary"}
    assert last.n_passes <= 4


def test_one_parameter_without_curvature_does_not_spoil_the_others() -> None:
    point = Point(np.zeros(2), 0.0, np.array([1.0, 0.0]), np.diag([2.0, 0.0]))
    assert direction(point, ANYWHERE).step.tolist() == [-0.5, 0.0]
