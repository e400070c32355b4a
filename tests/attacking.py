"""Attacks attempted with some step of a protocol taken out: the steps, and how to take them out."""

from __future__ import annotations

import dataclasses
import hmac
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tacit.actors.links import Links
from tacit.protocols import (
    additive_sharing,
    additive_steps,
    graph,
    invitation,
    masking_epoch,
    masking_set_up,
    masking_steps,
    meeting,
    pairwise_masking,
    ring_paillier,
    ring_steps,
    secret_sharing,
    sharing_steps,
)
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.adversary import Adversary, Verdict
from tacit.protocols.cohort import Cohort, Surroundings
from tacit.protocols.invitation import Opened, Prepared
from tacit.protocols.key_agreement import SessionKeys, exchange
from tacit.protocols.masking_epoch import Epoch
from tacit.protocols.packing import TAG_BITS
from tacit.protocols.paillier_keys import PublicKey
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.party import PartyId, Roster
from tacit.protocols.protocol import Protocol
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.records import release_memory
from tacit.records.release_memory import ReleaseMemory
from tacit.serialization.ring_paillier_messages import PartialSum

DEPLOYED = Surroundings(Links, ReleaseMemory)
NO_LINKS = dataclasses.replace(DEPLOYED, links=None)
NO_MEMORY = dataclasses.replace(DEPLOYED, releases=None)
NAMED_REFUSALS = dataclasses.replace(DEPLOYED, voids=False)

RING = RingPaillier.insecure_for_tests()
OPEN_RING = RingPaillier.insecure_for_tests(masks=False)
MASKING = PairwiseMasking()
CURIOUS = PairwiseMasking(threshold=3, active=False)
DIRECT = PairwiseMasking(mode="direct")
SHARING = SecretSharing()
ADDITIVE = AdditiveSharing()

TakeOut = Callable[[pytest.MonkeyPatch], None]


def verdict(
    attack: Adversary,
    protocol: Protocol[Any],
    *,
    n_holders: int = 5,
    seed: int = 1,
    surroundings: Surroundings = DEPLOYED,
) -> Verdict:
    """Attempt one attack on fresh parties."""
    return attack(Cohort(protocol, n_holders, seed, surroundings))


# Of every session


def signatures_over_invitations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(invitation, "check_ready", lambda *_: None)


def signatures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(invitation, "is_signed", lambda *_: True)


def binding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Opened, "binding", property(lambda _: bytes(32)))


def pinned_keys_in_agreements(patch: pytest.MonkeyPatch) -> None:
    def fresh_only(self: SessionKeys, peer: PartyId, ephemeral: bytes) -> bytes:
        return exchange(self._secret, ephemeral)

    patch.setattr(SessionKeys, "_mix", fresh_only)


def pinned_roster(patch: pytest.MonkeyPatch) -> None:
    def any_roster(self: Cohort, roster: Roster) -> Roster:
        return roster

    patch.setattr(Cohort, "accepted", any_roster)


def minimum(patch: pytest.MonkeyPatch) -> None:
    for protocol in (RingPaillier, PairwiseMasking, SecretSharing, AdditiveSharing):
        patch.setattr(protocol, "minimum_holders", 1)
    patch.setattr(graph, "check_threshold", lambda *_, **__: None)


def signed_words(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(release_memory, "cannot_exist", lambda *_, **__: True)


def liars_among_those_who_sign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Protocol, "dispensable", lambda self, n_holders: 0)


def noise_out_of_range(patch: pytest.MonkeyPatch) -> None:
    prepare = invitation.prepare

    def zeros_instead(arrays: Any, encoding: Any, n_holders: int, **options: Any) -> Prepared:
        prepared = prepare(arrays, encoding, n_holders, **options)
        zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
        return prepare(zeros, encoding, n_holders, **options) if prepared.words is None else prepared

    patch.setattr(meeting, "prepare", zeros_instead)


def fresh_randomness(patch: pytest.MonkeyPatch) -> None:
    """As a virtual machine that is started again from a snapshot draws the same again."""

    def always_the_same(self: Cohort) -> int:
        return 7

    patch.setattr(Cohort, "new_seed", always_the_same)


# Of the ring


def key_validation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ring_paillier, "_validated", lambda n, bits: PublicKey(n))


def tags_of_holders(patch: pytest.MonkeyPatch) -> None:
    """Leave a plain count of contributions."""
    one = 1 << (TAG_BITS - 1)
    patch.setattr(ring_steps, "tags", lambda session, holder, count: [one] * count)
    patch.setattr(ring_steps, "expected_tags", lambda session, order, count: [one * len(order)] * count)


