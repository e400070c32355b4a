"""The parties' ledgers laid beside each other: what one has changed, dropped or told otherwise is found and named."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.invitation import TOO_FEW_ROWS
from tacit.protocols.key_agreement import Identity
from tacit.records.audit import NO_RECORD, Audit, Disagreement, Pinned, audit, read_chain
from tacit.records.audit_page import as_html, sections
from tacit.records.errors import RecordError
from tacit.records.ledger import PLACE, Ledger

KINDS = {"hub": "coordinator", "north": "holder", "south": "holder", "west": "holder"}
PARTIES = {name: Identity(name, kind, random.Random(name).randbytes) for name, kind in KINDS.items()}
DIGEST = b"\x05" * 32
STUDY = Pinned("Sprays", DIGEST.hex(), {name: one.public.verify_key.hex() for name, one in PARTIES.items()})
HOLDERS = ["north", "south", "west"]
CHARGE = {"noise_multiplier": 2.0, "rounds": 1, "sampling": 1.0, "delta": 1e-5, "unit": "record"}
FACTS = {
    "definition": "d" * 64,
    "model": {"kind": "GLM", "digest": "e" * 64},
    "step": "trial",
    "query": "f" * 64,
    "protocol": {"name": "PairwiseMasking", "colluding": 1},
    "encoding": {"name": "ExactFloat"},
    "roster": {"digest": "a" * 64, "parties": KINDS},
    "to": "hub",
    "arrays": [{"name": "sum", "dtype": "float64", "shape": []}],
    "privacy": None,
}
SUM, NOISED, REFUSED, LOST = (bytes([n]) * 32 for n in range(1, 5))


def write(folder: Path, *, without: Callable[[str, bytes], bool] = lambda *_: False, **changed: Any) -> None:
    """Write the ledgers of four sessions: a sum, a noised one, a refused one, and one that has lost west.

    `without` leaves out what a party has of a session; `changed` are facts that south has otherwise of the first.
    """
    kept = {name: Ledger(folder / name, one, study=DIGEST) for name, one in PARTIES.items()}

    def tell(party: str, session: bytes, outcome: Any, over: list[str] | None, **told: Any) -> None:
        if without(party, session):
            return
        facts = {**FACTS, **({"privacy": CHARGE} if session == NOISED else {})}
        if (party, session) == ("south", SUM):
            facts |= changed
        if over is not None:
            kept[party].intend(session, {**facts, "over": over})
        if outcome is not None:
            kept[party].conclude(session, outcome, {**facts, "reason": "", **told})

    for session in (SUM, NOISED):
        for party in HOLDERS:
            tell(party, session, "released", HOLDERS)
        tell("hub", session, "released", HOLDERS, survivors=HOLDERS)
    tell("north", REFUSED, "refused", None, reason=TOO_FEW_ROWS)
    tell("south", REFUSED, "ended", None, reason="RefusedError")
    tell("hub", REFUSED, "refused", HOLDERS, reason=TOO_FEW_ROWS, refusals={"north": TOO_FEW_ROWS})
    for party in ("north", "south"):
        tell(party, LOST, "released", ["north", "south"])
    tell("west", LOST, None, HOLDERS)
    tell("hub", LOST, "released", HOLDERS, survivors=["north", "south"])


def audited(folder: Path, *parties: str, **options: Any) -> Audit:
    return audit([folder / party for party in parties or PARTIES], STUDY, **options)


@pytest.fixture(scope="module", autouse=True)
def unflushed() -> Iterator[None]:
    """What is on disk when a machine dies is tested elsewhere; here it would be a hundred flushes a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledgers")
    write(folder)
    return folder


def test_ledgers_that_agree_are_in_order(whole: Path) -> None:
    found = audited(whole)
    assert found.ok, (found.disagreements, [chain.faults for chain in found.chains])
    assert found.unfinished == [(LOST.hex(), "west")]


@pytest.mark.parametrize("left_out", PARTIES)
def test_ledgers_agree_when_one_party_has_handed_in_none(whole: Path, left_out: str) -> None:
    found = audited(whole, *(party for party in PARTIES if party != left_out))
    # West was lost: without the hub's record nobody at hand knows that the sum went on without it.
    assert found.ok, found.disagreements


def disagreements(folder: Path, *parties: str) -> dict[str, Disagreement]:
    found = audited(folder, *parties)
    assert not any(chain.faults for chain in found.chains)
    return {one.field: one for one in found.disagreements}


OTHERWISE: dict[str, Any] = {
    "definition": "0" * 64,
    "model": {"kind": "GLM", "digest": "0" * 64},
    "query": "0" * 64,
    "protocol": {"name": "PairwiseMasking", "colluding": 0},
    "encoding": {"name": "Integers"},
    "roster": {"digest": "0" * 64, "parties": KINDS},
    "arrays": [{"name": "sum", "dtype": "float64", "shape": [30]}],
    "to": "north",
    "step": "start",
}


