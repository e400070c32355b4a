"""Figures beside their rivals, measured in one run: ``python -m benchmarks ring``, from the root."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .measure import Figure, Section, write

application = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)
console = Console()


class Part(StrEnum):
    """Parts of the benchmark of the ring."""

    ARITHMETIC = "arithmetic"
    FIT = "fit"
    LATENCY = "latency"


@application.callback()
def benchmarks() -> None:
    """Tell how fast tacit is, and against what.

    Every figure stands beside that of a rival, measured in the same minutes on the same inputs: they take
    turns, and a figure is the median over the turns. **Close other programs first.**
    """


Quick = Annotated[bool, typer.Option("--quick", help="Fewer turns and holders: a look, not a measurement.")]
Output = Annotated[Path, typer.Option(help="Where to write all figures as JSON.")]
DEFAULT_OUTPUT = Path("build/benchmarks.json")


@application.command()
def ring(
    only: Annotated[Part | None, typer.Option(help="Run one part alone.")] = None,
    quick: Quick = False,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Measure the ring of holders under Paillier encryption.

    - **arithmetic** (two minutes): encryption, addition and decryption of 10,000 doubles against a loop over
      phe, at 2048 and 3072 bits, on one thread.
    - **fit** (two minutes): a whole Poisson fit on Ray against the ancestor's scheme, which takes 29 function
      values, each once round a ring.
    - **latency** (three minutes): one pass over 3, 10 and 30 holders against the same hops between bare Ray
      actors, and against its own computing.

    Read *times* as how many times faster than the rival, 1/14 as 14 times slower. Where something is
    demanded, the line says whether it is *met* or *missed*.

        python -m benchmarks ring --only arithmetic --quick
    """
    parts = [only] if only else list(Part)
    _run([part.value for part in parts], output, quick=quick)


@application.command()
def masks(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure pairwise masking (four minutes): its masks against bare AES-CTR, its steps against Flower.

    - the masks alone: nanoseconds of one thread's processor time per element and neighbour, beside AES-CTR, an
      addition and a copy, for words of 32 and 64 bits and for wide integers; growth with the length; two threads
      on one vector.
    - the steps of a sum, with holders lost: against Flower's SecAgg+ on the same vectors from a file. Flower is
      installed from PyPI into an environment of its own, below build/, when it is not there yet; most of the time
      is spent in it.
    """
    _run(["masks", "masking_sums"], output, quick=quick)


@application.command()
def rounds(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure a whole secure round on Ray (four minutes): against the plain one, in which actors return arrays.

    Ten holders with a million float32 each, under pairwise masking, secret sharing and additive sharing, in rounds
    of an epoch that is set up. What is plain has no secrets, no checks, and nothing but an addition to compute.
    """
    _run(["rounds"], output, quick=quick)


@application.command()
def scale(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure growth (half an hour): from 3 to 1,000 holders, from 10^3 to 10^7 values, and the two largest sums.

    These are 1,000 holders with 10^5 values each, and 3 holders with 10^8 words of 64 bits each; all on this
    machine, which needs 24 GiB for them. With --quick up to 30 holders and 10^5 values.
    """
    _run(["scale"], output, quick=quick)


@application.command()
def aggregators(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure additive sharing (half a minute): what a holder and an aggregator compute, against bare AES-CTR.

    In nanoseconds of processor time per element of the vector, for words of 32 and 64 bits.
    """
    _run(["aggregators"], output, quick=quick)


@application.command()
def shares(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure the arithmetic of secret sharing (two minutes): against MPyC, on the same vector from a file.

    MPyC is installed from PyPI into an environment of its own, below build/, when it is not there yet. Sharing,
    reconstruction and the correction of wrong shares, in nanoseconds of one thread's processor time per secret.
    """
    _run(["shares"], output, quick=quick)


@application.command()
def training(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure trainings of the digits over ten holders (twenty minutes), beside plain sums and Flower.

    - a round: against the same training whose sums are plain, actor by actor, and in Flower's simulation under
      SecAgg+ and in the clear; in seconds and in bytes. Flower and torch are installed from PyPI into an environment
      of their own, below build/, when they are not there yet.
    - the accuracy: against the same network trained on all pictures in one place.
    - the coordinator's memory: for a network of seven million parameters, in times its size.

    Needs tacit[torch] and scikit-learn.
    """
    _run(["training", "training_memory"], output, quick=quick)


@application.command()
def soak(quick: Quick = False, output: Output = DEFAULT_OUTPUT) -> None:
    """Measure what stays behind (twenty minutes): thousands of sessions in a row with random kills, and more.

    - **deployed**: a thousand with kills, and a thousand without, over a study whose parties have joined on this
      machine, with all that they keep on disk. Who is killed comes back by itself; all ledgers agree.
    - **with kills**: in a simulation, a thousand under pairwise masking, 300 in the ring of Paillier. Holders,
      coordinator and repository are killed at random; every sum is the right one over all who live, or a typed error
      for a death.
    - **undisturbed**: a thousand more under masking.

    Resident memory, open files and threads of every process after its first hundred sessions and at its end; actors,
    stored bytes and references. **Ends with an exit code of 1 if a limit is missed.**
    """
    sections = _run(["soak"], output, quick=quick)
    if any(figure.met is False for section in sections for figure in section.figures):
        raise typer.Exit(1)


def _run(names: Sequence[str], output: Path, *, quick: bool) -> list[Section]:
    """Run modules of this folder, each imported when its turn comes, and show each section as it is finished."""
    sections: list[Section] = []
    for name in names:
        for section in import_module(f"{__package__}.{name}").sections(quick=quick, say=_say):
            _show(section)
            sections.append(section)
            write(output, sections, {"quick": quick, "parts": list(names)})
    console.print(f"written to {output}")
    return sections


def _say(progress: str) -> None:
    console.print(progress, style="dim")


def _show(section: Section) -> None:
    """Print a section as a table, its remarks below."""
    table = Table(title=section.title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for heading in ("tacit", section.rival, "times"):
        table.add_column(heading, justify="right")
    table.add_column("target")
    table.add_column("how", style="dim")
    for figure in section.figures:
        ours, rival = (_amount(value, figure.unit) for value in (figure.ours, figure.rival))
        table.add_row(figure.what, ours, rival, _times(figure.times), _target(figure), figure.note)
    console.print()
    console.print(table)
    for remark in section.remarks:
        console.print(f"· {remark}", style="dim", highlight=False)
    console.print()


def _amount(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.4g} {unit}"


def _times(times: float | None) -> str:
    """Show how many times faster; as a fraction if it is slower."""
    if times is None:
        return ""
    return f"{times:,.3g}×" if times >= 1 else f"1/{1 / times:,.3g}"


def _target(figure: Figure) -> str:
    if figure.met is None:
        return ""
    wanted = f"≥ {figure.target:g}×" if figure.target is not None else f"≤ {figure.limit:,.4g} {figure.unit}"
    return f"{wanted} {'[green]met[/]' if figure.met else '[red]missed[/]'}"


if __name__ == "__main__":
    application(prog_name="python -m benchmarks")
