"""Formulas as R and statsmodels write them, checked before anything is computed.

formulaic reads the operators (``+ : * / ^ - %in%``); each factor between them is an expression of
`expression`, or ``C(expression, contrasts, levels=[...])``. A formula is data: it holds no code.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .categorical import contrasts, read_categorical
from .errors import ModelError
from .expression import Expression, column_expression, compile_expression, parse
from .level_table import Level

FactorKind: TypeAlias = Literal["numbers", "levels", "column"]

_LONGEST = 10_000  # characters; what is longer is no formula a person wrote
_MOST_PRODUCTS = 50_000  # formed in three seconds


@dataclass(frozen=True)
class Factor:
    """One factor of the right-hand side.

    Attributes
    ----------
    text : str
        As formulaic writes it; columns are named after it.
    kind : {"numbers", "levels", "column"}
        Whether it is numerical or categorical; of a bare column the data decide.
    expression : Expression
        Its values.
    contrasts : Any
        Those of formulaic that encode it if it is categorical.
    levels : sequence of Level or None
        Those declared in ``C(..., levels=[...])``.
    """

    text: str
    kind: FactorKind
    expression: Expression
    contrasts: Any
    levels: Sequence[Level] | None = None


@dataclass(frozen=True)
class Formula:
    """A formula, for instance ``"breaks ~ wool * tension"`` or ``"cbind(n, total - n) ~ np.log(dose)"``.

    Parameters
    ----------
    text : str
        What R, patsy or formulaic users write. On the left one expression, or for counts of successes and failures
        ``cbind(a, b)`` or ``a + b``. ``offset(...)`` may stand among the terms.

    Raises
    ------
    ModelError
        If it cannot be read, or holds anything but columns, arithmetic, comparisons and listed functions.
    """

    text: str

    def __post_init__(self) -> None:
        _read(self.text)

    @property
    def response(self) -> tuple[Expression, ...]:
        """The left-hand side: one expression, or successes and failures."""
        return _read(self.text).response

    @property
    def factors(self) -> Mapping[str, Factor]:
        """The factors of the right-hand side by their texts, in order of appearance."""
        return _read(self.text).factors

    @property
    def offsets(self) -> tuple[Expression, ...]:
        """What stands in ``offset(...)``."""
        return _read(self.text).offsets

    @property
    def terms(self) -> Any:
        """The terms of the right-hand side as formulaic has them, without offsets."""
        return _read(self.text).terms


@dataclass(frozen=True)
class _Content:
    response: tuple[Expression, ...]
    factors: Mapping[str, Factor]
    offsets: tuple[Expression, ...]
    terms: Any


def expression(text: str) -> Expression:
    """Check an expression that stands outside a formula: an offset, weights.

    Raises
    ------
    ModelError
        As for a formula; also if it makes several columns.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ModelError(
            f"an offset or weights are a column's name or an expression, not {type(text).__name__}"
        )
    return _single(text, *parse(text))


@functools.lru_cache(maxsize=256)
def _read(text: str) -> _Content:
    left, terms = _sides(text)
    offsets = _take_offsets(terms)
    factors = {
        factor.expr: _factor(factor)
        for term in terms
        for factor in term.factors
        if factor.eval_method.value != "literal"
    }
    if "Intercept" in factors:
        raise ModelError("a column called 'Intercept' cannot be told from the constant: rename it")
    return _Content(_response(left, text), factors, offsets, terms)


