"""Capability tokens: who bears one may do what it says with the models it names, until it expires or is used up.

A token is a JSON web token signed with Ed25519 (PyJWT, algorithm EdDSA) by a key that the repository pins. It says
which of *list*, *predict*, *download* and *tag* it allows, for which names, until when, and how often. Every use is an
entry of the log of uses, written before anything is answered, so a quota outlives the process, and the owner can see
later what was asked.

Who learns what: whoever bears a token may use it; it names its subject, and no secret. Adversary: one who alters a
token, makes one with another key or algorithm, or uses one past its time, its quota or its names. Not stopped: one
who steals a token, until it expires; and who may predict can learn a model from its predictions, a regression from as
many rows as it has parameters: a quota counts calls, not rows.

Source: RFC 7519 (JSON web token), RFC 8037 (Ed25519 in JOSE).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .catalogue import check_name
from .errors import AccessError, RecordError
from .model_store import ModelStore
from .signing import SigningKey

Action = Literal["list", "predict", "download", "tag"]
ACTIONS: frozenset[str] = frozenset(get_args(Action))
AUDIENCE = "tacit repository"
ALGORITHM = "EdDSA"
REQUIRED = ["aud", "exp", "iat", "jti", "sub"]


@dataclass(frozen=True, slots=True)
class Capability:
    """What a token allows.

    Attributes
    ----------
    identifier : str
        Of the token.
    subject : str
        Whom it was given to.
    may : frozenset of str
        What: of "list", "predict", "download", "tag".
    names : frozenset of str or None
        With which models; None for all.
    quota : int or None
        How often altogether; None for without end.
    """

    identifier: str
    subject: str
    may: frozenset[str]
    names: frozenset[str] | None
    quota: int | None


def issue(
    key: SigningKey,
    subject: str,
    may: Collection[Action],
    *,
    names: Collection[str] | None = None,
    seconds: float = 86_400,
    quota: int | None = None,
) -> str:
    """Return a token.

    Parameters
    ----------
    key : SigningKey
        One whose public half the repository pins.
    subject : str
        Whom it is given to.
    may : collection of str
        What it allows: of "list", "predict", "download", "tag".
    names : collection of str, optional
        With which models; by default all.
    seconds : float
        How long it is good for; by default a day.
    quota : int, optional
        How often it may be used altogether; by default without end.

    Raises
    ------
    RecordError
        If it would allow nothing, or what does not exist.
    """
    import jwt  # noqa: PLC0415 - it is slow to import

    if not may or not set(may) <= ACTIONS:
        raise RecordError(f"a token allows some of {', '.join(sorted(ACTIONS))}")
    if quota is not None and quota < 1:
        raise RecordError("a quota is at least 1")
    for name in names or ():
        check_name(name)
    now = time.time()
    claims = {
        "aud": AUDIENCE,
        "sub": subject,
        "iat": math.floor(now),
        "exp": math.floor(now + seconds),
        "jti": secrets.token_hex(16),
        "may": sorted(may),
        "names": None if names is None else sorted(names),
        "quota": quota,
    }
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.public})


def read_token(token: str, keys: Sequence[str]) -> Capability:
    """Return what a token allows.

    Parameters
    ----------
    token : str
    keys : sequence of str
        Public keys that may issue tokens, 64 hexadecimal digits each.

    Raises
    ------
    AccessError
        If it is forged, expired or malformed.
    """
    import jwt  # noqa: PLC0415

    try:
        key = str(jwt.get_unverified_header(token).get("kid"))
        if key not in keys:
            raise AccessError("the token is by nobody who may issue some here")
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        claims = jwt.decode(
            token, public, algorithms=[ALGORITHM], audience=AUDIENCE, options={"require": REQUIRED}
        )
    except jwt.ExpiredSignatureError:
        raise AccessError(f"the token has expired: {_by_the_clock()}, or ask for another one") from None
    except jwt.ImmatureSignatureError:
        raise AccessError(f"the token was issued later than now: {_by_the_clock()}") from None
    except (jwt.InvalidTokenError, ValueError, TypeError):
        raise AccessError("the token is forged or malformed") from None
    return _capability(claims)


def _by_the_clock() -> str:
    return f"the repository's clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; have it set by NTP if that is wrong"


def admit(
    store: ModelStore, keys: Sequence[str], token: str, action: Action, name: str | None = None
) -> Capability:
    """Let the bearer of a token do one thing once, and log it; **call before answering**.

    Parameters
    ----------
    store : ModelStore
        Where uses are logged.
    keys : sequence of str
        Public keys that may issue tokens.
    token : str
    action : str
        What is asked.
    name : str, optional
        Of which model; None for all.

    Raises
    ------
    AccessError
        If the token does not allow it, or is used up.
    """
    capability = read_token(token, keys)
    if action not in capability.may:
        raise AccessError(f"the token does not allow to {action}")
    if capability.names is not None and name not in capability.names:
        raise AccessError(
            "the token is not for every model" if name is None else f"the token is not for {name!r}"
        )
    with store.objects.locked():
        if capability.quota is not None and store.n_uses(capability.identifier) >= capability.quota:
            raise AccessError(f"the token is used up: it was good for {capability.quota} uses")
        store.uses.append(
            {
                "token": capability.identifier,
                "subject": capability.subject,
                "action": action,
                "name": name,
                "time": time.time(),
            }
        )
    return capability


def _capability(claims: dict[str, Any]) -> Capability:
    may, names, quota = claims.get("may"), claims.get("names"), claims.get("quota")
    well_formed = (
        isinstance(may, list)
        and (names is None or isinstance(names, list))
        and (quota is None or isinstance(quota, int))
    )
    if not well_formed:
        raise AccessError("the token is malformed")
    return Capability(
        str(claims["jti"]),
        str(claims["sub"]),
        frozenset(map(str, may or ())),
        None if names is None else frozenset(map(str, names)),
        quota,
    )
