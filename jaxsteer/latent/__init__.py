"""Latent groups: mixtures found from data, and models that serve the worst of them."""

from jaxsteer.latent._aggregate import (
    RobustAggregate,
    maximin_weights,
    robust_aggregate,
)
from jaxsteer.latent._design import Scaling
from jaxsteer.latent._fit import fit_rome_em, released_choices
from jaxsteer.latent._fit_neural import NeuralData, neural_data
from jaxsteer.latent._moe import RomeMoE
from jaxsteer.latent._neural_fit import NeuralFit, load_network
from jaxsteer.latent._outcomes import ClassOutcome, NormalOutcome, Params
from jaxsteer.latent._result import RomeErrors, RomeFit
from jaxsteer.latent._rome_moe import fit_rome_moe, fit_rome_moe_many
from jaxsteer.latent._select import RomeSelection, select_rome_em
from jaxsteer.latent._simulate import RomeSample, match_groups, simulate_rome
from jaxsteer.latent._soft_population import fit_soft_population, soft_transport
from jaxsteer.latent._standard_errors import rome_standard_errors
from jaxsteer.latent._subgroups import (
    SeedInterval,
    SubgroupErrors,
    seed_interval,
    subgroup_errors,
    subgroups,
)

__all__ = [
    "RomeMoE",
    "fit_rome_em",
    "fit_rome_moe",
    "fit_rome_moe_many",
    "fit_soft_population",
    "match_groups",
    "robust_aggregate",
    "rome_standard_errors",
    "select_rome_em",
    "simulate_rome",
    "soft_transport",
    "subgroup_errors",
]
