"""Neural networks over holders: federated averaging and federated gradient descent for any torch module.

A training has a pass at the start, which counts the rows and compares their form, a pass a round, and one at the end,
which evaluates what has been trained. In a round every holder receives the common parameters, trains on its own rows,
and contributes one flat vector, its change times its rows, with the rows themselves: the coordinator divides one sum by
the other. Losses and hits over rows held out come with the same pass.

Who learns what: the coordinator the sums of each round (changes, buffers, rows, losses, hits), no holder's own; the
holders the parameters of every round, and so what is learned from all. **The change of few rows tells much about
them**, alone or in a sum of few holders: `Privacy` limits that, the protocol does not.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..privacy.guarantee import Privacy
from ..privacy.noised_sum import NoisedSum
from ..serialization.encoding_parameters import FixedPointMean
from ..serialization.session_messages import ArraySpecification, Query
from .definition import Definition, State, fingerprint
from .errors import ModelError
from .network_fit import NetworkFit
from .neural_network_holder import Holder, Task
from .neural_network_local import Loss, LossFunction, local_optimizer
from .neural_network_module import Layout, describe, without_weights, working_alone
from .neural_network_rows import FrameColumns, rows_of
from .private_network import PrivateHolder, noised_training
from .private_training import PrivateRounds
from .total import Arrays, Total
from .training import LARGEST_CHANGE, LARGEST_GRADIENT, Aggregation, Recipe, Score, TrainingState
from .training_optimizers import ServerOptimizer, description_of, server_optimizer_of
from .training_rounds import HELD_OUT, Rounds, Trained

if TYPE_CHECKING:
    import torch


class NeuralNetwork:
    """A torch module trained over all holders' rows.

    Parameters
    ----------
    module : torch.nn.Module
        The architecture, with the weights to start from. Its trainable parameters, all float32 or all float64, are
        trained; frozen ones stay.
    loss : str or callable
        "cross_entropy", "nll", "bce_with_logits", "mse", "l1", "huber", "poisson_nll", or ``loss(outputs, targets)``
        that returns a tensor: the mean over the rows of a batch, or a value for each row.
    optimizer : {"sgd", "adam", "adamw", "rmsprop", "adagrad"}
        Of the local steps; its state begins anew each round.
    learning_rate : float
        Of the local steps; under "fedsgd", of the common one.
    rounds : int
        Passes that move the network.
    local_epochs : int
        How often a holder goes over its rows in a round.
    batch_size : int, optional
        Rows of a local step; of a round, under "fedsgd". By default all rows of the holder.
    aggregation : {"fedavg", "fedsgd", "fedprox"}
        "fedavg": holders train on their own and their changes are averaged, by rows. "fedsgd": gradients are summed
        and one common step is taken. "fedprox": as "fedavg", held near the common parameters by a proximal term.
    proximal : float, optional
        Weight μ of FedProx' term μ/2 |w − w_round|².
    server_optimizer : {None, "momentum", "adam"} or ServerSGD, ServerMomentum, ServerAdam
        What the coordinator does with the averaged change; None adds it.
    optimizer_options : mapping, optional
        Further options of torch's optimizer, for instance ``{"momentum": 0.9, "weight_decay": 1e-4}``.
    target : str, optional
        The column of y, if the holders' rows are data frames; otherwise they are pairs (X, y).
    features : sequence of str, optional
        The columns of X; by default all others, in the same order at every holder, which is checked.
    seed : int
        Of the order of the rows, of dropout, and of which rows are held out.
    validation : float, optional
        Fraction of each holder's rows that is held out, and on which every round's network is evaluated.
    early_stop : int, optional
        Stop when the loss over the rows held out has not fallen for so many rounds, and return the best network.
    buffers : {"average", "refuse"}
        Buffers in floating point, such as a batch norm's running statistics, are statistics of the rows: they are
        averaged like the parameters, in the open within the secure sum, or the module is refused. Buffers of
        integers (``num_batches_tracked``) are not summed: each round starts from those of `module`.
    bound : float, optional
        Largest change of a parameter in a round (under "fedsgd", largest gradient) that counts in full; by default 8
        (64). What is beyond is clipped at the holder, and how many values were is summed and told. It also sets the
        grid of `default_encoding`: a bound of up to 64 on changes of parameters in float32 is 2^30 units, others 2^48.

    Raises
    ------
    ModelError
        If the options do not go together, or the module cannot be trained this way.

    Notes
    -----
    With an encoding that sums exactly, a training gives the same bits under every protocol, and the same as one machine
    that adds the same contributions. A holder computes on one thread of the processor; bits differ between versions of
    torch and kinds of processors.

    References
    ----------
    B. McMahan et al., AISTATS 2017 (FedSGD, FedAvg); T. Li et al., MLSys 2020 (FedProx); T.-M. Hsu et al.,
    arXiv:1909.06335, 2019, and S. Reddi et al., ICLR 2021 (server optimizers).

    Examples
    --------
    >>> model = NeuralNetwork(torch.nn.Linear(64, 10), "cross_entropy", rounds=20)      # doctest: +SKIP
    >>> fit = federation.fit(model)                                                     # doctest: +SKIP
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: str | LossFunction,
        optimizer: str = "sgd",
        *,
        learning_rate: float = 0.01,
        rounds: int,
        local_epochs: int = 1,
        batch_size: int | None = None,
        aggregation: Aggregation = "fedavg",
        proximal: float | None = None,
        server_optimizer: str | ServerOptimizer | None = None,
        optimizer_options: Mapping[str, Any] | None = None,
        target: str | None = None,
        features: Sequence[str] | None = None,
        seed: int = 0,
        validation: float | None = None,
        early_stop: int | None = None,
        buffers: Literal["average", "refuse"] = "average",
        bound: float | None = None,
    ) -> None:
        self._recipe = Recipe(
            aggregation=aggregation,
            optimizer=optimizer,
            optimizer_options=dict(optimizer_options or {}),
            learning_rate=learning_rate,
            rounds=rounds,
            local_epochs=local_epochs,
            batch_size=batch_size,
            proximal=proximal,
            seed=seed,
            validation=validation,
            early_stop=early_stop,
            bound=(LARGEST_GRADIENT if aggregation == "fedsgd" else LARGEST_CHANGE)
            if bound is None
            else bound,
        )
        self._loss = Loss(loss)
        self._server_optimizer = server_optimizer_of(server_optimizer)
        if features is not None and target is None:
            raise ModelError("features= names columns of data frames: name their target= too")
        self._columns = FrameColumns(target, None if features is None else tuple(features))
        self.noised: NoisedSum | None = None
        self._module = _own_copy(module)
        self._weights: list[NDArray[Any]] | None = None  # apart from the module, until they are begun with
        self._layout = Layout.of(self._module)
        self._check_buffers(buffers)
        if optimizer != "sgd" or optimizer_options:
            local_optimizer(self._recipe, self._module.parameters())  # which refuses what torch refuses
        self.definition = Definition(
            "NeuralNetwork",
            {
                "module": describe(self._module),
                "loss": self._loss.description(),
                "server_optimizer": description_of(self._server_optimizer),
                **asdict(self._columns),
                **asdict(self._recipe),
            },
        )

    @property
    def columns_read(self) -> frozenset[str] | None:
        """All that it reads of the rows; None if it may read any column."""
        if self._columns.features is None or self._columns.target is None:
            return None
        person = None if self.noised is None else self.noised.privacy.person
        named = (*self._columns.features, self._columns.target, person)
        return frozenset(name for name in named if name is not None)

    def coming_from(self, function: Callable[..., Any], keywords: Mapping[str, Any]) -> NeuralNetwork:
        """Return the same training with a definition that says which importable function makes it, of which keywords.

        So a holder can make it again, where a definition travels and a module, which is code, does not. Networks that
        a study names by "package.module:function" come so.

        Raises
        ------
        ModelError
            If a keyword is no plain data.
        """
        again = copy.copy(self)
        origin = {"function": fingerprint(function), "keywords": keywords}
        again.definition = Definition(self.definition.kind, {**self.definition.parameters, "origin": origin})
        return again

    def _check_buffers(self, buffers: str) -> None:
        if buffers not in ("average", "refuse"):
            raise ModelError("buffers is 'average' or 'refuse'")
        if buffers == "refuse" and self._layout.buffers:
            names = ", ".join(name for name, _ in self._layout.buffers)
            raise ModelError(
                f"the module has buffers, {names}, which are statistics of rows: use layers without "
                "(GroupNorm, LayerNorm), or buffers='average'"
            )

    def with_privacy(self, privacy: Privacy) -> NeuralNetwork:
        """Return the same training under differential privacy: only noised sums of clipped changes are released.

        Records and persons take `aggregation` "fedsgd": each one's gradient, for a person the sum over its rows, is
        clipped to the length `privacy.clip`, and the noised sum is divided by a noised count of records or persons. The
        unit "holder" takes any aggregation: each holder's change is clipped, and all holders weigh the same. Losses are
        not released: they are NaN in the fit and its history, and `nobs` is the noised count.

        Parameters
        ----------
        privacy : Privacy
            ``sampling`` takes the place of `batch_size`; data frames take `features`; for persons, a data frame.

        Raises
        ------
        PrivacyError
            If the guarantee and the training do not go together: for instance batch norm, validation, buffers.

        References
        ----------
        M. Abadi et al., CCS 2016; B. McMahan et al., ICLR 2018.
        """
        private = copy.copy(self)
        private.noised = noised_training(privacy, self._recipe, self._layout, self._columns, self._module)
        stated = {**self.definition.parameters, "privacy": privacy.to_dict()}
        private.definition = Definition(self.definition.kind, stated)
        return private

    # Before anything runs.

    @property
    def expected_passes(self) -> int:
        """One at the start, one a round, one at the end; under privacy, as many as there are releases."""
        return self._recipe.rounds + 2 if self.noised is None else self.noised.rounds

    @property
    def default_encoding(self) -> FixedPointMean:
        """A grid that holds every contribution, clipped as it is at the bound, for up to 32,767 holders."""
        return self._recipe.encoding(self._layout.dtype)

    def specifications(self) -> tuple[ArraySpecification, ...]:
        """Return the arrays of a round's sum."""
        if self.noised is not None:
            return (ArraySpecification(name="noised", dtype="float64", shape=(self.noised.dimension,)),)
        dtype = self._layout.dtype.name
        floats = [("update", self._layout.n_parameters), ("buffers", self._layout.n_buffers)]
        held_out = Score().to_arrays(HELD_OUT, 0, hits=self._loss.counts_hits)
        integers = ["rows", "loss", "clipped", *(held_out if self._recipe.validation is not None else ())]
        return (
            *(ArraySpecification(name=name, dtype=dtype, shape=(size,)) for name, size in floats if size),
            *(ArraySpecification(name=name, dtype="int64", shape=()) for name in integers),
        )

    # At a holder.

    def contribution(self, data: Any, query: Query, /) -> Arrays:
        """Return this holder's counts, its change of the network times its rows, or the network's losses.

        Parameters
        ----------
        data : (X, y) or DataFrame
            This holder's rows.
        query : Query
            Step "start"; "round", with the arrays ``weights``, shape (p + b,), ``round`` and ``exponent``, of the
            unit of weights; or "evaluate", with the same.

        Returns
        -------
        dict
            "start": ``rows`` and ``form``. "round": ``update`` (p,) and ``buffers`` (b,), changes times rows
            over the unit, NaN if they are not finite; ``rows``, ``loss``, ``clipped``, and for the rows held out
            ``validation_rows``, ``validation_loss`` and, for classes, ``validation_hits`` and ``validation_targets``.
            "evaluate": those of the rows held out, and the same of the others.
            Under privacy at every step ``noised`` (p,), without the noise, which is added to it before it leaves.

        Raises
        ------
        ModelError
            If the query is none of this model's, or loss, outputs and targets do not go together.
        DataError
            If the rows cannot be used.
        """
        task = Task.of(query, self._layout, self._recipe)
        if self.noised is not None:
            return self._private_contribution(self.noised, data, task)
        rows = rows_of(data, self._columns, self._layout.dtype, self._loss.targets)
        kept, held_out = rows.split(self._recipe.validation, self._recipe.generator(0))
        with working_alone(self._recipe.torch_seed(task.number)):
            network = self._network(task.weights)
            return Holder(network, self._layout, self._loss, self._recipe, kept, held_out, task).answer()

    def _private_contribution(self, noised: NoisedSum, data: Any, task: Task) -> Arrays:
        with working_alone(self._recipe.torch_seed(task.number)):
            network = self._network(task.weights)
            parts = (self._layout, self._loss, self._recipe, self._columns, noised, task)
            return PrivateHolder(network, *parts).answer(data)

    def _network(self, weights: NDArray[Any] | None) -> torch.nn.Module:
        """Return a copy of the network, with these parameters and buffers."""
        network = copy.deepcopy(self._module)
        if weights is not None:
            self._layout.load(network, weights)
        return network

    # At the coordinator.

    def apart(self) -> tuple[NeuralNetwork, NDArray[Any]]:
        """Return this training without its weights, and the weights: a coordinator has one network in memory, not two.

        Returns
        -------
        model : NeuralNetwork
            Iterates once `begin_with` has given it the weights, and forgets them as it leaves them behind.
        weights : ndarray, shape (p + b,)
        """
        lean = copy.copy(self)
        lean._module, lean._weights = without_weights(self._module), []
        return lean, self._layout.vector(self._module)

    def begin_with(self, weights: NDArray[Any]) -> None:
        """Give a training from `apart` its weights."""
        self._weights = [weights]

    def completed(self, fit: NetworkFit) -> NetworkFit:
        """Return the fit of a training from `apart` with the architecture."""
        return replace(fit, module=self._module)

    async def iterate(
        self, total: Total, start: State | None = None
    ) -> AsyncIterator[TrainingState | NetworkFit]:
        """Train, awaiting nothing but sums; one pass a round.

        Parameters
        ----------
        total : Total
            Sums contributions over the holders.
        start : TrainingState, optional
            Continue from there; the pass at the start is not asked again.

        Yields
        ------
        TrainingState or NetworkFit
            A state at the start and after each round; last, the fit.

        Raises
        ------
        ModelError
            If the holders' rows differ in form, or there are none, or the training diverges.
        """
        rounds = self._rounds(total)
        if start is None:
            start = await rounds.begin(self._first_weights())
            self._forget_weights()
            yield start
        else:
            self._forget_weights()
            start = _continued(rounds.first_state(np.zeros(self._layout.size, self._layout.dtype), 0), start)
        states = rounds.run(start)
        del start  # a whole network, which the training leaves behind
        async for reached in states:
            yield self._fit(reached) if isinstance(reached, Trained) else reached

    def _first_weights(self) -> NDArray[Any]:
        if self._weights is None:
            return self._layout.vector(self._module)
        if not self._weights:
            raise ModelError("a training apart from its weights begins once it is given them, and once only")
        return self._weights[0]

    def _forget_weights(self) -> None:
        if self._weights is not None:
            self._weights.clear()

    def _rounds(self, total: Total) -> Rounds:
        common = (self._recipe, self._server_optimizer, self._layout.n_parameters, total)
        return Rounds(*common) if self.noised is None else PrivateRounds(*common, self.noised)

    def _fit(self, end: Trained) -> NetworkFit:
        return NetworkFit(
            definition=self.definition,
            arrays=self._layout.arrays(self._module, end.chosen.parameters),
            loss=end.score.loss,
            accuracy=end.score.accuracy,
            validation_loss=end.held_out.loss,
            validation_accuracy=end.held_out.accuracy,
            nobs=end.score.rows,
            iterations=end.last.iteration,
            best_round=end.chosen.iteration,
            n_passes=end.last.n_passes,
            records=end.last.records,
            warnings=tuple(self._remarks(end)),
            module=self._module if self._weights is None else None,
        )

    def _remarks(self, end: Trained) -> list[str]:
        remarks = []
        clipped = sum(record.clipped for record in end.last.records)
        if clipped > 0:  # NaN under privacy
            remarks.append(
                f"{clipped:,} values of the holders' changes were clipped at the bound {self._recipe.bound:g}: "
                "lower the learning rate, scale the inputs, or raise bound="
            )
        if self._recipe.validation is not None and not end.held_out.rows:
            remarks.append("no rows were held out: every holder has too few for this fraction")
        return remarks


def _continued(first: TrainingState, start: State) -> TrainingState:
    """Return the state to continue from.

    Raises
    ------
    ModelError
        If it is none of this network and its server optimizer.
    """
    fits = (
        isinstance(start, TrainingState)
        and start.parameters.shape == first.parameters.shape
        and start.parameters.dtype == first.parameters.dtype
        and set(start.memory) == set(first.memory)
    )
    if not fits:
        raise ModelError("the state to continue from is none of this network and its server optimizer")
    return cast(TrainingState, start)


def _own_copy(module: Any) -> torch.nn.Module:
    """Return a copy of the module in the processor's memory, which nobody else changes."""
    import torch  # noqa: PLC0415

    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"module is {type(module).__name__}: give a torch.nn.Module")
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError("the module is lazy: call it once with rows, so that its shapes are known")
    return copy.deepcopy(module).cpu()
