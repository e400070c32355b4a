"""What pairwise masking alone promises under the faults of test_schedules: epochs go on, sparse graphs hold."""

from __future__ import annotations

import random
from typing import Any

import pytest
from networks import COORDINATOR
from schedules import (
    IN_ORDER,
    MASKING,
    NAMES,
    OPENING,
    Subject,
    check,
    error_of,
    is_done,
    kind_of,
    of_masking,
)
from tacit.protocols.errors import AbortedError, DropoutError, InvalidMessageError, SetupError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.session import Failed
from tacit.serialization.pairwise_masking_messages import (
    DealtShares,
    MaskedInput,
    SurvivorCodes,
    UnmaskingShares,
)

DIRECT = Subject((PairwiseMasking(mode="direct"),), of_masking, unchecked=(MaskedInput,))
SPARSE = Subject(
    (PairwiseMasking(epoch=2, threshold=7, neighbours=4),), of_masking, unchecked=(MaskedInput,), n_holders=8
)
OF_MASKING = {kind_of(sent) for sent in MASKING.undisturbed}


@pytest.mark.parametrize("seed", range(6))
def test_one_holder_dies_in_each_sum_of_epochs_and_the_next_goes_on(seed: int) -> None:
    chosen = random.Random(seed)
    memories: dict[str, Any] = {}
    protocol = MASKING.variants[seed % 2]
    for number in range(4):
        dying = {chosen.choice(NAMES[:5]): chosen.randrange(4)}
        network = MASKING.network(5, protocol, seed=4 * seed + number, memories=memories, dies_after=dying)
        run = network.run()
        check(network, run)
        assert is_done(run)


@pytest.mark.parametrize("kind", [DealtShares, MaskedInput, SurvivorCodes, UnmaskingShares])
@pytest.mark.parametrize("n_lost", [1, 2])
def test_holders_die_in_a_sparse_graph(n_lost: int, kind: type[Any]) -> None:
    dying = dict.fromkeys(random.Random(kind.__name__).sample(NAMES, n_lost), kind)
    network = SPARSE.network(seed=n_lost, dies_before=dying, faults=IN_ORDER)
    run = network.run()
    check(network, run)
    if n_lost == 2:
        assert isinstance(error_of(run), DropoutError), "seven of eight are needed"
    else:
        assert is_done(run)
        left_out = {*NAMES} - {*run.result(COORDINATOR).holders}
        assert left_out == ({*dying} if kind in (DealtShares, MaskedInput) else set())


@pytest.mark.parametrize(
    ("subject", "index", "number"),
    [
        (subject, index, number)
        for subject, without in ((MASKING, OPENING), (DIRECT, OPENING), (SPARSE, {*OPENING, *OF_MASKING}))
        for index, number in subject.field_changes(without)
    ],
)
def test_one_field_of_one_message_is_altered(subject: Subject, index: int, number: int) -> None:
    sent, run = subject.alter(index, number)
    found = run.outcomes[sent.recipient]
    if isinstance(found, Failed):
        assert isinstance(found.error, InvalidMessageError | AbortedError | SetupError), (
            "found where it arrived"
        )
    else:
        # Not needed, or for another party to find.
        kinds = {"DealtShares", "SurvivorCodes", "ForwardedCodes", "UnmaskingShares", "Finished"}
        assert kind_of(sent) in kinds
