"""Fit, store, verify, predict: a regression's way from three holders' rows to a signed model that predicts.

The model is stored in a folder, signed by the coordinator, and entered in a log in which nothing can be changed unseen.
Predictions are made in the repository's process, so its parameters need not leave it. Then one byte of the stored model
is changed, and found. Expect that every byte is in order, four predictions and, in the end, the name of the file that
was tampered with. Takes about ten seconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import tacit


def rows_of(site: int) -> pd.DataFrame:
    """Return the rows of one site: fuel consumption falls with weight and power."""
    generator = np.random.default_rng(site)
    weight, power = generator.uniform(1.5, 5.5, 40), generator.uniform(60, 300, 40)
    noise = generator.normal(0, 2, 40)
    return pd.DataFrame({"mpg": 37 - 3.9 * weight - 0.03 * power + noise, "weight": weight, "power": power})


def main() -> None:
    """Walk the whole way."""
    sites = {f"site-{number}": rows_of(number) for number in (1, 2, 3)}
    with (
        tempfile.TemporaryDirectory() as folder,
        tacit.simulate(sites, protocol=tacit.PairwiseMasking(), repository=folder) as federation,
    ):
        fit = federation.fit(tacit.OLS("mpg ~ weight + power"))
        print(fit.summary(), "\n")
        repository = federation.repository
        print("stored as version", repository.save(fit, "consumption"))
        repository.tag("consumption", "in-use")
        print("every signature and every byte is in order:", repository.verify().ok)
        cars = pd.DataFrame({"weight": [2.0, 3.0, 4.0, 5.0], "power": [80.0, 120.0, 180.0, 250.0]})
        predicted = repository.predict("consumption", cars, "in-use")
        print("predicted by the repository:", predicted.round(2).tolist())
        flip_a_byte(folder)
        print("after one byte was changed:", *repository.verify().faults, sep="\n  ")


def flip_a_byte(folder: str) -> None:
    """Change one byte of the largest object stored."""
    largest = max(Path(folder, "objects").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


if __name__ == "__main__":
    main()
