"""A model as it lies in the repository: arrays as safetensors, all the rest a card of canonical JSON. Never pickle.

The card says what the model is and how it came about: its definition and the definition's hash, the roster, protocol,
passes, survivors, privacy, the root of the ledger of aggregates at the time, the hash of the arrays, and who must
co-sign before it is released. Under ``result`` it has the result itself, in which ``{"@array": name}`` stands for
an array of the safetensors file, so that what is loaded is what was saved, bit by bit.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .canonical import canonical, parse_mapping, sha256
from .errors import RecordError
from .transparency_log import Head

FORMAT = "tacit model card 1"
ARRAY = "@array"
ENCODED = {"dtype", "shape", "base64"}  # an array within JSON, as a network's fit has them
KINDS = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)  # of arrays, as safetensors has them

PROVENANCE = (
    "holders",
    "protocol",
    "n_passes",
    "iterations",
    "survivors",
    "survivors_per_round",
    "privacy",
    "digits",
    "trust",
)  # fields of a fit that a card shows apart from the result

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Release:
    """Who must co-sign a version before it may be used: k of n.

    Attributes
    ----------
    needed : int
        How many; 0 if the coordinator's signature is enough.
    signatories : mapping of str to str
        Names and Ed25519 public keys (64 hexadecimal digits).
    """

    needed: int
    signatories: Mapping[str, str]

    def __post_init__(self) -> None:
        if not 0 <= self.needed <= len(set(self.signatories.values())):
            raise RecordError("a release needs at most as many signatures as there are signatories")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"needed": self.needed, "signatories": dict(self.signatories)}


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is ready to be signed; nothing is written yet.

    Attributes
    ----------
    name, version
        What it would be.
    card : bytes
        **What is signed**: its canonical form.
    arrays : bytes or None
        The safetensors file; None if there is no array.
    """

    name: str
    version: int
    card: bytes
    arrays: bytes | None


def draft_of(  # noqa: PLR0917 - what a card says
    name: str,
    version: int,
    result: Mapping[str, Any],
    ledger: Head,
    release: Release | None,
    provenance: Mapping[str, Any],
    now: float,
) -> Draft:
    """Return the draft of a version.

    Parameters
    ----------
    name, version
        What it will be.
    result : mapping
        JSON-able data, as `Fit.to_dict` returns it; may hold numpy arrays.
    ledger : Head
        Of the ledger of aggregates.
    release : Release or None
        Who must co-sign.
    provenance : mapping
        What is known of how it came about beyond what the result says.
    now : float
        Seconds since 1970.

    Raises
    ------
    RecordError
        If the result holds what JSON and safetensors cannot carry exactly.
    """
    arrays: Arrays = {}
    if not isinstance(result, Mapping):
        raise RecordError("a result is a mapping, as Fit.to_dict returns it")
    definition = (
        {"definition": result["definition"]} if "definition" in result else {}
    )  # public, and hashed as it is
    rest = {key: value for key, value in result.items() if key != "definition"}
    document = {**take_apart(rest, arrays), **definition}
    content = arrays_to_bytes(arrays) if arrays else None
    card = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "time": now,
        "provenance": {**provenance_of(result), **provenance},
        "ledger": ledger.to_dict(),
        "release": (release or Release(0, {})).to_dict(),
        "arrays": None if content is None else sha256(content),
        "result": document,
    }
    return Draft(name, version, canonical(card), content)


def read_card(octets: bytes, file: str) -> dict[str, Any]:
    """Return a card, unless it is none."""
    card = parse_mapping(octets, file)
    expected = {"format", "name", "version", "time", "provenance", "ledger", "release", "arrays", "result"}
    mappings = ("provenance", "ledger", "release", "result")
    if (
        card.keys() != expected
        or card["format"] != FORMAT
        or not all(isinstance(card[field], dict) for field in mappings)
        or card["ledger"].keys() != {"size", "root"}
        or card["release"].keys() != {"needed", "signatories"}
    ):
        raise RecordError(f"{file} is no model card of this version of tacit")
    return card


def result_of(card: Mapping[str, Any], arrays: bytes | None) -> dict[str, Any]:
    """Return the result as it was saved.

    Parameters
    ----------
    card : mapping
    arrays : bytes or None
        The safetensors file that the card names.
    """
    known = {} if arrays is None else arrays_from_bytes(arrays)
    return {
        key: value if key == "definition" else put_together(value, known)
        for key, value in card["result"].items()
    }


