"""A plan meets what is wished, counts what is really sent, and says why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import COORDINATOR, Contribution, Network, floats, integers
from tacit.models.likelihood import MaximumLikelihood
from tacit.protocols import planning
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.calibration import Calibration, CiphertextSeconds, calibrate
from tacit.protocols.encoding import ArrayEncoding
from tacit.protocols.errors import SetupError
from tacit.protocols.graph import COMPLETE_UP_TO
from tacit.protocols.invitation import encodings_for, specify
from tacit.protocols.loads import NAME_BYTES, masking_load, n_ciphertexts, ring_load, sharing_load, starting
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.plan_table import WIDTH, Plan
from tacit.protocols.planning import KNOWN, Question, Wish, candidates, choose, question_for
from tacit.protocols.protocol import Protocol
from tacit.protocols.registry import PROTOCOLS
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.protocols.sharing_steps import correctable
from tacit.protocols.simulation import Run
from tacit.protocols.work import Ciphertexts, Load, Work
from tacit.serialization.codec import encode
from tacit.serialization.encoding_parameters import FixedPoint, Quantized
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import (
    ArraySpecification,
    Begin,
    Finished,
    Invitation,
    Ready,
)

SECONDS = CiphertextSeconds(
    key=0.3, noise_product=1e-5, encryption=1e-5, hop=2e-5, decryption=0.01
)  # of no machine in particular
CALIBRATION = Calibration(
    ciphertexts={2048: SECONDS, 3072: SECONDS},
    keystream_bytes_per_second=4e9,
    word_bytes_per_second=4e9,
    seconds_per_field_product=4e-9,
    seconds_per_signature=1.5e-4,
    seconds_per_agreement=2e-4,
    processors=2,
)
GRID = FixedPoint(100.0)
FOUR = {"ring-Paillier", "pairwise masking", "secret sharing", "additive sharing"}


@pytest.fixture(autouse=True)
def _all_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all be registered, whatever is."""
    monkeypatch.setattr(planning, "PROTOCOLS", dict.fromkeys(KNOWN))


def question(n_holders: int, length: int, encoding: Message | None = None, passes: int = 1) -> Question:
    arrays = [ArraySpecification(name="x", dtype="float64", shape=(length,))]
    return Question(n_holders, encodings_for(encoding, arrays, n_holders), passes)


def lines_of(plan: Plan) -> dict[str, Any]:
    return {line.title: line for line in plan.lines}


# The choice

WISHES = st.builds(
    Wish,
    losses=st.integers(0, 8),
    adversary=st.sampled_from(["active", "curious"]),
    colluding=st.integers(1, 4),
    wrong_shares=st.integers(0, 2),
    aggregators=st.integers(0, 3),
)
PROPERTY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def corrects(protocol: Protocol[Any], surplus: int, n_wrong: int, n_holders: int) -> bool:
    """Whether so many answers beyond the threshold correct so many wrong ones."""
    if isinstance(protocol, SecretSharing):
        return correctable(surplus, protocol.colluding) >= n_wrong
    return isinstance(protocol, PairwiseMasking) and n_holders <= COMPLETE_UP_TO and surplus // 2 >= n_wrong


def withstands(protocol: Protocol[Any], wish: Wish, n_holders: int) -> bool:
    """Whether a protocol meets a wish, from its own word."""
    protocol.check_number(n_holders)
    spare = n_holders - protocol.needed(n_holders)
    lies = "that lies" in protocol.trust.resists or "who lie" in protocol.trust.resists
    return (
        spare >= wish.losses + 2 * wish.wrong_shares
        and protocol.colluding >= wish.colluding
        and (lies or wish.adversary == "curious")
        and (not wish.wrong_shares or corrects(protocol, spare - wish.losses, wish.wrong_shares, n_holders))
        and protocol.aggregators <= wish.aggregators
    )


@PROPERTY
@given(n_holders=st.integers(1, 90), length=st.sampled_from([0, 1, 50, 5000]), wish=WISHES)
def test_what_is_chosen_meets_the_wish(n_holders: int, length: int, wish: Wish) -> None:
    try:
        plan = choose(question(n_holders, length, GRID), wish)
    except SetupError:
        assert all(one.obstacle for one in candidates(wish, n_holders))
        return
    assert withstands(plan.chosen, wish, n_holders)


