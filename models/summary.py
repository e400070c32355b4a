"""How a fit is printed: as statsmodels does, and in one line as R's stats4 does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .fit import Fit

_WIDTH = 78


class Summary(str):
    """A text that a notebook or a prompt shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def summary_of(fit: Fit, alpha: float = 0.05) -> Summary:
    """Return a table as statsmodels prints it, then provenance and warnings."""
    line, rule = "=" * _WIDTH, "-" * _WIDTH
    title = f"{fit.definition.kind} Results".center(_WIDTH).rstrip()
    parts = [title, line, *_head(fit), line, *_table(fit, alpha, rule), line, *_provenance(fit)]
    parts += [f"Warning: {warning}" for warning in fit.warnings]
    return Summary("\n".join(parts))


def _head(fit: Fit) -> list[str]:
    left = [
        ("Model:", fit.definition.kind),
        ("Method:", "Newton, one pass a step"),
        ("No. Observations:", f"{fit.nobs}"),
        ("Df Residuals:", f"{fit.df_resid}"),
        ("Converged:", "yes" if fit.converged else "NO"),
    ]
    right = [
        ("Log-Likelihood:", f"{fit.llf:.8g}"),
        ("AIC:", f"{fit.aic:.8g}"),
        ("BIC:", f"{fit.bic:.8g}"),
        ("Iterations:", f"{fit.iterations}"),
        ("Passes:", f"{fit.n_passes}"),
    ]
    extra = [(f"{name}:", f"{value:.8g}") for name, value in fit.statistics.items()]
    left, right = left + extra[::2], right + extra[1::2]
    right += [("", "")] * (len(left) - len(right))
    return [
        (_entry(*pair, 38) + "  " + _entry(*other, 38)).rstrip()
        for pair, other in zip(left, right, strict=True)
    ]


def _table(fit: Fit, alpha: float, rule: str) -> list[str]:
    letter = "t" if fit.df_t is not None else "z"
    heads = ("coef", "std err", letter, f"P>|{letter}|", f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]")
    widths = (12, 11, 10, 9, 11, 11)
    name_width = max([_WIDTH - sum(widths), *(len(name) + 1 for name in fit.names)])
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
        A heading and one line for each parameter; the last also has -2 log L and the log-likelihood.
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
    ending = f"        -2 log L: {-2 * fit.llf:.7g}     'log Lik.' {fit.llf:.7g}"
    return "\n".join([heading, *rows]) + ending


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


def _entry(name: str, value: str, width: int) -> str:
    return name + value.rjust(width - len(name))


def _four_digits(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def _three_digits(value: float) -> str:
    return f"{value:.3f}" if value == 0 or 1e-2 <= abs(value) < 1e6 else f"{value:.3g}"
