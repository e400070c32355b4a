"""Identities and the keys of pairs: the RFCs' own vectors, and what must differ from what."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tacit.protocols import key_agreement
from tacit.protocols.errors import EquivocationError, InvalidMessageError, MisuseError, SetupError
from tacit.protocols.key_agreement import Identity, SessionKeys, derive, exchange, verify
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.secret import Secret
from tacit.serialization.session_messages import Party

SESSION, OTHER_SESSION = bytes(32), b"\x01" * 32
A, B, C, K = PartyId("a"), PartyId("b"), PartyId("c"), PartyId("k")
PAIRS = [(A, B), (A, C), (B, C), (K, A), (K, B), (K, C)]


def given(*blocks: bytes) -> Callable[[int], bytes]:
    """A source of "random" bytes that gives these blocks."""
    waiting = iter(blocks)

    def random_bytes(n: int) -> bytes:
        block = next(waiting)
        assert len(block) == n
        return block

    return random_bytes


def identities(names: tuple[PartyId, ...] = (K, A, B, C)) -> dict[PartyId, Identity]:
    kinds = {name: "coordinator" if name == names[0] else "holder" for name in names}
    return {name: Identity(name, kinds[name], random.Random(name).randbytes) for name in names}


def keys_of_all(
    session: bytes = SESSION, seed: int = 0, names: tuple[PartyId, ...] = (K, A, B, C), *, met: bool = True
) -> dict[PartyId, SessionKeys]:
    """Session keys of a coordinator and some holders; `met` if they know each other's fresh keys."""
    known = identities(names)
    roster = Roster(tuple(identity.public for identity in known.values()))
    source = random.Random(seed).randbytes
    keys = {name: SessionKeys(known[name], roster, session, source) for name in names}
    for mine in keys.values():
        for peer, theirs in keys.items():
            if met and peer != mine.me:
                mine.learn(peer, theirs.ephemeral)
    return keys


# Vectors that nobody here wrote


ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def test_x25519_agrees_with_rfc_7748_section_6_1() -> None:
    alice, bob = Identity("a", "holder", given(bytes(32), ALICE)), Identity("b", "holder", given(ALICE, BOB))
    assert alice.public.agreement_key == ALICE_PUBLIC
    assert bob.public.agreement_key == BOB_PUBLIC
    assert alice.exchange(BOB_PUBLIC) == bob.exchange(ALICE_PUBLIC) == SHARED


@pytest.mark.parametrize(
    ("material", "salt", "info", "expected"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.2", "A.3"],
)
def test_derive_agrees_with_rfc_5869(material: bytes, salt: bytes, info: bytes, expected: str) -> None:
    wanted = bytes.fromhex(expected)
    assert derive(material, salt=salt, purpose=info, length=len(wanted)) == wanted


@pytest.mark.parametrize(
    ("secret", "public", "content", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a",
        ),
    ],
    ids=["1", "2", "3"],
)
def test_signatures_agree_with_rfc_8032_section_7_1(
    secret: str, public: str, content: str, signature: str
) -> None:
    identity = Identity("a", "holder", given(bytes.fromhex(secret), ALICE))
    assert identity.public.verify_key == bytes.fromhex(public)
    assert identity.sign(bytes.fromhex(content)) == bytes.fromhex(signature)
    assert verify(identity.public, bytes.fromhex(content), bytes.fromhex(signature))
    assert not verify(identity.public, bytes.fromhex(content) + b"x", bytes.fromhex(signature))


def test_a_signature_of_another_or_of_a_wrong_length_is_none() -> None:
    all_of_them = identities()
    signature = all_of_them[A].sign(b"content")
    assert verify(all_of_them[A].public, b"content", signature)
    assert not verify(all_of_them[B].public, b"content", signature)
    assert not verify(all_of_them[A].public, b"content", signature[:-1])
    assert not verify(all_of_them[A].public, b"content", bytes(64))


# Low-order points would fix the result whatever the secret (RFC 7748, section 6.1; RFC 7748, section 7)

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_low_order_points_are_refused(point: bytes) -> None:
    with pytest.raises(InvalidMessageError, match="low-order"):
        exchange(X25519PrivateKey.from_private_bytes(ALICE), point)
    keys = keys_of_all(met=False)[A]
    keys.learn(B, point)
    with pytest.raises(InvalidMessageError):
        keys.direction_key(B, A, "link")


