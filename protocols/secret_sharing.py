"""Secret sharing: every holder deals Shamir shares of its contribution; share holders add them and answer once.

Coordinator k, N share holders (all holders, or some), threshold T, l secrets a polynomial (1: plain Shamir), n_C
colluding. Field of 2^61 − 1; wider integers as residues modulo several primes, and for wide sums one prime more,
which checks.

1. ``holder -> k: SharedInput``: a dealer splits its contribution and seals one share for each share holder. As many
   shares as together tell nothing, T − l, travel as 32-byte seeds.
2. ``k -> share holder: IncludedShares``: the coordinator names I, the dealers whose shares it has, and hands each
   share holder what they have sealed for it. A dealer's shares come in one message: all of them are there, or none.
3. ``share holder -> k: SummedShares``: a share holder answers **once a session, for one set I**, if I is large enough
   and its memory of what it has released allows it. The coordinator reconstructs from any T of the sums; with more it
   finds wrong ones out, and corrects some.

**Who learns what.** The coordinator learns the sum over I and nothing else; share holders learn who is in I. Any
T − l share holders together learn nothing of an input. Resists a coordinator that lies and pools with n_C share
holders: an honest one answers for one set, so that sets of which each gets more than T − l answers take
2·(T − l + 1) ≤ N + n_C, and T is larger. (For l = 1 that is 2·T > N + n_C. Between T − l and T shares of packed
secrets tell linear combinations of them, so it is not enough that no two sets are reconstructed.)

**Wrong sums of shares** make *suspects*: the share holder, or a dealer who dealt it a share off the polynomial. With m
answers, up to m − T wrong ones are found out, or half as many corrected; with m = T none is. Any holder can shift the
sum by what it puts in, and end the session by dealing shares that do not open.

**Losses.** A dealer lost before its shares are in is left out; afterwards N − T share holders may fall silent.

That the coordinator relays the shares, in bundles, and names I together with them, is tacit's own arrangement: as
many messages as parties instead of one for every pair. It sees sizes, which are the same of everybody.

Sources: A. Shamir, CACM 22 (1979); M. Ben-Or, S. Goldwasser, A. Wigderson, STOC 1988 (addition of shares); M. Franklin,
M. Yung, STOC 1992 (packing). Robust decoding: `robust_decoding`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..serialization.codec import encode
from ..serialization.schema import Message
from ..serialization.secret_sharing_messages import (
    IncludedShares,
    SecretSharingOptions,
    SharedInput,
    SharingParameters,
    SummedShares,
)
from ..serialization.session_messages import Finished
from .channel import Channel
from .encoding import ArrayEncoding
from .errors import DropoutError, InvalidMessageError, SetupError
from .invitation import Opened, Opening
from .key_agreement import SessionKeys
from .limbs import Limbs
from .party import PartyId, Roster
from .protocol import Attack, Cost, Protocol, Release, Summed, Trust
from .sharing_steps import (
    SharingSetup,
    check_included,
    check_shared,
    correctable,
    forward_shares,
    groups_of,
    open_total,
    sealed_bytes,
    share_input,
    sum_shares,
)

ANSWER_SECONDS = 60.0
SECONDS_PER_MEGABYTE = 0.1  # of what all holders send, over one link
SPARE = 5  # without a threshold or packing, one share holder in so many may fall silent


@dataclass(frozen=True)
class SecretSharing(Protocol[None]):
    """Shamir shares among the holders, or among some of them.

    Parameters
    ----------
    threshold : int, optional
        Shares that reconstruct. By default the fewest that a coordinator that lies cannot get for two sets:
        ⌊(share holders + colluding) / 2⌋ + packing.
    share_holders : sequence of str, optional
        The holders who get shares; by default all.
    packing : int, optional
        Contributed numbers a polynomial: more make shares shorter and take a larger threshold. By default as many as
        a given threshold allows; without one, as leave a fifth of the share holders to spare and never fewer than
        `colluding` + 1, with which a wrong sum is corrected (`numbers_packed`).
    robust : bool
        Whether wrong sums of shares are found out, and corrected as far as there are shares to spare.
    colluding : int
        Share holders that may pool with the coordinator: n_C.

    Raises
    ------
    SetupError
        If an option is out of its range.
    """

    threshold: int | None = None
    share_holders: Sequence[str] | None = None
    packing: int | None = None
    robust: bool = True
    colluding: int = 1

    title: ClassVar[str] = "secret sharing"
    accepts: ClassVar[
        tuple[Collection[type[Message]], Collection[type[Message]], Collection[type[Message]]]
    ] = ((SharedInput, SummedShares), (IncludedShares,), ())

    def __post_init__(self) -> None:
        least = {"threshold": 2, "packing": 1, "colluding": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            optional = name != "colluding" and value is None
            if not optional and (type(value) is not int or value < smallest):
                raise SetupError(f"{name} is a whole number, at least {smallest}")
        if type(self.robust) is not bool:
            raise SetupError("robust is True or False")
        if self.share_holders is not None:
            object.__setattr__(self, "share_holders", _names(self.share_holders))

    @classmethod
    def from_options(cls, options: SecretSharingOptions) -> SecretSharing:
        """Return the protocol that an invitation asks for."""
        return cls(
            options.threshold, options.share_holders, options.packing, options.robust, options.colluding
        )

    @property
    def options(self) -> SecretSharingOptions:
        """The options as a message."""
        return SecretSharingOptions(
            threshold=self.threshold,
            share_holders=None if self.share_holders is None else tuple(self.share_holders),
            packing=self.packing,
            robust=self.robust,
            colluding=self.colluding,
        )

    @property
    def minimum_holders(self) -> int:
        """At least two honest inputs beside those that may collude, and never fewer than three."""
        return max(self.colluding + 2, 3)

    def shares_needed(self, n_holders: int) -> int:
        """Return the threshold among so many holders."""
        if self.threshold is not None:
            return self.threshold
        return self._shares_that_tell_nothing(n_holders) + self.numbers_packed(n_holders)

    def numbers_packed(self, n_holders: int) -> int:
        """Return how many numbers a polynomial carries among so many holders.

        Every number more takes a larger threshold: one share holder fewer may fall silent. If both are left open,
        max(⌈share holders/5⌉, colluding + 1) may, so far as that leaves a number a polynomial.
        """
        if self.packing is not None:
            return self.packing
        n_share_holders = self._n_share_holders(n_holders)
        spare = max(-(-n_share_holders // SPARE), self.colluding + 1)
        threshold = n_share_holders - spare if self.threshold is None else self.threshold
        return max(1, threshold - self._shares_that_tell_nothing(n_holders))

    def needed(self, n_holders: int) -> int:
        """Return how many must contribute: as many as shares reconstruct, two honest ones among them."""
        return max(self.minimum_holders, self.shares_needed(n_holders))

    def dispensable(self, n_holders: int) -> int:
        """Return without how many dealings a sum may exist, counting those who lie."""
        return n_holders - self.needed(n_holders) + self.colluding

    def _n_share_holders(self, n_holders: int) -> int:
        return n_holders if self.share_holders is None else len(self.share_holders)

    def _shares_that_tell_nothing(self, n_holders: int) -> int:
        """Return the least T − l with 2·(T − l + 1) > N + n_C: no two sets get more answers than that each."""
        return (self._n_share_holders(n_holders) + self.colluding) // 2

    def check_number(self, n_holders: int) -> None:
        """Refuse too few holders, or a threshold that does not suit the share holders."""
        super().check_number(n_holders)
        threshold, packing = self.shares_needed(n_holders), self.packing or 1
        least, most = self._shares_that_tell_nothing(n_holders) + packing, self._n_share_holders(n_holders)
        if not least <= threshold <= most:
            raise SetupError(
                f"a threshold of {threshold} among {most} share holders: with {self.colluding} colluding and "
                f"{packing} packed it is at least {least} and at most {most}; choose another threshold, less "
                "packing, or more share holders"
            )

    def check_holders(self, holders: Collection[str]) -> None:
        """Refuse also share holders who are no holders."""
        super().check_holders(holders)
        if unknown := [name for name in self.share_holders or () if name not in holders]:
            raise SetupError(f"share_holders names {', '.join(unknown)}, who is no holder: name holders only")

    def check_roster(self, roster: Roster) -> None:
        """Refuse also a roster without enough of the share holders; some may have been lost since the first one."""
        super().check_roster(roster)
        threshold = self.shares_needed(len(roster.holders))
        there = [holder for holder in self._designated(roster) if holder in roster.holders]
        if len(there) < threshold:
            raise SetupError(
                f"share_holders: {threshold} of them reconstruct, and {len(there)} are in the roster; name others"
            )

    def _designated(self, roster: Roster) -> tuple[PartyId, ...]:
        """Return all share holders in the order of their numbers."""
        if self.share_holders is None:
            return roster.holders
        return tuple(PartyId(name) for name in self.share_holders)

    @property
    def trust(self) -> Trust:
        """Who learns what."""
        fewest = (
            f"more than (share holders + {self.colluding})/2 share holders"
            if self.threshold is None or self.packing is None
            else f"{self.threshold - self.packing + 1} share holders"
        )
        wrong = (
            "found out, and corrected, as far as there are shares to spare"
            if self.robust
            else "not found out"
        )
        return Trust(
            "the sum over the included, and who they are",
            f"a coordinator that lies, and curious holders; wrong sums of shares are {wrong}",
            f"{fewest} pool, or more than {self.colluding} of them with the coordinator",
        )

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The known attacks and the step that stops each."""
        return (
            Attack(
                "the coordinator opens a share, or alters one", "shares are sealed for their share holders"
            ),
            Attack(
                "half of the share holders answer for all, half for all but one",
                "a threshold above (share holders + colluding)/2 + packing − 1",
            ),
            Attack("a share holder is asked for a second set", "one answer a session"),
            Attack("too small an included set", "the minimum that every share holder checks"),
            Attack("one holder gets a special model", "the binding in the key of every share"),
            Attack(
                "the same question over one holder fewer",
                "the holders' memory over whom they dealt, and over whom they answered",
            ),
            Attack(
                "a share holder sends a wrong sum, or a dealer frames it",
                "robust decoding, as far as there are shares to spare"
                if self.robust
                else "nothing: robust is off",
            ),
            Attack("a share that is no field element", "only canonical elements are added"),
            Attack("a dealer's shares do not open", "nothing: its share holders cannot answer"),
        )

    def cost(self, n_holders: int, encodings: Sequence[ArrayEncoding]) -> Cost:
        """Count messages one after the other, and the bytes of the shares and of their sum.

        A share holder sends most whose own share, which it keeps, is the shortest.
        """
        n_share_holders, session = self._n_share_holders(n_holders), bytes(32)
        groups = groups_of(
            encodings,
            n_share_holders=n_share_holders,
            threshold=self.shares_needed(n_holders),
            packing=self.numbers_packed(n_holders),
        )
        sizes = sorted(sealed_bytes(groups, number) for number in range(n_share_holders))[1:]
        sealed = tuple(np.zeros(size, dtype=np.uint8) for size in sizes)
        totals = tuple(np.zeros(group.shape, dtype=np.uint64) for group in groups)
        frames: tuple[Message, ...] = (
            SharedInput(session=session, binding=session, sealed=sealed),
            SummedShares(session=session, binding=session, totals=totals),
        )
        return Cost(6, sum(encode(frame).size for frame in frames))

    def memory(self) -> None:
        """Nothing outlives a session."""

    async def fix_parameters(self, channel: Channel, opening: Opening, memory: None) -> SharingParameters:
        """Fix the threshold.

        Raises
        ------
        DropoutError
            If fewer share holders than that are ready; nothing has been dealt.
        """
        threshold = self.shares_needed(len(opening.roster.holders))
        designated = self._designated(opening.roster)
        present = [holder for holder in designated if holder in opening.present]
        if len(present) < threshold:
            missing = [holder for holder in designated if holder not in present]
            raise DropoutError(needed=threshold, present=present, missing=missing)
        return SharingParameters(threshold=threshold)

    def setup(self, opened: Opened) -> SharingSetup:
        """Derive what every party does from the opened session.

        Raises
        ------
        InvalidMessageError
            If the coordinator means another threshold, or begins with too few share holders.
        """
        roster = opened.roster
        threshold = self.shares_needed(len(roster.holders))
        packing = self.numbers_packed(len(roster.holders))
        setup = SharingSetup(opened, self._designated(roster), threshold, packing)
        if opened.parameters != SharingParameters(threshold=threshold):
            raise InvalidMessageError("a Begin with another threshold", culprits=[roster.coordinator])
        if len(setup.present) < threshold:
            raise InvalidMessageError("a Begin with too few share holders", culprits=[roster.coordinator])
        return setup

    async def coordinator(self, channel: Channel, opened: Opened, keys: SessionKeys, memory: None) -> Summed:
        """Run the coordinator's role."""
        setup, within = self.setup(opened), self._patience(opened)
        # Step 1
        shared = await channel.gather(
            SharedInput, senders=opened.present, at_least=opened.needed, within=within
        )
        for dealer, message in shared.items():
            check_shared(setup, dealer, message)
        # Step 2
        for holder, bundle in forward_shares(setup, shared).items():
            channel.send(holder, bundle)
        # Step 3
        answers = await channel.gather(
            SummedShares, senders=setup.present, at_least=setup.threshold, within=within
        )
        words, wrong = await channel.compute(
            open_total,
            setup,
            answers,
            correct=correctable(len(answers) - setup.threshold, self.colluding) if self.robust else None,
            random_bytes=channel.random_bytes,
        )
        return Summed(words, tuple(shared), suspects=wrong)

    def _patience(self, opened: Opened) -> float:
        """Return how long the coordinator waits for the shares of all, and for their sums."""
        size = self.cost(len(opened.roster.holders), opened.encodings).bytes_sent_by_holder
        return ANSWER_SECONDS + SECONDS_PER_MEGABYTE * len(opened.present) * size / 1e6

    async def holder(
        self,
        channel: Channel,
        opened: Opened,
        keys: SessionKeys,
        memory: None,
        *,
        words: tuple[Limbs, ...] | None,
        release: Release,
    ) -> None:
        """Run a holder's role: dealer, and share holder if it is one."""
        setup, coordinator = self.setup(opened), opened.roster.coordinator
        # Step 1
        shared, own = await channel.compute(share_input, setup, keys, words, channel.random_bytes)
        release(opened.present)
        channel.send(coordinator, shared)
        if channel.me not in setup.share_holders:
            return
        # Step 2
        told: dict[PartyId, IncludedShares | Finished] = await channel.gather(
            (IncludedShares, Finished), senders=(coordinator,)
        )
        answer = told[coordinator]
        if isinstance(answer, Finished):
            return  # too late: the sum is there without this answer
        included = check_included(setup, answer, channel.me)
        # Step 3
        summed = await channel.compute(sum_shares, setup, keys, own, included, answer.sealed)
        release(included)
        channel.send(coordinator, summed)


def _names(given: object) -> tuple[str, ...]:
    """Return the names of share holders as a tuple, or refuse what is none."""
    names = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else ()
    if not names or not all(isinstance(name, str) and 0 < len(name) <= 100 for name in names):
        raise SetupError("share_holders is a sequence of holders' names: ('site-1', 'site-2', …)")
    if len(set(names)) < len(names):
        raise SetupError("share_holders names a holder twice")
    return names
