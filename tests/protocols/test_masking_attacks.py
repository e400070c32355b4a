"""Attacks on pairwise masking by real adversaries: each is stopped, and opens an input where its step is taken out.

The adversary is the coordinator, if nothing else is said: it routes every message, so it has all of them.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import COORDINATOR, Contribution, Network, integers, messages
from tacit.protocols import invitation, masking_epoch, masking_set_up, shamir_bytes
from tacit.protocols.channel import Channel
from tacit.protocols.encoding import IntegerArray
from tacit.protocols.errors import (
    AbortedError,
    DropoutError,
    EquivocationError,
    InvalidMessageError,
    MisuseError,
    RefusedError,
    VoidedError,
)
from tacit.protocols.graph import Neighbourhood
from tacit.protocols.invitation import (
    ALREADY_RELEASED,
    Declined,
    Opened,
    Opening,
    Prepared,
    open_session,
    signed,
)
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.masking_epoch import NONCE, Dealings, Graph, cut, forward_shares
from tacit.protocols.masking_set_up import gathered
from tacit.protocols.masking_steps import (
    mask_input,
    mask_key,
    masks_of,
    sign_of,
    unmask,
)
from tacit.protocols.pairwise_masking import MaskingMemory, PairwiseMasking
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import holder_role
from tacit.protocols.running_sum import total_of
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import Run, Sent
from tacit.records.release_memory import ReleaseMemory
from tacit.serialization.pairwise_masking_messages import (
    DealtShares,
    ForwardedCodes,
    MaskedInput,
    MaskingParameters,
    ReceivedShares,
    SurvivorCodes,
    Survivors,
    UnmaskingShares,
)
from tacit.serialization.schema import Message
from tacit.serialization.session_messages import Begin, Invitation, Query, Ready

ACTIVE = PairwiseMasking(epoch=4)
CURIOUS = PairwiseMasking(epoch=4, active=False)
WEAK = PairwiseMasking(epoch=4, active=False, threshold=3)  # of six: enough against who follows the protocol
SIX: dict[str, Contribution] = {name: integers(10**i, -i) for i, name in enumerate("abcdef")}
FIVE: dict[str, Contribution] = {name: SIX[name] for name in "abcde"}


def party(name: str) -> PartyId:
    return PartyId(name)


def failure(run: Run, name: str = "k") -> Exception:
    outcome = run.outcomes[party(name)]
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def refused_by(run: Run, names: str) -> InvalidMessageError:
    """All of these found the coordinator out."""
    errors = [failure(run, name) for name in names]
    assert all(isinstance(error, InvalidMessageError) for error in errors)
    assert all("k" in (*error.culprits, *error.suspects) for error in errors)  # type: ignore[attr-defined]
    found = errors[0]
    assert isinstance(found, InvalidMessageError)
    return found


# The adversary's tools


Script = Callable[[Channel, Opened, Dealings], Any]


def lying(network: Network, script: Script, *, dealers: Mapping[str, str] | None = None) -> Network:
    """Put a coordinator that opens a session as it should, then does as its script says.

    `dealers` is what it tells each holder of who has dealt, if not the truth.
    """

    async def role(channel: Channel) -> Any:
        async def fix(opening: Opening) -> Message:
            return MaskingParameters(epoch=opening.session, index=0)

        n_holders = len(network.contributions)
        opened = await open_session(
            channel,
            network.keys["k"],
            network.invitation(),
            fix,
            needed=network.protocol.needed(n_holders),
        )
        neighbourhood = Neighbourhood(n_holders - 1, network.protocol.needed(n_holders))
        graph = masking_set_up._graph(opened, neighbourhood, {})
        dealt = await gathered(channel, opened, DealtShares, opened.present)
        dealings = Dealings(opened.session, b"", graph, dealt, ())
        for holder in opened.present:
            told = dealt if dealers is None else {v: dealt[v] for v in opened.present if v in dealers[holder]}
            shown = dataclasses.replace(dealings, dealt=told)
            channel.send(holder, forward_shares(opened, shown, holder))
        return await script(channel, opened, dealings)

    network.roles = {"k": role}
    return network


async def tell(
    channel: Channel, opened: Opened, told: Mapping[str, str], answering: Collection[str] | None = None
) -> dict[PartyId, UnmaskingShares]:
    """Tell each holder other survivors, relay all codes truly, and collect what shares come."""
    for holder, survivors in told.items():
        names = tuple(survivors)
        channel.send(party(holder), Survivors(session=opened.session, survivors=names))
    if opened.invitation.protocol.active:  # type: ignore[attr-defined]
        codes = await channel.gather(SurvivorCodes, senders=[party(h) for h in told], at_least=0, within=9.0)
        for holder, survivors in told.items():
            rows = np.zeros((len(survivors), 32), dtype=np.uint8)
            for row, sender in enumerate(survivors):
                if holder in told.get(sender, "") and party(sender) in codes:
                    rows[row] = codes[party(sender)].codes[told[sender].index(holder)]
            channel.send(party(holder), ForwardedCodes(session=opened.session, codes=rows))
    senders = [party(holder) for holder in answering or told]
    return await channel.gather(UnmaskingShares, senders=senders, at_least=0, within=9.0)


def secret_of(
    dealings: Dealings, dealer: str, answers: Mapping[PartyId, UnmaskingShares], seen: Mapping[str, str]
) -> bytes:
    """What the shares of a dealer's secret give; `seen` says which dealers each holder was told of."""
    points, shares = [], []
    for point, keeper in enumerate(dealings.graph.keepers[party(dealer)], start=1):
        if keeper in answers and dealer in seen[keeper]:
            points.append(point)
            shares.append(answers[keeper].shares[seen[keeper].index(dealer)])
    assert len(points) >= dealings.graph.threshold, "too few shares to open anything"
    return bytes(shamir_bytes.interpolate(points, np.stack(shares)))


