"""Working dimensions: fit maps in a few directions, and lift them back."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, DTypeLike, Float, Key
from jaxsteer.linalg import eigh, matmul, qr, transpose
from jaxsteer.maps import AffineMap, LowRankMap
from jaxsteer.moments._finish import marginal_covariances, marginal_means
from jaxsteer.moments._state import MomentState


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Projection:
    """Coordinates ``y = basis' (x - center)`` along orthonormal directions.

    Attributes:
        basis: ``[d, m]`` orthonormal columns.
        center: ``[d]``.
        share: ``[]`` share of the variance that the coordinates keep; NaN if unknown.
    """

    basis: Float[Array, "d m"]
    center: Float[Array, " d"]
    share: Float[Array, ""]

    def __call__(self, x: Float[ArrayLike, "... d"]) -> Float[Array, "... m"]:
        """Return the coordinates of points."""
        return matmul(x - self.center, self.basis)

    def lift(self, map_: AffineMap | LowRankMap) -> LowRankMap:
        """Return the map of points that moves their coordinates as `map_` does.

        ``x -> x + basis (map(y) - y)``: what the coordinates do not see stays where it
        is. The identity lifts to the identity, and a composition to the composition.
        O(d m) a row, O(d r) where `map_` is of rank ``r``.

        Args:
            map_: A map of coordinates; leading axes are kept.
        """
        if isinstance(map_, LowRankMap):
            move, shift = map_.u, map_.b
            seen = matmul(self.basis, map_.v)
        else:
            m, leading = self.basis.shape[-1], map_.weight.shape[:-2]
            move, shift = map_.weight - jnp.eye(m, dtype=map_.weight.dtype), map_.bias
            seen = jnp.broadcast_to(self.basis, (*leading, *self.basis.shape))
        start = matmul(transpose(seen), self.center[:, None])
        shift = shift - matmul(move, start)[..., 0]
        return LowRankMap(
            matmul(self.basis, move), seen, matmul(shift, transpose(self.basis))
        )


def principal_projection(state: MomentState, n_components: int) -> Projection:
    """Directions of the largest variance of all rows together. O(d^3).

    Args:
        state: What was accumulated, with any scatter.
        n_components: ``m``.

    Returns:
        The mean of all rows, the directions as columns, and their variances.

    Raises:
        ValueError: If ``m`` is not between 1 and ``d``.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.moments import accumulate
        >>> x = np.array([[-2.0, 0.1], [2.0, -0.1], [-2.0, -0.1], [2.0, 0.1]])
        >>> state = accumulate([(x, np.zeros(4, int))], n_classes=1, scatter="pooled")
        >>> abs(principal_projection(state, 1).basis).round(3).tolist()
        [[1.0], [0.0]]
    """
    d = state.mean.shape[1]
    _check_components(n_components, d)
    cov = marginal_covariances(state, "all")[0]
    values, vectors = eigh(cov)
    kept = jnp.sum(jnp.maximum(values[d - n_components :], 0))
    total = jnp.sum(jnp.maximum(values, 0))
    return Projection(
        basis=vectors[:, ::-1][:, :n_components],
        center=marginal_means(state, "all")[1][0],
        share=kept / jnp.where(total > 0, total, 1.0),
    )


def random_projection(
    key: Key[Array, ""],
    n_features: int,
    n_components: int,
    *,
    dtype: DTypeLike | None = None,
) -> Projection:
    """Uniformly random orthonormal directions, for features too many for covariances.

    Args:
        key: A random key.
        n_features: ``d``.
        n_components: ``m``.
        dtype: Of the directions.

    Raises:
        ValueError: If ``m`` is not between 1 and ``d``.

    References:
        Johnson and Lindenstrauss 1984. (Coordinates are not scaled by ``sqrt(d / m)``.)
    """
    _check_components(n_components, n_features)
    normal = jax.random.normal(key, (n_features, n_components), dtype)
    basis = qr(normal)[0]
    center = jnp.zeros(n_features, basis.dtype)
    return Projection(
        basis=basis, center=center, share=jnp.full((), jnp.nan, basis.dtype)
    )


def _check_components(n_components: int, d: int) -> None:
    if not 1 <= n_components <= d:
        raise ValueError(
            f"n_components={n_components} must be between 1 and the {d} features."
        )
