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
    """Check that what is read as numbers is a column of numbers, by its dtype: values would tell of rows.

    Raises
    ------
    DataError
        If one holds something else; it is named.
    """
    frame, schema = Frame(data), design.schema
    undeclared = [
        factor.expression.column
        for factor in schema.factors
        if factor.kind == "column" and factor.text not in schema.levels
    ]
    for name in filter(None, undeclared):
        if not frame.is_of_numbers(name):
            raise DataError(
                f"{name!r} is text or of mixed objects, and under privacy its levels cannot be found out: declare them "
                f"by levels={{{name!r}: [...]}}, or convert it to numbers"
            )
    for name in filter(None, (part.column for part in schema.besides)):
        if not frame.is_of_numbers(name):
            raise DataError(f"{name!r} is text or of mixed objects: convert it to numbers")
