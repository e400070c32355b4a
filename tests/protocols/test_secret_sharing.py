"""Secret sharing reads as the protocol, adds exactly, corrects wrong sums, and refuses what cannot work."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Collection
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import COORDINATOR, Contribution, Network, floats, integers, messages
from tacit.protocols import shamir, sharing_steps
from tacit.protocols.encoding import ArrayEncoding
from tacit.protocols.errors import (
    DropoutError,
    InvalidMessageError,
    MisuseError,
    SetupError,
    VoidedError,
)
from tacit.protocols.invitation import Opened, encodings_for, prepare, specify
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.prime_field import PRIMES, Elements
from tacit.protocols.protocol import Protocol, coordinator_role
from tacit.protocols.registry import protocol_from
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.protocols.session import Failed
from tacit.protocols.sharing_steps import (
    SharingSetup,
    check_included,
    correctable,
    forward_shares,
    moduli_of,
    open_total,
    share_input,
    sum_shares,
)
from tacit.protocols.simulation import Run, Sent
from tacit.serialization.codec import encode
from tacit.serialization.encoding_parameters import FixedPoint, Quantized
from tacit.serialization.schema import Message
from tacit.serialization.secret_sharing_messages import (
    IncludedShares,
    SecretSharingOptions,
    SharedInput,
    SharingParameters,
    SummedShares,
)
from tacit.serialization.session_messages import Begin, Query

SHARING = SecretSharing()
ROWS: dict[str, Contribution] = {name: integers(10**k, -k) for k, name in enumerate("abcdefghij", start=1)}
IN_ORDER = {"delays": (0.001, 0.001)}  # so that messages arrive as they were sent


def rows_of(names: str) -> dict[str, Contribution]:
    return {name: ROWS[name] for name in names}


def total_of(names: Collection[str]) -> list[int]:
    return [sum(int(ROWS[name]["x"][place]) for name in names) for place in range(2)]


def network(names: str = "abcd", protocol: SecretSharing = SHARING, **options: Any) -> Network:
    return Network(protocol, options.pop("contributions", rows_of(names)), **options)


def failure(run: Run, party: str) -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


# The transcript


def three() -> Run:
    return network("abc", faults=IN_ORDER).run()


def test_transcript() -> None:
    assert three().transcript == [
        "k -> a: Invitation",
        "k -> b: Invitation",
        "k -> c: Invitation",
        "a -> k: Ready",
        "b -> k: Ready",
        "c -> k: Ready",
        "k -> a: Begin",
        "k -> b: Begin",
        "k -> c: Begin",
        "a -> k: SharedInput",
        "b -> k: SharedInput",
        "c -> k: SharedInput",
        "k -> a: IncludedShares",
        "k -> b: IncludedShares",
        "k -> c: IncludedShares",
        "a -> k: SummedShares",
        "b -> k: SummedShares",
        "c -> k: SummedShares",
        "k -> a: Finished",
        "k -> b: Finished",
        "k -> c: Finished",
    ]


def test_the_page_of_the_protocol_shows_this_transcript() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "secret-sharing.md").read_text(encoding="utf-8")
    assert re.findall(r"^(\w -> \w: \w+)", page, re.MULTILINE) == three().transcript


def test_only_share_holders_are_handed_shares_and_answer() -> None:
    run = network("abcdef", SecretSharing(share_holders=("e", "a", "c"))).run()
    handed = {sent.recipient for sent in run.sent if isinstance(sent.message, IncludedShares)}
    answered = {sent.sender for sent in run.sent if isinstance(sent.message, SummedShares)}
    assert handed == answered == {"a", "c", "e"}
    assert len(messages(run, SharedInput)) == 6


# Sums

PROTOCOLS = {
    "by default": SecretSharing(),
    "the highest threshold": SecretSharing(threshold=7),
    "packed by two": SecretSharing(packing=2),
    "packed by three": SecretSharing(packing=3),
    "some share holders": SecretSharing(share_holders=("f", "b", "d", "a")),
    "some share holders, packed": SecretSharing(share_holders=("a", "b", "c", "d"), packing=2),
    "not robust": SecretSharing(robust=False),
    "two colluding": SecretSharing(colluding=2),
}


def mixed(generator: np.random.Generator, scale: float) -> Contribution:
    """Several arrays of several shapes and dtypes: of one prime, of a few, and of many."""
    return {
        "scalar": np.array(generator.normal()),
        "matrix": generator.normal(size=(2, 3)) * scale,
        "empty": np.zeros((0, 4)),
        "narrow": generator.normal(size=2).astype(np.float32),
        "counts": generator.integers(-5, 5, size=(1, 2, 2)),
        "bytes": generator.integers(0, 50, size=3, dtype=np.uint8),
        "flags": generator.normal(size=2) > 0,
    }


@pytest.mark.parametrize(
    ("encoding", "scale"),
    [(None, 1e200), (FixedPoint(2.0**20, 30), 1e5)],
    ids=["exact floats", "fixed point"],
)
def test_the_bits_are_those_of_the_ring_and_of_masks(encoding: Message | None, scale: float) -> None:
    rows = {name: mixed(np.random.default_rng(seed), scale) for seed, name in enumerate("abcdefg")}
    ring = RingPaillier.insecure_for_tests()
    wanted = Network(ring, rows, encoding=encoding).aggregate().arrays
    others: list[Protocol[Any]] = [PairwiseMasking(), *PROTOCOLS.values()]
    for protocol in others:
        found = Network(protocol, rows, encoding=encoding).aggregate().arrays
        assert list(found) == list(wanted)
        for name, array in found.items():
            assert (array.dtype, array.shape) == (wanted[name].dtype, wanted[name].shape)
            assert array.tobytes() == wanted[name].tobytes()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=2, max_size=2),
        min_size=3,
        max_size=6,
    ),
)
def test_floats_sum_exactly_rounded_once(rows: list[list[float]]) -> None:
    sums = [sum(map(Fraction, column), Fraction()) for column in zip(*rows, strict=True)]
    if any(abs(total) >= Fraction(2**1023) for total in sums):
        return
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    total = network(contributions=holders).aggregate().arrays["x"]
    assert total.dtype == np.float64
    assert total.tolist() == [float(value) for value in sums]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.floats(-100, 100), min_size=3, max_size=3), min_size=5, max_size=6),
    st.integers(1, 3),
)
def test_fixed_point_sums_the_rounded_values_exactly(rows: list[list[float]], packing: int) -> None:
    holders = {f"h{i}": floats(*row) for i, row in enumerate(rows)}
    protocol = SecretSharing(packing=min(packing, len(rows) // 2))
    total = network(contributions=holders, protocol=protocol, encoding=FixedPoint(100.0, 20)).aggregate()
    for got, column in zip(total.arrays["x"].tolist(), zip(*rows, strict=True), strict=True):
        assert got == sum(round(Fraction(value) * 2**20) for value in column) / 2**20


def test_quantized_values_on_the_grid_are_exact_and_what_is_clipped_is_counted() -> None:
    rows = {name: {"x": np.array([k / 127, -1.0, 50.0 * k])} for k, name in enumerate("abcd", start=1)}
    aggregate = network(contributions=rows, encoding=Quantized(bits=8, clip=1.0)).aggregate()
    assert np.allclose(aggregate.arrays["x"], [10 / 127, -4.0, 4.0], rtol=0, atol=1e-12)
    assert aggregate.clipped == {"x": 4}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16, np.uint64])
def test_integers_up_to_the_extremes_of_their_dtype(dtype: Any, protocol: SecretSharing) -> None:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    columns = [[most, 0, least, 1], [0, most, 1, least], [least, 0, 0, 0], *[[0, 0, 0, 0]] * 4]
    rows = {name: {"x": np.array(column, dtype)} for name, column in zip("abcdefg", columns, strict=True)}
    total = network(contributions=rows, protocol=protocol).aggregate().arrays["x"]
    assert total.dtype == dtype
    assert total.tolist() == [int(most) + int(least), most, least + 1, least + 1]


@pytest.mark.parametrize("contribution", [{}, {"x": np.zeros((0, 3))}], ids=["no array", "an empty one"])
@pytest.mark.parametrize("packing", [1, 2])
def test_nothing_sums_to_nothing(contribution: Contribution, packing: int) -> None:
    rows = dict.fromkeys("abcd", contribution)
    totals = network(contributions=rows, protocol=SecretSharing(packing=packing)).aggregate().arrays
    assert {name: total.shape for name, total in totals.items()} == {
        name: array.shape for name, array in contribution.items()
    }


@pytest.mark.parametrize(
    ("n_holders", "threshold", "packing"),
    [(3, 3, 1), (4, 3, 1), (4, 4, 1), (7, 5, 1), (7, 7, 1), (7, 6, 2), (7, 7, 3), (10, 6, 1), (10, 10, 5)],
)
def test_thresholds_at_both_ends(n_holders: int, threshold: int, packing: int) -> None:
    names = "abcdefghij"[:n_holders]
    protocol = SecretSharing(threshold=threshold, packing=packing)
    assert network(names, protocol).aggregate().arrays["x"].tolist() == total_of(names)


def test_two_share_holders_are_enough() -> None:
    """One of them may collude: both must answer, and neither learns anything alone."""
    protocol = SecretSharing(share_holders=("b", "d"))
    assert protocol.shares_needed(5) == 2
    assert network("abcde", protocol).aggregate().arrays["x"].tolist() == total_of("abcde")


def test_every_width_that_an_array_may_have_is_shared() -> None:
    rows: dict[str, Contribution] = {
        name: {"one": np.ones(1, np.int8), "few": np.ones(1, np.int64), "many": np.ones(1)} for name in "abc"
    }
    run = Network(SHARING, rows).run()
    assert [len(totals) for totals in messages(run, SummedShares)[0].totals] == [1, 3, 36]
    assert all(total == [3] for total in run.result("k").arrays.values())


# Losses


@pytest.mark.parametrize("lost", ["a", "e", "be", "abe"])
def test_a_dealer_lost_before_its_shares_are_in_is_left_out(lost: str) -> None:
    names = "abcdefg"
    sharing = network(names, dies_before=dict.fromkeys(lost, SharedInput))
    run = sharing.run()
    if len(lost) > 2:
        assert isinstance(failure(run, "k"), DropoutError)
        return
    aggregate = run.result("k")
    assert aggregate.holders == tuple(name for name in names if name not in lost)
    assert aggregate.arrays["x"].tolist() == total_of(aggregate.holders)
    assert {sharing.released_over[name] for name in aggregate.holders} == {aggregate.holders}


@pytest.mark.parametrize("lost", ["a", "g", "bg", "cd", "abg"])
def test_share_holders_may_fall_silent_after_dealing_down_to_the_threshold(lost: str) -> None:
    names = "abcdefg"
    run = network(names, dies_before=dict.fromkeys(lost, SummedShares)).run()
    if len(lost) <= 2:
        assert run.result("k").holders == tuple(names)
        assert run.result("k").arrays["x"].tolist() == total_of(names)
        return
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert (found.needed, found.missing) == (5, tuple(lost))
    assert {word.holder for word in found.closed if word.forwarded} == set(names) - set(lost)


def test_a_dealer_whose_shares_come_late_still_answers_for_the_others() -> None:
    def tamper(sent: Sent) -> Message | None:
        swallowed = isinstance(sent.message, SharedInput) and sent.sender == "b"
        return None if swallowed else sent.message

    run = network("abcde", faults={"tamper": tamper}).run()
    aggregate = run.result("k")
    assert aggregate.holders == ("a", "c", "d", "e")
    assert aggregate.arrays["x"].tolist() == total_of("acde")
    assert "b" in {sent.sender for sent in run.sent if isinstance(sent.message, SummedShares)}
    assert run.seconds < 100


def test_too_few_share_holders_ready_end_the_session_before_anything_is_dealt() -> None:
    protocol = SecretSharing(share_holders=("a", "b", "c", "d"))
    run = network("abcdefgh", protocol, dies_after={"a": 0, "c": 0}).run()
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert (found.needed, found.present, found.missing) == (3, ("b", "d"), ("a", "c"))
    assert not messages(run, Begin)


@pytest.mark.parametrize("lost", ["a", "b", "d"])
def test_a_named_share_holder_that_has_left_the_roster_is_a_silent_one(lost: str) -> None:
    protocol = SecretSharing(share_holders=("a", "b", "c", "d"))
    left = "".join(name for name in "abcdefg" if name != lost)
    assert network(left, protocol).aggregate().arrays["x"].tolist() == total_of(left)
    with pytest.raises(SetupError, match="3 of them reconstruct, and 2 are in the roster"):
        network(left.replace("c", ""), protocol).aggregate()


def test_a_coordinator_that_wants_all_gets_no_sum_over_fewer() -> None:
    sharing = network("abcde", dies_before={"d": SharedInput})
    role = coordinator_role(SHARING, sharing.keys[COORDINATOR], sharing.invitation(), None, needed=5)
    sharing.roles = {COORDINATOR: role}
    run = sharing.run()
    found = failure(run, "k")
    assert isinstance(found, DropoutError)
    assert (found.needed, found.missing) == (5, ("d",))
    assert not messages(run, IncludedShares)


# A holder that cannot contribute


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("holder", ["a", "b", "d"])
def test_a_value_that_cannot_be_carried_voids_the_session_and_names_nobody(bad: float, holder: str) -> None:
    rows = {name: floats(1.0, 2.0) for name in "abcd"} | {holder: floats(1.0, bad)}
    for encoding in (None, FixedPoint(10.0, 30)):
        run = network(contributions=rows, voids=True, encoding=encoding).run()
        found = failure(run, "k")
        assert isinstance(found, VoidedError)
        assert not any(f" {name} " in f" {found} " for name in "bcd")
        for name in "abcd":
            assert "VoidedError" in str(failure(run, name))


def test_a_session_that_is_void_looks_like_any_other_on_the_way() -> None:
    rows = {name: floats(1.0) for name in "abcd"}
    sound = network(contributions=rows, voids=True).run()
    void = network(contributions=rows | {"b": floats(float("nan"))}, voids=True).run()

    def seen(run: Run) -> list[tuple[str, str, str, int]]:
        kept = (s for s in run.sent if type(s.message).__name__ not in {"Finished", "Abort", "Closed"})
        return sorted((s.sender, s.recipient, type(s.message).__name__, encode(s.message).size) for s in kept)

    assert seen(sound) == seen(void)


# The steps, by hand


def begun(sharing: Network) -> tuple[SharingSetup, dict[str, SessionKeys]]:
    """What all hold once a session has begun, with keys of which none has been used."""

    def again() -> Network:
        return Network(
            sharing.protocol, sharing.contributions, sharing.seed, sharing.encoding, query=sharing.query
        )

    opened, keys = again().opened(again().run()), again().keys
    for own in keys.values():
        for ready in opened.begin.ready:
            if ready.holder != own.me:
                own.learn(PartyId(ready.holder), ready.ephemeral)
    assert isinstance(sharing.protocol, SecretSharing)
    return sharing.protocol.setup(opened), keys


def words_of(opened: Opened, row: Contribution) -> Any:
    return prepare(row, opened.invitation.encoding, len(opened.roster.holders), void=False).words


def dealt(
    sharing: Network,
) -> tuple[SharingSetup, dict[PartyId, SharedInput], dict[PartyId, list[Elements]], Any]:
    """All that is dealt: the setup, what is sent, what each dealer keeps for itself, and everybody's keys."""
    setup, keys = begun(sharing)
    shared, own = {}, {}
    for name in setup.opened.present:
        words = words_of(setup.opened, sharing.contributions[name])
        shared[name], own[name] = share_input(setup, keys[name], words, sharing.simulation.random_bytes)
    return setup, shared, own, keys


