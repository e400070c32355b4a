"""The steps of secret sharing: pure functions between its messages; `secret_sharing` tells the protocol.

Randomness and keys are arguments; whatever arrives is checked before anything is computed with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from ..serialization.secret_sharing_messages import IncludedShares, SharedInput, SummedShares
from .encoding import ArrayEncoding
from .errors import InvalidMessageError, VoidedError
from .invitation import Opened
from .key_agreement import KEY_BYTES, SessionKeys
from .limbs import Limbs
from .party import PartyId
from .prime_field import PRIMES, Elements, Moduli, add_in_place, require_elements, uniform
from .residues import choose_moduli, from_residues, to_residues
from .robust_decoding import decode
from .secret import RandomBytes
from .shamir import Sharing, expand, reconstruct, split

Octets = NDArray[np.uint8]

NONCE = bytes(12)  # of keys that seal one thing only
TAG_BYTES = 16
WORD_BYTES = 8
FLAG_MODULI: Moduli = PRIMES[:1]


# What every party derives alike


@dataclass(frozen=True, slots=True)
class Group:
    """Arrays that are shared modulo the same primes, one after the other in one vector.

    Attributes
    ----------
    sharing : Sharing
    count : int
        Secrets of the vector.
    arrays : tuple of int
        Places of the arrays among all; the flag has none, and stands at the end of the first group.
    """

    sharing: Sharing
    count: int
    arrays: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Of a share of the vector: (moduli, columns)."""
        return len(self.sharing.moduli), self.sharing.n_columns(self.count)

    def share_bytes(self, number: int) -> int:
        """Return the bytes of the share of a share holder: of a seed, or of a vector."""
        n_moduli, n_columns = self.shape
        return KEY_BYTES if number < self.sharing.n_seeds else WORD_BYTES * n_moduli * n_columns


@dataclass(frozen=True)
class SharingSetup:
    """What every party derives, alike, from the opened session.

    Attributes
    ----------
    opened : Opened
    share_holders : tuple of PartyId
        All that are designated; a share holder's number is its place here.
    threshold : int
    packing : int
    """

    opened: Opened
    share_holders: tuple[PartyId, ...]
    threshold: int
    packing: int

    @cached_property
    def present(self) -> tuple[PartyId, ...]:
        """The share holders that take part."""
        ready = set(self.opened.present)
        return tuple(holder for holder in self.share_holders if holder in ready)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All arrays and the flag."""
        return groups_of(
            self.opened.encodings,
            n_share_holders=len(self.share_holders),
            threshold=self.threshold,
            packing=self.packing,
        )

    @cached_property
    def sealed_bytes(self) -> dict[PartyId, int]:
        """What a dealer seals for each share holder that takes part, in bytes."""
        numbers = {holder: number for number, holder in enumerate(self.share_holders)}
        return {holder: sealed_bytes(self.groups, numbers[holder]) for holder in self.present}

    def recipients(self, dealer: PartyId) -> tuple[PartyId, ...]:
        """Return for whom a dealer seals shares: every share holder present but itself."""
        return tuple(holder for holder in self.present if holder != dealer)


def moduli_of(encoding: ArrayEncoding) -> Moduli:
    """Return the primes that hold every total of an array; for wide integers one more, which checks."""
    return choose_moduli(encoding.n_contributions * encoding.bound, check=encoding.limbs > 1)


def groups_of(
    encodings: Sequence[ArrayEncoding], *, n_share_holders: int, threshold: int, packing: int
) -> tuple[Group, ...]:
    """Return all arrays and the flag by the primes they need; the single prime of the flag first."""
    places: dict[Moduli, list[int]] = {FLAG_MODULI: []}
    for place, encoding in enumerate(encodings):
        places.setdefault(moduli_of(encoding), []).append(place)
    return tuple(
        Group(
            Sharing(n_share_holders=n_share_holders, threshold=threshold, packing=packing, moduli=moduli),
            sum(encodings[place].size for place in arrays) + (moduli == FLAG_MODULI),
            tuple(arrays),
        )
        for moduli, arrays in places.items()
    )


def sealed_bytes(groups: Sequence[Group], number: int) -> int:
    """Return the bytes of all that a dealer seals for a share holder."""
    return sum(group.share_bytes(number) for group in groups) + TAG_BYTES


# A dealer


def secrets_of(
    setup: SharingSetup, words: tuple[Limbs, ...] | None, random_bytes: RandomBytes
) -> Iterator[Elements]:
    """Yield each group's secrets; those of a holder without words are uniform, its flag is not zero."""
    for group in setup.groups:
        moduli = group.sharing.moduli
        if words is None:
            secrets = uniform(random_bytes(KEY_BYTES), moduli, group.count)
        else:
            parts = [to_residues(words[place], moduli) for place in group.arrays]
            flag = [np.zeros((1, 1), dtype=np.uint64)] if moduli == FLAG_MODULI else []
            secrets = np.concatenate([*parts, *flag], axis=1)
        if words is None and moduli == FLAG_MODULI:
            secrets[0, -1] = 1 + int.from_bytes(random_bytes(16), "little") % (PRIMES[0] - 1)
        yield secrets


