"""Which questions a holder answers again: never so that two sums differ by one holder."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from networks import COORDINATOR, Contribution, Network, integers, messages
from reachable import reachable
from tacit.protocols.errors import AbortedError, DropoutError, EquivocationError, MisuseError, RefusedError
from tacit.protocols.invitation import (
    ALREADY_RELEASED,
    NO_SIGNATURE,
    Declined,
    Prepared,
    invite,
    is_signed,
    prepare,
    signed,
)
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import Aggregate, holder_role
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.session import Failed
from tacit.protocols.simulation import Run
from tacit.records.release_memory import EXAMINED_KEPT, ReleaseMemory
from tacit.serialization.ring_paillier_messages import PartialSum
from tacit.serialization.session_messages import Closed, Invitation, Query

RING = RingPaillier.insecure_for_tests()
NAMES = ("k", "a", "b", "c", "d")
IDENTITIES = {
    name: Identity(name, "coordinator" if name == "k" else "holder", random.Random(name).randbytes)
    for name in NAMES
}
ROSTER = Roster(tuple(IDENTITIES[name].public for name in NAMES))
ME = PartyId("a")
FIRST, SECOND, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))


def invitation(
    session: bytes = FIRST,
    *,
    lost: Iterable[str] = (),
    theta: float = 1.0,
    previous: Iterable[Closed] = (),
    **changes: Any,
) -> Invitation:
    """The coordinator's invitation to everybody but the lost, at a point theta."""
    roster = ROSTER.without(tuple(lost))
    keys = SessionKeys(IDENTITIES["k"], roster, session, random.Random(1).randbytes)
    invited = invite(
        keys,
        protocol=RING.options,
        encoding=None,
        definition=bytes(32),
        query=Query(step="sum", arrays={"theta": np.array([theta])}),
        previous=tuple(previous),
    )
    return dataclasses.replace(invited, **changes)


def word(
    holder: str, session: bytes = FIRST, *, forwarded: bool = False, signer: str | None = None
) -> Closed:
    """A holder's signed word that it had (or had not) released anything."""
    unsigned = Closed(session=session, holder=holder, forwarded=forwarded, signature=NO_SIGNATURE)
    return signed(unsigned, IDENTITIES[signer or holder])


def record(memory: ReleaseMemory, invited: Invitation) -> None:
    """Record a release over everybody who was invited."""
    memory.record(invited, Roster(invited.roster).holders)


def memory_of(*released: Invitation) -> ReleaseMemory:
    memory = ReleaseMemory(ME, ROSTER)
    for invited in released:
        assert memory.allows(invited, dispensable=1)
        record(memory, invited)
    return memory


def test_sets_of_parties_are_kept_once_and_not_for_every_release() -> None:
    def kept(n_releases: int) -> int:
        invited = [invitation(bytes([n]) * 32, theta=float(n)) for n in range(n_releases)]
        return sum(isinstance(found, frozenset) for found in reachable(memory_of(*invited)))

    assert kept(9) == kept(3)


def test_a_first_question_is_answered() -> None:
    assert ReleaseMemory(ME, ROSTER).allows(invitation(), dispensable=1)


def test_the_same_question_over_the_same_set_is_answered_again() -> None:
    assert memory_of(invitation()).allows(invitation(SECOND), dispensable=1)


@pytest.mark.parametrize("lost", ["b", "c", "d"])
def test_the_same_question_over_one_holder_fewer_is_refused(lost: str) -> None:
    assert not memory_of(invitation()).allows(invitation(SECOND, lost=[lost]), dispensable=1)


def test_the_same_question_over_one_holder_more_is_refused() -> None:
    assert not memory_of(invitation(lost=["d"])).allows(invitation(SECOND), dispensable=1)


def test_a_different_question_over_another_set_is_answered() -> None:
    assert memory_of(invitation()).allows(invitation(SECOND, lost=["d"], theta=2.0), dispensable=1)


