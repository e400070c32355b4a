"""What never leaves its process: keys, masks and contributions that are not protected yet, and what they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, SupportsIndex, TypeAlias

from .errors import MisuseError

RandomBytes: TypeAlias = Callable[[int], bytes]  # the operating system's, except in a simulation


class Secret:
    """Base of what is *never sent*: shown without its contents, neither pickled nor copied.

    Secrets are no messages either, so the codec cannot send them. Python cannot erase them from memory.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: secret>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # Pickle, copy and deepcopy all come here.
        raise MisuseError(
            f"a {type(self).__name__} is never sent, stored or copied: keep it where it was made"
        )
