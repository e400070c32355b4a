"""What secret sharing alone promises under the faults of test_schedules: wrong messages are traced."""

from __future__ import annotations

import pytest
from schedules import OPENING, SHARING, error_of, is_done, kind_of
from tacit.protocols.errors import InvalidMessageError
from tacit.protocols.session import Failed
from tacit.serialization.secret_sharing_messages import SummedShares


@pytest.mark.parametrize(("index", "number"), SHARING.field_changes(without=OPENING))
def test_one_field_of_one_message_is_altered(index: int, number: int) -> None:
    sent, run = SHARING.alter(index, number)
    kind = kind_of(sent)
    failed = {party: error_of(run, party) for party, end in run.outcomes.items() if isinstance(end, Failed)}
    if sent.sender == "k":
        # Three of four share holders have got the true one; their answers are enough, if the fourth's is none.
        answered = {other.sender for other in run.sent if isinstance(other.message, SummedShares)}
        assert is_done(run) or (kind == "IncludedShares" and sent.recipient in answered)
    elif kind == "SharedInput" and is_done(run):
        # What was changed is the share of one share holder, which cannot open it.
        [found] = failed.values()
        assert isinstance(found, InvalidMessageError)
        assert set(found.suspects) == {sent.sender, "k"}
    else:
        found = failed["k"]  # type: ignore[index]
        assert isinstance(found, InvalidMessageError)
        assert sent.sender in {*found.culprits, *found.suspects}
