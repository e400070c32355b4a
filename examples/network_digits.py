"""Ten holders with uneven shares of handwritten digits train one network, and nobody sees another's pictures.

Every round each holder trains on its own pictures; only the sum of their changes is revealed. Expect an accuracy on
pictures that nobody trained on of about 98 %, within half a point of the same network trained on all pictures in one
place, and each holder alone far below. Takes about twenty seconds; needs tacit[torch] and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tacit
import torch
from sklearn.datasets import load_digits
from torch import nn

N_HOLDERS = 10
Pictures = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Train over the holders, then in one place, and compare."""
    torch.set_num_threads(1)  # so small a network is not worth sharing
    sites, test = shares(seed=0)
    for name, (_, labels) in sites.items():
        print(f"{name:>7}: {len(labels):3} pictures, of each digit {np.bincount(labels, minlength=10)}")

    model = tacit.NeuralNetwork(
        network(),
        "cross_entropy",
        learning_rate=1.0,
        rounds=100,
        batch_size=64,
        server_optimizer=tacit.ServerMomentum(momentum=0.5),
    )
    with tacit.simulate(sites, protocol=tacit.PairwiseMasking(), holders_per_actor=5) as federation:
        fit = federation.fit(model)
    print(f"\n{fit.summary()}\n")

    together = [np.concatenate(parts) for parts in zip(*sites.values(), strict=True)]
    alone = [accuracy(in_one_place(site), test) for site in sites.values()]
    print(f"accuracy over ten holders  {np.mean(fit.predict(test[0]) == test[1]):.1%}")
    print(f"accuracy in one place      {accuracy(in_one_place(together), test):.1%}")
    print(f"accuracy of a holder alone {min(alone):.1%} to {max(alone):.1%}")


def network() -> nn.Module:
    """Return a small network, the same every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def shares(seed: int) -> tuple[dict[str, Pictures], Pictures]:
    """Deal three quarters of the pictures to the holders, each with its own mixture of digits; keep the others."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    rows, kept = np.split(order, [3 * len(order) // 4])
    holders: list[list[int]] = [[] for _ in range(N_HOLDERS)]
    for digit in range(10):
        chosen = rows[labels[rows] == digit]
        cuts = np.cumsum(generator.dirichlet([0.5] * N_HOLDERS))[:-1] * len(chosen)
        for holder, part in zip(holders, np.split(chosen, cuts.astype(int)), strict=True):
            holder.extend(part)
    sites = {f"site-{i}": (pixels[holder], labels[holder]) for i, holder in enumerate(holders, start=1)}
    return sites, (pixels[kept], labels[kept])


def in_one_place(pictures: Sequence[np.ndarray]) -> nn.Module:
    """Train the same network by plain torch."""
    inputs, targets = torch.tensor(pictures[0]), torch.tensor(pictures[1])
    trained = network()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.2)
    for _ in range(60):
        for batch in torch.chunk(torch.randperm(len(targets)), -(-len(targets) // 32)):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(trained(inputs[batch]), targets[batch]))
            optimizer.step()
    return trained


def accuracy(trained: nn.Module, test: Pictures) -> float:
    """Return the fraction of pictures whose digit is recognised."""
    with torch.no_grad():
        found = trained(torch.tensor(test[0])).argmax(dim=1).numpy()
    return float(np.mean(found == test[1]))


if __name__ == "__main__":
    main()
