"""Studies over several hosts: tokens and TLS on, one machine a party, and what may happen to it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hosts
import numpy as np
import pytest
from deployments import COORDINATOR, STATED_SECONDS, TYPED, Analyst, Deployed, deploy
from studies import secret_of
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.total import pooled
from tacit.records.certificates import environment

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),  # Ray takes half a minute to start on five hosts, and on a busy machine more
    pytest.mark.skipif(bool(hosts.obstacle()), reason=hosts.obstacle() or "there can be hosts"),
]

SITES = poisson_sites()
POISSON = """\
model = "MaximumLikelihood"
nll = "tacit.models.poisson:poisson_nll"
data = "rows"
start = {lambda = 5.0}
bounds = {lambda = [0.0, inf]}"""
POLICY = 'importable = ["tacit.models.poisson:poisson_nll"]\nset_changes = 100'


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Four holders and a coordinator."""
    folder = tmp_path_factory.mktemp("study")
    counts = {name: [int(count) for count in of] for name, of in SITES.items()}
    counts["site-4"] = [9, 11]
    rows = {name: "count\n" + "".join(f"{count}\n" for count in of) for name, of in counts.items()}
    with hosts.network(folder) as network:
        made = deploy(network, folder, rows, POISSON, policy=POLICY, rules='on_dropout = "continue"')
        made.start()
        yield made


@pytest.fixture(autouse=True)
def all_there(deployed: Deployed, analyst: Analyst) -> None:
    deployed.wait_until_all_are_met(analyst)


def estimate(*names: str) -> float:
    """What the pooled rows of some holders give."""
    parts = [*(SITES[name] for name in names if name in SITES), *([[9, 11]] if "site-4" in names else [])]
    model = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})

    async def last() -> Any:
        async for end in model.iterate(pooled(model, parts)):
            fit = end
        return fit

    return float(asyncio.run(last()).params["lambda"])


def check(answer: dict[str, Any], *lost: str) -> None:
    """An answer over the survivors, or a typed error, in time."""
    assert answer["seconds"] < STATED_SECONDS
    if "error" in answer:
        assert answer["error"] in TYPED
        return
    expected = estimate(*answer["survivors"])
    if lost:  # Newton has gone on from where it stood
        assert answer["params"] == pytest.approx([expected], rel=1e-9)
    else:
        assert answer["params"] == [expected]
    assert not set(lost) & set(answer["survivors"])


def check_works(answer: dict[str, Any]) -> None:
    """An answer, and no error."""
    assert "error" not in answer, answer
    check(answer)


def ask_while(deployed: Deployed, analyst: Analyst, happens: Callable[[], None]) -> dict[str, Any]:
    """Run the study while something happens."""
    analyst.begin("run")
    time.sleep(0.3)  # a run takes about a second
    happens()
    return analyst.end()


def test_the_answer_has_the_bits_of_the_pooled_rows(analyst: Analyst) -> None:
    answer = analyst.ask("run")
    assert answer["survivors"] == [*SITES, "site-4"]
    check(answer)


def test_a_holder_that_is_cut_off_is_lost_and_comes_back(deployed: Deployed, analyst: Analyst) -> None:
    host = deployed.host("site-2")
    answer = ask_while(deployed, analyst, host.cut_off)
    host.plug_in()
    check(answer, "site-2")
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


def test_a_holder_that_freezes_is_lost_and_comes_back(deployed: Deployed, analyst: Analyst) -> None:
    answer = ask_while(deployed, analyst, lambda: deployed.send("site-3", signal.SIGSTOP))
    deployed.send("site-3", signal.SIGCONT)
    check(answer, "site-3")
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


def test_a_holder_that_is_killed_joins_again_by_itself(deployed: Deployed, analyst: Analyst) -> None:
    check(ask_while(deployed, analyst, lambda: deployed.send("site-1", signal.SIGKILL)), "site-1")
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


def test_a_machine_that_crashes_is_back_when_it_is_started(deployed: Deployed, analyst: Analyst) -> None:
    host = deployed.host("site-4")
    answer = ask_while(deployed, analyst, host.crash)
    host.boot()
    deployed.join("site-4")
    check(answer, "site-4")
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


def test_a_command_that_is_killed_leaves_nothing_in_the_way_of_the_next(
    deployed: Deployed, analyst: Analyst
) -> None:
    """It has no time to end Ray and the party's process itself."""
    joined = deployed.joins["site-3"]
    [inside] = Path(f"/proc/{joined.pid}/task/{joined.pid}/children").read_text().split()
    os.kill(int(inside), signal.SIGKILL)
    joined.wait()
    deployed.wait_for(lambda: not deployed.processes("site-3", "tacit") + deployed.processes("site-3", "ray"))
    deployed.join("site-3")
    deployed.wait_for(lambda: deployed.is_ready("site-3"))
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


