"""What all holders agree on before they compute columns, and the columns that follow from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .columns import Frame, Numbers, Texts, as_levels
from .design_rows import DesignRows, response_of
from .errors import DataError, ModelError
from .expression import Expression, Scope, TransformCall
from .formula import Factor, Formula, expression
from .formula_functions import is_missing
from .level_table import Level
from .transforms import State

Missing: TypeAlias = Literal["drop", "raise"]

MOST_COLUMNS = 4096  # their products fill a message of 67 MB


@dataclass(frozen=True, eq=False)
class Schema:
    """A formula with all that the data of all holders decide in it.

    Attributes
    ----------
    formula : Formula
        The formula.
    offset, weights : str or None
        Expressions besides it.
    missing : {"drop", "raise"}
        What is done with rows that lack a value.
    levels : mapping of str to sequence of Level
        The levels of each categorical factor, in order; a factor without is numerical.
    states : mapping of str to State
        The states of the transforms.
    """

    formula: Formula
    offset: str | None = None
    weights: str | None = None
    missing: Missing = "drop"
    levels: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)

    # As data.

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as JSON-able data."""
        return {
            "formula": self.formula.text,
            "offset": self.offset,
            "weights": self.weights,
            "missing": self.missing,
            "levels": {name: list(values) for name, values in self.levels.items()},
            "states": {name: dict(state) for name, state in self.states.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Schema:
        """Restore a schema from `to_dict`; ModelError if its formula is none or has other transforms."""
        schema = cls(**{**content, "formula": Formula(content["formula"])})
        if set(schema.states) != set(schema.transforms):
            raise ModelError("the states of a schema are not those of its transforms")
        return schema

    # What it is made of.

    @property
    def factors(self) -> list[Factor]:
        """The factors of the right-hand side."""
        return list(self.formula.factors.values())

    @property
    def offsets(self) -> list[Expression]:
        """All offsets, of the formula and besides it."""
        return [*self.formula.offsets, *(expression(text) for text in [self.offset] if text is not None)]

    @property
    def prior_weights(self) -> Expression | None:
        """The weights, if there are any."""
        return None if self.weights is None else expression(self.weights)

    @property
    def besides(self) -> list[Expression]:
        """What is computed besides the columns: response, offsets, weights."""
        return [*self.formula.response, *self.offsets, *filter(None, [self.prior_weights])]

    @property
    def transforms(self) -> Mapping[str, TransformCall]:
        """All transforms by their texts, inner ones first."""
        parts = [*(factor.expression for factor in self.factors), *self.besides]
        return {key: call for part in parts for key, call in part.transforms.items()}

    @property
    def columns_read(self) -> frozenset[str]:
        """All that it reads of the rows."""
        parts = [*(factor.expression for factor in self.factors), *self.besides]
        return frozenset[str]().union(*(part.columns for part in parts))

    # At a holder.

    def complete(self, frame: Frame) -> Frame:
        """Return the rows with a value of everything that the design needs."""
        return frame.where(self._present(frame, self.besides))

    def rows(self, frame: Frame) -> tuple[tuple[str, ...], DesignRows]:
        """Return the names of the columns, and the rows without missing values.

        Raises
        ------
        DataError
            If the rows cannot be used.
        """
        complete = self.complete(frame)
        scope = Scope(complete, self.states)
        names, x = self.matrix(complete)
        y, n_trials = response_of([part.numbers(scope) for part in self.formula.response])
        prior = self.prior_weights
        weights = np.ones(len(complete)) if prior is None else prior.numbers(scope)
        n_missing = len(frame) - len(complete)
        rows = DesignRows(x, y, n_trials, weights, self.offset_of(complete), n_missing).without_missing()
        if self.missing == "raise" and rows.n_missing:
            raise DataError("some rows lack a value: complete them, or leave them out by missing='drop'")
        rows.check(names)
        return names, rows

    def columns(self, frame: Frame) -> tuple[tuple[str, ...], Numbers]:
        """Return names and columns alone; a row with a missing value is a row of NaN."""
        present = self._present(frame, [])
        names, found = self.matrix(frame.where(present))
        columns = np.full((len(frame), len(names)), np.nan)
        columns[present] = found
        return names, columns

    def offset_of(self, frame: Frame) -> Numbers:
        """Return the sum of all offsets, shape (n,)."""
        scope = Scope(frame, self.states)
        return sum((part.numbers(scope) for part in self.offsets), start=np.zeros(len(frame)))

    def matrix(self, frame: Frame) -> tuple[tuple[str, ...], Numbers]:
        """Return names and columns of rows without missing values."""
        from .design_matrix import categorical, design_matrix, numerical  # noqa: PLC0415  # imports formulaic

        scope = Scope(frame, self.states)
        values, widths = {}, {}
        for factor in self.factors:
            if factor.text in self.levels:
                agreed = self.levels[factor.text]
                widths[factor.text] = len(agreed)
                codes = _codes(self._levels(factor, scope), agreed, factor.text)
                values[factor.text] = categorical(codes, agreed, factor.contrasts)
            elif factor.expression.several_columns:
                columns = factor.expression.value(scope)
                widths[factor.text] = columns.shape[1] if hasattr(columns, "shape") else len(columns)
                values[factor.text] = numerical(columns)
            else:
                values[factor.text] = numerical(factor.expression.numbers(scope))
        self._check_width(widths)
        return design_matrix(self.formula.terms, values, len(frame))

    def _check_width(self, widths: Mapping[str, int]) -> None:
        """Check that there is room for the columns: six factors of 30 would be 700 million."""
        most = sum(
            math.prod(widths.get(factor.expr, 1) for factor in term.factors) for term in self.formula.terms
        )
        if most > MOST_COLUMNS:
            raise ModelError(f"the formula makes {most} columns, and {MOST_COLUMNS} are allowed")

    def values(self, factor: Factor, frame: Frame) -> Numbers | Texts:
        """Return a factor's values without transforms: levels if it is categorical, or these rows have text.

        Raises
        ------
        DataError
            If it is text where numbers are needed.
        """
        scope = Scope(frame)
        if factor.kind == "levels" or factor.text in self.levels:
            return self._levels(factor, scope)
        if factor.expression.column is not None:
            return frame.column(factor.expression.column)
        return factor.expression.numbers(scope)

    def _levels(self, factor: Factor, scope: Scope) -> Texts:
        name = factor.expression.column
        if name is not None:
            return scope.frame.levels(name)
        numbers = factor.expression.numbers(scope)
        return as_levels(numbers, factor.text, boolean=factor.expression.boolean)

    def _present(self, frame: Frame, besides: Sequence[Expression]) -> NDArray[np.bool_]:
        scope = Scope(frame)
        values = [self.values(factor, frame) for factor in self.factors]
        values += [part.numbers(scope) for part in besides]
        missing = [is_missing(value) for value in values]
        return ~np.any(missing, axis=0) if missing else np.ones(len(frame), dtype=np.bool_)


def _codes(found: Texts, agreed: Sequence[Level], text: str) -> NDArray[np.intp]:
    index = {level: position for position, level in enumerate(agreed)}
    codes = np.array([index.get(level, -1) for level in found], dtype=np.intp)
    if (codes < 0).any():
        raise DataError(f"{text!r} has a level in these rows that is none of those declared or agreed on")
    return codes


def encoded(content: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Return JSON-able data as an array of its bytes, which a query can hold; ModelError if a number is infinite."""
    try:
        text = json.dumps(content, allow_nan=False)
    except ValueError:
        raise ModelError("a design has a parameter that is no finite number") from None
    return np.frombuffer(text.encode(), dtype=np.uint8)


def decoded(array: NDArray[Any]) -> Any:
    """Return the data of `encoded`.

    Raises
    ------
    ModelError
        If the array holds none.
    """
    try:
        return json.loads(array.astype(np.uint8).tobytes())
    except ValueError:
        raise ModelError("a query holds no design") from None
