"""Ring-Paillier: a total passed round a ring of holders under the coordinator's key.

The coordinator k holds a Paillier key; the holders h1 … hm stand in a shuffled ring.

1. ``k -> h1: PartialSum(hop 0)``: c0, a uniform element of Z*_{n²}. It *is* an encryption of a uniform r.
2. ``h_i -> h_{i+1}: PartialSum(hop i)``: each holder checks what it gets, encodes and packs its contribution,
   adds its masks, and multiplies by a fresh encryption of that.
3. ``h_m -> k: PartialSum(hop m)``: the coordinator decrypts c · c0⁻¹, checks and unpacks.

**Masks in the ring.** Each pair of holders derives, for this session alone, a mask modulo n for every
plaintext; one adds it, the other subtracts it. So what the coordinator could decrypt of an intermediate frame
is uniform.

**Who learns what.** The coordinator learns the sum and nothing else; holders learn nothing. Resists a curious
coordinator and curious holders. With masks, an input is uncovered only if the coordinator and *all holders but
one* pool what they saw; a smaller coalition learns the sum of the others. Without masks two
neighbours in the ring and the coordinator suffice (one, for the first and the last). Any holder can shift the
sum by what it puts in. Frames between holders are sealed by the links, because the coordinator holds the key.

**Residues.** A plaintext wider than one key goes as residues modulo several keys, joined by the Chinese
remainder theorem; the product of the moduli is then the plaintext space.

**The flag.** A holder that cannot contribute puts uniform elements in the place of all its plaintexts; the coordinator
sees by the flag at the top of each total that somebody could not, not who.

Sources: Paillier 1999; Damgård, Jurik and Nielsen 2010 (the noise); the ring follows homomorpheR 0.3
(Narasimhan). Masks in the ring, the check slot and the flag are tacit's own composition of published pieces,
without a written proof.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np

from ..serialization.codec import encode
from ..serialization.ring_paillier_messages import PartialSum, RingPaillierOptions, RingParameters
from ..serialization.schema import Message
from .channel import Channel
from .encoding import ArrayEncoding
from .errors import InvalidMessageError, SetupError
from .invitation import Opened, Opening
from .key_agreement import SessionKeys
from .limbs import Limbs
from .packing import packing_for
from .paillier_keys import MAXIMUM_KEY_BITS, PrivateKey, PublicKey, generate_keys
from .paillier_noise import FixedBaseNoise, NoisePool, StrictNoise, best_window
from .protocol import Attack, Cost, Protocol, Release, Summed, Trust
from .ring_steps import (
    RingSetup,
    add_contribution,
    encrypt_contribution,
    keys_needed,
    open_total,
    partial_sum,
    random_partial_sum,
    ring_order,
)
from .secret import RandomBytes, Secret

T = TypeVar("T")

MINIMUM_KEY_BITS = 2048
HOP_SECONDS = 60.0
SECONDS_PER_CIPHERTEXT = 1.0  # of the longest keys with strict noise, many times over
EXPECTED_PASSES = 16  # with one key: what a noise table is sized for
FEW_CIPHERTEXTS = 16  # some milliseconds of work, except to decrypt
POOLS_KEPT = 4  # a table has tens of megabytes, and a coordinator may come with ever new keys

# Secrets


class RingMemory(Secret):
    """What a party keeps between passes: *never sent*.

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


