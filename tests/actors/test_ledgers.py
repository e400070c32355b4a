"""What the parties' ledgers say of a session, without Ray: the same at all of them, before anything leaves."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hidden import OTHER, HiddenHolders
from in_process import COORDINATOR, SMALL, Network, Posted, ShortKeys
from tacit.actors.data_holder import DataHolder
from tacit.models.sum import Sum
from tacit.privacy.guarantee import Privacy
from tacit.protocols.errors import AbortedError, ProtocolError, RefusedError
from tacit.protocols.invitation import RECORDS_OUT_OF_ORDER, REFUSALS, TOO_FEW_ROWS
from tacit.protocols.key_agreement import Identity
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.records.audit import audit
from tacit.records.ledger import PLACE, Ledger
from tacit.records.policy import Policy
from tacit.serialization.encoding_parameters import AutoRange, FixedPoint, FixedPointMean

CANARY = 20_260_917.4321
ROWS = {name: np.arange(10.0) + CANARY for name in "abc"}
STUDY = b"\x05" * 32
EVERYWHERE = ("a", "b", "c", COORDINATOR)


def run(act: Callable[[Network], Any], folder: Path, *, settles: bool = True, **options: Any) -> Any:
    """Let parties that keep ledgers do something."""

    async def within() -> Any:
        asked = {"data": ROWS, "protocol": PairwiseMasking(), "holder": DataHolder, **options}
        async with Network(simulation=False, **asked) as network:
            keep_ledgers(network, folder)
            result = await act(network)
            if settles:
                await network.settle()
            return result

    return asyncio.run(within())


def keep_ledgers(network: Network, folder: Path) -> None:
    for name, holder in network.holders.items():
        holder._ledger = Ledger(folder / name, holder.identity, study=STUDY)
    network.coordinator.ledger = Ledger(folder / COORDINATOR, network.coordinator.identity, study=STUDY)


def entries(folder: Path, party: str) -> list[dict[str, Any]]:
    files = sorted((folder / party / PLACE).glob("0*.json"))
    return [json.loads(file.read_bytes())["body"] for file in files]


def total(rows: np.ndarray[Any, Any]) -> float:
    return float(rows.sum())


def test_all_parties_have_the_same_session_on_record(tmp_path: Path) -> None:
    run(lambda network: network.sum(total), tmp_path)
    told = {party: entries(tmp_path, party) for party in EVERYWHERE}
    for party, (intention, outcome) in told.items():
        assert intention["event"] == "intention", party
        assert outcome["outcome"] == "released"
        assert outcome["bytes_sent"] > 0
        assert intention["over"] == ["a", "b", "c"]
    same = ("session", "study", "definition", "model", "step", "query", "protocol", "roster", "to", "arrays")
    for name in same:
        [said] = {json.dumps((intention | outcome)[name]) for intention, outcome in told.values()}
        assert said != "null"
    assert told["a"][0]["arrays"] == [{"name": "sum", "dtype": "float64", "shape": []}]
    assert told[COORDINATOR][1]["survivors"] == ["a", "b", "c"]
    assert [told[holder][1]["agreed"] for holder in "abc"] == [["a", "b", "c"]] * 3


def test_the_grid_of_a_mean_is_on_record(tmp_path: Path) -> None:
    model = Sum(lambda rows: rows / 1e8, like=np.zeros(10))
    grid = FixedPoint(1.0, fraction_bits=20)
    run(lambda network: network.run(model, encoding=FixedPointMean(grid)), tmp_path)
    told = [entries(tmp_path, party)[0]["encoding"] for party in EVERYWHERE]
    assert told[0]["grid"] == {"name": "FixedPoint", "bound": {"": 1.0}, "fraction_bits": {"": 20}}
    assert told == [told[0]] * 4


def test_no_value_is_in_a_ledger(tmp_path: Path) -> None:
    run(lambda network: network.run(Sum(lambda rows, at: rows * at, CANARY, like=np.zeros(10))), tmp_path)
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*.json"))
    assert written
    for value in (CANARY, CANARY * CANARY, 3 * CANARY * CANARY):
        assert str(value)[:8].encode() not in written


def test_the_intention_is_on_disk_before_anything_leaves(tmp_path: Path) -> None:
    when_sent: list[int] = []

    async def act(network: Network) -> None:
        def looking(posted: Posted) -> bool:
            if posted.between_holders or posted.sender == COORDINATOR:
                when_sent.append(len(entries(tmp_path, posted.sender)))
            return True

        network.on_frame = looking
        await network.sum(total)

    run(act, tmp_path, protocol=SMALL, holder=ShortKeys)
    assert when_sent
    assert all(when_sent)


def test_a_refusal_is_on_record_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        run(lambda network: network.sum(total), tmp_path, policies={"b": Policy(minimum_rows=11)})
    [refused] = entries(tmp_path, "b")
    assert (refused["outcome"], refused["reason"]) == ("refused", TOO_FEW_ROWS)
    [broken_off] = entries(tmp_path, "a")
    assert broken_off["outcome"] == "ended"
    _, asked = entries(tmp_path, COORDINATOR)
    assert (asked["outcome"], asked["refusals"]) == ("refused", {"b": TOO_FEW_ROWS})


def test_noise_is_on_record_at_all_parties(tmp_path: Path) -> None:
    model = Sum(lambda rows: rows[:, None], like=np.zeros(1)).with_privacy(Privacy(1.0, 1e-5, clip=1.0))
    run(lambda network: network.run(model), tmp_path)
    [charge] = {json.dumps(entries(tmp_path, party)[0]["privacy"]) for party in EVERYWHERE}
    assert json.loads(charge)["noise_multiplier"] > 0
    assert json.loads(charge)["rounds"] == 1


def fills_up(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on nothing can be created in a folder."""
    link = os.link

    def no_space(source: Any, target: Any) -> None:
        if folder in Path(target).parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target)

    monkeypatch.setattr(os, "link", no_space)


