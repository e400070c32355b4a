"""The repository's store: results under names with versions, signed and logged, and the record of every aggregate.

Layout, in a folder or behind a URL; no file but heads and checkpoints is ever changed, and none is ever removed::

    objects/<sha256>.json           a model card, at the hash of its bytes
    objects/<sha256>.safetensors    the arrays of one
    log/<number>.json               what was done: a version, a co-signature, a tag
    aggregates/<number>.json        every sum that was revealed
    uses/<number>.json              what capability tokens were used for
    <log>/head.json                 size and root of each log
    checkpoints/<name>.<0 or 1>     where a run stands, for a while: see `checkpoints`

A version is there from the moment its log entry is: its objects are written before. So a writer killed at any point
leaves either a whole version or none, and objects that nobody names, which are harmless. The entry has the version's
number, and a file is created only where there is none: concurrent writers get different versions.

With a repository key everything is sealed (`sealing`). The keys of the signatures are not in the folder: who
pins none learns from `verify` that nothing was changed by somebody without *some* key, and by which keys it is signed.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .canonical import sha256
from .catalogue import Catalogue, Version, check_card, check_name, n_co_signed
from .checkpoints import CheckpointStore
from .errors import RecordError
from .fits import predicted
from .model_card import Draft, Release, draft_of, read_card, release_of, result_of
from .object_store import open_objects
from .sealing import RepositoryKey, SealedStore
from .signing import Signature, SigningKey, envelope_of, is_signed
from .transparency_log import Entry, Inclusion, Log

Record = Mapping[str, Any]

LOG, AGGREGATES, USES = "log", "aggregates", "uses"
OBJECT = re.compile(r"objects/[0-9a-f]{64}\.(json|safetensors)")


class ModelStore:
    """Results and records of aggregates in one place.

    Parameters
    ----------
    location : path or URL
        A folder, made if it does not exist; or a URL that fsspec knows, **with one writer**.
    signing_key : SigningKey, optional
        What the logs are signed with, and cards that nobody else signs; by default one that is made here and lives
        as long as the store.
    repository_key : RepositoryKey, optional
        With it everything is encrypted at rest.

    Raises
    ------
    RecordError
        If the folder cannot be made, or the URL not be reached.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        signing_key: SigningKey | None = None,
        repository_key: RepositoryKey | None = None,
    ) -> None:
        plain = open_objects(location)
        self.objects = plain if repository_key is None else SealedStore(plain, repository_key, os.urandom)
        self.signing_key = signing_key or SigningKey.fresh(os.urandom)
        self._logged: list[Entry] = []  # of which the catalogue is made
        self._sessions: dict[
            str, int
        ] = {}  # of the aggregates, whose bodies are on disk alone: they may be long
        self._n_uses: Counter[str] = Counter()  # of each token
        self.log, self.ledger, self.uses = (
            Log(self.objects, place, self.signing_key, note=note)
            for place, note in (
                (LOG, self._logged.append),
                (AGGREGATES, self._note_aggregate),
                (USES, self._note_use),
            )
        )
        self.checkpoints = CheckpointStore(self.objects, self.ledger)
        self._catalogue = Catalogue([])
        self._genuine: set[tuple[str, Signature]] = set()  # co-signatures that have been checked
        self._guard = threading.Lock()

    # Aggregates

    def append_aggregate(self, record: Record) -> int:
        """Append the record of one aggregate; returns its number, from 1.

        A record of a session that is there already is not written again, so a repeated call is harmless.

        Raises
        ------
        RecordError
            If the record names no session, holds what JSON cannot carry, or cannot be written.
        """
        session = record.get("session")
        if not isinstance(session, str):
            raise RecordError("the record of an aggregate names its session, a text")
        with self._guard, self.objects.locked():
            self.ledger.refresh()
            return self._sessions.get(session) or self.ledger.append(record).number

    def aggregates(self) -> list[dict[str, Any]]:
        """Every record, oldest first, read anew.

        Raises
        ------
        RecordError
            If one of them is damaged.
        """
        return [dict(entry.body) for entry in self.ledger.entries()]

    def n_uses(self, token: str) -> int:
        """Return how often a capability token, by its identifier, was used."""
        self.uses.refresh()
        return self._n_uses[token]

    def _note_aggregate(self, entry: Entry) -> None:
        self._sessions.setdefault(str(entry.body.get("session")), entry.number)

    def _note_use(self, entry: Entry) -> None:
        self._n_uses[str(entry.body.get("token"))] += 1

    # Versions

    def save(
        self,
        name: str,
        result: Record,
        *,
        release: Release | None = None,
        provenance: Record | None = None,
        request: str | None = None,
        sign: Callable[[bytes], Signature] | None = None,
    ) -> int:
        """Save a result as the next version of a name; returns the version, from 1.

        Parameters
        ----------
        name : str
            Letters, digits, dots, dashes and underscores.
        result : mapping
            JSON-able data, as `Fit.to_dict` returns it; may hold numpy arrays.
        release : Release, optional
            Who must co-sign before it may be used.
        provenance : mapping, optional
            What the card is to say beyond what the result says.
        request : str, optional
            An identifier of this call: repeated, it returns the same version.
        sign : callable, optional
            Signs the card: the coordinator's; by default the key of the store.

        Raises
        ------
        RecordError
            If the name or the result cannot be stored.
        """
        while True:
            draft = self.draft(name, result, release=release, provenance=provenance)
            version = self.commit(draft, (sign or self.signing_key.sign)(draft.card), request=request)
            if version is not None:
                return version

    def draft(
        self, name: str, result: Record, *, release: Release | None = None, provenance: Record | None = None
    ) -> Draft:
        """Return what the next version of a name would be, for the coordinator to sign; nothing is written."""
        version = max(self.versions(name), default=0) + 1
        return draft_of(name, version, result, self.ledger.head(), release, provenance or {}, time.time())

    def commit(self, draft: Draft, signature: Signature, *, request: str | None = None) -> int | None:
        """Write a version with the coordinator's signature.

        Parameters
        ----------
        draft : Draft
        signature : Signature
            Of its card.
        request : str, optional
            As of `save`.

        Returns
        -------
        int or None
            The version; None if it has been taken meanwhile, and a new draft must be signed.

        Raises
        ------
        RecordError
            If the signature is wrong, or it cannot be written.
        """
        if not is_signed(signature, draft.card):
            raise RecordError("the signature is not of this card")
        with self._guard, self.objects.locked():
            catalogue = self.catalogue()
            if request is not None and (answered := catalogue.answer_to(draft.name, request)) is not None:
                return answered
            if draft.version <= max(catalogue.versions(draft.name), default=0):
                return None
            if draft.arrays is not None:
                self._put(arrays_address(sha256(draft.arrays)), draft.arrays)
            self._put(card_address(sha256(draft.card)), draft.card)
            self.log.append(self._body(draft, signature, request))
        return draft.version

    def co_sign(self, name: str, version: int, signature: Signature) -> Version:
        """Add the signature of one of those who must co-sign; repeating it is harmless.

        Raises
        ------
        RecordError
            If it is not of this card, or not by one of them.
        """
        with self._guard, self.objects.locked():
            found = self.find(name, version)
            content = self.card_bytes(found)
            if signature.key not in self._signatories(found.card, content):
                raise RecordError(f"{name!r} version {version} is not co-signed by this key")
            if not is_signed(signature, content):
                raise RecordError(f"the signature is not of the card of {name!r} version {version}")
            if signature.key not in {one.key for one in found.signatures[1:]}:
                body = {"kind": "co-signature", "name": name, "version": version, "card": found.card}
                self.log.append({**body, "by": signature.key, "signature": signature.value})
        return self.find(name, version)

    def tag(self, name: str, tag: str, version: int | None = None) -> int:
        """Have a tag point to a version, by default the newest released; returns the version."""
        check_name(tag)
        if tag.isdecimal():
            raise RecordError("a tag is not a number: versions are")
        with self._guard, self.objects.locked():
            found = self.find(name, version)
            self.log.append({"kind": "tag", "name": name, "tag": tag, "version": found.version})
        return found.version

    def load(self, name: str, version: int | str | None = None) -> dict[str, Any]:
        """Load a version of a result, by default the newest released.

        Parameters
        ----------
        name : str
        version : int or str, optional
            Its number or a tag.

        Raises
        ------
        RecordError
            If there is no such name or version, it is not released, or a file is damaged.
        """
        card = self.card(name, version, released=True)
        return result_of(card, None if card["arrays"] is None else self.get(arrays_address(card["arrays"])))

    def predict(self, name: str, rows: Any, version: int | str | None = None, module: Any = None) -> Any:
        """Return what a released fit predicts for rows, as `fits.predicted` does."""
        return predicted(self.load(name, version), rows, module)

    def card(self, name: str, version: int | str | None = None, *, released: bool = False) -> dict[str, Any]:
        """Return the card of a version, after a look at its hash and the coordinator's signature.

        Parameters
        ----------
        name : str
        version : int or str, optional
            Its number or a tag; by default the newest released.
        released : bool
            Whether to refuse one that is pending.
        """
        found = self.find(name, version)
        content = self.card_bytes(found)
        card = check_card(found, content)
        n_signed, needed = n_co_signed(found, content, card), release_of(card).needed
        if released and n_signed < needed:
            raise RecordError(
                f"{name!r} version {found.version} is pending: {n_signed} of {needed} co-signatures are there"
            )
        return card

    def files_of(self, name: str, version: int | str | None = None) -> dict[str, bytes | dict[str, Any]]:
        """Return all that somebody needs to use and to check a released version elsewhere.

        Returns
        -------
        dict
            ``card.json`` and ``arrays.safetensors`` as bytes; ``envelope.json``, the card in a DSSE envelope with all
            signatures, and ``inclusion.json``, the proof that it is in the log, as JSON-able data.
        """
        card, found = self.card(name, version, released=True), self.find(name, version)
        content = self.card_bytes(found)
        files: dict[str, bytes | dict[str, Any]] = {
            "card.json": content,
            "envelope.json": envelope_of(content, found.signatures),
            "inclusion.json": self.prove(name, found.version).to_dict(),
        }
        if card["arrays"] is not None:
            files["arrays.safetensors"] = self.get(arrays_address(card["arrays"]))
        return files

    def prove(self, name: str, version: int | str | None = None) -> Inclusion:
        """Prove that a version is in the log."""
        return self.log.include(self.find(name, version).number)

    def versions(self, name: str) -> list[int]:
        """Return the versions of a name, oldest first, pending ones too; empty if there are none."""
        check_name(name)
        return self.catalogue().versions(name)

    def names(self) -> list[str]:
        """Every name with a saved result."""
        return self.catalogue().names()

    def listing(self, name: str | None = None) -> list[Version]:
        """Return every version, by name and number, with its status; or those of one name."""
        catalogue = self.catalogue()
        chosen = catalogue.names() if name is None else [name]
        return [catalogue.find(each, version) for each in chosen for version in catalogue.versions(each)]

    def find(self, name: str, version: int | str | None = None) -> Version:
        """Return a version as it is listed, by its number or a tag, by default the newest released.

        Raises
        ------
        RecordError
            If there is none; or if it is not asked for by its number, and the log is damaged after it: what cannot
            be read might be a newer version or tag.
        """
        check_name(name)
        catalogue = self.catalogue()
        try:
            found = catalogue.find(name, version)
        except RecordError:
            self.log.check_whole()
            raise
        if not isinstance(version, int):
            self.log.check_whole(after=found.number)
        return found

    def catalogue(self) -> Catalogue:
        """Return what the log amounts to."""
        self.log.refresh()
        if self._catalogue.n_entries != len(self._logged):
            self._catalogue = Catalogue(tuple(self._logged), self._is_genuine)
        return self._catalogue

    # How it is kept

    def _is_genuine(self, card: str, signature: Signature) -> bool:
        """Whether a co-signature is of this card and by a signatory; of a card that cannot be read, it is taken to be.

        A version whose card is damaged so stays the newest, and is not passed over in silence when it is loaded.
        """
        if (card, signature) in self._genuine:
            return True
        try:
            content = self.get(card_address(card))
            signatories = self._signatories(card, content)
        except RecordError:
            return True
        if signature.key not in signatories or not is_signed(signature, content):
            return False
        self._genuine.add((card, signature))
        return True

    @staticmethod
    def _signatories(card: str, content: bytes) -> Collection[str]:
        """Return the keys that may co-sign a card."""
        return release_of(read_card(content, card_address(card))).signatories.values()

    @staticmethod
    def _body(draft: Draft, signature: Signature, request: str | None) -> dict[str, Any]:
        card = read_card(draft.card, "the draft")
        body = {
            "kind": "version",
            "name": draft.name,
            "version": draft.version,
            "card": sha256(draft.card),
            "needed": release_of(card).needed,
            "by": signature.key,
            "signature": signature.value,
        }
        return body if request is None else {**body, "request": request}

    def card_bytes(self, version: Version) -> bytes:
        """Return a card as it is signed: what a holder looks at before it co-signs."""
        return self.get(card_address(version.card))

    def get(self, address: str) -> bytes:
        """Return an object, unless its bytes have another hash than its address."""
        if not OBJECT.fullmatch(address):  # a log entry or a card that somebody forged may say anything
            raise RecordError(f"{address!r} is the address of no object")
        content = self.objects.read(address)
        if content is None:
            raise RecordError(f"{self.objects.file_of(address)} is missing")
        if sha256(content) != address.removeprefix("objects/").partition(".")[0]:
            raise RecordError(f"{self.objects.file_of(address)} is damaged: it was changed")
        return content

    def _put(self, address: str, content: bytes) -> None:
        """Write an object; one that is there already must be whole."""
        if not self.objects.create(address, content):
            self.get(address)


def card_address(digest: str) -> str:
    """Return where a card lies."""
    return f"objects/{digest}.json"


def arrays_address(digest: str) -> str:
    """Return where arrays lie."""
    return f"objects/{digest}.safetensors"
