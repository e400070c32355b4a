"""What a stranger sees first: the help, the demo, and the README's example."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tacit.cli.app import app
from typer.main import get_command
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]

AS_R_PRINTS = """\
            Estimate Std. Error
lambda         9.175  0.4789311        -2 log L: 199.5328     'log Lik.' -99.76641
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    """Run Python from elsewhere, as a user does."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed_by(process: subprocess.Popen[str]) -> str:
    printed, told = process.communicate(timeout=100)
    assert process.returncode == 0, told
    return printed


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The demo and the README's example: each starts a Ray of its own, which takes long, so at the same time."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    script = tmp_path_factory.mktemp("readme") / "readme.py"
    script.write_text(block[1])
    as_json = ("--json", "--key-bits", "2048")
    running = {
        "demo": start("-m", "tacit", "demo"),
        "readme": start(str(script)),
        "json": start("-m", "tacit", "demo", *as_json),
    }
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_the_demo(arguments: list[str]) -> None:
    assert "demo" in CliRunner().invoke(app, arguments).output


def test_help_of_the_demo_explains_it() -> None:
    output = CliRunner().invoke(app, ["demo", "--help"]).output
    assert "homomorpheR" in output
    assert "--key-bits" in output


def test_short_keys_are_refused_by_the_command_line() -> None:
    assert CliRunner().invoke(app, ["demo", "--key-bits", "1024"]).exit_code == 2


@pytest.mark.ray
def test_demo_prints_what_r_prints(programs: dict[str, subprocess.Popen[str]]) -> None:
    printed = printed_by(programs["demo"])
    assert AS_R_PRINTS in printed
    assert len(re.findall(r"^  pass \d", printed, re.MULTILINE)) <= 8
    assert "Who learned what" in printed


@pytest.mark.ray
def test_demo_prints_json_for_a_script(programs: dict[str, subprocess.Popen[str]]) -> None:
    content = json.loads(printed_by(programs["json"]))
    assert content["result"]["estimates"] == [pytest.approx(9.175, rel=1e-9)]
    assert content["sums"] >= 1


def leaves(command: Any) -> Iterator[Any]:
    """A command, or all those below it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield command
        return
    for each in below.values():
        yield from leaves(each)


def test_every_command_prints_json_if_it_is_asked_to() -> None:
    commands = list(leaves(get_command(app)))
    assert {"demo", "join", "run", "status", "doctor", "audit", "approve"} < {each.name for each in commands}
    assert [
        each.name for each in commands if all("--json" not in option.opts for option in each.params)
    ] == []


@pytest.mark.ray
def test_example_of_the_readme_runs(programs: dict[str, subprocess.Popen[str]]) -> None:
    printed = printed_by(programs["readme"]).splitlines()
    assert printed[0] == "40"
    assert float(printed[1]) == pytest.approx(28.31758241758242, abs=0)
    assert printed[-2].startswith("9.17")
    assert printed[-1].endswith("sums were revealed")
