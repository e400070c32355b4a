"""What the regressions have in common: a formula, its design, the rows at a holder, robust covariances.

Who learns what: the coordinator the agreed design (see `design_agreement`), then sums over all holders at every trial
point; the holders the design and every trial point, which are functions of those sums.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..privacy.noised_sum import NoisedSum
from ..serialization.session_messages import ArraySpecification, Query
from .definition import Definition, State
from .design import Design
from .design_agreement import DesignAgreement
from .errors import DataError, EvaluationError, ModelError
from .families import Family
from .formula import Formula
from .parameters import Vector
from .regression_sums import Matrix, Rows, Standardisation, sandwich_sums, unpacked
from .total import Arrays, Total

COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster", "CR0")
ROWS_KEPT = 64  # holders in one process, each of which keeps its columns from one pass to the next


class Passes:
    """A `Total` that counts."""

    def __init__(self, total: Total) -> None:
        self._total = total
        self.n_passes = 0

    async def __call__(self, query: Query) -> Arrays:
        """Sum one query over all holders."""
        self.n_passes += 1
        return await self._total(query)


class RegressionModel:
    """A regression by a formula; its children say what is summed and how it is solved.

    Parameters
    ----------
    formula : str
    family : Family
    offset, weights : str, optional
        Columns, or expressions of them.
    levels : mapping of str to sequence, optional
        The levels of categorical factors, in order.
    missing : {"drop", "raise"}
    max_levels : int
        How many levels may be found in all factors together.
    """

    kind: ClassVar[str]
    noised: NoisedSum | None = None  # the form of its releases under privacy
    _iteration_passes: ClassVar[int]  # after the design, about

    def __init__(
        self,
        formula: str,
        family: Family,
        *,
        offset: str | None,
        weights: str | None,
        levels: Mapping[str, Sequence[Any]] | None,
        missing: Literal["drop", "raise"],
        max_levels: int,
    ) -> None:
        self.family = family
        self.agreement = DesignAgreement(
            Formula(formula),
            offset=offset,
            weights=weights,
            levels=levels,
            missing=missing,
            max_levels=max_levels,
        )
        self.cov_type = "nonrobust"
        self._forget()

    def with_cov_type(self, cov_type: str) -> Self:
        """Return the same model with other standard errors.

        Parameters
        ----------
        cov_type : str
            "nonrobust"; "HC0" to "HC3", robust to unequal variances; "cluster", robust to dependence within a
            holder, with statsmodels' correction for few holders, or "CR0", without it. All but the first take one
            pass more.

        Raises
        ------
        ModelError
            If it is none of these.
        """
        if cov_type not in COV_TYPES:
            raise ModelError(f"unknown cov_type {cov_type!r}: choose one of {', '.join(COV_TYPES)}")
        other = copy.copy(self)
        other.cov_type = cov_type
        other._forget()
        return other

    def _forget(self) -> None:
        self._design: Design | None = (
            None  # at the coordinator, for an iteration that goes on over fewer holders
        )
        self._rows: dict[int, tuple[Any, bytes, Rows]] = {}  # at holders, by the identity of their data

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what one run remembers: it holds rows."""
        return {**self.__dict__, "_design": None, "_rows": {}}

    # Before anything runs.

    @property
    def definition(self) -> Definition:
        """The formula with its terms of use, the family, and what the standard errors are."""
        return Definition(
            self.kind, {**self.agreement.parameters, **self._own_parameters(), "cov_type": self.cov_type}
        )

    def _own_parameters(self) -> dict[str, Any]:
        return {}

    @property
    def columns_read(self) -> frozenset[str]:
        """All that it reads of the rows."""
        person = None if self.noised is None else self.noised.privacy.person
        return self.agreement.schema.columns_read | {name for name in [person] if name is not None}

    @property
    def expected_passes(self) -> int:
        """About how many sums a fit takes."""
        return self.agreement.expected_passes + self._iteration_passes + (self.cov_type != "nonrobust")

    def specifications(self) -> tuple[ArraySpecification, ...]:
        """Return the arrays of the longest contribution; a term of unknown levels counts as one column."""
        candidates = (
            self.agreement.specifications(),
            self._own_specifications(self.agreement.expected_columns),
        )
        return max(candidates, key=lambda arrays: sum(int(np.prod(array.shape)) for array in arrays))

    def _own_specifications(self, n_columns: int) -> tuple[ArraySpecification, ...]:
        raise NotImplementedError

    # At a holder.

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return this holder's sums.

        Parameters
        ----------
        data : DataFrame
            This holder's rows.
        query : Query
            A step of the design's agreement, or one with an agreed ``design``.

        Raises
        ------
        ModelError
            If the query is none of this model's.
        DataError
            If the rows cannot be used; no value is named.
        """
        if query.step in DesignAgreement.STEPS:
            return self.agreement.contribution(data, query)
        if "design" not in query.arrays:
            raise self._foreign(query)
        rows = self._rows_of(data, query.arrays["design"])
        if query.step != "sandwich":
            return self._sums(rows, query)
        parameters = self._vector(query, "theta", rows, self.family.estimates_theta)
        return sandwich_sums(rows, self.family, parameters, self.cov_type, query.arrays.get("bread"))

    def _sums(self, rows: Rows, query: Query) -> Arrays:
        raise NotImplementedError

    def _foreign(self, query: Query) -> ModelError:
        return ModelError(f"the query {query.step!r} is none of this {self.kind}")

    def _vector(self, query: Query, name: str, rows: Rows, n_further: int = 0) -> Vector:
        """Return a query's parameters: as many as there are columns, and further ones."""
        vector = query.arrays.get(name)
        if vector is None or vector.shape != (rows.x.shape[1] + n_further,) or not np.isfinite(vector).all():
            raise self._foreign(query)
        return vector.astype(np.float64)

    def _rows_of(self, data: Any, design: NDArray[Any]) -> Rows:
        """Return the rows in the agreed design, computed once a run."""
        content = design.tobytes()
        kept = self._rows.get(id(data))
        if kept is not None and kept[0] is data and kept[1] == content:
            return kept[2]
        agreed = Design.from_array(design)
        own, asked = self.agreement.parameters, agreed.schema.to_dict()
        ours = all(asked[name] == own[name] for name in ("formula", "offset", "weights", "missing"))
        ours &= all(asked["levels"].get(name) == values for name, values in own["levels"].items())
        if not ours:
            raise ModelError(f"the query holds a design of another model than this {self.kind}")
        rows = rows_of(agreed, data, self.family)
        while len(self._rows) >= ROWS_KEPT:
            self._rows.pop(next(iter(self._rows)), None)
        self._rows[id(data)] = (data, content, rows)
        return rows

    # At the coordinator.

    async def _agreed_design(self, total: Total, start: State | None) -> Design:
        """Return the design; of a run that goes on, the one that it began with.

        To ask for it again over fewer holders would tell, by the difference, what the lost one put in.
        """
        if start is None or self._design is None:
            self._design = await copy.copy(self.agreement).agree(total)  # which counts its passes
        return self._design

    async def _robust(
        self, total: Total, arrays: Mapping[str, NDArray[Any]], bread: Matrix, nobs: int
    ) -> Matrix:
        """Return the sandwich, of standardised columns.

        Parameters
        ----------
        total : Total
        arrays : mapping
            The design, and the estimates as ``theta``.
        bread : ndarray, shape (p, p)
            The inverse expected information.
        nobs : int
        """
        leveraged = {"bread": bread} if self.cov_type in {"HC2", "HC3"} else {}
        try:
            sums = await total(Query("sandwich", {**arrays, **leveraged}, may_fail=True))
        except EvaluationError:
            raise ModelError(
                f"{self.cov_type} has no value: some row alone determines its own mean (its leverage is 1); "
                'take cov_type="HC1"'
            ) from None
        n_columns = len(bread)
        correction = 1.0
        if self.cov_type == "HC1":
            correction = _ratio(nobs, nobs - n_columns)
        if self.cov_type in {"cluster", "CR0"}:
            n_clusters = int(sums["clusters"])
            if n_clusters < 2:
                raise ModelError(f'cov_type="{self.cov_type}" needs at least two holders with rows')
            if self.cov_type == "cluster":
                correction = n_clusters / (n_clusters - 1) * _ratio(nobs - 1, nobs - n_columns)
        return correction * bread @ unpacked(sums["meat"]) @ bread


