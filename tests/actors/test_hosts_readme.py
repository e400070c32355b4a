"""The README's way to a federation over three machines, with its files and its commands, from the keys to the model."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hosts
import pytest
import tacit
from regressions import sites

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(hosts.obstacle()), reason=hosts.obstacle() or "there can be hosts"),
]

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
STUDY_FILE, PARTY_FILE = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
ROWS = dict(zip(("north", "east", "south"), sites("insectsprays.csv"), strict=True))
KINDS = {"coordinator": "coordinator", **dict.fromkeys(ROWS, "holder")}
MACHINES = {name: "coordinator" if name == "north" else name for name in KINDS}  # north is a guest
SECONDS = 180.0


def command(what: str) -> str:
    """Return the README's command of this name, with its arguments."""
    [found] = set(re.findall(rf"python -m tacit {what} [a-z. -]*[a-z]", README))
    return str(found)


@dataclass
class Way:
    """Who has come how far.

    Attributes
    ----------
    folder : Path
        Has a folder for each party.
    hosts : dict of str to Host
        Where each party is.
    """

    folder: Path
    hosts: dict[str, hosts.Host]
    joined: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def line(self, name: str, text: str) -> list[str]:
        """Return what runs a command where a party is, in its folder."""
        python = shlex.quote(sys.executable) + text.removeprefix("python")
        inside = f"cd {shlex.quote(str(self.folder / name))} && exec {python}"
        return self.hosts[name].command("sh", "-c", inside)

    def enter(self, name: str, text: str) -> str:
        """Enter a command, and return what it prints once it has ended well."""
        done = subprocess.run(
            self.line(name, text), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        return done.stdout

    def join(self, name: str) -> None:
        """Have a party join, and wait until it is ready."""
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            self.joined[name] = subprocess.Popen(
                self.line(name, command("join")), stdout=file, stderr=subprocess.STDOUT, text=True
            )
        ends = time.monotonic() + SECONDS
        while "ready: " not in log.read_text():
            assert self.joined[name].poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.1)

    def status(self) -> dict[str, Any]:
        """Return what the coordinator's machine says of the study, once all parties are there."""
        ends = time.monotonic() + SECONDS
        while True:
            done = subprocess.run(
                self.line("coordinator", "python -m tacit status study.toml --json"),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            if done.returncode == 0:
                seen: dict[str, Any] = json.loads(done.stdout)
                return seen
            assert time.monotonic() < ends, (done.stdout, done.stderr)


def write_files(way: Way) -> None:
    """Make keys, certificates and files, as the README says, for these addresses."""
    blocks = []
    for name, kind in KINDS.items():
        (way.folder / name).mkdir(mode=0o700)
        printed = way.enter(name, f"python -m tacit keys identity {name} --kind {kind} --out {name}.identity")
        [block] = re.findall(r"\[\[party\]\]\n(?:.+\n)+", printed)
        blocks.append(block + ('machine = "coordinator"\n' if MACHINES[name] != name else ""))
    addresses = {machine: way.hosts[machine].address for machine in dict.fromkeys(MACHINES.values())}
    named = " ".join(f"--machine {machine}={address}" for machine, address in addresses.items())
    way.enter("coordinator", f"python -m tacit keys cluster {named} --out cluster")
    study = STUDY_FILE.replace("10.1.0.1", addresses["coordinator"]) + "\n".join(blocks)
    for name in KINDS:
        folder, machine = way.folder / name, MACHINES[name]
        (folder / "certificates").symlink_to(way.folder / "coordinator" / "cluster" / machine)
        (folder / "study.toml").write_text(study)
        own = PARTY_FILE.replace("10.1.0.2", addresses[machine]).replace("north", name)
        if name in ROWS:
            ROWS[name].to_csv(folder / "rows.csv", index=False)
        else:
            own = re.sub(r"\[data\.sprays\]\n.*\n", "", own)
        (folder / "holder.toml").write_text(own)
        for file in ("study.toml", "holder.toml"):
            (folder / file).chmod(0o600)


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Three machines whose parties have joined by the README's two commands, the coordinator's first."""
    folder = tmp_path_factory.mktemp("way")
    with hosts.network(folder, 4) as network:
        machines = {machine: network.host(machine) for machine in dict.fromkeys(MACHINES.values())}
        way = Way(folder, {name: machines[machine] for name, machine in MACHINES.items()})
        write_files(way)
        for name in KINDS:
            way.enter(name, command("doctor"))
            way.join(name)
        yield way
        for joined in way.joined.values():
            joined.kill()
            joined.wait()


def test_all_parties_are_there_by_two_commands_a_machine(way: Way) -> None:
    seen = way.status()
    assert seen["parties"] == dict.fromkeys(KINDS, "there")
    assert seen["sums"] == 0


def test_the_answer_has_the_bits_of_the_simulation(way: Way) -> None:
    way.status()
    found = json.loads(way.enter("coordinator", f"{command('run')} --json"))
    with tacit.simulate(ROWS, protocol=tacit.RingPaillier()) as federation:
        fit = federation.fit(tacit.GLM("count ~ C(spray)", family="poisson"))
    assert found["version"] == 1
    expected = json.loads(json.dumps(fit.to_dict()))
    for name in ("estimates", "covariance", "llf", "deviance", "names", "survivors"):
        assert found["result"][name] == expected[name], name
    shown = way.enter("coordinator", "python -m tacit models list -r state/repository --json")
    assert "sprays" in shown
