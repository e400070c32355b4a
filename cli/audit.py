"""``python -m tacit audit``: the parties' ledgers verified and laid beside each other, for an ethics board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..records.audit import Audit, Pinned
    from ..records.transparency_log import Head


def audit(
    ledgers: Annotated[list[Path], typer.Argument(metavar="LEDGER_FOLDER…", help="One for each party.")],
    study: Annotated[
        Path | None,
        typer.Option(help="The study's file: its keys are those that may have signed.", exists=True),
    ] = None,
    remembered: Annotated[
        Path | None, typer.Option(help="What audit --json printed another time.", exists=True)
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write the page here, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")] = False,
) -> None:
    """Verify ledgers, and name whatever one party has on record and another has not.

    Ends with status 1 if anything is not as it should be. Without --study
    nobody can tell whether the keys are the right ones; and that a ledger
    was cut short is seen by the others' records, or by what was remembered
    of it: keep the JSON of an audit, and hand it in with --remembered.
    """
    from .. import TacitError  # noqa: PLC0415
    from ..records.audit import audit as audit_ledgers  # noqa: PLC0415
    from ..records.audit_page import as_html  # noqa: PLC0415

    try:
        found = audit_ledgers(ledgers, _pinned(study), _heads(remembered))
        if page is not None:
            page.write_text(as_html(found), encoding="utf-8")
    except (TacitError, OSError, ValueError, KeyError, TypeError) as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print(found)
    raise typer.Exit(0 if found.ok else 1)


def _pinned(path: Path | None) -> Pinned | None:
    """Read the parties of a study."""
    from ..records.audit import Pinned  # noqa: PLC0415
    from ..records.study import Study  # noqa: PLC0415

    if path is None:
        return None
    study = Study.read(path)
    keys = {party.name: party.verify_key.hex() for party in study.parties}
    return Pinned(study.title, study.digest.hex(), keys)


def _heads(path: Path | None) -> dict[str, Head]:
    """Read the heads of an earlier audit."""
    from ..records.transparency_log import Head  # noqa: PLC0415

    content = {} if path is None else json.loads(path.read_bytes())["heads"]
    return {party: Head(head["size"], head["root"]) for party, head in content.items()}


def _print(found: Audit) -> None:
    from ..records.audit_page import sections, title, verdict  # noqa: PLC0415

    console = Console()
    console.print(Text(title(found), style="bold"))
    console.print(Text(verdict(found), style="green" if found.ok else "red"))
    for section in sections(found):
        console.print(Text(f"\n{section.title}", style="bold"))
        if not section.rows:
            console.print(section.otherwise)
            continue
        table = Table(*section.heading, box=SIMPLE_HEAD)
        for column in table.columns:
            column.overflow = "fold"
        for row in section.rows:
            table.add_row(*(Text(_printable(cell)) for cell in row))
        console.print(table)


def _printable(cell: str) -> str:
    """Return a text as a terminal may show it: others have chosen it."""
    return "".join(sign if sign.isprintable() else "?" for sign in cell)
