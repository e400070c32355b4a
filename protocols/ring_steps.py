"""The steps of ring-Paillier: pure functions between its messages; `ring_paillier` tells the protocol.

Randomness and keys are arguments; whatever arrives is checked before anything is computed with it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from ..serialization.ring_paillier_messages import PartialSum
from . import paillier
from .encoding import ArrayEncoding
from .errors import InvalidMessageError
from .invitation import Opened
from .key_agreement import SessionKeys
from .limbs import Limbs
from .packing import Packing, expected_tags, required_bits, tags
from .paillier import Ciphertexts
from .paillier_keys import PrivateKey, PublicKey
from .paillier_noise import NoisePool
from .party import PartyId
from .secret import RandomBytes

MASK_PURPOSE = "ring mask"
EXCESS_BYTES = 16  # a residue of so many extra bytes is within 2^-128 of uniform


@dataclass(frozen=True, slots=True)
class RingSetup:
    """What every party derives, alike, from the opened session.

    Attributes
    ----------
    order : tuple of PartyId
        The ring, first holder first.
    public_keys : tuple of PublicKey
        One for every residue.
    packing : Packing
        How words lie in plaintexts.
    """

    session: bytes
    binding: bytes
    coordinator: PartyId
    order: tuple[PartyId, ...]
    public_keys: tuple[PublicKey, ...]
    packing: Packing
    masks: bool

    @property
    def n_plaintexts(self) -> int:
        """Plaintexts of a contribution."""
        return self.packing.n_plaintexts

    @property
    def modulus(self) -> int:
        """The plaintext space: the product of the keys' moduli."""
        return math.prod(key.n for key in self.public_keys)

    @property
    def key_id(self) -> bytes:
        """Hash over all public keys: 32 bytes."""
        return hashlib.sha256(b"".join(key.key_id for key in self.public_keys)).digest()

    def tags(self, holder: PartyId) -> list[int]:
        """Return what a holder puts into its check slots."""
        return tags(self.session, holder, self.packing.n_plaintexts)


# Steps