def answers_of(sharing: Network) -> tuple[SharingSetup, dict[PartyId, SummedShares]]:
    """The sums of all share holders."""
    setup, shared, own, keys = dealt(sharing)
    answers = {}
    for holder, told in forward_shares(setup, shared).items():
        included = check_included(setup, told, holder)
        answers[holder] = sum_shares(setup, keys[holder], own[holder], included, told.sealed)
    return setup, answers


def off(answer: SummedShares, by: int = 1, *, place: int = 0, column: int = 0) -> SummedShares:
    """The sum of a share holder that adds something to one number of a group of arrays."""
    totals = [total.copy() for total in answer.totals]
    totals[place][0, column] = (int(totals[place][0, column]) + by) % PRIMES[0]
    return dataclasses.replace(answer, totals=tuple(totals))


@pytest.mark.parametrize("packing", [1, 2])
def test_any_answers_as_many_as_the_threshold_give_the_same_total(packing: int) -> None:
    sharing = network("abcdef", SecretSharing(packing=packing))
    setup, answers = answers_of(sharing)
    for chosen in combinations(answers, setup.threshold):
        some = {holder: answers[holder] for holder in chosen}
        words, wrong = open_total(setup, some, correct=0, random_bytes=sharing.simulation.random_bytes)
        assert setup.opened.encodings[0].decode(words[0]).tolist() == total_of("abcdef")
        assert wrong == ()
    del some[chosen[0]]
    with pytest.raises(MisuseError):
        open_total(setup, some, correct=None, random_bytes=bytes)


