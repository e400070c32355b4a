"""What is left of the noise suffices, and where it would not, nothing is released."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from tacit.privacy.errors import PrivacyError
from tacit.privacy.noise_plan import NoisePlan


def plan(**changes: object) -> NoisePlan:
    parts: dict[str, object] = {
        "multiplier": 1.25,
        "sensitivity": Fraction(1000),
        "dimension": 50,
        "n_holders": 10,
        "dropouts": 2,
        "known": 1,
    }
    return NoisePlan(**{**parts, **changes})  # type: ignore[arg-type]


def test_each_share_is_the_noise_over_the_holders_that_count() -> None:
    assert plan().counted == 7
    exact = Fraction(1250**2, 7)
    assert exact <= plan().share_variance < exact + Fraction(1, 2**20)


@pytest.mark.parametrize(("dropouts", "known"), [(0, 0), (0, 1), (3, 1), (2, 4)])
def test_what_is_left_after_losses_and_known_shares_is_at_least_the_noise_promised(
    dropouts: int, known: int
) -> None:
    noise = plan(dropouts=dropouts, known=known)
    left = (10 - dropouts - known) * noise.share_variance
    assert left >= (Fraction(noise.multiplier) * noise.sensitivity) ** 2


@pytest.mark.parametrize(("n_holders", "dropouts", "known"), [(3, 2, 1), (1, 0, 1), (4, 5, 0)])
def test_no_noise_left_is_refused(n_holders: int, dropouts: int, known: int) -> None:
    with pytest.raises(PrivacyError, match="leave no noise"):
        plan(n_holders=n_holders, dropouts=dropouts, known=known)


def test_a_grid_too_coarse_for_the_noise_is_refused() -> None:
    least = Fraction(5) / Fraction(1.25) * 2  # of 4 counted shares
    plan(sensitivity=least, n_holders=7)
    with pytest.raises(PrivacyError, match=r"4\.\d+ grid units and must be 5: choose more fraction bits"):
        plan(sensitivity=least * Fraction(99, 100), n_holders=7)


def test_noise_beyond_the_sampler_is_refused() -> None:
    with pytest.raises(PrivacyError, match="fewer fraction bits"):
        plan(sensitivity=Fraction(2**60))


def test_a_sum_of_shares_this_wide_costs_what_one_discrete_gaussian_costs() -> None:
    noise = plan(sensitivity=Fraction(127), n_holders=1000, dimension=10**9)
    assert noise.share_variance < 27
    assert noise.guaranteed_multiplier == noise.multiplier


def test_a_sum_of_narrow_shares_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.privacy.noise_plan.LEAST_SHARE", 0)
    noise = plan(
        multiplier=1.0, sensitivity=Fraction(2), n_holders=5, dimension=100
    )  # 2 shares of variance 2
    tau = 10 * math.exp(-2 * math.pi**2 * 2 / 2)
    assert 1 / noise.guaranteed_multiplier == pytest.approx(1 + 10 * tau, rel=1e-12)


def test_the_reach_is_twelve_deviations_of_all_shares() -> None:
    assert plan().reach == pytest.approx(12 * 1250 * math.sqrt(10 / 7), abs=1)
