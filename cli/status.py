"""``python -m tacit status``: who takes part in a study at this moment, and what was released so far."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .telling import AsJson, Certificates, print_json, told

StudyFile = Annotated[Path, typer.Argument(help="The study, as at every party.", metavar="STUDY.TOML")]


def status(study: StudyFile, certificates: Certificates = None, as_json: AsJson = False) -> None:
    """Show a study, its parties as the coordinator sees them, and its last runs.

    Ends with 1 if a party is not there, with the reason: its process is not
    running, or it goes by another study file, key or version.
    """
    from .. import connect  # noqa: PLC0415 - Ray takes a second

    with told(), connect(study, certificates=certificates) as federation:
        absent = federation.absent
        seen: dict[str, Any] = {
            "study": federation.study.to_dict(),
            "parties": {str(name): absent.get(name, "there") for name in federation.study.roster},
            "sums": len(federation.ledger),
            "runs": [
                {key: run.get(key) for key in ("run", "time", "model", "outcome", "seconds")}
                for run in federation.runs
            ],
        }
    if as_json:
        print_json(seen)
    else:
        table = Table(show_header=False, box=None)
        for name, state in seen["parties"].items():
            table.add_row(f"[bold]{name}[/bold]", state)
        table.add_row("[bold]sums released[/bold]", str(seen["sums"]))
        for run in seen["runs"][-5:]:
            table.add_row("run", f"{run['time']}  {run['model']}: {run['outcome']}")
        console = Console()
        console.print(str(federation.study), markup=False, highlight=False)
        console.print(table)
    if absent:
        raise typer.Exit(1)