def pair_seeds(dealings: Dealings, dealer: str, opening_key: bytes, index: int = 0) -> dict[PartyId, bytes]:
    locked = dealings.dealt[party(dealer)].locked_seeds[index]
    seeds = cut(AESGCM(opening_key).decrypt(NONCE, locked, None))
    return dict(zip(dealings.graph.neighbours[party(dealer)], seeds, strict=True))


def taken_off(
    opened: Opened, masked: MaskedInput, dealer: str, own: bytes, seeds: Mapping[PartyId, bytes]
) -> list[int]:
    """One holder's masked input without its masks: what it has put in, if these are all of them."""
    masks = [(mask_key(own, opened), -1)]
    masks += [(mask_key(seed, opened), -sign_of(party(dealer), peer)) for peer, seed in seeds.items()]
    vectors = [masked.flag.copy(), *(vector.copy() for vector in masked.vectors)]
    (words,) = unmask(vectors, masks)
    encoding = opened.encodings[0]
    assert isinstance(encoding, IntegerArray)
    values: list[int] = encoding.decode(words).tolist()
    return values


# Both secrets of a holder


def split_survivors(target: str, half: str, others: str) -> Script:
    """One half is told that the target survives, the other that it does not."""

    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> list[int]:
        inputs = await gathered(channel, opened, MaskedInput, opened.present)
        told = dict.fromkeys(half, half) | dict.fromkeys(others, others)
        answers = await tell(channel, opened, told)
        seen = dict.fromkeys("abcdef", "abcdef")
        alive = {holder: answers[holder] for holder in answers if holder in half}
        lost = {holder: answers[holder] for holder in answers if holder in others}
        own = secret_of(dealings, target, alive, seen)
        seeds = pair_seeds(dealings, target, secret_of(dealings, target, lost, seen))
        return taken_off(opened, inputs[party(target)], target, own, seeds)

    return script


@pytest.mark.parametrize("target", "af")
def test_without_codes_a_split_view_of_the_survivors_opens_an_input(target: str) -> None:
    half, others = ("abc", "def") if target == "a" else ("def", "abc")
    run = lying(Network(WEAK, SIX), split_survivors(target, half, others)).run()
    assert run.result("k") == SIX[target]["x"].tolist(), "a single holder's input"


def test_with_codes_a_split_view_of_the_survivors_is_found_out() -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> int:
        await gathered(channel, opened, MaskedInput, opened.present)
        told = {holder: "abcdef" if holder in "abc" else "bcdef" for holder in "abcdef"}
        return len(await tell(channel, opened, told))

    run = lying(Network(ACTIVE, SIX), script).run()
    assert run.result("k") == 0
    refused_by(run, "abcdef")
    assert not messages(run, UnmaskingShares)


def test_with_codes_as_many_as_the_threshold_go_on_and_open_nothing() -> None:
    # Five of six are enough; the sixth, told otherwise, gives nothing.
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> set[str]:
        await gathered(channel, opened, MaskedInput, opened.present)
        return set(await tell(channel, opened, dict.fromkeys("bcdef", "bcdef") | {"a": "abcdef"}))

    run = lying(Network(ACTIVE, SIX), script).run()
    assert run.result("k") == set("bcdef")
    refused_by(run, "a")


