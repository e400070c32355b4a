"""Identities and the keys that two parties share, alone, for one session.

Every party has a long-term identity, an Ed25519 key that signs and an X25519 key that agrees, pinned in the
roster. Every session adds a fresh X25519 key pair of each party. The secret of a pair mixes all four
exchanges, as Noise's KK pattern does, so that it is authentic (only the pinned identities can compute it) and
forward secret (it dies with the session's keys). From it HKDF derives one key for each direction and purpose.

Sources: RFC 7748 (X25519), RFC 8032 (Ed25519), RFC 5869 (HKDF), the Noise Protocol Framework revision 34,
section 7.5 (KK). Sending Noise's handshake inside the messages of a session's start is tacit's own
composition.

Who learns what: nothing here is sent but public keys and signatures. An adversary who steals an identity
later cannot open the frames of past sessions, except the first frame to that very party (the invitation:
its sender alone has a fresh key by then); one who holds both identities of a pair at the time can
impersonate them.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from functools import cached_property, lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..serialization.session_messages import Party
from .errors import EquivocationError, InvalidMessageError, MisuseError
from .party import PartyId, Roster
from .secret import RandomBytes, Secret

KEY_BYTES = 32
FRAME_BYTES = 1 << 28  # 256 MiB: what a frame may have until its session has agreed on longer ones


class Identity(Secret):
    """A party's long-term keys: *never sent*; `public` is what the roster pins.

    Parameters
    ----------
    name, kind : str
        Who this is, and as what it takes part ("coordinator", "holder", …).
    random_bytes : callable
        Source of 64 secret bytes.
    """

    def __init__(self, name: str, kind: str, random_bytes: RandomBytes) -> None:
        self._sign = Ed25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        self._agree = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        self.public = Party(
            name=name,
            kind=kind,
            verify_key=self._sign.public_key().public_bytes_raw(),
            agreement_key=self._agree.public_key().public_bytes_raw(),
        )
        self._lasting: dict[bytes, bytes] = {}

    def sign(self, content: bytes) -> bytes:
        """Sign with Ed25519: 64 bytes."""
        return self._sign.sign(content)

    def exchange(self, public_key: bytes) -> bytes:
        """X25519 of the long-term secret and a peer's public key: 32 bytes."""
        return exchange(self._agree, public_key)

    def lasting_secret(self, peer: Party) -> bytes:
        """X25519 of both long-term keys: 32 bytes, the same in every session, and kept like the keys themselves."""
        public_key = peer.agreement_key
        if public_key not in self._lasting:  # of pinned parties: there are no more than those
            self._lasting[public_key] = self.exchange(public_key)
        return self._lasting[public_key]


def verify(party: Party, content: bytes, signature: bytes) -> bool:
    """Whether `signature` is the party's Ed25519 signature of `content`."""
    return _verify(party.verify_key, content, signature)


@lru_cache(maxsize=4096)
def _verify(verify_key: bytes, content: bytes, signature: bytes) -> bool:
    """Verify what is public, once a process: holders that share one are all shown the same signatures."""
    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def exchange(secret: X25519PrivateKey, public_key: bytes) -> bytes:
    """X25519 (RFC 7748, 6.1), refusing the low-order points that would fix the result.

    Raises
    ------
    InvalidMessageError
        If the public key is a low-order point.
    """
    try:
        return secret.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        raise InvalidMessageError("a public key is a low-order point of the curve") from None


