"""The largest memory of the coordinator's process while it trains a network of millions of parameters.

Counted is what the process has at its peak beyond what it has at rest: libraries, and a small network, are loaded by
then. What it maps of Ray's shared memory, as it reads the holders' frames, counts as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import ray
import tacit
import torch
from tacit.protocols.masking_parts import PART_BYTES
from tacit.protocols.party import COORDINATOR
from torch import nn

from . import memory
from .measure import Figure, Section

HOLDERS, ROWS, INPUTS, CLASSES = 3, 32, 784, 10
WIDTHS, QUICK_WIDTHS = (4_000, 1_000), (1_000, 200)
ROUNDS = 2
TIMES = 3.0  # so many times the model the peak may be, and a part of its masked input a holder


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure one training."""
    torch.set_num_threads(1)
    module = network(QUICK_WIDTHS if quick else WIDTHS)
    n_parameters = sum(tensor.numel() for tensor in module.parameters())
    say(f"training: memory for {n_parameters:,} parameters, {HOLDERS} holders")
    size = 4 * n_parameters / memory.MEGABYTE
    before, peak = measure(module)
    limit = TIMES * size + HOLDERS * PART_BYTES / memory.MEGABYTE
    figures = (
        Figure(
            "the coordinator's peak above rest",
            "MB",
            peak - before,
            limit=limit,
            note=f"{(peak - before) / size:.1f} times the model of {size:.1f} MB",
        ),
        Figure("… at rest", "MB", before),
    )
    remarks = (f"{ROUNDS} rounds under pairwise masking in the model's own encoding, words of 32 bits",)
    yield Section(f"Memory to train {n_parameters:,} parameters", "", figures, remarks)


def measure(module: nn.Module) -> tuple[float, float]:
    """Return the megabytes of the coordinator's process at rest, and at its peak while it trains."""
    generator = np.random.default_rng(0)
    rows = {
        f"site-{place}": (
            generator.random((ROWS, INPUTS), dtype=np.float32),
            generator.integers(0, CLASSES, ROWS),
        )
        for place in range(HOLDERS)
    }
    with tacit.simulate(rows, protocol=tacit.PairwiseMasking()) as federation:
        process = ray.get(federation._parties[COORDINATOR].ping.remote())
        federation.fit(model(network((8,))))
        memory.forget_peak(process)
        before = memory.resident(process)
        federation.fit(model(module))
        return before, memory.peak(process)


def model(module: nn.Module) -> tacit.NeuralNetwork:
    """Return a classifier to train for a few rounds."""
    return tacit.NeuralNetwork(module, "cross_entropy", rounds=ROUNDS)


def network(widths: tuple[int, ...]) -> nn.Sequential:
    """Return linear layers with ReLU between."""
    torch.manual_seed(0)
    sizes = (INPUTS, *widths, CLASSES)
    layers: list[Any] = []
    for width, following in pairwise(sizes):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
