"""The steps of pairwise masking within one sum: pure functions between its messages.

`pairwise_masking` tells the protocol. Randomness and keys are arguments; whatever arrives is checked before anything
is computed with it. Names follow the papers: u and v are holders, b_u is a self seed, s_uv a pairwise seed, K_u an
opening key, U2 the dealers, U3 the survivors.

Who learns what: the coordinator, the sum over the survivors, once it has as many answers as the threshold.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..serialization.pairwise_masking_messages import MaskedInput, SurvivorCodes, UnmaskingShares
from . import robust_bytes
from .encoding import ArrayEncoding
from .errors import DropoutError, InvalidMessageError, VoidedError
from .invitation import Opened
from .key_agreement import KEY_BYTES
from .limbs import Limbs, Words
from .masking_epoch import NONCE, Dealings, Epoch, commitment, cut, octets
from .party import PartyId
from .secret import RandomBytes
from .shamir_bytes import Octets
from .stream_cipher import Masks, add_masks_to_all

T = TypeVar("T")

BYTES_PER_THREAD = 2**22  # a shorter vector is masked before a thread has started

# What every party computes alike


def mask_key(seed: bytes, opened: Opened) -> bytes:
    """Return the key of a keystream: a seed is of one round, and good for one question only.

    This is HKDF-Expand (RFC 5869, section 2.3) to 32 bytes; a seed is uniform and needs no extraction.
    """
    return hmac.digest(seed, b"tacit mask" + opened.binding + b"\x01", "sha256")


def sign_of(holder: PartyId, peer: PartyId) -> int:
    """Return how a holder adds the mask that it shares with a peer: opposite at the two, so that both cancel."""
    return 1 if holder < peer else -1


# Masking, once a sum


def mask_input(
    opened: Opened,
    words: tuple[Limbs, ...] | None,
    masks: Masks,
    *,
    random_bytes: RandomBytes,
) -> MaskedInput:
    """Add a holder's masks to its words, where they lie; a holder without words voids the session, unnamed.

    Its words are then uniform over the whole ring, and the flag is uniform and not zero.
    """
    flag = np.zeros(1, dtype=np.uint64)
    if words is None:
        flag[0] = 1 + int.from_bytes(random_bytes(16), "little") % (2**64 - 1)
        vectors = [_uniform(encoding, random_bytes) for encoding in opened.encodings]
    else:
        vectors = [encoding.to_words(w) for encoding, w in zip(opened.encodings, words, strict=True)]
    add_all(masks, [flag, *vectors])
    return MaskedInput(session=opened.session, binding=opened.binding, flag=flag, vectors=tuple(vectors))


def masks_of(
    opened: Opened, me: PartyId, own: bytes, pairs: Mapping[PartyId, bytes]
) -> list[tuple[bytes, int]]:
    """Return a holder's masks of a round: of itself, and with each neighbour."""
    between = [(mask_key(seed, opened), sign_of(me, peer)) for peer, seed in pairs.items()]
    return [(mask_key(own, opened), 1), *between]


