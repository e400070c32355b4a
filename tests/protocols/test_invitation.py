"""How sessions start, and how a coordinator that lies at the start is found out."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from networks import COORDINATOR, Contribution, Network, floats, integers, messages
from tacit.protocols.channel import Channel, Role
from tacit.protocols.errors import (
    AbortedError,
    EquivocationError,
    InvalidMessageError,
    RefusedError,
    SetupError,
)
from tacit.protocols.invitation import (
    CONTRIBUTION_FAILED,
    NO_SIGNATURE,
    NOT_ALLOWED,
    NOT_IN_RANGE,
    UNSUITABLE,
    Declined,
    Prepared,
    invite,
    is_signed,
    join_session,
    open_begun,
    prepare,
    roster_of,
    signed,
)
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.paillier_keys import generate_keys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.session import Failed
from tacit.protocols.simulation import Run
from tacit.serialization.encoding_parameters import FixedPoint, Integers
from tacit.serialization.ring_paillier_messages import PartialSum, RingParameters
from tacit.serialization.session_messages import Begin, Invitation, Query, Ready, Refusal

RING = RingPaillier.insecure_for_tests()
THREE: dict[str, Contribution] = {"a": integers(1), "b": integers(2), "c": integers(3)}
A, B, C = PartyId("a"), PartyId("b"), PartyId("c")


@lru_cache
def parameters() -> RingParameters:
    return RingParameters(moduli=(generate_keys(256, random.Random(5).randbytes).public_key.n,))


def failure(run: Run, party: str) -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def kinds(run: Run) -> set[str]:
    return {type(sent.message).__name__ for sent in run.sent}


# Contributions that do not fit together


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"x": np.zeros(3, dtype=np.int64)}, "b has 'x' int64[3]"),
        ({"x": np.zeros((1, 1), dtype=np.int64)}, "b has 'x' int64[1, 1]"),
        ({"x": np.zeros(1, dtype=np.int32)}, "b has 'x' int32[1]"),
        ({"y": np.zeros(1, dtype=np.int64)}, "b has 'y' int64[1]"),
        ({"x": np.zeros(1, dtype=np.int64), "y": np.zeros(0)}, "b has 'x' int64[1], 'y' float64[0]"),
        ({}, "b has none"),
    ],
)
def test_different_arrays_are_refused_by_name_before_anything_is_masked(
    other: Contribution, words: str
) -> None:
    run = Network(RING, THREE | {"b": other}).run()
    found = failure(run, "k")
    assert isinstance(found, SetupError)
    assert "a has 'x' int64[1]" in str(found)
    assert words in str(found)
    assert kinds(run) == {"Invitation", "Ready", "Abort", "Closed"}
    for holder in "abc":
        assert isinstance(failure(run, holder), AbortedError)
        assert "SetupError" in str(failure(run, holder))


# Refusals


def declining(reason: str, details: str = "") -> Callable[[Invitation], Prepared]:
    def examine(invitation: Invitation) -> Prepared:
        raise Declined(reason, details)

    return examine


def holder_that(network: Network, name: str, examine: Callable[[Invitation], Prepared]) -> Role[bool]:
    async def role(channel: Channel) -> bool:
        joined = await join_session(channel, network.keys[PartyId(name)], examine, needed=3)
        return joined is not None

    return role


def test_a_refusal_ends_the_session_with_reason_and_details_and_nothing_masked() -> None:
    network = Network(RING, THREE)
    network.roles = {
        "b": holder_that(network, "b", declining(NOT_ALLOWED)),
        "c": holder_that(network, "c", declining(CONTRIBUTION_FAILED, "ZeroDivisionError: row 17")),
    }
    run = network.run()
    found = failure(run, "k")
    assert isinstance(found, RefusedError)
    assert found.refusals == {
        "b": (NOT_ALLOWED, ""),
        "c": (CONTRIBUTION_FAILED, "ZeroDivisionError: row 17"),
    }
    assert "ZeroDivisionError: row 17" in str(found)
    assert run.result("b") is False
    assert isinstance(failure(run, "a"), AbortedError)
    assert kinds(run) == {"Invitation", "Ready", "Refusal", "Abort", "Closed"}
    assert network.released == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_in_the_open_a_value_that_is_not_finite_is_refused_with_its_place(value: float) -> None:
    run = Network(RING, {"a": floats(1.0, value), "b": floats(1.0, 2.0), "c": floats(3.0, 4.0)}).run()
    found = failure(run, "k")
    assert isinstance(found, RefusedError)
    assert found.refusals["a"][0] == NOT_IN_RANGE
    assert "index (1,)" in found.refusals["a"][1]


def test_a_value_beyond_a_declared_bound_is_refused_without_telling_it() -> None:
    network = Network(
        RING, {"a": floats(1.0), "b": floats(1234.5), "c": floats(3.0)}, encoding=FixedPoint(10.0)
    )
    found = failure(network.run(), "k")
    assert isinstance(found, RefusedError)
    assert list(found.refusals) == ["b"]
    assert "1234.5" not in str(found)


@pytest.mark.parametrize(
    ("array", "encoding"),
    [(np.zeros(2, dtype=np.complex128), None), (np.zeros(2), Integers()), (np.zeros(5000), None)],
    ids=["complex", "floats as integers", "too many without an encoding"],
)
def test_arrays_that_do_not_suit_the_encoding_are_refused(array: Any, encoding: Any) -> None:
    with pytest.raises(Declined) as caught:
        prepare({"x": array}, encoding, 3, void=False)
    assert caught.value.reason == UNSUITABLE


def test_a_holder_runs_with_the_options_of_the_invitation_or_not_at_all() -> None:
    network = Network(RING, THREE)
    other = invite(
        network.keys[COORDINATOR],
        protocol=RingPaillier.insecure_for_tests(masks=False).options,
        encoding=None,
        definition=bytes(32),
        query=network.query,
    )
    network.roles = {COORDINATOR: lying(network, dict.fromkeys("abc", other))}
    run = network.run()
    assert [refusal.reason for refusal in messages(run, Refusal)] == [NOT_ALLOWED] * 3
    assert not messages(run, Ready)


# Rosters


def test_two_holders_are_too_few_and_everybody_knows_by_itself() -> None:
    run = Network(RING, {"a": integers(1), "b": integers(2)}).run()
    for party in ("k", "a", "b"):
        assert isinstance(failure(run, party), SetupError)
        assert "at least 3 holders" in str(failure(run, party))
    assert kinds(run) <= {"Abort"}


def test_colluding_holders_raise_the_number_needed() -> None:
    protocol = RingPaillier.insecure_for_tests(colluding=2)
    assert isinstance(failure(Network(protocol, THREE).run(), "k"), SetupError)
    four = THREE | {"d": integers(4)}
    assert Network(protocol, four).aggregate().arrays["x"] == [10]


# A coordinator that lies


def lying(
    network: Network,
    invitations: dict[str, Invitation],
    alter: Callable[[str, Begin], Begin] = lambda _, begin: begin,
) -> Role[None]:
    """A coordinator that shows each holder its own invitation, and its own Begin."""
    identity = network.identities[COORDINATOR]

    async def role(channel: Channel) -> None:
        for holder, invitation in invitations.items():
            channel.send(PartyId(holder), invitation)
        holders = network.roster.holders
        answers = await channel.gather((Ready, Refusal), senders=holders, at_least=0, within=10.0)
        ready = tuple(answer for answer in answers.values() if isinstance(answer, Ready))
        begin = Begin(session=network.session, ready=ready, parameters=parameters(), signature=NO_SIGNATURE)
        for holder in holders:
            channel.send(holder, alter(holder, signed(begin, identity)))
        await channel.gather(PartialSum, senders=holders, at_least=0, within=10.0)

    return role


def invitation_with(network: Network, **changes: Any) -> Invitation:
    changed = dataclasses.replace(network.invitation(), signature=NO_SIGNATURE, **changes)
    return signed(changed, network.identities[COORDINATOR])


def found_by(run: Run, party: str) -> InvalidMessageError:
    found = failure(run, party)
    assert isinstance(found, InvalidMessageError), found
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"query": Query(step="sum", arrays={"theta": np.ones(1)})},
        {"query": Query(step="other")},
        {"query": Query(step="sum", may_fail=True)},
        {"definition": b"\x01" * 32},
        {"encoding": FixedPoint(10.0)},
    ],
    ids=["query", "step", "may_fail", "model", "encoding"],
)
def test_a_holder_shown_something_else_is_found_by_all_others(changes: dict[str, Any]) -> None:
    network = Network(RING, THREE)
    same = network.invitation()
    special = invitation_with(network, **changes)
    network.roles = {COORDINATOR: lying(network, {"a": same, "b": special, "c": same})}
    run = network.run()
    for holder in "ac":
        assert set(found_by(run, holder).suspects) == {"k", "b"}
    assert "k" in found_by(run, "b").suspects
    assert not messages(run, PartialSum)
    assert network.released == []


def test_a_holder_shown_another_roster_refuses_by_itself() -> None:
    network = Network(RING, THREE | {"d": integers(4)})
    smaller = invitation_with(network, roster=network.roster.without(["c"]).parties)
    same = network.invitation()
    network.roles = {COORDINATOR: lying(network, {"a": same, "b": smaller, "c": same, "d": same})}
    run = network.run()
    assert found_by(run, "b").suspects == ("k",)
    assert not messages(run, PartialSum)


def test_an_invitation_to_another_session_is_refused() -> None:
    # Or else a word signed for one session could be used for another.
    network = Network(RING, THREE)
    other = invitation_with(network, session=b"\x07" * 32)
    network.roles = {COORDINATOR: lying(network, dict.fromkeys("abc", other))}
    run = network.run()
    assert not messages(run, Ready), "nobody even answers it"
    for holder in "abc":
        assert found_by(run, holder).suspects == ("k",)


def test_an_invitation_that_somebody_else_signed_is_refused() -> None:
    network = Network(RING, THREE)
    forged = signed(network.invitation(), network.identities["c"])
    network.roles = {COORDINATOR: lying(network, dict.fromkeys("abc", forged))}
    run = network.run()
    assert all(found_by(run, holder).suspects == ("k",) for holder in "abc")


def begun_with(alter: Callable[[Network, str, Begin], Begin]) -> Run:
    """A run in which the coordinator alters, and signs again, what each holder sees as Begin."""
    network = Network(RING, THREE)
    identity = network.identities[COORDINATOR]

    def altered(holder: str, begin: Begin) -> Begin:
        changed = alter(network, holder, begin)
        return changed if changed.signature == NO_SIGNATURE else signed(changed, identity)

    network.roles = {COORDINATOR: lying(network, dict.fromkeys("abc", network.invitation()), altered)}
    return network.run()


def test_a_begin_that_leaves_somebody_out_names_the_coordinator() -> None:
    run = begun_with(lambda _, __, begin: dataclasses.replace(begin, ready=begin.ready[:2]))
    for holder in "abc":
        assert found_by(run, holder).culprits == ("k",)


def test_a_begin_in_another_order_names_the_coordinator() -> None:
    run = begun_with(lambda _, __, begin: dataclasses.replace(begin, ready=begin.ready[::-1]))
    for holder in "abc":
        assert found_by(run, holder).culprits == ("k",)


def test_a_begin_without_the_coordinators_signature_is_refused() -> None:
    run = begun_with(lambda _, __, begin: dataclasses.replace(begin, signature=NO_SIGNATURE))
    for holder in "abc":
        assert found_by(run, holder).suspects == ("k",)


def test_two_holders_with_one_fresh_key_are_found_out() -> None:
    # Their pairs would agree on keys that a third could be made to share.
    network = Network(RING, THREE)
    ours, theirs = network.keys[PartyId("b")], network.keys[PartyId("c")]
    theirs._secret, theirs.ephemeral = ours._secret, ours.ephemeral
    run = network.run()
    assert set(found_by(run, "a").suspects) == {"k", "a", "b", "c"}
    assert not any(isinstance(sent.message, PartialSum) and sent.sender != "k" for sent in run.sent)


def test_a_coordinator_cannot_put_its_own_fresh_key_in_a_holders_place() -> None:
    # It would derive that holder's masks towards the others.
    def substitute(network: Network, holder: str, begin: Begin) -> Begin:
        mine = network.keys[COORDINATOR].ephemeral
        forged = tuple(
            dataclasses.replace(ready, ephemeral=mine) if ready.holder == "b" else ready
            for ready in begin.ready
        )
        return begin if holder == "b" else dataclasses.replace(begin, ready=forged)

    run = begun_with(substitute)
    for holder in "ac":
        assert set(found_by(run, holder).suspects) == {"k", "b"}
    assert not messages(run, PartialSum)


@pytest.mark.parametrize(("shown_to", "other"), [("a", "b"), ("b", "c"), ("c", "a")])
def test_what_others_have_found_right_does_not_vouch_for_what_one_is_shown(shown_to: str, other: str) -> None:
    # The holders of a simulation share a process, and what all are shown is looked at once.
    def forged(_: Network, holder: str, begin: Begin) -> Begin:
        ready = tuple(
            dataclasses.replace(answer, signature=bytes(63) + b"\x01") if answer.holder == other else answer
            for answer in begin.ready
        )
        return dataclasses.replace(begin, ready=ready) if holder == shown_to else begin

    assert set(found_by(begun_with(forged), shown_to).suspects) == {"k", other}


def test_who_is_shown_the_same_holds_the_same() -> None:
    run = Network(RING, THREE).run()
    (asked, *_), (begin, *_) = messages(run, Invitation), messages(run, Begin)
    again = dataclasses.replace(asked), dataclasses.replace(begin)
    roster = roster_of(asked)
    assert roster_of(again[0]) is roster
    opened = open_begun(asked, roster, begin, 3, 3)
    assert open_begun(again[0], roster, again[1], 3, 3) is opened
    assert opened.present == ("a", "b", "c")


def test_another_number_needed_or_another_signature_is_looked_at_again() -> None:
    run = Network(RING, THREE).run()
    (asked, *_), (begin, *_) = messages(run, Invitation), messages(run, Begin)
    roster = roster_of(asked)
    opened = open_begun(asked, roster, begin, 3, 3)
    with pytest.raises(InvalidMessageError, match="leaves out"):
        open_begun(asked, roster, begin, 4, 3)
    first, *others = begin.ready
    unsigned = dataclasses.replace(begin, ready=(dataclasses.replace(first, signature=NO_SIGNATURE), *others))
    with pytest.raises(InvalidMessageError) as caught:
        open_begun(asked, roster, unsigned, 3, 3)
    assert set(caught.value.suspects) == {"k", "a"}
    assert opened.begin is begin


def test_a_roster_of_other_keys_is_another_roster() -> None:
    asked = Network(RING, THREE).invitation()
    first, second, *others = asked.roster
    swapped = (first, dataclasses.replace(second, agreement_key=bytes(range(32))), *others)
    other = roster_of(dataclasses.replace(asked, roster=swapped))
    assert not other.identities <= roster_of(asked).identities


def test_a_begin_that_alters_the_holders_own_answer_names_the_coordinator() -> None:
    def substitute(network: Network, holder: str, begin: Begin) -> Begin:
        mine = network.keys[COORDINATOR].ephemeral
        forged = tuple(
            dataclasses.replace(ready, ephemeral=mine) if ready.holder == holder else ready
            for ready in begin.ready
        )
        return dataclasses.replace(begin, ready=forged)

    run = begun_with(substitute)
    for holder in "abc":
        assert found_by(run, holder).culprits == ("k",)


def test_a_begin_for_another_session_is_refused() -> None:
    run = begun_with(lambda _, __, begin: dataclasses.replace(begin, session=b"\x07" * 32))
    for holder in "abc":
        assert found_by(run, holder).suspects == ("k",)


def test_a_replayed_begin_meets_fresh_keys() -> None:
    recorded = messages(Network(RING, THREE, seed=1).run(), Begin)[0]
    again = Network(RING, THREE, seed=1)  # the same session identifier, as after a restart
    source = random.Random("after the restart").randbytes
    again.keys = {
        name: SessionKeys(again.identities[name], again.roster, again.session, source)
        for name in again.identities
    }
    assert recorded.session == again.session
    again.roles = {
        COORDINATOR: lying(again, dict.fromkeys("abc", again.invitation()), lambda _, __: recorded)
    }
    run = again.run()
    for holder in "abc":
        assert found_by(run, holder).culprits == ("k",)
    assert not messages(run, PartialSum)


# A holder that lies, or a link that forges


@pytest.mark.parametrize(
    "change",
    [
        {"signature": bytes(64)},
        {"ephemeral": b"\x09" + bytes(31)},
        {"invitation": bytes(32)},
        {"holder": "a"},
        {"arrays": ()},
        {"session": b"\x07" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_forged_ready_is_found_by_the_coordinator(change: dict[str, Any]) -> None:
    def tamper(sent: Any) -> Any:
        forge = isinstance(sent.message, Ready) and sent.sender == "b"
        return dataclasses.replace(sent.message, **change) if forge else sent.message

    run = Network(RING, THREE, faults={"tamper": tamper}).run()
    assert found_by(run, "k").suspects == ("b",)
    assert kinds(run) <= {"Invitation", "Ready", "Abort", "Closed"}


def test_a_holder_with_two_fresh_keys_is_found() -> None:
    network = Network(RING, THREE)
    network.keys[COORDINATOR].learn(B, b"\x09" + bytes(31))  # as a link would have learned it
    found = failure(network.run(), "k")
    assert isinstance(found, EquivocationError)
    assert found.culprits == ("b",)


# What all have in common


def test_all_parties_hold_one_binding_and_every_session_another() -> None:
    first, second = Network(RING, THREE, seed=1).aggregate(), Network(RING, THREE, seed=2).aggregate()
    assert first.binding != second.binding
    assert first.session != second.session


def test_the_binding_follows_from_query_model_encoding_and_fresh_keys() -> None:
    network = Network(RING, THREE)
    opened = network.opened(network.run())
    bindings = {opened.binding}
    for changes in (
        {"query": Query(step="other")},
        {"definition": b"\x01" * 32},
        {"encoding": Integers()},
        {"ephemeral": b"\x09" + bytes(31)},
        {"session": b"\x07" * 32},
        {"roster": Roster(network.roster.parties[:3]).parties},
    ):
        invitation = dataclasses.replace(opened.invitation, **changes)
        bindings.add(dataclasses.replace(opened, invitation=invitation).binding)
    ready = dataclasses.replace(opened.begin.ready[0], ephemeral=b"\x09" + bytes(31))
    begin = dataclasses.replace(opened.begin, ready=(ready, *opened.begin.ready[1:]))
    bindings.add(dataclasses.replace(opened, begin=begin).binding)
    assert len(bindings) == 8


def test_a_signature_fits_no_other_message_and_no_other_signer() -> None:
    network = Network(RING, THREE)
    run = network.run()
    ready = messages(run, Ready)[0]
    holder = PartyId(ready.holder)
    assert is_signed(ready, network.roster, holder)
    other = next(name for name in network.roster.holders if name != holder)
    assert not is_signed(ready, network.roster, other)
    begin = messages(run, Begin)[0]
    assert not is_signed(dataclasses.replace(ready, signature=begin.signature), network.roster, COORDINATOR)


def test_the_start_of_a_session_shows_no_value() -> None:
    values = np.array([0.1234567890123, -9.87654321e-7])
    run = Network(RING, {"a": {"x": values}, "b": {"x": values * 2}, "c": {"x": values * 3}}).run()
    for ready in messages(run, Ready):
        assert [(array.name, array.dtype, array.shape) for array in ready.arrays] == [("x", "float64", (2,))]


def test_what_a_holder_has_prepared_is_not_shown() -> None:
    prepared = prepare({"x": np.array([17.5])}, None, 3, void=False)
    assert repr(prepared) == "<Prepared: secret>"
