"""Oracle LEACE: the least movement that erases a concept whose value is known.

Formula: ``x -> x - S_xz S_zz^+ (z - mean z)``, the residual of the regression on ``z``.

Idea: with the concept of every row at hand its linear part can be taken away exactly;
for classes this shifts every class onto the common mean.

Siblings: LEACE does without the concept of a new row, and moves the rows more for it;
mean matching is the same shift for classes, onto one of them instead of the common mean.

Paper: Belrose et al. 2023, arXiv 2306.03819, section on oracle erasure.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_same_length
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.baselines._leace import check_concepts
from jaxsteer.baselines._moments import as_rows, as_weights, group_means
from jaxsteer.linalg import matmul, roots_psd
from jaxsteer.maps import AffineMap


@register_dataclass
@dataclasses.dataclass(frozen=True)
class OracleEraser:
    """The map ``x, z -> x - coef @ (z - center)``.

    Attributes:
        coef: ``[d, k]`` regression coefficients of the features on the concepts.
        center: ``[k]`` means of the concepts.
    """

    coef: Float[Array, "d k"]
    center: Float[Array, " k"]

    def __call__(
        self,
        x: Float[ArrayLike, "... d"],
        z: Int[ArrayLike, "..."] | Float[ArrayLike, "..."],
    ) -> Float[Array, "... d"]:
        """Erase the concept from rows.

        Args:
            x: ``[..., d]`` features.
            z: ``[...]`` codes, or ``[..., k]`` real concepts (``[...]`` where k is 1).
        """
        x, z = jnp.asarray(x), jnp.asarray(z)
        k = self.center.shape[0]
        if not jnp.issubdtype(z.dtype, jnp.floating):
            z = jax.nn.one_hot(z.astype(jnp.int32), k, dtype=self.coef.dtype)
        elif z.ndim < jnp.ndim(x):
            z = z[..., None]
        return x - matmul(z - self.center, self.coef.T)

    def maps(self) -> AffineMap:
        """Return the shift of every code as a map with leading axis ``[k]``."""
        d, k = self.coef.shape
        shift = -(self.coef - matmul(self.coef, self.center)[:, None]).T
        identity = jnp.eye(d, dtype=self.coef.dtype)
        return AffineMap(jnp.broadcast_to(identity, (k, d, d)), shift)


def fit_oracle_leace(
    x: Float[ArrayLike, "n d"],
    z: Int[ArrayLike, " n"] | Float[ArrayLike, " n"] | Float[ArrayLike, "n k"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_concepts: int | None = None,
) -> OracleEraser:
    """Fit the eraser of a concept that is known for every row, at inference too.

    Cost O(n d) for codes, otherwise O(n k (d + k) + k^3); differentiable in `x`,
    `weights` and real `z` while the rank of the concepts does not change.

    Args:
        x: ``[n, d]`` features.
        z: ``[n]`` integer codes ``0..k-1``, or ``[n]`` or ``[n, k]`` real concepts.
        weights: ``[n]`` sample weights, at least 0.
        n_concepts: k for integer codes; None takes the largest code plus one, which
            needs concrete codes.

    Returns:
        A map that takes rows and their concepts; :meth:`OracleEraser.maps` gives one
        :class:`jaxsteer.AffineMap` for every code.

    Raises:
        ValueError: If shapes, codes, weights or values are unusable.

    Example:
        >>> import jax.numpy as jnp
        >>> x, z = jnp.array([[0.0], [2.0], [5.0], [7.0]]), jnp.array([0, 0, 1, 1])
        >>> fit_oracle_leace(x, z)(x, z).round(3).tolist()
        [[2.5], [4.5], [2.5], [4.5]]

    References:
        Belrose et al. 2023, arXiv 2306.03819.
    """
    rows = as_rows("x", x)
    check_same_length(x=x, z=z, weights=weights)
    codes, size = check_concepts(z, n_concepts)
    mass = as_weights(weights, rows)
    # Truth values are codes, too; as indices they would choose rows.
    concepts: Any = jnp.asarray(z, jnp.int32 if codes else rows.dtype)
    if not codes:
        concepts = concepts.reshape(np.shape(rows)[0], size)
    if codes:
        return _of_classes(rows, concepts, mass, size)
    return _of_concepts(rows, concepts, mass)


@partial(jax.jit, static_argnums=3)
def _of_classes(rows: Array, codes: Array, mass: Array, size: int) -> OracleEraser:
    # The regression on one-hot vectors is known: it predicts the class means.
    share = jax.ops.segment_sum(mass / jnp.sum(mass), codes, size)
    means = group_means(rows, codes, mass, size)
    means = jnp.where(share[:, None] > 0, means, 0)
    return OracleEraser((means - matmul(share, means)).T, share)


@jax.jit
def _of_concepts(rows: Array, z: Array, mass: Array) -> OracleEraser:
    share = mass / jnp.sum(mass)
    rough = jnp.mean(rows, 0)
    centered = rows - (rough + matmul(share, rows - rough))
    z_rough = jnp.mean(z, 0)
    z_mean = z_rough + matmul(share, z - z_rough)
    z_centered = z - z_mean
    # Concepts in their own deviations, so that small ones count as any other.
    variance = matmul(share, z_centered**2)
    varies = variance > (4 * jnp.finfo(rows.dtype).eps * z_mean) ** 2
    scale = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 1)
    standard = jnp.where(varies, z_centered / scale, 0)
    weighted = share[:, None] * standard
    inverse = roots_psd(matmul(weighted.T, standard))[1]
    cross = matmul(centered.T, weighted)
    return OracleEraser(matmul(matmul(cross, inverse), inverse) / scale, z_mean)
