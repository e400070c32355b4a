"""What all fits have in common that came about step by step: how many holders were there at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Stepwise(Provenance):
    """A fit with a history.

    Attributes
    ----------
    holders_by_step : tuple of int
        How many holders are in the sum behind each step, the start first; 0 where that is not known, as before a run
        was taken up. Empty if it is not told at all.
    warnings, protocol, holders, survivors, digits, privacy, trust
        As of `Provenance`.
    """

    holders_by_step: tuple[int, ...] = ()

    def _with_holders(self, history: pd.DataFrame, steps: Sequence[int]) -> pd.DataFrame:
        """Add the column "holders" to a table with a row for each of these steps, if it is known."""
        if not any(self.holders_by_step):
            return history
        known = dict(enumerate(self.holders_by_step))
        return history.assign(holders=[known.get(step) or math.nan for step in steps])
