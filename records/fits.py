"""Fits from what is stored of them, by the kind of their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models.errors import ModelError

NETWORK = "NeuralNetwork"


def restored_fit(content: Mapping[str, Any]) -> Any:
    """Return the fit that `to_dict` has made data of.

    Parameters
    ----------
    content : mapping

    Returns
    -------
    Fit or NetworkFit

    Raises
    ------
    ModelError
        If it is no saved fit.
    """
    definition = content.get("definition")
    if isinstance(definition, Mapping) and definition.get("kind") == NETWORK:
        from ..models.network_fit import NetworkFit  # noqa: PLC0415 - torch is slow to import, and may be missing

        return NetworkFit.from_dict(content)
    from ..models.fit import Fit  # noqa: PLC0415 - as are statistics

    return Fit.from_dict(content)


def predicted(content: Mapping[str, Any], rows: Any, module: Any = None) -> Any:
    """Return what a stored fit predicts for rows, as its own `predict` does.

    Parameters
    ----------
    content : mapping
    rows : any
        As the fit takes them.
    module : torch.nn.Module, optional
        The architecture of a network, which is code and not stored.

    Raises
    ------
    ModelError
        If the fit predicts no rows, or the module is not the one that was trained, or missing.
    """
    fit = restored_fit(content)
    if module is None:
        return fit.predict(rows)
    if not hasattr(fit, "with_module"):
        raise ModelError(f"a {type(fit).__name__} has no module: leave it out")
    return fit.with_module(module).predict(rows)
