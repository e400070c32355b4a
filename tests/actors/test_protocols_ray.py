"""Every protocol on Ray: the same bits, and sums that go on when holders are killed in the middle."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import tacit
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.total import pooled

pytestmark = pytest.mark.ray

# Of whom one may be lost: a holder without rows adds nothing to any sum.
SITES = {**poisson_sites(), "site-4": np.array([], dtype=np.int64)}
TEN = {f"h{i}": np.zeros(i) for i in range(10)}


PROTOCOLS: dict[str, tuple[Any, int]] = {  # with processes of their own where some will be killed
    "ring-Paillier": (tacit.RingPaillier(key_bits=2048), 4),
    "pairwise masking": (tacit.PairwiseMasking(), 4),
    "secret sharing": (tacit.SecretSharing(), 1),
    "additive sharing": (tacit.AdditiveSharing(), 1),
}

Federations = Callable[[str], tacit.Federation]


@pytest.fixture(scope="module")
def federations(running_ray: str) -> Iterator[Federations]:
    """The federation of a protocol, started when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def start(title: str) -> tacit.Federation:
            protocol, together = PROTOCOLS[title]
            simulated = tacit.simulate(SITES, protocol, on_dropout="continue", holders_per_actor=together)
            return stack.enter_context(simulated)

        yield start


def model() -> tacit.MaximumLikelihood:
    return tacit.MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})


def tenths() -> Callable[[Any], float]:
    """A function that the holders need not import."""
    return lambda counts: float(counts.sum()) * 0.1


@functools.cache
def without_protocol() -> tuple[str, ...]:
    """A fit and a sum over a plain list, to the last bit."""

    async def fit() -> Any:
        likelihood = model()
        async for reached in likelihood.iterate(pooled(likelihood, list(SITES.values()))):
            last = reached
        return last

    exact_sum = float(sum(map(Fraction, map(tenths(), SITES.values()))))
    return bits(asyncio.run(fit()), exact_sum)


def bits(fit: Any, total: float) -> tuple[str, ...]:
    return fit.params["lambda"].hex(), fit.bse["lambda"].hex(), fit.llf.hex(), total.hex()


@pytest.mark.parametrize("title", PROTOCOLS)
def test_every_protocol_gives_the_bits_of_the_pooled_rows(federations: Federations, title: str) -> None:
    federation = federations(title)
    fit = federation.fit(model())
    assert fit.params["lambda"] == pytest.approx(9.175, abs=1e-9)
    assert bits(fit, float(federation.sum(tenths()))) == without_protocol()


def test_parties_have_the_priority_of_any_process(federations: Federations) -> None:
    """With Ray's own they answer nobody in time beside a process that computes."""
    assert federations("pairwise masking").sum(lambda rows: os.nice(0)) == len(SITES) * os.nice(0)


def test_values_that_are_clipped_are_counted_and_told(federations: Federations) -> None:
    federation = federations("pairwise masking")
    with pytest.warns(tacit.SumWarning, match="4 values of 'sum' were clipped"):
        total = federation.sum(lambda rows: np.array([0.0, 0.5, 7.0]), encoding=tacit.Quantized(8, 1.0))
    assert total[0] == 0.0
    assert total[1] == pytest.approx(2.0, abs=4 / 127)
    assert total[2] == 4.0
    assert federation.ledger[-1]["clipped"] == {"sum": 4}


def exact(rows: Iterable[Any]) -> list[float]:
    """The correctly rounded exact sums."""
    columns = zip(*rows, strict=True)
    return [float(sum((Fraction(float(x)) for x in column), Fraction())) for column in columns]


def values_of() -> Callable[[Any], Any]:
    """A function of floats of every size; one that the holders need not import."""
    return lambda rows: np.array([0.1 + len(rows), 1e300, -(10.0 ** -len(rows))])


def slowly(folder: Path, lost: Iterable[Any]) -> Callable[[Any], Any]:
    """The values above; the holders to be killed show that they have begun, and take their time."""
    numbers, values = {len(rows) for rows in lost}, values_of()

    def function(rows: Any) -> Any:
        if len(rows) in numbers:
            (folder / str(len(rows))).touch()
            time.sleep(60)
        return values(rows)

    return function


async def while_killed(
    federation: tacit.Federation, folder: Path, data: Mapping[str, Any], lost: tuple[str, ...]
) -> Any:
    """Sum the values above, and kill some holders while they compute."""
    total = asyncio.ensure_future(federation.asum(slowly(folder, [data[name] for name in lost])))
    while len(list(folder.iterdir())) < len(lost):  # noqa: ASYNC110, ASYNC240 - made by other processes
        await asyncio.sleep(0.01)
    for name in lost:
        kill(federation, name)
    return await total


def kill(federation: tacit.Federation, name: str) -> None:
    os.kill(int(ray.get(federation._parties[name].ping.remote())), signal.SIGKILL)


def check_sums_go_on(
    federation: tacit.Federation, folder: Path, data: Mapping[str, Any], lost: tuple[str, ...]
) -> None:
    """The sum under way, and the next one, are over the others."""
    left = [rows for name, rows in data.items() if name not in lost]
    with pytest.warns(tacit.HoldersLostWarning, match=f"over {len(left)} of {len(data)} holders"):
        after = asyncio.run(while_killed(federation, folder, data, lost))
    assert after.tolist() == exact(map(values_of(), left))
    with pytest.warns(tacit.HoldersLostWarning, match=", ".join(lost)):
        assert federation.sum(len) == sum(map(len, left)), "and the next sum works"


@pytest.mark.parametrize("title", ["secret sharing", "additive sharing"])
def test_a_holder_killed_in_the_middle_leaves_the_sum_of_the_others(
    federations: Federations, tmp_path: Path, title: str
) -> None:
    check_sums_go_on(federations(title), tmp_path, SITES, ("site-2",))


def test_a_lost_aggregator_ends_every_sum(federations: Federations) -> None:
    federation = federations("additive sharing")  # in which nothing can be summed from here on
    kill(federation, "aggregator-2")
    for _ in range(2):
        with pytest.raises(tacit.DropoutError, match="missing aggregator-2"):
            federation.sum(len)


@pytest.fixture(scope="module")
def ten(running_ray: str) -> Iterator[tacit.Federation]:
    """Ten holders, each in a process of its own, and a protocol chosen for every question."""
    wish = tacit.Wish(losses=3)
    with tacit.simulate(TEN, "auto", wish=wish, on_dropout="continue", holders_per_actor=1) as federation:
        yield federation


def test_the_protocol_is_chosen_for_each_question_and_the_plan_says_why(ten: tacit.Federation) -> None:
    plan = ten.plan(values_of())
    assert isinstance(plan.chosen, tacit.PairwiseMasking)
    assert {line.title for line in plan.lines} >= {"ring-Paillier", "pairwise masking", "secret sharing"}
    assert ten.sum(lambda rows: len(rows) + 1) == 55
    assert ten.ledger[-1]["protocol"] == "pairwise masking"


def test_three_of_ten_killed_in_the_middle_leave_the_sum_of_the_others(
    ten: tacit.Federation, tmp_path: Path
) -> None:
    check_sums_go_on(ten, tmp_path, TEN, ("h1", "h4", "h8"))


def test_a_wish_that_no_protocol_meets_is_refused_before_anything_starts() -> None:
    with pytest.raises(tacit.SetupError, match="no protocol meets the wish"):
        tacit.simulate(dict.fromkeys("abc", 1), "auto", wish=tacit.Wish(losses=2))