@PROPERTY
@given(n_holders=st.integers(3, 90), length=st.sampled_from([1, 5000]), wish=WISHES)
def test_who_meets_the_wish_can_run(n_holders: int, length: int, wish: Wish) -> None:
    for one in candidates(wish, n_holders):
        if not one.obstacle:
            assert one.protocol is not None
            assert withstands(one.protocol, wish, n_holders)


@pytest.mark.parametrize("adversary", ["active", "curious"])
@pytest.mark.parametrize("aggregators", [0, 2])
@pytest.mark.parametrize("n_holders", [3, 7, 20, 70])
def test_more_losses_never_make_a_less_tolerant_choice(
    n_holders: int, aggregators: int, adversary: Any
) -> None:
    borne = []
    for losses in range(n_holders):
        wish = Wish(losses=losses, adversary=adversary, aggregators=aggregators)
        try:
            plan = choose(question(n_holders, 5), wish)
        except SetupError:
            break
        borne.append(n_holders - plan.chosen.needed(n_holders))
    assert borne == sorted(borne)
    assert all(count >= losses for losses, count in enumerate(borne))


@pytest.mark.parametrize(
    ("n_holders", "length", "encoding", "wish", "kind"),
    [
        (3, 4, None, Wish(adversary="curious"), RingPaillier),
        (10, 1000, GRID, Wish(adversary="curious"), RingPaillier),
        (11, 4, None, Wish(adversary="curious"), PairwiseMasking),
        (3, 101, None, Wish(adversary="curious"), PairwiseMasking),
        (3, 4, None, Wish(), PairwiseMasking),
        (10, 4, None, Wish(losses=3, adversary="curious"), PairwiseMasking),
        (10, 4, None, Wish(losses=3, aggregators=2), AdditiveSharing),
        (10, 4, None, Wish(wrong_shares=1), PairwiseMasking),
        (10, 4, None, Wish(wrong_shares=1, aggregators=2), PairwiseMasking),
        (70, 4, None, Wish(wrong_shares=1), SecretSharing),
    ],
)
def test_the_rules_in_their_order(
    n_holders: int, length: int, encoding: Message | None, wish: Wish, kind: type[Protocol[Any]]
) -> None:
    assert isinstance(choose(question(n_holders, length, encoding), wish).chosen, kind)


@pytest.mark.parametrize(("colluding", "losses"), [(300, 100), (400, 0)])
def test_masking_spares_nobody_where_that_would_take_too_many_neighbours(colluding: int, losses: int) -> None:
    found = {one.title: one for one in candidates(Wish(colluding=colluding), 1000)}
    assert not found["pairwise masking"].obstacle
    assert found["pairwise masking"].losses == losses


def test_all_aggregators_there_are_take_part() -> None:
    assert choose(question(5, 1), Wish(aggregators=3)).chosen.aggregators == 3


def test_masking_gives_as_many_as_are_wished_and_else_its_default() -> None:
    for losses, threshold in ((0, 7), (3, 7), (4, 6)):
        masking = choose(question(10, 1), Wish(losses=losses)).chosen
        assert isinstance(masking, PairwiseMasking)
        assert masking.threshold == threshold


@pytest.mark.parametrize(
    ("wish", "threshold", "packing"),
    [
        (Wish(), 8, 3),
        (Wish(losses=2), 8, 3),
        (Wish(losses=3), 7, 2),
        (Wish(wrong_shares=1), 8, 3),
        (Wish(wrong_shares=2), 6, 1),
        (Wish(losses=4), 6, 1),
    ],
)
def test_sharing_packs_what_the_wish_leaves_and_the_plan_says_so(
    wish: Wish, threshold: int, packing: int
) -> None:
    plan = choose(question(10, 1), wish)
    line = lines_of(plan)["secret sharing"]
    assert line.protocol.shares_needed(10) == threshold
    assert line.protocol.numbers_packed(10) == packing
    assert f"takes     {threshold} of 10 shares to reconstruct (packing: {packing})" in str(plan)


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_the_choice_does_not_depend_on_the_machine(calibration: Calibration | None) -> None:
    asked = question(5, 3)
    assert choose(asked, Wish(losses=1), calibration).chosen == choose(asked, Wish(losses=1)).chosen


