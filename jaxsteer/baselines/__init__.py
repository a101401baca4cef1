"""The other ways to steer or to weight, one method per file, for comparison."""

from jaxsteer.baselines._concept_subspace import ConceptSubspace, concept_subspace
from jaxsteer.baselines._inlp import fit_inlp
from jaxsteer.baselines._leace import fit_leace, leace_from_moments
from jaxsteer.baselines._mean_match import fit_mean_match
from jaxsteer.baselines._mimic import fit_mimic, mimic_from_moments
from jaxsteer.baselines._mixture_transport import (
    MixtureTransport,
    fit_mixture_transport,
)
from jaxsteer.baselines._oracle_leace import OracleEraser, fit_oracle_leace
from jaxsteer.baselines._quadratic_leace import fit_quadratic_leace
from jaxsteer.baselines._reweighing import reweighing
from jaxsteer.baselines._splince import fit_splince
from jaxsteer.baselines._switch import fit_switch

__all__ = [
    "concept_subspace",
    "fit_inlp",
    "fit_leace",
    "fit_mean_match",
    "fit_mimic",
    "fit_mixture_transport",
    "fit_oracle_leace",
    "fit_quadratic_leace",
    "fit_splince",
    "fit_switch",
    "leace_from_moments",
    "mimic_from_moments",
    "reweighing",
]
