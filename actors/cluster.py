"""The only file that starts Ray and makes actors.

In a simulation the federation makes all parties on one machine. A running Ray is used as it is; otherwise a
local one is started, without dashboard, without the actors' output on the user's screen, and stopped when the
last federation that uses it closes.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from ..protocols.errors import SetupError
from ..protocols.party import AGGREGATOR, ASKER
from ..records.party_file import RepositoryPlace
from ..records.policy import Policy
from ..serialization.codec import Frame, decode, encode
from ..serialization.session_messages import Party
from .aggregator_host import AggregatorHost
from .convener_host import ConvenerHost
from .coordinator_host import CoordinatorHost
from .deployed_hosts import HOSTS
from .errors import PeerUnreachableError
from .finding import LABEL, NAMESPACE, RAY_ENVIRONMENT, REPOSITORY, actor_name
from .holder_host import HolderHost
from .repository import ModelRepository

START_SECONDS = 120.0
LEAVE_SECONDS = 2.0
TIMED_OUT = "timed out during startup"  # what Ray says of it

_GROUPS = {"control": 8}

# A host that restarts has lost the secrets of its parties, which join anew; the repository has none.
_HOST: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "enable_task_events": False,  # for each of which Ray would keep the arguments of its call a second longer
    "concurrency_groups": _GROUPS,
}
_REPOSITORY: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": -1,
    "max_task_retries": 3,
    "concurrency_groups": _GROUPS,
}


class _OwnRay:
    """The Ray that was started here, if one was, and who uses it; like Ray itself, one a process."""

    def __init__(self) -> None:
        self.address = ""
        self.joined = ""  # what a study calls it: "localhost:6379", where Ray says "10.1.0.1:6379"
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
    os.environ.update({**RAY_ENVIRONMENT, **os.environ})
    options: dict[str, Any] = {
        "address": "local",
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    try:
        ray.init(**options)
    except Exception as error:
        # Ray waits half a minute for its own processes and no longer, which a busy machine may need twice.
        if TIMED_OUT not in str(error):
            raise
        ray.shutdown()
        ray.init(**options)


def join_ray(address: str, user: str) -> None:
    """Become a user of the Ray of a deployment, which runs on this machine, until `stop_ray` with the same name.

    Parameters
    ----------
    address : str
        Of Ray's head, "10.1.0.1:6379".
    user : str

    Raises
    ------
    PeerUnreachableError
        If no Ray of that cluster runs here.
    SetupError
        If this process uses another Ray already.
    """
    if ray.is_initialized():
        if address not in (ray.get_runtime_context().gcs_address, _own.joined if _own.runs() else None):
            raise SetupError(
                "this process uses another Ray: shut that down, or connect from a process of its own"
            )
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace=NAMESPACE)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise PeerUnreachableError(
                f"Ray's head at {address}",
                remedy=f"let this machine join first, with `python -m tacit join` ({_first_line(error)})",
            ) from None
        _own.address, _own.joined = ray.get_runtime_context().gcs_address, address
        _own.users.clear()
    if _own.runs():
        _own.users.add(user)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def stop_ray(user: str) -> None:
    """Stop the Ray that `start_ray` has started, unless others still use it."""
    if user in _own.users:
        _own.users.remove(user)
        if not _own.users and _own.runs():
            ray.shutdown()
            _own.address = ""  # whoever starts it anew also stops it


def is_running() -> bool:
    """Whether there is a Ray at all: a remote call without one would start it."""
    return bool(ray.is_initialized())


@functools.cache
def _actor_class(kind: type) -> Any:
    """Return a class as Ray starts it: made once, since Ray keeps every one that is made, a quarter of a megabyte."""
    return ray.remote(**(_REPOSITORY if kind is ModelRepository else _HOST))(kind)


def start_coordinator(name: str, repository: Any) -> Any:
    """Start the coordinator's process."""
    return _actor_class(CoordinatorHost).remote(name, repository)


def start_aggregator(name: str) -> Any:
    """Start an aggregator's process."""
    return _actor_class(AggregatorHost).remote(name)


def start_convener(name: str) -> Any:
    """Start the process of the aggregator that invites the holders for a coordinator that is not to know them."""
    return _actor_class(ConvenerHost).remote(name)


def start_holders(
    names: Sequence[str],
    rows: Sequence[Any],
    *,
    simulation: bool,
    policies: Mapping[str, Policy],
    threads: int,
) -> Any:
    """Start one process for data holders; large rows go there through shared memory, without a copy."""
    options = {"simulation": simulation, "policies": policies, "threads": threads}
    return _actor_class(HolderHost).remote(names, *rows, **options)


