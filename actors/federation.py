"""A federation: the parties of a simulation, and what a user asks of them.

It owns no event loop and no thread. A synchronous method waits with Ray for the very reference that its twin, whose
name begins with ``a``, awaits; so both work in scripts, in a notebook with a running loop, and in asyncio programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import ray
from numpy.typing import NDArray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError

from ..models.fit import Fit
from ..models.sum import Sum
from ..protocols.errors import SetupError
from ..protocols.protocol import Protocol
from ..protocols.ring_paillier import RingPaillier
from ..serialization.schema import Message
from . import cluster
from .errors import ClosedError, PeerUnreachableError
from .events import Event, Failure, Iterated, Lost, Pass, Result

COORDINATOR = "coordinator"
QUIET_SECONDS = 2.0

OnEvent = Callable[[Event], None]


def simulate(
    data: Mapping[str, Any],
    protocol: Protocol[Any] | None = None,
    repository: str | None = None,
    on_dropout: Literal["fail", "continue"] = "fail",
) -> Federation:
    """Start a federation on this machine: one process for every data holder, one for the coordinator.

    The holders' rows go to their own process, and every number that leaves it goes out as a message of a
    secure aggregation protocol. Starting takes a few seconds; a running Ray is used, not replaced.

    Parameters
    ----------
    data : mapping of str to any
        Each holder's name and rows, in whatever form the models expect.
    protocol : Protocol, optional
        How sums are computed; ``RingPaillier()`` by default.
    repository : str, optional
        Folder for results and the record of every aggregate; by default a temporary one, deleted at the end.
    on_dropout : {"fail", "continue"}
        What to do when a holder is lost: end with a `DropoutError`, or go on over the survivors if enough are
        left and the protocol allows it; the result says so.

    Returns
    -------
    Federation
        A context manager, synchronous and asynchronous.

    Raises
    ------
    SetupError
        If there are too few holders, or a name or an option cannot be used; nothing is started then.

    Examples
    --------
    >>> with tacit.simulate({"site-1": y1, "site-2": y2, "site-3": y3}) as federation:   # doctest: +SKIP
    ...     federation.sum(len)
    array(40)
    """
    chosen = RingPaillier() if protocol is None else protocol
    _check(data, chosen, on_dropout)
    return Federation._simulated(data, chosen, repository, on_dropout)


def _check(data: Mapping[str, Any], protocol: Any, on_dropout: str) -> None:
    """Refuse what cannot work before any process is started."""
    if not isinstance(protocol, Protocol):
        raise SetupError("protocol is an object such as tacit.RingPaillier()")
    if not isinstance(data, Mapping):
        raise SetupError("data maps each holder's name to its rows: {'site-1': rows, …}")
    if len(data) < protocol.minimum_holders:
        raise SetupError(
            f"{protocol.title} needs at least {protocol.minimum_holders} holders, {len(data)} given: "
            "with fewer, a sum uncovers an input"
        )
    for name in data:
        if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable() or name == COORDINATOR:
            raise SetupError(
                f"a holder's name is a printable text of 1 to 100 characters other than {COORDINATOR!r}"
            )
    if on_dropout not in ("fail", "continue"):
        raise SetupError("on_dropout is 'fail' or 'continue'")


@dataclass(frozen=True)
class _Computation:
    """A model on its way through the coordinator."""

    identifier: str
    events: Any


@dataclass
class Federation:
    """Data holders, a coordinator and a repository, ready to be asked.

    Made by `tacit.simulate`. Every method that talks to them has an asynchronous twin: `asum`, `afit`,
    `aclose`, `aledger`.

    Attributes
    ----------
    protocol : Protocol
        How sums are computed.
    on_dropout : {"fail", "continue"}
        What happens when a holder is lost.
    holders : tuple of str
        Their names.
    """

    protocol: Protocol[Any]
    on_dropout: str
    holders: tuple[str, ...]
    _parties: dict[str, Any] = field(repr=False)
    _repository: Any = field(repr=False)
    _owns_ray: bool = field(repr=False)
    _temporary: str | None = field(repr=False)
    _closed: bool = field(default=False, repr=False)

    @classmethod
    def _simulated(
        cls, data: Mapping[str, Any], protocol: Protocol[Any], repository: str | None, on_dropout: str
    ) -> Federation:
        """Start every party, and end whatever was started if that fails."""
        temporary = tempfile.mkdtemp(prefix="tacit-") if repository is None else None
        owns_ray = cluster.start_ray()
        parties: dict[str, Any] = {}
        federation = cls(protocol, on_dropout, tuple(data), parties, None, owns_ray, temporary)
        try:
            federation._repository = cluster.start_repository(str(repository or temporary))
            for name, rows in data.items():
                parties[name] = cluster.start_holder(name, rows, simulation=True)
            parties[COORDINATOR] = cluster.start_coordinator(COORDINATOR, protocol, federation._repository)
            cluster.introduce({COORDINATOR: parties[COORDINATOR], **{name: parties[name] for name in data}})
        except BaseException:
            federation.close()
            raise
        return federation

    # What a user asks

    def sum(
        self,
        function: Callable[..., Any],
        at: Any = None,
        encoding: Message | None = None,
        *,
        on_event: OnEvent | None = None,
    ) -> NDArray[Any]:
        """The sum over all holders of ``function(data)``, or of ``function(data, at)``.

        Parameters
        ----------
        function : callable
            Evaluated at each holder on its own rows; returns a number or an array, of the same shape and kind at
            every holder.
        at : array_like, optional
            A public value handed to the function.
        encoding : ExactFloat or FixedPoint, optional
            By default `ExactFloat`: the correctly rounded exact sum.
        on_event : callable, optional
            Called with every event of progress.

        Returns
        -------
        ndarray
            In the shape that the function returns; integers stay integers.

        Raises
        ------
        RefusedError
            If the function fails at a holder, or returns NaN or infinity; names holder and index.
        SetupError
            If shapes or dtypes differ between holders.
        RangeError
            If the total is beyond the range of its dtype.
        DropoutError
            If a holder is lost and the sum cannot go on without it.
        """
        return self._array(self._wait(Sum(function, at), encoding, on_event))

    async def asum(
        self,
        function: Callable[..., Any],
        at: Any = None,
        encoding: Message | None = None,
        *,
        on_event: OnEvent | None = None,
    ) -> NDArray[Any]:
        """The asynchronous twin of `sum`."""
        return self._array(await self._await(Sum(function, at), encoding, on_event))

    def fit(
        self, model: Any, encoding: Message | None = None, *, on_event: OnEvent | None = None
    ) -> Fit:
        """Fit a model over all holders' rows, with the estimates and standard errors of the pooled data.

        Parameters
        ----------
        model : MaximumLikelihood
            What to fit.
        encoding : ExactFloat or FixedPoint, optional
            By default `ExactFloat`.
        on_event : callable, optional
            Called with every event of progress. Without it, a fit of more than two seconds shows a line of
            progress on a terminal.

        Returns
        -------
        Fit
            Prints like statsmodels'; says which protocol and which holders it rests on.

        Raises
        ------
        RefusedError, SetupError, RangeError, DropoutError
            As `sum`.
        ModelError
            If the model cannot start from its start.
        """
        return self._fit(self._wait(model, encoding, on_event), encoding)

    async def afit(
        self, model: Any, encoding: Message | None = None, *, on_event: OnEvent | None = None
    ) -> Fit:
        """The asynchronous twin of `fit`."""
        return self._fit(await self._await(model, encoding, on_event), encoding)

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every value released so far: when, to whom, over which holders, under which protocol."""
        return list(self._get(self._open_repository().aggregates.remote()))

    async def aledger(self) -> list[dict[str, Any]]:
        """The asynchronous twin of `ledger`."""
        return list(await self._open_repository().aggregates.remote())

    @property
    def repository(self) -> Repository:
        """Where results are saved, versioned."""
        return Repository(self._open_repository(), self._get)

    def close(self) -> None:
        """End every party, and Ray if it was started here. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if ray.is_initialized():
                repository = [] if self._repository is None else [self._repository]
                cluster.end([*self._parties.values(), *repository])
        finally:
            if self._owns_ray:
                cluster.stop_ray()
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)

    async def aclose(self) -> None:
        """The asynchronous twin of `close`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # How it is carried out

    def _start(self, model: Any, encoding: Message | None) -> tuple[list[Any], Callable[[], _Computation]]:
        """Install the model at every holder; then the coordinator may begin."""
        self._ensure_open()
        content = cloudpickle.dumps(model)
        definition = hashlib.sha256(model.definition.digest + content).digest()
        shared = ray.put(model)
        installing = [self._parties[name].install.remote(definition, shared) for name in self.holders]
        identifier = uuid.uuid4().hex

        def begin() -> _Computation:
            compute = self._parties[COORDINATOR].compute.options(num_returns="streaming")
            events = compute.remote(identifier, shared, definition, encoding, self.on_dropout)
            return _Computation(identifier, events)

        return installing, begin

    def _wait(self, model: Any, encoding: Message | None, on_event: OnEvent | None) -> Result:
        """Run a model and wait for its result; an interrupt breaks it off at every party."""
        installing, begin = self._start(model, encoding)
        for reference in installing:
            self._install(reference)
        computation = begin()
        with self._cancelling(computation), _following(on_event) as follow:
            for reference in computation.events:
                result = _result_of(self._get(reference), follow)
                if result is not None:
                    return result
        raise PeerUnreachableError(COORDINATOR)

    async def _await(self, model: Any, encoding: Message | None, on_event: OnEvent | None) -> Result:
        """As `_wait`, without blocking the caller's loop."""
        installing, begin = self._start(model, encoding)
        for reference in installing:
            with contextlib.suppress(RayActorError):  # a dead holder is the coordinator's affair
                await reference
        computation = begin()
        with self._cancelling(computation), _following(on_event) as follow:
            async for event in _events(computation.events):
                result = _result_of(event, follow)
                if result is not None:
                    return result
        raise PeerUnreachableError(COORDINATOR)

    def _install(self, reference: Any) -> None:
        with contextlib.suppress(RayActorError):  # a dead holder is the coordinator's affair
            ray.get(reference)

    @contextlib.contextmanager
    def _cancelling(self, computation: _Computation) -> Iterator[None]:
        """Break the computation off if the caller is interrupted or cancelled."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception):
                self._parties[COORDINATOR].cancel.remote(computation.identifier)
            raise

    def _get(self, reference: Any) -> Any:
        """Wait for a remote value; tacit's own errors come back as they were."""
        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise cluster.cause_of(error) from None
        except RayActorError:
            raise PeerUnreachableError("the coordinator or the repository") from None

    def _ensure_open(self) -> None:
        if self._closed:
            raise ClosedError

    def _open_repository(self) -> Any:
        self._ensure_open()
        return self._repository

    def _array(self, result: Result) -> NDArray[Any]:
        return np.asarray(result.value)

    def _fit(self, result: Result, encoding: Message | None) -> Fit:
        fit = result.value
        if not isinstance(fit, Fit):
            raise SetupError("the model yields no fit: use federation.sum for sums")
        return fit.with_provenance(
            protocol=str(self.protocol.title),
            holders=self.holders,
            survivors=result.survivors,
            digits="exact sums, rounded once" if encoding is None else repr(encoding),
            trust=str(self.protocol.trust),
        )


