"""Several hosts on one machine: network, process and mount namespaces, with a switch between them.

Each host has an address of its own, a folder for temporary files and shared memory of its own, so that Ray takes it for
a machine. A host can be cut off, slowed down, crashed (all of its processes end at once) and started again. Everything
is made by the test that uses it, and gone after it; it takes root, and the tools of iproute2 and util-linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

TOOLS = ("ip", "unshare", "nsenter", "mount")
RAY_FOLDER = "/tmp/ray"
READY_SECONDS = 20.0
SHARED_MEMORY = "512m"
LOOPBACK = ("0100007F:", "0" * 24 + "01000000:")  # as the kernel writes it
ROOM = "512m"  # more than `readiness` asks for


def obstacle() -> str:
    """Return why there can be no hosts here; nothing if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces take root on Linux"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"namespaces take {', '.join(missing)} (Debian: iproute2, util-linux, mount)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else "this machine lets nobody make namespaces"


def run(*command: str) -> str:
    """Run a command to its end and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _sandbox(script: str) -> subprocess.Popen[bytes]:
    """Start a process that holds namespaces open, and dies with all that is in them."""
    return subprocess.Popen(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _inmost(process: subprocess.Popen[bytes]) -> int:
    """Return the process that has the namespaces: the child of `unshare`."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ends = time.monotonic() + READY_SECONDS
    while time.monotonic() < ends:
        found = children.read_text(encoding="ascii").split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise RuntimeError("no namespaces in time")