# Both ends agree, and nothing else does


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_both_ends_derive_the_same_keys(one: PartyId, other: PartyId) -> None:
    keys = keys_of_all()
    mine, theirs = keys[one], keys[other]
    assert mine.direction_key(one, other, "link") == theirs.direction_key(one, other, "link")
    assert mine.direction_key(other, one, "link") == theirs.direction_key(other, one, "link")
    opening = mine.opening_key(one, other, mine.ephemeral, "link")
    assert opening == theirs.opening_key(one, other, mine.ephemeral, "link")
    assert mine.take_pair_key(other, "mask", b"binding") == theirs.take_pair_key(one, "mask", b"binding")


def test_no_two_keys_are_equal_whatever_they_are_for() -> None:
    everything = []
    for session in (SESSION, OTHER_SESSION):
        for seed in (0, 1):
            keys = keys_of_all(session, seed)
            for one, other in PAIRS:
                mine = keys[one]
                everything += [
                    mine.direction_key(sender, recipient, purpose)
                    for sender, recipient in ((one, other), (other, one))
                    for purpose in ("link", "mask")
                ]
                everything.append(mine.opening_key(one, other, mine.ephemeral, "link"))
                everything += [mine.take_pair_key(other, purpose, b"binding") for purpose in ("link", "mask")]
    assert len(set(everything)) == len(everything)


def test_the_binding_changes_a_pair_key() -> None:
    one, other = keys_of_all()[A], keys_of_all()[A]
    assert one.take_pair_key(B, "mask", b"binding 1") != other.take_pair_key(B, "mask", b"binding 2")


def test_names_cannot_make_two_directions_one() -> None:
    # With separators instead of lengths, both directions would have one label, and share nonces.
    odd, longer = PartyId("x"), PartyId("x\0x")
    keys = keys_of_all(names=(K, odd, longer))
    assert keys[odd].direction_key(odd, longer, "link") != keys[odd].direction_key(longer, odd, "link")


def test_equivalent_points_do_not_give_equal_keys() -> None:
    # X25519 ignores the top bit of a public key: an altered key must not pass for the true one.
    true, altered = keys_of_all(met=False)[A], keys_of_all(met=False)[A]
    theirs = keys_of_all()[B].ephemeral
    true.learn(B, theirs)
    altered.learn(B, theirs[:31] + bytes([theirs[31] | 0x80]))
    assert true.direction_key(B, A, "link") != altered.direction_key(B, A, "link")


def test_a_third_party_derives_other_keys() -> None:
    keys = keys_of_all()
    assert keys[K].direction_key(A, B, "link") != keys[A].direction_key(A, B, "link")
    assert keys[C].direction_key(A, B, "link") != keys[A].direction_key(A, B, "link")


def test_trying_a_fresh_key_learns_nothing() -> None:
    keys = keys_of_all(met=False)
    stranger = keys[B].ephemeral
    keys[A].direction_key(B, A, "link", stranger)
    assert not keys[A].knows(B)
    keys[A].learn(B, stranger)
    assert keys[A].has_learned(B, stranger)
    keys[B].learn(A, keys[A].ephemeral)
    assert keys[A].direction_key(B, A, "link") == keys[B].direction_key(B, A, "link")


def test_each_exchange_is_computed_once_and_again_for_another_fresh_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchanged: list[bytes] = []

    def noting(secret: X25519PrivateKey, public_key: bytes) -> bytes:
        exchanged.append(public_key)
        return exchange(secret, public_key)

    monkeypatch.setattr(key_agreement, "exchange", noting)
    keys, fresh = keys_of_all(met=False)[A], keys_of_all(met=False)[B].ephemeral
    static = keys.roster[B].agreement_key
    for ephemeral in (fresh, ALICE_PUBLIC) * 2:
        keys.opening_key(A, B, keys.ephemeral, "link")
        keys.opening_key(B, A, ephemeral, "link")
        keys.direction_key(B, A, "link", ephemeral)
    assert exchanged == [static, static, *[fresh] * 2, *[ALICE_PUBLIC] * 2, *[fresh] * 2, *[ALICE_PUBLIC] * 2]


# Once, and only once