def test_dealing_and_adding_are_done_once() -> None:
    sharing = network("abcd")
    setup, shared, own, keys = dealt(sharing)
    told = forward_shares(setup, shared)[PartyId("a")]
    words = words_of(setup.opened, ROWS["a"])
    with pytest.raises(MisuseError):
        share_input(setup, keys["a"], words, sharing.simulation.random_bytes)
    sum_shares(setup, keys["a"], own[PartyId("a")], setup.opened.present, told.sealed)
    with pytest.raises(MisuseError):
        sum_shares(setup, keys["a"], own[PartyId("a")], setup.opened.present, told.sealed)


def test_every_session_has_other_shares() -> None:
    rows = dict.fromkeys("abc", integers(7))
    sums = [network(contributions=rows, seed=seed).run() for seed in range(4)]
    seen = [
        total.tobytes() for run in sums for answer in messages(run, SummedShares) for total in answer.totals
    ]
    sealed = [
        part.tobytes() for run in sums for shared in messages(run, SharedInput) for part in shared.sealed
    ]
    assert len(set(seen)) == len(seen)
    assert len(set(sealed)) == len(sealed)


# Wrong sums


def wrong(*liars: str, by: int = 1, **where: int) -> dict[str, Any]:
    """Share holders that add something to a number of their sums."""

    def tamper(sent: Sent) -> Message:
        if isinstance(sent.message, SummedShares) and sent.sender in liars:
            return off(sent.message, by, **where)
        return sent.message

    return {"tamper": tamper}


