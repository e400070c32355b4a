"""What a holder looks at before it co-signs a model, and what it keeps for that of the sums it took part in.

A co-signature says: my rows went into a model of this definition, with the holders of the card, all of whom I know, and
under the privacy that it tells; and these are the keys that may release it. It does not say that the numbers are right:
all sums are seen by the coordinator alone, and are on record in the ledger whose root the card has.

Adversary: a coordinator that would release, in the holders' names, a model in which they took no part, over others than
they knew, or with less privacy than the card says; a repository that has them sign what the coordinator has not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..models.definition import Definition
from ..models.errors import ModelError
from ..protocols.party import PartyId, Roster
from .errors import RecordError
from .model_card import provenance_of, read_card
from .signing import Signature, is_signed

DIGESTS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Participation:
    """One sum, or several alike, that a holder put its rows into.

    Attributes
    ----------
    holders : frozenset of str
        Who was to be in it.
    privacy : str or None
        The guarantee, as a card tells it; None if nothing was noised.
    """

    holders: frozenset[str]
    privacy: str | None


class Participations:
    """What a holder has put its rows into, for as long as its process lives."""

    def __init__(self) -> None:
        self._digests: dict[bytes, bytes] = {}  # of models, by what sessions call them
        self._known: dict[bytes, set[Participation]] = {}

    def note(self, session_name: bytes, model: Any, holders: Collection[str], n_holders: int) -> None:
        """Note that rows go into a sum.

        Parameters
        ----------
        session_name : bytes
            The hash by which sessions call the model.
        model : Model
        holders : collection of str
            Who is to be in the sum.
        n_holders : int
            Of all parties that are pinned: from whom a guarantee is told.
        """
        if session_name not in self._digests:
            self._digests[session_name] = model.definition.digest
            if len(self._digests) > DIGESTS_KEPT:
                del self._digests[next(iter(self._digests))]
        noised = getattr(model, "noised", None)
        privacy = None if noised is None else noised.described(n_holders)
        known = self._known.setdefault(self._digests[session_name], set())
        if len(self._known) > DIGESTS_KEPT:
            del self._known[next(iter(self._known))]
        known.add(Participation(frozenset(holders), privacy))

    def check(self, octets: bytes, signature: Signature, me: PartyId, roster: Roster) -> None:
        """Look at a card that is to be co-signed.

        Parameters
        ----------
        octets : bytes
            As it is signed.
        signature : Signature
            The coordinator's.
        me : PartyId
            Whose signature is asked for.
        roster : Roster
            The pinned identities.

        Raises
        ------
        RecordError
            With what speaks against it, in words that hold no value of this holder's.
        """
        if signature.key != roster[roster.coordinator].verify_key.hex() or not is_signed(signature, octets):
            raise RecordError("the coordinator has not signed the card")
        card = read_card(octets, "the card")
        told = card["provenance"]
        if any(told.get(name) != value for name, value in provenance_of(card["result"]).items()):
            raise RecordError("the card says something else of the model's origin than the model does")
        known = self._known.get(_digest_of(card["result"].get("definition")), set())
        if not known:
            raise RecordError("the card is of a model in which it took no part")
        holders = _names(told.get("roster"))
        if me not in holders or not holders <= set(roster.holders):
            raise RecordError("the card's roster is not of this holder and others that it knows")
        survivors = _names(told.get("survivors") or told.get("roster"))
        together = {one for one in known if survivors <= one.holders}
        if me not in survivors or not together:
            raise RecordError("the card has survivors with whom it was in no sum of the model")
        if told.get("privacy") not in {one.privacy for one in together}:
            raise RecordError("the card tells another privacy than the sums had")
        _check_signatories(card["release"]["signatories"], me, roster)


def _digest_of(definition: Any) -> bytes:
    try:
        return Definition(definition["kind"], definition["parameters"]).digest
    except (TypeError, KeyError, ModelError):
        raise RecordError("the card is of no model") from None


def _names(value: Any) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RecordError("the card does not say over which holders the model is")
    return set(value)


def _check_signatories(signatories: Mapping[str, str], me: PartyId, roster: Roster) -> None:
    pinned = {str(holder): roster[holder].verify_key.hex() for holder in roster.holders}
    if me not in signatories or not signatories.items() <= pinned.items():
        raise RecordError("the card names signatories other than holders with the keys that it knows")
