"""A thousand sessions in a row among random deaths: what grows, and whether every sum is right.

    deployed        a thousand with kills and a thousand without over parties that have joined a study, with ledgers,
                    memories of releases and policies on disk; who is killed comes back by itself
    with kills      in a simulation a thousand sessions under pairwise masking, and fewer in the ring of Paillier. Every
                    now and then the process of a holder, of the coordinator or of the repository is killed at a random
                    moment of a session. Sums go on over the holders that are left; all parties start anew when they
                    can no longer
    undisturbed     a thousand more under masking, in which nobody dies: what each process holds more after all of them
                    than after the first hundred

How a session may end `soaking` tells. Memory, files and threads are those of single processes, by their age: after a
hundred sessions of their own, and when they were last seen. What Ray holds is counted at rest: calls that wait for
frames hold references.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tacit
from tacit.actors import cluster
from tacit.protocols.party import COORDINATOR
from tacit.protocols.protocol import Protocol

from .deployed_soak import RETURN_SECONDS, Deployed, DeployedSoak, deployed, unlike
from .lives import Held, Life
from .measure import Figure, Section
from .soaking import REPOSITORY, Death, Rows, Soak, Soaked, Tally

SESSIONS, RING_SESSIONS, QUICK_SESSIONS = 1_000, 300, 60
FIRST, QUICK_FIRST = 100, 20  # sessions of a process after which its growth is measured
HOLDERS, ROWS = 4, 8
SESSIONS_A_DEATH, QUICK_SESSIONS_A_DEATH = 40, 10  # on average
GROWTH_LIMIT = 10.0  # percent
FILES_LIMIT, THREADS_LIMIT = 0, 8  # its and our pools of threads come with use
SESSION_SECONDS = 10.0  # in which a session is over, whoever dies


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Soak both protocols."""
    generator = np.random.default_rng(0)
    rows = {f"site-{place + 1}": generator.normal(0, 1, ROWS) for place in range(HOLDERS)}
    n_sessions, n_in_ring = (QUICK_SESSIONS, QUICK_SESSIONS) if quick else (SESSIONS, RING_SESSIONS)
    average = QUICK_SESSIONS_A_DEATH if quick else SESSIONS_A_DEATH
    n_first = QUICK_FIRST if quick else FIRST
    kills = deaths(n_sessions, average, list(rows))
    yield from _deployed(
        rows, n_sessions, n_first, kills, say
    )  # first: a process that has simulated is refused
    cluster.start_ray(__name__)
    try:
        runs = {"with kills": kills, "undisturbed": {}}
        yield from _soaked(tacit.PairwiseMasking(), rows, n_sessions, n_first, runs, say)
        runs = {"with kills": deaths(n_in_ring, average, list(rows))}
        yield from _soaked(tacit.RingPaillier(), rows, n_in_ring, n_first, runs, say)
    finally:
        cluster.stop_ray(__name__)


def _deployed(
    rows: Mapping[str, Rows],
    n_sessions: int,
    n_first: int,
    fatal: Mapping[int, Death],
    say: Callable[[str], None],
) -> Iterator[Section]:
    with deployed(rows) as parties, tacit.connect(parties.study) as federation:
        fewest = tacit.PairwiseMasking().minimum_holders
        soak = DeployedSoak(parties, federation, rows, fewest=fewest, n_first=n_first, say=say)
        for what, deadly in {"with kills": fatal, "undisturbed": {}}.items():
            title = f"{n_sessions:,} sessions {what}: a study with ledgers and policies"
            say(f"soak: {title}")
            soaked = soak.run(n_sessions, deadly)
            # A process that was started anew may have one connection more, or less, to each of the others.
            n_connections = len(parties.joins) if deadly else 0
            yield section(title, soaked, _kept(soak, parties, federation), FILES_LIMIT + n_connections)


def _kept(soak: DeployedSoak, parties: Deployed, federation: Any) -> list[Figure]:
    """Put what parties have kept beside what each other, and the repository, have."""
    found = parties.audit()
    n_faults = sum(len(chain.faults) for chain in found.chains)
    n_unknown, n_alone = unlike(found, {record["session"] for record in federation.ledger})
    note = f"{len(found.sessions):,} sessions of {len(found.chains)} ledgers"
    ends = "for each end of the coordinator one that nobody was told"
    return [
        Figure("faults in ledgers", "", float(n_faults), limit=0, note=note),
        Figure("disagreements between ledgers", "", float(len(found.disagreements)), limit=0),
        Figure("sums in the repository and not in the ledger", "", float(n_unknown), limit=0),
        Figure(
            "sums in the ledger and not in the repository", "", float(n_alone), limit=soak.n_ends, note=ends
        ),
        Figure("the longest return", "s", soak.longest_return, limit=RETURN_SECONDS),
    ]