def test_another_model_is_a_different_question() -> None:
    other = invitation(SECOND, lost=["d"], definition=b"\x01" * 32)
    assert memory_of(invitation()).allows(other, dispensable=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"query": Query(step="renamed", arrays={"theta": np.array([1.0])})},
        {"query": Query(step="sum", arrays={"theta": np.array([1.0])}, may_fail=True)},
        {"protocol": RingPaillier(2048).options},
        {"ephemeral": bytes(32)},
    ],
    ids=["step", "may_fail", "protocol", "key"],
)
def test_a_question_in_other_clothes_is_the_same_question(changes: dict[str, Any]) -> None:
    assert not memory_of(invitation()).allows(invitation(SECOND, lost=["d"], **changes), dispensable=1)


# The signed word of those who had released nothing


@pytest.mark.parametrize(
    ("words", "colluding", "allowed"),
    [
        ([], 1, False),
        ([word("b")], 1, False),
        ([word("b"), word("c")], 1, True),
        ([word("b"), word("c")], 2, False),
        ([word("b"), word("c"), word("a")], 2, True),
        ([word("b"), word("b")], 1, False),
        ([word("b"), word("c", forwarded=True)], 1, False),
        ([word("b"), word("c", signer="b")], 1, False),
        ([word("b"), dataclasses.replace(word("c", forwarded=True), forwarded=False)], 1, False),
        ([word("b"), word("c", session=SECOND)], 1, False),
        ([word("b"), dataclasses.replace(word("c", session=SECOND), session=FIRST)], 1, False),
        ([word("b"), word("k")], 1, False),
        ([word("b"), word("x", signer="b")], 1, False),
        ([word("d"), word("c")], 1, True),
    ],
    ids=[
        "none",
        "one, who may collude",
        "two",
        "two, when two may collude",
        "three, when two may collude",
        "one holder twice",
        "one had released",
        "one signed by another",
        "one altered after signing",
        "one of another session",
        "one moved to this session",
        "the coordinator's",
        "a stranger's",
        "one of the lost one itself",
    ],
)
def test_enough_true_words_and_no_others_allow_a_smaller_set(
    words: list[Closed], colluding: int, allowed: bool
) -> None:
    again = invitation(SECOND, lost=["d"], previous=words)
    assert memory_of(invitation()).allows(again, dispensable=colluding) == allowed


def test_every_earlier_session_has_to_be_accounted_for() -> None:
    memory = memory_of(invitation(FIRST), invitation(SECOND))
    words = [word("b", FIRST), word("c", FIRST)]
    assert not memory.allows(invitation(THIRD, lost=["d"], previous=words), dispensable=1)
    words += [word("b", SECOND), word("c", SECOND)]
    assert memory.allows(invitation(THIRD, lost=["d"], previous=words), dispensable=1)


def test_a_holder_that_is_not_pinned_counts_for_nothing() -> None:
    # An invitation may name anybody; a word counts only under an identity that is pinned here.
    memory = ReleaseMemory(ME, ROSTER.without(["c"]))
    memory.allows(invitation(), dispensable=1)
    record(memory, invitation())
    words = [word("b"), word("c")]
    assert not memory.allows(invitation(SECOND, lost=["d"], previous=words), dispensable=1)


# Two sessions at once


def test_two_sessions_at_once_over_two_sets_release_only_one() -> None:
    memory = ReleaseMemory(ME, ROSTER)
    over_all, over_fewer = invitation(FIRST), invitation(SECOND, lost=["d"])
    assert memory.allows(over_all, dispensable=1)
    assert memory.allows(over_fewer, dispensable=1), "nothing is released yet"
    record(memory, over_all)
    with pytest.raises(EquivocationError) as caught:
        record(memory, over_fewer)
    assert caught.value.culprits == ("k",)


def test_fewer_are_left_than_released_it_before() -> None:
    # The first sum was over all; when the second is to be unmasked, somebody is gone: the difference would be theirs.
    memory = memory_of(invitation(FIRST))
    again = invitation(SECOND)
    assert memory.allows(again, dispensable=1)
    with pytest.raises(AbortedError, match=ALREADY_RELEASED):
        memory.record(again, [PartyId(name) for name in "abc"])


def test_what_was_released_over_those_left_is_not_released_over_all() -> None:
    memory = ReleaseMemory(ME, ROSTER)
    memory.allows(invitation(FIRST), dispensable=1)
    memory.record(invitation(FIRST), [PartyId(name) for name in "abc"])
    assert not memory.allows(invitation(SECOND), dispensable=1)
    assert memory.allows(invitation(THIRD, lost=["d"]), dispensable=1)


