"""study.toml: what all parties of a study have agreed on, public, the same bytes at every party.

It names the parties with their pinned keys, the protocol and its options, the question, and the numbers below which
nobody takes part. Its digest, SHA-256 of the file's bytes, is what parties compare: a study that differs by a byte is
another study. Everything is checked here, before anything is started or sent.

Adversary: none here: whoever takes part has read the file. A holder's own rules are in its `Policy`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, cast

from ..privacy.guarantee import Privacy
from ..protocols.additive_sharing import AdditiveSharing
from ..protocols.pairwise_masking import PairwiseMasking
from ..protocols.party import Roster
from ..protocols.protocol import Protocol
from ..protocols.registry import protocol_from
from ..protocols.ring_paillier import RingPaillier
from ..protocols.secret_sharing import SecretSharing
from ..serialization.encoding_parameters import (
    AutoRange,
    EncodingParameters,
    ExactFloat,
    FixedPoint,
    Integers,
    Quantized,
)
from ..serialization.errors import TacitError
from ..serialization.session_messages import Party
from .analysis import Analysis
from .errors import RecordError
from .identity_file import KINDS, check_name, fingerprint
from .toml_tables import Table, read_table

FORM = 1
KEY = re.compile("[0-9a-f]{64}")
ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")
TABLES = ("title", "form", "party", "protocol", "analysis", "encoding", "rules", "cluster")
PROTOCOLS: Mapping[str, type[Protocol[Any]]] = {
    kind.__name__: kind for kind in (RingPaillier, PairwiseMasking, SecretSharing, AdditiveSharing)
}
ENCODINGS: Mapping[str, Callable[..., EncodingParameters]] = {
    "ExactFloat": ExactFloat,
    "FixedPoint": FixedPoint,
    "Quantized": Quantized,
    "AutoRange": AutoRange,
    "Integers": Integers,
}


@dataclass(frozen=True)
class Study:
    """A study, as its file says.

    Attributes
    ----------
    title : str
    roster : Roster
        The parties in the order of the file, with their pinned keys.
    protocol : Protocol
    analysis : Analysis
        The question; `model` makes it.
    encoding : EncodingParameters or None
        None is the model's own.
    minimum_holders, minimum_rows : int
        Below which no sum is made; a holder's policy may ask for more.
    on_dropout : {"fail", "continue"}
        What to do when a holder is lost.
    set_changes : int or None
        What every holder allows, as `Policy.set_changes`. By default 0 if a loss is to fail: then no honest question is
        over fewer holders; else None.
    address : str
        Host and port where Ray's head listens.
    machines : mapping of str to str
        Of each party, the party whose machine it runs on: itself, unless the study says otherwise.
    digest : bytes
        SHA-256 of the file's bytes, 32 bytes.
    """

    title: str
    roster: Roster
    protocol: Protocol[Any]
    analysis: Analysis
    encoding: EncodingParameters | None
    minimum_holders: int
    minimum_rows: int
    on_dropout: Literal["fail", "continue"]
    set_changes: int | None
    address: str
    machines: Mapping[str, str]
    digest: bytes = field(repr=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Study:
        """Read and check a study's file.

        Raises
        ------
        RecordError
            With the file, the table and the key, what is wrong, and what helps.
        """
        top, octets = read_table(path)
        top.only(TABLES)
        if top.get("form", int) != FORM:
            raise top.problem(f"this version of tacit reads form {FORM}", "form")
        roster = _roster(top)
        rules = top.table("rules")
        rules.only(("minimum_holders", "minimum_rows", "on_dropout", "set_changes"))
        protocol = _protocol(top.table("protocol"), roster)
        on_dropout = rules.one_of("on_dropout", ("fail", "continue"), "fail")
        counts_sets = "set_changes" in rules or on_dropout == "fail"
        return cls(
            title=_title(top),
            roster=roster,
            protocol=protocol,
            analysis=Analysis.of(top.table("analysis")),
            encoding=_encoding(top.table("encoding")) if "encoding" in top else None,
            minimum_holders=_minimum_holders(rules, protocol, roster),
            minimum_rows=_number(rules, "minimum_rows", 0),
            on_dropout=cast(Literal["fail", "continue"], on_dropout),
            set_changes=_number(rules, "set_changes", 0) if counts_sets else None,
            address=_address(top.table("cluster")),
            machines=_machines(top),
            digest=sha256(octets).digest(),
        )

    @property
    def parties(self) -> tuple[Party, ...]:
        """All parties, in the order of the file."""
        return self.roster.parties

    @property
    def data(self) -> str:
        """The name of every holder's source that the question is asked of."""
        return self.analysis.data

    @property
    def privacy(self) -> Privacy | None:
        """The guarantee for what is released, if there is one."""
        return self.analysis.privacy

    @property
    def cov_type(self) -> str:
        """How standard errors are estimated."""
        return self.analysis.cov_type

    def model(self, importable: Collection[str] = ()) -> Any:
        """Make the model, importing nothing but the names that are allowed: see `Analysis.model`."""
        return self.analysis.model(importable)

    def party(self, name: str) -> Party:
        """Return a party by its name.

        Raises
        ------
        RecordError
            If the study has none of that name.
        """
        for party in self.parties:
            if party.name == name:
                return party
        names = ", ".join(self.roster)
        raise RecordError(f"the study {self.title!r} has no party {name!r}: its parties are {names}")

    def to_dict(self) -> dict[str, Any]:
        """Return what there is to say of the study as JSON-able data."""
        return {
            "title": self.title,
            "digest": self.digest.hex(),
            "parties": [
                {
                    "name": party.name,
                    "kind": party.kind,
                    "machine": self.machines[party.name],
                    "fingerprint": fingerprint(party),
                }
                for party in self.parties
            ],
            "protocol": repr(self.protocol),
            "model": self.analysis.kind,
            "parameters": dict(self.analysis.parameters),
            "data": self.data,
            "privacy": None if self.privacy is None else self.privacy.to_dict(),
            "encoding": None if self.encoding is None else repr(self.encoding),
            "minimum_holders": self.minimum_holders,
            "minimum_rows": self.minimum_rows,
            "on_dropout": self.on_dropout,
            "set_changes": self.set_changes,
            "address": self.address,
        }

    def __str__(self) -> str:
        keywords = ", ".join(f"{name}={value!r}" for name, value in self.analysis.parameters.items())
        sets = "" if self.set_changes is None else f"; changes of the set of holders: {self.set_changes}"
        rows = [
            ("study", self.title),
            ("digest", self.digest.hex()),
            ("protocol", repr(self.protocol)),
            ("question", f"{self.analysis.kind}({keywords}) of {self.data!r}"),
            ("privacy", "none" if self.privacy is None else repr(self.privacy)),
            (
                "rules",
                f"{self.minimum_holders} holders, {self.minimum_rows} rows; a loss: {self.on_dropout}{sets}",
            ),
            ("cluster", self.address),
            *(
                (party.kind, f"{party.name:<16} {fingerprint(party)}{self._guest(party)}")
                for party in self.parties
            ),
        ]
        return "\n".join(f"{what:<12} {text}" for what, text in rows)

    def _guest(self, party: Party) -> str:
        machine = self.machines[party.name]
        return "" if machine == party.name else f", on the machine of {machine}"


