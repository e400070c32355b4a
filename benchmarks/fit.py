"""A whole fit on Ray, forty counts at three sites and the rate of their Poisson distribution.

Against the ancestor's scheme (see `ancestor`), which goes 29 times round the ring for one function value of
two ciphertexts; tacit's contributions are likelihood, score and information at once, one pass a Newton step.
Both are warm: keys and tables are made, actors run. Both learn only sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import tacit
from phe import generate_paillier_keypair
from tacit.models.poisson import poisson_nll, poisson_sites

from . import memory
from .ancestor import Estimate, fit_poisson
from .measure import Figure, Section, Task, compare, take_turns

KEY_BITS = 3072
TARGET = 10.0
RATE = 367 / 40  # in closed form: the mean of the counts
STANDARD_ERROR = math.sqrt(RATE / 40)


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Run both fits by turns."""
    data = poisson_sites()
    say(f"fit at {KEY_BITS} bits: keys of phe, and a federation")
    public_key, private_key = generate_paillier_keypair(n_length=KEY_BITS)
    counts = [values.tolist() for values in data.values()]
    model = tacit.MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
    results: dict[str, Any] = {}

    def ours() -> None:
        results["ours"] = federation.fit(model)

    def theirs() -> None:
        results["ancestor"] = fit_poisson(counts, public_key, private_key)

    def three_of_ours() -> None:
        for _ in range(3):
            ours()

    with tacit.simulate(data, protocol=tacit.RingPaillier(key_bits=KEY_BITS)) as federation:
        cold = take_turns({"ours": Task(ours)}, 1)["ours"]
        say("fit: tacit and the ancestor by turns, some ten seconds each turn")
        # Three of ours for one of the ancestor's, whose every run takes so long that it varies little.
        tasks = {"ours": Task(three_of_ours, 3), "ancestor": Task(theirs)}
        timings = take_turns(tasks, 1 if quick else 5)
        actors = list(memory.actor_peaks(without="Bare").values())
    figures = (
        compare(
            "fit, warm",
            "s",
            timings["ours"],
            timings["ancestor"],
            target=TARGET,
            note=f"{results['ours'].n_passes} passes, against {len(results['ancestor'].points)} in process",
        ),
        compare("first fit of a federation", "s", cold, note="makes the key and the tables as well"),
        Figure("peak memory, largest actor", "MB", max(actors, default=0.0)),
        Figure("peak memory, this process", "MB", memory.peak(), note="with the ancestor in it"),
    )
    yield Section(f"Poisson fit over three sites, {KEY_BITS} bits", "ancestor", figures, _answers(**results))


def _answers(ours: Any, ancestor: Estimate) -> tuple[str, ...]:
    """Set both answers beside the closed form."""
    rate, error = float(ours.params["lambda"]), float(ours.bse["lambda"])
    return (
        f"closed form   λ = {RATE:.12f}   standard error {STANDARD_ERROR:.12f}",
        f"tacit         λ = {rate:.12f}   standard error {error:.12f}",
        f"ancestor      λ = {ancestor.rate:.12f}   standard error {ancestor.standard_error:.12f}",
    )
