"""Formulas: what is read, and that nothing in them is code."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.models.columns import Frame
from tacit.models.errors import DataError, ModelError
from tacit.models.expression import Scope
from tacit.models.formula import Formula, expression

ROWS = pd.DataFrame(
    {
        "x": [1.0, 2.0, np.nan, 4.0],
        "z": [0, 1, 1, 0],
        "k": ["a", None, "b", "a"],
        "flag": [True, False, True, True],
        "my col": [1.5, 2.5, 3.5, 4.5],
        "a.b": [4, 3, 2, 1],
    }
)


def numbers(text: str, rows: pd.DataFrame = ROWS) -> list[float | None]:
    values = expression(text).numbers(Scope(Frame(rows)))
    return [None if np.isnan(value) else value for value in values.tolist()]


@pytest.mark.parametrize(
    ("text", "factors", "n_response"),
    [
        ("breaks ~ wool * tension", ["wool", "tension"], 1),
        ("cbind(n, total - n) ~ age", ["age"], 2),
        ("n + I(total - n) ~ age", ["age"], 2),
        (
            "log(y) ~ C(k, levels=['L','M'])+np.log(x)",
            ["C(k, levels=['L', 'M'])", "np.log(x)"],
            1,
        ),
        ("y ~ bs(x, knots=[2, 3], lower_bound=0, upper_bound=5):k", None, 1),
        ("y ~ C(k, Treatment(reference='b')) + C(j, contr.sum) + C(i, [[1], [-1]])", None, 1),
        ("y ~ `my col` + log(`my col`) + Q('my col') + a.b", None, 1),
        ("y ~ (a + b + c)**2 - a:b + d %in% e + 0", None, 1),
        ("y ~ (a + b + c + d + e + f + g + h)**3 + a/b/c", None, 1),
        ("y ~ a*b*c*d*e*f", None, 1),
        ("y ~ 1", [], 1),
    ],
)
def test_what_people_write_is_read(text: str, factors: list[str] | None, n_response: int) -> None:
    formula = Formula(text)
    assert len(formula.response) == n_response
    if factors is not None:
        assert list(formula.factors) == factors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("y ~ np.load('x')", "no code"),
        ("y ~ x.mean()", "no code"),
        ("y ~ {__import__('os')}", "no code"),
        ("y ~ exec('1')", "no code"),
        ("y ~ {x.__class__.__bases__[0]}", "no code"),
        ("y ~ I(x if z else k)", "no code"),
        ("y ~ {[i for i in x]}", "no code"),
        ("y ~ {(lambda: x)()}", "no code"),
        ("y ~ {(x := 1)}", "no code"),
        ("y ~ {f'x'}", "no code"),
        ("y ~ {b'x'}", "no code"),
        ("y ~ log(x, out=z)", "no code"),
        ("y ~ log(*x)", "no code"),
        ("y ~ log(x, z)", "no code"),
        ("y ~ np.center(x)", "no code"),
        ("y ~ lag(x)", "no code"),
        ("np.load('x') ~ z", "no code"),
        ("cbind(open('x'), z) ~ z", "no code"),
        ("y ~ offset(open('x'))", "no code"),
        ("y ~ C(open('x'))", "no code"),
        ("y ~ C(k, open('x'))", "no contrast"),
        ("y ~ C(k, contr.open('x'))", "no contrast"),
        ("y ~ C(k, levels=open('x'))", "only numbers, texts"),
        ("y ~ center(x, **{'a': 1})", "cannot be used"),
        ("y ~ poly(x, 10**9)", "only numbers, texts"),
        ("y ~ poly(x, 1000000)", "a degree from 1 to"),
        ("y ~ bs(x, knots=[1], degree=1000000, lower_bound=0, upper_bound=2)", "a degree up to"),
        ("y ~ scale(x, 'a')", "take numbers"),
        ("y ~ log(poly(x, 2))", "stands by itself"),
        ("poly(y, 2) ~ x", "several columns"),
        ("y ~ x + 1e999:z + I(1e999)", "beyond the range"),
        ("y ~ {" + "-" * 3000 + "x}", "nested too deeply|cannot be read"),
        ("y ~ " + "x + " * 5000 + "x", "a formula is a text"),
        ("y ~ (a + b + c + d + e + f + g + h + i + j + k + l)**6", "too many terms"),
        ("y ~ (a + b)^999999999", "a power is"),
        ("y ~ " + "*".join("abcdefghijklmnopqrs"), "too many terms"),
        (
            "y ~ (" + "+".join("abcdefghijklmnop") + "):(" + "+".join("abcdefghijklmnop") + ")**4",
            "too many terms",
        ),
    ],
)
def test_code_is_refused(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Formula(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("y", "has not the form"),
        ("~ x", "has not the form"),
        ("y ~ a | b", "has not the form"),
        ("y ~ a +", "cannot be read"),
        ("y ~ __import__('os').system('ls')", "a term is a column, or one call"),
        ("y ~ .", "name them"),
        ("y*z ~ a", "interaction"),
        ("a + b + c ~ x", "neither one expression"),
        ("cbind(a) ~ x", "successes, failures"),
        ("y ~ C(k, 1, 2)", "is none of"),
        ("y ~ C(k, levels=['a', 'a'])", "not all different"),
        ("y ~ C(k, levels=['a', 1])", "mix texts and numbers"),
        ("y ~ C(k, levels='ab')", "no list"),
        ("y ~ bs(x, df=5)", "declare knots"),
        ("y ~ bs(x, knots=[1])", "lower_bound"),
        ("y ~ cr(x, df=3, lower_bound=0, upper_bound=1)", "declare knots"),
        ("y ~ bs(x, lower_bound=0, upper_bound=1, extrapolation='na')", "would drop rows"),
        ("y ~ bs(x, lower_bound=None, upper_bound=None)", "no finite numbers"),
        ("y ~ C(k, levels=[1e999])", "finite"),
        ("y ~ C(k, {})", "contrasts Custom"),
        ("y ~ 0 + Intercept", "rename it"),
        ("0 ~ x", "neither one expression"),
        ("y ~ x + `1`:z", "cannot be told"),
        ("y ~ `np.log(x)` + np.log(x)", "cannot be told"),
        ("y ~ a**3000000", "power"),
        ("y ~ (a + b)**1_000_000", "power"),
        ("y ~ ((((((a + b)**64)**64)**64)**64)**64)**64", "too many terms"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Formula(text)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.text(alphabet="xyzk ~+-*/:^()[]{}`'\".,=<>&|1eCIQlog_\\", max_size=30))
def test_any_text_is_a_formula_or_an_error_that_says_so(text: str) -> None:
    try:
        Formula(text)
    except ModelError:
        return


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x", [1, 2, None, 4]),
        ("-x + 2*z ** 2 / 1 - 3 % 2", [-2, -1, None, -5]),
        ("log2(x)", [0, 1, None, 2]),
        ("np.log2(x) + exp10(z)", [1, 11, None, 3]),
        ("x > 1", [0, 1, None, 1]),
        ("1 < x <= 2", [0, 1, None, 0]),
        ("k == 'a'", [1, None, 0, 1]),
        ("k != 'a'", [0, None, 1, 0]),
        ("(x > 1) & flag", [0, 0, None, 1]),
        ("(x > 1) | ~flag", [0, 1, None, 1]),
        ("not flag and z == 1", [0, 1, 0, 0]),
        ("where(x > 1, z, 7)", [7, 1, None, 0]),
        ("x ** 0", [1, 1, None, 1]),
        ("maximum(x, 2) * flag", [2, 0, None, 4]),
        ("`my col` + Q('my col')", [3, 5, 7, 9]),
        ("a.b * 2", [8, 6, 4, 2]),
        ("I(3)", [3, 3, 3, 3]),
        ("k == '`my col`'", [0, None, 0, 0]),
        ("log(z - 1)", [None, -np.inf, -np.inf, None]),
    ],
)
def test_what_is_computed_from_missing_values_is_missing(text: str, values: list[float | None]) -> None:
    assert numbers(text) == values


def test_a_column_without_any_value_compares_with_text_and_numbers() -> None:
    rows = pd.DataFrame({"k": [None, None], "x": [np.nan, np.nan]})
    assert numbers("k == 'a'", rows) == numbers("x == 'a'", rows) == numbers("k == 1", rows) == [None, None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("k + 1", "needs numbers"),
        ("log(k)", "needs numbers"),
        ("k == 1", "compares text with numbers"),
        ("x == 'a'", "compares text with numbers"),
        ("k < 'b'", "which text is less"),
        ("absent", "no column 'absent'"),
    ],
)
def test_rows_that_do_not_fit_are_told_by_the_expression(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        numbers(text)


def test_a_formula_is_its_text_when_it_travels() -> None:
    formula = Formula("y ~ C(k, levels=['a', 'b']) * scale(x)")
    assert pickle.loads(pickle.dumps(formula)) == formula
    assert len(pickle.dumps(formula)) < 300


@pytest.mark.parametrize("text", ["my col", "poly(x, 2)", "open('x')", 7])
def test_offsets_and_weights_are_one_expression(text: str) -> None:
    with pytest.raises(ModelError):
        expression(text)
