"""What additive sharing alone promises under the faults of test_schedules: every aggregator is needed."""

from __future__ import annotations

import pytest
from networks import floats
from schedules import ADDITIVE, FLOATS, IN_ORDER, check, error_of, is_done
from tacit.protocols.errors import DropoutError, RemoteError, VoidedError
from tacit.protocols.simulation import Sent
from tampering import altering


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n_sent", range(4))
@pytest.mark.parametrize("party", ["aggregator-1", "aggregator-2"])
def test_an_aggregator_dies_after_any_number_of_messages(party: str, n_sent: int, seed: int) -> None:
    network = ADDITIVE.network(seed=seed, dies_after={party: n_sent})
    run = network.run()
    check(network, run)
    if not is_done(run):
        found = error_of(run)
        assert isinstance(found, DropoutError)
        assert found.missing == (party,)


@pytest.mark.parametrize("sent", [s for s in ADDITIVE.undisturbed if "aggregator" in s.sender], ids=str)
def test_nothing_that_an_aggregator_sends_is_dispensable(sent: Sent) -> None:
    faults = IN_ORDER | altering(sent.index, lambda _: None)
    assert isinstance(error_of(ADDITIVE.network(seed=1, faults=faults).run()), DropoutError)


@pytest.mark.parametrize(("index", "number"), ADDITIVE.field_changes())
def test_one_field_of_one_message_is_altered(index: int, number: int) -> None:
    sent, run = ADDITIVE.alter(index, number)
    if index >= ADDITIVE.first_finished:
        assert is_done(run), "the total is there already"
        return
    assert not is_done(run), "nothing that was signed or bound may change"
    found = error_of(run, sent.recipient)
    assert isinstance(found, RemoteError)
    assert sent.sender in {*found.culprits, *found.suspects}


@pytest.mark.parametrize("n_sent", range(3))
@pytest.mark.parametrize("party", "acd")
def test_a_holder_that_cannot_contribute_voids_whoever_dies(party: str, n_sent: int) -> None:
    rows = FLOATS | {"b": floats(float("nan"), 1.0, 1.0)}
    network = ADDITIVE.network(rows=rows, voids=True, dies_after={party: n_sent})
    assert isinstance(error_of(network.run()), VoidedError)