def test_a_party_that_is_met_again_stays_met(deployed: Deployed, analyst: Analyst) -> None:
    """Whatever has been lost and found again before."""
    for _ in range(6):  # for longer than a silence is borne
        answer = analyst.ask("run")
        check_works(answer)
        assert answer["survivors"] == [*SITES, "site-4"]


def test_a_coordinator_that_freezes_is_told_and_works_when_it_has_thawed(
    deployed: Deployed, analyst: Analyst
) -> None:
    try:
        for answer in (
            ask_while(deployed, analyst, lambda: deployed.send(COORDINATOR, signal.SIGSTOP)),
            analyst.ask("run"),  # by who did not know
        ):
            assert answer["error"] == "PeerUnreachableError"
            assert "coordinator" in answer["message"]
            assert "look there" in answer["message"]
            assert answer["seconds"] < STATED_SECONDS
    finally:
        deployed.send(COORDINATOR, signal.SIGCONT)
    deployed.wait_for(lambda: analyst.ask("absent").get("absent") == {})
    check_works(analyst.ask("run"))


def test_who_asks_is_told_that_the_coordinator_is_cut_off(deployed: Deployed, analyst: Analyst) -> None:
    """By the machine of who asks: to it that is the same, and the others' Ray keeps its head."""
    elsewhere = deployed.analyst("site-4")
    host = deployed.host("site-4")
    try:
        check_works(elsewhere.ask("run"))
        for answer in (ask_while(deployed, elsewhere, host.cut_off), elsewhere.ask("run")):
            assert answer["error"] == "PeerUnreachableError"
            assert answer["seconds"] < STATED_SECONDS
    finally:
        host.plug_in()
        elsewhere.close()
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


def test_a_coordinator_that_is_killed_joins_again_by_itself(deployed: Deployed, analyst: Analyst) -> None:
    version = analyst.ask("save", name="rate")["version"]
    answer = ask_while(deployed, analyst, lambda: deployed.send(COORDINATOR, signal.SIGKILL))
    assert answer.get("error", "PeerUnreachableError") == "PeerUnreachableError"
    assert answer["seconds"] < STATED_SECONDS
    deployed.wait_for(lambda: analyst.ask("absent").get("absent") == {})
    check_works(analyst.ask("run"))
    assert analyst.ask("save", name="rate")["version"] == version + 1  # nothing was lost
    assert analyst.ask("verify")["verified"]


def test_a_coordinator_that_joins_again_needs_nothing_of_a_machine_that_is_cut_off_and_meets_it_again(
    deployed: Deployed, analyst: Analyst
) -> None:
    """Whose Ray may have missed for good that the coordinator's process is another one now."""
    host, before = deployed.host("site-2"), {COORDINATOR: deployed.times_ready(COORDINATOR)}
    host.cut_off()
    try:
        deployed.send(COORDINATOR, signal.SIGKILL)
        deployed.wait_until_ready_again(before)
        deployed.wait_for(lambda: [*analyst.ask("absent")["absent"]] == ["site-2"])
        check(analyst.ask("run"), "site-2")
    finally:
        host.plug_in()
    deployed.wait_until_all_are_met(analyst)
    check_works(analyst.ask("run"))


@pytest.mark.parametrize(
    ("some", "others"),
    [
        (("site-3", "site-4"), (COORDINATOR, "site-1", "site-2")),  # too few are left
        (("site-1", "site-2"), ("site-3", "site-4")),  # and the coordinator reaches all
    ],
    ids=["in the middle", "among the holders"],
)
def test_a_network_that_falls_apart_is_told_in_time_and_forgotten_when_it_is_whole_again(
    deployed: Deployed, analyst: Analyst, some: tuple[str, ...], others: tuple[str, ...]
) -> None:
    with deployed.network.parted(*([deployed.host(name) for name in group] for group in (some, others))):
        answers = [ask_while(deployed, analyst, lambda: None), analyst.ask("run"), analyst.ask("run")]
    for answer in answers:
        check(answer)
        assert "error" in answer or COORDINATOR not in others, answer
    deployed.wait_until_all_are_met(analyst)

    def is_over_all() -> bool:  # holders find each other later than the coordinator does
        return analyst.ask("run").get("survivors") == [*SITES, "site-4"]

    deployed.wait_for(is_over_all)
    check_works(analyst.ask("run"))
    deployed.check_records(analyst, coordinator_ended=True)


STRANGER = """
import os, sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
    print("in", ray.nodes())
except BaseException as error:
    print("out", type(error).__name__)
"""


