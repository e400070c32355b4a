"""Checkpoints: where a run stood, so that another process can take it up. A kind of their own, beside the versions.

Layout: a run that is called ``risk`` has two files, ``checkpoints/risk.0`` and ``checkpoints/risk.1``, which take
turns. A checkpoint is one file, written whole in place of the last but one: whenever a writer is killed, at least the
one before is there. So a run of any length takes the room of two checkpoints, and none is ever a version of a model.
The file is the card, canonical JSON, on the first line; the signature of the coordinator on the second; then the
arrays as safetensors, whose hash is in the card. Numbers count on under a name, over all its runs.

Who learns what: who reads the store learns the sums that were revealed to the coordinator, as from the ledger.
Adversary: one who changes files without a signing key, or puts one in another's place. One who deletes the newest, or
puts files back to older ones, has a run repeat what it did, over the same holders (`actors.kept_computation`). Whose
key it is, who pins none does not know, as with versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import canonical, parse_mapping, sha256
from .catalogue import check_name
from .errors import RecordError
from .log_verification import Fault
from .model_card import arrays_from_bytes, arrays_to_bytes, put_together, take_apart
from .object_store import ObjectStore
from .signing import Signature, is_signed
from .transparency_log import Head, Log

CHECKPOINTS = "checkpoints"
CHECKPOINT_TYPE = "application/vnd.tacit.checkpoint+json"
FORMAT = "tacit checkpoint 1"
_FIELDS = {"format", "name", "number", "time", "finished", "run", "ledger", "arrays", "content"}


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stood.

    Attributes
    ----------
    name : str
        What the run is called.
    number : int
        From 1, one more each time; over all runs of this name.
    run : mapping
        What is known of the run: JSON-able data.
    content : mapping
        From what it is taken up: JSON-able data, may hold numpy arrays.
    finished : bool
        Whether the run came to its end, so that nothing is left to take up.
    ledger : Head
        Of the ledger of aggregates, which holds all sums that it rests on.
    key : str
        The public key that signed it; empty before it is.
    """

    name: str
    number: int
    run: Mapping[str, Any]
    content: Mapping[str, Any]
    finished: bool
    ledger: Head
    key: str = ""


def checkpoint_file(checkpoint: Checkpoint, now: float, sign: Callable[[bytes], Signature]) -> bytes:
    """Return a checkpoint as a signed file.

    Parameters
    ----------
    checkpoint : Checkpoint
    now : float
        Seconds since 1970.
    sign : callable
        Signs the card as `CHECKPOINT_TYPE`: the coordinator's.

    Raises
    ------
    RecordError
        If the name is none, or the content holds what JSON and safetensors cannot carry exactly.
    """
    check_name(checkpoint.name)
    arrays: dict[str, Any] = {}
    content = take_apart(checkpoint.content, arrays)
    octets = arrays_to_bytes(arrays) if arrays else b""
    card = canonical(
        {
            "format": FORMAT,
            "name": checkpoint.name,
            "number": checkpoint.number,
            "time": now,
            "finished": checkpoint.finished,
            "run": checkpoint.run,
            "ledger": checkpoint.ledger.to_dict(),
            "arrays": sha256(octets),
            "content": content,
        }
    )
    signature = sign(card)
    return b"\n".join([card, canonical({"key": signature.key, "signature": signature.value}), octets])


def read_checkpoint(octets: bytes, file: str) -> Checkpoint:
    """Return the checkpoint of a file, after a look at its hash and its signature.

    Raises
    ------
    RecordError
        If it is not as it was written.
    """
    card_line, _, rest = octets.partition(b"\n")
    signature_line, _, arrays = rest.partition(b"\n")
    card, signed = parse_mapping(card_line, file), parse_mapping(signature_line, file)
    signature = Signature(str(signed.get("key")), str(signed.get("signature")))
    if not is_signed(signature, card_line, CHECKPOINT_TYPE):
        raise RecordError(f"{file} is damaged: its signature is wrong")
    if card.keys() != _FIELDS or card["format"] != FORMAT:
        raise RecordError(f"{file} is no checkpoint of this version of tacit")
    if sha256(arrays) != card["arrays"]:
        raise RecordError(f"{file} is damaged: its arrays were changed")
    if not _is_well_formed(card):
        raise RecordError(f"{file} is no checkpoint of this version of tacit")
    try:
        return Checkpoint(
            name=card["name"],
            number=card["number"],
            run=card["run"],
            content=put_together(card["content"], arrays_from_bytes(arrays) if arrays else {}),
            finished=card["finished"],
            ledger=Head(card["ledger"]["size"], card["ledger"]["root"]),
            key=signature.key,
        )
    except (TypeError, KeyError):
        raise RecordError(f"{file} is no checkpoint of this version of tacit") from None


