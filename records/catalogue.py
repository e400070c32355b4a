"""What the log of a repository amounts to: names, their versions, who signed them, which tags point to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import RecordError
from .model_card import read_card, release_of
from .signing import Signature, is_signed
from .transparency_log import Entry

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is listed.

    Attributes
    ----------
    name, version
        What it is called.
    card : str
        SHA-256 of its card.
    signatures : tuple of Signature
        Of the coordinator first, then of those who co-signed.
    needed : int
        How many must co-sign.
    tags : tuple of str
        Names that point to it.
    number : int
        Of its entry in the log.
    """

    name: str
    version: int
    card: str
    signatures: tuple[Signature, ...]
    needed: int
    tags: tuple[str, ...]
    number: int

    @property
    def released(self) -> bool:
        """Whether it may be loaded, predicted from and exported."""
        return len(self.signatures) > self.needed

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "name": self.name,
            "version": self.version,
            "status": "released" if self.released else "pending",
            "co-signatures": len(self.signatures) - 1,
            "needed": self.needed,
            "tags": list(self.tags),
            "card": self.card,
            "signed by": self.signatures[0].key,
        }


class Catalogue:
    """The versions that a log tells of.

    Parameters
    ----------
    entries : sequence of Entry
        All that can be read, oldest first.
    is_genuine : callable, optional
        Whether a co-signature of a card, by its hash, counts; by default any does.
    """

    def __init__(
        self, entries: Sequence[Entry], is_genuine: Callable[[str, Signature], bool] = lambda *_: True
    ) -> None:
        self.n_entries = len(entries)
        self._is_genuine = is_genuine
        self._versions: dict[str, dict[int, Version]] = {}
        self._tags: dict[tuple[str, str], int] = {}
        self._answers: dict[tuple[str, str], int] = {}
        for entry in entries:
            self._take(entry)

    def names(self) -> list[str]:
        """Every name with a version."""
        return sorted(self._versions)

    def versions(self, name: str) -> list[int]:
        """Return the versions of a name, oldest first; empty if there are none."""
        return sorted(self._versions.get(name, ()))

    def answer_to(self, name: str, request: str) -> int | None:
        """Return the version that was saved on a request; None if there is none."""
        return self._answers.get((name, request))

    def find(self, name: str, version: int | str | None = None) -> Version:
        """Return a version by its number or a tag, by default the newest released, or else the newest.

        Raises
        ------
        RecordError
            If there is no such name or version.
        """
        known = self._versions.get(name)
        if not known:
            raise RecordError(f"nothing is saved under {name!r}")
        if version is None:
            found = max(known.values(), key=lambda one: (one.released, one.version))
        else:
            number = self._tags.get((name, version), 0) if isinstance(version, str) else version
            if number not in known:
                numbers = ", ".join(map(str, sorted(known)))
                raise RecordError(f"{name!r} has no version {version}: its versions are {numbers}")
            found = known[number]
        pointing = (tag for (of, tag), number in self._tags.items() if (of, number) == (name, found.version))
        return replace(found, tags=tuple(sorted(pointing)))

    def _take(self, entry: Entry) -> None:
        body = entry.body
        kind, name, version = body.get("kind"), str(body.get("name")), body.get("version")
        if not isinstance(version, int):
            return
        signature = Signature(str(body.get("by")), str(body.get("signature")))
        known = self._versions.setdefault(name, {}) if kind == "version" else self._versions.get(name, {})
        if kind == "version":
            card, needed = str(body.get("card")), body.get("needed")
            needed = needed if isinstance(needed, int) else 0
            known.setdefault(version, Version(name, version, card, (signature,), needed, (), entry.number))
            if isinstance(request := body.get("request"), str):
                self._answers[name, request] = version
        elif kind == "co-signature" and version in known and known[version].card == body.get("card"):
            card, (first, *others) = known[version].card, known[version].signatures
            repeated = signature.key in {other.key for other in others}  # who signs twice counts once
            if not repeated and self._is_genuine(card, signature):
                known[version] = replace(known[version], signatures=(first, *others, signature))
        elif kind == "tag":
            self._tags[name, str(body.get("tag"))] = version


def check_card(version: Version, content: bytes) -> dict[str, Any]:
    """Return the card of a version.

    Raises
    ------
    RecordError
        If it is of another version, or the coordinator has not signed it.
    """
    what = f"{version.name!r} version {version.version}"
    card = read_card(content, f"the card of {what}")
    if (card["name"], card["version"]) != (version.name, version.version):
        raise RecordError(f"the log has another card under {what}")
    if not is_signed(version.signatures[0], content):
        raise RecordError(f"the coordinator's signature of {what} is wrong")
    return card


def n_co_signed(version: Version, content: bytes, card: Mapping[str, Any]) -> int:
    """Return how many of those who must co-sign a version have."""
    keys = set(release_of(card).signatories.values())
    return len({one.key for one in version.signatures[1:] if one.key in keys and is_signed(one, content)})


def check_name(name: str) -> None:
    """Refuse a name that could be mistaken for something else."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RecordError(
            "a name has 1 to 100 letters, digits, dots, dashes and underscores, and starts with a letter or a digit"
        )
