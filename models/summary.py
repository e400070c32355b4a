"""How a fit is printed: as statsmodels does, and in one line as R's stats4 does."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .fit import Fit

Entry: TypeAlias = tuple[str, str]  # a name and its value, in the head

_WIDTH = 78
_COLUMN_WIDTHS = (12, 11, 10, 9, 11, 11)


class Summary(str):
    """A text that a notebook or a prompt shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def summary_of(fit: Fit, alpha: float = 0.05) -> Summary:
    """Return a table as statsmodels prints it, then provenance and warnings."""
    width = _name_width(fit) + sum(_COLUMN_WIDTHS)
    line, rule = "=" * width, "-" * width
    title = fit.title.center(width).rstrip()
    parts = [title, line, *_head(fit), line, *_table(fit, alpha, rule), line, *_provenance(fit)]
    parts += [f"Warning: {warning}" for warning in fit.warnings]
    return Summary("\n".join(parts))


def _head(fit: Fit) -> list[str]:
    left, right = fit.heading
    extra = [(f"{name}:", f"{value:.8g}") for name, value in fit.statistics.items()]
    left, right = left + extra[::2], right + extra[1::2]
    pairs = itertools.zip_longest(left, right, fillvalue=("", ""))
    return [(_entry(*one, width=38) + "  " + _entry(*other, width=38)).rstrip() for one, other in pairs]


def _name_width(fit: Fit) -> int:
    return max([_WIDTH - sum(_COLUMN_WIDTHS), *(len(name) + 1 for name in fit.names)])


def _table(fit: Fit, alpha: float, rule: str) -> list[str]:
    letter = "t" if fit.df_t is not None else "z"
    heads = ("coef", "std err", letter, f"P>|{letter}|", f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]")
    name_width, widths = _name_width(fit), _COLUMN_WIDTHS
    columns = [
        fit.estimates,
        fit.standard_errors,
        fit.ratios,
        fit.two_sided,
        *fit.intervals(alpha).T,
    ]
    formats = (
        _four_digits,
        _three_digits,
        "{:.3f}".format,
        "{:.3f}".format,
        _three_digits,
        _three_digits,
    )
    rows = ["".join([" " * name_width, *(h.rjust(w) for h, w in zip(heads, widths, strict=True))]), rule]
    for name, *values in zip(fit.names, *columns, strict=True):
        cells = (form(value).rjust(width) for form, value, width in zip(formats, values, widths, strict=True))
        rows.append("".join([name.ljust(name_width), *cells]))
    return rows


def _provenance(fit: Fit) -> list[str]:
    lost = [name for name in fit.holders if name not in fit.survivors]
    survivors = f"{len(fit.survivors)} of {len(fit.holders)}" + (f", lost {', '.join(lost)}" if lost else "")
    entries = [
        ("Protocol", fit.protocol),
        ("Holders", ", ".join(fit.holders)),
        ("Survivors", survivors if fit.survivors else None),
        ("Digits", fit.digits),
        ("Privacy", fit.privacy),
        ("Trust", fit.trust),
    ]
    return [f"{name + ':':<11}{value}" for name, value in entries if value]


def r_style(fit: Fit) -> str:
    """Return the estimates as R's stats4 prints those of `mle`, with seven significant digits.

    Returns
    -------
    str
        A heading and one line for each parameter; the last also has -2 log L and the log-likelihood, if released.
    """
    columns = [_r_column(fit.estimates), _r_column(fit.standard_errors)]
    width = max(11, *(len(name) for name in fit.names)) + 1
    widths = [
        max(len(head), *map(len, column))
        for head, column in zip(("Estimate", "Std. Error"), columns, strict=True)
    ]
    heading = " " * width + "Estimate".rjust(widths[0]) + " " + "Std. Error".rjust(widths[1])
    rows = [
        name.ljust(width) + estimate.rjust(widths[0]) + " " + error.rjust(widths[1])
        for name, estimate, error in zip(fit.names, *columns, strict=True)
    ]
    table = "\n".join([heading, *rows])
    if math.isnan(fit.llf):  # not released under privacy
        return table
    return f"{table}        -2 log L: {-2 * fit.llf:.7g}     'log Lik.' {fit.llf:.7g}"


def _r_column(values: NDArray[np.float64]) -> list[str]:
    """Format a column as R does: as many decimals as its most demanding value needs for seven digits."""
    finite = values[np.isfinite(values)]
    needed = [f"{value:.6e}".partition("e") for value in finite]
    decimals = max([0, *(len(m.rstrip("0").split(".")[1]) - int(exponent) for m, _, exponent in needed)])
    digits = max([0, *(len(m.rstrip("0").split(".")[1]) for m, _, _ in needed)])
    fixed = [f"{value:.{decimals}f}" for value in values]
    scientific = [f"{value:.{digits}e}" for value in values]
    chosen = fixed if max(map(len, fixed)) <= max(map(len, scientific)) else scientific
    return ["NaN" if math.isnan(value) else text for value, text in zip(values, chosen, strict=True)]


def _entry(name: str, value: str, *, width: int) -> str:
    return name + value.rjust(width - len(name))


def _four_digits(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def _three_digits(value: float) -> str:
    return f"{value:.3f}" if value == 0 or 1e-2 <= abs(value) < 1e6 else f"{value:.3g}"