def _ratio(numerator: int, df_resid: int) -> float:
    """Return the correction by degrees of freedom; NaN where none is left, as for the nonrobust covariance."""
    return numerator / df_resid if df_resid else math.nan


def rows_of(design: Design, data: Any, family: Family) -> Rows:
    """Return a holder's rows of positive weight, in an agreed design.

    Raises
    ------
    ModelError
        If the response is counts among trials and the family is not binomial.
    DataError
        If a response is none of the family's.
    """
    found = design.rows(data)
    if found.n_trials is not None and not family.is_binomial:
        raise ModelError(f"counts of successes and failures go with a binomial family, not {family.name}")
    trials = found.weights if found.n_trials is None else found.n_trials
    weights = found.weights if found.n_trials is None else found.weights * found.n_trials
    kept = weights > 0
    x, y = np.ascontiguousarray(found.x[kept]), found.y[kept]
    if not family.are_responses(y).all():
        raise DataError(
            f"some response is none of the family {family.name}: it must be {family.allowed_responses}"
        )
    standardisation = standardisation_of(design)
    return Rows(
        x=x,
        z=standardisation.columns(x),
        y=y,
        weights=weights[kept],
        trials=trials[kept],
        offset=found.offset[kept],
        standardisation=standardisation,
        n_missing=found.n_missing,
    )


def standardisation_of(design: Design) -> Standardisation:
    """Return how a design's columns are centred and scaled."""
    intercept = design.names.index("Intercept") if design.has_intercept else None
    return Standardisation.of(design.column_means, design.column_scales, intercept)
