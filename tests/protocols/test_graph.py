"""Who masks with whom: degrees that keep their promises, thresholds, the graph, and the seed that nobody chooses."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.errors import InvalidMessageError, SetupError
from tacit.protocols.graph import (
    COMPLETE_UP_TO,
    SEED_BYTES,
    Neighbourhood,
    check_threshold,
    commitment,
    default_threshold,
    degree_and_threshold,
    harary_neighbours,
    hypergeometric_tail,
    joint_seed,
    shuffled,
    tolerated_collusion,
)
from tacit.protocols.party import PartyId

few = settings(deadline=None, derandomize=True, max_examples=40)
SESSION = b"s" * 32

# Of PROTOCOLS, section C: active, holders, corrupt, dropped, degree, threshold.
PUBLISHED = [
    (False, 100, 0.05, 0.05, 12, 6),
    (False, 100, 0.10, 0.10, 22, 11),
    (False, 100, 0.33, 0.05, 34, 29),
    (False, 1000, 0.05, 0.05, 30, 17),
    (False, 1000, 0.10, 0.10, 48, 27),
    (False, 1000, 0.33, 0.05, 78, 60),
    (False, 10000, 0.05, 0.05, 34, 20),
    (False, 10000, 0.10, 0.10, 54, 31),
    (False, 10000, 0.33, 0.05, 92, 70),
    (True, 100, 0.10, 0.10, 32, 22),
    (True, 100, 0.20, 0.10, 42, 32),
    (True, 1000, 0.10, 0.10, 96, 67),
    (True, 1000, 0.20, 0.10, 140, 104),
]


def names(n: int) -> list[PartyId]:
    return [PartyId(f"site-{i:04}") for i in range(n)]


def urn(population: int, marked: int, draws: int) -> list[Fraction]:
    """Return the probability of each number of hits, by drawing one after the other from an urn."""
    ways = [1]
    for drawn in range(draws):
        following = [0] * (drawn + 2)
        for hits, count in enumerate(ways):
            following[hits + 1] += count * max(marked - hits, 0)
            following[hits] += count * max(population - marked - (drawn - hits), 0)
        ways = following
    return [Fraction(count, math.perm(population, draws)) for count in ways]


def fails(
    active: bool, n: int, corrupt: int, dropped: int, degree: int, threshold: int
) -> tuple[Fraction, Fraction]:
    """Return the bounds, over all holders, on too many colluding and on too few living neighbours."""
    colluding = 2 * threshold - degree if active else threshold
    exposed = sum(urn(n - 1, corrupt, degree)[max(colluding, 0) :], Fraction(0))
    stranded = sum(urn(n - 1, dropped, degree)[degree - threshold + 1 :], Fraction(0))
    return n * exposed, n * stranded


def cut(n: int, gone: int, degree: int) -> Fraction:
    """Return the bound on two runs of half the degree, of colluding and lost holders only."""
    return math.comb(n, 2) * urn(n, gone, degree)[degree]


def reached(neighbours: Mapping[PartyId, Collection[PartyId]], alive: Collection[PartyId]) -> set[PartyId]:
    """Return who of the living is connected with the first of them."""
    seen: set[PartyId] = set()
    waiting = list(alive)[:1]
    while waiting:
        holder = waiting.pop()
        if holder not in seen:
            seen.add(holder)
            waiting.extend(peer for peer in neighbours[holder] if peer in alive)
    return seen


# Thresholds


def test_default_thresholds() -> None:
    sizes = (3, 4, 5, 10, 100)
    assert [default_threshold(n, active=False) for n in sizes] == [2, 3, 3, 6, 51]
    assert [default_threshold(n, active=True) for n in sizes] == [3, 3, 4, 7, 67]  # losses: 0, 1, 1, 3, 33


@pytest.mark.parametrize("n", range(3, 60))
def test_default_thresholds_withstand_what_they_should(n: int) -> None:
    semi_honest = default_threshold(n, active=False)
    assert tolerated_collusion(semi_honest, n, active=False) == n // 2 - 1
    active = default_threshold(n, active=True)
    assert tolerated_collusion(active, n, active=True) >= math.ceil(n / 3) - 1


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("n", [3, 4, 5, 10, 11])
def test_exactly_the_safe_thresholds_are_accepted(n: int, active: bool) -> None:
    for threshold, colluding in product(range(-1, n + 3), range(n + 1)):
        safe = colluding + 2 <= threshold <= n and (not active or 2 * threshold > n + colluding)
        if safe:
            check_threshold(threshold, n, colluding=colluding, active=active)
            assert tolerated_collusion(threshold, n, active=active) >= colluding
        else:
            with pytest.raises(SetupError):
                check_threshold(threshold, n, colluding=colluding, active=active)


def test_a_refused_threshold_names_the_remedy() -> None:
    with pytest.raises(SetupError, match="choose one from 7 to 10"):
        check_threshold(6, 10, colluding=3, active=True)
    with pytest.raises(SetupError, match="choose one from 5 to 10"):
        check_threshold(11, 10, colluding=3, active=False)
    with pytest.raises(SetupError, match="assume fewer or add holders"):
        check_threshold(5, 5, colluding=4, active=False)


@pytest.mark.parametrize(("threshold", "active"), [(1, False), (5, True), (11, False)])
def test_a_threshold_unsafe_without_collusion_tolerates_none(threshold: int, active: bool) -> None:
    with pytest.raises(SetupError):
        tolerated_collusion(threshold, 10, active=active)


# Degrees


@pytest.mark.parametrize(("active", "n", "corrupt", "dropped", "degree", "threshold"), PUBLISHED)
def test_published_degrees(
    active: bool, n: int, corrupt: float, dropped: float, degree: int, threshold: int
) -> None:
    found = degree_and_threshold(n, corrupt_fraction=corrupt, dropout_fraction=dropped, active=active)
    assert found == Neighbourhood(degree, threshold)


@pytest.mark.parametrize(("active", "n", "corrupt", "dropped", "degree", "threshold"), PUBLISHED)
def test_published_degrees_keep_their_promises_and_no_smaller_ones_do(
    active: bool, n: int, corrupt: float, dropped: float, degree: int, threshold: int
) -> None:
    c, d = round(corrupt * n), round(dropped * n)
    exposed, stranded = fails(active, n, c, d, degree, threshold)
    assert exposed <= Fraction(1, 2**41)
    assert stranded <= Fraction(1, 2**20)
    assert fails(active, n, c, d, degree, threshold - 1)[0] > Fraction(1, 2**41)
    # At two neighbours less, every threshold that is high enough for the one is too high for the other.
    bounds = (fails(active, n, c, d, degree - 2, t) for t in range(threshold - 3, threshold + 1))
    assert all(lost > Fraction(1, 2**20) for found, lost in bounds if found <= Fraction(1, 2**41))


@pytest.mark.parametrize(("population", "marked", "draws"), [(9, 4, 5), (9, 0, 3), (9, 9, 3), (99, 33, 34)])
def test_tails_are_those_of_an_urn(population: int, marked: int, draws: int) -> None:
    chances = urn(population, marked, draws)
    for count in range(draws + 2):
        assert hypergeometric_tail(population, marked, draws, count) == sum(chances[count:])


def test_a_tail_counted_by_hand() -> None:
    hands = list(combinations(range(8), 4))  # 0, 1 and 2 are marked
    for count in range(-1, 6):
        hits = sum(len({0, 1, 2} & set(hand)) >= count for hand in hands)
        assert hypergeometric_tail(8, 3, 4, count) == Fraction(hits, len(hands))


@few
@given(st.integers(COMPLETE_UP_TO + 1, 300), st.integers(1, 25), st.integers(0, 25), st.booleans())
def test_degrees_are_possible_and_cautious(n: int, corrupt: int, dropped: int, active: bool) -> None:
    found = degree_and_threshold(
        n, corrupt_fraction=corrupt / 100, dropout_fraction=dropped / 100, active=active
    )
    c, d = -(-corrupt * n // 100), -(-dropped * n // 100)
    exposed, stranded = fails(active, n, c, d, found.degree, found.threshold)
    assert found.degree % 2 == 0 or found.degree == n - 1
    assert 2 <= found.threshold <= found.degree < n
    assert exposed <= Fraction(1, 2**41)
    assert cut(n, c + d, found.degree) <= Fraction(1, 2**41)
    assert stranded + cut(n, c + d, found.degree) <= Fraction(1, 2**20)


def test_the_degree_also_keeps_the_survivors_connected() -> None:
    found = degree_and_threshold(65, corrupt_fraction=0.01, dropout_fraction=0.3, active=False)
    assert found == Neighbourhood(22, 2)
    exposed, stranded = fails(False, 65, 1, 20, 20, 2)
    assert exposed + stranded < Fraction(1, 2**38)  # 20 neighbours would do, but for the cut
    assert cut(65, 21, 20) > Fraction(1, 2**41) >= cut(65, 21, 22)


def test_degrees_grow_like_the_logarithm() -> None:
    degrees = [
        degree_and_threshold(10**e, corrupt_fraction=0.1, dropout_fraction=0.1, active=False).degree
        for e in (3, 4, 5, 6)
    ]
    assert degrees == sorted(degrees)
    assert degrees[-1] < 1.5 * degrees[0]


def test_few_holders_and_many_lost_need_the_complete_graph() -> None:
    found = degree_and_threshold(10, corrupt_fraction=0.2, dropout_fraction=0.3, active=True)
    assert found == Neighbourhood(9, 6)


def test_part_of_a_holder_counts_as_one() -> None:
    found = degree_and_threshold(3, corrupt_fraction=0.01, dropout_fraction=0.0, active=True)
    assert found == Neighbourhood(2, 2)


def test_fractions_are_the_decimals_they_are_written_as() -> None:
    assert 0.07 * 100 > 7
    found = degree_and_threshold(100, corrupt_fraction=0.07, dropout_fraction=0.07, active=False)
    assert found.threshold == 7 + 1


@pytest.mark.parametrize(
    ("n", "corrupt", "dropped", "active", "remedy"),
    [
        (100, 0.5, 0.5, False, "cannot lose 50"),
        (100, 0.34, 0.33, True, "cannot lose 33"),
        (2, 0.01, 0.01, False, "cannot lose 1"),
        (1, 0.01, 0.0, False, "add holders"),
        (100, 0.0, 0.1, False, "above 0"),
        (100, 0.1, 1.0, False, "from 0 to below 1"),
        (100, -0.1, 0.1, False, "from 0 to below 1"),
        (100, math.nan, 0.1, False, "from 0 to below 1"),
    ],
)
def test_impossible_expectations_are_refused(
    n: int, corrupt: float, dropped: float, active: bool, remedy: str
) -> None:
    with pytest.raises(SetupError, match=remedy):
        degree_and_threshold(n, corrupt_fraction=corrupt, dropout_fraction=dropped, active=active)


# The graph


@few
@given(st.integers(1, 60), st.integers(1, 30), st.binary(min_size=4, max_size=4))
def test_graphs_are_regular_symmetric_and_connected(n: int, half: int, seed: bytes) -> None:
    order = shuffled(names(n), seed)
    neighbours = harary_neighbours(order, 2 * half)
    assert set(neighbours) == set(order)
    for holder, peers in neighbours.items():
        assert len(set(peers)) == len(peers) == min(2 * half, n - 1)
        assert list(peers) == sorted(peers)
        assert holder not in peers
        assert all(holder in neighbours[peer] for peer in peers)
    assert reached(neighbours, order) == set(order)


@pytest.mark.parametrize(("n", "degree"), [(9, 4), (10, 6), (11, 2), (10, 4)])
def test_only_two_runs_of_half_the_degree_cut_the_graph(n: int, degree: int) -> None:
    order = names(n)
    neighbours = harary_neighbours(order, degree)
    for lost in product([False, True], repeat=n):
        alive = [holder for holder, gone in zip(order, lost, strict=True) if not gone]
        places = [place for place in range(n) if not lost[place]]
        gaps = [(after - place - 1) % n for place, after in zip(places, places[1:] + places[:1], strict=True)]
        connected = reached(neighbours, alive) == set(alive)
        assert connected == (len(alive) < 2 or sum(gap >= degree // 2 for gap in gaps) < 2)


def test_a_degree_of_all_others_is_the_complete_graph() -> None:
    for degree in (3, 4, 100):
        assert harary_neighbours(names(4), degree) == {
            holder: tuple(peer for peer in names(4) if peer != holder) for holder in names(4)
        }


@pytest.mark.parametrize("degree", [-2, 0, 1, 3, 7])
def test_odd_and_empty_degrees_are_refused(degree: int) -> None:
    with pytest.raises(SetupError, match="or 9 for all pairs"):
        harary_neighbours(names(10), degree)


def test_a_holder_stands_once_in_the_graph() -> None:
    with pytest.raises(SetupError, match="its own name"):
        harary_neighbours([*names(5), names(1)[0]], 2)


# The seed


@few
@given(st.permutations(names(12)), st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES))
def test_the_order_depends_on_the_seed_only(holders: list[PartyId], seed: bytes) -> None:
    order = shuffled(holders, seed)
    assert order == shuffled(names(12), seed)
    assert sorted(order) == names(12)
    assert order != shuffled(holders, seed + b"\0")


def test_every_place_of_the_circle_is_taken_equally_often() -> None:
    counts = [0] * 8
    for round_ in range(4000):
        counts[shuffled(names(8), round_.to_bytes(SEED_BYTES, "big")).index(names(1)[0])] += 1
    assert sum((count - 500) ** 2 / 500 for count in counts) < 24.3  # chi-square, 7 degrees, 1 in 1,000


def test_every_share_decides_over_the_seed() -> None:
    shares = {holder: bytes([i]) * SEED_BYTES for i, holder in enumerate(names(5))}
    seed = joint_seed(shares)
    assert len(seed) == SEED_BYTES
    assert seed == joint_seed(dict(reversed(shares.items())))
    for holder in shares:
        assert seed != joint_seed({**shares, holder: bytes([9]) * SEED_BYTES})
        assert seed != joint_seed({name: share for name, share in shares.items() if name != holder})
    swapped = {**shares, names(2)[0]: shares[names(2)[1]], names(2)[1]: shares[names(2)[0]]}
    assert seed != joint_seed(swapped)


def test_a_share_of_another_length_names_its_holder() -> None:
    with pytest.raises(InvalidMessageError) as caught:
        joint_seed({PartyId("a"): bytes(SEED_BYTES), PartyId("b"): bytes(SEED_BYTES - 1)})
    assert caught.value.culprits == ("b",)


def test_commitments_bind_share_holder_and_session() -> None:
    seen = {
        commitment(share, PartyId(holder), session)
        for share in (bytes(32), bytes(31) + b"\1")
        for holder in ("a", "b", "aa")
        for session in (SESSION, b"t" * 32)
    }
    assert len(seen) == 12


def test_the_hashes_are_the_same_in_every_release() -> None:
    share = bytes(range(SEED_BYTES))
    assert commitment(share, PartyId("a"), SESSION).hex()[:16] == "f0920a5ced157ce6"
    assert joint_seed({PartyId("a"): share}).hex()[:16] == "2f62f4494e879a88"
    assert [names(4).index(name) for name in shuffled(names(4), share)] == [1, 2, 0, 3]
