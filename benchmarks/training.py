"""A training over secure sums beside the same training with plain sums, in Flower, and in one place.

The task is that of ``examples/network_digits.py``: ten holders with uneven shares of handwritten digits. It is trained
by three recipes: the example's, a convolutional network with 30,634 parameters and four epochs of Adam a round; that of
McMahan et al. 2017, another with 188,810 and five; and a perceptron with 4,810 and one epoch, which a holder computes
in 3 ms, so that a secure round of it is what the protocol takes. All protocols are compared by that one.

    secure     federation.fit(…): invitation, local training, encoding, masks, sealed links, total
    plain      bare Ray actors train by the same code and return arrays, another one adds them (`plain_training`)
    Flower     FedAvg in its simulation, under SecAgg+ and in the clear (`rival_flower_training`)

Rounds are timed at the coordinator, from question to total, in short trainings that take turns: each is as many sums
as an epoch of masks lasts, so the dealing of its secrets is in one of them. Flower trains by the example's recipe.

References
----------
B. McMahan et al., AISTATS 2017.
"""

from __future__ import annotations

import asyncio
import runpy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import tacit
from numpy.typing import NDArray
from tacit.actors.events import Pass
from tacit.models.total import pooled
from tacit.models.training_rounds import ROUND
from tacit.protocols.pairwise_masking import DEFAULT_EPOCH
from tacit.protocols.protocol import Protocol

from . import rivals
from .measure import Figure, Section, compare, timing
from .plain_training import PlainTraining
from .traffic import Traffic

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "network_digits.py"
SCRIPT = Path(__file__).with_name("rival_flower_training.py")
REQUIREMENTS = ("flwr[simulation]==1.41.0", "torch==2.13.0", "numpy")

RECIPE = ("LEARNING_RATE", "LOCAL_EPOCHS", "BATCH_SIZE")  # the example's, for Flower
PASSES = 2  # besides rounds: one at the start, one at the end
SHORT = DEFAULT_EPOCH - PASSES  # rounds of a short training
TOGETHER = 5  # holders in a process
TARGET = 1 / 1.3  # so many times the plain round it may take at most
POINTS = 0.5  # so much less than in one place the accuracy may be, in percent

MAIN = "pairwise masking"
KINDS: dict[str, tuple[Protocol[Any], int]] = {
    MAIN: (tacit.PairwiseMasking(), TOGETHER),
    "pairwise masking, a process a holder": (tacit.PairwiseMasking(), 1),
    "pairwise masking, curious coordinator": (tacit.PairwiseMasking(active=False), TOGETHER),
    "secret sharing": (tacit.SecretSharing(), TOGETHER),
    "additive sharing": (tacit.AdditiveSharing(), TOGETHER),
}


class Digits:
    """The example's task, by its recipe.

    Parameters
    ----------
    deal : int
        How the pictures are dealt to the holders, and which are kept for testing.

    Attributes
    ----------
    name : str
        Of the recipe.
    turns, quick_turns : int
        Of short trainings that are timed.
    deals : int
        Of the pictures among the holders, for the accuracy.
    target : float or None
        So many times as fast as the plain round the secure one must be.
    """

    name = "the digits network"
    turns, quick_turns, deals = 2, 1, 5
    target: float | None = TARGET

    def __init__(self, deal: int = 0) -> None:
        self.example = SimpleNamespace(**runpy.run_path(str(EXAMPLE)))
        self.example.torch.set_num_threads(1)  # so small a network is not worth sharing
        self.sites, self.test = self.example.shares(seed=deal)

    @property
    def rounds(self) -> int:
        """Of a whole training."""
        return int(self.example.ROUNDS)

    def model(self, rounds: int) -> tacit.NeuralNetwork:
        """Return the network with its recipe, for so many rounds."""
        trained: tacit.NeuralNetwork = self.example.model(rounds)
        return trained

    def accuracy(self, fit: Any) -> float:
        """Return the percentage of the pictures kept for testing whose digit a fit tells."""
        inputs, targets = self.test
        return 100 * float(np.mean(fit.predict(inputs) == targets))

    @cached_property
    def accuracy_in_one_place(self) -> float:
        """Train the same network on all pictures together, as the example does."""
        return 100 * float(self.example.accuracy(self.example.in_one_place(self.together), self.test))

    @property
    def together(self) -> list[NDArray[Any]]:
        """All holders' pictures, and what they show."""
        return [np.concatenate(parts) for parts in zip(*self.sites.values(), strict=True)]

    def train(self, rows: Sequence[Any]) -> Any:
        """Train over holders of these rows by exact sums, to the same bits as under any protocol."""

        async def train() -> Any:
            model = self.model(self.rounds)
            async for reached in model.iterate(pooled(model, rows)):
                fit = reached
            return fit

        return asyncio.run(train())

    def save(self, path: Path) -> None:
        """Write the task as `rival_flower_training` reads it."""
        arrays: dict[str, NDArray[Any]] = {"test_inputs": self.test[0], "test_targets": self.test[1]}
        for place, (inputs, targets) in enumerate(self.sites.values()):
            arrays |= {f"inputs-{place}": inputs, f"targets-{place}": targets}
        for place, tensor in enumerate(self.example.network().parameters()):
            arrays[f"weight-{place}"] = tensor.detach().numpy()
        np.savez(path, allow_pickle=False, **arrays)


