"""Mixture transport: each cluster of the source goes to the clusters of the target.

Formula: ``x -> sum_i r_i(x) sum_j (P_ij / p_i) T_ij(x)`` with the responsibilities
``r_i(x)`` of the source's Gaussian components, the coupling ``P`` of the components'
weights that costs least in squared Wasserstein distance, and the Gaussian transports (or
shifts between means) ``T_ij``.

Idea: one affine map assumes that a concept looks alike wherever it comes up. Where each
side has several clusters, each of them is moved by a map of its own, soft between them.

Siblings: with one component it is the Gaussian transport of MiMiC, or mean matching.
Unlike the affine methods it is no affine map; like MiMiC it matches marginals.

Paper: CHaRS, arXiv 2603.02237 (optimal transport between clusters, an input-dependent
map by responsibilities); Delon and Desolneux 2020, arXiv 1907.05254, for transport
between Gaussian mixtures. Clusters come from k-means here.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.baselines._moments import as_rows
from jaxsteer.linalg import cholesky_inverse, einsum, matmul
from jaxsteer.maps import AffineMap, gaussian_transport

# Temperatures of the coupling, and sweeps at each.
_STEPS, _SWEEPS = 20, 50


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureTransport:
    """A soft choice among one affine map for each component.

    Attributes:
        weights: ``[K]`` of the source's components.
        means: ``[K, d]``.
        whiteners: ``[K, d, d]`` inverse Cholesky factors of the covariances.
        coupling: ``[K, L]``: how much of each component goes to each of the target's.
        maps: A map for each component ``[K]``.
    """

    weights: Float[Array, " K"]
    means: Float[Array, "K d"]
    whiteners: Float[Array, "K d d"]
    coupling: Float[Array, "K L"]
    maps: AffineMap

    def responsibilities(self, x: Float[ArrayLike, "... d"]) -> Float[Array, "... K"]:
        """Return the posterior of the components. O(K d^2) a row."""
        centered = jnp.asarray(x)[..., None, :] - self.means
        white = einsum("kde,...ke->...kd", self.whiteners, centered)
        diagonal = jnp.diagonal(self.whiteners, axis1=-2, axis2=-1)
        logs = jnp.log(self.weights) + jnp.sum(jnp.log(diagonal), -1)
        return jax.nn.softmax(logs - 0.5 * jnp.sum(white**2, -1), axis=-1)

    def __call__(self, x: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
        """Move rows. O(K d^2) a row."""
        x = jnp.asarray(x)
        moved = einsum("kde,...e->...kd", self.maps.weight, x) + self.maps.bias
        return jnp.sum(self.responsibilities(x)[..., None] * moved, axis=-2)


def fit_mixture_transport(
    x: Float[ArrayLike, "n d"],
    target: Float[ArrayLike, "m d"],
    *,
    n_components: int | tuple[int, int],
    key: Key[Array, ""],
    transport: str = "gaussian",
    shrinkage: float = 0.1,
    entropy: float = 0.01,
) -> MixtureTransport:
    """Fit clusters on both sides, their coupling and a map for each.

    Cost O((n + m) K d) a sweep of k-means, and O(K L d^3) for the maps. Not
    differentiable: clusters are chosen.

    Args:
        x: ``[n, d]`` rows to be moved.
        target: ``[m, d]`` rows that show where to.
        n_components: Clusters of each side, or of source and target.
        key: Random key for the first centres.
        transport: ``"gaussian"`` moves covariances too, ``"mean"`` shifts means only.
        shrinkage: Share of the side's pooled within-cluster covariance in that of each
            cluster, in (0, 1]; it must be positive where a cluster has fewer rows than
            features, and 1 gives all clusters one covariance.
        entropy: Temperature of the coupling, as a share of the mean cost: near 0 each
            component goes to as few of the target's as the weights allow.

    Returns:
        The map.

    Raises:
        ValueError: If shapes, values or options are unusable, or the pooled covariance
            within clusters is singular.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jnp.array([[0.0], [1.0], [10.0], [11.0]])
        >>> target = jnp.array([[2.0], [3.0], [20.0], [21.0]])
        >>> found = fit_mixture_transport(x, target, n_components=2, key=jax.random.key(0))
        >>> found(x).round(2).tolist()
        [[2.0], [3.0], [20.0], [21.0]]

    References:
        arXiv 2603.02237; Delon and Desolneux 2020, arXiv 1907.05254.
    """
    check_choice("transport", transport, ("gaussian", "mean"))
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage={shrinkage!r} must be above 0 and at most 1.")
    if not entropy > 0:
        raise ValueError(f"entropy={entropy!r} must be above 0.")
    if not is_concrete(x, target):
        raise ValueError("x or target is traced; fit outside of jit.")
    rows, ends = as_rows("x", x), as_rows("target", target)
    if rows.shape[1] != ends.shape[1]:
        raise ValueError(
            f"x has {rows.shape[1]} features and target {ends.shape[1]}; both need the "
            f"same."
        )
    pair = (n_components,) * 2 if isinstance(n_components, int) else tuple(n_components)
    for name, count, side in zip(("x", "target"), pair, (rows, ends), strict=True):
        if not 1 <= count <= len(side):
            raise ValueError(
                f"n_components={n_components!r}: {name} has {len(side)} rows; take at "
                f"least 1 and at most as many."
            )
    keys = jax.random.split(key)
    source = _clusters(rows, pair[0], keys[0], shrinkage)
    goal = _clusters(ends, pair[1], keys[1], shrinkage)
    whiteners = cholesky_inverse(source[2])[1]
    if not np.isfinite(np.asarray(whiteners)).all():
        raise ValueError(
            "The covariance within the clusters of x is singular: drop constant and "
            "collinear features, or take fewer components."
        )
    each = jax.vmap(jax.vmap(_transport, (None, None, 0, 0)), (0, 0, None, None))
    maps = each(source[1], source[2], goal[1], goal[2])
    if transport == "mean":
        shift = goal[1][None] - source[1][:, None]
        identity = jnp.eye(rows.shape[1], dtype=rows.dtype)
        maps = AffineMap(jnp.broadcast_to(identity, maps.weight.shape), shift)
    coupling = _coupling(source, goal, maps, entropy)
    share = coupling / jnp.sum(coupling, 1, keepdims=True)
    return MixtureTransport(
        weights=source[0],
        means=source[1],
        whiteners=whiteners,
        coupling=coupling,
        maps=jax.tree.map(lambda a: jnp.einsum("kl,kl...->k...", share, a), maps),
    )


def _transport(mean: Array, cov: Array, goal_mean: Array, goal_cov: Array) -> AffineMap:
    return gaussian_transport(mean, cov, goal_mean, goal_cov)


def _clusters(rows: Array, count: int, key: Array, shrinkage: float):
    """Weights, means and covariances of k-means clusters, begun with k-means++."""
    scale = jnp.std(rows, axis=0)
    points = rows / jnp.where(scale > 0, scale, 1)
    code = np.asarray(_k_means(points, key, count))
    x = np.asarray(rows)
    present = np.unique(code)
    weights = np.array([np.mean(code == c) for c in present])
    means = np.stack([x[code == c].mean(0) for c in present])
    covs = np.stack(
        [np.cov(x[code == c].T, ddof=0).reshape((x.shape[1],) * 2) for c in present]
    )
    pooled = np.einsum("k,kde->de", weights, covs)
    covs = (1 - shrinkage) * covs + shrinkage * pooled
    return tuple(jnp.asarray(a, rows.dtype) for a in (weights, means, covs))


@partial(jax.jit, static_argnums=2)
def _k_means(points: Array, key: Array, count: int):
    def distances(centres: Array):
        return jnp.sum((points[:, None] - centres) ** 2, -1)

    def add(carry: tuple[Array, Array], inputs: tuple[Array, Array]):
        key, place = inputs
        nearest, centres = carry
        new = points[jax.random.categorical(key, jnp.log(nearest))]
        nearest = jnp.minimum(nearest, jnp.sum((points - new) ** 2, -1))
        return (nearest, centres.at[place].set(new)), None

    keys = jax.random.split(key, count)
    centres = jnp.broadcast_to(jnp.mean(points, 0), (count, points.shape[1]))
    # The first centre is any row, the next ones are far from those before.
    first = points[jax.random.randint(keys[0], (), 0, len(points))]
    nearest = jnp.sum((points - first) ** 2, -1)
    start = (nearest, centres.at[0].set(first))
    (_, centres), _ = jax.lax.scan(add, start, (keys[1:], jnp.arange(1, count)))

    def sweep(_, centres: Array):
        hot = jax.nn.one_hot(
            jnp.argmin(distances(centres), 1), count, dtype=points.dtype
        )
        mass = jnp.sum(hot, 0)[:, None]
        return jnp.where(
            mass > 0, matmul(hot.T, points) / jnp.maximum(mass, 1), centres
        )

    centres = jax.lax.fori_loop(0, 50, sweep, centres)
    return jnp.argmin(distances(centres), 1)


@jax.jit
def _coupling(
    source: tuple[Array, Array, Array],
    goal: tuple[Array, Array, Array],
    maps: AffineMap,
    entropy: Array,
) -> Array:
    """The least-cost coupling of the weights, by Sinkhorn's iterations on logarithms."""
    gap = jnp.sum((source[1][:, None] - goal[1]) ** 2, -1)
    change = maps.weight - jnp.eye(source[1].shape[1], dtype=maps.weight.dtype)
    # Squared Wasserstein distance: E |T x - x|^2 of the transport.
    spread = jnp.einsum("klde,kef,kldf->kl", change, source[2], change)
    cost = gap + spread
    cost = cost / (jnp.mean(cost) + jnp.finfo(cost.dtype).tiny)
    rows, columns = jnp.log(source[0]), jnp.log(goal[0])

    def dual(price: Array, temperature: Array):
        """Prices of the source's components, given those of the target's."""
        return rows - jax.nn.logsumexp((price - cost) / temperature, axis=1)

    def sweep(price: Array, temperature: Array):
        first = dual(price, temperature)[:, None] - cost / temperature
        return temperature * (columns - jax.nn.logsumexp(first, axis=0))

    def cool(price: Array, temperature: Array) -> tuple[Array, None]:
        def once(_: Any, p: Array) -> Array:
            return sweep(p, temperature)

        return jax.lax.fori_loop(0, _SWEEPS, once, price), None

    # Cooled in steps: at a low temperature alone the prices would hardly move.
    start = jnp.maximum(1.0, entropy)
    temperatures = jnp.geomspace(start, entropy, _STEPS, dtype=cost.dtype)
    price, _ = jax.lax.scan(cool, jnp.zeros_like(columns), temperatures)
    first = dual(price, entropy)[:, None]
    return jnp.exp(first + (price - cost) / entropy)