def test_of_many_sessions_at_once_in_threads_only_one_set_is_released() -> None:
    memory = ReleaseMemory(ME, ROSTER)
    asked = [invitation(bytes([9, n]) * 16, lost=["bcd"[n % 3]]) for n in range(24)]
    assert all(memory.allows(invited, dispensable=1) for invited in asked)
    released: list[tuple[str, ...]] = []
    barrier = threading.Barrier(len(asked))

    def release(invited: Invitation) -> None:
        barrier.wait()
        try:
            record(memory, invited)
        except EquivocationError:
            return
        released.append(tuple(Roster(invited.roster).holders))

    threads = [threading.Thread(target=release, args=(invited,)) for invited in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(released)) == 1
    assert len(released) == 8


def test_a_release_is_recorded_only_after_it_was_examined() -> None:
    with pytest.raises(MisuseError):
        record(ReleaseMemory(ME, ROSTER), invitation())


def test_a_release_shrinks_to_those_in_the_sum_and_never_grows() -> None:
    # Shares were dealt over all; then it turned out that d's had not come.
    memory = memory_of(invitation(FIRST))
    memory.record(invitation(FIRST), [PartyId(name) for name in "abc"])
    assert not memory.allows(invitation(SECOND), dispensable=1)
    assert memory.allows(invitation(THIRD, lost=["d"]), dispensable=1)
    with pytest.raises(MisuseError):
        record(memory, invitation(FIRST))


def test_a_release_does_not_shrink_to_a_set_that_isolates_a_holder() -> None:
    # All was summed before: the shares of a second session are added over all again, or not at all.
    memory = memory_of(invitation(FIRST), invitation(SECOND))
    with pytest.raises(AbortedError, match=ALREADY_RELEASED):
        memory.record(invitation(SECOND), [PartyId(name) for name in "abc"])
    memory.record(invitation(SECOND), [PartyId(name) for name in "abcd"])


def test_what_was_refused_cannot_be_recorded() -> None:
    memory = memory_of(invitation())
    smaller = invitation(SECOND, lost=["d"])
    assert not memory.allows(smaller, dispensable=1)
    with pytest.raises(MisuseError):
        record(memory, smaller)


def test_sessions_that_never_released_do_not_pile_up() -> None:
    memory = ReleaseMemory(ME, ROSTER)
    asked = invitation()
    for n in range(EXAMINED_KEPT + 5):
        memory.allows(dataclasses.replace(asked, session=n.to_bytes(32, "big")), dispensable=1)
    assert len(memory._examined) == EXAMINED_KEPT


# With noise drawn for each session


def test_releases_over_the_same_holders_share_the_set() -> None:
    memory = memory_of(*(invitation(session=bytes([n]) * 32, theta=n) for n in range(3)))
    first, *others = memory._releases.values()
    assert all(release.holders is first.holders for release in others)


def noised(*released: Invitation) -> ReleaseMemory:
    memory = ReleaseMemory(ME, ROSTER)
    for invited in released:
        assert memory.allows(invited, dispensable=1, noised=True)
        record(memory, invited)
    return memory


def test_a_noised_question_is_answered_over_any_set() -> None:
    memory = noised(invitation(), invitation(SECOND, lost=["d"]), invitation(THIRD, lost=["b"]))
    assert memory.allows(invitation(bytes(32), lost=["c"]), dispensable=1, noised=True)


def test_noise_of_one_session_covers_one_set() -> None:
    memory = noised(invitation())
    memory.record(invitation(), [PartyId(name) for name in "abc"])
    for holders in ("abd", "abcd"):
        with pytest.raises(MisuseError, match="never grows"):
            memory.record(invitation(), [PartyId(name) for name in holders])


def test_noise_frees_no_question_without_it() -> None:
    memory = memory_of(invitation())
    assert memory.allows(invitation(SECOND, lost=["d"]), dispensable=1, noised=True)
    record(memory, invitation(SECOND, lost=["d"]))
    assert not memory.allows(invitation(THIRD, lost=["d"]), dispensable=1)


# The whole story, in the simulator

