"""Networks made again from their definitions: by the function that they come from, and by no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from tacit.models.asking import as_asked
from tacit.models.definition import Definition
from tacit.models.errors import ModelError
from tacit.models.registry import model_from
from tacit.privacy.guarantee import Privacy

pytest.importorskip("torch")
import torch
from tacit.models.neural_network import NeuralNetwork

ALLOWED = ["networks_of_a_holder:network"]


def network(rounds: int) -> NeuralNetwork:
    torch.manual_seed(1)
    return NeuralNetwork(torch.nn.Linear(2, 1), "mse", rounds=rounds, target="y", features=["a", "b"])


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function be that of the holder's module."""
    function.__module__, function.__qualname__ = "networks_of_a_holder", "network"
    sys.modules["networks_of_a_holder"] = module = ModuleType("networks_of_a_holder")
    module.__dict__["network"] = function
    return function


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    named(network)
    yield
    del sys.modules["networks_of_a_holder"]


@pytest.mark.parametrize("privacy", [None, Privacy(1, 1e-5, clip=2.0, unit="holder")])
def test_a_network_is_made_again_by_its_function(privacy: Privacy | None) -> None:
    model = as_asked(model_from(Definition(ALLOWED[0], {"rounds": 3}), ALLOWED), privacy, "nonrobust")
    sent = Definition.from_canonical(model.definition.canonical)
    assert model_from(sent, ALLOWED).definition == model.definition
    with pytest.raises(ModelError, match="may not be imported here"):
        model_from(sent)


def test_what_is_sent_besides_the_function_is_checked() -> None:
    sent = model_from(Definition(ALLOWED[0], {"rounds": 3}), ALLOWED).definition
    with pytest.raises(ModelError, match="another definition"):
        model_from(Definition(sent.kind, {**sent.parameters, "learning_rate": 4.0}), ALLOWED)


def test_a_network_that_comes_from_no_function_is_not_made_again() -> None:
    with pytest.raises(ModelError, match="module is code"):
        model_from(network(3).definition, ALLOWED)


@pytest.mark.parametrize(
    ("makes", "said"),
    [
        (lambda: torch.nn.Linear(2, 1), "makes no network"),
        (lambda: NeuralNetwork(torch.nn.Linear(2, 1), "mse", rounds=3), "let it set a seed"),
        (lambda: 1 / 0, "cannot be made from these parameters: ZeroDivisionError"),
    ],
)
def test_a_function_that_makes_something_else_is_refused(makes: Callable[[], Any], said: str) -> None:
    sent = network(3).coming_from(named(makes), {}).definition
    with pytest.raises(ModelError, match=said):
        model_from(sent, ALLOWED)
