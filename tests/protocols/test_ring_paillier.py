"""Ring-Paillier reads as the protocol, adds exactly, and refuses what cannot be right."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import COORDINATOR, Contribution, Network, floats, integers, messages
from tacit.protocols import paillier
from tacit.protocols.errors import (
    InvalidMessageError,
    MisuseError,
    SetupError,
    VoidedError,
)
from tacit.protocols.invitation import encodings_for, prepare, specify
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.limbs import Limbs
from tacit.protocols.packing import expected_tags
from tacit.protocols.paillier import Ciphertexts
from tacit.protocols.paillier_keys import generate_keys
from tacit.protocols.paillier_noise import FixedBaseNoise, NoisePool
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.registry import protocol_from
from tacit.protocols.ring_paillier import POOLS_KEPT, RingMemory, RingPaillier
from tacit.protocols.ring_steps import (
    RingSetup,
    add_contribution,
    join_residues,
    keys_needed,
    masked,
    open_total,
    partial_sum,
    plaintexts_of,
    random_partial_sum,
    read_partial_sum,
)
from tacit.protocols.session import Failed
from tacit.protocols.simulation import Run, Sent
from tacit.serialization.codec import encode
from tacit.serialization.encoding_parameters import FixedPoint
from tacit.serialization.ring_paillier_messages import PartialSum, RingPaillierOptions, RingParameters
from tacit.serialization.session_messages import Begin, Query

RING = RingPaillier.insecure_for_tests()
OPEN_RING = RingPaillier.insecure_for_tests(masks=False)
MEMORIES: dict[tuple[int, str], RingMemory] = {}  # keys and noise are dear: runs share them
THREE: dict[str, Contribution] = {"a": integers(1, -2), "b": integers(3, 5), "c": integers(-10, 7)}
TOTAL = [-6, 10]


def network(
    contributions: Mapping[str, Contribution] = THREE, protocol: RingPaillier = RING, **options: Any
) -> Network:
    names = ["k", *contributions]
    shared = {name: MEMORIES.setdefault((protocol.key_bits, name), RingMemory()) for name in names}
    return Network(protocol, contributions, memories=shared, **options)


def failure(run: Run, party: str) -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


# The transcript


def test_transcript() -> None:
    assert Network(RING, THREE, seed=1).run().transcript == [
        "k -> a: Invitation",
        "k -> b: Invitation",
        "k -> c: Invitation",
        "a -> k: Ready",
        "b -> k: Ready",
        "c -> k: Ready",
        "k -> a: Begin",
        "k -> b: Begin",
        "k -> c: Begin",
        "k -> a: PartialSum",
        "a -> b: PartialSum",
        "b -> c: PartialSum",
        "c -> k: PartialSum",
        "k -> a: Finished",
        "k -> b: Finished",
        "k -> c: Finished",
    ]


def test_the_page_of_the_protocol_shows_this_transcript() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "ring-paillier.md").read_text(encoding="utf-8")
    shown = re.findall(r"^(\w -> \w: \w+)", page, re.MULTILINE)
    assert shown == Network(RING, THREE, seed=1).run().transcript


def test_the_ring_is_shuffled_by_every_session_with_masks() -> None:
    orders = {tuple(ring_of(network(seed=seed).run())) for seed in range(12)}
    assert len(orders) > 2


def test_without_masks_the_ring_is_the_same_in_every_session() -> None:
    orders = {tuple(ring_of(network(protocol=OPEN_RING, seed=seed).run())) for seed in range(6)}
    assert len(orders) == 1


def ring_of(run: Run) -> list[PartyId]:
    """The holders in the order of the ring."""
    return [sent.recipient for sent in run.sent if isinstance(sent.message, PartialSum)][:-1]


def recipient_of(run: Run, hop: int) -> PartyId:
    return next(s.recipient for s in run.sent if isinstance(s.message, PartialSum) and s.message.hop == hop)


# Sums


def exact(values: list[float]) -> float:
    return float(sum(map(Fraction, values)))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=2, max_size=2),
        min_size=3,
        max_size=5,
    ),
    st.integers(0, 2**32),
)
def test_floats_sum_exactly_rounded_once(rows: list[list[float]], seed: int) -> None:
    sums = [sum(map(Fraction, column), Fraction()) for column in zip(*rows, strict=True)]
    if any(abs(total) >= Fraction(2**1023) for total in sums):
        return
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    total = network(holders, seed=seed).aggregate().arrays["x"]
    assert total.dtype == np.float64
    assert total.tolist() == [float(value) for value in sums]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.floats(-100, 100), min_size=3, max_size=3), min_size=3, max_size=6))
def test_fixed_point_sums_the_rounded_values_exactly(rows: list[list[float]]) -> None:
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    total = network(holders, encoding=FixedPoint(100.0, 20)).aggregate().arrays["x"]
    for got, column in zip(total.tolist(), zip(*rows, strict=True), strict=True):
        assert got == sum(round(Fraction(value) * 2**20) for value in column) / 2**20


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(-(2**61), 2**61), min_size=4, max_size=4), min_size=3, max_size=3))
def test_integers_stay_integers(rows: list[list[int]]) -> None:
    holders = {f"h{i}": integers(*row) for i, row in enumerate(rows)}
    total = network(holders).aggregate().arrays["x"]
    assert total.dtype == np.int64
    assert total.tolist() == [sum(column) for column in zip(*rows, strict=True)]


def mixed(generator: np.random.Generator) -> Contribution:
    """Several arrays of several shapes and dtypes."""
    return {
        "scalar": np.array(generator.normal()),
        "matrix": generator.normal(size=(2, 3)) * 1e200,
        "empty": np.zeros((0, 4)),
        "narrow": generator.normal(size=2).astype(np.float32),
        "counts": generator.integers(-5, 5, size=(1, 2, 2)),
        "bytes": generator.integers(0, 50, size=3, dtype=np.uint8),
        "flags": generator.normal(size=2) > 0,
    }


def test_several_arrays_keep_their_names_shapes_and_dtypes() -> None:
    rows = [mixed(np.random.default_rng(seed)) for seed in range(3)]
    totals = network(dict(zip("abc", rows, strict=True))).aggregate().arrays
    assert list(totals) == list(rows[0])
    for name, total in totals.items():
        first = rows[0][name]
        assert total.shape == first.shape
        assert total.dtype == (np.int64 if first.dtype == np.bool_ else first.dtype)
        columns = zip(*(row[name].reshape(-1).tolist() for row in rows), strict=True)
        wanted = [sum(map(Fraction, column)) for column in columns]
        assert total.reshape(-1).tolist() == [total.dtype.type(float(value)) for value in wanted]


@pytest.mark.parametrize("contribution", [{}, {"x": np.zeros((0, 3))}], ids=["no array", "an empty one"])
def test_nothing_sums_to_nothing(contribution: Contribution) -> None:
    totals = network(dict.fromkeys("abc", contribution)).aggregate().arrays
    assert {name: total.shape for name, total in totals.items()} == {
        n: a.shape for n, a in contribution.items()
    }


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("key_bits", [192, 256, 1152, 2304])
def test_the_bits_do_not_depend_on_masks_or_on_the_number_of_keys(masks: bool, key_bits: int) -> None:
    rows = {"a": floats(1e308, 0.1, -0.0), "b": floats(1e-308, 0.2, 0.0), "c": floats(-1e308, 0.3, -0.0)}
    ring = RingPaillier.insecure_for_tests(key_bits, masks=masks)
    run = network(rows, ring)
    total = run.aggregate().arrays["x"]
    assert total.tobytes() == np.array([1e-308, exact([0.1, 0.2, 0.3]), 0.0]).tobytes()


def test_a_wide_value_goes_as_residues_under_several_keys() -> None:
    ring = network({"a": floats(1.5), "b": floats(2.5), "c": floats(-1.0)})
    run = ring.run()
    assert run.result("k").arrays["x"] == [3.0]
    setup = setup_of(ring, run)
    assert len(setup.public_keys) == keys_needed(ring.opened(run).encodings, 3, 256) == 9
    assert messages(run, PartialSum)[0].ciphertexts.shape == (9 * 2, 64)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**120), min_size=1, max_size=5))
def test_residues_join_to_the_integer(values: list[int]) -> None:
    moduli = [2**61 - 1, 2**31 - 1, 3**30]
    residues = [[value % modulus for value in values] for modulus in moduli]
    assert join_residues(residues, moduli) == values


# A holder that cannot contribute


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("holder", ["a", "b", "c"])
def test_a_value_that_cannot_be_carried_voids_the_session_and_names_nobody(bad: float, holder: str) -> None:
    rows = {"a": floats(1.0, 2.0), "b": floats(3.0, 4.0), "c": floats(5.0, 6.0)}
    run = network(rows | {holder: floats(1.0, bad)}, voids=True).run()
    found = failure(run, "k")
    assert isinstance(found, VoidedError)
    assert not any(f" {name} " in f" {found} " for name in ("b", "c"))
    for name in "abc":
        assert "VoidedError" in str(failure(run, name))


def test_a_session_that_is_void_looks_like_any_other_on_the_way() -> None:
    rows = {"a": floats(1.0), "b": floats(2.0), "c": floats(3.0)}
    sound = network(rows, voids=True).run()
    void = network(rows | {"b": floats(float("nan"))}, voids=True).run()

    def seen(run: Run) -> list[tuple[str, str, int]]:
        kept = (s for s in run.sent if type(s.message).__name__ not in {"Finished", "Abort", "Closed"})
        return sorted((s.sender, type(s.message).__name__, encode(s.message).size) for s in kept)

    assert seen(sound) == seen(void)


# Costs


@pytest.mark.parametrize(
    ("contribution", "encoding"),
    [
        (floats(1.0, 2.0, 3.0), None),
        (floats(*range(40)), FixedPoint(1000.0)),
        (integers(*range(100)), None),
        (integers(*range(2000)), None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("n_holders", [3, 5])
def test_the_cost_foretold_is_the_cost_measured(
    contribution: Contribution, encoding: Any, n_holders: int
) -> None:
    names = "abcdefgh"[:n_holders]
    run = network(dict.fromkeys(names, contribution), encoding=encoding).run()
    cost = RING.cost(n_holders, encodings_for(encoding, specify(contribution), n_holders))
    sizes = {encode(sent.message).size for sent in run.sent if isinstance(sent.message, PartialSum)}
    assert sizes == {cost.bytes_sent_by_holder}
    assert cost.rounds == 3 + len(messages(run, PartialSum))


def test_the_cost_of_real_keys_is_foretold_without_making_any() -> None:
    encodings = encodings_for(None, specify(floats(*range(10))), 3)
    cost = RingPaillier(3072).cost(3, encodings)
    assert 10 * 768 < cost.bytes_sent_by_holder < 10 * 768 + 400  # one value a plaintext
    assert RingPaillier(2048).cost(3, encodings).bytes_sent_by_holder > 2 * 10 * 512  # two residues


# Keys and noise


def moduli(run: Run) -> tuple[int, ...]:
    parameters = messages(run, Begin)[0].parameters
    assert isinstance(parameters, RingParameters)
    return parameters.moduli


def test_keys_serve_many_sessions() -> None:
    first = network(seed=1)
    assert moduli(first.run()) == moduli(network(seed=2).run())


def test_noise_and_its_tables_serve_many_sessions() -> None:
    memories = {name: RingMemory() for name in "kabc"}
    pools = []
    for seed in range(2):
        Network(RING, THREE, seed=seed, memories=dict(memories)).aggregate()
        pools.append(dict(memories["a"].pools))
    assert pools[0] == pools[1]
    ((_, pool),) = memories["a"].pools.values()
    assert len(pool) == 2, "filled for the next session: the fewest plaintexts"


def test_fresh_keys_are_new_for_every_session_and_forgotten_after_it() -> None:
    ring = RingPaillier.insecure_for_tests(fresh_keys=True)
    memories = {name: RingMemory() for name in "kabc"}
    runs = [Network(ring, THREE, seed=seed, memories=dict(memories)).run() for seed in range(2)]
    assert all(run.result("k").arrays["x"].tolist() == TOTAL for run in runs)
    assert not set(moduli(runs[0])) & set(moduli(runs[1]))
    assert all(not memory.keys and not memory.pools for memory in memories.values())


def test_fresh_keys_are_forgotten_even_if_the_session_fails() -> None:
    ring = RingPaillier.insecure_for_tests(fresh_keys=True)
    memories = {name: RingMemory() for name in "kabc"}
    failed = Network(ring, THREE, memories=dict(memories), dies_after={"b": 1}).run()
    assert isinstance(failed.outcomes[COORDINATOR], Failed)
    assert not memories["k"].keys


def test_a_key_of_another_length_is_not_taken_from_memory() -> None:
    memories = {name: RingMemory() for name in "kabc"}
    for bits in (256, 320):
        run = Network(RingPaillier.insecure_for_tests(bits), THREE, memories=dict(memories)).run()
        assert [n.bit_length() for n in moduli(run)] == [bits]


def test_a_holder_keeps_few_tables_however_many_keys_come() -> None:
    holder = RingMemory()
    for seed in range(POOLS_KEPT + 3):
        memories = {name: RingMemory() for name in "kabc"} | {"a": holder}
        Network(RING, THREE, seed=seed, memories=memories).aggregate()
    assert len(holder.pools) == POOLS_KEPT


def test_strict_noise_never_comes_from_a_table() -> None:
    strict = dataclasses.replace(RING, noise="strict")
    memories = {name: RingMemory() for name in "kabc"}
    for ring in (RING, strict):
        assert Network(ring, THREE, memories=dict(memories)).aggregate().arrays["x"].tolist() == TOTAL
    assert {kind for _, kind in memories["a"].pools} == {"tables", "strict"}


def test_the_first_partial_sum_is_fresh_in_every_session() -> None:
    rows = [messages(network(seed=seed).run(), PartialSum)[0].ciphertexts for seed in range(4)]
    flat = [row.tobytes() for ciphertexts in rows for row in ciphertexts]
    assert len(set(flat)) == len(flat)


def test_a_memory_is_neither_shown_nor_sent() -> None:
    assert repr(RingMemory()) == "<RingMemory: secret>"


# Masks


def setup_of(ring: Network, run: Run) -> RingSetup:
    protocol = ring.protocol
    assert isinstance(protocol, RingPaillier)
    return protocol.setup(ring.opened(run))


def met(n_holders: int, seed: int) -> dict[PartyId, SessionKeys]:
    """Session keys of some holders and a coordinator who have exchanged their fresh keys."""
    source = random.Random(seed).randbytes
    names = [COORDINATOR, *(PartyId(f"h{i}") for i in range(n_holders))]
    identities = [Identity(n, "holder" if n != COORDINATOR else "coordinator", source) for n in names]
    roster = Roster(tuple(identity.public for identity in identities))
    keys = {
        n: SessionKeys(identity, roster, source(32), source)
        for n, identity in zip(names, identities, strict=True)
    }
    session = keys[COORDINATOR].session
    for mine in keys.values():
        mine.session = session
        for peer, theirs in keys.items():
            if peer != mine.me:
                mine.learn(peer, theirs.ephemeral)
    return keys


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(3, 6), st.integers(0, 2**32), st.integers(1, 4))
def test_masks_cancel_over_the_ring_and_none_comes_twice(n_holders: int, seed: int, count: int) -> None:
    ring = network()
    setup = setup_of(ring, ring.run())
    seen: list[int] = []
    for session in range(2):
        keys = met(n_holders, seed + session)
        holders = tuple(name for name in keys if name != COORDINATOR)
        here = dataclasses.replace(setup, order=holders, session=keys[COORDINATOR].session)
        columns = [masked(here, keys[name], [0] * count) for name in holders]
        assert [sum(column) % here.modulus for column in zip(*columns, strict=True)] == [0] * count
        seen += [mask for column in columns for mask in column]
    assert 0 not in seen
    assert len(set(seen)) == len(seen)


def test_masks_are_taken_once_a_session() -> None:
    ring = network()
    setup = setup_of(ring, ring.run())
    keys = met(3, 1)
    here = dataclasses.replace(setup, order=tuple(name for name in keys if name != COORDINATOR))
    masked(here, keys[PartyId("h0")], [0])
    with pytest.raises(MisuseError):
        masked(here, keys[PartyId("h0")], [0])


# What a coordinator learns from captured frames


def words_of(ring: Network, name: str) -> tuple[Limbs, ...]:
    words = prepare(ring.contributions[name], ring.encoding, len(ring.contributions), void=False).words
    assert words is not None
    return words


def attempt(ring: Network, run: Run) -> tuple[list[list[int]], list[list[int]]]:
    """Decrypt every frame of the ring with the coordinator's keys: what it sees, and what was added."""
    setup, memory = setup_of(ring, run), ring.memories["k"]
    frames = messages(run, PartialSum)
    senders = [setup.coordinator, *setup.order]
    first, *others = (
        read_partial_sum(setup, frame, sender, hop)
        for hop, (frame, sender) in enumerate(zip(frames, senders, strict=True))
    )
    seen = []
    for parts in others:
        residues = [
            paillier.decrypt(memory.keys[key.n], paillier.subtract(after, before))
            for key, before, after in zip(setup.public_keys, first, parts, strict=True)
        ]
        seen.append(join_residues(residues, [key.n for key in setup.public_keys]))
    own = [plaintexts_of(setup, name, words_of(ring, name), random.randbytes) for name in setup.order]
    partial = [[sum(column) for column in zip(*own[: i + 1], strict=True)] for i in range(len(own))]
    return seen, partial