class ConvolutionalDigits(Digits):
    """The same task, with the network of McMahan et al. 2017 for digits and their E = 5, B = 10."""

    name = "a convolutional network"
    rounds, turns, quick_turns, deals = 30, 3, 1, 3

    def model(self, rounds: int) -> tacit.NeuralNetwork:
        """Return the network with its recipe, for so many rounds."""
        return tacit.NeuralNetwork(
            self._network(), "cross_entropy", learning_rate=0.2, rounds=rounds, local_epochs=5, batch_size=10
        )

    def _network(self) -> Any:
        """Return 5 × 5 filters, 32 and then 64, each with pooling, and 512 hidden units; the same every time."""
        nn = self.example.nn
        self.example.torch.manual_seed(0)
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 512),
            nn.ReLU(),
            nn.Linear(512, 10),
        )

    @cached_property
    def accuracy_in_one_place(self) -> float:
        """Train by the same recipe on all pictures together: with one holder there is nothing to average."""
        return self.accuracy(self.train([self.together]))


class PerceptronDigits(Digits):
    """The same task, with a network so small that a round is mostly protocol: one hidden layer, one epoch a round."""

    name = "a perceptron"
    turns, quick_turns = 7, 3
    target = None

    def model(self, rounds: int) -> tacit.NeuralNetwork:
        """Return the network with its recipe, for so many rounds."""
        nn = self.example.nn
        self.example.torch.manual_seed(0)
        return tacit.NeuralNetwork(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
            "cross_entropy",
            learning_rate=1.0,
            rounds=rounds,
            batch_size=64,
            server_optimizer=tacit.ServerMomentum(momentum=0.7),
        )