SMALL = {name: {"x": np.array([k, -k], np.int32)} for k, name in enumerate("abcdefghij", start=1)}


@pytest.mark.parametrize("column", [0, 2], ids=["a number", "the flag"])
@pytest.mark.parametrize("liar", "abcdefg")
def test_a_wrong_sum_is_corrected_and_its_share_holder_suspected(liar: str, column: int) -> None:
    rows = {name: SMALL[name] for name in "abcdefg"}
    aggregate = network(contributions=rows, faults=wrong(liar, column=column)).aggregate()
    assert aggregate.arrays["x"].tolist() == [28, -28]
    assert aggregate.holders == tuple("abcdefg")
    assert aggregate.suspects == (liar,)


@pytest.mark.parametrize("liars", ["ab", "aj", "cf", "hi"])
def test_two_wrong_sums_are_corrected_with_four_to_spare(liars: str) -> None:
    protocol = SecretSharing(packing=1)
    aggregate = network(contributions=SMALL, protocol=protocol, faults=wrong(*liars)).aggregate()
    assert aggregate.arrays["x"].tolist() == [55, -55]
    assert aggregate.suspects == tuple(liars)


@pytest.mark.parametrize("liar", "aj")
def test_packed_by_default_a_wrong_sum_is_still_corrected(liar: str) -> None:
    aggregate = network(contributions=SMALL, faults=wrong(liar)).aggregate()
    assert aggregate.arrays["x"].tolist() == [55, -55]
    assert aggregate.suspects == (liar,)


