"""``python -m tacit run``: the study's question, asked of all parties that have joined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .telling import AsJson, Certificates, print_json, told

StudyFile = Annotated[Path, typer.Argument(help="The study, as at every party.", metavar="STUDY.TOML")]


def run(
    study: StudyFile,
    name: Annotated[
        str | None,
        typer.Option("--save", metavar="NAME", help="Store the model in the repository under a name."),
    ] = None,
    certificates: Certificates = None,
    as_json: AsJson = False,
) -> None:
    """Carry out a study: show progress, print the summary, and store the model.

    Run it on a machine of the cluster, the coordinator's as a rule, once the
    parties have joined; or as a job, `ray job submit -- python -m tacit run
    STUDY.TOML`. A holder whose policy is against it is named, with the rule.
    """
    from .. import SetupError, connect  # noqa: PLC0415 - Ray takes a second

    with told(), connect(study, certificates=certificates) as federation:
        if name is not None and federation.study.analysis.kind == "Sum":
            raise SetupError("a sum is no model that could be stored: leave --save out")
        result = federation.run()
        version = None if name is None else federation.repository.save(result, name)
    if as_json:
        print_json({"result": _as_data(result), "version": version})
        return
    summary = result.summary() if hasattr(result, "summary") else result
    Console().print(str(summary), markup=False, highlight=False, soft_wrap=True)
    if version is not None:
        typer.echo(f"stored as {name}, version {version}")


def _as_data(result: Any) -> Any:
    """Return a fit's numbers, or a sum, as JSON-able data; floats with all of their digits."""
    return result.to_dict() if hasattr(result, "to_dict") else result.tolist()
