"""An audit as a page for an ethics board: the same sections on the screen and as one file of HTML.

Names, reasons and steps in it were chosen by others: the HTML is escaped, and holds no script and no address.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..privacy.accounting import Charge, epsilon_of
from ..privacy.errors import PrivacyError
from .audit import Audit

FINGERPRINT = 16  # digits of a key that are shown
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;"
    "border-bottom:1px solid #ccc}th{border-bottom:2px solid #888}.ok{color:#0a6b2d}.not{color:#b00020}"
    "@media print{body{margin:0}}"
)


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the page.

    Attributes
    ----------
    title : str
    heading : tuple of str
    rows : tuple of tuple of str
    otherwise : str
        What is said where there are no rows.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    otherwise: str = "None."


def verdict(audit: Audit) -> str:
    """Return the result in a sentence."""
    n_faults = sum(len(chain.faults) for chain in audit.chains)
    if audit.ok:
        return f"{len(audit.chains)} ledgers are whole, and none contradicts another."
    return f"{n_faults} faults in the ledgers, {len(audit.disagreements)} disagreements between them."


def sections(audit: Audit) -> list[Section]:
    """Return the tables of the page, in order."""
    return [
        Section("Parties", ("party", "kind", "key", "entries", "sessions"), tuple(_parties(audit))),
        Section(
            "What was computed and released",
            ("from", "to", "model", "protocol", "sums", "over", "released to", "what"),
            tuple(_computed(audit)),
        ),
        Section(
            "Privacy spent",
            ("party", "protects a", "releases", "ε", "δ"),
            tuple(_spent(audit)),
            "Nothing was released under differential privacy.",
        ),
        Section("Refusals", ("party", "reason", "times"), tuple(_refusals(audit))),
        Section(
            "Sessions without an outcome",
            ("session", "party"),
            tuple((session[:FINGERPRINT], party) for session, party in audit.unfinished),
        ),
        Section(
            "Faults in a ledger",
            ("party", "file", "what is wrong"),
            tuple(
                (chain.party, fault.file, fault.problem) for chain in audit.chains for fault in chain.faults
            ),
        ),
        Section(
            "Disagreements between ledgers",
            ("session", "what", "who says what"),
            tuple(
                (
                    one.session[:FINGERPRINT],
                    one.field,
                    "; ".join(f"{who}: {what}" for who, what in one.said.items()),
                )
                for one in audit.disagreements
            ),
        ),
    ]


def title(audit: Audit) -> str:
    """Return what the page is headed with."""
    return "Audit of the ledgers" if audit.study is None else f"Audit of the study “{audit.study.title}”"


def as_html(audit: Audit) -> str:
    """Return the page as one file."""
    tables = "".join(map(_table, sections(audit)))
    digest = "" if audit.study is None else f"<p>Study file: SHA-256 {_text(audit.study.digest)}</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title(audit))}</title>'
        f"<style>{STYLE}</style></head><body><h1>{_text(title(audit))}</h1>{digest}"
        f'<p class="{"ok" if audit.ok else "not"}"><strong>{_text(verdict(audit))}</strong></p>{tables}</body></html>\n'
    )


def _table(section: Section) -> str:
    if not section.rows:
        return f"<h2>{_text(section.title)}</h2><p>{_text(section.otherwise)}</p>"
    heading = "".join(f"<th>{_text(cell)}</th>" for cell in section.heading)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
    return f"<h2>{_text(section.title)}</h2><table><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table>"


def _text(cell: str) -> str:
    return html.escape("".join(sign if sign.isprintable() else "?" for sign in cell))


def _parties(audit: Audit) -> Iterable[tuple[str, ...]]:
    for chain in audit.chains:
        key = " ".join(chain.key[start : start + 4] for start in range(0, FINGERPRINT, 4))
        yield chain.party, chain.kind, key, str(chain.head.size), str(len(chain.sessions))


def _computed(audit: Audit) -> Iterable[tuple[str, ...]]:
    """Yield a row for each model, protocol and set of holders: a fit is many sums."""
    rows: dict[tuple[str, ...], list[tuple[float, set[str]]]] = {}
    for told in audit.sessions.values():
        released = [one for one in told.values() if one.get("outcome") == "released"]
        if not released:
            continue
        one: dict[str, Any] = {}
        for each in released:  # what one party is not told, another is
            one |= {name: value for name, value in each.items() if value is not None}
        model, over = one.get("model") or {}, one.get("survivors") or one.get("over") or []
        names = f"{model.get('kind', 'unknown')} {str(model.get('digest', ''))[:12]}".strip()
        key = (names, _protocol(one), ", ".join(map(str, over)) or "unnamed", str(one.get("to", "")))
        rows.setdefault(key, []).append((one["time"], _shapes(one.get("arrays") or [])))
    for (model, protocol, over, to), sums in rows.items():
        times = [when for when, _ in sums]
        what = ", ".join(sorted(set().union(*(shapes for _, shapes in sums))))
        yield _date(min(times)), _date(max(times)), model, protocol, str(len(sums)), over, to, what


def _protocol(one: Mapping[str, Any]) -> str:
    options = dict(one.get("protocol") or {})
    name = str(options.pop("name", "unknown"))
    return (
        f"{name}({', '.join(f'{option}={value}' for option, value in options.items() if value is not None)})"
    )


def _shapes(arrays: Sequence[Any]) -> set[str]:
    found = (array for array in arrays if isinstance(array, dict))
    return {f"{array.get('name')} {array.get('dtype')}{array.get('shape')}" for array in found}


def _spent(audit: Audit) -> Iterable[tuple[str, ...]]:
    for chain in audit.chains:
        charges: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for one in chain.sessions.values():
            if one["intended"] and one.get("privacy"):
                told = dict(one["privacy"])
                unit, delta = str(told.pop("unit", "")), told.pop("delta", None)
                charges.setdefault((unit, str(delta)), []).append(told)
        for (unit, delta), spent in charges.items():
            yield chain.party, unit, str(len(spent)), _epsilon(spent, delta), delta


def _epsilon(charges: Sequence[Mapping[str, Any]], delta: str) -> str:
    try:
        return f"{epsilon_of([Charge(**charge) for charge in charges], float(delta)):.4g}"
    except (PrivacyError, TypeError, ValueError) as error:  # of a charge that is none, or without the extra
        return str(error)


def _refusals(audit: Audit) -> Iterable[tuple[str, ...]]:
    for chain in audit.chains:
        times: dict[str, int] = {}
        for one in chain.sessions.values():
            if one.get("outcome") == "refused" and not one.get("refusals"):
                reason = str(one.get("reason"))
                times[reason] = times.get(reason, 0) + 1
        for reason, number in times.items():
            yield chain.party, reason, str(number)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
