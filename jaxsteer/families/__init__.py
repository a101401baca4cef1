"""Parametric families: parameters, divergence, density, samples, maps that act.

Each family's divergence can be had by name as well: ``kl_normal(p, q)``,
``kl_gamma(p, q)`` and so on are :func:`kl_divergence` for one family.
"""

from jaxsteer.families._beta import Beta, kl_beta
from jaxsteer.families._categorical import (
    Bernoulli,
    Categorical,
    kl_bernoulli,
    kl_categorical,
)
from jaxsteer.families._diagonal_normal import DiagonalNormal, kl_diagonal_normal
from jaxsteer.families._dirichlet import Dirichlet, kl_dirichlet
from jaxsteer.families._divergence import (
    kl_divergence,
    kl_log_normal,
    kl_multivariate_log_normal,
    kl_transformed_normal,
)
from jaxsteer.families._domain import check_parameters, parameters_valid
from jaxsteer.families._exponential import Exponential, kl_exponential
from jaxsteer.families._family import (
    Carried,
    Family,
    Natural,
    Traits,
    family,
    fitted_by_samples,
    registered,
    require_traits,
    traits_of,
)
from jaxsteer.families._gamma import Gamma, InverseGamma, kl_gamma, kl_inverse_gamma
from jaxsteer.families._geometric import Geometric, kl_geometric
from jaxsteer.families._gumbel import Gumbel, kl_gumbel
from jaxsteer.families._inverse_gaussian import InverseGaussian, kl_inverse_gaussian
from jaxsteer.families._laplace import Laplace, kl_laplace
from jaxsteer.families._low_rank_normal import LowRankNormal, kl_low_rank_normal
from jaxsteer.families._multivariate_normal import (
    MultivariateNormal,
    kl_multivariate_normal,
)
from jaxsteer.families._normal import Normal, kl_normal
from jaxsteer.families._numerical import (
    Estimate,
    kl_divergence_mc,
    kl_divergence_quadrature,
)
from jaxsteer.families._pareto import Pareto, kl_pareto
from jaxsteer.families._poisson import Poisson, kl_poisson
from jaxsteer.families._product import (
    Product,
    kl_product,
    transport,
    unmoved_log_ratio,
)
from jaxsteer.families._transformed_normal import (
    LogNormal,
    MultivariateLogNormal,
    SharedBijection,
    TransformedNormal,
)
from jaxsteer.families._von_mises import VonMises, kl_von_mises
from jaxsteer.families._weibull import Rayleigh, Weibull, kl_rayleigh, kl_weibull

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "DiagonalNormal",
    "Dirichlet",
    "Exponential",
    "Family",
    "Gamma",
    "Geometric",
    "Gumbel",
    "InverseGamma",
    "InverseGaussian",
    "Laplace",
    "LogNormal",
    "LowRankNormal",
    "MultivariateLogNormal",
    "MultivariateNormal",
    "Normal",
    "Pareto",
    "Poisson",
    "Product",
    "Rayleigh",
    "Traits",
    "TransformedNormal",
    "VonMises",
    "Weibull",
    "family",
    "kl_divergence",
    "kl_divergence_mc",
]
