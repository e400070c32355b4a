"""Processes of a deployment: how they meet, whom they refuse, and what becomes of those that end and come back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import MASKING, Cluster, Handle, count_above, total_count, until
from ray.exceptions import ActorUnavailableError
from studies import identity_of, secret_of, study_text
from tacit.actors import deployed_hosts, transport, watching_host
from tacit.actors.computation import Terms
from tacit.actors.deployed_hosts import NOT_THERE, UNREACHED, UNREACHING
from tacit.actors.events import Failure, Result
from tacit.models.definition import Definition
from tacit.models.errors import DataError
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.protocols.errors import RefusedError, SetupError
from tacit.protocols.invitation import MODEL_NOT_ALLOWED
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.presence import Agreement, present
from tacit.serialization.codec import encode
from tacit.serialization.session_messages import Finished

ALL = ("coordinator", "north", "east", "south")
A_FRAME = encode(Finished(session=bytes(32), released=True))
OTHER_STUDY = study_text(protocol=MASKING) + "\n"  # one byte more


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(
        deployed_hosts, "log_to", lambda folder, party: None
    )  # it is for a process's whole life
    return Cluster(tmp_path, monkeypatch)


def agreed() -> Definition:
    return GLM("count ~ C(spray)", family="poisson").definition


# Meeting


def test_sessions_are_told_of_who_is_absent_and_of_nobody_who_was_met(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            for name in ALL[:3]:
                await cluster.join(name)
            await cluster.misses("north", "south")
            [driver] = [party.driver for party in cluster.host("north")._parties.values()]
            assert driver.absent == {"south"}
            await cluster.end("coordinator")
            await until(lambda: driver.absent == {"south", "coordinator"})
            await cluster.join("coordinator")
            await until(lambda: driver.absent == {"south"})

    loop.run(scene())


@pytest.mark.parametrize("order", list(itertools.permutations(["coordinator", "north", "east"])))
def test_parties_meet_in_whatever_order_they_come(
    order: tuple[str, ...], cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            for name in order:
                await cluster.join(name)
            for name in order:
                await cluster.misses(name, "south")
            assert cluster.lost == {"south"}

    loop.run(scene())


def test_parties_that_start_at_once_meet(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            hosts = [cluster.make(name) for name in ALL]
            await asyncio.gather(*(host.start() for host in hosts))
            for name in ALL:
                await cluster.misses(name)
            assert not cluster.lost

    loop.run(scene())


def test_who_is_alone_says_whom_it_misses(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            assert await cluster.join("north") == dict.fromkeys(("coordinator", "east", "south"), NOT_THERE)

    loop.run(scene())


def test_who_has_not_begun_to_look_has_met_nobody(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            cluster.make("coordinator")  # it loads its libraries, or its rows
            assert cluster.problems("coordinator") == dict.fromkeys(("north", "east", "south"), NOT_THERE)

    loop.run(scene())


def test_start_does_not_take_for_met_whom_it_still_looks_for(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed_hosts, "START_SECONDS", 0.05)

    async def scene() -> None:
        async with cluster:
            await cluster.join("east")
            cluster.handles["east"].hangs.add("present")
            assert (await cluster.join("north"))["east"] == NOT_THERE

    loop.run(scene())


def test_who_comes_later_is_met(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            assert cluster.lost == {"east", "south"}
            assert "north" not in await cluster.join("east")
            await until(lambda: cluster.lost == {"south"})
            assert cluster.problems("north") == {"south": NOT_THERE}

    loop.run(scene())


def test_who_still_reads_its_rows_is_waited_for(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            host = cluster.make("north")  # which answers, but has not started
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert cluster.problems("coordinator")["north"] == NOT_THERE
            assert "north" in cluster.lost
            await host.start()
            await until(lambda: "north" not in cluster.lost)

    loop.run(scene())


def test_who_is_met_is_watched_over_from_that_moment(cluster: Cluster, loop: asyncio.Runner) -> None:
    """A model may be proposed to a holder as soon as it is not lost."""

    async def scene() -> None:
        async with cluster:
            coordinator: Any = cluster.make("coordinator")
            starting = asyncio.ensure_future(coordinator.start())
            await cluster.join("north")
            while not starting.done():
                living = [peer for peer in coordinator._peers.values() if coordinator._is_living_holder(peer)]
                assert all(peer in coordinator.watching for peer in living)
                await asyncio.sleep(0.001)
            await until(lambda: "north" not in cluster.lost)

    loop.run(scene())


def test_what_a_party_missed_of_a_greeting_does_not_make_the_other_absent(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks for the other; one look may fail after the other has succeeded."""
    monkeypatch.setattr(deployed_hosts, "ANSWER_SECONDS", 0.05)

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            host: Any = cluster.host("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.lost)
            cluster.handles["north"].hangs.add("greet")
            [peer] = [peer for peer in host._peers.values() if "north" in peer.parties]
            assert await host._seek(peer) == NOT_THERE
            assert "north" not in cluster.problems("coordinator")

    loop.run(scene())


@pytest.mark.parametrize("allowed", [True, False])
def test_coordinator_imports_what_the_model_needs_before_anybody_waits(
    allowed: bool, cluster: Cluster, loop: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is there without it, too: who asks is told."""
    (tmp_path / "large_library.py").write_text("def count(rows): return len(rows)")
    monkeypatch.syspath_prepend(tmp_path)
    sums = 'model = "Sum"\nfunction = "large_library:count"\ndata = "sprays"'
    study = study_text(protocol=MASKING, analysis=sums)
    policy = 'importable = ["large_library:count"]' if allowed else ""

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator", study, policy=policy)
            assert ("large_library" in sys.modules) == allowed

    loop.run(scene())
    sys.modules.pop("large_library", None)


# Refusals


def test_other_study_is_refused_at_both_ends_with_the_reason(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            problems = await cluster.join("north", OTHER_STUDY)
            assert "coordinator goes by another study file" in problems["coordinator"]
            await until(lambda: "another study" in cluster.problems("coordinator")["north"])
            assert "north" in cluster.lost

    loop.run(scene())


def test_who_refuses_is_named_by_the_one_it_refuses(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            monkeypatch.setattr(
                deployed_hosts, "SEEK_SECONDS", 60.0
            )  # lest the coordinator finds north itself
            await asyncio.sleep(0.1)  # its last look by the shorter time is over
            monkeypatch.setattr(cluster.host("coordinator"), "greet", refusing)
            problems = await cluster.join("north")
            assert problems["coordinator"] == (
                "coordinator does not take north for the party of its study: it goes by another"
            )

    async def refusing(name: str) -> str:
        return "it goes by another"

    loop.run(scene())


def test_clock_of_a_party_that_is_met_is_compared(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north")
            north = cluster.host("north")

            async def hour_ahead(challenge: bytes) -> bytes:
                now = int(time.time()) + 3600
                return encode(
                    present(identity_of("north", "holder"), north._agreement, challenge, now)
                ).header

            monkeypatch.setattr(north, "present", hour_ahead)
            await cluster.join("coordinator")
            [(name, ahead)] = (await cluster.host("coordinator").clocks_ahead()).items()
            assert (name, round(ahead, -2)) == ("north", 3600)
            assert await north.clocks_ahead() == {}
            cluster.handles["north"].die()
            await cluster.misses("coordinator", "north", "east", "south")
            assert await cluster.host("coordinator").clocks_ahead() == {}, "whoever is gone has no clock"

    loop.run(scene())


def test_process_without_the_key_is_refused(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            cluster.handles["north"] = Handle(Impostor(cluster))
            await until(lambda: "signs with another key" in cluster.problems("coordinator")["north"])
            assert "north" in cluster.lost

    loop.run(scene())


class Impostor:
    """Takes the name of the holder north, and signs what that would say with a key of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._agreement = cluster.host("coordinator")._agreement

    async def present(self, challenge: bytes) -> bytes:
        east = identity_of("east", "holder")
        east.public = identity_of("north", "holder").public
        return encode(present(east, self._agreement, challenge, 0)).header

    async def greet(self, name: str) -> str:
        return ""


class Stranger:
    """Something else that goes by the name of a party."""

    async def present(self) -> object:
        return object()


class Mute:
    """Something that says nothing at all."""


@pytest.mark.parametrize("stranger", [Stranger(), Mute()])
def test_stranger_under_a_name_is_refused_and_looked_past(
    stranger: object, cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            cluster.handles["north"] = Handle(stranger)
            await until(lambda: "is another party" in cluster.problems("coordinator")["north"])
            await cluster.join("north")  # the search has gone on
            await until(lambda: "north" not in cluster.lost)

    loop.run(scene())


def test_greeting_under_a_name_makes_nobody_that_party(cluster: Cluster, loop: asyncio.Runner) -> None:
    """Whoever greets is not believed: the process that goes by the name has to prove itself."""

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            assert await cluster.host("coordinator").greet("north") == NOT_THERE
            assert "north" in cluster.lost

    loop.run(scene())


def test_party_that_greets_again_and_again_and_is_not_reached_is_told_apart_from_one_that_is_not_there(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it greets: a process that was cut off may have lost the way to it."""

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.problems("coordinator"))
            monkeypatch.setattr(deployed_hosts, "ANSWER_SECONDS", 0.01)
            cluster.handles["north"].hangs.update(("present", "ping"))
            host: Any = cluster.host("coordinator")
            [peer] = [peer for peer in host._peers.values() if "north" in peer.parties]
            host._lose(peer)
            greet = host.greet
            assert [await greet("north") for _ in range(3)] == [NOT_THERE, NOT_THERE, UNREACHED]
            assert cluster.problems("coordinator")["north"] == UNREACHED
            monkeypatch.setattr(deployed_hosts, "GREETING_SECONDS", 0.0)
            await until(lambda: cluster.problems("coordinator")["north"] == NOT_THERE)
            cluster.handles["north"].hangs.clear()
            await until(lambda: "north" not in cluster.problems("coordinator"))

    loop.run(scene())


def test_who_greets_a_party_that_does_not_reach_it_knows(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            host: Any = cluster.make("north")

            async def greet(name: str) -> str:
                return UNREACHED

            host.greet = greet
            await until(lambda: cluster.problems("coordinator")["north"] == UNREACHING)
            assert "north" in cluster.lost

    loop.run(scene())


@pytest.mark.parametrize("name", ["west", "coordinator", ""])
def test_greeting_of_nobody_of_the_study_is_refused(
    name: str, cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            assert await cluster.host("coordinator").greet(name) == "the study has no such party"

    loop.run(scene())


def test_other_version_is_refused(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            host: Any = cluster.make("north")
            host._agreement = Agreement(host._agreement.study, "0.0.1")
            assert "install the same" in (await host.start())["coordinator"]
            await until(lambda: "runs tacit 0.0.1" in cluster.problems("coordinator")["north"])

    loop.run(scene())


def test_refusal_is_logged_once_and_without_a_secret(
    cluster: Cluster, loop: asyncio.Runner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north", OTHER_STUDY)
            for _ in range(20):
                await asyncio.sleep(0.005)

    loop.run(scene())
    told = [record.getMessage() for record in caplog.records if record.name == deployed_hosts.__name__]
    assert len(told) == 2  # by each of the two
    for name in ("north", "coordinator"):
        assert secret_of(name)[:32].hex() not in caplog.text


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("name", ALL[:2])
def test_nobody_introduces_parties_or_installs_models(
    name: str, started: bool, cluster: Cluster, loop: asyncio.Runner
) -> None:
    """As in a simulation, where all parties are the user's."""

    async def scene() -> None:
        async with cluster:
            host: Any = cluster.make(name)
            if started:
                await host.start()
            with pytest.raises(SetupError, match="its study names"):
                await host.connect([await host.introduce()], [None])
            with pytest.raises(SetupError, match="takes no model from outside"):
                await host.install(bytes(32), [GLM("count ~ 1", family="poisson")])

    loop.run(scene())


# Losses


def test_who_restarts_is_met_anew_and_regained(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            for name in ("coordinator", "north", "east"):
                await cluster.join(name)
            await cluster.end("north")
            await until(lambda: cluster.lost == {"north", "south"})
            assert cluster.problems("coordinator")["north"] == NOT_THERE
            await cluster.join("north")
            await until(lambda: cluster.lost == {"south"})
            for name in ("coordinator", "east"):
                await cluster.misses(name, "south")
                [peer] = [peer for peer in cluster.host(name)._peers.values() if "north" in peer.parties]
                assert peer.handle is cluster.handles["north"]

    loop.run(scene())


def test_who_is_back_before_its_end_was_noticed_stays_regained(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    """The end of the old process, heard of late, is not the end of the new one."""

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.lost)
            old = cluster.handles["north"]
            await cluster.join("north")  # while the old one still answers
            [peer] = [peer for peer in cluster.host("coordinator")._peers.values() if "north" in peer.parties]
            await until(lambda: peer.handle is cluster.handles["north"])
            old.die()
            for _ in range(20):
                await asyncio.sleep(0.005)
                assert "north" not in cluster.lost
                assert "north" not in cluster.problems("coordinator")

    loop.run(scene())


def test_frame_to_the_old_process_that_fails_late_does_not_lose_the_new_one(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.lost)
            old, host = cluster.handles["north"], cluster.host("coordinator")
            old.hangs.add("deliver")
            party = host._coordinator
            posting = asyncio.ensure_future(party.driver._transport.post("north", A_FRAME))
            await until(lambda: old.is_asked("deliver"))
            await cluster.join("north")
            [peer] = [peer for peer in host._peers.values() if "north" in peer.parties]
            await until(lambda: peer.handle is cluster.handles["north"])
            old.die()
            await posting
            assert "north" not in cluster.lost

    loop.run(scene())


def test_who_answers_but_takes_no_frames_is_looked_for_anew(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A party that is lost to the transport alone would never be invited again."""
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.0)

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.lost)
            host, actor = cluster.host("coordinator"), cluster.host("north")
            monkeypatch.setattr(actor, "deliver", unavailable)
            await host._coordinator.driver._transport.post("north", A_FRAME)
            assert "north" in cluster.lost
            await until(lambda: "north" not in cluster.lost)
            assert "north" not in cluster.problems("coordinator")

    async def unavailable(*_: Any) -> None:
        raise ActorUnavailableError("x", None)

    loop.run(scene())


def test_who_hangs_is_lost_and_met_again_when_it_goes_on(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed_hosts, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(watching_host, "SILENCE_SECONDS", 0.05)

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.lost)
            cluster.handles["north"].hangs |= {"ping", "present", "greet"}
            await until(lambda: "north" in cluster.lost)
            assert cluster.problems("coordinator")["north"] == NOT_THERE
            cluster.handles["north"].hangs.clear()
            await until(lambda: "north" not in cluster.lost)
            assert "north" not in cluster.problems("coordinator")

    loop.run(scene())


def test_who_restarts_with_another_study_is_refused(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await cluster.end("north")
            await cluster.join("north", OTHER_STUDY)
            await until(lambda: "another study" in cluster.problems("coordinator").get("north", ""))
            assert "north" in cluster.lost

    loop.run(scene())


def test_party_that_leaves_looks_for_nobody_any_longer(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            host: Any = cluster.host("coordinator")
            await host.leave()
            await asyncio.sleep(0)
            assert all(task.done() for task in host._keeping)

    loop.run(scene())


# Rows


def test_rows_that_cannot_be_read_end_the_start_with_their_problem(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            host = cluster.make("north")
            (cluster.folder / "north" / "rows.csv").unlink()
            with pytest.raises(DataError, match="'sprays': it cannot be read"):
                await host.start()
            assert await host.greet("coordinator") == NOT_THERE  # nobody takes it for ready

    loop.run(scene())


# Models


def test_who_names_no_models_has_agreed_to_the_studys(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north")
            assert await cluster.host("north").propose(agreed().canonical) == ""

    loop.run(scene())


@pytest.mark.parametrize(
    "model",
    [
        GLM("count ~ C(spray)", family="gaussian"),
        GLM("count ~ 1", family="poisson"),
        GLM("count ~ C(spray)", family="poisson").with_cov_type("HC0"),
    ],
)
def test_who_names_no_models_allows_no_other(model: Any, cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north")
            assert await cluster.host("north").propose(model.definition.canonical) == MODEL_NOT_ALLOWED

    loop.run(scene())


def test_who_names_a_kind_of_model_allows_all_of_the_kind(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north", policy='models = ["GLM"]')
            other = GLM("count ~ 1", family="gaussian").definition
            assert await cluster.host("north").propose(other.canonical) == ""

    loop.run(scene())


def test_kind_that_is_not_named_is_not_allowed(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north", policy='models = ["OLS"]')
            assert await cluster.host("north").propose(agreed().canonical) == MODEL_NOT_ALLOWED

    loop.run(scene())


def test_function_that_is_not_importable_here_is_not_allowed(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north", policy='models = ["Sum"]')
            asked = Sum(os.path.getsize).definition
            assert await cluster.host("north").propose(asked.canonical) == MODEL_NOT_ALLOWED

    loop.run(scene())


def by_name(function: Any, **changed: str) -> bytes:
    """The definition of a sum of a function, of which something else is said than what is so."""
    definition = Sum(function).definition
    described = {**definition.parameters["function"], **changed}
    return Definition("Sum", {**definition.parameters, "function": described}).canonical


@pytest.mark.parametrize(
    "definition",
    [
        Sum(count_above).definition.canonical,
        by_name(count_above, name="deployed.total_count"),
        by_name(total_count, name="deployed.total_count.__globals__"),
        by_name(total_count, name="test_deployed_hosts.total_count"),
        MaximumLikelihood(total_count, start={"seed": 7.0}).definition.canonical,  # type: ignore[arg-type]
    ],
    ids=["another", "by its name", "a part of it", "by way of another module", "in another model"],
)
def test_no_way_leads_round_what_may_be_imported(
    definition: bytes, cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            for _ in range(2):
                await cluster.join("north", policy='models = ["Sum"]\nimportable = ["deployed:total_count"]')
                assert await cluster.host("north").propose(definition) == MODEL_NOT_ALLOWED
                assert await cluster.host("north").propose(Sum(total_count).definition.canonical) == ""
                await cluster.end("north")

    loop.run(scene())


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b"[]", b'{"kind":1,"parameters":{}}', agreed().canonical + b" ", b"[" * 100_000],
    ids=["nothing", "empty", "no text", "a list", "no kind", "not canonical", "deep"],
)
def test_bytes_that_are_no_definition_are_not_allowed(
    content: bytes, cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            await cluster.join("north", policy='models = ["GLM"]')
            assert await cluster.host("north").propose(content) == MODEL_NOT_ALLOWED

    loop.run(scene())


def test_coordinator_names_the_holders_that_do_not_allow_a_model(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    async def scene() -> None:
        async with cluster:
            for name in ("coordinator", "north"):
                await cluster.join(name)
            await cluster.join("east", policy='models = ["OLS"]')
            await until(lambda: cluster.lost == {"south"})
            with pytest.raises(RefusedError) as caught:
                await cluster.host("coordinator").propose(agreed().canonical)
            assert caught.value.refusals == {"east": (MODEL_NOT_ALLOWED, "")}

    loop.run(scene())


def test_holder_that_hangs_over_a_proposal_is_not_waited_for(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_host, "SILENCE_SECONDS", 0.05)

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator")
            await cluster.join("north")
            await until(lambda: "north" not in cluster.lost)
            cluster.handles["north"].hangs |= {"ping", "propose", "present"}
            await cluster.host("coordinator").propose(agreed().canonical)
            assert "north" in cluster.lost

    loop.run(scene())


async def join_all(cluster: Cluster) -> None:
    """Have all join and be met; any GLM may be asked."""
    for name in ALL:
        await cluster.join(name, policy='models = ["GLM"]')
    await until(lambda: not cluster.lost)


def test_silence_is_borne_longer_only_while_a_model_is_handed_out_for_the_first_time(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holders import what it takes, which may silence them; the study's own they have imported when they joined."""
    monkeypatch.setattr(watching_host, "LOADING_SECONDS", 1e9)
    other = GLM("count ~ 1", family="poisson").definition.canonical

    async def scene() -> None:
        async with cluster:
            await join_all(cluster)
            host, north = cluster.host("coordinator"), cluster.handles["north"]
            await host.propose(other)
            monkeypatch.setattr(watching_host, "SILENCE_SECONDS", 0.05)
            for definition in (other, agreed().canonical):
                north.hangs |= {"ping", "propose", "present"}
                await host.propose(definition)
                assert cluster.lost == {"north"}
                north.hangs.clear()
                await until(lambda: not cluster.lost)

    loop.run(scene())


def test_process_that_joined_anew_is_given_the_time_again_that_an_import_takes(
    cluster: Cluster, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_host, "SILENCE_SECONDS", 0.05)
    other = GLM("count ~ 1", family="poisson").definition.canonical

    async def scene() -> None:
        async with cluster:
            await join_all(cluster)
            host = cluster.host("coordinator")
            await host.propose(other)
            await cluster.end("north")
            await until(lambda: cluster.lost == {"north"})
            await cluster.join("north", policy='models = ["GLM"]')
            await until(lambda: not cluster.lost)
            north = cluster.handles["north"]
            north.hangs |= {"ping", "propose", "present"}
            proposing = asyncio.ensure_future(host.propose(other))
            await asyncio.sleep(0.5)  # ten times what is borne otherwise
            assert not cluster.lost
            north.hangs.clear()
            await proposing
            assert not cluster.lost

    loop.run(scene())


def test_coordinator_is_there_even_if_the_studys_question_cannot_be_asked(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    """Whoever asks is told why, and `doctor` says so."""
    study = study_text(protocol=MASKING, rest="[analysis.privacy]\nepsilon = 1.0\ndelta = 1e-6\nclip = 1.0\n")

    async def scene() -> None:
        async with cluster:
            await cluster.join("coordinator", study)
            assert cluster.problems("coordinator").keys() == {"north", "east", "south"}

    loop.run(scene())


# The question


async def ask(cluster: Cluster, on_dropout: Any = "fail") -> Result:
    host, asked = cluster.host("coordinator"), agreed()
    await host.propose(asked.canonical)
    terms = Terms(PairwiseMasking(), None, on_dropout)
    async for event in host.compute_definition("fit", asked.canonical, terms):
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, Result):
            return event
    raise AssertionError("the events end without a result")


def test_studys_question_is_answered_over_all_rows(cluster: Cluster, loop: asyncio.Runner) -> None:
    async def scene() -> None:
        async with cluster:
            for name in ALL:
                await cluster.join(name)
            await until(lambda: not cluster.lost)
            result = await ask(cluster)
            assert result.survivors == ("north", "east", "south")
            assert result.value.nobs == 6

    loop.run(scene())


def test_holder_that_restarts_between_two_questions_is_in_both(
    cluster: Cluster, loop: asyncio.Runner
) -> None:
    """What the coordinator keeps from one sum to the next is not taken for what the new process has."""

    async def scene() -> None:
        async with cluster:
            for name in ALL:
                await cluster.join(name)
            await until(lambda: not cluster.lost)
            first = await ask(cluster)
            await cluster.end("east")
            await until(lambda: cluster.lost == {"east"})
            await cluster.join("east")
            await until(lambda: not cluster.lost and not any(map(cluster.problems, ALL)))
            second = await ask(cluster)
            assert second.survivors == first.survivors == ("north", "east", "south")
            assert second.value.params.tolist() == first.value.params.tolist()

    loop.run(scene())
