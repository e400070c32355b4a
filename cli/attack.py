"""``python -m tacit attack``: every known attack, run against your configuration, and what stopped it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ..protocols.adversary import Verdict
    from ..protocols.protocol import Protocol

NOT_ATTEMPTED = (
    "Not attempted, because nothing is to stop it: any holder can shift a sum by what it puts in, any aggregator by "
    "what it adds; a question that is nearly the same, over one holder fewer; more parties who pool than told above. "
    "Paillier keys are short in this simulation; no attack here gains from that."
)


class Which(StrEnum):
    """The protocols by the names that the command line has for them."""

    ALL = "all"
    RING = "ring-paillier"
    MASKING = "pairwise-masking"
    SHARING = "secret-sharing"
    ADDITIVE = "additive-sharing"


def attack(  # noqa: PLR0917 - typer makes options of them
    protocol: Annotated[
        Which, typer.Option(help="Which protocol to attack; all of them, as they are by default.")
    ] = Which.ALL,
    holders: Annotated[int, typer.Option(min=3, max=64, help="How many data holders take part.")] = 5,
    colluding: Annotated[
        int | None, typer.Option(min=1, help="Holders that pool with the coordinator; 1 by default.")
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            help="Shares that reconstruct (pairwise-masking, secret-sharing). Too low: see what happens."
        ),
    ] = None,
    active: Annotated[
        bool | None,
        typer.Option(
            "--active/--no-active", help="Whether a coordinator that lies is found out (pairwise-masking)."
        ),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="resilient or direct (pairwise-masking).", metavar="MODE")
    ] = None,
    masks: Annotated[
        bool | None, typer.Option("--masks/--no-masks", help="Masks in the ring (ring-paillier).")
    ] = None,
    robust: Annotated[
        bool | None,
        typer.Option("--robust/--no-robust", help="Whether wrong sums are found out (secret-sharing)."),
    ] = None,
    packing: Annotated[int | None, typer.Option(help="Numbers a polynomial (secret-sharing).")] = None,
    aggregators: Annotated[int | None, typer.Option(help="How many (additive-sharing).")] = None,
    seed: Annotated[int, typer.Option(help="All that is random follows from it: same seed, same run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts as JSON, for a script.")] = False,
) -> None:
    """Attack your own configuration, in a simulation, with every attack that is known here.

    Each attack is a real adversary: it plays the coordinator, some holders,
    aggregators or the network, sees what these see, and computes from that.
    It succeeds if it comes away with one holder's input, or if a total was
    accepted that is not the sum. The table says which step stopped each, and
    at whom. An attack that nothing stops is OPEN, and the command then ends
    with status 1, as it does for a configuration that tacit refuses to start.

    Nothing leaves this process, no data is needed, and no cluster is started.

    Try --protocol pairwise-masking --no-active --threshold 3: a coordinator
    that tells two stories.
    """
    given = {
        "colluding": colluding,
        "threshold": threshold,
        "active": active,
        "mode": mode,
        "masks": masks,
        "robust": robust,
        "packing": packing,
        "aggregators": aggregators,
    }
    chosen = _protocols(protocol, {name: value for name, value in given.items() if value is not None})
    console = Console()
    reports = [_report(console, each, holders, seed, quiet=as_json) for each in chosen]
    if as_json:
        typer.echo(json.dumps(reports, indent=2))
    else:
        console.print(NOT_ATTEMPTED, style="dim")
    is_open = any(report["refused"] or any(v["succeeded"] for v in report["attacks"]) for report in reports)
    raise typer.Exit(1 if is_open else 0)


def _protocols(which: Which, options: dict[str, Any]) -> list[Protocol[Any]]:
    """Return the protocols to attack; refuse options that have no meaning for them."""
    from .. import AdditiveSharing, PairwiseMasking, RingPaillier, SecretSharing, SetupError  # noqa: PLC0415

    classes: dict[Which, Any] = {
        Which.RING: RingPaillier,
        Which.MASKING: PairwiseMasking,
        Which.SHARING: SecretSharing,
        Which.ADDITIVE: AdditiveSharing,
    }
    chosen = list(classes.values()) if which is Which.ALL else [classes[which]]
    known = set.intersection(*({field.name for field in dataclasses.fields(each)} for each in chosen))
    for name in options.keys() - known:
        raise typer.BadParameter(f"--{name} has no meaning for --protocol {which.value}")
    try:
        return [each(**options) for each in chosen]
    except SetupError as error:
        raise typer.BadParameter(str(error)) from None


def _report(
    console: Console, protocol: Protocol[Any], n_holders: int, seed: int, *, quiet: bool
) -> dict[str, Any]:
    """Attack one protocol; show what comes of it, unless quiet, and return it."""
    from ..protocols.attacks import refusal  # noqa: PLC0415

    refused = refusal(protocol, n_holders)
    verdicts = []
    with console.status("attacking …") if not quiet else nullcontext() as status:
        for verdict in _verdicts(protocol, n_holders, seed):
            verdicts.append(verdict)
            if status is not None:
                status.update(f"{protocol.title}: {len(verdicts)} attacks made …")
    if not quiet:
        _show(console, protocol, n_holders, refused, verdicts)
    return {
        "protocol": protocol.title,
        "holders": n_holders,
        "refused": refused,
        "attacks": [dataclasses.asdict(verdict) for verdict in verdicts],
    }


def _verdicts(protocol: Protocol[Any], n_holders: int, seed: int) -> Iterator[Verdict]:
    """Attempt all attacks, with links and memories as a deployment has them."""
    from ..actors.links import Links  # noqa: PLC0415
    from ..protocols.attacks import attempt_all  # noqa: PLC0415
    from ..protocols.cohort import Surroundings  # noqa: PLC0415
    from ..records.release_memory import ReleaseMemory  # noqa: PLC0415

    return attempt_all(protocol, n_holders, seed=seed, surroundings=Surroundings(Links, ReleaseMemory))


def _show(
    console: Console, protocol: Protocol[Any], n_holders: int, refused: str, verdicts: list[Verdict]
) -> None:
    """Print the table of one protocol, and what follows from it."""
    table = Table(title=f"\n{protocol!r}, {n_holders} holders", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("attack, and who plays it", ratio=5)
    table.add_column("outcome", min_width=7)
    table.add_column("by which step", ratio=6)
    table.add_column("what the adversary got", ratio=3)
    for verdict in verdicts:
        outcome = "[bold red]OPEN[/bold red]" if verdict.succeeded else "[green]stopped[/green]"
        table.add_row(
            f"{verdict.attack}\n[dim]{verdict.played_by}[/dim]",
            outcome,
            escape(verdict.stopped_by) or "nothing",
            escape(verdict.evidence),
        )
    console.print(table)
    succeeded = [verdict.attack for verdict in verdicts if verdict.succeeded]
    if refused:
        console.print(f"[bold red]tacit refuses this configuration[/bold red]: {refused}", highlight=False)
        console.print("It was attacked as if it did not.")
    if succeeded:
        console.print(
            f"[bold red]This configuration is open to {len(succeeded)} of {len(verdicts)} attacks.[/bold red]"
        )
    elif not refused:
        console.print(f"[green]All {len(verdicts)} attacks were stopped.[/green]")
    console.print(f"Trust: {protocol.trust}\n", highlight=False)