def differences(rows: list[list[int]]) -> list[list[int]]:
    return [[x - y for x, y in zip(after, before, strict=True)] for before, after in pairwise(rows)]


@pytest.mark.parametrize("contributions", [THREE, {"a": floats(1.5), "b": floats(2.5), "c": floats(9.0)}])
def test_without_masks_and_seals_the_coordinator_reads_every_partial_sum(contributions: Any) -> None:
    ring = network(contributions, OPEN_RING)
    seen, partial = attempt(ring, ring.run())
    assert seen == partial, "this is why frames are sealed, and why masks are on by default"


@pytest.mark.parametrize("contributions", [THREE, {"a": floats(1.5), "b": floats(2.5), "c": floats(9.0)}])
def test_with_masks_captured_frames_open_to_nothing_but_the_total(contributions: Any) -> None:
    ring = network(contributions)
    run = ring.run()
    seen, partial = attempt(ring, run)
    modulus = setup_of(ring, run).modulus
    assert seen[-1] == partial[-1], "the total, which it may learn"
    for before_last in seen[:-1]:
        for row in partial:
            assert all(x != y for x, y in zip(before_last, row, strict=True))
    for shown, true in zip(differences(seen), differences(partial), strict=True):
        assert all((x - y) % modulus for x, y in zip(shown, true, strict=True))