@pytest.mark.parametrize("has", ["nothing", "the token", "the certificates", "both"])
def test_without_token_and_certificate_a_process_gets_nothing(deployed: Deployed, has: str) -> None:
    variables = environment(deployed.folder / "site-1" / "certificates")
    known = {"nothing": "none", "the token": "RAY_AUTH", "the certificates": "RAY_(USE_)?TLS", "both": ""}[
        has
    ]
    given = {name: value for name, value in variables.items() if re.match(known, name)}
    stranger = subprocess.run(
        deployed.host("site-1").command(
            "timeout",
            "-k",
            "1",
            "20" if has == "both" else "10",
            sys.executable,
            "-c",
            STRANGER,
            deployed.address,
        ),
        env={**os.environ, "RAY_AUTH_MODE": "disabled", **given},
        capture_output=True,
        text=True,
        check=False,
    )
    if has == "both":
        assert stranger.stdout.startswith("in "), stranger
    else:
        assert not stranger.stdout or stranger.stdout.startswith("out ")  # Ray tries for longer than that


def test_no_open_port_gives_anything_to_who_has_no_certificate(deployed: Deployed) -> None:
    """Ray's agent on each machine alone speaks HTTP in the clear, and asks for the token."""
    told = deployed.network.told_to_strangers(deployed.host("site-1"))
    for answers in told.values():
        assert answers
        assert all(answer.startswith("HTTP/1.1 401 ") for answer in answers), told


def test_the_network_sees_no_plaintext(deployed: Deployed, analyst: Analyst, tmp_path: Path) -> None:
    with hosts.wiretap(deployed.network, tmp_path / "trace"):
        site, other = deployed.host("site-1"), deployed.host("site-2").address

        def is_listening() -> bool:
            site.run(sys.executable, "-c", SPEAK, CONTROL.decode(), other)
            return CONTROL in heard_in(tmp_path)  # what is not sealed is heard

        deployed.wait_for(is_listening, 20)
        answer = analyst.ask("run")
    check(answer)
    heard = heard_in(tmp_path)
    assert len(heard) > 100_000
    for text in ("MaximumLikelihood", "poisson_nll", "PairwiseMasking", "Sealed", "site-2", "lambda"):
        assert text.encode() not in heard
    for what, octets in secrets_of(deployed, answer).items():
        assert octets not in heard, what


def heard_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("trace.*"))


CONTROL = b"in the clear, for the control"
SPEAK = (
    "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (sys.argv[2], 9))"
)


def secrets_of(deployed: Deployed, answer: dict[str, Any]) -> dict[str, bytes]:
    """What must not be heard, by what it is: rows, values, and keys in the forms in which they lie in files."""
    found = {"the estimate": struct.pack("<d", answer["params"][0])}
    for name, host in deployed.hosts.items():
        certificates = deployed.folder / name / "certificates"
        found[f"the token of {name}"] = (certificates / "token").read_bytes().strip()
        key = (certificates / "node.key").read_bytes().splitlines()
        found |= {f"line {number} of the key of {host.name}": line for number, line in enumerate(key[1:-1])}
        for half in (secret_of(name)[:32], secret_of(name)[32:64]):
            found |= {f"the identity of {name}": half, f"the identity of {name} as text": half.hex().encode()}
    for name, counts in SITES.items():
        found[f"rows of {name} as text"] = "".join(f"{int(count)}\n" for count in counts[:7]).encode()
        for kind in ("<i8", "<f8"):
            found[f"rows of {name} as {kind}"] = np.asarray(counts[:3]).astype(kind).tobytes()
    return found


def test_the_ledgers_agree_and_the_repository_with_them(deployed: Deployed, analyst: Analyst) -> None:
    deployed.check_records(analyst, coordinator_ended=True)


def test_a_study_that_differs_by_a_byte_is_refused(deployed: Deployed, analyst: Analyst) -> None:
    study = deployed.study("site-4")
    agreed = study.read_bytes()
    deployed.leave("site-4")
    study.write_bytes(agreed.replace(b"Insect sprays", b"Insect sprays", 1) + b"# one more byte\n")
    deployed.join("site-4")
    refused = "another study file"
    deployed.wait_for(lambda: refused in analyst.ask("absent")["absent"].get("site-4", ""))
    check(analyst.ask("run"), "site-4")
    deployed.leave("site-4")
    study.write_bytes(agreed)
    deployed.join("site-4")
    deployed.wait_until_all_are_met(analyst)


def test_a_coordinators_machine_that_crashes_is_back_when_it_is_started(
    deployed: Deployed, analyst: Analyst
) -> None:
    """Ray's head is there, so all the others' Ray ends with it; **the last test here**: who asks is on that machine."""
    before = analyst.ask("save", name="rate")["version"]
    host = deployed.host(COORDINATOR)
    analyst.begin("run")
    time.sleep(0.3)
    host.crash()
    host.boot()
    deployed.join(COORDINATOR)
    deployed.wait_for(lambda: deployed.is_ready(COORDINATOR))
    again = deployed.analyst()
    try:
        deployed.wait_until_all_are_met(again)
        check_works(again.ask("run"))
        assert again.ask("save", name="rate")["version"] == before + 1  # nothing was lost
        assert again.ask("verify")["verified"]
        deployed.check_records(again, coordinator_ended=True)
    finally:
        again.close()
