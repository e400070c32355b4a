"""Expressions in formulas: arithmetic on columns, and nothing else.

A formula travels to the holders, so it must not be code. An expression is read as Python's grammar and
compiled node by node to functions of this file; a name is always a column, a call always one of `FUNCTIONS` or
`TRANSFORMS`, and whatever is not listed is refused. Nothing is ever given to `eval`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .columns import Frame, Numbers
from .errors import ModelError
from .formula_functions import (
    BINARY,
    COMPARISONS,
    FUNCTIONS,
    LOGICAL,
    UNARY,
    Value,
    as_numbers,
    both,
    compared,
)
from .transforms import TRANSFORMS, State, Transform


@dataclass(frozen=True)
class Scope:
    """What an expression is evaluated on.

    Attributes
    ----------
    frame : Frame
        The rows.
    states : mapping of str to State
        The agreed states of transforms; one without a state passes its argument through, missing values and all.
    """

    frame: Frame
    states: Mapping[str, State] = field(default_factory=dict)


Evaluation: TypeAlias = Callable[[Scope], Value]


@dataclass(frozen=True)
class TransformCall:
    """A transform in an expression: which, of what, and the transforms within its argument."""

    transform: Transform
    argument: Evaluation
    inner: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """An expression that has been checked.

    Attributes
    ----------
    text : str
        As formulaic writes it: the name of its column in the design.
    evaluate : callable
        Its value in a scope.
    column : str or None
        The column's name if the expression is nothing but a column.
    boolean : bool
        Are its values truth values, whatever the data?
    transforms : mapping of str to TransformCall
        Those in it by their text, inner ones first.
    columns : frozenset of str
        All that it reads of the rows.
    """

    text: str
    evaluate: Evaluation
    column: str | None = None
    boolean: bool = False
    transforms: Mapping[str, TransformCall] = field(default_factory=dict)
    columns: frozenset[str] = frozenset()

    @property
    def several_columns(self) -> bool:
        """Whether its value is several columns."""
        return any(call.transform.several_columns for call in self.transforms.values())

    def value(self, scope: Scope) -> Value:
        """Return its value, whatever it is, without numpy's warnings."""
        with np.errstate(all="ignore"):
            return self.evaluate(scope)

    def numbers(self, scope: Scope) -> Numbers:
        """Return its values, shape (n,); DataError if they are text."""
        return np.broadcast_to(as_numbers(self.value(scope), self.text), (len(scope.frame),)).copy()


def column_expression(name: str) -> Expression:
    """Return the expression that is a column, of any name."""
    return Expression(name, lambda scope: scope.frame.column(name), column=name, columns=frozenset({name}))


def compile_expression(text: str, node: ast.expr, names: Mapping[str, str]) -> Expression:
    """Compile a node of `parse`.

    Raises
    ------
    ModelError
        If it holds anything but columns, numbers, texts, operators and listed functions.
    """
    compiler = _Compiler(text, names)
    try:
        evaluate = compiler.compile(node, outermost=True)
    except RecursionError:
        raise ModelError("an expression is nested too deeply") from None
    return Expression(
        text,
        evaluate,
        compiler.column_of(node),
        _is_boolean(node),
        compiler.transforms,
        frozenset(compiler.columns),
    )


def parse(text: str) -> tuple[ast.expr, Mapping[str, str]]:
    """Read an expression as Python's grammar has it, columns in backticks besides.

    Returns
    -------
    node : ast.expr
    names : mapping of str to str
        The columns that stood in backticks, by the names that the node has instead.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        if match[1] is None:  # a text, whatever stands in it
            return match[0]
        name = f"_column_{len(names)}_"
        names[name] = match[1]
        return name

    plain = re.sub(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`([^`]*)`", stand_in, text)
    try:
        return ast.parse(plain.strip(), mode="eval").body, names
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ModelError(
            f"the expression {text!r} cannot be read: a column's name that is no plain word stands in backticks"
        ) from None


def literal(node: ast.expr, text: str) -> Any:
    """Return the constant that a node is: numbers, texts and lists of them."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ModelError(
            f"in {text!r} a parameter is {ast.unparse(node)}: only numbers, texts and lists of them are allowed"
        ) from None


