"""Ring-Paillier: a total passed round a ring of holders under the coordinator's key.

The coordinator k holds a Paillier key; the holders h1 … hm stand in a shuffled ring.

1. ``k -> h1: PartialSum(hop 0)``: c0, a uniform element of Z*_{n²}. It *is* an encryption of a uniform r.
2. ``h_i -> h_{i+1}: PartialSum(hop i)``: each holder checks what it gets, encodes and packs its contribution, adds its
   masks, and multiplies by a fresh encryption of that.
3. ``h_m -> k: PartialSum(hop m)``: the coordinator decrypts c · c0⁻¹, checks and unpacks.

**Masks in the ring.** Each pair of holders derives, for this session alone, a mask modulo n for every plaintext; one
adds it, the other subtracts it. So what the coordinator could decrypt of an intermediate frame is uniform.

**Who learns what.** The coordinator learns the sum and nothing else; holders learn nothing. Resists a curious
coordinator and curious holders. With masks, an input is uncovered only if the coordinator and *all other holders but
one* pool what they saw; a smaller coalition learns the sum of the others. Without masks two neighbours in the ring and
the coordinator suffice (one, for the first and the last). Any holder can shift the sum by what it puts in. Frames
between holders are sealed by the links, because the coordinator holds the key.

**Residues.** A plaintext wider than one key goes as residues modulo several keys, joined by the Chinese remainder
theorem; the product of the moduli is then the plaintext space.

**The flag.** The last plaintext is 0 of everybody. A holder that cannot contribute fills all its plaintexts with
uniform elements, the flag too: the coordinator learns that somebody could not, not who.

Sources: Paillier 1999; Damgård, Jurik and Nielsen 2010 (the noise); the ring follows homomorpheR 0.3 (Narasimhan).
Masks in the ring, the check slot and the flag are tacit's own composition of published pieces, without a written proof.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from ..serialization.codec import encode
from ..serialization.ring_paillier_messages import PartialSum, RingPaillierOptions, RingParameters
from ..serialization.schema import Message
from . import paillier
from .channel import Channel
from .encoding import ArrayEncoding, Limbs
from .errors import InvalidMessageError, SetupError, VoidedError
from .invitation import Opened
from .key_agreement import RandomBytes, SessionKeys
from .packing import Packing, expected_tags, packing_for, required_bits, tags
from .paillier import PrivateKey, PublicKey
from .paillier_noise import FixedBaseNoise, NoisePool, StrictNoise, best_window
from .party import PartyId
from .protocol import Attack, Cost, Protocol, Trust
from .secret import Secret

MINIMUM_KEY_BITS = 2048
HOP_SECONDS = 60.0
EXPECTED_PASSES = 16  # with one key: what a noise table is sized for
MASK_PURPOSE = "ring mask"
EXCESS_BYTES = 16  # a residue of so many extra bytes is within 2^-128 of uniform
POOLS_KEPT = 4  # a table has tens of megabytes, and a coordinator may come with ever new keys

Ciphertexts = NDArray[np.uint8]


# Secrets


class RingMemory(Secret):
    """What a party keeps between passes. *Never sent.*

    Attributes
    ----------
    keys : dict of int to PrivateKey
        The coordinator's keys by modulus.
    pools : dict of (bytes, str) to (int, NoisePool)
        A holder's noise by key id and kind, with the table's window in bits. Each entry is used once.
    """

    def __init__(self) -> None:
        self.keys: dict[int, PrivateKey] = {}
        self.pools: dict[tuple[bytes, str], tuple[int, NoisePool]] = {}


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
        """Plaintexts of a contribution: the packed words, and the flag."""
        return self.packing.n_plaintexts + 1

    @property
    def modulus(self) -> int:
        """The plaintext space: the product of the keys' moduli."""
        return math.prod(key.n for key in self.public_keys)

    @property
    def key_id(self) -> bytes:
        """Hash over all public keys: 32 bytes."""
        return hashlib.sha256(b"".join(key.key_id for key in self.public_keys)).digest()

    def tags(self, holder: PartyId) -> list[int]:
        """What a holder puts into its check slots."""
        return tags(self.session, holder, self.packing.n_plaintexts)


# Steps


