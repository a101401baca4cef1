"""``nearest_ideal`` as a scikit-learn transformer."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._types import Columns
from jaxsteer.estimators._base import Rows
from jaxsteer.estimators._cell_weights import CellWeights
from jaxsteer.estimators._columns import near_discrete_columns
from jaxsteer.estimators._group_maps import (
    AffineGroupSteering,
    on_host,
    steer,
    unsteer,
)
from jaxsteer.estimators._rows import reference_code
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments import fit_population

_solve = jax.jit(
    nearest_ideal, static_argnames=("intervention", "reference", "maps", "priors")
)


class IdealSteering(CellWeights, AffineGroupSteering):
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
        discrete: "stay": columns of 0 and 1, counts and others of few distinct values,
            or with one value in a tenth of the rows, are left as they are under a normal
            family. Moved ones (with "move") lie at other values in each group, where a
            tree reads the group: on five tables boosted trees then had gaps a tenth
            larger, and both learners a lower area under the curve
            (``benchmarks/results/discrete_columns.md``).
        sensitive_columns: Names or positions of the columns of `X` that hold the group,
            left out of what is steered; or a function that takes `X` and returns the
            groups, leaving nothing out. None where groups come beside `X`.

    Attributes:
        classes_: The labels, ``[K]``.
        groups_: The groups, ``[G]``.
        reference_: The group that stays.
        steering_: The :class:`jaxsteer.Steering` of the columns that move, with NumPy
            arrays.
        moved_: ``[d]`` which columns move. If all are discrete none does, and
            `steering_`, of all columns, is there for its weights.
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
        reference: object = None,
        family: str = "normal",
        shrinkage: str | float | None = "oas",
        covariance: str = "full",
        strength: float = 1.0,
        discrete: str = "stay",
        sensitive_columns: Columns = None,
    ):
        self.method = method
        self.maps = maps
        self.priors = priors
        self.reference = reference
        self.family = family
        self.shrinkage = shrinkage
        self.covariance = covariance
        self.strength = strength
        self.discrete = discrete
        self.sensitive_columns = sensitive_columns

    def _check_options(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be from 0 to 1, got {self.strength}.")
        check_choice("discrete", self.discrete, ("stay", "move"))

    def _fit(self, rows: Rows) -> None:
        reference = reference_code(self.reference, rows.group, self.groups_)
        self.reference_: Any = self.groups_[reference]
        stays = np.zeros(rows.X.shape[1], bool)
        if self.discrete == "stay" and "normal" in str(self.family):
            stays = near_discrete_columns(rows.X)
        self.moved_: np.ndarray = ~stays
        if stays.all():
            warnings.warn(
                "All columns of X have few distinct values and stay as they are: only "
                "sample_weight_ is left of this steering. Steer the score instead "
                "(FairScore), or pass discrete='move'.",
                stacklevel=3,
            )
        used = rows.X if stays.all() or not stays.any() else rows.X[:, ~stays]
        population = fit_population(
            jnp.asarray(used),
            rows.label,
            rows.group,
            self.family,
            self.shrinkage,
            rows.weight,
            covariance=self.covariance,
        )
        steering = _solve(
            population,
            intervention=self.method,
            reference=reference,
            maps=self.maps,
            priors=self.priors,
        )
        self.steering_: Any = on_host(steering.require())
        self._weigh(rows)

    def _maps(self) -> Any:
        return self.steering_.group_maps

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        return self._on_moved(steer, X, group)

    def _back(self, X: np.ndarray, group: Any) -> np.ndarray:
        return self._on_moved(unsteer, X, group)

    def _on_moved(self, apply: Any, X: np.ndarray, group: Any) -> np.ndarray:
        moved = vars(self).get("moved_")  # not there in files of earlier versions
        if moved is None or moved.all():
            return apply(self._maps(), X, group, self.strength)
        out = X.copy()
        if moved.any():
            part = X[:, moved]
            out[:, moved] = apply(self._maps(), part, group, self.strength)
        return out

    def _cell_weights(self) -> np.ndarray:
        return np.asarray(self.steering_.cell_weights, float)
