"""Models from their definitions: what a holder runs when it is sent data, and never code.

A definition of one of tacit's own kinds is made by the class of that name from its parameters. A definition of the kind
"package.module:name" is made by what the holder can import under that name, a class or a function that returns a model,
called with the parameters as keywords. Functions, which sums and likelihoods consist of, or which return a network,
stand in a definition by name and fingerprint; they too are imported. **Nothing is imported that the holder has not
allowed by its name**, nothing is evaluated or unpickled, and what is made of tacit's own kinds has the very definition
that was sent, or is refused.

Adversary: whoever sends definitions.
"""

from __future__ import annotations

import builtins
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

import numpy as np

from ..privacy.guarantee import Privacy
from .definition import Definition, fingerprint
from .errors import ModelError

NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
PACKAGE = __name__.rpartition(".")[0]
NETWORK = "NeuralNetwork"
READS_NAMED_COLUMNS = ("GLM", "OLS", NETWORK)
LARGEST_SUM = 1_000_000  # numbers of a sum whose definition is sent

Functions = Callable[[Mapping[str, Any]], Callable[..., Any]]


def is_importable_name(name: str) -> bool:
    """Whether a name is of the form "package.module:name"."""
    return NAME.fullmatch(name) is not None


def kind_of(model: Any) -> str:
    """Return a model's kind: what one of tacit's own classes says, and of any other class, "package.module:Class"."""
    kind = type(model)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if any(callable(getattr(kind, own, None)) for own in getattr(model, "__dict__", ())):
        return f"{name}, altered"  # with a function of its own in place of one of the class
    home = sys.modules.get(kind.__module__)
    if getattr(home, kind.__qualname__, None) is not kind:
        return f"{name}, as sent"  # what came with the model may call itself anything
    return _OWN_KINDS.get(name.removeprefix(f"{PACKAGE}."), name)


def columns_read_by(model: Any) -> frozenset[str] | None:
    """Return the columns of the rows that a model reads; None if it may read any, as a function of the user's may."""
    if kind_of(model) not in READS_NAMED_COLUMNS:
        return None
    columns: frozenset[str] | None = model.columns_read
    return columns


def model_from(definition: Definition, importable: Collection[str] = ()) -> Any:
    """Return the model that a definition says.

    Parameters
    ----------
    definition : Definition
        As somebody else may have sent it.
    importable : collection of str
        Names, "package.module:name", that may be imported.

    Raises
    ------
    ModelError
        If the kind is unknown, a name is not allowed or cannot be imported, the parameters are none of the model's, or
        the model that they make has another definition: another version of tacit, or of a function, may be at work.
    """
    kind, parameters = definition.kind, definition.parameters
    if kind not in _MAKERS:
        return _own(kind, parameters, importable)

    def function(described: Mapping[str, Any]) -> Callable[..., Any]:
        return _function(described, importable)

    try:
        model = _MAKERS[kind](dict(parameters), function)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(f"these are no parameters of a {kind}") from None
    if model.definition != definition:
        raise ModelError(
            f"the {kind} that these parameters make has another definition: its parameters are incomplete, or come "
            "from another version of tacit"
            + (
                ", or its function makes another network each time: let it set a seed"
                if kind == NETWORK
                else ""
            )
        )
    return model


def _own(name: str, parameters: Mapping[str, Any], importable: Collection[str]) -> Any:
    """Return a model of the holder's side by its importable name."""
    make = imported(name, importable)
    model = _made(make, parameters, name)
    if not all(hasattr(model, part) for part in ("definition", "contribution", "iterate")):
        raise ModelError(f"{name} makes no model: a {type(model).__name__} has no contribution and iteration")
    return model.coming_from(make, parameters) if kind_of(model) == NETWORK else model


def _made(make: Callable[..., Any], keywords: Mapping[str, Any], name: str) -> Any:
    try:
        return make(**keywords)
    except Exception as error:  # noqa: BLE001 - the holder's own code; a text may hold values
        raise ModelError(f"{name} cannot be made from these parameters: {type(error).__name__}") from None