@pytest.mark.parametrize(("n_holders", "wish"), [(2, Wish()), (3, Wish(losses=1)), (9, Wish(wrong_shares=3))])
def test_if_no_protocol_meets_the_wish_each_says_why(n_holders: int, wish: Wish) -> None:
    with pytest.raises(SetupError, match="expect fewer losses or add holders") as caught:
        choose(question(n_holders, 1), wish)
    assert all(title in str(caught.value) for title in FOUR)


@pytest.mark.parametrize(
    "options", [{"losses": -1}, {"colluding": 0}, {"adversary": "nasty"}, {"aggregators": 1.5}]
)
def test_a_wish_that_makes_no_sense_is_refused(options: Mapping[str, Any]) -> None:
    with pytest.raises(SetupError):
        Wish(**options)


def test_a_question_planned_for_others_is_refused() -> None:
    with pytest.raises(SetupError, match="another number"):
        Question(4, question(3, 1).encodings)
    with pytest.raises(SetupError, match="at least"):
        question(3, 1, passes=0)


def test_every_registered_protocol_can_be_planned() -> None:
    assert set(PROTOCOLS) <= set(KNOWN)


# Questions of models


class Model:
    """Three numbers and a count, five times."""

    expected_passes = 5

    def specifications(self) -> Sequence[ArraySpecification]:
        return (
            ArraySpecification(name="x", dtype="float64", shape=(3,)),
            ArraySpecification(name="n", dtype="int64", shape=()),
        )


def test_a_model_tells_its_question() -> None:
    asked = question_for(Model(), 4, None)
    assert (asked.n_holders, asked.passes) == (4, 5)
    assert [(encoding.name, encoding.size) for encoding in asked.encodings] == [("x", 3), ("n", 1)]


def test_a_fit_is_a_question() -> None:
    model = MaximumLikelihood(lambda theta, data: 0.0, start={"a": 1.0, "b": 2.0})
    asked = question_for(model, 3, None)
    assert sum(encoding.size for encoding in asked.encodings) == 1 + 2 + 3 + 1
    assert isinstance(choose(asked, Wish(adversary="curious")).chosen, RingPaillier)


# What is counted


def named(count: int, contribution: Contribution) -> dict[str, Contribution]:
    return {f"{i:0{NAME_BYTES}}": contribution for i in range(count)}


def frames(run: Run) -> Iterator[tuple[str, str, int]]:
    """Sender, recipient and size of the protocol's own frames."""
    for sent in run.sent:
        if not isinstance(sent.message, Invitation | Ready | Begin | Finished):
            yield sent.sender, sent.recipient, encode(sent.message).size


def measured(protocol: Protocol[Any], contribution: Contribution, encoding: Any, n: int) -> list[int]:
    """Bytes through the coordinator of the first sum and of the second."""
    memories: dict[str, Any] = {}
    totals = []
    for seed in range(2):
        network = Network(protocol, named(n, contribution), seed=seed, encoding=encoding, memories=memories)
        run = network.run()
        run.result(COORDINATOR)
        totals.append(sum(size for *ends, size in frames(run) if COORDINATOR in ends))
    return totals


def planned(contribution: Contribution, encoding: Any, n_holders: int) -> tuple[ArrayEncoding, ...]:
    return encodings_for(encoding, specify(contribution), n_holders)


CONTRIBUTIONS = [(floats(1.0, 2.0, 3.0), None), (floats(*range(40)), GRID), (integers(*range(100)), None)]