def test_a_holders_own_codes_do_not_come_back_as_others() -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> int:
        await gathered(channel, opened, MaskedInput, opened.present)
        channel.send(party("a"), Survivors(session=opened.session, survivors=tuple("abcdef")))
        codes = await gathered(channel, opened, SurvivorCodes, [party("a")])
        channel.send(party("a"), ForwardedCodes(session=opened.session, codes=codes[party("a")].codes))
        return len(await channel.gather(UnmaskingShares, senders=[party("a")], at_least=0, within=9.0))

    run = lying(Network(ACTIVE, SIX), script).run()
    assert run.result("k") == 0
    refused_by(run, "a")


SPLIT_DEALERS = dict.fromkeys("abc", "abc") | dict.fromkeys("def", "bcdef")


async def split_dealers(channel: Channel, opened: Opened, dealings: Dealings) -> list[int]:
    """a, b and c believe to be alone; d, e and f have never heard of a, and take b and c for lost."""
    inputs = await gathered(channel, opened, MaskedInput, opened.present)
    answers = await tell(channel, opened, dict.fromkeys("abc", "abc") | dict.fromkeys("def", "def"))
    near = {holder: answer for holder, answer in answers.items() if holder in "abc"}
    far = {holder: answer for holder, answer in answers.items() if holder in "def"}
    own = secret_of(dealings, "a", near, SPLIT_DEALERS)
    seeds = {}
    for peer in ("b", "c"):
        key = secret_of(dealings, peer, far, SPLIT_DEALERS)
        seeds[party(peer)] = pair_seeds(dealings, peer, key)[party("a")]
    return taken_off(opened, inputs[party("a")], "a", own, seeds)


def test_without_codes_a_split_view_of_the_dealers_opens_an_input() -> None:
    run = lying(Network(WEAK, SIX), split_dealers, dealers=SPLIT_DEALERS).run()
    assert run.result("k") == SIX["a"]["x"].tolist()


def test_with_codes_a_split_view_of_the_dealers_is_found_out() -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> int:
        await gathered(channel, opened, MaskedInput, opened.present)
        return len(await tell(channel, opened, dict.fromkeys("bcdef", "bcdef")))

    dealers = dict.fromkeys("abc", "abcdef") | dict.fromkeys("def", "bcdef")
    run = lying(Network(ACTIVE, SIX), script, dealers=dealers).run()
    assert run.result("k") == 0
    refused_by(run, "bcdef")


def test_a_second_list_of_survivors_gets_no_second_answer() -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> Any:
        await gathered(channel, opened, MaskedInput, opened.present)
        answers = await tell(channel, opened, dict.fromkeys("abcde", "abcde"))
        again = Survivors(session=opened.session, survivors=tuple("bcde"))
        channel.broadcast([party(holder) for holder in "bcde"], again)
        await channel.gather(UnmaskingShares, senders=[COORDINATOR], at_least=0, within=9.0)
        return len(answers)

    run = lying(Network(CURIOUS, FIVE), script).run()
    assert run.result("k") == 5
    assert len(messages(run, UnmaskingShares)) == 5
    assert all(isinstance(failure(run, name), EquivocationError) for name in "bcde")


def test_the_other_share_is_gone_once_one_is_given() -> None:
    memories: dict[str, Any] = {}
    Network(CURIOUS, FIVE, memories=memories).aggregate()
    (epoch,) = memories["a"].epochs.values()
    assert epoch.take_shares(1, ("b",)).shape == (5, 32)
    for index in (0, 1):
        with pytest.raises(MisuseError, match="unmasked once"):
            epoch.take_shares(index, ())


# A round's keys for a second sum


def test_a_second_session_on_the_same_round_is_misuse_at_every_holder() -> None:
    memories: dict[str, Any] = {}
    first = Network(ACTIVE, FIVE, seed=1, memories=memories)
    first.aggregate()
    memories["k"].dealings.next_index = 0
    second = Network(ACTIVE, FIVE, seed=2, memories=memories).run()
    assert isinstance(failure(second), AbortedError)
    assert all(isinstance(failure(second, name), MisuseError) for name in "abcde")
    assert not messages(second, MaskedInput)


def test_a_holder_that_has_used_its_round_is_done_without() -> None:
    memories: dict[str, Any] = {}
    Network(ACTIVE, FIVE, seed=1, memories=memories).aggregate()
    (epoch,) = memories["a"].epochs.values()
    epoch.take_seeds(1)  # as if a coordinator had had it mask for another session
    run = Network(ACTIVE, FIVE, seed=2, memories=memories).run()
    assert isinstance(failure(run, "a"), MisuseError)
    assert run.result("k").holders == tuple("bcde")
    assert run.result("k").arrays["x"].tolist() == [sum(FIVE[n]["x"][i] for n in "bcde") for i in (0, 1)]


