"""Joint statistics and model training for parties who cannot show each other their data.

The public names; each is imported when it is first used, so `import tacit` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if not __name__.startswith("tacit"):
    raise ImportError("the repository's root is the package 'tacit': install it and `import tacit`")

if TYPE_CHECKING:
    from .actors.connecting import connect as connect
    from .actors.deployment import Deployment as Deployment
    from .actors.errors import ActorError as ActorError
    from .actors.errors import ClosedError as ClosedError
    from .actors.errors import HoldersLostWarning as HoldersLostWarning
    from .actors.errors import PeerUnreachableError as PeerUnreachableError
    from .actors.errors import SumWarning as SumWarning
    from .actors.federation import Federation as Federation
    from .actors.simulated_federation import simulate as simulate
    from .models.errors import DataError as DataError
    from .models.errors import EvaluationError as EvaluationError
    from .models.errors import ModelError as ModelError
    from .models.fit import Fit as Fit
    from .models.least_squares import OLS as OLS
    from .models.likelihood import MaximumLikelihood as MaximumLikelihood
    from .models.network_fit import NetworkFit as NetworkFit
    from .models.neural_network import NeuralNetwork as NeuralNetwork
    from .models.regression import GLM as GLM
    from .models.regression_fit import GLMFit as GLMFit
    from .models.regression_fit import OLSFit as OLSFit
    from .models.training_optimizers import ServerAdam as ServerAdam
    from .models.training_optimizers import ServerMomentum as ServerMomentum
    from .models.training_optimizers import ServerSGD as ServerSGD
    from .privacy.errors import PrivacyError as PrivacyError
    from .privacy.guarantee import Privacy as Privacy
    from .protocols.additive_sharing import AdditiveSharing as AdditiveSharing
    from .protocols.errors import AbortedError as AbortedError
    from .protocols.errors import DropoutError as DropoutError
    from .protocols.errors import EquivocationError as EquivocationError
    from .protocols.errors import InvalidMessageError as InvalidMessageError
    from .protocols.errors import MisuseError as MisuseError
    from .protocols.errors import ProtocolError as ProtocolError
    from .protocols.errors import RangeError as RangeError
    from .protocols.errors import RefusedError as RefusedError
    from .protocols.errors import RemoteError as RemoteError
    from .protocols.errors import SetupError as SetupError
    from .protocols.errors import UnexpectedMessageError as UnexpectedMessageError
    from .protocols.errors import VoidedError as VoidedError
    from .protocols.pairwise_masking import PairwiseMasking as PairwiseMasking
    from .protocols.plan_table import Plan as Plan
    from .protocols.planning import Wish as Wish
    from .protocols.ring_paillier import RingPaillier as RingPaillier
    from .protocols.secret_sharing import SecretSharing as SecretSharing
    from .protocols.simulation import Simulation as Simulation
    from .records.budget import Budget as Budget
    from .records.errors import AccessError as AccessError
    from .records.errors import BudgetError as BudgetError
    from .records.errors import CoSignatureError as CoSignatureError
    from .records.errors import PolicyError as PolicyError
    from .records.errors import RecordError as RecordError
    from .records.model_card import Release as Release
    from .records.policy import Policy as Policy
    from .records.signing import SigningKey as SigningKey
    from .serialization.encoding_parameters import AutoRange as AutoRange
    from .serialization.encoding_parameters import ExactFloat as ExactFloat
    from .serialization.encoding_parameters import FixedPoint as FixedPoint
    from .serialization.encoding_parameters import FixedPointMean as FixedPointMean
    from .serialization.encoding_parameters import Quantized as Quantized
    from .serialization.errors import DecodeError as DecodeError
    from .serialization.errors import EncodeError as EncodeError
    from .serialization.errors import SerializationError as SerializationError
    from .serialization.errors import TacitError as TacitError

_MODULES = {
    "actors.connecting": ("connect",),
    "actors.deployment": ("Deployment",),
    "actors.errors": (
        "ActorError",
        "ClosedError",
        "HoldersLostWarning",
        "PeerUnreachableError",
        "SumWarning",
    ),
    "actors.federation": ("Federation",),
    "actors.simulated_federation": ("simulate",),
    "models.errors": ("DataError", "EvaluationError", "ModelError"),
    "models.fit": ("Fit",),
    "models.least_squares": ("OLS",),
    "models.likelihood": ("MaximumLikelihood",),
    "models.network_fit": ("NetworkFit",),
    "models.neural_network": ("NeuralNetwork",),
    "models.regression": ("GLM",),
    "models.regression_fit": ("GLMFit", "OLSFit"),
    "models.training_optimizers": ("ServerAdam", "ServerMomentum", "ServerSGD"),
    "privacy.errors": ("PrivacyError",),
    "privacy.guarantee": ("Privacy",),
    "protocols.additive_sharing": ("AdditiveSharing",),
    "protocols.errors": (
        "AbortedError",
        "DropoutError",
        "EquivocationError",
        "InvalidMessageError",
        "MisuseError",
        "ProtocolError",
        "RangeError",
        "RefusedError",
        "RemoteError",
        "SetupError",
        "UnexpectedMessageError",
        "VoidedError",
    ),
    "protocols.pairwise_masking": ("PairwiseMasking",),
    "protocols.plan_table": ("Plan",),
    "protocols.planning": ("Wish",),
    "protocols.ring_paillier": ("RingPaillier",),
    "protocols.secret_sharing": ("SecretSharing",),
    "protocols.simulation": ("Simulation",),
    "records.budget": ("Budget",),
    "records.errors": ("AccessError", "BudgetError", "CoSignatureError", "PolicyError", "RecordError"),
    "records.model_card": ("Release",),
    "records.policy": ("Policy",),
    "records.signing": ("SigningKey",),
    "serialization.encoding_parameters": (
        "AutoRange",
        "ExactFloat",
        "FixedPoint",
        "FixedPointMean",
        "Quantized",
    ),
    "serialization.errors": ("DecodeError", "EncodeError", "SerializationError", "TacitError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__version__ = version("tacit")
__all__ = sorted(_HOMES)  # noqa: PLE0605 - the lazy names


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