@pytest.mark.parametrize(("contribution", "encoding"), CONTRIBUTIONS)
@pytest.mark.parametrize(
    "protocol",
    [
        RingPaillier.insecure_for_tests(),
        PairwiseMasking(),
        PairwiseMasking(active=False),
        PairwiseMasking(mode="direct"),
        AdditiveSharing(),
        AdditiveSharing(3),
    ],
    ids=repr,
)
def test_what_passes_the_coordinator_is_what_was_counted(
    protocol: Any, contribution: Contribution, encoding: Any
) -> None:
    n_holders = 4
    load = KNOWN[type(protocol.options)].load(protocol, n_holders, planned(contribution, encoding, n_holders))
    _, second = measured(protocol, contribution, encoding, n_holders)
    assert second == load.bytes_through_coordinator


@pytest.mark.parametrize(("n_holders", "active"), [(4, True), (7, False)])
def test_the_set_up_of_an_epoch_is_about_what_was_counted(n_holders: int, active: bool) -> None:
    masking, contribution = PairwiseMasking(active=active), floats(1.0)
    load = masking_load(masking, n_holders, planned(contribution, None, n_holders))
    first, second = measured(masking, contribution, None, n_holders)
    assert load.setup is not None
    assert load.setup.bytes_through_coordinator == pytest.approx(first - second, rel=0.1)


@pytest.mark.parametrize("packing", [1, 2])
def test_shares_that_pass_the_coordinator_are_about_what_was_counted(packing: int) -> None:
    sharing, contribution = SecretSharing(packing=packing), floats(*np.linspace(-1, 1, 400))
    load = sharing_load(sharing, 6, planned(contribution, GRID, 6))
    first, _ = measured(sharing, contribution, GRID, 6)
    assert load.bytes_through_coordinator == pytest.approx(first, rel=0.1)


def test_a_ring_decrypts_every_ciphertext_once_and_adds_at_every_hop() -> None:
    encodings = planned(floats(*range(10)), None, 3)
    ring = RingPaillier(3072)
    assert n_ciphertexts(ring, 3, encodings) == 10
    assert n_ciphertexts(RingPaillier(2048), 3, encodings) == 20
    in_turn = ring_load(ring, 3, encodings).in_turn.ciphertexts
    assert in_turn == Ciphertexts(key_bits=3072, hops=30, decryptions=10)


@pytest.mark.parametrize(("n_holders", "losses"), [(10, 0), (100, 5)])
def test_every_neighbour_is_a_mask(n_holders: int, losses: int) -> None:
    asked = question(n_holders, 1000, GRID)
    masking = choose(asked, Wish(losses=losses)).chosen
    assert isinstance(masking, PairwiseMasking)
    load = masking_load(masking, n_holders, asked.encodings)
    masks, rest = divmod(load.by_each_holder.keystream_bytes, 8 * 1000)
    assert rest == 0
    assert masks == 10 if n_holders == 10 else 1 < masks < 40


def test_an_epoch_is_set_up_as_often_as_it_ends() -> None:
    def seconds(passes: int) -> float:
        plan = choose(question(5, 10, GRID, passes), Wish(), CALIBRATION)
        line = lines_of(plan)["pairwise masking"]
        return float(line.seconds_of_all - passes * line.seconds)

    assert seconds(16) == pytest.approx(seconds(1))
    assert seconds(17) == pytest.approx(2 * seconds(1))


# What is estimated


def test_seconds_are_counts_times_what_each_takes() -> None:
    work = Work(messages=3, signatures=5, ciphertexts=Ciphertexts(key_bits=2048, hops=7, decryptions=11))
    load = Load(bytes_in_turn=600, in_turn=work)
    expected = 600 / 3e8 + 3 * 0.002 + 5 * 1.5e-4 + 7 * 2e-5 + 11 * 0.01 / 2
    assert CALIBRATION.seconds(load, 9) == pytest.approx(expected)


def test_holders_on_one_machine_share_its_processors() -> None:
    load = Load(by_each_holder=Work(signatures=10))
    apart = Calibration(**{**CALIBRATION.__dict__, "one_machine": False})
    assert CALIBRATION.seconds(load, 8) == pytest.approx(4 * apart.seconds(load, 8))


