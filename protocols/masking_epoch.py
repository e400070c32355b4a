"""An epoch of pairwise masking: what is dealt once and lasts for many sums, and who keeps what of it.

Steps are pure functions between the messages, with randomness and keys as arguments; whatever arrives is checked
before anything is computed with it. `pairwise_masking` tells the protocol, `masking_set_up` has the roles, and
`masking_steps` what a sum does with an epoch. Names follow the papers: u and v are holders, r is a round of an epoch,
b_u a self seed, s_uv a pairwise seed, K_u an opening key, U2 the dealers.

Who learns what: a holder has its own seeds and one share of each neighbour's; the coordinator has what locks the
pairwise seeds, and commitments to all. Fewer than the threshold of shares open nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..serialization.codec import digest
from ..serialization.pairwise_masking_messages import DealtShares, ReceivedShares
from ..serialization.schema import Message
from . import shamir_bytes
from .errors import InvalidMessageError, MisuseError
from .invitation import Opened
from .key_agreement import KEY_BYTES, SessionKeys, derive
from .party import PartyId, Roster
from .secret import RandomBytes, Secret
from .shamir_bytes import Octets

NONCE = bytes(12)  # of keys that seal one thing only
TAG_BYTES = 16  # of what is sealed, besides its length


# What every party knows of an epoch


@dataclass(frozen=True)
class Graph:
    """Who masks with whom, who keeps whose shares, and how many shares reconstruct.

    Attributes
    ----------
    neighbours : mapping of PartyId to tuple of PartyId
        With whom each holder masks, in roster order. Symmetric.
    keepers : mapping of PartyId to tuple of PartyId
        Who keeps each holder's shares, in roster order: its neighbours and, in the complete graph alone, itself.
        Symmetric.
    threshold : int
        Shares that reconstruct.
    seed : bytes
        What has placed the holders; empty if all mask with all.
    """

    neighbours: Mapping[PartyId, tuple[PartyId, ...]]
    keepers: Mapping[PartyId, tuple[PartyId, ...]]
    threshold: int
    seed: bytes

    @cached_property
    def places(self) -> Mapping[PartyId, Mapping[PartyId, int]]:
        """Of each holder the places of its neighbours."""
        return {holder: {peer: i for i, peer in enumerate(near)} for holder, near in self.neighbours.items()}


def terms(roster: Roster, options: Message) -> bytes:
    """Return what an epoch is good for: one roster and one choice of options, 64 bytes."""
    return roster.digest + digest(options)


def commitment(epoch: bytes, index: int, seed: bytes) -> bytes:
    """Return what commits to a seed of a round: 32 bytes that tell nothing of it."""
    return hashlib.sha256(b"tacit masking commitment" + epoch + index.to_bytes(4, "big") + seed).digest()


def check_session(opened: Opened, sender: PartyId, session: bytes) -> None:
    """Refuse a message of another session.

    Raises
    ------
    InvalidMessageError
        Naming its sender.
    """
    if session != opened.session:
        raise InvalidMessageError("a message of another session", culprits=[sender])


# Secrets


class Epoch(Secret):
    """What a holder keeps of an epoch: *never sent*; what belongs to a round is taken out once.

    Attributes
    ----------
    identifier : bytes
        The session that set it up.
    terms : bytes
        For which roster and options.
    dealers : tuple of PartyId
        U2, in roster order.

    Parameters
    ----------
    opened : Opened
        The session that sets it up.
    graph : Graph
    dealers : tuple of PartyId
    own : OwnSecrets
    shares : dict of PartyId to ndarray of uint8, shape (rounds, 64)
        By dealer, in roster order.
    """

    def __init__(
        self,
        opened: Opened,
        graph: Graph,
        dealers: tuple[PartyId, ...],
        own: OwnSecrets,
        shares: Mapping[PartyId, Octets],
    ) -> None:
        self.identifier = opened.session
        self.terms = terms(opened.roster, opened.invitation.protocol)
        self.dealers = dealers
        dealt = set(dealers)
        self._graph_seed = graph.seed
        self._code_keys = own.code_keys
        self._self_seeds = dict(enumerate(own.self_seeds))
        self._pair_seeds = {
            peer: dict(enumerate(seeds)) for peer, seeds in own.pair_seeds.items() if peer in dealt
        }
        self._shares = {dealer: dict(enumerate(rows)) for dealer, rows in shares.items()}

    def take_seeds(self, index: int) -> tuple[bytes, dict[PartyId, bytes]]:
        """Return b and, by neighbour, s of a round.

        Raises
        ------
        MisuseError
            On a second call: a mask used twice is a two-time pad.
        """
        if index not in self._self_seeds:
            raise MisuseError("a round of an epoch is used once")
        pairs = {peer: seeds.pop(index) for peer, seeds in self._pair_seeds.items()}
        return self._self_seeds.pop(index), pairs

    def take_shares(self, index: int, survivors: Collection[PartyId]) -> Octets:
        """Return a share of each dealer near: of b if it survives, else of K; **the other is gone then**.

        Raises
        ------
        MisuseError
            On a second call: shares of both would uncover an input.
        """
        if any(index not in rows for rows in self._shares.values()):
            raise MisuseError("a round of an epoch is unmasked once")
        taken, survive = [(dealer, rows.pop(index)) for dealer, rows in self._shares.items()], set(survivors)
        chosen = [row[:KEY_BYTES] if dealer in survive else row[KEY_BYTES:] for dealer, row in taken]
        return np.array(chosen, dtype=np.uint8).reshape(-1, KEY_BYTES)

    def forget(self, index: int) -> None:
        """Delete what is left of a round that is over, however it has ended."""
        secrets: list[dict[int, Any]] = [self._self_seeds, *self._pair_seeds.values(), *self._shares.values()]
        for by_round in secrets:
            by_round.pop(index, None)

    def told(self, opened: Opened, survivors: Sequence[PartyId]) -> bytes:
        """Return a digest of what this holder was told: who has dealt, in which graph, and who survives."""
        names = _joined(self.dealers, tuple(survivors))
        return hashlib.sha256(opened.binding + self.identifier + self._graph_seed + names).digest()

    def code(self, sender: PartyId, recipient: PartyId, told: bytes) -> bytes:
        """Authenticate, from this holder or to it, what the sender was told: keyed BLAKE2b (RFC 7693), 32 bytes."""
        key = self._code_keys.get(sender) or self._code_keys[recipient]  # there is none of this holder's own
        content = bytes([sender < recipient]) + told  # the key is the pair's, for both directions
        return hashlib.blake2b(content, key=key, digest_size=KEY_BYTES, person=b"tacit survivors").digest()


class OwnSecrets(Secret):
    """What a dealer knows besides its shares: *never sent*.

    Attributes
    ----------
    self_seeds : list of bytes
        b of each round.
    pair_seeds : dict of PartyId to list of bytes
        s of each round with each neighbour.
    code_keys : dict of PartyId to bytes
        With every holder, to authenticate who survives.
    shares : dict of PartyId to ndarray of uint8, shape (rounds, 64)
        Of its own b and K, if it keeps one itself; else empty.
    """

    def __init__(
        self,
        self_seeds: list[bytes],
        pair_seeds: dict[PartyId, list[bytes]],
        code_keys: dict[PartyId, bytes],
        shares: dict[PartyId, Octets],
    ) -> None:
        self.self_seeds = self_seeds
        self.pair_seeds = pair_seeds
        self.code_keys = code_keys
        self.shares = shares


# Dealing, once an epoch


def deal(
    opened: Opened, graph: Graph, keys: SessionKeys, n_rounds: int, *, codes: bool, random_bytes: RandomBytes
) -> tuple[DealtShares, OwnSecrets]:
    """Draw a holder's secrets of an epoch, share them with those who keep them, and commit to them.

    **Call once a session**: the pairwise seeds follow from its keys.

    Parameters
    ----------
    opened : Opened
        The session that sets the epoch up.
    graph : Graph
    keys : SessionKeys
        Of this holder in that session.
    n_rounds : int
    codes : bool
        Whether the holders will tell each other who survives.
    random_bytes : callable
        Source of (2 + 2 · (threshold − 1)) · 32 · rounds secret bytes.

    Returns
    -------
    DealtShares
        For the coordinator.
    OwnSecrets
    """
    epoch, me, near = opened.session, keys.me, graph.neighbours[keys.me]
    pair_seeds = {peer: _round_seeds(keys, opened, peer, n_rounds) for peer in near}
    self_seeds, opening_keys = (cut(random_bytes(KEY_BYTES * n_rounds)) for _ in range(2))
    shares = shamir_bytes.split(
        octets([b + key for b, key in zip(self_seeds, opening_keys, strict=True)]),
        threshold=graph.threshold,
        points=range(1, len(graph.keepers[me]) + 1),
        random_bytes=random_bytes,
    )
    by_keeper = dict(zip(graph.keepers[me], shares, strict=True))
    peers = [peer for peer in opened.present if peer != me] if codes else []
    code_keys = {peer: keys.take_pair_key(peer, "survivor codes", opened.binding) for peer in peers}
    own = OwnSecrets(self_seeds, pair_seeds, code_keys, {me: by_keeper[me]} if me in by_keeper else {})
    dealt = DealtShares(
        session=epoch,
        sealed=tuple(_seal_share(keys, opened, graph, peer, by_keeper[peer]) for peer in near),
        locked_seeds=tuple(
            AESGCM(key).encrypt(NONCE, b"".join(seeds[r] for seeds in pair_seeds.values()), None)
            for r, key in enumerate(opening_keys)
        ),
        seed_commitments=octets(
            [commitment(epoch, r, seeds[r]) for r in range(n_rounds) for seeds in pair_seeds.values()]
        ).reshape(n_rounds, -1, KEY_BYTES),
        self_commitments=octets([commitment(epoch, r, seed) for r, seed in enumerate(self_seeds)]),
    )
    return dealt, own


def open_shares(
    opened: Opened, graph: Graph, keys: SessionKeys, own: OwnSecrets, received: ReceivedShares
) -> Epoch:
    """Open what a holder's neighbours have dealt it.

    Raises
    ------
    InvalidMessageError
        If the dealers are not as many as needed of those present, or a share cannot be opened.
    """
    me, coordinator = keys.me, opened.roster.coordinator
    named = set(received.dealers)
    dealers = tuple(holder for holder in opened.present if holder in named)
    if dealers != received.dealers or me not in named or len(dealers) < opened.needed:
        raise InvalidMessageError("dealers who cannot be those of this session", culprits=[coordinator])
    near = [holder for holder in graph.neighbours[me] if holder in named]
    if len(received.sealed) != len(near):
        raise InvalidMessageError("another number of shares than of neighbours", culprits=[coordinator])
    sealed = dict(zip(near, received.sealed, strict=True))
    shares = {
        dealer: _open_share(keys, opened, graph, dealer, sealed[dealer])
        if dealer in sealed
        else own.shares[dealer]
        for dealer in graph.keepers[me]
        if dealer in named
    }
    n_rounds = len(own.self_seeds)
    for dealer, share in shares.items():
        if share.size != 2 * KEY_BYTES * n_rounds:
            raise InvalidMessageError("shares of another length", culprits=[dealer])
    rows = {dealer: share.reshape(n_rounds, -1) for dealer, share in shares.items()}
    return Epoch(opened, graph, dealers, own, rows)


def _sealing(keys: SessionKeys, sender: PartyId, recipient: PartyId) -> AESGCM:
    return AESGCM(keys.direction_key(sender, recipient, "masking shares"))


def _seal_share(keys: SessionKeys, opened: Opened, graph: Graph, keeper: PartyId, share: Octets) -> bytes:
    """Seal a share; it opens only where the same was agreed upon, and the graph is the same."""
    about = opened.binding + graph.seed
    return _sealing(keys, keys.me, keeper).encrypt(NONCE, share.tobytes(), about)


def _open_share(keys: SessionKeys, opened: Opened, graph: Graph, dealer: PartyId, sealed: bytes) -> Octets:
    about = opened.binding + graph.seed
    try:
        share = _sealing(keys, dealer, keys.me).decrypt(NONCE, sealed, about)
    except InvalidTag:
        suspects = [dealer, opened.roster.coordinator]
        raise InvalidMessageError("a share that cannot be opened", suspects=suspects) from None
    return np.frombuffer(share, dtype=np.uint8)


def _round_seeds(keys: SessionKeys, opened: Opened, peer: PartyId, n_rounds: int) -> list[bytes]:
    """Return s of every round with one neighbour: as many keys as rounds from one agreement."""
    secret = keys.take_pair_key(peer, "masking epoch", opened.binding)
    return cut(derive(secret, salt=opened.session, purpose=b"tacit round seeds", length=KEY_BYTES * n_rounds))


def cut(joined: bytes) -> list[bytes]:
    """Return the keys, seeds or commitments that stand one after the other."""
    return [joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES)]


@lru_cache(maxsize=4)
def _joined(*lists: tuple[str, ...]) -> bytes:
    """Return lists of names as bytes, each name after its length, each list after an empty one; once a process."""
    names = [name.encode() for listed in lists for name in ("", *listed)]
    return b"".join(len(name).to_bytes(4, "big") + name for name in names)


def octets(rows: Sequence[bytes]) -> Octets:
    """Return rows of equal length as a matrix."""
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)


# The coordinator's side of dealing


@dataclass
class Dealings:
    """What the coordinator keeps of an epoch; all of it was sent to it as it is.

    Attributes
    ----------
    identifier : bytes
        The session that set it up.
    terms : bytes
        For which roster and options.
    graph : Graph
    dealt : dict of PartyId to DealtShares
        By dealer, in roster order.
    members : tuple of PartyId
        The dealers who are known to be still in the epoch.
    next_index : int
        The first round that is not used yet.
    """

    identifier: bytes
    terms: bytes
    graph: Graph
    dealt: Mapping[PartyId, DealtShares]
    members: tuple[PartyId, ...]
    next_index: int = 1

    @property
    def dealers(self) -> tuple[PartyId, ...]:
        """U2."""
        return tuple(self.dealt)

    @cached_property
    def rows(self) -> Mapping[PartyId, Mapping[PartyId, int]]:
        """Of each dealer, in which row of its answers each keeper gives its share."""
        rows: dict[PartyId, dict[PartyId, int]] = {dealer: {} for dealer in self.dealt}
        for keeper in self.dealt:
            kept = (dealer for dealer in self.graph.keepers[keeper] if dealer in self.dealt)
            for row, dealer in enumerate(kept):
                rows[dealer][keeper] = row
        return rows

    def seed_commitments(self, holder: PartyId, index: int) -> Mapping[PartyId, bytes]:
        """Return what a holder has committed itself to as its seeds of a round, by neighbour."""
        committed = self.dealt[holder].seed_commitments[index]
        return {peer: bytes(row) for peer, row in zip(self.graph.neighbours[holder], committed, strict=True)}


def check_dealings(dealings: Dealings, n_rounds: int) -> None:
    """Refuse dealings of a wrong form, or of two holders who do not mean the same seeds.

    Raises
    ------
    InvalidMessageError
        Naming the dealer; for different seeds the two as suspects.
    """
    graph = dealings.graph
    for dealer, dealt in dealings.dealt.items():
        near = len(graph.neighbours[dealer])
        fits = (
            [len(sealed) for sealed in dealt.sealed] == [2 * KEY_BYTES * n_rounds + TAG_BYTES] * near
            and [len(locked) for locked in dealt.locked_seeds] == [KEY_BYTES * near + TAG_BYTES] * n_rounds
            and dealt.seed_commitments.shape == (n_rounds, near, KEY_BYTES)
            and dealt.self_commitments.shape == (n_rounds, KEY_BYTES)
        )
        if not fits:
            raise InvalidMessageError("dealt shares of another number or length", culprits=[dealer])
    by_neighbour = {
        dealer: dict(zip(graph.neighbours[dealer], dealt.seed_commitments.swapaxes(0, 1), strict=True))
        for dealer, dealt in dealings.dealt.items()
    }
    for dealer, ours in by_neighbour.items():
        for peer, committed in ours.items():
            if dealer < peer in by_neighbour and committed.tobytes() != by_neighbour[peer][dealer].tobytes():
                raise InvalidMessageError(
                    "two holders mean different pairwise seeds", suspects=[dealer, peer]
                )


def forward_shares(opened: Opened, dealings: Dealings, holder: PartyId) -> ReceivedShares:
    """Return the bundle of what was dealt to one holder."""
    graph = dealings.graph
    return ReceivedShares(
        session=opened.session,
        dealers=dealings.dealers,
        sealed=tuple(
            dealings.dealt[dealer].sealed[graph.places[dealer][holder]]
            for dealer in graph.neighbours[holder]
            if dealer in dealings.dealt
        ),
    )
