"""A deployment as its user has it: the study's question, asked of parties that others have started."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import MASKING, Cluster, count_above, total_count
from ray.exceptions import RayError
from studies import study_text, write_study
from tacit.actors import cluster as ray_cluster
from tacit.actors import deployment as deployed
from tacit.actors import finding, heartbeat
from tacit.actors.deployment import Deployment, connected
from tacit.actors.errors import ClosedError, PeerUnreachableError
from tacit.protocols.errors import RefusedError, SetupError
from tacit.protocols.invitation import MODEL_NOT_ALLOWED, PROTOCOL_NOT_ALLOWED, QUERIES_SPENT, TOO_FEW_ROWS
from tacit.records.study import Study

ALL = ("coordinator", "north", "east", "south")
GLM = study_text(protocol=MASKING)
SUM = study_text(
    protocol=MASKING, analysis='model = "Sum"\nfunction = "deployed:total_count"\ndata = "sprays"'
)
IMPORTABLE = 'importable = ["deployed:total_count", "deployed:count_above"]'


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses at which Ray was joined; there is none."""
    addresses: list[str] = []
    monkeypatch.setattr(ray_cluster, "join_ray", lambda address, _: addresses.append(address))
    monkeypatch.setattr(ray_cluster, "is_running", lambda: True)
    monkeypatch.setattr(ray_cluster, "stop_ray", lambda _: addresses.append("left"))
    return addresses


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: list[str]) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


async def deployment(cluster: Cluster, text: str, policy: str = "") -> Deployment:
    """Let all parties of a study join, and connect with them."""
    for name in ALL:
        await cluster.join(name, text, policy=policy)
    for name in ALL:
        await cluster.misses(name)
    return connected(Study.read(write_study(cluster.folder, text)))


def test_sum_of_a_study_is_over_all_rows(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, IMPORTABLE)
            assert await asked.arun() == 21

    loop.run(scene())


def test_function_is_evaluated_where_it_is_asked_at(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, f'{IMPORTABLE}\nmodels = ["Sum"]')
            found = [int(await asked.asum(count_above, at)) for at in (0.5, 2.5, 5.5)]
            assert found == [6, 4, 1]

    loop.run(scene())