def keys_needed(encodings: Sequence[ArrayEncoding], n_holders: int, key_bits: int) -> int:
    """How many keys a plaintext needs for its widest slot beside the check slot.

    A product of k moduli of b bits each has at least k (b − 1) + 1 bits.
    """
    return max(1, -(-required_bits(encodings, n_holders) // (key_bits - 1)))


def ring_order(opened: Opened, *, masks: bool) -> tuple[PartyId, ...]:
    """The holders in the order of a hash.

    With masks the order hides nothing (a coordinator that tries many keys may choose it), and is shuffled
    by every session. Without them it is drawn once from the roster and the model: reshuffling each pass
    would add up what neighbours see.
    """
    seed = opened.binding if masks else opened.roster.digest + opened.invitation.definition
    return tuple(
        sorted(opened.roster.holders, key=lambda name: hashlib.sha256(seed + name.encode()).digest())
    )


def pair_masks(
    key: bytes, modulus_bytes: int, n_plaintexts: int, modulus: int
) -> list[int]:
    """The masks of one pair for one session, one a plaintext, uniform modulo `modulus`.

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
    """A holder's plaintexts: its packed words and a zero flag, or all uniform if it cannot contribute."""
    if words is not None:
        return [*setup.packing.pack(words, setup.tags(me)), 0]
    modulus = setup.modulus
    width = -(-modulus.bit_length() // 8) + EXCESS_BYTES
    return [int.from_bytes(random_bytes(width), "big") % modulus for _ in range(setup.n_plaintexts)]


def check_partial_sum(setup: RingSetup, partial: PartialSum, sender: PartyId, hop: int) -> None:
    """Refuse a partial sum of another session, hop, question or key, or with invalid ciphertexts.

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
    for key, part in zip(setup.public_keys, by_key(setup, partial.ciphertexts), strict=True):
        paillier.validate_ciphertexts(key, part, sender=sender)


def by_key(setup: RingSetup, ciphertexts: Ciphertexts) -> list[Ciphertexts]:
    """The ciphertexts under each key: equal blocks of rows."""
    return [
        ciphertexts[block * setup.n_plaintexts : (block + 1) * setup.n_plaintexts]
        for block in range(len(setup.public_keys))
    ]


def first_partial_sum(setup: RingSetup, random_bytes: RandomBytes) -> PartialSum:
    """The coordinator's c0: uniform elements, which are encryptions of uniform plaintexts."""
    blocks = [
        paillier.random_ciphertexts(key, setup.n_plaintexts, random_bytes) for key in setup.public_keys
    ]
    return _partial_sum(setup, 0, np.concatenate(blocks))


def add_contribution(
    setup: RingSetup,
    keys: SessionKeys,
    partial: PartialSum,
    words: tuple[Limbs, ...] | None,
    pools: Sequence[NoisePool],
    random_bytes: RandomBytes,
) -> PartialSum:
    """A holder's hop: check, pack, mask, and multiply by a fresh encryption.

    Raises
    ------
    InvalidMessageError
        If the incoming partial sum is not what it must be.
    """
    place = setup.order.index(keys.me)
    sender = setup.order[place - 1] if place else setup.coordinator
    check_partial_sum(setup, partial, sender, place)
    plaintexts = plaintexts_of(setup, keys.me, words, random_bytes)
    if setup.masks:
        plaintexts = masked(setup, keys, plaintexts)
    blocks = [
        paillier.add_encrypted(key, part, [value % key.n for value in plaintexts], pool)
        for key, part, pool in zip(
            setup.public_keys, by_key(setup, partial.ciphertexts), pools, strict=True
        )
    ]
    return _partial_sum(setup, place + 1, np.concatenate(blocks))


def open_total(
    setup: RingSetup, private_keys: Sequence[PrivateKey], first: PartialSum, last: PartialSum
) -> tuple[Limbs, ...]:
    """Decrypt, check and unpack the total.

    Raises
    ------
    VoidedError
        If some holder could not contribute.
    InvalidMessageError
        If the total cannot be the sum of one contribution of every holder.
    """
    check_partial_sum(setup, last, setup.order[-1], len(setup.order))
    parts = zip(by_key(setup, first.ciphertexts), by_key(setup, last.ciphertexts), strict=True)
    residues = [
        paillier.decrypt(private, paillier.divide(private.public_key, after, before))
        for private, (before, after) in zip(private_keys, parts, strict=True)
    ]
    totals = join_residues(residues, [key.n for key in setup.public_keys])
    if totals.pop() != 0:
        raise VoidedError
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


def _partial_sum(setup: RingSetup, hop: int, ciphertexts: Ciphertexts) -> PartialSum:
    return PartialSum(
        session=setup.session, hop=hop, binding=setup.binding, key_id=setup.key_id, ciphertexts=ciphertexts
    )


# Roles


@dataclass(frozen=True)
class RingPaillier(Protocol[RingMemory]):
    """A ring of holders under the coordinator's Paillier key.

    Parameters
    ----------
    key_bits : int
        Length of the modulus, 2048 or more.
    masks : bool
        Whether holders add pairwise masks, so that no two of them and the coordinator learn an input.
    noise : {"tables", "strict"}
        Fresh randomness of ciphertexts: fixed-base tables (Damgård, Jurik, Nielsen), or the textbook's r^n, fifteen
        times slower and the only choice for keys not made by tacit.
    fresh_keys : bool
        Whether the coordinator makes new keys for every pass.
    colluding : int
        Holders that may pool with the coordinator before a re-run without a lost holder is refused.

    Raises
    ------
    SetupError
        If an option is out of its range.
    """

    key_bits: int = 3072
    masks: bool = True
    noise: Literal["tables", "strict"] = "tables"
    fresh_keys: bool = False
    colluding: int = 1
    _minimum_key_bits: int = field(default=MINIMUM_KEY_BITS, repr=False)

    title: ClassVar[str] = "ring-Paillier"
    accepts: ClassVar[
        tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]
    ] = ((PartialSum,), (PartialSum,), (PartialSum,))

    def __post_init__(self) -> None:
        if not self.key_bits >= self._minimum_key_bits:
            raise SetupError(f"key_bits must be at least {self._minimum_key_bits}: shorter keys can be factored")
        if self.noise not in ("tables", "strict"):
            raise SetupError("noise is 'tables' or 'strict'")
        if not self.colluding >= 1:
            raise SetupError("colluding is at least 1: one holder may always pool with the coordinator")

    @classmethod
    def insecure_for_tests(cls, key_bits: int = 256, *, masks: bool = True, fresh_keys: bool = False, colluding: int = 1) -> RingPaillier:
        """A ring with a key short enough to be broken: for tests of the protocol's logic only."""
        return cls(key_bits, masks, "tables", fresh_keys, colluding, _minimum_key_bits=64)

    @classmethod
    def from_options(cls, options: RingPaillierOptions) -> RingPaillier:
        """The protocol that an invitation asks for."""
        noise: Literal["tables", "strict"] = "tables" if options.noise == "tables" else "strict"
        return cls(options.key_bits, options.masks, noise, options.fresh_keys, options.colluding)

    @property
    def minimum_holders(self) -> int:
        """At least two honest inputs beside those that may collude, and never fewer than three."""
        return max(self.colluding + 2, 3)

    @property
    def options(self) -> RingPaillierOptions:
        """The options as a message."""
        return RingPaillierOptions(
            key_bits=self.key_bits,
            masks=self.masks,
            noise=self.noise,
            fresh_keys=self.fresh_keys,
            colluding=self.colluding,
        )

    @property
    def trust(self) -> Trust:
        """Who learns what."""
        coalition = (
            "the coordinator and all other holders but one pool"
            if self.masks
            else "the coordinator and a holder's two neighbours in the ring pool (one, at its ends)"
        )
        return Trust("the sum", "a curious coordinator and curious holders", coalition)

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The known attacks and the step that stops each."""
        return (
            Attack("the coordinator decrypts a captured frame", "frames between holders are sealed by the links"),
            Attack("two neighbours and the coordinator subtract partial sums", "masks in the ring" if self.masks else "nothing: masks are off"),
            Attack("a frame of another session, hop or question is slipped in", "session, hop and binding hash"),
            Attack("a contribution counts twice, another is missing", "the check slot's tags"),
            Attack("one holder gets a special model or roster", "signatures over the invitation, shown to all in Begin"),
            Attack("the same question over one holder fewer", "the survivors' signed word that nothing was released"),
            Attack("a value out of range overflows into its neighbour", "declared bounds and guard bits for exactly m holders"),
            Attack("a weak or malformed key", "validation of every modulus"),
        )

    def cost(self, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Cost:
        """Rounds, and bytes each holder sends."""
        n_keys = keys_needed(encodings, n_holders, self.key_bits)
        capacity = n_keys * (self.key_bits - 1)
        n_plaintexts = packing_for(encodings, n_holders, capacity).n_plaintexts + 1
        rows, width = n_keys * n_plaintexts, -(-2 * self.key_bits // 8)
        frame = encode(
            PartialSum(
                session=bytes(32),
                hop=n_holders,
                binding=bytes(32),
                key_id=bytes(32),
                ciphertexts=np.zeros((rows, width), dtype=np.uint8),
            )
        )
        return Cost(4 + n_holders, frame.size)

    def memory(self) -> RingMemory:
        """Keys and noise, none yet."""
        return RingMemory()

    async def fix_parameters(
        self, channel: Channel, encodings: tuple[ArrayEncoding, ...], memory: RingMemory
    ) -> RingParameters:
        """Make as many keys as the widest value needs, unless they are there already."""
        n_holders = encodings[0].n_contributions if encodings else self.minimum_holders
        n_keys = keys_needed(encodings, n_holders, self.key_bits)
        kept = [] if self.fresh_keys else memory.keys
        moduli = [n for n in kept if n.bit_length() == self.key_bits]
        while len(moduli) < n_keys:
            key = await channel.compute(paillier.generate_keys, self.key_bits, channel.random_bytes)
            memory.keys[key.public_key.n] = key
            moduli.append(key.public_key.n)
        return RingParameters(moduli=tuple(moduli[:n_keys]))

    def setup(self, opened: Opened) -> RingSetup:
        """What every party derives from the opened session.

        Raises
        ------
        SetupError
            If a modulus is unfit, or the values do not fit into the plaintexts.
        """
        parameters = opened.parameters
        if not isinstance(parameters, RingParameters) or not parameters.moduli:
            raise InvalidMessageError("a Begin without keys", culprits=[opened.roster.coordinator])
        if len(set(parameters.moduli)) != len(parameters.moduli):
            raise InvalidMessageError("a Begin with a key twice", culprits=[opened.roster.coordinator])
        keys = tuple(_validated(n, self.key_bits) for n in parameters.moduli)
        # What keys of this length hold at least: the same whatever the keys, as `cost` foretells.
        capacity = len(keys) * (self.key_bits - 1)
        packing = packing_for(opened.encodings, len(opened.roster.holders), capacity)
        return RingSetup(
            session=opened.session,
            binding=opened.binding,
            coordinator=opened.roster.coordinator,
            order=ring_order(opened, masks=self.masks),
            public_keys=keys,
            packing=packing,
            masks=self.masks,
        )

    async def coordinator(
        self, channel: Channel, opened: Opened, keys: SessionKeys, memory: RingMemory
    ) -> tuple[Limbs, ...]:
        """The coordinator's role."""
        setup = self.setup(opened)
        take = memory.keys.pop if self.fresh_keys else memory.keys.__getitem__
        private_keys = [take(key.n) for key in setup.public_keys]
        # Step 1: c0, an encryption of a uniform r
        first = await channel.compute(first_partial_sum, setup, channel.random_bytes)
        channel.send(setup.order[0], first)
        # Step 3: c · c0⁻¹
        last = await channel.receive(
            PartialSum,
            sender=setup.order[-1],
            within=HOP_SECONDS * len(setup.order),
            relying_on=setup.order,
        )
        return await channel.compute(open_total, setup, private_keys, first, last)

    async def holder(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        memory: RingMemory,
        words: tuple[Limbs, ...] | None,
        release: Callable[[], None],
    ) -> None:
        """A holder's role."""
        setup = await channel.compute(self.setup, opened)
        pools = await channel.compute(self._pools, setup, memory, channel.random_bytes)
        place = setup.order.index(channel.me)
        before = setup.order[place - 1] if place else setup.coordinator
        after = setup.order[place + 1] if place + 1 < len(setup.order) else setup.coordinator
        # Step 2: add, masked and freshly encrypted
        partial = await channel.receive(PartialSum, sender=before, relying_on=(setup.coordinator,))
        added = await channel.compute(
            add_contribution, setup, keys, partial, words, pools, channel.random_bytes
        )
        release()
        channel.send(after, added)
        # Off the critical path: noise for the next pass
        if not self.fresh_keys:
            for pool in pools:
                await channel.compute(pool.fill, setup.n_plaintexts)

    def _pools(self, setup: RingSetup, memory: RingMemory, random_bytes: RandomBytes) -> list[NoisePool]:
        """The pool of each key, made now if there is none, or none with a table for so many plaintexts."""
        pools = []
        for key in setup.public_keys:
            passes = 1 if self.fresh_keys else EXPECTED_PASSES
            window = best_window(passes * setup.n_plaintexts, self.key_bits)
            known = memory.pools.pop((key.key_id, self.noise), None)
            if known is None or known[0] + 1 < window:
                tables = self.noise == "tables"
                noise = FixedBaseNoise(key, random_bytes, window) if tables else StrictNoise(key)
                known = (window, NoisePool(noise, random_bytes))
            if not self.fresh_keys:
                memory.pools[key.key_id, self.noise] = known  # the latest used stands last
            pools.append(known[1])
        while len(memory.pools) > max(POOLS_KEPT, len(pools)):
            del memory.pools[next(iter(memory.pools))]
        return pools


@lru_cache(maxsize=64)
def _validated(n: int, bits: int) -> PublicKey:
    """A modulus is checked once, not at every pass."""
    return PublicKey.validated(n, bits)
