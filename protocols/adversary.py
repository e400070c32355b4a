"""What an attack is, and how it is told whether it has succeeded.

An adversary here is real: it runs the coordinator's part, or some holders', with code of its own, or bends what these
send; it sees what these parties see, and on the network sealed frames; from that it computes. It has succeeded if it
comes away with a holder's own input, or if a total was accepted that is not the sum. Else the honest parties have
stopped it, and the verdict names the error that one of them raised, or what hides the input from whoever noticed
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from .errors import AbortedError, DropoutError, RefusedError
from .party import PartyId
from .session import Failed
from .simulation import Run

if TYPE_CHECKING:
    from .cohort import Cohort

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Loot:
    """What an adversary comes away with.

    Attributes
    ----------
    value : ndarray or None
        What it has computed; None if it could not.
    runs : tuple of Run
        The sessions, the decisive one last.
    victim : PartyId, optional
        Whose input it is after; None if it wants a wrong total accepted.
    prize : {"input", "change", "total"}
        What the value is meant to be: the victim's input, by how much that has changed between two sums, or any total
        but the sum.
    hidden_by : str
        What has stopped it if nobody has noticed anything.
    sees : str
        What it learns if it is stopped.
    """

    value: Values | None
    runs: tuple[Run, ...]
    victim: PartyId | None = None
    prize: Literal["input", "change", "total"] = "input"
    hidden_by: str = ""
    sees: str = "nothing"

    def __str__(self) -> str:
        values = [] if self.value is None else self.value.tolist()
        match self.prize:
            case "input":
                return f"the input of {self.victim}: {values}"
            case "change":
                return f"by how much the input of {self.victim} has changed: {values}"
            case "total":
                return f"a total was accepted that is not the sum: {values}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an attack has succeeded.

    Attributes
    ----------
    attack : str
    played_by : str
        Whom the adversary has.
    succeeded : bool
    stopped_by : str
        The error and at whom it was raised, or what hides the input; empty if the attack has succeeded.
    evidence : str
        What the adversary has got.
    """

    attack: str
    played_by: str
    succeeded: bool
    stopped_by: str
    evidence: str


@dataclass(frozen=True)
class Adversary:
    """An attack that can be attempted on a cohort.

    Attributes
    ----------
    attack : str
        What it is called.
    played_by : str
        Whom the adversary has.
    attempt : callable
        ``attempt(cohort)`` returns the loot.
    """

    attack: str
    played_by: str
    attempt: Callable[[Cohort], Loot]

    def __call__(self, cohort: Cohort) -> Verdict:
        """Attempt the attack and say what came of it."""
        loot = self.attempt(cohort)
        if cohort.is_won(loot):
            return Verdict(self.attack, self.played_by, True, "", str(loot))
        stopped_by = what_stopped(loot)
        return Verdict(self.attack, self.played_by, False, stopped_by, loot.sees)


def adversary(attack: str, played_by: str) -> Callable[[Callable[[Cohort], Loot]], Adversary]:
    """Make an adversary of a function that attempts an attack."""
    return lambda attempt: Adversary(attack, played_by, attempt)


def what_stopped(loot: Loot) -> str:
    """Say which error stopped an adversary, and at whom; else what hides the input; else who then was missed."""
    errors = [
        (party, outcome.error)
        for run in reversed(loot.runs)
        for party, outcome in run.outcomes.items()
        if isinstance(outcome, Failed)
    ]
    causes = [_described(party, error) for party, error in errors if not _is_consequence(party, error)]
    consequences = [_described(party, error) for party, error in errors if _is_consequence(party, error)]
    return next(iter([*causes, *filter(None, [loot.hidden_by]), *consequences]), "")


def _described(party: PartyId, error: Exception) -> str:
    first_line = str(error).splitlines()[0]
    # In some errors it is told who has raised them.
    return (
        first_line
        if isinstance(error, RefusedError | AbortedError)
        else f"{type(error).__name__} at {party}: {first_line}"
    )


def _is_consequence(party: PartyId, error: Exception) -> bool:
    """Whether an error tells of another party's end; a holder that had released ends the session in its own name."""
    own_word = isinstance(error, AbortedError) and error.party == party
    return isinstance(error, AbortedError | DropoutError) and not own_word
