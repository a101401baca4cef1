"""Two rows of fairlearn, for comparison: decisions at one threshold only."""

from __future__ import annotations

import importlib.util

import numpy as np

from jaxsteer.compare._learners import Learner
from jaxsteer.compare._outcome import Downstream, Outcome
from jaxsteer.compare._split import Split

_NOTE = "Gives a decision, not a score: its gaps are those of this one decision."

#: Rounds of the reduction. It trains one classifier a round; more rounds move the
#: result little and would make this row the slowest of the table.
MAX_ROUNDS = 5


def has_fairlearn() -> bool:
    """Tell whether fairlearn can be imported."""
    return importlib.util.find_spec("fairlearn") is not None


def threshold_optimizer(split: Split, seed: int) -> Downstream:
    """Randomized group-wise thresholds on the raw scores (Hardt et al. 2016)."""
    from fairlearn.postprocessing import ThresholdOptimizer

    # Probabilities in float32 make its predict raise with pandas 3.
    x_train, x_test = (np.asarray(x, np.float64) for x in (split.x_train, split.x_test))

    def downstream(learner: Learner) -> Outcome:
        model = learner.fit(x_train, split.label_train)
        rule = ThresholdOptimizer(
            estimator=model,
            constraints="equalized_odds",
            prefit=True,
            predict_method="predict_proba",
        )
        rule.fit(x_train, split.label_train, sensitive_features=split.group_train)
        decision = rule.predict(
            x_test, sensitive_features=split.group_test, random_state=seed
        )
        return Outcome(np.asarray(decision, np.float64), True, _NOTE)

    return downstream


def exponentiated_gradient(split: Split, seed: int) -> Downstream:
    """A randomized mixture of classifiers by reductions (Agarwal et al. 2018)."""
    from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient

    def downstream(learner: Learner) -> Outcome:
        rule = ExponentiatedGradient(
            learner.build(),
            EqualizedOdds(difference_bound=0.01),
            max_iter=MAX_ROUNDS,
            sample_weight_name=learner.weight_name,
        )
        rule.fit(split.x_train, split.label_train, sensitive_features=split.group_train)
        decision = rule.predict(split.x_test, random_state=seed)
        return Outcome(np.asarray(decision, np.float64), True, _NOTE)

    return downstream