def test_an_opened_round_opens_no_other() -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> Any:
        await gathered(channel, opened, MaskedInput, [party(holder) for holder in "abcd"])
        answers = await tell(channel, opened, dict.fromkeys("abcd", "abcd"))
        key = secret_of(dealings, "e", answers, dict.fromkeys("abcde", "abcde"))
        opens = []
        for index in range(4):
            try:
                pair_seeds(dealings, "e", key, index)
            except Exception as error:  # noqa: BLE001 - whatever it is, the round stays shut
                opens.append(type(error).__name__)
            else:
                opens.append("open")
        return opens

    run = lying(Network(CURIOUS, FIVE, dies_before={"e": MaskedInput}), script).run()
    assert run.result("k") == ["open", "InvalidTag", "InvalidTag", "InvalidTag"]


# A late input


def test_a_late_input_stays_masked_though_its_opening_key_is_known() -> None:
    late: list[MaskedInput] = []

    def hold_back(sent: Sent) -> Message | None:
        if isinstance(sent.message, MaskedInput) and sent.sender == "c":
            late.append(sent.message)
            return None
        return sent.message

    memories: dict[str, Any] = {}
    network = Network(ACTIVE, FIVE, memories=memories, faults={"tamper": hold_back})
    secrets: dict[str, bytes] = {}
    run = spied(network, "c", secrets)
    assert run.result("k").holders == tuple("abde")
    opened, dealings = network.opened(run), memories["k"].dealings
    answers = {sent.sender: sent.message for sent in run.sent if isinstance(sent.message, UnmaskingShares)}
    key = secret_of(dealings, "c", answers, dict.fromkeys("abcde", "abcde"))
    seeds = pair_seeds(dealings, "c", key)
    with pytest.raises(VoidedError):  # even its flag is noise
        taken_off(opened, late[0], "c", bytes(32), seeds)
    assert taken_off(opened, late[0], "c", secrets["own"], seeds) == FIVE["c"]["x"].tolist(), (
        "b was all it lacked"
    )
    for name in "abcde":
        (epoch,) = memories[name].epochs.values()
        with pytest.raises(MisuseError):
            epoch.take_shares(0, ("c",))


def spied(network: Network, name: str, secrets: dict[str, bytes]) -> Run:
    """Run, and look over a holder's shoulder at its self seed."""
    original = masking_epoch.Epoch.take_seeds

    def seen(self: Any, index: int) -> Any:
        own, pairs = original(self, index)
        if self in network.memories[name].epochs.values():
            secrets["own"] = own
        return own, pairs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking_epoch.Epoch, "take_seeds", seen)
        return network.run()


# Keys, cohorts, models


def test_a_key_put_in_by_the_router_is_found_out() -> None:
    stranger = Network(ACTIVE, FIVE, seed=77).keys["b"].ephemeral

    def substitute(sent: Sent) -> Message:
        begin = sent.message
        if not isinstance(begin, Begin) or sent.recipient != "a":
            return begin
        swapped = [dataclasses.replace(r, ephemeral=stranger) if r.holder == "b" else r for r in begin.ready]
        resigned = dataclasses.replace(begin, ready=tuple(swapped))
        return signed(resigned, network.identities["k"])

    network = Network(ACTIVE, FIVE, faults={"tamper": substitute})
    run = network.run()
    found = refused_by(run, "a")
    assert set(found.suspects) == {"k", "b"}
    assert "a" not in {sent.sender for sent in run.sent if isinstance(sent.message, DealtShares)}


@pytest.mark.parametrize("survivors", ["abc", "a", "", "abcda", "bcde", "abcdx", "edcba"])
def test_too_few_or_impossible_survivors_get_no_shares(survivors: str) -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> Any:
        await gathered(channel, opened, MaskedInput, opened.present)
        told = Survivors(session=opened.session, survivors=tuple(survivors))
        channel.send(party("a"), told)
        await channel.gather(UnmaskingShares, senders=[party("a")], at_least=0, within=9.0)

    network = lying(Network(ACTIVE, FIVE), script)
    run = network.run()
    assert refused_by(run, "a").culprits == ("k",)
    assert not messages(run, UnmaskingShares)
    assert network.released.count("a") == 1  # before its input left


@pytest.mark.parametrize("dealers", ["abc", "a", "bcde"])
def test_too_few_dealers_get_no_input(dealers: str) -> None:
    async def script(channel: Channel, opened: Opened, dealings: Dealings) -> Any:
        await channel.gather(MaskedInput, senders=opened.present, at_least=0, within=9.0)

    told = dict.fromkeys("abcde", "abcde") | {"a": dealers}
    run = lying(Network(ACTIVE, FIVE), script, dealers=told).run()
    assert refused_by(run, "a").culprits == ("k",)
    assert "a" not in {sent.sender for sent in run.sent if isinstance(sent.message, MaskedInput)}


