"""The coordinator's actor without the holders: sums and fits, what it knows, and what goes on after losses."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hidden import CONVENER, OTHER, HiddenHolders
from in_process import COORDINATOR, Network, Posted, Repository, Wire
from tacit.actors.coordinator import Coordinator
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Lost
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll
from tacit.models.sum import Sum
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.convening import UNNAMED
from tacit.protocols.errors import AbortedError, DropoutError, RefusedError, SetupError
from tacit.protocols.invitation import CONTRIBUTION_FAILED, invite
from tacit.protocols.key_agreement import SessionKeys
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.registry import protocol_from
from tacit.serialization.encoding_parameters import AutoRange
from tacit.serialization.session_messages import Query

NAMES = [f"hospital-{place}" for place in ("Ulm", "Bonn", "Kiel", "Jena", "Trier")]
COUNTS = {name: np.array([2.0 + i, 5.0, 9.0]) for i, name in enumerate(NAMES)}
MODEL = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def itself(rows: Any) -> Any:
    return rows * 0.1


def reached(start: Any) -> Iterator[Any]:
    """Walk through all that an object leads to, but for the wires, which lead to everybody here."""
    seen: dict[int, Any] = {}
    waiting = [start]
    while waiting:
        thing = waiting.pop()
        if (
            id(thing) in seen
            or isinstance(thing, Wire | Repository | type)
            or type(thing).__name__ == "module"
        ):
            continue
        seen[id(thing)] = thing
        yield thing
        if type(thing).__name__ != "function":  # whose globals are this module's
            waiting.extend(gc.get_referents(thing))


def test_sums_and_fits_have_the_bits_of_a_coordinator_that_knows_the_holders(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with (
            HiddenHolders(COUNTS) as hidden,
            Network(COUNTS, protocol=PairwiseMasking(), holder=DataHolder) as known,
        ):
            for model in (Sum(itself), MODEL):
                one, other = await hidden.run(model), await known.run(model)
                if model is MODEL:
                    assert one.value.params["lambda"].hex() == other.value.params["lambda"].hex()
                    assert one.value.bse["lambda"].hex() == other.value.bse["lambda"].hex()
                else:
                    assert one.value.tobytes() == other.value.tobytes()
                assert (one.survivors, one.lost, one.at_least) == ((), (), 3)

    loop.run(scene())


def test_auto_range_works(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            result = await network.run(Sum(itself), encoding=AutoRange())
            assert result.value == pytest.approx(sum(COUNTS.values()) * 0.1)

    loop.run(scene())


def test_the_coordinator_gets_no_name_of_a_holder(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            await network.run(MODEL)
            network.kill(NAMES[1])
            await network.run(Sum(itself), on_dropout="continue")
            await network.settle()
            texts = [thing for thing in reached(network.coordinator) if isinstance(thing, str | bytes)]
            assert any("aggregator-2" in text for text in texts if isinstance(text, str)), (
                "the search finds nothing"
            )
            for text in texts:
                assert not (text if isinstance(text, bytes) else text.encode()).count(b"hospital-")
            assert set(network.coordinator.roster) == {COORDINATOR, CONVENER, OTHER}
            assert "hospital-" not in repr([network.events, network.repository.records])
            assert {record["holders"] for record in network.repository.records} == {"at least 3"}
            assert {name for p in network.posted if COORDINATOR in (p.sender, p.to) for name in (p.sender, p.to)} == {
                COORDINATOR, CONVENER, OTHER,
            }  # fmt: skip

    loop.run(scene())


def test_the_search_finds_names_where_the_coordinator_knows_them(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(COUNTS, protocol=PairwiseMasking(), holder=DataHolder) as network:
            texts = [thing for thing in reached(network.coordinator) if isinstance(thing, str)]
            assert any("hospital-" in text for text in texts)

    loop.run(scene())


def test_frames_of_the_coordinator_are_the_same_in_number_and_size_for_3_and_9_holders(
    loop: asyncio.Runner,
) -> None:
    async def frames(n: int, lost: int = 0) -> list[tuple[str, str, int]]:
        async with HiddenHolders({f"site-{i}": COUNTS[NAMES[0]] for i in range(n)}) as network:
            for i in range(lost):
                network.kill(f"site-{i}")
            await asyncio.sleep(0.01)
            await network.run(Sum(itself), on_dropout="continue")
            result = await network.run(MODEL, on_dropout="continue")
            await network.settle()
            assert result.value.params["lambda"] == pytest.approx(16 / 3)
            return sorted(network.of_coordinator())

    few, many = loop.run(frames(3)), loop.run(frames(9))
    assert few == many
    assert loop.run(frames(9, lost=2)) == few


# Losses


def test_a_holder_lost_between_two_sums_is_left_out_and_not_waited_for(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            everybody = await network.run(Sum(itself), on_dropout="continue")
            network.kill(NAMES[0])
            await asyncio.sleep(0.01)
            result = await network.run(Sum(lambda rows: rows), on_dropout="continue")
            assert result.value.tolist() == np.sum([COUNTS[name] for name in NAMES[1:]], axis=0).tolist()
            assert len(result.lost) == 1
            assert result.may_isolate == result.lost
            assert (everybody.lost, everybody.may_isolate) == ((), ())
            again = await network.run(Sum(lambda rows: 2 * rows), on_dropout="continue")
            assert again.lost == result.lost

    loop.run(scene())


def test_everybody_or_nobody(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            network.kill(NAMES[0])
            await asyncio.sleep(0.01)
            with pytest.raises(DropoutError, match=r"not told who.*allow losses") as caught:
                await network.run(Sum(itself))
            assert (caught.value.present, caught.value.missing) == ((), ())
            assert network.repository.records == []

    loop.run(scene())


def test_too_few_are_left(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            for name in NAMES[:3]:
                network.kill(name)
            await asyncio.sleep(0.01)
            with pytest.raises(DropoutError, match="3 parties or more"):
                await network.run(Sum(itself), on_dropout="continue")

    loop.run(scene())


def test_a_fit_goes_on_over_whoever_is_left(loop: asyncio.Runner) -> None:
    """Sums over two sets do not compare: the fit starts anew from where it stood, as the hash tells it to."""

    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:

            def dies(posted: Posted) -> bool:
                if len(network.of_coordinator()) == 12 and NAMES[4] not in network.dead:
                    network.kill(NAMES[4])
                return True

            network.on_frame = dies
            result = await network.run(MODEL, on_dropout="continue")
            left = np.concatenate([COUNTS[name] for name in NAMES[:4]])
            assert result.value.params["lambda"] == pytest.approx(left.mean(), rel=1e-9)
            assert len([event for event in network.events if isinstance(event, Lost)]) == 1
            assert result.may_isolate == result.lost != ()

    loop.run(scene())


def test_the_loss_of_an_aggregator_ends_it(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            network.dead.add(OTHER)
            network.coordinator.lose(OTHER)
            with pytest.raises(DropoutError) as caught:
                await network.run(Sum(itself), on_dropout="continue")
            assert caught.value.missing == (OTHER,)

    loop.run(scene())


# What ends early


def test_a_failing_function_is_told_by_its_reason_alone(loop: asyncio.Runner) -> None:
    def fails(rows: Any) -> Any:
        raise ValueError("hospital-Ulm")

    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            with pytest.raises(RefusedError) as caught:
                await network.run(Sum(fails))
            assert caught.value.refusals == {UNNAMED: (CONTRIBUTION_FAILED, "")}

    loop.run(scene())


def test_breaking_off_ends_the_session_at_every_party(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            reached_holder = asyncio.Event()

            def hold(posted: Posted) -> bool:
                if posted.to in network.holders:
                    reached_holder.set()
                return posted.sender not in network.holders  # nobody is ever ready

            network.on_frame = hold
            running = asyncio.ensure_future(network.run(Sum(itself)))
            await reached_holder.wait()
            await network.coordinator.cancel("computation")
            with pytest.raises(AbortedError, match="cancelled"):
                await running
            await asyncio.wait_for(network.settle(), 10)

    loop.run(scene())


def test_a_coordinator_without_a_commitment_asks_nothing(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            network.coordinator.commitment = None
            with pytest.raises(SetupError, match="stands for the holders"):
                await network.run(Sum(itself))
            assert not network.posted

    loop.run(scene())


@pytest.mark.parametrize("protocol", [AdditiveSharing(), PairwiseMasking()])
def test_a_holder_takes_no_session_that_leaves_out_who_asks(loop: asyncio.Runner, protocol: Any) -> None:
    """Else the convener, which has the coordinator's place, could sum for itself."""

    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            holder, pinned = network.holders[PartyId(NAMES[0])], network.roster
            for roster in (pinned.without([COORDINATOR]), pinned.without([COORDINATOR, OTHER])):
                keys = SessionKeys(network.convener.identity, roster, bytes(32), bytes.__call__)
                invitation = invite(
                    keys,
                    protocol=protocol.options,
                    encoding=None,
                    definition=bytes(32),
                    query=Query(step="sum"),
                )
                with pytest.raises(SetupError, match="leaves out who asks"):
                    holder._session(invitation)
            with pytest.raises(SetupError):
                protocol_from(protocol.options).check_roster(pinned)

    loop.run(scene())


def test_a_convener_convenes_nothing_else(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            coordinator = network.coordinator
            keys = SessionKeys(coordinator.identity, coordinator.roster, bytes(32), bytes.__call__)
            options = PairwiseMasking().options
            invitation = invite(
                keys, protocol=options, encoding=None, definition=bytes(32), query=Query(step="sum")
            )
            with pytest.raises(SetupError, match="takes no convener"):
                network.convener._session(invitation)

    loop.run(scene())


def test_a_convener_needs_somebody_who_asks(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with HiddenHolders(COUNTS) as network:
            network.convener._roster = Roster(
                tuple(party for party in network.roster.parties if party.name != COORDINATOR)
            )
            with pytest.raises(SetupError, match="somebody who asks"):
                _ = network.convener.opener

    loop.run(scene())


def test_a_coordinator_that_knows_holders_pins_nothing_in_their_place() -> None:
    assert Coordinator("coordinator", Repository()).commitment is None
