"""What a protocol is to the rest of tacit: its options, its roles, what it costs and whom it trusts.

A secure sum is the same for every protocol up to the roles' middle part: the session opens (`invitation`),
the protocol's own roles run, the coordinator decodes the total and tells the others that it is over.
`coordinator_role`, `holder_role` and, for a protocol that has aggregators, `aggregator_role` compose the three.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from numpy.typing import NDArray

from ..serialization.encoding_parameters import AutoRange
from ..serialization.schema import Message
from ..serialization.session_messages import Abort, Begin, Closed, Finished, Invitation, Ready, Refusal
from .channel import Channel, Role
from .encoding import ArrayEncoding
from .errors import AbortedError, DropoutError, MisuseError, SetupError
from .grid_encodings import QuantizedArray
from .invitation import (
    NO_SIGNATURE,
    NOT_ALLOWED,
    Declined,
    Opened,
    Opening,
    Prepared,
    is_signed,
    join_session,
    open_session,
    signed,
)
from .key_agreement import SessionKeys
from .limbs import Limbs, Words
from .party import PartyId, Roster
from .session import abort_reason

Memory = TypeVar("Memory")


class Release(typing.Protocol):
    """Notes over whom a sum may come about, before anything leaves."""

    def __call__(self, holders: Collection[PartyId], *, opens: bool = True) -> None:
        """Note it.

        Parameters
        ----------
        holders : collection of PartyId
        opens : bool
            Whether what leaves next helps to open the sum; False for a summand that others may open, or may not.

        Raises
        ------
        ProtocolError
            If it cannot be noted, or may not be: nothing leaves.
        """


# By which the coordinator notices a loss later than another party; while it hands out a model it may be more, and the
# run ends that could have gone on without the lost.
NOTICE_SECONDS = 3.0
CLOSING_SECONDS = 60.0  # a survivor may be computing, and answers only then; the lost are not waited for


@dataclass(frozen=True, slots=True)
class Trust:
    """Who learns what, and when that breaks.

    Attributes
    ----------
    coordinator_learns : str
    resists : str
        Which adversaries.
    broken_when : str
        The smallest coalition that learns an input.
    """

    coordinator_learns: str
    resists: str
    broken_when: str

    def __str__(self) -> str:
        return f"the coordinator learns {self.coordinator_learns}; broken when {self.broken_when}"


@dataclass(frozen=True, slots=True)
class Attack:
    """A known attack, and the step of the protocol that stops it."""

    name: str
    stopped_by: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sum costs.

    Attributes
    ----------
    rounds : int
        Messages one after the other, from invitation to total.
    bytes_sent_by_holder : int
        Bytes of the frame of the protocol itself that each holder sends, at most, before the links seal
        it (some three hundred more), without the frames of the session's start and end.
    """

    rounds: int
    bytes_sent_by_holder: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The result of one secure sum: the only value revealed.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The sums.
    holders : tuple of PartyId
        Whose contributions are in them.
    session : bytes
        The session's identifier.
    binding : bytes
        Hash over everything that the parties agreed on.
    clipped : dict of str to int
        How many values all holders together have clipped, by array, if the encoding clips.
    suspects : tuple of PartyId
        As in `Summed`.
    """

    arrays: Mapping[str, NDArray[Any]]
    holders: tuple[PartyId, ...]
    session: bytes
    binding: bytes
    clipped: Mapping[str, int]
    suspects: tuple[PartyId, ...]


@dataclass(frozen=True, slots=True)
class Summed:
    """What the coordinator's role of a protocol ends with.

    Attributes
    ----------
    words : tuple of Words or Limbs
        The sum over the holders below, array by array, as words or as integers.
    holders : tuple of PartyId
        Whose contributions are in the sum, in roster order.
    suspects : tuple of PartyId
        Parties whose messages were wrong, or made wrong by somebody else, and have been corrected.
    is_spent : bool
        Whether nobody else has the words, so that they may be decoded where they lie.
    """

    words: tuple[Words | Limbs, ...]
    holders: tuple[PartyId, ...]
    suspects: tuple[PartyId, ...] = ()
    is_spent: bool = False


class Protocol(ABC, Generic[Memory]):
    """A secure aggregation protocol with its options.

    What outlives a session (keys, tables, pools) is the *memory* of a party: its actor keeps it and
    hands it to the role.
    """

    title: ClassVar[str]
    modular: ClassVar[bool] = False  # whether words are summed modulo 2^64, as `AutoRange` needs

    @property
    @abstractmethod
    def minimum_holders(self) -> int:
        """With fewer holders the sum has one honest input."""

    @property
    @abstractmethod
    def colluding(self) -> int:
        """How many holders may pool with the coordinator: n_C."""

    @property
    def withstands(self) -> int:
        """With how many holders the coordinator may pool, at least, and not learn what another holder puts in."""
        return self.colluding

    @property
    @abstractmethod
    def options(self) -> Message:
        """The options as a message, for the invitation."""

    @property
    @abstractmethod
    def trust(self) -> Trust:
        """Who learns what, with these options."""

    @property
    @abstractmethod
    def attacks(self) -> tuple[Attack, ...]:
        """The known attacks and the step that stops each, with these options."""

    @abstractmethod
    def cost(self, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Cost:
        """Return what one sum of arrays with these encodings costs."""

    @abstractmethod
    def memory(self) -> Memory:
        """Return a party's empty memory."""

    def forget(self, memory: Memory, party: PartyId) -> None:
        """Have the coordinator's memory rest no longer on what another party kept: that begins anew, with nothing."""

    @property
    @abstractmethod
    def accepts(
        self,
    ) -> tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]:
        """Kinds of message: holder to coordinator, coordinator to holder, holder to holder."""

    @property
    def aggregators(self) -> int:
        """How many aggregators take part; none by default."""
        return 0

    @property
    def at_most(self) -> int | None:
        """The public bound on the holders, if the coordinator is kept from knowing how many there are."""
        return None

    @property
    def accepts_with_aggregators(
        self,
    ) -> tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]:
        """Kinds of message: holder to aggregator, aggregator to aggregator, aggregator to coordinator."""
        return (), (), ()

    @abstractmethod
    async def fix_parameters(self, channel: Channel, opening: Opening, memory: Memory) -> Message:
        """Fix the parameters, at the coordinator, once it is known who is ready with what."""

    @abstractmethod
    async def coordinator(
        self, channel: Channel, opened: Opened, keys: SessionKeys, memory: Memory
    ) -> Summed:
        """Run the coordinator's role; returns the sum of the words of `opened.needed` holders or more."""

    @abstractmethod
    async def holder(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        memory: Memory,
        *,
        words: tuple[Limbs, ...] | None,
        release: Release,
    ) -> None:
        """Run a holder's role: contribute its words, or void the session in secret if they are None.

        It calls ``release(holders)`` before anything leaves from which, with others' help, the total over
        these holders may follow; and again, before it helps further, when it turns out who is in it.
        """

    async def aggregator(
        self, channel: Channel, opened: Opened, keys: SessionKeys, memory: Memory, *, release: Release
    ) -> None:
        """Run an aggregator's role, in a protocol that has some.

        It calls ``release(holders)`` before anything leaves from which, with others' help, the total over
        these holders follows.
        """
        raise MisuseError(f"{self.title} has no aggregators")

    def needed(self, n_holders: int) -> int:
        """Return how many contributions of so many holders a sum needs; all of them by default."""
        return n_holders

    def contributions(self, n_holders: int) -> int:
        """Return of how many contributions encodings must carry the sum: all, or the public bound on them."""
        return n_holders if self.at_most is None else self.at_most

    def check_asked(self, invitation: Invitation, roster: Roster) -> None:
        """Refuse an invitation to what this role does not do: all others would have consented to something else.

        Raises
        ------
        Declined
            If it asks for other options.
        """
        if invitation.protocol != self.options:
            raise Declined(NOT_ALLOWED, "the invitation asks for other options than this role's")

    async def afterwards(self, channel: Channel, opened: Opened, memory: Memory) -> None:
        """Do, at a holder and after its session, what makes the next one faster; nothing by default."""

    def dispensable(self, n_holders: int) -> int:
        """Return without the release of how many of so many holders a total may exist, counting those who lie.

        So more than these must have signed that they released nothing before a question is asked again over
        fewer; by default, all are needed and only the colluding ones may lie.
        """
        return self.colluding

    def check_number(self, n_holders: int) -> None:
        """Refuse too few holders: the sum would uncover an input.

        Raises
        ------
        SetupError
            Also if an option does not suit so many.
        """
        if n_holders < self.minimum_holders:
            raise SetupError(
                f"{self.title} needs at least {self.minimum_holders} holders, {n_holders} given: "
                "with fewer, the sum has one honest input"
            )

    def check_holders(self, holders: Collection[str]) -> None:
        """Refuse holders, by their names, with whom no session could begin: too few, by default.

        Raises
        ------
        SetupError
            Also if an option does not suit them.
        """
        self.check_number(len(holders))

    def check_roster(self, roster: Roster) -> None:
        """Refuse a roster of too few holders, or of other aggregators than asked for, or with an asker if none may be.

        Raises
        ------
        SetupError
            Also if an option does not suit so many.
        """
        self.check_number(len(roster.holders))
        if len(roster.adders) != self.aggregators:
            raise SetupError(
                f"{self.title} takes {self.aggregators} aggregators, the roster has {len(roster.adders)}"
            )
        if (roster.asker is None) != (self.at_most is None):
            raise SetupError(
                "who asks without knowing the holders takes AdditiveSharing(at_most=…), and nobody else does"
            )


