"""``gaussian_channel`` as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from jaxsteer._types import ColumnLike, Columns, RandomState
from jaxsteer.channels import gaussian_channel, row_uniform
from jaxsteer.estimators._base import GroupTransformer, Rows
from jaxsteer.estimators._cell_weights import CellWeights
from jaxsteer.estimators._group_maps import on_host, steer
from jaxsteer.estimators._rows import random_key, reference_code
from jaxsteer.maps import AffineMap
from jaxsteer.moments import fit_population


class GaussianChannel(CellWeights, GroupTransformer):
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
        random_state: An integer gives the same noise at each call to the same row,
            whatever stands beside it; None gives new noise at each call.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        reference_: The group whose frame is kept.
        steering_: The :class:`jaxsteer.Steering`, with NumPy arrays.
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
        reference: object = None,
        shrinkage: str | float | None = "oas",
        deterministic: bool = False,
        random_state: RandomState = None,
        sensitive_columns: Columns = None,
    ):
        self.subspace = subspace
        self.reference = reference
        self.shrinkage = shrinkage
        self.deterministic = deterministic
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    def get_feature_names_out(
        self, input_features: ColumnLike | None = None
    ) -> np.ndarray:
        """Return the names of the output columns."""
        names = self._feature_names(input_features)
        if self.subspace == "discriminant":
            size = len(self.classes_) - 1
            return np.array([f"discriminant{i}" for i in range(size)], object)
        return names

    def _fit(self, rows: Rows) -> None:
        reference = reference_code(self.reference, rows.group, self.groups_)
        self.reference_: Any = self.groups_[reference]
        population = fit_population(
            jnp.asarray(rows.X),
            rows.label,
            rows.group,
            "normal",
            self.shrinkage,
            rows.weight,
        )
        channel = gaussian_channel(
            population, subspace=self.subspace, reference=reference
        )
        self.steering_: Any = on_host(channel.require())
        self._weigh(rows)

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        moved = steer(self.steering_.group_maps, X, group)
        if self.deterministic:
            return moved
        noise = _row_normal(random_key(self.random_state), X, moved.shape[1])
        factors: Any = self.steering_.noise
        none: Any = np.zeros(factors.shape[:2], factors.dtype)
        spread = AffineMap(factors, none)
        return moved + steer(spread, noise.astype(X.dtype), group)

    def _cell_weights(self) -> np.ndarray:
        return np.asarray(self.steering_.cell_weights, float)


def _row_normal(key: jax.Array, X: np.ndarray, size: int) -> np.ndarray:
    """Standard normal numbers ``[n, size]`` that belong to the rows."""
    keys = (jax.random.fold_in(key, place) for place in range(size))
    draws = np.stack([np.asarray(row_uniform(one, X), float) for one in keys], 1)
    # Half of a float32's last place up: never 0, whose quantile is infinite.
    return ndtri(draws + 2.0**-25)
