"""What can go wrong between parties, the narrowest class for each, each saying what to do.

ProtocolError
├── SetupError              the parameters cannot work; nothing was sent
├── RangeError              a value, or the total, lies outside what the encoding carries
├── MisuseError             a role or a caller broke a rule of the engine
├── VoidedError             some holder, unnamed, could not contribute
├── DropoutError            too few holders are left
├── AbortedError            another party ended the session
├── RefusedError            holders declined to take part
└── RemoteError             a party deviated: culprits are proven, suspects may have
    ├── InvalidMessageError
    ├── UnexpectedMessageError
    └── EquivocationError
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..serialization.errors import TacitError
from ..serialization.session_messages import Closed

BRING_BACK = "bring the missing back (restart() in a simulation, `join` in a deployment)"


class ProtocolError(TacitError):
    """A session cannot start or cannot go on."""


class SetupError(ProtocolError):
    """The roster, the shapes or the parameters cannot work together; nothing was sent."""


class RangeError(ProtocolError):
    """A value, or the total, lies outside what the encoding carries exactly."""


class MisuseError(ProtocolError):
    """A rule of the engine was broken: a secret used twice, a foreign awaitable, a reused session.

    Going on would endanger secrets (a mask used twice is a two-time pad), so the session ends.
    """


class VoidedError(ProtocolError):
    """The session is void for everybody: some holder could not contribute a value in range.

    Who it was stays hidden, so there is no second run without that holder.
    """

    def __init__(self) -> None:
        super().__init__(
            "a holder (unnamed) has no finite value in range for this query: change the query or the bounds"
        )


class DropoutError(ProtocolError):
    """Too few holders are left to go on.

    Attributes
    ----------
    needed : int
        Holders that must be present.
    present, missing : tuple of str
        Who is there, and who is lost; both empty if that is not told.
    closed : tuple of Closed
        The survivors' signed word whether they had released anything, once they have given it.
    """

    def __init__(
        self, *, needed: int, present: Iterable[str], missing: Iterable[str], reason: str = ""
    ) -> None:
        self.needed = needed
        self.present = tuple(present)
        self.missing = tuple(missing)
        self.reason = reason
        self.closed: tuple[Closed, ...] = ()
        super().__init__(needed)

    def __str__(self) -> str:
        total = len(self.present) + len(self.missing)
        if total == 0:
            return f"{self.needed} parties or more needed, some are missing (not told who, or how many): {self.reason}"
        lost = ", ".join(self.missing) or "nobody"
        remedy = self.reason or "bring the missing back or start again with other holders"
        return (
            f"{self.needed} of {total} parties needed, {len(self.present)} present (missing {lost}): {remedy}"
        )


class AbortedError(ProtocolError):
    """Another party ended the session; the reason is one of a fixed list, never a value.

    Attributes
    ----------
    party : str
        Who ended it.
    reason : str
        Why.
    lost : tuple of str
        Which parties of the session were lost to that party, if it said so.
    """

    def __init__(self, *, party: str, reason: str, lost: Iterable[str] = ()) -> None:
        self.party = party
        self.reason = reason
        self.lost = tuple(lost)
        super().__init__(party, reason)

    def __str__(self) -> str:
        lost = f" (it has lost {', '.join(self.lost)})" if self.lost else ""
        return f"{self.party} ended the session: {self.reason}{lost}"


class RefusedError(ProtocolError):
    """Holders declined to take part; nothing of any contribution was sent.

    Attributes
    ----------
    refusals : dict of str to (str, str)
        For each holder, its reason from a fixed list, and details. A deployment has no details; a
        simulation, where all rows are the user's own, shows them.
    """

    def __init__(self, refusals: Mapping[str, tuple[str, str]]) -> None:
        self.refusals = dict(refusals)
        super().__init__(tuple(self.refusals))

    def __str__(self) -> str:
        told = (
            f"{holder} refuses: {reason}" + (f"\n{details}" if details else "")
            for holder, (reason, details) in self.refusals.items()
        )
        return "\n".join(told)


class RemoteError(ProtocolError):
    """A party deviated from the protocol.

    Attributes
    ----------
    culprits : tuple of str
        Parties proven to have deviated.
    suspects : tuple of str
        Parties one of which has deviated.
    """

    def __init__(self, problem: str, *, culprits: Iterable[str] = (), suspects: Iterable[str] = ()) -> None:
        self.problem = problem
        self.culprits = tuple(culprits)
        self.suspects = tuple(suspects)
        super().__init__(problem)

    def __str__(self) -> str:
        named = [f"culprits: {', '.join(self.culprits)}"] if self.culprits else []
        named += [f"suspects: {', '.join(self.suspects)}"] if self.suspects else []
        return self.problem + (f" ({'; '.join(named)})" if named else "")


class InvalidMessageError(RemoteError):
    """A message of the right kind has a content that cannot be right."""


class UnexpectedMessageError(RemoteError):
    """A message came from outside the roster, or of a kind its sender has no part in."""


class EquivocationError(RemoteError):
    """A party said two different things where it may speak once."""
