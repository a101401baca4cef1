"""What can be said of a population, or of predictions, after the fact."""

from __future__ import annotations

from jaxsteer.audit import metrics
from jaxsteer.audit._certificate import Certificate, certificate
from jaxsteer.audit._cut_rows import cut_rows
from jaxsteer.audit._ideality import IdealResidual, ideal_residual, is_ideal
from jaxsteer.audit._price import PriceOfFairness, price_of_fairness
from jaxsteer.audit._rates import BayesRates, bayes_rates
from jaxsteer.audit._readability import GroupReadability, group_readability
from jaxsteer.audit._sample_size import SampleSizeCurve, sample_size_curve
from jaxsteer.audit._sensitivity import FamilySensitivity, family_sensitivity
from jaxsteer.audit._steerability import Steerability, steerability
from jaxsteer.audit._uncertainty import (
    Uncertainty,
    kl_and_maps,
    steering_uncertainty,
)

__all__ = [
    "bayes_rates",
    "certificate",
    "family_sensitivity",
    "group_readability",
    "ideal_residual",
    "is_ideal",
    "metrics",
    "price_of_fairness",
    "sample_size_curve",
    "steerability",
    "steering_uncertainty",
]
