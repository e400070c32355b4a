"""Models from their definitions: the same model again, and nothing that is not allowed by its name."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from tacit.models.definition import Definition
from tacit.models.errors import ModelError
from tacit.models.least_squares import OLS
from tacit.models.likelihood import MaximumLikelihood
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.registry import kind_of, model_from
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.models.total import pooled
from tacit.privacy.guarantee import Privacy

POISSON = MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})
NLL = "tacit.models.poisson:poisson_nll"

OWN = """
import sys
import numpy as np
from tacit.models.definition import Definition
from tacit.models.sum import Sum

def total(rows):
    return float(np.sum(rows))

class Scaled(Sum):
    def __init__(self, scale):
        super().__init__(lambda rows: scale * total(rows))
        self._scale = scale

    @property
    def definition(self):
        return Definition("{module}:Scaled", {{"scale": self._scale}})

def network(rounds):
    from torch import manual_seed, nn
    from tacit.models.neural_network import NeuralNetwork
    manual_seed(1)
    return NeuralNetwork(nn.Linear(2, 1), "mse", rounds=rounds)

NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the holder's own."""
    module = "models_of_a_holder"
    (tmp_path / f"{module}.py").write_text(OWN.format(module=module))
    monkeypatch.syspath_prepend(tmp_path)
    yield module
    sys.modules.pop(module, None)


@pytest.mark.parametrize(
    "model",
    [
        OLS("mpg ~ wt + hp"),
        OLS("y ~ C(g)", "w", levels={"g": ["b", "a"]}, missing="raise", max_levels=7).with_cov_type("HC3"),
        GLM("low ~ age + C(race, levels=[1, 2, 3])", family="binomial", link="probit"),
        GLM("y ~ x", sm.families.Poisson(), offset="np.log(t)", start={"Intercept": 0.5, "x": 1.0}),
        GLM("y ~ x", "quasi", "log", variance="mu^2", start=[0.5, 1.0]).with_cov_type("HC0"),
        GLM("y ~ x", "negativebinomial", theta=2.5),
        GLM("y ~ x", "negative binomial", levels={"x": ["a", "b"]}),
    ],
    ids=lambda model: model.definition.kind,
)
def test_a_regression_is_made_again_from_its_definition(model: Any) -> None:
    sent = Definition(model.definition.kind, dict(model.definition.parameters))
    made = model_from(sent)
    assert type(made) is type(model)
    assert made.definition == model.definition


def rows_of(data: Any) -> Any:
    return data


def test_functions_are_imported_if_they_are_allowed_by_their_names(own: str) -> None:
    made = model_from(POISSON.definition, [NLL])
    assert made.definition == POISSON.definition
    own_sum = Sum(__import__(own).total)
    assert model_from(own_sum.definition, [f"{own}:total"]).definition == own_sum.definition
    for importable in ([], ["tacit.models.poisson:poisson_sites"], ["tacit.models:poisson"]):
        with pytest.raises(ModelError, match="may not be imported here"):
            model_from(POISSON.definition, importable)


async def _value(model: Any, data: list[Any]) -> Any:
    async for last in model.iterate(pooled(model, data)):
        value = last
    return value


def test_a_model_made_again_computes_the_same() -> None:
    data = list(poisson_sites().values())
    made = model_from(POISSON.definition, [NLL])
    fits = [asyncio.run(_value(model, data)) for model in (POISSON, made)]
    assert fits[0].params["lambda"].hex() == fits[1].params["lambda"].hex()


def test_another_version_of_a_function_is_refused(own: str) -> None:
    definition = Sum(__import__(own).total).definition
    sys.modules[own].total = lambda rows: 0.0  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="another one here"):
        model_from(definition, [f"{own}:total"])


def test_a_private_sum_is_made_again(own: str) -> None:
    model = Sum(__import__(own).total).with_privacy(Privacy(1, 1e-5, clip=2.0))
    made = model_from(model.definition, [f"{own}:total"])
    assert made.noised == model.noised