@pytest.mark.parametrize("liars", ["".join(pair) for pair in combinations("abcdefgh", 2)])
def test_two_wrong_sums_with_two_to_spare_are_refused_if_two_may_collude(liars: str) -> None:
    rows = {name: SMALL[name] for name in "abcdefgh"}
    run = network(contributions=rows, protocol=SecretSharing(colluding=2), faults=wrong(*liars)).run()
    found = failure(run, "k")
    assert isinstance(found, InvalidMessageError)
    assert set(found.suspects) >= set(liars)
    assert not found.culprits


@pytest.mark.parametrize("liar", "abcde")
def test_a_wrong_sum_with_one_to_spare_is_refused(liar: str) -> None:
    rows = {name: SMALL[name] for name in "abcde"}
    found = failure(network(contributions=rows, faults=wrong(liar)).run(), "k")
    assert isinstance(found, InvalidMessageError)
    assert liar in found.suspects


@pytest.mark.parametrize(("surplus", "colluding"), [(s, c) for s in range(9) for c in range(1, 6)])
def test_as_many_wrong_sums_as_may_collude_never_deceive(surplus: int, colluding: int) -> None:
    corrected = correctable(surplus, colluding)
    assert 0 <= corrected <= surplus // 2
    assert surplus - corrected >= min(surplus, colluding), "so many are refused or corrected"
    assert corrected == surplus // 2 or surplus - (corrected + 1) < colluding, "and no fewer than can be"


def test_without_shares_to_spare_a_wrong_sum_goes_unnoticed() -> None:
    """An honest limit: three share holders of whom all must answer, one adds one."""
    rows = {name: SMALL[name] for name in "abc"}
    aggregate = network(contributions=rows, faults=wrong("a")).aggregate()
    assert aggregate.arrays["x"].tolist() == [7, -6]
    assert aggregate.suspects == ()


def test_more_wrong_sums_than_may_collude_can_frame_an_honest_share_holder() -> None:
    """Another one: two of six who err alike lie within one error of other shares."""
    rows = {name: SMALL[name] for name in "abcdef"}
    aggregate = network(contributions=rows, faults=wrong("a", "c", by=2)).aggregate()
    assert aggregate.arrays["x"].tolist() == [22, -21]
    assert aggregate.suspects == ("f",)
    with pytest.raises(InvalidMessageError):
        network(
            contributions=rows, protocol=SecretSharing(colluding=2), faults=wrong("a", "c", by=2)
        ).aggregate()


def test_robust_off_trusts_the_first_sums() -> None:
    rows, protocol = {name: SMALL[name] for name in "abcdefg"}, SecretSharing(robust=False)
    shifted = network(contributions=rows, protocol=protocol, faults=wrong("a")).aggregate()
    assert shifted.arrays["x"].tolist() != [28, -28]
    assert shifted.suspects == ()
    spared = network(contributions=rows, protocol=protocol, faults=wrong("g")).aggregate()
    assert spared.arrays["x"].tolist() == [28, -28], "of seven sums five are looked at"


def test_a_wide_total_from_a_wrong_sum_belongs_to_no_integer_even_if_robust_is_off() -> None:
    run = network("abc", SecretSharing(robust=False), faults=wrong("b", place=1)).run()
    found = failure(run, "k")
    assert isinstance(found, InvalidMessageError)
    assert set(found.suspects) == set("abc")


def bending(monkeypatch: pytest.MonkeyPatch, change: Callable[[Elements], None]) -> None:
    """Have the second dealer change the share that the last share holder gets."""
    split, calls = shamir.split, itertools.count()

    def bent(*arguments: Any) -> tuple[list[bytes], Elements]:
        seeds, others = split(*arguments)
        if next(calls) == 1:
            change(others[-1])
        return seeds, others

    monkeypatch.setattr(sharing_steps, "split", bent)