# The protocol and its roles


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
        Fresh randomness of ciphertexts: fixed-base tables (Damgård, Jurik, Nielsen), or the textbook's r^n,
        fifteen times slower and the only choice for keys not made by tacit.
    fresh_keys : bool
        Whether the coordinator makes new keys for every pass.
    colluding : int
        Holders that may pool with the coordinator: more than so many must have released nothing before a
        question is asked again over fewer.

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
        if (
            not isinstance(self.key_bits, int)
            or not self._minimum_key_bits <= self.key_bits <= MAXIMUM_KEY_BITS
        ):
            raise SetupError(
                f"key_bits is a whole number, at least {self._minimum_key_bits} (shorter keys can be factored) "
                f"and at most {MAXIMUM_KEY_BITS}"
            )
        if self.key_bits % 2:
            raise SetupError("key_bits is even: a modulus has two primes of equal length")
        if self.noise not in ("tables", "strict"):
            raise SetupError("noise is 'tables' or 'strict'")
        if not self.colluding >= 1:
            raise SetupError("colluding is at least 1: one holder may always pool with the coordinator")

    @classmethod
    def insecure_for_tests(
        cls, key_bits: int = 256, *, masks: bool = True, fresh_keys: bool = False, colluding: int = 1
    ) -> RingPaillier:
        """Make a ring with a key short enough to be broken: for tests of the protocol's logic only."""
        return cls(key_bits, masks, "tables", fresh_keys, colluding, _minimum_key_bits=64)

    @classmethod
    def from_options(cls, options: RingPaillierOptions) -> RingPaillier:
        """Return the protocol that an invitation asks for."""
        noise = cast(Literal["tables", "strict"], options.noise)  # which __post_init__ checks
        return cls(options.key_bits, options.masks, noise, options.fresh_keys, options.colluding)

    @property
    def minimum_holders(self) -> int:
        """At least two honest inputs beside those that may collude, and never fewer than three."""
        return max(self.colluding + 2, 3)

    @property
    def withstands(self) -> int:
        """As of any protocol; without masks the neighbour of a holder at an end of the ring is enough."""
        return self.colluding if self.masks else 0

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
            "the coordinator and all holders but one pool"
            if self.masks
            else "the coordinator and a holder's two neighbours in the ring pool (one, at its ends)"
        )
        return Trust("the sum", "a curious coordinator and curious holders", coalition)

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The known attacks and the step that stops each."""
        return (
            Attack(
                "the coordinator decrypts a captured frame", "frames between holders are sealed by the links"
            ),
            Attack(
                "two neighbours and the coordinator subtract partial sums",
                "masks in the ring" if self.masks else "nothing: masks are off",
            ),
            Attack(
                "a frame of another session, hop or question is slipped in", "session, hop and binding hash"
            ),
            Attack("a contribution counts twice, another is missing", "the check slot's tags"),
            Attack(
                "one holder gets a special model or roster",
                "signatures over the invitation, shown to all in Begin",
            ),
            Attack(
                "the same question over one holder fewer",
                "the survivors' signed word that nothing was released",
            ),
            Attack(
                "a value out of range overflows into its neighbour",
                "declared bounds and guard bits for exactly m holders",
            ),
            Attack("a weak or malformed key", "validation of every modulus"),
        )

    def cost(self, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Cost:
        """Count rounds, and the bytes each holder sends."""
        n_keys = keys_needed(encodings, n_holders, self.key_bits)
        capacity = n_keys * (self.key_bits - 1)
        n_plaintexts = packing_for(encodings, n_holders, capacity).n_plaintexts
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

    async def fix_parameters(self, channel: Channel, opening: Opening, memory: RingMemory) -> RingParameters:
        """Make as many keys as the widest value needs, unless they are there already."""
        n_keys = keys_needed(opening.encodings, len(opening.roster.holders), self.key_bits)
        kept = [] if self.fresh_keys else memory.keys
        moduli = [n for n in kept if n.bit_length() == self.key_bits]
        while len(moduli) < n_keys:
            key = await channel.compute(generate_keys, self.key_bits, channel.random_bytes)
            if key.public_key.n not in moduli:  # as it may be where randomness repeats, in a simulation
                memory.keys[key.public_key.n] = key
                moduli.append(key.public_key.n)
        return RingParameters(moduli=tuple(moduli[:n_keys]))

    def setup(self, opened: Opened) -> RingSetup:
        """Derive what every party does from the opened session.

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
    ) -> Summed:
        """Run the coordinator's role."""
        setup = self.setup(opened)
        take = memory.keys.pop if self.fresh_keys else memory.keys.__getitem__
        private_keys = [take(key.n) for key in setup.public_keys]
        # Step 1: c0, an encryption of a uniform r
        first = await self._call(channel, setup, random_partial_sum, setup, channel.random_bytes)
        channel.send(setup.order[0], partial_sum(setup, 0, first))
        # Step 3: c · c0⁻¹
        last = await channel.receive(
            PartialSum,
            sender=setup.order[-1],
            within=len(setup.order) * (HOP_SECONDS + SECONDS_PER_CIPHERTEXT * sum(map(len, first))),
            relying_on=setup.order,
        )
        words = await channel.compute(open_total, setup, private_keys, first, last)
        return Summed(words, opened.roster.holders)

    async def holder(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        memory: RingMemory,
        *,
        words: tuple[Limbs, ...] | None,
        release: Release,
    ) -> None:
        """Run a holder's role."""
        setup = self.setup(opened)
        window = self._window(setup)
        known = [self._pool(memory, key, window) for key in setup.public_keys]
        pools = [pool for pool in known if pool is not None]
        if len(pools) < len(known):
            pools = await channel.compute(self._make_pools, memory, setup, window, channel.random_bytes)
        place = setup.order.index(channel.me)
        before = setup.order[place - 1] if place else setup.coordinator
        after = setup.order[place + 1] if place + 1 < len(setup.order) else setup.coordinator
        # Step 2: encrypt, masked and freshly, while others are at it; add what comes in
        own = await self._call(
            channel,
            setup,
            encrypt_contribution,
            setup,
            keys,
            words,
            pools=pools,
            random_bytes=channel.random_bytes,
        )
        partial = await channel.receive(PartialSum, sender=before, relying_on=(setup.coordinator,))
        added = await self._call(channel, setup, add_contribution, setup, channel.me, partial, own)
        release(opened.roster.holders)
        channel.send(after, added)

    async def afterwards(self, channel: Channel, opened: Opened, memory: RingMemory) -> None:
        """Draw noise for the next pass, when nobody waits for it; fresh keys need none."""
        setup = self.setup(opened)
        for key in setup.public_keys:
            pool = self._pool(memory, key, 0)
            if self.fresh_keys:
                memory.pools.pop((key.key_id, self.noise), None)
            elif pool is not None:
                await channel.compute(pool.fill, setup.n_plaintexts)

    async def _call(
        self, channel: Channel, setup: RingSetup, step: Callable[..., T], *arguments: Any, **keywords: Any
    ) -> T:
        """Take a step here if it is short, and off the loop if it is not.

        Handing work to a thread and back costs more than a few ciphertexts do.
        """
        if self.noise == "tables" and len(setup.public_keys) * setup.n_plaintexts <= FEW_CIPHERTEXTS:
            return step(*arguments, **keywords)
        return await channel.compute(step, *arguments, **keywords)

    def _window(self, setup: RingSetup) -> int:
        """Bits of a table's window that suit so many plaintexts."""
        return best_window((1 if self.fresh_keys else EXPECTED_PASSES) * setup.n_plaintexts, self.key_bits)

    def _pool(self, memory: RingMemory, key: PublicKey, window: int) -> NoisePool | None:
        """Find the pool of a key, unless its table is much too small."""
        kept, pool = memory.pools.get((key.key_id, self.noise), (0, None))
        return pool if kept + 1 >= window else None

    def _make_pools(
        self, memory: RingMemory, setup: RingSetup, window: int, random_bytes: RandomBytes
    ) -> list[NoisePool]:
        """Return the pools of this session, those that are missing made now; forget the oldest."""
        pools = []
        for key in setup.public_keys:
            pool = self._pool(memory, key, window)
            if pool is None:
                tables = self.noise == "tables"
                noise = FixedBaseNoise(key, random_bytes, window) if tables else StrictNoise(key)
                pool = NoisePool(noise, random_bytes)
                memory.pools.pop((key.key_id, self.noise), None)  # so that the new one stands last
                memory.pools[key.key_id, self.noise] = (window, pool)
            pools.append(pool)
        for oldest in list(memory.pools)[: -max(POOLS_KEPT, len(pools))]:
            memory.pools.pop(oldest, None)
        return pools


@lru_cache(maxsize=64)
def _validated(n: int, bits: int) -> PublicKey:
    """Check a modulus once, not at every pass."""
    return PublicKey.validated(n, bits)
