"""Arithmetic of expressions in formulas: what is computed from missing values is missing.

Numbers are float64 with NaN for what is missing, truth values 0 and 1, texts objects with None.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from .columns import Numbers
from .errors import DataError

Value: TypeAlias = Any  # Numbers, Texts, a float or text, or the several columns of a transform


def is_text(value: Value) -> bool:
    """Tell whether a value is a text or a column of levels, not of numbers."""
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == object)


def is_missing(value: Value) -> Any:
    """Return which values are missing."""
    if isinstance(value, str):
        return False
    if is_text(value):
        return np.array([item is None for item in value], dtype=np.bool_)
    return np.isnan(value)


def as_numbers(value: Value, text: str) -> Numbers:
    """Return a value as numbers; DataError, naming the expression, if it is text."""
    if is_text(value):
        raise DataError(f"{text!r} needs numbers, and the rows have text: compare it, I(column == 'yes')")
    return np.asarray(value, dtype=np.float64)


def compared(function: Callable[[Any, Any], Any], left: Value, right: Value, text: str) -> Numbers:
    """Return a comparison of numbers, or whether texts are equal.

    Raises
    ------
    DataError
        If text is compared with numbers, or asked which is less.
    """
    missing = np.logical_or(is_missing(left), is_missing(right))
    if not is_text(left) and not is_text(right):
        return np.where(missing, np.nan, function(left, right))
    if function not in {operator.eq, operator.ne}:
        raise DataError(f"{text!r} asks which text is less: compare texts by == and != only")
    if is_text(left) == is_text(right):
        equal = np.asarray(np.equal(left, right, dtype=object), dtype=np.bool_)
    elif np.all(missing):  # a column without any value may be one of text
        equal = np.zeros_like(missing)
    else:
        raise DataError(f"{text!r} compares text with numbers")
    return np.where(missing, np.nan, equal if function is operator.eq else ~equal)


def both(*values: Numbers) -> Numbers:
    """Return where all values are true."""
    return _known(reduce(np.logical_and, [value != 0 for value in values]), *values)


def _either(*values: Numbers) -> Numbers:
    return _known(reduce(np.logical_or, [value != 0 for value in values]), *values)


def _not(value: Numbers) -> Numbers:
    return _known(value == 0, value)


def _where(condition: Numbers, chosen: Numbers, other: Numbers) -> Numbers:
    return _known(np.where(condition != 0, chosen, other), condition)


def _known(result: Any, *operands: Numbers) -> Numbers:
    return np.where(reduce(np.logical_or, map(np.isnan, operands)), np.nan, result)


def _power(base: Numbers, exponent: Numbers) -> Numbers:
    return _known(np.power(base, exponent), base, exponent)  # to numpy a missing value to the power 0 is 1


def _exp10(x: Numbers) -> Numbers:
    return np.power(10.0, x)


UNARY: Mapping[type[ast.unaryop], Callable[..., Numbers]] = {
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Invert: _not,
    ast.Not: _not,
}
BINARY: Mapping[type[ast.operator], Callable[..., Numbers]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: _power,
    ast.BitAnd: both,
    ast.BitOr: _either,
}
LOGICAL: Mapping[type[ast.boolop], Callable[..., Numbers]] = {ast.And: both, ast.Or: _either}
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

_ONE_ARGUMENT = (
    "log log10 log2 log1p exp exp2 expm1 sqrt cbrt square abs sign floor ceil sin cos tan arcsin arccos arctan "
    "sinh cosh tanh"
)
FUNCTIONS: Mapping[str, tuple[Callable[..., Numbers], int]] = {
    **{name: (getattr(np, name), 1) for name in _ONE_ARGUMENT.split()},
    **{name: (getattr(np, name), 2) for name in ("minimum", "maximum")},
    "power": (_power, 2),
    "exp10": (_exp10, 1),
    "where": (_where, 3),
}
