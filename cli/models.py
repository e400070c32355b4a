"""``python -m tacit models``: what is in a model repository, whether it is whole, and what its models predict."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .telling import AsJson, print_json, told

if TYPE_CHECKING:
    from ..records.catalogue import Version
    from ..records.model_store import ModelStore
    from ..records.transparency_log import Head

models = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help=(
        "Look into a model repository, check it, and use its models.\n\n"
        "A repository is the folder, or the URL (s3://bucket/models), that a federation was given as its "
        "[bold]repository[/bold]. Every model in it has a name, and versions that count from 1. A version is signed by "
        "the coordinator, may wait for co-signatures of data holders ([italic]pending[/italic]), and is entered in a "
        "log in which nothing can be changed unseen.\n\n"
        "Begin with [bold]python -m tacit models list -r FOLDER[/bold]. These commands read; they start no cluster."
    ),
)

Location = Annotated[
    str,
    typer.Option(
        "--repository",
        "-r",
        envvar="TACIT_REPOSITORY",
        metavar="FOLDER|URL",
        help="Where the repository is.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the 64 hexadecimal digits that an encrypted repository opens with; without it "
        "TACIT_REPOSITORY_KEY of the environment is looked at.",
    ),
]
Name = Annotated[str, typer.Argument(help="The model's name.")]
Chosen = Annotated[
    str | None,
    typer.Option("--version", "-v", help="A number or a tag; by default the newest that is released."),
]


@models.command(name="list")
def list_models(
    repository: Location,
    name: Annotated[str | None, typer.Argument(help="Only the versions of this model.")] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List every version: released or pending, its tags, and whose key signed it.

    A version is pending while fewer holders have co-signed than its card asks
    for; it is then neither predicted from nor exported.
    """
    with told():
        listed = _open(repository, key_file).listing(name)
    if as_json:
        print_json([version.to_dict() for version in listed])
        return
    table = Table("name", "version", "status", "co-signed", "tags", "signed by", box=SIMPLE_HEAD)
    for version in listed:
        table.add_row(*_row(version))
    Console().print(table if listed else "No model is saved here.")


