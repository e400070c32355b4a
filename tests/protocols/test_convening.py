"""A coordinator that is kept from knowing the holders gets the same bits, and nothing that depends on their number."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convened import CONVENER, OTHER, SALT, ConvenedNetwork, identity
from networks import COORDINATOR, Contribution, Network, floats, integers, messages
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.channel import Channel, Role
from tacit.protocols.convening import (
    ARRAYS_DIFFER,
    HOLDERS_MISSING,
    UNNAMED,
    ConvenedAggregate,
    accepted_by_asker,
    convener_role,
)
from tacit.protocols.convening_steps import commitment_to, options_of
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    RefusedError,
    SetupError,
    VoidedError,
)
from tacit.protocols.invitation import ALREADY_RELEASED, NOT_ALLOWED, NOT_IN_RANGE, Declined, signed
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import accepted_by_aggregator, accepted_by_holder
from tacit.protocols.registry import protocol_from
from tacit.protocols.session import Failed
from tacit.protocols.simulation import Run, Sent
from tacit.records.release_memory import ReleaseMemory
from tacit.serialization.additive_sharing_messages import (
    AdditiveSharingOptions,
    AggregationParameters,
    FullShare,
    MissingShares,
)
from tacit.serialization.codec import encode
from tacit.serialization.convening_messages import Commission, Commissioned, Convened, ConvenedSum
from tacit.serialization.encoding_parameters import FixedPoint, Quantized
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Abort, Begin, Invitation, Query, Ready, Refusal

ROWS: dict[str, Contribution] = {
    "a": integers(1, -2),
    "b": integers(3, 5),
    "c": integers(-10, 7),
    "d": integers(100, 200),
}
IN_ORDER = {"delays": (0.001, 0.001)}  # so that messages arrive as they were sent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "additive-sharing.md"


def network(contributions: Mapping[str, Contribution] = ROWS, **options: Any) -> ConvenedNetwork:
    return ConvenedNetwork(contributions, **options)


def failure(run: Run, party: str = COORDINATOR) -> Exception:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def of_coordinator(run: Run) -> list[tuple[str, str, str, int]]:
    """What the coordinator, or whoever watches its wires, can count."""
    return [
        (sent.sender, sent.recipient, type(sent.message).__name__, encode(sent.message).size)
        for sent in run.sent
        if COORDINATOR in {sent.sender, sent.recipient}
    ]


# The transcript


def three() -> Run:
    return network({name: ROWS[name] for name in "abc"}, faults=IN_ORDER).run()


def test_transcript() -> None:
    assert three().transcript == [
        "k -> aggregator-1: Invitation",
        "aggregator-1 -> a: Invitation",
        "aggregator-1 -> b: Invitation",
        "aggregator-1 -> c: Invitation",
        "aggregator-1 -> aggregator-2: Invitation",
        "a -> aggregator-1: Ready",
        "b -> aggregator-1: Ready",
        "c -> aggregator-1: Ready",
        "aggregator-2 -> aggregator-1: Ready",
        "aggregator-1 -> a: Begin",
        "aggregator-1 -> b: Begin",
        "aggregator-1 -> c: Begin",
        "aggregator-1 -> aggregator-2: Begin",
        "aggregator-1 -> k: Convened",
        "a -> aggregator-1: FullShare",
        "b -> aggregator-2: FullShare",
        "c -> aggregator-1: FullShare",
        "aggregator-2 -> aggregator-1: MissingShares",
        "aggregator-1 -> aggregator-2: MissingShares",
        "aggregator-1 -> k: ConvenedSum",
        "aggregator-2 -> k: ConvenedSum",
        "k -> aggregator-1: Finished",
        "aggregator-1 -> a: Finished",
        "aggregator-1 -> b: Finished",
        "aggregator-1 -> c: Finished",
        "aggregator-1 -> aggregator-2: Finished",
    ]


def test_the_page_of_the_protocol_shows_this_transcript() -> None:
    _, with_one = PAGE.read_text(encoding="utf-8").split("\n## Hiding", 1)
    assert re.findall(r"^([\w-]+ -> [\w-]+: \w+)", with_one, re.MULTILINE) == three().transcript


# Sums

ARRAYS = {
    name: {
        "wide": np.array([0.1 * i, 1e300, -(10.0**-i)]),
        "narrow": np.array([[1.5, -2.25]], np.float32) * i,
        "counts": np.arange(4, dtype=np.int64) - i,
    }
    for i, name in enumerate("abcde")
}


@pytest.mark.parametrize("n_aggregators", [2, 3])
def test_the_sum_has_the_same_bits_as_with_a_coordinator_that_knows_the_holders(n_aggregators: int) -> None:
    known = Network(AdditiveSharing(n_aggregators), ARRAYS).aggregate()
    convened = network(ARRAYS, protocol=AdditiveSharing(n_aggregators, at_most=1000)).aggregate()
    assert known.arrays.keys() == convened.arrays.keys()
    for name, array in known.arrays.items():
        assert array.dtype == convened.arrays[name].dtype
        assert array.tobytes() == convened.arrays[name].tobytes()


@pytest.mark.parametrize("encoding", [FixedPoint(1000.0), Quantized(16, clip=100.0)])
def test_grids_work(encoding: Any) -> None:
    rows = {name: floats(1.5, -2.25 * i, 0.1) for i, name in enumerate("abcd")}
    aggregate = network(rows, encoding=encoding).aggregate()
    assert aggregate.arrays["x"] == pytest.approx([6.0, -13.5, 0.4], abs=0.02)


def test_a_result_says_at_least_and_names_nobody() -> None:
    aggregate = network().aggregate()
    assert (aggregate.holders, aggregate.at_least) == ((), 3)
    assert network(protocol=AdditiveSharing(colluding=2, at_most=9)).aggregate().at_least == 4


def test_the_word_of_a_sum_over_all_is_the_pinned_commitment() -> None:
    sharing = network()
    assert sharing.aggregate().included == commitment_to(sharing.roster, SALT)


def test_sums_over_the_same_holders_have_one_hash_and_over_others_another() -> None:
    sets = [
        network(seed=seed, dies_before=dict.fromkeys(lost, FullShare))
        for seed, lost in enumerate(["", "a", "a", "b"])
    ]
    everybody, without_a, again, without_b = [sharing.aggregate().included for sharing in sets]
    assert without_a == again
    assert len({everybody, without_a, without_b}) == 3


def test_a_value_out_of_range_voids_and_names_nobody() -> None:
    rows = {name: floats(1.0) for name in "abc"} | {"d": floats(np.nan)}
    run = network(rows, voids=True).run()
    assert isinstance(failure(run), VoidedError)
    assert all(isinstance(failure(run, party), AbortedError) for party in ("a", "d", CONVENER, OTHER))


# What the coordinator can see


def numbered(n: int) -> dict[str, Contribution]:
    return {f"site-{i}": ARRAYS["b"] for i in range(n)}


@pytest.mark.parametrize("n_aggregators", [2, 3])
def test_frames_of_the_coordinator_are_the_same_for_3_and_for_9_holders(n_aggregators: int) -> None:
    protocol = AdditiveSharing(n_aggregators, at_most=9)
    few, many = (of_coordinator(network(numbered(n), protocol=protocol).run()) for n in (3, 9))
    assert sorted(few) == sorted(many)
    assert len(few) == n_aggregators + 3


def test_losses_do_not_show_in_frames_of_the_coordinator() -> None:
    lost = dict.fromkeys(["site-1", "site-4"], FullShare)
    few, many = network(numbered(3)), network(numbered(9), dies_before=lost)
    assert sorted(of_coordinator(few.run())) == sorted(of_coordinator(many.run()))


def test_without_a_bound_frames_of_the_coordinator_do_depend_on_the_number() -> None:
    few, many = (of_coordinator(Network(AdditiveSharing(), numbered(n)).run()) for n in (3, 9))
    assert len(many) > len(few)


FAILURES: dict[str, dict[str, Any]] = {
    "none": {},
    "a loss": {"dies_before": {"site-2": FullShare}},
    "too many losses": {"dies_before": dict.fromkeys(["site-0", "site-2"], FullShare)},
    "losses before anybody is ready": {"dies_after": {"site-0": 0, "site-1": 0}},
    "the other aggregator": {"dies_before": {OTHER: MissingShares}},
    "out of range": {"contributions": numbered(3) | {"site-3": {"wide": np.array([np.nan])}}},
    "other arrays": {"contributions": numbered(3) | {"site-3": integers(1)}},
    "an altered share": {
        "faults": {
            "tamper": lambda sent: (
                dataclasses.replace(sent.message, vectors=())
                if isinstance(sent.message, FullShare)
                else sent.message
            )
        }
    },
    "a liar": {
        "faults": {
            "tamper": lambda sent: (
                dataclasses.replace(sent.message, holder="site-0")
                if isinstance(sent.message, Ready)
                else sent.message
            )
        }
    },
}


@pytest.mark.parametrize("fault", FAILURES)
def test_no_name_of_a_holder_comes_to_the_coordinator_whatever_happens(fault: str) -> None:
    options = {"contributions": numbered(4), **FAILURES[fault]}
    run = network(**options).run()
    told = [sent.message for sent in run.sent if sent.recipient == COORDINATOR]
    frames = [encode(message) for message in told]
    assert told
    for frame in frames:
        assert b"site-" not in frame.header + b"".join(buffer.tobytes() for buffer in frame.buffers)
    assert "site-" not in repr(run.outcomes[COORDINATOR])
    assert not any(message.lost for message in told if isinstance(message, Abort))


def test_no_party_but_an_aggregator_is_known_to_the_coordinators_session() -> None:
    sharing = network()
    assert set(accepted_by_asker(sharing.asked)) == {CONVENER, OTHER}
    assert set(sharing.asked) == {COORDINATOR, CONVENER, OTHER}


def test_encodings_are_proven_from_the_bound_and_not_from_the_number() -> None:
    """Three contributions of 16 bits fit into words of 32; as many as the bound allows may not."""
    for at_most, words in ((2**15, np.uint32), (2**20, np.uint64)):
        protocol = AdditiveSharing(at_most=at_most)
        run = network({n: floats(1.0) for n in "abc"}, protocol=protocol, encoding=FixedPoint(1.0, 15)).run()
        assert {share.vectors[0].dtype for share in messages(run, FullShare)} == {np.dtype(words)}
        assert {total.vectors[0].dtype for total in messages(run, ConvenedSum)} == {np.dtype(words)}


# Losses


def test_a_lost_holder_is_left_out_and_the_coordinator_is_not_told_who() -> None:
    sharing = network(dies_before={"b": FullShare})
    aggregate = sharing.aggregate()
    assert aggregate.arrays["x"].tolist() == [91, 205]
    assert sharing.released_over[CONVENER] == sharing.released_over[OTHER] == ("a", "c", "d")


def test_a_sum_over_everybody_or_nobody() -> None:
    run = network(everybody=True, dies_before={"b": FullShare}).run()
    found = failure(run)
    assert isinstance(found, DropoutError)
    assert not messages(run, ConvenedSum)
    assert network(everybody=True).aggregate().arrays["x"].tolist() == [94, 210]


def test_one_aggregator_is_enough_to_have_everybody_or_nobody() -> None:
    """A convener that begins with the minimum, and adds the shares of three of four, is alone with that."""

    class Greedy(AdditiveSharing):
        async def fix_parameters(self, *_: Any) -> AggregationParameters:
            return AggregationParameters(needed=3)

        async def aggregator(
            self, channel: Channel, opened: Any, keys: Any, memory: None, *, release: Any
        ) -> None:
            asked = dataclasses.replace(
                opened.invitation.protocol.invitation,
                protocol=dataclasses.replace(opened.invitation.protocol.invitation.protocol, everybody=False),
            )
            protocol = dataclasses.replace(opened.invitation.protocol, invitation=asked)
            invitation = dataclasses.replace(opened.invitation, protocol=protocol)
            lenient = dataclasses.replace(opened, invitation=invitation, needed=3)
            lenient.__dict__["binding"] = opened.binding
            await super().aggregator(channel, lenient, keys, memory, release=release)

    sharing = network(everybody=True, dies_before={"b": FullShare})
    greedy = Greedy(at_most=20)
    role = convener_role(greedy, sharing.keys[CONVENER], SALT, lambda _: None)
    sharing.around = {CONVENER: lambda _: role}
    run = sharing.run()
    assert {sent.sender for sent in run.sent if isinstance(sent.message, ConvenedSum)} == {CONVENER}
    assert isinstance(run.outcomes[COORDINATOR], Failed)


@pytest.mark.parametrize("kind", [Ready, FullShare])
def test_too_few_are_a_dropout_without_names_or_numbers(kind: type[Message]) -> None:
    run = network(dies_before=dict.fromkeys("ab", kind)).run()
    found = failure(run)
    assert isinstance(found, DropoutError)
    assert (found.needed, found.present, found.missing) == (3, (), ())
    assert "not told who" in str(found)
    assert {abort.reason for abort in messages(run, Abort) if not abort.lost} >= {HOLDERS_MISSING}


@pytest.mark.parametrize("aggregator", [CONVENER, OTHER])
def test_the_loss_of_an_aggregator_is_told_by_its_name(aggregator: PartyId) -> None:
    found = failure(network(dies_before={aggregator: MissingShares}).run())
    assert isinstance(found, DropoutError)
    assert found.missing == (aggregator,)


def test_a_refusal_has_a_reason_and_no_name() -> None:
    def declines(invitation: Invitation) -> None:
        raise Declined(NOT_IN_RANGE, "site a, row 3")

    for party in ("a", OTHER, CONVENER):
        found = failure(network(examining={party: declines}).run())
        assert isinstance(found, RefusedError)
        assert found.refusals == {UNNAMED: (NOT_IN_RANGE, "")}


def test_a_reason_that_is_not_of_the_list_does_not_pass() -> None:
    def declines(invitation: Invitation) -> None:
        raise Declined("we are 4 here")

    found = failure(network(examining={"a": declines}).run())
    assert isinstance(found, RefusedError)
    assert found.refusals == {UNNAMED: (NOT_ALLOWED, "")}


def test_arrays_that_differ_are_told_without_names() -> None:
    found = failure(network(ROWS | {"d": integers(1)}).run())
    assert isinstance(found, SetupError)
    assert str(found) == ARRAYS_DIFFER


# A convener that asks for itself


def resigned(sharing: ConvenedNetwork, invitation: Invitation, **change: Any) -> Invitation:
    return signed(dataclasses.replace(invitation, **change), identity(CONVENER))


def commissioned(invitation: Invitation) -> Commissioned:
    assert isinstance(invitation.protocol, Commissioned)
    return invitation.protocol


def with_asked(sharing: ConvenedNetwork, invitation: Invitation, **change: Any) -> Invitation:
    """The coordinator's word with something changed, signed by the convener, who has no other key."""
    asked = signed(dataclasses.replace(commissioned(invitation).invitation, **change), identity(CONVENER))
    rest = {name: value for name, value in change.items() if name in {"query", "encoding", "definition"}}
    return resigned(
        sharing, invitation, protocol=dataclasses.replace(commissioned(invitation), invitation=asked), **rest
    )


