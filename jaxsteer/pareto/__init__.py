"""Pareto-efficient models for any fairness metric: bilevel group weights (BADR).

Every model here is best for some weights of the groups' losses, so no group can be
helped without harm to another; :func:`solve_badr` finds the weights whose model is the
fairest. Rows come in as :class:`GroupData` (:func:`group_data`), a model is a
:class:`Model`, what is unfair a :class:`Metric`.
"""

from jaxsteer.pareto._baselines import (
    fit_balanced,
    fit_best_group,
    fit_erm,
    fit_minimax,
    fit_regularization_path,
)
from jaxsteer.pareto._data import GroupData, group_data
from jaxsteer.pareto._dependence_metrics import (
    HSIC,
    DisparateMistreatment,
    GroupLossVariance,
)
from jaxsteer.pareto._exact import ExactOptions
from jaxsteer.pareto._fitted import FittedModel, fit_group_weights
from jaxsteer.pareto._front import (
    Dominance,
    dominance,
    nondominated,
    sample_front,
    simplex_grid,
)
from jaxsteer.pareto._individual_fairness import IndividualFairness
from jaxsteer.pareto._linear_models import Logistic, Ridge, SmoothSVM, Softmax
from jaxsteer.pareto._metric import CustomMetric, Metric, MetricSum, smooth_gap
from jaxsteer.pareto._model import CustomModel, Model, Outputs
from jaxsteer.pareto._rate_metrics import (
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
)
from jaxsteer.pareto._single_loop import LoopOptions
from jaxsteer.pareto._solution import History, ParetoSolution
from jaxsteer.pareto._solve import solve_badr

__all__ = [
    "CustomMetric",
    "CustomModel",
    "DemographicParity",
    "DisparateMistreatment",
    "EqualOpportunity",
    "EqualizedOdds",
    "ExactOptions",
    "GroupLossVariance",
    "HSIC",
    "IndividualFairness",
    "Logistic",
    "LoopOptions",
    "Ridge",
    "SmoothSVM",
    "Softmax",
    "dominance",
    "fit_balanced",
    "fit_best_group",
    "fit_erm",
    "fit_minimax",
    "fit_regularization_path",
    "group_data",
    "sample_front",
    "solve_badr",
]