@models.command()
def show(
    name: Name,
    repository: Location,
    version: Chosen = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show where a version comes from: definition, holders, protocol, privacy, ledger, signatures.

    For a fit its table of estimates follows, unless the version is pending.
    With --json the whole card is printed, as it was signed.
    """
    with told():
        store = _open(repository, key_file)
        found, card = store.find(name, _numbered(version)), store.card(name, _numbered(version))
        summary = _summary(store, found)
    if as_json:
        print_json({**found.to_dict(), "card": json.loads(store.card_bytes(found))})
        return
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in {**found.to_dict(), **card["provenance"], "ledger": card["ledger"]}.items():
        table.add_row(f"[bold]{what}[/bold]", value if isinstance(value, str) else json.dumps(value))
    console = Console()
    console.print(table)
    console.print(summary, highlight=False, markup=False, soft_wrap=True)


@models.command()
def verify(  # noqa: PLR0917 - typer makes options of them
    repository: Location,
    name: Annotated[str | None, typer.Argument(help="Only the versions of this model.")] = None,
    trusted: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="A public key that may sign, 64 hexadecimal digits; may be repeated."
        ),
    ] = None,
    remembered: Annotated[
        Path | None, typer.Option(help="What verify --json printed another time.", exists=True)
    ] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Read everything, recompute every hash, signature and log, and name what was changed.

    Ends with status 1 if anything was. Two things a repository cannot prove
    by itself: that its keys are the right ones (pin them with --trusted), and
    that nothing was cut off its end (keep the JSON of a verification, and hand
    it in with --remembered the next time).
    """
    from ..records.verification import verify as verify_store  # noqa: PLC0415

    with told():
        heads = None if remembered is None else _heads(remembered)
        checked = verify_store(_open(repository, key_file), name, trusted=trusted or (), remembered=heads)
    if as_json:
        print_json(checked.to_dict())
    else:
        console = Console()
        console.print(
            str(checked),
            style="green" if checked.ok else "red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if not trusted:
            _ask_whose(console, checked.signed_by, "the cards", "the coordinator")
            _ask_whose(console, checked.logged_by, "the logs", "the repository")
    raise typer.Exit(0 if checked.ok else 1)


@models.command()
def predict(  # noqa: PLR0917 - typer makes options of them
    name: Name,
    rows: Annotated[
        Path, typer.Argument(help="CSV file with a heading: the model's variables.", exists=True)
    ],
    repository: Location,
    version: Chosen = None,
    module: Annotated[
        str | None,
        typer.Option(
            metavar="PACKAGE:NAME",
            help="For a neural network: where its torch module, or a function that makes one, is imported from.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the CSV here, and not to the terminal.")
    ] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Predict for the rows of a CSV file; prints CSV, one line for each row.

    This reads the model on this machine. To have others predict without
    handing out the model, let them ask the repository's actor, with a token:
    federation.repository.predict(name, rows, token=…).
    """
    from ..records.rows import as_csv, as_lists, read_rows  # noqa: PLC0415

    with told():
        architecture = None if module is None else _imported(module)
        predicted = _open(repository, key_file).predict(
            name, read_rows(rows), _numbered(version), architecture
        )
        text = json.dumps(as_lists(predicted)) + "\n" if as_json else as_csv(predicted)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@models.command()
def export(  # noqa: PLR0917 - typer makes options of them
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if it does not exist.")],
    repository: Location,
    version: Chosen = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a version for use elsewhere, with all that proves where it comes from.

    card.json: what it is, as it was signed. arrays.safetensors: its numbers.
    envelope.json: the card with all signatures, as other tools for DSSE
    (in-toto, TUF) read it. inclusion.json: the proof that it is in the log.
    """
    with told():
        files = _open(repository, key_file).files_of(name, _numbered(version))
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            octets = content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()
            (folder / file).write_bytes(octets)
    written = sorted(str(folder / file) for file in files)
    if as_json:
        print_json(written)
    else:
        typer.echo("\n".join(written))


def _open(repository: str, key_file: Path | None) -> ModelStore:
    """Open a repository that is there; a mistyped folder is not made."""
    from ..records.model_store import ModelStore  # noqa: PLC0415
    from ..records.sealing import RepositoryKey  # noqa: PLC0415

    if "://" not in repository and not Path(repository).is_dir():
        raise typer.BadParameter(f"there is no folder {repository}", param_hint="--repository")
    given = RepositoryKey.from_file(key_file) if key_file else RepositoryKey.from_environment(os.environ)
    return ModelStore(repository, repository_key=given)


def _imported(name: str) -> Any:
    """Return the module that a name stands for, or what the function makes that it stands for."""
    package, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--module") from None
    return found if hasattr(found, "state_dict") and not isinstance(found, type) else found()


def _numbered(version: str | None) -> int | str | None:
    return int(version) if version is not None and version.isdecimal() else version


def _ask_whose(console: Console, keys: tuple[str, ...], what: str, who: str) -> None:
    """Say by which keys something is signed: only the user can know whose they are."""
    if keys:
        console.print(f"{what} are signed by {who}, if this is its key (pin it with --trusted):")
    for key in keys:
        console.print(f"  {key}", highlight=False, soft_wrap=True)


def _heads(path: Path) -> dict[str, Head]:
    """Read the heads of an earlier verification."""
    from ..records.errors import RecordError  # noqa: PLC0415
    from ..records.transparency_log import Head  # noqa: PLC0415

    try:
        content = json.loads(path.read_bytes())["heads"]
        return {place: Head(head["size"], head["root"]) for place, head in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RecordError(f"{path} is not what verify --json prints") from None


def _row(version: Version) -> tuple[str, ...]:
    status = "[green]released[/green]" if version.released else "[yellow]pending[/yellow]"
    co_signed = f"{len(version.signatures) - 1} of {version.needed}" if version.needed else ""
    signer = version.signatures[0].key[:16] + "…"
    return version.name, str(version.version), status, co_signed, ", ".join(version.tags), signer


def _summary(store: ModelStore, version: Version) -> str:
    """Return the table of a fit; nothing for what is no fit, or pending."""
    from ..models.errors import ModelError  # noqa: PLC0415
    from ..records.fits import restored_fit  # noqa: PLC0415

    if not version.released:
        return "pending: its numbers are not shown until enough holders have co-signed"
    try:
        return str(restored_fit(store.load(version.name, version.version)).summary())
    except ModelError:
        return ""