def test_with_one_holders_masks_the_coordinator_still_reads_no_partial_sum() -> None:
    ring = network()
    run = ring.run()
    setup = setup_of(ring, run)
    seen, partial = attempt(ring, run)
    traitor = setup.order[1]
    keys = fresh_copy(ring, traitor)
    masks = masked(setup, keys, [0] * setup.n_plaintexts)
    first = [(x + mask) % setup.modulus for x, mask in zip(seen[0], masks, strict=True)]
    assert all(x != y for x, y in zip(first, partial[0], strict=True))
    assert all(x != y for x, y in zip(seen[0], partial[0], strict=True))


def fresh_copy(ring: Network, name: str) -> SessionKeys:
    """A party's keys as they were before their masks were taken."""
    again = Network(ring.protocol, ring.contributions, seed=ring.seed, encoding=ring.encoding)
    keys = again.keys[PartyId(name)]
    for peer, theirs in again.keys.items():
        if peer != name:
            keys.learn(PartyId(peer), theirs.ephemeral)
    return keys


# The check slot: contributions that are missing, doubled, or of another session


def with_sum(setup: RingSetup, first: list[Ciphertexts], plaintexts: list[list[int]]) -> PartialSum:
    """The last frame of a ring in which exactly these plaintexts were added."""
    total = [sum(column) for column in zip(*plaintexts, strict=True)]
    blocks = []
    for key, block in zip(setup.public_keys, first, strict=True):
        pool = NoisePool(FixedBaseNoise(key, random.Random(3).randbytes, 0), random.Random(4).randbytes)
        own = paillier.encrypt(key, [value % key.n for value in total], pool)
        blocks.append(paillier.add(block, own))
    return partial_sum(setup, len(setup.order), blocks)


