"""The Gaussian channel: label-free steering by a group-wise affine map plus noise.

A deterministic label-free map cannot make every population ideal: where one group's
classes are better separated, only losing information in that group helps. In the tied
normal model the steered groups coincide if and only if they end with one Gram matrix of
whitened class means, which must lie below every group's own in the Loewner order.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting
from jaxsteer._errors import check_choice, check_index
from jaxsteer._types import Array
from jaxsteer.channels._class_direction import class_directions
from jaxsteer.channels._discriminants import Discriminants, discriminants
from jaxsteer.families import DiagonalNormal, MultivariateNormal
from jaxsteer.linalg import (
    cholesky,
    einsum,
    matmul,
    polar_orthogonal,
    relative_entropy,
    transpose,
    whiten,
    whiten_transposed,
)
from jaxsteer.maps import AffineMap
from jaxsteer.population import (
    Population,
    check_population,
    choose_reference,
    fixed_priors,
)
from jaxsteer.solvers import Status
from jaxsteer.steering import Steering

SUBSPACES = ("discriminant", "all")
COVARIANCES = ("pooled", "class")


def _whole_space(
    found: Discriminants, factors: Array, reference: Array
) -> tuple[Array, Array]:
    """Extend the discriminant maps to all of the space, moving the rest the least.

    Returns the maps of whitened features ``[G, d, d]`` and the noise ``[G, d, K-1]``.
    """
    # A coordinate that one group lacks is only noise afterwards, wherever it lands.
    shared = found.shared[:, None]
    home = jnp.where(shared, found.units[reference], 0.0)
    d = factors.shape[-1]
    identity = jnp.eye(d, dtype=factors.dtype)

    def extend(group: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        unit, shrink, noise, factor = group
        pull = matmul(transpose(factors[reference]), factor)
        match = jnp.where(shared, unit, 0.0)
        free = matmul(
            identity - matmul(transpose(home), home),
            matmul(pull, identity - matmul(transpose(match), match)),
        )
        scale = 1 + jnp.linalg.norm(jax.lax.stop_gradient(free))
        turn = polar_orthogonal(free + 2 * scale * matmul(transpose(home), match))
        landed = matmul(turn, transpose(unit))
        lost = jnp.eye(shrink.shape[-1], dtype=shrink.dtype) - shrink
        return turn - matmul(matmul(landed, lost), unit), matmul(landed, noise)

    groups = (found.units, found.shrink, found.noise, factors)
    inner, noise = jax.lax.map(extend, groups)
    return matmul(factors[reference], inner), matmul(factors[reference], noise)


@broadcasting
def gaussian_channel(
    pop: Population,
    subspace: str = "discriminant",
    *,
    reference: int | None = None,
    covariances: str = "pooled",
) -> Steering:
    """Make the groups coincide without labels: a linear map and noise for each.

    Exactly fair at every cost in the tied normal model (each group's classes share one
    covariance): there the steered features have one law given the class, whatever the
    group. The Gram matrix of the steered class means has the largest determinant among
    those that every group can be degraded to: ``max log det Z, Z <= Z_a`` for all
    ``a``. Directions in which some group's classes do not differ become noise.

    Where covariances differ between a group's classes, "pooled" averages them. Then the
    steered class means and the pooled within-class covariance are the same in every
    group, but not each class's own covariance: noise that is blind to the class adds
    the same to every class, and can make no difference between two covariances equal
    to another. The result's `residual`, the largest KL divergence of a steered cell
    from its target, tells how much is left; it is 0 in the tied model only. "class" is
    exact for two classes with unequal covariances: it keeps one coordinate, along the
    direction of each group in which the classes' variances differ by one common
    multiple of the mean difference squared, and gives up separation for that. In one
    dimension there is nothing to choose and hardly any population has such a channel;
    in more there is one unless one class has the larger variance in every useful
    direction of some group and the smaller in another's. No choice makes more
    coordinates, or more classes, exact.

    Cost O(G K d^2 + G d^3), and O(G K^4 + K^6) for each of some 20 steps with more than
    two groups and classes. Differentiable once; at equally informative groups the
    answer has a kink.

    Args:
        pop: A population of two or more groups with full or diagonal normal cells.
        subspace: "discriminant" keeps the ``K - 1`` coordinates that tell the classes
            apart, so that no learner can read the group off the others; "all" keeps
            the rest of the space too, in the reference group's coordinates.
        reference: The group whose coordinates "all" uses; None takes the largest.
        covariances: "pooled" or "class" (two classes, the discriminant subspace).

    Returns:
        A steering with noise, `transport` of which needs a key; its priors are
        reweighed, so that demographic parity follows with `cell_weights`. `kl` compares
        the target with the steered population without its noise. Its status is
        INFEASIBLE where "class" has no exact channel; the map then is a compromise.

    Raises:
        ValueError: If there are fewer than two groups or classes, fewer features than
            ``K - 1`` for "all", other options for "class" than it takes, or the family
            is not normal.

    Example:
        >>> import jax, jax.numpy as jnp, jaxsteer as js
        >>> mean = jnp.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [3.0, 0.0]]])
        >>> cells = js.MultivariateNormal(mean, jnp.tile(jnp.eye(2), (2, 2, 1, 1)))
        >>> channel = js.gaussian_channel(js.Population(jnp.full((2, 2), 0.25), cells))
        >>> [round(v, 3) for v in channel.noise[:, 0, 0].tolist()]
        [0.0, 0.943]

    References:
        Blackwell's order for normal experiments with one covariance: see README.md
        beside this file. The directions of "class": T. W. Anderson and R. R. Bahadur,
        "Classification into two multivariate normal distributions with different
        covariance matrices", Annals of Mathematical Statistics 33 (1962).
    """
    check_choice("subspace", subspace, SUBSPACES)
    check_choice("covariances", covariances, COVARIANCES)
    check_population(pop)
    cells = pop.conditionals
    cells = cells.to_dense() if isinstance(cells, DiagonalNormal) else cells
    if not isinstance(cells, MultivariateNormal):
        raise ValueError(
            f"gaussian_channel needs normal cells over features [n, d], got "
            f"{type(cells).__name__}; fit x of shape [n, d] with family='normal'."
        )
    _check_sizes(pop.priors.shape, cells.mean.shape[-1], subspace, covariances)
    n_groups = pop.priors.shape[1]
    if reference is not None:
        check_index("reference", reference, n_groups, "groups")
    home = choose_reference(pop.priors, reference)
    if covariances == "class":
        steering = _solve_class(pop.priors, cells)
    else:
        steering = _solve(pop.priors, cells, subspace=subspace, reference=home)
    return dataclasses.replace(steering, source=pop)


def _check_sizes(
    shape: tuple[int, ...], d: int, subspace: str, covariances: str
) -> None:
    n_classes, n_groups = shape
    if n_classes < 2 or n_groups < 2:
        raise ValueError(
            f"gaussian_channel needs at least two classes and two groups, got {n_classes} "
            f"and {n_groups}; with one of either there is nothing to make equal."
        )
    if subspace == "all" and d < n_classes - 1:
        raise ValueError(
            f"subspace='all' needs at least {n_classes - 1} features for {n_classes} "
            f"classes, got {d}; use subspace='discriminant'."
        )
    if covariances == "class" and (n_classes > 2 or subspace == "all"):
        raise ValueError(
            f"covariances='class' is exact for two classes on the discriminant "
            f"subspace only, got {n_classes} classes and subspace={subspace!r}; use "
            f"covariances='pooled', and read its residual."
        )


@partial(jax.jit, static_argnames="subspace")
def _solve(
    priors: Array, cells: MultivariateNormal, *, subspace: str, reference: Array
) -> Steering:
    """Build the channel: compiled once for each shape and choice of options."""
    n_classes, d = priors.shape[0], cells.mean.shape[-1]
    share = jnp.sum(priors, 1)
    share = share / jnp.sum(share)
    pooled = einsum("k,kaij->aij", share, cells.cov)
    factors = cholesky(pooled)
    center = einsum("k,kad->ad", share, cells.mean)
    centered = jnp.moveaxis(cells.mean - center, 0, -1)
    found = discriminants(whiten(factors, centered), share)
    if subspace == "discriminant":
        read, noise = matmul(found.shrink, found.units), found.noise
        home = jnp.zeros(n_classes - 1, share.dtype)
        template = MultivariateNormal(
            found.means.T,
            jnp.broadcast_to(
                jnp.eye(n_classes - 1, dtype=share.dtype), (n_classes, *noise.shape[1:])
            ),
        )
    else:
        read, noise = _whole_space(found, factors, reference)
        noise = _square(noise, d)
        home = center[reference]
        lift = matmul(factors[reference], transpose(found.units[reference]))
        template = MultivariateNormal(
            home + matmul(lift, found.means).T,
            jnp.broadcast_to(pooled[reference], (n_classes, d, d)),
        )
    # weight = read L^-1, without forming the inverse.
    weight = transpose(whiten_transposed(factors, transpose(read)))
    maps = AffineMap(weight, home - matmul(weight, center[..., None])[..., 0])
    # The channel is exact wherever the search for the best one ended.
    limit = float(jnp.finfo(found.gap.dtype).eps) ** 0.5 * found.noise[..., 0].size
    ended = jnp.where(found.gap > limit, Status.STALLED, Status.CONVERGED)
    steering = _steering(Population(priors, cells), template, maps, noise, ended)
    return dataclasses.replace(steering, steps=found.steps)


@jax.jit
def _solve_class(priors: Array, cells: MultivariateNormal) -> Steering:
    """Build the channel of one coordinate that is exact for two unequal classes."""
    share = jnp.sum(priors, 1)
    found = class_directions(cells.mean, cells.cov, share / jnp.sum(share))
    template = MultivariateNormal(found.means[:, None], found.variances[:, None, None])
    start = einsum("ad,ad->a", found.weights, cells.mean[0])
    maps = AffineMap(found.weights[:, None], (found.means[0] - start)[:, None])
    ended = jnp.where(found.exact, Status.CONVERGED, Status.INFEASIBLE)
    noise = found.noise[:, None, None]
    return _steering(Population(priors, cells), template, maps, noise, ended)


def _square(factors: Array, d: int) -> Array:
    """Pad ``[G, d, m]`` noise factors with zero columns to ``[G, d, d]``."""
    return jnp.pad(factors, ((0, 0), (0, 0), (0, d - factors.shape[-1])))


def _steering(
    pop: Population,
    template: MultivariateNormal,
    maps: AffineMap,
    noise: Array,
    ended: Array,
) -> Steering:
    cells: Any = pop.conditionals
    weights = fixed_priors(pop.priors, "reweigh", 1)
    shape = pop.priors.shape
    target = Population(
        weights,
        jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf[:, None], shape + leaf.shape[1:]),
            template,
        ),
    )
    quiet = cells.pushforward(jax.tree.map(lambda leaf: leaf[None], maps))
    noisy = quiet.cov + matmul(noise, transpose(noise))
    # One call for both, with and without the noise.
    laws = MultivariateNormal(
        jnp.stack([quiet.mean, quiet.mean]), jnp.stack([quiet.cov, noisy])
    )
    silent, delivered = target.conditionals.kl(laws)
    prior_kl = jnp.sum(relative_entropy(weights, pop.priors))
    # A channel that drops a coordinate altogether is infinitely far without its noise.
    silent = jnp.where(jnp.isnan(silent) & jnp.isfinite(delivered), jnp.inf, silent)
    feature_kl = jnp.sum(weights * silent)
    residual = jnp.max(delivered)
    finite = jnp.isfinite(residual) & jnp.all(jnp.isfinite(maps.weight))
    usable = jnp.all(pop.priors > 0) & jnp.all(jnp.isfinite(cells.mean))
    status = jnp.where(finite, ended, Status.NONFINITE)
    return Steering(
        source=pop,
        target=target,
        group_maps=maps,
        kl=prior_kl + feature_kl,
        prior_kl=prior_kl,
        feature_kl=feature_kl,
        status=jnp.where(usable, status, Status.BAD_INPUT).astype(jnp.int32),
        residual=residual,
        steps=jnp.zeros((), jnp.int32),
        noise=noise,
    )
