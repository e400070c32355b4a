"""Every attack on a protocol, attempted in the simulator: what stops it, or that nothing does.

The attacks are real adversaries (`adversary`) against the very code that runs in a deployment, with the user's options
and a random input for every holder. Only Paillier keys are short here, so that an attempt takes milliseconds: no
adversary below gains from that, for none attacks the cryptosystem itself.

Not attempted, because nothing is to stop it: any holder can shift a sum by what it puts in, any aggregator by what it
adds; a question that is *nearly* the same over one holder fewer; and more parties who pool than the protocol is for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from . import (
    attacks_on_aggregators,
    attacks_on_masking,
    attacks_on_ring,
    attacks_on_sessions,
    attacks_on_sharing,
)
from .additive_sharing import AdditiveSharing
from .adversary import Adversary, Verdict
from .blind_roles import unchecked
from .cohort import Cohort, Surroundings
from .errors import SetupError
from .pairwise_masking import PairwiseMasking
from .protocol import Protocol
from .ring_paillier import RingPaillier
from .secret_sharing import SecretSharing

SHORT_KEY_BITS = 256


def adversaries(protocol: Protocol[Any]) -> tuple[Adversary, ...]:
    """Return the attacks that a protocol, with its options, is to withstand."""
    match protocol:
        case RingPaillier():
            own = attacks_on_ring.ATTACKS
        case PairwiseMasking():
            own = attacks_on_masking.attacks_on(protocol)
        case SecretSharing():
            own = attacks_on_sharing.ATTACKS
        case AdditiveSharing():
            own = attacks_on_aggregators.ATTACKS
        case _:
            own = ()
    return own + attacks_on_sessions.ATTACKS


def refusal(protocol: Protocol[Any], n_holders: int) -> str:
    """Return why a protocol does not start with so many holders; empty if it does."""
    try:
        protocol.check_number(n_holders)
    except SetupError as error:
        return str(error)
    return ""


def simulated(protocol: Protocol[Any], n_holders: int) -> Protocol[Any]:
    """Return the protocol as it is attacked: with short keys, and without the check that refuses to start.

    A coordinator that knows the holders can do more than one that does not, so it is the one that attacks.
    """
    if isinstance(protocol, RingPaillier):
        protocol = dataclasses.replace(protocol, key_bits=SHORT_KEY_BITS, _minimum_key_bits=SHORT_KEY_BITS)
    if isinstance(protocol, AdditiveSharing):
        protocol = dataclasses.replace(protocol, at_most=None)
    return unchecked(protocol) if refusal(protocol, n_holders) else protocol


def attempt_all(
    protocol: Protocol[Any], n_holders: int, *, seed: int, surroundings: Surroundings
) -> Iterator[Verdict]:
    """Attempt every attack, each on parties of its own, and yield what came of it.

    A configuration that the protocol refuses is attacked as if it did not, to show what for.

    Parameters
    ----------
    protocol : Protocol
    n_holders : int
    seed : int
        All randomness follows from it.
    surroundings : Surroundings
        Links and memories, as a deployment has them.
    """
    attacked = simulated(protocol, n_holders)
    for attack in adversaries(attacked):
        yield attack(Cohort(attacked, n_holders, seed, surroundings))
