"""The parameters of a formula's transforms, agreed on pass by pass, all transforms side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .columns import Frame, Numbers
from .design_schema import Schema
from .expression import Scope, TransformCall


def waiting(schema: Schema) -> list[str]:
    """Return the transforms that the next pass advances: those not complete, whose inner ones are."""
    calls = schema.transforms
    complete = {key for key, call in calls.items() if call.transform.wanted(schema.states[key]) == 0}
    return [key for key, call in calls.items() if key not in complete and complete.issuperset(call.inner)]


def transform_sums(schema: Schema, frame: Frame) -> Numbers:
    """Return what a holder adds to the next pass, one transform after the other.

    Each counts all values of its argument, also in rows where other columns lack theirs: so does R.
    """
    scope = Scope(frame, schema.states)
    sums = []
    with np.errstate(all="ignore"):
        for key in waiting(schema):
            call = schema.transforms[key]
            argument = np.broadcast_to(call.argument(scope), (len(frame),))
            sums.append(call.transform.sums(argument[~np.isnan(argument)], schema.states[key]))
    return np.concatenate(sums)


def advanced(schema: Schema, sums: Numbers) -> Schema:
    """Return the schema after a pass, given its sums over the holders.

    Raises
    ------
    ModelError
        If they determine no parameter: a column to be scaled is constant, or has no value.
    """
    states = dict(schema.states)
    for key in waiting(schema):
        transform = schema.transforms[key].transform
        wanted = transform.wanted(states[key])
        states[key] = transform.advanced(states[key], sums[:wanted])
        sums = sums[wanted:]
    return replace(schema, states=states)


def n_passes(calls: Mapping[str, TransformCall]) -> int:
    """Return how many passes the transforms take, inner ones before outer ones."""
    until: dict[str, int] = {}
    for key, call in calls.items():  # inner ones come first
        until[key] = max((until[inner] for inner in call.inner), default=0) + call.transform.n_passes
    return max(until.values(), default=0)