@pytest.mark.parametrize(
    ("added", "sound"),
    [
        ("abc", True),
        ("ab", False),
        ("aabc", False),
        ("aac", False),
        ("aaa", False),
        ("", False),
    ],
    ids=["all", "one missing", "one doubled", "one doubled, one missing", "one three times", "none"],
)
def test_the_total_is_of_one_contribution_of_everybody_or_none(added: str, sound: bool) -> None:
    ring = network(protocol=OPEN_RING)
    run = ring.run()
    setup = setup_of(ring, run)
    first = read_partial_sum(setup, messages(run, PartialSum)[0], setup.coordinator, 0)
    own = {n: plaintexts_of(setup, PartyId(n), words_of(ring, n), random.randbytes) for n in "abc"}
    last = with_sum(setup, first, [own[n] for n in added] or [[0] * setup.n_plaintexts])
    private = [ring.memories["k"].keys[key.n] for key in setup.public_keys]
    if sound:
        open_total(setup, private, first, last)
        return
    with pytest.raises(InvalidMessageError) as caught:
        open_total(setup, private, first, last)
    assert set(caught.value.suspects) == {"a", "b", "c"}


def test_a_contribution_tagged_for_another_session_is_found() -> None:
    ring = network(protocol=OPEN_RING)
    run = ring.run()
    setup = setup_of(ring, run)
    first = read_partial_sum(setup, messages(run, PartialSum)[0], setup.coordinator, 0)
    stale = dataclasses.replace(setup, session=bytes(32))
    rows = [
        plaintexts_of(stale if n == "b" else setup, PartyId(n), words_of(ring, n), random.randbytes)
        for n in "abc"
    ]
    private = [ring.memories["k"].keys[key.n] for key in setup.public_keys]
    with pytest.raises(InvalidMessageError):
        open_total(setup, private, first, with_sum(setup, first, rows))


