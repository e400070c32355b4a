"""A federation: the parties of a simulation, and what a user asks of them.

It owns no event loop and, but for the line of progress, no thread. A synchronous method waits with Ray for the very
reference that its twin, whose name begins with ``a``, awaits; so both work in scripts, in a notebook with a running
loop, and in asyncio programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError

from ..models.definition import Model
from ..models.provenance import Provenance
from ..models.stepwise import Stepwise
from ..privacy.guarantee import Privacy
from ..protocols.errors import SetupError
from ..protocols.party import AGGREGATOR, COORDINATOR
from ..protocols.plan_table import Plan
from ..protocols.planning import Wish
from ..protocols.protocol import Protocol, check_encoding
from ..protocols.ring_paillier import RingPaillier
from ..records.model_store import ModelStore
from ..records.policy import Policy, policies_of
from ..serialization.encoding_parameters import AutoRange
from ..serialization.schema import Message
from . import cluster
from .choice import Choice
from .computation import Kept, Terms
from .errors import ClosedError, HoldersLostWarning, PeerUnreachableError, SumWarning, cause_of
from .events import Event, Failure, Result
from .holder_host import share_out
from .progress import Expected, OnEvent, following, waiting
from .question import Situation, encoding_of, kept_as, question, sum_question
from .repository import REPOSITORY, Repository

R = TypeVar("R")


def simulate(
    data: Mapping[str, Any],
    protocol: Protocol[Any] | Literal["auto"] | None = None,
    *,
    wish: Wish | None = None,
    repository: str | os.PathLike[str] | None = None,
    policy: Policy | Mapping[str, Policy] | None = None,
    on_dropout: Literal["fail", "continue"] = "fail",
    holders_per_actor: int | None = None,
) -> Federation:
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
        functions that they are asked, too. By default up to ten holders have a process each, and more of
        them one for every core of this machine.

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
    return Federation._simulated(
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


@dataclass(frozen=True)
class _Stream:
    """The events of a model on its way through the coordinator."""

    identifier: str
    events: Any


@dataclass
class Federation:
    """Data holders, a coordinator and a repository, ready to be asked.

    Made by `tacit.simulate`. Every method that talks to them has an asynchronous twin: `asum`, `afit`,
    `aclose`, `aledger`, `arestart`, `aruns`.

    Attributes
    ----------
    choice : Choice
        How sums are computed.
    on_dropout : {"fail", "continue"}
        What happens when a holder is lost.
    holders : tuple of str
        Their names.
    """

    choice: Choice
    on_dropout: Literal["fail", "continue"]
    holders: tuple[str, ...]
    _parties: dict[str, Any] = field(repr=False)  # the host of each
    _data: Mapping[str, Any] = field(repr=False)  # the rows of each holder, for `restart`
    _groups: Sequence[Sequence[str]] = field(repr=False)  # the holders of each process
    _temporary: tempfile.TemporaryDirectory[str] | None = field(repr=False)
    _policies: Mapping[str, Policy] = field(default_factory=dict, repr=False)
    _repository: Any = field(default=None, repr=False)
    _identifier: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    _closed: bool = field(default=False, repr=False)

    @classmethod
    def _simulated(
        cls,
        data: Mapping[str, Any],
        choice: Choice,
        repository: str | os.PathLike[str] | None,
        *,
        policies: Mapping[str, Policy],
        on_dropout: Literal["fail", "continue"],
        holders_per_actor: int | None,
    ) -> Federation:
        """Start every party, and end whatever was started if that fails."""
        temporary = None
        if repository is None:
            temporary = tempfile.TemporaryDirectory(prefix="tacit-", ignore_cleanup_errors=True)
            repository = temporary.name
        location = str(repository)
        if "://" not in location:
            location = os.path.abspath(location)
        groups = share_out(list(data), holders_per_actor)
        federation = cls(choice, on_dropout, tuple(data), {}, dict(data), groups, temporary, policies)
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
        hosts = {}
        for names in self._groups:
            host = cluster.start_holders(
                names, [self._data[name] for name in names], simulation=True, policies=self._policies
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

    # What a user asks

    def sum(
        self,
        function: Callable[..., Any],
        at: Any = None,
        encoding: Message | None = None,
        privacy: Privacy | None = None,
        *,
        shape: tuple[int, ...] = (),
        on_event: OnEvent | None = None,
    ) -> NDArray[Any]:
        """Return the sum over all holders of ``function(data)``, or of ``function(data, at)``.

        Parameters
        ----------
        function : callable
            Evaluated at each holder on its own rows; returns a number or an array, of the same shape and kind
            at every holder.
        at : array_like, optional
            A public value handed to the function.
        encoding : ExactFloat or FixedPoint, optional
            By default `ExactFloat`: the correctly rounded exact sum.
        privacy : Privacy, optional
            Noise for the sum. The function then returns one entry a record, which is clipped to
            ``privacy.clip``, and the sum is over all holders' records (persons, or holders, by `privacy.unit`).
        shape : tuple of int
            With privacy, the shape of one entry: what one record puts in. A single number by default.
        on_event : callable, optional
            Called with every event of progress, as in `fit`.

        Returns
        -------
        ndarray
            In the shape that the function returns, or in `shape` under privacy; integers stay integers.

        Raises
        ------
        RefusedError
            If the function fails at a holder, or returns NaN or infinity; names holder and index.
        SetupError
            If shapes or dtypes differ between holders.
        RangeError
            If the total is beyond the range of its dtype.
        PrivacyError
            If the guarantee cannot be given.
        DropoutError
            If a holder is lost and the sum cannot go on without it.

        Warns
        -----
        HoldersLostWarning
            If holders are lost and, as ``on_dropout="continue"`` asks, the sum is over the survivors.
        SumWarning
            If values were clipped, as `Quantized` does, or wrong messages corrected.
        """
        asked = sum_question(self._situation, function, at, encoding, privacy=privacy, shape=shape)
        return self._array(self._wait(*asked, on_event))

    async def asum(
        self,
        function: Callable[..., Any],
        at: Any = None,
        encoding: Message | None = None,
        privacy: Privacy | None = None,
        *,
        shape: tuple[int, ...] = (),
        on_event: OnEvent | None = None,
    ) -> NDArray[Any]:
        """Return what `sum` does: its asynchronous twin."""
        asked = sum_question(self._situation, function, at, encoding, privacy=privacy, shape=shape)
        return self._array(await self._await(*asked, on_event))

    def fit(
        self,
        model: Model[R],
        encoding: Message | None = None,
        privacy: Privacy | None = None,
        *,
        cov_type: str = "nonrobust",
        checkpoint: str | None = None,
        every: int = 1,
        resume: bool = True,
        on_event: OnEvent | None = None,
    ) -> R:
        """Fit a model over all holders' rows, with the estimates and standard errors of the pooled data.

        Parameters
        ----------
        model : MaximumLikelihood, GLM, OLS or NeuralNetwork
            What to fit.
        encoding : ExactFloat, FixedPoint or Quantized, optional
            By default the model's own; for statistical models `ExactFloat`.
        privacy : Privacy, optional
            Noise for every number that the fit releases, and standard errors that include it. It goes with GLM, OLS
            and NeuralNetwork; each says in ``with_privacy`` what it then needs.
        cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster", "CR0"}
            How a regression's covariance is estimated: from the model, robust to unequal variances, or to what the
            rows of a holder have in common ("CR0" is "cluster" without the correction for few holders).
        checkpoint : str, optional
            A name under which the run is kept in the repository, with a signed checkpoint after every step. If a
            process dies, the same call, here after `restart` or in a new federation over the same holders' rows and
            the same repository, goes on from the last one, to the same bits; `warnings` of the fit say so. A run that
            came to its end is not taken up: then the call begins anew. The two latest checkpoints are there.
        every : int
            A checkpoint after so many steps (iterations, of a network rounds); the same when a run is taken up.
        resume : bool
            False begins anew in any case.
        on_event : callable, optional
            Called with every event of progress, as `tacit.actors.events` has them: a `Pass` after each secure sum, an
            `Iterated` after each step, `Lost` holders, and the `Result` or `Failure`. Without it, a fit of more than
            two seconds shows a bar on a terminal, or a line in a notebook, with the time left. An exception of
            its own, or an interrupt, breaks the fit off at every party; the federation can be used on.

        Returns
        -------
        Fit, GLMFit, OLSFit or NetworkFit
            By the model; prints like statsmodels' and says which protocol and which holders it rests on.

        Raises
        ------
        RefusedError, SetupError, RangeError, DropoutError
            As `sum`.
        ModelError
            If the model cannot start from its start, its columns are collinear, or it has no such covariance.
        PrivacyError
            If the guarantee cannot be given for this model, or is asked for together with `checkpoint`.
        PeerUnreachableError
            If the coordinator's process dies: `restart` helps.
        RecordError
            If a checkpoint cannot be written or read, or another run writes under its name.
        """
        model, encoding = question(self._situation, model, encoding, privacy, cov_type)
        kept = kept_as(checkpoint, every, resume)
        fit: R = self._fit(model, self._wait(model, encoding, on_event, kept), encoding)
        return fit

    async def afit(
        self,
        model: Model[R],
        encoding: Message | None = None,
        privacy: Privacy | None = None,
        *,
        cov_type: str = "nonrobust",
        checkpoint: str | None = None,
        every: int = 1,
        resume: bool = True,
        on_event: OnEvent | None = None,
    ) -> R:
        """Fit a model as `fit` does: its asynchronous twin."""
        model, encoding = question(self._situation, model, encoding, privacy, cov_type)
        kept = kept_as(checkpoint, every, resume)
        fit: R = self._fit(model, await self._await(model, encoding, on_event, kept), encoding)
        return fit

    def plan(self, model: Any, encoding: Message | None = None) -> Plan:
        """Put all protocols side by side for a question, before anything runs: what each costs, and whom it trusts.

        The first plan of a process measures this machine for two or three seconds.

        Parameters
        ----------
        model : MaximumLikelihood, Sum, or callable
            What is to be asked; a function is taken to return one number.
        encoding : ExactFloat, FixedPoint or Quantized, optional
            By default `ExactFloat`.

        Returns
        -------
        Plan
            Prints as a table: rounds, bytes, estimated seconds, digits, losses, who learns what, and the reason.

        Raises
        ------
        SetupError
            If no protocol meets the wish.
        """
        with waiting("measuring this machine …"):
            return self.choice.plan(model, len(self.holders), encoding_of(model, encoding))

    @property
    def protocol(self) -> Protocol[Any] | Literal["auto"]:
        """How sums are computed."""
        return self.choice.protocol

    @property
    def processes(self) -> dict[str, int]:
        """The process of each party that lives: to watch what it takes or, rehearsing a loss, to end it."""
        self._ensure_open()
        found = {}
        for name, host in self._parties.items():
            with contextlib.suppress(PeerUnreachableError):
                found[name] = int(self._get(host.ping.remote(), name))
        return found

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every value released so far: when, to whom, over which holders, under which protocol."""
        return list(self._get(self._open_repository().aggregates.remote(), REPOSITORY))

    async def aledger(self) -> list[dict[str, Any]]:
        """Return what `ledger` is: its asynchronous twin."""
        return list(await self._await_remote(self._open_repository().aggregates.remote(), REPOSITORY))

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Every run so far, a sum or a fit, oldest first: what was asked, what happened, how it ended.

        Each has ``run``, ``time``, ``model``, ``protocol`` and further terms, ``outcome`` ("result", "failure" or
        "unfinished"), ``seconds``, and ``events``, one a line of its file ``runs/<run>.jsonl`` in the repository.
        ``pandas.DataFrame(federation.runs)`` is a table of them. Unlike `ledger` they are not signed.
        """
        return list(self._get(self._open_repository().runs.remote(), REPOSITORY))

    async def aruns(self) -> list[dict[str, Any]]:
        """Return what `runs` is: its asynchronous twin."""
        return list(await self._await_remote(self._open_repository().runs.remote(), REPOSITORY))

    @property
    def repository(self) -> Repository:
        """Where results are saved, versioned and signed, and predict."""
        return Repository(
            self._open_repository,
            self._get,
            self._await_remote,
            lambda: self._parties[COORDINATOR],
            lambda: {name: self._parties[name] for name in self.holders},
        )

    def restart(self) -> None:
        """End every party, and start all anew with the rows as they now are: what to do when a process has died.

        The repository goes on. The parties have new identities, and holders remember nothing of what they have
        released: where a question was answered over all, the answer over fewer tells the difference.
        """
        self._ensure_open()
        with waiting("starting all parties anew …"):
            cluster.end(set(self._parties.values()))
            self._start_parties()

    async def arestart(self) -> None:
        """Start all parties anew as `restart` does: its asynchronous twin, which takes a few seconds of the loop."""
        self.restart()

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
            if self._temporary is not None:
                self._temporary.cleanup()

    async def aclose(self) -> None:
        """End every party as `close` does: its asynchronous twin, which takes a few seconds of the loop."""
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

    @property
    def _situation(self) -> Situation:
        return Situation(self.choice, len(self.holders))

    def _start(
        self, model: Any, encoding: Message | None, kept: Kept | None
    ) -> tuple[Any, Callable[[], _Stream]]:
        """Install the model at every holder; then the coordinator may begin."""
        self._ensure_open()
        definition = hashlib.sha256(model.definition.digest + _pickled(model)).digest()
        terms = Terms(
            self.choice.protocol_for(model, len(self.holders), encoding),
            encoding,
            self.on_dropout,
            kept,
            needed=max((policy.minimum_holders for policy in self._policies.values()), default=0),
        )
        check_encoding(terms.protocol, encoding)
        shared = ray.put(model)
        installing = self._parties[self._dispatcher].install.remote(definition, [shared])
        identifier = uuid.uuid4().hex

        def begin() -> _Stream:
            compute = self._parties[COORDINATOR].compute.options(num_returns="streaming")
            events = compute.remote(identifier, shared, definition, terms)
            return _Stream(identifier, events)

        return installing, begin

    def _expected(self, model: Any, encoding: Message | None) -> Expected:
        """Return what is known of a computation before it begins, for a line of progress."""
        a_sum = 2 if isinstance(encoding, AutoRange) else 1  # which asks for the range first
        n_rounds = model.definition.parameters.get("rounds")
        return Expected(model.expected_passes * a_sum, len(self.holders), n_rounds)

    def _wait(
        self, model: Any, encoding: Message | None, on_event: OnEvent | None, kept: Kept | None = None
    ) -> Result:
        """Run a model and wait for its result; an interrupt breaks it off at every party."""
        installing, begin = self._start(model, encoding, kept)
        self._get(installing, self._dispatcher)
        computation = begin()
        with self._cancelling(computation), following(on_event, self._expected(model, encoding)) as follow:
            for reference in computation.events:
                result = _result_of(self._get(reference, COORDINATOR), follow)
                if result is not None:
                    return result
        raise PeerUnreachableError(COORDINATOR)

    async def _await(
        self, model: Any, encoding: Message | None, on_event: OnEvent | None, kept: Kept | None = None
    ) -> Result:
        """As `_wait`, without blocking the caller's loop."""
        installing, begin = self._start(model, encoding, kept)
        await self._await_remote(installing, self._dispatcher)
        computation = begin()
        with self._cancelling(computation), following(on_event, self._expected(model, encoding)) as follow:
            async for event in _events(computation.events):
                result = _result_of(event, follow)
                if result is not None:
                    return result
        raise PeerUnreachableError(COORDINATOR)

    @contextlib.contextmanager
    def _cancelling(self, computation: _Stream) -> Iterator[None]:
        """Break the computation off if the caller is interrupted or cancelled, or its follower fails."""
        try:
            yield
        except BaseException:
            if cluster.is_running():
                self._parties[COORDINATOR].cancel.remote(computation.identifier)  # harmless if it is over
            raise

    def _get(self, reference: Any, party: str) -> Any:
        """Wait for a remote value; tacit's own errors come back as they were."""
        with _telling(party):
            return ray.get(reference)

    async def _await_remote(self, reference: Any, party: str) -> Any:
        """As `_get`, without blocking the caller's loop."""
        with _telling(party):
            return await reference

    def _ensure_open(self) -> None:
        if self._closed or not cluster.is_running():
            raise ClosedError

    def _open_repository(self) -> Any:
        self._ensure_open()
        return self._repository

    def _array(self, result: Result) -> NDArray[Any]:
        """Return the sum; a sum over fewer holders says so."""
        if result.lost:
            fewer = (
                f"{len(result.survivors)} of {len(self.holders)} holders"
                if result.at_least is None
                else f"at least {result.at_least} holders"
            )
            told = f"the sum is over {fewer}: {', '.join(result.lost)} lost"
            warnings.warn(
                "; ".join([told, *_remarks_on_losses(result)]),
                HoldersLostWarning,
                stacklevel=3,
            )
        for remark in result.remarks:
            warnings.warn(remark, SumWarning, stacklevel=3)
        return np.asarray(result.value)

    def _fit(self, model: Any, result: Result, encoding: Message | None) -> Any:
        fit = result.value
        if not isinstance(fit, Provenance):
            raise SetupError("the model yields no fit: use federation.sum for sums")
        protocol = self.choice.protocol_for(model, len(self.holders), encoding)
        known = result.at_least is None
        noised = getattr(model, "noised", None)
        unnamed = (
            ["holders were lost on the way; who, and how many, is not told"]
            if result.lost and not known
            else []
        )
        if isinstance(fit, Stepwise):
            fit = replace(fit, holders_by_step=result.holders_by_step)
        return fit.with_provenance(
            protocol=protocol.title,
            holders=self.holders if known else (f"at least {result.at_least}",),
            survivors=result.survivors,
            digits="exact sums, rounded once" if encoding is None else repr(encoding),
            privacy=None if noised is None else noised.described(len(self.holders)),
            trust=str(protocol.trust),
            warnings=[*_remarks_on_losses(result), *result.remarks, *unnamed],
        )


@contextlib.contextmanager
def _telling(party: str) -> Iterator[None]:
    """Tell what went wrong with a remote call in tacit's own words."""
    try:
        yield
    except RayTaskError as error:
        raise cause_of(error) from None
    except RayActorError:
        raise PeerUnreachableError(party) from None


async def _events(stream: Any) -> AsyncIterator[Event]:
    """Yield the events of a computation, in order."""
    with _telling(COORDINATOR):
        async for reference in stream:
            yield await reference


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


def _remarks_on_losses(result: Result) -> list[str]:
    """Return what a user must know of the holders that are lost."""
    if not result.may_isolate:
        return []
    lost = ", ".join(result.may_isolate)
    return [
        f"sums that include {lost} were revealed before the loss: "
        f"with those over the survivors alone they may isolate the contribution of {lost}"
    ]


def _result_of(event: Event, follow: OnEvent) -> Result | None:
    """Return the result, if this event is it; raise its error if it is a failure."""
    follow(event)
    if isinstance(event, Failure):
        raise event.error
    return event if isinstance(event, Result) else None
