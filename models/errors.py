"""What can go wrong with a model or with the rows it is given.

TacitError
├── ModelError            the model cannot be fitted as it is written
│   └── EvaluationError   some holder, unnamed, could not evaluate a trial point
└── DataError             a holder's rows, or what a function made of them, cannot be used
"""

from __future__ import annotations

from ..serialization.errors import TacitError


class ModelError(TacitError):
    """The model cannot be fitted as it is written: its start, its bounds or one of its functions."""


class EvaluationError(ModelError):
    """Some holder could not evaluate a query that may fail; who and why stays at that holder.

    A model's iteration answers it with a shorter step.
    """

    def __init__(self) -> None:
        super().__init__("a holder (unnamed) has no finite value at this trial point: take a shorter step")


class DataError(TacitError):
    """A holder's rows, or what a function made of them, are not what the model needs."""