def _title(top: Table) -> str:
    title = top.get("title", str)
    if not title or not title.isprintable():
        raise top.problem("is one line of printable text", "title")
    return title


def _roster(top: Table) -> Roster:
    """Return the roster of the [[party]] tables."""
    tables = top.tables("party")
    if not tables:
        raise top.problem(
            "there is none: paste what each party's `python -m tacit keys identity` prints", "[[party]]"
        )
    parties = tuple(map(_party, tables))
    try:
        return Roster(parties)
    except TacitError as error:
        raise top.problem(str(error), "[[party]]") from None


def _party(table: Table) -> Party:
    table.only(("name", "kind", "machine", "verify_key", "agreement_key"))
    name = table.get("name", str)
    try:
        check_name(name)
    except RecordError as error:
        raise table.problem(str(error), "name") from None
    return Party(
        name=name,
        kind=table.one_of("kind", KINDS),
        verify_key=_key(table, "verify_key"),
        agreement_key=_key(table, "agreement_key"),
    )


def _machines(top: Table) -> dict[str, str]:
    """Return whose machine each party runs on; a guest's host has a machine of its own."""
    tables = {table.get("name", str): table for table in top.tables("party")}
    machines = {name: table.optional("machine", str) or name for name, table in tables.items()}
    for name, machine in machines.items():
        if machines.get(machine) != machine:
            raise tables[name].problem(
                f"{machine!r} is no party of this study with a machine of its own", "machine"
            )
    return machines


def _key(table: Table, key: str) -> bytes:
    digits = table.get(key, str)
    if KEY.fullmatch(digits) is None:
        raise table.problem("a key is 64 hexadecimal digits, as `python -m tacit keys show` prints them", key)
    return bytes.fromhex(digits)


def _protocol(table: Table, roster: Roster) -> Protocol[Any]:
    name = table.one_of("name", PROTOCOLS)
    protocol = table.without("name").made(PROTOCOLS[name])
    if protocol.at_most is not None:
        raise table.problem("a study names its holders, so nobody can be kept from knowing them", "at_most")
    try:
        protocol = protocol_from(protocol.options)  # as everybody will make it of the invitation
        protocol.check_roster(roster)
        protocol.check_holders(roster.holders)
    except TacitError as error:
        raise table.problem(str(error)) from None
    return protocol


def _encoding(table: Table) -> EncodingParameters:
    name = table.one_of("name", ENCODINGS)
    return table.without("name").made(ENCODINGS[name])


def _number(table: Table, key: str, default: int) -> int:
    number = table.get(key, int, default)
    if number < 0:
        raise table.problem(f"is a whole number from 0, not {number}", key)
    return number


def _minimum_holders(rules: Table, protocol: Protocol[Any], roster: Roster) -> int:
    """Return what the study says, and no less than the protocol needs."""
    minimum = max(_number(rules, "minimum_holders", 0), protocol.minimum_holders)
    if minimum > len(roster.holders):
        raise rules.problem(f"{minimum}, and the study has {len(roster.holders)} holders", "minimum_holders")
    return minimum


def _address(cluster: Table) -> str:
    cluster.only(("address",))
    address = cluster.get("address", str)
    found = ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 2**16:
        raise cluster.problem(f'{address!r} is no host and port, such as "10.1.0.1:6379"', "address")
    return address
