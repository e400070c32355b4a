"""A plan: every protocol's costs and trust side by side, which is chosen and why; printed as a fit is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .encoding import ArrayEncoding, ExactFloatArray
from .grid_encodings import FixedPointArray, QuantizedArray
from .protocol import Protocol, Trust

WIDTH = 98
TITLE_WIDTH = 22
COLUMNS = (
    ("rounds", 8),
    ("holder", 12),
    ("coordinator", 13),
    ("one sum", 12),
    ("all sums", 12),
    ("losses", 8),
)
UNKNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One protocol in a plan.

    Attributes
    ----------
    title : str
    protocol : Protocol or None
        As it would be configured; None if it cannot run among so many holders, and all below is None, too.
    reason : str
        Why it is chosen, or is not.
    takes : str
        What a protocol makes of options that are left open.
    rounds : int or None
        Messages one after the other, from invitation to total.
    bytes_sent_by_holder, bytes_through_coordinator : int or None
        Bytes of one sum, of the protocol's own frames.
    seconds, seconds_of_all : float or None
        Estimated for a sum after the first, and for all sums with what has to be set up; None without a calibration.
    losses : int or None
        Holders that may be lost in the middle of a sum.
    digits : str
        How the totals are rounded: the same under every protocol.
    trust : Trust or None
        Who learns what.
    """

    title: str
    protocol: Protocol[Any] | None
    reason: str
    takes: str = ""
    rounds: int | None = None
    bytes_sent_by_holder: int | None = None
    bytes_through_coordinator: int | None = None
    seconds: float | None = None
    seconds_of_all: float | None = None
    losses: int | None = None
    digits: str = ""
    trust: Trust | None = None


@dataclass(frozen=True, repr=False)
class Plan:
    """What a question would cost under every protocol, and which one is chosen.

    Attributes
    ----------
    n_holders : int
    n_numbers : int
        Numbers in one sum.
    passes : int
        Sums, about.
    wish : str
        What the sums must withstand.
    lines : tuple of Line
        A line for each protocol.
    chosen : Protocol
        Ready to be handed to a federation.
    """

    n_holders: int
    n_numbers: int
    passes: int
    wish: str
    lines: tuple[Line, ...]
    chosen: Protocol[Any]

    def __str__(self) -> str:
        double, single = "=" * WIDTH, "-" * WIDTH
        heads = (("", TITLE_WIDTH), *COLUMNS)
        under = ("", "", "sends", "carries", "", f"{self.passes:,}", "borne")
        parts = ["Plan of a secure sum".center(WIDTH).rstrip(), double, *self._head(), double]
        parts += [_row([head for head, _ in heads]), _row(under), single]
        parts += [_row(_cells(line, chosen=self._is_chosen(line))) for line in self.lines]
        parts.append(double)
        for line in self.lines:
            parts += _remarks(line, chosen=self._is_chosen(line))
        return "\n".join(parts)

    def __repr__(self) -> str:
        return str(self)

    def _is_chosen(self, line: Line) -> bool:
        return line.protocol is self.chosen

    def _head(self) -> list[str]:
        entries = (
            ("Holders", f"{self.n_holders:,}"),
            ("Numbers", f"{self.n_numbers:,} in each of {self.passes:,} {_plural('sum', self.passes)}"),
            ("Digits", self.lines[0].digits),
            ("Wish", self.wish),
            ("Chosen", repr(self.chosen)),
        )
        return [piece for name, value in entries for piece in _wrapped(f"{name + ':':<10}", value)]


def digits_of(encodings: Sequence[ArrayEncoding]) -> str:
    """Say how the totals of some arrays are rounded."""
    return "; ".join(dict.fromkeys(_digits_of(encoding) for encoding in encodings)) or "exact"


def _digits_of(encoding: ArrayEncoding) -> str:
    match encoding:
        case ExactFloatArray():
            return "exact, rounded once"
        case FixedPointArray(fraction_bits=bits):
            return f"exact, on a grid of 2^-{bits}"
        case QuantizedArray(clip=clip, levels=levels):
            return f"clipped at {clip:g}, rounded at random to steps of {clip / levels:.3g}"
        case _:
            return "exact integers"


def _cells(line: Line, *, chosen: bool) -> list[str]:
    return [
        ("> " if chosen else "  ") + line.title,
        UNKNOWN if line.rounds is None else f"{line.rounds}",
        _bytes(line.bytes_sent_by_holder),
        _bytes(line.bytes_through_coordinator),
        _seconds(line.seconds),
        _seconds(line.seconds_of_all),
        UNKNOWN if line.losses is None else f"{line.losses:,}",
    ]


def _row(cells: Sequence[str]) -> str:
    title, *others = cells
    columns = (cell.rjust(width) for cell, (_, width) in zip(others, COLUMNS, strict=True))
    return (title.ljust(TITLE_WIDTH) + "".join(columns)).rstrip()


def _remarks(line: Line, *, chosen: bool) -> list[str]:
    remarks = _wrapped(f"{line.title}: ", ("chosen: " if chosen else "not chosen: ") + line.reason, hang=4)
    if line.takes:
        remarks += _wrapped("    takes     ", line.takes)
    if line.trust is not None:
        trust = line.trust
        remarks += _wrapped("    learns    ", f"the coordinator {trust.coordinator_learns}")
        remarks += _wrapped("    resists   ", trust.resists)
        remarks += _wrapped("    broken    ", f"when {trust.broken_when}")
    return remarks


def _wrapped(label: str, text: str, hang: int | None = None) -> list[str]:
    """Return a label and a text, wrapped to the width under itself."""
    indent = " " * (len(label) if hang is None else hang)
    return textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False)


def _bytes(count: int | None) -> str:
    """Return a number of bytes with three digits."""
    if count is None:
        return UNKNOWN
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}"


def _seconds(seconds: float | None) -> str:
    """Return an estimated time with the two digits that it may claim."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.995:
        return f"{float(f'{seconds * 1000:.2g}'):g} ms"
    return f"{float(f'{seconds:.2g}'):,.15g} s"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