def start_repository(location: str) -> Any:
    """Start the repository's actor."""
    return _actor_class(ModelRepository).remote(location)


def start_party(study: str, party: str, kind: str, path: str, machine: str) -> Any:
    """Start the process of a party of a deployment, on its machine.

    Parameters
    ----------
    study : str
        The title.
    party, kind : str
    path : str
        Of its private file, on this machine.
    machine : str
        What this machine bears as its label.

    Raises
    ------
    SetupError
        If no machine of the cluster bears it: it would be waited for without end. Or if there is such a process.
    """
    return _start_named(HOSTS[kind], (study, party), machine, path)


def start_deployed_repository(study: str, machine: str, place: RepositoryPlace) -> Any:
    """Start the repository's actor of a deployment, beside the coordinator.

    Parameters
    ----------
    study : str
        The title.
    machine : str
        What the coordinator's machine bears as its label.
    place : RepositoryPlace

    Raises
    ------
    SetupError
        As `start_party`.
    """
    keys = {
        name: None if path is None else str(path)
        for name, path in (
            ("signing_key_file", place.signing_key_file),
            ("repository_key_file", place.repository_key_file),
        )
    }
    return _start_named(ModelRepository, (study, REPOSITORY), machine, place.folder, **keys)


def _start_named(kind: type, name: tuple[str, str], machine: str, *arguments: Any, **keywords: Any) -> Any:
    """Start an actor that others find by its name, on a machine."""
    named = {
        "name": actor_name(*name),
        "namespace": NAMESPACE,
        "label_selector": _place_of(machine),
        # Ray's head has an actor that asks for nothing started by way of any machine, even one that is cut off; for one
        # that asks for something, be it a byte, it takes the machine of whoever starts it.
        "memory": 1,
    }
    try:
        return _actor_class(kind).options(**named).remote(*arguments, **keywords)
    except ValueError:  # as Ray has it
        raise SetupError(
            f"a process of {name[1]} is there already: end the other `python -m tacit join`; the last one of this "
            "machine is gone in a moment"
        ) from None


def _place_of(machine: str) -> dict[str, str]:
    place = {LABEL: machine}
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if not any(node["Alive"] and node["Labels"].items() >= place.items() for node in nodes):
        raise SetupError(
            f"no machine of the cluster bears the label {LABEL}={machine}: start Ray there with it"
        )
    return place


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
    introduced = _introduced(hosts)
    _connect(hosts, introduced, hosts)


def introduce_without_holders(hosts: Mapping[str, Any], n_aggregators: int) -> None:
    """Have every party pin the identities of all others, but the coordinator those of the aggregators only.

    The first aggregator convenes the holders: it has the coordinator's place in their roster, where the coordinator
    is the asker. The coordinator pins what the convener commits to, and gets no handle of a holder's process.

    Parameters
    ----------
    hosts : mapping of str to actor handle
        As of `introduce`: the coordinator's, then the aggregators', then the holders'.
    n_aggregators : int

    Raises
    ------
    PeerUnreachableError
        If a process cannot start.
    """
    coordinator, convener, *_ = hosts
    introduced = _introduced(hosts)
    known = dict(list(hosts.items())[: n_aggregators + 1])
    own, its, *others = introduced
    to_coordinator = [own, _as_kind(its, AGGREGATOR), *others[: n_aggregators - 1]]
    _connect([coordinator], to_coordinator, known)
    _connect(list(hosts)[1:], [_as_kind(own, ASKER), its, *others], hosts)
    commitment = _answer(convener, hosts[convener].commit.remote())
    _answer(coordinator, hosts[coordinator].pin_commitment.remote(commitment))


def _introduced(hosts: Mapping[str, Any]) -> list[list[bytes]]:
    """Ask every host for the identities of its parties."""
    introducing = {name: handle.introduce.remote() for name, handle in hosts.items()}
    return [_answer(name, reference) for name, reference in introducing.items()]


def _connect(names: Iterable[str], introduced: list[list[bytes]], hosts: Mapping[str, Any]) -> None:
    """Have hosts of these names connect with all hosts given."""
    handles = list(hosts.values())
    connecting = {name: hosts[name].connect.remote(introduced, handles) for name in names}
    for name, reference in connecting.items():
        _answer(name, reference)


def _as_kind(introduced: list[bytes], kind: str) -> list[bytes]:
    """Return identities as parties of another kind: the keys are theirs, the kind is the roster's."""
    parties = [decode(Frame(header, ())) for header in introduced]
    return [
        encode(dataclasses.replace(party, kind=kind)).header for party in parties if isinstance(party, Party)
    ]


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