def _soaked(  # noqa: PLR0917 - what a soak is
    protocol: Protocol[Any],
    rows: Mapping[str, Rows],
    n_sessions: int,
    n_first: int,
    runs: Mapping[str, Mapping[int, Death]],
    say: Callable[[str], None],
) -> Iterator[Section]:
    with tacit.simulate(rows, protocol, on_dropout="continue") as federation:
        soak = Soak(federation, rows, protocol.minimum_holders, n_first, say)
        for what, fatal in runs.items():
            title = f"{n_sessions:,} sessions {what}: {protocol.title}"
            say(f"soak: {title}")
            yield section(title, soak.run(n_sessions, fatal))


def deaths(n_sessions: int, average: float, holders: list[str]) -> dict[int, Death]:
    """Return the deaths of a soak by the numbers of their sessions, the same every time.

    Parameters
    ----------
    n_sessions : int
    average : float
        Sessions from one death to the next.
    holders : list of str
        As often as some holder, the coordinator dies, and the repository.
    """
    chance = random.Random(0)  # of deaths, not of secrets
    fatal = {}
    for number in range(1, n_sessions + 1):
        if chance.random() < 1 / average:
            kinds = [[COORDINATOR], [REPOSITORY], chance.sample(holders, len(holders))]
            chance.shuffle(kinds)
            fatal[number] = Death([victim for kind in kinds for victim in kind], chance.random())
    return fatal


def section(
    title: str, soaked: Soaked, further: Sequence[Figure] = (), files_limit: int = FILES_LIMIT
) -> Section:
    """Put growth and ends of sessions, and further figures, beside their limits."""
    tally = soaked.tally
    ends = f"{sum(tally.sums.values()):,} right sums, {sum(tally.errors.values()):,} typed errors"
    grown = [(life, life.first, life.last) for life in soaked.lives if life.first and life.last]
    parties = dict.fromkeys(life.party for life in soaked.lives)
    figures = [
        Figure("neither a right sum nor a death's error", "", float(len(tally.wrong)), limit=0, note=ends),
        Figure("sums that are not on record", "", float(soaked.n_unrecorded), limit=0),
        Figure("faults in the repository", "", float(soaked.n_faults), limit=0),
        *further,
        Figure("the longest session", "s", tally.slowest, limit=SESSION_SECONDS),
        *(_growth(party, [one for one in grown if one[0].party == party]) for party in parties),
        _files(grown, files_limit),
        _most("threads", [(was.threads, now.threads, life.party) for life, was, now in grown], THREADS_LIMIT),
        *(_most(what, [(was, soaked.last[what], "")], 0) for what, was in soaked.first.items()),
    ]
    return Section(title, "", tuple(figures), tuple(_remarks(tally)))


def _growth(party: str, grown: Sequence[tuple[Life, Held, Held]]) -> Figure:
    """Return by how much the memory of a party's process has grown, of several the one that has grown most."""
    what = f"resident memory: {party}"
    if not grown:
        return Figure(what, "% more", None, limit=GROWTH_LIMIT, note="no process of it lived long enough")
    life, was, now = max(grown, key=lambda one: one[2].resident / one[1].resident)
    note = f"{was.resident:.1f} MB, then {now.resident:.1f} MB after {life.n_sessions:,} sessions"
    return Figure(what, "% more", 100 * (now.resident / was.resident - 1), limit=GROWTH_LIMIT, note=note)


def _files(grown: Sequence[tuple[Life, Held, Held]], limit: int) -> Figure:
    """Return how many files more a process has open, of all the one that has most, and which."""
    life, was, now = max(grown, key=lambda one: one[2].files.total() - one[1].files.total())
    before, after = was.files.total(), now.files.total()
    which = f" ({_listed(now.files - was.files)})" if after > before else ""
    note = f"{before}, then {after}: {life.party}{which}"
    return Figure("open files", "more", float(after - before), limit=limit, note=note)


def _most(what: str, counts: Sequence[tuple[int, int, str]], limit: int) -> Figure:
    """Return by how much a count has grown where it has grown most."""
    was, now, where = max(counts, key=lambda count: count[1] - count[0])
    note = f"{was:,}, then {now:,}" + (f": {where}" if where else "")
    return Figure(what, "more", float(now - was), limit=limit, note=note)


def _remarks(tally: Tally) -> Iterator[str]:
    if tally.kills:
        yield f"{tally.kills.total()} kills, {tally.n_amid} amid a session: {_listed(tally.kills)}"
        yield f"parties were started anew {tally.n_restarts} times"
        yield f"right sums by how many holders are in them: {_listed(tally.sums)}"
    if tally.errors:
        yield f"typed errors: {_listed(tally.errors)}"
    yield from tally.wrong


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{what} × {count}" for what, count in sorted(counts.items()))
