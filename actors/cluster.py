"""The only file that starts Ray and makes actors.

In a simulation the federation makes all parties on one machine. A running Ray is used as it is; otherwise a
local one is started, without dashboard, without the actors' output on the user's screen, and stopped when the
last federation that uses it closes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from .aggregator_host import AggregatorHost
from .coordinator_host import CoordinatorHost
from .errors import PeerUnreachableError
from .holder_host import HolderHost
from .repository import ModelRepository

START_SECONDS = 120.0
LEAVE_SECONDS = 2.0

_GROUPS = {"control": 8}

# A host that restarts has lost the secrets of its parties, which join anew; the repository has none.
_HOST: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "concurrency_groups": _GROUPS,
}
_REPOSITORY: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": 3,
    "max_task_retries": 3,
    "concurrency_groups": _GROUPS,
}


class _OwnRay:
    """The Ray that was started here, if one was, and who uses it; like Ray itself, one a process."""

    def __init__(self) -> None:
        self.address = ""
        self.users: set[str] = set()

    def runs(self) -> bool:
        return ray.is_initialized() and ray.get_runtime_context().gcs_address == self.address


_own = _OwnRay()


def start_ray(user: str) -> None:
    """Use the Ray that runs, or start a local one.

    Parameters
    ----------
    user : str
        Who uses it until `stop_ray` with the same name.
    """
    if not ray.is_initialized():
        _start_own_ray()
        _own.address = ray.get_runtime_context().gcs_address
        _own.users.clear()
    if _own.runs():
        _own.users.add(user)


def _start_own_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )


def stop_ray(user: str) -> None:
    """Stop the Ray that `start_ray` has started, unless others still use it."""
    if user in _own.users:
        _own.users.remove(user)
        if not _own.users and _own.runs():
            ray.shutdown()


def is_running() -> bool:
    """Whether there is a Ray at all: a remote call without one would start it."""
    return bool(ray.is_initialized())


def start_coordinator(name: str, repository: Any) -> Any:
    """Start the coordinator's process."""
    return ray.remote(**_HOST)(CoordinatorHost).remote(name, repository)


def start_aggregator(name: str) -> Any:
    """Start an aggregator's process."""
    return ray.remote(**_HOST)(AggregatorHost).remote(name)


def start_holders(names: Sequence[str], rows: Sequence[Any], *, simulation: bool) -> Any:
    """Start one process for data holders; large rows go there through shared memory, without a copy."""
    return ray.remote(**_HOST)(HolderHost).remote(names, *rows, simulation=simulation)


def start_repository(folder: str) -> Any:
    """Start the repository's actor."""
    return ray.remote(**_REPOSITORY)(ModelRepository).remote(folder)


def introduce(hosts: Mapping[str, Any]) -> None:
    """Have every party pin the identities of all others.

    Parameters
    ----------
    hosts : mapping of str to actor handle
        What a user calls each process, and its host; the coordinator's first.

    Raises
    ------
    PeerUnreachableError
        If a process cannot start.
    """
    introducing = {name: handle.introduce.remote() for name, handle in hosts.items()}
    introduced = [_answer(name, reference) for name, reference in introducing.items()]
    handles = list(hosts.values())
    connecting = {name: handle.connect.remote(introduced, handles) for name, handle in hosts.items()}
    for name, reference in connecting.items():
        _answer(name, reference)


def _answer(name: str, reference: Any) -> Any:
    try:
        return ray.get(reference, timeout=START_SECONDS)
    except (GetTimeoutError, RayActorError):
        raise PeerUnreachableError(name) from None


def end(handles: Iterable[Any]) -> None:
    """Let actors leave their sessions, then end their processes."""
    alive = list(handles)
    leaving = [handle.leave.remote() for handle in alive if hasattr(handle, "leave")]
    if leaving:
        ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_SECONDS)  # of the dead, too
    for handle in alive:
        ray.kill(handle)
