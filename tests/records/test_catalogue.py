"""What a log amounts to, even one that somebody wrote who should not have."""

from __future__ import annotations

from typing import Any

import pytest
from tacit.records.catalogue import Catalogue
from tacit.records.errors import RecordError
from tacit.records.transparency_log import Entry


def catalogue(*bodies: dict[str, Any]) -> Catalogue:
    return Catalogue([Entry(n, body, "", "", b"") for n, body in enumerate(bodies, 1)])


def version(number: int, needed: int = 0, **more: Any) -> dict[str, Any]:
    signed = {"by": "k", "signature": "s", "card": f"c{number}"}
    return {"kind": "version", "name": "risk", "version": number, "needed": needed, **signed, **more}


def co_signature(number: int, key: str, signature: str = "s", **more: Any) -> dict[str, Any]:
    signed = {"by": key, "signature": signature, "card": f"c{number}"}
    return {"kind": "co-signature", "name": "risk", "version": number, **signed, **more}


def test_the_newest_released_is_found_before_a_newer_pending_one() -> None:
    assert catalogue(version(1), version(2, 1)).find("risk").version == 1
    assert catalogue(version(1, 1), version(2, 1)).find("risk").version == 2


def test_who_signs_twice_counts_once() -> None:
    twice = catalogue(version(1, 2), co_signature(1, "a"), co_signature(1, "a", "other"))
    assert not twice.find("risk").released
    assert catalogue(version(1, 2), co_signature(1, "a"), co_signature(1, "b")).find("risk").released


def test_a_co_signature_of_another_card_does_not_count() -> None:
    assert not catalogue(version(1, 1), co_signature(1, "a", card="other")).find("risk").released


def test_the_first_of_two_versions_with_one_number_stays() -> None:
    assert catalogue(version(1), version(1, card="forged")).find("risk", 1).card == "c1"


def test_the_last_tag_of_a_name_holds() -> None:
    tags = [{"kind": "tag", "name": "risk", "tag": "best", "version": number} for number in (2, 1)]
    assert catalogue(version(1), version(2), *tags).find("risk", "best").version == 1
    with pytest.raises(RecordError, match="no version worst"):
        catalogue(version(1), *tags).find("risk", "worst")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "version"},
        {"kind": "version", "version": 1},
        {"kind": 3, "version": 1},
        co_signature(9, "a"),
    ],
)
def test_entries_of_no_known_form_change_nothing_else(body: dict[str, Any]) -> None:
    assert catalogue(body, version(1), body).versions("risk") == [1]
