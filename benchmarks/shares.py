"""Shamir's secret sharing of vectors, against MPyC's `thresha` on the same secrets.

    thresha.np_random_split(field, secrets, degree, n)          thresha.np_recombine(field, points)

MPyC runs in an environment of its own, by turns with ours; of its two implementations, the faster one counts. All
are counted in processor time of their thread: what other programs take of the machine is left out, though they
still slow it down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tacit.protocols.prime_field import PRIMES, Elements, add_in_place
from tacit.protocols.residues import choose_moduli, from_residues, to_residues
from tacit.protocols.robust_decoding import decode
from tacit.protocols.shamir import Sharing, expand, reconstruct, split

from . import rivals
from .measure import Figure, Section, Timing, compare, timing

REQUIREMENTS = ("mpyc==0.11", "numpy")
SCRIPT = Path(__file__).with_name("rival_mpyc.py")
N_SHARE_HOLDERS, DEGREE = 10, 4
PLAIN = Sharing(n_share_holders=N_SHARE_HOLDERS, threshold=DEGREE + 1)
PACKED = Sharing(n_share_holders=N_SHARE_HOLDERS, threshold=DEGREE + 3, packing=3)
N_SECRETS, N_RIVAL_SECRETS, N_WIDE = 1_000_000, 5_000, 4096
N_WRONG = 2
LIMIT = 110.0  # ns a secret for all ten shares
TARGET = 30.0  # times faster than MPyC

Run = Callable[[], object]


@dataclass
class Ours:
    """What dealers, share holders and the coordinator do with one vector of secrets."""

    sharing: Sharing
    secrets: Elements

    @property
    def count(self) -> int:
        """Secrets of the vector."""
        return int(self.secrets.shape[1])

    @cached_property
    def shares(self) -> list[Elements]:
        """All shares, the seeds expanded."""
        return self.deal_vectors()

    @cached_property
    def total(self) -> Elements:
        """A share holder's sum so far."""
        return self.shares[0].copy()

    @cached_property
    def tampered(self) -> dict[int, Elements]:
        """All shares, the last ones off by one at one place."""
        shares = dict(enumerate(self.shares))
        for holder in range(N_SHARE_HOLDERS - N_WRONG, N_SHARE_HOLDERS):
            shares[holder] = shares[holder].copy()
            shares[holder][0, holder] ^= np.uint64(1)
        return shares

    def deal(self) -> tuple[list[bytes], Elements]:
        """Deal all shares, the first ones as seeds."""
        return split(self.sharing, self.secrets, os.urandom)

    def deal_vectors(self) -> list[Elements]:
        """Deal all shares, and expand the seeds."""
        seeds, shares = self.deal()
        return [*(expand(self.sharing, seed, self.count) for seed in seeds), *shares]

    def add(self) -> None:
        """Add one share to a total, as a share holder does for each dealer."""
        add_in_place(self.total, self.shares[0], self.sharing.moduli)

    def reconstruct(self) -> Elements:
        """Reconstruct from the last shares."""
        last = dict(list(enumerate(self.shares))[-self.sharing.threshold :])
        return reconstruct(self.sharing, last, self.count)

    def decode(self) -> Elements:
        """Reconstruct from all shares, of which some are wrong."""
        return decode(self.sharing, self.tampered, self.count, os.urandom).secrets


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure vectors that fit one field, and exact sums of doubles, which take 36."""
    turns = 3 if quick else 9
    say("shares: an environment for MPyC")
    environment = rivals.environment("mpyc", REQUIREMENTS)
    say(f"shares: {turns} turns against MPyC on {N_SECRETS:,} secrets ({N_RIVAL_SECRETS:,} for MPyC)")
    yield _vectors(environment, turns)
    say(f"shares: {turns} turns of exact sums of doubles")
    yield _exact_floats(turns)


def _vectors(environment: Path, turns: int) -> Section:
    secrets = np.random.default_rng(0).integers(0, PRIMES[0], size=(1, N_SECRETS), dtype=np.uint64)
    plain, packed = Ours(PLAIN, secrets), Ours(PACKED, secrets)
    _check(plain)
    _check(packed)
    if (plain.decode() != secrets).any():
        raise SystemExit("the benchmark decoded other secrets")
    runs: dict[str, Run] = {
        "deal": plain.deal,
        "vectors": plain.deal_vectors,
        "packed": packed.deal,
        "reconstruct": plain.reconstruct,
        "packed reconstruct": packed.reconstruct,
        "decode": plain.decode,
        "add": plain.add,
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "secrets"
        secrets[0, :N_RIVAL_SECRETS].astype("<u8").tofile(path)
        ours, theirs = _take_turns(runs, environment, path, turns)
    split_by_mpyc = min(theirs["random_split"], theirs["np_random_split"], key=lambda t: t.seconds)
    joined_by_mpyc = min(theirs["recombine"], theirs["np_recombine"], key=lambda t: t.seconds)
    figures = (
        compare(
            "sharing, as it is sent",
            "ns",
            ours["deal"],
            split_by_mpyc,
            target=TARGET,
            note="4 seeds, 6 vectors",
        ),
        compare("sharing, limit", "ns", ours["deal"], limit=LIMIT),
        compare(
            "sharing, ten vectors",
            "ns",
            ours["vectors"],
            split_by_mpyc,
            note="and the seeds expanded by their share holders",
        ),
        compare(
            "sharing, packed", "ns", ours["packed"], split_by_mpyc, note="3 secrets a column, threshold 7"
        ),
        compare("reconstruction", "ns", ours["reconstruct"], joined_by_mpyc, note="from the last 5 shares"),
        compare("reconstruction, packed", "ns", ours["packed reconstruct"], note="from the last 7 shares"),
        compare("reconstruction, robust", "ns", ours["decode"], note=f"10 shares, {N_WRONG} of them wrong"),
        compare("addition of a share", "ns", ours["add"]),
    )
    remarks = (
        f"{N_SHARE_HOLDERS} share holders, any {DEGREE} of them learn nothing, modulo 2^61 - 1",
        f"bytes a secret that a dealer sends: {_bytes_sent(plain):.0f}, packed {_bytes_sent(packed):.0f}; "
        f"without seeds and packing {8 * N_SHARE_HOLDERS}",
    )
    return Section("Secret sharing, per secret, thread CPU time", "MPyC", figures, remarks)


def _take_turns(
    runs: Mapping[str, Run], environment: Path, secrets: Path, turns: int
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Let ours and MPyC take turns; return the processor seconds of each function a secret."""
    ours: dict[str, list[float]] = {name: [] for name in runs}
    theirs: dict[str, list[float]] = {}
    arguments = {
        "secrets": str(secrets),
        "modulus": PRIMES[0],
        "degree": DEGREE,
        "n_parties": N_SHARE_HOLDERS,
    }
    for _ in range(turns):
        for name, run in runs.items():
            ours[name].append(_processor_seconds(run) / N_SECRETS)
        for name, seconds in rivals.run(environment, SCRIPT, arguments).items():
            theirs.setdefault(name, []).append(seconds / N_RIVAL_SECRETS)
    return (
        {name: timing(seconds, N_SECRETS) for name, seconds in ours.items()},
        {name: timing(seconds, N_RIVAL_SECRETS) for name, seconds in theirs.items()},
    )