def accepted_by_coordinator(
    protocol: Protocol[Any], roster: Roster
) -> dict[PartyId, frozenset[type[Message]]]:
    """Return the kinds of message that the coordinator's session takes from each other party."""
    from_holder = frozenset({Ready, Refusal, Closed, *protocol.accepts[0]})
    from_aggregator = frozenset({Ready, Refusal, *protocol.accepts_with_aggregators[2]})
    return dict.fromkeys(roster.holders, from_holder) | dict.fromkeys(roster.aggregators, from_aggregator)


def accepted_by_holder(
    protocol: Protocol[Any], roster: Roster, me: PartyId
) -> dict[PartyId, frozenset[type[Message]]]:
    """Return the kinds of message that a holder's session takes from each other party."""
    accepts = dict.fromkeys(roster.holders, frozenset(protocol.accepts[2]))
    del accepts[me]
    accepts |= dict.fromkeys(roster.aggregators, frozenset())
    return accepts | {roster.coordinator: frozenset({Invitation, Begin, Finished, *protocol.accepts[1]})}


def accepted_by_aggregator(
    protocol: Protocol[Any], roster: Roster, me: PartyId
) -> dict[PartyId, frozenset[type[Message]]]:
    """Return the kinds of message that an aggregator's session takes from each other party."""
    from_holder, from_aggregator, _ = map(frozenset, protocol.accepts_with_aggregators)
    accepts: dict[PartyId, frozenset[type[Message]]] = {}
    accepts |= dict.fromkeys(roster.holders, from_holder)
    accepts |= {other: from_aggregator for other in roster.adders if other != me}
    if roster.asker is not None:
        accepts[roster.asker] = frozenset()
    from_coordinator = frozenset({Invitation, Begin, Finished})
    return accepts | {roster.coordinator: from_coordinator | accepts.get(roster.coordinator, frozenset())}


