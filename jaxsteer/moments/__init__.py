"""From rows to moments to a Population."""

from jaxsteer.moments._cells import CellMoments, cell_moments
from jaxsteer.moments._fit import fit_population
from jaxsteer.moments._shrinkage import ledoit_wolf_intensity, oas_intensity, shrink

__all__ = [
    "CellMoments",
    "cell_moments",
    "fit_population",
    "ledoit_wolf_intensity",
    "oas_intensity",
    "shrink",
]
