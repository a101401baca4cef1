"""Maps of each group applied to rows in NumPy, in the rows' own precision."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxsteer._errors import check_same_length
from jaxsteer._types import TableLike
from jaxsteer.estimators._base import GroupTransformer
from jaxsteer.maps import AffineMap, DiagonalMap


def on_host(result: Any) -> Any:
    """Return the same object with NumPy arrays in the place of JAX arrays."""
    return jax.device_get(result)


def steer(
    maps: Any, X: np.ndarray, group: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Apply to each row the map of its group, ``[n, m]`` in the dtype of `X`.

    Affine maps are applied by NumPy, so that a float64 row keeps its digits whatever
    precision JAX runs in, and rows of any number need no compilation.

    Args:
        maps: Maps with a leading axis of groups.
        X: ``[n, d]`` rows.
        group: ``[n]`` group codes.
        strength: From 0, the rows as they are, to 1, the full maps.
    """
    check_same_length(X=X, group=group)
    out: Any = None
    for code in np.unique(group):
        mine = np.flatnonzero(group == code)
        moved = _apply(_take(maps, code), X[mine], strength)
        if out is None:
            out = np.empty((len(X), moved.shape[1]), X.dtype)
        out[mine] = moved
    return out


def unsteer(
    maps: Any, X: np.ndarray, group: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """Apply to each row the inverse of the map of its group."""
    check_same_length(X=X, group=group)
    out = np.empty_like(X)
    for code in np.unique(group):
        mine = np.flatnonzero(group == code)
        out[mine] = _invert(_take(maps, code), X[mine], strength)
    return out


class AffineGroupSteering(GroupTransformer):
    """A transformer with one affine map for each group, and the way back.

    Subclasses set ``maps_`` (leading axis ``[G]``) and may have a ``strength``.
    """

    maps_: Any
    strength: float = 1.0

    def inverse_transform(
        self, X: TableLike, *, sensitive_features: TableLike | None = None
    ) -> np.ndarray:
        """Carry steered rows back to where they came from.

        Args:
            X: ``[n, d]`` steered rows.
            sensitive_features: ``[n]`` groups, or ``[n, m]`` columns: steered rows no
                longer hold sensitive columns.

        Returns:
            ``[n, d]`` rows without the sensitive columns.

        Raises:
            ValueError: If a group was not there at fit time, `X` is unusable, or a map
                has no inverse.
        """
        return self._back(*self._steered_rows(X, sensitive_features))

    def _maps(self) -> Any:
        return self.maps_

    def _transform(self, X: np.ndarray, group: Any) -> np.ndarray:
        return steer(self._maps(), X, group, self.strength)

    def _back(self, X: np.ndarray, group: Any) -> np.ndarray:
        return unsteer(self._maps(), X, group, self.strength)


def _take(maps: Any, code: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[code], maps)


def _apply(one: Any, X: np.ndarray, strength: float) -> np.ndarray:
    if isinstance(one, AffineMap):
        weight, bias = _partial(one, strength)
        moved = X @ weight.T + bias
    elif isinstance(one, DiagonalMap):
        scale, shift = np.asarray(one.scale), np.asarray(one.shift)
        moved = X * (1 + strength * (scale - 1)) + strength * shift
    else:
        moved = np.asarray((one if strength == 1 else one.interpolate(strength))(X))
    return moved.astype(X.dtype, copy=False)


def _invert(one: Any, X: np.ndarray, strength: float) -> np.ndarray:
    if isinstance(one, AffineMap):
        weight, bias = (part.astype(float) for part in _partial(one, strength))
        try:
            moved = np.linalg.solve(weight, (X - bias).T).T
        except np.linalg.LinAlgError as error:
            raise ValueError("A map of this steering has no inverse.") from error
    elif isinstance(one, DiagonalMap):
        scale = 1 + strength * (np.asarray(one.scale) - 1)
        moved = (X - strength * np.asarray(one.shift)) / scale
    else:
        one = one if strength == 1 else one.interpolate(strength)
        moved = np.asarray(one.inverse()(X))
    return moved.astype(X.dtype, copy=False)


def _partial(one: AffineMap, strength: float) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = np.asarray(one.weight), np.asarray(one.bias)
    if strength == 1:
        return weight, bias
    identity = np.eye(len(weight), dtype=weight.dtype)
    return identity + strength * (weight - identity), strength * bias
