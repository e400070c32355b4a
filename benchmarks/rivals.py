"""Rivals from PyPI, each in a virtual environment of its own: their pins and ours need not agree.

An environment is made once, below ``build/rivals``, and kept until its requirements change. A rival is run by a
script of its own that imports nothing of tacit; it is told what to do by a JSON argument, and prints its figures
as JSON on the last line of its output.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENVIRONMENTS = Path(__file__).resolve().parents[1] / "build" / "rivals"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def environment(name: str, requirements: Sequence[str]) -> Path:
    """Return a virtual environment with the requirements, made now unless it exists.

    Parameters
    ----------
    name : str
        Of its folder.
    requirements : sequence of str
        As pip takes them, versions pinned: ``["mpyc==0.11"]``.
    """
    folder = ENVIRONMENTS / name
    installed = folder / "installed.txt"  # written last: a folder without it is no finished environment
    wanted = "\n".join(requirements)
    if installed.exists() and installed.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([_python(folder), "-m", "pip", "install", "--quiet", *requirements], check=True)
    installed.write_text(wanted, encoding="utf-8")
    return folder


def run(environment: Path, script: Path, arguments: Mapping[str, Any]) -> Any:
    """Run a script by the interpreter of an environment, and return what it prints last, read as JSON.

    Libraries of linear algebra are held to one thread, as ours are.
    """
    finished = subprocess.run(
        [_python(environment), script, json.dumps(arguments)],
        env=os.environ | ONE_THREAD,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"
