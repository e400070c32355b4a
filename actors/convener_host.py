"""The process of a convener."""

from __future__ import annotations

from .convener import Convener
from .dispatching_host import DispatchingHost


class ConvenerHost(DispatchingHost):
    """Runs the convener.

    Parameters
    ----------
    name : str
        Its name in the roster.
    """

    def __init__(self, name: str) -> None:
        self._convener = Convener(name)
        super().__init__([self._convener])

    async def commit(self) -> bytes:
        """Return what the coordinator is to pin in place of the holders."""
        return self._convener.commitment
