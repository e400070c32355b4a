"""Which protocol computes a question: the user's, or one that is chosen for each question by what it must withstand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ..models.sum import Sum
from ..protocols.calibration import Calibration, calibrate
from ..protocols.errors import SetupError
from ..protocols.plan_table import Plan
from ..protocols.planning import Question, Wish, candidates, choose, question_for
from ..protocols.protocol import Protocol
from ..protocols.registry import protocol_from
from ..serialization.schema import Message


@dataclass(frozen=True)
class Choice:
    """The protocol of a federation.

    Attributes
    ----------
    protocol : Protocol or "auto"
    wish : Wish
        What every sum must withstand, if it is "auto".
    """

    protocol: Protocol[Any] | Literal["auto"]
    wish: Wish

    @property
    def aggregators(self) -> int:
        """How many aggregators there are to be."""
        return self.wish.aggregators if self.protocol == "auto" else self.protocol.aggregators

    @property
    def at_most(self) -> int | None:
        """The public bound on the holders, if the coordinator is kept from knowing how many there are."""
        return None if self.protocol == "auto" else self.protocol.at_most

    def check(self, holders: tuple[str, ...]) -> None:
        """Refuse holders among whom no sum could begin.

        Raises
        ------
        SetupError
            Saying what to change.
        """
        if self.protocol != "auto":
            if not isinstance(self.protocol, Protocol):
                raise SetupError('protocol is an object such as tacit.RingPaillier(), or "auto"')
            protocol_from(self.protocol.options)  # as every holder will: one that holders take part in
            self.protocol.check_holders(holders)
            return
        found = candidates(self.wish, len(holders))
        if all(candidate.obstacle for candidate in found):
            reasons = "; ".join(f"{candidate.title}: {candidate.obstacle}" for candidate in found)
            raise SetupError(f"no protocol meets the wish among {len(holders)} holders ({reasons})")

    def protocol_for(self, model: Any, n_holders: int, encoding: Message | None) -> Protocol[Any]:
        """Return the protocol for a model's sums."""
        if self.protocol != "auto":
            return self.protocol
        return choose(self._question(model, n_holders, encoding), self.wish).chosen

    def plan(self, model: Any, n_holders: int, encoding: Message | None) -> Plan:
        """Put all protocols side by side for a model's sums."""
        return choose(self._question(model, n_holders, encoding), self.wish, _calibration())

    def _question(self, model: Any, n_holders: int, encoding: Message | None) -> Question:
        asked = model if hasattr(model, "specifications") else Sum(model)
        return question_for(asked, n_holders, encoding)


@lru_cache(maxsize=1)
def _calibration() -> Calibration:
    """Measure this machine once a process, in about two seconds."""
    return calibrate()