def test_other_keys_follow_by_a_power_law() -> None:
    double = CiphertextSeconds(key=0.6, noise_product=2e-5, encryption=2e-5, hop=4e-5, decryption=0.02)
    calibration = Calibration(**{**CALIBRATION.__dict__, "ciphertexts": {2048: SECONDS, 4096: double}})
    load = Load(in_turn=Work(ciphertexts=Ciphertexts(key_bits=8192, hops=1)))
    assert calibration.seconds(load, 3) == pytest.approx(8e-5)


@pytest.mark.parametrize("shorter", [10, 1000])
def test_longer_vectors_take_longer(shorter: int) -> None:
    short, long = (choose(question(5, length, GRID), Wish(), CALIBRATION) for length in (shorter, 10**6))
    for title, line in lines_of(short).items():
        assert line.seconds < lines_of(long)[title].seconds


def test_the_start_of_a_session_grows_with_the_square_of_the_holders() -> None:
    small, large = starting(10, 0), starting(100, 0)
    assert 8 < large.by_each_holder.signatures / small.by_each_holder.signatures < 10


def test_a_calibration_is_plausible() -> None:
    found = calibrate(0.1)
    assert set(found.ciphertexts) == {2048, 3072}
    for seconds in found.ciphertexts.values():
        assert 0 < seconds.hop < seconds.decryption < seconds.key
        assert min(seconds.noise_product, seconds.encryption) > 0
    assert found.ciphertexts[2048].decryption < found.ciphertexts[3072].decryption
    assert min(found.keystream_bytes_per_second, found.word_bytes_per_second) > 1e6
    assert min(found.seconds_per_field_product, found.seconds_per_signature, found.seconds_per_agreement) > 0
    assert found.processors >= 1


# What is printed


@pytest.mark.parametrize("encoding", [None, GRID, Quantized(8, 1.0)])
@pytest.mark.parametrize("calibration", [None, CALIBRATION])
@pytest.mark.parametrize("n_holders", [3, 10, 1000])
def test_the_table_has_every_protocol_and_a_reason_and_fits_a_page(
    n_holders: int, calibration: Calibration | None, encoding: Message | None
) -> None:
    plan = choose(question(n_holders, 1000, encoding, 8), None, calibration)
    printed = str(plan)
    assert repr(plan) == printed
    assert max(map(len, printed.splitlines())) <= WIDTH <= 100
    for line in plan.lines:
        assert line.reason
        verdict = "chosen" if line.protocol is plan.chosen else "not chosen"
        assert f"{line.title}: {verdict}: " in printed
        assert re.search(rf"^{'>' if verdict == 'chosen' else ' '} {line.title} ", printed, re.MULTILINE)
    assert {line.title for line in plan.lines} == FOUR
    assert sum(line.protocol is plan.chosen for line in plan.lines) == 1


def test_a_plan_as_it_is_printed() -> None:
    printed = str(choose(question(10, 10**6, GRID), Wish(losses=3), CALIBRATION))
    row = next(line for line in printed.splitlines() if line.startswith("> "))
    # 31 parts of 256 KiB are asked for three times, eight at once: 2 messages more each than the 8 of one part.
    assert re.fullmatch(r"> pairwise masking +14 +8 MB +80 MB +\d+ ms +\d+ ms +3", row)
    assert "Digits:   exact, on a grid of 2^-32" in printed
    assert "more than one holder pools with the coordinator" in printed


def test_what_cannot_run_at_all_has_a_line_without_figures() -> None:
    plan = choose(question(3, 1), Wish(adversary="curious"))
    assert all(line.rounds for line in plan.lines)
    few = {one.title: one for one in candidates(Wish(), 2)}
    assert set(few) == FOUR
    assert all(one.protocol is None and one.obstacle for one in few.values())


def test_the_digits_are_those_of_the_encodings() -> None:
    arrays = {"x": np.zeros(2), "n": np.zeros(1, dtype=np.int64)}
    plan = choose(Question(3, planned(arrays, None, 3)))
    assert plan.lines[0].digits == "exact, rounded once; exact integers"
    plan = choose(Question(3, planned({"x": np.zeros(2)}, Quantized(8, 1.27), 3)))
    assert plan.lines[0].digits == "clipped at 1.27, rounded at random to steps of 0.01"
