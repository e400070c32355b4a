"""``python -m tacit models``: what a user sees of a repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tacit.cli.models import models
from tacit.models.definition import Definition
from tacit.models.fit import Fit
from tacit.records.canonical import parse_mapping
from tacit.records.model_card import Release, result_of
from tacit.records.model_store import ModelStore
from tacit.records.sealing import RepositoryKey
from tacit.records.signing import SigningKey, open_envelope
from typer.testing import CliRunner, Result

COORDINATOR = SigningKey(b"\x01" * 32)
HOLDER = SigningKey(b"\x02" * 32)


def fit() -> Fit:
    return Fit(
        definition=Definition("MaximumLikelihood"),
        names=("lambda",),
        estimates=np.array([9.175]),
        covariance=np.array([[0.25]]),
        llf=-99.7,
        nobs=40,
        iterations=3,
        n_passes=4,
        converged=True,
        protocol="ring-Paillier",
        holders=("site-1", "site-2"),
        survivors=("site-1", "site-2"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = ModelStore(tmp_path / "models", signing_key=COORDINATOR)
    store.save("risk", fit().to_dict())
    store.save("risk", fit().to_dict(), release=Release(1, {"site-1": HOLDER.public}))
    store.tag("risk", "best", 1)
    return tmp_path / "models"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def of_json(*arguments: Any) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_help_teaches_what_a_repository_is() -> None:
    printed = run("--help").output
    for word in ("pending", "list -r FOLDER", "verify", "export", "signed"):
        assert word in printed
    for command, word in {
        "list": "co-signed",
        "show": "definition",
        "verify": "--remembered",
        "predict": "CSV",
        "export": "envelope.json",
    }.items():
        assert word in run(command, "--help").output


def test_list_shows_status_and_tags(folder: Path) -> None:
    printed = run("list", "-r", folder).output
    assert re.search(r"risk +1 +released +best", printed)
    assert re.search(r"risk +2 +pending +0 of 1", printed)
    listed = of_json("list", "-r", folder)
    assert [(one["version"], one["status"], one["tags"]) for one in listed] == [
        (1, "released", ["best"]),
        (2, "pending", []),
    ]


def test_the_repository_may_come_from_the_environment(folder: Path) -> None:
    result = CliRunner().invoke(models, ["list"], env={"TACIT_REPOSITORY": str(folder)})
    assert "risk" in result.output


def test_show_tells_provenance_and_estimates(folder: Path) -> None:
    printed = run("show", "risk", "-r", folder).output
    for word in ("ring-Paillier", '["site-1", "site-2"]', fit().definition.digest.hex(), "9.1750"):
        assert word in printed
    assert "9.1750" not in run("show", "risk", "-v", "2", "-r", folder).output
    shown = of_json("show", "risk", "-v", "best", "-r", folder)
    assert (shown["version"], shown["card"]["provenance"]["passes"]) == (1, 4)


def test_verify_says_so_and_ends_with_0(folder: Path) -> None:
    result = run("verify", "-r", folder)
    assert (result.exit_code, "nothing was changed" in result.output) == (0, True)
    assert COORDINATOR.public in result.output
    assert of_json("verify", "-r", folder, "--trusted", COORDINATOR.public)["ok"]


def test_verify_names_what_was_changed_and_ends_with_1(folder: Path) -> None:
    path = folder / "log" / "00000001.json"
    path.write_bytes(path.read_bytes().replace(b"risk", b"risc", 1))
    result = run("verify", "-r", folder)
    assert (result.exit_code, "log/00000001.json" in result.output) == (1, True)
    assert run("verify", "-r", folder, "--json").exit_code == 1


def test_verify_finds_what_was_cut_off_since(folder: Path, tmp_path: Path) -> None:
    head = (folder / "log" / "head.json").read_bytes()
    ModelStore(folder).save("risk", {"n": 1})
    (tmp_path / "then.json").write_text(run("verify", "-r", folder, "--json").stdout)
    assert run("verify", "-r", folder, "--remembered", tmp_path / "then.json").exit_code == 0
    (folder / "log" / "00000004.json").unlink()
    (folder / "log" / "head.json").write_bytes(head)
    assert run("verify", "-r", folder).exit_code == 0
    result = run("verify", "-r", folder, "--remembered", tmp_path / "then.json")
    assert (result.exit_code, "remembered" in result.output) == (1, True)


def test_predict_prints_csv_with_all_digits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fit, "predict", lambda _, rows: pd.Series(rows["x"] / 3))
    (tmp_path / "rows.csv").write_text("x\n1\n2\n")
    result = run("predict", "risk", tmp_path / "rows.csv", "-r", folder)
    assert result.stdout.splitlines() == ["row,x", f"0,{1 / 3!r}", f"1,{2 / 3!r}"]
    assert of_json("predict", "risk", tmp_path / "rows.csv", "-r", folder) == [1 / 3, 2 / 3]
    run("predict", "risk", tmp_path / "rows.csv", "-r", folder, "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == result.stdout


def test_what_is_exported_can_be_checked_and_used(folder: Path, tmp_path: Path) -> None:
    written = of_json("export", "risk", tmp_path / "out", "-r", folder)
    names = ["arrays.safetensors", "card.json", "envelope.json", "inclusion.json"]
    assert [Path(path).name for path in written] == names
    out = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    card = open_envelope(json.loads(out["envelope.json"]), [COORDINATOR.public], needed=1)
    assert card == out["card.json"]
    assert result_of(parse_mapping(card, "card"), out["arrays.safetensors"]) == fit().to_dict()


@pytest.mark.parametrize("command", [("predict", "risk", "rows.csv"), ("export", "risk", "out")])
def test_a_pending_version_is_neither_predicted_from_nor_exported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("x\n1\n")
    result = run(*command, "-v", "2", "-r", folder)
    assert (result.exit_code, "pending" in result.output) == (1, True)
    assert not (tmp_path / "out").exists()


def test_a_mistyped_folder_is_not_made(tmp_path: Path) -> None:
    result = run("list", "-r", tmp_path / "none")
    assert (result.exit_code, "there is no folder" in result.output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_there_is_told_in_a_line(folder: Path) -> None:
    result = run("show", "never", "-r", folder)
    assert (result.exit_code, result.output) == (1, "RecordError: nothing is saved under 'never'\n")


def test_an_encrypted_repository_opens_with_its_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("07" * 32)
    ModelStore(tmp_path / "models", repository_key=RepositoryKey(b"\x07" * 32)).save("risk", fit().to_dict())
    listed = of_json("list", "-r", tmp_path / "models", "--key-file", tmp_path / "key")
    assert [one["name"] for one in listed] == ["risk"]
    assert run("verify", "-r", tmp_path / "models").exit_code == 1