@pytest.mark.parametrize("field", OTHERWISE)
def test_a_fact_that_one_party_has_otherwise_is_named(tmp_path: Path, field: str) -> None:
    write(tmp_path, **{field: OTHERWISE[field]})
    found = disagreements(tmp_path)
    assert found.keys() == {field}
    assert found[field].session == SUM.hex()
    assert len(set(found[field].said.values())) == 2
    assert found[field].said["south"] != found[field].said["hub"]


def ranged(*shape: int) -> dict[str, Any]:
    """Facts of a sum under `AutoRange` whose contributions have this shape."""
    arrays = [
        {"name": "sum", "dtype": "float32" if shape else "float64", "shape": list(shape)},
        {"name": "rows", "dtype": "int64", "shape": []},
    ]
    return {**FACTS, "encoding": {"name": "AutoRange"}, "arrays": arrays}


@pytest.mark.parametrize(
    ("changed", "is_fine"),
    [
        (ranged(30)["arrays"], True),
        (ranged(31)["arrays"], False),
        (ranged(30)["arrays"][:1], False),
        ([ranged(30)["arrays"][0], {"name": "rows", "dtype": "int64", "shape": [2]}], False),
        ("no arrays", False),
        ([{"dtype": []}], False),
    ],
)
def test_of_bounds_the_arrays_are_compared_as_far_as_each_party_knows_them(
    tmp_path: Path, changed: Any, is_fine: bool
) -> None:
    for party, one in PARTIES.items():
        facts = ranged() if party == "hub" else ranged(30)
        if party == "south":
            facts["arrays"] = changed
        ledger = Ledger(tmp_path / party, one, study=DIGEST)
        ledger.intend(SUM, {**facts, "over": HOLDERS})
        ledger.conclude(SUM, "released", {**facts, "survivors": HOLDERS if party == "hub" else None})
    assert disagreements(tmp_path).keys() == (set() if is_fine else {"arrays"})


def test_another_noise_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    ledger = Ledger(tmp_path / "south", PARTIES["south"], study=DIGEST)
    ledger.conclude(NOISED, "released", {**FACTS, "privacy": {**CHARGE, "noise_multiplier": 1.0}})
    assert disagreements(tmp_path).keys() == {"privacy"}


@pytest.mark.parametrize("party", PARTIES)
def test_a_session_that_one_party_leaves_out_is_named(tmp_path: Path, party: str) -> None:
    write(tmp_path, without=lambda name, session: (name, session) == (party, SUM))
    found = disagreements(tmp_path)
    assert found.keys() == {"session"}
    assert found["session"].said[party] == NO_RECORD


def test_without_the_coordinators_ledger_holders_bear_each_other_out(tmp_path: Path) -> None:
    write(tmp_path, without=lambda name, session: (name, session) == ("south", SUM))
    found = disagreements(tmp_path, *HOLDERS)
    assert found["session"].said["south"] == NO_RECORD


def test_a_refusal_that_was_not_made_is_named(tmp_path: Path) -> None:
    write(tmp_path, without=lambda name, session: (name, session) == ("north", REFUSED))
    found = disagreements(tmp_path)
    assert found["outcome"].said == {"hub": f"north refused: {TOO_FEW_ROWS}", "north": NO_RECORD}


def told_by_hub(folder: Path, outcome: Any, **told: Any) -> dict[str, Disagreement]:
    """Have the hub conclude the session that has lost west otherwise."""
    Ledger(folder / "hub", PARTIES["hub"], study=DIGEST).conclude(LOST, outcome, {**FACTS, **told})
    return disagreements(folder)


def test_a_release_that_the_coordinator_denies_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    found = told_by_hub(tmp_path, "ended", reason="DropoutError")
    assert found["outcome"].said["hub"] == "ended: DropoutError"


def test_survivors_with_whom_nobody_agreed_to_be_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    assert "survivors" in told_by_hub(tmp_path, "released", survivors=HOLDERS)


def agreed(folder: Path, *over: str, **by: list[str]) -> dict[str, Disagreement]:
    """Have holders say over whom they have opened the session that has lost west, and the hub over whom it was."""
    write(folder)
    for party, holders in by.items():
        ledger = Ledger(folder / party, PARTIES[party], study=DIGEST)
        ledger.conclude(LOST, "released", {**FACTS, "agreed": holders})
    told_by_hub(folder, "released", survivors=list(over))
    return disagreements(folder)


def test_survivors_are_those_with_whom_holders_have_opened_a_sum(tmp_path: Path) -> None:
    two = ["south", "north"]
    assert agreed(tmp_path, "north", "south", north=two, south=two) == {}


@pytest.mark.parametrize("over", [("north",), ("north", "south", "west"), ("south", "west")])
def test_survivors_other_than_holders_have_opened_a_sum_with_are_named(
    tmp_path: Path, over: tuple[str, ...]
) -> None:
    two = ["north", "south"]
    found = agreed(tmp_path, *over, north=two, south=two)
    assert found["survivors"].said["hub"] != found["survivors"].said["north"]


def test_holders_who_opened_a_sum_over_different_sets_are_named_without_the_coordinators_ledger(
    tmp_path: Path,
) -> None:
    agreed(tmp_path, "north", "south", north=["north", "south"], south=["north", "south", "west"])
    assert disagreements(tmp_path, *HOLDERS).keys() == {"survivors"}


