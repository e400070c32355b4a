"""``python -m tacit keys``: the identity of a party, and the certificates of a cluster's machines."""

from __future__ import annotations

import secrets
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .telling import AsJson, print_json, told

if TYPE_CHECKING:
    from ..records.certificates import Checked
    from ..serialization.session_messages import Party

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help=(
        "Make and check the keys of a deployment.\n\n"
        "Every party makes its own [bold]identity[/bold], on its own machine: a private file, and a block of public "
        "keys for study.toml. Whoever collects the blocks asks each party for its fingerprint over the telephone: "
        "otherwise the one who carried the keys could have put in others.\n\n"
        "One party makes the certificates of the [bold]cluster[/bold], with which Ray's machines speak TLS and keep "
        "strangers out, and carries one folder to each machine.\n\n"
        "Begin with [bold]python -m tacit keys identity north --kind holder --out north.identity[/bold]."
    ),
)


class Kind(StrEnum):
    """What a party is in a study."""

    COORDINATOR = "coordinator"
    HOLDER = "holder"
    AGGREGATOR = "aggregator"


@keys.command()
def identity(
    name: Annotated[
        str, typer.Argument(help="The party's name in the study: letters, digits and . _ -, up to 63.")
    ],
    kind: Annotated[
        Kind,
        typer.Option(help="A holder has rows; the coordinator asks and learns sums; aggregators add shares."),
    ],
    out: Annotated[
        Path, typer.Option(help="The private file to make; one that is there is not overwritten.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a party's identity: a private file, and a block of public keys for study.toml.

    The file stays on this machine, and nobody else may read it: whoever has it
    can speak as this party. Keep a copy where it is as safe; without it the
    party needs new keys, and the study another file.
    """
    from ..records.identity_file import make_identity  # noqa: PLC0415

    with told():
        party = make_identity(out, name, kind.value, secrets.token_bytes)
    _show(party, as_json)


@keys.command()
def show(
    file: Annotated[Path, typer.Argument(help="An identity file.")],
    as_json: AsJson = False,
) -> None:
    """Show the public part of an identity: the block for study.toml, and the fingerprint to read out."""
    from ..records.identity_file import read_identity  # noqa: PLC0415

    with told():
        party = read_identity(file).public
    _show(party, as_json)


@keys.command()
def cluster(
    machine: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=HOST[,HOST]",
            help="A machine, and the addresses or names by which the others reach it. Once for each machine.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make the machines' folders in.")],
    days: Annotated[int, typer.Option(min=1, help="How long the certificates are valid.")] = 365,
    as_json: AsJson = False,
) -> None:
    """Make the certificates and the token of a cluster: a folder to carry to each machine.

    Each machine's folder has its certificate, its key, and the token of the
    cluster: carry it as you would a key, and name it as certificates = "…" under
    [ray] in the party's file. The folder "authority" stays here: with it, the same
    command makes the folder of a machine that joins later.

    Whoever has one of these folders can run code in the cluster.
    """
    from ..records.certificates import AUTHORITY, make_cluster  # noqa: PLC0415

    machines = dict(map(_machine, machine))
    if len(machines) < len(machine):
        raise typer.BadParameter("a machine is named twice", param_hint="--machine")
    with told():
        made = make_cluster(out, machines, secrets.token_bytes, days=days)
    if as_json:
        folders = {folder.name: str(folder) for folder in made}
        print_json({"machines": folders, "authority": str(out / AUTHORITY), "days": days})
        return
    for folder in made:
        typer.echo(f"{folder}: carry it to {folder.name}, and delete it here")
    typer.echo(f"{out / AUTHORITY}: stays here, and signs machines that join later")


@keys.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A machine's folder, as `keys cluster` made it.")],
    host: Annotated[
        str | None, typer.Option(help="The address by which the others reach this machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a machine's folder: dates, keys, whose certificate it is, and that nobody else may read it.

    The authority's fingerprint is the same on all machines of a cluster.
    """
    from ..records.certificates import check_certificates  # noqa: PLC0415

    with told():
        checked = check_certificates(folder, host)
    if as_json:
        print_json(_as_dict(checked))
        return
    for what, text in _as_dict(checked).items():
        typer.echo(f"{what:<10} {text if isinstance(text, str) else ', '.join(text)}")


def _machine(text: str) -> tuple[str, list[str]]:
    name, _, hosts = text.partition("=")
    if not name or not hosts:
        raise typer.BadParameter(f"{text!r} is not NAME=HOST, such as north=10.1.0.2", param_hint="--machine")
    return name, hosts.split(",")


def _show(party: Party, as_json: bool) -> None:
    """Print the block of a party, and its fingerprint."""
    from ..records.identity_file import as_toml, fingerprint  # noqa: PLC0415

    if as_json:
        public = {"verify_key": party.verify_key.hex(), "agreement_key": party.agreement_key.hex()}
        print_json({"name": party.name, "kind": party.kind, **public, "fingerprint": fingerprint(party)})
        return
    typer.echo(as_toml(party))
    Console(stderr=True).print(
        f"Paste this block into study.toml, and read out to the others: {fingerprint(party)}",
        highlight=False,
        soft_wrap=True,
    )


def _as_dict(checked: Checked) -> dict[str, str | list[str]]:
    return {
        "hosts": list(checked.hosts),
        "until": f"{checked.until:%Y-%m-%d %H:%M} UTC",
        "authority": checked.authority,
    }
