"""What a party's ledger says of one session, gathered from the invitation to the end.

The same facts at every party, so that their chains can be laid beside each other: what a party is not told it leaves
out, as None. A party that keeps no ledger has accounts that nobody reads.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..models.registry import kind_of
from ..privacy.noised_sum import NoisedSum
from ..protocols.convening_steps import options_of
from ..protocols.errors import RefusedError, SetupError
from ..protocols.invitation import roster_of
from ..protocols.party import PartyId
from ..protocols.session import abort_reason
from ..serialization.codec import digest
from ..serialization.convening_messages import Commission, Commissioned
from ..serialization.schema import Message
from ..serialization.session_messages import ArraySpecification, Invitation
from .errors import RecordError
from .ledger import Ledger, Outcome

NOT_IN_IT = "nothing of it was asked for"

logger = logging.getLogger(__name__)


class Account:
    """One session in a party's ledger.

    Parameters
    ----------
    ledger : Ledger or None
        None if this party keeps none.
    invitation : Invitation
        By which the session was opened with this party.

    Attributes
    ----------
    refusal : str
        Why this party declined, of the fixed list; empty if it did not.
    """

    def __init__(self, ledger: Ledger | None, invitation: Invitation) -> None:
        self.refusal = ""
        self._ledger = ledger
        self._session = invitation.session
        self._facts: dict[str, Any] = {}
        self._intended: set[PartyId] | None = None
        self._bytes_sent = 0
        self.read(invitation)

    def read(self, invitation: Invitation) -> None:
        """Take over what an invitation says; the convener's, which names the holders, comes after the asker's."""
        if self._ledger is not None:
            self._facts |= facts_of(invitation)

    def learn(self, **facts: Any) -> None:
        """Note what else has become known."""
        self._facts |= facts

    def learn_model(self, model: Any, n_holders: int) -> None:
        """Note what is asked: the kind of a model is what its class is, and what its noise costs of privacy."""
        if self._ledger is not None:
            noised = getattr(model, "noised", None)
            self.learn(
                model={"kind": kind_of(model), "digest": model.definition.digest.hex()},
                privacy=None if noised is None else charge_of(noised, n_holders),
            )

    def learn_arrays(self, arrays: Sequence[ArraySpecification]) -> None:
        """Note what is released, without a value of it."""
        shapes = [{"name": each.name, "dtype": each.dtype, "shape": list(each.shape)} for each in arrays]
        self.learn(arrays=shapes)

    def count(self, octets: int) -> None:
        """Count what was sent."""
        self._bytes_sent += octets

    def check(self) -> None:
        """See whether the ledger can be written.

        Raises
        ------
        RecordError
            If not: **take no part**.
        """
        if self._ledger is not None:
            self._ledger.check()

    def intend(self, holders: Collection[PartyId]) -> None:
        """Write, before anything leaves, that this is about to be in a sum over these holders.

        On a second call, before it helps further, these are known to be in it: they are on record as ``agreed``. Who
        sends its words and is not told of a sum with them, being late, has none on record.

        Raises
        ------
        RecordError
            If it cannot be written: **nothing may leave**.
        """
        if self._intended is not None:
            self.learn(agreed=list(holders))
        if self._ledger is not None and set(holders) != self._intended:
            self._ledger.intend(self._session, {**self._facts, "over": list(holders)})
            self._intended, self._facts = set(holders), {}

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """Write how it has ended; what cannot be written now is owed, and keeps the party from the next session."""
        if self._ledger is None:
            return
        if self.refusal:
            outcome, reason = "refused", self.refusal
        elif outcome == "released" and self._intended is None:
            outcome, reason = "ended", NOT_IN_IT
        told = {"reason": reason, "bytes_sent": self._bytes_sent}
        try:
            self._ledger.conclude(self._session, outcome, {**self._facts, **told})
        except RecordError as error:
            logger.error("how a session ended is not on record yet: %s", error)


@contextlib.contextmanager
def asked(
    ledger: Ledger | None, invitation: Invitation, model: Any, holders: Sequence[PartyId]
) -> Iterator[Account]:
    """Keep the account of a session at the coordinator, who opens it within.

    What is released, `learn_arrays` is told, and `learn` over whom, as ``survivors``.

    Parameters
    ----------
    ledger : Ledger or None
    invitation : Invitation
        Its own, not sent yet.
    model : Model
    holders : sequence of PartyId
        Whom it invites; none if it does not know them.

    Raises
    ------
    RecordError
        If the ledger cannot be written: nothing is asked.
    """
    account = Account(ledger, invitation)
    account.learn_model(model, len(holders))
    account.intend(holders)
    try:
        yield account
    except RefusedError as refused:
        account.learn(refusals={party: reason for party, (reason, _) in refused.refusals.items()})
        account.end("refused", "; ".join(sorted({reason for reason, _ in refused.refusals.values()})))
        raise
    except BaseException as error:
        account.end("ended", abort_reason(error) if isinstance(error, Exception) else "cancelled")
        raise
    account.end("released")


def facts_of(invitation: Invitation) -> dict[str, Any]:
    """Return what an invitation says, as JSON-able data: of arrays their form and their hash."""
    return {
        "definition": invitation.definition.hex(),
        "step": invitation.query.step,
        "query": digest(invitation.query).hex(),
        "protocol": _protocol_of(invitation.protocol),
        "encoding": None if invitation.encoding is None else described(invitation.encoding),
        **_parties_of(invitation),
    }


def _protocol_of(options: Message) -> dict[str, Any] | None:
    try:
        return described(options_of(options) if isinstance(options, Commission | Commissioned) else options)
    except SetupError:  # there are none: refused
        return None


def _parties_of(invitation: Invitation) -> dict[str, Any]:
    try:
        roster = roster_of(invitation)
    except SetupError:  # no roster: refused
        return {}
    known = {"to": roster.asker or roster.coordinator, "adders": list(roster.adders)}
    if isinstance(invitation.protocol, Commission):  # one who asks through a convener knows no holders
        return known
    return {
        **known,
        "roster": {
            "digest": roster.digest.hex(),
            "parties": {party.name: party.kind for party in roster.parties},
        },
    }


def described(options: Message) -> dict[str, Any]:
    """Return a message of plain fields and of such messages, a protocol's options for instance, as JSON-able data."""
    fields = ((field.name, getattr(options, field.name)) for field in options.message_fields)
    told = {
        name: described(value) if isinstance(value, Message) else value
        for name, value in fields
        if isinstance(value, str | int | float | tuple | Mapping | Message | None)
    }
    return {"name": options.message_name.removesuffix("Options"), **told}


def charge_of(noised: NoisedSum, n_holders: int) -> Mapping[str, Any]:
    """Return what a release costs of privacy."""
    return {**asdict(noised.charge(n_holders)), "delta": noised.privacy.delta, "unit": noised.privacy.unit}
