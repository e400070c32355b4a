"""Clocks of other parties: told where they differ by more than a minute, once."""

from __future__ import annotations

import logging

import pytest
from tacit.actors.clocks import Clocks, told
from tacit.protocols.party import PartyId

NORTH, EAST, SOUTH = map(PartyId, ("north", "east", "south"))


def test_clocks_that_differ_by_more_than_a_minute_are_told() -> None:
    clocks = Clocks()
    for name, ahead in ((NORTH, 3600), (EAST, -61), (SOUTH, 60)):
        clocks.note(name, ahead)
    assert clocks.ahead == {NORTH: 3600, EAST: -61}
    assert told(clocks.ahead) == (
        "this machine's clock is 3600 s behind that of north, 61 s ahead of that of east: have all clocks set by NTP, "
        "as certificates, tokens and the times in ledgers go by them"
    )


def test_clock_that_is_set_right_is_told_no_longer() -> None:
    clocks = Clocks()
    clocks.note(NORTH, 3600)
    clocks.note(NORTH, -60)
    assert told(clocks.ahead) == ""


def test_clock_is_logged_when_it_begins_to_differ(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    with caplog.at_level(logging.WARNING):
        for ahead in (3600, 3601, 0, -3600):
            clocks.note(NORTH, ahead)
    assert [told({NORTH: ahead}) for ahead in (3600, -3600)] == caplog.messages
