"""MPyC's Shamir sharing, timed: run by `shares` in MPyC's own environment, where there is no tacit.

    python rival_mpyc.py '{"secrets": "path", "modulus": 2305843009213693951, "degree": 4, "n_parties": 10}'

Prints the processor seconds of each of its functions as JSON. The secrets are a file of 64-bit words, lowest byte
first. MPyC has every function twice, over lists and over numpy arrays of Python's integers; both are timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpyc import thresha  # type: ignore[import-not-found, unused-ignore]
from mpyc.finfields import GF  # type: ignore[import-not-found, unused-ignore]


def main(secrets: str, modulus: int, degree: int, n_parties: int) -> None:
    field = GF(modulus)
    integers = np.fromfile(secrets, dtype="<u8").tolist()
    array = field.array(np.array(integers, dtype=object))
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.thread_time()
        result = function(*arguments)
        seconds[name] = time.thread_time() - start
        return result

    lists = timed("random_split", thresha.random_split, field, integers, degree, n_parties)
    rows = timed("np_random_split", thresha.np_random_split, field, array, degree, n_parties)
    points = [(party + 1, lists[party]) for party in range(degree + 1)]
    recombined = timed("recombine", thresha.recombine, field, points)
    points = [(party + 1, rows[party]) for party in range(degree + 1)]
    np_recombined = timed("np_recombine", thresha.np_recombine, field, points)
    for result in (recombined, np_recombined):
        if [int(x) % modulus for x in result] != integers:
            raise SystemExit("MPyC recombined other secrets")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
