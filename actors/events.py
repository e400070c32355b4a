"""What the coordinator tells whoever waits for a result, while it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..models.definition import State

SHOWN_PARAMETERS = 4_096  # a longer point stays with the coordinator: nobody reads it as progress


@dataclass(frozen=True, slots=True)
class Pass:
    """One secure sum is over.

    Attributes
    ----------
    number : int
        Counted from 1 within this computation.
    step : str
        What the model asked.
    seconds : float
        From invitation to total.
    holders : tuple of str
        Whose contributions are in the sum; empty if the coordinator is kept from knowing.
    released : tuple of str
        Names of the arrays revealed; empty if some holder could not evaluate the query.
    """

    number: int
    step: str
    seconds: float
    holders: tuple[str, ...]
    released: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Iterated:
    """The model has moved.

    Attributes
    ----------
    iteration : int
        Accepted steps so far, of a network rounds; 0 is the start.
    value : float
        The objective, of a network the mean training loss of the round; NaN where it is not known.
    text : str
        What there is to say of it, in a line.
    parameters : ndarray or None
        The point, if it has no more than 4,096 numbers; a network's weights stay with the coordinator.
    """

    iteration: int
    value: float
    text: str
    parameters: NDArray[Any] | None = None

    @classmethod
    def of(cls, state: State) -> Self:
        """Tell of a state."""
        short = state.parameters.size <= SHOWN_PARAMETERS
        return cls(state.iteration, state.value, str(state), state.parameters if short else None)


@dataclass(frozen=True, slots=True)
class Lost:
    """Holders are lost; the computation goes on over the others."""

    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The computation is over.

    Attributes
    ----------
    value : Any
        What the model returned.
    survivors : tuple of str
        The holders of the last sum.
    lost : tuple of str
        Holders lost on the way.
    n_passes : int
        Secure sums, including those that some holder could not evaluate.
    may_isolate : tuple of str
        Lost holders that are in sums revealed before, by this computation or an earlier one: the difference to
        sums over the survivors may isolate them.
    remarks : tuple of str
        What a user must know of values that were clipped and of messages that were corrected.
    holders_by_step : tuple of int
        How many holders are in the sum behind each step of the model, as of `Stepwise`.
    at_least : int, optional
        So many holders or more are in the last sum, if the coordinator is kept from knowing them; `survivors` is
        empty then.
    """

    value: Any
    survivors: tuple[str, ...]
    lost: tuple[str, ...]
    n_passes: int
    may_isolate: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    at_least: int | None = None
    holders_by_step: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The computation ended with an error."""

    error: Exception


Event = Pass | Iterated | Lost | Result | Failure