def share_input(
    setup: SharingSetup, keys: SessionKeys, words: tuple[Limbs, ...] | None, random_bytes: RandomBytes
) -> tuple[SharedInput, list[Elements]]:
    """Share a contribution: what is sent, sealed for each share holder, and this holder's own shares.

    **Call once a session**: a key seals one share, and a second use is a `MisuseError`.
    """
    shares: dict[PartyId, list[bytes | Elements]] = {holder: [] for holder in setup.share_holders}
    for group, secrets in zip(setup.groups, secrets_of(setup, words, random_bytes), strict=True):
        seeds, others = split(group.sharing, secrets, random_bytes)
        for holder, share in zip(setup.share_holders, (*seeds, *others), strict=True):
            shares[holder].append(share)
    sealed = tuple(_seal(setup, keys, holder, shares[holder]) for holder in setup.recipients(keys.me))
    own = [
        expand(group.sharing, share, group.count) if isinstance(share, bytes) else share
        for group, share in zip(setup.groups, shares.get(keys.me, ()), strict=False)
    ]
    return SharedInput(session=setup.opened.session, binding=setup.opened.binding, sealed=sealed), own


def _cipher(setup: SharingSetup, keys: SessionKeys, dealer: PartyId, peer: PartyId) -> AESGCM:
    """Return what seals, at one end, and opens, at the other, a dealer's share to one question: both once."""
    return AESGCM(keys.take_pair_key(peer, f"share of {dealer}", setup.opened.binding))


def _seal(setup: SharingSetup, keys: SessionKeys, to: PartyId, share: Sequence[bytes | Elements]) -> Octets:
    content = b"".join(
        part if isinstance(part, bytes) else part.astype("<u8", copy=False).data for part in share
    )
    return np.frombuffer(_cipher(setup, keys, keys.me, to).encrypt(NONCE, content, None), dtype=np.uint8)


# A share holder


def check_included(setup: SharingSetup, told: IncludedShares, me: PartyId) -> tuple[PartyId, ...]:
    """Return I, or refuse a set that cannot be.

    Raises
    ------
    InvalidMessageError
        If I is too small, not of dealers in roster order, or came with shares of another number or size.
    """
    included = tuple(PartyId(name) for name in told.included)
    named = set(included)
    ordered = tuple(holder for holder in setup.opened.present if holder in named)
    sizes = [(setup.sealed_bytes[me],)] * (len(included) - (me in named))
    problem = ""
    if told.session != setup.opened.session:
        problem = "an included set of another session"
    elif included != ordered or len(included) < setup.opened.needed:
        problem = "an included set that cannot be"
    elif [sealed.shape for sealed in told.sealed] != sizes:
        problem = "other shares than of the included set"
    if problem:
        raise InvalidMessageError(problem, culprits=[setup.opened.roster.coordinator])
    return included


def sum_shares(
    setup: SharingSetup,
    keys: SessionKeys,
    own: Sequence[Elements],
    included: Sequence[PartyId],
    sealed: Sequence[Octets],
) -> SummedShares:
    """Open the shares of the included dealers and add them. **Call once a session**, for one set.

    Raises
    ------
    InvalidMessageError
        If a share cannot be opened or is none.
    MisuseError
        On a second call: a key opens one share.
    """
    totals = [np.zeros(group.shape, dtype=np.uint64) for group in setup.groups]
    others = iter(sealed)
    for dealer in included:
        shares = own if dealer == keys.me else _open(setup, keys, dealer, next(others))
        for group, total, share in zip(setup.groups, totals, shares, strict=True):
            add_in_place(total, share, group.sharing.moduli)
    return SummedShares(session=setup.opened.session, binding=setup.opened.binding, totals=tuple(totals))


def _open(setup: SharingSetup, keys: SessionKeys, dealer: PartyId, sealed: Octets) -> list[Elements]:
    try:
        content = memoryview(_cipher(setup, keys, dealer, dealer).decrypt(NONCE, sealed.data, None))
    except InvalidTag:
        suspects = [dealer, setup.opened.roster.coordinator]
        raise InvalidMessageError("a share that cannot be opened", suspects=suspects) from None
    number, shares, at = setup.share_holders.index(keys.me), list[Elements](), 0
    for group in setup.groups:
        part = content[at : at + group.share_bytes(number)]
        at += len(part)
        if number < group.sharing.n_seeds:
            shares.append(expand(group.sharing, bytes(part), group.count))
            continue
        elements = np.frombuffer(part, dtype="<u8").astype(np.uint64, copy=False).reshape(group.shape)
        require_elements(elements, group.sharing.moduli, group.shape[1], sender=dealer)
        shares.append(elements)
    return shares


