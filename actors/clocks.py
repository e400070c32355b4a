"""How far the clocks of the other parties are from this machine's: whoever is met has signed what its clock says.

Nothing of a session goes by the time of day. Certificates, tokens and the times in ledgers do: a clock that is far off
is told where its owner looks, with what helps.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..protocols.party import PartyId

SKEW_SECONDS = 60

logger = logging.getLogger(__name__)


class Clocks:
    """What is known of the clocks of others."""

    def __init__(self) -> None:
        self._ahead: dict[PartyId, int] = {}

    @property
    def ahead(self) -> dict[PartyId, int]:
        """How many seconds the clocks of parties are ahead of this machine's, where it is more than a minute."""
        return dict(self._ahead)

    def note(self, name: PartyId, ahead: int) -> None:
        """Note how many seconds a party's clock is ahead; it is logged when it begins to differ."""
        if abs(ahead) <= SKEW_SECONDS:
            self._ahead.pop(name, None)
            return
        if name not in self._ahead:
            logger.warning("%s", told({name: ahead}))
        self._ahead[name] = ahead


def told(ahead: Mapping[PartyId, int]) -> str:
    """Return what to tell of clocks that differ, and what helps; nothing if none does.

    Examples
    --------
    >>> told({PartyId("north"): -3600, PartyId("east"): -3601})
    "this machine's clock is 3600 s ahead of that of north, 3601 s ahead of that of east: have all clocks set by NTP, \
as certificates, tokens and the times in ledgers go by them"
    """
    if not ahead:
        return ""
    each = ", ".join(
        f"{abs(seconds)} s {'behind' if seconds > 0 else 'ahead of'} that of {name}"
        for name, seconds in ahead.items()
    )
    return (
        f"this machine's clock is {each}: have all clocks set by NTP, as certificates, tokens and the times in ledgers "
        "go by them"
    )
