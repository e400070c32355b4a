"""What a user asks, checked and completed before anything runs: the model as it is to be fitted, and its encoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.asking import as_asked
from ..models.sum import Sum
from ..privacy.errors import PrivacyError
from ..privacy.guarantee import Privacy
from ..privacy.noised_sum import NoisedSum
from ..protocols.errors import SetupError
from ..records.catalogue import check_name
from ..serialization.schema import Message
from .choice import Choice
from .computation import Kept


@dataclass(frozen=True)
class Situation:
    """In which a question is asked.

    Attributes
    ----------
    choice : Choice
        How sums are computed.
    n_holders : int
    """

    choice: Choice
    n_holders: int


def sum_question(
    situation: Situation,
    function: Callable[..., Any],
    at: Any,
    encoding: Message | None,
    *,
    privacy: Privacy | None,
    shape: tuple[int, ...],
) -> tuple[Sum, Message | None]:
    """Return a sum, under privacy if that is asked for, and its encoding.

    Raises
    ------
    SetupError, PrivacyError
        If the options do not go together.
    """
    if privacy is None and shape != ():
        raise SetupError("shape is of one record's entry under privacy: leave it out")
    return question(situation, Sum(function, at, like=np.zeros(shape)), encoding, privacy, "nonrobust")


def question(
    situation: Situation, model: Any, encoding: Message | None, privacy: Privacy | None, cov_type: str
) -> tuple[Any, Message | None]:
    """Return a model with the covariance and under the privacy that are asked for, and its encoding.

    Raises
    ------
    ModelError
        If it has no such covariance.
    PrivacyError
        If the guarantee cannot be given.
    """
    model = as_asked(model, privacy, cov_type)
    noised: NoisedSum | None = getattr(model, "noised", None)
    if noised is None:
        return model, encoding_of(model, encoding)
    if encoding is not None:
        raise PrivacyError("privacy comes with its own grid, on which the noise lies: leave encoding out")
    if situation.choice.at_most is not None:
        raise PrivacyError(
            "how much noise each holder adds depends on how many they are, which at_most= keeps from the "
            "coordinator: choose a protocol without it"
        )
    noised.plan(situation.n_holders)  # which refuses what cannot be
    return model, noised.encoding(situation.n_holders)


def encoding_of(model: Any, encoding: Message | None) -> Message | None:
    """Return the encoding that is asked for, or else the one that the model brings along."""
    return getattr(model, "default_encoding", None) if encoding is None else encoding


def kept_as(checkpoint: str | None, every: Any, resume: bool) -> Kept | None:
    """Return how a run is kept.

    Raises
    ------
    SetupError, RecordError
        If the options or the name cannot be used.
    """
    if checkpoint is None:
        if every != 1 or not resume:
            raise SetupError("every= and resume= go with checkpoint=, the name under which the run is kept")
        return None
    check_name(checkpoint)
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise SetupError("every is a whole number of steps from 1")
    return Kept(checkpoint, every, resume)
