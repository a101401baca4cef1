"""The fair channel: label-free steering by a group-wise affine map plus noise.

A deterministic label-free map cannot make every population ideal: where one group's
classes are better separated, only losing information in that group helps. In the tied
normal model the steered groups coincide if and only if they end with one Gram matrix of
whitened class means, which must lie below every group's own in the Loewner order.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.families import DiagonalNormal, MultivariateNormal
from jaxsteer.ideal._priors import fixed_priors
from jaxsteer.ideal._steering import Steering
from jaxsteer.linalg import (
    einsum,
    matmul,
    polar_orthogonal,
    relative_entropy,
    transpose,
    whiten,
    whiten_transposed,
)
from jaxsteer.maps import AffineMap
from jaxsteer.population import Population
from jaxsteer.solvers import Status

SUBSPACES = ("discriminant", "all")


class _Discriminants(NamedTuple):
    """Coordinates in which both groups' class separations are diagonal.

    Attributes:
        units: ``[G, K-1, d]`` orthonormal rows that read the coordinates off whitened
            features; 0 where the group's classes do not differ.
        kept: ``[G, K-1]`` the share of each coordinate's variance that is signal after
            the channel, which scales the row by its root and adds the rest as noise;
            then every class mean is the same in both groups.
        means: ``[K-1, K]`` class means in these coordinates.
    """

    units: Array
    kept: Array
    means: Array


def _contrasts(share: Float[Array, " K"]) -> Float[Array, "K m"]:
    """Orthonormal basis of the vectors orthogonal to the class shares."""
    k = share.shape[0]
    start = jnp.concatenate([share[:, None], jnp.eye(k, dtype=share.dtype)[:, 1:]], 1)
    basis, _ = jnp.linalg.qr(start)
    return basis[:, 1:]


def _root(values: Array) -> Array:
    """Square root with slope 0 at 0, where the noise of the binding group is."""
    positive = values > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)


def _empty(total: Array, tolerance: float) -> tuple[Array, Array]:
    """Positive multiple of the projector onto the null space of a PSD matrix.

    There no class differs in any group (collinear class means, or ``K - 1 > d``), and
    whitening would blow rounding errors up to coordinates. Also returns the condition
    number of the rest, by which whitening multiplies rounding errors.
    """
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(total))
    size = jnp.max(values)
    alive = values > tolerance * size
    fill = jnp.where(size > 0, size, 1.0)
    condition = fill / jnp.min(jnp.where(alive, values, fill))
    return matmul(vectors * jnp.where(alive, 0.0, fill), transpose(vectors)), condition


def _discriminants(white: Array, share: Array) -> _Discriminants:
    contrast = _contrasts(share)
    reduced = matmul(white, contrast)
    gram = matmul(transpose(reduced), reduced)
    m = gram.shape[-1]
    total = gram[0] + gram[1]
    rounding = 10 * m * float(jnp.finfo(total.dtype).eps)
    empty, condition = _empty(total, 10 * rounding)
    factor = jnp.linalg.cholesky(total + empty)
    # Eigenvalues in [0, 1] are shares of group 0; empty directions are told by a 2.
    inner = whiten(factor, transpose(whiten(factor, gram[0] + 2 * empty)))
    first, vectors = jnp.linalg.eigh(0.5 * (inner + transpose(inner)))
    alive = first < 1.5
    first = jnp.clip(first, 0.0, 1.0)
    lengths = jnp.stack([first, 1.0 - first])
    present = alive & (lengths > rounding * condition)
    least = jnp.where(jnp.all(present, 0), jnp.min(lengths, 0), 0.0)
    # Gram_a = C diag(lengths_a) C' with C = contrast factor vectors.
    change = matmul(factor, vectors)
    means = _root(least)[:, None] * matmul(transpose(change), transpose(contrast))
    sign = jnp.where(means[:, -1] < 0, -1.0, 1.0)
    safe = jnp.where(present, lengths, 1.0)
    inverse = jnp.where(present, 1 / safe, 0.0)
    back = transpose(whiten_transposed(factor, vectors))
    units = (sign * _root(inverse))[..., None] * matmul(back, transpose(reduced))
    # The binding group's quotient is exactly 1: no noise.
    kept = jnp.where(present, least / safe, 0.0)
    return _Discriminants(units, kept, sign[:, None] * means)


def _whole_space(
    found: _Discriminants, factors: Array, reference: int
) -> tuple[Array, Array]:
    """Extend the discriminant maps to all of the space, moving the rest the least.

    Returns the maps of whitened features ``[G, d, d]`` and the noise ``[G, d, K-1]``.
    """
    # A coordinate that one group lacks is only noise afterwards, wherever it lands.
    shared = jnp.all(found.kept > 0, 0)[:, None]
    home = jnp.where(shared, found.units[reference], 0.0)
    d = factors.shape[-1]
    identity = jnp.eye(d, dtype=factors.dtype)

    def extend(group):
        unit, kept, factor = group
        pull = matmul(transpose(factors[reference]), factor)
        match = jnp.where(shared, unit, 0.0)
        free = matmul(
            identity - matmul(transpose(home), home),
            matmul(pull, identity - matmul(transpose(match), match)),
        )
        scale = 1 + jnp.linalg.norm(jax.lax.stop_gradient(free))
        turn = polar_orthogonal(free + 2 * scale * matmul(transpose(home), match))
        landed = matmul(turn, transpose(unit))
        shrunk = turn - matmul(landed * (1 - _root(kept)), unit)
        return shrunk, landed * _root(1 - kept)

    inner, noise = jax.lax.map(extend, (found.units, found.kept, factors))
    return matmul(factors[reference], inner), matmul(factors[reference], noise)


def fair_channel(
    pop: Population, subspace: str = "discriminant", *, reference: int = 1
) -> Steering:
    """Make two groups coincide without labels: a linear map and noise for each.

    Exactly fair at every cost in the tied normal model (each group's classes share one
    covariance): there the steered features have one law given the class, whatever the
    group. The cells' own covariances are pooled; the result's `residual`, the largest
    KL divergence of a steered cell from its target, tells how far the population is
    from that model. Cost O(K d^2 + d^3).

    Args:
        pop: A population of two groups with full or diagonal normal cells.
        subspace: "discriminant" keeps the ``K - 1`` coordinates that tell the classes
            apart, so that no learner can read the group off the others; "all" keeps
            the rest of the space too, in the reference group's coordinates.
        reference: The group whose coordinates "all" uses.

    Returns:
        A steering with noise, `transport` of which needs a key; its priors are
        reweighed, so that demographic parity follows with `cell_weights`. `kl` compares
        the target with the steered population without its noise.

    Raises:
        ValueError: If there are not two groups, or fewer features than ``K - 1`` for
            "all", or the family is not normal.

    Example:
        >>> import jax, jax.numpy as jnp, jaxsteer as js
        >>> mean = jnp.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [3.0, 0.0]]])
        >>> cells = js.MultivariateNormal(mean, jnp.tile(jnp.eye(2), (2, 2, 1, 1)))
        >>> channel = js.fair_channel(js.Population(jnp.full((2, 2), 0.25), cells))
        >>> [round(v, 3) for v in channel.noise[:, 0, 0].tolist()]
        [0.0, 0.943]

    References:
        Blackwell's order for normal experiments with one covariance: the design's
        MATH section 3.5.
    """
    check_choice("subspace", subspace, SUBSPACES)
    cells = pop.conditionals
    cells = cells.to_dense() if isinstance(cells, DiagonalNormal) else cells
    if not isinstance(cells, MultivariateNormal):
        raise ValueError(
            f"fair_channel needs normal cells over features [n, d], got "
            f"{type(cells).__name__}; fit x of shape [n, d] with family='normal'."
        )
    n_classes, n_groups = pop.priors.shape
    if n_groups != 2:
        raise ValueError(
            f"fair_channel takes two groups, got {n_groups}; for a binary label "
            f"jaxsteer.meet_channel takes any number."
        )
    if reference not in (0, 1):
        raise ValueError(f"reference={reference!r} is not one of the groups 0, 1.")
    d = cells.mean.shape[-1]
    if subspace == "all" and d < n_classes - 1:
        raise ValueError(
            f"subspace='all' needs at least {n_classes - 1} features for {n_classes} "
            f"classes, got {d}; use subspace='discriminant'."
        )
    steering = _solve(pop.priors, cells, subspace=subspace, reference=reference)
    return dataclasses.replace(steering, source=pop)


@partial(jax.jit, static_argnames=("subspace", "reference"))
def _solve(
    priors: Array, cells: MultivariateNormal, *, subspace: str, reference: int
) -> Steering:
    """Build the channel: compiled once for each shape and choice of options."""
    n_classes, d = priors.shape[0], cells.mean.shape[-1]
    share = jnp.sum(priors, 1)
    share = share / jnp.sum(share)
    pooled = einsum("k,kaij->aij", share, cells.cov)
    factors = jnp.linalg.cholesky(pooled)
    center = einsum("k,kad->ad", share, cells.mean)
    centered = jnp.moveaxis(cells.mean - center, 0, -1)
    found = _discriminants(whiten(factors, centered), share)
    if subspace == "discriminant":
        read = _root(found.kept)[..., None] * found.units
        noise = _diagonal(_root(1 - found.kept))
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
    return _steering(Population(priors, cells), template, maps, noise)


def _diagonal(values: Array) -> Array:
    return values[..., None] * jnp.eye(values.shape[-1], dtype=values.dtype)


def _square(factors: Array, d: int) -> Array:
    """Pad ``[G, d, m]`` noise factors with zero columns to ``[G, d, d]``."""
    return jnp.pad(factors, ((0, 0), (0, 0), (0, d - factors.shape[-1])))


def _steering(
    pop: Population, template: MultivariateNormal, maps: AffineMap, noise: Array
) -> Steering:
    cells = pop.conditionals
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
    status = jnp.where(finite, Status.CONVERGED, Status.NONFINITE)
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
