"""How commands tell what went wrong, and print for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]

Certificates = Annotated[
    Path | None,
    typer.Option(
        help="Folder with this machine's certificates and token; by default the folder certificates beside the study."
    ),
]


@contextmanager
def told() -> Iterator[None]:
    """Tell an error of ours in one line, and end with status 1."""
    from .. import TacitError  # noqa: PLC0415

    try:
        yield
    except (TacitError, OSError) as error:
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True
        )
        raise typer.Exit(1) from None


def print_json(content: Any) -> None:
    """Print JSON, for a script."""
    typer.echo(json.dumps(content, indent=2))