def test_fit_of_a_study_is_that_of_the_pooled_rows(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            fit = await asked.arun()
            assert fit.nobs == 6
            assert fit.params.tolist() == pytest.approx(
                [1.0986122886681098, 0.28768207245178085]
            )  # log 3, log 4/3
            assert fit.survivors == ("north", "east", "south")

    loop.run(scene())


def test_function_that_holders_do_not_allow_is_refused_by_their_names(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            with pytest.raises(RefusedError) as caught:
                await asked.asum(lambda rows: rows["count"].sum())
            assert caught.value.refusals == dict.fromkeys(("north", "east", "south"), (MODEL_NOT_ALLOWED, ""))

    loop.run(scene())


def test_coordinator_that_joined_anew_is_asked_without_connecting_again(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, IMPORTABLE)
            await cluster.end("coordinator")
            await cluster.join("coordinator", SUM, policy=IMPORTABLE)
            for name in ALL:
                await cluster.misses(name)
            assert await asked.arun() == 21

    loop.run(scene())


def test_coordinator_that_is_gone_is_told_with_what_its_owner_can_do(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, IMPORTABLE)
            await cluster.end("coordinator")
            with pytest.raises(
                PeerUnreachableError, match=r"the process of coordinator.*python -m tacit join"
            ):
                await asked.arun()

    loop.run(scene())


def test_coordinator_that_dies_under_a_question_is_told_with_what_its_owner_can_do(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, IMPORTABLE)
            cluster.handles["coordinator"].hangs.add("propose")
            asking = asyncio.ensure_future(asked.arun())
            await asyncio.sleep(0.01)
            await cluster.end("coordinator")
            with pytest.raises(PeerUnreachableError, match="python -m tacit join"):
                await asking

    loop.run(scene())


FROZEN = {"ping", "propose", "compute_definition"}


def test_coordinator_that_freezes_under_a_question_is_told_and_asked_again_when_it_is_back(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PULSE_SECONDS", 0.005)

    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            coordinator = cluster.handles["coordinator"]
            with pytest.raises(PeerUnreachableError, match=r"the process of coordinator.*frozen or cut off"):
                await asked.arun(on_event=lambda _: coordinator.hangs.update(FROZEN))
            with pytest.raises(PeerUnreachableError, match="frozen or cut off"):
                await asked.arun()
            coordinator.hangs.clear()
            for name in ALL:
                await cluster.misses(name)
            assert (await asked.arun()).nobs == 6

    loop.run(scene())


def test_coordinator_that_takes_its_time_is_waited_for(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PULSE_SECONDS", 0.001)

    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, IMPORTABLE)
            coordinator = cluster.handles["coordinator"]
            coordinator.hangs.add("propose")
            asking = asyncio.ensure_future(asked.arun())
            await asyncio.sleep(0.1)
            assert not asking.done()
            coordinator.hangs.clear()
            assert await asking == 21

    loop.run(scene())


@pytest.mark.parametrize("answer", ["nothing", "an error of Ray's"])
def test_head_of_ray_that_does_not_answer_is_told_in_time(
    answer: str, cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a new question: the handle of the coordinator is looked up for each."""
    plugged_in = threading.Event()

    def party(study: str, name: str) -> Any:
        if answer != "nothing":
            raise RayError("the head is gone")
        plugged_in.wait()
        raise LookupError(name)

    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            with monkeypatch.context() as cut:
                cut.setattr(deployed, "ANSWER_SECONDS", 0.02)
                cut.setattr(finding, "party", party)
                with pytest.raises(PeerUnreachableError, match=r"coordinator.*Ray's head does not answer"):
                    await asked.arun()
                plugged_in.set()
            assert (await asked.arun()).nobs == 6

    loop.run(scene())


def test_who_awaits_an_answer_does_other_things_while_the_head_of_ray_gives_none(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged_in = threading.Event()

    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            looked_up, find, here = asyncio.Event(), finding.party, asyncio.get_running_loop()

            def party(study: str, name: str) -> Any:
                here.call_soon_threadsafe(looked_up.set)
                plugged_in.wait()
                return find(study, name)

            monkeypatch.setattr(finding, "party", party)
            asking = asyncio.ensure_future(asked.arun())
            try:
                await looked_up.wait()
                assert not asking.done()
            finally:
                plugged_in.set()
            assert (await asking).nobs == 6

    loop.run(scene())


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("minimum_rows = 99", TOO_FEW_ROWS),
        ('models = ["OLS"]', MODEL_NOT_ALLOWED),
        ('protocols = ["RingPaillier"]', PROTOCOL_NOT_ALLOWED),
    ],
)
def test_policy_of_a_partys_own_file_holds(
    policy: str, reason: str, cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            for name in ALL:
                await cluster.join(name, GLM, policy=policy if name == "east" else "")
            for name in ALL:
                await cluster.misses(name)
            with pytest.raises(RefusedError) as caught:
                await connected(Study.read(write_study(cluster.folder, GLM))).arun()
            assert caught.value.refusals == {"east": (reason, "")}

    loop.run(scene())


def test_what_a_holder_remembers_outlives_its_process(cluster: Cluster, loop: asyncio.Runner) -> None:
    policy = f"{IMPORTABLE}\nmaximum_queries = 1"

    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, SUM, policy)
            assert await asked.arun() == 21
            for name in ALL:
                await cluster.end(name)
            asked = await deployment(cluster, SUM, policy)
            with pytest.raises(RefusedError) as caught:
                await asked.asum(total_count)
            assert {reason for reason, _ in caught.value.refusals.values()} == {QUERIES_SPENT}

    loop.run(scene())


def test_study_without_a_coordinator_leaves_ray(
    cluster: Cluster, joined: list[str], loop: asyncio.Runner
) -> None:
    with pytest.raises(PeerUnreachableError, match="python -m tacit join"):
        connected(Study.read(write_study(cluster.folder, GLM)))
    assert joined == ["10.1.0.1:6379", "left"]


def test_closed_deployment_asks_nobody(cluster: Cluster, joined: list[str], loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            asked.close()
            asked.close()
            assert joined == ["10.1.0.1:6379", "left"]
            for question in (lambda: asked.absent, lambda: asked.ledger, lambda: asked.processes):
                with pytest.raises(ClosedError):
                    question()
            assert not cluster.handles["coordinator"].dead  # the parties go on

    loop.run(scene())


def test_parties_are_not_the_users_to_restart(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            with pytest.raises(SetupError, match="started by its owner"):
                asked.restart()

    loop.run(scene())


def test_hosts_are_those_that_are_there(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            asked = await deployment(cluster, GLM)
            await cluster.end("east")
            assert asked._hosts().keys() == {"coordinator", "north", "south"}

    loop.run(scene())
