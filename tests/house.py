"""What the tests of the house look at: the repository's folders, and what each file imports."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BESIDES = ("tests", "examples", "benchmarks")  # folders of Python files that are no part of the package


@dataclass(frozen=True)
class Import:
    """One module that a file imports, by its absolute name."""

    line: int
    module: str
    relative: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    @property
    def layer(self) -> str:
        """The folder of `tacit` that is imported from; empty for the root itself."""
        return self.module.partition(".")[2].split(".")[0]

    @property
    def is_library(self) -> bool:
        """Whether this is neither the standard library, nor the house itself."""
        return not self.relative and self.top not in {*sys.stdlib_module_names, "tacit", *BESIDES}


@cache
def imports(path: PurePosixPath, source: str) -> tuple[Import, ...]:
    """All imports of a file of the package, wherever they stand: also in functions and for types only.

    `path` is relative to the root. A relative import that leaves the package has the top "<outside>".
    """
    return tuple(_imports(path, source))


def _imports(path: PurePosixPath, source: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, relative=False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(node.lineno, node.module or "", relative=False)
        elif isinstance(node, ast.ImportFrom):
            base = _base(path, node.level)
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (Import(node.lineno, f"{base}.{name}", relative=True) for name in names)
        elif isinstance(node, ast.Call) and (module := _imported_by_call(node)):
            yield Import(node.lineno, module, relative=False)


def _base(path: PurePosixPath, level: int) -> str:
    """The package from which a relative import of that level starts."""
    package = ("tacit", *path.parent.parts)
    return ".".join(package[: len(package) - level + 1]) if level <= len(package) else "<outside>"


def _imported_by_call(call: ast.Call) -> str:
    """The module that `import_module("x")` or `__import__("x")` names; empty for any other call."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    match call.args:
        case [ast.Constant(value=str(module)), *_] if name in {"import_module", "__import__"}:
            return "" if module.startswith(".") else module
    return ""


def package_folders() -> list[str]:
    """Names of the folders that are packages, without those beside the package."""
    return sorted(p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name not in BESIDES)


def package_files() -> list[PurePosixPath]:
    """Every Python file of the package, relative to the root."""
    found = [
        *ROOT.glob("*.py"),
        *(path for folder in package_folders() for path in (ROOT / folder).rglob("*.py")),
    ]
    return sorted(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in found)


def files_besides() -> list[PurePosixPath]:
    """Every Python file of the tests, examples and benchmarks, relative to the root."""
    found = (path for folder in BESIDES for path in (ROOT / folder).rglob("*.py"))
    names = (path.relative_to(ROOT) for path in found)
    return sorted(PurePosixPath(name.as_posix()) for name in names if not _hidden(name))


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def read(path: PurePosixPath) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(read(PurePosixPath("pyproject.toml")))
