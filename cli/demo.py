"""``python -m tacit demo``: three sites, one Poisson likelihood, and who learned what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .telling import AsJson, print_json, told

if TYPE_CHECKING:
    from ..actors.events import Event
    from ..models.fit import Fit


def demo(
    key_bits: Annotated[
        int, typer.Option(min=2048, max=8192, help="Length of the coordinator's Paillier modulus.")
    ] = 3072,
    masks: Annotated[
        bool, typer.Option("--masks/--no-masks", help="Whether holders add pairwise masks in the ring.")
    ] = True,
    fresh_keys: Annotated[
        bool,
        typer.Option("--fresh-keys", help="Make new keys for every pass: slower, and more to be sure of."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit one rate to 40 counts that three sites hold and never show.

    The counts are those of the vignette of R's homomorpheR; R's answer for the pooled data is
    lambda = 9.175 with standard error 0.4789311. Every site is a process of its own. A coordinator
    sends an encrypted total round the ring of sites; each adds its own likelihood, score and
    information; only the sums are ever decrypted.
    """
    console = Console(quiet=as_json)
    console.print("[bold]tacit[/bold]: three sites, one Poisson likelihood, no shared row\n")
    from .. import MaximumLikelihood, RingPaillier, simulate  # noqa: PLC0415 - Ray takes a second
    from ..models.poisson import poisson_nll, poisson_sites  # noqa: PLC0415

    sites = poisson_sites()
    protocol = RingPaillier(key_bits=key_bits, masks=masks, fresh_keys=fresh_keys)
    model = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
    with told(), simulate(sites, protocol=protocol) as federation:
        console.print(_parties({name: len(counts) for name, counts in sites.items()}, key_bits))
        console.print("\nPasses round the ring, as they happen:")
        with console.status("the total goes round …"):
            fit = federation.fit(model, on_event=lambda event: _show(console, event))
        n_sums = len(federation.ledger)
    if as_json:
        print_json({"result": fit.to_dict(), "sums": n_sums, "trust": str(protocol.trust)})
        return
    console.print(f"\n{_as_r_prints(fit)}\n", highlight=False, markup=False, soft_wrap=True)
    console.print(_who_learned_what(n_sums, str(protocol.trust)))


def _parties(rows: dict[str, int], key_bits: int) -> Table:
    """Who takes part, and what each has that nobody else has."""
    table = Table("party", "role", "keeps to itself", title="The parties", title_justify="left")
    for name, count in rows.items():
        table.add_row(name, "data holder", f"{count} counts")
    table.add_row("coordinator", "opens sessions, decrypts sums", f"the {key_bits}-bit Paillier key")
    table.add_row("repository", "stores results and the ledger", "nothing")
    return table


def _show(console: Console, event: Event) -> None:
    """One line for every pass, and one for every step of the iteration."""
    from ..actors.events import Iterated, Pass  # noqa: PLC0415

    if isinstance(event, Pass):
        released = ", ".join(event.released) or "nothing: some holder cannot evaluate this point"
        console.print(
            f"  pass {event.number}: {event.seconds * 1000:5.0f} ms, sums of [cyan]{released}[/cyan] "
            f"over {len(event.holders)} holders",
            highlight=False,
        )
    elif isinstance(event, Iterated) and event.parameters is not None and math.isfinite(event.value):
        console.print(
            f"          lambda = [bold]{event.parameters[0]:.9g}[/bold], -log L = {event.value:.9g}",
            highlight=False,
        )


def _as_r_prints(fit: Fit) -> str:
    from ..models.summary import r_style  # noqa: PLC0415

    return r_style(fit)


def _who_learned_what(n_sums: int, trust: str) -> Table:
    """What each party has seen, as the protocol has it."""
    table = Table("party", "learned", title="Who learned what", title_justify="left")
    table.add_row(
        "each site", "the values of lambda it was asked at, which follow from the sums; nothing else"
    )
    table.add_row(
        "coordinator", f"the totals of {n_sums} passes (every one is in the ledger); no site's own value"
    )
    table.add_row("repository, network", "the same totals; sealed frames")
    table.add_section()
    table.add_row("trust", trust)
    return table
