"""Steering of rows whose groups nobody recorded, as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.utils.validation import check_is_fitted

from jaxsteer._types import Columns, RandomState, TableLike
from jaxsteer.estimators._base import GroupTransformer, Rows
from jaxsteer.estimators._group_maps import on_host, steer
from jaxsteer.estimators._latent import EncodesSensitive
from jaxsteer.estimators._rows import random_key
from jaxsteer.ideal import nearest_ideal
from jaxsteer.latent import fit_rome_em, fit_soft_population


class LatentGroups(EncodesSensitive, GroupTransformer):
    """Find groups behind sensitive columns, and steer rows by their probabilities.

    The groups are those of :class:`RomeClassifier`: logistic regressions of the label,
    one a group, with a membership that depends on the sensitive columns. Each row
    counts in each group by its share; the nearest ideal population of these soft cells
    gives the maps, and a new row goes to the mean of its images, weighed by what its
    sensitive columns say of its group. Nothing is promised where the mixture is wrong.

    Args:
        n_groups: Number of latent groups.
        method: As in :class:`IdealSteering`.
        maps: As in :class:`IdealSteering`.
        priors: As in :class:`IdealSteering`.
        shrinkage: As in :class:`IdealSteering`.
        covariance: "full", "tied" or "diagonal" cells.
        restarts: Starts of EM, side by side.
        ridge: Pseudo-rows that pull coefficients to zero.
        max_steps: Limit on EM steps.
        random_state: Seed of the starts.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        classes_: The labels, ``[K]``.
        fit_: The :class:`jaxsteer.latent.RomeFit`, with NumPy arrays.
        steering_: The :class:`jaxsteer.Steering`, with NumPy arrays.
        responsibilities_: ``[n, G]`` shares of the rows of the fit, labels known.
        sample_weight_: ``[n]`` weights of the rows of the fit.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> s, X = rng.normal(size=(600, 1)), rng.normal(size=(600, 2))
        >>> y = (np.where(s[:, 0] > 0, 2.0, -2.0) * X[:, 0] > rng.normal(size=600))
        >>> latent = LatentGroups(restarts=4, ridge=1.0).fit(X, y, sensitive_features=s)
        >>> latent.transform(X, sensitive_features=s).shape
        (600, 2)

    References:
        arXiv 2509.17411 for the groups, arXiv 2509.15759 for the steering.
    """

    def __init__(
        self,
        *,
        n_groups: int = 2,
        method: str = "affirmative",
        maps: str = "shared_covariance",
        priors: str = "reweigh",
        shrinkage: str | float | None = "oas",
        covariance: str = "full",
        restarts: int = 20,
        ridge: float = 1.0,
        max_steps: int = 500,
        random_state: RandomState = 0,
        sensitive_columns: Columns = None,
    ):
        self.n_groups = n_groups
        self.method = method
        self.maps = maps
        self.priors = priors
        self.shrinkage = shrinkage
        self.covariance = covariance
        self.restarts = restarts
        self.ridge = ridge
        self.max_steps = max_steps
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    def group_probabilities(self, sensitive_features: TableLike | None) -> np.ndarray:
        """Return the probability of every latent group, ``[n, G]``.

        Args:
            sensitive_features: The sensitive columns, as at fit time.
        """
        check_is_fitted(self)
        return self._shares(self._group(sensitive_features))

    def _fit(self, rows: Rows) -> None:
        s = self._encoded(rows)
        binary = len(self.classes_) == 2
        found = fit_rome_em(
            rows.label,
            np.concatenate([rows.X, s], 1),
            s,
            self.n_groups,
            family="bernoulli" if binary else "categorical",
            weights=rows.weight,
            restarts=self.restarts,
            ridge=self.ridge,
            max_steps=self.max_steps,
            key=random_key(self.random_state),
        )
        self.fit_: Any = on_host(found)
        self.responsibilities_: np.ndarray = np.asarray(
            self.fit_.responsibilities, float
        )
        population = fit_soft_population(
            jnp.asarray(rows.X),
            rows.label,
            found.responsibilities,
            shrinkage=self.shrinkage,
            weights=rows.weight,
            covariance=self.covariance,
            n_classes=len(self.classes_),
        )
        steering = nearest_ideal(
            population,
            intervention=self.method,
            maps=self.maps,
            priors=self.priors,
            differentiate="none",
        )
        self.steering_: Any = on_host(steering.require())
        cells = np.asarray(self.steering_.cell_weights, float)
        weights = np.sum(self.responsibilities_ * cells[rows.label], 1)
        self.sample_weight_: np.ndarray = (
            weights if rows.weight is None else weights * rows.weight
        )

    def _shares(self, table: Any) -> np.ndarray:
        encoded = self._encode(table)
        return np.asarray(self.fit_.group_probabilities(encoded), float)

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        shares = self._shares(group).astype(X.dtype)
        maps = self.steering_.group_maps
        images = [
            shares[:, code, None] * steer(maps, X, np.full(len(X), code))
            for code in range(shares.shape[1])
        ]
        return np.sum(images, 0)
