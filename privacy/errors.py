"""What can go wrong with a guarantee of differential privacy."""

from __future__ import annotations

from ..serialization.errors import TacitError


class PrivacyError(TacitError):
    """The guarantee cannot be given as it is asked for; nothing was released."""
