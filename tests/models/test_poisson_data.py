"""The demonstration's counts are the ancestor's, and holders import little."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tacit.models.poisson import poisson_nll, poisson_sites


def test_the_counts_are_those_of_the_vignette(poisson_reference: dict[str, Any]) -> None:
    sites = poisson_sites()
    assert list(sites) == ["site-1", "site-2", "site-3"]
    assert [len(counts) for counts in sites.values()] == [20, 7, 13]
    assert [counts.tolist() for counts in sites.values()] == list(poisson_reference["sites"].values())
    assert all(counts.dtype == np.int64 for counts in sites.values())


def test_the_likelihood_is_the_vignettes(poisson_reference: dict[str, Any]) -> None:
    value = poisson_nll(np.array([5.0]), poisson_reference["y"])
    assert value == pytest.approx(poisson_reference["stats4_mle"]["trace_nll"][0], rel=1e-14)


def test_no_counts_give_zero() -> None:
    assert poisson_nll(np.array([5.0]), []) == 0.0


def test_a_holder_does_not_import_what_takes_long() -> None:
    code = "import sys; from tacit.models import fit, likelihood, poisson, sum; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pandas", "scipy.stats", "statsmodels", "scipy.optimize", "ray"}.isdisjoint(run.stdout.split())
