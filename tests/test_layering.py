"""The two columns of the house's table: which layer may import which layer, and which library.

Every import counts, also one within a function or for types only. What is new is a line in `LAYERS`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
from house import BESIDES, ROOT, Import, files_besides, imports, package_files, package_folders, read


@dataclass(frozen=True)
class Layer:
    """What a folder may import: layers, libraries, and libraries that only some of its files may."""

    below: frozenset[str]
    libraries: frozenset[str]
    only_in: Mapping[str, str] = field(default_factory=dict)  # library: patterns of file names

    def allows(self, library: str, file_name: str) -> bool:
        patterns = self.only_in.get(library, "").split()
        return library in self.libraries or any(fnmatch(file_name, pattern) for pattern in patterns)


def layer(below: str, libraries: str, **only_in: str) -> Layer:
    return Layer(frozenset(below.split()), frozenset(libraries.split()), only_in)


FOUR = "serialization protocols privacy models"
LAYERS = {
    "serialization": layer("", "numpy", msgpack="codec.py"),
    "protocols": layer("serialization", "numpy scipy cryptography", phe="paillier*.py", gmpy2="paillier*.py"),
    "privacy": layer("serialization", "numpy dp_accounting"),
    "models": layer(
        "serialization privacy",
        "numpy scipy pandas statsmodels formulaic",
        torch="*network*.py",
        matplotlib="plotting.py",
    ),
    "records": layer(
        FOUR,
        "numpy pandas cryptography fsspec filelock safetensors securesystemslib jwt",
        sqlalchemy="sql_source.py",
        psycopg="sql_source.py",
        pyarrow="data_source.py",
    ),
    "actors": layer(
        f"{FOUR} records", "ray numpy", cryptography="links.py long_frames.py", rich="progress.py"
    ),
    "cli": layer(f"{FOUR} records actors", "typer rich"),
    "estimators": layer(f"{FOUR} records actors", "sklearn numpy pandas"),
}
PUBLIC_API_USERS = {"cli", "estimators"}  # the layers that may import from the root
ROOT_FILES = {"__init__.py", "__main__.py"}
CLUSTER_ONLY = {"init", "remote"}  # of ray; the names that only actors/cluster.py may use


def faults(path: PurePosixPath, source: str) -> Iterator[str]:
    """Say what a file of the package imports against the rules."""
    for found in imports(path, source):
        if problem := _problem(path, found):
            yield f"{path}:{found.line}: {problem}"
    if path != PurePosixPath("actors/cluster.py"):
        yield from (
            f"{path}:{line}: {name} belongs in actors/cluster.py" for line, name in _cluster_names(source)
        )


def _problem(path: PurePosixPath, found: Import) -> str:
    home = path.parts[0] if len(path.parts) > 1 else ""  # empty for the root's own files
    if found.relative:
        if found.top != "tacit":
            return "a relative import leaves the package"
        if home in {"", found.layer}:
            return ""
        if found.layer in LAYERS:
            return "" if found.layer in LAYERS[home].below else f"{home} must not import {found.layer}"
        return "" if home in PUBLIC_API_USERS else f"{home} must not import from the root"
    if found.top in {"tacit", *LAYERS, *BESIDES}:
        return f"inside the package imports are relative: {found.module}"
    if found.is_library and not (home and LAYERS[home].allows(found.top, path.name)):
        return f"{path} must not import {found.top}"
    return ""


def _cluster_names(source: str) -> Iterator[tuple[int, str]]:
    """Find uses of `ray.init`, `ray.remote` and of node labels."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="ray"), attr=name) if name in CLUSTER_ONLY:
                yield node.lineno, f"ray.{name}"
            case ast.ImportFrom(module="ray", names=names) if CLUSTER_ONLY & {alias.name for alias in names}:
                yield node.lineno, "ray.init or ray.remote"
            case ast.Import(names=names) if any(alias.name == "ray" and alias.asname for alias in names):
                yield node.lineno, "ray by another name"
            case ast.Call(keywords=keywords) if any(keyword.arg == "label_selector" for keyword in keywords):
                yield node.lineno, "label_selector"


