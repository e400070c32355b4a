"""Networks trained over the code of the actors, without Ray: the same bits everywhere, and losses on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from in_process import Network
from tacit.actors.data_holder import DataHolder
from tacit.actors.events import Event, Pass, Result
from tacit.models.neural_network import NeuralNetwork
from tacit.models.total import pooled
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.protocol import Protocol
from tacit.protocols.secret_sharing import SecretSharing

pytest.importorskip("torch")
from torch import nn

ROWS = {
    name: (np.random.default_rng(size).normal(size=(size, 3)), np.arange(size) % 2)
    for name, size in {"a": 12, "b": 7, "c": 9, "d": 11}.items()
}


def model(**options: Any) -> NeuralNetwork:
    module = nn.Linear(3, 2, bias=False)
    nn.init.constant_(module.weight, 0.25)
    return NeuralNetwork(module, "cross_entropy", learning_rate=0.2, rounds=6, batch_size=4, **options)


def trained(
    protocol: Protocol[Any],
    chosen: NeuralNetwork,
    on_event: Callable[[Network, Event], None] = lambda *_: None,
    **options: Any,
) -> Result:
    async def play() -> Result:
        async with Network(ROWS, protocol=protocol, holder=DataHolder) as network:
            append = network.events.append

            class Watched(list[Event]):
                def append(self, event: Event, /) -> None:
                    append(event)
                    on_event(network, event)

            network.events = Watched()
            return await network.run(chosen, **options)

    return asyncio.run(play())


def bits(result: Result) -> bytes:
    return b"".join(array.tobytes() for array in result.value.arrays.values())


@pytest.mark.parametrize("protocol", [PairwiseMasking(), SecretSharing()])
def test_every_protocol_gives_the_bits_of_plain_sums(protocol: Protocol[Any]) -> None:
    chosen = model(aggregation="fedsgd")

    async def plain() -> Any:
        return [item async for item in chosen.iterate(pooled(chosen, [*ROWS.values()]))][-1]

    expected = asyncio.run(plain())
    assert bits(trained(protocol, chosen)) == b"".join(a.tobytes() for a in expected.arrays.values())


def test_the_default_encoding_gives_the_same_bits_under_every_protocol() -> None:
    chosen = model(validation=0.2)
    first, *others = [
        bits(trained(protocol, chosen, encoding=chosen.default_encoding))
        for protocol in (PairwiseMasking(), SecretSharing())
    ]
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("options", "number"),
    [({}, n) for n in (1, 4, 7)] + [({"validation": 0.3, "early_stop": 2}, n) for n in (1, 4)],
)
def test_a_holder_lost_after_any_pass_does_not_lose_the_run(options: dict[str, Any], number: int) -> None:
    def lose(network: Network, event: Event) -> None:
        if isinstance(event, Pass) and event.number == number:
            network.kill("c")

    chosen = model(**options)
    result = trained(PairwiseMasking(), chosen, lose, on_dropout="continue", encoding=chosen.default_encoding)
    assert result.lost == ("c",)
    kept = {"a": 12, "b": 7, "d": 11} if not options else {"a": 9, "b": 5, "d": 8}
    assert result.value.nobs == sum(kept.values())
    assert len(result.value.records) == result.value.iterations + 1
    all_rows = sum(kept.values()) + (7 if options else 9)
    assert [record.rows for record in result.value.records[1 : number - 1]] == [all_rows] * max(
        min(number - 2, result.value.iterations), 0
    )
