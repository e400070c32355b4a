"""Pictures of fits, with matplotlib, which is loaded when somebody asks for one.

Everything shown is in the fit: released sums and what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import ModelError

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

    from .fit import Fit
    from .network_fit import NetworkFit

    Figure: TypeAlias = matplotlib.figure.Figure

_PANEL_WIDTH = 5.0  # inches
_ROW_HEIGHT = 0.35
_HEIGHT = 3.5


def plot_of_fit(fit: Fit, names: Sequence[str] | None, alpha: float) -> Figure:
    """Return estimates with their intervals and, where it is known, the objective by iteration.

    Parameters
    ----------
    fit : Fit
    names : sequence of str, optional
        Which parameters; by default all.
    alpha : float
        Intervals are at level 1 - alpha.

    Raises
    ------
    ModelError
        If a parameter is not one of the fit's.
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    chosen = list(fit.names if names is None else names)
    if unknown := [name for name in chosen if name not in fit.names]:
        raise ModelError(f"{', '.join(unknown)} is none of the parameters: {', '.join(fit.names)}")
    steps = [(state.iteration, state.value) for state in fit.states if np.isfinite(state.value)]
    figure, axes = _panels(2 if steps else 1, max(_HEIGHT, 1.5 + _ROW_HEIGHT * len(chosen)))
    _draw_estimates(axes[0], fit, chosen, alpha)
    if steps:
        _draw_by_step(axes[1], "iteration", "objective", {"": steps})
    return figure


def plot_of_network(fit: NetworkFit) -> Figure:
    """Return the losses by round and, where there are some, accuracies.

    Raises
    ------
    ModelError
        If no round was measured, as under privacy.
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    series = {
        name: [(record.round, value) for record in fit.records if np.isfinite(value := getattr(record, name))]
        for name in ("loss", "validation_loss", "validation_accuracy")
    }
    losses = {"training": series["loss"], "held out": series["validation_loss"]}
    if not any(losses.values()):
        raise ModelError("there is no loss to plot: none was released")
    accuracies = {"held out": series["validation_accuracy"]}
    panels = [("loss", losses), *([("accuracy", accuracies)] if any(accuracies.values()) else [])]
    figure, axes = _panels(len(panels), _HEIGHT)
    for ax, (label, lines) in zip(axes, panels, strict=True):
        _draw_by_step(ax, "round", label, lines)
        if fit.best_round != fit.iterations:
            ax.axvline(fit.best_round, color="0.5", linestyle=":", label="chosen")
        ax.legend()
    return figure


def _panels(number: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of pyplot's, with panels side by side."""
    try:
        from matplotlib import pyplot  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ModuleNotFoundError(
            "plot() takes matplotlib: pip install 'tacit[plot]'", name="matplotlib"
        ) from None
    figure, axes = pyplot.subplots(
        1, number, figsize=(_PANEL_WIDTH * number, height), squeeze=False, layout="constrained"
    )
    return figure, list(axes[0])


def _draw_estimates(ax: Axes, fit: Fit, chosen: Sequence[str], alpha: float) -> None:
    """Draw a forest plot: a line for each parameter, the first on top; one without a variance is a point."""
    places = [fit.names.index(name) for name in chosen]
    estimates, intervals = fit.estimates[places], fit.intervals(alpha)[places]
    margins = np.nan_to_num(np.abs(intervals.T - estimates))
    rows = np.arange(len(chosen))
    ax.errorbar(estimates, rows, xerr=margins, fmt="o", capsize=3)
    ax.axvline(0.0, color="0.5", linestyle=":")
    ax.set_yticks(rows, chosen)
    ax.set_ylim(len(chosen) - 0.5, -0.5)
    ax.set_xlabel(f"estimate and {100 * (1 - alpha):.4g} % interval")


def _draw_by_step(ax: Axes, step: str, label: str, lines: dict[str, list[tuple[int, Any]]]) -> None:
    """Draw values by the number of the step."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - an extra

    for name, points in lines.items():
        if points:
            ax.plot(*zip(*points, strict=True), marker=".", label=name)
    ax.set_xlabel(step)
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
