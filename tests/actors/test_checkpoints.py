"""Runs that are broken off and taken up again, over the code of the actors, without Ray."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import Network, Posted
from regressions import ols_of, reference, rows_of_three
from tacit.actors.computation import Kept, Terms
from tacit.actors.coordinator import Coordinator
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Event, Iterated, Pass, Result
from tacit.actors.repository import ModelRepository
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.neural_network import NeuralNetwork
from tacit.models.poisson import poisson_nll
from tacit.models.regression import GLM
from tacit.privacy.errors import PrivacyError
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.errors import DropoutError, SetupError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.secret_sharing import SecretSharing
from tacit.records.checkpoints import Checkpoint, read_checkpoint
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore
from tacit.records.verification import verify
from tacit.serialization.encoding_parameters import FixedPoint

NAMES = "abcde"
COUNTS = [np.array([7, 9, 12, 8, 9]), np.array([10, 6, 11]), np.array([9, 13, 8, 7])]
TABLES = rows_of_three()
LIKELIHOOD = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
PROBIT = GLM("event ~ x + g", family="binomial", link="probit")
NEGATIVE_BINOMIAL = GLM("visits ~ x + z", family="negativebinomial")
LEAST_SQUARES = ols_of(reference("lm")["mtcars"] | {"formula": "size ~ x + C(g)"}).with_cov_type("HC3")
CASES = {
    "likelihood": (LIKELIHOOD, COUNTS),
    "probit": (PROBIT, TABLES),
    "negative binomial": (NEGATIVE_BINOMIAL, TABLES),
    "least squares": (LEAST_SQUARES, TABLES),
}


NETWORK_ROWS = {
    name: (np.random.default_rng(size).normal(size=(size, 3)), np.arange(size) % 2)
    for name, size in {"a": 12, "b": 7, "c": 9, "d": 11}.items()
}


def network(**options: Any) -> Any:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 2, bias=False)
    torch.nn.init.constant_(module.weight, 0.25)
    return NeuralNetwork(module, "cross_entropy", learning_rate=0.2, rounds=6, batch_size=4, **options)


class Remote:
    """The handle of an actor in this process, which calls back after each checkpoint that is saved."""

    def __init__(self, actor: Any, then: Callable[[], None] = lambda: None) -> None:
        self._actor = actor
        self._then = then

    def __getattr__(self, name: str) -> Any:
        async def remote(*arguments: Any) -> Any:
            answer = await getattr(self._actor, name)(*arguments)
            if name == "save_checkpoint":
                self._then()
            return answer

        return type("Method", (), {"remote": staticmethod(remote)})


class Scene:
    """Runs over one repository, each with a coordinator and holders of its own."""

    def __init__(self, folder: Path, data: Any, **options: Any) -> None:
        self.folder = folder
        self.data = data if isinstance(data, Mapping) else dict(zip(NAMES, data, strict=False))
        self.options = options

    def network(self, data: Mapping[str, Any] | None = None) -> Network:
        return Network(data or self.data, protocol=PairwiseMasking(), holder=DataHolder)

    async def run(
        self,
        model: Any,
        kept: Kept | None,
        *,
        data: Mapping[str, Any] | None = None,
        prepare: Callable[[Network], None] = lambda _: None,
        **options: Any,
    ) -> tuple[Result, list[Event]]:
        async with self.network(data) as network:
            network.coordinator.repository = Remote(ModelRepository(str(self.folder)))
            prepare(network)
            result = await network.run(model, kept=kept, **{**self.options, **options})
            return result, network.events

    async def break_off(
        self,
        model: Any,
        kept: Kept,
        after: int,
        *,
        prepare: Callable[[Network], None] = lambda _: None,
    ) -> None:
        """Run until so many checkpoints are there."""
        async with self.network() as network:
            n_saved = 0

            def saved() -> None:
                nonlocal n_saved
                n_saved += 1
                if n_saved == after:
                    running.cancel()

            network.coordinator.repository = Remote(ModelRepository(str(self.folder)), saved)
            prepare(network)
            running = asyncio.ensure_future(network.run(model, kept=kept, **self.options))
            with pytest.raises(asyncio.CancelledError):
                await running


KEPT = Kept("risk")


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def newest(scene: Scene) -> Checkpoint:
    octets = ModelStore(scene.folder).checkpoints.load("risk")
    assert octets is not None
    return read_checkpoint(octets, "it")


async def broken_off_everywhere(folder: Path, data: Any, model: Any, **options: Any) -> tuple[Result, Result]:
    """Run a model undisturbed, and broken off after each of its first checkpoints and taken up again."""
    undisturbed, events = await Scene(folder / "undisturbed", data, **options).run(model, None)
    scene = Scene(folder / "broken", data, **options)
    for number in range(min(3, sum(isinstance(event, Iterated) for event in events))):
        await scene.break_off(model, KEPT, 1 if number else 2)  # the first one says that the run has begun
    resumed, later = await scene.run(model, KEPT)
    assert sum(isinstance(event, Pass) for event in later) < undisturbed.n_passes
    assert resumed.n_passes == undisturbed.n_passes
    assert resumed.remarks[-1].startswith("resumed after iteration")
    assert verify(ModelStore(folder / "broken")).ok
    return undisturbed, resumed


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_taken_up_gives_the_bits_of_one_that_was_not_broken_off(
    tmp_path: Path, case: str
) -> None:
    model, data = CASES[case]
    undisturbed, resumed = asyncio.run(broken_off_everywhere(tmp_path, data, model))
    assert resumed.value.to_dict() == undisturbed.value.to_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "fedsgd", "server_optimizer": "adam"},
        {"local_epochs": 2, "validation": 0.3, "early_stop": 2},
    ],
)
def test_a_network_that_is_taken_up_has_the_bits_of_one_that_was_not_broken_off(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    model, rows = network(**options), NETWORK_ROWS
    undisturbed, resumed = asyncio.run(broken_off_everywhere(tmp_path, rows, model))
    assert resumed.value.to_dict() == undisturbed.value.to_dict()


def test_points_that_a_holder_could_not_evaluate_are_remembered(tmp_path: Path) -> None:
    model = MaximumLikelihood(
        lambda theta, rows: float(np.sum(theta[0] - rows * math.log(theta[0]))), start={"lambda": 60.0}
    )

    async def play() -> None:
        scene = Scene(tmp_path, COUNTS)
        await scene.break_off(model, KEPT, 3)
        assert "void" in [told["outcome"] for told in newest(scene).content["told"]]
        resumed, _ = await scene.run(model, KEPT)
        assert resumed.value.params["lambda"] == pytest.approx(np.concatenate(COUNTS).mean(), rel=1e-9)

    asyncio.run(play())


def test_a_run_that_had_lost_a_holder_is_taken_up_over_the_others(tmp_path: Path) -> None:
    model = network(aggregation="fedsgd")

    def losing(network: Network) -> None:
        """Let c die after the third sum."""

        class Watched(list[Event]):
            def append(self, event: Event, /) -> None:
                super().append(event)
                if isinstance(event, Pass) and event.number == 3:
                    network.kill("c")

        network.events = Watched()

    async def play() -> None:
        undisturbed, _ = await Scene(tmp_path / "undisturbed", NETWORK_ROWS, on_dropout="continue").run(
            model, None, prepare=losing
        )
        scene = Scene(tmp_path / "broken", NETWORK_ROWS, on_dropout="continue")
        await scene.break_off(model, KEPT, 5, prepare=losing)
        resumed, later = await scene.run(model, KEPT)
        assert resumed.value.to_dict() == undisturbed.value.to_dict()
        assert (resumed.survivors, resumed.lost, resumed.may_isolate) == (("a", "b", "d"), ("c",), ("c",))
        assert {event.holders for event in later if isinstance(event, Pass)} == {("a", "b", "d")}

    asyncio.run(play())


@pytest.mark.parametrize(("number", "goes_on"), [(1, False), (3, False), (4, True)])
def test_a_loss_ends_a_run_that_asks_what_may_have_been_answered(
    tmp_path: Path, number: int, goes_on: bool
) -> None:
    model = network(aggregation="fedsgd")

    def losing(network: Network) -> None:
        sessions: set[bytes] = set()

        def on_frame(posted: Posted) -> bool:
            if posted.sender == "coordinator" and posted.to == "c" and posted.sealed.handshake:
                sessions.add(posted.sealed.session)
            if len(sessions) == number and "c" not in network.dead:
                network.kill("c")
            return True

        network.on_frame = on_frame

    async def play() -> None:
        scene = Scene(tmp_path, NETWORK_ROWS, on_dropout="continue")
        await scene.break_off(model, KEPT, 2)
        if goes_on:
            result, _ = await scene.run(model, KEPT, prepare=losing)
            assert result.lost == ("c",)
            return
        with pytest.raises(DropoutError, match="when it broke off may have been answered over all"):
            await scene.run(model, KEPT, prepare=losing)
        resumed, _ = await scene.run(model, KEPT)
        assert resumed.survivors == tuple("abcd")

    asyncio.run(play())


def test_a_run_is_taken_up_over_the_holders_that_it_had_and_no_others(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, COUNTS)
        await scene.break_off(LIKELIHOOD, KEPT, 1)
        for rows in (
            dict(zip("abd", COUNTS, strict=True)),
            dict(zip("abcd", [*COUNTS, COUNTS[0]], strict=True)),
        ):
            with pytest.raises(SetupError, match="a run with other holders"):
                await scene.run(LIKELIHOOD, KEPT, data=rows)
        result, _ = await scene.run(LIKELIHOOD, KEPT)
        assert result.remarks

    asyncio.run(play())


def test_another_model_protocol_or_encoding_is_refused_and_another_name_is_not(tmp_path: Path) -> None:
    other = MaximumLikelihood(poisson_nll, start={"lambda": 6.0}, bounds={"lambda": (0, None)})

    async def play() -> None:
        scene = Scene(tmp_path, COUNTS)
        await scene.break_off(LIKELIHOOD, KEPT, 1)
        with pytest.raises(SetupError, match="a run with another model: give this one a name of its own"):
            await scene.run(other, KEPT)
        with pytest.raises(SetupError, match="another encoding"):
            await scene.run(LIKELIHOOD, KEPT, encoding=FixedPoint(2.0**20, 30))
        with pytest.raises(SetupError, match="another protocol, or other options"):
            await scene.run(
                LIKELIHOOD, KEPT, prepare=lambda network: setattr(network, "protocol", SecretSharing())
            )
        for kept in (Kept("other"), Kept("risk", resume=False)):
            result, _ = await scene.run(other, kept)
            assert result.remarks == ()

    asyncio.run(play())


def test_a_finished_run_is_not_taken_up(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, COUNTS)
        first, asked = await scene.run(LIKELIHOOD, KEPT)
        again, asked_again = await scene.run(LIKELIHOOD, KEPT)
        assert again.value.to_dict() == first.value.to_dict()
        assert again.remarks == ()
        assert len(asked_again) == len(asked)
        assert newest(scene).finished
        assert newest(scene).content == {}

    asyncio.run(play())


@pytest.mark.parametrize(("every", "n_written"), [(1, 9), (3, 4), (100, 2)])
def test_checkpoints_are_written_every_so_many_states(tmp_path: Path, every: int, n_written: int) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, NETWORK_ROWS)
        await scene.run(network(aggregation="fedsgd"), Kept("risk", every))  # seven states and the end
        assert newest(scene).number == n_written

    asyncio.run(play())


def test_a_checkpoint_rests_on_sums_that_are_on_record(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, COUNTS)
        await scene.break_off(LIKELIHOOD, KEPT, 2)
        checkpoint = newest(scene)
        assert checkpoint.ledger.size >= checkpoint.run["n_passes"] == len(checkpoint.content["told"])

    asyncio.run(play())


def test_a_coordinator_that_was_thought_dead_does_not_write_over_its_successor(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, COUNTS)

        def overtaken(network: Network) -> None:
            def then() -> None:
                network.coordinator.repository = Remote(Overtaken())

            network.coordinator.repository = Remote(ModelRepository(str(tmp_path)), then)

        class Overtaken(ModelRepository):
            """The same repository, after the successor has written."""

            def __init__(self) -> None:
                super().__init__(str(tmp_path))

            async def save_checkpoint(self, octets: bytes) -> int:
                await scene.run(LIKELIHOOD, KEPT)
                return await super().save_checkpoint(octets)

        with pytest.raises(RecordError, match="another run has saved a checkpoint as 'risk' meanwhile"):
            await scene.run(LIKELIHOOD, KEPT, prepare=overtaken)
        assert newest(scene).finished

    asyncio.run(play())


def test_a_private_run_is_not_kept(tmp_path: Path) -> None:
    class Noise:
        def to_dict(self) -> dict[str, Any]:
            return {}

    class Noised(MaximumLikelihood):
        noised = Noise()

    async def play() -> None:
        with pytest.raises(PrivacyError, match="a run under privacy is not kept"):
            await Scene(tmp_path, COUNTS).run(Noised(poisson_nll, start={"lambda": 5.0}), KEPT)

    asyncio.run(play())


def test_without_the_holders_names_no_run_is_kept() -> None:
    terms = Terms(AdditiveSharing(2, at_most=8), kept=KEPT)

    async def play() -> None:
        with pytest.raises(SetupError, match="checkpoint= needs a coordinator that knows the holders"):
            await anext(Coordinator("coordinator", None).compute("computation", LIKELIHOOD, b"", terms))

    asyncio.run(play())
