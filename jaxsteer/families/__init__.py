"""Parametric families: parameters, divergence, density, samples, maps that act."""

from jaxsteer.families._diagonal_normal import DiagonalNormal, kl_diagonal_normal
from jaxsteer.families._divergence import (
    kl_divergence,
    kl_log_normal,
    kl_multivariate_log_normal,
    kl_transformed_normal,
)
from jaxsteer.families._low_rank_normal import LowRankNormal, kl_low_rank_normal
from jaxsteer.families._multivariate_normal import (
    MultivariateNormal,
    kl_multivariate_normal,
)
from jaxsteer.families._normal import Normal, kl_normal
from jaxsteer.families._transformed_normal import (
    LogNormal,
    MultivariateLogNormal,
    SharedBijection,
    TransformedNormal,
)

__all__ = [
    "DiagonalNormal",
    "LogNormal",
    "LowRankNormal",
    "MultivariateLogNormal",
    "MultivariateNormal",
    "Normal",
    "SharedBijection",
    "TransformedNormal",
    "kl_diagonal_normal",
    "kl_divergence",
    "kl_log_normal",
    "kl_low_rank_normal",
    "kl_multivariate_log_normal",
    "kl_multivariate_normal",
    "kl_normal",
    "kl_transformed_normal",
]
