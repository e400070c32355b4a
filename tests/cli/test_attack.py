"""The command that attacks one's own configuration: it finds what is open, says so, and ends with a status."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tacit.cli.app import app
from typer.testing import CliRunner


def attack(*arguments: str) -> tuple[int, str]:
    finished = CliRunner().invoke(app, ["attack", *arguments], env={"COLUMNS": "200"})
    return finished.exit_code, finished.output


def reports(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    status, printed = attack("--json", *arguments)
    found = json.loads(printed)
    assert isinstance(found, list)
    return status, found


def test_a_sound_configuration_withstands_all_and_the_status_is_zero() -> None:
    status, printed = attack("--protocol", "ring-paillier", "--holders", "4")
    assert status == 0
    assert "OPEN" not in printed
    assert "All 12 attacks were stopped" in printed
    assert "any holder can shift a sum" in printed


def test_a_ring_without_masks_is_told_to_be_open() -> None:
    status, printed = attack("--protocol", "ring-paillier", "--no-masks")
    assert status == 1
    assert "open to 1 of 12 attacks" in printed
    assert "the input of holder-" in printed


def test_a_curious_coordinator_that_lies_is_told_to_succeed() -> None:
    arguments = ("--protocol", "pairwise-masking", "--threshold", "3", "--no-active")
    status, (report,) = reports(*arguments)
    assert status == 1
    assert not report["refused"]
    succeeded = [verdict["attack"] for verdict in report["attacks"] if verdict["succeeded"]]
    assert succeeded == [
        "different survivors are told to different holders",
        "different dealers are told to different holders",
    ]


@pytest.mark.parametrize("protocol", ["pairwise-masking", "secret-sharing"])
def test_a_threshold_that_is_too_low_is_refused_and_shown_to_be_open(protocol: str) -> None:
    status, printed = attack("--protocol", protocol, "--threshold", "3")
    assert status == 1
    assert "tacit refuses this configuration" in printed
    assert "OPEN" in printed


def test_all_protocols_are_attacked_by_default_and_withstand() -> None:
    status, found = reports()
    assert status == 0
    assert [report["protocol"] for report in found] == [
        "ring-Paillier",
        "pairwise masking",
        "secret sharing",
        "additive sharing",
    ]
    assert all(verdict["stopped_by"] for report in found for verdict in report["attacks"])


def test_without_a_share_to_spare_a_wrong_sum_is_told_to_be_open() -> None:
    status, (report,) = reports("--protocol", "secret-sharing", "--holders", "3")
    assert status == 1
    succeeded = [verdict["attack"] for verdict in report["attacks"] if verdict["succeeded"]]
    assert succeeded == ["a share holder sends a wrong sum"]


def test_the_same_seed_gives_the_same_verdicts() -> None:
    arguments = ("--protocol", "additive-sharing", "--seed", "5")
    assert reports(*arguments) == reports(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--protocol", "ring-paillier", "--threshold", "3"),
        ("--threshold", "3"),
        ("--protocol", "pairwise-masking", "--mode", "fast"),
        ("--protocol", "additive-sharing", "--aggregators", "1"),
        ("--holders", "2"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...]) -> None:
    assert attack(*arguments)[0] == 2


def test_help_teaches_what_an_attack_is() -> None:
    status, printed = attack("--help")
    assert status == 0
    for taught in ("real adversary", "OPEN", "status 1", "--no-active"):
        assert taught in printed


def test_no_cluster_is_started() -> None:
    script = "import sys; from tacit.cli.app import app\n"
    script += "app(['attack', '--protocol', 'additive-sharing', '--holders', '3'], standalone_mode=False)\n"
    script += "assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd="/", check=True, capture_output=True, timeout=60)
