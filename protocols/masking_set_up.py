"""The roles of pairwise masking that set an epoch up: once for many sums.

1. More than 64 holders first draw the seed of the graph: each commits to a share of it, and opens the share once it
   has seen all commitments. Whoever is lost meanwhile ends the session: a seed without its share would be its choice.
2. *ShareKeys*: each holder deals, and gets from the coordinator what its neighbours have dealt it. U2: those who
   have dealt in time, as many as needed.

Who learns what: nobody anything but who takes part. A coordinator that shows different seeds to different holders is
found out by the shares, which do not open, and again by every round's codes over the survivors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from ..serialization.pairwise_masking_messages import (
    DealtShares,
    ForwardedCodes,
    GraphCommitment,
    GraphCommitments,
    GraphSeed,
    GraphSeeds,
    MaskedInput,
    ReceivedShares,
    SurvivorCodes,
    UnmaskingShares,
)
from ..serialization.session_messages import Abort
from . import graph as graphs
from .channel import Channel
from .errors import InvalidMessageError
from .graph import Neighbourhood
from .invitation import TOO_LATE, Opened
from .key_agreement import SessionKeys
from .masking_epoch import (
    Dealings,
    Epoch,
    Graph,
    check_dealings,
    check_session,
    deal,
    forward_shares,
    open_shares,
    terms,
)
from .party import PartyId

ToCoordinator = TypeVar(
    "ToCoordinator", GraphCommitment, GraphSeed, DealtShares, MaskedInput, SurvivorCodes, UnmaskingShares
)
ToHolder = TypeVar("ToHolder", GraphCommitments, GraphSeeds, ReceivedShares, ForwardedCodes)

ANSWER_SECONDS = 60.0  # for a message of a few kilobytes
SECONDS_PER_PAIR = 0.001  # of holders who agree on keys, be they all on one processor


async def gathered(
    channel: Channel,
    opened: Opened,
    kind: type[ToCoordinator],
    senders: Collection[PartyId],
    *,
    at_least: int | None = None,
    within: float = ANSWER_SECONDS,
) -> dict[PartyId, ToCoordinator]:
    """Wait, at the coordinator, for a message of this session from each of several holders."""
    answers = await channel.gather(kind, senders=senders, at_least=at_least, within=within)
    for holder, answer in answers.items():
        check_session(opened, holder, answer.session)
    return answers


async def received(channel: Channel, opened: Opened, kind: type[ToHolder]) -> ToHolder:
    """Wait, at a holder, for the coordinator's message of this session, until the session's own deadline."""
    coordinator = opened.roster.coordinator
    answer = await channel.receive(kind, sender=coordinator)
    check_session(opened, coordinator, answer.session)
    return answer


# The coordinator


async def gather_dealings(
    channel: Channel, opened: Opened, neighbourhood: Neighbourhood, n_rounds: int
) -> Dealings:
    """Run the coordinator's role: route what the holders deal to each other, and keep what locks it.

    Raises
    ------
    InvalidMessageError
        If a holder has dealt what cannot be right, or two do not mean the same.
    DropoutError
        If fewer than needed have dealt in time, or one is lost while the graph's seed is drawn.
    """
    graph = _graph(opened, neighbourhood, await _gather_seeds(channel, opened, neighbourhood))
    within = ANSWER_SECONDS + SECONDS_PER_PAIR * len(opened.present) ** 2
    dealt = await gathered(
        channel, opened, DealtShares, opened.present, at_least=opened.needed, within=within
    )
    good_for = terms(opened.roster, opened.invitation.protocol)
    dealings = Dealings(opened.session, good_for, graph, dealt, members=tuple(dealt))
    await channel.compute(check_dealings, dealings, n_rounds)
    for holder in dealt:
        channel.send(holder, forward_shares(opened, dealings, holder))
    late = [holder for holder in opened.present if holder not in dealt]
    channel.broadcast(late, Abort(session=opened.session, reason=TOO_LATE, lost=()))
    return dealings


async def _gather_seeds(
    channel: Channel, opened: Opened, neighbourhood: Neighbourhood
) -> Mapping[PartyId, bytes]:
    """Have the holders commit to their shares of the graph's seed, then open them."""
    if not _is_sparse(opened, neighbourhood):
        return {}
    session, present = opened.session, opened.present
    committed = await gathered(channel, opened, GraphCommitment, present)
    commitments = tuple(answer.commitment for answer in committed.values())
    channel.broadcast(present, GraphCommitments(session=session, commitments=commitments))
    answers = await gathered(channel, opened, GraphSeed, present)
    seeds = {holder: answer.seed for holder, answer in answers.items()}
    _check_seeds(opened, commitments, seeds)
    channel.broadcast(present, GraphSeeds(session=session, seeds=tuple(seeds.values())))
    return seeds


