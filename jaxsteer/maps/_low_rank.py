"""Affine maps that differ from the identity in a few directions."""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, DTypeLike, Float
from jaxsteer.linalg import matmul, solve, svd, transpose
from jaxsteer.maps._affine import AffineMap
from jaxsteer.maps._content import from_numpy, to_numpy
from jaxsteer.storage import content_hash


def _apply(matrix: Array, vector: Array) -> Array:
    return matmul(matrix, vector[..., None])[..., 0]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRankMap:
    """The map ``x -> x + u (v' x) + b``.

    Erasers of a few classes have this form, and maps fitted in a few directions and
    lifted back. Applying one costs O(d r) a row and storing it O(d r), against O(d^2).

    Attributes:
        u: ``[..., d, r]`` the directions along which points move.
        v: ``[..., d, r]`` the directions that tell how far.
        b: ``[..., d]`` the shift of all points.

    Example:
        >>> import jax.numpy as jnp
        >>> e = jnp.array([[1.0], [0.0]])
        >>> flip = LowRankMap(e, -2 * e, jnp.zeros(2))
        >>> flip(jnp.array([1.0, 2.0])).tolist()
        [-1.0, 2.0]
        >>> flip.compose(flip)(jnp.array([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    u: Float[Array, "... d r"]
    v: Float[Array, "... d r"]
    b: Float[Array, "... d"]

    @classmethod
    def identity(
        cls, d: int, rank: int = 0, dtype: DTypeLike | None = None
    ) -> LowRankMap:
        """Return the map that changes nothing."""
        none = jnp.zeros((d, rank), dtype)
        return cls(none, none, jnp.zeros(d, dtype))

    @classmethod
    def from_dense(cls, map_: AffineMap, *, rank: int | None = None) -> LowRankMap:
        """Write an affine map in this form, by singular values of ``W - I``. O(d^3).

        Args:
            map_: The map, of as many features as it returns.
            rank: Number of directions; None takes as many as `map_` needs (the most of
                any in a batch), which needs concrete values.

        Returns:
            The same map up to rounding: singular values up to ``d * eps`` times
            ``max(1, |W - I|)`` count as zero.

        Raises:
            ValueError: If the map changes the number of features, is traced without a
                `rank`, or `rank` is too small to be exact; while it is traced the
                largest directions are kept without a word.

        Example:
            >>> import jax.numpy as jnp
            >>> LowRankMap.from_dense(AffineMap.identity(3)).rank
            0
        """
        m, d = map_.weight.shape[-2:]
        if m != d:
            raise ValueError(
                f"map_ takes {d} features and returns {m}; only maps that keep the number "
                f"of features are near the identity."
            )
        change = map_.weight - jnp.eye(d, dtype=map_.weight.dtype)
        if rank is None and not is_concrete(change):
            raise ValueError("map_ is traced, so its rank is unknown: pass rank=...")
        left, size, right = svd(change)
        if is_concrete(size):
            rank = _checked_rank(np.asarray(size), rank, change.dtype)
        root = jnp.sqrt(size[..., None, :rank])
        return cls(
            left[..., :rank] * root, transpose(right)[..., :rank] * root, map_.bias
        )

    @classmethod
    def from_numpy(cls, u: ArrayLike, v: ArrayLike, b: ArrayLike) -> LowRankMap:
        """Build a map from arrays, with their shapes checked.

        Raises:
            ValueError: If shapes disagree or the numbers are not floating point.
        """
        return from_numpy(
            cls, {"u": u, "v": v, "b": b}, {"u": "dr", "v": "dr", "b": "d"}
        )

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Return the fields by name, as ``LowRankMap.from_numpy(**...)`` takes them."""
        return to_numpy(self)

    def content_hash(self) -> str:
        """Return a hash of the content; see :func:`jaxsteer.maps.content_hash`."""
        return content_hash(self)

    @property
    def rank(self) -> int:
        """Number of directions."""
        return self.u.shape[-1]

    def __call__(self, x: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
        """Apply one map to points ``[..., d]``; batch maps with ``vmap``."""
        x = jnp.asarray(x)
        return x + matmul(matmul(x, self.v), self.u.T) + self.b

    @overload
    def compose(self, first: LowRankMap) -> LowRankMap: ...

    @overload
    def compose(self, first: AffineMap) -> AffineMap: ...

    def compose(self, first: LowRankMap | AffineMap) -> LowRankMap | AffineMap:
        """Return ``x -> self(first(x))``; leading axes broadcast.

        Ranks add. After a dense map the result is dense.
        """
        if isinstance(first, AffineMap):
            moved = matmul(self.u, matmul(transpose(self.v), first.weight))
            return AffineMap(first.weight + moved, self._image(first.bias))
        inner = self.v + matmul(first.v, matmul(transpose(first.u), self.v))
        batch = jnp.broadcast_shapes(inner.shape[:-2], self.u.shape[:-2])

        def side(*parts: Array) -> Array:
            whole = [jnp.broadcast_to(p, batch + p.shape[-2:]) for p in parts]
            return jnp.concatenate(whole, -1)

        return LowRankMap(
            side(first.u, self.u), side(first.v, inner), self._image(first.b)
        )

    def inverse(self) -> LowRankMap:
        """Return the inverse map (NaN or infinite where there is none). O(d r^2).

        By Woodbury's identity: ``(I + u v')^{-1} = I - u (I + v' u)^{-1} v'``.
        """
        core = jnp.eye(self.rank, dtype=self.u.dtype) + matmul(
            transpose(self.v), self.u
        )
        u = -transpose(solve(transpose(core), transpose(self.u)))
        return LowRankMap(
            u, self.v, -self.b - _apply(u, _apply(transpose(self.v), self.b))
        )

    def interpolate(self, strength: Float[Array, ""] | float) -> LowRankMap:
        """Return ``x -> (1 - strength) x + strength * self(x)``."""
        return LowRankMap(strength * self.u, self.v, strength * self.b)

    def n_features(self, batch: int) -> int:
        """Length of a vector that a map takes."""
        del batch
        return self.u.shape[-2]

    def to_dense(self) -> AffineMap:
        """Return the same map as an :class:`AffineMap`. O(d^2 r)."""
        identity = jnp.eye(self.u.shape[-2], dtype=self.u.dtype)
        return AffineMap(identity + matmul(self.u, transpose(self.v)), self.b)

    def _image(self, point: Array) -> Array:
        return point + _apply(self.u, _apply(transpose(self.v), point)) + self.b


def _checked_rank(size: np.ndarray, rank: int | None, dtype: Any) -> int:
    limit = size.shape[-1] * float(jnp.finfo(dtype).eps)
    largest = np.maximum(size.max(-1, initial=0.0), 1.0)
    needed = int((size > limit * largest[..., None]).sum(-1).max(initial=0))
    if rank is None:
        return needed
    if rank < needed:
        raise ValueError(
            f"rank={rank} is too small: the map differs from the identity in {needed} "
            f"directions; pass rank={needed} or more, or leave it out."
        )
    return rank
