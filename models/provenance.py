"""Under which protocol, over which holders, a result came about: what all fits have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Provenance:
    """How the sums behind a fit were computed; filled in by `with_provenance`.

    Attributes
    ----------
    warnings : tuple of str
        What the user must know; empty if all is well.
    protocol, digits, privacy, trust : str or None
        The protocol, how exact its sums are, what noise they have, and whom it trusts.
    holders, survivors : tuple of str
        Who was asked, and who is in the last sum.
    """

    warnings: tuple[str, ...] = ()
    protocol: str | None = None
    holders: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    digits: str | None = None
    privacy: str | None = None
    trust: str | None = None

    def with_provenance(
        self,
        *,
        protocol: str | None = None,
        holders: Sequence[str] = (),
        survivors: Sequence[str] = (),
        digits: str | None = None,
        privacy: str | None = None,
        trust: str | None = None,
        warnings: Sequence[str] = (),
    ) -> Self:
        """Return the same fit with how its sums were computed; `warnings` are added to those it has."""
        return replace(
            self,
            protocol=protocol,
            holders=tuple(holders),
            survivors=tuple(survivors),
            digits=digits,
            privacy=privacy,
            trust=trust,
            warnings=(*self.warnings, *warnings),
        )