def test_a_dealer_who_deals_a_share_off_the_polynomial_makes_its_share_holder_a_suspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the sums alone nobody can tell which of the two it was."""

    def change(share: Elements) -> None:
        share[0, 0] = (int(share[0, 0]) + 9) % PRIMES[0]

    bending(monkeypatch, change)
    aggregate = network(contributions={name: SMALL[name] for name in "abcdefg"}, faults=IN_ORDER).aggregate()
    assert aggregate.arrays["x"].tolist() == [28, -28]
    assert aggregate.suspects == ("g",)


def test_a_share_that_is_no_field_element_is_refused_and_its_dealer_the_culprit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(share: Elements) -> None:
        share[0, 0] = PRIMES[0]  # zero, if one does not look

    bending(monkeypatch, change)
    run = network(contributions={name: SMALL[name] for name in "abcdefg"}, faults=IN_ORDER).run()
    found = failure(run, "g")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("b",)
    assert run.result("k").arrays["x"].tolist() == [28, -28], "the others' answers are enough"


# What does not belong


def largest(answer: SummedShares) -> SummedShares:
    totals = [total.copy() for total in answer.totals]
    totals[0][0, 0] = PRIMES[0]  # the same as zero, but not canonical
    return dataclasses.replace(answer, totals=tuple(totals))


SUM_CHANGES: dict[str, Any] = {
    "session": lambda s: dataclasses.replace(s, session=bytes(32)),
    "binding": lambda s: dataclasses.replace(s, binding=bytes(32)),
    "not canonical": largest,
    "a group too few": lambda s: dataclasses.replace(s, totals=s.totals[1:]),
    "a group too many": lambda s: dataclasses.replace(s, totals=(*s.totals, s.totals[0])),
    "a column too few": lambda s: dataclasses.replace(s, totals=tuple(t[:, 1:] for t in s.totals)),
    "flat": lambda s: dataclasses.replace(s, totals=tuple(t.reshape(-1) for t in s.totals)),
}
SHARED_CHANGES: dict[str, Any] = {
    "session": lambda s: dataclasses.replace(s, session=bytes(32)),
    "binding": lambda s: dataclasses.replace(s, binding=bytes(32)),
    "a share too few": lambda s: dataclasses.replace(s, sealed=s.sealed[1:]),
    "a share too many": lambda s: dataclasses.replace(s, sealed=(*s.sealed, s.sealed[0])),
    "in another order": lambda s: dataclasses.replace(s, sealed=s.sealed[::-1]),
    "a short share": lambda s: dataclasses.replace(s, sealed=(*s.sealed[:-1], s.sealed[-1][1:])),
    "not flat": lambda s: dataclasses.replace(s, sealed=tuple(part[None] for part in s.sealed)),
}


def changed(kind: type[Message], change: Any, sender: str, recipient: str) -> dict[str, Any]:
    """The faults of a run in which the message of a kind from one party to another is altered."""

    def tamper(sent: Sent) -> Any:
        altered = isinstance(sent.message, kind) and (sent.sender, sent.recipient) == (sender, recipient)
        return change(sent.message) if altered else sent.message

    return {"tamper": tamper}


@pytest.mark.parametrize("change", SUM_CHANGES)
def test_a_sum_that_does_not_belong_is_refused_and_its_sender_the_culprit(change: str) -> None:
    run = network("abcdefg", faults=changed(SummedShares, SUM_CHANGES[change], "b", "k")).run()
    found = failure(run, "k")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("b",)


@pytest.mark.parametrize("change", SHARED_CHANGES)
def test_shares_that_do_not_belong_are_refused_and_their_dealer_the_culprit(change: str) -> None:
    run = network("abcdefg", faults=changed(SharedInput, SHARED_CHANGES[change], "b", "k")).run()
    found = failure(run, "k")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("b",)
    assert not messages(run, IncludedShares)


INCLUDED_CHANGES: dict[str, Any] = {
    "session": lambda i: dataclasses.replace(i, session=bytes(32)),
    "too few": lambda i: dataclasses.replace(i, included=i.included[:4], sealed=i.sealed[:3]),
    "nobody": lambda i: dataclasses.replace(i, included=(), sealed=()),
    "another order": lambda i: dataclasses.replace(i, included=i.included[::-1]),
    "one twice": lambda i: dataclasses.replace(i, included=(i.included[0], *i.included[:-1])),
    "a stranger": lambda i: dataclasses.replace(i, included=(*i.included[:-1], "x")),
    "a share too few": lambda i: dataclasses.replace(i, sealed=i.sealed[1:]),
    "a share too many": lambda i: dataclasses.replace(i, sealed=(*i.sealed, i.sealed[0])),
    "a short share": lambda i: dataclasses.replace(i, sealed=(i.sealed[0][1:], *i.sealed[1:])),
    "not flat": lambda i: dataclasses.replace(i, sealed=tuple(part[None] for part in i.sealed)),
}


@pytest.mark.parametrize("change", INCLUDED_CHANGES)
def test_an_included_set_that_cannot_be_is_refused_and_the_coordinator_the_culprit(change: str) -> None:
    run = network("abcdefg", faults=changed(IncludedShares, INCLUDED_CHANGES[change], "k", "b")).run()
    found = failure(run, "b")
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("k",)
    assert not [s for s in run.sent if isinstance(s.message, SummedShares) and s.sender == "b"]
    assert run.result("k").arrays["x"].tolist() == total_of("abcdefg"), "the others' answers are enough"


@pytest.mark.parametrize("change", ["threshold", "another message", "too few share holders"])
def test_a_begin_that_cannot_be_names_the_coordinator(change: str) -> None:
    sharing = network("abcdef", SecretSharing(share_holders=("a", "b", "c", "d")))
    opened = sharing.opened(sharing.run())
    ready = tuple(answer for answer in opened.begin.ready if answer.holder not in ("a", "b"))
    changes: dict[str, dict[str, Any]] = {
        "threshold": {"parameters": SharingParameters(threshold=2)},
        "another message": {"parameters": Query(step="no parameters")},
        "too few share holders": {"ready": ready},
    }
    begin = dataclasses.replace(opened.begin, **changes[change])
    assert isinstance(sharing.protocol, SecretSharing)
    with pytest.raises(InvalidMessageError) as caught:
        sharing.protocol.setup(dataclasses.replace(opened, begin=begin))
    assert caught.value.culprits == ("k",)


# Options, costs, trust

NAMES = tuple("abcdefg")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"threshold": 1}, "threshold is a whole number, at least 2"),
        ({"threshold": True}, "threshold is a whole number"),
        ({"threshold": 5.0}, "threshold is a whole number"),
        ({"packing": 0}, "packing is a whole number, at least 1"),
        ({"packing": True}, "packing is a whole number"),
        ({"packing": "2"}, "packing is a whole number"),
        ({"colluding": 0}, "colluding is a whole number, at least 1"),
        ({"robust": 1}, "robust is True or False"),
        ({"share_holders": ("a", "b", "a")}, "names a holder twice"),
        ({"share_holders": "abc"}, "a sequence of holders' names"),
        ({"share_holders": ()}, "a sequence of holders' names"),
        ({"share_holders": 3}, "a sequence of holders' names"),
        ({"share_holders": ("a", "b", 3)}, "a sequence of holders' names"),
        ({"share_holders": ("a", "b", "")}, "a sequence of holders' names"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_with_the_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(SetupError, match=remedy):
        SecretSharing(**options)


@pytest.mark.parametrize(
    ("names", "options", "remedy"),
    [
        ("ab", {}, "at least 3 holders, 2 given"),
        ("abc", {"colluding": 2}, "at least 4 holders"),
        ("abcdefg", {"threshold": 4}, "at least 5 and at most 7; choose another threshold"),
        ("abcdefg", {"threshold": 8}, "at least 5 and at most 7"),
        ("abcdefg", {"threshold": 6, "packing": 3}, "at least 7 and at most 7"),
        ("abcdefg", {"threshold": 5, "colluding": 4}, "at least 6 and at most 7"),
        ("abcdefg", {"packing": 4}, "less packing, or more share holders"),
        ("abcdefg", {"threshold": 4, "packing": 1}, "at least 5 and at most 7"),
        ("abcdefg", {"share_holders": ("a", "b", "c"), "threshold": 4}, "at least 3 and at most 3"),
        ("abcdefg", {"share_holders": ("a",)}, "at least 2 and at most 1"),
        ("abcdefg", {"share_holders": ("a", "b", "x")}, "3 of them reconstruct, and 2 are in the roster"),
    ],
    ids=str,
)
def test_what_does_not_suit_the_holders_is_refused_before_any_message(
    names: str, options: dict[str, Any], remedy: str
) -> None:
    run = network(names, SecretSharing(**options)).run()
    for party in ("k", *names):
        assert isinstance(failure(run, party), SetupError)
    with pytest.raises(SetupError, match=remedy):
        run.result("k")
    assert {type(sent.message).__name__ for sent in run.sent} <= {"Abort"}


def test_a_share_holder_whom_nobody_knows_is_refused_by_name() -> None:
    protocol = SecretSharing(share_holders=("a", "b", "c", "nobody"))
    protocol.check_number(7)
    with pytest.raises(SetupError, match="names nobody, who is no holder"):
        protocol.check_holders(NAMES)
    protocol.check_holders((*NAMES, "nobody"))
    with pytest.raises(SetupError, match="at least 3 holders"):
        SHARING.check_holders("ab")


@pytest.mark.parametrize("packing", [None, *range(1, 5)])
@pytest.mark.parametrize("colluding", range(1, 4))
def test_no_two_sets_get_answers_that_tell_anything_and_the_threshold_is_the_least(
    packing: int | None, colluding: int
) -> None:
    protocol = SecretSharing(packing=packing, colluding=colluding)
    for n in range(3, 40):
        threshold, packing = protocol.shares_needed(n), protocol.numbers_packed(n)
        # Each honest share holder answers for one of two sets, a colluding one for both.
        pairs = [(first, n + colluding - first) for first in range(n + 1)]
        assert all(min(pair) <= threshold - packing for pair in pairs)
        assert any(min(pair) > threshold - 1 - packing for pair in pairs)
        assert threshold - packing >= min(colluding, n), "those who collude learn nothing of their shares"


@pytest.mark.parametrize(
    ("n_holders", "options", "threshold", "packing"),
    [
        (7, {}, 5, 1),
        (8, {}, 6, 2),
        (10, {}, 8, 3),
        (100, {}, 80, 30),
        (10, {"colluding": 2}, 7, 1),
        (10, {"share_holders": tuple("abcde")}, 4, 1),
        (10, {"share_holders": tuple("abcdefgh")}, 6, 2),
        (10, {"threshold": 6}, 6, 1),
        (10, {"threshold": 10}, 10, 5),
        (10, {"packing": 2}, 7, 2),
        (10, {"threshold": 8, "packing": 2}, 8, 2),
    ],
    ids=str,
)
def test_what_is_left_open_follows_from_the_rest(
    n_holders: int, options: dict[str, Any], threshold: int, packing: int
) -> None:
    protocol = SecretSharing(**options)
    protocol.check_number(n_holders)
    assert protocol.shares_needed(n_holders) == threshold
    assert protocol.numbers_packed(n_holders) == packing


@pytest.mark.parametrize("colluding", range(1, 4))
def test_packing_by_default_spares_a_fifth_and_what_corrects_a_wrong_sum(colluding: int) -> None:
    protocol, plain = SecretSharing(colluding=colluding), SecretSharing(packing=1, colluding=colluding)
    for n in range(protocol.minimum_holders, 200):
        spare, kept = (n - each.shares_needed(n) for each in (protocol, plain))
        assert spare == kept or (5 * spare >= n and correctable(spare, colluding) >= 1)
        assert spare <= kept
        assert spare == kept or 5 * (spare - 1) < n or correctable(spare - 1, colluding) < 1, (
            "no more than that"
        )


@pytest.mark.parametrize(("colluding", "minimum"), [(1, 3), (2, 4), (7, 9)])
def test_two_inputs_are_honest_beside_those_that_collude(colluding: int, minimum: int) -> None:
    protocol = SecretSharing(colluding=colluding)
    assert protocol.minimum_holders == minimum
    with pytest.raises(SetupError, match=f"at least {minimum} holders"):
        protocol.check_number(minimum - 1)


def test_as_many_must_contribute_as_shares_reconstruct() -> None:
    assert SHARING.needed(10) == SHARING.shares_needed(10) == 8
    assert SecretSharing(packing=1).needed(10) == 6
    assert SecretSharing(share_holders=tuple("abcde")).needed(1000) == 4
    assert SecretSharing(share_holders=tuple("abcde"), colluding=3).needed(1000) == 5


def test_a_sum_may_exist_without_the_dealings_of_those_it_can_do_without() -> None:
    assert SHARING.dispensable(10) == 10 - 8 + 1
    assert SecretSharing(threshold=10, colluding=2).dispensable(10) == 2


def test_options_travel_and_come_back() -> None:
    named = SecretSharing(6, ["a", "b", "c", "d", "e", "f"], 2, False, 3)
    assert named.share_holders == tuple("abcdef")
    for protocol in (*PROTOCOLS.values(), named):
        assert isinstance(protocol.options, SecretSharingOptions)
        assert protocol_from(protocol.options) == protocol


def encodings(contribution: Contribution, encoding: Any, n: int) -> tuple[ArrayEncoding, ...]:
    return encodings_for(encoding, specify(contribution), n)


@pytest.mark.parametrize(
    ("contribution", "encoding"),
    [
        (floats(1.0, 2.0), None),
        (floats(*range(40)), FixedPoint(1000.0)),
        (integers(*range(99)), None),
        (mixed(np.random.default_rng(1), 1.0), None),
        (floats(*[0.5] * 4000), FixedPoint(1.0)),
        ({}, None),
    ],
)
@pytest.mark.parametrize(
    "protocol", [SHARING, SecretSharing(packing=3), SecretSharing(share_holders=("a", "c", "e", "g"))]
)
def test_the_cost_foretold_is_the_cost_measured(
    contribution: Contribution, encoding: Any, protocol: SecretSharing
) -> None:
    run = network(
        contributions=dict.fromkeys(NAMES, contribution), protocol=protocol, encoding=encoding
    ).run()
    cost = protocol.cost(7, encodings(contribution, encoding, 7))
    sent = dict.fromkeys(NAMES, 0)
    for message in run.sent:
        if isinstance(message.message, SharedInput | SummedShares):
            sent[message.sender] += encode(message.message).size
    assert max(sent.values()) == cost.bytes_sent_by_holder
    assert cost.rounds == len({type(message.message).__name__ for message in run.sent} - {"Finished"})


@pytest.mark.parametrize(
    ("packing", "threshold", "bytes_a_number"),
    [(1, 6, 48.0), (2, 7, 24.0), (3, 8, 16.0), (None, 8, 16.0), (5, 10, 9.6)],
)
def test_packing_makes_shares_shorter_and_takes_a_larger_threshold(
    packing: int | None, threshold: int, bytes_a_number: float
) -> None:
    protocol, length = SecretSharing(packing=packing), 30_000
    assert protocol.shares_needed(10) == threshold
    cost = protocol.cost(10, encodings({"x": np.zeros(length)}, FixedPoint(1.0), 10))
    assert abs(cost.bytes_sent_by_holder / length - bytes_a_number) < 0.1


def test_numbers_that_fit_one_prime_take_one() -> None:
    (narrow,) = encodings(floats(1.0), FixedPoint(1000.0), 10)
    (wide,) = encodings(floats(1.0), None, 10)
    assert len(moduli_of(narrow)) == 1
    assert len(moduli_of(wide)) == 36


def test_what_is_trusted_follows_the_options() -> None:
    assert "more than (share holders + 1)/2 share holders pool" in str(SHARING.trust)
    assert "more than 2 of them with the coordinator" in str(SecretSharing(colluding=2).trust)
    assert "5 share holders pool" in str(SecretSharing(threshold=7, packing=3).trust)
    assert "more than (share holders + 1)/2 share holders" in str(SecretSharing(threshold=7).trust)
    assert "not found out" in SecretSharing(robust=False).trust.resists
    assert len(SHARING.attacks) >= 8
    assert all(attack.stopped_by for attack in SHARING.attacks)
