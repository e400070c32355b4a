"""Every protocol on Ray: the same bits, and sums that go on when holders are killed in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import tacit
from tacit.models.poisson import poisson_nll, poisson_sites

pytestmark = pytest.mark.ray

PROTOCOLS = [
    tacit.RingPaillier(key_bits=2048),
    tacit.PairwiseMasking(),
    tacit.SecretSharing(),
    tacit.AdditiveSharing(),
]
TEN = {f"h{i}": np.array([0.1 + i, 1e300, -(10.0**-i)]) for i in range(10)}


def answers(protocol: Any) -> tuple[str, ...]:
    """A fit and a sum, to the last bit."""
    model = tacit.MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
    with tacit.simulate(poisson_sites(), protocol) as federation:
        fit = federation.fit(model)
        total = federation.sum(lambda counts: float(counts.sum()) * 0.1)
    return fit.params["lambda"].hex(), fit.bse["lambda"].hex(), fit.llf.hex(), float(total).hex()


def test_every_protocol_gives_the_same_bits(running_ray: str) -> None:
    first, *others = [answers(protocol) for protocol in PROTOCOLS]
    assert float.fromhex(first[0]) == pytest.approx(9.175, abs=1e-9)
    assert others == [first] * len(others)


def exact(rows: Iterable[Any]) -> list[float]:
    """The correctly rounded exact sums."""
    columns = zip(*rows, strict=True)
    return [float(sum((Fraction(float(x)) for x in column), Fraction())) for column in columns]


def slowly(folder: Path, lost: Iterable[str]) -> Callable[[Any], Any]:
    """The rows themselves; the holders to be killed show that they have begun, and take their time."""
    first = {float(TEN[name][0]) for name in lost}

    def function(rows: Any) -> Any:
        if float(rows[0]) in first:
            (folder / str(rows[0])).touch()
            time.sleep(60)
        return rows

    return function


@pytest.mark.parametrize(
    ("protocol", "n_holders", "lost"),
    [
        (tacit.PairwiseMasking(), 10, ("h1", "h4", "h8")),
        (tacit.SecretSharing(), 4, ("h2",)),
        (tacit.AdditiveSharing(), 4, ("h2",)),
    ],
    ids=lambda value: getattr(value, "title", ""),
)
def test_holders_killed_in_the_middle_leave_the_sum_of_the_others(
    running_ray: str, tmp_path: Path, protocol: Any, n_holders: int, lost: tuple[str, ...]
) -> None:
    data = {name: rows for name, rows in TEN.items() if int(name[1:]) < n_holders}
    left = [rows for name, rows in data.items() if name not in lost]
    with tacit.simulate(data, protocol, on_dropout="continue", holders_per_actor=1) as federation:

        async def scene() -> Any:
            total = asyncio.ensure_future(federation.asum(slowly(tmp_path, lost)))
            while len(list(tmp_path.iterdir())) < len(lost):  # noqa: ASYNC110, ASYNC240 - made by other processes
                await asyncio.sleep(0.01)
            for name in lost:
                os.kill(int(ray.get(federation._parties[name].ping.remote())), signal.SIGKILL)
            return await total

        with pytest.warns(tacit.HoldersLostWarning, match=f"over {len(left)} of {n_holders} holders"):
            after = asyncio.run(scene())
        assert after.tolist() == exact(left)
        with pytest.warns(tacit.HoldersLostWarning, match=", ".join(lost)):
            assert federation.sum(len) == 3 * len(left), "and the next sum works"


def test_a_lost_aggregator_ends_every_sum(running_ray: str) -> None:
    data = {name: rows for name, rows in TEN.items() if int(name[1:]) < 3}
    with tacit.simulate(data, tacit.AdditiveSharing(), on_dropout="continue") as federation:
        assert federation.sum(len) == 9
        os.kill(int(ray.get(federation._parties["aggregator-2"].ping.remote())), signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(tacit.DropoutError, match="missing aggregator-2"):
                federation.sum(lambda rows: rows)


def test_the_protocol_is_chosen_for_each_question_and_the_plan_says_why(running_ray: str) -> None:
    data = {name: rows for name, rows in TEN.items() if int(name[1:]) < 6}
    wish = tacit.Wish(losses=1)
    with tacit.simulate(data, "auto", wish=wish, on_dropout="continue") as federation:
        plan = federation.plan(lambda rows: rows)
        assert isinstance(plan.chosen, tacit.PairwiseMasking)
        assert {line.title for line in plan.lines} >= {"ring-Paillier", "pairwise masking", "secret sharing"}
        assert federation.sum(len) == 18
        assert federation.ledger[-1]["protocol"] == "pairwise masking"


def test_values_that_are_clipped_are_counted_and_told(running_ray: str) -> None:
    data = {name: rows for name, rows in TEN.items() if int(name[1:]) < 3}
    with tacit.simulate(data, tacit.PairwiseMasking()) as federation:
        with pytest.warns(tacit.SumWarning, match="3 values of 'sum' were clipped"):
            total = federation.sum(lambda rows: np.array([0.0, 0.5, 7.0]), encoding=tacit.Quantized(8, 1.0))
        assert total[0] == 0.0
        assert total[1] == pytest.approx(1.5, abs=3 / 127)
        assert total[2] == 3.0
        assert federation.ledger[-1]["clipped"] == {"sum": 3}


def test_a_wish_that_no_protocol_meets_is_refused_before_anything_starts() -> None:
    with pytest.raises(tacit.SetupError, match="no protocol meets the wish"):
        tacit.simulate(dict.fromkeys("abc", 1), "auto", wish=tacit.Wish(losses=2))
