"""What can go wrong with what a party keeps."""

from __future__ import annotations

from ..serialization.errors import TacitError


class RecordError(TacitError):
    """A record cannot be written, found, or read back as it was written."""


class AccessError(RecordError):
    """A capability token does not allow what is asked: forged, expired, used up, or for something else."""


class PolicyError(TacitError):
    """What is asked is against what this party insists on; nothing of its rows was sent."""


class BudgetError(PolicyError):
    """A release would cost more privacy than a holder's budget has left; it was neither charged nor made.

    Attributes
    ----------
    spent, limit : float
        ε so far, and at most.
    asked : float
        ε with this release.
    rounds : int
        Rounds that were asked for.
    rounds_left : int
        How many of these rounds would still fit.
    """

    def __init__(self, *, spent: float, limit: float, asked: float, rounds: int, rounds_left: int) -> None:
        self.spent = spent
        self.limit = limit
        self.asked = asked
        self.rounds = rounds
        self.rounds_left = rounds_left
        super().__init__(spent, limit, asked)

    def __str__(self) -> str:
        return (
            f"epsilon would be {self.asked:.4g}, and {self.spent:.4g} of {self.limit:.4g} are spent "
            f"({self.limit - self.spent:.4g} left; {self.rounds_left} of {self.rounds} such rounds would fit): "
            "ask with a smaller epsilon or for fewer rounds, or let the holder raise its budget"
        )