def _sides(text: str) -> tuple[list[Any], Any]:
    """Return the factors of the left side and the terms of the right side, as formulaic parses them."""
    import formulaic  # noqa: PLC0415  # a second: only those who use formulas pay it
    from formulaic.errors import FormulaicError  # noqa: PLC0415
    from formulaic.parser import DefaultFormulaParser  # noqa: PLC0415

    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ModelError(f"a formula is a text like 'y ~ a + b', not {type(text).__name__}")
    try:
        parser = DefaultFormulaParser()
        _check_backticks(parser.get_tokens(text))
        too_long = _n_products(parser.get_ast(text)) > _MOST_PRODUCTS
        formula = None if too_long else formulaic.Formula(text)
    except (FormulaicError, SyntaxError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        if "`.` operator" in reason:
            reason = "'.' stands for all columns of a table that nobody has: name them"
        if type(error) is SyntaxError:  # Python's own words say neither where nor what to do
            reason = (
                "a term is a column, or one call of a function such as I(x / 2) or np.log(x); "
                "a column's name that is no plain word stands in backticks"
            )
        raise ModelError(f"the formula {text!r} cannot be read: {reason}") from None
    if too_long:
        raise ModelError(f"the formula {text!r} expands into too many terms: write fewer interactions")
    left, right = getattr(formula, "lhs", None), getattr(formula, "rhs", None)
    if not isinstance(left, formulaic.SimpleFormula) or not isinstance(right, formulaic.SimpleFormula):
        raise ModelError(f"the formula {text!r} has not the form 'response ~ terms'")
    if any(len(term.factors) != 1 for term in left):
        raise ModelError(f"the left-hand side of {text!r} has an interaction: wrap arithmetic in I(...)")
    return [factor for term in left for factor in term.factors], right


def _check_backticks(tokens: Iterable[Any]) -> None:
    """Refuse a column in backticks that formulaic takes for the number or the call of the same text.

    ``y ~ x + `1` `` would have no column ``1``, and `` `np.log(x)` + np.log(x)`` only one of the two.
    """
    names: set[str] = set()
    others = {"1"}
    for token in tokens:
        (names if token.kind.value == "name" else others).add(token.token)
    if both := sorted(names & others):
        raise ValueError(f"the column `{both[0]}` cannot be told from what it says: write Q({both[0]!r})")


def _n_products(node: Any) -> int:
    """Return how many products of factors formulaic forms, at most, when it expands a syntax tree.

    Forty letters, ``(a + b + ... + l)**6``, keep it busy for a minute and a half; a holder must not be kept so.
    """
    if not hasattr(node, "args"):  # a factor, or the number of a power
        return 1
    symbol = node.operator.symbol
    numbers = [_n_products(argument) for argument in node.args]
    if symbol in {"**", "^"}:
        exponent = str(node.args[1])  # formulaic also takes 1_000 and 0x10
        if not re.fullmatch("[1-9][0-9]?", exponent):
            raise ValueError("a power is a number from 1 to 99")
        total = int(numbers[0] ** int(exponent))
    else:
        total = sum(numbers)
        total += 0 if symbol in {"~", "+", "-"} else math.prod(numbers)
    return min(total, _MOST_PRODUCTS + 1)


def _response(factors: Sequence[Any], text: str) -> tuple[Expression, ...]:
    """Return the one expression of the left side, or the two of counts."""
    if len(factors) == 1 and (call := _call_of(factors[0], "cbind")) is not None:
        node, names = call
        parts = [_single(ast.unparse(argument), argument, names) for argument in node.args]
        if len(parts) != 2 or node.keywords:
            raise ModelError(f"{factors[0].expr!r} is not cbind(successes, failures)")
        return tuple(parts)
    if len(factors) not in {1, 2}:
        raise ModelError(f"the left-hand side of {text!r} is neither one expression nor successes + failures")
    return tuple(_one_column(_expression(factor)) for factor in factors)


def _take_offsets(terms: Any) -> tuple[Expression, ...]:
    """Take the terms ``offset(...)`` out of the others."""
    offsets = []
    for index in reversed(range(len(terms))):
        factors = terms[index].factors
        call = _call_of(factors[0], "offset") if len(factors) == 1 else None
        if call is not None and len(call[0].args) == 1:
            offsets.append(_single(factors[0].expr, call[0].args[0], call[1]))
            del terms[index]
    return tuple(reversed(offsets))


def _expression(factor: Any) -> Expression:
    """Return the expression of one of formulaic's factors."""
    if factor.eval_method.value == "lookup":
        return column_expression(factor.expr)
    return compile_expression(factor.expr, *parse(factor.expr))


def _single(text: str, node: ast.expr, names: Mapping[str, str]) -> Expression:
    return _one_column(compile_expression(text, node, names))


def _one_column(found: Expression) -> Expression:
    if found.several_columns:
        raise ModelError(f"{found.text!r} makes several columns, where one is needed")
    return found


def _call_of(factor: Any, name: str) -> tuple[ast.Call, Mapping[str, str]] | None:
    """Return the call that a factor is, if it is one of the named function."""
    if factor.eval_method.value != "python":
        return None
    node, names = parse(factor.expr)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
        return node, names
    return None


def _factor(factor: Any) -> Factor:
    if (call := _call_of(factor, "C")) is not None:
        node, names = call
        levels, chosen = read_categorical(node, factor.expr)
        return Factor(factor.expr, "levels", _single(factor.expr, node.args[0], names), chosen, levels)
    found = _expression(factor)
    kind: FactorKind = "numbers" if found.column is None else "column"
    return Factor(factor.expr, kind, found, contrasts())
