"""What ``import jaxsteer`` offers by name, loaded when a name is first used."""

from jaxsteer import baselines as baselines
from jaxsteer import families as families
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
    MulticlassChannel,
    RocChannel,
    ScoreMap,
    balanced_quantiles,
    blind_channel,
    gaussian_channel,
    multiclass_channel,
    roc_channel,
)
from jaxsteer.families import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalNormal,
    Dirichlet,
    Exponential,
    Gamma,
    Laplace,
    LogNormal,
    LowRankNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
    Poisson,
    Product,
    TransformedNormal,
    Weibull,
    kl_divergence,
)
from jaxsteer.ideal import (
    ideality_gap,
    nearest_ideal,
    nearest_ideal_batch,
)
from jaxsteer.maps import AffineMap
from jaxsteer.moments import fit_population, fit_transformed_population
from jaxsteer.population import Population
from jaxsteer.solvers import SolveError, Status
from jaxsteer.steering import Steering

__all__ = [
    "AffineMap",
    "Bernoulli",
    "Beta",
    "BlindChannel",
    "Categorical",
    "DiagonalNormal",
    "Dirichlet",
    "Exponential",
    "Gamma",
    "Laplace",
    "LogNormal",
    "LowRankNormal",
    "MulticlassChannel",
    "MultivariateLogNormal",
    "MultivariateNormal",
    "Normal",
    "Poisson",
    "Population",
    "Product",
    "RocChannel",
    "ScoreMap",
    "SolveError",
    "Status",
    "Steering",
    "TransformedNormal",
    "Weibull",
    "balanced_quantiles",
    "baselines",
    "bayes_rates",
    "blind_channel",
    "certificate",
    "encode_labels",
    "families",
    "fit_population",
    "fit_transformed_population",
    "gaussian_channel",
    "ideal_residual",
    "ideality_gap",
    "is_ideal",
    "kl_divergence",
    "maps",
    "metrics",
    "moments",
    "multiclass_channel",
    "nearest_ideal",
    "nearest_ideal_batch",
    "price_of_fairness",
    "roc_channel",
    "solvers",
]
