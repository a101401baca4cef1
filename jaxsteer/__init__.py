"""jaxsteer: the nearest exactly-fair population, and the maps that steer there.

See the README for what "fair" means here, and what is not promised. Importing this
package computes nothing; the parts that need Flax, scikit-learn, pandas or matplotlib
(``compare``, ``datasets``, ``estimators``, ``latent``, ``models``, ``nn``, ``pareto``,
``plots``, ``report``, ``storage``) are loaded when they are first used.
"""

from importlib import import_module as _import_module

from jaxsteer import baselines as baselines
from jaxsteer import families as families
from jaxsteer import linalg as linalg
from jaxsteer import maps as maps
from jaxsteer import moments as moments
from jaxsteer import solvers as solvers
from jaxsteer._labels import encode_labels
from jaxsteer.audit import (
    bayes_rates,
    certificate,
    ideal_residual,
    is_ideal,
    price_of_fairness,
)
from jaxsteer.audit import metrics as metrics
from jaxsteer.channels import (
    BlindChannel,
    EntropicMeet,
    MulticlassChannel,
    RocChannel,
    ScoreMap,
    balanced_quantiles,
    blind_channel,
    entropic_meet,
    gaussian_channel,
    multiclass_channel,
    roc_channel,
    smooth_balanced_quantiles,
)
from jaxsteer.families import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalNormal,
    Dirichlet,
    Exponential,
    Gamma,
    Geometric,
    Gumbel,
    InverseGamma,
    Laplace,
    LogNormal,
    LowRankNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
    Pareto,
    Poisson,
    Product,
    Rayleigh,
    TransformedNormal,
    VonMises,
    Weibull,
    kl_bernoulli,
    kl_beta,
    kl_categorical,
    kl_diagonal_normal,
    kl_dirichlet,
    kl_divergence,
    kl_divergence_mc,
    kl_divergence_quadrature,
    kl_exponential,
    kl_gamma,
    kl_geometric,
    kl_gumbel,
    kl_inverse_gamma,
    kl_laplace,
    kl_log_normal,
    kl_low_rank_normal,
    kl_multivariate_log_normal,
    kl_multivariate_normal,
    kl_normal,
    kl_pareto,
    kl_poisson,
    kl_product,
    kl_rayleigh,
    kl_transformed_normal,
    kl_von_mises,
    kl_weibull,
)
from jaxsteer.ideal import (
    ideality_gap,
    nearest_ideal,
    nearest_ideal_batch,
)
from jaxsteer.maps import AffineMap, ConjugatedMap, DiagonalMap
from jaxsteer.moments import fit_population, fit_transformed_population
from jaxsteer.population import Population
from jaxsteer.solvers import SolveError, Status
from jaxsteer.steering import Steering

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "Bernoulli",
    "Beta",
    "BlindChannel",
    "Categorical",
    "ConjugatedMap",
    "DiagonalMap",
    "DiagonalNormal",
    "Dirichlet",
    "EntropicMeet",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "InverseGamma",
    "Laplace",
    "LogNormal",
    "LowRankNormal",
    "MulticlassChannel",
    "MultivariateLogNormal",
    "MultivariateNormal",
    "Normal",
    "Pareto",
    "Poisson",
    "Population",
    "Product",
    "Rayleigh",
    "RocChannel",
    "ScoreMap",
    "SolveError",
    "Status",
    "Steering",
    "TransformedNormal",
    "VonMises",
    "Weibull",
    "balanced_quantiles",
    "baselines",
    "bayes_rates",
    "blind_channel",
    "certificate",
    "encode_labels",
    "entropic_meet",
    "families",
    "fit_population",
    "fit_transformed_population",
    "gaussian_channel",
    "ideal_residual",
    "ideality_gap",
    "is_ideal",
    "kl_bernoulli",
    "kl_beta",
    "kl_categorical",
    "kl_diagonal_normal",
    "kl_dirichlet",
    "kl_divergence",
    "kl_divergence_mc",
    "kl_divergence_quadrature",
    "kl_exponential",
    "kl_gamma",
    "kl_geometric",
    "kl_gumbel",
    "kl_inverse_gamma",
    "kl_laplace",
    "kl_log_normal",
    "kl_low_rank_normal",
    "kl_multivariate_log_normal",
    "kl_multivariate_normal",
    "kl_normal",
    "kl_pareto",
    "kl_poisson",
    "kl_product",
    "kl_rayleigh",
    "kl_transformed_normal",
    "kl_von_mises",
    "kl_weibull",
    "linalg",
    "maps",
    "metrics",
    "moments",
    "multiclass_channel",
    "nearest_ideal",
    "nearest_ideal_batch",
    "price_of_fairness",
    "roc_channel",
    "smooth_balanced_quantiles",
    "solvers",
]

# Loaded when first used: their dependencies are extras, or take long to import.
_LAZY = (
    "compare",
    "datasets",
    "estimators",
    "latent",
    "models",
    "nn",
    "pareto",
    "plots",
    "report",
    "storage",
)


def __getattr__(name: str):
    if name in _LAZY:
        return _import_module(f"jaxsteer.{name}")
    raise AttributeError(f"module 'jaxsteer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_LAZY]