def test_on_a_full_disk_nothing_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fills_up(monkeypatch, tmp_path / "b")

    async def act(network: Network) -> None:
        with pytest.raises(AbortedError) as caught:
            await network.sum(total)
        assert (caught.value.party, caught.value.reason) == ("b", RECORDS_OUT_OF_ORDER)
        await network.settle()
        with pytest.raises(RefusedError) as refused:  # it owes the outcome of the first
            await network.sum(total)
        assert refused.value.refusals == {"b": (RECORDS_OUT_OF_ORDER, "")}
        await network.settle()
        monkeypatch.undo()
        assert float(await network.sum(total)) == pytest.approx(3 * (45 + 10 * CANARY))

    run(act, tmp_path, protocol=PairwiseMasking(mode="direct"))
    assert [entry["outcome"] for entry in entries(tmp_path, "b") if "outcome" in entry] == [
        "ended",
        "refused",
        "released",
    ]
    assert RECORDS_OUT_OF_ORDER in REFUSALS


def test_a_coordinator_that_cannot_write_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fills_up(monkeypatch, tmp_path / COORDINATOR)

    async def act(network: Network) -> None:
        with pytest.raises(Exception, match="No space left"):
            await network.sum(total)
        assert network.posted == []

    run(act, tmp_path)


def test_a_party_that_stops_leaves_its_intention(tmp_path: Path) -> None:
    async def act(network: Network) -> None:
        def dies(posted: Any) -> bool:
            if posted.sender == "b" and entries(tmp_path, "b") and PartyId("b") not in network.dead:
                network.kill("b")
            return True

        network.on_frame = dies
        with pytest.raises(ProtocolError):
            await network.sum(total)
        assert [entry["event"] for entry in entries(tmp_path, "b")] == ["intention"]

    run(act, tmp_path, settles=False)


def test_the_ledgers_of_sums_refusals_and_losses_agree(tmp_path: Path) -> None:
    async def act(network: Network) -> None:
        await network.sum(total)
        await network.sum(np.sum, encoding=AutoRange())
        network.holders[PartyId("b")]._policy = Policy(minimum_rows=11)
        with pytest.raises(RefusedError):
            await network.sum(total)
        await network.settle()
        network.holders[PartyId("b")]._policy = Policy()
        network.kill("b")
        await network.sum(len, on_dropout="continue")

    run(act, tmp_path, data={name: np.arange(10.0) for name in "abcd"}, settles=False)
    found = audit([tmp_path / party for party in (*"abcd", COORDINATOR)])
    assert found.ok, found.disagreements
    assert {len(told) for told in found.sessions.values()} == {4, 5}


def test_ledgers_agree_where_the_coordinator_does_not_know_the_holders(tmp_path: Path) -> None:
    async def within() -> None:
        async with HiddenHolders(ROWS) as network:
            for name, party in network.parties.items():
                ledger = Ledger(tmp_path / name, party.identity, study=STUDY)
                setattr(party, "ledger" if name == COORDINATOR else "_ledger", ledger)
            await network.run(Sum(total))
            await network.settle()

    asyncio.run(within())
    everybody = [folder.name for folder in tmp_path.iterdir()]
    found = audit([tmp_path / name for name in everybody])
    assert found.ok, (found.disagreements, [chain.faults for chain in found.chains])
    [told] = found.sessions.values()
    assert told.keys() == set(everybody)
    names = json.dumps({name: told[COORDINATOR].get(name) for name in ("roster", "over", "survivors")})
    assert not any(f'"{holder}"' in names for holder in ROWS)
    Ledger(tmp_path / "emptied", Identity(OTHER, "aggregator", os.urandom)).conclude(bytes(32), "refused", {})
    without = audit([tmp_path / name for name in (COORDINATOR, "emptied")])
    assert [one.said[OTHER] for one in without.disagreements] == ["no record"]