def _wait_for(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + READY_SECONDS
    while not what():
        if time.monotonic() > ends:
            raise RuntimeError("not in time")
        time.sleep(0.01)


@dataclass
class Host:
    """One machine.

    Attributes
    ----------
    name : str
    address : str
    """

    network: Network
    name: str
    number: int
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _holding: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"10.77.{self.network.number}.{self.number}"

    @property
    def open_ports(self) -> list[int]:
        """Ports at which it listens to others."""
        found = set()
        for line in self.run("cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines():
            columns = line.split()
            is_listening = len(columns) > 3 and columns[3] == "0A"
            if is_listening and not columns[1].startswith(LOOPBACK):
                found.add(int(columns[1].split(":")[1], 16))
        return sorted(found)

    @property
    def link(self) -> str:
        """The end of its cable that is in the switch."""
        return f"port{self.number}"

    def boot(self) -> None:
        """Make its namespaces, and plug its cable in."""
        made = f"mkdir -p {RAY_FOLDER} && mount -t tmpfs none {RAY_FOLDER}"
        shared = f"mount -t tmpfs -o size={SHARED_MEMORY} none /dev/shm"
        self._holding = _sandbox(f"{made} && {shared} && echo > {self._booted} && exec sleep infinity")
        self.inside = _inmost(self._holding)
        ends = time.monotonic() + READY_SECONDS
        while not self._booted.exists() and time.monotonic() < ends:
            time.sleep(0.01)
        self.network.run(
            *("ip", "link", "add", self.link, "type", "veth"),
            *("peer", "name", "eth0", "netns", str(self.inside)),
        )
        self.network.run("ip", "link", "set", self.link, "master", "switch", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        # A machine keeps its card: with another one, whoever knew it would look for it at the old one for a minute.
        self.run(
            "ip", "link", "set", "eth0", "address", f"02:00:00:00:{self.network.number:02x}:{self.number:02x}"
        )
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def _booted(self) -> Path:
        return self.network.folder / f"{self.name}.booted"

    def crash(self) -> None:
        """End all of its processes at once, as a power cut does."""
        if self._holding is not None:
            os.killpg(self._holding.pid, signal.SIGKILL)
            self._holding.wait()
        for process in self.processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.processes.clear()
        self._booted.unlink(missing_ok=True)
        with contextlib.suppress(RuntimeError):  # it goes with the other end
            self.network.run("ip", "link", "delete", self.link)

    def cut_off(self) -> None:
        """Pull its cable."""
        self.network.run("ip", "link", "set", self.link, "down")

    def plug_in(self) -> None:
        """Put its cable back."""
        self.network.run("ip", "link", "set", self.link, "up")

    def shun(self, other: Host) -> None:
        """Have nothing reach another host from here; from there, only what needs no answer."""
        self.run("ip", "route", "add", "blackhole", other.address)

    def admit(self, other: Host) -> None:
        """Reach it again."""
        self.run("ip", "route", "delete", "blackhole", other.address)

    @contextlib.contextmanager
    def far(self, seconds: float, lost: float = 0.0) -> Iterator[None]:
        """Have every frame from and to it take so much longer, and a fraction of them never arrive."""
        side, ends = f"side{self.number}", (f"near{self.number}", f"far{self.number}")
        inside = ("nsenter", "--target", str(self.network.inside), "--net", "--")
        relaying = subprocess.Popen([*inside, sys.executable, "-c", RELAY, str(seconds), str(lost), *ends])
        try:
            self.network.run("ip", "link", "add", side, "type", "bridge")
            _wait_for(lambda: all(f" {end}: " in self.network.run("ip", "-o", "link") for end in ends))
            for link, bridge in ((self.link, side), (ends[0], side), (ends[1], "switch")):
                self.network.run("ip", "link", "set", link, "master", bridge, "up")
            self.network.run("ip", "link", "set", side, "up")
            yield
        finally:
            self.network.run("ip", "link", "set", self.link, "master", "switch")
            relaying.kill()
            relaying.wait()
            self.network.run("ip", "link", "delete", side)

    def mount(self, folder: Path) -> None:
        """Give a folder a file system of its own, in memory, with room for what a party wants."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0700", "none", str(folder))

    def fill(self, folder: Path) -> None:
        """Leave no room in such a folder."""
        self.run(
            "dd", "if=/dev/zero", f"of={folder / 'filler'}", "bs=4k", "count=1"
        )  # a size of 0 is no limit
        _, used = self.run("df", "--block-size=1k", "--output=used", str(folder)).split()
        self.run("mount", "-o", f"remount,size={used}k", str(folder))

    def make_room(self, folder: Path) -> None:
        """Have as much room again as there was."""
        self.run("mount", "-o", f"remount,size={ROOM}", str(folder))
        self.run("rm", str(folder / "filler"))

    def command(self, *command: str) -> list[str]:
        """Return what runs a command on it."""
        return [*_in(str(self.inside)), *command]

    def run(self, *command: str) -> str:
        """Run a command on it to its end."""
        return run(*self.command(*command))

    def start(self, *command: str, log: IO[str], **environment: str) -> subprocess.Popen[str]:
        """Start a command on it, that writes to a log."""
        process = subprocess.Popen(
            self.command(*command),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process


def _in(process: str) -> Sequence[str]:
    """Return what runs a command in the namespaces of a process."""
    return ("nsenter", "--target", process, "--net", "--mount", "--pid", "--")


@dataclass
class Network:
    """A switch, and the hosts at it.

    Attributes
    ----------
    folder : Path
        For what the hosts' own commands leave.
    number : int
        Of its addresses: 10.77.number.x.
    """

    folder: Path
    number: int = 1
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._holding = _sandbox("exec sleep infinity")
        self.inside = _inmost(self._holding)
        self.run("ip", "link", "add", "switch", "type", "bridge")
        self.run("ip", "link", "set", "switch", "up")

    def run(self, *command: str) -> str:
        """Run a command at the switch."""
        return run("nsenter", "--target", str(self.inside), "--net", "--", *command)

    def host(self, name: str) -> Host:
        """Make a host and start it."""
        self.hosts[name] = made = Host(self, name, len(self.hosts) + 1)
        made.boot()
        return made

    @contextlib.contextmanager
    def parted(self, some: Sequence[Host], others: Sequence[Host]) -> Iterator[None]:
        """Have some hosts not reach others, nor these them, while all are there."""
        with contextlib.ExitStack() as whole:
            for one, other in [pair for a in some for b in others for pair in ((a, b), (b, a))]:
                one.shun(other)
                whole.callback(one.admit, other)
            yield

    def told_to_strangers(self, stranger: Host) -> dict[str, list[str]]:
        """Return what the open ports of each host answer, by its address, to who has no certificate and no token."""
        places = [(host.address, port) for host in self.hosts.values() for port in host.open_ports]
        told: dict[str, list[str]] = {host.address: [] for host in self.hosts.values()}
        assert len(places) >= 2 * len(told)  # of Ray, at least
        for address, answer in json.loads(stranger.run(sys.executable, "-c", KNOCKING, json.dumps(places))):
            told[address].append(answer)
        return told

    def close(self) -> None:
        """End everything."""
        for host in self.hosts.values():
            host.crash()
        os.killpg(self._holding.pid, signal.SIGKILL)
        self._holding.wait()


@contextlib.contextmanager
def network(folder: Path, number: int = 1) -> Iterator[Network]:
    """Make a switch for hosts, all of which are ended at the end."""
    made = Network(folder, number)
    try:
        yield made
    finally:
        made.close()


# Two ends of a cable, as devices that hand their frames to this process; what comes in at one goes out at the other.
RELAY = """
import collections, fcntl, os, random, select, struct, sys, time
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x2, 0x1000
seconds, lost, chance = float(sys.argv[1]), float(sys.argv[2]), random.Random(1)
ends = [os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK) for _ in range(2)]
for end, name in zip(ends, sys.argv[3:]):
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
held = collections.deque()
while True:
    wait = max(held[0][0] - time.monotonic(), 0) if held else None
    for end in select.select(ends, [], [], wait)[0]:
        while True:
            try:
                frame = os.read(end, 65536)
            except OSError:  # there is no more, or it is not up yet
                break
            if chance.random() >= lost:
                held.append((time.monotonic() + seconds, ends[end == ends[0]], frame))
    while held and held[0][0] <= time.monotonic():
        _, end, frame = held.popleft()
        try:
            os.write(end, frame)
        except OSError:
            pass
"""

# In TLS without a certificate of its own, and in the clear.
KNOCKING = """
import json, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
asked = b"GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
told = []
for place in json.loads(sys.argv[1]):
    for tls in (True, False):
        try:
            with socket.create_connection(place, 3) as plain:
                with context.wrap_socket(plain) if tls else plain as link:
                    link.settimeout(3)
                    link.sendall(asked)
                    answer = link.recv(1000)
        except OSError:
            continue
        if answer:
            told.append([place[0], answer.decode("latin-1")])
print(json.dumps(told))
"""

LISTENER = """
import socket, sys
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
heard.bind((sys.argv[1], 0))
with open(sys.argv[2], "wb", buffering=0) as trace:
    while True:
        trace.write(heard.recv(65536))
"""


@contextlib.contextmanager
def wiretap(of: Network, trace: Path) -> Iterator[None]:
    """Write every packet that passes the switch to a file."""
    taps = [
        subprocess.Popen(
            [
                *_in(str(of.inside)),
                sys.executable,
                "-c",
                LISTENER,
                host.link,
                str(trace.with_suffix(f".{host.name}")),
            ]
        )
        for host in of.hosts.values()
    ]
    try:
        yield
    finally:
        for tap in taps:
            tap.kill()
            tap.wait()