# A holder


async def join_epoch(
    channel: Channel,
    opened: Opened,
    keys: SessionKeys,
    neighbourhood: Neighbourhood,
    n_rounds: int,
    *,
    codes: bool,
) -> Epoch:
    """Run a holder's role: deal the secrets of an epoch, and open what its neighbours have dealt it.

    Raises
    ------
    InvalidMessageError
        If the coordinator, or a dealer, has sent what cannot be right.
    """
    graph = _graph(opened, neighbourhood, await _join_seeds(channel, opened, neighbourhood))
    dealt, own = await channel.compute(
        deal, opened, graph, keys, n_rounds, codes=codes, random_bytes=channel.random_bytes
    )
    channel.send(opened.roster.coordinator, dealt)
    shares = await received(channel, opened, ReceivedShares)
    return await channel.compute(open_shares, opened, graph, keys, own, shares)


async def _join_seeds(
    channel: Channel, opened: Opened, neighbourhood: Neighbourhood
) -> Mapping[PartyId, bytes]:
    """Commit to a share of the graph's seed, open it once all have, and check that the others did as well."""
    if not _is_sparse(opened, neighbourhood):
        return {}
    session, coordinator, present = opened.session, opened.roster.coordinator, opened.present
    own = channel.random_bytes(graphs.SEED_BYTES)
    committed = graphs.commitment(own, channel.me, session)
    channel.send(coordinator, GraphCommitment(session=session, commitment=committed))
    commitments = (await received(channel, opened, GraphCommitments)).commitments
    if len(commitments) != len(present) or commitments[present.index(channel.me)] != committed:
        raise InvalidMessageError("commitments without this holder's own", culprits=[coordinator])
    channel.send(coordinator, GraphSeed(session=session, seed=own))
    seeds = (await received(channel, opened, GraphSeeds)).seeds
    if len(seeds) != len(present):
        raise InvalidMessageError("another number of seeds than of holders", culprits=[coordinator])
    by_holder = dict(zip(present, seeds, strict=True))
    _check_seeds(opened, commitments, by_holder)
    return by_holder


# The graph


def _is_sparse(opened: Opened, neighbourhood: Neighbourhood) -> bool:
    return neighbourhood.degree < len(opened.present) - 1


def _check_seeds(opened: Opened, commitments: Sequence[bytes], seeds: Mapping[PartyId, bytes]) -> None:
    for committed, (holder, seed) in zip(commitments, seeds.items(), strict=True):
        if graphs.commitment(seed, holder, opened.session) != committed:
            raise InvalidMessageError(
                "a seed of the graph is not what was committed to",
                suspects=[holder, opened.roster.coordinator],
            )


def _graph(opened: Opened, neighbourhood: Neighbourhood, seeds: Mapping[PartyId, bytes]) -> Graph:
    """Return who masks with whom: all with all, or as the holders' joint seed places them.

    Bonawitz et al. count a holder's own share among the n of which t reconstruct; the degrees of a sparse graph are
    for shares that neighbours keep alone.
    """
    present = opened.present
    if not seeds:
        near = {holder: tuple(peer for peer in present if peer != holder) for holder in present}
        return Graph(near, dict.fromkeys(present, present), neighbourhood.threshold, b"")
    return _sparse_graph(present, neighbourhood, graphs.joint_seed(seeds))


@lru_cache(maxsize=1)
def _sparse_graph(present: tuple[PartyId, ...], neighbourhood: Neighbourhood, seed: bytes) -> Graph:
    """Place all holders; once a process, which in a large simulation is that of many."""
    around = graphs.harary_neighbours(graphs.shuffled(present, seed), neighbourhood.degree)
    places = {holder: place for place, holder in enumerate(present)}
    near = {holder: tuple(sorted(around[holder], key=places.__getitem__)) for holder in present}
    return Graph(near, near, neighbourhood.threshold, seed)