def coordinator_role(
    protocol: Protocol[Memory],
    keys: SessionKeys,
    invitation: Invitation,
    memory: Memory,
    *,
    needed: int = 0,
) -> Role[Aggregate]:
    """Run the coordinator's role in one secure sum, from invitation to decoded total.

    The sum is over at least `needed` holders or none, even if the protocol could do with fewer.
    """

    async def role(channel: Channel) -> Aggregate:
        protocol.check_roster(keys.roster)
        n_holders = len(keys.roster.holders)
        opened = await open_session(
            channel,
            keys,
            invitation,
            lambda opening: protocol.fix_parameters(channel, opening, memory),
            needed=max(protocol.needed(n_holders), needed),
        )
        expect_frames(protocol, opened, keys)
        try:
            summed = await protocol.coordinator(channel, opened, keys, memory)
        except DropoutError as loss:
            loss.closed = await close_session(channel, opened, loss)
            raise
        arrays, clipped = decoded(opened.encodings, summed.words, in_place=summed.is_spent)
        finished = Finished(session=opened.session, released=True)
        channel.broadcast([*opened.present, *opened.roster.aggregators], finished)
        return Aggregate(arrays, summed.holders, opened.session, opened.binding, clipped, summed.suspects)

    return role


def holder_role(
    protocol: Protocol[Memory],
    keys: SessionKeys,
    examine: Callable[[Invitation], Prepared],
    memory: Memory,
    release: Callable[[Invitation, Collection[PartyId]], None] = lambda *_: None,
) -> Role[bool]:
    """Run a holder's role in one secure sum; returns whether it took part."""
    released = False

    def noting(invitation: Invitation) -> Release:
        def note(holders: Collection[PartyId], *, opens: bool = True) -> None:
            nonlocal released
            release(invitation, holders)
            released = released or opens

        return note

    def examine_options(invitation: Invitation) -> Prepared:
        check_options(protocol, invitation, keys.roster)
        return examine(invitation)

    async def take_part(channel: Channel) -> bool:
        protocol.check_roster(keys.roster)
        needed = protocol.needed(len(keys.roster.holders))
        joined = await join_session(channel, keys, examine_options, needed=needed, at_most=protocol.at_most)
        if joined is None:
            return False
        opened, prepared = joined
        expect_frames(protocol, opened, keys)
        await protocol.holder(
            channel,
            opened,
            keys,
            memory,
            words=prepared.words,
            release=noting(opened.invitation),
        )
        await channel.receive(Finished, sender=keys.roster.coordinator)
        await protocol.afterwards(channel, opened, memory)
        return True

    async def role(channel: Channel) -> bool:
        coordinator = keys.roster.coordinator
        try:
            return await _until_the_end(channel, coordinator, take_part(channel))
        except AbortedError as end:
            if end.party == coordinator:
                channel.send(coordinator, closed_by(keys, forwarded=released))
            raise

    return role


