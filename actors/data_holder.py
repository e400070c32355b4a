"""A data holder: rows that stay here, and the decision whether to take part.

The order of things: policy, contribution, budget and noise where privacy is asked for, encoding, and only then a word
to the coordinator. In a simulation all rows are the user's own, so a refusal carries the traceback of his function, or
the numbers that a rule of the policy goes by; in a deployment nothing but a reason of a fixed list leaves, and the
details stay in this party's log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from ..models.registry import columns_read_by
from ..models.total import Arrays, contribute
from ..privacy.errors import PrivacyError
from ..privacy.noised_sum import NoisedSum
from ..protocols.channel import Role
from ..protocols.errors import ProtocolError
from ..protocols.invitation import (
    ALREADY_RELEASED,
    BUDGET_OUT_OF_ORDER,
    CONTRIBUTION_FAILED,
    NOT_ALLOWED,
    QUERIES_SPENT,
    Declined,
    Prepared,
    prepare,
    roster_of,
)
from ..protocols.key_agreement import Identity, SessionKeys
from ..protocols.party import PartyId, Roster
from ..protocols.protocol import Protocol, accepted_by_holder, holder_role
from ..protocols.session import Accepted
from ..records.budget import Budget
from ..records.co_signing import Participations
from ..records.errors import PolicyError, RecordError
from ..records.ledger import Ledger
from ..records.policy import Policy
from ..records.release_memory import query_of
from ..records.signing import PartySigner, Signature
from ..serialization.session_messages import Invitation
from .participant import Participant, records_in_order

DETAILS_AT_MOST = 20_000
MODELS_KEPT = 1_000  # the latest; each holds what its functions refer to

logger = logging.getLogger(__name__)

PACKAGE = __name__.partition(".")[0] + "."


class DataHolder(Participant):
    """One holder of rows.

    Parameters
    ----------
    name : str
        Its name in the roster.
    data : Any
        Its rows, as the models expect them; they never leave.
    simulation : bool
        Whether the rows are the user's own: then errors are shown to him, and he may install models.
    policy : Policy, optional
        What it insists on; by default nothing.
    identity : Identity, optional
        As of `Party`.
    ledger : Ledger, optional
        As of `Participant`.
    releases : path, optional
        The file in which it remembers what it has released; by default it remembers as long as the process lives.
    """

    kind = "holder"

    def __init__(
        self,
        name: str,
        data: Any,
        *,
        simulation: bool,
        policy: Policy | None = None,
        identity: Identity | None = None,
        ledger: Ledger | None = None,
        releases: str | os.PathLike[str] | None = None,
    ) -> None:
        self._policy = policy or Policy()
        super().__init__(name, identity, ledger=ledger, limits=self._policy.limits(releases))
        self._data = self._policy.visible(data)
        self._simulation = simulation
        self._approvals = self._policy.approvals(name)
        self._models: dict[bytes, Any] = {}
        self._installed: Counter[bytes] = Counter()  # for how many computations that are not over
        self._charged: Counter[bytes] = Counter()  # rounds of each model
        self._participations = Participations()

    def take_rows(self, data: Any) -> None:
        """Hold other rows from now on."""
        self._data = self._policy.visible(data)

    async def install(self, definition: bytes, model: Any) -> None:
        """Hold a model ready under its content hash; in a simulation only.

        Raises
        ------
        ProtocolError
            In a deployment, where models come from this side.
        """
        if not self._simulation:
            raise ProtocolError("a holder in a deployment takes no model from outside: install it there")
        self._installed[definition] += 1
        self.hold_ready(definition, model)

    def let_go(self, definition: bytes) -> None:
        """Hold a model that was installed no longer, once all computations for which it was are over."""
        self._installed[definition] -= 1
        if self._installed[definition] <= 0:
            del self._installed[definition]
            self._models.pop(definition, None)

    def hold_ready(self, definition: bytes, model: Any) -> None:
        """Hold a model ready that this side has made, or takes from the user who owns all rows."""
        self._models.pop(definition, None)
        self._models[definition] = model
        while len(self._models) > MODELS_KEPT:
            del self._models[next(iter(self._models))]

    def co_sign(self, card: bytes, signature: Signature) -> Signature:
        """Sign the card of a model that this holder took part in and the coordinator has signed, after a look at it.

        Raises
        ------
        RecordError
            With what speaks against it.
        """
        self._participations.check(card, signature, self.name, self.roster)
        return PartySigner(self.identity).sign(card)

    # The role

    def _role(self, protocol: Protocol[Any], keys: SessionKeys, memory: Any) -> Role[bool]:
        def examine(shown: Invitation) -> Prepared:
            return self._examine(shown, protocol)

        return holder_role(protocol, keys, self._accounting(examine), memory, self._release)

    def _note_release(self, invitation: Invitation, holders: Collection[PartyId]) -> None:
        """Note a release: under an approval, and for models that are to be co-signed, too."""
        model = self._models.get(invitation.definition)
        if model is not None and self._approvals is not None:
            self._approvals.use(model.definition.digest, invitation.session, query_of(invitation))
        super()._note_release(invitation, holders)
        if model is not None:
            self._participations.note(invitation.definition, model, holders, len(self.roster.holders))

    def _columns_of(self, invitation: Invitation) -> frozenset[str] | None:
        model = self._models.get(invitation.definition)
        return None if model is None else columns_read_by(model)

    def _accepts(self, protocol: Protocol[Any], roster: Roster) -> Accepted:
        return accepted_by_holder(protocol, roster, self.name)

    def _tells(self, roster: Roster) -> tuple[PartyId, ...]:
        return (roster.coordinator, *roster.aggregators)

    # The decision and the contribution, off the loop

    def _examine(self, invitation: Invitation, protocol: Protocol[Any]) -> Prepared:
        """Check what is asked, compute the contribution, and encode it.

        Raises
        ------
        Declined
            If this holder does not take part; in a deployment without any details.
        """
        try:
            return self._prepared(invitation, protocol)
        except Declined as declined:
            if self._simulation:
                raise
            logger.warning("declined: %s", " - ".join(filter(None, (declined.reason, declined.details))))
            raise Declined(declined.reason) from None

    def _prepared(self, invitation: Invitation, protocol: Protocol[Any]) -> Prepared:
        model = self._models.get(invitation.definition)
        if model is None:
            raise Declined(NOT_ALLOWED, "the model is not installed here")
        roster = roster_of(invitation)
        n_holders = len(roster.holders)
        with _ruled():
            noised = self._policy.check(model, self._data, protocol=protocol, n_holders=n_holders)
            if self._approvals is not None:
                with records_in_order():
                    self._approvals.check(model, roster.asker or roster.coordinator, query_of(invitation))
        if self.release_memory.is_full:
            raise Declined(QUERIES_SPENT)
        dispensable = protocol.dispensable(n_holders)
        if not self.release_memory.allows(invitation, dispensable=dispensable, noised=noised is not None):
            raise Declined(ALREADY_RELEASED)
        account = self._accounts[invitation.session]
        account.learn_model(model, n_holders)
        try:
            arrays = contribute(model, self._data, invitation.query)
            with _ruled():
                self._policy.check_size(model, arrays, self._data)
            if noised is not None:
                arrays = self._noised(noised, arrays, invitation)
        except Declined:
            raise
        except BaseException as error:  # noqa: BLE001 - a SystemExit in a model must not end this process
            raise self._failure(error) from None
        void = invitation.query.may_fail or not self._simulation
        needed = max(self._policy.minimum_holders, 0 if noised is None else noised.needed(n_holders))
        prepared = prepare(
            arrays, invitation.encoding, protocol.contributions(n_holders), void=void, needed=needed
        )
        account.learn_arrays(prepared.specifications)
        return prepared

    def _noised(self, noised: NoisedSum, arrays: Arrays, invitation: Invitation) -> Arrays:
        """Add this holder's share of the noise to a model's one release, once it is charged.

        Raises
        ------
        PrivacyError
            If the model would release anything else.
        Declined
            If the budget has too little left, is kept for others, or cannot be charged.
        """
        if arrays.keys() != {"noised"}:
            raise PrivacyError(f"under privacy a model releases one noised vector, not {sorted(arrays)}")
        n_holders = len(roster_of(invitation).holders)
        expected = noised.encoding(n_holders)
        if invitation.encoding != expected:  # any other would tell of single holders' shares
            raise Declined(
                NOT_ALLOWED, "under privacy the encoding follows from the guarantee, and this is another"
            )
        share = noised.add_noise(arrays["noised"], n_holders, os.urandom)
        with _ruled():  # nothing has left yet
            budget = self._policy.budget(self.name)
            if budget is not None:
                self._charge(budget, noised, n_holders, invitation)
        return {"noised": share}

    def _charge(self, budget: Budget, noised: NoisedSum, n_holders: int, invitation: Invitation) -> None:
        """Charge one round; before the first of a fit, see whether there is room for all."""
        n_charged = self._charged[invitation.definition]
        if n_charged % noised.rounds == 0:
            budget.check(noised.privacy, noised.charge(n_holders, noised.rounds))
        budget.charge(noised.privacy, noised.charge(n_holders), invitation.session.hex())
        self._charged[invitation.definition] = n_charged + 1

    def _failure(self, error: BaseException) -> Declined:
        """Return what crosses of an exception in the contribution: in a deployment, that there was one."""
        if not self._simulation:
            logger.error("the contribution failed at this holder", exc_info=error)
            return Declined(CONTRIBUTION_FAILED)
        return Declined(CONTRIBUTION_FAILED, own_traceback(error))


@contextlib.contextmanager
def _ruled() -> Iterator[None]:
    """Turn what is against the policy into a refusal that names the rule."""
    try:
        yield
    except PolicyError as error:
        raise Declined(error.reason, str(error)) from None
    except RecordError as error:
        raise Declined(BUDGET_OUT_OF_ORDER, str(error)) from None


def own_traceback(error: BaseException) -> str:
    """Return the traceback of the user's own code: frames of this package are left out."""
    walked = zip(
        traceback.walk_tb(error.__traceback__), traceback.extract_tb(error.__traceback__), strict=True
    )
    frames = [
        summary
        for (frame, _), summary in walked
        if not str(frame.f_globals.get("__name__", "")).startswith(PACKAGE)
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    text = "".join([*lines, *traceback.format_exception_only(error)])[-DETAILS_AT_MOST:].rstrip()
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate cannot be sent
