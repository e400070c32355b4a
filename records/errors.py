"""What can go wrong with what a party keeps."""

from __future__ import annotations

from ..serialization.errors import TacitError


class RecordError(TacitError):
    """A record cannot be written, found, or read back as it was written."""
