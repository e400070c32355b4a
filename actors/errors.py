"""What can go wrong between processes.

ActorError
├── PeerUnreachableError    a party's process is gone or does not answer
└── ClosedError             the federation was closed

HoldersLostWarning          a sum is over the survivors only
SumWarning                  values were clipped, or wrong messages corrected
"""

from __future__ import annotations

from ..serialization.errors import TacitError


class ActorError(TacitError):
    """A party's process cannot do what it was asked."""


class PeerUnreachableError(ActorError):
    """A party's process is gone or does not answer.

    Attributes
    ----------
    party : str
        Which one.
    remedy : str
        What to do.
    """

    def __init__(self, party: str, remedy: str = "restart() the federation") -> None:
        self.party = party
        self.remedy = remedy
        super().__init__(party, remedy)

    def __str__(self) -> str:
        return f"the process of {self.party} is gone or does not answer: {self.remedy}"


class ClosedError(ActorError):
    """The federation was closed; make a new one with `tacit.simulate`."""

    def __init__(self) -> None:
        super().__init__("this federation is closed: make a new one with tacit.simulate(...)")


def cause_of(error: Exception) -> Exception:
    """Return the exception behind a failed remote call: tacit's own as it was, others as Ray tells them."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, TacitError) else error


class HoldersLostWarning(UserWarning):
    """A sum is over fewer holders than the federation has, because some were lost on the way."""


class SumWarning(UserWarning):
    """A sum is right, but values were clipped on the way, or somebody's wrong messages were corrected."""
