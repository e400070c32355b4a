"""All commands, one file each."""

from __future__ import annotations

import typer

from .approve import approve
from .attack import attack
from .audit import audit
from .demo import demo
from .doctor import doctor
from .join import join
from .keys import keys
from .models import models
from .run import run
from .status import status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "tacit: joint statistics for parties who cannot show each other their data.\n\n"
        "Every number that leaves a data holder goes out as a message of a secure aggregation protocol, so the "
        "coordinator learns the sum and nothing else.\n\nStart with [bold]python -m tacit demo[/bold]."
    ),
)
app.command(name="demo")(demo)
app.command(name="doctor")(doctor)
app.command(name="join")(join)
app.command(name="run")(run)
app.command(name="status")(status)
app.command(name="attack")(attack)
app.command(name="approve")(approve)
app.command(name="audit")(audit)
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
