"""Networks under differential privacy: which trainings there can be, and what a holder releases in each round.

Records and persons are protected in single steps (aggregation "fedsgd"): each one's gradient is clipped, and the holder
releases the sum. Holders are protected in any round: a holder's whole change, or mean gradient, is clipped. All holders
then weigh the same, since rows are not counted. See `private_training` for the coordinator's side.

A row that the training cannot use, because of a missing or infinite value, a target that is none of the classes, or no
person, counts as absent: to refuse would tell, exactly and uncharged, that there is one. What is wrong with the data
whatever its rows (its columns, dtypes, shapes) is an error at the holder, as is a module or loss that fails at zeros.

Who learns what: the coordinator and the holders the noised sums, one a round and, for records and persons, one at the
start that counts them. Nothing else is released: no losses, hits, buffers, or counts of what was clipped.

References
----------
M. Abadi et al., CCS 2016 (DP-SGD); B. McMahan et al., ICLR 2018 (clipped changes of holders).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..privacy.clipping import numbers_of_persons
from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from ..privacy.noised_sum import NoisedSum
from .errors import ModelError
from .neural_network_holder import Holder, Task
from .neural_network_local import Loss
from .neural_network_module import Layout
from .neural_network_rows import FrameColumns, Rows, sound_rows_of
from .private_network_gradients import check_layers, check_on_zeros, clipped_gradients
from .private_training import one_unit
from .sum import persons_of
from .total import Arrays
from .training import Recipe
from .training_rounds import EVALUATE, START

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def noised_training(
    privacy: Privacy, recipe: Recipe, layout: Layout, columns: FrameColumns, module: torch.nn.Module
) -> NoisedSum:
    """Return the form of a training's releases: one a round, and one that counts, unless holders are the units.

    Raises
    ------
    PrivacyError
        If the guarantee and the training do not go together; the reason and a remedy are told.
    """
    _check_releases(recipe, layout)
    _check_columns(privacy, columns)
    if privacy.unit != "holder":
        _check_steps(privacy, recipe)
        check_layers(module)
    rounds = recipe.rounds + (privacy.unit != "holder")
    return NoisedSum(privacy=privacy, dimension=layout.n_parameters, rounds=rounds)


def _check_releases(recipe: Recipe, layout: Layout) -> None:
    """Refuse whatever would release more than noised changes."""
    if recipe.validation is not None:
        raise PrivacyError(
            "losses and hits of rows held out would be released too: leave out validation and early_stop, and evaluate "
            "the network on rows that are public"
        )
    if layout.buffers:
        names = ", ".join(name for name, _ in layout.buffers)
        raise PrivacyError(
            f"the module has buffers, {names}: statistics of rows would be released without noise. Use layers without "
            "(GroupNorm, LayerNorm), or register constants with persistent=False"
        )


def _check_columns(privacy: Privacy, columns: FrameColumns) -> None:
    """Refuse data frames whose columns are not declared: without a pass that compares them, nobody would notice."""
    if columns.target is not None and columns.features is None:
        raise PrivacyError(
            "under privacy the holders' columns are not compared: name them, features=[…] with target="
        )
    if privacy.person is not None and columns.target is None:
        raise PrivacyError(
            f"whose row it is stands in the column {privacy.person!r} of a data frame: give the network target= and "
            "features="
        )


def _check_steps(privacy: Privacy, recipe: Recipe) -> None:
    """Refuse rounds in which clipping rows bounds nothing, and samples that everybody knows."""
    if recipe.aggregation != "fedsgd":
        raise PrivacyError(
            f"over local steps clipping bounds nothing: what one {privacy.unit} changes in a step changes all steps "
            'after it. Choose aggregation="fedsgd", or unit="holder"'
        )
    if recipe.batch_size is not None:
        raise PrivacyError(
            "batch_size deals rows by a public seed, which hides nobody: leave it out, and draw them in secret by "
            "Privacy(sampling=…), which is the expected share of the rows in a round"
        )


@dataclass(frozen=True)
class PrivateHolder:
    """One holder at work on one task under privacy.

    Attributes
    ----------
    network : torch.nn.Module
        Its own copy, which carries the task's weights.
    layout : Layout
    loss : Loss
    recipe : Recipe
    columns : FrameColumns
    noised : NoisedSum
    task : Task
        "start" asks how many units there are, "round" for a step.
    """

    network: torch.nn.Module
    layout: Layout
    loss: Loss
    recipe: Recipe
    columns: FrameColumns
    noised: NoisedSum
    task: Task

    def answer(self, data: Any) -> Arrays:
        """Return the one array ``noised``, shape (p,): on the grid, and without the noise that is added to it.

        Raises
        ------
        ModelError
            If the query asks for what is not released under privacy.
        PrivacyError
            If the module or the loss cannot be evaluated row by row.
        DataError
            If the rows cannot be used.
        """
        by_holder = self.noised.privacy.unit == "holder"
        if self.task.step == EVALUATE or (by_holder and self.task.step == START):
            raise ModelError(f"the query {self.task.step!r} asks for what is not released under privacy")
        return {"noised": self._of_holder(data) if by_holder else self._of_units(data)}

    def _of_holder(self, data: Any) -> NDArray[np.float64]:
        """Return the change of a local training, or the mean gradient, clipped; zeros if none is finite."""
        rows, _ = self._sound_rows(data, self.layout.dtype)
        nothing = rows.take(np.arange(0))
        holder = Holder(self.network, self.layout, self.loss, self.recipe, rows, nothing, self.task)
        try:
            change, _ = holder.change()
        except Exception:  # the module and the loss are the user's, and at zeros they did not fail
            logger.warning("this holder counts as zeros in the round: its training failed", exc_info=True)
            change = np.zeros(self.noised.dimension)
        if not np.isfinite(change).all():
            change[:] = 0
        return self.noised.clipped_sum(change[None])

    def _of_units(self, data: Any) -> NDArray[np.float64]:
        """Return the units' clipped gradients, or how many there are, of those who take part in this round."""
        network = self.network.double()
        rows, sizes = self._rows_by_unit(data)
        taking_part = self.noised.sample(len(sizes), os.urandom)
        rows, sizes = rows.take(np.flatnonzero(np.repeat(taking_part, sizes))), sizes[taking_part]
        if self.task.step == START:
            return one_unit(self.noised) * len(sizes)
        return clipped_gradients(network, self.loss, rows, sizes, self.noised)

    def _rows_by_unit(self, data: Any) -> tuple[Rows, NDArray[np.int64]]:
        """Return the rows in double precision, unit by unit, and how many each unit has, from 1."""
        rows, places = self._sound_rows(data, np.dtype(np.float64))
        if self.noised.privacy.person is None:
            return rows, np.ones(len(rows), dtype=np.int64)
        persons = numbers_of_persons(persons_of(data, self.noised.privacy.person)[places])
        order = np.argsort(persons, kind="stable")[int((persons < 0).sum()) :]
        _, sizes = np.unique(persons[order], return_counts=True)
        return rows.take(order), sizes

    def _sound_rows(self, data: Any, dtype: np.dtype[Any]) -> tuple[Rows, NDArray[np.int64]]:
        """Return the rows that can be used and their places, once network and loss have been tried on zeros."""
        rows, places = sound_rows_of(data, self.columns, dtype, self.loss.targets)
        outputs = check_on_zeros(self.network, self.loss, rows, by_row=self.noised.privacy.unit != "holder")
        if self.loss.targets != "classes" or rows.targets.is_floating_point():
            return rows, places
        are_classes = (rows.targets >= 0) & (rows.targets < outputs.shape[1])
        sound = np.flatnonzero(are_classes.flatten(1).all(dim=1) if are_classes.ndim > 1 else are_classes)
        return rows.take(sound), places[sound]
