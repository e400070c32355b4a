"""Who is there: a party proves to another that it is the one of the study, with the same study file and version.

Whoever wants to know sends 32 fresh random bytes, and the other signs them with its pinned identity.

Who learns what: nothing that is private is said. Adversary: a process that takes a party's name without its key is
found out by the signature, and one that repeats what the party once said, by the challenge. What is said is not a key
agreement: every frame of a session is authenticated by its own links.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..serialization.codec import unsigned_digest, with_signature
from ..serialization.deployment_messages import Presence
from ..serialization.session_messages import Party
from .errors import SetupError
from .key_agreement import Identity, verify

CHALLENGE_BYTES = 32
SHOWN = 8  # bytes of a digest that a user compares


@dataclass(frozen=True)
class Agreement:
    """What all parties must have alike.

    Attributes
    ----------
    study : bytes
        The SHA-256 of the study file, 32 bytes.
    version : str
        Of tacit.
    """

    study: bytes
    version: str


def present(identity: Identity, agreement: Agreement, challenge: bytes, seconds: int) -> Presence:
    """Answer a challenge.

    Parameters
    ----------
    identity : Identity
        Of who answers.
    agreement : Agreement
        What it goes by.
    challenge : bytes
        The other's 32 random bytes.
    seconds : int
        Since 1970 UTC, by its own clock.
    """
    unsigned = Presence(
        party=identity.public.name,
        study=agreement.study,
        version=agreement.version,
        challenge=challenge,
        seconds=seconds,
        signature=bytes(64),
    )
    return with_signature(unsigned, identity.sign(unsigned_digest(unsigned)))


def check_presence(presence: object, party: Party, agreement: Agreement, challenge: bytes) -> Presence:
    """Return what a party said, if it is the party and goes by the same study and version.

    Raises
    ------
    SetupError
        Saying what differs, and what to do.
    """
    if not isinstance(presence, Presence) or presence.party != party.name:
        raise SetupError(f"what goes by the name of {party.name} is another party: end that process")
    if not verify(party, unsigned_digest(presence), presence.signature):
        raise SetupError(
            f"{party.name} signs with another key than the study has for it: compare the fingerprints of "
            "`python -m tacit keys show`, and have the study file hold the right one"
        )
    if presence.challenge != challenge:
        raise SetupError(f"{party.name} repeats an old answer: end that process, and let it join anew")
    if presence.study != agreement.study:
        ours, theirs = (digest[:SHOWN].hex() for digest in (agreement.study, presence.study))
        raise SetupError(
            f"{party.name} goes by another study file ({theirs}… and not {ours}…, by SHA-256): copy the agreed one "
            "to all machines, to the byte"
        )
    if presence.version != agreement.version:
        raise SetupError(
            f"{party.name} runs tacit {presence.version}, and this party {agreement.version}: install the same"
        )
    return presence
