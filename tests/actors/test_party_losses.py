"""Holders that are lost: who is named, when a sum goes on without them, and when it must not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from in_process import FirstSums, Network, Posted
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Lost, Pass
from tacit.models.definition import Definition
from tacit.models.fit import Fit
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll
from tacit.models.sum import Sum
from tacit.models.total import Total, pooled
from tacit.protocols import protocol
from tacit.protocols.errors import AbortedError, DropoutError, RefusedError
from tacit.protocols.invitation import ALREADY_RELEASED
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.ring_paillier import RingPaillier
from tacit.serialization.session_messages import Query

VALUES = {"a": 1.0, "b": 20.0, "c": 300.0, "d": 4000.0, "e": 50_000.0}
FOUR = {name: VALUES[name] for name in "abcd"}


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def itself(rows: Any) -> Any:
    return rows


def total_without(names: str, data: dict[str, float]) -> float:
    return sum(value for name, value in data.items() if name not in names)


class Dies:
    """Lets the holder at one place of the ring die when the partial sum reaches it: it has not forwarded.

    Put it into `Network.on_frame`. Only in the first `n_sessions` sessions after `after` of them.
    """

    def __init__(self, network: Network, place: int, *, after: int = 0, n_sessions: int = 1) -> None:
        self.names: list[str] = []
        self._network = network
        self._place = place
        self._after = after
        self._n_sessions = n_sessions
        self._rings: dict[bytes, int] = {}  # hops so far
        self._first_sums = FirstSums(network, then=self._at_the_first)

    def __call__(self, posted: Posted) -> bool:
        if posted.between_holders:
            session = posted.sealed.session
            self._rings[session] += 1
            self._reaches(posted, self._rings[session])
        return self._first_sums(posted)

    def _at_the_first(self, posted: Posted) -> None:
        self._rings[posted.sealed.session] = 0
        self._reaches(posted, 0)

    def _reaches(self, posted: Posted, place: int) -> None:
        number = list(self._rings).index(posted.sealed.session) - self._after
        if place == self._place and 0 <= number < self._n_sessions:
            self.names.append(posted.to)
            self._network.kill(posted.to)


# Two of them


def test_two_holders_who_cannot_reach_each_other_end_the_sum_and_are_named(
    loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator, who reaches both, cannot know: who has lost the other says so before long."""
    monkeypatch.setattr(protocol, "NOTICE_SECONDS", 0.02)
    parted: list[Posted] = []

    async def scene() -> None:
        async with Network(FOUR) as network:

            def on_frame(posted: Posted) -> bool:
                if posted.between_holders and not parted:
                    parted.append(posted)
                    network.parties[posted.to].lose(posted.sender)
                    network.parties[posted.sender].lose(posted.to)
                return not (parted and {posted.sender, posted.to} == {parted[0].sender, parted[0].to})

            network.on_frame = on_frame
            with pytest.raises(AbortedError) as caught:
                await network.run(Sum(itself), on_dropout="continue")
            assert (caught.value.party, caught.value.lost) == (parted[0].to, (parted[0].sender,))
            await network.settle()
            network.on_frame = lambda _: True
            assert await network.sum(itself) == sum(FOUR.values())

    loop.run(scene())


# Going on


@pytest.mark.parametrize("place", [0, 1])
def test_sum_goes_on_over_the_survivors(loop: asyncio.Runner, place: int) -> None:
    async def scene() -> None:
        async with Network(FOUR) as network:
            network.on_frame = dies = Dies(network, place)
            result = await network.run(Sum(itself), on_dropout="continue")
            [lost] = dies.names
            assert result.value == total_without(lost, FOUR)
            assert result.lost == (lost,)
            assert result.survivors == tuple(name for name in FOUR if name != lost)
            assert result.n_passes == 2
            assert result.may_isolate == ()  # nothing had been revealed
            assert [event.holders for event in network.events if isinstance(event, Lost)] == [(lost,)]
            assert [record["holders"] for record in network.repository.records] == [list(result.survivors)]

    loop.run(scene())


@pytest.mark.parametrize("place", [2, 3])
def test_sum_does_not_go_on_once_too_many_have_forwarded(loop: asyncio.Runner, place: int) -> None:
    # Of three survivors one or none can sign that it had not; a coordinator might have the old total.
    async def scene() -> None:
        async with Network(FOUR) as network:
            network.on_frame = dies = Dies(network, place)
            with pytest.raises(DropoutError, match="had released this question") as caught:
                await network.run(Sum(itself), on_dropout="continue")
            assert caught.value.missing == tuple(dies.names)
            assert network.repository.records == []

    loop.run(scene())


