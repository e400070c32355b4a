"""An agreed design: what a regression's columns are, and what is public about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Frame
from .design_rows import DesignRows
from .design_schema import Schema, decoded, encoded
from .errors import ModelError

__all__ = ["Design", "DesignRows"]


@dataclass(frozen=True, eq=False)
class Design:
    """An agreed design: public, the same at all holders.

    Attributes
    ----------
    schema : Schema
        Formula, levels and states of transforms.
    names : tuple of str
        The columns: ``Intercept``, ``wool[T.B]``.
    nobs, n_missing : int
        Rows that are used, and that lack a value, of all holders.
    column_means, column_scales : ndarray, shape (p,)
        Mean and standard deviation (ddof 0) of each column; 0 and 1 of the intercept, 1 of a constant column. The
        scales are correct to (mean / scale)^2 1e-16: made for conditioning.
    """

    schema: Schema
    names: tuple[str, ...]
    nobs: int
    n_missing: int
    column_means: NDArray[np.float64]
    column_scales: NDArray[np.float64]

    @property
    def has_intercept(self) -> bool:
        """Whether one of the columns is the intercept."""
        return "Intercept" in self.names

    def rows(self, data: Any) -> DesignRows:
        """Return a holder's columns, response, weights and offset.

        Parameters
        ----------
        data : DataFrame
            The holder's rows.

        Raises
        ------
        DataError
            If the rows do not fit: a column is missing or of the wrong kind, a level is none of the
            agreed ones, a value is infinite, weights or counts are negative, or, with ``missing="raise"``, missing.
        """
        names, rows = self.schema.rows(Frame(data))
        self._compare(names)
        return rows

    def columns(self, data: Any) -> NDArray[np.float64]:
        """Return the columns alone, for a prediction; a row with a missing value is a row of NaN."""
        names, columns = self.schema.columns(Frame(data))
        self._compare(names)
        return columns

    def offsets(self, data: Any) -> NDArray[np.float64]:
        """Return the offset of each row, for a prediction; NaN where it is missing."""
        return self.schema.offset_of(Frame(data))

    def _compare(self, names: tuple[str, ...]) -> None:
        if names != self.names:
            raise ModelError(
                "this version of formulaic makes other columns of the formula than were agreed on"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the design as JSON-able data; `from_dict` restores the same bits."""
        return {
            "schema": self.schema.to_dict(),
            "names": list(self.names),
            "nobs": self.nobs,
            "n_missing": self.n_missing,
            "column_means": self.column_means.tolist(),
            "column_scales": self.column_scales.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Design:
        """Restore a design from `to_dict`."""
        return cls(
            schema=Schema.from_dict(content["schema"]),
            names=tuple(content["names"]),
            nobs=content["nobs"],
            n_missing=content["n_missing"],
            column_means=np.array(content["column_means"], dtype=np.float64),
            column_scales=np.array(content["column_scales"], dtype=np.float64),
        )

    def to_array(self) -> NDArray[np.uint8]:
        """Return the design as an array that a query can hold."""
        return encoded(self.to_dict())

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Design:
        """Restore a design from `to_array`; ModelError if the array holds none."""
        try:
            return cls.from_dict(decoded(array))
        except (KeyError, TypeError):
            raise ModelError("a query holds no design") from None