def test_a_sum_over_fewer_than_ready_is_not_begun() -> None:
    def fewer(sent: Sent) -> Message:
        begin = sent.message
        if not isinstance(begin, Begin):
            return begin
        kept = tuple(ready for ready in begin.ready if ready.holder in "abc")
        return signed(dataclasses.replace(begin, ready=kept), network.identities["k"])

    network = Network(ACTIVE, FIVE, faults={"tamper": fewer})
    run = network.run()
    assert refused_by(run, "abcde").culprits == ("k",)
    assert not messages(run, DealtShares)


def test_a_special_question_to_one_holder_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(sent: Sent) -> Message:
        if isinstance(sent.message, Invitation) and sent.recipient == "c":
            special = dataclasses.replace(sent.message, query=Query(step="only for c"))
            return signed(special, network.identities["k"])
        return sent.message

    honest_check, checked = invitation.check_ready, list[PartyId]()

    def check_ready(invited: bytes, roster: Roster, holder: PartyId, ready: Ready) -> None:
        checked.append(holder)
        if len(checked) > len(FIVE):  # the first five are the coordinator's own, which it leaves out
            honest_check(invited, roster, holder, ready)

    monkeypatch.setattr(invitation, "check_ready", check_ready)
    network = Network(ACTIVE, FIVE, faults={"tamper": ask})
    run = network.run()
    refused_by(run, "abcde")
    assert not messages(run, DealtShares)


@pytest.mark.parametrize("odd", "abc")
def test_masks_of_another_question_do_not_cancel(odd: str) -> None:
    network = Network(ACTIVE, {name: FIVE[name] for name in "abc"})
    opened = network.opened(network.run())
    asked = dataclasses.replace(opened.invitation, query=Query(step="special"))
    special = dataclasses.replace(opened, invitation=asked)
    everybody = sum_of_masked(network, dict.fromkeys("abc", opened))
    assert everybody == np.sum([FIVE[name]["x"] for name in "abc"], axis=0).tolist()
    with pytest.raises(VoidedError):
        sum_of_masked(network, {**dict.fromkeys("abc", opened), odd: special})


def sum_of_masked(network: Network, asked: Mapping[str, Opened]) -> list[int]:
    """Mask with seeds known here, each holder for what it was asked; add, and take the self masks off."""
    seeds = {frozenset(pair): bytes([i]) * 32 for i, pair in enumerate(("ab", "ac", "bc"))}
    inputs, own = [], []
    for name, opened in asked.items():
        pairs = {party(peer): seeds[frozenset((name, peer))] for peer in asked if peer != name}
        words = network.examine(name)(opened.invitation).words
        masks = masks_of(opened, party(name), name.encode() * 32, pairs)
        inputs.append(mask_input(opened, words, masks, random_bytes=bytes))
        own.append((masks[0][0], -1))
    some = asked["a"]
    (total,) = unmask(total_of(some.encodings, inputs), own)
    values: list[int] = some.encodings[0].decode(total).tolist()
    return values


# The same question over fewer


def remembering(network: Network, releases: dict[str, ReleaseMemory]) -> Network:
    """Holders that remember what they have released, as actors do."""
    roles = {}
    for name in network.contributions:
        memory = releases.setdefault(name, ReleaseMemory(party(name), network.roster))

        def examine(invitation: Invitation, name: str = name, memory: ReleaseMemory = memory) -> Prepared:
            n_holders = len(network.contributions)
            if not memory.allows(invitation, dispensable=network.protocol.dispensable(n_holders)):
                raise Declined(ALREADY_RELEASED)
            return network.examine(name)(invitation)

        roles[name] = holder_role(
            network.protocol, network.keys[name], examine, network.memories[name], memory.record
        )
    network.roles = roles
    return network


def test_the_same_question_over_a_smaller_roster_is_refused() -> None:
    releases: dict[str, ReleaseMemory] = {}
    assert remembering(Network(ACTIVE, FIVE, seed=1), releases).run().result("k").holders == tuple("abcde")
    four = {name: FIVE[name] for name in "abcd"}
    found = failure(remembering(Network(ACTIVE, four, seed=2), releases).run())
    assert isinstance(found, RefusedError)
    assert {reason for reason, _ in found.refusals.values()} == {ALREADY_RELEASED}


