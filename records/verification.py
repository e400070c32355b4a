"""Is everything in a repository as it was written? Read all of it anew, recompute every hash and signature.

Nothing that a store remembers is used. Every file is looked at: log entries and heads by signature, chain and root,
cards, arrays and checkpoints by hash, signature and the root of the ledger that they name, objects that no version
names by their own address. A file that has no place in a repository is named, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import sha256
from .catalogue import Catalogue, Version, check_card, n_co_signed
from .checkpoints import CHECKPOINTS, CheckpointStore
from .errors import RecordError
from .log_verification import NUMBERED, Fault, check_log
from .model_card import release_of
from .model_store import AGGREGATES, LOG, USES, ModelStore, arrays_address, card_address
from .run_logs import RUN_LOG
from .transparency_log import Entry, Head, Log

PLACES = (LOG, AGGREGATES, USES)


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of looking at everything.

    Attributes
    ----------
    faults : tuple of Fault
        What is not as it was written, each with its file; empty if all is well.
    versions : tuple of Version
        Those found.
    heads : mapping of str to Head
        Of each log. **Remember them**, and hand them in the next time: then nothing can be cut off the end.
    signed_by : tuple of str
        Public keys of the first signatures of all versions, the coordinator's: whose they are is for you to know.
    logged_by : tuple of str
        Public keys of the logs' entries, the repository's.
    n_files : int
        How many files were read.
    """

    faults: tuple[Fault, ...]
    versions: tuple[Version, ...]
    heads: Mapping[str, Head]
    signed_by: tuple[str, ...]
    logged_by: tuple[str, ...]
    n_files: int

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "ok": self.ok,
            "faults": [{"file": fault.file, "problem": fault.problem} for fault in self.faults],
            "versions": [version.to_dict() for version in self.versions],
            "heads": {place: head.to_dict() for place, head in self.heads.items()},
            "signed by": list(self.signed_by),
            "logged by": list(self.logged_by),
            "files": self.n_files,
        }

    def __str__(self) -> str:
        if self.ok:
            return f"verified: {self.n_files} files, {len(self.versions)} versions, nothing was changed"
        return "\n".join([f"{len(self.faults)} faults:", *(f"  {fault}" for fault in self.faults)])


def verify(
    store: ModelStore,
    name: str | None = None,
    *,
    trusted: Collection[str] = (),
    remembered: Mapping[str, Head] | None = None,
) -> Verification:
    """Check a repository, and name what was tampered with.

    Parameters
    ----------
    store : ModelStore
    name : str, optional
        Whose versions to check; by default all. Logs are always checked whole, objects that no version names only
        with all.
    trusted : collection of str
        Public keys that may have signed, the coordinator's and the repository's; empty for any, and then a repository
        that somebody wrote anew with a key of his own verifies too.
    remembered : mapping of str to Head, optional
        The heads of an earlier verification.

    Returns
    -------
    Verification
        Its `faults` are empty if all is well.

    Raises
    ------
    RecordError
        If there is nothing under the name.
    """
    keys, known = frozenset(trusted), remembered or {}
    faults = [
        fault
        for place in PLACES
        for fault in check_log(store.objects, place, trusted=keys, remembered=known.get(place))
    ]
    entries: list[Entry] = []  # of the log alone: those of the others may be long
    keys_of_others: list[str] = []
    log = Log(store.objects, LOG, note=entries.append)
    ledger, uses = (
        Log(store.objects, place, note=lambda entry: keys_of_others.append(entry.key))
        for place in (AGGREGATES, USES)
    )
    heads = {each.place: each.head() for each in (log, ledger, uses)}
    versions = _versions(Catalogue(entries), name)
    if name is not None and not versions and not faults:
        raise RecordError(f"nothing is saved under {name!r}")
    looked_at: set[str] = set()
    for version in versions:
        faults += _faults_of_version(store, version, ledger, keys, looked_at)
    files = store.objects.files()
    if name is None:
        faults += _faults_of_entries(entries)
        checkpoints = CheckpointStore(store.objects, ledger)
        for file in files:
            if file.startswith(f"{CHECKPOINTS}/"):
                faults += checkpoints.faults(file, keys)
            elif file not in looked_at:
                faults += _faults_of_other(store, file)
    unique = tuple(dict.fromkeys(faults))
    signers = tuple(dict.fromkeys(version.signatures[0].key for version in versions))
    loggers = tuple(dict.fromkeys([*(entry.key for entry in entries), *keys_of_others]))
    return Verification(unique, tuple(versions), heads, signers, loggers, len(files))


def _versions(catalogue: Catalogue, name: str | None) -> list[Version]:
    names = catalogue.names() if name is None else [name]
    return [catalogue.find(each, number) for each in names for number in catalogue.versions(each)]


def _faults_of_version(
    store: ModelStore, version: Version, ledger: Log, trusted: frozenset[str], looked_at: set[str]
) -> Iterator[Fault]:
    file = store.objects.file_of(card_address(version.card))
    looked_at.add(file)
    try:
        content = store.get(card_address(version.card))
        card = check_card(version, content)
        needed, co_signed = release_of(card).needed, n_co_signed(version, content, card)
    except (RecordError, TypeError, AttributeError) as error:
        yield Fault(file, str(error))
        return
    what = f"{version.name!r} version {version.version}"
    key = version.signatures[0].key
    if trusted and key not in trusted:
        yield Fault(file, f"{what} is signed by {key}, which is not trusted")
    if (needed, co_signed) != (version.needed, len(version.signatures) - 1):
        yield Fault(file, f"the co-signatures of {what} are not those that its card asks for")
    if ledger.root_at(card["ledger"]["size"]) != card["ledger"]["root"]:
        yield Fault(
            f"{AGGREGATES}/", f"its first {card['ledger']['size']} records are not those that {what} rests on"
        )
    if card["arrays"] is not None:
        file = store.objects.file_of(arrays_address(card["arrays"]))
        looked_at.add(file)
        try:
            store.get(arrays_address(card["arrays"]))
        except RecordError as error:
            yield Fault(file, f"{error} (arrays of {what})")


def _faults_of_entries(entries: list[Entry]) -> Iterator[Fault]:
    """Find versions that were given twice or passed over: what a log of one writer never has."""
    numbers: dict[str, int] = {}
    for entry in entries:
        if entry.body.get("kind") == "version":
            name, version = str(entry.body.get("name")), entry.body.get("version")
            numbers[name] = numbers.get(name, 0) + 1
            if version != numbers[name]:
                yield Fault(
                    f"{LOG}/{entry.number:08d}.json",
                    f"{name!r} has version {version} after {numbers[name] - 1}",
                )


def _faults_of_other(store: ModelStore, file: str) -> Iterator[Fault]:
    """Look at a file that no version names: an object of a killed writer, or none of ours."""
    place, _, name = file.partition("/")
    if place == "objects":
        yield from _faults_of_object(store, file)
    elif RUN_LOG.fullmatch(file) is None and (
        place not in PLACES or not (NUMBERED.fullmatch(name) or name == "head.json")
    ):
        yield Fault(file, "does not belong in a repository")


def _faults_of_object(store: ModelStore, file: str) -> Iterator[Fault]:
    try:
        digest = sha256(store.objects.read_file(file) or b"")
    except RecordError as error:
        yield Fault(file, str(error))
        return
    if file not in {
        store.objects.file_of(address) for address in (card_address(digest), arrays_address(digest))
    }:
        yield Fault(file, "damaged: its content has another hash than its name")