def aggregator_role(
    protocol: Protocol[Memory],
    keys: SessionKeys,
    examine: Callable[[Invitation], None],
    memory: Memory,
    release: Callable[[Invitation, Collection[PartyId]], None] = lambda *_: None,
) -> Role[bool]:
    """Run an aggregator's role in one secure sum; returns whether it took part.

    `examine` checks policy; it raises `Declined` to refuse.
    """

    def nothing_of_its_own(invitation: Invitation) -> Prepared:
        check_options(protocol, invitation, keys.roster)
        examine(invitation)
        return Prepared((), ())

    async def take_part(channel: Channel) -> bool:
        protocol.check_roster(keys.roster)
        needed = protocol.needed(len(keys.roster.holders))
        joined = await join_session(
            channel, keys, nothing_of_its_own, needed=needed, at_most=protocol.at_most
        )
        if joined is None:
            return False
        opened, _ = joined
        expect_frames(protocol, opened, keys)
        await protocol.aggregator(
            channel, opened, keys, memory, release=lambda holders, **_: release(opened.invitation, holders)
        )
        await channel.receive(Finished, sender=keys.roster.coordinator)
        return True

    async def role(channel: Channel) -> bool:
        return await _until_the_end(channel, keys.roster.coordinator, take_part(channel))

    return role


