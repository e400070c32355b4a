"""A trained network: its weights as arrays, what each round measured, and under which protocol it came about.

It holds no row of any holder. `to_dict` gives JSON-able data that `from_dict` restores bit by bit; the architecture is
code and does not travel with it: `with_module` attaches it again, and refuses another one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .definition import Definition
from .errors import ModelError
from .neural_network_local import load_arrays, outputs_of
from .neural_network_module import Layout, Module, describe, working_alone
from .neural_network_rows import FrameColumns, inputs_of
from .plotting import plot_of_network
from .stepwise import Stepwise
from .summary import Summary
from .training import RoundRecord, array_from_dict, array_to_dict, record_from_dict, record_to_dict

if TYPE_CHECKING:
    import pandas as pd

    from .plotting import Figure

_WIDTH = 78


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NetworkFit(Stepwise):
    """A network trained over all holders' rows.

    Attributes
    ----------
    definition : Definition
        What was trained, and how.
    arrays : mapping of str to ndarray
        The network's state dict.
    loss, accuracy : float
        Of the network over the rows that it was trained on; NaN where the loss knows no hits, and under privacy.
    validation_loss, validation_accuracy : float
        Over the rows held out; NaN if there are none.
    nobs : int
        Rows that it was trained on, of all holders together. Under privacy a noised count of records or persons, or
        the number of holders.
    iterations : int
        Rounds.
    best_round : int
        The round whose network this is: the last one, unless `early_stop` took an earlier one.
    n_passes : int
        Secure sums.
    records : tuple of RoundRecord
        What each round measured; `history` shows them as a table.
    module : torch.nn.Module or None
        The architecture, for predictions; None after `from_dict`.
    holders_by_step, warnings, protocol, holders, survivors, digits, privacy, trust
        As of `Stepwise`.
    """

    definition: Definition
    arrays: Mapping[str, NDArray[Any]]
    loss: float
    nobs: int
    iterations: int
    best_round: int
    n_passes: int
    accuracy: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    records: tuple[RoundRecord, ...] = ()
    module: Module | None = field(default=None, compare=False)

    @property
    def n_parameters(self) -> int:
        """Numbers that were trained."""
        shapes = {name: shape for name, _, shape in self.definition.parameters["module"]["tensors"]}
        return sum(math.prod(shapes[name]) for name in self.definition.parameters["module"]["trained"])

    @property
    def history(self) -> pd.DataFrame:
        """One row for each round, the start first: the losses, the accuracy, rows, and values clipped.

        The column ``holders`` tells how many are in the sum of the round, if that is known.
        """
        import pandas as pd  # noqa: PLC0415

        history = pd.DataFrame([asdict(record) for record in self.records])
        return self._with_holders(history, [record.round for record in self.records])

    def plot(self) -> Figure:
        """Draw the losses by round, in training and over the rows held out, and the accuracy where there is one.

        Returns
        -------
        matplotlib.figure.Figure
            To be saved with its `savefig`, or shown with ``matplotlib.pyplot.show()``; nothing is shown here.

        Raises
        ------
        ModelError
            If no round was measured, as under privacy.
        ModuleNotFoundError
            If matplotlib, the extra ``tacit[plot]``, is not installed.
        """
        return plot_of_network(self)

    # Predictions.

    def network(self) -> Module:
        """Return the trained network, a copy, in evaluation mode.

        Raises
        ------
        ModelError
            If the architecture is not attached.
        """
        if self.module is None:
            raise ModelError("the architecture does not travel with a saved fit: use fit.with_module(module)")
        network = copy.deepcopy(self.module)
        load_arrays(network, self.arrays)
        return network.eval()

    def with_module(self, module: Module) -> NetworkFit:
        """Return the same fit with the architecture attached; the module's own weights do not matter.

        Raises
        ------
        ModelError
            If it is not the architecture that was trained.
        """
        found, trained = describe(module), self.definition.parameters["module"]
        different = [name for name in trained if name != "state" and found[name] != trained[name]]
        if different:
            raise ModelError(f"the module is not the one that was trained: other {', '.join(different)}")
        return replace(self, module=module)

    def outputs(self, rows: Any) -> NDArray[Any]:
        """Return the network's outputs as they are, for X or a data frame; for classes these are logits."""
        network, stated = self.network(), self.definition.parameters
        columns = FrameColumns(stated["target"], stated["features"] and tuple(stated["features"]))
        with working_alone(0):
            return outputs_of(network, inputs_of(rows, columns, Layout.of(network).dtype))

    def predict(self, rows: Any) -> NDArray[Any]:
        """Return predictions: numbers of classes, 0 or 1 for "bce_with_logits", else the outputs.

        Parameters
        ----------
        rows : X or DataFrame
            As the holders have them; a data frame may lack the target.

        Returns
        -------
        ndarray
            One entry a row; an output of shape (n, 1) as (n,).
        """
        outputs, loss = self.outputs(rows), self.definition.parameters["loss"]
        if loss in ("cross_entropy", "nll"):
            return np.asarray(outputs.argmax(axis=1))
        values = (outputs > 0).astype(np.int64) if loss == "bce_with_logits" else outputs
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values

    # Storage.

    def to_dict(self) -> dict[str, Any]:
        """Return the fit without its module as JSON-able data; `from_dict` restores the same bits."""
        content = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "module"}
        content["definition"] = {"kind": self.definition.kind, "parameters": self.definition.parameters}
        content["arrays"] = {name: array_to_dict(array) for name, array in self.arrays.items()}
        content["records"] = [record_to_dict(record) for record in self.records]
        for name in _MEASURED:
            content[name] = None if math.isnan(content[name]) else content[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> NetworkFit:
        """Restore a fit from `to_dict`; `with_module` makes it predict.

        Raises
        ------
        ModelError
            If fields are missing or unknown.
        """
        try:
            values: dict[str, Any] = {
                **{
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in content.items()
                },
                **{name: math.nan for name in _MEASURED if content[name] is None},
                "definition": Definition(content["definition"]["kind"], content["definition"]["parameters"]),
                "arrays": {name: array_from_dict(array) for name, array in content["arrays"].items()},
                "records": tuple(record_from_dict(record) for record in content["records"]),
            }
            return cls(**values)
        except (TypeError, KeyError, ValueError) as error:
            raise ModelError(f"this is no saved fit of this version: {error}") from None

    def __repr__(self) -> str:
        return (
            f"<NetworkFit: {self.n_parameters:,} parameters, round {self.best_round}, loss={self.loss:.6g}>"
        )

    def summary(self) -> Summary:
        """Return what was trained and how well it does, then provenance and warnings."""
        line = "=" * _WIDTH
        title = "Neural network".center(_WIDTH).rstrip()
        parts = [title, line, *self._head(), line, *self._provenance()]
        return Summary("\n".join([*parts, *(f"Warning: {warning}" for warning in self.warnings)]))

    def _head(self) -> list[str]:
        stated = self.definition.parameters
        loss, batch = stated["loss"], stated["batch_size"]
        left = [
            ("Parameters:", f"{self.n_parameters:,}"),
            ("Loss:", loss if isinstance(loss, str) else str(loss["name"]).rpartition(".")[2]),
            ("Aggregation:", stated["aggregation"]),
            ("Server optimizer:", stated["server_optimizer"]["name"]),
            ("Local epochs, batch:", f"{stated['local_epochs']}, {batch or 'all rows'}"),
            (self._counted, f"{self.nobs:,}"),
        ]
        right = [
            ("Rounds:", f"{self.iterations}, best {self.best_round}"),
            ("Passes:", f"{self.n_passes}"),
            ("Training loss:", _or_dash(self.loss)),
            ("Training accuracy:", _percent(self.accuracy)),
            ("Held-out loss:", _or_dash(self.validation_loss)),
            ("Held-out accuracy:", _percent(self.validation_accuracy)),
        ]
        return [
            f"{a}{b:>{38 - len(a)}}  {c}{d:>{38 - len(c)}}"
            for (a, b), (c, d) in zip(left, right, strict=True)
        ]

    @property
    def _counted(self) -> str:
        """What `nobs` counts."""
        privacy = self.definition.parameters.get("privacy")
        return "No. Observations:" if privacy is None else _COUNTED[privacy["unit"]]

    def _provenance(self) -> list[str]:
        lost = [name for name in self.holders if name not in self.survivors]
        survivors = f"{len(self.survivors)} of {len(self.holders)}" + (
            f", lost {', '.join(lost)}" if lost else ""
        )
        entries = [
            ("Protocol", self.protocol),
            ("Holders", ", ".join(self.holders)),
            ("Survivors", survivors if self.survivors else None),
            ("Digits", self.digits),
            ("Privacy", self.privacy),
            ("Trust", self.trust),
        ]
        return [f"{name + ':':<11}{value}" for name, value in entries if value]


_COUNTED = {
    "record": "No. Records (noised):",
    "person": "No. Persons (noised):",
    "holder": "No. Holders:",
}
_MEASURED = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.2%}"


def _or_dash(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6g}"
