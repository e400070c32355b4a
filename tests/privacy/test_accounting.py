"""ε is the one that Google's accountant gives, whoever asks and however rounds are split."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.privacy.accounting import Charge, epsilon_of, multiplier_for
from tacit.privacy.errors import PrivacyError

DELTA = 1e-5


@pytest.mark.parametrize(
    ("charge", "expected"),
    [
        (Charge(noise_multiplier=1.0), 4.728507),
        (Charge(noise_multiplier=2.0), 2.165716),
        (Charge(noise_multiplier=1.1, sampling=0.01, rounds=1000), 1.71177),
    ],
    ids=str,
)
def test_reference_values(charge: Charge, expected: float) -> None:
    assert epsilon_of([charge], DELTA) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("survivors", "expected"), [(8, 5.37773), (5, 7.07739), (2, 12.30169)])
def test_reference_values_with_the_noise_of_some_of_ten_holders(survivors: int, expected: float) -> None:
    assert epsilon_of([Charge(noise_multiplier=math.sqrt(survivors / 10))], DELTA) == pytest.approx(
        expected, abs=1e-5
    )


def test_nothing_costs_nothing() -> None:
    assert epsilon_of([], DELTA) == 0.0


def test_rounds_cost_the_same_however_they_are_split_and_ordered() -> None:
    parts = [Charge(noise_multiplier=z, rounds=n) for z, n in [(3.0, 2), (7.0, 5), (3.0, 8)]]
    whole = [Charge(noise_multiplier=7.0, rounds=5), Charge(noise_multiplier=3.0, rounds=10)]
    assert epsilon_of(parts, DELTA) == epsilon_of(whole, DELTA) == epsilon_of(reversed(parts), DELTA)


def test_full_sampling_is_no_sampling() -> None:
    nearly = epsilon_of([Charge(noise_multiplier=2.0, sampling=1 - 1e-12)], DELTA)
    assert nearly == pytest.approx(epsilon_of([Charge(noise_multiplier=2.0)], DELTA), rel=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    epsilon=st.floats(0.05, 50.0),
    delta=st.sampled_from([1e-3, 1e-5, 1e-9]),
    rounds=st.integers(1, 5000),
)
def test_calibrated_noise_costs_epsilon_and_hardly_less(epsilon: float, delta: float, rounds: int) -> None:
    multiplier = multiplier_for(epsilon, delta, rounds=rounds)
    assert epsilon_of([Charge(noise_multiplier=multiplier, rounds=rounds)], delta) <= epsilon
    less = Charge(noise_multiplier=multiplier * (1 - 2.0**-19), rounds=rounds)
    assert epsilon_of([less], delta) > epsilon


def test_calibration_counts_the_sampling() -> None:
    multiplier = multiplier_for(1.71177, DELTA, rounds=1000, sampling=0.01)
    assert multiplier == pytest.approx(1.1, abs=1e-5)


@pytest.mark.parametrize("epsilon", [1e-4, 1000.0])
def test_extreme_losses_are_calibrated_too(epsilon: float) -> None:
    charge = Charge(noise_multiplier=multiplier_for(epsilon, DELTA, rounds=3), rounds=3)
    assert epsilon_of([charge], DELTA) <= epsilon


def test_an_order_that_does_not_converge_is_left_out_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert 0 < epsilon_of([Charge(noise_multiplier=0.5, sampling=0.05)], DELTA) < math.inf
    assert caplog.records == []


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(PrivacyError, match="delta"):
        epsilon_of([Charge(noise_multiplier=1.0)], delta)


@pytest.mark.parametrize(
    "numbers",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"rounds": 0},
        {"rounds": 1.5},
        {"sampling": 0.0},
        {"sampling": 1.5},
    ],
)
def test_a_charge_of_impossible_numbers_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(PrivacyError):
        Charge(**{"noise_multiplier": 1.0, **numbers})  # type: ignore[arg-type]


def test_without_the_extra_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(PrivacyError, match=r'pip install "tacit\[privacy\]"'):
        epsilon_of([Charge(noise_multiplier=1.0)], DELTA)