def of_another_session(sharing: ConvenedNetwork, invitation: Invitation) -> Invitation:
    earlier = dataclasses.replace(commissioned(invitation), invitation=network(seed=99).invitation())
    return resigned(sharing, invitation, protocol=earlier)


OTHER_QUERY = Query(step="sum", arrays={"factor": np.array(2)})
FORGERIES: dict[str, Callable[[ConvenedNetwork, Invitation], Invitation]] = {
    "another question": lambda n, i: resigned(n, i, query=OTHER_QUERY),
    "another encoding": lambda n, i: resigned(n, i, encoding=FixedPoint(1.0)),
    "another model": lambda n, i: resigned(n, i, definition=b"\1" * 32),
    "a forged question": lambda n, i: with_asked(n, i, query=OTHER_QUERY),
    "a forged commission": lambda n, i: with_asked(n, i, protocol=n.commission()),
    "another salt": lambda n, i: resigned(
        n, i, protocol=dataclasses.replace(commissioned(i), salt=b"\1" * 32)
    ),
    "a commission for another session": of_another_session,
    "no commission": lambda n, i: resigned(n, i, protocol=n.protocol.options),
    "other options": lambda n, i: resigned(n, i, protocol=AdditiveSharingOptions(aggregators=2, colluding=1)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_whoever_is_invited_sees_that_the_coordinator_has_not_asked_for_it(forgery: str) -> None:
    sharing = network()

    def tamper(sent: Sent) -> Message:
        if sent.sender != CONVENER or not isinstance(sent.message, Invitation):
            return sent.message
        return FORGERIES[forgery](sharing, sent.message)

    sharing = network(faults={"tamper": tamper})
    run = sharing.run()
    for party in (*ROWS, OTHER):
        outcome = run.outcomes[PartyId(party)]
        if isinstance(outcome, Failed) and isinstance(outcome.error, InvalidMessageError):
            assert outcome.error.culprits == (CONVENER,)
    assert not messages(run, FullShare)
    assert not [sent for sent in run.sent if isinstance(sent.message, Ready)]
    refused = [answer.reason for answer in messages(run, Refusal)]
    assert refused == [NOT_ALLOWED] * len(refused)
    assert isinstance(run.outcomes[COORDINATOR], Failed)


def roster_without(sharing: ConvenedNetwork, holder: str) -> Roster:
    return sharing.roster.without([holder])


def commission_of_other_holders(sharing: ConvenedNetwork) -> Commission:
    fewer = roster_without(sharing, "d")
    return dataclasses.replace(sharing.commission(), commitment=commitment_to(fewer, SALT))


def test_a_commitment_to_other_holders_is_refused_by_the_convener() -> None:
    sharing = network(salt=b"\1" * 32)
    run = sharing.run()
    found = failure(run, CONVENER)
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (COORDINATOR,)
    assert {sent.recipient for sent in run.sent if isinstance(sent.message, Invitation)} == {CONVENER}


def test_holders_refuse_a_commitment_to_others_though_the_convener_does_not() -> None:
    """The coordinator itself is committed to fewer holders than are invited, and the convener plays along."""
    sharing = network()

    def tamper(sent: Sent) -> Message:
        if sent.sender != CONVENER or not isinstance(sent.message, Invitation):
            return sent.message
        part = commissioned(sent.message)
        asked = dataclasses.replace(part.invitation, protocol=commission_of_other_holders(sharing))
        genuine = signed(asked, identity(COORDINATOR))
        return resigned(sharing, sent.message, protocol=dataclasses.replace(part, invitation=genuine))

    run = network(faults={"tamper": tamper}).run()
    assert isinstance(failure(run), AbortedError)
    assert not messages(run, Ready)


def test_other_aggregators_than_the_coordinators_are_refused() -> None:
    sharing, other = network(), AdditiveSharing(at_most=20)
    strange = network(protocol=dataclasses.replace(other, aggregators=3))

    def tamper(sent: Sent) -> Message:
        if sent.sender != COORDINATOR or not isinstance(sent.message, Invitation):
            return sent.message
        roster = strange.asked.parties
        return signed(dataclasses.replace(sent.message, roster=roster), identity(COORDINATOR))

    sharing = network(faults={"tamper": tamper})
    found = failure(sharing.run(), CONVENER)
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == (COORDINATOR,)


# Aggregators that tell different stories


def altered_sum(sender: PartyId, **change: Any) -> dict[str, Any]:
    def tamper(sent: Sent) -> Message:
        altered = isinstance(sent.message, ConvenedSum) and sent.sender == sender
        return dataclasses.replace(sent.message, **change) if altered else sent.message  # type: ignore[type-var]

    return {"tamper": tamper}


@pytest.mark.parametrize(
    ("change", "blames_both"),
    [
        ({"session": bytes(32)}, False),
        ({"at_least": 4}, False),
        ({"at_least": 1}, False),
        ({"flag": np.zeros(2, np.uint64)}, False),
        ({"vectors": ()}, False),
        ({"convened": bytes(32)}, True),
        ({"included": bytes(32)}, True),
    ],
    ids=str,
)
def test_sums_that_do_not_agree_are_not_added(change: dict[str, Any], blames_both: bool) -> None:
    found = failure(network(faults=altered_sum(OTHER, **change)).run())
    assert isinstance(found, InvalidMessageError)
    assert (found.culprits, found.suspects) == (((), (CONVENER, OTHER)) if blames_both else ((OTHER,), ()))


def test_a_sum_over_fewer_is_no_sum_over_everybody() -> None:
    fewer = commitment_to(roster_without(network(), "d"), SALT)

    def tamper(sent: Sent) -> Message:
        told = isinstance(sent.message, ConvenedSum)
        return dataclasses.replace(sent.message, included=fewer) if told else sent.message  # type: ignore[type-var]

    found = failure(network(everybody=True, faults={"tamper": tamper}).run())
    assert isinstance(found, InvalidMessageError)
    assert found.suspects == (CONVENER, OTHER)


# The same question over one holder fewer


@pytest.mark.parametrize("honest", [CONVENER, OTHER])
def test_each_aggregator_remembers_over_whom_a_question_was_answered(honest: PartyId) -> None:
    """The convener too, which stands in the coordinator's place."""
    memory = ReleaseMemory(honest, network().roster)

    def examine(invitation: Invitation) -> None:
        if not memory.allows(invitation, dispensable=len(invitation.roster)):
            raise Declined(ALREADY_RELEASED)

    def once(seed: int, **options: Any) -> Run:
        return network(
            seed=seed, examining={honest: examine}, releasing={honest: memory.record}, **options
        ).run()

    assert isinstance(once(1).result(COORDINATOR), ConvenedAggregate)
    assert isinstance(once(2).result(COORDINATOR), ConvenedAggregate)
    run = once(3, dies_before={"d": FullShare})
    assert isinstance(failure(run), AbortedError | RefusedError)
    assert honest not in {sent.sender for sent in run.sent if isinstance(sent.message, ConvenedSum)}


# Options


@pytest.mark.parametrize("at_most", [0, 1, 2, -1, 2.5, "9", 2**32])
def test_a_bound_out_of_range_is_refused(at_most: Any) -> None:
    with pytest.raises(SetupError, match="whole number from 3"):
        AdditiveSharing(at_most=at_most)


def test_a_bound_below_the_minimum_is_refused() -> None:
    with pytest.raises(SetupError, match="from 6"):
        AdditiveSharing(colluding=4, at_most=5)


def test_more_holders_than_the_bound_are_refused() -> None:
    AdditiveSharing(at_most=4).check_number(4)
    with pytest.raises(SetupError, match="at_most=4"):
        AdditiveSharing(at_most=4).check_number(5)


def test_options_travel() -> None:
    protocol = AdditiveSharing(3, colluding=2, at_most=40)
    assert protocol_from(protocol.options) == protocol
    sharing = network(protocol=protocol)
    assert protocol_from(sharing.commission()) == protocol
    assert protocol_from(Commissioned(invitation=sharing.invitation(), salt=SALT)) == protocol


def test_a_convener_without_a_commission_is_refused() -> None:
    invitation = Network(AdditiveSharing(), ROWS).invitation()
    with pytest.raises(SetupError, match="commission"):
        options_of(Commissioned(invitation=invitation, salt=SALT))


def test_no_other_protocol_takes_a_roster_with_an_asker() -> None:
    with pytest.raises(SetupError, match="at_most"):
        AdditiveSharing().check_roster(network().roster)
    with pytest.raises(SetupError, match="at_most"):
        AdditiveSharing(at_most=9).check_roster(Network(AdditiveSharing(), ROWS).roster)


def test_a_convener_convenes_for_somebody() -> None:
    keys = Network(AdditiveSharing(), ROWS).keys[COORDINATOR]
    role = convener_role(AdditiveSharing(at_most=9), keys, SALT, lambda _: None)
    assert isinstance(failure(network(around={CONVENER: lambda _: role}).run(), CONVENER), SetupError)


def test_the_cost_foretold_is_the_cost_measured() -> None:
    run = three()
    begun = messages(run, Convened)[0]
    assert len(begun.arrays) == 1
    rounds = {type(sent.message).__name__ for sent in run.sent} - {"Finished", "Convened"}
    assert (
        AdditiveSharing(at_most=9).cost(3, ()).rounds == len(rounds) + 1
    )  # two invitations, one after the other


def test_what_is_trusted_is_said() -> None:
    protocol = AdditiveSharing(at_most=9)
    assert "at least 3" in str(protocol.trust)
    assert len(protocol.attacks) > len(AdditiveSharing().attacks)


def test_sessions_take_no_kinds_from_parties_without_a_part() -> None:
    sharing = network()
    assert COORDINATOR not in accepted_by_holder(sharing.protocol, sharing.roster, PartyId("a"))
    by_other = accepted_by_aggregator(sharing.protocol, sharing.roster, OTHER)
    assert by_other[COORDINATOR] == frozenset()
    assert MissingShares in by_other[CONVENER]
    assert Begin in by_other[CONVENER]


def telling_twice(role: Role[Any]) -> Role[Any]:
    """A holder that says two different things in one slot."""

    async def liar(channel: Channel) -> Any:
        send = channel.send

        def both(to: PartyId, message: Message) -> None:
            send(to, message)
            if isinstance(message, Ready):
                send(to, dataclasses.replace(message, invitation=bytes(32)))

        channel.send = both  # type: ignore[method-assign]
        return await role(channel)

    return liar


def test_a_session_that_is_closed_from_outside_the_role_is_told_without_a_name() -> None:
    run = network(around={"a": telling_twice}, faults={"delays": (0.001, 0.02)}).run()
    assert isinstance(failure(run, CONVENER), EquivocationError | InvalidMessageError)
    (told,) = (sent.message for sent in run.sent if (sent.sender, sent.recipient) == (CONVENER, COORDINATOR))
    assert isinstance(told, Abort)
    assert told.lost == ()
    assert isinstance(failure(run), AbortedError)