def test_expected_tags_follow_from_session_and_roster() -> None:
    assert expected_tags(b"one", ["a", "b"], 3) == expected_tags(b"one", ["b", "a"], 3)
    assert expected_tags(b"one", ["a", "b"], 3) != expected_tags(b"two", ["a", "b"], 3)
    assert expected_tags(b"one", ["a", "b"], 3) != expected_tags(b"one", ["a", "a"], 3)


# Frames that do not belong


def other_ciphertexts(partial: PartialSum) -> PartialSum:
    key = generate_keys(256, random.Random(77).randbytes).public_key
    foreign = paillier.random_ciphertexts(key, len(partial.ciphertexts), random.Random(78).randbytes)
    return dataclasses.replace(partial, ciphertexts=foreign.write())


CHANGES: dict[str, Any] = {
    "session": lambda p: dataclasses.replace(p, session=bytes(32)),
    "hop": lambda p: dataclasses.replace(p, hop=p.hop + 1),
    "binding": lambda p: dataclasses.replace(p, binding=bytes(32)),
    "key id": lambda p: dataclasses.replace(p, key_id=bytes(32)),
    "a row too few": lambda p: dataclasses.replace(p, ciphertexts=p.ciphertexts[1:]),
    "a row too many": lambda p: dataclasses.replace(
        p, ciphertexts=np.vstack([p.ciphertexts, p.ciphertexts[:1]])
    ),
    "a narrower row": lambda p: dataclasses.replace(p, ciphertexts=p.ciphertexts[:, 1:]),
    "flat": lambda p: dataclasses.replace(p, ciphertexts=p.ciphertexts.reshape(-1)),
    "zero": lambda p: dataclasses.replace(p, ciphertexts=np.zeros_like(p.ciphertexts)),
    "too large": lambda p: dataclasses.replace(p, ciphertexts=np.full_like(p.ciphertexts, 255)),
}


