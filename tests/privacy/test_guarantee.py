"""A guarantee is checked when it is made, travels as plain data, and its plan keeps it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tacit.privacy.accounting import epsilon_of
from tacit.privacy.clipping import sum_of_rows
from tacit.privacy.discrete_gaussian import discrete_gaussian
from tacit.privacy.errors import PrivacyError
from tacit.privacy.guarantee import Privacy


@pytest.mark.parametrize(
    "privacy",
    [
        Privacy(1.0, 1e-5, clip=1.0),
        Privacy(4.8, 1e-4, clip=0.1, dropouts=2, known=3, sampling=0.01),
        Privacy(2, 1e-6, clip=3, unit="person", person="patient", adjacency="replace-one"),
        Privacy(2, 1e-6, clip=3, unit="holder"),
    ],
    ids=str,
)
def test_it_comes_back_from_json(privacy: Privacy) -> None:
    assert Privacy.from_dict(json.loads(json.dumps(privacy.to_dict()))) == privacy


@pytest.mark.parametrize("change", [{"more": 1}, {"clip": None}, {"unit": "row"}])
def test_what_is_no_guarantee_is_not_restored(change: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError):
        Privacy.from_dict({**Privacy(1.0, 1e-5, clip=1.0).to_dict(), **change})


def test_numbers_of_numpy_become_pythons_own() -> None:
    privacy = Privacy(np.float32(2.0), np.float64(1e-5), clip=np.int64(3), dropouts=np.int64(1))  # type: ignore[arg-type]
    assert [type(value) for value in (privacy.epsilon, privacy.clip, privacy.dropouts)] == [float, float, int]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epsilon": 0}, "epsilon 0"),
        ({"epsilon": float("nan")}, "epsilon nan"),
        ({"epsilon": float("inf")}, "epsilon inf"),
        ({"epsilon": True}, "epsilon True"),
        ({"epsilon": 10**400}, "epsilon 1000"),
        ({"epsilon": "1"}, "epsilon '1'"),
        ({"delta": 0.0}, "delta 0.0"),
        ({"delta": 1.0}, "delta 1.0"),
        ({"clip": 0.0}, "clip 0.0"),
        ({"clip": float("inf")}, "clip inf"),
        ({"unit": "row"}, "choose one of record, person, holder"),
        ({"adjacency": "swap"}, "choose one of add-or-remove, replace-one"),
        ({"dropouts": -1}, "dropouts -1"),
        ({"known": 1.5}, "known 1.5"),
        ({"sampling": 0.0}, "sampling 0.0"),
        ({"sampling": 1.1}, "sampling 1.1"),
        ({"unit": "person"}, "the column that says whose row"),
        ({"person": "patient"}, 'goes with unit="person"'),
        ({"unit": "holder", "sampling": 0.5}, "hides nothing"),
        ({"adjacency": "replace-one", "sampling": 0.5}, 'adjacency="add-or-remove" only'),
    ],
    ids=str,
)
def test_what_makes_no_guarantee_is_refused_when_it_is_made(change: dict[str, Any], told: str) -> None:
    with pytest.raises(PrivacyError, match=told):
        Privacy(**{"epsilon": 1.0, "delta": 1e-5, "clip": 1.0, **change})


@pytest.mark.parametrize("rounds", [1, 30])
@pytest.mark.parametrize(
    "privacy", [Privacy(2.0, 1e-5, clip=1.0), Privacy(0.5, 1e-6, clip=2.0, dropouts=3, known=2)], ids=str
)
def test_all_rounds_of_a_plan_cost_what_was_promised(privacy: Privacy, rounds: int) -> None:
    plan = privacy.noise_plan(n_holders=10, dimension=20, fraction_bits=24, rounds=rounds)
    spent = epsilon_of([privacy.charge(plan)] * rounds, privacy.delta)
    assert 0.9999 * privacy.epsilon < spent <= privacy.epsilon
    assert spent == epsilon_of([privacy.charge(plan, rounds)], privacy.delta)


def test_noised_contributions_sum_to_the_clipped_rows_and_the_noise_of_all_shares() -> None:
    generator = np.random.default_rng(4)
    privacy = Privacy(1.0, 1e-5, clip=1.0, dropouts=1)
    plan = privacy.noise_plan(n_holders=4, dimension=20_000, fraction_bits=16, rounds=10)
    rows = generator.normal(size=(4, 2, 20_000))
    clean = [sum_of_rows(own, privacy.clip, 16) for own in rows]
    noised = [own + discrete_gaussian(plan.share_variance, 20_000, generator.bytes) for own in clean]
    noise = np.sum(noised, axis=0) - np.sum(clean, axis=0)
    assert noise.var() == pytest.approx(4 * float(plan.share_variance), rel=0.05)
    assert np.abs(noise).max() < plan.reach


def test_replacing_a_unit_takes_twice_the_noise() -> None:
    plans = [
        Privacy(1.0, 1e-5, clip=1.0, adjacency=adjacency).noise_plan(
            n_holders=5, dimension=4, fraction_bits=20, rounds=1
        )
        for adjacency in ("add-or-remove", "replace-one")
    ]
    assert float(plans[1].share_variance / plans[0].share_variance) == pytest.approx(4)


def test_an_error_does_not_hide_that_the_grid_is_too_coarse() -> None:
    with pytest.raises(PrivacyError, match="fraction bits"):
        Privacy(8.0, 1e-5, clip=1.0).noise_plan(n_holders=20, dimension=4, fraction_bits=1, rounds=1)
