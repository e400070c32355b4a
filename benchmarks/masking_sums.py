"""The vector work of a sum under pairwise masking, against Flower's SecAgg+ on the same vectors.

Ours are the steps of `masking_steps`: a holder's from integers to masked words, the coordinator's from masked words to
the total's integers, with all reconstruction and checks between; their inputs come from a sum rehearsed in the
simulator. Flower does the same in an environment of its own, by turns with ours. Both work modulo 2^32, mask with
everybody, and need the same number of shares. Counted is processor time of the process: Flower reconstructs shares
in threads, and what other programs take of the machine is left out, though they still slow it down.

What is left out at both: rounding floats, serialisation, and the dealing of shares: Flower's for each sum, ours once
an epoch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tacit
from numpy.typing import NDArray
from tacit.protocols.limbs import Words
from tacit.protocols.masking_epoch import Dealings
from tacit.protocols.masking_steps import mask_input, masks_left, masks_of, share_rows, unmask
from tacit.protocols.party import PartyId
from tacit.protocols.running_sum import total_of
from tacit.serialization.pairwise_masking_messages import MaskedInput, UnmaskingShares

from . import rivals
from .measure import Figure, Section, Timing, compare, timing
from .rehearsal import COORDINATOR, Rehearsal

REQUIREMENTS = ("flwr==1.41.0", "numpy")
SCRIPT = Path(__file__).with_name("rival_flower.py")
VALUES = 2**22  # as many as Flower rounds to by default
HOLDER_TARGET, COORDINATOR_TARGET, MANY_HOLDERS_TARGET = 5.0, 8.0, 100.0
HOLDER_LIMIT = 20.0  # ms
LIMITED_LENGTH = 1_000_000
COORDINATOR_LIMITS = {0: 35.0, 1: 45.0, 3: 60.0}  # ms, by the number that is lost of ten holders

NARROW = tacit.FixedPoint(float(VALUES), 0)  # the totals fit words of 32 bits, like Flower's
WIDE = tacit.FixedPoint(float(VALUES), 30)  # … of 64 bits


class Sum:
    """One rehearsed sum over the holders that are not lost, the last ones, to be run again step by step.

    Parameters
    ----------
    rows : ndarray of uint32, shape (holders, length)
    n_lost : int
    encoding : FixedPoint
    """

    def __init__(self, rows: NDArray[np.uint32], n_lost: int, encoding: tacit.FixedPoint) -> None:
        names = [f"site-{place:02}" for place in range(len(rows))]
        vectors = dict(zip(names, rows.astype(np.float64), strict=True))
        lost = dict.fromkeys(names[len(names) - n_lost :], MaskedInput)
        self.expected = rows[: len(rows) - n_lost].sum(axis=0, dtype=np.uint64)
        rehearsal = Rehearsal(tacit.PairwiseMasking(), vectors, encoding, lost)
        if (rehearsal.total != self.expected).any():
            raise SystemExit("the benchmark's sum is wrong")
        self._opened = rehearsal.opened
        self._dealings: Dealings = rehearsal.memories[COORDINATOR].dealings
        self._inputs = list(rehearsal.sent_by(MaskedInput).values())
        answers = rehearsal.sent_by(UnmaskingShares)
        self._shares = {
            holder: share_rows(self._opened, holder, answer) for holder, answer in answers.items()
        }
        self._survivors = tuple(rehearsal.sent_by(MaskedInput))
        (array,) = self._opened.encodings
        self._array, self._words = array, array.encode(vectors[names[0]])

    @cached_property
    def _near(self) -> list[PartyId]:
        return [holder for holder in self._dealings.dealers if holder != self._survivors[0]]

    def mask(self) -> object:
        """Mask one holder's integers, with seeds as good as its own; they are noise from then on."""
        seeds = {holder: os.urandom(32) for holder in self._near}
        masks = masks_of(self._opened, self._survivors[0], os.urandom(32), seeds)
        return mask_input(self._opened, (self._words,), masks, random_bytes=os.urandom)

    def unmask(self) -> Words:
        """Add the masked words, reconstruct, and take the masks that are left out of the sum."""
        totals = total_of(self._opened.encodings, self._inputs)
        left, _ = masks_left(self._opened, self._dealings, 0, self._survivors, self._shares)
        (total,) = unmask(totals, left)
        return total

    def check(self) -> None:
        """Make sure that what is timed gives the sum."""
        if (self._array.decode(self.unmask()) != self.expected).any():
            raise SystemExit("the benchmark unmasked another sum")

    @property
    def digest(self) -> str:
        """SHA-256 of the total as Flower must find it: words of 32 bits, lowest byte first."""
        return hashlib.sha256(self.expected.astype("<u4").tobytes()).hexdigest()


