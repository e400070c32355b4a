"""The ring in one process, message by message: the first file to open.

Three holders and a coordinator run the real protocol in the simulator, with virtual time and without Ray. Expect the
transcript of one secure sum, then the Poisson fit over the same ring: lambda = 9.175, as R has it for the pooled data.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import tacit
from tacit.models.poisson import poisson_nll, poisson_sites
from tacit.models.total import Arrays, contribute
from tacit.protocols.invitation import Prepared, invite, prepare
from tacit.protocols.key_agreement import Identity, SessionKeys
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import Aggregate, coordinator_role, holder_role
from tacit.protocols.simulation import Run
from tacit.serialization.session_messages import Invitation, Query

SITES = poisson_sites()
RING = tacit.RingPaillier(key_bits=3072)
MODEL = tacit.MaximumLikelihood(poisson_nll, start={"lambda": 5.0}, bounds={"lambda": (0, None)})

# Everybody has an identity, pinned in the roster; what outlives a session is kept in a memory.
IDENTITIES = {
    "k": Identity("k", "coordinator", os.urandom),
    **{name: Identity(name, "holder", os.urandom) for name in SITES},
}
ROSTER = Roster(tuple(identity.public for identity in IDENTITIES.values()))
MEMORIES = {name: RING.memory() for name in IDENTITIES}


def ring_sum(query: Query) -> Run:
    """One session: every site's contribution to the query, summed round the ring."""
    session = os.urandom(32)
    keys = {name: SessionKeys(identity, ROSTER, session, os.urandom) for name, identity in IDENTITIES.items()}
    invitation = invite(
        keys["k"], protocol=RING.options, encoding=None, definition=MODEL.definition.digest, query=query
    )

    def examine(name: str) -> Callable[[Invitation], Prepared]:
        return lambda shown: prepare(
            contribute(MODEL, SITES[name], shown.query), shown.encoding, len(SITES), void=True
        )

    network = tacit.Simulation(seed=int.from_bytes(os.urandom(8), "big"))
    network.add("k", coordinator_role(RING, keys["k"], invitation, MEMORIES["k"]))
    for name in SITES:
        role = holder_role(RING, keys[name], examine(name), MEMORIES[name])
        network.add(name, role, tell=(PartyId("k"),))
    return network.run()


async def total(query: Query) -> Arrays:
    """What a model awaits: it cannot tell this from a list, or from a federation of processes."""
    aggregate: Aggregate = ring_sum(query).result("k")
    return aggregate.arrays


async def main() -> None:
    """Show one session, then fit."""
    run = ring_sum(Query("start", {"theta": MODEL.start}, may_fail=True))
    print("One secure sum:\n")
    print("\n".join(f"  {line}" for line in run.transcript))
    print(f"\nThe coordinator now holds the totals {list(run.result('k').arrays)} and nothing else.\n")
    async for state in MODEL.iterate(total):
        print(state)


if __name__ == "__main__":
    asyncio.run(main())