@dataclass
class Measured:
    """A secure training beside the plain one.

    Attributes
    ----------
    secure, plain : list of float
        Seconds of the rounds of short trainings.
    secure_training, plain_training : float
        Seconds of a whole one; 0 if it was not timed.
    secure_bytes, plain_bytes : float
        That the coordinator sends and receives, a round; 0 if not counted.
    fit : NetworkFit
        Of a whole secure training.
    """

    secure: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    secure_training: float = 0.0
    plain_training: float = 0.0
    secure_bytes: float = 0.0
    plain_bytes: float = 0.0
    fit: Any = None


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure rounds against plain ones, the accuracy against one place, and both against Flower."""
    digits, perceptron = Digits(), PerceptronDigits()
    fits: list[tuple[Digits, Measured]] = []
    for task in (digits, ConvolutionalDigits()):
        say(f"training: {task.name}, and plain sums by turns")
        fits.append((task, measure(task, *KINDS[MAIN], quick=quick, whole=True)))
        yield _rounds(task, {MAIN: fits[-1][1]})
    measured: dict[str, Measured] = {}
    for name, (protocol, together) in KINDS.items():
        if quick and name != MAIN:
            continue
        say(f"training: {perceptron.name}, {name} and plain sums by turns")
        measured[name] = measure(perceptron, protocol, together, quick=quick, whole=False)
    yield _rounds(perceptron, measured)
    for task, found in fits:
        say(f"training: {task.name}, in one place")
        yield _accuracy(task, found.fit, deals=1 if quick else task.deals)
    say("training: an environment for Flower, then its simulation")
    yield _flower(digits, fits[0][1], rounds=5 if quick else digits.rounds)


def measure(digits: Digits, protocol: Protocol[Any], together: int, *, quick: bool, whole: bool) -> Measured:
    """Train over secure sums and over plain ones by turns; their fits must agree after a round."""
    short, found = digits.model(SHORT), Measured()
    with tacit.simulate(digits.sites, protocol=protocol, holders_per_actor=together) as federation:
        plain = PlainTraining(digits.model(digits.rounds), list(digits.sites.values()), together)
        first = digits.model(1)  # what is imported and set up with it is not a round's
        _check(federation.fit(first), plain.train(first)[1])
        for _ in range(digits.quick_turns if quick else digits.turns):
            found.fit = federation.fit(short, on_event=lambda event: _note(event, found.secure))
            seconds, _ = plain.train(short)
            found.plain += seconds
        if whole:
            traffic = Traffic(federation)
            federation.fit(short)
            found.secure_bytes = traffic.mean(ROUND)
            arrays = found.fit.arrays.values()
            found.plain_bytes = 2 * sum(array.nbytes for array in arrays) * len(digits.sites)
            _train_whole(digits.model(digits.rounds), federation, plain, found)
        plain.close()
    return found


def _note(event: object, seconds: list[float]) -> None:
    """Note how long a round took, if the event tells of one."""
    if isinstance(event, Pass) and event.step == ROUND:
        seconds.append(event.seconds)


def _train_whole(
    model: tacit.NeuralNetwork, federation: tacit.Federation, plain: PlainTraining, found: Measured
) -> None:
    start = time.perf_counter()
    found.fit = federation.fit(model)
    found.secure_training = time.perf_counter() - start
    start = time.perf_counter()
    plain.train(model)
    found.plain_training = time.perf_counter() - start


def _check(secure: Any, plain: Any) -> None:
    """Make sure that both train the same: they differ by the rounding of sums, which later rounds would amplify."""
    for name, array in secure.arrays.items():
        if not np.allclose(array, plain.arrays[name], atol=1e-5):
            raise SystemExit("the benchmark's secure training gave another network than the plain one")


def _rounds(digits: Digits, measured: dict[str, Measured]) -> Section:
    figures: list[Figure] = []
    for name, found in measured.items():
        target = digits.target if name == MAIN else None
        secure, plain = timing(found.secure), timing(found.plain)
        figures.append(compare(name, "ms", secure, plain, target=target))
        if found.secure_training:
            whole = timing([found.secure_training]), timing([found.plain_training])
            figures.append(compare(f"… a training of {digits.rounds} rounds", "s", *whole))
            figures.append(Figure("… bytes", "kB", found.secure_bytes / 1e3, found.plain_bytes / 1e3))
    remarks = (
        f"{TOGETHER} holders share a process where nothing else is said; local training included",
        "at the coordinator, from question to total; bytes that it sends and receives, the mean over an epoch of masks",
    )
    return Section(f"A round over ten holders: {digits.name}", "plain", tuple(figures), remarks)


def _accuracy(digits: Digits, fit: Any, deals: int) -> Section:
    """Set accuracies on pictures that nobody trained on beside the training in one place."""
    here, there = digits.accuracy(fit), digits.accuracy_in_one_place
    figures = [
        Figure(
            "accuracy, points below one place",
            "",
            there - here,
            limit=POINTS,
            note=f"{here:.1f} % over holders, {there:.1f} % in one place, of {len(digits.test[1])} pictures",
        )
    ]
    if deals > 1:
        below = [there - here, *(_points_below(type(digits)(deal)) for deal in range(1, deals))]
        mean, worst = statistics.mean(below), max(below)
        note = f"other shares of holders, other pictures kept; at worst {worst:.1f}"
        figures.append(Figure(f"… mean of {deals} deals", "", mean, limit=POINTS, note=note))
    return Section(f"Accuracy after {digits.rounds} rounds: {digits.name}", "one place", tuple(figures))


def _points_below(digits: Digits) -> float:
    return digits.accuracy_in_one_place - digits.accuracy(digits.train(list(digits.sites.values())))


def _flower(digits: Digits, ours: Measured, rounds: int) -> Section:
    environment = rivals.environment("flower-simulation", REQUIREMENTS)
    with TemporaryDirectory() as folder:
        task = Path(folder) / "digits.npz"
        digits.save(task)
        recipe = {name.lower(): getattr(digits.example, name) for name in RECIPE}
        secure = flower(environment, task, recipe, rounds, secure=True)
        plain = flower(environment, task, recipe, digits.rounds if rounds > 5 else rounds, secure=False)
    figures = (
        compare("a secure round", "ms", timing(ours.secure), timing(secure["seconds"]), note="its SecAgg+"),
        compare(
            "a plain round", "ms", timing(ours.plain), timing(plain["seconds"]), note="ours bare Ray actors"
        ),
        Figure("bytes of a secure round", "kB", ours.secure_bytes / 1e3, secure["bytes"] / 1e3),
        Figure("bytes of a plain round", "kB", ours.plain_bytes / 1e3, plain["bytes"] / 1e3),
    )
    remarks = (
        f"accuracy of ours after {digits.rounds} rounds {digits.accuracy(ours.fit):.1f} %, of Flower's in the clear "
        f"after {len(plain['seconds']) + 1} {100 * plain['accuracy']:.1f} %",
        "Flower's in-memory grid looks for messages and answers every 0.1 s: that is most of its time",
    )
    return Section("A round of the digits network in Flower's simulation", "Flower", figures, remarks)


def flower(
    environment: Path, task: Path, recipe: Mapping[str, float], rounds: int, *, secure: bool
) -> dict[str, Any]:
    """Train in Flower's simulation, on an actor a core; seconds of each round but the first, bytes, accuracy."""
    arguments = {
        "task": str(task),
        "rounds": rounds,
        **recipe,
        "threshold": tacit.PairwiseMasking().needed(10),
        "secure": secure,
    }
    found: dict[str, Any] = rivals.run(environment, SCRIPT, arguments)
    return found