class Repository:
    """Results by name and version. Made by `Federation.repository`."""

    def __init__(self, actor: Any, get: Callable[[Any], Any]) -> None:
        self._actor = actor
        self._get = get

    def save(self, fit: Fit, name: str) -> int:
        """Save a fit as the next version of a name; returns the version."""
        return int(self._get(self._actor.save.remote(name, fit.to_dict())))

    def load(self, name: str, version: int | None = None) -> Fit:
        """Load a fit, by default its newest version, with the same bits as it was saved."""
        return Fit.from_dict(self._get(self._actor.load.remote(name, version)))

    def versions(self, name: str) -> list[int]:
        """The versions of a name, oldest first."""
        return list(self._get(self._actor.versions.remote(name)))


async def _events(stream: Any) -> AsyncIterator[Event]:
    """The events of a computation, in order."""
    try:
        async for reference in stream:
            yield await reference
    except RayTaskError as error:
        raise cluster.cause_of(error) from None
    except RayActorError:
        raise PeerUnreachableError(COORDINATOR) from None


def _result_of(event: Event, follow: OnEvent) -> Result | None:
    """The result, if this event is it; its error, raised, if it is a failure."""
    follow(event)
    if isinstance(event, Failure):
        raise event.error
    return event if isinstance(event, Result) else None


@contextlib.contextmanager
def _following(on_event: OnEvent | None) -> Iterator[OnEvent]:
    """The user's follower, or a line of progress on a terminal once two seconds have gone by."""
    if on_event is not None:
        yield on_event
        return
    began = time.monotonic()
    shown = False

    def follow(event: Event) -> None:
        nonlocal shown
        waited = time.monotonic() - began
        if waited > QUIET_SECONDS and sys.stderr.isatty() and isinstance(event, Pass | Iterated | Lost):
            print(f"\r\x1b[K{_line(event)} ({waited:.0f} s)", end="", file=sys.stderr, flush=True)  # noqa: T201
            shown = True

    try:
        yield follow
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201


def _line(event: Pass | Iterated | Lost) -> str:
    if isinstance(event, Pass):
        return f"pass {event.number} over {len(event.holders)} holders"
    if isinstance(event, Lost):
        return f"lost {', '.join(event.holders)}"
    return str(event.state)
