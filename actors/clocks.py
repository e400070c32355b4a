"""How far the clocks of the other parties are from this machine's: each is asked, and signs what its clock says.

Nothing of a session goes by the time of day. Certificates, tokens and the times in ledgers do: a clock that is far off
is told where its owner looks, with what helps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import RayError

from ..protocols.errors import SetupError
from ..protocols.party import PartyId
from ..protocols.presence import CHALLENGE_BYTES, Agreement, check_presence
from ..records.study import Study
from ..serialization.codec import Frame, decode
from ..serialization.errors import DecodeError
from . import finding
from .deployed_hosts import ANSWER_SECONDS, SKEW_SECONDS


def clocks_ahead(
    study: Study, names: Collection[PartyId], now: Callable[[], float] = time.time
) -> dict[PartyId, int]:
    """Return how many seconds the clocks of parties are ahead of this machine's, where it is more than a minute.

    Parameters
    ----------
    study : Study
    names : collection of str
        Parties that have been met; who is gone meanwhile is left out.
    now : callable
        This machine's clock, seconds since 1970 UTC.
    """
    found = {name: _ahead(study, name, now) for name in names}
    return {name: ahead for name, ahead in found.items() if abs(ahead) > SKEW_SECONDS}


def _ahead(study: Study, name: PartyId, now: Callable[[], float]) -> int:
    challenge = os.urandom(CHALLENGE_BYTES)
    agreement = Agreement(study.digest, version("tacit"))
    try:
        asked = finding.party(study.title, name).present.remote(challenge)
        header: Any = ray.get(asked, timeout=ANSWER_SECONDS)
        presence = check_presence(decode(Frame(header, ())), study.party(name), agreement, challenge)
    except (LookupError, RayError, DecodeError, SetupError, TimeoutError):
        return 0  # it is not met any longer, and that is told elsewhere
    return presence.seconds - int(now())


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
