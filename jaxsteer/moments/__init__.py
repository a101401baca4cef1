"""From rows to moments to a Population, all at once or batch by batch."""

from jaxsteer.moments._cells import CellMoments, cell_moments
from jaxsteer.moments._finish import finish, marginal_covariances, marginal_means
from jaxsteer.moments._fit import fit_population
from jaxsteer.moments._merge import merge, merge_over
from jaxsteer.moments._normality import NormalityCheck, check_normality
from jaxsteer.moments._projection import (
    Projection,
    principal_projection,
    random_projection,
)
from jaxsteer.moments._sharded import sharded_moments
from jaxsteer.moments._shrinkage import ledoit_wolf_intensity, oas_intensity, shrink
from jaxsteer.moments._sketch import Sketch, finish_low_rank
from jaxsteer.moments._state import MomentState, init
from jaxsteer.moments._stream import accumulate, update
from jaxsteer.moments._suggest import (
    FamilySuggestion,
    family_candidates,
    suggest_family,
)
from jaxsteer.moments._transformed import fit_transformed_population

__all__ = [
    "cell_moments",
    "check_normality",
    "finish",
    "fit_population",
    "fit_transformed_population",
    "init",
    "merge",
    "principal_projection",
    "sharded_moments",
    "suggest_family",
    "update",
]