def _is_well_formed(card: Mapping[str, Any]) -> bool:
    """Whether the fields are of their types: whoever signs, with any key, may have written anything."""
    kinds = {"name": str, "number": int, "finished": bool, "run": dict, "ledger": dict, "content": dict}
    ledger = card["ledger"]
    return (
        all(type(card[field]) is kind for field, kind in kinds.items())
        and card["number"] >= 1
        and (type(ledger.get("size")), type(ledger.get("root"))) == (int, str)
    )


class CheckpointStore:
    """The checkpoints of a repository.

    Parameters
    ----------
    objects : ObjectStore
    ledger : Log
        Of the aggregates, on which they rest.
    """

    def __init__(self, objects: ObjectStore, ledger: Log) -> None:
        self._objects = objects
        self._ledger = ledger

    def load(self, name: str) -> bytes | None:
        """Return the file of the newest checkpoint of a name that is as it was written; None if there is none at all.

        Raises
        ------
        RecordError
            If there are some, and all are damaged; or it rests on sums that are no longer in the ledger.
        """
        check_name(name)
        found, damage = self._found(name)
        if not found and damage is not None:
            raise damage
        if not found:
            return None
        newest, octets = found[-1]
        self.check_ledger(newest)
        return octets

    def newest_number(self, name: str) -> int:
        """Return the number of the newest checkpoint of a name that can be read; 0 if there is none."""
        check_name(name)
        found, _ = self._found(name)
        return found[-1][0].number if found else 0

    def save(self, octets: bytes) -> int:
        """Write a checkpoint that follows the newest one of its name; returns its number. Repeating it is harmless.

        Raises
        ------
        RecordError
            If it does not: another run of the same name is at work; or it cannot be written.
        """
        checkpoint = read_checkpoint(octets, "the checkpoint")
        with self._objects.locked():
            found, _ = self._found(checkpoint.name)
            newest, written = found[-1] if found else (None, b"")
            if octets == written:
                return checkpoint.number
            if checkpoint.number != (0 if newest is None else newest.number) + 1:
                raise RecordError(
                    f"another run has saved a checkpoint as {checkpoint.name!r} meanwhile: "
                    "give every run a name of its own"
                )
            self._objects.replace(_address(checkpoint.name, checkpoint.number), octets)
        return checkpoint.number

    def faults(self, file: str, trusted: frozenset[str]) -> list[Fault]:
        """Return what is wrong with one of the repository's files, which lies where checkpoints do."""
        try:
            checkpoint = read_checkpoint(self._objects.read_file(file) or b"", file)
            if file != self._objects.file_of(_address(checkpoint.name, checkpoint.number)):
                raise RecordError("it is the checkpoint of another run, or of another turn")
            self.check_ledger(checkpoint)
        except RecordError as error:
            return [Fault(file, str(error))]
        if trusted and checkpoint.key not in trusted:
            return [Fault(file, f"signed by {checkpoint.key}, which is not trusted")]
        return []

    def check_ledger(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint whose sums are not those on record."""
        if self._ledger.root_at(checkpoint.ledger.size) != checkpoint.ledger.root:
            raise RecordError(
                f"the first {checkpoint.ledger.size} records of sums are not those that the checkpoint "
                f"{checkpoint.name!r} rests on"
            )

    def _found(self, name: str) -> tuple[list[tuple[Checkpoint, bytes]], RecordError | None]:
        """Return the checkpoints that can be read, oldest first, and what is wrong with another."""
        found, damage = [], None
        for turn in range(2):
            address = _address(name, turn)
            try:
                octets = self._objects.read(address)
                if octets is not None:
                    checkpoint = read_checkpoint(octets, self._objects.file_of(address))
                    if (checkpoint.name, checkpoint.number % 2) != (name, turn):
                        raise RecordError(f"{self._objects.file_of(address)} is of another run, or turn")
                    found.append((checkpoint, octets))
            except RecordError as error:
                damage = error
        return sorted(found, key=lambda one: one[0].number), damage


def _address(name: str, number: int) -> str:
    return f"{CHECKPOINTS}/{name}.{number % 2}"
