"""How numbers become the integers that are summed: the user's options, and part of every invitation.

All of these are public. They hold no data, travel in the clear inside an invitation, and are bound into it,
so that every holder encodes onto the same grid whatever the protocol.
"""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real

from .errors import EncodeError
from .schema import Message, message

DEFAULT_FRACTION_BITS = 32
MAX_FRACTION_BITS = 1074  # the unit of the doubles themselves


@message("Integers", version=1)
class Integers(Message):
    """Only arrays of integers are summed; an array of floats is refused."""


@message("ExactFloat", version=1)
class ExactFloat(Message):
    """Sums of floats, exact and rounded once: the correctly rounded sum, the same bits under every protocol.

    The price is 34 words a value (5 for float32). **The low-order bits of an exact sum fingerprint the holder
    with the finest ulps**: where that matters, declare a grid with `FixedPoint`.
    """


@message("FixedPoint", version=1)
class FixedPoint(Message):
    """Floats of declared size on one declared grid, a word of 64 bits each: fast, for long vectors.

    Every value must satisfy |value| ≤ bound (otherwise the holder refuses; nothing is clipped or wrapped) and
    is rounded to the nearest multiple of 2^-fraction_bits, ties to even. The sum of the rounded values is
    exact. Among n holders n · round(bound · 2^fraction_bits) ≤ 2^63 − 1 is proven before anything is sent.

    Parameters
    ----------
    bound : float
        Largest magnitude a value may have.
    fraction_bits : int, default 32
        The default resolves 2^-32 = 2.3e-10 and leaves 2^31 = 2.1e9 for the number of holders times the
        bound. It does not follow from the number of holders, because then the grid, and with it the bits of
        the result, would change with the roster.

    Raises
    ------
    EncodeError
        The two do not describe a grid that fits a word.
    """

    bound: float
    fraction_bits: int

    def __init__(self, bound: float, fraction_bits: int = DEFAULT_FRACTION_BITS) -> None:
        # Users write FixedPoint(1000), and numpy's scalars; only a true float may travel.
        object.__setattr__(self, "bound", _as_float(bound))
        object.__setattr__(self, "fraction_bits", fraction_bits)
        self.__post_init__()

    def __post_init__(self) -> None:
        if not 0 < self.bound < math.inf:
            raise EncodeError(f"FixedPoint bound {self.bound!r}: declare a positive, finite bound")
        if not 0 <= self.fraction_bits <= MAX_FRACTION_BITS:
            raise EncodeError(
                f"FixedPoint fraction_bits {self.fraction_bits}: choose 0 to {MAX_FRACTION_BITS}"
            )
        units = round(Fraction(self.bound) * (1 << self.fraction_bits))
        if not 1 <= units <= 2**63 - 1:
            remedy = "more" if units < 1 else "fewer"
            raise EncodeError(
                f"a FixedPoint bound of {self.bound!r} is {units} units of 2^-{self.fraction_bits}, "
                f"outside 1 to 2^63 - 1: choose {remedy} fraction bits, another bound, or ExactFloat()"
            )

    def __repr__(self) -> str:
        return f"FixedPoint(bound={self.bound!r}, fraction_bits={self.fraction_bits})"


def _as_float(bound: float) -> float:
    """Take any real number for the float it is meant as; leave anything else to the schema's check."""
    if not isinstance(bound, Real) or isinstance(bound, bool):
        return bound
    try:
        return float(bound)
    except OverflowError:
        raise EncodeError("the FixedPoint bound lies beyond the doubles: declare a smaller one") from None
