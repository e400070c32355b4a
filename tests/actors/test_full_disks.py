"""Parties whose disks are really full: what is not on record does not leave, nothing is half written, and it passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deployed import Cluster, until
from tacit.actors import deployed_hosts
from tacit.actors.computation import Terms
from tacit.actors.events import Failure, Result
from tacit.models.regression import GLM
from tacit.protocols.errors import AbortedError, RefusedError
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.records.audit import audit
from tacit.records.errors import RecordError
from tacit.records.model_store import ModelStore
from tacit.records.object_store import PARTIAL
from tacit.records.verification import verify
from tacit.serialization.errors import TacitError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a disk of its own takes root on Linux"
)

ALL = ("coordinator", "north", "east", "south")


class Disk:
    """A small file system in memory, that can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, mode=0o700)
        self._mount("size=8m,mode=0700", "-t", "tmpfs", "none")

    def fill(self, pages: int = 0) -> None:
        """Leave room for so many pages of 4 KiB: a small file takes one, and the one beside its place another."""
        space = os.statvfs(self.folder)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        self._mount(f"remount,size={max(used + pages * space.f_frsize, space.f_frsize)}")

    def make_room(self) -> None:
        self._mount("remount,size=8m")

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def _mount(self, options: str, *kind: str) -> None:
        subprocess.run(["mount", *kind, "-o", options, str(self.folder)], check=True)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Disk]]:
    """The disks of the parties' states."""
    made = {name: Disk(tmp_path / name / "state") for name in ("coordinator", "north")}
    yield made
    for disk in made.values():
        disk.unmount()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disks: dict[str, Disk]) -> Cluster:
    monkeypatch.setattr(deployed_hosts, "log_to", lambda folder, party: None)
    return Cluster(tmp_path, monkeypatch)


async def ask(cluster: Cluster) -> Result | TacitError:
    """Ask the study's question; return how that ended."""
    await until(lambda: not cluster.lost)
    host, asked = cluster.host("coordinator"), GLM("count ~ C(spray)", family="poisson").definition
    await host.propose(asked.canonical)
    terms = Terms(PairwiseMasking(), None, "continue")
    try:
        async for event in host.compute_definition("fit", asked.canonical, terms):
            if isinstance(event, Failure):
                raise event.error
            last = event
    except TacitError as error:
        return error
    assert isinstance(last, Result)
    return last


def check_whole(folder: Path) -> None:
    """Nothing is half written, and every party's ledger is whole and agrees with the others."""
    written = [
        path for path in folder.glob("*/state/**/*") if path.is_file() and not path.name.endswith(".lock")
    ]
    assert not [path for path in written if path.suffix == PARTIAL or not path.stat().st_size]
    found = audit([str(folder / name / "state" / "ledger") for name in ALL])
    assert not found.disagreements, found.disagreements
    assert all(not chain.faults for chain in found.chains), found.chains


@pytest.mark.parametrize("pages", [0, 1, 3])
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("north", "its records cannot be read or written"),
        ("coordinator", r"the ledger of coordinator: .* cannot be written: No space left on device"),
    ],
)
def test_a_party_whose_disk_is_full_takes_no_part_until_there_is_room(
    cluster: Cluster, disks: dict[str, Disk], tmp_path: Path, name: str, cause: str, pages: int
) -> None:
    async def scene() -> None:
        async with cluster:
            for party in ALL:
                await cluster.join(party)
            expected = await ask(cluster)
            assert isinstance(expected, Result)
            disks[name].fill(pages)
            for _ in range(2):
                error = await ask(cluster)
                assert isinstance(error, AbortedError | RefusedError | RecordError)
                assert re.search(rf"{name}.*{cause}|{cause}", str(error)), str(error)
                assert name in str(error)
            disks[name].make_room()
            again = await ask(cluster)
            assert isinstance(again, Result)
            assert again.survivors == ("north", "east", "south")
            assert again.value.params.tolist() == expected.value.params.tolist()

    asyncio.run(scene())
    check_whole(tmp_path)


@pytest.mark.parametrize("pages", range(12))
def test_a_repository_whose_disk_is_full_saves_a_model_or_tells_why(tmp_path: Path, pages: int) -> None:
    disk = Disk(tmp_path / "models")
    try:
        store = ModelStore(disk.folder)
        content = {"params": np.arange(1000.0)}
        assert store.save("rate", content) == 1
        disk.fill(pages)
        saved = [1]
        with contextlib.suppress(RecordError):
            saved += [store.save("rate", {"params": np.arange(1001.0)})]
        assert store.versions("rate") == saved
        assert verify(store).ok
        disk.make_room()
        assert store.save("rate", content) == saved[-1] + 1
        assert verify(store).ok
        assert not list(disk.folder.rglob(f"*{PARTIAL}"))
    finally:
        disk.unmount()
