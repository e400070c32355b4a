"""Schedules of faults that every protocol runs through: how protocols differ, and what must hold of every run.

The tests themselves are in protocols/test_schedules; what only one protocol promises, in the files of each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from networks import COORDINATOR, Contribution, Network, floats, integers
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.errors import AbortedError, DropoutError, ProtocolError, RemoteError
from tacit.protocols.invitation import is_signed
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId
from tacit.protocols.protocol import Aggregate, Protocol
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.protocols.session import Done, Failed
from tacit.protocols.simulation import SESSION_SECONDS, Run, Sent
from tacit.serialization.additive_sharing_messages import FullShare, ShareSum
from tacit.serialization.errors import TacitError
from tacit.serialization.pairwise_masking_messages import MaskedInput, SurvivorCodes, UnmaskingShares
from tacit.serialization.schema import Message
from tampering import altering, mutations

NAMES = "abcdefgh"
INTEGERS: dict[str, Contribution] = {
    name: integers((-3) ** k, (-1) ** k * (2**60 - k), -k) for k, name in enumerate(NAMES, start=1)
}
FLOATS: dict[str, Contribution] = {
    name: floats(0.1 * k, 1e300 * (-1) ** k, 2.0 ** -(70 * k)) for k, name in enumerate(NAMES, start=1)
}
OPENING = ("Invitation", "Ready")  # the same for every protocol
IN_ORDER = {"delays": (0.001, 0.001)}  # a message arrives before the news that its sender died

Survivors = Callable[[Any, Mapping[str, int]], tuple[str, ...] | None]


@dataclass(frozen=True)
class Subject:
    """A protocol under faults.

    Attributes
    ----------
    variants : tuple of Protocol
        Its options, all possible with five holders; the first is the default, and possible with three.
    survivors : callable
        ``survivors(protocol, n_sent)`` says over whom the sum is if each holder dies after so many messages that
        arrive in order; None if too few are left.
    unchecked : tuple of types
        Messages with vectors of uniform bits, which nothing protects but the links.
    memories : dict, optional
        What parties keep from run to run; without it, nothing.
    n_holders : int
        How many take part where a test does not say.
    """

    variants: tuple[Protocol[Any], ...]
    survivors: Survivors
    unchecked: tuple[type[Message], ...] = ()
    memories: dict[str, Any] | None = None
    n_holders: int = 4

    def network(
        self,
        n_holders: int | None = None,
        protocol: Protocol[Any] | None = None,
        rows: Mapping[str, Contribution] = INTEGERS,
        **options: Any,
    ) -> Network:
        if self.memories is not None:
            options.setdefault("memories", self.memories)
        chosen = {name: rows[name] for name in NAMES[: n_holders or self.n_holders]}
        return Network(protocol or self.variants[0], chosen, **options)

    @cached_property
    def undisturbed(self) -> tuple[Sent, ...]:
        """The messages of a run without faults, whose first ones are those of any run with this seed."""
        return self.network(seed=1, faults=IN_ORDER).run().sent

    @property
    def first_finished(self) -> int:
        """The index of the message after which the total is there."""
        return next(sent.index for sent in self.undisturbed if kind_of(sent) == "Finished")

    def alterations(self, message: Message) -> list[Any]:
        """Every way to change a field of a message, so that somebody could notice."""
        return list(mutations(message, (np.uint8,) if self.unchecked else (np.uint8, np.uint64)))

    def field_changes(self, without: Collection[str] = ()) -> list[tuple[int, int]]:
        """Index of the last message of each kind (from a holder, and from another party), number of the change."""
        chosen = {(kind_of(sent), sent.sender in NAMES): sent for sent in self.undisturbed}
        return [
            (sent.index, number)
            for (kind, _), sent in chosen.items()
            if kind not in without
            for number, _ in enumerate(self.alterations(sent.message))
        ]

    def alter(self, index: int, number: int) -> tuple[Sent, Run]:
        """Change one field of one message of the undisturbed run; returns it as it was sent."""
        faults = altering(index, lambda sent: self.alterations(sent.message)[number])
        network = self.network(seed=1, faults=IN_ORDER | faults)
        run = network.run()
        check(network, run)
        return self.undisturbed[index], run


def kind_of(sent: Sent) -> str:
    return type(sent.message).__name__


# What holds of every run


def check(network: Network, run: Run) -> None:
    """Everybody ends in time, with the exact sum over whom it names, or with an error of tacit's own."""
    assert run.seconds <= 2 * SESSION_SECONDS
    for party, outcome in run.outcomes.items():
        if outcome is None:
            assert party in {*network.dies_after, *network.dies_before}
        elif isinstance(outcome, Failed):
            check_error(network, run, party, outcome.error)
        elif party == COORDINATOR:
            check_sum(network, outcome.result)


