"""The process of an aggregator."""

from __future__ import annotations

from .aggregator import Aggregator
from .watching_host import WatchingHost


class AggregatorHost(WatchingHost):
    """Runs one aggregator, which nobody else tells who is lost.

    Parameters
    ----------
    name : str
        Its name in the roster.
    """

    def __init__(self, name: str) -> None:
        super().__init__([Aggregator(name)])
