"""What a holder insists on before it computes anything, and whom it tells which rule a question is against.

A policy is the holder's own: nobody who asks can see, change or switch it off. It is evaluated anew for every session,
before the model sees a row; what it forbids is refused with a reason of a fixed list, in which no number of the
holder's stands, and in a simulation, whose user owns all rows, with the numbers as well.

Adversary: whoever asks. A model counts as what its class is, not as what its definition says (`models.registry`).
A rule about rows counts those that the holder has: what a function of the user's does with them no rule can see. It
may put one record into every entry of a noised sum, too: **with a budget, or privacy="required", allow only models that
are data, GLM and OLS**. How much noise there is, only a budget says. In a simulation models come pickled from the
user: there a policy rehearses, and is no barrier; in a deployment they are made by `Policy.model_of`.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from numpy.typing import NDArray

from ..models.definition import Definition
from ..models.registry import columns_read_by, is_importable_name, kind_of, model_from
from ..privacy.clipping import Adjacency
from ..privacy.guarantee import Privacy, Unit
from ..privacy.noised_sum import NoisedSum
from ..protocols.invitation import (
    COLUMN_NOT_ALLOWED,
    MODEL_NOT_ALLOWED,
    PRIVACY_REQUIRED,
    PROTOCOL_NOT_ALLOWED,
    TOO_FEW_HOLDERS,
    TOO_FEW_ROWS,
    TOO_MANY_NUMBERS,
)
from ..protocols.protocol import Protocol
from .approvals import Approvals
from .budget import Budget
from .errors import PolicyError
from .release_memory import Limits
from .table import has_columns, n_rows, only

Approval: TypeAlias = Literal["never", "new-definition", "every-run"]

REGRESSIONS, LEVELS = ("GLM", "OLS"), "levels"  # what holds the levels that their formulas do not declare
READABLE = 40  # characters of a holder's name that its files begin with


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a holder insists on.

    Parameters
    ----------
    minimum_rows : int
        With fewer rows a holder takes no part. Rows are those of a data frame or an array, of X in a pair (X, y), or
        the items of a list; what has none cannot take part if there is a minimum.
    minimum_holders : int
        Over how many holders every sum must be: of those invited, and of those in the sum when some are lost.
    models : sequence of str, optional
        The kinds of model that it allows, by their classes: "Sum", "GLM", "OLS", "MaximumLikelihood",
        "NeuralNetwork", or "package.module:Class" for one of the user's. By default any. **A Sum and a
        MaximumLikelihood run a function of the user's.**
    importable : sequence of str
        "package.module:name" of models of one's own, and of the functions of sums and likelihoods, that may be
        imported here when a definition names them, **and called with keywords of the sender's choosing**; in a
        simulation they come from the user.
    protocols : sequence of str, optional
        The protocols that it allows, as the classes are called: "PairwiseMasking". By default any.
    colluding : int
        With how many holders the coordinator may pool and not learn what this one puts in: protocols whose options
        and thresholds withstand fewer are refused.
    columns : sequence of str, optional
        The columns that models are shown; a formula that names another is refused. By default all.
    parameters_per_row : float, optional
        How many numbers may leave in one sum, for each row that the holder has. Of a regression with p columns these
        are p (p + 3) / 2 and a few more, of a training its weights. The table in which a formula's levels are found
        does not count.
    maximum_queries : int, optional
        How many sums may be released, of whatever model: as long as the file lasts that a holder in a deployment
        remembers its releases in; in a simulation as long as its process lives.
    set_changes : int, optional
        How often the set of holders may change under questions that read a column in common: see `release_memory`. By
        default any number of times, but never under one and the same question.
    approval : {"never", "new-definition", "every-run"}
        Whether a human must approve (`python -m tacit approve`) of a definition before it is answered: once, or for
        each run.
    privacy : {"optional", "required"}
        Whether everything that it contributes must be noised. A budget requires it, too.
    epsilon, delta : float, optional
        A budget for everything that is ever released of its rows; by default there is none.
    unit, adjacency, person : str
        Whom the budget protects, as in `Privacy`; `person`, a column, goes with the unit "person".
    folder : path, optional
        Where each holder keeps its budget and its approvals, in files of its own: **a folder that exists, and stays**.

    Raises
    ------
    PolicyError
        If these are no rules.

    Examples
    --------
    >>> Policy(minimum_rows=20, minimum_holders=3, models=["GLM", "OLS"]).models
    ('GLM', 'OLS')
    """

    minimum_rows: int = 0
    minimum_holders: int = 0
    models: Collection[str] | None = None
    importable: Collection[str] = ()
    protocols: Collection[str] | None = None
    colluding: int = 0
    columns: Collection[str] | None = None
    parameters_per_row: float | None = None
    maximum_queries: int | None = None
    set_changes: int | None = None
    approval: Approval = "never"
    privacy: Literal["optional", "required"] = "optional"
    epsilon: float | None = None
    delta: float | None = None
    unit: Unit = "record"
    adjacency: Adjacency = "add-or-remove"
    person: str | None = None
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for field in ("minimum_rows", "minimum_holders", "colluding", "maximum_queries", "set_changes"):
            value = getattr(self, field)
            optional = field in ("maximum_queries", "set_changes")
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not whole and not (optional and value is None):
                raise PolicyError(f"{field} is a whole number from 0, not {value!r}")
        if self.parameters_per_row is not None and not 0 < self.parameters_per_row < math.inf:
            raise PolicyError("parameters_per_row is a number above 0")
        for field in ("models", "importable", "protocols", "columns"):
            self._take_names(field)
        if not all(map(is_importable_name, self.importable)):
            raise PolicyError('importable names are of the form "package.module:name"')
        if self.privacy not in ("optional", "required"):
            raise PolicyError("privacy is 'optional' or 'required'")
        if self.approval not in get_args(Approval):
            raise PolicyError(f"approval is one of {', '.join(get_args(Approval))}")
        if self.approval != "never" and self.folder is None:
            raise PolicyError("approvals take the folder where they are kept")
        self._check_budget()

    def _take_names(self, field: str) -> None:
        names = getattr(self, field)
        if names is None:
            return
        if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
            raise PolicyError(f"{field} is a list of names: {field}=[{names!r}]")
        object.__setattr__(self, field, tuple(names))

    def _check_budget(self) -> None:
        given = {value is not None for value in (self.epsilon, self.delta)}
        if len(given) > 1 or (given == {True} and self.folder is None):
            raise PolicyError("a budget takes epsilon, delta, and the folder where it is kept")
        if self.unit not in get_args(Unit) or self.adjacency not in get_args(Adjacency):
            raise PolicyError(f"a budget protects one of {get_args(Unit)} under one of {get_args(Adjacency)}")
        if self.folder is not None:  # another process may work in another folder
            object.__setattr__(self, "folder", str(Path(self.folder).absolute()))

    @property
    def has_budget(self) -> bool:
        """Whether what is released is charged."""
        return self.epsilon is not None

    def check(self, model: Any, data: Any, *, protocol: Protocol[Any], n_holders: int) -> NoisedSum | None:
        """Check a question, before anything is computed for it.

        Parameters
        ----------
        model : Model
            Which is asked for; only its class, and its ``noised``, are looked at.
        data : Any
            The holder's rows, which are counted.
        protocol : Protocol
            Under which the answer would be summed.
        n_holders : int
            Of the session's roster.

        Returns
        -------
        NoisedSum or None
            The noise that was looked at: **the one to add**; what a model says a second time may be another.

        Raises
        ------
        PolicyError
            With the rule that it is against, in `PolicyError.reason`.
        """
        if self.protocols is not None:
            self._check_protocol(type(protocol).__name__, self.protocols)
        if protocol.withstands < self.colluding:
            raise PolicyError(
                f"the protocol withstands {protocol.withstands} holders who pool with the coordinator, and is to "
                f"withstand {self.colluding}: set colluding={self.colluding} of {type(protocol).__name__} or more",
                reason=PROTOCOL_NOT_ALLOWED,
            )
        if n_holders < self.minimum_holders:
            raise PolicyError(
                f"{n_holders} holders are invited, and every sum must be over {self.minimum_holders} or more",
                reason=TOO_FEW_HOLDERS,
            )
        if self.models is not None:
            self._check_model(kind_of(model), self.models)
        noised = getattr(model, "noised", None)
        if noised is not None and (type(noised) is not NoisedSum or type(noised.privacy) is not Privacy):
            raise PolicyError("what the model calls its noise is none of tacit's", reason=PRIVACY_REQUIRED)
        if (self.privacy == "required" or self.has_budget) and noised is None:
            raise PolicyError(
                "nothing leaves without noise here: ask with privacy=Privacy(…)", reason=PRIVACY_REQUIRED
            )
        if self.minimum_rows:
            self._check_rows(n_rows(data))
        if self.columns is not None:
            self._check_columns(columns_read_by(model), data, self.columns)
        return noised

    def check_size(self, model: Any, arrays: Mapping[str, NDArray[Any]], data: Any) -> None:
        """Check how much a model would release, before anything leaves.

        Parameters
        ----------
        model : Model
        arrays : mapping of str to ndarray
            Its contribution to one sum.
        data : Any
            The holder's rows, which are counted.

        Raises
        ------
        PolicyError
            If that is too much for so few rows.
        """
        if self.parameters_per_row is None:
            return
        uncounted = LEVELS if kind_of(model) in REGRESSIONS else ""
        n_numbers = sum(array.size for name, array in arrays.items() if name != uncounted)
        rows = n_rows(data) or 0
        if n_numbers > self.parameters_per_row * rows:
            raise PolicyError(
                f"{n_numbers} numbers would leave, and {rows} rows allow {self.parameters_per_row:g} for each",
                reason=TOO_MANY_NUMBERS,
            )

    def visible(self, data: Any) -> Any:
        """Return the rows as models may see them."""
        return data if self.columns is None else only(data, self.columns)

    def _check_protocol(self, name: str, allowed: Collection[str]) -> None:
        if name not in allowed:
            problem = f"the protocol is {name}, and allowed: {_listed(allowed)}"
            raise PolicyError(problem, reason=PROTOCOL_NOT_ALLOWED)

    def _check_model(self, kind: str, allowed: Collection[str]) -> None:
        if kind not in allowed:
            raise PolicyError(
                f"the model is a {kind}, and allowed: {_listed(allowed)}", reason=MODEL_NOT_ALLOWED
            )

    def _check_columns(self, read: Collection[str] | None, data: Any, allowed: Collection[str]) -> None:
        if not has_columns(data):
            raise PolicyError(
                "the data have no columns by name, of which some are allowed", reason=COLUMN_NOT_ALLOWED
            )
        if others := sorted(set(read or ()).difference(allowed)):
            raise PolicyError(
                f"the model reads {_listed(others)}, and allowed are {_listed(allowed)}",
                reason=COLUMN_NOT_ALLOWED,
            )

    def _check_rows(self, rows: int | None) -> None:
        if rows is None or rows < self.minimum_rows:
            found = (
                "the data have no rows that could be counted" if rows is None else f"there are {rows} rows"
            )
            raise PolicyError(f"{found}, and {self.minimum_rows} are asked for", reason=TOO_FEW_ROWS)

    def model_of(self, definition: Definition) -> Any:
        """Make the model of a definition that was sent, of what is installed here: see `models.registry`.

        Raises
        ------
        PolicyError
            If it is none that is allowed.
        ModelError
            If it cannot be made: it would take a name that is not among the importable ones, for instance.
        """
        model = model_from(definition, self.importable)
        if self.models is not None:
            self._check_model(kind_of(model), self.models)
        return model

    def limits(self, releases: str | os.PathLike[str] | None) -> Limits:
        """Return what is allowed of releases, which are remembered in a file, or as long as the process lives."""
        return Limits(path=releases, set_changes=self.set_changes, maximum_queries=self.maximum_queries)

    def approvals(self, holder: str) -> Approvals | None:
        """Open a holder's approvals; None if none are needed.

        Raises
        ------
        RecordError
            If the folder is not there.
        """
        if self.folder is None or self.approval == "never":
            return None
        path = Path(self.folder) / state_file(holder, "approvals")
        return Approvals(path, every_run=self.approval == "every-run")

    def budget(self, holder: str) -> Budget | None:
        """Open a holder's budget; None if there is none.

        Raises
        ------
        PolicyError
            If the file protects others, or epsilon and delta are no budget.
        RecordError
            If the folder is not there, or the file is damaged.
        """
        if self.folder is None or self.epsilon is None or self.delta is None:
            return None
        path = Path(self.folder) / state_file(holder, "budget")
        return Budget(
            path,
            epsilon=self.epsilon,
            delta=self.delta,
            unit=self.unit,
            adjacency=self.adjacency,
            person=self.person,
        )


def policies_of(policy: Policy | Mapping[str, Policy] | None, holders: Collection[str]) -> dict[str, Policy]:
    """Return the policy of each holder that has one, its budget in order.

    Parameters
    ----------
    policy : Policy or mapping of str to Policy, optional
        One for all holders, or by their names.
    holders : collection of str

    Raises
    ------
    PolicyError
        If it is for somebody else, or is none.
    RecordError
        If a budget cannot be opened.
    """
    if policy is None:
        return {}
    policies = dict.fromkeys(holders, policy) if isinstance(policy, Policy) else dict(policy)
    for name, one in policies.items():
        if name not in holders or not isinstance(one, Policy):
            raise PolicyError("a policy is a Policy, or a mapping of holders' names to one each")
        one.budget(name)
        one.approvals(name)
    return policies


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"


def state_file(holder: str, kind: str) -> str:
    """Return what a holder's file of a kind is called: different for different names, whatever the file system."""
    readable = re.sub("[^a-z0-9]+", "-", holder.lower())[:READABLE].strip("-")
    digest = hashlib.sha256(holder.encode()).hexdigest()[:32]  # names that differ in their case, or in signs
    return "-".join(filter(None, (readable, digest))) + f".{kind}"