def release_of(card: Mapping[str, Any]) -> Release:
    """Return who must co-sign."""
    return Release(card["release"]["needed"], card["release"]["signatories"])


def provenance_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fit says of its origin; of any other result, nothing."""
    definition = result.get("definition")
    known: dict[str, Any] = {}
    if isinstance(definition, Mapping):
        known["definition"] = sha256(canonical(definition))  # as `Definition.digest`
    names = {"holders": "roster", "n_passes": "passes", "iterations": "rounds"}
    for field in PROVENANCE:
        if result.get(field) is not None:
            known[names.get(field, field)] = result[field]
    return known


# A result and its arrays


def take_apart(value: Any, arrays: Arrays, name: str = "") -> Any:
    """Replace every array in a nested value by its name, and put it into `arrays`.

    A rectangular list of floats counts as one, None among them as NaN, as `Fit.to_dict` has it; so does a mapping of
    dtype, shape and base64, as `NetworkFit.to_dict` has it.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.name not in KINDS:
            raise RecordError(f"an array of {value.dtype} cannot be stored")
        return _put_aside(np.ascontiguousarray(value).reshape(value.shape), arrays, name, "array")
    if isinstance(value, list | tuple):
        numbers = _numbers(value)
        if numbers is not None:
            return _put_aside(numbers, arrays, name, "missing" if _has(value, None) else "list")
        return [take_apart(item, arrays, f"{name}/{index}") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        if ARRAY in value:
            raise RecordError(f"a result has no field of the name {ARRAY}")
        if value.keys() == ENCODED:
            return _put_aside(_decoded(value), arrays, name, "encoded")
        return {
            key: take_apart(item, arrays, f"{name}/{key}" if name else key) for key, item in value.items()
        }
    return value


def _put_aside(array: NDArray[Any], arrays: Arrays, name: str, form: str) -> dict[str, str]:
    unique = f"{name}#{len(arrays)}" if name in arrays else name  # "a/b" may be one key, or two
    arrays[unique] = array
    return {ARRAY: unique, "as": form}


def put_together(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Undo `take_apart`."""
    if isinstance(value, list):
        return [put_together(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if ARRAY not in value:
        return {key: put_together(item, arrays) for key, item in value.items()}
    try:
        array = arrays[value[ARRAY]]
    except (KeyError, TypeError):
        raise RecordError("the card names an array that is not there") from None
    if value.get("as") == "array":
        return array
    if value.get("as") == "encoded":
        return _encoded(array)
    return _with_none(array.tolist()) if value.get("as") == "missing" else array.tolist()


def _decoded(value: Mapping[str, Any]) -> NDArray[Any]:
    """Return the array that `array_to_dict` of the networks has made text of."""
    try:
        octets = base64.b64decode(value["base64"], validate=True)
        array = np.frombuffer(octets, dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    except (ValueError, TypeError):
        raise RecordError("a result holds an array that cannot be decoded") from None
    if array.dtype.name not in KINDS or _encoded(array) != value:
        raise RecordError(f"an array of {array.dtype} cannot be stored")
    return array


def _encoded(array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    octets = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "base64": octets}


def _numbers(value: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return a nested list of floats as an array, if it is rectangular and nothing is lost by it."""
    if not _is_numeric(value) or (_has(value, None) and _has(value, math.nan)):
        return None
    try:
        array = np.array(value, dtype=np.float64)
    except ValueError:  # not rectangular
        return None
    return array if array.size else None


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_numeric, value)) and len({isinstance(item, list | tuple) for item in value}) <= 1
    return value is None or type(value) is float


def _has(value: Any, what: float | None) -> bool:
    if isinstance(value, list | tuple):
        return any(_has(item, what) for item in value)
    return value is None if what is None else value is not None and math.isnan(value)


def _with_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_none(item) for item in value]
    return None if math.isnan(value) else value


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Return arrays by name as safetensors."""
    from safetensors.numpy import save  # noqa: PLC0415 - it is slow to import

    return bytes(save(arrays))


def arrays_from_bytes(content: bytes) -> Arrays:
    """Return the arrays of safetensors.

    Raises
    ------
    RecordError
        If they cannot be read.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415

    try:
        return dict(load(content))
    except (SafetensorError, ValueError, KeyError):
        raise RecordError("the arrays are damaged") from None
