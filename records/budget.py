"""A holder's budget of privacy, on its disk, charged before a noised value leaves.

The file has one line a charge (`chained_file`), on disk before `charge` returns, so that a value which has left has
been charged. A charge that is there though nothing left stays: the budget errs on the safe side. The first line says
whom the budget protects.

Adversary: a coordinator that asks too often. ε is composed from all charges together (`privacy.accounting`): less
than their sum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from ..privacy.accounting import Charge, epsilon_of
from ..privacy.clipping import Adjacency
from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy, Unit
from ..protocols.invitation import BUDGET_OF_OTHERS, BUDGET_OUT_OF_ORDER
from .chained_file import ChainedFile, Place
from .errors import BudgetError, PolicyError, RecordError

VERSION = 1


class Budget:
    """What a holder lets others learn about its units, and what of it is spent.

    Several processes may charge one file.

    Parameters
    ----------
    path : path
        The file; made with the first charge, in a folder that exists.
    epsilon, delta : float
        The most that all releases together may cost. Both may be changed when the file is opened again.
    unit, adjacency, person : str
        Whom the budget protects, as in `Privacy`; `person`, a column, goes with the unit "person". These stay as they
        are.

    Raises
    ------
    PolicyError
        There is no such budget, or the file's protects others.
    RecordError
        The file is damaged or unreadable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        epsilon: float,
        delta: float,
        unit: Unit = "record",
        adjacency: Adjacency = "add-or-remove",
        person: str | None = None,
    ) -> None:
        if not (0 < epsilon < math.inf and 0 < delta < 1):
            raise PolicyError("a budget has an epsilon above 0 and a delta between 0 and 1")
        if unit not in get_args(Unit) or adjacency not in get_args(Adjacency):
            raise PolicyError(f"a budget protects one of {get_args(Unit)} under one of {get_args(Adjacency)}")
        self.path = Path(path)
        self.epsilon = epsilon
        self.delta = delta
        if (unit == "person") != (person is not None):
            raise PolicyError(
                'a budget of the unit "person", and no other, has the column that says whose row it is'
            )
        self._header = {"adjacency": adjacency, "person": person, "unit": unit, "version": VERSION}
        self._file = ChainedFile(self.path, "the budget")
        self.charges()

    @property
    def spent(self) -> float:
        """The ε of all charges so far, at the budget's δ."""
        return epsilon_of(self.charges(), self.delta)

    @property
    def left(self) -> float:
        """What of ε is left; as charges compose, more releases may fit than their own ε suggests."""
        return max(0.0, self.epsilon - self.spent)

    def charges(self) -> list[Charge]:
        """Every charge, oldest first."""
        return [_charge_of(content) for content in self._contents()[0]]

    def charge(self, privacy: Privacy, charge: Charge, purpose: str) -> float:
        """Charge releases; **call before any of their noised values leaves**, and anew for a re-run.

        Parameters
        ----------
        privacy : Privacy
            The guarantee that was asked for: of the budget's unit and adjacency.
        charge : Charge
            From `Privacy.charge`.
        purpose : str
            What for, kept in the file: the session, for instance.

        Returns
        -------
        float
            The ε of all charges with this one.

        Raises
        ------
        BudgetError
            It does not fit; nothing was charged.
        PolicyError
            The guarantee protects others than the budget.
        RecordError
            The charge cannot be kept: **nothing may leave**.
        """
        self._check_unit(privacy)
        with self._file.locked():
            contents, place = self._contents()
            asked = self._spent_with(contents, charge)
            content = {"number": len(contents) + 1, "purpose": purpose, **asdict(charge)}
            header = [] if place.lines else [self._header]
            self._file.append(place, *header, content)
        return asked

    def check(self, privacy: Privacy, charge: Charge) -> None:
        """Refuse what `charge` would refuse, and charge nothing: so that no fit begins that cannot end.

        Raises
        ------
        BudgetError, PolicyError, RecordError
            As `charge`.
        """
        self._check_unit(privacy)
        self._spent_with(self._contents()[0], charge)

    def _spent_with(self, contents: Sequence[dict[str, Any]], charge: Charge) -> float:
        """Return the ε of all charges with one more, if it fits."""
        earlier = [_charge_of(content) for content in contents]
        asked = epsilon_of([*earlier, charge], self.delta)
        if not asked <= self.epsilon:  # nor may what is no number pass
            raise self._refusal(earlier, charge, asked)
        return asked

    def _check_unit(self, privacy: Privacy) -> None:
        for name in ("unit", "adjacency", "person"):
            ours, theirs = self._header[name], getattr(privacy, name)
            if ours != theirs:
                raise PolicyError(
                    f'this budget is kept for {name} "{ours}", not "{theirs}": ask for {name}="{ours}"',
                    reason=BUDGET_OF_OTHERS,
                )

    def _refusal(self, earlier: Sequence[Charge], charge: Charge, asked: float) -> BudgetError:
        fit, too_many = 0, charge.rounds
        while too_many - fit > 1:
            middle = (fit + too_many) // 2
            part = Charge(noise_multiplier=charge.noise_multiplier, rounds=middle, sampling=charge.sampling)
            fits = epsilon_of([*earlier, part], self.delta) <= self.epsilon
            fit, too_many = (middle, too_many) if fits else (fit, middle)
        spent = epsilon_of(earlier, self.delta)
        return BudgetError(
            spent=spent, limit=self.epsilon, asked=asked, rounds=charge.rounds, rounds_left=fit
        )

    def _contents(self) -> tuple[list[dict[str, Any]], Place]:
        """Return the charges' lines, and where the file ends."""
        contents, place = self._file.read()
        if contents and contents[0] != self._header:
            raise PolicyError(
                f"the budget {self.path.name} protects {contents[0]}: open it for these, or keep another",
                reason=BUDGET_OUT_OF_ORDER,
            )
        return contents[1:], place


def _charge_of(content: dict[str, Any]) -> Charge:
    try:
        return Charge(**{name: content[name] for name in ("noise_multiplier", "rounds", "sampling")})
    except (KeyError, TypeError, PrivacyError):
        raise RecordError(
            "a budget's line is no charge: it was written by another version of tacit"
        ) from None
