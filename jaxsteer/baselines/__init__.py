"""The other ways to steer or to weight, one method per file, for comparison."""

from jaxsteer.baselines._leace import fit_leace
from jaxsteer.baselines._mean_match import fit_mean_match
from jaxsteer.baselines._mimic import fit_mimic
from jaxsteer.baselines._reweighing import reweighing

__all__ = ["fit_leace", "fit_mean_match", "fit_mimic", "reweighing"]