@pytest.mark.parametrize(("colluding", "goes_on"), [(1, True), (2, False)])
def test_more_words_are_needed_where_more_may_collude(
    loop: asyncio.Runner, colluding: int, goes_on: bool
) -> None:
    protocol = RingPaillier.insecure_for_tests(256, colluding=colluding)

    async def scene() -> None:
        async with Network(VALUES, protocol=protocol) as network:
            network.on_frame = dies = Dies(network, 2)  # two have forwarded, two have not
            run = network.run(Sum(itself), on_dropout="continue")
            if goes_on:
                assert (await run).value == total_without(dies.names[0], VALUES)
            else:
                with pytest.raises(DropoutError):
                    await run

    loop.run(scene())


def test_two_losses_one_after_the_other(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(VALUES) as network:
            network.on_frame = dies = Dies(network, 0, n_sessions=2)
            result = await network.run(Sum(itself), on_dropout="continue")
            assert len(dies.names) == 2
            assert result.value == total_without("".join(dies.names), VALUES)
            assert set(result.lost) == set(dies.names)

    loop.run(scene())


def test_loss_of_a_holder_that_computes(loop: asyncio.Runner) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow_at_b(rows: float) -> float:
        if rows == VALUES["b"]:
            entered.set()
            leave.wait(20)
        return rows

    async def scene() -> None:
        async with Network(FOUR) as network:
            running = asyncio.ensure_future(network.run(Sum(slow_at_b), on_dropout="continue"))
            await asyncio.get_running_loop().run_in_executor(None, entered.wait)
            network.kill("b")
            result = await running
            assert (result.value, result.lost) == (total_without("b", FOUR), ("b",))
            leave.set()

    loop.run(scene())


def test_next_sum_is_over_the_survivors(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(FOUR) as network:
            assert await network.sum(itself) == sum(FOUR.values())
            network.kill("c")
            await asyncio.sleep(0)
            result = await network.run(Sum(lambda rows: 2 * rows), on_dropout="continue")
            assert result.value == 2 * total_without("c", FOUR)
            assert (result.lost, result.may_isolate) == (("c",), ("c",))

    loop.run(scene())


def test_same_sum_over_the_survivors_is_refused(loop: asyncio.Runner) -> None:
    # The difference to the first total would be what the lost holder had put in.
    async def scene() -> None:
        async with Network(FOUR) as network:
            model = Sum(itself)
            await network.run(model)
            network.kill("c")
            await asyncio.sleep(0)
            with pytest.raises(RefusedError) as caught:
                await network.run(model, on_dropout="continue")
            assert {reason for reason, _ in caught.value.refusals.values()} == {ALREADY_RELEASED}

    loop.run(scene())


class Between:
    """Sums twice, and lets something happen in between."""

    definition = Definition("Between", {})

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens = happens

    def contribution(self, data: Any, query: Query, /) -> dict[str, np.ndarray[Any, Any]]:
        return {"value": np.asarray(data * query.arrays["times"])}

    async def iterate(self, total: Total, start: Any = None) -> AsyncIterator[float]:
        await total(Query("first", {"times": np.asarray(1.0)}))
        self._happens()
        yield float((await total(Query("second", {"times": np.asarray(2.0)})))["value"])


def test_loss_between_two_sums_is_noticed(loop: asyncio.Runner) -> None:
    # Nobody would tell the second session: the watch over a holder that hangs has ended, and posts to it do not fail.
    async def scene() -> None:
        async with Network(VALUES) as network:

            def lose_one() -> None:
                if not network.dead:
                    network.dead.add(PartyId("e"))
                    network.coordinator.lose(PartyId("e"))

            model = Between(lose_one)
            with pytest.raises(DropoutError, match="had released"):  # the first question, over a smaller set
                await network.run(model, on_dropout="continue")
            assert [event.holders for event in network.events if isinstance(event, Lost)] == [("e",)]

    loop.run(scene())


# Giving up


def test_loss_ends_a_sum_by_default_and_is_named(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(FOUR) as network:
            network.on_frame = dies = Dies(network, 1)
            with pytest.raises(DropoutError, match="on_dropout") as caught:
                await network.run(Sum(itself))
            error = caught.value
            assert (error.needed, error.missing) == (4, tuple(dies.names))
            assert set(error.present) == set(FOUR) - set(dies.names)
            await network.settle()
            with pytest.raises(DropoutError) as again:
                await network.sum(lambda rows: 2 * rows)
            assert again.value.missing == error.missing

    loop.run(scene())


@pytest.mark.parametrize("during", [True, False], ids=["during the sum", "before it"])
def test_two_survivors_are_too_few(loop: asyncio.Runner, during: bool) -> None:
    async def scene() -> None:
        async with Network({name: VALUES[name] for name in "abc"}) as network:
            if during:
                network.on_frame = Dies(network, 0)
            else:
                network.kill("b")
                await asyncio.sleep(0)
            with pytest.raises(DropoutError, match="bring the missing back") as caught:
                await network.run(Sum(itself), on_dropout="continue")
            assert (caught.value.needed, len(caught.value.present)) == (3, 2)
            assert caught.value.missing == tuple(sorted(network.dead))

    loop.run(scene())


def test_loss_of_too_many_at_once(loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with Network(VALUES) as network:

            def three_die(posted: Posted) -> None:
                for name in "ace":
                    network.kill(name)

            network.on_frame = FirstSums(network, then=three_die)
            with pytest.raises(DropoutError) as caught:
                await network.run(Sum(itself), on_dropout="continue")
            assert caught.value.missing == ("a", "c", "e")
            assert caught.value.present == ("b", "d")

    loop.run(scene())


# A fit


COUNTS = {
    "a": np.array([7, 9, 12, 8, 9]),
    "b": np.array([10, 6, 11]),
    "c": np.array([9, 13, 8, 7]),
    "d": np.array([30, 25]),
}


def poisson() -> MaximumLikelihood:
    return MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})


def pooled_fit(names: tuple[str, ...]) -> Fit:
    async def iterate() -> Any:
        model = poisson()
        return [last async for last in model.iterate(pooled(model, [COUNTS[name] for name in names]))][-1]

    fit = asyncio.run(iterate())
    assert isinstance(fit, Fit)
    return fit


def test_fit_without_a_loss_is_the_pooled_fit(loop: asyncio.Runner) -> None:
    async def scene() -> Any:
        async with Network(COUNTS) as network:
            return (await network.run(poisson())).value

    fit, expected = loop.run(scene()), pooled_fit(tuple(COUNTS))
    assert isinstance(fit, Fit)
    assert fit.to_dict() == {**expected.to_dict(), "definition": fit.to_dict()["definition"]}  # the same bits


@pytest.mark.parametrize("after", [0, 3])
def test_fit_goes_on_over_the_survivors(loop: asyncio.Runner, after: int) -> None:
    async def scene() -> tuple[Fit, str, tuple[str, ...], Network]:
        async with Network(COUNTS) as network:
            network.on_frame = dies = Dies(network, 1, after=after)
            result = await network.run(poisson(), on_dropout="continue")
            [lost] = dies.names
            assert result.lost == (lost,)
            assert result.may_isolate == ((lost,) if after else ())
            assert isinstance(result.value, Fit)
            return result.value, lost, result.survivors, network

    fit, lost, survivors, network = loop.run(scene())
    expected = pooled_fit(survivors)
    assert lost not in survivors
    assert fit.converged
    assert fit.nobs == expected.nobs
    assert fit.estimates == pytest.approx(expected.estimates, abs=1e-9)
    assert fit.standard_errors == pytest.approx(expected.standard_errors, abs=1e-8)
    assert fit.llf == pytest.approx(expected.llf, abs=1e-9)
    passes = [event.holders for event in network.events if isinstance(event, Pass)]
    assert passes[:after] == [tuple(COUNTS)] * after
    assert set(passes[after:]) == {survivors}
    recorded = [tuple(record["holders"]) for record in network.repository.records]
    assert recorded == passes  # each release over the set that it was over


# A threshold of the user's


@pytest.mark.parametrize(("lost", "goes_on"), [("e", True), ("de", False)])
def test_a_dropout_tells_the_threshold_that_the_user_has_set(
    loop: asyncio.Runner, lost: str, goes_on: bool
) -> None:
    async def scene() -> None:
        masking = PairwiseMasking(threshold=4)
        async with Network(VALUES, protocol=masking, holder=DataHolder) as network:

            def dies_when_invited(posted: Posted) -> bool:
                if posted.to in lost and posted.to not in network.dead:
                    network.kill(posted.to)
                return posted.to not in network.dead

            network.on_frame = dies_when_invited
            if goes_on:
                result = await network.run(Sum(itself), on_dropout="continue")
                assert (result.value, result.lost) == (total_without(lost, VALUES), tuple(lost))
                return
            with pytest.raises(DropoutError) as caught:
                await network.run(Sum(itself), on_dropout="continue")
            assert (caught.value.needed, caught.value.missing) == (4, tuple(lost))

    loop.run(scene())