def _exact_floats(turns: int) -> Section:
    """Time what ExactFloat adds: 36 residues of each integer, and back."""
    largest = N_SHARE_HOLDERS * ((2**53 - 1) << 2045)
    moduli = choose_moduli(largest, check=True)
    limbs = np.random.default_rng(0).integers(0, 2**63, size=(N_WIDE, 34), dtype=np.uint64)
    limbs[:, 32:] = 0
    residues = to_residues(limbs, moduli)
    ours = Ours(Sharing(n_share_holders=N_SHARE_HOLDERS, threshold=DEGREE + 1, moduli=moduli), residues)
    _check(ours)
    runs: dict[str, Run] = {
        "to residues": lambda: to_residues(limbs, moduli),
        "sharing": ours.deal,
        "reconstruction": ours.reconstruct,
        "from residues": lambda: from_residues(residues, moduli, 34, largest),
    }
    figures: list[Figure] = []
    for name, run in runs.items():
        seconds = [_processor_seconds(run) / N_WIDE for _ in range(turns)]
        figures.append(compare(name, "µs", timing(seconds, N_WIDE)))
    remarks = (f"{N_WIDE:,} doubles as integers of 34 limbs, modulo {len(moduli)} primes",)
    return Section("Secret sharing of exact doubles, each, thread CPU time", "", tuple(figures), remarks)


def _processor_seconds(run: Run) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


def _bytes_sent(ours: Ours) -> float:
    """Bytes a secret of all shares, seeds not counted: they do not grow."""
    _, shares = ours.deal()
    return shares.nbytes / ours.count


def _check(ours: Ours) -> None:
    """Make sure that what was timed is right."""
    if (ours.reconstruct() != ours.secrets).any():
        raise SystemExit("the benchmark reconstructed other secrets")
