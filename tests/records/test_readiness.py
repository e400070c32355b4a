"""Readiness: what is in order, what is not, and what to do about it, before anything is started."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import ANALYSIS, secret_of, study_text, write_party, write_study
from tacit.records.certificates import make_cluster
from tacit.records.identity_file import fingerprint
from tacit.records.party_file import PartyFile
from tacit.records.readiness import Check, readiness

LOCAL = "127.0.0.1:9"
NOISED = f"""\
{ANALYSIS}
[analysis.privacy]
epsilon = 1.0
delta = 1e-6
clip = 1.0
"""


def ready(
    folder: Path, name: str = "north", kind: str = "holder", *, study: str | None = None, rest: str = ""
) -> dict[str, Check]:
    """Return what the checks of a party say, by what they look at."""
    write_study(folder, study_text(address=LOCAL) if study is None else study)
    party = PartyFile.read(write_party(folder, name, kind, rest))
    return {check.what: check for check in readiness(party)}


def test_holder_looks_at_everything_that_it_needs(tmp_path: Path) -> None:
    found = ready(tmp_path)
    assert list(found) == [
        "study",
        "identity",
        "versions",
        "clock",
        "certificates",
        "disk",
        "coordinator",
        "data",
        "policy",
    ]
    assert {name: check.outcome for name, check in found.items() if check.outcome != "in order"} == {
        "certificates": "warning",  # there are none, and need be none
        "coordinator": "warning",
    }


def test_coordinator_needs_a_repository_and_no_rows(tmp_path: Path) -> None:
    found = ready(tmp_path, "coordinator", "coordinator")
    assert list(found) == [
        *("study", "identity", "versions", "clock", "certificates", "disk", "repository", "question")
    ]
    assert "beside the other state" in found["repository"].told


def test_repository_is_named(tmp_path: Path) -> None:
    found = ready(tmp_path, "coordinator", "coordinator", rest='[repository]\nfolder = "models"\n')
    assert found["repository"].told == str(tmp_path / "models")


def test_study_and_identity_are_told_as_they_are_compared(tmp_path: Path) -> None:
    found = ready(tmp_path)
    party = PartyFile.read(tmp_path / "north.toml")
    assert party.study.digest.hex()[:16] in found["study"].told
    assert fingerprint(party.party) in found["identity"].told


def test_versions_of_what_must_be_alike_are_told(tmp_path: Path) -> None:
    told = ready(tmp_path)["versions"].told
    for package in ("Python 3", "tacit ", "ray ", "numpy ", "cryptography "):
        assert package in told


def test_nothing_secret_is_told(tmp_path: Path) -> None:
    told = str(ready(tmp_path))
    for half in (secret_of("north")[:32], secret_of("north")[32:]):
        assert half.hex() not in told


# Certificates


def test_ray_of_one_machine_is_not_said_to_be_closed_to_others(tmp_path: Path) -> None:
    """It listens at all addresses, whatever the one that it is given."""
    check = ready(tmp_path)["certificates"]
    assert check.outcome == "warning"
    assert "listens at all addresses" in check.told


def test_open_cluster_over_machines_is_not_ready(tmp_path: Path) -> None:
    check = ready(tmp_path, study=study_text(address="192.0.2.1:1"))["certificates"]
    assert check.outcome == "not ready"
    assert "keys cluster" in check.told


def test_open_cluster_that_is_meant_to_be_is_warned_of(tmp_path: Path) -> None:
    study = study_text(address="192.0.2.1:1")
    check = ready(tmp_path, "coordinator", "coordinator", study=study, rest="[ray]\ninsecure = true\n")[
        "certificates"
    ]
    assert check.outcome == "warning"
    assert "open to its network" in check.told


def test_certificates_of_this_machine_are_in_order(tmp_path: Path) -> None:
    make_cluster(tmp_path / "made", {"north": ["10.1.0.2"]}, os.urandom)
    rest = '[ray]\nip = "10.1.0.2"\ncertificates = "made/north"\n'
    assert ready(tmp_path, rest=rest)["certificates"] == Check(
        "certificates", "in order", "TLS and a token, in north"
    )


@pytest.mark.parametrize("ip", ['ip = "127.0.0.1"\n', ""])
def test_certificates_for_this_machine_alone_are_not_what_ray_asks_for(tmp_path: Path, ip: str) -> None:
    make_cluster(tmp_path / "made", {"north": ["127.0.0.1"]}, os.urandom)
    check = ready(tmp_path, rest=f'[ray]\n{ip}certificates = "made/north"\n')["certificates"]
    assert check.outcome == "not ready"
    assert "in the place of 127.0.0.1" in check.told


def test_certificates_of_another_machine_are_not(tmp_path: Path) -> None:
    make_cluster(tmp_path / "made", {"north": ["10.1.0.9"]}, os.urandom)
    rest = '[ray]\nip = "10.1.0.2"\ncertificates = "made/north"\n'
    check = ready(tmp_path, rest=rest)["certificates"]
    assert check.outcome == "not ready"
    assert "10.1.0.2" in check.told


# Disk


@pytest.mark.parametrize(("ahead", "outcome"), [(-100, "in order"), (30, "in order"), (3600, "warning")])
def test_clock_that_is_behind_the_partys_own_ledger_is_told(ahead: int, outcome: str, tmp_path: Path) -> None:
    """The coordinator joins first, and has no other party's clock to look at."""
    write_study(tmp_path, study_text(address=LOCAL))
    party = PartyFile.read(write_party(tmp_path, "coordinator", "coordinator"))
    ledger = party.ledger
    ledger.mkdir(parents=True)
    (ledger / "entry").write_text("")
    os.utime(ledger, (0, 0))
    os.utime(ledger / "entry", (time.time() + ahead,) * 2)
    [check] = [check for check in readiness(party) if check.what == "clock"]
    assert check.outcome == outcome
    assert ("s later: have it set by NTP" in check.told) == (outcome == "warning")


