"""From rows to moments to a Population."""

from jaxsteer.moments._cells import CellMoments, cell_moments
from jaxsteer.moments._fit import fit_population
from jaxsteer.moments._shrinkage import ledoit_wolf_intensity, oas_intensity, shrink
from jaxsteer.moments._transformed import fit_transformed_population

__all__ = [
    "CellMoments",
    "cell_moments",
    "fit_population",
    "fit_transformed_population",
    "ledoit_wolf_intensity",
    "oas_intensity",
    "shrink",
]