# The coordinator


def check_shared(setup: SharingSetup, dealer: PartyId, shared: SharedInput) -> None:
    """Refuse shares of another session or question, or of other sizes than those of its share holders."""
    if shared.session != setup.opened.session or shared.binding != setup.opened.binding:
        raise InvalidMessageError("shares of another session or question", culprits=[dealer])
    expected = [(setup.sealed_bytes[holder],) for holder in setup.recipients(dealer)]
    if [sealed.shape for sealed in shared.sealed] != expected:
        raise InvalidMessageError("shares of other sizes than agreed", culprits=[dealer])


def forward_shares(
    setup: SharingSetup, shared: Mapping[PartyId, SharedInput]
) -> dict[PartyId, IncludedShares]:
    """Return for each share holder I, and what the dealers in it have sealed for this share holder."""
    bundles: dict[PartyId, list[Octets]] = {holder: [] for holder in setup.present}
    for dealer, message in shared.items():
        for holder, sealed in zip(setup.recipients(dealer), message.sealed, strict=True):
            bundles[holder].append(sealed)
    session, included = setup.opened.session, tuple(shared)
    return {
        holder: IncludedShares(session=session, included=included, sealed=tuple(sealed))
        for holder, sealed in bundles.items()
    }


def correctable(surplus: int, colluding: int) -> int:
    """Return how many wrong sums of shares to correct: as many as can be, unless the colluding could deceive.

    With e corrected, wrong sums never make a wrong total if there are at most surplus − e of them.
    """
    return max(0, min(surplus // 2, surplus - colluding))


def open_total(
    setup: SharingSetup,
    answers: Mapping[PartyId, SummedShares],
    *,
    correct: int | None,
    random_bytes: RandomBytes,
) -> tuple[tuple[Limbs, ...], tuple[PartyId, ...]]:
    """Reconstruct the total from sums of shares, and name the share holders whose sums were wrong.

    Parameters
    ----------
    correct : int or None
        Wrong sums to be corrected at most; None looks at no more sums than the threshold, and trusts them.

    Raises
    ------
    InvalidMessageError
        If sums of shares contradict each other, and more are wrong than can be corrected.
    VoidedError
        If some holder could not contribute.
    """
    for holder, answer in answers.items():
        _check_summed(setup, holder, answer)
    limbs: dict[int, Limbs] = {}
    wrong: set[PartyId] = set()
    for place, group in enumerate(setup.groups):
        sums = {setup.share_holders.index(holder): answer.totals[place] for holder, answer in answers.items()}
        try:
            if correct is None:
                secrets = reconstruct(group.sharing, sums, group.count)
            else:
                decoded = decode(group.sharing, sums, group.count, random_bytes, correct=correct)
                secrets = decoded.secrets
                wrong.update(setup.share_holders[number] for number in decoded.wrong)
            if place == 0 and secrets[0, -1]:
                raise VoidedError
            limbs.update(_totals(setup, group, secrets))
        except InvalidMessageError as error:
            # A share holder has summed wrongly, or a dealer has dealt it a share off the polynomial.
            raise InvalidMessageError(error.problem, suspects=setup.opened.present) from None
    words = tuple(limbs[place] for place in range(len(setup.opened.encodings)))
    return words, tuple(holder for holder in setup.share_holders if holder in wrong)


def _check_summed(setup: SharingSetup, holder: PartyId, answer: SummedShares) -> None:
    fits = answer.session == setup.opened.session and answer.binding == setup.opened.binding
    if not fits or len(answer.totals) != len(setup.groups):
        raise InvalidMessageError("sums of shares of another session or question", culprits=[holder])
    for group, total in zip(setup.groups, answer.totals, strict=True):
        require_elements(total, group.sharing.moduli, group.shape[1], sender=holder)


def _totals(setup: SharingSetup, group: Group, secrets: Elements) -> Iterator[tuple[int, Limbs]]:
    """Yield place and total of each array of a group."""
    start = 0
    for place in group.arrays:
        encoding = setup.opened.encodings[place]
        residues = np.ascontiguousarray(secrets[:, start : start + encoding.size])
        largest = encoding.n_contributions * encoding.bound
        yield place, from_residues(residues, group.sharing.moduli, encoding.limbs, largest)
        start += encoding.size
