"""What a sum has its parties compute, counted in the few operations that take time.

What an operation takes is measured (`calibration`); how often each protocol needs it is in `loads`; what a plan
foretells is the product (`planning`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ciphertexts:
    """Operations on Paillier ciphertexts under keys of one length.

    Attributes
    ----------
    key_bits : int
        Length of a modulus.
    keys : int
        Keys generated.
    noise_products : int
        Products by an entry of a noise table, to build it or to draw from it.
    encryptions : int
        Plaintexts encrypted with noise that is drawn already.
    hops : int
        Ciphertexts read, checked, added to and written.
    decryptions : int
        Ciphertexts decrypted.
    """

    key_bits: int
    keys: int = 0
    noise_products: int = 0
    encryptions: int = 0
    hops: int = 0
    decryptions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Operations of one party.

    Attributes
    ----------
    messages : int
        Messages sent or received.
    signatures : int
        Messages whose signature is made or checked.
    agreements : int
        Peers with whom a key is agreed on.
    keystream_bytes : int
        Bytes of masks added or taken off.
    word_bytes : int
        Bytes of words made of numbers, or read as numbers.
    field_products : int
        Elements of a prime field times an entry of a matrix.
    ciphertexts : Ciphertexts or None
        What is computed with them.
    """

    messages: int = 0
    signatures: int = 0
    agreements: int = 0
    keystream_bytes: int = 0
    word_bytes: int = 0
    field_products: int = 0
    ciphertexts: Ciphertexts | None = None


NOTHING = Work()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one sum, or a set-up, puts on its parties; nobody is lost, and sessions start and end besides.

    Attributes
    ----------
    bytes_through_coordinator : int
        Bytes of the protocol's own frames that the coordinator sends and receives, before the links seal them.
    bytes_in_turn : int
        Bytes that pass one after the other: over the busiest party's link, or from hop to hop.
    by_each_holder : Work
        What all holders do, at the same time.
    in_turn : Work
        What is done besides, one thing after the other.
    setup : Load or None
        What comes on top in the first sum.
    setup_lasts : int or None
        Sums after which the set-up is due again; None: never.
    """

    bytes_through_coordinator: int = 0
    bytes_in_turn: int = 0
    by_each_holder: Work = NOTHING
    in_turn: Work = NOTHING
    setup: Load | None = None
    setup_lasts: int | None = None
