"""Sums through the coordinator's and the holders' own code: exact to the last bit, and sealed from the coordinator."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given, settings
from hypothesis import strategies as st
from in_process import COORDINATOR, SMALL, Network, Posted
from tacit.actors.driver import Driver
from tacit.actors.links import PURPOSE, Links
from tacit.protocols import paillier, ring_paillier
from tacit.protocols.errors import InvalidMessageError, MisuseError, RangeError
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.paillier import Ciphertexts
from tacit.protocols.party import PartyId
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.ring_steps import (
    RingSetup,
    encrypt_contribution,
    plaintexts_of,
    random_partial_sum,
    read_partial_sum,
)
from tacit.serialization.codec import Frame, decode
from tacit.serialization.encoding_parameters import FixedPoint
from tacit.serialization.errors import DecodeError
from tacit.serialization.ring_paillier_messages import PartialSum

HOLDERS = ("a", "b", "c", "d")

# Values between which addition loses everything, or nearly.
EDGES = (
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1e-308,
    1.0,
    -1.0,
    1 + 2**-52,
    2.0**53,
    1e16,
    -1e16,
    1e308,
    -1e308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
)
doubles = st.sampled_from(EDGES) | st.floats(allow_nan=False, allow_infinity=False)
columns = st.lists(st.tuples(*[doubles] * len(HOLDERS)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[asyncio.Runner, Network]]:
    """A network whose holders' rows a test may exchange."""
    with asyncio.Runner() as runner:

        async def make() -> Network:
            return Network(dict.fromkeys(HOLDERS))

        network = runner.run(make())
        yield runner, network
        runner.run(network.__aexit__())


def rows_themselves(rows: Any) -> Any:
    return rows


def bits(values: Sequence[float]) -> list[bytes]:
    return [struct.pack(">d", value) for value in values]


def sum_of(
    asked: tuple[asyncio.Runner, Network], rows: Sequence[Any], **options: Any
) -> np.ndarray[Any, Any]:
    runner, network = asked
    for holder, own in zip(network.holders.values(), rows, strict=True):
        holder._data = own
    return runner.run(network.sum(rows_themselves, **options))


@settings(deadline=None, derandomize=True, max_examples=12)
@given(columns)
@example([(1e308, 1e-308, -1e308, 0.0), (1e308, 1e308, -1e308, -1e308)])
@example([(1.0, 2**-53, 2**-106, 0.0), (-0.0, -0.0, -0.0, -0.0)])
@example([(5e-324, 5e-324, -5e-324, 5e-324), (2.0**1023, 2.0**1023, -5e-324, 0.0)])
def test_sum_is_the_exact_sum_rounded_once(
    asked: tuple[asyncio.Runner, Network], columns: list[tuple[float, ...]]
) -> None:
    rows = [np.array(own) for own in zip(*columns, strict=True)]
    try:
        expected = [float(sum(map(Fraction, column))) for column in columns]
    except OverflowError:
        with pytest.raises(RangeError):
            sum_of(asked, rows)
        return
    total = sum_of(asked, rows)
    assert total.dtype == np.float64
    assert bits(total.tolist()) == bits(expected)
    for value, column in zip(total.tolist(), columns, strict=True):
        try:
            summed = math.fsum(column)
        except OverflowError:  # on the way to a total that does not
            continue
        assert value == summed


@settings(deadline=None, derandomize=True, max_examples=10)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4))
@example([2**63 - 1, -(2**63), 2**63 - 1, -(2**63)])
def test_integers_stay_integers(asked: tuple[asyncio.Runner, Network], values: list[int]) -> None:
    rows = [np.array(value, dtype=np.int64) for value in values]
    if not -(2**63) <= sum(values) < 2**63:
        with pytest.raises(RangeError):
            sum_of(asked, rows)
    else:
        total = sum_of(asked, rows)
        assert (total.dtype, int(total)) == (np.int64, sum(values))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (3, 0, 2)])
def test_shape_is_kept(asked: tuple[asyncio.Runner, Network], shape: tuple[int, ...]) -> None:
    rows = [np.full(shape, float(place)) for place in range(4)]
    total = sum_of(asked, rows)
    assert total.shape == shape
    assert (total == 6.0).all()


def test_total_beyond_the_doubles_is_a_range_error(asked: tuple[asyncio.Runner, Network]) -> None:
    with pytest.raises(RangeError):
        sum_of(asked, [np.array(1.7e308)] * 4)
    # The coordinator has seen it all the same.
    assert asked[1].repository.records[-1]["released"] == {}
    assert "beyond the range" in asked[1].repository.records[-1]["remark"]
    assert sum_of(asked, [np.array(1.7e308), np.array(1.7e308), np.array(-1.7e308), np.array(0.0)]) == 1.7e308


def test_declared_bound_holds_at_every_holder(asked: tuple[asyncio.Runner, Network]) -> None:
    encoding = FixedPoint(bound=8.0, fraction_bits=20)
    values = [np.array([1.5, -8.0]), np.array([8.0, -8.0]), np.array([0.0, -8.0]), np.array([2**-20, -8.0])]
    assert sum_of(asked, values, encoding=encoding).tolist() == [9.5 + 2**-20, -32.0]


# Sealed from the coordinator, which holds the Paillier key


