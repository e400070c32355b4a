"""What regressions under differential privacy have in common: one noised vector a round, and nothing else.

Every unit (a record, or all records of a person) puts in one row of numbers, made of its columns and response; the
rows are clipped, added up and noised by `NoisedSum`. There is no pass for levels, means, counts, likelihoods or an
early stop: the design follows from what is declared, the number of rounds is fixed beforehand.

Who learns what: the coordinator, and by the rounds everybody, the noised sums and what follows from them.

A unit whose row is longer than the clip counts with less weight, and nobody learns how many do. The clip is in the
units of the columns: centre and scale them by constants within the formula, ``"I((mpg - 20) / 6) ~ I(wt - 3)"``, so
that most are around 1 in size. Of a person all rows together are clipped; that they may depend on each other enters
neither the estimates nor the standard errors.

Rows that break what is declared, by another level, an infinite value or a response of another family, or that name no
person, count as absent, and so do persons with such a sum: a refusal would tell, without noise, that there is one. What
is wrong with a column whatever its rows (its name, its dtype) is an error at the holder.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import numpy as np

from ..privacy.clipping import rows_by_unit
from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from ..privacy.noised_sum import NoisedSum
from ..serialization.session_messages import ArraySpecification, Query
from .columns import Frame, Objects
from .definition import Definition
from .errors import DataError, ModelError
from .noised_matrices import Inverse
from .private_design import check_numbers, declared_design
from .regression_model import ROWS_KEPT, RegressionModel, rows_of
from .regression_sums import Matrix, Rows
from .total import Arrays

COV_TYPE = "nonrobust + noise"
NUMBERS_AT_ONCE = 2**20
_CLEAR = 5.0  # standard deviations of noise


class _Units(NamedTuple):
    """A holder's rows, and whose they are if persons are the units."""

    rows: Rows
    persons: Objects | None


