"""The levels of categorical factors: what a holder tells of them, and what all agree on.

Each level is a key of the level table with its position among the holder's categories, if it has them; a column of
numbers is a key of its own. So one sum tells which factors are categorical, their levels and an order of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .categorical import declared_levels
from .columns import Frame
from .design_schema import Schema
from .errors import DataError, ModelError
from .formula import Factor, Formula
from .formula_functions import is_missing, is_text
from .level_table import LONGEST_KEY, Key, Level, key_length

_NUMBERS = -2  # stands for a position in the key of a column of numbers


def all_declared_levels(
    formula: Formula, levels: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[Level, ...]]:
    """Return the declared levels by the factors' texts; a column's name stands for ``C(name)`` too."""
    result = {
        factor.text: tuple(factor.levels) for factor in formula.factors.values() if factor.levels is not None
    }
    for name, values in levels.items():
        matching = [
            factor.text
            for factor in formula.factors.values()
            if factor.text == name or (factor.kind == "levels" and factor.expression.column == name)
        ]
        if not matching:
            raise ModelError(f"levels= names {name!r}, which is no factor of {formula.text!r}")
        result |= dict.fromkeys(matching, declared_levels(values, name))
    return result


def keys_of(number: int, factor: Factor, frame: Frame, schema: Schema) -> list[Key]:
    """Return a holder's keys of one factor: the levels in its rows, or that it has numbers.

    Parameters
    ----------
    number : int
        The factor's number in the table.
    factor : Factor
        One whose levels are not declared.
    frame : Frame
        The holder's rows without those that lack a value.
    schema : Schema
        The formula's, levels and states still open.
    """
    values = schema.values(factor, frame)
    present = values[~is_missing(values)]
    if not is_text(values):
        return [(number, _NUMBERS, 0)] if len(present) else []
    name = factor.expression.column
    order = {} if name is None else {level: place for place, level in enumerate(frame.categories(name))}
    return [(number, order.get(level, -1), level) for level in dict.fromkeys(present.tolist())]


def check_lengths(keys: Sequence[Key], factors: Sequence[Factor]) -> None:
    """Check that the table has room for each key.

    Raises
    ------
    DataError
        If a level is too long for it; the error names the factor.
    """
    for key in keys:
        if key_length(key) > LONGEST_KEY:
            text = factors[key[0]].text
            raise DataError(
                f"{text!r} has a level that is too long to be agreed on: declare its levels by "
                f"levels={{{text!r}: [...]}}, or make them shorter"
            )


def agreed_levels(factor: Factor, keys: Sequence[Key]) -> tuple[Level, ...] | None:
    """Return a factor's levels in their order, or None if it is numerical.

    The order is that of the holders' categories, where every level has one place in them and no other level the same;
    else the levels are sorted.

    Raises
    ------
    ModelError
        If it has no value or only one level, or is text at some holders and numbers at others.
    """
    if not keys:
        raise ModelError(f"no holder has a row with a value of {factor.text!r} and of everything else")
    are_texts = {isinstance(level, str) for _, position, level in keys if position != _NUMBERS}
    are_numbers = any(position == _NUMBERS for _, position, _ in keys)
    if len(are_texts) + are_numbers > 1:
        raise ModelError(
            f"{factor.text!r} is text at some holders and numbers at others: "
            f"make it one kind, or take C({factor.text}) of numbers everywhere"
        )
    if are_numbers:
        return None
    levels = {level for _, _, level in keys}
    if len(levels) == 1:
        raise ModelError(f"{factor.text!r} has the same level everywhere: leave it out")
    places = {(position, level) for _, position, level in keys if position >= 0}
    if len(places) == len(levels) == len({position for position, _ in places}):
        return tuple(level for _, level in sorted(places, key=lambda place: place[0]))
    return tuple(sorted(levels))
