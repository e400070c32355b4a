"""What can go wrong with what a party keeps."""

from __future__ import annotations

from collections.abc import Mapping

from ..protocols.invitation import BUDGET_SPENT, NOT_ALLOWED
from ..serialization.errors import TacitError


class RecordError(TacitError):
    """A record cannot be written, found, or read back as it was written."""


class AccessError(RecordError):
    """A capability token does not allow what is asked: forged, expired, used up, or for something else."""


class CoSignatureError(RecordError):
    """Too few have co-signed a version; it is saved, and pending until others do.

    Attributes
    ----------
    name, version
        Which version.
    needed, given : int
        How many must co-sign, and how many have.
    refusals : dict of str to str
        Who has not, and why.
    """

    def __init__(
        self, *, name: str, version: int, needed: int, given: int, refusals: Mapping[str, str]
    ) -> None:
        self.name = name
        self.version = version
        self.needed = needed
        self.given = given
        self.refusals = dict(refusals)
        refused = "; ".join(f"{who} does not sign: {why}" for who, why in self.refusals.items())
        super().__init__(
            f"{name!r} version {version} is saved, but pending: {given} of {needed} co-signatures are there ({refused})"
        )


class PolicyError(TacitError):
    """What is asked is against what this party insists on; nothing of its rows was sent.

    Attributes
    ----------
    reason : str
        Which rule it is against: of the fixed list of what others are told in a deployment. The text itself may name
        numbers of rows, and is for this party.
    """

    def __init__(self, problem: str, *, reason: str = NOT_ALLOWED) -> None:
        self.reason = reason
        super().__init__(problem)


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
        super().__init__(
            f"epsilon would be {asked:.4g}, and {spent:.4g} of {limit:.4g} are spent "
            f"({limit - spent:.4g} left; {rounds_left} of {rounds} such rounds would fit): "
            "ask with a smaller epsilon or for fewer rounds, or let the holder raise its budget",
            reason=BUDGET_SPENT,
        )
