"""How holders come to a design: by secure sums, each of which tells the coordinator what it must know.

A level that some holder lacks is a column of zeros there. Everything that depends on rows, the levels of
text columns, the parameters of transforms, the means of the columns, reaches the coordinator as a sum.

Who learns what: the coordinator, and by the design everybody, the levels that some holder has (one of a
single row, too), the number of rows and of rows with missing values, the sums behind transforms, and sum and sum
of squares of each column.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..serialization.session_messages import ArraySpecification, Query
from .columns import Frame
from .design import Design
from .design_schema import MOST_COLUMNS, Missing, Schema, decoded, encoded
from .errors import ModelError
from .factor_levels import agreed_levels, all_declared_levels, check_lengths, keys_of
from .formula import Factor, Formula, expression
from .level_table import Key, Level, RandomBytes, table_of, table_shape, union_of
from .total import Arrays, Total
from .transform_sums import advanced, n_passes, transform_sums, waiting

_ATTEMPTS = range(4)  # of 3,000 full tables of 128 keys 5 did not peel, of 32 keys 71; another seed helps
_FIRST = 32  # levels that the first, smaller table holds: most designs have fewer


class DesignAgreement:
    """How holders come to a design: one pass for levels, if some factor may be text, one for means and counts.

    Centring and scaling within the formula take a pass or two more, polynomials one a degree.

    Parameters
    ----------
    formula : Formula
        The formula.
    offset, weights : str, optional
        Columns, or expressions of them.
    levels : mapping of str to sequence, optional
        Levels of categorical factors in order, the reference first; by default the order of the categories where the
        holders have pandas Categoricals that do not contradict each other, else sorted.
    missing : {"drop", "raise"}
        Whether rows that lack a value are left out and counted, or are an error.
    max_levels : int
        How many levels all factors may have together, those declared not counted.

    Raises
    ------
    ModelError
        If the parameters do not fit together.
    """

    STEPS = frozenset({"design_levels", "design_transforms", "design_columns"})

    def __init__(
        self,
        formula: Formula,
        *,
        offset: str | None = None,
        weights: str | None = None,
        levels: Mapping[str, Sequence[Any]] | None = None,
        missing: Missing = "drop",
        max_levels: int = 128,
    ) -> None:
        if missing not in {"drop", "raise"}:
            raise ModelError(f"missing is 'drop' or 'raise', not {missing!r}")
        if (
            isinstance(max_levels, bool)
            or not isinstance(max_levels, int)
            or not 1 <= max_levels <= MOST_COLUMNS
        ):
            raise ModelError(f"max_levels is a number from 1 to {MOST_COLUMNS}")
        for text in (offset, weights):
            if text is not None:
                expression(text)
        self.max_levels = max_levels
        self.schema = Schema(formula, offset, weights, missing, all_declared_levels(formula, levels or {}))
        self.n_passes = 0  # of the last `agree`

    @property
    def parameters(self) -> dict[str, Any]:
        """What belongs in a definition."""
        return {
            "formula": self.schema.formula.text,
            "offset": self.schema.offset,
            "weights": self.schema.weights,
            "levels": {name: list(values) for name, values in self.schema.levels.items()},
            "missing": self.schema.missing,
            "max_levels": self.max_levels,
        }

    @property
    def expected_passes(self) -> int:
        """How many sums `agree` takes, unless there are many levels."""
        return bool(self._open_factors) + n_passes(self.schema.transforms) + 1

    def specifications(self) -> tuple[ArraySpecification, ...]:
        """Return the arrays of the longest contribution; a term of unknown levels counts as one column."""
        if self._open_factors:
            shape = table_shape(self._capacity(_ATTEMPTS[-1]))
            return (ArraySpecification(name="levels", dtype="int64", shape=shape),)
        n_columns = self.expected_columns
        return (
            ArraySpecification(name="rows", dtype="int64", shape=(2,)),
            ArraySpecification(name="sums", dtype="float64", shape=(n_columns,)),
            ArraySpecification(name="squares", dtype="float64", shape=(n_columns,)),
        )

    @property
    def expected_columns(self) -> int:
        """How many columns the design has at least, as far as is known before anything runs."""
        return max(len(self.schema.formula.terms), 1)

    # At a holder.

    def contribution(self, data: Any, query: Query, random_bytes: RandomBytes = os.urandom) -> Arrays:
        """Return a holder's arrays for a step of the agreement.

        Parameters
        ----------
        data : DataFrame
            The holder's rows.
        query : Query
            One of `STEPS`.
        random_bytes : callable
            Hides how many holders have a level.

        Raises
        ------
        ModelError
            If the query is none of this agreement's.
        DataError
            If the rows cannot be used.
        """
        frame = Frame(data)
        if query.step == "design_levels":
            return {"levels": self._level_table(frame, self._attempt_of(query), random_bytes)}
        schema = self._schema_of(query)
        if query.step == "design_transforms":
            return {"sums": transform_sums(schema, frame)}
        _, rows = schema.rows(frame)
        return {
            "rows": np.array([len(rows.y), rows.n_missing], dtype=np.int64),
            "sums": rows.x.sum(axis=0),
            "squares": np.square(rows.x).sum(axis=0),
        }

    def _level_table(self, frame: Frame, attempt: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
        complete = self.schema.complete(frame)
        capacity = self._capacity(attempt)
        keys: list[Key] = []
        for number, factor in enumerate(self._open_factors):
            keys += keys_of(number, factor, complete, self.schema)
        keys = keys[: 4 * capacity]  # more than can be peeled: the coordinator sees that there are too many
        check_lengths(keys, self._open_factors)
        return table_of(keys, capacity, attempt, random_bytes)

    def _capacity(self, attempt: int) -> int:
        """Return how many keys a table holds; a column of numbers takes one too."""
        levels = min(self.max_levels, _FIRST) if attempt == 0 else self.max_levels
        return levels + len(self._open_factors)

    def _attempt_of(self, query: Query) -> int:
        attempt = query.arrays.get("attempt")
        if attempt is None or attempt.shape != () or attempt not in _ATTEMPTS:
            raise ModelError(f"the query {query.step!r} is none of this design")
        return int(attempt)

    def _schema_of(self, query: Query) -> Schema:
        """Return the schema that a query holds, if it is this one with more agreed."""
        own = self.schema.to_dict()
        try:
            schema = Schema.from_dict(decoded(query.arrays["schema"]))
            asked = schema.to_dict()
            ours = query.step == ("design_transforms" if waiting(schema) else "design_columns")
            ours &= all(asked[name] == own[name] for name in ("formula", "offset", "weights", "missing"))
            ours &= all(asked["levels"].get(name) == values for name, values in own["levels"].items())
        except (KeyError, TypeError, AttributeError, ValueError, IndexError):
            ours = False
        if not ours:
            raise ModelError(f"the query {query.step!r} is none of this design")
        return schema

    @property
    def _open_factors(self) -> list[Factor]:
        """The factors whose levels, or whether they have any, only the data tell."""
        return [
            factor
            for factor in self.schema.factors
            if factor.kind != "numbers" and factor.text not in self.schema.levels
        ]

    # At the coordinator.

    async def agree(self, total: Total) -> Design:
        """Return the design, awaiting nothing but sums.

        Raises
        ------
        ModelError
            If a factor is text at some holders and numbers at others, or has no value; if there are more levels
            than `max_levels`, or no rows without missing values.
        """
        self.n_passes = 0
        schema = await self._with_transforms(total, await self._with_levels(total))
        names = column_names(schema)
        arrays = await self._pass(total, Query("design_columns", {"schema": encoded(schema.to_dict())}))
        nobs, n_missing = arrays["rows"].tolist()
        if nobs == 0:
            raise ModelError("no holder has a row without missing values")
        means, scales = _moments(names, nobs, arrays["sums"], arrays["squares"])
        return Design(schema, names, nobs, n_missing, means, scales)

    async def _pass(self, total: Total, query: Query) -> Arrays:
        self.n_passes += 1
        return await total(query)

    async def _with_levels(self, total: Total) -> Schema:
        if not self._open_factors:
            return self.schema
        keys = await self._union_of_keys(total)
        levels: dict[str, Sequence[Level]] = {}
        for number, factor in enumerate(self._open_factors):
            found = agreed_levels(factor, [key for key in keys if key[0] == number])
            if found is not None:
                levels[factor.text] = found
        return replace(self.schema, levels={**self.schema.levels, **levels})

    async def _union_of_keys(self, total: Total) -> set[Key]:
        keys = None
        for attempt in _ATTEMPTS:
            query = Query("design_levels", {"attempt": np.array(attempt, dtype=np.int64)})
            keys = union_of((await self._pass(total, query))["levels"], attempt)
            if keys is not None:
                break
        if keys is None or len(keys) > self._capacity(_ATTEMPTS[-1]):
            raise ModelError(
                f"the factors have more than max_levels={self.max_levels} levels together: raise it, or declare them "
                'by levels={"name": [...]}'
            )
        return keys

    async def _with_transforms(self, total: Total, schema: Schema) -> Schema:
        initial = {key: call.transform.initial() for key, call in schema.transforms.items()}
        schema = replace(schema, states=initial)
        while waiting(schema):
            query = Query("design_transforms", {"schema": encoded(schema.to_dict())})
            schema = advanced(schema, (await self._pass(total, query))["sums"])
        return schema


def column_names(schema: Schema) -> tuple[str, ...]:
    """Return the names of the columns of a schema that leaves nothing open.

    Raises
    ------
    ModelError
        If it has none, or two of the same name.
    """
    names, _ = schema.matrix(Frame())
    if not names:
        raise ModelError(f"the formula {schema.formula.text!r} has no column")
    if len(set(names)) < len(names):
        raise ModelError(f"the formula {schema.formula.text!r} gives two columns the same name")
    return names


def _moments(
    names: Sequence[str], nobs: int, sums: NDArray[Any], squares: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column, (0, 1) of the intercept."""
    means, scales = np.zeros(len(names)), np.ones(len(names))
    for index, (total, square) in enumerate(zip(sums.tolist(), squares.tolist(), strict=True)):
        if names[index] == "Intercept":
            continue
        mean = total / nobs
        variance = square / nobs - mean * mean
        means[index] = mean
        if variance > 16 * np.finfo(np.float64).eps * mean * mean:  # else rounding is all there is
            scales[index] = math.sqrt(variance)
    return means, scales
