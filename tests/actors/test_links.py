"""Sealed links: only the two ends read, and whatever is altered on the way is refused."""

from __future__ import annotations

import dataclasses
import random
import weakref
from typing import Any

import numpy as np
import pytest
from tacit.actors import links as links_module
from tacit.actors.links import Links
from tacit.actors.long_frames import Content, LongFrame
from tacit.protocols.errors import EquivocationError, InvalidMessageError, MisuseError
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.serialization.codec import Frame, decode, encode
from tacit.serialization.errors import DecodeError, EncodeError
from tacit.serialization.link_messages import Sealed
from tacit.serialization.ring_paillier_messages import PartialSum
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Finished, Query

K, A, B, C = PartyId("k"), PartyId("a"), PartyId("b"), PartyId("c")
SESSION = bytes(range(32))


def identity(name: PartyId) -> Identity:
    return Identity(name, "coordinator" if name == K else "holder", random.Random(name).randbytes)


ROSTER = Roster(tuple(identity(name).public for name in (K, A, B, C)))


def keys_of(name: PartyId, *, seed: int = 0, session: bytes = SESSION) -> SessionKeys:
    return SessionKeys(identity(name), ROSTER, session, random.Random(f"{seed} {name}").randbytes)


def introduced() -> dict[PartyId, SessionKeys]:
    """Session keys of all, who know each other's fresh keys, as after Begin."""
    keys = {name: keys_of(name) for name in (K, A, B, C)}
    for mine in keys.values():
        for peer, theirs in keys.items():
            if peer != mine.me:
                mine.learn(peer, theirs.ephemeral)
    return keys


def sealed_by(links: Links, to: PartyId, message: Message) -> Sealed:
    sealed = decode(links.seal(to, message))
    assert isinstance(sealed, Sealed)
    return sealed


def sealed_again(links: Links, sealed: Sealed, body: bytes, **changes: Any) -> Sealed:
    """Seal another body, with other buffers, in the place of a frame from a to b: only the sender can."""
    altered = dataclasses.replace(sealed, **changes)
    cipher = links._cipher(A, B, False, sealed.ephemeral)
    nonce, about = links_module._nonce(sealed.counter), links_module._associated(altered)
    return dataclasses.replace(altered, body=cipher.encrypt(nonce, body, about))


def small() -> Finished:
    return Finished(session=SESSION, released=True)


def partial(n_ciphertexts: int = 1) -> PartialSum:
    ciphertexts = np.arange(n_ciphertexts * 64, dtype=np.uint8).reshape(n_ciphertexts, 64)
    return PartialSum(session=SESSION, hop=1, binding=bytes(32), key_id=bytes(32), ciphertexts=ciphertexts)


def two_large_arrays() -> Query:
    return Query(step="x", arrays={"x": np.arange(10_000.0), "y": np.ones(10_000)})


# What is sealed opens at the other end


@pytest.mark.parametrize("message", [small(), partial(), partial(2000), two_large_arrays()])
def test_what_one_party_seals_the_other_opens(message: Message) -> None:
    keys = introduced()
    one, other = Links(keys[A]), Links(keys[B])
    assert other.open(sealed_by(one, B, message)) == message
    assert one.open(sealed_by(other, A, message)) == message


def test_a_session_opens_with_nothing_known_but_the_roster() -> None:
    coordinator, holder = Links(keys_of(K)), Links(keys_of(A))
    first = sealed_by(coordinator, A, small())
    assert first.handshake
    assert holder.open(first) == small()
    answer = sealed_by(holder, K, partial())
    assert not answer.handshake
    assert coordinator.open(answer) == partial()
    last = sealed_by(coordinator, A, partial(3))
    assert not last.handshake
    assert holder.open(last) == partial(3)


def test_frames_open_in_any_order_and_more_than_once() -> None:
    coordinator, holder = Links(keys_of(K)), Links(keys_of(A))
    frames = [sealed_by(coordinator, A, partial(n)) for n in range(1, 4)]
    for n in (2, 0, 1, 2):
        assert holder.open(frames[n]) == partial(n + 1)


def test_large_arrays_stay_beside_the_header() -> None:
    frame = Links(introduced()[A]).seal(B, partial(2000))
    assert len(frame.buffers) == 1
    assert frame.buffers[0].nbytes == 2000 * 64 + 16
    assert len(frame.header) < 1000


# Nobody else reads