def altered(change: Any, hop: int, **options: Any) -> tuple[Run, PartyId]:
    """A run in which the frame of one hop is altered, and who sent it."""
    senders: list[PartyId] = []

    def tamper(sent: Sent) -> Any:
        if isinstance(sent.message, PartialSum) and sent.message.hop == hop:
            senders.append(sent.sender)
            return change(sent.message)
        return sent.message

    run = network(faults={"tamper": tamper}, **options).run()
    return run, senders[0]


@pytest.mark.parametrize("hop", range(4))
@pytest.mark.parametrize("change", CHANGES)
def test_a_frame_that_does_not_belong_is_refused_and_its_sender_named(change: str, hop: int) -> None:
    run, sender = altered(CHANGES[change], hop)
    found = failure(run, recipient_of(run, hop))
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (sender,)
    assert all(isinstance(outcome, Failed) for outcome in run.outcomes.values())


@pytest.mark.parametrize("hop", range(4))
def test_ciphertexts_under_another_key_never_give_a_total(hop: int) -> None:
    run, _ = altered(other_ciphertexts, hop)
    if hop == 0:
        # c0 stays with the coordinator: what left it is something else.
        assert isinstance(failure(run, "k"), InvalidMessageError | VoidedError)
    assert all(isinstance(outcome, Failed) for outcome in run.outcomes.values())


def test_a_frame_of_an_earlier_session_is_refused() -> None:
    old = messages(network(seed=1).run(), PartialSum)
    run, sender = altered(lambda partial: old[partial.hop], 1, seed=2)
    found = failure(run, recipient_of(run, 1))
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (sender,)