def derive(material: bytes, *, salt: bytes, purpose: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869) of `material` under a salt, for one purpose."""
    return HKDF(SHA256(), length, salt, purpose).derive(material)


class SessionKeys(Secret):
    """One party's keys of one session, and what it has learned of its peers': *never sent*.

    `ephemeral` is the public half of this session's fresh key: it is also this party's nonce, so
    two sessions never share a key, even after a restart. `frame_bytes` is the longest frame that the links open:
    whoever has agreed on longer ones raises it.

    Parameters
    ----------
    identity : Identity
        This party's long-term keys.
    roster : Roster
        The pinned public identities.
    session : bytes
        The session's identifier: the salt of every derivation.
    random_bytes : callable
        Source of secret bytes.
    """

    def __init__(self, identity: Identity, roster: Roster, session: bytes, random_bytes: RandomBytes) -> None:
        self.identity = identity
        self.roster = roster
        self.session = session
        self.me = PartyId(identity.public.name)
        self._random_bytes = random_bytes
        self._drawn = random_bytes(KEY_BYTES)
        self.frame_bytes = FRAME_BYTES
        self._ephemerals: ChainMap[PartyId, bytes] = ChainMap()
        self._shared: dict[PartyId, bytes] = {}
        self._exchanged: dict[tuple[PartyId, str], tuple[bytes, bytes]] = {}
        self._taken: set[tuple[PartyId, str]] = set()
        self._counters: dict[PartyId, int] = {}

    @cached_property
    def _secret(self) -> X25519PrivateKey:
        """Computed when it is needed: whoever only looks at an invitation needs none."""
        return X25519PrivateKey.from_private_bytes(self._drawn)

    @cached_property
    def ephemeral(self) -> bytes:
        """The public half of this session's fresh key."""
        return self._secret.public_key().public_bytes_raw()

    def learn(self, peer: PartyId, ephemeral: bytes) -> None:
        """Note a peer's fresh public key; a second, different one is an `EquivocationError`."""
        if self._ephemerals.setdefault(peer, ephemeral) != ephemeral:
            raise EquivocationError("two different session keys from one party", culprits=[peer])

    def learn_all(self, ephemerals: dict[PartyId, bytes]) -> None:
        """Note the fresh public keys of many, as `learn` does; it keeps the mapping, **which must not change**."""
        for peer in self._ephemerals:
            self.learn(peer, ephemerals.get(peer, self._ephemerals[peer]))
        self._ephemerals.maps.append(ephemerals)

    def knows(self, peer: PartyId) -> bool:
        """Whether the peer's fresh key has been learned."""
        return peer in self._ephemerals

    def has_learned(self, peer: PartyId, ephemeral: bytes) -> bool:
        """Whether this is the peer's fresh key."""
        return self._ephemerals.get(peer) == ephemeral

    def direction_key(
        self, sender: PartyId, recipient: PartyId, purpose: str, ephemeral: bytes | None = None
    ) -> bytes:
        """Return the key of one direction between this party and a peer: 32 bytes.

        A key in both directions with equal nonces would reveal the XOR of two plaintexts. With
        `ephemeral`, the key as it would be if that were the peer's fresh key; nothing is learned yet.
        """
        peer = recipient if sender == self.me else sender
        known = self._ephemerals.get(peer)
        secret = self._pair_secret(peer) if ephemeral in (None, known) else self._mix(peer, ephemeral or b"")
        return derive(secret, salt=self.session, purpose=_label("direction", purpose, sender, recipient))

    def take_counter(self, peer: PartyId) -> int:
        """Return the next number of a frame to a peer, from 0: each is given out once in a session.

        It stands here and not with the links, so that links made twice cannot use a nonce twice.
        """
        counter = self._counters.get(peer, 0)
        self._counters[peer] = counter + 1
        return counter

    def draw_key(self) -> bytes:
        """Return a key that depends on nothing else: 32 random bytes."""
        return self._random_bytes(KEY_BYTES)

    def opening_key(self, sender: PartyId, recipient: PartyId, ephemeral: bytes, purpose: str) -> bytes:
        """Return the key of a first frame, when only its sender has a fresh key (Noise K: es, ss)."""
        peer = recipient if sender == self.me else sender
        fresh = self._fresh_static(peer) if sender == self.me else self._static_fresh(peer, ephemeral)
        material = fresh + self.identity.lasting_secret(self.roster[peer])
        label = _label("opening", purpose, sender, recipient)
        return derive(material, salt=self.session + ephemeral, purpose=label)

    def take_pair_key(self, peer: PartyId, purpose: str, binding: bytes) -> bytes:
        """Return the key that both of a pair derive, for a one-time use in a protocol: 32 bytes.

        **Call once per peer and purpose**: a mask used twice is a two-time pad.

        Raises
        ------
        MisuseError
            On a second call.
        """
        if (peer, purpose) in self._taken:
            raise MisuseError(f"the pair key for {purpose} was already used in this session")
        self._taken.add((peer, purpose))
        low, high = sorted((self.me, peer))
        label = _label("pair", purpose, low, high) + binding
        return derive(self._pair_secret(peer), salt=self.session, purpose=label)

    def _pair_secret(self, peer: PartyId) -> bytes:
        """Return the secret of the pair, once the peer's fresh key is known."""
        if peer not in self._shared:
            if peer not in self._ephemerals:
                raise MisuseError(f"no session key of {peer} is known yet")
            self._shared[peer] = self._mix(peer, self._ephemerals[peer])
        return self._shared[peer]

    def _mix(self, peer: PartyId, ephemeral: bytes) -> bytes:
        """All four exchanges of the pair and both fresh public keys, in an order both sides know.

        The public keys are there because X25519 gives equal secrets for some different ones.
        """
        mine_static, static_mine = self._fresh_static(peer), self._static_fresh(peer, ephemeral)
        fresh, lasting = self._fresh_fresh(peer, ephemeral), self.identity.lasting_secret(self.roster[peer])
        if self.me < peer:
            return fresh + mine_static + static_mine + lasting + self.ephemeral + ephemeral
        return fresh + static_mine + mine_static + lasting + ephemeral + self.ephemeral

    # The exchanges: each once, although the first frame's key, that of its answer and the pair's rest on the same ones.

    def _fresh_static(self, peer: PartyId) -> bytes:
        static = self.roster[peer].agreement_key
        return self._once("fresh, static", peer, static, lambda: exchange(self._secret, static))

    def _static_fresh(self, peer: PartyId, ephemeral: bytes) -> bytes:
        return self._once("static, fresh", peer, ephemeral, lambda: self.identity.exchange(ephemeral))

    def _fresh_fresh(self, peer: PartyId, ephemeral: bytes) -> bytes:
        return self._once("fresh, fresh", peer, ephemeral, lambda: exchange(self._secret, ephemeral))

    def _once(self, which: str, peer: PartyId, public_key: bytes, compute: Callable[[], bytes]) -> bytes:
        """Return an exchange; of each the latest is kept, however many keys somebody tries in a peer's name."""
        known = self._exchanged.get((peer, which))
        if known is None or known[0] != public_key:
            known = self._exchanged[peer, which] = public_key, compute()
        return known[1]


def _label(*parts: str) -> bytes:
    """Return what a key is for, unambiguously: each part after its length."""
    octets = [part.encode() for part in ("tacit 1", *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in octets)
