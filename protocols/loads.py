"""What a sum under each protocol puts on its parties, beside the rounds and bytes that the protocol itself counts.

A load follows from the number of holders, the arrays' shapes and the protocol's options: it is public, and the same on
every machine. Only what grows with the holders or with the vector is counted. Names of parties, which some frames
carry, are taken to have `NAME_BYTES` letters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..serialization.additive_sharing_messages import MissingShares, ShareSum
from ..serialization.codec import encode
from ..serialization.pairwise_masking_messages import ForwardedCodes, Survivors
from ..serialization.schema import Message
from .additive_sharing import AdditiveSharing
from .encoding import ArrayEncoding
from .graph import COMPLETE_UP_TO, degree_and_threshold
from .key_agreement import KEY_BYTES
from .packing import packing_for
from .paillier_noise import best_window
from .pairwise_masking import PairwiseMasking
from .ring_paillier import EXPECTED_PASSES, RingPaillier
from .ring_steps import keys_needed
from .secret_sharing import SecretSharing
from .sharing_steps import moduli_of
from .work import Ciphertexts, Load, Work

NAME_BYTES = 12
SESSION = bytes(32)

# What every session has besides: Invitation, Ready, Begin, Finished.
STARTING_MESSAGES = 4
LINK_AGREEMENTS = 2  # with the coordinator: for the first frame, and for those after it

# Work on noise, in products by an entry of a table.
PRODUCTS_PER_ENTRY = 2  # to make the entry
PRODUCTS_PER_SQUARING = 2  # where no table pays


def starting(n_holders: int, n_aggregators: int) -> Load:
    """Return what the start and the end of a session put on its parties."""
    n_parties = n_holders + n_aggregators
    return Load(
        # A holder checks the invitation, the beginning and everybody's readiness, and signs its own.
        by_each_holder=Work(messages=STARTING_MESSAGES, signatures=n_parties + 2, agreements=LINK_AGREEMENTS),
        in_turn=Work(
            messages=STARTING_MESSAGES * n_parties,
            signatures=n_parties,
            agreements=LINK_AGREEMENTS * n_parties,
        ),
    )


def ring_load(protocol: RingPaillier, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Load:
    """Return the load of a ring: a hop for each holder, then decryption."""
    frame = protocol.cost(n_holders, encodings).bytes_sent_by_holder
    bits, count = protocol.key_bits, n_ciphertexts(protocol, n_holders, encodings)
    n_keys = keys_needed(encodings, n_holders, bits)
    exponent_bits = -(-bits // 2)
    window = best_window(EXPECTED_PASSES * count // n_keys, bits)
    per_draw = -(-exponent_bits // window) if window else PRODUCTS_PER_SQUARING * exponent_bits
    table = n_keys * PRODUCTS_PER_ENTRY * per_draw * 2**window if window else 0
    masks = (n_holders - 1) * count * bits // 8 if protocol.masks else 0
    return Load(
        bytes_through_coordinator=2 * frame,
        bytes_in_turn=(n_holders + 1) * frame,
        by_each_holder=Work(
            messages=2,
            agreements=n_holders - 1 if protocol.masks else 2,
            keystream_bytes=masks,
            ciphertexts=Ciphertexts(key_bits=bits, noise_products=count * per_draw, encryptions=count),
        ),
        in_turn=Work(
            messages=2,
            ciphertexts=Ciphertexts(key_bits=bits, hops=n_holders * count, decryptions=count),
        ),
        setup=Load(
            by_each_holder=Work(ciphertexts=Ciphertexts(key_bits=bits, noise_products=table)),
            in_turn=Work(ciphertexts=Ciphertexts(key_bits=bits, keys=n_keys)),
        ),
        setup_lasts=1 if protocol.fresh_keys else None,
    )


def n_ciphertexts(protocol: RingPaillier, n_holders: int, encodings: Sequence[ArrayEncoding]) -> int:
    """Return how many ciphertexts a contribution takes in a ring: the plaintexts, under every key."""
    n_keys = keys_needed(encodings, n_holders, protocol.key_bits)
    return n_keys * packing_for(encodings, n_holders, n_keys * (protocol.key_bits - 1)).n_plaintexts


def masking_load(protocol: PairwiseMasking, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Load:
    """Return the load of pairwise masking: masks at each holder, its self mask once more at the coordinator."""
    resilient, active = protocol.mode == "resilient", protocol.active and protocol.mode == "resilient"
    sent = protocol.cost(n_holders, encodings).bytes_sent_by_holder
    n_bytes, degree = _word_bytes(encodings), masking_degree(protocol, n_holders)
    names = tuple(["x" * NAME_BYTES] * n_holders)
    forwarded = np.zeros((n_holders, KEY_BYTES), dtype=np.uint8)
    told: list[Message] = [Survivors(session=SESSION, survivors=names)] if resilient else []
    told += [ForwardedCodes(session=SESSION, codes=forwarded)] if active else []
    through = n_holders * (sent + sum(encode(frame).size for frame in told))
    messages = 1 + (2 if resilient else 0) + (2 if active else 0)
    return Load(
        bytes_through_coordinator=through,
        bytes_in_turn=through,
        by_each_holder=Work(
            messages=messages,
            agreements=0 if resilient else degree,
            keystream_bytes=(degree + resilient) * n_bytes,
            word_bytes=n_bytes,
        ),
        in_turn=Work(
            messages=n_holders * messages,
            keystream_bytes=n_holders * n_bytes if resilient else 0,
            word_bytes=n_bytes,
        ),
        setup=_epoch_load(protocol, n_holders, degree) if resilient else None,
        setup_lasts=protocol.epoch,
    )


def masking_degree(protocol: PairwiseMasking, n_holders: int) -> int:
    """Return with how many others each holder masks."""
    if protocol.mode == "direct" or (protocol.neighbours is None and n_holders <= COMPLETE_UP_TO):
        return n_holders - 1
    lost = n_holders - protocol.needed(n_holders)
    return degree_and_threshold(
        n_holders,
        corrupt_fraction=Fraction(protocol.colluding, n_holders),
        dropout_fraction=Fraction(lost, n_holders),
        active=protocol.active,
        degree=protocol.neighbours,
    ).degree


def _epoch_load(protocol: PairwiseMasking, n_holders: int, degree: int) -> Load:
    """Return what an epoch's set-up takes: a key with each neighbour, or with all; shares, seeds, commitments."""
    shares_and_seeds = protocol.epoch * (degree * 4 * KEY_BYTES + KEY_BYTES)
    messages = 2 if degree == n_holders - 1 else 6
    return Load(
        bytes_through_coordinator=n_holders * (shares_and_seeds + protocol.epoch * degree * 2 * KEY_BYTES),
        bytes_in_turn=n_holders * (shares_and_seeds + protocol.epoch * degree * 2 * KEY_BYTES),
        by_each_holder=Work(messages=messages, agreements=n_holders - 1 if protocol.active else degree),
        in_turn=Work(messages=n_holders * messages),
    )


