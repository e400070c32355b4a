"""A function of an analyst's that shows rows in every way: an exception, its cause, a log, a warning, a print."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any


def with_the_rows(rows: Any) -> float:
    """Raise what shows every row."""
    shown = {column: rows[column].tolist() for column in rows}
    for value in map(float, rows["dose"]):
        logging.getLogger("analyst").warning("a dose of %r", value)
        sys.stdout.write(f"{value!r}\n")
        sys.__stderr__.write(f"{value!r}\n")  # type: ignore[union-attr]
        os.write(2, repr(value).encode())
        warnings.warn(repr(value), stacklevel=1)
    try:
        raise KeyError(str(shown))
    except KeyError as error:
        error.add_note(str(shown))
        raise ValueError(shown, rows) from error