def imported(name: str, importable: Collection[str]) -> Callable[..., Any]:
    """Import a class or function by its name, "package.module:name", if that is among those allowed.

    Raises
    ------
    ModelError
        If it is not, or cannot be imported, or is neither.
    """
    if name not in importable or not is_importable_name(name):
        raise ModelError(f"{name!r} is no kind of model, and no name that may be imported here")
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{name} cannot be imported here: {error}") from None
    if not callable(found):
        raise ModelError(f"{name} is {type(found).__name__}, and neither a class nor a function")
    callable_: Callable[..., Any] = found
    return callable_


def _function(described: Mapping[str, Any], importable: Collection[str]) -> Callable[..., Any]:
    """Return a function by its description in a definition, with the same code as there."""
    name = described["name"]
    if name == "builtins.len":  # how many observations rows are, by default
        return builtins.len
    allowed = next((each for each in importable if each.replace(":", ".") == name), None)
    if allowed is None:
        raise ModelError(f"the function {name!r} may not be imported here")
    function = imported(allowed, importable)
    if fingerprint(function) != described:
        raise ModelError(f"the function {name} is another one here: install the version that is asked for")
    return function


# One a kind: from a definition's parameters, and a way to its functions.


def _private(model: Any, parameters: Mapping[str, Any], *also: str) -> Any:
    """Return the model under the privacy that its definition says, if it says any, with what is `also` said there."""
    if "privacy" not in parameters:
        return model
    said = parameters["privacy"]
    privacy = Privacy.from_dict({field.name: said[field.name] for field in fields(Privacy)})
    return model.with_privacy(privacy, **{name: said[name] for name in also})


def _glm(parameters: dict[str, Any], _: Functions) -> Any:
    from .regression import GLM  # noqa: PLC0415 - a holder imports the files of its models alone

    options = ("offset", "weights", "levels", "missing", "max_levels", "start", "theta")
    quasi = {"variance": parameters["variance"]} if parameters["family"] == "quasi" else {}
    model = GLM(
        parameters["formula"],
        parameters["family"],
        parameters["link"],
        **{name: parameters[name] for name in options},
        **quasi,
    )
    return _private(model.with_cov_type(parameters["cov_type"]), parameters, "rounds")


def _ols(parameters: dict[str, Any], _: Functions) -> Any:
    from .least_squares import OLS  # noqa: PLC0415

    options = ("weights", "levels", "missing", "max_levels")
    model = OLS(parameters["formula"], **{name: parameters[name] for name in options})
    return _private(model.with_cov_type(parameters["cov_type"]), parameters)


def _sum(parameters: dict[str, Any], function: Functions) -> Any:
    from .sum import Sum  # noqa: PLC0415

    if math.prod(shape := parameters.get("shape", ())) > LARGEST_SUM:
        raise ValueError("a sum of so many numbers")
    like = np.zeros(shape)
    return _private(Sum(function(parameters["function"]), like=like), parameters)


def _maximum_likelihood(parameters: dict[str, Any], function: Functions) -> Any:
    from .likelihood import MaximumLikelihood  # noqa: PLC0415

    names = parameters["parameters"]
    return MaximumLikelihood(
        start=dict(zip(names, parameters["start"], strict=True)),
        bounds=dict(zip(names, map(tuple, parameters["bounds"]), strict=True)),
        **{name: function(described) for name, described in parameters["functions"].items()},
    )


def _neural_network(parameters: dict[str, Any], function: Functions) -> Any:
    origin = parameters.get("origin")
    if origin is None:
        raise ModelError(
            "a network's module is code: let a function of an installed module return the network, and name it where "
            'the holder allows what it imports, as "package.module:function"'
        )
    make, keywords = function(origin["function"]), origin["keywords"]
    model = _made(make, keywords, origin["function"]["name"])
    if kind_of(model) != NETWORK:
        raise ModelError(f"{origin['function']['name']} makes no network")
    return _private(model.coming_from(make, keywords), parameters)


_OWN_KINDS = {
    "sum:Sum": "Sum",
    "regression:GLM": "GLM",
    "private_glm:PrivateGLM": "GLM",
    "least_squares:OLS": "OLS",
    "private_least_squares:PrivateOLS": "OLS",
    "likelihood:MaximumLikelihood": "MaximumLikelihood",
    "neural_network:NeuralNetwork": NETWORK,
}

_MAKERS: Mapping[str, Callable[[dict[str, Any], Functions], Any]] = {
    "GLM": _glm,
    "OLS": _ols,
    "Sum": _sum,
    "MaximumLikelihood": _maximum_likelihood,
    NETWORK: _neural_network,
}
