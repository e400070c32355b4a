"""What the ring alone promises under the faults of test_schedules: none is left out, all survivors give their word."""

from __future__ import annotations

import pytest
from schedules import NAMES, RING, check, error_of, is_done, kind_of
from tacit.protocols.errors import AbortedError, DropoutError, InvalidMessageError, RemoteError, VoidedError
from tacit.protocols.party import PartyId
from tacit.serialization.ring_paillier_messages import PartialSum


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("party", NAMES[:4])
def test_a_holder_dies_at_its_place_in_the_ring(party: str, seed: int) -> None:
    network = RING.network(seed=seed, dies_before={party: PartialSum})
    run = network.run()
    check(network, run)
    found = error_of(run)
    assert isinstance(found, DropoutError)
    assert found.missing == (party,)
    survivors = {*network.contributions} - {party}
    assert {word.holder for word in found.closed} == survivors, "every survivor gives its word"
    forwarded = {sent.sender for sent in run.sent if isinstance(sent.message, PartialSum)} - {"k"}
    assert {word.holder for word in found.closed if word.forwarded} == forwarded
    for holder in survivors:
        assert isinstance(error_of(run, PartyId(holder)), AbortedError | DropoutError)


@pytest.mark.parametrize(("index", "number"), RING.field_changes())
def test_one_field_of_one_message_is_altered(index: int, number: int) -> None:
    sent, run = RING.alter(index, number)
    if kind_of(sent) == "Finished":
        assert is_done(run), "the total is there already"
        return
    assert not is_done(run), "nothing that was signed or bound may change"
    found = error_of(run, sent.recipient)
    if kind_of(sent) == "PartialSum":
        # A changed ciphertext is a ciphertext: only the coordinator can see that the total is no total.
        assert isinstance(found, InvalidMessageError | AbortedError)
        assert isinstance(error_of(run), RemoteError | VoidedError | AbortedError)
    else:
        assert isinstance(found, InvalidMessageError)
        assert sent.sender in {*found.culprits, *found.suspects}