def headers_of_partial_sums(patch: pytest.MonkeyPatch) -> None:
    read = ring_steps.read_partial_sum

    def trusting(setup: ring_steps.RingSetup, partial: PartialSum, sender: PartyId, hop: int) -> Any:
        relabelled = dataclasses.replace(partial, session=setup.session, binding=setup.binding, hop=hop)
        return read(setup, relabelled, sender, hop)

    patch.setattr(ring_steps, "read_partial_sum", trusting)


def fresh_first_partial_sum(patch: pytest.MonkeyPatch) -> None:
    always = ring_steps.random_partial_sum
    patch.setattr(
        ring_paillier, "random_partial_sum", lambda setup, _: always(setup, random.Random(3).randbytes)
    )


# Of pairwise masking


def rounds_used_once(patch: pytest.MonkeyPatch) -> None:
    def seeds(self: Epoch, index: int) -> Any:
        return self._self_seeds[index], {peer: by_round[index] for peer, by_round in self._pair_seeds.items()}

    patch.setattr(Epoch, "take_seeds", seeds)
    patch.setattr(Epoch, "forget", lambda self, index: None)


def one_share_of_two(patch: pytest.MonkeyPatch) -> None:
    take = Epoch.take_shares

    def again_and_again(self: Epoch, index: int, survivors: Any) -> Any:
        kept = {dealer: dict(rows) for dealer, rows in self._shares.items()}
        taken = take(self, index, survivors)
        self._shares = kept
        return taken

    patch.setattr(Epoch, "take_shares", again_and_again)


def codes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pairwise_masking, "agreeing", lambda *_: 99)


def minimum_of_dealers(patch: pytest.MonkeyPatch) -> None:
    open_shares = masking_epoch.open_shares
    patch.setattr(
        masking_set_up,
        "open_shares",
        lambda opened, *rest: open_shares(dataclasses.replace(opened, needed=1), *rest),
    )


def self_masks(patch: pytest.MonkeyPatch) -> None:
    masks_of = masking_steps.masks_of
    patch.setattr(pairwise_masking, "masks_of", lambda *arguments: masks_of(*arguments)[1:])


def a_key_a_round(patch: pytest.MonkeyPatch) -> None:
    """Open all rounds of an epoch with one key: as if a key that lasts were shared."""
    deal = masking_epoch.deal

    def one_opening_key(*arguments: Any, random_bytes: Callable[[int], bytes], **options: Any) -> Any:
        calls = iter(range(3))

        def repeating(n: int) -> bytes:
            return random_bytes(32) * (n // 32) if next(calls) == 1 else random_bytes(n)

        return deal(*arguments, random_bytes=repeating, **options)

    patch.setattr(masking_set_up, "deal", one_opening_key)


def binding_of_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(masking_steps, "mask_key", lambda seed, opened: hmac.digest(seed, b"mask", "sha256"))


def long_seeds(patch: pytest.MonkeyPatch) -> None:
    """Leave sixteen bits of every pairwise seed."""
    seeds = masking_epoch._round_seeds
    patch.setattr(
        masking_epoch, "_round_seeds", lambda *arguments: [s[:2] + bytes(30) for s in seeds(*arguments)]
    )


# Of secret sharing and of additive sharing


class NoCipher:
    """What leaves shares as they are."""

    def encrypt(self, nonce: bytes, content: bytes, about: None) -> bytes:
        return bytes(content) + bytes(sharing_steps.TAG_BYTES)

    def decrypt(self, nonce: bytes, sealed: bytes, about: None) -> bytes:
        return bytes(sealed)[: -sharing_steps.TAG_BYTES]


def seals_of_shares(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sharing_steps, "_cipher", lambda *_: NoCipher())


def minimum_of_included(patch: pytest.MonkeyPatch) -> None:
    check = sharing_steps.check_included

    def permissive(setup: sharing_steps.SharingSetup, *told: Any) -> Any:
        opened = dataclasses.replace(setup.opened, needed=1)
        return check(dataclasses.replace(setup, opened=opened), *told)

    patch.setattr(secret_sharing, "check_included", permissive)


def shares_of_the_last(patch: pytest.MonkeyPatch) -> None:
    mask_input = masking_steps.mask_input

    def bare(opened: Opened, words: Any, masks: Any, **options: Any) -> Any:
        return mask_input(opened, words, [], **options)

    patch.setattr(additive_steps, "mask_input", bare)


def minimum_of_aggregators(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(additive_sharing, "_needed", lambda opened: 1)