def keys_needed(encodings: Sequence[ArrayEncoding], n_holders: int, key_bits: int) -> int:
    """How many keys a plaintext needs for its widest slot beside check slot and flag.

    A product of k moduli of b bits each has at least k (b − 1) + 1 bits.
    """
    return max(1, -(-required_bits(encodings, n_holders) // (key_bits - 1)))


def ring_order(opened: Opened, *, masks: bool) -> tuple[PartyId, ...]:
    """Return the holders in the order of a hash.

    With masks the order hides nothing (a coordinator that tries many keys may choose it), and is shuffled
    by every session. Without them it is drawn once from the roster: reshuffling would add up what neighbours
    see.
    """
    seed = opened.binding if masks else opened.roster.digest
    return tuple(
        sorted(opened.roster.holders, key=lambda name: hashlib.sha256(seed + name.encode()).digest())
    )


def pair_masks(key: bytes, modulus_bytes: int, n_plaintexts: int, modulus: int) -> list[int]:
    """Return the masks of one pair for one session, one a plaintext, uniform modulo `modulus`.

    AES-256-CTR under a key that is used once.
    """
    width = modulus_bytes + EXCESS_BYTES
    encryptor = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    stream = encryptor.update(bytes(width * n_plaintexts))
    return [
        int.from_bytes(stream[start : start + width], "big") % modulus
        for start in range(0, len(stream), width)
    ]


def masked(setup: RingSetup, keys: SessionKeys, plaintexts: Sequence[int]) -> list[int]:
    """Add this holder's masks: plus towards later names, minus towards earlier ones, so all cancel.

    **Call once per session**: a mask used twice is a two-time pad.
    """
    modulus = setup.modulus
    total = list(plaintexts)
    for peer in setup.order:
        if peer == keys.me:
            continue
        key = keys.take_pair_key(peer, MASK_PURPOSE, setup.binding)
        masks = pair_masks(key, -(-modulus.bit_length() // 8), len(total), modulus)
        sign = 1 if keys.me < peer else -1
        total = [(value + sign * mask) % modulus for value, mask in zip(total, masks, strict=True)]
    return total


def plaintexts_of(
    setup: RingSetup, me: PartyId, words: tuple[Limbs, ...] | None, random_bytes: RandomBytes
) -> list[int]:
    """Return a holder's packed words, or uniform plaintexts, which set all flags, if it cannot contribute."""
    if words is not None:
        return setup.packing.pack(words, setup.tags(me))
    modulus = setup.modulus
    width = -(-modulus.bit_length() // 8) + EXCESS_BYTES
    return [int.from_bytes(random_bytes(width), "big") % modulus for _ in range(setup.n_plaintexts)]


def read_partial_sum(setup: RingSetup, partial: PartialSum, sender: PartyId, hop: int) -> list[Ciphertexts]:
    """Return the ciphertexts under each key; refuse those of another session, hop, question or key.

    Raises
    ------
    InvalidMessageError
        Naming the sender.
    """
    belongs = (
        partial.session == setup.session
        and partial.hop == hop
        and partial.binding == setup.binding
        and partial.key_id == setup.key_id
    )
    if not belongs:
        raise InvalidMessageError("a partial sum of another session, hop or question", culprits=[sender])
    rows = len(setup.public_keys) * setup.n_plaintexts
    width = setup.public_keys[0].ciphertext_bytes
    if partial.ciphertexts.shape != (rows, width):
        raise InvalidMessageError("a partial sum with another number of ciphertexts", culprits=[sender])
    blocks = np.split(partial.ciphertexts, len(setup.public_keys))
    return [
        Ciphertexts.read(key, block, sender=sender)
        for key, block in zip(setup.public_keys, blocks, strict=True)
    ]


def partial_sum(setup: RingSetup, hop: int, ciphertexts: Sequence[Ciphertexts]) -> PartialSum:
    """Return the frame of a hop: equal blocks of rows, one under each key."""
    return PartialSum(
        session=setup.session,
        hop=hop,
        binding=setup.binding,
        key_id=setup.key_id,
        ciphertexts=np.concatenate([block.write() for block in ciphertexts]),
    )


def random_partial_sum(setup: RingSetup, random_bytes: RandomBytes) -> list[Ciphertexts]:
    """Return the coordinator's c0: uniform elements, which are encryptions of uniform plaintexts."""
    return [paillier.random_ciphertexts(key, setup.n_plaintexts, random_bytes) for key in setup.public_keys]


def encrypt_contribution(
    setup: RingSetup,
    keys: SessionKeys,
    words: tuple[Limbs, ...] | None,
    *,
    pools: Sequence[NoisePool],
    random_bytes: RandomBytes,
) -> list[Ciphertexts]:
    """Pack a holder's words, mask and encrypt them. **Call once per session**: see `masked`."""
    plaintexts = plaintexts_of(setup, keys.me, words, random_bytes)
    if setup.masks:
        plaintexts = masked(setup, keys, plaintexts)
    return [
        paillier.encrypt(key, [value % key.n for value in plaintexts], pool)
        for key, pool in zip(setup.public_keys, pools, strict=True)
    ]


def add_contribution(
    setup: RingSetup, me: PartyId, partial: PartialSum, own: Sequence[Ciphertexts]
) -> PartialSum:
    """Take a holder's hop: check what came, and add the holder's fresh encryption.

    Raises
    ------
    InvalidMessageError
        If the incoming partial sum is not what it must be.
    """
    place = setup.order.index(me)
    sender = setup.order[place - 1] if place else setup.coordinator
    incoming = read_partial_sum(setup, partial, sender, place)
    return partial_sum(setup, place + 1, list(map(paillier.add, incoming, own)))


def open_total(
    setup: RingSetup, private_keys: Sequence[PrivateKey], first: Sequence[Ciphertexts], last: PartialSum
) -> tuple[Limbs, ...]:
    """Take c0 out of the last partial sum, c · c0⁻¹; decrypt, check and unpack the total.

    Raises
    ------
    VoidedError
        If some holder could not contribute.
    InvalidMessageError
        If the total cannot be the sum of one contribution of every holder.
    """
    parts = map(paillier.subtract, read_partial_sum(setup, last, setup.order[-1], len(setup.order)), first)
    residues = [paillier.decrypt(private, part) for private, part in zip(private_keys, parts, strict=True)]
    totals = join_residues(residues, [key.n for key in setup.public_keys])
    expected = expected_tags(setup.session, setup.order, setup.packing.n_plaintexts)
    try:
        return tuple(setup.packing.unpack(totals, expected))
    except InvalidMessageError as error:
        raise InvalidMessageError(error.problem, suspects=setup.order) from None


def join_residues(residues: Sequence[Sequence[int]], moduli: Sequence[int]) -> list[int]:
    """Integers from their residues modulo several coprime moduli (Chinese remainder theorem, Garner)."""
    joined, modulus = list(residues[0]), moduli[0]
    for others, n in zip(residues[1:], moduli[1:], strict=True):
        inverse = pow(modulus, -1, n)
        joined = [
            value + modulus * ((other - value) * inverse % n)
            for value, other in zip(joined, others, strict=True)
        ]
        modulus *= n
    return joined