def function_name(node: ast.expr) -> str:
    """Return the name of a function: ``log`` also for ``np.log``; empty if it is not written by its name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name):
            return name
    return ""


def _is_boolean(node: ast.expr) -> bool:
    match node:
        case ast.Compare() | ast.UnaryOp(op=ast.Invert() | ast.Not()):
            return True
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr()) | ast.BoolOp():
            return True
        case ast.Call(func=ast.Name(id="I"), args=[argument]):
            return _is_boolean(argument)
    return False


class _Compiler:
    """Compiles one expression; remembers the transforms and the columns that it meets."""

    def __init__(self, text: str, names: Mapping[str, str]) -> None:
        self.text = text
        self.names = names
        self.transforms: dict[str, TransformCall] = {}
        self.columns: set[str] = set()

    def column_of(self, node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return self.names.get(name, name)
            case ast.Attribute(value=owner, attr=name) if (before := self.column_of(owner)) is not None:
                return f"{before}.{name}"  # as names are in R
            case ast.Call(func=ast.Name(id="Q"), args=[ast.Constant(value=str(name))], keywords=[]):
                return name
        return None

    def compile(self, node: ast.expr, *, outermost: bool = False) -> Evaluation:
        if (name := self.column_of(node)) is not None:
            self.columns.add(name)
            return lambda scope: scope.frame.column(name)
        match node:
            case ast.Constant(value=bool() | int() | float() as number):
                return _constant(_number(number, self.text))
            case ast.Constant(value=str(text)):
                return _constant(text)
            case ast.Call():
                return self._call(node, outermost)
        return self._operation(node)

    def _operation(self, node: ast.expr) -> Evaluation:
        match node:
            case ast.UnaryOp(op, operand) if type(op) in UNARY:
                return self._applied(UNARY[type(op)], [operand])
            case ast.BinOp(left, op, right) if type(op) in BINARY:
                return self._applied(BINARY[type(op)], [left, right])
            case ast.BoolOp(op, operands):
                return self._applied(LOGICAL[type(op)], operands)
            case ast.Compare(left, ops, rights) if all(type(op) in COMPARISONS for op in ops):
                return self._comparison([left, *rights], ops)
        raise self._refusal(node)

    def _applied(self, function: Callable[..., Value], operands: list[ast.expr]) -> Evaluation:
        parts = [self.compile(operand) for operand in operands]
        return lambda scope: function(*(as_numbers(part(scope), self.text) for part in parts))

    def _comparison(self, operands: list[ast.expr], ops: list[ast.cmpop]) -> Evaluation:
        parts = [self.compile(operand) for operand in operands]
        compare = [COMPARISONS[type(op)] for op in ops]

        def evaluate(scope: Scope) -> Value:
            values = [part(scope) for part in parts]
            steps = zip(compare, values, values[1:], strict=False)
            return both(*(compared(function, a, b, self.text) for function, a, b in steps))

        return evaluate

    def _call(self, node: ast.Call, outermost: bool) -> Evaluation:
        name, n_arguments = function_name(node.func), len(node.args)
        by_name = isinstance(node.func, ast.Name)  # not np.I
        if by_name and name == "I" and n_arguments == 1 and not node.keywords:
            return self.compile(node.args[0])
        if by_name and name in TRANSFORMS and n_arguments:
            return self._transform(node, name, outermost)
        if name in FUNCTIONS and not node.keywords and n_arguments == FUNCTIONS[name][1]:
            return self._applied(FUNCTIONS[name][0], node.args)
        raise self._refusal(node)

    def _transform(self, node: ast.Call, name: str, outermost: bool) -> Evaluation:
        others, self.transforms = self.transforms, {}
        part = self.compile(node.args[0])
        inner = tuple(self.transforms)
        self.transforms = {**others, **self.transforms}
        transform = _transform(name, node, self.text)
        if transform.several_columns and not outermost:
            raise ModelError(f"in {self.text!r} {name}() makes several columns: it stands by itself only")

        def argument(scope: Scope) -> Value:
            return as_numbers(part(scope), self.text)

        def evaluate(scope: Scope) -> Value:
            state = scope.states.get(key)
            return argument(scope) if state is None else transform.apply(argument(scope), state)

        key = self._written(node)
        self.transforms[key] = TransformCall(transform, argument, inner)
        return evaluate

    def _written(self, node: ast.expr) -> str:
        """Return a node as text, columns in backticks where they were."""
        text = ast.unparse(node)
        for stand_in, column in self.names.items():
            text = text.replace(stand_in, f"`{column}`")
        return text

    def _refusal(self, node: ast.expr) -> ModelError:
        allowed = sorted({"C", "I", "Q", "cbind", *FUNCTIONS, *TRANSFORMS})
        return ModelError(
            f"a formula is no code: {self._written(node)} in {self.text!r} is neither column, number, text, "
            "arithmetic nor comparison, nor a call, with the arguments it takes, of one of "
            f"{', '.join(allowed)}"
        )


def _transform(name: str, node: ast.Call, text: str) -> Transform:
    """Make a transform with the constants that it is called with; ModelError if they cannot be."""
    values = [literal(value, text) for value in node.args[1:]]
    named = {str(keyword.arg): literal(keyword.value, text) for keyword in node.keywords}
    try:
        transform = TRANSFORMS[name](*values, **named)
        transform.initial()
    except (TypeError, ValueError) as error:
        raise ModelError(f"{text!r} cannot be used as it is written: {error}") from None
    return transform


def _constant(value: float | str) -> Evaluation:
    return lambda scope: value


def _number(value: float, text: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ModelError(f"a number in {text!r} is beyond the range of floats")
    return number
