"""``nearest_ideal`` as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from jaxsteer.estimators._rows import (
    check_lengths,
    check_matrix,
    fit_groups,
    fit_labels,
    group_codes,
    label_codes,
    reference_code,
    require_filled_cells,
)
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments import fit_population

_solve = jax.jit(
    nearest_ideal, static_argnames=("intervention", "reference", "maps", "priors")
)


class IdealSteering(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Steer rows to the nearest ideal population, by their group and without labels.

    Fits a population to classes and groups, finds the nearest one (in KL divergence) on
    which the Bayes rule of every cost treats the groups alike, and carries each group
    to the coordinates that all groups share there. Train on the steered rows with
    `sample_weight_`: the weights are half of the answer, as they make the label
    independent of the group.

    The promise is exact fairness of the Bayes rule on the steered population. On real
    rows the classes are not normal and one group's classes may be better separated, so
    measure; :class:`GaussianChannel` and :class:`FairScore` give up information instead.

    Args:
        method: "affirmative": the reference group stays; "all_groups": all move.
        maps: Which maps are allowed; see :func:`jaxsteer.nearest_ideal`.
        priors: "reweigh", "reference", "joint" or "keep"; see there.
        reference: The group that stays; None takes the largest.
        family: Law of the features; see :func:`jaxsteer.fit_population`.
        shrinkage: Shrinkage of the covariances; see there.
        covariance: "full", "tied", "diagonal" or "low_rank" cells; see there.
        strength: From 0, the rows as they are, to 1, the full map.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        reference_: The group that stays.
        steering_: The :class:`jaxsteer.Steering`.
        sample_weight_: ``[n]`` weights of the rows of the fit.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sex, paid = rng.choice(["f", "m"], 800), rng.integers(0, 2, 800)
        >>> X = rng.normal(size=(800, 2)) + paid[:, None] + 2 * (sex == "f")[:, None]
        >>> steering = IdealSteering(reference="m").fit(X, paid, sensitive_features=sex)
        >>> steered = steering.transform(X, sensitive_features=sex)
        >>> means = [steered[sex == name].mean() for name in ("f", "m")]
        >>> bool(abs(means[0] - means[1]) < 0.1)
        True

    References:
        "On Optimal Steering to Achieve Exact Fairness" (NeurIPS 2025, arXiv
        2509.15759), sections 3 and 4.
    """

    def __init__(
        self,
        *,
        method: str = "affirmative",
        maps: str = "shared_covariance",
        priors: str = "reweigh",
        reference: Any = None,
        family: str = "normal",
        shrinkage: str | float | None = "oas",
        covariance: str = "full",
        strength: float = 1.0,
    ):
        self.method = method
        self.maps = maps
        self.priors = priors
        self.reference = reference
        self.family = family
        self.shrinkage = shrinkage
        self.covariance = covariance
        self.strength = strength

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> IdealSteering:
        """Fit the population and find the maps.

        Args:
            X: ``[n, d]`` finite numbers (:class:`TabularEncoder` makes them).
            y: ``[n]`` labels of any kind.
            sensitive_features: ``[n]`` groups of any kind, or ``[n, m]`` columns, each
                combination of which is a group.
            sample_weight: ``[n]`` weights of the rows, or None.

        Raises:
            ValueError: If an argument is unusable; the message says what to do.
            SolveError: If the solve did not converge.
        """
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {self.strength}.")
        X = check_matrix(self, X, reset=True)
        label, self.classes_ = fit_labels(y)
        group, self.groups_ = fit_groups(sensitive_features)
        check_lengths(
            X=X, y=label, sensitive_features=group, sample_weight=sample_weight
        )
        require_filled_cells(label, group, self.classes_, self.groups_)
        reference = reference_code(self.reference, group, self.groups_)
        self.reference_ = self.groups_[reference]
        population = fit_population(
            jnp.asarray(X),
            label,
            group,
            self.family,
            self.shrinkage,
            sample_weight,
            covariance=self.covariance,
        )
        self.steering_ = _solve(
            population,
            intervention=self.method,
            reference=reference,
            maps=self.maps,
            priors=self.priors,
        ).require()
        self.sample_weight_ = self._weights(label, group)
        if sample_weight is not None:
            self.sample_weight_ = self.sample_weight_ * np.asarray(sample_weight)
        return self

    def transform(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Carry rows to the coordinates that all groups share.

        Args:
            X: ``[n, d]`` finite numbers.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time.

        Returns:
            ``[n, d]`` steered rows.

        Raises:
            ValueError: If a group was not there at fit time, or `X` is unusable.
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        group = group_codes(sensitive_features, self.groups_)
        check_lengths(X=X, sensitive_features=group)
        return np.asarray(
            self.steering_.transport(
                jnp.asarray(X), jnp.asarray(group), strength=self.strength
            )
        )

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> np.ndarray:
        """Fit, and return the same rows steered, ``[n, d]``."""
        self.fit(
            X, y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )
        return self.transform(X, sensitive_features=sensitive_features)

    def sample_weight(self, y: Any, sensitive_features: Any) -> np.ndarray:
        """Return the weights ``q~/q`` of rows by label and group, ``[n]``."""
        check_is_fitted(self)
        label = label_codes(y, self.classes_)
        group = group_codes(sensitive_features, self.groups_)
        check_lengths(y=label, sensitive_features=group)
        return self._weights(label, group)

    def _weights(self, label: np.ndarray, group: np.ndarray) -> np.ndarray:
        return np.asarray(self.steering_.cell_weights, float)[label, group]
