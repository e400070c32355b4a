"""What a stranger sees first: the help, the demo, and the README's example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tacit.cli.app import app
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]

AS_R_PRINTS = """\
            Estimate Std. Error
lambda         9.175  0.4789311        -2 log L: 199.5328     'log Lik.' -99.76641
"""


def run(*arguments: str) -> str:
    """Run Python from elsewhere, as a user does, and return what it prints."""
    finished = subprocess.run(
        [sys.executable, *arguments], cwd="/", capture_output=True, text=True, timeout=100, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


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
def test_demo_prints_what_r_prints() -> None:
    printed = run("-m", "tacit", "demo")
    assert AS_R_PRINTS in printed
    assert len(re.findall(r"^  pass \d", printed, re.MULTILINE)) <= 8
    assert "Who learned what" in printed


@pytest.mark.ray
def test_example_of_the_readme_runs(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    script = tmp_path / "readme.py"
    script.write_text(block[1])
    printed = run(str(script)).splitlines()
    assert printed[0] == "40"
    assert float(printed[1]) == pytest.approx(28.31758241758242, abs=0)
    assert printed[-2].startswith("9.17")
    assert printed[-1].endswith("sums were revealed")
