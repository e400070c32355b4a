"""``python -m tacit approve``: what a holder's people are asked to approve of, and what they say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..records.approvals import Approvals, Request

COLOURS = {"waiting": "yellow", "approved": "green", "declined": "red"}


def approve(
    party_file: Annotated[Path, typer.Argument(metavar="HOLDER.TOML", help="The party's private file.")],
    digest: Annotated[
        str | None, typer.Argument(help="The definition to decide about: the first digits of its digest.")
    ] = None,
    decline: Annotated[bool, typer.Option("--decline", help="Decline it, or take an approval back.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List what is decided, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")] = False,
) -> None:
    """List the definitions that wait for a human's approval, or approve of one by its digest.

    Under the policy's approval = "new-definition" an approval is for good;
    under "every-run" it is for one run, and what is asked again waits again.
    """
    from .. import TacitError  # noqa: PLC0415

    try:
        approvals = _approvals(party_file)
        if digest is None:
            waiting = [one for one in approvals.requests() if everything or one.status == "waiting"]
            _print(waiting, as_json)
        else:
            status: Literal["approved", "declined"] = "declined" if decline else "approved"
            _print([approvals.decide(digest.lower(), status)], as_json)
    except TacitError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


def _approvals(party_file: Path) -> Approvals:
    from ..records.approvals import Approvals  # noqa: PLC0415
    from ..records.party_file import PartyFile  # noqa: PLC0415
    from ..records.policy import state_file  # noqa: PLC0415

    file = PartyFile.read(party_file)
    return file.policy.approvals(file.party.name) or Approvals(
        file.state / state_file(file.party.name, "approvals")
    )


def _print(requests: list[Request], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([request.to_dict() for request in requests], indent=2))
        return
    table = Table("digest", "status", "model", "parameters", "asked by", "since", "sums", box=SIMPLE_HEAD)
    table.columns[3].overflow = "fold"
    for request in requests:
        table.add_row(*map(_plain, _row(request)), style=COLOURS[request.status])
    Console().print(table if requests else "Nothing waits for approval.")


def _row(request: Request) -> tuple[Any, ...]:
    parameters = "\n".join(
        f"{name} = {json.dumps(value)}" for name, value in request.parameters.items() if value is not None
    )
    since = datetime.fromtimestamp(request.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return request.digest[:12], request.status, request.kind, parameters, request.asker, since, request.sums


def _plain(value: Any) -> str:
    """Return a value as a table may show it: others have chosen the texts."""
    from rich.markup import escape  # noqa: PLC0415

    return escape("".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in str(value)))
