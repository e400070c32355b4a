"""``python -m tacit audit``: what an auditor reads, and how a script learns that something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies import identity_of, write_study
from tacit.cli.app import app
from tacit.records.ledger import PLACE, Ledger
from typer.testing import CliRunner, Result

PARTIES = {
    name: identity_of(name, kind) for name, kind in (("coordinator", "coordinator"), ("north", "holder"))
}
FACTS: dict[str, Any] = {"to": "coordinator", "model": {"kind": "GLM [bold]", "digest": "e" * 64}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two ledgers of one sum, and the study's file."""
    for name, identity in PARTIES.items():
        ledger = Ledger(tmp_path / name, identity)
        ledger.intend(bytes(32), {**FACTS, "over": ["north"]})
        ledger.conclude(bytes(32), "released", {**FACTS, "survivors": ["north"]})
    write_study(tmp_path)
    return tmp_path


def run(folder: Path, *options: Any) -> Result:
    ledgers = [str(folder / name) for name in PARTIES]
    return CliRunner().invoke(app, ["audit", *ledgers, *map(str, options)], env={"COLUMNS": "200"})


def test_ledgers_in_order_are_told_in_a_page(folder: Path) -> None:
    result = run(folder, "--study", folder / "study.toml", "--html", folder / "page.html")
    assert result.exit_code == 0, result.output
    for text in ("Insect sprays", "2 ledgers are whole", "GLM [bold]", "north"):
        assert text in result.output
    assert "Insect sprays" in (folder / "page.html").read_text()


def test_a_changed_file_is_named_and_ends_with_status_1(folder: Path) -> None:
    file = folder / "north" / PLACE / "00000002.json"
    file.write_bytes(file.read_bytes().replace(b"released", b"refused!"))
    result = run(folder, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert not found["ok"]
    assert any("00000002.json" in fault for fault in found["faults"]["north"])


def test_what_was_remembered_shows_that_a_ledger_was_cut_short(folder: Path) -> None:
    (folder / "remembered.json").write_text(run(folder, "--json").output)
    assert run(folder, "--remembered", folder / "remembered.json").exit_code == 0
    Ledger(folder / "more", PARTIES["north"]).intend(bytes(32), {**FACTS, "over": ["north"]})
    for file in (folder / "north" / PLACE).glob("*.json"):
        file.unlink()
    for file in (folder / "more" / PLACE).glob("*.json"):
        (folder / "north" / PLACE / file.name).write_bytes(file.read_bytes())
    result = run(folder, "--remembered", folder / "remembered.json")
    assert result.exit_code == 1
    assert "remembered" in result.output


def test_a_folder_that_is_no_ledger_is_told_in_a_line(folder: Path) -> None:
    result = run(folder, folder)
    assert result.exit_code == 1
    assert "is no ledger" in result.output
