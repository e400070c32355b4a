"""``python -m tacit join``: this machine takes part, for as long as the command runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .doctor import print_checks
from .telling import AsJson, told

File = Annotated[Path, typer.Argument(help="The party's private file.", metavar="HOLDER.TOML")]


def join(file: File, as_json: AsJson = False) -> None:
    """Take part in a study with this machine, until the command is ended (Ctrl-C).

    It checks what `doctor` checks, starts Ray on this machine (the
    coordinator's has the head of the cluster) unless the file says that Ray
    runs here already, and makes the party's process. That reads the same
    file, takes rows from the source named there and from nowhere else, and
    proves to every other party who it is. If Ray or the process ends, both are
    started again: a party that was cut off is back by itself.

    Begin with the coordinator's machine; the order of the others is free.
    """
    from ..actors.joining import Joining  # noqa: PLC0415
    from ..records.party_file import PartyFile  # noqa: PLC0415
    from ..records.readiness import readiness  # noqa: PLC0415

    with told():
        party = PartyFile.read(file)
        if as_json:
            checks = list(readiness(party))
            ready = all(check.outcome != "not ready" for check in checks)
            _print({"event": "checked", "ready": ready, "checks": [check.to_dict() for check in checks]})
        else:
            ready = print_checks(readiness(party))
        if not ready:
            raise typer.Exit(1)
        Joining(party, _print if as_json else _say).stay()


def _print(event: Mapping[str, Any]) -> None:
    """Print one line of JSON."""
    typer.echo(json.dumps(event))


def _say(event: Mapping[str, Any]) -> None:
    """Tell what happens, in a line."""
    line = event.get("told") or _line(event)
    if line:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)


def _line(event: Mapping[str, Any]) -> str:
    match event["event"]:
        case "ready":
            return f"ready: {event['party']} takes part in {event['study']}{_not_met(event['not_met'])}"
        case "parties":
            return "all parties are met" if not event["not_met"] else f"parties{_not_met(event['not_met'])}"
        case "failed":
            return f"cannot take part: {event['error']}"
        case "ended":
            why = "".join(f": {line}" for line in event["last"][-1:])
            return f"the process of {event['process']} has ended with {event['code']}{why}"
        case "pause":
            return f"starting again in {event['seconds']:.0f} s (Ctrl-C leaves)"
    return ""


def _not_met(parties: Mapping[str, str]) -> str:
    return "".join(f"; {name}: {problem}" for name, problem in parties.items())
