"""A federation on one machine: all parties are started here, and the holders' rows are the user's own."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import ray
from numpy.typing import NDArray
from ray import cloudpickle

from ..protocols.errors import SetupError
from ..protocols.party import AGGREGATOR, COORDINATOR
from ..protocols.planning import Wish
from ..protocols.protocol import Protocol, check_encoding
from ..protocols.ring_paillier import RingPaillier
from ..records.model_store import ModelStore
from ..records.policy import Policy, policies_of
from ..serialization.schema import Message
from . import cluster
from .choice import Choice
from .computation import Kept, Terms
from .driver import THREADS
from .federation import Federation, Stream
from .holder_host import share_out
from .long_frames import SLICE_BYTES
from .progress import waiting
from .transport import SLICES


def simulate(
    data: Mapping[str, Any],
    protocol: Protocol[Any] | Literal["auto"] | None = None,
    *,
    wish: Wish | None = None,
    repository: str | os.PathLike[str] | None = None,
    policy: Policy | Mapping[str, Policy] | None = None,
    on_dropout: Literal["fail", "continue"] = "fail",
    holders_per_actor: int | None = None,
) -> SimulatedFederation:
    """Start a federation on this machine: processes for the data holders, one for the coordinator.

    The holders' rows go to their process, and every number that leaves a holder goes out as a message of a
    secure aggregation protocol. Starting takes a few seconds; a running Ray is used, not replaced.

    Parameters
    ----------
    data : mapping of str to any
        Each holder's name and rows, in whatever form the models expect.
    protocol : Protocol or "auto", optional
        How sums are computed; ``RingPaillier()`` by default. "auto" chooses for every question by the number of
        holders, of numbers, the encoding and the wish: `Federation.plan` tells what, and why.
    wish : Wish, optional
        What every sum must withstand, for "auto" and for `Federation.plan`.
    repository : path or URL, optional
        Folder for results and the record of every aggregate, or a URL that fsspec knows and nobody else writes to; by
        default a temporary folder, deleted at the end.
    policy : Policy or mapping of str to Policy, optional
        What every holder insists on, or each by its name: rows and holders at least, models, privacy and its budget.
    on_dropout : {"fail", "continue"}
        What to do when a holder is lost: end with a `DropoutError`, or go on over the survivors if enough are
        left and the protocol allows it; the result says so.
    holders_per_actor : int, optional
        How many holders share a process, which may be lost with all of them; they share its modules and the
        functions that they are asked, too, and as soon as there is a process for every core they compute one after
        the other. By default up to ten holders have a process each, and more of them one for every core.

    Returns
    -------
    Federation
        A context manager, synchronous and asynchronous.

    Raises
    ------
    SetupError
        If there are too few holders, or a name or an option cannot be used; nothing is started then.
    RecordError, PolicyError
        If the repository's folder cannot be made, or a budget of privacy not be opened; nothing is started then either.

    Examples
    --------
    >>> with tacit.simulate({"site-1": y1, "site-2": y2, "site-3": y3}) as federation:   # doctest: +SKIP
    ...     federation.sum(len)
    array(40)
    """
    chosen = RingPaillier() if protocol is None else protocol
    choice = Choice(chosen, wish or Wish())
    _check(data, choice, on_dropout, holders_per_actor)
    return SimulatedFederation.started(
        data,
        choice,
        repository,
        policies=policies_of(policy, data),
        on_dropout=on_dropout,
        holders_per_actor=holders_per_actor,
    )


def _check(data: Mapping[str, Any], choice: Choice, on_dropout: str, holders_per_actor: Any) -> None:
    """Refuse what cannot work before any process is started."""
    if not isinstance(data, Mapping):
        raise SetupError("data maps each holder's name to its rows: {'site-1': rows, …}")
    choice.check(tuple(data))
    taken = (COORDINATOR, *aggregator_names(choice))
    for name in data:
        usable = isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable()
        if not usable or name in taken:
            raise SetupError(
                "a holder's name is a printable text of 1 to 100 characters other than "
                + ", ".join(map(repr, taken))
            )
    if on_dropout not in ("fail", "continue"):
        raise SetupError("on_dropout is 'fail' or 'continue'")
    whole = isinstance(holders_per_actor, int) and not isinstance(holders_per_actor, bool)
    if holders_per_actor is not None and not (whole and holders_per_actor >= 1):
        raise SetupError("holders_per_actor is a whole number from 1, or None")


def aggregator_names(choice: Choice) -> tuple[str, ...]:
    """Return what the aggregators of a simulation are called, if there are to be some."""
    return tuple(f"{AGGREGATOR}-{number}" for number in range(1, choice.aggregators + 1))


@dataclass(kw_only=True)
class SimulatedFederation(Federation):
    """Parties that were all started here."""

    data: Mapping[str, Any] = field(repr=False)  # the rows of each holder, for `restart`
    groups: Sequence[Sequence[str]] = field(repr=False)  # the holders of each process
    temporary: tempfile.TemporaryDirectory[str] | None = field(repr=False)
    policies: Mapping[str, Policy] = field(repr=False)
    _over: list[bytes] = field(default_factory=list, repr=False)  # models of these, which holders still hold

    @classmethod
    def started(
        cls,
        data: Mapping[str, Any],
        choice: Choice,
        repository: str | os.PathLike[str] | None,
        *,
        policies: Mapping[str, Policy],
        on_dropout: Literal["fail", "continue"],
        holders_per_actor: int | None,
    ) -> Self:
        """Start every party, and end whatever was started if that fails."""
        temporary = None
        if repository is None:
            temporary = tempfile.TemporaryDirectory(prefix="tacit-", ignore_cleanup_errors=True)
            repository = temporary.name
        location = str(repository)
        if "://" not in location:
            location = os.path.abspath(location)
        groups = share_out(list(data), holders_per_actor)
        federation = cls(
            choice,
            on_dropout,
            tuple(data),
            {},
            data=dict(data),
            groups=groups,
            temporary=temporary,
            policies=policies,
        )
        try:
            ModelStore(location)  # what is wrong with it is better told here than by its actor's death
            n_processes = len(groups) + choice.aggregators + 2
            with waiting(f"starting {n_processes} processes for {len(data)} holders …"):
                cluster.start_ray(federation._identifier)
                federation._repository = cluster.start_repository(location)
                federation._start_parties()
        except BaseException:
            federation.close()
            raise
        return federation

    def _start_parties(self) -> None:
        """Start the processes of all parties, and have these pin each other's identities."""
        hosts, self._over = {}, []
        for names in self.groups:
            host = cluster.start_holders(
                names,
                [self.data[name] for name in names],
                simulation=True,
                policies=self.policies,
                threads=max(1, THREADS // len(self.groups)),
            )
            self._parties.update(dict.fromkeys(names, host))
            hosts[names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"] = host
        aggregators = aggregator_names(self.choice)
        for name in aggregators:
            convenes = name == self._dispatcher
            start = cluster.start_convener if convenes else cluster.start_aggregator
            self._parties[name] = start(name)
        self._parties[COORDINATOR] = cluster.start_coordinator(COORDINATOR, self._repository)
        hosts = {name: self._parties[name] for name in (COORDINATOR, *aggregators)} | hosts
        if self._dispatcher == COORDINATOR:
            cluster.introduce(hosts)
        else:
            cluster.introduce_without_holders(hosts, len(aggregators))

    @property
    def _dispatcher(self) -> str:
        """Who invites the holders, and hands them the models."""
        return COORDINATOR if self.choice.at_most is None else aggregator_names(self.choice)[0]

    def restart(self) -> None:
        """End every party, and start all anew with the rows as they now are: what to do when a process has died.

        The repository goes on. The parties have new identities, and holders remember nothing of what they have
        released: where a question was answered over all, the answer over fewer tells the difference.
        """
        self._ensure_open()
        with waiting("starting all parties anew …"):
            cluster.end(set(self._parties.values()))
            self._start_parties()

    def close(self) -> None:
        """End every party, and Ray if it was started here. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if cluster.is_running():
                repository = [] if self._repository is None else [self._repository]
                cluster.end([*set(self._parties.values()), *repository])
        finally:
            cluster.stop_ray(self._identifier)
            if self.temporary is not None:
                self.temporary.cleanup()

    def _start(
        self, model: Any, encoding: Message | None, kept: Kept | None
    ) -> tuple[Any, Callable[[], Stream]]:
        """Install the model at every holder; then the coordinator may begin."""
        definition = hashlib.sha256(model.definition.digest + _pickled(model)).digest()
        terms = Terms(
            self.choice.protocol_for(model, len(self.holders), encoding),
            encoding,
            self.on_dropout,
            kept,
            needed=max((policy.minimum_holders for policy in self.policies.values()), default=0),
        )
        check_encoding(terms.protocol, encoding)
        shared = ray.put(model)
        dispatcher = self._parties[self._dispatcher]
        over, self._over = self._over, []
        installing = dispatcher.install.remote(definition, [shared], over)
        identifier = uuid.uuid4().hex

        def end() -> None:
            if self._parties[self._dispatcher] is dispatcher:  # otherwise all parties have started anew since
                self._over.append(definition)

        def begin() -> Stream:
            compute = self._parties[COORDINATOR].compute.options(num_returns="streaming")
            if not hasattr(model, "apart"):
                return Stream(identifier, compute.remote(identifier, shared, definition, terms), end)
            lean, weights = model.apart()
            given = self._give_weights(identifier, weights)  # it begins once they have arrived
            return Stream(identifier, compute.remote(identifier, lean, definition, terms, *given), end)

        return installing, begin

    def _give_weights(self, computation: str, weights: NDArray[Any]) -> list[Any]:
        """Send the coordinator weights in pieces that its process does not share with others; returns the calls."""
        octets = weights.view(np.uint8)
        call = self._parties[COORDINATOR].take_weights.remote
        pieces = range(0, len(octets), SLICES * SLICE_BYTES)
        return [
            call(computation, (weights.dtype.str, len(weights)), start, *_slices(octets, start))
            for start in pieces
        ]


def _slices(octets: NDArray[np.uint8], start: int) -> list[NDArray[np.uint8]]:
    """Return the slices of one piece, as short as a call itself carries them."""
    piece = octets[start : start + SLICES * SLICE_BYTES]
    return [piece[at : at + SLICE_BYTES] for at in range(0, len(piece), SLICE_BYTES)]


def _pickled(model: Any) -> bytes:
    """Return a model as it goes to the holders' processes.

    Raises
    ------
    SetupError
        If it cannot go there.
    """
    try:
        return bytes(cloudpickle.dumps(model))  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - whatever the user's objects raise
        raise SetupError(
            f"the model or function cannot be sent to the holders' processes ({error}): "
            "let it refer to nothing but plain values and importable modules"
        ) from None
