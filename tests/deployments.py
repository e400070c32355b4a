"""A study over hosts: its files, its parties on their machines, and somebody who asks."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts import Host, Network
from studies import parties_text, study_text, write_identity
from tacit.records.audit import audit
from tacit.records.certificates import make_cluster

STATED_SECONDS = 10.0  # in which a question ends, whatever happens
TYPED = ("DropoutError", "AbortedError", "RefusedError", "PeerUnreachableError")
READY_SECONDS = 240.0  # a Ray that takes more than half a minute to start is started anew
LOOK_SECONDS = 0.1
COORDINATOR = "coordinator"

# Asks again and again, on the coordinator's machine; one line of JSON for each line that it reads.
ANALYST = """
import importlib, json, sys, time, warnings
import tacit
warnings.simplefilter("ignore")

def told(fit):
    values = {"params": fit.params.tolist()} if hasattr(fit, "params") else {"rows": fit.nobs, "bits": bits(fit)}
    return {**values, "survivors": list(fit.survivors)}

def bits(fit):
    return "".join(array.tobytes().hex() for array in fit.arrays.values())

fit = None
with tacit.connect(sys.argv[1]) as federation:
    print(json.dumps({"connected": True}), flush=True)
    for line in sys.stdin:
        began, asked = time.monotonic(), json.loads(line)
        try:
            if asked["do"] == "run":
                fit = federation.run()
                found = told(fit)
            elif asked["do"] == "save":
                found = {"version": federation.repository.save(federation.run(), asked["name"])}
            elif asked["do"] == "keep":  # what was found last
                found = {"version": federation.repository.save(fit, asked["name"])}
            elif asked["do"] == "sum":
                module, function = asked["function"].split(":")
                found = {"sum": federation.sum(getattr(importlib.import_module(module), function)).tolist()}
            elif asked["do"] == "recorded":
                found = {"recorded": [record["session"] for record in federation.ledger]}
            elif asked["do"] == "verify":
                found = {"verified": federation.repository.verify().ok}
            else:
                found = {"absent": federation.absent}
        except tacit.TacitError as error:
            found = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps({**found, "seconds": time.monotonic() - began}), flush=True)
"""


def _end_inside(process: subprocess.Popen[str], number: int) -> None:
    """End a command on a host, and not what has brought it into the host's namespaces."""
    for inside in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(inside), number)