class Eavesdropper:
    """The coordinator, reading along: keeps each frame between holders, and its own keys of that session."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.frames: list[Posted] = []
        self.own_keys: SessionKeys | None = None
        self.recipients: list[Links] = []

    def __call__(self, posted: Posted) -> bool:
        if posted.between_holders:
            session = posted.sealed.session
            self.frames.append(posted)
            self.own_keys = self._links(self._network.coordinator.driver, session)._keys
            self.recipients.append(self._links(self._network.parties[posted.to].driver, session))
        return True

    def _links(self, driver: Driver, session: bytes) -> Links:
        links = driver._running[session].links
        assert isinstance(links, Links)
        return links


@pytest.fixture(scope="module")
def overheard() -> tuple[Eavesdropper, Network, RingSetup, tuple[Any, ...]]:
    """One sum without masks, of which the coordinator keeps all that passes by."""
    protocol = RingPaillier.insecure_for_tests(256, masks=False)
    setups: list[RingSetup] = []
    firsts: list[list[Ciphertexts]] = []
    words_of: dict[PartyId, Any] = {}

    def noting_first(setup: RingSetup, *rest: Any) -> list[Ciphertexts]:
        firsts.append(random_partial_sum(setup, *rest))
        setups.append(setup)
        return firsts[-1]

    def noting_words(setup: RingSetup, keys: SessionKeys, words: Any, **rest: Any) -> list[Ciphertexts]:
        words_of[keys.me] = words
        return encrypt_contribution(setup, keys, words, **rest)

    async def scene() -> tuple[Eavesdropper, Network]:
        async with Network(dict(zip("abc", (11, 22, 33), strict=True)), protocol=protocol) as network:
            network.on_frame = eavesdropper = Eavesdropper(network)
            assert await network.sum(rows_themselves) == 66
            await network.settle()
            return eavesdropper, network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring_paillier, "random_partial_sum", noting_first)
        patch.setattr(ring_paillier, "encrypt_contribution", noting_words)
        eavesdropper, network = asyncio.run(scene())
    (setup,), (first,) = setups, firsts
    return eavesdropper, network, setup, (first, words_of[setup.order[0]])


def test_frame_between_holders_opens_with_none_of_the_coordinator_s_keys(
    overheard: tuple[Eavesdropper, Network, RingSetup, tuple[Any, ...]],
) -> None:
    eavesdropper, _, _, _ = overheard
    keys = eavesdropper.own_keys
    assert keys is not None
    assert len(eavesdropper.frames) == 2
    for posted in eavesdropper.frames:
        with pytest.raises(InvalidMessageError):
            Links(keys).open(posted.sealed)
        with pytest.raises(InvalidMessageError):
            Links(keys).open(dataclasses.replace(posted.sealed, recipient=COORDINATOR))
        for key in every_key(keys):
            for counter, place in itertools.product(range(8), range(2)):
                with pytest.raises(InvalidTag):
                    AESGCM(key).decrypt(struct.pack(">QI", counter, place), posted.sealed.body, None)


def every_key(keys: SessionKeys) -> Iterator[bytes]:
    """Every key that the coordinator can derive for a link."""
    for peer in map(PartyId, "abc"):
        for pair in ((COORDINATOR, peer), (peer, COORDINATOR)):
            yield keys.direction_key(*pair, PURPOSE)
            yield keys.opening_key(*pair, keys.ephemeral, PURPOSE)


def test_sealed_partial_sum_is_no_ciphertext_under_the_coordinator_s_key(
    overheard: tuple[Eavesdropper, Network, RingSetup, tuple[Any, ...]],
) -> None:
    eavesdropper, _, setup, _ = overheard
    for posted in eavesdropper.frames:
        body = posted.sealed.body
        with pytest.raises(DecodeError):
            decode(Frame(body, ()))
        assert setup.binding not in posted.content
        assert setup.key_id not in posted.content


def test_only_the_seal_keeps_the_coordinator_from_a_contribution_without_masks(
    overheard: tuple[Eavesdropper, Network, RingSetup, tuple[Any, ...]],
) -> None:
    # What the seal is worth: with the recipient's link the Paillier key opens the first holder's contribution.
    eavesdropper, network, setup, (first, words) = overheard
    opened = eavesdropper.recipients[0].open(eavesdropper.frames[0].sealed)
    assert isinstance(opened, PartialSum)
    assert opened.hop == 1
    read = read_partial_sum(setup, opened, setup.order[0], 1)
    private_keys = network.coordinator.memory_of(network.protocol).keys
    residues = [
        paillier.decrypt(private_keys[key.n], paillier.subtract(after, before))
        for key, before, after in zip(setup.public_keys, first, read, strict=True)
    ]
    expected = plaintexts_of(setup, setup.order[0], words, bytes)
    assert residues == [[value % key.n for value in expected] for key in setup.public_keys]


def test_keys_of_a_session_are_never_pickled(
    overheard: tuple[Eavesdropper, Network, RingSetup, tuple[Any, ...]],
) -> None:
    eavesdropper, network, _, _ = overheard
    for secret in (
        eavesdropper.own_keys,
        eavesdropper.recipients[0],
        network.coordinator.memory_of(network.protocol),
    ):
        assert "secret" in repr(secret)
        with pytest.raises(MisuseError):
            secret.__reduce_ex__(4)
    assert SMALL.masks  # by default not even the seal is all that protects a contribution