def check_sum(network: Network, found: Aggregate) -> None:
    """The sum is exact over enough holders, and those by whom it can exist remember over whom."""
    needed = network.protocol.needed(len(network.contributions))
    assert len(found.holders) >= needed
    assert found.holders == tuple(holder for holder in network.roster.holders if holder in found.holders)
    assert found.arrays["x"].tolist() == exact(network, found.holders), "a wrong sum"
    assert len({*found.holders} & {*network.released}) >= needed
    for aggregator in network.roster.aggregators:
        assert network.released_over[aggregator] == found.holders


def exact(network: Network, holders: tuple[PartyId, ...]) -> list[int] | list[float]:
    """The sum of integers or, correctly rounded, of fractions."""
    rows = [network.contributions[holder]["x"].tolist() for holder in holders]
    if isinstance(rows[0][0], int):
        return [sum(column) for column in zip(*rows, strict=True)]
    return [float(sum(map(Fraction, column))) for column in zip(*rows, strict=True)]


def check_error(network: Network, run: Run, party: PartyId, error: Exception) -> None:
    """Every end has a class of tacit's own, and names whom it can."""
    assert isinstance(error, ProtocolError), (party, repr(error))
    match error:
        case RemoteError():
            assert error.culprits or error.suspects
            assert {*error.culprits, *error.suspects} <= set(network.roster)
        case DropoutError():
            assert error.missing
            for word in error.closed:
                assert is_signed(word, network.roster, PartyId(word.holder))
                assert word.forwarded == (word.holder in opening(network, run)), "an untrue word"
        case AbortedError():
            assert error.party in set(network.roster)


def opening(network: Network, run: Run) -> set[str]:
    """Who has helped, or was about to help, to open a sum: by whatever it released, or under masks by its shares."""
    if isinstance(network.protocol, PairwiseMasking) and network.protocol.mode == "resilient":
        helps = (SurvivorCodes, UnmaskingShares)
        return {sent.sender for sent in run.sent if isinstance(sent.message, helps)}
    return set(network.released)


def is_done(run: Run) -> bool:
    """Whether there is a total."""
    return isinstance(run.outcomes[COORDINATOR], Done)


def error_of(run: Run, party: str = COORDINATOR) -> TacitError:
    outcome = run.outcomes[PartyId(party)]
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, TacitError)
    return outcome.error


# The protocols


def sent_by(n_sent: Mapping[str, int], least: int) -> tuple[str, ...]:
    return tuple(name for name, n in n_sent.items() if n >= least)


def of_ring(protocol: RingPaillier, n_sent: Mapping[str, int]) -> tuple[str, ...] | None:
    """Ready, PartialSum: nobody may be missing."""
    return sent_by(n_sent, 2) if min(n_sent.values()) >= 2 else None


def of_masking(protocol: PairwiseMasking, n_sent: Mapping[str, int]) -> tuple[str, ...] | None:
    """Ready, DealtShares, MaskedInput, SurvivorCodes if active, UnmaskingShares; or Ready, MaskedInput."""
    needed = protocol.needed(len(n_sent))
    if protocol.mode == "direct":
        return sent_by(n_sent, 2) if len(sent_by(n_sent, 2)) >= needed else None
    answers = sent_by(n_sent, 5 if protocol.active else 4)
    return sent_by(n_sent, 3) if len(answers) >= needed else None


def of_sharing(protocol: SecretSharing, n_sent: Mapping[str, int]) -> tuple[str, ...] | None:
    """Ready, SharedInput, and SummedShares of share holders."""
    dealers = sent_by(n_sent, 2)
    answers = {*sent_by(n_sent, 3)} & {*(protocol.share_holders or n_sent)}
    n = len(n_sent)
    return (
        dealers if len(dealers) >= protocol.needed(n) and len(answers) >= protocol.shares_needed(n) else None
    )


def of_additive(protocol: AdditiveSharing, n_sent: Mapping[str, int]) -> tuple[str, ...] | None:
    """Ready, FullShare."""
    return sent_by(n_sent, 2) if len(sent_by(n_sent, 2)) >= protocol.needed(len(n_sent)) else None


RING = Subject(
    (RingPaillier.insecure_for_tests(), RingPaillier.insecure_for_tests(masks=False)),
    of_ring,
    memories={},  # so that keys are made once
)
MASKING = Subject(
    (PairwiseMasking(epoch=2), PairwiseMasking(epoch=2, active=False), PairwiseMasking(mode="direct")),
    of_masking,
    unchecked=(MaskedInput,),
)
SHARING = Subject(
    (
        SecretSharing(),
        SecretSharing(threshold=5, colluding=2),
        SecretSharing(packing=2),
        SecretSharing(share_holders=("e", "b", "c", "a"), robust=False),
    ),
    of_sharing,
)
ADDITIVE = Subject(
    (AdditiveSharing(), AdditiveSharing(aggregators=3)), of_additive, unchecked=(FullShare, ShareSum)
)
SUBJECTS = {"ring": RING, "masking": MASKING, "sharing": SHARING, "additive": ADDITIVE}