def test_own_models_are_made_by_what_the_holder_imports(own: str) -> None:
    definition = Definition(f"{own}:Scaled", {"scale": 2.0})
    model = model_from(definition, [f"{own}:Scaled"])
    assert model.definition == definition
    assert kind_of(model) == f"{own}:Scaled"
    assert asyncio.run(_value(model, [np.ones(3), np.ones(4)])) == 14.0


def test_a_network_comes_from_a_function_of_the_holders(own: str) -> None:
    pytest.importorskip("torch")
    network = model_from(Definition(f"{own}:network", {"rounds": 3}), [f"{own}:network"])
    assert kind_of(network) == "NeuralNetwork"
    assert network.expected_passes == 5


def test_nothing_is_imported_that_is_not_allowed(own: str) -> None:
    for name in (f"{own}:Scaled", "os:system", "builtins:eval", "Unknown", "", f"{own}.Scaled"):
        with pytest.raises(ModelError, match="no kind of model"):
            model_from(Definition(name, {"scale": 2.0}), [f"{own}:other"])
    assert own not in sys.modules


@pytest.mark.parametrize(
    ("name", "parameters", "problem"),
    [
        ("Scaled", {}, "cannot be made"),
        ("Scaled", {"scale": 1.0, "further": 1}, "cannot be made"),
        ("never", {}, "cannot be imported"),
        ("NUMBER", {}, "neither a class nor a function"),
        ("total", {"rows": 1.0}, "makes no model"),
    ],
)
def test_what_makes_no_model_is_refused(own: str, name: str, parameters: Any, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        model_from(Definition(f"{own}:{name}", parameters), [f"{own}:{name}"])


def changed(change: Callable[[dict[str, Any]], Any]) -> Definition:
    parameters = dict(GLM("y ~ x").definition.parameters)
    change(parameters)
    return Definition("GLM", parameters)


@pytest.mark.parametrize(
    "change",
    [
        lambda parameters: parameters.pop("family"),
        lambda parameters: parameters.update(further=1),
        lambda parameters: parameters.update(variance="mu^2"),
        lambda parameters: parameters.update(formula="y ~ __import__('os').system('true')"),
        lambda parameters: parameters.update(formula=None),
        lambda parameters: parameters.update(levels=[1, 2]),
        lambda parameters: parameters.update(cov_type="HC9"),
        lambda parameters: parameters.update(privacy={}),
        lambda parameters: parameters.update(privacy=3),
        lambda parameters: parameters.clear(),
    ],
)
def test_parameters_that_are_none_of_a_model_are_refused(change: Any) -> None:
    with pytest.raises(ModelError):
        model_from(changed(change))


def test_every_kind_is_known_by_its_class_alone() -> None:
    assert kind_of(POISSON) == "MaximumLikelihood"
    for genuine in (Sum, OLS, GLM, MaximumLikelihood):
        forged = type(genuine.__name__, (Sum,), {"__module__": genuine.__module__})
        assert kind_of(forged(len)) == f"{genuine.__module__}:{genuine.__name__}, as sent"


def test_a_model_with_a_function_of_its_own_is_none_of_its_class() -> None:
    altered = OLS("y ~ x")
    altered.contribution = lambda data, query: {"rows": data}  # type: ignore[method-assign]
    assert kind_of(altered).endswith("OLS, altered")
    renamed = type("Named", (Sum,), {"__module__": "numpy.linalg"})
    assert kind_of(renamed(len)) == "numpy.linalg:Named, as sent"


def test_a_definition_of_a_huge_sum_takes_no_memory() -> None:
    content = Sum(len).with_privacy(Privacy(1, 1e-5, clip=1.0)).definition.parameters
    with pytest.raises(ModelError):
        model_from(Definition("Sum", {**content, "shape": [10**12]}), ["builtins:len"])
