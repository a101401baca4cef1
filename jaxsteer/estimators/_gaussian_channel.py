"""``gaussian_channel`` as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from jaxsteer.channels import gaussian_channel
from jaxsteer.estimators._rows import (
    check_lengths,
    check_matrix,
    fit_groups,
    fit_labels,
    group_codes,
    label_codes,
    random_key,
    reference_code,
    require_filled_cells,
)
from jaxsteer.moments import fit_population


class GaussianChannel(TransformerMixin, BaseEstimator):
    """Steer rows by a map and noise for each group, so that no group tells more.

    No map alone can help where the classes of one group are better separated: that
    group must lose information, and noise is how. Under the tied normal model the
    steered population is exactly ideal, and no label is needed. Train on the steered
    rows with `sample_weight_`.

    Do not use it where a decision must not depend on chance: two equal people can get
    different rows. With ``deterministic=True`` there is no noise, and the groups are
    only approximately alike.

    Args:
        subspace: "discriminant" keeps the K - 1 coordinates that tell the classes
            apart, so that no learner can read what is left of the group elsewhere;
            "all" keeps the rest of the features too.
        reference: The group whose frame is kept; None takes the largest.
        shrinkage: Shrinkage of the covariances; see :func:`jaxsteer.fit_population`.
        deterministic: Leave the noise out.
        random_state: An integer gives the same noise at each call for the same rows in
            the same order; None gives new noise at each call.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        reference_: The group whose frame is kept.
        steering_: The :class:`jaxsteer.Steering`.
        sample_weight_: ``[n]`` weights of the rows of the fit.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> sex, paid = rng.choice(["f", "m"], 800), rng.integers(0, 2, 800)
        >>> X = rng.normal(size=(800, 3)) + (1 + (sex == "f"))[:, None] * paid[:, None]
        >>> channel = GaussianChannel(random_state=0).fit(X, paid, sensitive_features=sex)
        >>> channel.transform(X, sensitive_features=sex).shape
        (800, 1)
    """

    def __init__(
        self,
        *,
        subspace: str = "discriminant",
        reference: Any = None,
        shrinkage: str | float | None = "oas",
        deterministic: bool = False,
        random_state: Any = None,
    ):
        self.subspace = subspace
        self.reference = reference
        self.shrinkage = shrinkage
        self.deterministic = deterministic
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> GaussianChannel:
        """Fit the population and find the channel.

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
            jnp.asarray(X), label, group, "normal", self.shrinkage, sample_weight
        )
        self.steering_ = gaussian_channel(
            population, subspace=self.subspace, reference=reference
        ).require()
        self.sample_weight_ = self._weights(label, group)
        if sample_weight is not None:
            self.sample_weight_ = self.sample_weight_ * np.asarray(sample_weight)
        return self

    def transform(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Steer rows, with noise unless `deterministic`.

        Args:
            X: ``[n, d]`` finite numbers.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns, as at fit time.

        Returns:
            ``[n, K - 1]`` for the discriminant subspace, else ``[n, d]``.

        Raises:
            ValueError: If a group was not there at fit time, or `X` is unusable.
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        group = group_codes(sensitive_features, self.groups_)
        check_lengths(X=X, sensitive_features=group)
        return np.asarray(
            self.steering_.transport(
                jnp.asarray(X),
                jnp.asarray(group),
                key=None if self.deterministic else random_key(self.random_state),
                deterministic=self.deterministic,
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
        """Fit, and return the same rows steered."""
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

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the output columns."""
        check_is_fitted(self)
        if self.subspace == "discriminant":
            size = len(self.classes_) - 1
            return np.array([f"discriminant{i}" for i in range(size)], object)
        if input_features is None:
            default = [f"x{i}" for i in range(vars(self)["n_features_in_"])]
            input_features = getattr(self, "feature_names_in_", default)
        return np.asarray(input_features, object)

    def _weights(self, label: np.ndarray, group: np.ndarray) -> np.ndarray:
        return np.asarray(self.steering_.cell_weights, float)[label, group]