@pytest.mark.parametrize("protocol", [ACTIVE, CURIOUS], ids=["active", "curious"])
def test_the_same_question_over_fewer_survivors_gets_no_shares(protocol: PairwiseMasking) -> None:
    releases: dict[str, ReleaseMemory] = {}
    memories: dict[str, MaskingMemory] = {}
    first = Network(protocol, FIVE, seed=1, memories=memories)
    assert remembering(first, releases).run().result("k").holders == tuple("abcde")
    # The coordinator says that e is lost, and asks the others again: old total − new total is e's input.
    second = Network(protocol, FIVE, seed=2, memories=memories, dies_before={"e": MaskedInput})
    run = remembering(second, releases).run()
    assert isinstance(failure(run), AbortedError)
    assert not messages(run, UnmaskingShares)
    assert not messages(run, SurvivorCodes)
    # Over the same set as before it is no other question.
    third = Network(protocol, FIVE, seed=3, memories=memories)
    assert remembering(third, releases).run().result("k").holders == tuple("abcde")


# Dealers and answers that are wrong


def altering(kind: type[Message], sender: str, change: Callable[[Any], Message]) -> dict[str, Any]:
    def tamper(sent: Sent) -> Message:
        chosen = isinstance(sent.message, kind) and sent.sender == sender
        return change(sent.message) if chosen else sent.message

    return {"tamper": tamper}


def with_flipped_bit(array: Any, *place: int) -> Any:
    changed = array.copy()
    changed[place] ^= 1
    return changed


@pytest.mark.parametrize("lost", ["", "e"])
@pytest.mark.parametrize("row", range(5))
def test_a_flipped_bit_in_a_share_is_found_and_suspects_named(row: int, lost: str) -> None:
    def change(answer: UnmaskingShares) -> Message:
        return dataclasses.replace(answer, shares=with_flipped_bit(answer.shares, row, 7))

    dying = {lost: MaskedInput} if lost else {}
    run = Network(ACTIVE, FIVE, faults=altering(UnmaskingShares, "b", change), dies_before=dying).run()
    found = failure(run)
    assert isinstance(found, InvalidMessageError)
    assert not found.culprits, "the dealer may have dealt wrongly, or an honest holder's share be misused"
    assert {"abcde"[row], "b"} <= set(found.suspects)


def test_a_wrong_share_that_is_not_needed_does_no_harm() -> None:
    def change(answer: UnmaskingShares) -> Message:
        return dataclasses.replace(answer, shares=answer.shares ^ np.uint8(255))

    run = Network(ACTIVE, FIVE, faults=altering(UnmaskingShares, "e", change)).run()
    assert run.result("k").holders == tuple("abcde")


NINE: dict[str, Contribution] = {name: integers(10**i, -i) for i, name in enumerate("abcdefghi")}
PLAIN_NINE = PairwiseMasking(active=False)  # a threshold of five


def sum_with_wrong_shares(liars: Collection[str], lost: str, chosen: random.Random) -> Run:
    """Some of nine holders answer wrongly, each in all of its shares or in some; one may be lost."""

    def tamper(sent: Sent) -> Message:
        if not isinstance(sent.message, UnmaskingShares) or sent.sender not in liars:
            return sent.message
        shares = sent.message.shares.copy()
        for row in chosen.sample(range(len(shares)), chosen.randint(1, len(shares))):
            shares[row, chosen.randrange(32)] ^= np.uint8(chosen.randint(1, 255))
        return dataclasses.replace(sent.message, shares=shares)

    dying = {lost: MaskedInput} if lost else {}
    return Network(PLAIN_NINE, NINE, faults={"tamper": tamper}, dies_before=dying).run()


@settings(deadline=None, derandomize=True, max_examples=16)
@given(st.sets(st.sampled_from("abcdefgh"), max_size=3), st.sampled_from(["", "i"]), st.integers(0, 2**32))
def test_wrong_shares_are_corrected_or_end_the_sum_and_never_change_it(
    liars: set[str], lost: str, seed: int
) -> None:
    run = sum_with_wrong_shares(liars, lost, random.Random(seed))
    outcome, survivors = run.outcomes[party("k")], "abcdefghi".replace(lost, "")
    if isinstance(outcome, Done):
        own = [NINE[name]["x"] for name in survivors]
        assert np.array_equal(outcome.result.arrays["x"], np.sum(own, axis=0))
        assert outcome.result.holders == tuple(survivors)
        assert set(outcome.result.suspects) <= liars
        return
    found = failure(run)
    assert len(liars) > (len(survivors) - 5) // 2
    assert isinstance(found, InvalidMessageError)
    assert not found.culprits
    assert set(found.suspects) > liars