def test_the_sealed_frame_shows_nothing_of_the_message() -> None:
    secret = Query(step="not to be seen", arrays={"salary": np.full(20_000, 1234.5)})
    frame = Links(introduced()[A]).seal(B, secret)
    octets = frame.header + b"".join(buffer.tobytes() for buffer in frame.buffers)
    assert b"not to be seen" not in octets
    assert b"salary" not in octets
    assert np.float64(1234.5).tobytes() not in octets


def test_equal_messages_do_not_look_equal() -> None:
    links = Links(introduced()[A])
    assert sealed_by(links, B, small()).body != sealed_by(links, B, small()).body
    assert sealed_by(links, C, small()).body != sealed_by(links, B, small()).body


@pytest.mark.parametrize("thief", [K, C])
def test_a_frame_between_two_holders_opens_for_nobody_else(thief: PartyId) -> None:
    # In the ring the coordinator holds the Paillier key: it must not read what passes between holders.
    keys = introduced()
    sealed = sealed_by(Links(keys[A]), B, partial())
    stolen = Links(keys[thief])
    with pytest.raises(InvalidMessageError, match="somebody else"):
        stolen.open(sealed)
    with pytest.raises(InvalidMessageError, match="not sealed"):
        stolen.open(dataclasses.replace(sealed, recipient=thief))
    for handshake in (False, True):
        with pytest.raises(InvalidMessageError):
            stolen.open(dataclasses.replace(sealed, recipient=thief, handshake=handshake))


def test_who_steals_an_identity_later_opens_no_past_frame() -> None:
    keys = introduced()
    sealed = sealed_by(Links(keys[A]), B, partial())
    thief = keys_of(B, seed=1)  # the identity of b, without the session's fresh key
    thief.learn(A, keys[A].ephemeral)
    with pytest.raises(InvalidMessageError):
        Links(thief).open(sealed)


# What is altered is refused

CHANGES: dict[str, Any] = {
    "session": {"session": bytes(32)},
    "sender": {"sender": "c"},
    "unknown sender": {"sender": "mallory"},
    "own name as sender": {"sender": "b"},
    "recipient": {"recipient": "c"},
    "handshake": {"handshake": True},
    "counter": {"counter": 7},
    "largest counter": {"counter": 2**64 - 1},
    "fresh key": {"ephemeral": b"\x09" + bytes(31)},
    "low-order fresh key": {"ephemeral": bytes(32)},
    "no body": {"body": b""},
    "no buffers": {"buffers": ()},
    "a buffer more": lambda s: {"buffers": (*s.buffers, s.buffers[0])},
    "a buffer less": lambda s: {"buffers": s.buffers[:-1]},
    "buffers swapped": lambda s: {"buffers": s.buffers[::-1]},
    "a buffer cut": lambda s: {"buffers": (s.buffers[0][:-1], *s.buffers[1:])},
    "a buffer reshaped": lambda s: {"buffers": (s.buffers[0].reshape(2, -1), *s.buffers[1:])},
    "a buffer without shape": lambda s: {"buffers": (s.buffers[0][:1].reshape(()), *s.buffers[1:])},
    "body and buffer swapped": lambda s: {"body": s.buffers[0].tobytes()},
    "a byte of the body": lambda s: {"body": bytes([s.body[0] ^ 1]) + s.body[1:]},
    "the last byte of the body": lambda s: {"body": s.body[:-1] + bytes([s.body[-1] ^ 1])},
    "a byte of a buffer": lambda s: {"buffers": (s.buffers[0] ^ 1, *s.buffers[1:])},
}