FOUR: dict[str, Contribution] = {name: integers(n) for n, name in enumerate("abcd", start=1)}


class Study:
    """Four holders with their memories, over as many sessions as it takes."""

    def __init__(self) -> None:
        self.releases = {name: ReleaseMemory(ME, ROSTER) for name in "abcd"}
        self.memories: dict[str, Any] = {name: RING.memory() for name in NAMES}

    def session(
        self,
        holders: str,
        *,
        seed: int,
        previous: tuple[Closed, ...] = (),
        dies: str = "",
    ) -> Run:
        network = Network(
            RING,
            {name: FOUR[name] for name in holders},
            seed=seed,
            previous=previous,
            dies_before=dict.fromkeys(dies, PartialSum),
            memories=self.memories,
            identities={name: IDENTITIES[name] for name in ("k", *holders)},
        )
        network.roles = {name: self.role(network, name) for name in holders}
        return network.run()

    def role(self, network: Network, name: str) -> Callable[..., Any]:
        releases = self.releases[name]

        def examine(asked: Invitation) -> Prepared:
            if not releases.allows(asked, dispensable=RING.colluding):
                raise Declined(ALREADY_RELEASED)
            return prepare(network.contributions[name], None, len(network.contributions), void=False)

        keys, memory = network.keys[PartyId(name)], self.memories[name]
        return holder_role(RING, keys, examine, memory, releases.record)


def loss_in(run: Run) -> DropoutError:
    outcome = run.outcomes[COORDINATOR]
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, DropoutError), outcome.error
    return outcome.error


def ring_of(run: Run) -> list[str]:
    """Those who sent or got a partial sum, in order."""
    return [sent.recipient for sent in run.sent if isinstance(sent.message, PartialSum)]


def broken(place: int) -> tuple[Study, Run, str]:
    """A study whose session broke when the holder in that place of the ring died before its hop."""
    study = Study()
    order = ring_of(study.session("abcd", seed=1))[:-1]  # the order follows from the seed
    study = Study()
    return study, study.session("abcd", seed=1, dies=order[place]), order[place]


@pytest.mark.parametrize("place", range(4))
def test_survivors_say_truly_whether_they_had_forwarded(place: int) -> None:
    _, run, _ = broken(place)
    loss = loss_in(run)
    forwarded = [s.sender for s in run.sent if isinstance(s.message, PartialSum) and s.sender != "k"]
    assert {closed.holder for closed in loss.closed} == set("abcd") - set(loss.missing)
    for closed in loss.closed:
        assert is_signed(closed, ROSTER, PartyId(closed.holder))
        assert closed.forwarded == (closed.holder in forwarded)


@pytest.mark.parametrize(("place", "allowed"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_new_ring_without_the_lost_if_enough_had_not_forwarded(place: int, allowed: bool) -> None:
    study, run, lost = broken(place)
    loss = loss_in(run)
    assert loss.missing == (lost,)
    survivors = "".join(sorted(set("abcd") - {lost}))
    again = study.session(survivors, seed=2, previous=loss.closed)
    outcome = again.outcomes[COORDINATOR]
    if allowed:
        total = again.result("k")
        assert isinstance(total, Aggregate)
        assert total.arrays["x"] == [sum(FOUR[name]["x"][0] for name in survivors)]
        return
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, RefusedError)
    assert {reason for reason, _ in outcome.error.refusals.values()} == {ALREADY_RELEASED}
    assert not messages(again, PartialSum)


def test_without_their_words_no_new_ring_once_somebody_has_forwarded() -> None:
    study, _, lost = broken(1)
    survivors = "".join(sorted(set("abcd") - {lost}))
    again = study.session(survivors, seed=2)
    outcome = again.outcomes[COORDINATOR]
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, RefusedError)


def test_after_a_finished_session_no_smaller_one_whatever_the_coordinator_claims() -> None:
    study = Study()
    assert isinstance(study.session("abcd", seed=1).result("k"), Aggregate)
    session = Network(RING, FOUR, seed=1).session
    forged = tuple(word(name, session, signer="k") for name in "abc")
    outcome = study.session("abc", seed=2, previous=forged).outcomes[COORDINATOR]
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, RefusedError)
