"""Joining: what is kept running on a party's machine, and that nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from deployed import party_file
from studies import study_text
from tacit.actors import joining
from tacit.actors.finding import WITHOUT_METRICS
from tacit.actors.joining import Joining, check_secured, keeper_command, ray_command
from tacit.protocols.errors import SetupError
from tacit.records.certificates import make_cluster
from tacit.records.party_file import PartyFile

LOCAL = study_text(address="127.0.0.1:6379")
Event = Mapping[str, Any]


def read(folder: Path, name: str = "north", study: str = LOCAL, ray: str = "") -> PartyFile:
    return PartyFile.read(party_file(folder, name, study, rest=f"[ray]\n{ray}"))


class Told:
    """Notes what is said, and does something about it."""

    def __init__(self, then: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self._then = then

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._then(event)

    def of(self, event: str) -> list[Event]:
        return [told for told in self.events if told["event"] == event]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What runs in place of Ray and of the keeper: shell scripts that a test puts in."""
    scripts = {"Ray": ["sleep", "60"], "party": ["sleep", "60"]}
    monkeypatch.setattr(joining, "ray_command", lambda _: scripts["Ray"])
    monkeypatch.setattr(joining, "keeper_command", lambda _: scripts["party"])
    monkeypatch.setattr(joining, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(joining, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(joining, "END_SECONDS", 2.0)
    return scripts


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def interrupt(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def is_alive(process: int) -> bool:
    """Whether a process runs: one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def end(*processes: int) -> bool:
    """Whether processes end in the next seconds: who is killed takes a moment."""
    for _ in range(500):
        if not any(map(is_alive, processes)):
            return True
        time.sleep(0.01)
    return False


def after(n: int, event: str) -> Told:
    """Ends the stay once something was said so often."""

    def then(told: Event) -> None:
        if told["event"] == event and len(notes.of(event)) == n:
            interrupt()

    notes = Told(then)
    return notes


# What is kept running


def test_what_ends_is_started_again(commands: dict[str, list[str]], tmp_path: Path) -> None:
    commands["party"] = shell("exit 3")
    told = after(3, "pause")
    Joining(read(tmp_path), told).stay()
    assert [(event["process"], event["code"]) for event in told.of("ended")] == [("party", 3)] * 3


def test_both_are_started_again_when_one_ends(commands: dict[str, list[str]], tmp_path: Path) -> None:
    commands["Ray"] = shell("echo started; exit 1")
    commands["party"] = shell('echo "{\\"event\\": \\"begun\\"}"; sleep 60')
    told = after(2, "ended")
    Joining(read(tmp_path), told).stay()
    assert {event["process"] for event in told.of("ended")} == {"Ray"}
    assert len([event for event in told.of("printed") if event["line"] == "started"]) == 2


def test_ray_that_runs_already_is_not_started(commands: dict[str, list[str]], tmp_path: Path) -> None:
    commands["Ray"] = shell("exit 7")
    commands["party"] = shell("exit 3")
    told = after(1, "ended")
    Joining(read(tmp_path, ray="start = false"), told).stay()
    assert [event["process"] for event in told.of("ended")] == ["party"]


def test_lines_of_the_keeper_are_events_and_others_are_passed_on(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    lines = ['{"event": "ready", "party": "north"}', "{broken", '{"no": "event"}', "[1]", "words", ""]
    commands["party"] = [sys.executable, "-c", f"print({chr(10).join(lines)!r})"]
    told = after(1, "ended")
    Joining(read(tmp_path), told).stay()
    assert told.of("ready") == [{"event": "ready", "party": "north"}]
    printed = [event["line"] for event in told.of("printed")]
    assert printed == ["{broken", '{"no": "event"}', "[1]", "words"]


def test_what_was_printed_last_tells_why_a_process_has_ended(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    commands["Ray"] = shell(
        "for i in 1 2 3 4 5 6 7; do echo line $i; done; echo the port is taken >&2; exit 1"
    )
    told = after(1, "ended")
    Joining(read(tmp_path), told).stay()
    [ended] = told.of("ended")
    assert ended["last"] == ["line 4", "line 5", "line 6", "line 7", "the port is taken"]


def test_bytes_that_are_no_text_are_passed_on(commands: dict[str, list[str]], tmp_path: Path) -> None:
    commands["party"] = shell("printf '\\377\\376 x\\n'")
    told = after(1, "ended")
    Joining(read(tmp_path), told).stay()
    assert told.of("printed")[0]["line"].endswith(" x")


# Leaving


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name
)
def test_signal_ends_all_with_all_that_they_have_started(
    number: signal.Signals, commands: dict[str, list[str]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By their process groups: what a shell has started, too."""
    before = signal.signal(number, signal.SIG_DFL)  # whoever has started the tests may have had it ignored
    request.addfinalizer(lambda: signal.signal(number, before))
    processes: list[int] = []

    def then(event: Event) -> None:
        if event["event"] == "printed":
            processes.extend(map(int, event["line"].split()))
            if len(processes) == 4:
                interrupt(number)

    for name in ("Ray", "party"):
        commands[name] = shell("sleep 60 & echo $$ $!; wait")
    Joining(read(tmp_path), Told(then)).stay()
    assert len(processes) == 4
    assert end(*processes)


def test_process_that_does_not_end_is_ended(
    commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "END_SECONDS", 0.05)
    processes: list[int] = []

    def then(event: Event) -> None:
        if event["event"] == "printed":
            processes.append(int(event["line"]))
            interrupt()

    commands["party"] = shell("trap '' TERM; echo $$; while :; do sleep 0.01; done")
    Joining(read(tmp_path), Told(then)).stay()
    assert end(*processes)


def test_second_signal_leaves_nothing_behind(
    commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "END_SECONDS", 0.3)
    processes: list[int] = []

    def then(event: Event) -> None:
        if event["event"] == "printed":
            processes.append(int(event["line"]))
            if len(processes) == 2:
                interrupt()
                for wait, number in ((0.05, signal.SIGTERM), (0.1, signal.SIGINT)):
                    threading.Timer(wait, interrupt, [number]).start()

    for name in ("Ray", "party"):
        commands[name] = shell("trap '' TERM; echo $$; while :; do sleep 0.01; done")
    Joining(read(tmp_path), Told(then)).stay()
    assert len(processes) == 2
    assert end(*processes)


SLEEPER = "import os, sys, time; print(os.getpid(), *sys.argv[1:], flush=True); time.sleep(60)"
STUBBORN = f"""
import signal, subprocess, sys
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
{SLEEPER}
"""
JOIN = """
import json, sys
from pathlib import Path
from tacit.actors import joining
from tacit.records.party_file import PartyFile
joining.ray_command = joining.keeper_command = lambda _: [*joining.TETHERED, "sleeper"]
joining.Joining(PartyFile.read(Path(sys.argv[1])), lambda told: print(json.dumps(told), flush=True)).stay()
"""


def started(folder: Path, *code: str, **modules: str) -> subprocess.Popen[str]:
    """Start Python that finds some modules, in a group of its own, with a pipe to its stdin."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return subprocess.Popen(
        [sys.executable, *code],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def test_join_that_is_killed_takes_its_children_with_it(tmp_path: Path) -> None:
    path = read(tmp_path).path
    with started(tmp_path, "-c", JOIN, str(path), sleeper=SLEEPER) as join:
        children = [int(json.loads(line_of(join))["line"]) for _ in range(2)]
        assert all(map(is_alive, children))
        join.kill()
        assert end(*children)


def test_tethered_module_has_its_arguments_and_ends_with_the_pipe(tmp_path: Path) -> None:
    with started(
        tmp_path, "-m", "tacit.actors.tether", "sleeper", "--for", "ever", sleeper=SLEEPER
    ) as process:
        assert line_of(process) == f"{process.pid} --for ever"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == -signal.SIGTERM


def test_tethered_process_that_does_not_end_is_ended_with_its_group(tmp_path: Path) -> None:
    code = "from tacit.actors import tether; tether.GRACE_SECONDS = 0.05; tether.main()"
    with started(tmp_path, "-c", code, "stubborn", stubborn=STUBBORN) as process:
        processes = [int(line_of(process)) for _ in range(2)]
        assert process.stdin is not None
        process.stdin.close()
        assert end(*processes)


def test_signals_mean_what_they_did_before(commands: dict[str, list[str]], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in joining.SIGNALS]
    commands["party"] = shell("exit 0")
    Joining(read(tmp_path), after(1, "ended")).stay()
    assert [signal.getsignal(number) for number in joining.SIGNALS] == before


def test_signal_that_was_ignored_stays_so(commands: dict[str, list[str]], tmp_path: Path) -> None:
    """As `nohup` has it: the command goes on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        commands["party"] = shell("exit 0")

        def then(event: Event) -> None:
            if event["event"] == "pause":
                interrupt(signal.SIGHUP if len(told.of("pause")) < 3 else signal.SIGTERM)

        told = Told(then)
        Joining(read(tmp_path), told).stay()
        assert len(told.of("pause")) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


# What the processes are told


def test_processes_know_certificates_and_token_by_their_paths_alone(tmp_path: Path) -> None:
    make_cluster(tmp_path / "made", {"north": ["10.1.0.2"]}, bytes)
    file = read(tmp_path, study=study_text(), ray=f'ip = "10.1.0.2"\ncertificates = "{tmp_path}/made/north"')
    told = Joining(file, print).environment
    assert told["RAY_USE_TLS"] == "1"
    assert told["RAY_AUTH_MODE"] == "token"
    token = (tmp_path / "made" / "north" / "token").read_text().strip()
    assert token not in json.dumps(told)
    assert token not in " ".join([*ray_command(file), *keeper_command(file)])


def test_cluster_of_one_machine_runs_without(tmp_path: Path) -> None:
    told = Joining(read(tmp_path), print).environment
    assert told["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_USE_TLS" not in told


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379"])
def test_cluster_of_one_machine_needs_no_certificates(address: str, tmp_path: Path) -> None:
    check_secured(read(tmp_path, study=study_text(address=address)))


@pytest.mark.parametrize(
    "address", ["10.1.0.1:6379", "127.0.0.1.example:6379", "head.example:6379", "[fd00::1]:6379"]
)
def test_open_cluster_is_refused_before_anything_is_started(
    address: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    told = Told()
    with pytest.raises(SetupError, match=r"would be open to its network.*keys cluster"):
        Joining(read(tmp_path, study=study_text(address=address)), told).stay()
    assert told.events == []


def test_open_cluster_is_for_who_says_so(tmp_path: Path) -> None:
    check_secured(read(tmp_path, study=study_text(), ray="insecure = true"))


# Ray's command


def test_coordinator_has_the_head_at_the_studys_port(tmp_path: Path) -> None:
    command = ray_command(read(tmp_path, "coordinator", study_text(), 'ip = "10.1.0.1"'))
    assert {"--head", "--port=6379", "--include-dashboard=false"} <= {*command}
    assert "--node-ip-address=10.1.0.1" in command
    assert "--labels=tacit.party=coordinator" in command


def test_others_go_to_the_head(tmp_path: Path) -> None:
    command = ray_command(read(tmp_path, study=study_text(), ray='ip = "10.1.0.2"'))
    assert "--head" not in command
    assert {"--address=10.1.0.1:6379", "--node-ip-address=10.1.0.2", "--labels=tacit.party=north"} <= {
        *command
    }


def test_address_that_is_not_given_is_left_to_ray(tmp_path: Path) -> None:
    command = ray_command(read(tmp_path, study=study_text()))
    assert not [word for word in command if word.startswith("--node-ip-address")]


def test_on_one_machine_ray_is_given_its_own_address(tmp_path: Path) -> None:
    assert "--node-ip-address=127.0.0.1" in ray_command(read(tmp_path))


def test_ray_stays_in_the_foreground_and_reports_nothing_to_anybody(tmp_path: Path) -> None:
    assert {"--block", "--disable-usage-stats"} <= {*ray_command(read(tmp_path))}
    assert Joining(read(tmp_path), print).environment["RAY_USAGE_STATS_ENABLED"] == "0"


def test_priority_that_the_user_has_chosen_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "5")
    assert Joining(read(tmp_path), print).environment["RAY_worker_niceness"] == "5"
    monkeypatch.delenv("RAY_worker_niceness")
    assert Joining(read(tmp_path), print).environment["RAY_worker_niceness"] == "0"


def test_ray_tells_metrics_to_nobody_unless_the_party_says_so(tmp_path: Path) -> None:
    assert WITHOUT_METRICS.items() <= Joining(read(tmp_path), print).environment.items()
    told = Joining(read(tmp_path, ray="metrics = true"), print).environment
    assert not WITHOUT_METRICS.keys() & told.keys()


def test_keeper_is_given_the_file_and_nothing_else(tmp_path: Path) -> None:
    file = read(tmp_path)
    assert keeper_command(file)[1:] == [
        *("-m", "tacit.actors.tether"),
        *("tacit.actors.party_keeper", str(file.path)),
    ]
