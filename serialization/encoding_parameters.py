"""How numbers become the integers that are summed: the user's options, and part of every invitation.

All of these are public. They hold no data, travel in the clear inside an invitation, and are bound into it,
so that every holder encodes onto the same grid whatever the protocol.

What a grid depends on (bound, fraction bits, clip) is given once for all float arrays, or by the name of the
array. It is kept, and travels, as a mapping by name, in which `EVERY_ARRAY` stands for those that are not named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from numbers import Real
from typing import Annotated, Any, TypeAlias, TypeVar

from .errors import EncodeError
from .field_types import Between
from .schema import Message, message

T = TypeVar("T")

EVERY_ARRAY = ""

DEFAULT_FRACTION_BITS = 32
MAX_FRACTION_BITS = 1074  # the unit of the doubles themselves
CLIPS = (2.0**-900, 2.0**900)  # so that clip, step and scale are far from the ends of the doubles


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
    """Floats of declared size on one declared grid, a word of at most 64 bits each: fast, for long vectors.

    Every value must satisfy |value| ≤ bound (otherwise the holder refuses; nothing is clipped or wrapped) and
    is rounded to the nearest multiple of 2^-fraction_bits, ties to even. The sum of the rounded values is
    exact. Among n holders n · round(bound · 2^fraction_bits) ≤ 2^63 − 1 is proven before anything is sent;
    where it is at most 2^31 − 1, pairwise masks take words of 32 bits.

    Parameters
    ----------
    bound : float or mapping of str to float
        Largest magnitude a value may have: in any array, or in the array of that name.
    fraction_bits : int or mapping of str to int, default 32
        The default resolves 2^-32 = 2.3e-10 and leaves 2^31 = 2.1e9 for the number of holders times the
        bound. It does not follow from the number of holders, because then the grid, and with it the bits of
        the result, would change with the roster.

    Raises
    ------
    EncodeError
        The two do not describe grids that fit a word.

    Examples
    --------
    >>> FixedPoint(10.0)
    FixedPoint(bound=10.0, fraction_bits=32)
    >>> FixedPoint({"weights": 1.0, "bias": 100.0}, fraction_bits={"weights": 40, "bias": 20}).grid("bias")
    (100.0, 20)
    """

    bound: Mapping[str, float]
    fraction_bits: Mapping[str, int]

    def __init__(
        self,
        bound: float | Mapping[str, float],
        fraction_bits: int | Mapping[str, int] = DEFAULT_FRACTION_BITS,
    ) -> None:
        # Users write FixedPoint(1000), and numpy's scalars; only a true float may travel.
        object.__setattr__(self, "bound", _floats_by_name(bound))
        object.__setattr__(self, "fraction_bits", _by_name(fraction_bits))
        self.__post_init__()

    def __post_init__(self) -> None:
        named = {*self.bound, *self.fraction_bits} - {EVERY_ARRAY}
        for name in sorted(named | {EVERY_ARRAY}):
            grid = self.grid(name)
            if grid is not None:
                _check_grid(*grid, name)
            elif name in named or not named:
                missing = "bound" if _for_array(self.bound, name) is None else "fraction_bits"
                raise EncodeError(f"FixedPoint has no {missing} {_for(name)}: name the same arrays in both")

    def grid(self, name: str) -> tuple[float, int] | None:
        """Bound and fraction bits of the array of this name; None if it has none."""
        bound, fraction_bits = _for_array(self.bound, name), _for_array(self.fraction_bits, name)
        return None if bound is None or fraction_bits is None else (bound, fraction_bits)

    def __repr__(self) -> str:
        return f"FixedPoint(bound={_shown(self.bound)}, fraction_bits={_shown(self.fraction_bits)})"


@message("FixedPointMean", version=1)
class FixedPointMean(Message):
    """Weighted means on the grid of a `FixedPoint`: no total exceeds the bound, however many holders there are.

    Holders contribute values within the bound times weights that together are at most 1. So a word needs room for
    one value at the bound, not for one of every holder: bounds up to 2^(30 − fraction_bits) go in words of 32 bits
    under pairwise masks and additive shares. **That the weights are at most 1 is for whoever asks to check**, by
    their sum: up to 1.9 a total is right or, beyond the bound, refused; with still more it may be wrong.

    Parameters
    ----------
    grid : FixedPoint

    Examples
    --------
    >>> FixedPointMean(FixedPoint(8.0, fraction_bits=27))
    FixedPointMean(FixedPoint(bound=8.0, fraction_bits=27))
    """

    grid: FixedPoint

    def __repr__(self) -> str:
        return f"FixedPointMean({self.grid!r})"


@message("AutoRange", version=1)
class AutoRange(Message):
    """`FixedPoint` with bounds that nobody has to know: a secure maximum over exponents comes first.

    It takes a sum of its own. The coordinator learns, for each array, the power of two that no value of any holder
    exceeds, and not whose values come near it; the grid is 2^-42 of that bound. **Only for protocols that sum words
    modulo 2^64**: pairwise masking and additive sharing. Bounds from 2^-64 to 2^42.
    """


@message("Quantized", version=1)
class Quantized(Message):
    """Floats clipped and rounded at random, without bias, to few levels: for gradients.

    A value beyond ±clip counts as ±clip; how many were is summed in secret with the array, and only the total
    is told. The levels are the 2^bits − 1 multiples of clip / (2^(bits−1) − 1) within ±clip, zero among them. A
    value between two levels goes to either, with the probabilities that make the level its expectation, so the
    errors of many holders average out.

    Parameters
    ----------
    bits : int
        From 2 (three levels) to 31.
    clip : float or mapping of str to float
        Largest magnitude that is kept: in any array, or in the array of that name.

    Raises
    ------
    EncodeError
        The two do not describe a grid.

    Notes
    -----
    The expectation is exact but for 2^-33 of a step and 2^-53 of the value itself, half a last place of a double.
    """

    bits: Annotated[int, Between(2, 31)]
    clip: Mapping[str, float]

    def __init__(self, bits: int, clip: float | Mapping[str, float]) -> None:
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "clip", _floats_by_name(clip))
        self.__post_init__()

    def __post_init__(self) -> None:
        if not self.clip:
            raise EncodeError("Quantized has a clip for no array: declare one")
        for name, clip in self.clip.items():
            if not CLIPS[0] <= clip <= CLIPS[1]:
                raise EncodeError(f"Quantized clip {clip!r} {_for(name)}: declare one from 2^-900 to 2^900")

    def clip_of(self, name: str) -> float | None:
        """Clip of the array of this name; None if it has none."""
        return _for_array(self.clip, name)

    def __repr__(self) -> str:
        return f"Quantized(bits={self.bits}, clip={_shown(self.clip)})"


EncodingParameters: TypeAlias = AutoRange | ExactFloat | FixedPoint | FixedPointMean | Integers | Quantized


def _check_grid(bound: float, fraction_bits: int, name: str) -> None:
    """Refuse bound and fraction bits that describe no grid, or none that fits a word."""
    if not 0 < bound < math.inf:
        raise EncodeError(f"FixedPoint bound {bound!r} {_for(name)}: declare a positive, finite bound")
    if not 0 <= fraction_bits <= MAX_FRACTION_BITS:
        raise EncodeError(
            f"FixedPoint fraction_bits {fraction_bits} {_for(name)}: choose 0 to {MAX_FRACTION_BITS}"
        )
    units = round(Fraction(bound) * (1 << fraction_bits))
    if not 1 <= units <= 2**63 - 1:
        remedy = "more" if units < 1 else "fewer"
        raise EncodeError(
            f"a FixedPoint bound of {bound!r} {_for(name)} is {units} units of 2^-{fraction_bits}, "
            f"outside 1 to 2^63 - 1: choose {remedy} fraction bits, another bound, or ExactFloat()"
        )


def _by_name(value: Any) -> Any:
    """Take one value for the mapping that holds for every array."""
    return value if isinstance(value, Mapping) else {EVERY_ARRAY: value}


def _floats_by_name(value: Any) -> dict[str, Any]:
    """Take one real number, or several by name, for the floats they are meant as."""
    return {name: _as_float(number) for name, number in _by_name(value).items()}


def _as_float(number: Any) -> Any:
    """Take any real number for the float it is meant as; leave anything else to the schema's check."""
    if not isinstance(number, Real) or isinstance(number, bool):
        return number
    try:
        return float(number)
    except OverflowError:
        raise EncodeError("a bound or clip lies beyond the doubles: declare a smaller one") from None


def _for_array(values: Mapping[str, T], name: str) -> T | None:
    """Return what is given for the array of this name, or else for every array."""
    return values.get(name, values.get(EVERY_ARRAY))


def _for(name: str) -> str:
    return "for every array" if name == EVERY_ARRAY else f"for array {name!r}"


def _shown(values: Mapping[str, Any]) -> str:
    """Show values as a user gives them."""
    return repr(values[EVERY_ARRAY] if [*values] == [EVERY_ARRAY] else dict(values))