@pytest.mark.parametrize("known", [False, True], ids=["first frame", "later frame"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_altered_is_refused_and_changes_nothing(change: str, known: bool) -> None:
    keys = introduced() if known else {name: keys_of(name) for name in (K, A, B, C)}
    one, other = Links(keys[A]), Links(keys[B])
    sealed = sealed_by(one, B, two_large_arrays())
    fields = CHANGES[change](sealed) if callable(CHANGES[change]) else CHANGES[change]
    if sealed.handshake and fields == {"handshake": True}:
        fields = {"handshake": False}
    altered = dataclasses.replace(sealed, **fields)
    with pytest.raises(InvalidMessageError) as caught:
        other.open(altered)
    assert caught.value.culprits == ()
    assert keys[B].knows(A) == known, "a forged frame teaches no fresh key"
    assert other.open(sealed) == two_large_arrays()


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit_anywhere_is_no_frame_or_refused(seed: int) -> None:
    keys = introduced()
    frame = Links(keys[A]).seal(B, partial())
    place = random.Random(seed).randrange(8 * len(frame.header))
    octets = bytearray(frame.header)
    octets[place // 8] ^= 1 << place % 8
    try:
        altered = decode(Frame(bytes(octets), frame.buffers))
    except DecodeError:
        return
    assert isinstance(altered, Sealed)
    with pytest.raises(InvalidMessageError):
        Links(keys[B]).open(altered)


def test_a_frame_of_another_session_is_refused() -> None:
    old = sealed_by(Links(keys_of(K, session=bytes(32))), A, small())
    holder = Links(keys_of(A))
    for frame in (old, dataclasses.replace(old, session=SESSION)):
        with pytest.raises(InvalidMessageError):
            holder.open(frame)


def test_a_frame_reflected_to_its_sender_is_refused() -> None:
    keys = introduced()
    one = Links(keys[A])
    sealed = sealed_by(one, B, small())
    with pytest.raises(InvalidMessageError):
        one.open(dataclasses.replace(sealed, sender="b", recipient="a", ephemeral=keys[B].ephemeral))


def test_an_impostor_cannot_open_a_session_in_the_coordinators_name() -> None:
    impostor = Identity("k", "coordinator", random.Random("impostor").randbytes)
    keys = SessionKeys(impostor, ROSTER, SESSION, random.Random(1).randbytes)
    with pytest.raises(InvalidMessageError) as caught:
        Links(keys_of(A)).open(sealed_by(Links(keys), A, small()))
    assert caught.value.suspects == ("k",)


def test_a_second_fresh_key_of_one_party_is_equivocation() -> None:
    holder = Links(keys_of(A))
    holder.open(sealed_by(Links(keys_of(K, seed=1)), A, small()))
    with pytest.raises(EquivocationError) as caught:
        holder.open(sealed_by(Links(keys_of(K, seed=2)), A, small()))
    assert caught.value.culprits == ("k",)


def test_what_its_sender_has_sealed_but_is_no_message_is_a_decode_error() -> None:
    keys = introduced()
    links = Links(keys[A])
    sealed = sealed_by(links, B, small())
    with pytest.raises(DecodeError):
        Links(keys[B]).open(sealed_again(links, sealed, b"\xff"))


def test_a_frame_longer_than_the_session_needs_is_refused_before_it_is_opened() -> None:
    keys = introduced()
    sealed = sealed_by(Links(keys[A]), B, small())
    keys[B].frame_bytes = len(sealed.body) - 1
    with pytest.raises(InvalidMessageError, match="longer than any") as caught:
        Links(keys[B]).open(sealed)
    assert caught.value.suspects == (A,)
    keys[B].frame_bytes += 1
    assert Links(keys[B]).open(sealed) == small()


# Nonces


def test_no_nonce_is_used_twice_even_if_links_are_made_twice() -> None:
    keys = introduced()[A]
    counters = [sealed_by(Links(keys), B, small()).counter for _ in range(3)]
    counters += [sealed_by(links, B, small()).counter for links in [Links(keys)] for _ in range(2)]
    assert counters == [0, 1, 2, 3, 4]


def test_the_first_frames_and_the_later_ones_have_different_keys() -> None:
    keys = keys_of(K)
    links = Links(keys)
    first = sealed_by(links, A, small())
    keys.learn(A, keys_of(A).ephemeral)
    later = sealed_by(links, A, small())
    assert (first.handshake, later.handshake) == (True, False)
    assert (first.counter, later.counter) == (0, 1)
    holder = Links(keys_of(A))
    assert holder.open(first) == holder.open(later) == small()
    with pytest.raises(InvalidMessageError):
        holder.open(dataclasses.replace(later, handshake=True))


def test_links_are_secret() -> None:
    links = Links(introduced()[A])
    assert repr(links) == "<Links: secret>"
    with pytest.raises(MisuseError):
        links.__reduce_ex__(2)


def test_the_size_of_a_frame_is_that_of_the_message_and_a_constant() -> None:
    links = Links(introduced()[A])
    sizes = [(links.seal(B, partial(n)).size, encode(partial(n)).size) for n in (1, 5, 20)]
    assert len({sealed - inner for sealed, inner in sizes}) <= 2  # msgpack's length may take a byte more


def test_an_array_that_no_cipher_takes_at_once_is_refused_at_its_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def encrypt(self, *_: object) -> bytes:
            raise OverflowError("Data or associated data too long. Max 2**31 - 1 bytes")

    monkeypatch.setattr(links_module, "AESGCM", lambda _: Full())
    with pytest.raises(EncodeError, match="PartialSum has an array of 2 GiB or more"):
        Links(introduced()[A]).seal(B, partial())


def test_frame_that_is_sealed_as_it_leaves_is_the_very_frame_that_is_sealed_at_once() -> None:
    # Two equal parties, with the same randomness: for the comparison alone.
    frame = Links(introduced()[A]).seal_to_send(B, partial(2000))
    at_once = Links(introduced()[A]).seal(B, partial(2000))
    assert isinstance(frame, LongFrame)
    assert frame.size == at_once.size
    assert frame.whole() == at_once


def test_frame_without_large_arrays_is_sealed_at_once() -> None:
    assert isinstance(Links(introduced()[A]).seal_to_send(B, partial()), Frame)


# Large arrays, under a key of their own


def long_frame(links: Links, to: PartyId, message: Message) -> LongFrame:
    frame = links.seal_to_send(to, message)
    assert isinstance(frame, LongFrame)
    return frame


def opened(frame: LongFrame) -> Sealed:
    sealed = decode(frame.whole())
    assert isinstance(sealed, Sealed)
    return sealed


def test_one_message_to_many_has_one_content_which_each_opens() -> None:
    keys, message = introduced(), two_large_arrays()
    links = Links(keys[A])
    frames = {to: long_frame(links, to, message) for to in (K, B, C)}
    assert len({id(frame.content) for frame in frames.values()}) == 1
    assert len({frame.header for frame in frames.values()}) == 3
    for to, frame in frames.items():
        assert Links(keys[to]).open(opened(frame)) == message


def test_no_two_messages_share_a_key_be_they_equal() -> None:
    links = Links(introduced()[A])
    first, second = (long_frame(links, B, two_large_arrays()) for _ in range(2))
    assert first.content.opening[:32] != second.content.opening[:32]
    one, other = opened(first).buffers[0], opened(second).buffers[0]
    assert not np.array_equal(one, other)


def test_links_keep_nothing_of_what_has_left() -> None:
    links, message = Links(introduced()[A]), two_large_arrays()
    kept = weakref.ref(long_frame(links, B, message).content)
    assert kept() is None
    long_frame(links, B, message)


@pytest.mark.parametrize("change", ["other values", "arrays swapped"])
def test_a_recipient_who_knows_the_key_cannot_alter_what_another_is_sent(change: str) -> None:
    keys, message = introduced(), two_large_arrays()
    links = Links(keys[A])
    to_b, to_c = (long_frame(links, to, message) for to in (B, C))
    known = to_c.content  # c has its key, and can seal what it likes by it
    other = (
        [np.zeros_like(array) for array in known._buffers]
        if change == "other values"
        else known._buffers[::-1]
    )
    forged = Content(known.opening[:32], known._about, other)
    sealed = dataclasses.replace(opened(to_b), buffers=opened(LongFrame(to_b.header, forged)).buffers)
    with pytest.raises(InvalidMessageError, match="not sealed"):
        Links(keys[B]).open(sealed)
    assert Links(keys[B]).open(opened(to_b)) == message


@pytest.mark.parametrize("length", [0, 31, 63])
def test_arrays_whose_sender_gives_no_whole_key_for_them_are_refused(length: int) -> None:
    keys = introduced()
    links = Links(keys[A])
    sealed = opened(long_frame(links, B, two_large_arrays()))
    with pytest.raises(InvalidMessageError, match="not sealed") as caught:
        Links(keys[B]).open(sealed_again(links, sealed, bytes(length)))
    assert caught.value.suspects == (A,)


def test_a_content_is_secret_and_seals_the_same_bytes_each_time() -> None:
    content = long_frame(Links(introduced()[A]), B, two_large_arrays()).content
    assert repr(content) == "<Content: secret>"
    with pytest.raises(MisuseError):
        content.__reduce_ex__(2)
    first, second = (b"".join(map(bytes, content.slices())) for _ in range(2))
    assert first == second
    assert len(first) == sum(content.sizes)
