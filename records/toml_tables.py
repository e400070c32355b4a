"""Tables of a TOML file, read so that every complaint names the file, the table and the key.

Nobody guesses what a key that is not known was meant to be: it is refused, with the nearest one that is known.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from ..serialization.errors import TacitError
from .errors import RecordError

T = TypeVar("T")

CALLED = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


class Table:
    """A table, and where it stands; shown without its content.

    Parameters
    ----------
    file : path
        Of which file.
    name : str
        Its name there; empty for the file's own keys.
    content : mapping
        Its keys and values.
    """

    def __init__(self, file: str | os.PathLike[str], name: str, content: Mapping[str, Any]) -> None:
        self.file = os.fspath(file)
        self.name = name
        self.content = content

    def __contains__(self, key: object) -> bool:
        return key in self.content

    def problem(self, text: str, key: str = "") -> RecordError:
        """Return the error that says what is wrong here."""
        place = ", ".join(filter(None, (self.file, self.name and f"[{self.name}]", key)))
        return RecordError(f"{place}: {text}")

    def only(self, known: Iterable[str]) -> None:
        """Refuse any other key, by its name.

        Raises
        ------
        RecordError
        """
        known = list(known)
        for key in self.content:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                remedy = f"is {near[0]} meant?" if near else f"known: {', '.join(known) or 'none'}"
                raise self.problem(f"is not known here; {remedy}", key)

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return a value of a type; without a default it must be there.

        Raises
        ------
        RecordError
        """
        value = self.optional(key, kind)
        if value is not None:
            return value
        if default is None:
            raise self.problem("is missing", key)
        return default

    def optional(self, key: str, kind: type[T]) -> T | None:
        """Return a value of a type, or None if it is not there.

        Raises
        ------
        RecordError
        """
        value = self.content.get(key)
        if value is None:
            return None
        if type(value) is not kind:
            raise self.problem(f"takes {CALLED[kind]}, and this is {CALLED.get(type(value), 'a time')}", key)
        return value

    def one_of(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """Return one of some texts; without a default it must be there.

        Raises
        ------
        RecordError
        """
        value = self.get(key, str, default)
        if value not in (listed := list(choices)):
            raise self.problem(f"is one of {', '.join(listed)}, not {value!r}", key)
        return value

    def table(self, key: str) -> Table:
        """Return a table in this one; an empty one if it is not there.

        Raises
        ------
        RecordError
        """
        return Table(self.file, self._below(key), self.get(key, dict, {}))

    def tables(self, key: str) -> list[Table]:
        """Return the tables of a list, each with its number.

        Raises
        ------
        RecordError
        """
        found = self.get(key, list, [])
        if not all(isinstance(each, dict) for each in found):
            raise self.problem(f"is written as tables, [[{key}]]", key)
        return [Table(self.file, f"{self._below(key)} {place}", each) for place, each in enumerate(found, 1)]

    def without(self, *keys: str) -> Table:
        """Return what else there is."""
        return Table(
            self.file, self.name, {key: value for key, value in self.content.items() if key not in keys}
        )

    def made(self, make: Callable[..., T]) -> T:
        """Call a class with these keys as its keywords, known and complete; private ones are not known.

        Raises
        ------
        RecordError
            Also with what the class says against the values.
        """
        parameters = [each for each in signature(make).parameters.values() if not each.name.startswith("_")]
        self.only(each.name for each in parameters)
        for each in parameters:
            if each.default is Parameter.empty and each.name not in self.content:
                raise self.problem("is missing", each.name)
        try:
            return make(**self.content)
        except TacitError as error:
            raise self.problem(str(error)) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise self.problem(f"these make no {make.__name__}: {error}") from None

    def _below(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def read_table(path: str | os.PathLike[str]) -> tuple[Table, bytes]:
    """Read a TOML file: its table, and its bytes.

    Raises
    ------
    RecordError
        If it cannot be read, or is no TOML.
    """
    try:
        with open(path, "rb") as file:
            octets = file.read()
        return Table(path, "", tomllib.loads(octets.decode())), octets
    except OSError as error:
        raise RecordError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecordError(f"{os.fspath(path)} is no TOML: it is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"{os.fspath(path)} is no TOML: {error}") from None