def test_what_a_holder_sends_shares_no_factor_with_what_it_got() -> None:
    # Re-randomised: the quotient of two successive frames is no power of 1 + n, which would show the input.
    ring = network(protocol=OPEN_RING)
    run = ring.run()
    setup, frames = setup_of(ring, run), messages(run, PartialSum)
    senders = [setup.coordinator, *setup.order]
    read = [
        read_partial_sum(setup, frame, sender, hop)[0]
        for hop, (frame, sender) in enumerate(zip(frames, senders, strict=True))
    ]
    for before, after in pairwise(read):
        assert all(
            quotient % setup.public_keys[0].n != 1 for quotient in paillier.subtract(after, before).values
        )


def test_a_hop_out_of_turn_is_refused_before_anything_is_added() -> None:
    ring = network()
    run = ring.run()
    setup = setup_of(ring, run)
    first = random_partial_sum(setup, random.Random(1).randbytes)
    with pytest.raises(InvalidMessageError) as caught:
        add_contribution(setup, setup.order[-1], partial_sum(setup, 0, first), own=first)
    assert caught.value.culprits == (setup.order[-2],)


# Options and keys that are refused


@pytest.mark.parametrize("bits", [0, -1, 256, 1024, 2047])
def test_short_keys_are_refused_without_the_name_that_says_so(bits: int) -> None:
    with pytest.raises(SetupError, match="at least 2048"):
        RingPaillier(bits)
    with pytest.raises(SetupError):
        protocol_from(RingPaillierOptions(bits, masks=True, noise="tables", fresh_keys=False, colluding=1))


@pytest.mark.parametrize("options", [{"noise": "none"}, {"colluding": 0}, {"colluding": -1}])
def test_other_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        RingPaillier(**options)
    message = dataclasses.replace(RingPaillier().options, **options)
    with pytest.raises(SetupError):
        protocol_from(message)


def test_options_travel_and_come_back() -> None:
    for ring in (
        RingPaillier(),
        RingPaillier(2048, masks=False, noise="strict", fresh_keys=True, colluding=3),
    ):
        assert protocol_from(ring.options) == ring


@pytest.mark.parametrize(
    "unfit",
    [
        lambda n: (n >> 1 | 1,),
        lambda n: (n + 1,),
        lambda n: (),
        lambda n: (n, n),
        lambda n: (2**256 - 189,),
        lambda n: (-n,),
        lambda n: ((2**128 + 51) ** 2,),
    ],
    ids=["short", "even", "none", "twice", "prime", "negative", "a square"],
)
def test_an_unfit_modulus_in_begin_is_refused_before_anything_is_encrypted(unfit: Any) -> None:
    ring = network()
    opened = ring.opened(ring.run())
    (n,) = opened.parameters.moduli if isinstance(opened.parameters, RingParameters) else (0,)
    begin = dataclasses.replace(opened.begin, parameters=RingParameters(moduli=unfit(n)))
    with pytest.raises((SetupError, InvalidMessageError)):
        RING.setup(dataclasses.replace(opened, begin=begin))


def test_a_begin_with_other_parameters_names_the_coordinator() -> None:
    ring = network()
    opened = ring.opened(ring.run())
    begin = dataclasses.replace(opened.begin, parameters=Query(step="no parameters"))
    with pytest.raises(InvalidMessageError) as caught:
        RING.setup(dataclasses.replace(opened, begin=begin))
    assert caught.value.culprits == ("k",)


def test_too_few_keys_for_a_wide_value_are_refused() -> None:
    ring = network({"a": floats(1.0), "b": floats(1.0), "c": floats(1.0)})
    opened = ring.opened(ring.run())
    parameters = opened.parameters
    assert isinstance(parameters, RingParameters)
    begin = dataclasses.replace(opened.begin, parameters=RingParameters(moduli=parameters.moduli[:8]))
    with pytest.raises(SetupError):
        RING.setup(dataclasses.replace(opened, begin=begin))


def test_what_is_trusted_follows_the_options() -> None:
    assert "all holders but one" in str(RingPaillier().trust)
    assert "neighbours" in str(RingPaillier(masks=False).trust)
    assert len(RingPaillier().attacks) >= 8
    assert all(attack.stopped_by for attack in RingPaillier().attacks)