@pytest.mark.parametrize("path", package_files(), ids=str)
def test_file_imports_downwards_and_only_its_libraries(path: PurePosixPath) -> None:
    assert list(faults(path, read(path))) == []


@pytest.mark.parametrize(
    ("path", "source", "problem"),
    [
        ("protocols/ring.py", "from ..actors.links import seal", "must not import actors"),
        ("protocols/ring.py", "from .. import models", "must not import models"),
        ("protocols/ring.py", "from .. import RingPaillier", "must not import from the root"),
        ("protocols/ring.py", "from ...other import x", "leaves the package"),
        ("protocols/ring.py", "from tacit.serialization import errors", "relative"),
        ("protocols/ring.py", "import serialization", "relative"),
        ("protocols/ring.py", "def late():\n    import ray", "must not import ray"),
        ("protocols/ring.py", "importlib.import_module('ray')", "must not import ray"),
        ("protocols/ring_paillier.py", "import gmpy2", "must not import gmpy2"),
        ("serialization/frames.py", "import msgpack", "must not import msgpack"),
        ("models/regression.py", "from torch import nn", "must not import torch"),
        ("records/ledger.py", "from ..actors import driver", "must not import actors"),
        ("__init__.py", "import numpy as np", "must not import numpy"),
        ("actors/party.py", "import ray\nray.remote(num_cpus=0)", "ray.remote belongs"),
        ("actors/party.py", "from ray import init", "belongs"),
        ("actors/party.py", "import ray as r", "belongs"),
        ("actors/party.py", "options(label_selector={})", "label_selector belongs"),
    ],
)
def test_rules_catch(path: str, source: str, problem: str) -> None:
    found = list(faults(PurePosixPath(path), source))
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("protocols/paillier_keys.py", "import gmpy2, phe"),
        ("serialization/codec.py", "from msgpack import Packer"),
        ("models/total.py", "from ..privacy import clipping\nfrom . import definition"),
        ("cli/demo.py", "from .. import simulate\nimport typer"),
        ("actors/cluster.py", "import ray\nray.init(address='local')"),
        ("actors/party.py", "import ray\nray.get(reference)"),
        ("__init__.py", "from .actors.federation import simulate\nimportlib.import_module('.x', __name__)"),
    ],
)
def test_rules_permit(path: str, source: str) -> None:
    assert list(faults(PurePosixPath(path), source)) == []


@pytest.mark.parametrize("path", files_besides(), ids=str)
def test_files_beside_the_package_import_tacit_by_its_name(path: PurePosixPath) -> None:
    copies = [found for found in imports(path, read(path)) if not found.relative and found.top in LAYERS]
    outside = [found for found in imports(path, read(path)) if found.relative and found.layer not in BESIDES]
    assert copies + outside == []


def test_every_package_has_its_row() -> None:
    assert set(package_folders()) <= set(LAYERS)


def test_packages_are_flat() -> None:
    assert [path for path in package_files() if len(path.parts) > 2] == []


def test_root_has_no_other_python_file() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == ROOT_FILES


def test_nothing_below_tests_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("folder", package_folders())
def test_folder_refuses_to_be_imported_by_its_bare_name(folder: str) -> None:
    # From the root Python finds the folder; the classes of a second copy would equal none of the first.
    run = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert f"ImportError: import tacit.{folder}" in run.stderr


def test_root_refuses_to_be_imported_by_the_name_of_its_folder() -> None:
    name = "checkout"
    code = compile((ROOT / "__init__.py").read_text(encoding="utf-8"), "__init__.py", "exec")
    with pytest.raises(ImportError, match="import tacit"):
        exec(code, {"__name__": name, "__package__": name})


def test_importing_tacit_loads_no_heavy_library(tmp_path: Path) -> None:
    heavy = {"ray", "scipy", "pandas", "statsmodels", "sklearn", "matplotlib", "torch", "phe", "gmpy2"}
    script = f"import sys, tacit; print(*sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
