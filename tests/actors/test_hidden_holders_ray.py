"""Hidden holders on Ray: the same bits, sums that go on when one is killed, and none of their names there."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import tacit
from tacit.models.poisson import poisson_nll
from tacit.models.total import pooled

pytestmark = [pytest.mark.ray, pytest.mark.faults]

NOT_SHOWN = (
    "latipsoh"  # every process imports this module, so what is searched for stands here in reverse only
)
ROWS = [np.array([2.0 + i, 5.0, 9.0]) for i in range(4)]
LOST = 2


def data() -> dict[str, Any]:
    """The holders by names that no other process can know but by a message."""
    name = NOT_SHOWN[::-1]
    return {f"{name}-{i}": rows for i, rows in enumerate(ROWS)}


def model(start: float = 5.0) -> tacit.MaximumLikelihood:
    return tacit.MaximumLikelihood(poisson_nll, start={"lambda": start}, bounds={"lambda": (0, None)})


def slowly(folder: Path) -> Callable[[Any], Any]:
    """A tenth of the rows; the holder to be killed shows that it has begun, and takes its time."""
    first = float(ROWS[LOST][0])

    def function(rows: Any) -> Any:
        if float(rows[0]) == first:
            (folder / "begun").touch()
            time.sleep(60)
        return rows * 0.1

    return function


def remembered(host: Any) -> tuple[int, list[bytes]]:
    """Count the texts in a process that contain a part of a holder's name; list the actors it has handles of."""
    import gc  # noqa: PLC0415 - runs in another process

    gc.unfreeze()
    seen: dict[int, Any] = {}
    waiting = [thing for thing in gc.get_objects() if type(thing).__name__ != "frame"]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen:
            seen[id(thing)] = thing
            waiting.extend(gc.get_referents(thing))
    actors = [thing._actor_id.binary() for thing in seen.values() if type(thing).__name__ == "ActorHandle"]
    texts = [
        t if isinstance(t, bytes) else t.encode(errors="replace")
        for t in seen.values()
        if isinstance(t, str | bytes)
    ]
    reversed_name = NOT_SHOWN.encode()
    return sum(reversed_name in text[::-1] for text in texts), actors


def look_into(federation: tacit.Federation, party: str) -> tuple[int, list[bytes]]:
    found, actors = ray.get(federation._parties[party].__ray_call__.remote(remembered))
    return found, actors


async def pooled_fit() -> tacit.Fit:
    """What every coordinator that knows the holders gets, to the last bit."""
    fit = [last async for last in model().iterate(pooled(model(), ROWS))][-1]
    assert isinstance(fit, tacit.Fit)
    return fit


def test_sum_and_fit_with_a_holder_killed(running_ray: str, tmp_path: Path) -> None:
    total = np.array([math.fsum(column) for column in np.transpose(ROWS) * 0.1])
    fit = asyncio.run(pooled_fit())
    protocol, names = tacit.AdditiveSharing(at_most=20), list(data())
    with tacit.simulate(data(), protocol, on_dropout="continue", holders_per_actor=1) as federation:
        assert federation.sum(lambda rows: rows * 0.1).tobytes() == total.tobytes()
        hidden = federation.fit(model())
        assert hidden.params["lambda"].hex() == fit.params["lambda"].hex()
        assert hidden.bse["lambda"].hex() == fit.bse["lambda"].hex()
        assert "at least 3" in str(hidden.summary())
        assert names[0] not in str(hidden.summary())

        async def scene() -> Any:
            summing = asyncio.ensure_future(federation.asum(slowly(tmp_path)))
            while not (tmp_path / "begun").exists():  # noqa: ASYNC110 - made by another process
                await asyncio.sleep(0.01)
            os.kill(int(ray.get(federation._parties[names[LOST]].ping.remote())), signal.SIGKILL)
            return await summing

        left = [rows for i, rows in enumerate(ROWS) if i != LOST]
        with pytest.warns(
            tacit.HoldersLostWarning, match="over at least 3 holders: one or more who are not named"
        ):
            after = asyncio.run(scene())
        assert after == pytest.approx(np.sum(left, axis=0) * 0.1)
        with pytest.raises(tacit.RefusedError, match="over another set"):
            federation.fit(model())  # the difference to the first fit's sums would be the lost holder's
        over_three = federation.fit(model(4.0))
        assert over_three.params["lambda"] == pytest.approx(np.concatenate(left).mean())
        assert any("not told" in warning for warning in over_three.warnings)
        assert {record["holders"] for record in federation.ledger} == {"at least 3"}

        found, actors = look_into(federation, "coordinator")
        holders = {federation._parties[name]._actor_id.binary() for name in names}
        aggregator = federation._parties["aggregator-2"]._actor_id.binary()
        assert found == 0
        assert aggregator in actors
        assert not holders.intersection(actors)
        found, actors = look_into(federation, "aggregator-1")
        assert found, "the search finds nothing where there is something"
        assert holders.intersection(actors)


def test_too_many_holders_for_the_bound_start_nothing() -> None:
    with pytest.raises(tacit.SetupError, match="at_most=3"):
        tacit.simulate(data(), tacit.AdditiveSharing(at_most=3))