def test_a_pair_key_is_taken_once() -> None:
    keys = keys_of_all()[A]
    keys.take_pair_key(B, "mask", b"binding")
    with pytest.raises(MisuseError, match="already used"):
        keys.take_pair_key(B, "mask", b"another binding")
    keys.take_pair_key(C, "mask", b"binding")
    keys.take_pair_key(B, "another purpose", b"binding")


def test_a_peer_has_one_fresh_key_a_session() -> None:
    keys = keys_of_all()[A]
    keys.learn(B, keys_of_all()[B].ephemeral)
    with pytest.raises(EquivocationError) as caught:
        keys.learn(B, ALICE_PUBLIC)
    assert caught.value.culprits == (B,)


def test_the_fresh_keys_of_all_are_learned_at_once() -> None:
    everybody = keys_of_all(met=False)
    fresh = {name: keys.ephemeral for name, keys in everybody.items()}
    for keys in everybody.values():
        keys.learn_all(fresh)
    assert everybody[A].take_pair_key(B, "x", b"") == everybody[B].take_pair_key(A, "x", b"")
    with pytest.raises(EquivocationError):
        everybody[A].learn(B, ALICE_PUBLIC)
    assert fresh == {name: keys.ephemeral for name, keys in everybody.items()}


def test_a_key_that_is_known_already_is_not_learned_anew_with_those_of_all() -> None:
    everybody = keys_of_all(met=False)
    everybody[A].learn(B, everybody[B].ephemeral)
    with pytest.raises(EquivocationError) as caught:
        everybody[A].learn_all({B: ALICE_PUBLIC, C: everybody[C].ephemeral})
    assert caught.value.culprits == (B,)
    assert not everybody[A].knows(C)


def test_nothing_is_derived_before_the_peers_fresh_key_is_known() -> None:
    keys = keys_of_all(met=False)[A]
    with pytest.raises(MisuseError, match="no session key"):
        keys.direction_key(A, B, "link")
    with pytest.raises(MisuseError):
        keys.take_pair_key(B, "mask", b"")


def test_frames_to_one_peer_are_numbered_and_no_number_comes_twice() -> None:
    keys = keys_of_all()[A]
    assert [keys.take_counter(B) for _ in range(3)] == [0, 1, 2]
    assert keys.take_counter(C) == 0


# Secrets


@pytest.mark.parametrize(
    "secret", [Secret(), identities()[A], keys_of_all()[A]], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda f: f.__name__)
def test_secrets_are_neither_pickled_nor_copied(secret: Secret, leave: Callable[[Secret], object]) -> None:
    with pytest.raises(MisuseError, match="never sent"):
        leave(secret)


def test_secrets_show_nothing_but_their_class() -> None:
    assert repr(keys_of_all()[A]) == "<SessionKeys: secret>"
    assert f"{identities()[A]}" == "<Identity: secret>"


# The roster


def party(name: str, kind: str = "holder", *, seed: str | None = None) -> Party:
    return Identity(name, kind, random.Random(seed or name).randbytes).public


@pytest.mark.parametrize(
    "parties",
    [
        (party("k", "coordinator"), party("a"), party("a", seed="other")),
        (party("k", "coordinator"), party("")),
        (party("k", "coordinator"), party("a", seed="one"), party("b", seed="one")),
        (party("a"), party("b")),
        (party("k", "coordinator"), party("l", "coordinator")),
    ],
    ids=["one name twice", "no name", "one key twice", "no coordinator", "two coordinators"],
)
def test_an_impossible_roster_is_refused(parties: tuple[Party, ...]) -> None:
    with pytest.raises(SetupError):
        Roster(parties)


def test_the_digest_of_a_roster_covers_order_and_keys() -> None:
    k, a, b, other = party("k", "coordinator"), party("a"), party("b"), party("b", seed="other")
    rosters = [Roster((k, a, b)), Roster((k, b, a)), Roster((k, a, other)), Roster((k, a))]
    assert len({roster.digest for roster in rosters}) == 4


def test_a_roster_without_the_lost_keeps_its_order() -> None:
    roster = Roster((party("k", "coordinator"), party("b"), party("a"), party("c")))
    assert roster.without(("a",)).holders == ("b", "c")
    assert roster.without(("a",)).coordinator == "k"
    with pytest.raises(SetupError):
        roster[PartyId("x")]