def add_all(masks: Masks, vectors: Sequence[Words]) -> None:
    """Add masks to vectors in place, one after the other along the same keystreams."""
    n_bytes = sum(vector.nbytes for vector in vectors)
    threads = min(os.cpu_count() or 1, max(1, n_bytes // BYTES_PER_THREAD))
    add_masks_to_all(vectors, masks, threads=threads)


def _uniform(encoding: ArrayEncoding, random_bytes: RandomBytes) -> Words:
    uniform = bytearray(random_bytes(encoding.word_dtype.itemsize * math.prod(encoding.word_shape)))
    return np.frombuffer(uniform, dtype=encoding.word_dtype).reshape(encoding.word_shape)


def check_input(opened: Opened, holder: PartyId, masked: MaskedInput) -> None:
    """Refuse a masked input to another question, or of other words than agreed.

    Raises
    ------
    InvalidMessageError
        Naming the holder.
    """
    if masked.binding != opened.binding:
        raise InvalidMessageError("a masked input to another question", culprits=[holder])
    expected = [(encoding.word_dtype, encoding.word_shape) for encoding in opened.encodings]
    found = [(vector.dtype, vector.shape) for vector in masked.vectors]
    if masked.flag.shape != (1,) or found != expected:
        raise InvalidMessageError("a masked input of another length", culprits=[holder])


# Agreement on the survivors


def check_survivors(
    opened: Opened, me: PartyId, epoch: Epoch, survivors: Sequence[str]
) -> tuple[PartyId, ...]:
    """Return the survivors, if they can be: dealers who are here, in order, this holder among them, enough.

    Raises
    ------
    InvalidMessageError
        Naming the coordinator.
    """
    named = set(survivors).intersection(epoch.dealers)
    ordered = tuple(holder for holder in opened.present if holder in named)
    if tuple(survivors) != ordered or me not in named or len(ordered) < opened.needed:
        raise InvalidMessageError("survivors who cannot be", culprits=[opened.roster.coordinator])
    return ordered


def survivor_codes(opened: Opened, me: PartyId, epoch: Epoch, survivors: Sequence[PartyId]) -> Octets:
    """Return a holder's codes for all survivors, its own row zero."""
    told = epoch.told(opened, survivors)
    return octets([bytes(KEY_BYTES) if peer == me else epoch.code(me, peer, told) for peer in survivors])


def code_rows(holder: PartyId, answer: SurvivorCodes, n_survivors: int) -> Octets:
    """Return a holder's codes, at the coordinator, which passes them on.

    Raises
    ------
    InvalidMessageError
        Naming the holder, if they are not one for each survivor.
    """
    if answer.codes.shape != (n_survivors, KEY_BYTES):
        raise InvalidMessageError("another number of codes than of survivors", culprits=[holder])
    return answer.codes


def agreeing(opened: Opened, me: PartyId, epoch: Epoch, survivors: Sequence[PartyId], codes: Octets) -> int:
    """Count the survivors, this holder included, who were told the same."""
    if codes.shape != (len(survivors), KEY_BYTES):
        return 1
    told = epoch.told(opened, survivors)
    return 1 + sum(
        hmac.compare_digest(epoch.code(peer, me, told), code.tobytes())
        for peer, code in zip(survivors, codes, strict=True)
        if peer != me
    )


# Unmasking


def share_rows(opened: Opened, holder: PartyId, answer: UnmaskingShares) -> Octets:
    """Return a holder's shares, if it gives them for this question.

    Raises
    ------
    InvalidMessageError
        Naming the holder.
    """
    if answer.binding != opened.binding:
        raise InvalidMessageError("shares for another question", culprits=[holder])
    return answer.shares


def masks_left(
    opened: Opened,
    dealings: Dealings,
    index: int,
    survivors: Sequence[PartyId],
    answers: Mapping[PartyId, Octets],
) -> tuple[list[tuple[bytes, int]], tuple[PartyId, ...]]:
    """Reconstruct what does not cancel: b of every survivor, and s between the lost and the survivors.

    Every secret is checked against what its dealer has committed to. Of m shares of one, (m − threshold)/2 wrong ones
    are corrected.

    Returns
    -------
    masks : list of (bytes, int)
        To be added to the sum of the masked inputs, to take out what is still in it.
    suspects : tuple of PartyId
        Those whose shares were corrected: they gave wrong ones, or were dealt such.

    Raises
    ------
    DropoutError
        If too few shares of a dealer have come.
    InvalidMessageError
        If a secret cannot be reconstructed: its dealer is the culprit where that is proven, else a suspect with all
        who answered.
    """
    _check_answers(dealings, answers)
    masks: list[tuple[bytes, int]] = []
    wrong: set[PartyId] = set()
    for dealer in dealings.dealers:
        if dealer in survivors:
            own = _reconstruct(dealings, dealer, answers, wrong, partial(_self_seed, dealings, dealer, index))
            masks.append((mask_key(own, opened), -1))
            continue
        near = [peer for peer in dealings.graph.neighbours[dealer] if peer in survivors]
        if near:
            seeds = _reconstruct(dealings, dealer, answers, wrong, partial(_unlock, dealings, dealer, index))
            masks += [(mask_key(seeds[peer], opened), -sign_of(peer, dealer)) for peer in near]
    return masks, tuple(holder for holder in survivors if holder in wrong)


def _check_answers(dealings: Dealings, answers: Mapping[PartyId, Octets]) -> None:
    for holder, shares in answers.items():
        n_kept = sum(dealer in dealings.dealt for dealer in dealings.graph.keepers[holder])
        if shares.shape != (n_kept, KEY_BYTES):
            raise InvalidMessageError("another number of shares than of dealers", culprits=[holder])


def _reconstruct(
    dealings: Dealings,
    dealer: PartyId,
    answers: Mapping[PartyId, Octets],
    wrong: set[PartyId],
    check: Callable[[bytes], T | None],
) -> T:
    """Return what `check` makes of a dealer's secret, None of a wrong one; add to `wrong` who gave wrong shares."""
    keepers = enumerate(dealings.graph.keepers[dealer], start=1)
    shares = {
        keeper: (point, answers[keeper][dealings.rows[dealer][keeper]])
        for point, keeper in keepers
        if keeper in answers
    }
    threshold = dealings.graph.threshold
    if len(shares) < threshold:
        missing = [keeper for keeper in dealings.graph.keepers[dealer] if keeper not in answers]
        raise DropoutError(needed=threshold, present=shares, missing=missing)
    # Nearly always the first shares do. Whoever gave a wrong one has probably done so to others, too.
    first = [keeper for keeper in shares if keeper not in wrong][:threshold]
    for attempt in (first, list(shares)):
        secret, off = _decoded([shares[keeper] for keeper in attempt], threshold)
        if secret is not None and (found := check(secret)) is not None:
            wrong |= {keeper for keeper in attempt if shares[keeper][0] in off}
            return found
    suspects = dict.fromkeys([dealer, *shares])
    raise InvalidMessageError("a secret cannot be reconstructed from its shares", suspects=suspects)


def _decoded(shares: Sequence[tuple[int, Octets]], threshold: int) -> tuple[bytes | None, tuple[int, ...]]:
    """Return the secret of shares at points, None if too few agree, and the points of those that are off."""
    if len(shares) < threshold:
        return None, ()
    points, rows = zip(*shares, strict=True)
    try:
        secret, off = robust_bytes.decode(points, np.stack(rows), threshold=threshold)
    except InvalidMessageError:
        return None, ()
    return bytes(secret), off


def _self_seed(dealings: Dealings, dealer: PartyId, index: int, seed: bytes) -> bytes | None:
    """Return a survivor's self seed, if it is the one that its dealer has committed to."""
    committed = bytes(dealings.dealt[dealer].self_commitments[index])
    return seed if commitment(dealings.identifier, index, seed) == committed else None


def _unlock(dealings: Dealings, dealer: PartyId, index: int, key: bytes) -> dict[PartyId, bytes] | None:
    """Open a lost dealer's pairwise seeds, and check them against what both ends have committed to."""
    try:
        seeds = cut(AESGCM(key).decrypt(NONCE, dealings.dealt[dealer].locked_seeds[index], None))
    except InvalidTag:
        return None
    committed = dealings.seed_commitments(dealer, index)
    if [commitment(dealings.identifier, index, seed) for seed in seeds] != list(committed.values()):
        # The key is the right one, and nobody else knew it: the dealer has locked up other seeds than it said.
        raise InvalidMessageError("a dealer's seeds are not those it has committed to", culprits=[dealer])
    return dict(zip(committed, seeds, strict=True))


def unmask(totals: Sequence[Words], masks: Masks) -> tuple[Words, ...]:
    """Take the masks that are left out of the sum of the masked inputs, where it lies; flags come first.

    Raises
    ------
    VoidedError
        If some holder could not contribute.
    """
    add_all(masks, totals)
    flag, *vectors = totals
    if flag.any():
        raise VoidedError
    return tuple(vectors)
