"""Pairwise masking reads as the protocol, adds exactly over whoever is left, and uses no keystream twice."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import random
import re
import weakref
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import COORDINATOR, Contribution, Network, floats, integers, messages
from numpy.typing import NDArray
from tacit.protocols import masking_steps
from tacit.protocols.channel import Channel, Role
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    InvalidMessageError,
    MisuseError,
    SetupError,
    VoidedError,
)
from tacit.protocols.invitation import RECORDS_OUT_OF_ORDER, encodings_for, specify
from tacit.protocols.masking_epoch import Epoch, OwnSecrets
from tacit.protocols.pairwise_masking import EPOCHS_KEPT, MaskingMemory, PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.registry import protocol_from
from tacit.protocols.ring_paillier import RingMemory, RingPaillier
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import Run, Sent
from tacit.protocols.stream_cipher import add_masks, stream_bytes
from tacit.serialization.codec import encode
from tacit.serialization.encoding_parameters import FixedPoint, Quantized
from tacit.serialization.pairwise_masking_messages import (
    DealtShares,
    GraphCommitments,
    GraphSeed,
    GraphSeeds,
    MaskedInput,
    MaskingParameters,
    SurvivorCodes,
    UnmaskingShares,
)
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Begin, Invitation, Query

ACTIVE = PairwiseMasking(epoch=2)
CURIOUS = PairwiseMasking(epoch=2, active=False)
DIRECT = PairwiseMasking(mode="direct")
SPARSE = PairwiseMasking(epoch=2, threshold=7, neighbours=4)  # of eight holders
THREE: dict[str, Contribution] = {"a": integers(1, -2), "b": integers(3, 5), "c": integers(-10, 7)}
FIVE: dict[str, Contribution] = {name: integers(10**i, -i) for i, name in enumerate("abcde")}
EIGHT: dict[str, Contribution] = {name: integers(10**i) for i, name in enumerate("abcdefgh")}
IN_ORDER = {"delays": (0.001, 0.001)}  # messages arrive in the order of sending

RING = RingPaillier.insecure_for_tests()
RING_MEMORIES: dict[str, RingMemory] = {}


def failure(run: Run, party: str = "k") -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def total(contributions: Mapping[str, Contribution], holders: Sequence[str] | None = None) -> list[int]:
    chosen = contributions if holders is None else holders
    return np.sum([contributions[name]["x"] for name in chosen], axis=0).tolist()  # type: ignore[no-any-return]


# The transcript

OPENING = [
    "k -> a: Invitation",
    "k -> b: Invitation",
    "k -> c: Invitation",
    "a -> k: Ready",
    "b -> k: Ready",
    "c -> k: Ready",
    "k -> a: Begin",
    "k -> b: Begin",
    "k -> c: Begin",
]
DEALING = [
    "a -> k: DealtShares",
    "b -> k: DealtShares",
    "c -> k: DealtShares",
    "k -> a: ReceivedShares",
    "k -> b: ReceivedShares",
    "k -> c: ReceivedShares",
]
MASKING = ["a -> k: MaskedInput", "b -> k: MaskedInput", "c -> k: MaskedInput"]
SURVIVING = ["k -> a: Survivors", "k -> b: Survivors", "k -> c: Survivors"]
AGREEING = [
    "a -> k: SurvivorCodes",
    "b -> k: SurvivorCodes",
    "c -> k: SurvivorCodes",
    "k -> a: ForwardedCodes",
    "k -> b: ForwardedCodes",
    "k -> c: ForwardedCodes",
]
UNMASKING = ["a -> k: UnmaskingShares", "b -> k: UnmaskingShares", "c -> k: UnmaskingShares"]
END = ["k -> a: Finished", "k -> b: Finished", "k -> c: Finished"]


def two_sums(protocol: PairwiseMasking) -> list[list[str]]:
    memories: dict[str, Any] = {}
    networks = [Network(protocol, THREE, seed=seed, memories=memories, faults=IN_ORDER) for seed in range(2)]
    return [network.run().transcript for network in networks]


def test_transcript() -> None:
    later = [*OPENING, *MASKING, *SURVIVING, *AGREEING, *UNMASKING, *END]
    assert two_sums(ACTIVE) == [[*OPENING, *DEALING, *later[len(OPENING) :]], later]


def test_transcript_with_a_curious_coordinator() -> None:
    later = [*OPENING, *MASKING, *SURVIVING, *UNMASKING, *END]
    assert two_sums(CURIOUS) == [[*OPENING, *DEALING, *later[len(OPENING) :]], later]


def test_transcript_in_direct_mode() -> None:
    assert two_sums(DIRECT) == [[*OPENING, *MASKING, *END]] * 2


@pytest.mark.parametrize("protocol", [ACTIVE, DIRECT], ids=["resilient", "direct"])
def test_coordinator_holds_no_input_once_it_is_added(protocol: PairwiseMasking) -> None:
    """Each has gone when the next one comes, and none is left when all have come."""
    came: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(role: Role[Any]) -> Role[Any]:
        async def watching(channel: Channel) -> Any:
            fold = channel.fold

            async def watched_fold(kind: Any, take: Any, **options: Any) -> Any:
                def note(sender: PartyId, message: Any) -> None:
                    alive.append(sum(earlier() is not None for earlier in came))
                    came.append(weakref.ref(message))
                    take(sender, message)

                return await fold(kind, note, **options)

            channel.fold = watched_fold  # type: ignore[method-assign]
            return await role(channel)

        return watching

    network = Network(protocol, THREE, around={COORDINATOR: watched})
    assert isinstance(network.run().outcomes[COORDINATOR], Done)
    assert alive == [0, 0, 0]
    assert all(message() is None for message in came)


def test_the_page_of_the_protocol_shows_this_transcript() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "pairwise-masking.md").read_text(encoding="utf-8")
    shown = re.findall(r"^(\w -> \w: \w+)", page, re.MULTILINE)
    assert shown == two_sums(ACTIVE)[0]


def test_transcript_of_a_sparse_graph_begins_with_its_seed() -> None:
    run = Network(SPARSE, EIGHT, faults=IN_ORDER).run()
    kinds = list(dict.fromkeys(line.split(": ")[1] for line in run.transcript))
    assert kinds[3:9] == [
        "GraphCommitment",
        "GraphCommitments",
        "GraphSeed",
        "GraphSeeds",
        "DealtShares",
        "ReceivedShares",
    ]


# Sums


def exact(values: Sequence[float]) -> float:
    return float(sum(map(Fraction, values)))


@settings(max_examples=15, deadline=None, derandomize=True)
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
    if any(abs(value) >= Fraction(2**1023) for value in sums):
        return
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    found = Network(CURIOUS, holders, seed=seed).aggregate().arrays["x"]
    assert found.dtype == np.float64
    assert found.tolist() == [float(value) for value in sums]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.floats(-100, 100), min_size=3, max_size=3), min_size=3, max_size=6),
    st.sampled_from([20, 50]),
)
def test_fixed_point_sums_the_rounded_values_exactly(rows: list[list[float]], fraction_bits: int) -> None:
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    found = Network(CURIOUS, holders, encoding=FixedPoint(100.0, fraction_bits)).aggregate().arrays["x"]
    for got, column in zip(found.tolist(), zip(*rows, strict=True), strict=True):
        units = sum(round(Fraction(value) * 2**fraction_bits) for value in column)
        assert got == float(Fraction(units, 2**fraction_bits))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(-(2**61), 2**61), min_size=4, max_size=4), min_size=3, max_size=3))
def test_integers_stay_integers(rows: list[list[int]]) -> None:
    holders = {f"h{i}": integers(*row) for i, row in enumerate(rows)}
    found = Network(ACTIVE, holders).aggregate().arrays["x"]
    assert found.dtype == np.int64
    assert found.tolist() == [sum(column) for column in zip(*rows, strict=True)]


def mixed(generator: np.random.Generator) -> Contribution:
    """Several arrays of several shapes and dtypes: words of 32 and 64 bits, and limbs."""
    return {
        "scalar": np.array(generator.normal()),
        "matrix": generator.normal(size=(2, 3)) * 1e200,
        "empty": np.zeros((0, 4)),
        "narrow": generator.normal(size=2).astype(np.float32),
        "counts": generator.integers(-5, 5, size=(1, 2, 2)),
        "bytes": generator.integers(0, 30, size=3, dtype=np.uint8),
        "flags": generator.normal(size=2) > 0,
    }


def same_bits(left: Mapping[str, NDArray[Any]], right: Mapping[str, NDArray[Any]]) -> bool:
    return list(left) == list(right) and all(
        (array.dtype, array.shape, array.tobytes())
        == (right[name].dtype, right[name].shape, right[name].tobytes())
        for name, array in left.items()
    )


@pytest.mark.parametrize("protocol", [ACTIVE, CURIOUS, DIRECT], ids=["active", "curious", "direct"])
@pytest.mark.parametrize("encoding", [None, FixedPoint(1e7, 12)], ids=["exact", "grid"])
def test_the_bits_are_those_of_the_ring(protocol: PairwiseMasking, encoding: Message | None) -> None:
    rows = {name: mixed(np.random.default_rng(seed)) for seed, name in enumerate("abcd")}
    if encoding is not None:
        rows = {
            name: {key: array for key, array in row.items() if key != "matrix"} for name, row in rows.items()
        }
    ring = Network(RING, rows, encoding=encoding, memories=dict(RING_MEMORIES)).aggregate().arrays
    assert same_bits(Network(protocol, rows, encoding=encoding).aggregate().arrays, ring)


def test_several_arrays_keep_their_names_shapes_and_dtypes() -> None:
    rows = [mixed(np.random.default_rng(seed)) for seed in range(3)]
    totals = Network(ACTIVE, dict(zip("abc", rows, strict=True))).aggregate().arrays
    assert list(totals) == list(rows[0])
    for name, found in totals.items():
        first = rows[0][name]
        assert found.shape == first.shape
        assert found.dtype == (np.int64 if first.dtype == np.bool_ else first.dtype)
        columns = zip(*(row[name].reshape(-1).tolist() for row in rows), strict=True)
        wanted = [sum(map(Fraction, column)) for column in columns]
        assert found.reshape(-1).tolist() == [found.dtype.type(float(value)) for value in wanted]


@pytest.mark.parametrize("contribution", [{}, {"x": np.zeros((0, 3))}], ids=["no array", "an empty one"])
@pytest.mark.parametrize("protocol", [ACTIVE, DIRECT], ids=["resilient", "direct"])
def test_nothing_sums_to_nothing(protocol: PairwiseMasking, contribution: Contribution) -> None:
    totals = Network(protocol, dict.fromkeys("abc", contribution)).aggregate().arrays
    assert {name: array.shape for name, array in totals.items()} == {
        name: array.shape for name, array in contribution.items()
    }


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape"),
    [
        (FixedPoint(100.0, 20), np.uint32, (2,)),
        (FixedPoint(100.0, 40), np.uint64, (2,)),
        (Quantized(bits=8, clip=100.0), np.uint32, (3,)),
        (None, np.uint64, (2, 34)),
    ],
    ids=["32 bits", "64 bits", "quantized", "wide"],
)
def test_words_are_as_wide_as_the_total_needs(
    encoding: Message | None, dtype: type, shape: tuple[int, ...]
) -> None:
    rows = {"a": floats(1.5, 2.0), "b": floats(-50.0, 3.0), "c": floats(0.25, -8.0)}
    network = Network(CURIOUS, rows, encoding=encoding, dies_before={})
    run = network.run()
    assert {(masked.vectors[0].dtype, masked.vectors[0].shape) for masked in messages(run, MaskedInput)} == {
        (np.dtype(dtype), shape)
    }
    np.testing.assert_allclose(run.result("k").arrays["x"], [-48.25, -3.0], atol=2.5)


# Epochs


def epochs_used(run: Run) -> MaskingParameters:
    parameters = messages(run, Begin)[0].parameters
    assert isinstance(parameters, MaskingParameters)
    return parameters


@pytest.mark.parametrize("protocol", [ACTIVE, CURIOUS, SPARSE], ids=["active", "curious", "sparse"])
def test_one_set_up_is_good_for_an_epoch_of_sums(protocol: PairwiseMasking) -> None:
    memories: dict[str, Any] = {}
    used = []
    for seed in range(5):
        contributions = {name: integers(random.Random(f"{seed}{name}").randrange(10**9)) for name in EIGHT}
        network = Network(protocol, contributions, seed=seed, memories=memories)
        run = network.run()
        assert run.result("k").arrays["x"].tolist() == total(contributions)
        used.append((epochs_used(run).epoch, epochs_used(run).index, bool(messages(run, DealtShares))))
    assert [(index, dealt) for _, index, dealt in used] == [
        (0, True),
        (1, False),
        (0, True),
        (1, False),
        (0, True),
    ]
    assert len({epoch for epoch, _, _ in used}) == 3


def test_a_holder_lost_in_an_epoch_is_done_without_until_it_ends() -> None:
    memories: dict[str, Any] = {}
    sums = [
        Network(CURIOUS, FIVE, seed=seed, memories=memories, dies_after={} if seed == 0 else {"b": 0}).run()
        for seed in range(4)
    ]
    assert [run.result("k").holders for run in sums] == [tuple("abcde"), *[tuple("acde")] * 3]
    assert [bool(messages(run, DealtShares)) for run in sums] == [True, False, True, False]
    assert sums[1].result("k").arrays["x"].tolist() == total(FIVE, "acde")


def test_a_holder_that_missed_a_sum_begins_a_new_epoch() -> None:
    memories: dict[str, Any] = {}
    protocol = PairwiseMasking(active=False)
    lost = [{}, {"b": MaskedInput}, {}, {}]
    sums = [
        Network(protocol, FIVE, seed=seed, memories=memories, dies_before=dying).run()
        for seed, dying in enumerate(lost)
    ]
    assert [bool(messages(run, DealtShares)) for run in sums] == [True, False, True, False]
    assert [len(run.result("k").holders) for run in sums] == [5, 4, 5, 5]


def test_after_a_sum_that_failed_an_epoch_is_not_trusted() -> None:
    memories: dict[str, Any] = {}
    protocol = PairwiseMasking()
    networks = [
        Network(protocol, THREE, seed=0, memories=memories),
        Network(protocol, THREE, seed=1, memories=memories, dies_before={"c": UnmaskingShares}),
        Network(protocol, THREE, seed=2, memories=memories),
    ]
    first, second, third = (network.run() for network in networks)
    assert isinstance(failure(second), DropoutError)
    assert not messages(second, DealtShares)
    assert messages(third, DealtShares)
    assert third.result("k").arrays["x"].tolist() == first.result("k").arrays["x"].tolist() == total(THREE)


def test_other_options_or_another_roster_begin_a_new_epoch() -> None:
    memories: dict[str, Any] = {}
    sums = [
        (PairwiseMasking(active=False), FIVE),
        (PairwiseMasking(), FIVE),
        (PairwiseMasking(threshold=5), FIVE),
        (PairwiseMasking(threshold=5), {name: FIVE[name] for name in "abcde"} | {"f": integers(7, 7)}),
    ]
    for seed, (protocol, contributions) in enumerate(sums):
        run = Network(protocol, contributions, seed=seed, memories=memories).run()
        assert messages(run, DealtShares)
        assert run.result("k").arrays["x"].tolist() == total(contributions)


def test_a_coordinator_cannot_take_an_epoch_to_a_smaller_roster() -> None:
    memories: dict[str, Any] = {}
    Network(PairwiseMasking(threshold=4), FIVE, memories=memories).aggregate()
    four = {name: FIVE[name] for name in "abcd"}
    dealings = memories["k"].dealings
    dealings.terms = Network(PairwiseMasking(threshold=4), four).roster.digest + dealings.terms[32:]
    run = Network(PairwiseMasking(threshold=4), four, seed=1, memories=memories).run()
    for name in four:
        assert isinstance(failure(run, name), SetupError)
    assert not messages(run, MaskedInput)


def test_a_holder_keeps_few_epochs_however_many_are_opened() -> None:
    holder = MaskingMemory()
    for seed in range(EPOCHS_KEPT + 3):
        memories: dict[str, Any] = {"a": holder}
        Network(ACTIVE, THREE, seed=seed, memories=memories).aggregate()
    assert len(holder.epochs) == EPOCHS_KEPT


# A holder that cannot contribute


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("protocol", [ACTIVE, CURIOUS, DIRECT], ids=["active", "curious", "direct"])
def test_a_value_that_cannot_be_carried_voids_the_session_and_names_nobody(
    protocol: PairwiseMasking, bad: float
) -> None:
    rows = {"a": floats(1.0, 2.0), "b": floats(3.0, bad), "c": floats(5.0, 6.0)}
    run = Network(protocol, rows, voids=True).run()
    found = failure(run)
    assert isinstance(found, VoidedError)
    assert not any(f" {name} " in f" {found} " for name in ("b", "c"))
    for name in "abc":
        assert "VoidedError" in str(failure(run, name))


@pytest.mark.parametrize("encoding", [None, FixedPoint(10.0, 20), FixedPoint(10.0, 50)])
def test_a_session_that_is_void_looks_like_any_other_on_the_way(encoding: Message | None) -> None:
    rows = {"a": floats(1.0), "b": floats(2.0), "c": floats(3.0)}
    sound = Network(ACTIVE, rows, voids=True, encoding=encoding).run()
    void = Network(ACTIVE, rows | {"b": floats(float("nan"))}, voids=True, encoding=encoding).run()

    def seen(run: Run) -> list[tuple[str, str, int]]:
        kept = (s for s in run.sent if type(s.message).__name__ not in {"Finished", "Abort", "Closed"})
        return sorted((s.sender, type(s.message).__name__, encode(s.message).size) for s in kept)

    assert seen(sound) == seen(void)


# Sparse graphs


def sparse_network(n_holders: int, **options: Any) -> Network:
    contributions = {f"h{i:02}": integers(3**i % 10**6) for i in range(n_holders)}
    return Network(PairwiseMasking(active=False, epoch=1), contributions, **options)


def test_more_than_64_holders_mask_with_some_others_only() -> None:
    without = {"h03": DealtShares, "h17": MaskedInput, "h41": MaskedInput, "h65": MaskedInput}
    network = sparse_network(66, dies_before={**without, "h40": UnmaskingShares})
    run = network.run()
    aggregate = run.result("k")
    assert set(aggregate.holders) == set(network.contributions) - set(without)
    assert aggregate.arrays["x"].tolist() == total(network.contributions, aggregate.holders)
    dealt = messages(run, DealtShares)
    assert {len(shares.sealed) for shares in dealt} == {32}


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_is_shuffled_by_every_epoch(seed: int) -> None:
    memories: dict[str, Any] = {}
    networks = [Network(SPARSE, EIGHT, seed=10 * seed + i, memories=memories) for i in range(3)]
    graphs = []
    for network in networks:
        network.aggregate()
        graphs.append(memories["k"].dealings.graph.neighbours)
    assert graphs[0] == graphs[1] != graphs[2], "two sums are an epoch here"


def test_a_sparse_graph_gives_the_bits_of_the_complete_one() -> None:
    rows = {name: mixed(np.random.default_rng(seed)) for seed, name in enumerate("abcdefgh")}
    assert same_bits(
        Network(SPARSE, rows).aggregate().arrays,
        Network(PairwiseMasking(threshold=7), rows).aggregate().arrays,
    )


def test_a_holder_in_a_sparse_graph_keeps_no_share_of_its_own() -> None:
    memories: dict[str, Any] = {}
    run = Network(SPARSE, EIGHT, memories=memories).run()
    assert {shares.shares.shape for shares in messages(run, UnmaskingShares)} == {(4, 32)}
    graph = memories["k"].dealings.graph
    assert all(holder not in keepers for holder, keepers in graph.keepers.items())


@pytest.mark.parametrize("kind", [GraphSeed, GraphSeeds, GraphCommitments])
def test_a_coordinator_that_swaps_a_seed_of_the_graph_is_found_out(kind: type[Message]) -> None:
    def swap(sent: Sent) -> Message:
        match sent.message:
            case GraphSeed() as opened if kind is GraphSeed and sent.sender == "c":
                return dataclasses.replace(opened, seed=bytes(32))
            case GraphSeeds() as seeds if kind is GraphSeeds and sent.recipient == "b":
                return dataclasses.replace(seeds, seeds=(*seeds.seeds[:2], bytes(32), *seeds.seeds[3:]))
            case GraphCommitments() as shown if kind is GraphCommitments and sent.recipient == "b":
                swapped = (*shown.commitments[:2], bytes(32), *shown.commitments[3:])
                return dataclasses.replace(shown, commitments=swapped)
        return sent.message

    run = Network(SPARSE, EIGHT, faults={"tamper": swap}).run()
    found = failure(run, "k" if kind is GraphSeed else "b")
    assert isinstance(found, InvalidMessageError)
    assert found.suspects == ("c", "k")


def test_a_coordinator_cannot_leave_a_holder_out_of_the_seed() -> None:
    def swap(sent: Sent) -> Message:
        if isinstance(sent.message, GraphCommitments) and sent.recipient == "b":
            shown = sent.message.commitments
            return dataclasses.replace(sent.message, commitments=(shown[0], bytes(32), *shown[2:]))
        return sent.message

    found = failure(Network(SPARSE, EIGHT, faults={"tamper": swap}).run(), "b")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("k",)


@pytest.mark.parametrize("kind", ["GraphCommitment", "GraphSeed"])
def test_who_withholds_its_share_of_the_seed_only_ends_the_session(kind: str) -> None:
    kinds = {"GraphCommitment": 1, "GraphSeed": 2}
    run = Network(SPARSE, EIGHT, dies_after={"d": kinds[kind]}).run()
    found = failure(run)
    assert isinstance(found, DropoutError)
    assert found.missing == ("d",)
    assert not messages(run, DealtShares)
    assert {word.holder for word in found.closed if not word.forwarded} == set("abcefgh")


# Costs


@pytest.mark.parametrize(
    ("contribution", "encoding"),
    [
        (floats(1.0, 2.0, 3.0), None),
        (floats(*range(40)), FixedPoint(1000.0)),
        (integers(*range(2000)), None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("protocol", [ACTIVE, CURIOUS, DIRECT, SPARSE])
def test_the_cost_foretold_is_the_cost_measured(
    contribution: Contribution, encoding: Any, protocol: PairwiseMasking
) -> None:
    run = Network(protocol, dict.fromkeys("abcdefgh", contribution), encoding=encoding).run()
    cost = protocol.cost(8, encodings_for(encoding, specify(contribution), 8))
    of_a_sum = (MaskedInput, SurvivorCodes, UnmaskingShares)
    sizes: Counter[str] = Counter()
    for sent in run.sent:
        sizes[sent.sender] += encode(sent.message).size if isinstance(sent.message, of_a_sum) else 0
    assert {sizes[name] for name in "abcdefgh"} == {cost.bytes_sent_by_holder}
    steps = {type(sent.message).__name__ for sent in run.sent} - {"DealtShares", "ReceivedShares", "Finished"}
    assert cost.rounds == len([step for step in steps if not step.startswith("Graph")])


# No keystream twice


def test_no_stretch_of_a_keystream_masks_two_contributions(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, bytes, range]] = []
    sums, with_losses = 0, set[int]()

    def recorded(vectors: Any, masks: Any, *, threads: int) -> None:
        offset = 0
        for vector in vectors:
            stretch = range(offset, offset + stream_bytes(vector))
            used.extend((sums, bytes(key), stretch) for key, _ in masks if stretch)
            add_masks(vector, masks, offset=offset, threads=threads)
            offset = stretch.stop

    monkeypatch.setattr(masking_steps, "add_masks_to_all", recorded)
    for protocol in (ACTIVE, CURIOUS, SPARSE, DIRECT):
        memories: dict[str, Any] = {}
        for seed in range(3):
            contributions = {name: mixed(np.random.default_rng(seed)) for name in EIGHT}
            lost = {"d": MaskedInput} if seed == 1 and protocol is not DIRECT else {}
            faults = {"duplicates": 0.2}
            Network(
                protocol, contributions, seed=seed, memories=memories, dies_before=lost, faults=faults
            ).aggregate()
            with_losses |= {sums} if lost else set()
            sums += 1
    assert sums == 12
    by_key: dict[bytes, list[tuple[int, range]]] = {}
    for number, key, stretch in used:
        by_key.setdefault(key, []).append((number, stretch))
    assert len(by_key) > 350
    for stretches in by_key.values():
        (number,) = {number for number, _ in stretches}  # no key of one sum comes up in another
        times = Counter(stretch for _, stretch in stretches)
        # The two ends, or one end and the coordinator. A lost holder may have masked for nothing.
        assert len(set(times.values())) == 1
        assert set(times.values()) <= ({1, 2, 3} if number in with_losses else {2})
        ordered = sorted(times, key=lambda stretch: stretch.start)
        assert all(one.stop <= following.start for one, following in pairwise(ordered))


# What the coordinator sees of a contribution

N_WORDS = 2**14


def masked_words(value: float, fraction_bits: int, seed: int) -> NDArray[Any]:
    rows = {name: {"x": np.full(N_WORDS, value)} for name in "abc"}
    run = Network(CURIOUS, rows, seed=seed, encoding=FixedPoint(100.0, fraction_bits)).run()
    return messages(run, MaskedInput)[0].vectors[0]


def chi_square_per_bit(words: NDArray[Any]) -> NDArray[np.float64]:
    """Of each bit, the statistic (one degree of freedom) for being set in half of the words."""
    bits = np.unpackbits(words.view(np.uint8).reshape(len(words), -1), axis=1)
    deviation = bits.sum(axis=0, dtype=np.int64) - len(words) / 2
    return np.asarray(deviation**2 / (len(words) / 4), dtype=np.float64)


@pytest.mark.parametrize(("fraction_bits", "width"), [(20, 32), (40, 64)])
@pytest.mark.parametrize("value", [0.0, 100.0, -100.0, 2.0**-20])
def test_masked_zeros_and_masked_extremes_look_alike(value: float, fraction_bits: int, width: int) -> None:
    words = masked_words(value, fraction_bits, seed=width)
    statistics = chi_square_per_bit(words)
    assert len(statistics) == width
    assert statistics.max() < 20, "1e-5 for a bit"
    assert statistics.sum() < width + 6 * (2 * width) ** 0.5
    assert len(np.unique(words)) > N_WORDS - 5


# Secrets


def test_what_a_party_keeps_is_neither_shown_nor_sent() -> None:
    memories: dict[str, Any] = {}
    Network(ACTIVE, THREE, memories=memories).aggregate()
    (epoch,) = memories["a"].epochs.values()
    secrets: list[MaskingMemory | Epoch | OwnSecrets] = [
        memories["a"],
        memories["k"],
        epoch,
        OwnSecrets([b"s" * 32], {}, {}, {}),
    ]
    for secret in secrets:
        assert repr(secret) == f"<{type(secret).__name__}: secret>"
        for send in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(MisuseError):
                send(secret)


def values_in(thing: Any) -> set[bytes]:
    """All bytes that something holds, however deep."""
    match thing:
        case bytes():
            return {thing}
        case np.ndarray():
            return {row.tobytes() for row in thing.reshape(-1, 32)} if thing.size else set()
        case dict():
            return set().union(*map(values_in, thing.values()))
        case _:
            return set()


@pytest.mark.parametrize(
    "dies_before", [{}, {"c": MaskedInput}, {"c": SurvivorCodes}, {"c": UnmaskingShares}]
)
def test_nothing_of_a_round_is_left_when_it_is_over(dies_before: dict[str, type[Message]]) -> None:
    # Five holders of whom four are needed: the sum ends well. Three of three: it fails.
    for contributions in (FIVE, THREE):
        memories: dict[str, Any] = {}
        network = Network(PairwiseMasking(epoch=1), contributions, memories=memories, dies_before=dies_before)
        network.run()
        for name in set(contributions) - set(dies_before):
            for epoch in memories[name].epochs.values():
                left = values_in({k: v for k, v in vars(epoch).items() if k.startswith("_")})
                code_keys = set(vars(epoch)["_code_keys"].values())
                assert left <= {b"", *code_keys}


def test_a_code_is_of_one_direction_and_of_what_was_told() -> None:
    memories: dict[str, Any] = {}
    Network(ACTIVE, THREE, memories=memories).run()
    (at_a,), (at_b,) = memories["a"].epochs.values(), memories["b"].epochs.values()
    a, b, c, told = PartyId("a"), PartyId("b"), PartyId("c"), bytes(32)
    assert at_a.code(a, b, told) == at_b.code(a, b, told)
    codes = [
        at_a.code(a, b, told),
        at_a.code(b, a, told),
        at_a.code(a, c, told),
        at_a.code(a, b, b"\x01" + told[1:]),
    ]
    assert len(set(codes)) == 4


# Options that are refused


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"epoch": 0}, "1 to 255"),
        ({"epoch": 256}, "1 to 255"),
        ({"epoch": 1.5}, "whole number"),
        ({"epoch": True}, "whole number"),
        ({"threshold": 1}, "at least 2"),
        ({"threshold": 2.5}, "whole number"),
        ({"neighbours": 1}, "at least 2"),
        ({"neighbours": "all"}, "or None"),
        ({"mode": "both"}, "'resilient' or 'direct'"),
        ({"colluding": 0}, "at least 1"),
        ({"mode": "direct", "threshold": 3}, "leave it out"),
        ({"mode": "direct", "neighbours": 4}, "leave it out"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(SetupError, match=remedy):
        PairwiseMasking(**options)


@pytest.mark.parametrize(
    ("protocol", "n_holders", "remedy"),
    [
        (PairwiseMasking(), 2, "at least 3 holders"),
        (PairwiseMasking(mode="direct"), 2, "at least 3 holders"),
        (PairwiseMasking(colluding=3), 4, "at least 5 holders"),
        (PairwiseMasking(threshold=2), 5, "choose one from 4 to 5"),
        (PairwiseMasking(threshold=2, active=False), 5, "choose one from 3 to 5"),
        (PairwiseMasking(threshold=3), 5, "choose one from 4 to 5"),
        (PairwiseMasking(threshold=6), 5, "choose one from 4 to 5"),
        (PairwiseMasking(colluding=4, active=False), 5, "at least 6 holders"),
        (PairwiseMasking(neighbours=4), 8, "neighbours each of 8"),
        (PairwiseMasking(neighbours=5, threshold=7), 8, "choose an even number"),
        (PairwiseMasking(neighbours=2, threshold=7), 8, "choose an even number"),
    ],
)
def test_what_does_not_suit_the_number_of_holders_is_refused_before_any_message(
    protocol: PairwiseMasking, n_holders: int, remedy: str
) -> None:
    run = Network(protocol, dict.fromkeys("abcdefgh"[:n_holders], integers(1))).run()
    for party in ("k", "a"):
        found = failure(run, party)
        assert isinstance(found, SetupError)
        assert re.search(remedy, str(found))
    assert not {type(sent.message).__name__ for sent in run.sent} - {"Abort"}


def test_too_many_neighbours_for_shares_of_bytes_are_refused() -> None:
    with pytest.raises(SetupError, match="raise the threshold"):
        PairwiseMasking().check_number(2000)
    PairwiseMasking(threshold=1800).check_number(2000)


def test_as_many_neighbours_as_there_are_others_are_all() -> None:
    run = Network(PairwiseMasking(neighbours=7), EIGHT).run()
    assert not messages(run, GraphSeed)
    assert run.result("k").arrays["x"].tolist() == total(EIGHT)


@pytest.mark.parametrize(
    ("protocol", "n_holders", "needed"),
    [
        (PairwiseMasking(), 3, 3),
        (PairwiseMasking(), 5, 4),
        (PairwiseMasking(), 10, 7),
        (PairwiseMasking(active=False), 3, 3),
        (PairwiseMasking(active=False), 10, 6),
        (PairwiseMasking(active=False, colluding=6), 10, 8),
        (PairwiseMasking(threshold=9), 10, 9),
        (PairwiseMasking(mode="direct"), 10, 10),
    ],
)
def test_as_many_as_the_threshold_are_needed(protocol: PairwiseMasking, n_holders: int, needed: int) -> None:
    assert protocol.needed(n_holders) == needed
    assert protocol.dispensable(n_holders) == n_holders - needed + protocol.colluding


def test_options_travel_and_come_back() -> None:
    for protocol in (
        PairwiseMasking(),
        PairwiseMasking(5, 20, 255, active=False, mode="resilient", colluding=2),
        PairwiseMasking(mode="direct"),
    ):
        assert protocol_from(protocol.options) == protocol


def test_direct_mode_has_one_trip_and_no_recovery() -> None:
    run = Network(DIRECT, FIVE, dies_before={"d": MaskedInput}).run()
    found = failure(run)
    assert isinstance(found, DropoutError)
    assert found.missing == ("d",)
    assert all(isinstance(failure(run, name), AbortedError) for name in "abce")


def test_a_holder_that_is_too_late_is_told_and_ends_well() -> None:
    late = lambda sent: None if isinstance(sent.message, MaskedInput) and sent.sender == "b" else sent.message  # noqa: E731
    network = Network(ACTIVE, FIVE, faults={"tamper": late})
    run = network.run()
    assert run.result("k").holders == tuple("acde")
    assert run.result("k").arrays["x"].tolist() == total(FIVE, "acde")
    assert isinstance(run.outcomes[PartyId("b")], Done)
    assert network.released.count("b") == 1  # before its input left
    assert {network.released_over[name] for name in "acde"} == {tuple("acde")}


def test_holders_release_before_anything_of_the_total_leaves() -> None:
    network = Network(ACTIVE, FIVE, dies_before={"c": SurvivorCodes})
    run = network.run()
    assert run.result("k").holders == tuple("abcde")
    assert set(network.released) == set("abcde")


def test_a_holder_that_cannot_note_a_release_is_in_no_sum() -> None:
    """Once its input has left, others can open a sum with it: so it notes that before."""
    network = Network(ACTIVE, FIVE)
    note = network._release

    def fails(name: str, invitation: Invitation, holders: Collection[PartyId]) -> None:
        if name == "c":
            raise AbortedError(party="c", reason=RECORDS_OUT_OF_ORDER)
        note(name, invitation, holders)

    network._release = fails  # type: ignore[method-assign]
    run = network.run()
    assert run.result("k").holders == tuple("abde")
    assert "c" not in {sent.sender for sent in run.sent if isinstance(sent.message, MaskedInput)}


def test_the_query_is_bound_into_what_is_sent() -> None:
    networks = [Network(ACTIVE, THREE, query=Query(step=step)) for step in ("sum", "mean")]
    bindings = {messages(network.run(), MaskedInput)[0].binding for network in networks}
    assert len(bindings) == 2


def test_the_coordinators_role_ends_with_who_is_in_the_sum() -> None:
    result = Network(CURIOUS, FIVE, dies_before={"a": MaskedInput}).aggregate()
    assert result.holders == tuple("bcde")
    assert COORDINATOR not in result.holders
