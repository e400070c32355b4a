"""``python -m tacit doctor``: is this machine ready to take part, and if not, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .telling import AsJson, print_json, told

if TYPE_CHECKING:
    from ..records.readiness import Check

COLOURS = {"in order": "green", "warning": "yellow", "not ready": "red"}

File = Annotated[Path, typer.Argument(help="The party's private file.", metavar="HOLDER.TOML")]


def doctor(file: File, as_json: AsJson = False) -> None:
    """Check keys, versions, certificates, disk, data and policy, without starting anything.

    It reads the file of a party, and the study that this names; it reads the
    rows, and says how many there are and what the columns are called, here
    and nowhere else. `join` makes the same checks. Ends with 1 if something
    keeps the party from joining.
    """
    from ..records.party_file import PartyFile  # noqa: PLC0415
    from ..records.readiness import readiness  # noqa: PLC0415

    with told():
        party = PartyFile.read(file)
        if as_json:
            checks = list(readiness(party))
            ready = all(check.outcome != "not ready" for check in checks)
            print_json({"ready": ready, "checks": [check.to_dict() for check in checks]})
        else:
            ready = print_checks(readiness(party))
    if not ready:
        raise typer.Exit(1)


def print_checks(checks: Iterable[Check]) -> bool:
    """Print checks as they are made; return whether all are good enough to take part."""
    console, ready = Console(), True
    for check in checks:
        ready &= check.outcome != "not ready"
        colour = COLOURS[check.outcome]
        console.print(f"[{colour}]{check.outcome:>9}[/{colour}]  [bold]{check.what}[/bold]  ", end="")
        console.print(check.told, markup=False, highlight=False, soft_wrap=True)
    return ready
