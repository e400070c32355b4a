"""Co-signatures: the repository asks the holders of a model, each in its own process, to sign its card.

Who is to sign are the holders whose rows are in the model, with the identities that the coordinator has pinned; each
looks at the card itself (`records.co_signing`). Who learns what: the holders the card, the repository who signs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

from ray.exceptions import RayActorError, RayTaskError

from ..protocols.party import COORDINATOR
from ..records.errors import RecordError
from ..records.model_card import Release
from ..records.signing import Signature
from .errors import PeerUnreachableError, cause_of

CO_SIGNING_SECONDS = 60.0
AMONG_HOLDERS = "all"

ReleaseBy: TypeAlias = Release | Literal["all"] | int | None


async def release_among_holders(coordinator: Any, result: Mapping[str, Any], needed: int | str) -> Release:
    """Return that the holders of a model must co-sign it, all or some.

    Parameters
    ----------
    coordinator : actor handle or None
        Its ``holder_keys`` are those that it has pinned.
    result : mapping
        The fit as data; its survivors are to sign.
    needed : int or "all"
        How many of them.

    Raises
    ------
    RecordError
        If the fit names no holders that the coordinator knows, or not so many.
    """
    names = list(result.get("survivors") or result.get("holders") or ())
    try:
        keys: dict[str, str] = {} if coordinator is None else await coordinator.holder_keys.remote()
    except RayActorError:
        raise PeerUnreachableError(COORDINATOR) from None
    except RayTaskError as error:
        raise cause_of(error) from None
    if not names or not set(names) <= set(keys):
        raise RecordError(
            "no holders are known who could co-sign: the fit is of another federation, or its coordinator is kept from "
            "knowing them"
        )
    wanted = len(names) if needed == AMONG_HOLDERS else needed
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise RecordError('release is "all", a number of holders from 1, a Release, or None')
    return Release(wanted, {name: keys[name] for name in names})


async def co_signatures(
    holders: Mapping[str, Any], signatories: Collection[str], card: bytes, signature: Signature
) -> dict[str, Signature | str]:
    """Ask holders to sign a card.

    Parameters
    ----------
    holders : mapping of str to actor handle
        In which process each lives.
    signatories : collection of str
        Who is asked.
    card : bytes
    signature : Signature
        The coordinator's.

    Returns
    -------
    dict of str to Signature or str
        The signature of each, not checked yet, or why there is none.
    """
    asking = (_answer(holders.get(name), name, card, signature) for name in signatories)
    answers = await asyncio.gather(*asking)
    return dict(zip(signatories, answers, strict=True))


async def _answer(host: Any, name: str, card: bytes, signature: Signature) -> Signature | str:
    """Return a holder's signature, or why there is none."""
    if host is None:
        return "its process is not known"
    try:
        async with asyncio.timeout(CO_SIGNING_SECONDS):
            answer: Signature | str = await host.co_sign.remote(name, card, signature)
    except (RayActorError, TimeoutError):
        return "its process is gone or does not answer"
    except RayTaskError:
        return "it could not be asked"
    return answer
