"""The notebook is one that Jupyter and GitHub show, with its outputs, and small; `make notebook` runs its cells."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from house import ROOT

LARGEST = 80_000  # characters
OUTPUTS = {
    "stream": {"output_type", "name", "text"},
    "display_data": {"output_type", "data", "metadata"},
    "execute_result": {"output_type", "data", "metadata", "execution_count"},
}
CELLS = {
    "markdown": {"cell_type", "id", "metadata", "source"},
    "code": {"cell_type", "id", "metadata", "source", "execution_count", "outputs"},
}


def written() -> str:
    return (ROOT / "examples" / "joint_training.ipynb").read_text(encoding="utf-8")


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(written())["cells"] if cell["cell_type"] == "code"]


def outputs() -> list[dict[str, Any]]:
    return [output for cell in code_cells() for output in cell["outputs"]]


def is_text(lines: Any) -> bool:
    """Multiline texts are lists of lines, each of which but the last ends."""
    return all(isinstance(line, str) for line in lines) and all(line.endswith("\n") for line in lines[:-1])


def test_notebook_is_of_format_4_5() -> None:
    notebook = json.loads(written())
    assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        assert cell.keys() == CELLS[cell["cell_type"]]
        assert is_text(cell["source"])
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)


def test_outputs_are_of_format_4_5() -> None:
    for output in outputs():
        assert output.keys() == OUTPUTS[output["output_type"]]
        texts = [output["text"]] if output["output_type"] == "stream" else [output["data"]["text/plain"]]
        assert all(map(is_text, texts))


def test_cells_were_run_once_in_their_order() -> None:
    assert [cell["execution_count"] for cell in code_cells()] == list(range(1, len(code_cells()) + 1))


def test_notebook_is_small_and_names_no_folder_of_the_machine_that_ran_it() -> None:
    assert len(written()) < LARGEST
    assert re.search(r"[\"' ]/(home|root|tmp|work|Users|usr)/", written()) is None


def test_cells_are_python_without_commands_of_a_notebook_s_own() -> None:
    for cell in code_cells():
        ast.parse("".join(cell["source"]))