@pytest.mark.parametrize("lost", ["", "i"])
@pytest.mark.parametrize("liars", ["a", "e", "ab", "ae", "ag"])
def test_as_many_wrong_answers_as_half_of_the_surplus_are_corrected_and_named(liars: str, lost: str) -> None:
    def tamper(sent: Sent) -> Message:
        if not isinstance(sent.message, UnmaskingShares) or sent.sender not in liars:
            return sent.message
        return dataclasses.replace(sent.message, shares=sent.message.shares ^ np.uint8(255))

    survivors = "abcdefghi".replace(lost, "")
    dying = {lost: MaskedInput} if lost else {}
    run = Network(PLAIN_NINE, NINE, faults={"tamper": tamper}, dies_before=dying).run()
    if len(liars) > (len(survivors) - 5) // 2:
        found = failure(run)
        assert isinstance(found, InvalidMessageError)
        assert set(found.suspects) == set(survivors)
        return
    aggregate = run.result("k")
    assert aggregate.arrays["x"].tolist() == np.sum([NINE[name]["x"] for name in survivors], axis=0).tolist()
    assert aggregate.suspects == tuple(liars)


def test_a_dealer_that_frames_a_holder_makes_a_suspect_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What "c" deals to "b" is off the polynomial: "b" is suspected, and the sum is right."""
    deal = masking_epoch.deal

    def framing(opened: Opened, graph: Graph, keys: SessionKeys, *args: Any, **options: Any) -> Any:
        if keys.me != "c":
            return deal(opened, graph, keys, *args, **options)
        split = shamir_bytes.split
        with monkeypatch.context() as patch:
            patch.setattr(shamir_bytes, "split", lambda *a, **o: framed(split(*a, **o)))
            return deal(opened, graph, keys, *args, **options)

    def framed(shares: Any) -> Any:
        changed = shares.copy()
        changed[1] ^= np.uint8(1)
        return changed

    monkeypatch.setattr(masking_set_up, "deal", framing)
    aggregate = Network(PLAIN_NINE, NINE).run().result("k")
    assert aggregate.arrays["x"].tolist() == np.sum([row["x"] for row in NINE.values()], axis=0).tolist()
    assert aggregate.suspects == ("b",)


@pytest.mark.parametrize("holder", "ce")
def test_a_self_seed_that_is_not_what_was_committed_to_makes_suspects(holder: str) -> None:
    def change(dealt: DealtShares) -> Message:
        return dataclasses.replace(dealt, self_commitments=with_flipped_bit(dealt.self_commitments, 0, 0))

    found = failure(Network(ACTIVE, FIVE, faults=altering(DealtShares, holder, change)).run())
    assert isinstance(found, InvalidMessageError)
    assert found.suspects[0] == holder
    assert not found.culprits


@pytest.mark.parametrize(("holder", "place", "peer"), [("b", 0, "a"), ("a", 3, "e"), ("e", 2, "c")])
def test_two_holders_who_mean_different_seeds_are_suspects(holder: str, place: int, peer: str) -> None:
    def change(dealt: DealtShares) -> Message:
        return dataclasses.replace(
            dealt, seed_commitments=with_flipped_bit(dealt.seed_commitments, 2, place, 31)
        )

    run = Network(ACTIVE, FIVE, faults=altering(DealtShares, holder, change)).run()
    found = failure(run)
    assert isinstance(found, InvalidMessageError)
    assert set(found.suspects) == {holder, peer}
    assert not messages(run, ReceivedShares)


def test_a_dealer_that_locks_up_other_seeds_than_it_committed_to_is_the_culprit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest_deal = masking_epoch.deal

    def deal(opened: Opened, graph: Any, keys: Any, n_rounds: int, *, codes: bool, random_bytes: Any) -> Any:
        drawn: list[bytes] = []

        def recorded(n: int) -> bytes:
            drawn.append(random_bytes(n))
            return drawn[-1]

        dealt, own = honest_deal(opened, graph, keys, n_rounds, codes=codes, random_bytes=recorded)
        if keys.me == "c":
            opening_keys = cut(drawn[1])
            wrong = b"".join(bytes(32) for _ in graph.neighbours[keys.me])
            locked = tuple(AESGCM(key).encrypt(NONCE, wrong, None) for key in opening_keys)
            dealt = dataclasses.replace(dealt, locked_seeds=locked)
        return dealt, own

    monkeypatch.setattr(masking_set_up, "deal", deal)
    assert isinstance(Network(ACTIVE, FIVE, seed=1).run().outcomes[COORDINATOR], Done), "nobody was lost"
    found = failure(Network(ACTIVE, FIVE, seed=1, dies_before={"c": MaskedInput}).run())
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("c",)
    assert not found.suspects


@pytest.mark.parametrize("lost", ["c", ""])
def test_a_holder_that_deals_to_one_neighbour_what_does_not_open_costs_that_neighbour_only(lost: str) -> None:
    def change(dealt: DealtShares) -> Message:
        broken = bytes([dealt.sealed[0][0] ^ 1]) + dealt.sealed[0][1:]
        return dataclasses.replace(dealt, sealed=(broken, *dealt.sealed[1:]))

    dying = {lost: MaskedInput} if lost else {}
    run = Network(ACTIVE, SIX, faults=altering(DealtShares, "b", change), dies_before=dying).run()
    found = failure(run, "a")
    assert isinstance(found, InvalidMessageError)
    assert set(found.suspects) == {"b", "k"}
    if lost:
        assert isinstance(failure(run), DropoutError | AbortedError), "four of six are too few"
    else:
        assert run.result("k").holders == tuple("bcdef")


def test_a_share_of_another_length_names_its_dealer_also_at_the_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The coordinator, in league with the dealer, has let it pass.
    honest_seal = masking_epoch._seal_share

    def seal(keys: SessionKeys, opened: Opened, graph: Graph, keeper: PartyId, share: Any) -> bytes:
        return honest_seal(keys, opened, graph, keeper, share[:-1] if keys.me == "c" else share)

    monkeypatch.setattr(masking_epoch, "_seal_share", seal)
    monkeypatch.setattr(masking_set_up, "check_dealings", lambda *_: None)
    run = Network(ACTIVE, FIVE).run()
    for name in "abde":
        found = failure(run, name)
        assert isinstance(found, InvalidMessageError)
        assert found.culprits == ("c",)


@pytest.mark.parametrize("field", ["sealed", "locked_seeds", "seed_commitments", "self_commitments"])
def test_dealings_of_another_form_name_the_dealer(field: str) -> None:
    shapes: dict[str, Callable[[Any], Any]] = {
        "sealed": lambda value: (value[0][:-1], *value[1:]),
        "locked_seeds": lambda value: (*value[:-1], value[-1] + b"x"),
        "seed_commitments": lambda value: value[:, :, :-1],
        "self_commitments": lambda value: value[:-1],
    }

    def change(dealt: DealtShares) -> Message:
        return dataclasses.replace(dealt, **{field: shapes[field](getattr(dealt, field))})

    found = failure(Network(ACTIVE, FIVE, faults=altering(DealtShares, "d", change)).run())
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("d",)


@pytest.mark.parametrize("field", ["binding", "flag", "vectors", "session"])
def test_a_masked_input_that_does_not_belong_names_its_sender(field: str) -> None:
    values = {
        "binding": bytes(32),
        "session": bytes(32),
        "flag": np.zeros(2, dtype=np.uint64),
        "vectors": (np.zeros(2, dtype=np.uint32),),
    }

    def change(masked: MaskedInput) -> Message:
        return dataclasses.replace(masked, **{field: values[field]})  # type: ignore[arg-type]

    found = failure(Network(ACTIVE, FIVE, faults=altering(MaskedInput, "d", change)).run())
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("d",)


@pytest.mark.parametrize("change", ["binding", "shape"])
def test_shares_that_do_not_belong_name_their_sender(change: str) -> None:
    def altered(answer: UnmaskingShares) -> Message:
        if change == "binding":
            return dataclasses.replace(answer, binding=bytes(32))
        return dataclasses.replace(answer, shares=answer.shares[1:])

    found = failure(Network(ACTIVE, FIVE, faults=altering(UnmaskingShares, "d", altered)).run())
    assert isinstance(found, InvalidMessageError)
    assert found.culprits == ("d",)


def test_a_graph_shown_differently_to_one_holder_opens_no_share() -> None:
    # A coordinator that could choose the seed after all: the seals know of it.
    sparse = PairwiseMasking(epoch=1, threshold=7, neighbours=4)
    eight = {name: integers(10**i) for i, name in enumerate("abcdefgh")}
    honest = masking_set_up._graph

    def another(opened: Opened, neighbourhood: Neighbourhood, seeds: Mapping[PartyId, bytes]) -> Any:
        graph = honest(opened, neighbourhood, seeds)
        calls.append(None)
        return dataclasses.replace(graph, seed=bytes(32)) if len(calls) == 3 else graph

    calls: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking_set_up, "_graph", another)
        run = Network(sparse, eight).run()
    failed = [name for name in eight if isinstance(run.outcomes[party(name)], Failed)]
    found = [failure(run, name) for name in failed]
    assert any(isinstance(e, InvalidMessageError) and "cannot be opened" in e.problem for e in found)
    assert isinstance(failure(run), AbortedError | DropoutError)


def test_every_attack_that_is_listed_is_stopped_by_something() -> None:
    for protocol in (ACTIVE, PairwiseMasking(mode="direct")):
        assert all("nothing" not in attack.stopped_by for attack in protocol.attacks)
    open_to = [attack.name for attack in CURIOUS.attacks if "nothing" in attack.stopped_by]
    assert open_to == ["different dealers or survivors are told to different holders"]
