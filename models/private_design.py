"""A design from what a formula declares, without a look at any row: what a regression under privacy has.

Levels, means, knots that holders agree on by secure sums are exact facts about rows. Under privacy none is released; so
what the formula leaves to the data is refused, and the remedy is to declare it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..privacy.errors import PrivacyError
from .columns import Frame
from .design import Design
from .design_agreement import DesignAgreement, column_names
from .design_schema import Schema
from .errors import DataError
from .formula_functions import is_text
from .transform_sums import waiting


def declared_design(agreement: DesignAgreement) -> Design:
    """Return the design that follows from a formula and its declared levels alone.

    Parameters
    ----------
    agreement : DesignAgreement
        A bare column without declared levels is one of numbers.

    Returns
    -------
    Design
        Columns that are neither centred nor scaled; `nobs` and `n_missing`, which nobody knows, are 0.

    Raises
    ------
    PrivacyError
        If levels or the parameters of a transform are left to the data; it names the term and the remedy.
    ModelError
        If the formula has no column.
    """
    schema = agreement.schema
    if schema.missing == "raise":
        raise PrivacyError(
            "missing='raise' would tell whether any row lacks a value: take missing='drop', which tells nobody"
        )
    for factor in schema.factors:
        if factor.kind == "levels" and factor.text not in schema.levels:
            raise PrivacyError(
                f"the levels of {factor.text!r} are facts about rows, which privacy does not release: declare them by "
                f"levels={{{factor.text!r}: [...]}}"
            )
    schema = _with_declared_states(schema)
    names = column_names(schema)
    return Design(schema, names, 0, 0, np.zeros(len(names)), np.ones(len(names)))


def _with_declared_states(schema: Schema) -> Schema:
    """Return the schema with the parameters of transforms that the formula gives."""
    states = {key: call.transform.initial() for key, call in schema.transforms.items()}
    schema = replace(schema, states=states)
    open_terms = waiting(schema)
    if open_terms:
        raise PrivacyError(
            f"{open_terms[0]!r} takes its parameters from the rows, which privacy does not release: write constants, "
            "as in I((x - 20) / 6), scale(x, center=20, scale=6) or poly(x, 2, raw=True), and no constraints of splines"
        )
    return schema


def check_numbers(design: Design, data: Any) -> None:
    """Check that the columns without declared levels are numbers in these rows.

    Raises
    ------
    DataError
        If one is text; it is named.
    """
    frame = Frame(data)
    for factor in design.schema.factors:
        name = factor.expression.column
        if factor.kind != "column" or name is None or factor.text in design.schema.levels:
            continue
        if is_text(frame.column(name)):
            raise DataError(
                f"{name!r} is text, and under privacy its levels cannot be found out: declare them by "
                f"levels={{{name!r}: [...]}}"
            )
