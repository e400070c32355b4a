"""The scikit-learn face of tacit's regressions: estimators whose rows lie at the holders, or at hand."""

if not __name__.startswith("tacit"):
    raise ImportError("import tacit.estimators, not estimators: a second copy of the layer would be loaded")

try:
    import sklearn as sklearn
except ModuleNotFoundError:
    raise ImportError("tacit.estimators needs scikit-learn: pip install 'tacit[sklearn]'") from None

from .classification import LogisticRegression
from .regression import GammaRegressor, LinearRegression, PoissonRegressor

__all__ = ["GammaRegressor", "LinearRegression", "LogisticRegression", "PoissonRegressor"]
