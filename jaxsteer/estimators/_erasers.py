"""Concept erasure as scikit-learn transformers: LEACE of three kinds, and INLP."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.utils.metaestimators import available_if

from jaxsteer._errors import check_choice
from jaxsteer._types import Columns, TableLike
from jaxsteer.baselines import (
    fit_inlp,
    fit_leace,
    fit_oracle_leace,
    fit_quadratic_leace,
)
from jaxsteer.estimators._base import GroupTransformer, Rows
from jaxsteer.estimators._group_maps import AffineGroupSteering, on_host, steer
from jaxsteer.maps import Map

KINDS = ("plain", "oracle", "quadratic")


def _has_inverse(eraser: Any) -> bool:
    return eraser.kind != "plain"


class LEACE(AffineGroupSteering):
    """Erase the group, so that no linear probe finds it in the rows.

    Labels are not read: where groups and classes go together, the classes go too.

    Args:
        kind: "plain": one map for all rows, which needs no group later; "oracle": the
            least shift of each group, which does; "quadratic": one mean and one
            covariance for all groups, so that no quadratic probe finds it either.
        shrinkage: Of the whitening, for "plain"; see
            :func:`jaxsteer.baselines.fit_leace`.
        ridge: Added to every variance, for "quadratic".
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        groups_: The groups, ``[G]``.
        maps_: The :class:`jaxsteer.AffineMap` of every group (the same ones for
            "plain"), with NumPy arrays.

    Example:
        >>> import numpy as np
        >>> X = np.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
        >>> eraser = LEACE().fit(X, sensitive_features=["f", "f", "m", "m"])
        >>> eraser.transform(X).round(3).tolist()
        [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]

    References:
        Belrose et al. 2023, arXiv 2306.03819.
    """

    _target = None

    def __init__(
        self,
        *,
        kind: str = "plain",
        shrinkage: float | str | None = None,
        ridge: float = 1e-5,
        sensitive_columns: Columns = None,
    ):
        self.kind = kind
        self.shrinkage = shrinkage
        self.ridge = ridge
        self.sensitive_columns = sensitive_columns

    @available_if(_has_inverse)
    def inverse_transform(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Carry erased rows back, for "oracle" and "quadratic".

        Args:
            X: ``[n, d]`` erased rows.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns.
        """
        return super().inverse_transform(X, sensitive_features=sensitive_features)

    def _check_options(self) -> None:
        check_choice("kind", self.kind, KINDS)

    def _fit(self, rows: Rows) -> None:
        options: dict[str, Any] = {
            "weights": rows.weight,
            "n_concepts": len(self.groups_),
        }
        if self.kind == "plain":
            one = fit_leace(rows.X, rows.group, shrinkage=self.shrinkage, **options)
            self.maps_: Any = _for_all(one, len(self.groups_))
        elif self.kind == "oracle":
            self.maps_: Any = on_host(
                fit_oracle_leace(rows.X, rows.group, **options).maps()
            )
        else:
            found = fit_quadratic_leace(rows.X, rows.group, ridge=self.ridge, **options)
            self.maps_: Any = on_host(found)

    def _is_blind(self) -> bool:
        return self.kind == "plain"

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        group = np.zeros(len(X), int) if group is None else group
        return super()._transform(X, group)


class INLP(GroupTransformer):
    """Take the directions of linear probes of the group away, one after another.

    One map for all rows, which needs no group later. Labels are not read.

    Args:
        n_steps: Largest number of probes.
        min_gain: No more probes after one that is not above chance by more than this.
        l2: Penalty of the probes.
        standardize: Whether "orthogonal" is meant in units of the columns' deviations.
        sensitive_columns: As in :class:`IdealSteering`.

    Attributes:
        groups_: The groups, ``[G]``.
        map_: The :class:`jaxsteer.AffineMap`, with NumPy arrays.

    Example:
        >>> import numpy as np
        >>> X = np.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
        >>> eraser = INLP().fit(X, sensitive_features=["f", "f", "m", "m"])
        >>> eraser.transform(X).round(3).tolist()
        [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]

    References:
        Ravfogel et al. 2020, arXiv 2004.07667.
    """

    _target = None

    def __init__(
        self,
        *,
        n_steps: int = 10,
        min_gain: float = 0.0,
        l2: float = 1e-4,
        standardize: bool = False,
        sensitive_columns: Columns = None,
    ):
        self.n_steps = n_steps
        self.min_gain = min_gain
        self.l2 = l2
        self.standardize = standardize
        self.sensitive_columns = sensitive_columns

    def _fit(self, rows: Rows) -> None:
        found = fit_inlp(
            rows.X,
            rows.group,
            weights=rows.weight,
            n_concepts=len(self.groups_),
            n_steps=self.n_steps,
            min_gain=self.min_gain,
            l2=self.l2,
            standardize=self.standardize,
        )
        self.map_: Map = on_host(found)

    def _is_blind(self) -> bool:
        return True

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        del group
        return steer(_for_all(self.map_, 1), X, np.zeros(len(X), int))


def _for_all(one: Any, size: int) -> Any:
    """The same map for every group, with a leading axis ``[size]``."""
    return jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (size, *np.shape(leaf))), on_host(one)
    )
