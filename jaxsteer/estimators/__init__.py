"""The scikit-learn face of the package: tables in, fair predictions out."""

from jaxsteer.estimators._encoder import TabularEncoder
from jaxsteer.estimators._fair_score import FairScore
from jaxsteer.estimators._gaussian_channel import GaussianChannel
from jaxsteer.estimators._ideal_steering import IdealSteering
from jaxsteer.estimators._latent import (
    RomeClassifier,
    RomeMoEClassifier,
    RomeMoERegressor,
    RomeRegressor,
)
from jaxsteer.estimators._pareto import ParetoFair, ParetoFairRegressor
from jaxsteer.estimators._reweighing import Reweighing

__all__ = [
    "FairScore",
    "GaussianChannel",
    "IdealSteering",
    "ParetoFair",
    "ParetoFairRegressor",
    "Reweighing",
    "RomeClassifier",
    "RomeMoEClassifier",
    "RomeMoERegressor",
    "RomeRegressor",
    "TabularEncoder",
]
