"""Messages of the start and the end of a session, the same under every protocol.

    coordinator → holders       Invitation
    holders → coordinator       Ready, or Refusal
    coordinator → holders       Begin               then the protocol's own messages
    anybody → anybody           Abort
    coordinator → holders       Finished
    holders → coordinator       Closed              the word of a survivor after a loss

All parties read these; they hold no data of a holder. What names of arrays, shapes and reasons may tell is
for the holder's policy. Signatures are Ed25519 over `codec.unsigned_digest` of the message they stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from numpy.typing import NDArray

from .field_types import MAX_DIMENSIONS, AtMost, Between, OneOf, Size
from .schema import Message, message


@message("Party", version=1, public=True)
class Party(Message):
    """A party's name, what it is, and its two public keys."""

    name: Annotated[str, AtMost(100)]
    kind: Annotated[str, OneOf("coordinator", "holder", "aggregator", "asker", "repository")]
    verify_key: Annotated[bytes, Size(32)]  # Ed25519
    agreement_key: Annotated[bytes, Size(32)]  # static X25519


@message("ArraySpecification", version=1)
class ArraySpecification(Message):
    """Name, dtype and shape of an array that a holder is ready to contribute."""

    name: str
    dtype: Annotated[str, AtMost(20)]  # as numpy calls it: float64
    shape: Annotated[tuple[Annotated[int, Between(0, 2**63 - 1)], ...], AtMost(MAX_DIMENSIONS)]


@message("Query", version=1)
class Query(Message):
    """What the holders evaluate: a step of the model, at public values."""

    step: Annotated[str, AtMost(100)]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    may_fail: bool = False  # a holder that cannot evaluate voids the session, unnamed, instead of refusing


@message("Closed", version=1)
class Closed(Message):
    """A holder's signed word that a failed session is over for it, and whether it had released anything."""

    session: Annotated[bytes, Size(32)]
    holder: Annotated[str, AtMost(100)]
    forwarded: bool
    signature: Annotated[bytes, Size(64)]


@message("Invitation", version=1, public=True)
class Invitation(Message):
    """The coordinator's signed proposal of one secure sum."""

    session: Annotated[bytes, Size(32)]
    protocol: Message  # the options of the protocol
    encoding: Message | None  # the parameters of the encoding; None is the default one
    roster: tuple[Party, ...]
    definition: Annotated[bytes, Size(32)]  # content hash of the model
    query: Query
    ephemeral: Annotated[bytes, Size(32)]  # the coordinator's fresh X25519 key, its nonce
    previous: tuple[Closed, ...]  # the survivors of a failed session on the same question
    signature: Annotated[bytes, Size(64)]


@message("Ready", version=1, public=True)
class Ready(Message):
    """A holder's signed consent, after its policy and its contribution: shapes and dtypes, no values."""

    session: Annotated[bytes, Size(32)]
    holder: Annotated[str, AtMost(100)]
    invitation: Annotated[bytes, Size(32)]  # digest of the invitation
    arrays: tuple[ArraySpecification, ...]
    ephemeral: Annotated[bytes, Size(32)]  # the holder's fresh X25519 key, its nonce
    signature: Annotated[bytes, Size(64)]


@message("Refusal", version=1)
class Refusal(Message):
    """A holder's answer that it does not take part."""

    session: Annotated[bytes, Size(32)]
    reason: Annotated[str, AtMost(200)]  # of a fixed list
    details: Annotated[str, AtMost(100_000)]  # the exception, in a simulation; empty in a deployment


@message("Begin", version=1, public=True)
class Begin(Message):
    """The coordinator's signed setup: who is ready, and what it fixes for this pass."""

    session: Annotated[bytes, Size(32)]
    ready: tuple[Ready, ...]
    parameters: Message  # of the protocol: the keys of this pass
    signature: Annotated[bytes, Size(64)]


@message("Abort", version=1)
class Abort(Message):
    """The end of a session without a result."""

    session: Annotated[bytes, Size(32)]
    reason: Annotated[str, AtMost(200)]  # of a fixed list
    lost: tuple[Annotated[str, AtMost(100)], ...]


@message("Finished", version=1)
class Finished(Message):
    """The end of a session; `released` if the aggregate has been revealed."""

    session: Annotated[bytes, Size(32)]
    released: bool
