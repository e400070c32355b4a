"""Stored fits of every kind: their numbers lie in safetensors, and they predict as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tacit.models.definition import Definition
from tacit.models.errors import ModelError
from tacit.models.fit import Fit
from tacit.records.fits import predicted, restored_fit
from tacit.records.model_card import draft_of, read_card, result_of
from tacit.records.model_store import ModelStore
from tacit.records.transparency_log import Head


@pytest.mark.parametrize("content", [{}, {"definition": None}, {"definition": {"kind": "NeuralNetwork"}}])
def test_what_is_no_saved_fit_is_a_model_error(content: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        restored_fit(content)


def test_a_module_is_for_networks_only() -> None:
    fit = Fit(
        definition=Definition("MaximumLikelihood"),
        names=("a",),
        estimates=np.zeros(1),
        covariance=np.zeros((1, 1)),
        llf=0.0,
        nobs=1,
        iterations=1,
        n_passes=1,
        converged=True,
    )
    with pytest.raises(ModelError, match="has no module"):
        predicted(fit.to_dict(), [], object())


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "bool"])
def test_arrays_that_a_network_has_made_text_of_are_stored_as_arrays(kind: str) -> None:
    training = pytest.importorskip("tacit.models.training")
    array = np.arange(6).reshape(2, 3).astype(kind)
    result = {
        "arrays": {"layer.weight": training.array_to_dict(array), "n": training.array_to_dict(array[0, 0])}
    }
    draft = draft_of("net", 1, result, Head(0, ""), None, {}, 0.0)
    assert "base64" not in draft.card.decode()
    assert result_of(read_card(draft.card, "card"), draft.arrays) == result
    stored = json.loads(draft.card)["result"]["arrays"]["layer.weight"]
    assert stored == {"@array": "arrays/layer.weight", "as": "encoded"}


def test_a_network_predicts_from_the_repository_with_its_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network_fit = pytest.importorskip("tacit.models.network_fit")
    module_of = pytest.importorskip("tacit.models.neural_network_module")
    torch.manual_seed(1)
    module = torch.nn.Linear(2, 3)
    parameters = {
        "module": module_of.describe(module),
        "loss": "cross_entropy",
        "target": None,
        "features": None,
    }
    fit = network_fit.NetworkFit(
        definition=Definition("NeuralNetwork", parameters),
        arrays={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        loss=0.5,
        nobs=10,
        iterations=1,
        best_round=1,
        n_passes=1,
        module=module,
    )
    store = ModelStore(tmp_path)
    store.save("digits", fit.to_dict())
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    expected = fit.predict(rows)
    np.testing.assert_array_equal(store.predict("digits", rows, None, torch.nn.Linear(2, 3)), expected)
    with pytest.raises(ModelError, match="architecture"):
        store.predict("digits", rows)
    with pytest.raises(ModelError, match="not the one that was trained"):
        store.predict("digits", rows, None, torch.nn.Linear(2, 4))
