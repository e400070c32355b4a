"""Long masked inputs: the same sums in parts, a few of each holder at a time, and the same words whoever is lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from networks import Contribution, Network, integers, messages
from tacit.protocols import masking_parts
from tacit.protocols.channel import TURNS_AHEAD
from tacit.protocols.encoding import ArrayEncoding
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    InvalidMessageError,
    UnexpectedMessageError,
)
from tacit.protocols.invitation import encodings_for, specify
from tacit.protocols.masking_parts import cut
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.session import Failed
from tacit.protocols.simulation import Run, Sent
from tacit.serialization.codec import encode
from tacit.serialization.encoding_parameters import Quantized
from tacit.serialization.pairwise_masking_messages import (
    MaskedInput,
    MaskedPart,
    PartWanted,
    Survivors,
    UnmaskingShares,
)
from tacit.serialization.schema import Message

ACTIVE = PairwiseMasking()
CURIOUS = PairwiseMasking(active=False, epoch=1)
DIRECT = PairwiseMasking(mode="direct")
FIVE: dict[str, Contribution] = {
    name: {**integers(*(place * 10**i for i in range(12))), "y": np.full((3, 2), -place)}
    for place, name in enumerate("abcde", start=1)
}
N_BYTES = 8 + (12 + 6) * 16
N_PARTS = 10  # of 32 bytes, in whole numbers
N_AT_ONCE = 4
N_BEFORE_PARTS = 2  # messages of a holder, Ready and DealtShares


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking_parts, "PART_BYTES", 32)
    monkeypatch.setattr(masking_parts, "PARTS_AT_ONCE", N_AT_ONCE)


def sums(run: Run) -> dict[str, list[Any]]:
    return {name: array.tolist() for name, array in run.result("k").arrays.items()}


def expected(holders: str) -> dict[str, list[Any]]:
    return {name: np.sum([FIVE[holder][name] for holder in holders], axis=0).tolist() for name in ("x", "y")}


def parts_by_holder(run: Run) -> dict[PartyId, list[MaskedPart]]:
    found: dict[PartyId, list[MaskedPart]] = defaultdict(list)
    for sent in run.sent:
        if isinstance(sent.message, MaskedPart):
            found[sent.sender].append(sent.message)
    return found


def failure(run: Run, party: str = "k") -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


@pytest.mark.parametrize("protocol", [ACTIVE, CURIOUS, DIRECT], ids=["active", "curious", "direct"])
def test_sum_in_parts_is_the_sum(protocol: PairwiseMasking) -> None:
    run = Network(protocol, FIVE).run()
    assert sums(run) == expected("abcde")
    assert not messages(run, MaskedInput)
    assert {holder: [part.part for part in parts] for holder, parts in parts_by_holder(run).items()} == {
        PartyId(holder): list(range(N_PARTS)) for holder in FIVE
    }


def test_what_fits_one_part_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking_parts, "PART_BYTES", N_BYTES)
    run = Network(ACTIVE, FIVE).run()
    assert sums(run) == expected("abcde")
    assert len(messages(run, MaskedInput)) == len(FIVE)
    assert not messages(run, MaskedPart)
    assert not messages(run, PartWanted)


def test_no_holder_sends_more_than_a_few_parts_before_all_have_sent_as_many() -> None:
    run = Network(ACTIVE, FIVE, faults={"delays": (0.001, 0.1)}).run()
    n_sent = Counter[PartyId]()
    asked: list[int] = []
    for sent in run.sent:
        if isinstance(sent.message, MaskedPart):
            n_sent[sent.sender] += 1
            assert n_sent[sent.sender] <= N_AT_ONCE + (asked[-1] if asked else 0)
        if isinstance(sent.message, PartWanted):
            assert set(n_sent.values()) == {sent.message.part}
            asked.append(sent.message.part)
    assert asked == [part for part in range(N_AT_ONCE, N_PARTS, N_AT_ONCE) for _ in FIVE]
    turns = [part.turn for part in parts_by_holder(run)[PartyId("b")]]
    assert turns == list(range(N_PARTS))


@pytest.mark.parametrize("n_sent", [0, 1, 2, 6, N_PARTS - 1, N_PARTS])
def test_loss_in_the_middle_leaves_the_sum_of_the_others(n_sent: int) -> None:
    run = Network(ACTIVE, FIVE, dies_after={"c": N_BEFORE_PARTS + n_sent}).run()
    survivors = "abcde" if n_sent == N_PARTS else "abde"
    assert run.result("k").holders == tuple(survivors)
    assert sums(run) == expected(survivors)


def test_what_is_sent_again_after_a_loss_are_the_very_same_words() -> None:
    n_once = N_AT_ONCE
    dying = {
        "b": N_BEFORE_PARTS + n_once,
        "e": N_BEFORE_PARTS + 2 * n_once + 2,
    }  # as b was lost, e began again
    run = Network(CURIOUS, FIVE, dies_after=dying).run()
    assert sums(run) == expected("acd")
    parts = parts_by_holder(run)[PartyId("a")]
    assert [part.part for part in parts].count(0) == 3  # once more after each loss
    by_number: dict[int, set[bytes]] = defaultdict(set)
    for part in parts:
        by_number[part.part].add(b"".join(words.tobytes() for words in part.vectors))
    assert [len(words) for words in by_number.values()] == [1] * N_PARTS


def test_losses_beyond_the_threshold_end_the_sum_and_nothing_is_unmasked() -> None:
    dying = {"a": N_BEFORE_PARTS + 2, "b": N_BEFORE_PARTS + 3}
    run = Network(ACTIVE, FIVE, dies_after=dying).run()
    assert isinstance(failure(run), DropoutError)
    assert not messages(run, Survivors)
    assert not messages(run, UnmaskingShares)


def test_direct_mode_takes_no_loss_in_the_middle() -> None:
    run = Network(DIRECT, FIVE, dies_after={"b": 3}).run()
    assert isinstance(failure(run), DropoutError)


def altered(masked: MaskedPart, **changes: Any) -> MaskedPart:
    fields = {field.name: getattr(masked, field.name) for field in masked.message_fields}
    return MaskedPart(**(fields | changes))


@pytest.mark.parametrize(
    "changes",
    [{"part": 2}, {"vectors": ()}, {"binding": bytes(32)}, {"session": bytes(32)}],
    ids=["another part", "another length", "another question", "another session"],
)
def test_part_that_was_not_asked_for_names_its_holder(changes: dict[str, Any]) -> None:
    def tamper(sent: Sent) -> Message:
        lies = isinstance(sent.message, MaskedPart) and sent.message.turn == 1 and sent.sender == "d"
        return altered(sent.message, **changes) if lies else sent.message  # type: ignore[arg-type]

    error = failure(Network(ACTIVE, FIVE, faults={"tamper": tamper}).run())
    assert isinstance(error, InvalidMessageError)
    assert error.culprits == ("d",)


def test_part_ahead_of_its_turn_is_refused() -> None:
    def tamper(sent: Sent) -> Message:
        lies = isinstance(sent.message, MaskedPart) and sent.message.turn == 1 and sent.sender == "d"
        return altered(sent.message, turn=N_AT_ONCE + TURNS_AHEAD) if lies else sent.message  # type: ignore[arg-type]

    error = failure(Network(ACTIVE, FIVE, faults={"tamper": tamper}).run())
    assert isinstance(error, UnexpectedMessageError)


def test_holder_refuses_to_send_a_part_that_there_is_not() -> None:
    def tamper(sent: Sent) -> Message:
        if isinstance(sent.message, PartWanted) and sent.recipient == "d":
            return PartWanted(session=sent.message.session, turn=sent.message.turn, part=N_PARTS)
        return sent.message

    run = Network(ACTIVE, FIVE, faults={"tamper": tamper}).run()
    error = failure(run, "d")
    assert isinstance(error, InvalidMessageError | AbortedError)
    assert sums(run) == expected("abce")


def test_parts_may_come_twice_and_in_any_order() -> None:
    run = Network(ACTIVE, FIVE, seed=3, faults={"duplicates": 0.5, "delays": (0.001, 5.0)}).run()
    assert sums(run) == expected("abcde")


def encodings_of(encoding: Message | None = None) -> tuple[ArrayEncoding, ...]:
    contribution = {"x": np.zeros(70), "n": np.zeros((2, 3), dtype=np.int64), "none": np.zeros(0)}
    return encodings_for(encoding, specify(contribution), 5)


@pytest.mark.parametrize("encoding", [None, Quantized(8, clip=1.0)], ids=["limbs", "words of 32 bits"])
@pytest.mark.parametrize("n_bytes", [1, 32, 1000, 10**6])
def test_parts_cover_every_row_once_and_are_no_longer_than_said(
    encoding: Message | None, n_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking_parts, "PART_BYTES", n_bytes)
    encodings = encodings_of(encoding)
    vectors = [np.zeros(1, dtype=np.uint64)]
    vectors += [np.zeros(each.word_shape, dtype=each.word_dtype) for each in encodings]
    for part in cut(encodings):
        words = masking_parts.words_of(vectors, part)
        assert sum(each.nbytes for each in words) <= n_bytes or sum(map(len, words)) == 1
        for each in words:
            np.add(each, 1, out=each, casting="unsafe")
    assert all((vector == 1).all() for vector in vectors)


def test_parts_are_counted_in_the_cost() -> None:
    run = Network(CURIOUS, FIVE).run()
    encodings = run.result("k") and encodings_for(None, specify(FIVE["a"]), 5)
    of_a_sum = [sent.message for sent in run.sent if sent.sender == "a"]
    sent = sum(encode(each).size for each in of_a_sum if isinstance(each, MaskedPart | UnmaskingShares))
    cost = CURIOUS.cost(5, encodings)
    assert cost.bytes_sent_by_holder == sent
    assert cost.rounds == 6 + 2 * len({wanted.part for wanted in messages(run, PartWanted)})
