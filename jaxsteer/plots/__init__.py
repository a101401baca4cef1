"""Figures (matplotlib, imported when a figure is drawn; nothing global is changed)."""

from jaxsteer.plots._comparison import comparison_dots
from jaxsteer.plots._densities import score_densities
from jaxsteer.plots._differences import group_differences, standardized_differences
from jaxsteer.plots._gaps import gap_curve, gap_curves
from jaxsteer.plots._pareto import pareto_front, simplex_map
from jaxsteer.plots._populations import population_densities, price_curves
from jaxsteer.plots._roc import roc_meet, roc_points
from jaxsteer.plots._steering_choices import layer_choice, strength_choice
from jaxsteer.plots._style import figure_bytes, figure_uri

__all__ = [
    "comparison_dots",
    "gap_curve",
    "gap_curves",
    "group_differences",
    "layer_choice",
    "pareto_front",
    "population_densities",
    "price_curves",
    "roc_meet",
    "score_densities",
    "simplex_map",
    "standardized_differences",
    "strength_choice",
]
