"""What a model under privacy releases: clipped, on the grid, with noise of the variance that is told."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.privacy.accounting import epsilon_of
from tacit.privacy.errors import PrivacyError
from tacit.privacy.guarantee import Privacy
from tacit.privacy.noised_sum import NoisedSum


def noised(dimension: int = 3, rounds: int = 1, **options: Any) -> NoisedSum:
    return NoisedSum(
        privacy=Privacy(1.0, 1e-5, **{"clip": 1.0, **options}), dimension=dimension, rounds=rounds
    )


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, 10**7), st.floats(-250, 30))
def test_the_grid_is_fine_beside_the_clip(dimension: int, log_clip: float) -> None:
    clip = 2.0**log_clip
    bits = noised(dimension, clip=clip).fraction_bits
    assert bits == 0 or 2**14 <= clip * 2.0**bits / dimension**0.5 <= 2**15
    assert bits > 0 or clip / dimension**0.5 >= 2**13


def test_a_clip_beyond_every_grid_is_refused() -> None:
    for clip in (2.0**900, 1e60):
        with pytest.raises(PrivacyError, match="clip"):
            noised(clip=clip).clipped_sum(np.zeros((1, 3)))


def test_any_one_record_moves_the_sum_by_less_than_the_sensitivity() -> None:
    form = noised(dimension=40, clip=2.5)
    rows = np.random.default_rng(0).normal(size=(60, 40)) * np.geomspace(0.01, 100, 60)[:, None]
    total = form.clipped_sum(rows)
    bound = float(form.plan(4).sensitivity) * 2.0**-form.fraction_bits
    for index in range(len(rows)):
        without = form.clipped_sum(np.delete(rows, index, axis=0))
        assert np.linalg.norm(total - without) <= bound


def test_the_noise_of_all_shares_has_the_variance_that_is_told() -> None:
    form = noised(dimension=20_000)
    zeros = form.clipped_sum(np.zeros((0, 20_000)))
    total = sum(form.add_noise(zeros, 5, os.urandom) for _ in range(4))  # one holder is lost
    told = form.variance(5, 4)
    assert abs(np.var(total) / told - 1) < 8 * (2 / 20_000) ** 0.5
    assert told == pytest.approx(4 * float(form.plan(5).share_variance) * 4.0**-form.fraction_bits)


def test_noised_sums_of_all_holders_fit_their_encoding() -> None:
    for n_holders in (2, 3, 1_000, 100_000):
        form = noised(known=1)
        encoding = form.encoding(n_holders)
        bound, bits = encoding.grid("noised") or (0, 0)
        assert bits == form.fraction_bits
        assert n_holders * round(bound * 2**bits) <= 2**63 - 1
        assert abs(form.add_noise(form.clipped_sum(np.ones((5, 3))), n_holders, os.urandom)).max() <= bound


def test_all_rounds_together_cost_what_was_asked() -> None:
    form = noised(rounds=25)
    assert epsilon_of([form.charge(10)] * 25, 1e-5) == pytest.approx(1.0, rel=1e-4)
    assert epsilon_of([form.charge(10)] * 25, 1e-5) <= 1.0


def test_what_was_not_clipped_is_not_released() -> None:
    form = noised()
    for total in (np.array([0.1, 0, 0]), np.zeros(4), np.full(3, np.nan)):
        with pytest.raises(PrivacyError):
            form.add_noise(total, 4, os.urandom)


def test_more_rows_than_fit_a_word_are_cut_and_not_told() -> None:
    """A refusal would tell, without noise, that there are so many."""
    form = noised()
    bound, bits = form.encoding(4).grid("noised") or (0, 0)
    for sign in (-1, 1):
        cut = form.add_noise(np.full(3, sign * 2.0**60), 4, os.urandom)
        assert (abs(cut) <= bound).all()
        assert (sign * cut > 0.9 * bound).all()
        assert (cut * 2**bits % 1 == 0).all()


def test_noise_that_holders_know_is_not_counted_over_rounds() -> None:
    with pytest.raises(PrivacyError, match="at least 1"):
        noised(rounds=2, known=0)


@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((2, 4)), np.array([[1.0, np.nan, 0.0]])])
def test_rows_of_another_form_or_not_finite_are_refused(rows: Any) -> None:
    with pytest.raises(PrivacyError):
        noised().clipped_sum(rows)


def test_without_sampling_everybody_takes_part_and_with_it_as_many_as_asked() -> None:
    assert noised().sample(7, os.urandom).all()
    words = np.linspace(0, 2**64 - 2**12, 1000, dtype=np.uint64)
    drawn = noised(sampling=0.25).sample(1000, lambda n: words.tobytes()[:n])
    assert drawn.sum() == 250


def test_as_many_holders_are_needed_as_the_noise_counts_on() -> None:
    assert noised(dropouts=2).needed(10) == 8
    assert noised().needed(10) == 10


def test_a_description_tells_the_guarantee_and_the_mechanism() -> None:
    text = noised(rounds=3, sampling=0.5).described(4)
    for part in ("ε = 1", "δ = 1e-05", "record", "discrete Gaussian", "clip 1", "3 releases", "p = 0.5"):
        assert part in text