def decoded(
    encodings: Sequence[ArrayEncoding], words: Sequence[Words | Limbs], *, in_place: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
    """Return the totals as arrays by their names, and how many values were clipped, where an encoding counts them.

    `in_place` is as of `ArrayEncoding.decode`.
    """
    totals = list(zip(encodings, words, strict=True))
    arrays = {encoding.name: encoding.decode(total, in_place=in_place) for encoding, total in totals}
    counted = [(encoding, total) for encoding, total in totals if isinstance(encoding, QuantizedArray)]
    return arrays, {encoding.name: encoding.clipped(total) for encoding, total in counted}


def expect_frames(protocol: Protocol[Any], opened: Opened, keys: SessionKeys) -> None:
    """Let frames be as long as this session's vectors make them: a bundle has a frame of every holder's."""
    n_holders = len(opened.roster.holders)
    longest = n_holders * protocol.cost(n_holders, opened.encodings).bytes_sent_by_holder
    keys.frame_bytes = max(keys.frame_bytes, 2 * longest)


def check_encoding(protocol: Protocol[Any], encoding: Message | None) -> None:
    """Refuse an encoding whose totals this protocol would reveal more of than it should.

    Raises
    ------
    SetupError
        Saying which protocol to use.
    """
    if isinstance(encoding, AutoRange) and not protocol.modular:
        raise SetupError(
            f"AutoRange() under {protocol.title} would show how many holders have large values: use "
            "PairwiseMasking() or AdditiveSharing(), or declare FixedPoint(bound)"
        )


def check_options(protocol: Protocol[Any], invitation: Invitation, roster: Roster) -> None:
    """Decline an invitation to what this role does not do, or to an encoding that shows more than it should."""
    try:
        check_encoding(protocol, invitation.encoding)
    except SetupError as error:
        raise Declined(NOT_ALLOWED, str(error)) from None
    protocol.check_asked(invitation, roster)


async def _until_the_end(channel: Channel, coordinator: PartyId, part: Awaitable[bool]) -> bool:
    """Take part; when another party is lost, the coordinator notices too, breaks off, and says so to all.

    Unless the other is lost to this party alone, as where two of them cannot reach each other: then this one breaks
    off. Who has merely not answered in time is left to the coordinator, whose time is longer.
    """
    try:
        return await part
    except DropoutError as loss:
        if coordinator not in loss.missing:
            with suppress(DropoutError):
                within = None if loss.reason else NOTICE_SECONDS
                await channel.receive(Finished, sender=coordinator, within=within)
        raise


def closed_by(keys: SessionKeys, *, forwarded: bool) -> Closed:
    """Return a holder's signed word whether anything of it had left when the session was broken off."""
    word = Closed(session=keys.session, holder=keys.me, forwarded=forwarded, signature=NO_SIGNATURE)
    return signed(word, keys.identity)


async def close_session(channel: Channel, opened: Opened, loss: DropoutError) -> tuple[Closed, ...]:
    """Break a session off and collect the surviving holders' signed word whether they had released anything.

    A total over the old set may exist only if every holder released; the word of the survivors is what
    lets them answer the same question over a smaller set.
    """
    survivors = [holder for holder in opened.present if holder not in loss.missing]
    abort = Abort(session=opened.session, reason=abort_reason(loss), lost=loss.missing)
    aggregators = [party for party in opened.roster.aggregators if party not in loss.missing]
    channel.broadcast([*survivors, *aggregators], abort)
    words = await channel.gather(Closed, senders=survivors, at_least=0, within=CLOSING_SECONDS)
    return tuple(
        word
        for holder, word in words.items()
        if word.holder == holder and word.session == opened.session and is_signed(word, opened.roster, holder)
    )
