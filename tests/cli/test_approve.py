"""``python -m tacit approve``: what a human reads, and what becomes of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies import write_party
from tacit.cli.app import app
from tacit.models.least_squares import OLS
from tacit.records.approvals import Approvals
from tacit.records.errors import PolicyError
from tacit.records.policy import state_file
from typer.testing import CliRunner, Result

MODEL = OLS("y ~ `x[bold]`")
DIGEST = MODEL.definition.digest.hex()


@pytest.fixture
def party_file(tmp_path: Path) -> Path:
    file = write_party(tmp_path, "north")
    (tmp_path / "state").mkdir(mode=0o700)
    approvals = Approvals(tmp_path / "state" / state_file("north", "approvals"))
    with pytest.raises(PolicyError):
        approvals.check(MODEL, "hub", b"")
    return file


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["approve", *map(str, arguments)], env={"COLUMNS": "200"})


def test_what_waits_is_listed_as_it_was_asked(party_file: Path) -> None:
    shown = run(party_file).output
    for text in (DIGEST[:12], "OLS", "hub", "waiting", 'formula = "y ~ `x[bold]`"'):
        assert text in shown


def test_an_approval_is_told_and_kept(party_file: Path) -> None:
    [approved] = json.loads(run(party_file, DIGEST[:12], "--json").output)
    assert (approved["digest"], approved["status"]) == (DIGEST, "approved")
    assert "Nothing waits" in run(party_file).output
    [kept] = json.loads(run(party_file, "--all", "--json").output)
    assert kept == approved


def test_a_definition_can_be_declined(party_file: Path) -> None:
    [declined] = json.loads(run(party_file, DIGEST, "--decline", "--json").output)
    assert declined["status"] == "declined"


def test_a_mistake_is_told_in_a_line(party_file: Path) -> None:
    result = run(party_file, "ffff")
    assert result.exit_code == 1
    assert "0 definitions have a digest" in result.output
    assert run(party_file.with_name("nobody.toml")).exit_code == 1
