"""What is shipped is what is here: packages, dependencies, version, wheel, and the set-up commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
import tacit
from house import ROOT, files_besides, imports, package_files, package_folders, pyproject, read

DISTRIBUTIONS = {
    "dp_accounting": "dp-accounting",
    "jwt": "pyjwt",
    "sklearn": "scikit-learn",
}  # where the names differ
RIVALS = "rival_"  # scripts of the benchmarks that run in a rival's environment
LEFT_BEHIND = (".*", "build", "dist", "*.egg-info", "__pycache__")  # what is no source


def text(name: str) -> str:
    return read(PurePosixPath(name))


def libraries(paths: list[PurePosixPath]) -> set[str]:
    """Names, as on the package index, of all that these files import and that is not ours."""
    found = {found.top for path in paths for found in imports(path, read(path)) if found.is_library}
    local = {path.stem for path in files_besides()} | {path.parent.name for path in files_besides()}
    return {DISTRIBUTIONS.get(name, name) for name in found - local}


def declared(*, dev: bool) -> set[str]:
    """Names of what the project requires: always and in its extras, or for the checks (`dev`)."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    users = project["dependencies"] + [r for name, rs in extras.items() if name != "dev" for r in rs]
    return {re.split(r"[^\w-]", requirement)[0] for requirement in (extras["dev"] if dev else users)}


def test_every_folder_with_an_init_is_a_declared_package() -> None:
    packages = pyproject()["tool"]["setuptools"]["packages"]
    assert packages == ["tacit", *(f"tacit.{folder}" for folder in package_folders())]


def test_dependencies_are_those_that_the_package_imports() -> None:
    assert libraries(package_files()) == declared(dev=False)


def test_dependencies_of_tests_and_examples_are_declared() -> None:
    ours = [path for path in files_besides() if not path.name.startswith(RIVALS)]
    assert libraries(ours) <= declared(dev=False) | declared(dev=True)


def test_version_stands_in_one_place() -> None:
    assert tacit.__version__ == pyproject()["project"]["version"]
    assert re.search(r"__version__\s*=\s*[\"']", text("__init__.py")) is None


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_and_makefile_know_the_set_up_command(command: str) -> None:
    assert command in text("README.md")
    assert re.search(rf"^{command.removeprefix('make ')}:", text("Makefile"), re.MULTILINE)


def test_continuous_integration_runs_what_the_readme_says() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert re.search(r"^make test$", text(".ci/run"), re.MULTILINE)


@pytest.mark.parametrize("made", [".venv/", ".venv-3.12/", ".typing/", "build/", "dist/", "tacit.egg-info/"])
def test_what_make_makes_is_ignored_by_git(made: str) -> None:
    assert any(fnmatch(made, pattern) for pattern in text(".gitignore").splitlines())


def test_license_is_complete() -> None:
    assert "Apache License\n                           Version 2.0, January 2004" in text("LICENSE")
    assert "END OF TERMS AND CONDITIONS" in text("LICENSE")
    assert "GNU General\nPublic License" in text("NOTICE")


def test_changelog_has_a_place_for_the_next_line() -> None:
    assert "\n## [Unreleased]\n" in text("CHANGELOG.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, built from a copy of the sources: `build/` keeps what was deleted."""
    sources, out = tmp_path_factory.mktemp("sources") / "odd-name.1", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, sources, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(sources)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    modules = {f"tacit/{path}" for path in package_files()}
    data = {f"tacit/models/{path.name}" for path in (ROOT / "models").glob("*.csv")}
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped == modules | data | {"tacit/py.typed"}
    assert {"LICENSE", "NOTICE"} <= {PurePosixPath(name).name for name in names}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_runs_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    # The libraries are those of the environment that runs the tests; tacit is found in the new folder first.
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    layers = ", ".join(f"tacit.{folder}" for folder in package_folders())
    script = f"import tacit, {layers}; print(tacit.__file__, tacit.__version__)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    for arguments, expected in (
        (["-c", script], f"{site / 'tacit' / '__init__.py'} {pyproject()['project']['version']}"),
        (["-m", "tacit", "--help"], "demo"),
    ):
        command = [sys.executable, *arguments]
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert expected in run.stdout
