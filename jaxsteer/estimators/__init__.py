"""The scikit-learn face of the package: tables in, fair predictions out.

Each estimator is loaded with its first use: some stand on Flax and on programs that
others never call.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from jaxsteer.estimators._base import load_estimator
    from jaxsteer.estimators._encoder import TabularEncoder
    from jaxsteer.estimators._erasers import INLP, LEACE
    from jaxsteer.estimators._experts import RomeMoEClassifier, RomeMoERegressor
    from jaxsteer.estimators._fair_score import FairScore
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

_PLACES = {
    "FairScore": "_fair_score",
    "FairScorer": "_scorers",
    "FoldModels": "_fold_models",
    "GaussianChannel": "_gaussian_channel",
    "INLP": "_erasers",
    "IdealSteering": "_ideal_steering",
    "LEACE": "_erasers",
    "LatentGroups": "_latent_groups",
    "MeanMatching": "_matching",
    "MiMiC": "_matching",
    "MulticlassScore": "_multiclass_score",
    "ParetoFair": "_pareto",
    "ParetoFairRegressor": "_pareto",
    "Reweighing": "_reweighing",
    "RomeClassifier": "_latent",
    "RomeMoEClassifier": "_experts",
    "RomeMoERegressor": "_experts",
    "RomeRegressor": "_latent",
    "SteeredClassifier": "_steered_classifier",
    "TabularEncoder": "_encoder",
    "fair_weights": "_reweighing",
    "load_estimator": "_base",
    "make_fair_scorer": "_scorers",
}

# What fitted estimators hold besides results: storable, no part of the public face.
_PARTS = ("FoldModels",)

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


def __getattr__(name: str) -> _Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(_import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
