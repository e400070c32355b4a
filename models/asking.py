"""A model as it is asked for: with its covariance, and under privacy."""

from __future__ import annotations

from typing import Any

from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from .errors import ModelError


def as_asked(model: Any, privacy: Privacy | None, cov_type: str) -> Any:
    """Return a model with the covariance and under the privacy that are asked for.

    Raises
    ------
    ModelError, PrivacyError
        If there is none such.
    """
    model = _with_cov_type(model, cov_type)
    return model if privacy is None else _with_privacy(model, privacy)


def _with_cov_type(model: Any, cov_type: str) -> Any:
    """Return the model with another covariance than its own, where one is asked for."""
    if cov_type == "nonrobust":
        return model
    if not hasattr(model, "with_cov_type"):
        raise ModelError(f"a {type(model).__name__} has no covariance {cov_type!r}: leave cov_type out")
    return model.with_cov_type(cov_type)


def _with_privacy(model: Any, privacy: Privacy) -> Any:
    """Return the model under privacy, if there is such a thing."""
    if not hasattr(model, "with_privacy"):
        raise PrivacyError(
            f"there is no {type(model).__name__} under privacy: take GLM, OLS or NeuralNetwork"
        )
    return model.with_privacy(privacy)
