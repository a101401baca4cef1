"""What can be said of a population, or of predictions, after the fact."""

from __future__ import annotations

from jaxsteer.audit import metrics
from jaxsteer.audit._certificate import Certificate, certificate
from jaxsteer.audit._ideality import IdealResidual, ideal_residual, is_ideal
from jaxsteer.audit._price import PriceOfFairness, price_of_fairness
from jaxsteer.audit._rates import BayesRates, bayes_rates

__all__ = [
    "BayesRates",
    "Certificate",
    "IdealResidual",
    "PriceOfFairness",
    "bayes_rates",
    "certificate",
    "ideal_residual",
    "is_ideal",
    "metrics",
    "price_of_fairness",
]
