"""Categorical factors as a formula writes them: ``C(column, Treatment("B"), levels=["A", "B"])``."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any

from .errors import ModelError
from .expression import literal
from .level_table import Level

_CONTRASTS = {
    "Treatment": {"Treatment", "contr.treatment"},
    "SAS": {"contr.SAS", "contr.sas"},
    "Sum": {"Sum", "contr.sum"},
    "Helmert": {"Helmert", "contr.helmert"},
    "Diff": {"Diff", "contr.diff"},
    "Poly": {"Poly", "contr.poly"},
}


def declared_levels(levels: Any, text: str) -> tuple[Level, ...]:
    """Check declared levels: a list of different texts or numbers.

    Raises
    ------
    ModelError
        If they are anything else.
    """
    if hasattr(levels, "tolist"):  # an array, an index
        levels = levels.tolist()
    if isinstance(levels, str) or not isinstance(levels, Sequence):
        raise ModelError(f"the levels of {text!r} are no list, for instance ['low', 'high']")
    plain = tuple(level.item() if hasattr(level, "item") else level for level in levels)
    plain = tuple(int(level) if isinstance(level, float) and level.is_integer() else level for level in plain)
    if not plain or not all(isinstance(level, str | bool | int | float) for level in plain):
        raise ModelError(f"the levels of {text!r} are texts or numbers, one at least")
    if any(isinstance(level, float) and not math.isfinite(level) for level in plain):
        raise ModelError(f"the levels of {text!r} are finite")
    if len(set(plain)) < len(plain) or len({isinstance(level, str) for level in plain}) > 1:
        raise ModelError(f"the levels of {text!r} are not all different, or mix texts and numbers")
    return plain


def read_categorical(node: ast.Call, text: str) -> tuple[tuple[Level, ...] | None, Any]:
    """Read ``C(expression, contrasts, levels=[...])``: declared levels, if there are any, and formulaic's contrasts.

    Raises
    ------
    ModelError
        If levels or contrasts are none.
    """
    given = {str(keyword.arg): keyword.value for keyword in node.keywords}
    if len(node.args) == 2:
        given["contrasts"] = node.args[1]
    if len(node.args) not in {1, 2} or not set(given) <= {"contrasts", "levels"}:
        raise ModelError(f"{text!r} is none of C(column), C(column, contrasts), C(column, levels=[...])")
    levels = declared_levels(literal(given["levels"], text), text) if "levels" in given else None
    return levels, _read_contrasts(given["contrasts"], text) if "contrasts" in given else contrasts()


def contrasts(kind: str = "Treatment", *arguments: Any, **named: Any) -> Any:
    """Return formulaic's contrasts; by default those against the first level.

    Raises
    ------
    ModelError
        If they do not take these arguments.
    """
    from formulaic.transforms import contrasts as formulaic_contrasts  # noqa: PLC0415

    if kind == "Treatment" and "reference" in named:  # patsy's word
        named["base"] = named.pop("reference")
    try:
        return getattr(formulaic_contrasts, f"{kind}Contrasts")(*arguments, **named)
    except (TypeError, ValueError, IndexError) as error:
        raise ModelError(f"the contrasts {kind} cannot be used as they are written: {error}") from None


def _read_contrasts(node: ast.expr, text: str) -> Any:
    """Read ``Treatment("B")``, ``contr.sum``, or weights as a list or mapping."""
    arguments: list[Any] = []
    named: dict[str, Any] = {}
    if isinstance(node, ast.List | ast.Dict | ast.Tuple):
        return contrasts("Custom", literal(node, text))
    if isinstance(node, ast.Call):
        arguments = [literal(value, text) for value in node.args]
        named = {str(keyword.arg): literal(keyword.value, text) for keyword in node.keywords}
        node = node.func
    if isinstance(node, ast.Name | ast.Attribute):
        for kind, written in _CONTRASTS.items():
            if ast.unparse(node) in written:
                return contrasts(kind, *arguments, **named)
    known = sorted(set().union(*_CONTRASTS.values()))
    raise ModelError(
        f"{ast.unparse(node)} in {text!r} is no contrast: {', '.join(known)}, or weights as a list"
    )
