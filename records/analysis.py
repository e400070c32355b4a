"""What a study asks: the model or the sum that study.toml describes, made where somebody needs it.

Making a model may import functions that the study names. **Only names that the caller allows are imported**: whoever
asks has agreed to the study and allows what it names, `Analysis.importable`; a holder makes models of definitions, by
its own `Policy.model_of`, and not here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ..models.definition import Definition
from ..models.registry import imported, is_importable_name, model_from
from ..privacy.guarantee import Privacy
from .toml_tables import Table

CLASSES = {"GLM": "regression", "OLS": "least_squares", "MaximumLikelihood": "likelihood", "Sum": "sum"}
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "MaximumLikelihood": ("nll", "nobs", "gradient", "hessian"),
    "Sum": ("function",),
}


@dataclass(frozen=True)
class Analysis:
    """The question of a study.

    Attributes
    ----------
    kind : str
        "GLM", "OLS", "MaximumLikelihood", "Sum", or "package.module:name" of a function or class that makes a model.
    data : str
        The source of every holder that it is asked of.
    cov_type : str
        How standard errors are estimated, as of `Federation.fit`.
    privacy : Privacy or None
        The guarantee for what is released.
    parameters : Mapping
        Keywords of the model.
    """

    kind: str
    data: str
    cov_type: str
    privacy: Privacy | None
    _keywords: Table = field(repr=False, compare=False)

    @classmethod
    def of(cls, table: Table) -> Analysis:
        """Read the table [analysis].

        Raises
        ------
        RecordError
            If the model is of no known kind, or a function is not written as "package.module:function".
        """
        kind = table.get("model", str)
        if not is_importable_name(kind) and kind not in CLASSES:
            remedy = (
                'a network is made by a function of an installed module: model = "package.module:function"'
                if kind == "NeuralNetwork"
                else f'take {", ".join(CLASSES)}, or "package.module:name" of what makes a model'
            )
            raise table.problem(f"{kind!r} is no model that a study can name: {remedy}", "model")
        for name in FUNCTIONS.get(kind, ()):
            function = table.optional(name, str)
            if function is not None and not is_importable_name(function):
                raise table.problem('a function is named "package.module:function"', name)
        return cls(
            kind=kind,
            data=table.get("data", str),
            cov_type=table.get("cov_type", str, "nonrobust"),
            privacy=table.table("privacy").made(Privacy) if "privacy" in table else None,
            _keywords=table.without("model", "data", "cov_type", "privacy"),
        )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The keywords of the model, functions by their names."""
        return self._keywords.content

    @property
    def importable(self) -> tuple[str, ...]:
        """Every name that is imported to make the model."""
        named = [self.parameters[name] for name in FUNCTIONS.get(self.kind, ()) if name in self.parameters]
        return tuple(named if self.kind in CLASSES else [self.kind])

    def model(self, importable: Collection[str] = ()) -> Any:
        """Make the model, without `cov_type` and `privacy`: those go to `Federation.fit`.

        Parameters
        ----------
        importable : collection of str
            Names that may be imported.

        Raises
        ------
        RecordError
            If a keyword is not known or missing, or the model refuses one.
        ModelError
            If a name may not be, or cannot be, imported.
        """
        if self.kind not in CLASSES:
            return model_from(Definition(self.kind, self.parameters), importable)
        functions = {
            name: imported(self.parameters[name], importable)
            for name in FUNCTIONS.get(self.kind, ())
            if name in self.parameters
        }
        home = import_module(f"...models.{CLASSES[self.kind]}", __name__)
        keywords = Table(self._keywords.file, self._keywords.name, {**self._keywords.content, **functions})
        return keywords.made(getattr(home, self.kind))