def additive_load(protocol: AdditiveSharing, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Load:
    """Return the load of additive sharing: all full shares but one derived at both ends; aggregators side by side."""
    n_aggregators, n_bytes = protocol.aggregators, _word_bytes(encodings)
    share = protocol.cost(n_holders, encodings).bytes_sent_by_holder
    statement = MissingShares(
        session=SESSION, binding=SESSION, aggregator="x" * NAME_BYTES, missing=(), signature=bytes(64)
    )
    summed = ShareSum(
        session=SESSION,
        statements=(statement,) * n_aggregators,
        flag=np.zeros(1, dtype=np.uint64),
        vectors=tuple(np.zeros(encoding.word_shape, encoding.word_dtype) for encoding in encodings),
    )
    through = n_aggregators * encode(summed).size
    received = -(-n_holders // n_aggregators)  # full shares that come to one aggregator
    return Load(
        bytes_through_coordinator=through,
        bytes_in_turn=received * share + through,
        by_each_holder=Work(
            messages=1,
            agreements=n_aggregators,
            keystream_bytes=(n_aggregators - 1) * n_bytes,
            word_bytes=n_bytes,
        ),
        in_turn=Work(
            messages=received + 3 * n_aggregators,
            signatures=n_aggregators * (n_aggregators + 1),
            agreements=n_holders,
            keystream_bytes=(n_holders - received) * n_bytes,
            word_bytes=n_bytes,
        ),
    )


def sharing_load(protocol: SecretSharing, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Load:
    """Return the load of secret sharing: shares dealt, relayed in bundles, summed, and joined again."""
    n_share_holders = n_holders if protocol.share_holders is None else len(protocol.share_holders)
    threshold, packing = protocol.shares_needed(n_holders), protocol.numbers_packed(n_holders)
    n_seeds = threshold - packing
    elements = 1 + sum(len(moduli_of(encoding)) * -(-encoding.size // packing) for encoding in encodings)
    # A wide integer is cut into residues, and joined of them, digit by digit.
    digits = sum(
        4 * encoding.limbs * len(moduli_of(encoding)) * encoding.size
        for encoding in encodings
        if encoding.limbs > 1
    )
    # Every dealer's shares pass the coordinator twice, but for those that share holders deal to themselves.
    shares = n_seeds * KEY_BYTES + (n_share_holders - n_seeds) * 8 * elements
    through = 2 * (n_holders - 1) * shares + n_share_holders * 8 * elements
    return Load(
        bytes_through_coordinator=through,
        bytes_in_turn=through,
        by_each_holder=Work(
            messages=3,
            agreements=n_holders - 1,
            keystream_bytes=2 * n_seeds * 8 * elements,
            word_bytes=_word_bytes(encodings),
            field_products=(n_share_holders - n_seeds) * threshold * elements + digits,
        ),
        in_turn=Work(
            messages=3 * n_holders,
            word_bytes=_word_bytes(encodings),
            field_products=packing * threshold * elements + digits,
        ),
    )


def _word_bytes(encodings: Sequence[ArrayEncoding]) -> int:
    """Return the bytes of a contribution's words."""
    return sum(encoding.word_dtype.itemsize * math.prod(encoding.word_shape) for encoding in encodings)
