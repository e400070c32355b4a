"""Do the parties' ledgers say the same? Each chain verified by itself, then all laid beside each other.

A chain that was changed by somebody without the party's key is found by the chain (`log_verification`). A party that
has rewritten its own, or cut it short, is found by the others': whatever one party has on record of a session, the
others' records must bear out.

What is compared. What a session was, as far as two parties know it: study, definition, model, query, protocol,
encoding, roster, to whom, what, under which noise. And what became of it: whoever opens a session has it on record
before anybody else; whoever is in a sum that was released has the intention on record, over those who are in it; all
who were told who is in it, before they helped to open it, were told the same; a refusal that was told has been made.
That a party was lost, or stopped, explains a record that is missing, and no more.

Who learns what: the auditor, what the ledgers say. Adversary: parties who rewrite their ledgers, unless all parties to
a session do so together.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from .errors import RecordError
from .ledger import PLACE
from .log_verification import Fault, check_log, numbers
from .object_store import FolderStore
from .transparency_log import Entry, Head, Log, read_entry

SAME = (
    "study",
    "definition",
    "model",
    "step",
    "query",
    "protocol",
    "encoding",
    "roster",
    "to",
    "arrays",
    "privacy",
)
NO_RECORD = "no record"
FORMS: Mapping[str, tuple[type, ...]] = {  # of what a party may have signed that is no record
    "party": (str,),
    "session": (str,),
    "time": (int, float),
    "event": (str,),
    "study": (str, NoneType),
    "to": (str, NoneType),
    "outcome": (str, NoneType),
    "reason": (str, NoneType),
    "over": (list, NoneType),
    "survivors": (list, NoneType),
    "adders": (list, NoneType),
    "agreed": (list, NoneType),
    "model": (dict, NoneType),
    "protocol": (dict, NoneType),
    "encoding": (dict, NoneType),
    "privacy": (dict, NoneType),
    "refusals": (dict, NoneType),
    "roster": (dict, NoneType),
}
LATEST = 1e11  # seconds since 1970
RANGES = "AutoRange"  # under which bounds are released, and not what holders put in


@dataclass(frozen=True, slots=True)
class Chain:
    """The ledger of one party, read and verified.

    Attributes
    ----------
    folder : str
    party, kind : str
        Whose it says it is.
    key : str
        With which it is signed, 64 hexadecimal digits.
    head : Head
        **To be remembered**: with it a later audit sees whether anything was cut off.
    faults : tuple of Fault
    sessions : mapping of str to mapping
        What it says of each session, its entries joined, oldest first.
    """

    folder: str
    party: str
    kind: str
    key: str
    head: Head
    faults: tuple[Fault, ...]
    sessions: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Something that parties have not alike on record.

    Attributes
    ----------
    session : str
    field : str
        What of it: one of `SAME`, or "session", "outcome", "survivors".
    said : mapping of str to str
        By party.
    """

    session: str
    field: str
    said: Mapping[str, str]

    def __str__(self) -> str:
        said = "; ".join(f"{party}: {value}" for party, value in self.said.items())
        return f"session {self.session[:16]}, {self.field}: {said}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"session": self.session, "field": self.field, "said": dict(self.said)}


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a study says beforehand.

    Attributes
    ----------
    title : str
    digest : str
        64 hexadecimal digits.
    keys : mapping of str to str
        Every party's public key, 64 hexadecimal digits.
    """

    title: str
    digest: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Attributes
    ----------
    study : Pinned or None
    chains : tuple of Chain
    disagreements : tuple of Disagreement
    """

    study: Pinned | None
    chains: tuple[Chain, ...]
    disagreements: tuple[Disagreement, ...]

    @property
    def ok(self) -> bool:
        """Whether every chain is as it was written, and none contradicts another."""
        return not self.disagreements and not any(chain.faults for chain in self.chains)

    @property
    def sessions(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """What each party says of each session, by session and party, oldest first."""
        return by_session(self.chains)

    @property
    def unfinished(self) -> list[tuple[str, str]]:
        """Sessions and parties that have an intention on record, and no outcome: they were stopped in between."""
        return [
            (session, party)
            for session, told in self.sessions.items()
            for party, one in told.items()
            if one.get("outcome") is None
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data; ``heads`` is what a later audit takes as remembered."""
        return {
            "ok": self.ok,
            "heads": {chain.party: chain.head.to_dict() for chain in self.chains},
            "keys": {chain.party: chain.key for chain in self.chains},
            "faults": {
                chain.party: [str(fault) for fault in chain.faults] for chain in self.chains if chain.faults
            },
            "disagreements": [each.to_dict() for each in self.disagreements],
            "sessions": self.sessions,
        }


def audit(
    folders: Iterable[str | os.PathLike[str]],
    study: Pinned | None = None,
    remembered: Mapping[str, Head] | None = None,
) -> Audit:
    """Verify ledgers and reconcile them.

    Parameters
    ----------
    folders : iterable of path
        One for each party.
    study : Pinned, optional
        Who the parties are; sessions of other studies are left out.
    remembered : mapping of str to Head, optional
        Heads of an earlier audit, by party.

    Raises
    ------
    RecordError
        If a folder is no ledger.
    """
    chains: list[Chain] = []
    for folder in folders:
        chain = read_chain(folder, study, remembered or {})
        if chain.party in {other.party for other in chains}:
            raise RecordError(f"two of the ledgers are {chain.party}'s: audit one for each party")
        chains.append(chain)
    return Audit(study, tuple(chains), tuple(reconcile(chains)))


def read_chain(
    folder: str | os.PathLike[str], study: Pinned | None = None, remembered: Mapping[str, Head] | None = None
) -> Chain:
    """Read a ledger and verify it.

    Raises
    ------
    RecordError
        If the folder is none, or has no entry that tells whose it is.
    """
    where = os.fspath(folder)
    if not (Path(folder) / PLACE).is_dir():
        raise RecordError(f"{where} is no ledger: there is no folder {PLACE!r} in it")
    objects = FolderStore(folder)
    entries = list(_readable(objects))
    if not entries:
        raise RecordError(f"{where} has no entry that can be read: nobody can tell whose it is")
    party, kind = (str(entries[0].body.get(name)) for name in ("party", "kind"))
    key = entries[0].key if study is None else study.keys.get(party, entries[0].key)
    faults = list(
        check_log(objects, PLACE, trusted=frozenset({key}), remembered=(remembered or {}).get(party))
    )
    if study is not None and party not in study.keys:
        faults.append(Fault(f"{PLACE}/", f"the study has no party {party!r}"))
    sessions: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not _is_record(entry.body) or entry.body["party"] != party:
            faults.append(Fault(f"{PLACE}/{entry.number:08d}.json", f"it is no record of {party}'s"))
        elif entry.key == key and (study is None or entry.body.get("study") in (None, study.digest)):
            _join(sessions.setdefault(entry.body["session"], {}), entry.body)
    return Chain(where, party, kind, key, Log(objects, PLACE).head(), tuple(faults), sessions)


def _readable(objects: FolderStore) -> Iterator[Entry]:
    """Yield the entries that can be read, also after one that is missing."""
    for number in numbers(objects, PLACE):
        address = f"{PLACE}/{number:08d}.json"
        with contextlib.suppress(RecordError):
            yield read_entry(objects.read(address) or b"", PLACE, number, address)


def _is_record(body: Mapping[str, Any]) -> bool:
    """Whether an entry has the form of a record: a party may have signed anything."""
    if not all(isinstance(body.get(name), types) for name, types in FORMS.items()):
        return False
    names = [name for field in ("over", "survivors", "adders", "agreed") for name in body.get(field) or []]
    return 0 <= body["time"] < LATEST and all(isinstance(name, str) for name in names)


def _join(told: dict[str, Any], body: Mapping[str, Any]) -> None:
    """Add an entry to what a party says of a session; the latest counts, but of when it began."""
    began = told.get("time", body.get("time"))
    intended = told.get("intended", False) or body.get("event") == "intention"
    told.update({name: value for name, value in body.items() if name not in ("event", "session")})
    told.update(time=began, intended=intended)


def by_session(chains: Sequence[Chain]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what each party says of each session, oldest first."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for chain in chains:
        for session, told in chain.sessions.items():
            found.setdefault(session, {})[chain.party] = told
    return dict(sorted(found.items(), key=lambda item: min(told["time"] for told in item[1].values())))


def reconcile(chains: Sequence[Chain]) -> Iterator[Disagreement]:
    """Lay the parties' records beside each other and yield what does not go together."""
    audited = [chain.party for chain in chains]
    for session, told in by_session(chains).items():
        yield from _unlike(session, told)
        yield from _not_agreed(session, told)
        opener = next((str(one["to"]) for one in told.values() if one.get("to")), None)
        if opener in told:
            yield from _against_opener(session, told, opener, audited)
        elif opener in audited:
            said = {party: _outcome(one) for party, one in told.items()}
            yield Disagreement(session, "session", {**said, str(opener): NO_RECORD})
        else:
            yield from _among_holders(session, told, audited)


def _unlike(session: str, told: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    """Yield the facts that parties know, and not alike."""
    are_bounds = any((one.get("encoding") or {}).get("name") == RANGES for one in told.values())
    for field in SAME:
        known = {party: one[field] for party, one in told.items() if one.get(field) is not None}
        said = {party: _text(value) for party, value in known.items()}
        if field == "arrays" and are_bounds:  # of which the opener is told no shapes
            holders = {text for party, text in said.items() if party != told[party].get("to")}
            unlike = len(holders) > 1 or len({_text(_bounds_of(value)) for value in known.values()}) > 1
        else:
            unlike = len(set(said.values())) > 1
        if unlike:
            yield Disagreement(session, field, said)


def _not_agreed(session: str, told: Mapping[str, Mapping[str, Any]]) -> Iterator[Disagreement]:
    """Yield over whom a sum is, if those who knew it when they opened it have it differently."""
    known = {party: one.get("agreed") for party, one in told.items()}
    known |= {
        party: one["survivors"]
        for party, one in told.items()
        if one.get("outcome") == "released" and one.get("survivors")
    }
    said = {party: _text(sorted(holders)) for party, holders in known.items() if holders is not None}
    if len(set(said.values())) > 1:
        yield Disagreement(session, "survivors", said)


def _bounds_of(arrays: Any) -> Any:
    """Return what is released of arrays under `AutoRange`: one bound in the place of floats."""
    if not (isinstance(arrays, list) and all(isinstance(array, dict) for array in arrays)):
        return arrays
    floats = ("float32", "float64")
    return [
        {**array, "dtype": "float64", "shape": []} if array.get("dtype") in floats else array
        for array in arrays
    ]


def _against_opener(
    session: str, told: Mapping[str, Mapping[str, Any]], opener: str, audited: Sequence[str]
) -> Iterator[Disagreement]:
    """Yield what does not go with the record of the one to whom a sum was released."""
    own = told[opener]
    survivors = own.get("survivors") or []
    if own.get("outcome") == "released":
        for party in [*survivors, *(own.get("adders") or [])]:
            if party in audited:
                yield from _in_the_sum(session, party, told.get(party), survivors, opener)
    elif own.get("outcome") is not None:
        for party, one in told.items():
            if one.get("outcome") == "released":
                yield Disagreement(session, "outcome", {party: "released", opener: _outcome(own)})
    for party, reason in (own.get("refusals") or {}).items():
        its = told.get(party)
        refused = its is not None and (its.get("outcome"), its.get("reason")) == ("refused", reason)
        if party in audited and not refused:
            said = {opener: f"{party} refused: {reason}", party: NO_RECORD if its is None else _outcome(its)}
            yield Disagreement(session, "outcome", said)


def _among_holders(
    session: str, told: Mapping[str, Mapping[str, Any]], audited: Sequence[str]
) -> Iterator[Disagreement]:
    """Yield what holders tell differently, when the record of whoever opened the session is not at hand."""
    for party, one in told.items():
        if one.get("outcome") == "released":
            for other in one.get("over") or []:
                if other in audited and other != party:
                    yield from _in_the_sum(session, other, told.get(other), [], party)


def _in_the_sum(
    session: str, party: str, one: Mapping[str, Any] | None, survivors: Sequence[str], teller: str
) -> Iterator[Disagreement]:
    """Yield whether a party's record bears out that it was in a sum."""
    if one is None:
        yield Disagreement(session, "session", {teller: f"released over {party}", party: NO_RECORD})
    elif not one["intended"]:
        yield Disagreement(session, "outcome", {teller: f"released over {party}", party: _outcome(one)})
    elif one.get("agreed") is None and not set(survivors) <= set(one.get("over") or []):
        yield Disagreement(session, "survivors", {teller: _text(survivors), party: _text(one.get("over"))})


def _outcome(one: Mapping[str, Any]) -> str:
    """Return what became of a session, as a party has it."""
    if one.get("outcome") is None:
        return "unfinished"
    return ": ".join(filter(None, (str(one["outcome"]), str(one.get("reason") or ""))))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
