"""jaxsteer: the nearest exactly-fair population, and the maps that steer there.

See the README for what "fair" means here, and what is not promised. Importing this
package computes nothing; the parts that need scikit-learn, pandas or matplotlib
(``compare``, ``datasets``, ``estimators``, ``plots``, ``report``, ``storage``) are
loaded when they are first used.
"""

from importlib import import_module as _import_module

from jaxsteer import baselines as baselines
from jaxsteer import families as families
from jaxsteer import linalg as linalg
from jaxsteer import maps as maps
from jaxsteer import moments as moments
from jaxsteer import solvers as solvers
from jaxsteer._labels import encode_labels
from jaxsteer.audit import metrics as metrics
from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    LowRankNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
    TransformedNormal,
    kl_diagonal_normal,
    kl_divergence,
    kl_log_normal,
    kl_low_rank_normal,
    kl_multivariate_log_normal,
    kl_multivariate_normal,
    kl_normal,
    kl_transformed_normal,
)
from jaxsteer.ideal import (
    ClassChannel,
    EntropicMeet,
    MeetChannel,
    Steering,
    class_channel,
    entropic_meet,
    fair_channel,
    ideality_gap,
    meet_channel,
    nearest_ideal,
    nearest_ideal_batch,
)
from jaxsteer.maps import AffineMap, ConjugatedMap, DiagonalMap
from jaxsteer.moments import fit_population
from jaxsteer.population import Population
from jaxsteer.solvers import SolveError, Status

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "ClassChannel",
    "ConjugatedMap",
    "DiagonalMap",
    "DiagonalNormal",
    "EntropicMeet",
    "LogNormal",
    "LowRankNormal",
    "MeetChannel",
    "MultivariateLogNormal",
    "MultivariateNormal",
    "Normal",
    "Population",
    "SolveError",
    "Status",
    "Steering",
    "TransformedNormal",
    "baselines",
    "class_channel",
    "encode_labels",
    "entropic_meet",
    "fair_channel",
    "families",
    "fit_population",
    "ideality_gap",
    "kl_diagonal_normal",
    "kl_divergence",
    "kl_log_normal",
    "kl_low_rank_normal",
    "kl_multivariate_log_normal",
    "kl_multivariate_normal",
    "kl_normal",
    "kl_transformed_normal",
    "linalg",
    "maps",
    "meet_channel",
    "metrics",
    "moments",
    "nearest_ideal",
    "nearest_ideal_batch",
    "solvers",
]

# Loaded when first used: their dependencies are extras.
_LAZY = ("compare", "datasets", "estimators", "plots", "report", "storage")


def __getattr__(name: str):
    if name in _LAZY:
        return _import_module(f"jaxsteer.{name}")
    raise AttributeError(f"module 'jaxsteer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_LAZY]
