"""The scikit-learn face of the package: tables in, fair predictions out."""

from jaxsteer.estimators._base import load_estimator
from jaxsteer.estimators._encoder import TabularEncoder
from jaxsteer.estimators._erasers import INLP, LEACE
from jaxsteer.estimators._experts import RomeMoEClassifier, RomeMoERegressor
from jaxsteer.estimators._fair_score import FairScore
from jaxsteer.estimators._fold_models import FoldModels
from jaxsteer.estimators._gaussian_channel import GaussianChannel
from jaxsteer.estimators._ideal_steering import IdealSteering
from jaxsteer.estimators._latent import RomeClassifier, RomeRegressor
from jaxsteer.estimators._latent_groups import LatentGroups
from jaxsteer.estimators._matching import MeanMatching, MiMiC
from jaxsteer.estimators._multiclass_score import MulticlassScore
from jaxsteer.estimators._pareto import ParetoFair, ParetoFairRegressor
from jaxsteer.estimators._reweighing import Reweighing, fair_weights
from jaxsteer.estimators._scorers import FairScorer, make_fair_scorer
from jaxsteer.estimators._steered_classifier import SteeredClassifier

#: What fitted estimators hold besides results: storable, and no part of the public face.
PARTS = (FoldModels,)

__all__ = [
    "FairScore",
    "FairScorer",
    "GaussianChannel",
    "INLP",
    "IdealSteering",
    "LEACE",
    "LatentGroups",
    "MeanMatching",
    "MiMiC",
    "MulticlassScore",
    "ParetoFair",
    "ParetoFairRegressor",
    "Reweighing",
    "RomeClassifier",
    "RomeMoEClassifier",
    "RomeMoERegressor",
    "RomeRegressor",
    "SteeredClassifier",
    "TabularEncoder",
    "load_estimator",
    "make_fair_scorer",
]