class PrivateRegression(RegressionModel):
    """A regression under privacy; its children say what a row contributes and how the sums are solved."""

    step: ClassVar[str]  # of its queries
    noised: NoisedSum

    def _protect(self, privacy: Privacy, rounds: int) -> None:
        """Check that the guarantee can be given, and fix the form of the releases.

        Raises
        ------
        PrivacyError
            If it cannot.
        """
        if privacy.unit == "holder":
            raise PrivacyError(
                "a regression cannot hide a whole holder: all its rows together would count as little as one; take "
                'unit="record" or unit="person"'
            )
        if privacy.sampling < 1:
            raise PrivacyError(
                "a regression under privacy takes all rows in each round, for its standard errors are of all rows: "
                "leave out sampling"
            )
        self.design = declared_design(self.agreement)
        self.noised = NoisedSum(privacy=privacy, dimension=self._dimension, rounds=rounds)

    def with_cov_type(self, cov_type: str) -> Self:
        """Return this model: its standard errors are those of the model and the noise.

        Raises
        ------
        PrivacyError
            If they should be others than "nonrobust".
        """
        if cov_type != "nonrobust":
            refuse_cov_type(cov_type)
        return self

    def _forget(self) -> None:
        super()._forget()
        self._units: dict[int, tuple[Any, _Units]] = {}  # at holders, by the identity of their data

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what one run remembers: it holds rows."""
        return {**super().__getstate__(), "_units": {}}

    # Before anything runs.

    @property
    def definition(self) -> Definition:
        """The formula with its terms of use, the family, and the guarantee."""
        plain = super().definition
        return Definition(plain.kind, {**plain.parameters, "privacy": self.noised.to_dict()})

    @property
    def expected_passes(self) -> int:
        """The rounds: neither more nor fewer, unless a holder is lost."""
        return self.noised.rounds

    def specifications(self) -> tuple[ArraySpecification, ...]:
        """Return the one array of every round."""
        return (ArraySpecification(name="noised", dtype="float64", shape=(self.noised.dimension,)),)

    @property
    def _dimension(self) -> int:
        """How many numbers a row contributes."""
        raise NotImplementedError

    # At a holder.

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return this holder's clipped sum, without noise.

        Parameters
        ----------
        data : DataFrame
            This holder's rows, with the column of persons if they are the units. Rows that lack a value are left out.
        query : Query
            A round.

        Raises
        ------
        ModelError
            If the query is none of this model's.
        DataError, PrivacyError
            If the rows cannot be used; no value is named.
        """
        if query.step != self.step:
            raise self._foreign(query)
        units = self._units_of(data)
        at_once, n_rows = max(1, NUMBERS_AT_ONCE // self.noised.dimension), len(units.rows.y)
        if units.persons is not None:  # whose rows are clipped together
            at_once = max(1, n_rows)
        total = np.zeros(self.noised.dimension)
        for first in range(0, n_rows, at_once):
            chosen = slice(first, first + at_once)
            with np.errstate(all="ignore"):
                # Where the linear predictor overflows, a row has no score, and counts as absent.
                rows = rows_by_unit(self._contributions(units.rows.part(chosen), query), units.persons)
            total += self.noised.clipped_sum(rows)  # on the grid, so exact
        return {"noised": total}

    def _contributions(self, rows: Rows, query: Query) -> Matrix:
        """Return what each row contributes, shape (n, d)."""
        raise NotImplementedError

    def _units_of(self, data: Any) -> _Units:
        """Return the rows in the declared design, computed once a run."""
        kept = self._units.get(id(data))
        if kept is not None and kept[0] is data:
            return kept[1]
        check_numbers(self.design, data)
        self._read(data.iloc[:0])  # what is wrong with the columns, whatever the rows, is told
        units = self._read(data.iloc[self._sound(data, 0)])
        if self.noised.rounds == 1:
            return units
        while len(self._units) >= ROWS_KEPT:
            self._units.pop(next(iter(self._units)), None)
        self._units[id(data)] = (data, units)
        return units

    def _read(self, data: Any) -> _Units:
        return _Units(rows_of(self.design, data, self.family), self._persons_of(data))

    def _sound(self, data: Any, first: int) -> list[int]:
        """Return the places of the rows that keep to what is declared: a refusal would tell of a single other one."""
        try:
            self._read(data)
        except DataError:
            half = len(data) // 2
            if not half:
                return []
            return [*self._sound(data.iloc[:half], first), *self._sound(data.iloc[half:], first + half)]
        return list(range(first, first + len(data)))

    def _persons_of(self, data: Any) -> Objects | None:
        """Return whose each used row is, as the column says; None if records are the units."""
        person = self.noised.privacy.person
        if person is None:
            return None
        complete = self.design.schema.complete(Frame(data))
        found = self.design.rows(data)
        persons = complete.objects(person)
        if len(persons) != len(found.y):
            raise DataError(
                "some value is missing once it is computed (a logarithm of a negative number?), so that rows and "
                "persons do not match: leave such rows out"
            )
        trials = 1.0 if found.n_trials is None else found.n_trials
        return persons[found.weights * trials > 0]

    # At the coordinator.

    def _check_rows(self, nobs: int) -> None:
        n_columns = len(self.design.names)
        if nobs <= n_columns:
            raise ModelError(
                f"there are about {nobs} rows, which do not determine {n_columns} coefficients: take more rows or a "
                "larger epsilon"
            )


def remarks_on(inverse: Inverse) -> tuple[str, ...]:
    """Return what the user must know of the noise in the products."""
    if inverse.clearance >= _CLEAR:
        return ()
    return (
        f"in some direction of the columns the rows say only {inverse.clearance:.2g} times what the noise does: "
        "estimates may lie far off, and standard errors are rough; take more rows, a larger epsilon or fewer columns",
    )


def refuse_cov_type(cov_type: str) -> NoReturn:
    """Refuse a robust covariance.

    Raises
    ------
    PrivacyError
        Always.
    """
    raise PrivacyError(
        f"cov_type={cov_type!r} needs squared scores of all rows, which privacy does not release: take "
        'cov_type="nonrobust", which includes the noise'
    )
