"""Pictures of fits: what is in them, and what is said when there can be none."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tacit.models.definition import Definition, State
from tacit.models.errors import ModelError
from tacit.models.fit import Fit
from tacit.models.network_fit import NetworkFit
from tacit.models.training import RoundRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALUES = [40.0, 31.5, 30.25]


@pytest.fixture(autouse=True)
def nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw in memory, and close what was drawn."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def fit(**changes: object) -> Fit:
    """Three parameters, of which the last has no variance."""
    states = tuple(State(n, np.zeros(3), value) for n, value in enumerate(VALUES))
    made = Fit(
        definition=Definition("MaximumLikelihood", {}),
        names=("a", "b", "c"),
        estimates=np.array([1.0, -2.0, 0.5]),
        covariance=np.diag([0.25, 4.0, math.nan]),
        llf=-30.25,
        nobs=40,
        iterations=2,
        n_passes=3,
        converged=True,
        states=states,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def network(records: tuple[RoundRecord, ...], best_round: int = 3) -> NetworkFit:
    return NetworkFit(
        definition=Definition("NeuralNetwork", {}),
        arrays={},
        loss=0.5,
        nobs=40,
        iterations=3,
        best_round=best_round,
        n_passes=5,
        records=records,
    )


ROUNDS = (
    RoundRecord(0, validation_loss=2.0, validation_accuracy=0.1),
    RoundRecord(1, 1.5, 1.25, 0.5, rows=40),
    RoundRecord(2, 1.0, 1.125, 0.75, rows=31),
    RoundRecord(3, 0.75, rows=31),
)


def intervals(figure: Figure) -> list[list[float]]:
    """The ends of the lines of a forest plot, by row."""
    segments = figure.axes[0].containers[0][2][0].get_segments()
    return [sorted(point[0] for point in segment) for segment in segments]


def labels(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_forest_has_the_intervals_of_the_fit() -> None:
    made = fit()
    figure = made.plot()
    assert labels(figure) == ["a", "b", "c"]
    np.testing.assert_allclose(intervals(figure)[:2], made.conf_int().to_numpy()[:2], rtol=1e-12)
    assert intervals(figure)[2] == [0.5, 0.5]  # no variance, no interval
    assert figure.axes[0].yaxis_inverted()


def test_parameters_and_level_can_be_chosen() -> None:
    made = fit()
    figure = made.plot(["b", "a"], alpha=0.5)
    assert labels(figure) == ["b", "a"]
    np.testing.assert_allclose(intervals(figure), made.conf_int(0.5).loc[["b", "a"]].to_numpy(), rtol=1e-12)
    with pytest.raises(ModelError, match="d is none of the parameters: a, b, c"):
        made.plot(["a", "d"])


def test_objective_is_drawn_by_iteration() -> None:
    (line,) = fit().plot().axes[1].lines
    assert np.asarray(line.get_xydata()).tolist() == [[n, value] for n, value in enumerate(VALUES)]


def test_objective_that_was_not_released_leaves_its_panel_out() -> None:
    states = (State(0, np.zeros(3), math.nan),)
    assert len(fit(states=states).plot().axes) == 1


def test_figure_can_be_saved(tmp_path: Path) -> None:
    fit().plot().savefig(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_network_has_losses_and_accuracy_by_round() -> None:
    losses, accuracy = network(ROUNDS).plot().axes
    drawn = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in losses.lines}
    assert drawn == {
        "training": [[1, 1.5], [2, 1.0], [3, 0.75]],
        "held out": [[0, 2.0], [1, 1.25], [2, 1.125]],
    }
    assert [np.asarray(line.get_ydata()).tolist() for line in accuracy.lines] == [[0.1, 0.5, 0.75]]


def test_round_that_was_chosen_is_marked_where_it_is_not_the_last() -> None:
    losses, _ = network(ROUNDS, best_round=2).plot().axes
    assert [line.get_label() for line in losses.lines] == ["training", "held out", "chosen"]


def test_network_without_validation_has_one_panel() -> None:
    records = tuple(RoundRecord(record.round, record.loss) for record in ROUNDS)
    (losses,) = network(records).plot().axes
    assert [line.get_label() for line in losses.lines] == ["training"]


def test_network_without_a_loss_cannot_be_drawn() -> None:
    with pytest.raises(ModelError, match="none was released"):
        network((RoundRecord(0), RoundRecord(1))).plot()


def test_missing_matplotlib_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tacit\[plot\]'"):
        fit().plot()


class Missing:
    """Finds that matplotlib is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("by_step", "expected"),
    [((3, 3, 2), [3, 3, 2]), ((0, 0, 3), [math.nan, math.nan, 3]), ((3, 3), [3, 3, math.nan])],
)
def test_history_tells_how_many_holders_were_there(by_step: tuple[int, ...], expected: list[float]) -> None:
    np.testing.assert_array_equal(fit(holders_by_step=by_step).history["holders"], expected)


@pytest.mark.parametrize("by_step", [(), (0, 0, 0)])
def test_history_has_no_column_for_holders_who_are_not_told(by_step: tuple[int, ...]) -> None:
    assert "holders" not in fit(holders_by_step=by_step).history


def test_network_s_history_has_its_rounds_and_holders() -> None:
    history = replace(network(ROUNDS), holders_by_step=(4, 4, 3, 3)).history
    assert history.columns.tolist() == [
        "round",
        "loss",
        "validation_loss",
        "validation_accuracy",
        "rows",
        "clipped",
        "holders",
    ]
    assert history["holders"].tolist() == [4, 4, 3, 3]


def test_holders_by_step_are_stored() -> None:
    made, net = fit(holders_by_step=(4, 3, 3)), replace(network(ROUNDS), holders_by_step=(4, 4, 3, 3))
    assert Fit.from_dict(made.to_dict()).holders_by_step == (4, 3, 3)
    assert NetworkFit.from_dict(net.to_dict()).holders_by_step == (4, 4, 3, 3)