# Files that somebody has changed


def mutate(draw: Callable[[Any], Any], folder: Path) -> None:
    """Change one thing in a chain."""
    files = sorted(folder.glob("*.json"))
    one = draw(st.sampled_from(files))
    match draw(st.sampled_from(["byte", "drop", "double", "swap", "cut"])):
        case "byte":
            octets = bytearray(one.read_bytes())
            octets[draw(st.integers(0, len(octets) - 1))] ^= draw(st.integers(1, 255))
            one.write_bytes(octets)
        case "cut":
            one.write_bytes(one.read_bytes()[: draw(st.integers(0, one.stat().st_size - 1))])
        case "drop":
            one.unlink()
        case "double":
            one = files[-2] if one.name == "head.json" else one
            shutil.copy(one, folder / f"{len(files):08d}.json")
        case _:
            other = draw(st.sampled_from([file for file in files if file != one]))
            mine, its = one.read_bytes(), other.read_bytes()
            one.write_bytes(its)
            other.write_bytes(mine)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(data=st.data())
def test_any_single_change_in_any_chain_is_found_and_named(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    party = data.draw(st.sampled_from(sorted(PARTIES)))
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(whole / party, folder / party)
    mutate(data.draw, folder / party / PLACE)
    chain = read_chain(folder / party, STUDY)
    assert chain.party == party
    assert chain.faults
    assert all(fault.file.startswith(PLACE) for fault in chain.faults)
    shutil.rmtree(folder)


def test_a_ledger_that_is_cut_short_with_its_head_is_found(tmp_path: Path) -> None:
    write(tmp_path, without=lambda name, session: (name, session) == ("south", LOST))
    earlier = tmp_path / "earlier"
    shutil.copytree(tmp_path / "south", earlier)
    ledger = Ledger(tmp_path / "south", PARTIES["south"], study=DIGEST)
    ledger.intend(LOST, {**FACTS, "over": ["north", "south"]})
    ledger.conclude(LOST, "released", FACTS)
    assert audited(tmp_path).ok
    heads = {chain.party: chain.head for chain in audited(tmp_path).chains}
    shutil.rmtree(tmp_path / "south")
    shutil.copytree(earlier, tmp_path / "south")
    [other] = disagreements(tmp_path).values()  # by the others' records
    assert other.said["south"] == NO_RECORD
    [fault] = audited(tmp_path, "south", remembered=heads).chains[0].faults  # and by itself
    assert "remembered" in fault.problem


def test_a_chain_under_another_key_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    forger = Identity("south", "holder", random.Random(9).randbytes)
    shutil.rmtree(tmp_path / "south")
    Ledger(tmp_path / "south", forger, study=DIGEST).conclude(SUM, "refused", FACTS)
    [south] = [chain for chain in audited(tmp_path).chains if chain.party == "south"]
    assert any("not trusted" in fault.problem for fault in south.faults)


@pytest.mark.parametrize(
    "told",
    [
        {"over": 5},
        {"over": [{}]},
        {"adders": [1]},
        {"agreed": "x"},
        {"agreed": [1]},
        {"encoding": "x"},
        {"time": 1e300},
        {"to": []},
    ],
    ids=str,
)
def test_what_is_signed_and_no_record_is_told_and_breaks_nothing(tmp_path: Path, told: Any) -> None:
    write(tmp_path)
    Ledger(tmp_path / "south", PARTIES["south"], study=DIGEST).conclude(SUM, "released", {**FACTS, **told})
    found = audited(tmp_path)
    [fault] = [fault for chain in found.chains for fault in chain.faults]
    assert "no record of south's" in fault.problem
    as_html(found)


def test_what_is_no_ledger_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(RecordError, match="is no ledger"):
        audited(tmp_path / "north")
    with pytest.raises(RecordError, match="two of the ledgers are north's"):
        audited(tmp_path, "north", "north")


# The page


def test_the_page_tells_what_happened(whole: Path) -> None:
    found = audited(whole)
    rows = {section.title: section.rows for section in sections(found)}
    assert [row[:2] for row in rows["Parties"]] == list(KINDS.items())
    computed = {row[5]: row for row in rows["What was computed and released"]}
    assert computed["north, south, west"][4] == "2"
    assert computed["north, south"][6:] == ("hub", "sum float64[]")
    assert rows["Refusals"] == (("north", TOO_FEW_ROWS, "1"),)
    assert {row[0] for row in rows["Privacy spent"]} == set(PARTIES)
    assert rows["Disagreements between ledgers"] == ()


def test_the_page_is_one_file_and_escaped(tmp_path: Path) -> None:
    write(tmp_path)
    hub = Ledger(tmp_path / "hub", PARTIES["hub"], study=DIGEST)
    hub.conclude(
        SUM, "released", {**FACTS, "model": {"kind": "<script>alert(1)</script>"}, "survivors": HOLDERS}
    )
    page = as_html(audited(tmp_path))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    json.dumps(audited(tmp_path).to_dict())
