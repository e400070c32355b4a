"""The guarantee that a user asks for: `Privacy`, part of a model's public definition.

Who is protected against whom: whoever sees all released numbers, the coordinator and `known` holders' noise included,
cannot tell, but for ε and δ, whether any one unit was among the rows, whatever else is known of all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

from ..serialization.encoding_parameters import CLIPS
from .accounting import Charge, multiplier_for
from .clipping import Adjacency, sensitivity
from .errors import PrivacyError
from .noise_plan import NoisePlan

Unit: TypeAlias = Literal["record", "person", "holder"]

LARGEST_EPSILON = 1000.0


@dataclass(frozen=True, slots=True)
class Privacy:
    """(ε, δ)-differential privacy of everything that a fit or a sum releases.

    Parameters
    ----------
    epsilon : float
        The whole loss, over all rounds; at most 1000.
    delta : float
        Probability with which it may be larger: far below one over the number of units.
    clip : float
        Euclidean length that one unit's contribution to a released sum is clipped to.
    unit : {"record", "person", "holder"}
        What is hidden: a row, all rows of a person, or all rows of a holder. A record or person is protected
        where its one contribution to each round is clipped: one gradient step a round.
    person : str, optional
        Column that says whose row it is; with the unit "person", and only then. No person may be at two holders.
    adjacency : {"add-or-remove", "replace-one"}
        Whether data without the unit must look the same (a holder's unit: with zeros in its place), or data with
        another unit instead, which takes twice the noise.
    dropouts : int
        Holders that may be lost while the noise still suffices.
    known : int
        Parties whose noise the adversary knows. Every holder knows its own: 1 where holders see the result, or as
        many as may pool what they know.
    sampling : float
        Probability with which a unit takes part in a round, drawn in secret at its holder; 1 is all of them.

    Raises
    ------
    PrivacyError
        These do not make a guarantee.

    Examples
    --------
    >>> Privacy(1, 1e-5, clip=1.0).unit
    'record'
    """

    epsilon: float
    delta: float
    _: KW_ONLY
    clip: float
    unit: Unit = "record"
    person: str | None = None
    adjacency: Adjacency = "add-or-remove"
    dropouts: int = 0
    known: int = 1
    sampling: float = 1.0

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, choices in (("unit", get_args(Unit)), ("adjacency", get_args(Adjacency))):
            if getattr(self, name) not in choices:
                raise PrivacyError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(choices)}")
        self._check_combination()

    def noise_plan(self, *, n_holders: int, dimension: int, fraction_bits: int, rounds: int) -> NoisePlan:
        """Return the noise of every round, so that all rounds together keep ε and δ.

        Parameters
        ----------
        n_holders : int
            Of the roster.
        dimension : int
            Numbers in the vector that a round releases, all that it releases.
        fraction_bits : int
            The grid is the multiples of 2^-fraction_bits.
        rounds : int

        Raises
        ------
        PrivacyError
            It cannot be done with these numbers.
        """
        return NoisePlan(
            multiplier=multiplier_for(self.epsilon, self.delta, rounds=rounds, sampling=self.sampling),
            sensitivity=sensitivity(self.clip, dimension, fraction_bits, self.adjacency),
            dimension=dimension,
            n_holders=n_holders,
            dropouts=self.dropouts,
            known=self.known,
        )

    def charge(self, plan: NoisePlan, rounds: int = 1) -> Charge:
        """Return what rounds of a plan cost, for a holder's budget."""
        return Charge(noise_multiplier=plan.guaranteed_multiplier, rounds=rounds, sampling=self.sampling)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a definition or a card; `from_dict` makes the same guarantee of it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Privacy:
        """Restore a guarantee from `to_dict`, with all checks.

        Raises
        ------
        PrivacyError
            The content is none of `to_dict`.
        """
        if set(content) != {field.name for field in fields(cls)}:
            raise PrivacyError(
                "this is no guarantee as Privacy.to_dict writes it: another version of tacit may have"
            )
        return cls(**content)

    def _check_numbers(self) -> None:
        self._set_float("epsilon", 0.0, LARGEST_EPSILON, "a positive loss, as a rule from 0.1 to 10")
        self._set_float("delta", 0.0, math.nextafter(1.0, 0.0), "a probability far below 1 / number of units")
        self._set_float("clip", CLIPS[0], CLIPS[1], "the length a contribution is clipped to")
        self._set_float("sampling", 0.0, 1.0, "a probability above 0 and up to 1")
        for name in ("dropouts", "known"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
                raise PrivacyError(f"{name} {value!r}: give a number of holders, 0 or more")
            object.__setattr__(self, name, int(value))

    def _set_float(self, name: str, above: float, at_most: float, meaning: str) -> None:
        """Take any real number, numpy's too, for the float it is meant as."""
        value = _as_float(getattr(self, name))
        if not above < value <= at_most:  # True for NaN
            raise PrivacyError(f"{name} {getattr(self, name)!r}: give {meaning}")
        object.__setattr__(self, name, value)

    def _check_combination(self) -> None:
        if self.unit == "person" and not (isinstance(self.person, str) and self.person):
            raise PrivacyError('the unit "person" takes person="…", the column that says whose row it is')
        if self.unit != "person" and self.person is not None:
            raise PrivacyError(
                f'a person column goes with unit="person", not {self.unit!r}: leave out one of them'
            )
        if self.sampling < 1 and self.unit == "holder":
            raise PrivacyError(
                "the coordinator sees which holders take part, so sampling them hides nothing: leave out sampling, or "
                'choose unit="record"'
            )
        if self.sampling < 1 and self.adjacency == "replace-one":
            raise PrivacyError(
                'sampling is counted for adjacency="add-or-remove" only: choose that, or no sampling'
            )


def _as_float(value: Any) -> float:
    """Return a real number as a float; NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
