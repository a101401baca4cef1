"""Starts for a search over shapes: mixtures of the groups' own, and the best apart."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float

MIXTURES = 512
APART = 0.1  # share of the shapes' range within which a start is another one's


@cache
def _shares(n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares ``[MIXTURES - 1, G]`` of the groups, and signs; the same at every call.

    Each group alone, the middle of pairs, then two to four groups in random shares.
    """
    rng = np.random.default_rng(0)
    alone = np.eye(n_groups)[: MIXTURES // 4]
    rows = MIXTURES - 1 - len(alone)
    picked = rng.random((rows, n_groups)).argsort(1).argsort(1)
    members = rng.integers(2, 5, rows)
    mixed = rng.exponential(size=(rows, n_groups)) * (picked < members[:, None])
    mixed[: rows // 4] = picked[: rows // 4] < 2
    mixed = mixed / mixed.sum(1, keepdims=True)
    shares = np.concatenate([alone, mixed])
    return shares, rng.choice([-1.0, 1.0], shares.shape)


def mixtures(
    shapes: Float[Array, "G m"], mass: Float[Array, " G"], *, reflect: bool
) -> Float[Array, "n m"]:
    """Points to start from: the groups' shapes, their mean and mixtures of a few.

    Args:
        shapes: ``[G, m]``, means in the first half of each row, log-scales in the other.
        mass: ``[G]`` sizes of the groups.
        reflect: Whether a shape with its means turned is as good: then mixtures with the
            means turned towards the largest group's, and with random signs, as well.

    Returns:
        512 points, or 1,536.
    """
    shares, signs = (jnp.asarray(a, shapes.dtype) for a in _shares(shapes.shape[0]))
    mean = (mass / jnp.sum(mass))[None]
    shares = jnp.concatenate([shares, mean])
    if not reflect:
        return shares @ shapes
    half = shapes.shape[1] // 2
    loc, log_scale = shapes[:, :half], shapes[:, half:]
    scales = shares @ log_scale
    towards = jnp.where(loc @ loc[jnp.argmax(mass)] < 0, -1.0, 1.0)
    signs = jnp.concatenate([signs, jnp.ones_like(mean)])
    turned = [shares, shares * towards, shares * signs]
    return jnp.concatenate([jnp.concatenate([w @ loc, scales], 1) for w in turned])


def spread_out(
    points: Float[Array, "n m"], values: Float[Array, " n"], count: int
) -> Float[Array, "count m"]:
    """The lowest points of which none is close to a lower one.

    Args:
        points: ``[n, m]``.
        values: ``[n]``; one that is not finite is passed over.
        count: How many to take.
    """
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    width = jnp.max(points, 0) - jnp.min(points, 0)
    width = APART * jnp.where(width > 0, width, 1.0)

    def take(left, _):
        # Where every point is close to one taken before: the lowest of all, again.
        best = jnp.where(jnp.all(jnp.isinf(left)), jnp.argmin(values), jnp.argmin(left))
        close = jnp.all(jnp.abs(points - points[best]) <= width, 1)
        return jnp.where(close, jnp.inf, left), points[best]

    return jax.lax.scan(take, values, None, length=count)[1]
