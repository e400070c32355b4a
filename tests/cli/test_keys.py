"""``python -m tacit keys``: what a user sees of identities and certificates."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tacit.cli.keys import keys
from tacit.records.certificates import check_certificates
from tacit.records.identity_file import fingerprint, read_identity
from typer.testing import CliRunner, Result


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(keys, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def of_json(*arguments: Any) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    assert run("identity", "north", "--kind", "holder", "--out", tmp_path / "north.identity").exit_code == 0
    return tmp_path / "north.identity"


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    made = run(
        "cluster",
        "--machine",
        "north=10.1.0.2",
        "--machine",
        "south=10.1.0.3,south.example",
        "--out",
        tmp_path,
    )
    assert made.exit_code == 0, made.output
    return tmp_path


def test_help_teaches_what_the_keys_are_for() -> None:
    printed = run("--help").output
    for word in ("study.toml", "fingerprint", "telephone", "keys identity north", "TLS"):
        assert word in printed
    for command, word in {
        "identity": "can speak as this party",
        "show": "fingerprint",
        "cluster": "can run code in the cluster",
        "check": "authority's fingerprint",
    }.items():
        assert word in run(command, "--help").output


def test_identity_is_made_and_its_block_is_what_goes_into_the_study(tmp_path: Path) -> None:
    result = run("identity", "north", "--kind", "holder", "--out", tmp_path / "x")
    public = read_identity(tmp_path / "x").public
    (block,) = tomllib.loads(result.stdout)["party"]
    assert block == {
        "name": "north",
        "kind": "holder",
        "verify_key": public.verify_key.hex(),
        "agreement_key": public.agreement_key.hex(),
    }
    assert fingerprint(public) in result.stderr


def test_show_prints_the_same_and_nothing_secret(identity: Path) -> None:
    shown, content = run("show", identity), of_json("show", identity)
    public = read_identity(identity).public
    assert content["fingerprint"] == fingerprint(public)
    assert content["verify_key"] == public.verify_key.hex()
    secret = tomllib.loads(identity.read_text())["secret"]
    assert secret[:16] not in shown.output + json.dumps(content)


def test_nothing_is_overwritten(identity: Path) -> None:
    before = identity.read_bytes()
    result = run("identity", "north", "--kind", "holder", "--out", identity)
    assert result.exit_code == 1
    assert "is not overwritten" in result.stderr
    assert identity.read_bytes() == before


def test_identity_that_others_may_read_is_told_in_one_line(identity: Path) -> None:
    identity.chmod(0o644)
    result = run("show", identity)
    assert result.exit_code == 1
    assert result.stderr.startswith("RecordError: others than its owner may read")
    assert len(result.stderr.splitlines()) == 1


def test_cluster_makes_a_folder_for_each_machine(cluster: Path) -> None:
    assert check_certificates(cluster / "south", "south.example").hosts[:2] == ("10.1.0.3", "south.example")
    assert (cluster / "authority" / "ca.key").is_file()


def test_cluster_says_what_goes_where(tmp_path: Path) -> None:
    result = run("cluster", "--machine", "north=10.1.0.2", "--out", tmp_path)
    assert f"{tmp_path / 'north'}: carry it to north" in result.stdout
    assert f"{tmp_path / 'authority'}: stays here" in result.stdout
    content = of_json("cluster", "--machine", "south=10.1.0.3", "--days", 30, "--out", tmp_path)
    assert content["machines"] == {"south": str(tmp_path / "south")}


def test_check_tells_hosts_time_and_authority(cluster: Path) -> None:
    one, other = of_json("check", cluster / "north"), of_json("check", cluster / "south")
    assert one["authority"] == other["authority"]
    assert one["hosts"] == ["10.1.0.2", "127.0.0.1", "localhost"]
    assert "10.1.0.2, 127.0.0.1, localhost" in run("check", cluster / "north", "--host", "10.1.0.2").stdout


def test_check_fails_for_another_machine(cluster: Path) -> None:
    result = run("check", cluster / "north", "--host", "10.1.0.9")
    assert result.exit_code == 1
    assert "this machine is 10.1.0.9" in result.stderr


@pytest.mark.parametrize("machine", [["north"], ["=10.1.0.2"], ["north="], ["a=10.1.0.2", "a=10.1.0.3"]])
def test_malformed_machine_is_refused(tmp_path: Path, machine: list[str]) -> None:
    options = [part for each in machine for part in ("--machine", each)]
    assert run("cluster", *options, "--out", tmp_path / "x").exit_code == 2
    assert not (tmp_path / "x").exists()