@dataclass
class Analyst:
    """Who asks, in a process of its own."""

    process: subprocess.Popen[str]

    def close(self) -> None:
        """End it, even if it waits for an answer."""
        _end_inside(self.process, signal.SIGKILL)
        self.process.communicate()

    def ask(self, do: str, seconds: float = 120.0, **what: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        self.begin(do, **what)
        return self.end(seconds)

    def begin(self, do: str, **what: Any) -> None:
        """Ask."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()

    def end(self, seconds: float = 120.0) -> dict[str, Any]:
        """Wait for an answer."""
        assert self.process.stdout is not None
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                line = self.process.stdout.readline()
                if line.startswith("{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
                if not line:
                    break
        raise AssertionError(f"no answer in {seconds} s")


@dataclass
class Deployed:
    """The parties of a study on their hosts.

    Attributes
    ----------
    network : Network
    folder : Path
        Of everything; each party has a folder in it.
    hosts : dict of str to Host
        Where each party is.
    """

    network: Network
    folder: Path
    hosts: dict[str, Host]
    joins: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def host(self, name: str) -> Host:
        return self.hosts[name]

    def study(self, name: str = COORDINATOR) -> Path:
        return self.folder / name / "study.toml"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def join(self, name: str, **environment: str) -> None:
        """Have a party join on its host."""
        with self.log(name).open("w") as log:
            command = [
                sys.executable,
                "-m",
                "tacit",
                "join",
                str(self.folder / name / "party.toml"),
                "--json",
            ]
            self.joins[name] = self.host(name).start(*command, log=log, **environment)

    def leave(self, name: str) -> None:
        """End a party's command, as Ctrl-C does."""
        _end_inside(self.joins[name], signal.SIGTERM)
        self.joins[name].wait()

    def processes(self, name: str, title: str = "Deployed") -> list[int]:
        """Return the processes of a party's host with such a title, as the machine under all hosts numbers them."""
        found = []
        inside = os.readlink(f"/proc/{self.host(name).inside}/ns/pid")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    same = os.readlink(entry / "ns" / "pid") == inside
                    if same and title in (entry / "cmdline").read_text():
                        found.append(int(entry.name))
                except OSError:  # it has just ended
                    continue
        return found

    def send(self, name: str, number: int, title: str = "Deployed") -> None:
        """Send a signal to the process of a party."""
        [process] = self.processes(name, title)
        os.kill(process, number)

    @property
    def address(self) -> str:
        """Of Ray's head."""
        return f"{self.host(COORDINATOR).address}:6379"

    def events(self, name: str) -> list[dict[str, Any]]:
        """What a party has said so far."""
        lines = self.log(name).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, what: Callable[[], bool], seconds: float = READY_SECONDS) -> float:
        """Wait until something is so; return how long it took."""
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < seconds, {name: self.events(name)[-4:] for name in self.hosts}
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    def is_ready(self, name: str) -> bool:
        return self.times_ready(name) > 0

    def times_ready(self, name: str) -> int:
        """How often a party's process was made and is ready, since it was told to join."""
        return sum(event["event"] == "ready" for event in self.events(name))

    def wait_until_ready_again(self, before: Mapping[str, int]) -> None:
        """Wait until parties are ready more often than before: others may not have noticed yet that they were gone."""
        self.wait_for(lambda: all(self.times_ready(name) > times for name, times in before.items()))

    def start(self, seconds: float = READY_SECONDS) -> None:
        """Have all parties join, and wait until they are there."""
        for name in self.hosts:
            self.join(name)
        self.wait_for(lambda: all(map(self.is_ready, self.hosts)), seconds)

    def analyst(self, name: str = COORDINATOR) -> Analyst:
        """Connect on the machine of a party."""
        process = subprocess.Popen(
            self.host(name).command(sys.executable, "-c", ANALYST, str(self.study(name))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        analyst = Analyst(process)
        assert analyst.end(180.0) == {"connected": True}
        return analyst

    def check_records(self, analyst: Analyst, *, coordinator_ended: bool = False) -> None:
        """Every ledger is whole, they agree, and the repository has the sums that the coordinator's ledger has.

        If the coordinator's process has ended in between, a sum that nobody was told may be in its ledger alone.
        """
        with tempfile.TemporaryDirectory() as folder:
            for name, host in self.hosts.items():  # some lie where only their host sees them
                host.run("cp", "-r", str(self.folder / name / "state" / "ledger"), f"{folder}/{name}")
            found = audit([f"{folder}/{name}" for name in self.hosts])
        assert not found.disagreements, found.disagreements
        assert all(not chain.faults for chain in found.chains), found.chains
        [own] = [chain.sessions for chain in found.chains if chain.party == COORDINATOR]
        released = {session for session, told in own.items() if told.get("outcome") == "released"}
        recorded = set(analyst.ask("recorded")["recorded"])
        assert recorded <= own.keys()
        assert coordinator_ended or released <= recorded

    def wait_until_all_are_met(self, analyst: Analyst, seconds: float = 180.0) -> float:
        """Wait until the coordinator has met every party."""
        return self.wait_for(lambda: analyst.ask("absent")["absent"] == {}, seconds)


def deploy(
    network: Network,
    folder: Path,
    rows: Mapping[str, str],
    analysis: str,
    protocol: str = 'name = "PairwiseMasking"',
    policy: str = "",
    rules: str = "",
    sources: Mapping[str, str] | None = None,
    guest: str = "",
    aggregators: Sequence[str] = (),
) -> Deployed:
    """Write the files of a study over new hosts: a coordinator, and holders of rows as CSV.

    Parameters
    ----------
    rows : mapping of str to str
        Each holder's CSV file.
    analysis, protocol, rules : str
        Tables of the study.
    policy : str
        Of every party.
    sources : mapping of str to str, optional
        The table of another source, by holder.
    guest : str, optional
        The holder on the coordinator's host.
    aggregators : sequence of str
        Each on a host of its own.
    """
    kinds = {
        COORDINATOR: "coordinator",
        **dict.fromkeys(aggregators, "aggregator"),
        **dict.fromkeys(rows, "holder"),
    }
    machines = {name: COORDINATOR if name == guest else name for name in kinds}
    made = {machine: network.host(machine) for machine in dict.fromkeys(machines.values())}
    hosts = {name: made[machine] for name, machine in machines.items()}
    certificates = folder / "authority"
    certificates.mkdir(mode=0o700)
    make_cluster(certificates, {machine: [host.address] for machine, host in made.items()}, os.urandom)
    study = study_text(
        parties=parties_text(list(kinds.items())).replace(
            f'name = "{guest}"', f'name = "{guest}"\nmachine = "{COORDINATOR}"'
        ),
        protocol=protocol,
        analysis=analysis,
        address=f"{hosts[COORDINATOR].address}:6379",
        rest=f"[rules]\n{rules}\n",
    )
    for name, kind in kinds.items():
        place = folder / name
        place.mkdir(mode=0o700)
        (place / "certificates").symlink_to(certificates / machines[name])
        (place / "study.toml").write_text(study)
        write_identity(place, name, kind)
        source = (sources or {}).get(name, 'csv = "rows.csv"')
        data = ""
        if kind == "holder":
            data = f"[data.rows]\n{source}\n"
            (place / "rows.csv").write_text(rows[name])
        (place / "party.toml").write_text(
            f'study = "study.toml"\nparty = "{name}"\nidentity = "{name}.identity"\nstate = "state"\n{data}'
            f'[policy]\n{policy}\n[ray]\nip = "{hosts[name].address}"\ncertificates = "certificates"\n'
        )
        for file in ("study.toml", "party.toml"):
            (place / file).chmod(0o600)
    return Deployed(network, folder, hosts)
