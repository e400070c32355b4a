"""Which protocol suits a question: what each would cost, whom it would withstand, and why one is chosen.

A `Question` says what is summed, a `Wish` what the sum must withstand. `candidates` configures every registered
protocol to meet the wish, or says why it cannot; `choose` picks one and lays all of them out side by side in a `Plan`.
Everything follows from public facts: the number of holders, the arrays' shapes, the encoding. Nothing is sent or run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from typing import Protocol as Form

from ..serialization.additive_sharing_messages import AdditiveSharingOptions
from ..serialization.pairwise_masking_messages import PairwiseMaskingOptions
from ..serialization.ring_paillier_messages import RingPaillierOptions
from ..serialization.schema import Message
from ..serialization.secret_sharing_messages import SecretSharingOptions
from ..serialization.session_messages import ArraySpecification
from .additive_sharing import AdditiveSharing
from .calibration import Calibration
from .encoding import ArrayEncoding
from .errors import SetupError
from .graph import COMPLETE_UP_TO, default_threshold
from .invitation import encodings_for
from .loads import additive_load, masking_load, n_ciphertexts, ring_load, sharing_load, starting
from .pairwise_masking import PairwiseMasking
from .plan_table import Line, Plan, digits_of
from .protocol import Protocol
from .registry import PROTOCOLS
from .ring_paillier import RingPaillier
from .secret_sharing import SecretSharing
from .work import Load

FEW_HOLDERS = 10  # hops one after the other
FEW_CIPHERTEXTS = 100  # about a second to decrypt, at 3072 bits
SPARE = 10  # beyond `COMPLETE_UP_TO` holders, masking provides for the loss of one in so many


class Model(Form):
    """What a plan asks of a model."""

    @property
    def expected_passes(self) -> int:
        """How many sums the model takes, about."""
        ...

    def specifications(self) -> Sequence[ArraySpecification]:
        """Return the arrays of the longest of its sums."""
        ...


@dataclass(frozen=True)
class Question:
    """What is to be summed.

    Parameters
    ----------
    n_holders : int
    encodings : tuple of ArrayEncoding
        Of the arrays of one sum, planned for so many holders.
    passes : int
        Sums in all, about.

    Raises
    ------
    SetupError
        If the encodings are planned for another number of holders, or there is no pass.
    """

    n_holders: int
    encodings: tuple[ArrayEncoding, ...]
    passes: int = 1

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise SetupError(f"a question of {self.passes} passes: it takes one at least")
        if any(encoding.n_contributions != self.n_holders for encoding in self.encodings):
            raise SetupError(
                "the arrays' encodings are planned for another number of holders: plan them anew"
            )


@dataclass(frozen=True)
class Wish:
    """What every sum must withstand.

    Parameters
    ----------
    losses : int
        Holders that may be lost in the middle of a sum, which still ends with the total of the others.
    adversary : {"active", "curious"}
        Whether the coordinator may lie, or follows the protocol and only looks at what it receives.
    colluding : int
        Holders that may pool with the coordinator.
    wrong_shares : int
        Share holders whose wrong answers are to be corrected.
    aggregators : int
        Aggregators, not all of whom pool, that there are.

    Raises
    ------
    SetupError
        If a part is out of its range.
    """

    losses: int = 0
    adversary: Literal["active", "curious"] = "active"
    colluding: int = 1
    wrong_shares: int = 0
    aggregators: int = 0

    def __post_init__(self) -> None:
        if self.adversary not in ("active", "curious"):
            raise SetupError("adversary is 'active' or 'curious'")
        for name, least in (("losses", 0), ("colluding", 1), ("wrong_shares", 0), ("aggregators", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise SetupError(f"{name} is a whole number, at least {least}")


@dataclass(frozen=True)
class Candidate:
    """A protocol, configured to meet a wish as far as it can.

    Attributes
    ----------
    title : str
    protocol : Protocol or None
        None if it cannot run among so many holders at all.
    obstacle : str
        Why it does not meet the wish; empty if it does.
    losses : int
        Holders that may be lost, all else that is wished granted.
    """

    title: str
    protocol: Protocol[Any] | None
    obstacle: str
    losses: int


def question_for(model: Model, n_holders: int, encoding: Message | None) -> Question:
    """Return the question that a model asks.

    Raises
    ------
    SetupError
        If the encoding cannot carry the model's arrays among so many holders.
    """
    encodings = encodings_for(encoding, model.specifications(), n_holders)
    return Question(n_holders, encodings, model.expected_passes)


# What each protocol can do about a wish


def _ring(wish: Wish, n_holders: int) -> Candidate:
    ring = RingPaillier(colluding=wish.colluding)
    obstacle = _number_obstacle(ring, n_holders)
    if not obstacle and wish.losses:
        obstacle = "any loss ends the sum, which starts anew over those who are left"
    elif not obstacle and wish.adversary == "active":
        obstacle = "it withstands a curious coordinator, not one that lies"
    return _candidate(ring, n_holders, wish, obstacle)


def _masking(wish: Wish, n_holders: int) -> Candidate:
    active, wished = wish.adversary == "active", wish.losses + 2 * wish.wrong_shares
    most = n_holders - wished
    least = max(wish.colluding + 2, 3, (n_holders + wish.colluding) // 2 + 1 if active else 0)
    spared = (
        default_threshold(n_holders, active=active)
        if n_holders <= COMPLETE_UP_TO
        else n_holders - n_holders // SPARE
    )
    masking = PairwiseMasking(active=active, colluding=wish.colluding)
    if least > most:
        obstacle = _too_few_to_spare(n_holders, max(0, n_holders - least), wished, wish)
        return _candidate(masking, n_holders, wish, obstacle)
    if wish.wrong_shares and n_holders > COMPLETE_UP_TO:
        obstacle = "wrong shares may come together among the few neighbours that a holder has"
        return _candidate(masking, n_holders, wish, obstacle)
    spare, bare = (replace(masking, threshold=min(max(t, least), most)) for t in (spared, most))
    masking = bare if _number_obstacle(spare, n_holders) else spare
    return _candidate(masking, n_holders, wish, _number_obstacle(masking, n_holders))


def _additive(wish: Wish, n_holders: int) -> Candidate:
    sharing = AdditiveSharing(aggregators=max(2, wish.aggregators), colluding=wish.colluding)
    obstacle = _number_obstacle(sharing, n_holders)
    if not obstacle and wish.aggregators < 2:
        obstacle = f"it takes two aggregators, and there {'is one' if wish.aggregators else 'are none'}"
    return _candidate(sharing, n_holders, wish, obstacle)


def _sharing(wish: Wish, n_holders: int) -> Candidate:
    sharing = SecretSharing(colluding=wish.colluding)
    wished = wish.losses + _answers_to_correct(sharing, wish)
    spare = n_holders - replace(sharing, packing=1).needed(n_holders)
    if n_holders - sharing.needed(n_holders) < wished <= spare:
        sharing = replace(sharing, threshold=n_holders - wished)
    obstacle = _number_obstacle(sharing, n_holders)
    if not obstacle and wished > spare:
        obstacle = _too_few_to_spare(n_holders, spare, wished, wish)
    return _candidate(sharing, n_holders, wish, obstacle)


def _answers_to_correct(protocol: Protocol[Any], wish: Wish) -> int:
    """Return how many answers must be to spare so that the wrong ones are corrected."""
    if not wish.wrong_shares or not isinstance(protocol, SecretSharing | PairwiseMasking):
        return 0
    # Masking checks against commitments; of sums of shares, those that collude could agree on wrong ones.
    deceived = wish.wrong_shares + wish.colluding if isinstance(protocol, SecretSharing) else 0
    return max(2 * wish.wrong_shares, deceived)


def _too_few_to_spare(n_holders: int, spare: int, wished: int, wish: Wish) -> str:
    if wish.wrong_shares:
        return f"of {n_holders} shares {spare} are to spare, and such losses and wrong shares take {wished}"
    return f"it can lose {spare} of {n_holders} holders at most"


def _number_obstacle(protocol: Protocol[Any], n_holders: int) -> str:
    """Say why a protocol cannot run among so many holders; empty if it can."""
    try:
        protocol.check_number(n_holders)
    except SetupError as error:
        return str(error)
    return ""


def _candidate(protocol: Protocol[Any], n_holders: int, wish: Wish, obstacle: str) -> Candidate:
    """Return a candidate, checked for what any protocol may lack."""
    corrects = _answers_to_correct(protocol, wish)
    losses = max(0, n_holders - protocol.needed(n_holders) - corrects)
    if not obstacle and wish.wrong_shares and not corrects:
        obstacle = "it corrects no wrong shares"
    if not obstacle and losses < wish.losses:
        obstacle = f"it can lose {losses} of {n_holders} holders at most"
    runs = not _number_obstacle(protocol, n_holders)
    return Candidate(protocol.title, protocol if runs else None, obstacle, losses)


@dataclass(frozen=True)
class Known:
    """How a protocol meets a wish, and its load."""

    candidate: Callable[[Wish, int], Candidate]
    load: Callable[[Any, int, Sequence[ArrayEncoding]], Load]


# A protocol that is registered is planned by its line here.
KNOWN: Mapping[type[Message], Known] = {
    RingPaillierOptions: Known(_ring, ring_load),
    PairwiseMaskingOptions: Known(_masking, masking_load),
    SecretSharingOptions: Known(_sharing, sharing_load),
    AdditiveSharingOptions: Known(_additive, additive_load),
}


def candidates(wish: Wish, n_holders: int) -> tuple[Candidate, ...]:
    """Configure every registered protocol to meet a wish, or say why it cannot."""
    return tuple(KNOWN[options].candidate(wish, n_holders) for options in PROTOCOLS)


# The choice


def choose(question: Question, wish: Wish | None = None, calibration: Calibration | None = None) -> Plan:
    """Choose a protocol for a question and lay all of them out side by side.

    The choice depends on the question and the wish alone, never on how fast a machine is. Of the protocols that meet
    the wish it is the first of these:

    1. additive sharing, if there are aggregators: the least work for holders, and any holder may be lost;
    2. ring-Paillier, among up to `FEW_HOLDERS` holders for up to `FEW_CIPHERTEXTS` ciphertexts: it needs nobody else,
       and only the coordinator with *all other holders but one* uncovers an input;
    3. pairwise masking: for many holders or long vectors, for losses, and against a coordinator that lies;
    4. secret sharing: among many holders it alone corrects wrong shares;
    5. ring-Paillier, slow as it may be.

    Parameters
    ----------
    question : Question
    wish : Wish, optional
        By default no loss, a coordinator that may lie, and one holder that pools with it.
    calibration : Calibration, optional
        With it, the plan foretells seconds.

    Raises
    ------
    SetupError
        If no protocol meets the wish; says what each lacks.
    """
    wish = Wish() if wish is None else wish
    found = candidates(wish, question.n_holders)
    suitable = {type(one.protocol): one.protocol for one in found if one.protocol and not one.obstacle}
    chosen, reason = _first(question, suitable)
    if chosen is None:
        told = "; ".join(f"{one.title}: {one.obstacle}" for one in found)
        raise SetupError(f"no protocol meets the wish, expect fewer losses or add holders ({told})")
    lines = []
    for one in found:
        why = reason if one.protocol is chosen else one.obstacle or _not_chosen(question, one, chosen)
        lines.append(_line(question, one, why, calibration))
    return Plan(question.n_holders, _numbers(question), question.passes, _wished(wish), tuple(lines), chosen)


def _line(question: Question, one: Candidate, reason: str, calibration: Calibration | None) -> Line:
    """Count, and with a calibration estimate, what a question costs under one protocol."""
    digits, n_holders = digits_of(question.encodings), question.n_holders
    if one.protocol is None:
        return Line(title=one.title, protocol=None, reason=reason, digits=digits)
    cost = one.protocol.cost(n_holders, question.encodings)
    load = KNOWN[type(one.protocol.options)].load(one.protocol, n_holders, question.encodings)
    seconds = seconds_of_all = None
    if calibration is not None:
        start = calibration.seconds(starting(n_holders, one.protocol.aggregators), n_holders)
        seconds = start + calibration.seconds(load, n_holders, cost.rounds)
        seconds_of_all = question.passes * seconds
        if load.setup is not None:
            setups = 1 if load.setup_lasts is None else -(-question.passes // load.setup_lasts)
            seconds_of_all += setups * calibration.seconds(load.setup, n_holders)
    return Line(
        title=one.title,
        protocol=one.protocol,
        reason=reason,
        takes=_takes(one.protocol, n_holders),
        rounds=cost.rounds,
        bytes_sent_by_holder=cost.bytes_sent_by_holder,
        bytes_through_coordinator=load.bytes_through_coordinator,
        seconds=seconds,
        seconds_of_all=seconds_of_all,
        losses=one.losses,
        digits=digits,
        trust=one.protocol.trust,
    )


def _takes(protocol: Protocol[Any], n_holders: int) -> str:
    """Say what the options come to that are left open."""
    if not isinstance(protocol, SecretSharing):
        return ""
    threshold, packing = protocol.shares_needed(n_holders), protocol.numbers_packed(n_holders)
    return f"{threshold} of {n_holders} shares to reconstruct (packing: {packing})"


def _first(
    question: Question, suitable: Mapping[type[Any], Protocol[Any]]
) -> tuple[Protocol[Any] | None, str]:
    """Return the protocol that the rules of `choose` come to first, and the rule."""
    ring = suitable.get(RingPaillier)
    few = isinstance(ring, RingPaillier) and _is_small(question, ring)
    rules = (
        (AdditiveSharing, True, "there are aggregators, and nothing is less work for the holders"),
        (RingPaillier, few, "few holders, few numbers: it needs nobody else, and one honest peer protects"),
        (PairwiseMasking, True, _why_masking(question, ring)),
        (SecretSharing, True, "the only one that corrects wrong shares among so many"),
        (RingPaillier, True, "the only one that meets the wish"),
    )
    for kind, applies, reason in rules:
        if applies and kind in suitable:
            return suitable[kind], reason
    return None, ""


def _is_small(question: Question, ring: RingPaillier) -> bool:
    return (
        question.n_holders <= FEW_HOLDERS
        and n_ciphertexts(ring, question.n_holders, question.encodings) <= FEW_CIPHERTEXTS
    )


def _why_masking(question: Question, ring: Protocol[Any] | None) -> str:
    if ring is None:
        return "it withstands all that is wished, without a third party"
    return f"fast for {question.n_holders} holders and {_numbers(question):,} numbers, without a third party"


def _not_chosen(question: Question, one: Candidate, chosen: Protocol[Any]) -> str:
    """Say why a protocol that meets the wish is not chosen."""
    if isinstance(one.protocol, RingPaillier) and not _is_small(question, one.protocol):
        count = n_ciphertexts(one.protocol, question.n_holders, question.encodings)
        return f"{count:,} ciphertexts in {question.n_holders} hops, one after the other"
    return f"it meets the wish, too; {chosen.title} comes first"


def _wished(wish: Wish) -> str:
    """Say in a line what is wished."""
    parts = [f"{wish.adversary} coordinator", f"colluding: {wish.colluding}", f"losses: {wish.losses}"]
    parts += [f"wrong shares: {wish.wrong_shares}"] if wish.wrong_shares else []
    parts += [f"aggregators: {wish.aggregators}"] if wish.aggregators else []
    return ", ".join(parts)


def _numbers(question: Question) -> int:
    return sum(encoding.size for encoding in question.encodings)
