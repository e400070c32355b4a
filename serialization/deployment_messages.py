"""What a party of a deployment says when another meets it: that it is there, by which study, in which version.

Who learns what: whoever may call its process; nothing of it is private. The signature is Ed25519 over
`codec.unsigned_digest` of the message.
"""

from __future__ import annotations

from typing import Annotated

from .field_types import AtMost, Between, Size
from .schema import Message, message


@message("Presence", version=1, public=True)
class Presence(Message):
    """A party's signed answer to a challenge."""

    party: Annotated[str, AtMost(100)]
    study: Annotated[bytes, Size(32)]  # SHA-256 of its study file
    version: Annotated[str, AtMost(100)]  # of tacit
    challenge: Annotated[bytes, Size(32)]
    seconds: Annotated[int, Between(0, 2**63 - 1)]  # what its clock says, since 1970 UTC
    signature: Annotated[bytes, Size(64)]