def sections(*, quick: bool, say: Callable[[str], None]) -> Iterator[Section]:
    """Measure ten holders with none, one and three lost, then thirty with three lost."""
    say("masks: an environment for Flower")
    environment = rivals.environment("flower", REQUIREMENTS)
    turns, length = (2, 100_000) if quick else (7, LIMITED_LENGTH)
    say(f"masks: {turns} turns against Flower, 10 holders, {length:,} elements")
    yield _ten_holders(environment, length, turns)
    turns, length = (1, 10_000) if quick else (3, 100_000)
    say(f"masks: {turns} turns against Flower, 30 holders, {length:,} elements")
    yield _many_holders(environment, 30, length, turns)


def _ten_holders(environment: Path, length: int, turns: int) -> Section:
    """Measure 32-bit words against Flower, and 64-bit words, which Flower has not, against their limits."""
    rows = np.random.default_rng(0).integers(0, VALUES, size=(10, length), dtype=np.uint32)
    narrow = {n_lost: Sum(rows, n_lost, NARROW) for n_lost in COORDINATOR_LIMITS}
    wide = {n_lost: Sum(rows, n_lost, WIDE) for n_lost in COORDINATOR_LIMITS}
    for one in (*narrow.values(), *wide.values()):
        one.check()
    runs: dict[str, Callable[[], object]] = {"holder": narrow[0].mask, "wide holder": wide[0].mask}
    runs |= {str(n_lost): one.unmask for n_lost, one in narrow.items()}
    runs |= {f"wide {n_lost}": one.unmask for n_lost, one in wide.items()}
    ours, theirs = _take_turns(runs, environment, rows, narrow, turns)
    figures = [compare("a holder masks", "ms", ours["holder"], theirs["holder"], target=HOLDER_TARGET)]
    figures += [
        compare(
            f"the coordinator unmasks, {n_lost} of 10 lost",
            "ms",
            ours[str(n_lost)],
            theirs[str(n_lost)],
            target=COORDINATOR_TARGET,
        )
        for n_lost in narrow
    ]
    whole = length >= LIMITED_LENGTH  # the limits are for so many elements
    figures.append(
        compare(
            "a holder masks, 64-bit words", "ms", ours["wide holder"], limit=HOLDER_LIMIT if whole else None
        )
    )
    figures += [
        compare(
            f"… {n_lost} of 10 lost, 64-bit words",
            "ms",
            ours[f"wide {n_lost}"],
            limit=limit if whole else None,
        )
        for n_lost, limit in COORDINATOR_LIMITS.items()
    ]
    return _section(f"A sum of {length:,} elements over 10 holders", figures)


def _many_holders(environment: Path, n_holders: int, length: int, turns: int) -> Section:
    rows = np.random.default_rng(0).integers(0, VALUES, size=(n_holders, length), dtype=np.uint32)
    n_lost = n_holders // 10
    one = Sum(rows, n_lost, NARROW)
    one.check()
    runs = {"holder": one.mask, str(n_lost): one.unmask}
    ours, theirs = _take_turns(runs, environment, rows, {n_lost: one}, turns)
    figures = [
        compare("a holder masks", "ms", ours["holder"], theirs["holder"], target=HOLDER_TARGET),
        compare(
            f"the coordinator unmasks, {n_lost} of {n_holders} lost",
            "ms",
            ours[str(n_lost)],
            theirs[str(n_lost)],
            target=MANY_HOLDERS_TARGET,
        ),
    ]
    return _section(f"A sum of {length:,} elements over {n_holders} holders", figures)


def _section(title: str, figures: Sequence[Figure]) -> Section:
    remarks = (
        "from integers to masked words, and from those to the total; processor time of all threads",
        "words of 32 bits where nothing else is said, as Flower's",
        "Flower's masks come from a Mersenne twister with a seed of 32 bits, ours from AES-256-CTR",
    )
    return Section(title, "Flower", tuple(figures), remarks)


def _take_turns(
    runs: dict[str, Callable[[], object]],
    environment: Path,
    rows: NDArray[np.uint32],
    sums: dict[int, Sum],
    turns: int,
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Let ours and Flower take turns; return the processor seconds of each."""
    ours: dict[str, list[float]] = {name: [] for name in runs}
    theirs: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        rows.astype("<u4").tofile(path)
        for _ in range(turns):
            for name, run in runs.items():
                ours[name].append(_processor_seconds(run))
            found = flower(environment, path, len(rows), list(sums))
            if found["totals"] != {str(n_lost): one.digest for n_lost, one in sums.items()}:
                raise SystemExit("Flower found another sum")
            for name, seconds in found["seconds"].items():
                theirs.setdefault(name, []).append(seconds)
    return (
        {name: timing(seconds) for name, seconds in ours.items()},
        {name: timing(seconds) for name, seconds in theirs.items()},
    )


def flower(
    environment: Path, vectors: Path, n_holders: int, lost: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Run Flower's masking and unmasking; seconds of each, and what it found."""
    threshold = tacit.PairwiseMasking().needed(n_holders)
    arguments = {
        "vectors": str(vectors),
        "n_holders": n_holders,
        "threshold": threshold,
        "lost": list(lost),
    }
    found: dict[str, dict[str, Any]] = rivals.run(environment, SCRIPT, arguments)
    return found


def _processor_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
