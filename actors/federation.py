"""A federation: the parties of a simulation or a deployment, and what a user asks of them.

It owns no event loop and, but for the line of progress, no thread. A synchronous method waits with Ray for the very
reference that its twin, whose name begins with ``a``, awaits; so both work in scripts, in a notebook with a running
loop, and in asyncio programs.
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayActorError, RayTaskError

from ..models.definition import Model
from ..models.provenance import Provenance
from ..models.stepwise import Stepwise
from ..privacy.guarantee import Privacy
from ..protocols.errors import SetupError
from ..protocols.party import COORDINATOR
from ..protocols.plan_table import Plan
from ..protocols.protocol import Protocol
from ..serialization.encoding_parameters import AutoRange
from ..serialization.schema import Message
from . import cluster
from .choice import Choice
from .computation import Kept
from .errors import ClosedError, HoldersLostWarning, PeerUnreachableError, SumWarning, cause_of
from .events import Event, Failure, Result
from .progress import Expected, OnEvent, following, waiting
from .question import Situation, encoding_of, kept_as, question, sum_question
from .repository import REPOSITORY, Repository

ANSWER_SECONDS = 8.0  # that a process may take to answer a ping

R = TypeVar("R")


@dataclass(frozen=True)
class Stream:
    """The events of a model on its way through the coordinator.

    Attributes
    ----------
    identifier : str
        By which it is cancelled.
    events : generator of references
    over : callable
        Called when it has ended, however it has.
    """

    identifier: str
    events: Any
    over: Callable[[], None] = lambda: None


@dataclass
class Federation:
    """Data holders, a coordinator and a repository, ready to be asked.

    Made by `tacit.simulate` and `tacit.connect`. Every method that talks to them has an asynchronous twin: `asum`,
    `afit`, `aclose`, `aledger`, `arestart`, `aruns`.

    Attributes
    ----------
    choice : Choice
        How sums are computed.
    on_dropout : {"fail", "continue"}
        What happens when a holder is lost.
    holders : tuple of str
        Their names.
    """

    _remedy: ClassVar[str] = "restart() the federation"  # when a process is gone

    choice: Choice
    on_dropout: Literal["fail", "continue"]
    holders: tuple[str, ...]
    _parties: dict[str, Any] = field(repr=False)  # the host of each
    _repository: Any = field(default=None, repr=False)
    _identifier: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    _closed: bool = field(default=False, repr=False)

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
        """The process of each party that answers: to watch what it takes or, rehearsing a loss, to end it."""
        self._ensure_open()
        asked = {name: host.ping.remote() for name, host in self._hosts().items()}
        answered, _ = ray.wait([*asked.values()], num_returns=len(asked), timeout=ANSWER_SECONDS)
        found = {}
        for name, reference in asked.items():
            if reference in answered:
                with contextlib.suppress(PeerUnreachableError):
                    found[name] = int(self._get(reference, name))
        return found

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every value released so far: when, to whom, over which holders, under which protocol."""
        return list(self._get(self._open_repository().aggregates.remote(), REPOSITORY))

    async def aledger(self) -> list[dict[str, Any]]:
        """Return what `ledger` is: its asynchronous twin."""
        repository = await self._aopen_repository()
        return list(await self._await_remote(repository.aggregates.remote(), REPOSITORY))

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
        repository = await self._aopen_repository()
        return list(await self._await_remote(repository.runs.remote(), REPOSITORY))

    @property
    def repository(self) -> Repository:
        """Where results are saved, versioned and signed, and predict."""
        return Repository(
            self._open_repository,
            self._aopen_repository,
            self._get,
            self._await_remote,
            coordinator=lambda: self._coordinator,
            holders=lambda: {name: host for name, host in self._hosts().items() if name in self.holders},
        )

    def restart(self) -> None:
        """End every party, and start all anew: what to do when a process has died, where they are the user's.

        Raises
        ------
        SetupError
            In a deployment, where each party's owner restarts it.
        """
        raise NotImplementedError

    async def arestart(self) -> None:
        """Start all parties anew as `restart` does: its asynchronous twin, which takes a few seconds of the loop."""
        self.restart()

    def close(self) -> None:
        """Let go of the parties, or end them where they are the user's. May be called twice."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close as `close` does: its asynchronous twin, which may take a few seconds of the loop."""
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

    @property
    def _dispatcher(self) -> str:
        """Who invites the holders, and hands them the models."""
        return COORDINATOR

    @property
    def _coordinator(self) -> Any:
        return self._parties[COORDINATOR]

    def _hosts(self) -> dict[str, Any]:
        """Return the host of each party that is there."""
        return self._parties

    def _start(
        self, model: Any, encoding: Message | None, kept: Kept | None
    ) -> tuple[Any, Callable[[], Stream]]:
        """Have every holder hold the model ready; then the coordinator may begin."""
        raise NotImplementedError

    def _expected(self, model: Any, encoding: Message | None) -> Expected:
        """Return what is known of a computation before it begins, for a line of progress."""
        a_sum = 2 if isinstance(encoding, AutoRange) else 1  # which asks for the range first
        n_rounds = model.definition.parameters.get("rounds")
        return Expected(model.expected_passes * a_sum, len(self.holders), n_rounds)

    def _wait(
        self, model: Any, encoding: Message | None, on_event: OnEvent | None, kept: Kept | None = None
    ) -> Result:
        """Run a model and wait for its result; an interrupt breaks it off at every party."""
        self._ensure_open()
        installing, begin = self._start(model, encoding, kept)
        self._get(installing, self._dispatcher)
        computation = begin()
        with self._cancelling(computation), following(on_event, self._expected(model, encoding)) as follow:
            for reference in computation.events:
                result = _result_of(self._get(reference, COORDINATOR), follow)
                if result is not None:
                    return result
        raise PeerUnreachableError(COORDINATOR, self._remedy)

    async def _await(
        self, model: Any, encoding: Message | None, on_event: OnEvent | None, kept: Kept | None = None
    ) -> Result:
        """As `_wait`, without blocking the caller's loop."""
        await self._aensure_open()
        installing, begin = self._start(model, encoding, kept)
        await self._await_remote(installing, self._dispatcher)
        computation = begin()
        with self._cancelling(computation), following(on_event, self._expected(model, encoding)) as follow:
            async for event in _events(computation.events, self._remedy):
                result = _result_of(event, follow)
                if result is not None:
                    return result
        raise PeerUnreachableError(COORDINATOR, self._remedy)

    @contextlib.contextmanager
    def _cancelling(self, computation: Stream) -> Iterator[None]:
        """Break the computation off if the caller is interrupted or cancelled, or its follower fails."""
        try:
            yield
        except BaseException:
            if cluster.is_running():
                self._coordinator.cancel.remote(computation.identifier)  # harmless if it is over
            raise
        finally:
            computation.over()

    def _get(self, reference: Any, party: str) -> Any:
        """Wait for a remote value; tacit's own errors come back as they were."""
        with _telling(party, self._remedy):
            return ray.get(reference)

    async def _await_remote(self, reference: Any, party: str) -> Any:
        """As `_get`, without blocking the caller's loop."""
        with _telling(party, self._remedy):
            return await reference

    def _ensure_open(self) -> None:
        if self._closed or not cluster.is_running():
            raise ClosedError

    async def _aensure_open(self) -> None:
        """As `_ensure_open`, without blocking the caller's loop."""
        self._ensure_open()

    def _open_repository(self) -> Any:
        self._ensure_open()
        return self._repository

    async def _aopen_repository(self) -> Any:
        await self._aensure_open()
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
        if hasattr(model, "completed"):
            fit = model.completed(fit)
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
def _telling(party: str, remedy: str) -> Iterator[None]:
    """Tell what went wrong with a remote call in tacit's own words."""
    try:
        yield
    except RayTaskError as error:
        raise cause_of(error) from None
    except RayActorError:
        raise PeerUnreachableError(party, remedy) from None


async def _events(stream: Any, remedy: str) -> AsyncIterator[Event]:
    """Yield the events of a computation, in order."""
    with _telling(COORDINATOR, remedy):
        async for reference in stream:
            yield await reference


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