def test_full_disk_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    check = ready(tmp_path)["disk"]
    assert check.outcome == "not ready"
    assert "5 MiB are free" in check.told


def test_state_that_cannot_be_written_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    check = ready(tmp_path)["disk"]
    assert check.outcome == "not ready"
    assert "cannot be written" in check.told


# The head


def test_head_that_answers_is_in_order(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        check = ready(tmp_path, study=study_text(address=address))["coordinator"]
    assert check == Check("coordinator", "in order", f"{address} answers")


def test_head_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    """The order in which machines join is free."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
    check = ready(tmp_path, study=study_text(address=address))["coordinator"]
    assert check.outcome == "warning"
    assert "joining waits" in check.told


# Rows and policy


def test_rows_are_counted_and_columns_named_but_no_value_is(tmp_path: Path) -> None:
    write_study(tmp_path, study_text(address=LOCAL))
    file = write_party(tmp_path, "north")
    (tmp_path / "rows.csv").write_text("count,spray\n8675309,CANARY\n2,B\n3,B\n")
    found = {check.what: check for check in readiness(PartyFile.read(file))}
    assert "3 rows; count, spray" in found["data"].told
    assert "8675309" not in str(found)
    assert "CANARY" not in str(found)


def test_rows_that_cannot_be_read_are_not_ready_and_no_policy_is_tried(tmp_path: Path) -> None:
    write_study(tmp_path, study_text(address=LOCAL))
    file = write_party(tmp_path, "north")
    party = PartyFile.read(file)
    (tmp_path / "rows.csv").unlink()
    found = {check.what: check for check in readiness(party)}
    assert found["data"].outcome == "not ready"
    assert "cannot be read" in found["data"].told
    assert "policy" not in found


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("minimum_rows = 3", "there are 2 rows, and 3 are asked for"),
        ("minimum_holders = 4", "3 holders are invited"),
        ('models = ["OLS"]', "the model is a GLM"),
        ('protocols = ["PairwiseMasking"]', "the protocol is RingPaillier"),
        ('privacy = "required"', "nothing leaves without noise"),
    ],
)
def test_policy_against_the_studys_question_is_not_ready(policy: str, told: str, tmp_path: Path) -> None:
    check = ready(tmp_path, rest=f"[policy]\n{policy}\n")["policy"]
    assert check.outcome == "not ready"
    assert told in check.told


def test_function_that_may_not_be_imported_here_is_not_ready(tmp_path: Path) -> None:
    study = study_text(address=LOCAL, analysis='model = "Sum"\nfunction = "os.path:getsize"\ndata = "sprays"')
    assert ready(tmp_path, study=study)["policy"].outcome == "not ready"


@pytest.mark.parametrize(
    ("analysis", "told"),
    [
        (f'{ANALYSIS}\ncov_type = "HC9"', "HC9"),
        (NOISED, "privacy"),
    ],
)
def test_question_that_cannot_be_asked_is_not_ready(analysis: str, told: str, tmp_path: Path) -> None:
    """The party's process could not start."""
    study = study_text(address=LOCAL, analysis=analysis)
    check = ready(tmp_path, study=study)["policy"]
    assert check.outcome == "not ready"
    assert told in check.told


def test_check_is_plain_data() -> None:
    check = Check("disk", "warning", "x")
    assert check.to_dict() == {"what": "disk", "outcome": "warning", "told": "x"}
