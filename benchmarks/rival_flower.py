"""Flower's SecAgg+, timed: run by `masking_sums` in Flower's own environment, where there is no tacit.

    python rival_flower.py '{"vectors": "path", "n_holders": 10, "threshold": 7, "lost": [0, 1, 3]}'

Its functions are called as its client and server call them (`flwr/client/mod/secure_aggregation/secaggplus_mod.py`,
`_share_keys` and `_collect_masked_vectors`; `flwr/server/workflow/secure_aggregation/secaggplus_workflow.py`,
`collect_masked_vectors_stage` and `unmask_stage`), from quantised values to quantised total; everybody is everybody's
neighbour. Not timed: rounding to integers and back, serialisation, and the sealing of shares.

The vectors are a file of 32-bit words, lowest byte first, a holder's after the other. Printed as JSON: processor
seconds of the process, whose threads Flower uses for shares, of one holder's masking and, by the number of holders
that are lost, of the coordinator; and of every total its SHA-256, as 32-bit words.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import (  # type: ignore[import-not-found, unused-ignore]
    combine_shares,
    create_shares,
)
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (  # type: ignore[import-not-found, unused-ignore]
    generate_shared_key,
)
from flwr.common.secure_aggregation.ndarrays_arithmetic import (  # type: ignore[import-not-found, unused-ignore]
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import (  # type: ignore[import-not-found, unused-ignore]
    pseudo_rand_gen,
)
from flwr.supercore.primitives.asymmetric import (  # type: ignore[import-not-found, unused-ignore]
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

MOD_RANGE = 2**32  # the default of SecAggPlusWorkflow

Parameters = Any  # a list of arrays of int64


@dataclass
class Client:
    """A holder's secrets of one round, and who has which share of them."""

    node_id: int
    seed: bytes = field(default_factory=lambda: os.urandom(32))

    def __post_init__(self) -> None:
        private, public = generate_key_pairs()
        self.private, self.public = private_key_to_bytes(private), public_key_to_bytes(public)

    def share(self, threshold: int, n_holders: int) -> None:
        self.seed_shares = create_shares(self.seed, threshold, n_holders)
        self.private_shares = create_shares(self.private, threshold, n_holders)


def mask(client: Client, clients: list[Client], vector: Parameters) -> Parameters:
    """Return y_u, as `_collect_masked_vectors` makes it of quantised parameters."""
    masked = factor_combine(1, vector)
    shapes = get_parameters_shape(masked)
    masked = parameters_addition(masked, pseudo_rand_gen(client.seed, MOD_RANGE, shapes))
    for other in clients:
        if other is client:
            continue
        shared_key = generate_shared_key(
            bytes_to_private_key(client.private), bytes_to_public_key(other.public)
        )
        pairwise_mask = pseudo_rand_gen(shared_key, MOD_RANGE, shapes)
        if client.node_id > other.node_id:
            masked = parameters_addition(masked, pairwise_mask)
        else:
            masked = parameters_subtraction(masked, pairwise_mask)
    return parameters_mod(masked, MOD_RANGE)


def unmask(clients: list[Client], active: list[Client], inputs: list[Parameters]) -> Parameters:
    """Return the total over the active, as the last two stages of the workflow do."""
    total = inputs[0]
    for masked in inputs[1:]:
        total = parameters_addition(total, masked)
    total = parameters_mod(total, MOD_RANGE)
    for client in clients:
        shares = client.seed_shares if client in active else client.private_shares
        secret = combine_shares([shares[holder.node_id] for holder in active])
        if client in active:
            total = parameters_subtraction(
                total, pseudo_rand_gen(secret, MOD_RANGE, get_parameters_shape(total))
            )
            continue
        for other in clients:
            if other is client:
                continue
            shared_key = generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(other.public))
            pairwise_mask = pseudo_rand_gen(shared_key, MOD_RANGE, get_parameters_shape(total))
            if client.node_id > other.node_id:
                total = parameters_addition(total, pairwise_mask)
            else:
                total = parameters_subtraction(total, pairwise_mask)
    _, vector = factor_extract(parameters_mod(total, MOD_RANGE))
    return vector


def main(vectors: str, n_holders: int, threshold: int, lost: list[int]) -> None:
    """Mask and unmask once for each number of lost holders, the last ones."""
    rows = np.fromfile(vectors, dtype="<u4").reshape(n_holders, -1).astype(np.int64)
    clients = [Client(node_id) for node_id in range(n_holders)]
    for client in clients:
        client.share(threshold, n_holders)
    start = time.process_time()
    inputs = [mask(clients[0], clients, [rows[0]])]
    seconds = {"holder": time.process_time() - start}
    inputs += [mask(client, clients, [row]) for client, row in zip(clients[1:], rows[1:], strict=True)]
    totals = {}
    for n_lost in lost:
        active = clients[: n_holders - n_lost]
        start = time.process_time()
        (total,) = unmask(clients, active, inputs[: len(active)])
        seconds[str(n_lost)] = time.process_time() - start
        totals[str(n_lost)] = hashlib.sha256(total.astype("<u4").tobytes()).hexdigest()
    print(json.dumps({"seconds": seconds, "totals": totals}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
